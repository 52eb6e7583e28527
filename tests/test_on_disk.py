"""A map applied from file to file, and pairs read from two files."""

import errno
import io
import os
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from latalign import AffineMap
from latalign.io import files
from latalign.io.arrays import open_rows, write_rows
from latalign.io.protocol import Block, Shape
from latalign.loading import read_pairs
from latalign.on_disk import apply_file

SUFFIXES = [".npy", ".safetensors", ".parquet"]


def a_map(source=6, target=4, seed=0):
    rng = np.random.default_rng(seed)
    return AffineMap(rng.normal(size=source), rng.normal(size=(source, target)), rng.normal(size=target))


def some_rows(count=5003, dim=6, dtype=np.float32):
    return (np.random.default_rng(1).normal(size=(count, dim)) * 20).astype(dtype)


def written(path, rows):
    with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
        writer.append(Block(rows))
    return path


@pytest.mark.parametrize(("into", "out"), list(product(SUFFIXES, SUFFIXES)))
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
def test_a_file_is_mapped_as_its_rows_are(tmp_path, into, out, dtype):
    rows, map_ = some_rows(dtype=dtype), a_map()
    done = apply_file(map_, written(tmp_path / f"in{into}", rows), tmp_path / f"out{out}", batch_rows=4096)
    expected = map_(rows)
    assert (done.rows, done.dim_source, done.dim_target, done.dtype) == (5003, 6, 4, str(expected.dtype))
    found = open_rows(tmp_path / f"out{out}").load()
    assert found.dtype == expected.dtype
    # The same blocks as in memory: the same bits.
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("into", SUFFIXES)
@pytest.mark.parametrize("batch_rows", [1, 7, 999, 5003, 100_000])
def test_the_size_of_the_blocks_changes_nothing(tmp_path, into, batch_rows):
    rows, map_ = some_rows(), a_map()
    seen = []
    apply_file(
        map_,
        written(tmp_path / f"in{into}", rows),
        tmp_path / "out.npy",
        batch_rows=batch_rows,
        progress=lambda done, total: seen.append((done, total)),
    )
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), map_(rows), rtol=1e-5, atol=1e-4)
    starts = range(0, 5003, batch_rows)
    assert seen == [(min(start + batch_rows, 5003), 5003) for start in starts]


def test_the_other_columns_of_a_table_go_along(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = some_rows(101)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 6)
    table = pa.table({"id": [f"d{i}" for i in range(101)], "v": vectors, "year": range(101)})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=40)
    apply_file(a_map(), tmp_path / "in.parquet", tmp_path / "out.parquet", batch_rows=33)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.drop(["v"]).equals(table.drop(["v"]))
    assert found.schema.field("v").type == pa.list_(pa.float32(), 4)
    np.testing.assert_allclose(
        open_rows(tmp_path / "out.parquet").load(), a_map()(rows), rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize(("into", "out"), list(product(SUFFIXES, SUFFIXES)))
def test_rows_that_are_not_finite_are_counted_over_the_whole_file(tmp_path, into, out):
    rows = some_rows(1000)
    rows[[150, 151, 900], [0, 3, 5]] = np.nan, np.inf, -np.inf
    path = written(tmp_path / f"in{into}", rows)
    with pytest.raises(ValueError, match=r"3 of 1000 rows contain NaN or infinity \(the first is row 150\)"):
        apply_file(a_map(), path, tmp_path / f"out{out}", batch_rows=64)
    assert list(tmp_path.iterdir()) == [path]


def test_rows_that_overflow_are_not_called_infinite(tmp_path):
    path = written(tmp_path / "in.npy", np.full((5, 6), 6e4, np.float16))
    with pytest.raises(ValueError, match="overflow float16"):
        apply_file(a_map(), path, tmp_path / "out.npy")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_another_width_is_refused(tmp_path, suffix):
    path = written(tmp_path / f"in{suffix}", some_rows(9, dim=5))
    with pytest.raises(ValueError, match="rows of 5 dimensions; the map takes 6"):
        apply_file(a_map(), path, tmp_path / "out.npy")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_an_output_that_is_the_input_is_refused(tmp_path, link):
    path = written(tmp_path / "in.npy", some_rows(9))
    before = path.read_bytes()
    output = path
    if link is not None:
        output = tmp_path / "other.npy"
        link(path, output)
    with pytest.raises(ValueError, match="is the input"):
        apply_file(a_map(), path, output)
    assert path.read_bytes() == before


def test_no_folder_is_made(tmp_path):
    path = written(tmp_path / "in.npy", some_rows(9))
    with pytest.raises(FileNotFoundError, match=r"does not exist\. Make it first"):
        apply_file(a_map(), path, tmp_path / "none" / "out.npy")
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_output_is_replaced_only_when_all_is_well(tmp_path):
    rows = some_rows(100)
    older = written(tmp_path / "out.npy", np.zeros((1, 1)))
    before = older.read_bytes()
    rows[99] = np.nan
    with pytest.raises(ValueError, match="1 of 100 rows"):
        apply_file(a_map(), written(tmp_path / "in.npy", rows), older, batch_rows=10)
    assert older.read_bytes() == before
    apply_file(a_map(), written(tmp_path / "in.npy", rows[:99]), older)
    assert np.load(older).shape == (99, 4)


@pytest.mark.parametrize("batch_rows", [0, -1])
def test_a_block_has_a_row(tmp_path, batch_rows):
    with pytest.raises(ValueError, match="blocks of at least one row"):
        apply_file(
            a_map(), written(tmp_path / "in.npy", some_rows(9)), tmp_path / "o.npy", batch_rows=batch_rows
        )


class _FullDisk(io.FileIO):
    """A file on a disk that has room for some bytes only."""

    room = 20_000

    def write(self, data):
        size = memoryview(data).nbytes
        if self.tell() + size > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch, suffix):
    path = written(tmp_path / "in.npy", some_rows())
    monkeypatch.setattr(files.os, "fdopen", _FullDisk)
    with pytest.raises(OSError, match="the disk is full; nothing was left at") as caught:
        apply_file(a_map(), path, tmp_path / f"out{suffix}", batch_rows=500)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads the peak memory from /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path):
    a_map(32, 32).save(tmp_path / "map.safetensors")
    program = (
        "import sys, re, pathlib, latalign\n"
        "from latalign.on_disk import apply_file\n"
        "apply_file(latalign.AffineMap.load(sys.argv[1]), sys.argv[2], sys.argv[3], batch_rows=2048)\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(re.search(r'VmHWM:\\s+(\\d+)', status)[1])\n"
    )
    peaks = []
    for count in (4_000, 600_000):  # half a MiB and 73 MiB
        path = written(tmp_path / f"{count}.npy", np.ones((count, 32), np.float32))
        call = [sys.executable, "-c", program, tmp_path / "map.safetensors", path, tmp_path / "out.npy"]
        peaks.append(int(subprocess.run(call, check=True, capture_output=True, text=True).stdout) / 1024)
    assert peaks[1] - peaks[0] < 16


@pytest.mark.parametrize(("source", "target"), list(product(SUFFIXES, SUFFIXES)))
def test_pairs_by_order(tmp_path, source, target):
    x, y = some_rows(20), some_rows(20, 3, np.float64)
    X, Y = read_pairs(written(tmp_path / f"x{source}", x), written(tmp_path / f"y{target}", y))
    np.testing.assert_array_equal(X, x)
    np.testing.assert_array_equal(Y, y)


def test_pairs_by_order_need_as_many_rows(tmp_path):
    x, y = written(tmp_path / "x.npy", some_rows(20)), written(tmp_path / "y.npy", some_rows(19))
    with pytest.raises(ValueError, match=r"x\.npy has 20 rows and .*y\.npy has 19, so they do not pair"):
        read_pairs(x, y)


def test_bad_rows_are_counted_in_the_file(tmp_path):
    rows = some_rows(20)
    rows[7, 0] = np.nan
    with pytest.raises(ValueError, match=r"y\.npy needs finite values; 1 of 20 rows .*the first is row 7"):
        read_pairs(written(tmp_path / "x.npy", some_rows(20)), written(tmp_path / "y.npy", rows))


class TestPairsById:
    @pytest.fixture
    def table(self, tmp_path):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")

        def table(name, ids, rows):
            columns = {"id": pa.array(ids), "v": pa.array([list(row) for row in rows])}
            pq.write_table(pa.table(columns), tmp_path / name)
            return tmp_path / name

        return table

    def test_rows_meet_their_own(self, table):
        rows = some_rows(30).astype(float)
        order = np.random.default_rng(0).permutation(30)
        source = table("x.parquet", [f"k{i}" for i in range(30)], rows)
        target = table("y.parquet", [f"k{i}" for i in order], rows[order] * 2)
        X, Y = read_pairs(source, target, id_column="id")
        np.testing.assert_array_equal(X, rows)
        np.testing.assert_array_equal(Y, rows * 2)

    def test_unmatched_ids_are_an_error_or_dropped(self, table):
        rows = some_rows(30).astype(float)
        source = table("x.parquet", range(30), rows)
        target = table("y.parquet", range(10, 40), rows)
        with pytest.raises(
            ValueError, match=r"10 of 30 source ids are missing in the target.*--unmatched drop"
        ):
            read_pairs(source, target, id_column="id")
        X, Y = read_pairs(source, target, id_column="id", unmatched="drop")
        np.testing.assert_array_equal(X, rows[10:])
        np.testing.assert_array_equal(Y, rows[:20])

    @pytest.mark.parametrize(
        ("ids", "words"),
        [
            (
                [0, 1, 1, 3, 3, 3],
                r"x\.parquet:v and .*y\.parquet:v: .*2 source ids occur more than once, 1 among them: in the "
                "rows 1 and 2",
            ),
            (
                [0, None, 2, 3, None, 5],
                r"x\.parquet:v and .* 2 of 6 source ids are missing .*the first in row 1",
            ),
            (["a", None, "c", "d", "e", "f"], "1 of 6 source ids are missing"),
            (["0", "1", "2", "3", "4", "5"], "ids of one kind on both sides"),
            (range(100, 106), "no id in common|missing in the target"),
        ],
    )
    def test_bad_ids_are_refused(self, table, ids, words):
        rows = some_rows(6).astype(float)
        with pytest.raises(ValueError, match=words):
            read_pairs(table("x.parquet", ids, rows), table("y.parquet", range(6), rows), id_column="id")

    def test_ids_need_a_table(self, tmp_path):
        path = written(tmp_path / "x.npy", some_rows(6))
        with pytest.raises(ValueError, match="ids stand beside the rows in tables only"):
            read_pairs(path, path, id_column="id")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, r"the disk is full; nothing was left at .*out\.lance"),
        (errno.EFBIG, r"cannot write .*out\.lance: File too large$"),
    ],
)
def test_what_lance_says_of_the_disk_is_told_as_ever(tmp_path, monkeypatch, number, words):
    """Its errors have no number, and name a file of the place where it was built."""
    lance = pytest.importorskip("lance")
    path = written(tmp_path / "in.npy", some_rows())

    def full(*arguments, **options):
        raise OSError(
            f"LanceError(IO): {os.strerror(number)} (os error {number}), /elsewhere/writer.rs:190:9"
        )

    monkeypatch.setattr(lance, "write_dataset", full)
    with pytest.raises(OSError, match=words) as caught:
        apply_file(a_map(), path, tmp_path / "out.lance")
    assert caught.value.errno == number
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("out", ["out.npy", "out.parquet"])
def test_a_bad_row_of_a_stream_is_named(tmp_path, out):
    pa = pytest.importorskip("pyarrow")
    rows = some_rows(100)
    rows[[57, 58, 80]] = np.nan
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 6)
    stream = pa.table({"v": lists}).to_reader(30)
    with pytest.raises(
        ValueError, match=r"RecordBatchReader>:v needs finite values; row 57 contains NaN or infinity"
    ):
        apply_file(a_map(), stream, tmp_path / out, batch_rows=20)
    assert list(tmp_path.iterdir()) == []
