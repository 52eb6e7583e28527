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


LIBRARIES = {
    ".parquet": "pyarrow",
    ".arrow": "pyarrow",
    ".feather": "pyarrow",
    ".h5": "h5py",
    ".hdf5": "h5py",
    ".lance": "lance",
    ".zarr": "zarr",
}
FILES = sorted(suffix for suffix, format_ in FORMATS.items() if not format_.folder)


@pytest.fixture(params=sorted(FORMATS))
def suffix(request):
    if request.param in LIBRARIES:
        pytest.importorskip(LIBRARIES[request.param])
    return request.param


@pytest.fixture(params=FILES)
def file_suffix(request):
    if request.param in LIBRARIES:
        pytest.importorskip(LIBRARIES[request.param])
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_come_back_bit_for_bit(tmp_path, suffix, dtype):
    rows = (np.random.default_rng(0).normal(size=(101, 3)) * 50).astype(dtype)
    reader = open_rows(written(tmp_path / f"rows{suffix}", rows))
    assert (reader.rows, reader.dim, reader.dtype) == (101, 3, np.dtype(dtype))
    loaded = reader.load()
    assert loaded.dtype == dtype
    np.testing.assert_array_equal(loaded, rows)


@pytest.mark.parametrize(("start", "stop"), [(0, 1), (0, 101), (33, 77), (100, 101), (40, None), (0, 500)])
@pytest.mark.parametrize("count", [1, 7, 100, 5000])
def test_some_of_the_rows(tmp_path, suffix, start, stop, count):
    rows = np.random.default_rng(0).normal(size=(101, 3)).astype(np.float32)
    reader = open_rows(written(tmp_path / f"rows{suffix}", rows))
    blocks = [block.rows.copy() for block in reader.blocks(count, start, stop, beside=False)]
    assert max(map(len, blocks)) <= count
    np.testing.assert_array_equal(np.concatenate(blocks), rows[start:stop])


def test_a_block_lives_until_the_one_after_the_next_is_asked_for(tmp_path, suffix):
    rows = np.random.default_rng(0).normal(size=(101, 3)).astype(np.float32)
    blocks = open_rows(written(tmp_path / f"rows{suffix}", rows)).blocks(10)
    before = next(blocks).rows
    for start, block in enumerate(blocks):
        np.testing.assert_array_equal(before, rows[10 * start : 10 * start + 10])
        before = block.rows


def test_rows_whose_number_only_the_end_tells(tmp_path, suffix):
    rows = np.random.default_rng(0).normal(size=(101, 3)).astype(np.float32)
    path = tmp_path / f"rows{suffix}"
    with write_rows(path, Shape(None, 3, rows.dtype)) as writer:
        for part in np.array_split(rows, 5):
            writer.append(Block(part))
    reader = open_rows(path)
    assert reader.rows == 101
    np.testing.assert_array_equal(reader.load(), rows)


def test_no_rows_are_no_file(tmp_path, suffix):
    with (
        pytest.raises(ValueError, match="was to hold rows; there were none"),
        write_rows(tmp_path / f"rows{suffix}", Shape(None, 3, np.dtype("float32"))),
    ):
        pass
    assert not list(tmp_path.iterdir())


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


def test_an_error_on_the_way_leaves_the_older_file(tmp_path, file_suffix):
    path = written(tmp_path / f"rows{file_suffix}", np.ones((5, 2)))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="was to hold 9 rows"):
        write_some(path, np.zeros((4, 2)), 9)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_a_folder_is_not_replaced(tmp_path):
    pytest.importorskip("zarr")
    path = written(tmp_path / "rows.zarr", np.ones((5, 2)))
    with pytest.raises(FileExistsError, match="it exists already"):
        written(path, np.zeros((5, 2)))
    np.testing.assert_array_equal(open_rows(path).load(), np.ones((5, 2)))


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"not an array at all, but some text" * 9])
def test_a_foreign_file_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="truncated"):
        open_rows(path)


def test_a_file_cut_anywhere_is_refused(tmp_path, file_suffix):
    whole = written(tmp_path / f"whole{file_suffix}", np.ones((50, 4), np.float32)).read_bytes()
    path = tmp_path / f"cut{file_suffix}"
    for length in np.linspace(0, len(whole) - 1, 40).astype(int):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"truncated"):
            open_rows(path)


def test_a_missing_file_is_said_to_be_missing(tmp_path, suffix):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        open_rows(tmp_path / f"none{suffix}")


@pytest.mark.parametrize("name", ["rows.csv", "rows", "rows.npz", "rows.pt:encoder", "a.npy.gz"])
def test_an_unknown_format_is_told_what_is_read(name):
    with pytest.raises(ValueError, match=r"\.npy, \.safetensors, \.parquet"):
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
