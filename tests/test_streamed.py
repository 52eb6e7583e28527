"""What is fitted and measured in one pass over files is what is fitted and measured in memory."""

import os
import subprocess
import sys

import numpy as np
import pytest

import latalign
from latalign import on_disk
from latalign import streamed as streams
from latalign.io.arrays import open_rows
from problems import pairs
from row_files import COUNT, files, in_parts


def test_what_is_loaded_is_opened_once(rng, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(streams, "open_rows", lambda path: opened.append(path.name) or open_rows(path))
    monkeypatch.setattr(on_disk, "open_rows", streams.open_rows)
    paths = files(tmp_path, *pairs(rng, 50, 3, 2))
    latalign.fit_files(*paths, "affine")
    assert opened == ["x.npy", "y.npy"]


@pytest.mark.usefixtures("streamed")
class TestFit:
    @pytest.mark.parametrize("method", latalign.METHODS)
    def test_the_map_is_that_of_rows_in_memory(self, rng, tmp_path, method):
        X, Y = pairs(rng, COUNT, 6, 4, noise=0.3)
        parameters = {"alpha": 3.0} if method == "ridge" else {}
        if method == "low_rank":
            parameters = {"rank": 2, "alpha": 1.0}
        if method == "retrieval":
            parameters = {"alpha": 0.3, "power": 0.5}
        found = latalign.fit_files(*files(tmp_path, X, Y), method, **parameters)
        expected = latalign.fit(X, Y, method, **parameters)
        tolerance = 1e-2 if method == "shrunk" else 1e-9  # its penalty depends on the folds
        np.testing.assert_allclose(found.map.matrix, expected.matrix, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(found.map(X[:5]), expected(X[:5]), rtol=tolerance, atol=tolerance)
        assert found.map.evidence.anchors == COUNT
        assert found.map.method == method

    def test_what_is_chosen_by_retrieval_finds_what_it_does_in_memory(self, rng, tmp_path):
        X, Y = pairs(rng, COUNT, 6, 6, noise=0.3)
        found = latalign.fit_files(*files(tmp_path, X, Y), "retrieval")
        expected = latalign.fit(X, Y, "retrieval")
        assert found.map.evidence.scoring == "mrr"
        assert found.map.target_mean.any()
        [streamed], [loaded] = found.map.evidence.candidates, expected.evidence.candidates
        assert abs(streamed.error - loaded.error) < 0.1

    def test_auto_takes_the_same_method(self, rng, tmp_path):
        X, Y = pairs(rng, COUNT, 6, 6, noise=0.1)
        found = latalign.fit_files(*files(tmp_path, X, Y))
        expected = latalign.fit(X, Y)
        assert found.map.method == expected.method
        errors = [
            {one.method: one.error for one in each.evidence.candidates} for each in (found.map, expected)
        ]
        assert errors[0].keys() == errors[1].keys()
        for name, error in errors[1].items():
            assert abs(errors[0][name] / error - 1) < 0.1
        assert found.map.evidence.heldout["rows"] == found.heldout.rows
        assert abs(found.heldout.rows / (0.2 * COUNT) - 1) < 0.15

    @pytest.mark.parametrize("scoring", ["cosine", "recall@1"])
    def test_scores_of_rows(self, rng, tmp_path, scoring):
        X, Y = pairs(rng, COUNT, 6, 6, noise=0.1)
        found = latalign.fit_files(*files(tmp_path, X, Y), scoring=scoring)
        assert found.map.evidence.scoring == scoring
        assert found.map.evidence.anchors == COUNT
        assert found.map.method == latalign.fit(X, Y, scoring=scoring).method

    @pytest.mark.parametrize("holdout", [0.0, 0.2])
    def test_shuffled_pairs_are_refused(self, rng, tmp_path, holdout):
        X, Y = pairs(rng, COUNT, 6, 5, noise=0.2)
        latalign.fit_files(*files(tmp_path, X, Y), "affine", holdout=holdout, refuse_unrelated=True)
        shuffled = files(tmp_path, X, Y[rng.permutation(COUNT)])
        with pytest.raises(ValueError, match="cannot be told from shuffled ones"):
            latalign.fit_files(*shuffled, "affine", holdout=holdout, refuse_unrelated=True)
        with pytest.warns(latalign.UnrelatedPairsWarning, match="cannot be told from shuffled ones"):
            latalign.fit_files(*shuffled, "affine", holdout=holdout)

    @pytest.mark.filterwarnings("ignore::latalign.UnrelatedPairsWarning")
    def test_the_held_out_figures_are_of_pairs_that_were_not_seen(self, rng, tmp_path):
        X, Y = rng.normal(size=(COUNT, 40)), rng.normal(size=(COUNT, 3))
        found = latalign.fit_files(*files(tmp_path, X, Y), "affine")
        assert found.heldout.mapped.r2 < 0  # there is nothing to learn
        seen = latalign.evaluate(found.map, X, Y)
        assert seen.mapped.r2 > 0

    @pytest.mark.parametrize("suffix", [".safetensors", ".parquet", ".arrow", ".h5", ".zarr", ".lance"])
    def test_sources_of_different_formats(self, rng, tmp_path, suffix):
        library = {
            ".parquet": "pyarrow",
            ".arrow": "pyarrow",
            ".h5": "h5py",
            ".zarr": "zarr",
            ".lance": "lance",
        }
        if suffix in library:
            pytest.importorskip(library[suffix])
        X, Y = pairs(rng, COUNT, 6, 4, dtype=np.float32)
        same = latalign.fit_files(*files(tmp_path, X, Y), "affine")
        x, y = files(tmp_path, X, Y, (suffix, ".npy"))
        found = latalign.fit_files(x, in_parts(tmp_path, "y", Y), "affine")
        np.testing.assert_array_equal(found.map.matrix, same.map.matrix)
        np.testing.assert_array_equal(latalign.fit_files(x, y, "affine").map.matrix, same.map.matrix)

    def test_streams(self, rng, tmp_path):
        pa, pl = pytest.importorskip("pyarrow"), pytest.importorskip("polars")
        X, Y = pairs(rng, COUNT, 6, 4)
        x = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(X.reshape(-1)), 6)})
        y = pl.DataFrame({"w": Y}, schema={"w": pl.Array(pl.Float64, 4)})
        found = latalign.fit_files(x.to_reader(100), y, "affine", holdout=0.0)
        np.testing.assert_array_equal(
            found.map.matrix, latalign.fit_files(*files(tmp_path, X, Y), "affine", holdout=0.0).map.matrix
        )

    def test_ill_conditioned_rows_are_read_again(self, rng, tmp_path):
        X = rng.normal(size=(COUNT, 8)) * np.geomspace(1, 1e-6, 8) @ np.linalg.qr(rng.normal(size=(8, 8)))[0]
        truth = rng.normal(size=(8, 3))
        for precision in ("double", "fast"):
            found = latalign.fit_files(*files(tmp_path, X, X @ truth), "affine", precision=precision).map
            assert np.linalg.norm(found.matrix - truth) / np.linalg.norm(truth) < 1e-7

    def test_warnings_of_undetermined_directions(self, rng, tmp_path):
        X, Y = pairs(rng, COUNT, 4, 3)
        X[:, 3] = X[:, 0]
        with pytest.warns(latalign.IllConditionedWarning, match="determine 3 of 4 directions"):
            latalign.fit_files(*files(tmp_path, X, Y), "affine")

    def test_few_different_pairs(self, rng, tmp_path):
        X, Y = pairs(rng, 7, 3, 3, noise=0.1)
        again = rng.integers(0, 7, COUNT)
        found = latalign.fit_files(*files(tmp_path, X[again], Y[again]), "rigid", holdout=0.0)
        np.testing.assert_allclose(
            found.map.matrix, latalign.fit(X[again], Y[again], "rigid").matrix, rtol=1e-9, atol=1e-9
        )


@pytest.mark.usefixtures("streamed")
class TestBadInput:
    def call(self, x, y, what):
        if what == "fit":
            return latalign.fit_files(x, y, "affine")
        if what == "auto":
            return latalign.fit_files(x, y)
        if what == "evaluate":
            return latalign.evaluate_files(latalign.AffineMap.of(np.ones((6, 4))), x, y)
        return latalign.compare_files(x, y)

    @pytest.mark.parametrize("what", ["fit", "auto", "evaluate", "compare"])
    @pytest.mark.parametrize("side", [0, 1])
    def test_rows_that_are_not_finite_are_counted_and_placed(self, rng, tmp_path, what, side):
        both = list(pairs(rng, COUNT, 6, 4))
        both[side][[1700, 5999], [0, 3]] = np.nan, np.inf
        x, y = files(tmp_path, *both)
        with pytest.raises(
            ValueError, match=r"2 of 6000 rows contain NaN or infinity \(the first is row 1700\)"
        ):
            self.call(x, y, what)
        x = in_parts(tmp_path, "many", both[0])
        if side == 0:
            with pytest.raises(ValueError, match=r"first is row 1700, .*2\.npy, row 1599\)"):
                self.call(x, y, what)

    @pytest.mark.parametrize("what", ["fit", "auto", "evaluate", "compare"])
    def test_lengths_that_differ(self, rng, tmp_path, what):
        X, Y = pairs(rng, COUNT, 6, 4)
        with pytest.raises(ValueError, match=r"x\.npy has 6000 rows and .*y\.npy has 5999"):
            self.call(*files(tmp_path, X, Y[:-1]), what)

    @pytest.mark.parametrize("what", ["fit", "auto", "evaluate", "compare"])
    @pytest.mark.parametrize(
        ("kept", "words"), [(5000, "ends after 5000 rows"), (5001, "ends after 5001 rows")]
    )
    def test_lengths_that_differ_only_at_the_end(self, rng, tmp_path, what, kept, words):
        pa = pytest.importorskip("pyarrow")
        X, Y = pairs(rng, COUNT, 6, 4)
        x, _ = files(tmp_path, X, Y)
        y = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(Y[:kept].reshape(-1)), 4)})
        with pytest.raises(ValueError, match=words):
            self.call(x, y.to_reader(100), what)

    def test_a_stream_that_is_not_finite(self, rng, tmp_path):
        pa = pytest.importorskip("pyarrow")
        X, Y = pairs(rng, COUNT, 6, 4)
        Y[4321] = np.nan
        x, _ = files(tmp_path, X, Y)
        y = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(Y.reshape(-1)), 4)})
        with pytest.raises(ValueError, match="row 4321 contains NaN"):
            latalign.fit_files(x, y, "affine")

    def test_squares_that_overflow(self, rng, tmp_path):
        X, Y = pairs(rng, COUNT, 6, 4)
        with pytest.raises(ValueError, match="their squares overflow float64"):
            latalign.fit_files(*files(tmp_path, X * 1e200, Y), "affine")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"method": "best"}, "there is no method 'best'"),
            ({"holdout": 1.0}, "needs a share 0 ≤ holdout < 1"),
            ({"scoring": "speed"}, "scoring is one of"),
            ({"precision": "half"}, "precision is"),
            ({"method": "rigid", "alpha": 1.0}, "it got alpha"),
        ],
    )
    def test_wrong_calls(self, rng, tmp_path, options, words):
        x, y = files(tmp_path, *pairs(rng, COUNT, 6, 4))
        with pytest.raises(ValueError, match=words):
            latalign.fit_files(x, y, **options)


@pytest.mark.usefixtures("streamed")
class TestMeasures:
    def test_evaluate_is_that_of_rows_in_memory_but_for_what_is_searched(self, rng, tmp_path):
        X, Y = pairs(rng, COUNT, 6, 6, noise=0.4)
        map_ = latalign.fit(X[:500], Y[:500], "affine")
        found = latalign.evaluate_files(map_, *files(tmp_path, X, Y), max_rows=3000)
        exact = latalign.evaluate(map_, X, Y)
        assert (found.rows, found.queries, found.searched) == (COUNT, 2000, 3000)
        assert found.to_json()["searched"] == 3000
        for mine, its in ((found.mapped, exact.mapped), (found.no_map, exact.no_map)):
            for name in ("mse", "r2", "cosine"):
                assert getattr(mine, name) == pytest.approx(getattr(its, name), rel=1e-9)
        assert (
            found.mapped.retrieval.recall_at_1 > exact.mapped.retrieval.recall_at_1
        )  # fewer rows to mistake
        everything = latalign.evaluate_files(map_, *files(tmp_path, X, Y), max_rows=COUNT, max_queries=COUNT)
        assert (
            everything.mapped.retrieval == latalign.evaluate(map_, X, Y, max_queries=COUNT).mapped.retrieval
        )

    def test_compare_is_that_of_rows_in_memory(self, rng, tmp_path):
        X, Y = pairs(rng, COUNT, 6, 5, noise=0.4)
        # Every row is kept: the same measures of the same rows.
        whole = latalign.compare_files(*files(tmp_path, X, Y), max_rows=10 * COUNT)
        exact = latalign.compare(X, Y, max_rows=10 * COUNT)
        assert whole.measured_rows == exact.measured_rows == COUNT
        for name in ("linear_cka", "procrustes_distance", "mutual_knn"):
            assert getattr(whole, name).value == pytest.approx(getattr(exact, name).value, rel=1e-9)
        found = latalign.compare_files(*files(tmp_path, X, Y))
        assert (found.rows, found.measured_rows) == (COUNT, 5000)
        for name in ("linear_cka", "procrustes_distance", "mutual_knn"):
            one, other = getattr(found, name), getattr(exact, name)  # of other rows
            assert one.value == pytest.approx(other.value, abs=0.03)
            assert one.debiased == pytest.approx(other.debiased, abs=0.03)
        mine, its = ({one.method: one.r2 for one in each.methods} for each in (found, exact))
        assert mine == pytest.approx(its, abs=0.01)

    def test_other_widths(self, rng, tmp_path):
        x, y = files(tmp_path, *pairs(rng, COUNT, 6, 4))
        map_ = latalign.AffineMap.of(np.ones((6, 3)))
        with pytest.raises(ValueError, match=r"y\.npy has rows of 4 dimensions; the map returns 3"):
            latalign.evaluate_files(map_, x, y)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory from /proc")
@pytest.mark.parametrize(
    ("call", "order"),
    [("fit_files(x, y, 'affine')", "C"), ("fit_files(x, y, 'affine')", "F"), ("compare_files(x, y)", "C")],
)
def test_memory_does_not_grow_with_the_rows(tmp_path, call, order):
    program = (
        "import sys, re, pathlib, latalign\nx, y = sys.argv[1:3]\n"
        f"latalign.{call}\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', status)[1])\n"
    )
    peaks = []
    for count in (200_000, 1_000_000):  # 49 MiB and 244 MiB
        X = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
        np.save(tmp_path / f"{count}.npy", np.asarray(X, order=order))
        call_ = [sys.executable, "-c", program, *[tmp_path / f"{count}.npy"] * 2]
        peaks.append(int(subprocess.run(call_, check=True, capture_output=True, text=True).stdout) / 1024)
    assert abs(peaks[1] - peaks[0]) < 16
