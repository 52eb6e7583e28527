"""Sources that change, are damaged or go away while they are read, or between two runs over them."""

import errno
import itertools
import os
import shutil

import numpy as np
import pytest

from foreign_files import ROWS, a_map, in_grid, in_table, pa, table
from latalign import AffineMap, apply_folder, parts
from latalign.io import stamps
from latalign.io.arrays import open_rows, write_rows
from latalign.io.protocol import Block, Shape
from latalign.io.stamps import stamp
from latalign.on_disk import apply_file
from latalign.pairing import paired

LONG = np.random.default_rng(0).normal(size=(4000, 6)).astype(np.float32)


def written(path, rows=LONG):
    """Write rows in many chunks, batches or fragments."""
    if path.suffix == ".zarr":
        pytest.importorskip("zarr").create_array(str(path), data=rows, chunks=(100, rows.shape[1]))
    elif path.suffix == ".lance":
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        lance = pytest.importorskip("lance")
        lance.write_dataset(pa.table({"v": lists}), str(path), max_rows_per_file=400)
    else:
        with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
            for part in np.array_split(rows, 40):
                writer.append(Block(part))
    return path


def chunks(path):
    """Return the files that hold the rows of a folder, in order."""
    inside = path / ("c" if path.suffix == ".zarr" else "data")
    return sorted((one for one in inside.rglob("*") if one.is_file()), key=lambda one: one.stat().st_mtime_ns)


def added_to(path):
    if path.suffix == ".lance":
        lists = pa.FixedSizeListArray.from_arrays(pa.array(LONG[:9].reshape(-1)), 6)
        pytest.importorskip("lance").write_dataset(pa.table({"v": lists}), str(path), mode="append")
    else:
        pytest.importorskip("zarr").open(str(path), mode="r+").append(LONG[:9])


def lost(path):
    chunks(path)[-1].unlink()


def another(path):
    shutil.rmtree(path)
    written(path, LONG + 1)


def overwritten(path):
    """Other rows in the place of the last ones."""
    *_, other, last = chunks(path)
    last.write_bytes(other.read_bytes())


CHANGES = [added_to, lost, another, overwritten]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("suffix", [".zarr", ".lance"])
class TestFolders:
    def test_a_change_within_is_noticed_while_it_is_mapped(self, tmp_path, suffix, change):
        path = written(tmp_path / f"a{suffix}")

        def act(done, total):
            if done == 1000:
                change(path)

        with pytest.raises(
            ValueError, match=r"changed by another program|truncated|ended early|damaged|removed"
        ):
            apply_file(a_map_of_6(), path, tmp_path / "out.npy", batch_rows=100, progress=act)
        assert not (tmp_path / "out.npy").exists()

    def test_a_change_within_is_noticed_while_it_is_fitted(self, tmp_path, suffix, change):
        path = written(tmp_path / f"a{suffix}")
        pairs = paired(open_rows(path), open_rows(written(tmp_path / "y.npy")))
        with pytest.raises(  # noqa: PT012 - where it is noticed depends on the change
            ValueError, match=r"changed by another program|truncated|ended early|damaged|removed"
        ):
            for number, _ in enumerate(pairs.blocks(100)):
                if number == 10:
                    change(path)

    def test_a_run_does_not_go_on_with_another_source(self, tmp_path, suffix, change, monkeypatch):
        """Every part is of the rows that are there now."""
        monkeypatch.setattr(parts, "_PART_BYTES", 1000 * 2 * 4)
        path = written(tmp_path / f"a{suffix}")
        with pytest.raises(RuntimeError, match="cut off"):
            apply_folder(a_map_of_6(), path, tmp_path / "out", resume=True, progress=cut_off_after(2))
        change(path)
        if suffix == ".lance" and change is lost:
            with pytest.raises(ValueError, match="truncated"):
                apply_folder(a_map_of_6(), path, tmp_path / "out", resume=True)
            return
        apply_folder(a_map_of_6(), path, tmp_path / "out", resume=True)
        apply_folder(a_map_of_6(), path, tmp_path / "whole")
        found, whole = (open_rows(tmp_path / name).load() for name in ("out", "whole"))
        np.testing.assert_array_equal(found, whole)

    def test_a_change_between_two_parts_is_noticed(self, tmp_path, suffix, change, monkeypatch):
        monkeypatch.setattr(parts, "_PART_BYTES", 1000 * 2 * 4)
        path = written(tmp_path / f"a{suffix}")

        def act(done, total):
            if done == 1000:
                change(path)

        with pytest.raises(
            ValueError, match=r"changed by another program|truncated|ended early|damaged|removed"
        ):
            apply_folder(a_map_of_6(), path, tmp_path / "out", progress=act)
        assert not (tmp_path / "out").exists()


def a_map_of_6():
    return AffineMap.of(np.random.default_rng(1).normal(size=(6, 2)))


def cut_off_after(count):
    calls = itertools.count(1)

    def act(done, total):
        if next(calls) == count:
            raise RuntimeError("cut off")

    return act


def test_of_lance_the_version_that_was_opened_is_read(tmp_path):
    path = written(tmp_path / "a.lance")
    reader = open_rows(path)
    added_to(path)
    assert open_rows(path).rows == 4009
    np.testing.assert_array_equal(reader.load(), LONG)
    tail = np.concatenate([block.rows for block in reader.blocks(100, 3900)])
    np.testing.assert_array_equal(tail, LONG[3900:])


class TestStamps:
    def test_a_copy_with_its_time_is_the_same_but_for_its_place(self, tmp_path):
        path = written(tmp_path / "a.npy")
        before, by_place = stamp([path]), stamp([path], inodes=True)
        shutil.copy2(path, tmp_path / "b.npy")
        os.replace(tmp_path / "b.npy", path)
        assert stamp([path]) == before
        assert stamp([path], inodes=True) != by_place

    def test_a_file_that_was_renamed_within(self, tmp_path):
        path = in_grid(tmp_path / "a.zarr")
        before = stamp([path])
        os.rename(path / "year", path / "yeah")
        assert stamp([path]) != before
        os.rename(path / "yeah", path / "year")
        assert stamp([path]) == before

    @pytest.mark.parametrize("suffix", [".npy", ".zarr"])
    def test_a_source_that_is_gone_is_not_called_an_output(self, tmp_path, suffix):
        path = written(tmp_path / f"a{suffix}")

        def act(done, total):
            if done == 1000:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

        with pytest.raises(ValueError, match=rf"a\{suffix} (was removed|was changed|is not a Zarr)"):
            apply_file(a_map_of_6(), path, tmp_path / "out.npy", batch_rows=100, progress=act)
        assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize("out", ["out.npy", "out.zarr", "out.h5", "out.parquet"])
def test_an_error_of_reading_is_not_blamed_on_the_output(tmp_path, monkeypatch, out):
    path = written(tmp_path / "a.npy")
    reader = open_rows(path)

    def broken(self, *arguments, **options):
        yield from itertools.islice(real(self, *arguments, **options), 3)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    real = type(reader).blocks
    monkeypatch.setattr(type(reader), "blocks", broken)
    with pytest.raises(OSError, match=r"cannot read .*a\.npy: Input/output error") as caught:
        apply_file(a_map_of_6(), path, tmp_path / out, batch_rows=100)
    assert caught.value.errno == errno.EIO
    assert [one.name for one in tmp_path.iterdir()] == ["a.npy"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}"])
def test_metadata_that_is_damaged_since(tmp_path, content):
    path = in_grid(tmp_path / "a.zarr")
    reader = open_rows(path)
    for file in path.rglob("zarr.json"):
        file.write_bytes(content)
    for read in (lambda: list(reader.blocks(20)), reader.load, lambda: reader.ids("id")):
        with pytest.raises(ValueError, match=r"a\.zarr.* is not a Zarr folder, or it is truncated"):
            read()


def test_an_array_that_is_another_since(tmp_path):
    path = in_grid(tmp_path / "a.zarr")
    reader = open_rows(path)
    shutil.rmtree(path)
    in_grid(path, np.ones((90, 4)))
    with pytest.raises(ValueError, match="was changed by another program since it was opened"):
        list(reader.blocks(20))


class TestAddresses:
    @pytest.fixture
    def store(self):
        pytest.importorskip("upath")
        store = pytest.importorskip("fsspec").filesystem("memory")
        yield store
        if store.exists("/rows"):
            store.rm("/rows", recursive=True)

    @pytest.fixture
    def there(self, store, tmp_path):
        in_table(tmp_path / "in.parquet", table())
        store.makedirs("/rows")

        def put(rows):
            in_table(tmp_path / "in.parquet", table(rows))
            store.put(str(tmp_path / "in.parquet"), "/rows/a.parquet")
            return "memory://rows/a.parquet"

        return put

    def test_a_run_does_not_go_on_with_another_source(self, there, tmp_path, monkeypatch):
        monkeypatch.setattr(parts, "_PART_BYTES", 30 * 2 * 4)
        address = there(ROWS)
        with pytest.raises(RuntimeError, match="cut off"):
            apply_folder(a_map(), address, tmp_path / "out", resume=True, progress=cut_off_after(2))
        there(ROWS[::-1].copy())
        apply_folder(a_map(), address, tmp_path / "out", resume=True)
        np.testing.assert_allclose(
            open_rows(tmp_path / "out").load(), a_map()(ROWS[::-1]), rtol=1e-5, atol=1e-6
        )

    def test_a_change_is_noticed(self, there, tmp_path):
        address = there(ROWS)

        def act(done, total):
            if done == 40:
                there(ROWS[::-1].copy())

        with pytest.raises(ValueError, match="was changed by another program while it was read"):
            apply_file(a_map(), address, tmp_path / "out.npy", batch_rows=20, progress=act)

    def test_a_chunk_that_is_lost_is_noticed(self, store, tmp_path):
        zarr = pytest.importorskip("zarr")
        zarr.create_array("memory://rows/a.zarr", data=ROWS, chunks=(20, 3))
        chunk = max(name for name in store.find("/rows/a.zarr") if "/c/" in name)

        def act(done, total):
            if done == 40:
                store.rm(chunk)

        with pytest.raises(ValueError, match="was changed by another program while it was read"):
            apply_file(a_map(), "memory://rows/a.zarr", tmp_path / "out.npy", batch_rows=20, progress=act)

    def test_a_store_that_tells_neither_time_nor_tag(self, there, store, tmp_path, monkeypatch):
        address = there(ROWS)

        def nothing(self, path):
            raise NotImplementedError

        monkeypatch.setattr(type(store), "modified", nothing)
        monkeypatch.setattr(stamps, "_MARKS", ())
        with pytest.raises(ValueError, match=r"a\.parquet has neither a time nor a tag in its store"):
            apply_folder(a_map(), address, tmp_path / "out", resume=True)
        assert apply_folder(a_map(), address, tmp_path / "out").rows == 90
