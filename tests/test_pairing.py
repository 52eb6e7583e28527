"""Rows of two files that meet by their ids."""

import sys
import warnings

import numpy as np
import pytest

import latalign
from latalign.io import parquet
from problems import pairs
from row_files import COUNT

pytestmark = pytest.mark.usefixtures("streamed")


@pytest.fixture
def sides(rng, tmp_path):
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
def test_rows_meet_their_own(sides, dtype, kind):
    name = (lambda k: f"k{k}") if kind == "text" else int
    X, Y, x, y = sides([name(k) for k in range(COUNT)], lambda order: [name(k) for k in order], dtype)
    found = latalign.fit_files(x, y, "affine", id_column="id", holdout=0.0).map
    np.testing.assert_allclose(found.matrix, latalign.fit(X, Y, "affine").matrix, rtol=1e-4, atol=1e-4)
    again = latalign.fit_files(x, y, "affine", id_column="id", holdout=0.0).map
    np.testing.assert_array_equal(found.matrix, again.matrix)  # in the same order every time


@pytest.mark.parametrize("suffix", [".parquet", ".h5"])
def test_nothing_but_rows_and_ids_is_read(rng, tmp_path, monkeypatch, suffix):
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
def test_unmatched_ids(sides):
    _, _, x, y = sides([f"k{k}" for k in range(COUNT)], lambda order: [f"k{k + 10}" for k in order])
    with pytest.raises(ValueError, match=r"10 of 6000 source ids are missing in the target, k\d+ among them"):
        latalign.fit_files(x, y, "affine", id_column="id")
    found = latalign.fit_files(x, y, "affine", id_column="id", unmatched="drop")
    assert found.map.evidence.anchors == COUNT - 10


def test_bad_ids(sides):
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


def test_what_has_no_ids(sides, tmp_path):
    X, _, x, y = sides([f"k{k}" for k in range(COUNT)], lambda order: [f"k{k}" for k in order])
    np.save(tmp_path / "x.npy", X)
    with pytest.raises(ValueError, match="ids stand beside the rows in tables only"):
        latalign.fit_files(tmp_path / "x.npy", y, "affine", id_column="id")
    with pytest.raises(ValueError, match="has no column 'none'"):
        latalign.fit_files(x, y, "affine", id_column="none")


def test_the_missing_extra_is_named(sides, monkeypatch):
    _, _, x, y = sides([f"k{k}" for k in range(COUNT)], lambda order: [f"k{k}" for k in order])
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'latalign\[duckdb\]'"):
        latalign.fit_files(x, y, "affine", id_column="id")


# Ids that stand in another order -------------------------------------------------------------------


def tables(folder, mine, its, name="id"):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(0)
    for path, ids in (("x.parquet", mine), ("y.parquet", its)):
        rows = pa.array(list(rng.normal(size=(len(ids), 3))))
        pq.write_table(pa.table({name: ids, "year": [2000] * len(ids), "v": rows}), folder / path)
    return folder / "x.parquet", folder / "y.parquet"


@pytest.mark.parametrize("kind", [int, str])
def test_ids_in_another_order_are_told(tmp_path, kind):
    ids = [kind(number) for number in range(30)]
    files = tables(tmp_path, ids, [*ids[:4], *ids[:3:-1]])
    words = r"row 4 has the id .*4.* in .*x\.parquet and .*29.* pair by them: id_column='id'"
    with pytest.warns(UserWarning, match=words):
        latalign.compare_files(*files)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        latalign.compare_files(*files, id_column="id")


@pytest.mark.parametrize(
    ("mine", "its"),
    [
        (list(range(30)), list(range(30))),  # the same
        ([1, 2] * 15, [2, 1] * 15),  # no ids
        (list(range(30)), list(range(100, 130))),  # of two systems
        ([None, *range(29)], [*range(29), None]),
    ],
)
def test_what_is_no_id_in_another_order(tmp_path, mine, its):
    files = tables(tmp_path, mine, its)
    if mine[0] is None:
        with pytest.warns(UserWarning, match="row 0 has the id None"):
            latalign.compare_files(*files)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        latalign.compare_files(*files)
