"""What is fitted and measured in one pass over files is what is fitted and measured in memory."""

import os
import subprocess
import sys
from functools import reduce
from operator import add

import numpy as np
import pytest

import latalign
from latalign import Moments, dealing, moments, on_disk, pairing
from latalign import streamed as streams
from latalign.dealing import Deal, deal_out, deal_part, part_bounds
from latalign.io import parquet
from latalign.io.ahead import ahead
from latalign.io.arrays import open_rows, write_rows
from latalign.io.protocol import Block, Shape
from latalign.pairing import paired
from latalign.select import keys_of
from problems import pairs

COUNT = 6000


@pytest.fixture
def streamed(monkeypatch):
    """Nothing is small enough to be loaded, and blocks and parts are short."""
    monkeypatch.setattr(moments, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(pairing, "_LOADED_BYTES", 0)
    monkeypatch.setattr(dealing, "_PART_ROWS", 1500)


def test_what_is_loaded_is_opened_once(rng, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(streams, "open_rows", lambda path: opened.append(path.name) or open_rows(path))
    monkeypatch.setattr(on_disk, "open_rows", streams.open_rows)
    paths = files(tmp_path, *pairs(rng, 50, 3, 2))
    latalign.fit_files(*paths, "affine")
    assert opened == ["x.npy", "y.npy"]


def files(folder, X, Y, suffixes=(".npy", ".npy")):
    paths = []
    for name, rows, suffix in zip("xy", (X, Y), suffixes, strict=True):
        path = folder / f"{name}{suffix}"
        with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
            for part in np.array_split(rows, 7):
                writer.append(Block(part))
        paths.append(path)
    return paths


def in_parts(folder, name, rows, suffix=".npy"):
    (folder / name).mkdir()
    for k, part in enumerate(np.split(rows, [100, 101, 2000])):
        with write_rows(folder / name / f"{k}{suffix}", Shape(*part.shape, part.dtype)) as writer:
            writer.append(Block(part))
    return folder / name


def opened(x, y):
    return paired(open_rows(x), open_rows(y))


class TestDealing:
    @pytest.mark.parametrize("deal", [Deal(), Deal(5, 0.2, 50, 300), Deal(1, 0.1, 0, 200), Deal(3, seed=4)])
    @pytest.mark.parametrize("precision", ["double", "fast"])
    @pytest.mark.usefixtures("streamed")
    def test_parts_add_up_to_all_rows_bit_for_bit(self, rng, tmp_path, deal, precision):
        from dataclasses import replace

        deal = replace(deal, precision=precision)
        X, Y = pairs(rng, COUNT, 5, 4, dtype=np.float32)
        source = opened(*files(tmp_path, X, Y))
        whole, read_ahead = deal_out(source, deal), deal_out(source, deal, threads=2)
        bounds = part_bounds(COUNT, source.dims, precision)
        assert len(bounds) > 1
        parts = [deal_part(source, deal, None, part) for part in reversed(bounds)][::-1]
        for other in (read_ahead, reduce(add, parts)):
            for mine, its in zip((*whole.folds, whole.held), (*other.folds, other.held), strict=True):
                for name in ("count", "source_mean", "target_mean", "xy", "source_gram", "yy_diagonal"):
                    np.testing.assert_array_equal(getattr(mine, name), getattr(its, name))
            for mine, its in zip(whole.kept, other.kept, strict=True):
                np.testing.assert_array_equal(mine.source, its.source)
        total = reduce(add, whole.folds) + whole.held
        exact = Moments.of(X, Y, grams="source")
        np.testing.assert_allclose(
            total.xx, exact.xx, rtol=1e-10 if precision == "double" else 1e-4, atol=1e-3
        )
        assert total.count == COUNT

    @pytest.mark.usefixtures("streamed")
    def test_folds_are_those_that_the_keys_say(self, rng, tmp_path):
        X, Y = pairs(rng, COUNT, 5, 4)
        deal = Deal(4, 0.1, seed=3)
        dealt = deal_out(opened(*files(tmp_path, X, Y)), deal)
        number = deal.numbers(latalign._validation.Pairs(X, Y))
        for k, fold in enumerate((*dealt.folds, dealt.held)):
            exact = Moments.of(X[number == k], Y[number == k], grams="source")
            assert fold.count == exact.count
            np.testing.assert_allclose(fold.xy, exact.xy, rtol=1e-9, atol=1e-9)

    def test_equal_pairs_stay_together_and_folds_are_of_one_size(self, rng):
        X, Y = pairs(rng, 40_000, 3, 2)
        twice = latalign._validation.Pairs(np.concatenate([X, X[::-1]]), np.concatenate([Y, Y[::-1]]))
        number = Deal(5, 0.2, seed=int(rng.integers(100))).numbers(twice)
        np.testing.assert_array_equal(number[:40_000], number[40_000:][::-1])
        share = np.bincount(number[:40_000]) / 40_000
        np.testing.assert_allclose(share, [0.16] * 5 + [0.2], atol=0.012)

    def test_seeds_and_roles_are_independent(self, rng):
        some = latalign._validation.Pairs(*pairs(rng, 40_000, 3, 2))
        one, two = Deal(5, 0.5, seed=0).numbers(some), Deal(5, 0.5, seed=1).numbers(some)
        # Held out by both: a quarter, if one does not tell of the other.
        assert abs(np.mean((one == 5) & (two == 5)) - 0.25) < 0.02

    def test_negative_zero_is_zero(self):
        rows = np.zeros((1, 4), np.float32)
        same = [latalign._validation.Pairs(side, rows) for side in (rows, -rows)]
        assert keys_of(same[0]) == keys_of(same[1])

    def test_what_is_kept_is_any_row_alike(self, rng, tmp_path):
        X = np.arange(COUNT, dtype=np.float64)[:, None]
        x, y = files(tmp_path, X, X)
        found = np.zeros(COUNT)
        for seed in range(40):
            kept = deal_out(opened(x, y), Deal(kept=600, seed=seed)).kept[0]
            assert len(kept.numbers) == 600
            np.testing.assert_array_equal(kept.source[:, 0], kept.numbers)
            found[kept.numbers.astype(int)] += 1
        # 40 draws of one row in ten: four each, and as many of the first half as of the second.
        assert abs(found[: COUNT // 2].sum() / found.sum() - 0.5) < 0.02
        assert found.max() < 20
        assert abs(found.var() - 3.6) < 0.6

    def test_reading_ahead_yields_the_same_and_passes_errors_on(self):
        def items():
            yield from range(5)
            raise ValueError("the sixth")

        found = []
        with pytest.raises(ValueError, match="the sixth"):
            found.extend(ahead(items(), threads=2))
        assert list(ahead(range(100), threads=2)) == list(range(100))

    def test_reading_ahead_closes_what_it_reads(self):
        closed = []

        def items():
            try:
                yield from range(5)
            finally:
                closed.append(True)

        for threads in (1, 2):
            stream = ahead(items(), threads=threads)
            next(stream)
            stream.close()
        assert closed == [True, True]


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
        with pytest.raises(ValueError, match="it returns 3 dimensions, Y has 4"):
            latalign.evaluate_files(map_, x, y)


@pytest.mark.usefixtures("streamed")
class TestPairsById:
    @pytest.fixture
    def sides(self, rng, tmp_path):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pytest.importorskip("duckdb")

        def sides(source_ids, target_ids, dtype=np.float32):
            X, Y = pairs(rng, COUNT, 6, 4, dtype=dtype)
            order = rng.permutation(COUNT)
            (tmp_path / "y").mkdir(exist_ok=True)
            for path, ids, rows in (
                (tmp_path / "x.parquet", source_ids, X),
                (tmp_path / "y" / "0.parquet", target_ids(order)[:2000], Y[order][:2000]),
                (tmp_path / "y" / "1.parquet", target_ids(order)[2000:], Y[order][2000:]),
            ):
                lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
                pq.write_table(pa.table({"id": ids, "v": lists}), path)
            return X, Y, tmp_path / "x.parquet", tmp_path / "y"

        return sides

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("kind", ["text", "number"])
    def test_rows_meet_their_own(self, sides, dtype, kind):
        name = (lambda k: f"k{k}") if kind == "text" else int
        X, Y, x, y = sides([name(k) for k in range(COUNT)], lambda order: [name(k) for k in order], dtype)
        found = latalign.fit_files(x, y, "affine", id_column="id", holdout=0.0).map
        np.testing.assert_allclose(found.matrix, latalign.fit(X, Y, "affine").matrix, rtol=1e-4, atol=1e-4)
        again = latalign.fit_files(x, y, "affine", id_column="id", holdout=0.0).map
        np.testing.assert_array_equal(found.matrix, again.matrix)  # in the same order every time

    @pytest.mark.parametrize("suffix", [".parquet", ".h5"])
    def test_nothing_but_rows_and_ids_is_read(self, rng, tmp_path, monkeypatch, suffix):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        h5py = pytest.importorskip("h5py")
        pytest.importorskip("duckdb")
        X = rng.normal(size=(COUNT, 4))
        path, read = tmp_path / f"x{suffix}", set()
        if suffix == ".h5":
            with h5py.File(path, "w") as file:
                file["id"], file["v"], file["text"] = np.arange(COUNT), X, np.zeros(COUNT)
            get = h5py.Dataset.__getitem__
            monkeypatch.setattr(
                h5py.Dataset, "__getitem__", lambda grid, key: read.add(grid.name[1:]) or get(grid, key)
            )
        else:
            pq.write_table(pa.table({"id": range(COUNT), "v": list(X), "text": ["much"] * COUNT}), path)
            scan = parquet._Scan.__call__
            monkeypatch.setattr(
                parquet._Scan,
                "__call__",
                lambda self, columns, *which: read.update(columns or ["all"]) or scan(self, columns, *which),
            )
        found = latalign.fit_files(path, path, "affine", id_column="id", holdout=0.0).map
        np.testing.assert_allclose(found(X), X, atol=1e-9)
        assert read == {"id", "v"}

    @pytest.mark.filterwarnings("ignore::latalign.UnrelatedPairsWarning")
    def test_unmatched_ids(self, sides):
        _, _, x, y = sides([f"k{k}" for k in range(COUNT)], lambda order: [f"k{k + 10}" for k in order])
        with pytest.raises(
            ValueError, match=r"10 of 6000 source ids are missing in the target, k\d+ among them"
        ):
            latalign.fit_files(x, y, "affine", id_column="id")
        found = latalign.fit_files(x, y, "affine", id_column="id", unmatched="drop")
        assert found.map.evidence.anchors == COUNT - 10

    def test_bad_ids(self, sides):
        ids = [f"k{k}" for k in range(COUNT)]

        def twice(order):
            return [f"k{min(k, COUNT - 2)}" for k in order]

        _, _, x, y = sides(ids, twice)
        with pytest.raises(
            ValueError,
            match=r"1 target ids occur more than once, k5998 among them: in .*parquet, row \d+, and in",
        ):
            latalign.fit_files(x, y, "affine", id_column="id")
        _, _, x, y = sides([None, *ids[1:]], lambda order: [f"k{k}" for k in order])
        with pytest.raises(ValueError, match=r"1 source ids are missing, the first in .*x\.parquet:v, row 0"):
            latalign.fit_files(x, y, "affine", id_column="id")
        _, _, x, y = sides(list(range(COUNT)), lambda order: [f"k{k}" for k in order])
        with pytest.raises(ValueError, match="ids of one kind on both sides"):
            latalign.fit_files(x, y, "affine", id_column="id")
        _, _, x, y = sides([f"a{k}" for k in range(COUNT)], lambda order: [f"k{k}" for k in order])
        with pytest.raises(ValueError, match="no id in common"):
            latalign.fit_files(x, y, "affine", id_column="id", unmatched="drop")

    def test_what_has_no_ids(self, sides, tmp_path):
        X, _, x, y = sides([f"k{k}" for k in range(COUNT)], lambda order: [f"k{k}" for k in order])
        np.save(tmp_path / "x.npy", X)
        with pytest.raises(ValueError, match="ids stand beside the rows in tables only"):
            latalign.fit_files(tmp_path / "x.npy", y, "affine", id_column="id")
        with pytest.raises(ValueError, match="has no column 'none'"):
            latalign.fit_files(x, y, "affine", id_column="none")

    def test_the_missing_extra_is_named(self, sides, monkeypatch):
        _, _, x, y = sides([f"k{k}" for k in range(COUNT)], lambda order: [f"k{k}" for k in order])
        monkeypatch.setitem(sys.modules, "duckdb", None)
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'latalign\[duckdb\]'"):
            latalign.fit_files(x, y, "affine", id_column="id")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory from /proc")
@pytest.mark.parametrize("call", ["fit_files(x, y, 'affine')", "compare_files(x, y)"])
def test_memory_does_not_grow_with_the_rows(tmp_path, call):
    program = (
        "import sys, re, pathlib, latalign\nx, y = sys.argv[1:3]\n"
        f"latalign.{call}\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', status)[1])\n"
    )
    peaks = []
    for count in (200_000, 1_000_000):  # 49 MiB and 244 MiB
        X = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
        np.save(tmp_path / f"{count}.npy", X)
        call_ = [sys.executable, "-c", program, *[tmp_path / f"{count}.npy"] * 2]
        peaks.append(int(subprocess.run(call_, check=True, capture_output=True, text=True).stdout) / 1024)
    assert abs(peaks[1] - peaks[0]) < 16
