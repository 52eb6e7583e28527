"""`.npy`: NumPy's own files, byte for byte, and what is refused of them."""

import io

import numpy as np
import pytest
from numpy.lib import format as npy_format

from latalign.io.arrays import open_rows, write_rows
from latalign.io.protocol import Block, Shape


def saved(path, array):
    np.save(path, array, allow_pickle=True)
    return path


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_bytes_are_those_of_numpy_save(tmp_path, dtype):
    rows = np.random.default_rng(0).normal(size=(33, 5)).astype(dtype)
    expected = io.BytesIO()
    np.save(expected, rows)
    with write_rows(tmp_path / "a.npy", Shape(33, 5, rows.dtype)) as writer:
        for part in (rows[:20], rows[20:]):
            writer.append(Block(part))
    assert (tmp_path / "a.npy").read_bytes() == expected.getvalue()


@pytest.mark.parametrize("change", [np.asfortranarray, lambda a: a.astype(">f4"), lambda a: a.astype(">f8")])
def test_other_layouts_and_byte_orders_are_read(tmp_path, change):
    rows = np.random.default_rng(0).normal(size=(33, 5)).astype(np.float32)
    reader = open_rows(saved(tmp_path / "a.npy", change(rows)))
    assert reader.dtype.isnative
    np.testing.assert_array_equal(reader.load(), rows)
    blocks = [block.rows.copy() for block in reader.blocks(7)]
    assert all(block.dtype.isnative for block in blocks)
    np.testing.assert_array_equal(np.concatenate(blocks), rows)


def test_blocks_of_columns_are_read_not_mapped(tmp_path, monkeypatch):
    """Every row of a mapped block would make a page of every column resident: in the end the whole file."""
    rows = np.random.default_rng(0).normal(size=(33, 5)).astype(">f4")
    reader = open_rows(saved(tmp_path / "a.npy", np.asfortranarray(rows)))
    monkeypatch.setattr(np, "memmap", lambda *_, **__: pytest.fail("the file was mapped"))
    found = [block.rows.copy() for block in reader.blocks(7, 3, 30)]
    assert [len(block) for block in found] == [7, 7, 7, 6]
    np.testing.assert_array_equal(np.concatenate(found), rows[3:30])


def test_version_2_headers_are_read(tmp_path):
    rows = np.arange(6.0).reshape(3, 2)
    with (tmp_path / "a.npy").open("wb") as file:
        npy_format.write_array(file, rows, version=(2, 0))
    np.testing.assert_array_equal(open_rows(tmp_path / "a.npy").load(), rows)


def test_the_file_is_mapped_not_loaded(tmp_path):
    loaded = open_rows(saved(tmp_path / "a.npy", np.ones((4, 2)))).load()
    assert isinstance(loaded.base, np.memmap)
    assert not loaded.flags.writeable


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones(4), r"shape \(4,\); rows need a 2-D array"),
        (np.ones((2, 3, 4)), r"shape \(2, 3, 4\); rows need a 2-D array"),
        (np.float64(3), r"shape \(\); rows need a 2-D array"),
        (np.ones((0, 4)), r"is empty: it holds an array of shape \(0, 4\)"),
        (np.ones((4, 0)), r"is empty: it holds an array of shape \(4, 0\)"),
        (np.array([[{}, 1]], dtype=object), r"Python objects, which are never unpickled"),
        (np.ones((2, 2), complex), r"holds complex128; rows are float16"),
        (np.ones((2, 2), bool), r"holds bool; rows are float16"),
        (np.array([["a", "b"]]), r"rows are float16"),
        (np.zeros((2, 2), [("a", "f4"), ("b", "f4")]), r"rows are float16"),
        (np.ones((2, 2), np.longdouble), r"rows are float16"),
    ],
)
def test_what_is_no_array_of_rows_is_refused(tmp_path, array, words):
    with pytest.raises(ValueError, match=words):
        open_rows(saved(tmp_path / "a.npy", array))


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 'x')}",
        "{'descr': 'no type', 'fortran_order': False, 'shape': (2, 2)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2",
        "__import__('os').abort()",
        "(" * 3000,
        "\n",
    ],
)
def test_a_broken_header_is_refused(tmp_path, header):
    text = header.encode()
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64))
    with pytest.raises(ValueError, match=r"is not a \.npy file, or it is truncated"):
        open_rows(path)


def test_a_header_that_promises_the_moon_is_refused(tmp_path):
    path = saved(tmp_path / "a.npy", np.ones((2, 2), np.float32))
    path.write_bytes(path.read_bytes().replace(b"(2, 2)", b"(2, 99999999999)"))
    with pytest.raises(ValueError, match=r"its header promises \d{10,} bytes"):
        open_rows(path)


def test_a_negative_shape_is_refused(tmp_path):
    path = saved(tmp_path / "a.npy", np.ones((2, 2), np.float32))
    path.write_bytes(path.read_bytes().replace(b"(2, 2)", b"(-2,2)"))
    with pytest.raises(ValueError, match="is empty"):
        open_rows(path)


def test_a_file_that_shrinks_while_it_is_read_is_noticed(tmp_path):
    path = saved(tmp_path / "a.npy", np.ones((100, 2)))
    blocks = open_rows(path).blocks(10)
    next(blocks)
    with path.open("r+b") as file:
        file.truncate(500)
    with pytest.raises(ValueError, match="ended early"):
        list(blocks)


def test_a_name_is_refused(tmp_path):
    path = saved(tmp_path / "a.npy", np.ones((2, 2)))
    with pytest.raises(ValueError, match="one array without a name; it was asked for 'x'"):
        open_rows(f"{path}:x")
    with pytest.raises(ValueError, match="leave out 'x'"):
        write_rows(f"{path}:x", Shape(2, 2, np.dtype("float32")))


def test_there_are_no_ids(tmp_path):
    with pytest.raises(ValueError, match="no column 'id': ids stand beside the rows in tables only"):
        open_rows(saved(tmp_path / "a.npy", np.ones((2, 2)))).ids("id")
