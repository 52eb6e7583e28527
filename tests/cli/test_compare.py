"""latalign compare."""

import numpy as np
import pytest

import latalign
from calls import done, done_json, refused, run, written
from latalign.methods import LEAST_SQUARES


class TestCompare:
    def test_the_record_is_the_librarys(self, folder):
        record = done_json(run("compare", "x.npy", "y.npy", "--json"))
        assert record == latalign.compare(np.load("x.npy"), np.load("y.npy")).to_json()

    def test_the_table(self, folder):
        text = done(run("compare", "x.npy", "y.npy"))
        for word in (
            "linear CKA ↑",
            "Procrustes distance ↓",
            "10 neighbors shared ↑",
            *(m.name for m in LEAST_SQUARES),
        ):
            assert word in text
        assert "…" not in text
        assert "These rows tell the spaces from unrelated ones" in text
        record = done_json(run("compare", "x.npy", "y.npy", "--json"))
        row = next(line for line in text.splitlines() if line.startswith("linear CKA"))
        assert row.split()[3:6] == [
            f"{record['linear_cka'][name]:.4g}" for name in ("value", "chance", "debiased")
        ]
        assert f"about: {record['linear_cka']['rows_needed']:,} (linear CKA)" in text

    def test_unrelated_rows_are_said_to_be(self, folder):
        written("other.npy", np.random.default_rng(0).normal(size=(200, 300)))
        text = done(run("compare", "x.npy", "other.npy"))
        assert "do not tell the spaces from unrelated ones" in text
        assert "--id-column" in text

    def test_few_rows_leave_dashes(self, folder):
        written("few.npy", np.random.default_rng(0).normal(size=(3, 5)))
        text = done(run("compare", "few.npy", "few.npy"))
        row = next(line for line in text.splitlines() if line.startswith("linear CKA"))
        assert row.split()[-3:] == ["–", "–", "–"]
        assert "do not tell" in text

    def test_rows_and_pairings(self, folder):
        record = done_json(run("compare", "x.npy", "y.npy", "--json", "--max-rows", 50, "--permutations", 19))
        assert (record["rows"], record["measured_rows"], record["permutations"]) == (200, 50, 19)
        assert record["linear_cka"]["p_value"] == 0.05
        refused(run("compare", "x.npy", "y.npy", "--permutations", 18), 2, "18 is not in the range x>=19")

    def test_rows_pair_by_id_whatever_their_order(self, folder):
        pa = pytest.importorskip("pyarrow")
        from pyarrow import parquet

        X, Y = (np.load(name) for name in ("x.npy", "y.npy"))
        order = np.random.default_rng(1).permutation(200)

        def table(name, ids, rows):
            parquet.write_table(pa.table({"id": ids, "vector": list(rows)}), name)

        table("a.parquet", np.arange(200), X)
        table("b.parquet", order, Y[order])
        by_id = done_json(
            run("compare", "a.parquet:vector", "b.parquet:vector", "--id-column", "id", "--json")
        )
        assert by_id == done_json(run("compare", "x.npy", "y.npy", "--json"))
        by_order = done_json(run("compare", "a.parquet:vector", "b.parquet:vector", "--json"))
        assert by_order["linear_cka"]["p_value"] > 0.05 >= by_id["linear_cka"]["p_value"]
        order[:2] = 7
        table("c.parquet", order, Y[order])
        twice = run("compare", "a.parquet:vector", "c.parquet:vector", "--id-column", "id")
        refused(twice, 1, "target ids occur more than once, 7 among them")

    def test_the_seed_draws_the_folds(self, folder):
        call = ("compare", "x.npy", "y.npy", "--json", "--seed")
        one, again, other = (done_json(run(*call, seed)) for seed in (1, 1, 2))
        assert one == again
        assert one["methods"] != other["methods"]
        assert one["linear_cka"]["debiased"] == pytest.approx(other["linear_cka"]["debiased"])
