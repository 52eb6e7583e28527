"""Parquet: every kind of list, nulls and ragged rows named by their number, and the other columns."""

import sys

import numpy as np
import pytest

from latalign.io.arrays import open_rows, write_rows
from latalign.io.protocol import Block, Shape

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
KINDS = {
    "fixed": pa.list_(pa.float32(), 3),
    "list": pa.list_(pa.float32()),
    "large": pa.large_list(pa.float32()),
}


@pytest.fixture(params=sorted(KINDS))
def kind(request):
    return KINDS[request.param]


def saved(path, row_group_size=20, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path


def lists(rows, kind):
    return pa.array([None if row is None else list(row) for row in rows], kind)


@pytest.mark.parametrize("count", [1, 7, 20, 64])
def test_every_kind_of_list_is_read(tmp_path, kind, count):
    reader = open_rows(saved(tmp_path / "a.parquet", v=lists(ROWS, kind)))
    assert (reader.rows, reader.dim, reader.dtype) == (50, 3, np.float32)
    np.testing.assert_array_equal(np.concatenate([block.rows for block in reader.blocks(count)]), ROWS)
    np.testing.assert_array_equal(reader.load(), ROWS)


@pytest.mark.parametrize("row", [0, 13, 49])
@pytest.mark.parametrize("count", [6, 50])
def test_a_null_row_is_named(tmp_path, kind, row, count):
    rows = list(ROWS)
    rows[row] = None
    path = saved(tmp_path / "a.parquet", v=lists(rows, kind))
    with pytest.raises(ValueError, match=rf"a\.parquet:v: row {row} is null"):
        list(open_rows(path).blocks(count))


@pytest.mark.parametrize("row", [0, 13, 49])
@pytest.mark.parametrize("count", [6, 50])
def test_a_null_among_the_values_is_named(tmp_path, kind, row, count):
    rows = [list(map(float, values)) for values in ROWS]
    rows[row][2] = None
    path = saved(tmp_path / "a.parquet", v=pa.array(rows, kind))
    with pytest.raises(ValueError, match=rf"a\.parquet:v: row {row} has a null among its values"):
        list(open_rows(path).blocks(count))


@pytest.mark.parametrize("width", [0, 2, 4])
@pytest.mark.parametrize("row", [1, 13, 49])
@pytest.mark.parametrize("count", [6, 50])
def test_a_ragged_row_is_named(tmp_path, width, row, count):
    rows = list(ROWS)
    rows[row] = np.ones(width)
    path = saved(tmp_path / "a.parquet", v=lists(rows, KINDS["list"]))
    with pytest.raises(ValueError, match=rf"row {row} has {width} values, those before it 3"):
        list(open_rows(path).blocks(count))


def test_rows_that_make_up_for_each_other_are_ragged_still(tmp_path):
    rows = [*ROWS[:5], ROWS[5][:2], np.r_[ROWS[6], 0]]
    with pytest.raises(ValueError, match="row 5 has 2 values"):
        open_rows(saved(tmp_path / "a.parquet", v=lists(rows, KINDS["list"]))).load()


def test_empty_first_rows_are_no_rows(tmp_path):
    with pytest.raises(ValueError, match=r"is empty: it holds an array of shape \(2, 0\)"):
        open_rows(saved(tmp_path / "a.parquet", v=lists([[], []], KINDS["list"])))


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is empty: the file has no rows"):
        open_rows(saved(tmp_path / "a.parquet", v=lists([], KINDS["fixed"])))


def test_the_column_is_the_only_one_of_floats_or_named(tmp_path, kind):
    one = saved(tmp_path / "a.parquet", id=pa.array(range(50)), v=lists(ROWS, kind))
    assert open_rows(one).location.name == "v"
    two = saved(tmp_path / "b.parquet", u=lists(ROWS + 1, kind), v=lists(ROWS, kind), id=pa.array(range(50)))
    np.testing.assert_array_equal(open_rows(f"{two}:u").load(), ROWS + 1)
    with pytest.raises(
        ValueError, match=r"needs one column of lists of floats; it has: u \(.*b\.parquet:COLUMN"
    ):
        open_rows(two)
    with pytest.raises(ValueError, match="has no one column 'w'; it has: u"):
        open_rows(f"{two}:w")
    with pytest.raises(ValueError, match="is int64; rows need a column of lists of floats"):
        open_rows(f"{two}:id")
    none = saved(tmp_path / "c.parquet", id=pa.array(range(50)))
    with pytest.raises(ValueError, match="needs one column of lists of floats; it has: id"):
        open_rows(none)


def test_other_columns_and_the_type_go_along(tmp_path, kind):
    ids = [f"t{i}" for i in range(50)]
    tags = pa.array([None if i % 3 else [str(i)] for i in range(50)])
    origin = open_rows(saved(tmp_path / "in.parquet", id=ids, v=lists(ROWS, kind), tags=tags))
    with write_rows(tmp_path / "out.parquet", Shape(50, 2, np.dtype("float32")), origin) as writer:
        for block in origin.blocks(7):
            writer.append(Block(block.rows[:, :2] * 2, block.beside))
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == ["id", "v", "tags"]
    assert table["id"].to_pylist() == ids
    assert table["tags"].combine_chunks().equals(tags)
    fixed = pa.types.is_fixed_size_list(kind)
    assert table.schema.field("v").type == (pa.list_(pa.float32(), 2) if fixed else kind)
    np.testing.assert_array_equal(np.array(table["v"].to_pylist(), np.float32), ROWS[:, :2] * 2)


def test_only_true_metadata_goes_along(tmp_path):
    table = pa.table({"v": lists(ROWS, KINDS["fixed"])})
    table = table.replace_schema_metadata({"pandas": "{}", "huggingface": '{"length": 3}'})
    pq.write_table(table, tmp_path / "in.parquet")
    origin = open_rows(tmp_path / "in.parquet")
    with write_rows(tmp_path / "out.parquet", Shape(50, 2, np.dtype("float32")), origin) as writer:
        writer.append(Block(ROWS[:, :2]))
    assert pq.read_schema(tmp_path / "out.parquet").metadata == {b"pandas": b"{}"}


def test_the_column_may_be_named_anew(tmp_path):
    origin = open_rows(saved(tmp_path / "in.parquet", id=pa.array(range(50)), v=lists(ROWS, KINDS["list"])))
    shape = Shape(50, 3, np.dtype("float32"))
    with write_rows(f"{tmp_path}/out.parquet:new", shape, origin) as writer:
        for block in origin.blocks(50):
            writer.append(block)
    assert pq.read_schema(tmp_path / "out.parquet").names == ["id", "new"]
    with (
        pytest.raises(ValueError, match="cannot be called 'id'"),
        write_rows(f"{tmp_path}/b.parquet:id", shape, origin),
    ):
        pass
    assert not (tmp_path / "b.parquet").exists()


def test_ids_are_integers_or_strings(tmp_path):
    values = {
        "whole": pa.array(range(50)),
        "text": pa.array([f"t{i}" for i in range(50)]),
        "coded": pa.array([f"t{i}" for i in range(50)]).dictionary_encode(),
        "real": pa.array(np.arange(50.0)),
        "holes": pa.array([None, *range(49)], pa.int64()),
    }
    reader = open_rows(saved(tmp_path / "a.parquet", v=lists(ROWS, KINDS["fixed"]), **values))
    np.testing.assert_array_equal(reader.ids("whole"), np.arange(50))
    assert reader.ids("whole").dtype == np.int64
    assert list(reader.ids("text")) == list(reader.ids("coded")) == [f"t{i}" for i in range(50)]
    assert np.isnan(reader.ids("holes")[0])
    with pytest.raises(ValueError, match="ids are integers or strings; the column 'real' is double"):
        reader.ids("real")
    with pytest.raises(ValueError, match="has no column 'none'; it has: v, whole"):
        reader.ids("none")


def test_a_damaged_page_is_noticed(tmp_path):
    path = saved(
        tmp_path / "a.parquet", 50, v=lists(np.random.default_rng(0).normal(size=(50, 3)), KINDS["list"])
    )
    damaged = bytearray(path.read_bytes())
    damaged[4:60] = b"\xff" * 56
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match="is not a Parquet file, or it is truncated"):
        open_rows(path).load()


def test_the_missing_extra_is_named(tmp_path, monkeypatch):
    path = saved(tmp_path / "a.parquet", v=lists(ROWS, KINDS["fixed"]))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'latalign\[parquet\]'"):
        open_rows(path)
