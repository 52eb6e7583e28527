"""latalign compare."""

import numpy as np
import pytest

import latalign
from calls import done, done_json, run, written


class TestCompare:
    def test_the_record_is_the_librarys(self, folder):
        record = done_json(run("compare", "x.npy", "y.npy", "--json"))
        assert record == latalign.compare(np.load("x.npy"), np.load("y.npy")).to_json()

    def test_the_table(self, folder):
        text = done(run("compare", "x.npy", "y.npy"))
        for word in (
            "linear CKA ↑",
            "Procrustes distance ↓",
            "mutual nearest neighbors ↑",
            *latalign.METHODS,
        ):
            assert word in text
        assert "biased upward" not in text
        written("few.npy", np.random.default_rng(0).normal(size=(20, 5)))
        assert "linear CKA is biased upward" in done(run("compare", "few.npy", "few.npy"))

    def test_the_seed_draws_the_folds(self, folder):
        call = ("compare", "x.npy", "y.npy", "--json", "--seed")
        one, again, other = (done_json(run(*call, seed)) for seed in (1, 1, 2))
        assert one == again
        assert one["methods"] != other["methods"]
        assert one["linear_cka"] == pytest.approx(other["linear_cka"])
