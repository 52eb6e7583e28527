"""latalign audit; and what fit and apply do with pairs in doubt."""

import errno
import json
import os

import numpy as np
import pytest

import latalign
from calls import done, done_json, refused, run, written
from latalign.io.arrays import open_rows


@pytest.fixture
def shuffled(folder):
    written(folder / "z.npy", np.load("y.npy")[np.random.default_rng(1).permutation(200)])
    return folder


class TestAudit:
    def test_pairs_that_correspond(self, folder):
        assert "The rows correspond" in done(run("audit", "x.npy", "y.parquet"))
        record = done_json(run("audit", "x.npy", "y.npy", "--json"))
        assert record["sound"]
        assert record["suspicious"] == []

    def test_a_swapped_pair_is_named(self, folder):
        Y = np.load("y.npy")
        far = int(np.argmax(np.linalg.norm(Y - Y[5], axis=1)))
        Y[[5, far]] = Y[[far, 5]]
        written(folder / "z.npy", Y)
        result = run("audit", "x.npy", "z.npy")
        assert result.exit_code == 1
        assert "2 of 200 rows do not seem to correspond" in result.stdout
        result = run("audit", "x.npy", "z.npy", "--json")
        assert result.exit_code == 1
        assert json.loads(result.stdout)["swaps"] == [sorted([5, far])]

    def test_shuffled_and_shifted_rows(self, shuffled):
        result = run("audit", "x.npy", "z.npy")
        assert result.exit_code == 1
        assert "cannot be told from shuffled ones" in result.stdout
        written(shuffled / "s.npy", np.roll(np.load("y.npy"), 1, axis=0))
        result = run("audit", "x.npy", "s.npy")
        assert result.exit_code == 1
        assert "row i is row i + 1" in result.stdout
        assert "and " in result.stdout  # more than fit a table

    def test_a_shift_that_begins_in_the_middle(self, folder):
        written(folder / "s.npy", np.insert(np.load("y.npy"), 100, 1.0, axis=0)[:200])
        result = run("audit", "x.npy", "s.npy")
        assert result.exit_code == 1
        assert " to 199 are shifted: the target of row i is row i + 1." in result.stdout
        record = json.loads(run("audit", "x.npy", "s.npy", "--json").stdout)
        assert [one["offset"] for one in record["shifts"]] == [1]
        assert abs(record["shifts"][0]["start"] - 100) <= 3

    def test_pairs_that_are_mostly_wrong(self, folder):
        Y = np.load("y.npy")
        wrong = np.random.default_rng(0).permutation(200)[:130]
        Y[wrong] = Y[np.roll(wrong, 1)]
        written(folder / "z.npy", Y)
        result = run("audit", "x.npy", "z.npy")
        assert result.exit_code == 1
        assert "% of the rows are no nearer to their own target than to others" in result.stdout

    def test_bad_calls(self, folder, nothing_left):
        refused(run("audit", "x.npy", "more.npy"), 2, "do not pair by order")
        refused(run("audit", "x.npy", "nothing.npy"), 2, "there is no file")
        refused(run("audit", "x.npy", "y.npy", "--false-positive-rate", "0"), 2)


class TestFit:
    def test_shuffled_pairs_are_refused(self, shuffled, nothing_left):
        refused(run("fit", "x.npy", "z.npy", "-o", "new.safetensors"), 1, "--force fits them as they are")

    def test_force(self, shuffled):
        result = run("fit", "x.npy", "z.npy", "-o", "new.safetensors", "--force", "--method", "ridge")
        assert result.exit_code == 0
        assert "Warning: fit: the pairs cannot be told from shuffled ones" in result.stderr
        assert (shuffled / "new.safetensors").exists()

    def test_robust(self, folder):
        Y = np.load("y.npy")
        wrong = np.random.default_rng(0).permutation(200)[:40]
        Y[wrong] = Y[np.roll(wrong, 1)]
        written(folder / "z.npy", Y)
        text = done(run("fit", "x.npy", "z.npy", "-o", "new.safetensors", "--robust", "--method", "affine"))
        assert "pairs that count nothing" in text
        expected = latalign.fit(np.load("x.npy"), Y, "affine", robust=True)
        found = latalign.AffineMap.load("new.safetensors")
        np.testing.assert_array_equal(found.matrix, expected.matrix)
        assert found.evidence.robust == expected.evidence.robust

    def test_a_robust_curve(self, folder):
        Y = np.load("y.npy")
        wrong = np.random.default_rng(0).permutation(200)[:40]
        Y[wrong] = Y[np.roll(wrong, 1)]
        written(folder / "z.npy", Y)
        call = (
            "fit",
            "x.npy",
            "z.npy",
            "-o",
            "new.safetensors",
            "--robust",
            "--method",
            "affine",
            "--curve",
            "--json",
        )
        found = done_json(run(*call))["curve"]
        expected = latalign.learning_curve(np.load("x.npy"), Y, "affine", robust=True)
        assert found == json.loads(json.dumps(expected.to_json()))


class TestUncertainty:
    @pytest.fixture
    def known(self, folder):
        done(run("fit", "x.npy", "y.npy", "-o", "known.safetensors", "--uncertainty"))
        return latalign.AffineMap.load("known.safetensors")

    def test_a_file_beside(self, known):
        text = done(run("apply", "known.safetensors", "more.npy", "-o", "out.npy", "--uncertainty"))
        assert "out.uncertainty.npy" in text
        expected = known.uncertainty.radius(np.load("more.npy"))
        found = np.load("out.uncertainty.npy")
        assert found.shape == (100, 1)
        np.testing.assert_allclose(found[:, 0], expected)
        off = np.linalg.norm(np.load("out.npy") - np.load("truth.npy"), axis=1)
        assert 0.8 < (off <= expected).mean() <= 1

    def test_a_disk_that_fails_at_the_end_leaves_neither(self, known, folder, monkeypatch):
        def replace(old, new, real=os.replace):
            if str(new).endswith("out.npy"):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            real(old, new)

        before = sorted(os.listdir())
        monkeypatch.setattr(os, "replace", replace)
        call = ("apply", "known.safetensors", "more.npy", "-o", "out.npy", "--uncertainty")
        refused(run(*call), 1, "cannot write out.npy: Input/output error")
        assert sorted(os.listdir()) == before

    @pytest.mark.parametrize("suffix", ["arrow", "lance"])
    def test_a_column_of_another_table(self, known, suffix):
        pytest.importorskip("lance" if suffix == "lance" else "pyarrow")
        output = f"out.{suffix}"
        record = done_json(
            run("apply", "known.safetensors", "x.npy", "-o", output, "--uncertainty", "--json")
        )
        assert record["uncertainty"] == f"{output}:uncertainty"
        (column,) = zip(*open_rows(output).batches(["uncertainty"], 1000), strict=True)
        np.testing.assert_allclose(column[0].to_numpy(), known.uncertainty.radius(np.load("x.npy"), 0.9))

    @pytest.mark.parametrize("source", ["x.npy", "x.parquet"])
    def test_a_column(self, known, source):
        parquet = pytest.importorskip("pyarrow.parquet")
        given = ("--uncertainty", "--level", "0.5", "--batch-rows", 7, "--json")
        record = done_json(run("apply", "known.safetensors", source, "-o", "out.parquet", *given))
        assert record["uncertainty"] == "out.parquet:uncertainty"
        table = parquet.read_table("out.parquet")
        assert table.column_names == ["embedding", "uncertainty"]
        expected = known.uncertainty.radius(np.load("x.npy"), 0.5)
        np.testing.assert_allclose(table.column("uncertainty").to_numpy(), expected)
        refused(
            run("apply", "known.safetensors", "out.parquet", "-o", "again.parquet", "--uncertainty"),
            1,
            "has a column 'uncertainty' already",
        )

    def test_a_map_that_does_not_know(self, folder, nothing_left):
        call = run("apply", "map.safetensors", "more.npy", "-o", "out.npy", "--uncertainty")
        refused(call, 1, "latalign fit --uncertainty")

    def test_a_level_beyond_what_is_known(self, known):
        call = (
            "apply",
            "known.safetensors",
            "more.npy",
            "-o",
            "out.npy",
            "--uncertainty",
            "--level",
            "0.9999",
        )
        refused(run(*call), 1, "say nothing of a level of 0.9999")
