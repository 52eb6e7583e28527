"""latalign apply."""

import numpy as np
import pytest

import latalign
from calls import done, done_json, run


class TestApply:
    @pytest.mark.parametrize("suffix", ["npy", "safetensors", "parquet"])
    def test_rows_are_mapped(self, folder, suffix):
        text = done(run("apply", "map.safetensors", "more.npy", "-o", f"out.{suffix}"))
        assert f"out.{suffix}: 100 rows, 6 → 6 dimensions, float32" in text
        expected = latalign.AffineMap.load("map.safetensors")(np.load("more.npy"))
        done(run("apply", "map.safetensors", "more.npy", "-o", "again.npy", "--batch-rows", 7))
        np.testing.assert_allclose(np.load("again.npy"), expected, rtol=1e-5, atol=1e-5)

    def test_the_record(self, folder):
        record = done_json(run("apply", "map.safetensors", "more.npy", "-o", "out.npy", "--json"))
        assert record == {
            "output": "out.npy",
            "rows": 100,
            "dim_source": 6,
            "dim_target": 6,
            "dtype": "float32",
            "parts": 1,
        }
