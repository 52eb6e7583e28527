"""What holds for every format: rows come back as they were, in blocks of any size."""

import numpy as np
import pytest

from latalign.io.arrays import FORMATS, locate, open_rows, write_rows
from latalign.io.protocol import Block, Location, Shape

DTYPES = ["float16", "float32", "float64", "int8", "int64", "uint32"]


def written(path, rows):
    with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
        writer.append(Block(rows))
    return path


@pytest.fixture(params=sorted(FORMATS))
def suffix(request):
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_come_back_bit_for_bit(tmp_path, suffix, dtype):
    rows = (np.random.default_rng(0).normal(size=(101, 3)) * 50).astype(dtype)
    reader = open_rows(written(tmp_path / f"rows{suffix}", rows))
    assert (reader.rows, reader.dim, reader.dtype) == (101, 3, np.dtype(dtype))
    loaded = reader.load()
    assert loaded.dtype == dtype
    np.testing.assert_array_equal(loaded, rows)


@pytest.mark.parametrize("count", [1, 7, 100, 101, 5000])
def test_blocks_are_all_rows_in_order(tmp_path, suffix, count):
    rows = np.random.default_rng(0).normal(size=(101, 3)).astype(np.float32)
    blocks = [
        block.rows.copy() for block in open_rows(written(tmp_path / f"rows{suffix}", rows)).blocks(count)
    ]
    assert max(map(len, blocks)) <= count
    np.testing.assert_array_equal(np.concatenate(blocks), rows)


def test_blocks_that_are_appended_come_back_as_one(tmp_path, suffix):
    rows = np.random.default_rng(0).normal(size=(101, 3)).astype(np.float32)
    buffer = np.empty((40, 3), np.float32)
    path = tmp_path / f"rows{suffix}"
    with write_rows(path, Shape(101, 3, rows.dtype)) as writer:
        for start in range(0, 101, 40):
            part = buffer[: min(40, 101 - start)]
            part[...] = rows[start : start + 40]
            writer.append(Block(part))
            buffer[...] = np.nan  # the caller's buffer is the caller's
    np.testing.assert_array_equal(open_rows(path).load(), rows)


def write_some(path, rows, promised):
    with write_rows(path, Shape(promised, rows.shape[1], rows.dtype)) as writer:
        writer.append(Block(rows))


@pytest.mark.parametrize("appended", [99, 102])
def test_other_than_the_promised_rows_are_no_file(tmp_path, suffix, appended):
    with pytest.raises(ValueError, match=rf"was to hold 101 rows; {appended} were written"):
        write_some(tmp_path / f"rows{suffix}", np.ones((appended, 3), np.float32), 101)
    assert not list(tmp_path.iterdir())


def test_an_error_on_the_way_leaves_the_older_file(tmp_path, suffix):
    path = written(tmp_path / f"rows{suffix}", np.ones((5, 2)))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="was to hold 9 rows"):
        write_some(path, np.zeros((4, 2)), 9)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"not an array at all, but some text" * 9])
def test_a_foreign_file_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated"):
        open_rows(path)


def test_a_file_cut_anywhere_is_refused(tmp_path, suffix):
    whole = written(tmp_path / f"whole{suffix}", np.ones((50, 4), np.float32)).read_bytes()
    path = tmp_path / f"cut{suffix}"
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"truncated"):
            open_rows(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_rows(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("name", ["rows.csv", "rows", "rows.npz", "rows.pt:encoder", "a.npy.gz"])
def test_an_unknown_format_is_told_what_is_read(name):
    with pytest.raises(ValueError, match=r"\.npy, \.safetensors or \.parquet"):
        locate(name)


def test_a_colon_divides_only_after_a_known_suffix(tmp_path):
    assert locate("a/b.parquet:text emb") == Location(locate("a/b.parquet").path, "text emb")
    assert locate("C:/data/x.npy").name is None
    assert locate("run:3/x.safetensors") == Location(locate("run:3/x.safetensors").path, None)
    assert locate("X.NPY").name is None
    with pytest.raises(ValueError, match="a name is missing after the colon"):
        locate("b.parquet:")


def test_a_file_that_is_there_is_not_divided(tmp_path):
    path = written(tmp_path / "july.parquet:1.npy", np.ones((3, 2)))
    assert open_rows(path).rows == 3


def test_a_location_says_where_it_is():
    assert str(locate("b.parquet:c")) == "b.parquet:c"
    assert str(locate("b.npy")) == "b.npy"
