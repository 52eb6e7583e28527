"""Rows mapped into a folder, part by part, and gone on with."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from latalign import AffineMap, apply_folder, parts
from latalign.io import files
from latalign.io.arrays import open_rows, write_rows
from latalign.io.protocol import Block, Shape
from latalign.parts import MANIFEST, map_part, planned, record

ROWS = (np.random.default_rng(0).normal(size=(100, 6)) * 20).astype(np.float32)
SPLIT = [40, 41, 90]


def a_map(seed=0):
    rng = np.random.default_rng(seed)
    return AffineMap(rng.normal(size=6), rng.normal(size=(6, 4)), rng.normal(size=4))


def written(path, rows):
    with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
        writer.append(Block(rows))
    return path


@pytest.fixture(params=[".npy", ".parquet", ".zarr"])
def folder(request, tmp_path):
    library = {".parquet": "pyarrow", ".zarr": "zarr"}.get(request.param)
    if library:
        pytest.importorskip(library)
    (tmp_path / "in").mkdir()
    for name, rows in zip("dcba", np.split(ROWS, SPLIT)[::-1], strict=True):
        written(tmp_path / "in" / f"{name}{request.param}", rows)
    return tmp_path / "in"


def contents(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def test_files_keep_their_names_and_rows_their_order(folder, tmp_path):
    seen = []
    done = apply_folder(a_map(), folder, tmp_path / "out", progress=lambda *told: seen.append(told))
    assert (done.rows, done.parts, done.dim_target) == (100, 4, 4)
    assert seen == [(40, 100), (41, 100), (90, 100), (100, 100)]
    names = sorted(path.name for path in folder.iterdir())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MANIFEST, *names]
    for name, rows in zip(names, np.split(ROWS, SPLIT), strict=True):
        np.testing.assert_allclose(
            open_rows(tmp_path / "out" / name).load(), a_map()(rows), rtol=1e-5, atol=1e-4
        )
    # The folder is a source again: the manifest is no part of it.
    np.testing.assert_allclose(open_rows(tmp_path / "out").load(), a_map()(ROWS), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".safetensors"])
def test_one_file_is_cut_into_parts(tmp_path, monkeypatch, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(parts, "_PART_BYTES", 30 * 4 * 4)
    apply_folder(a_map(), written(tmp_path / f"in{suffix}", ROWS), tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [MANIFEST, *(f"part-0000{k}{suffix}" for k in range(4))]
    np.testing.assert_allclose(open_rows(tmp_path / "out").load(), a_map()(ROWS), rtol=1e-5, atol=1e-4)


def test_parts_can_be_done_in_any_order_by_anybody(folder, tmp_path):
    """What an engine of a cluster does."""
    apply_folder(a_map(), folder, tmp_path / "out", batch_rows=15)
    (tmp_path / "other").mkdir()
    for part in planned(open_rows(folder), a_map())[::-1]:
        map_part(a_map(), tmp_path / "other", 15, None, part)
        assert record(tmp_path / "other", part)["rows"] == part.stop - part.start
    if not any(path.suffix == ".zarr" for path in folder.iterdir()):
        assert contents(tmp_path / "other").items() <= contents(tmp_path / "out").items()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_killed_at_every_step(tmp_path, suffix):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    (tmp_path / "in").mkdir()
    for name, rows in zip("ab", np.split(ROWS[:50], [30]), strict=True):
        written(tmp_path / "in" / f"{name}{suffix}", rows)
    a_map().save(tmp_path / "map.safetensors")
    program = Path(__file__).parent / "killed_at_every_step.py"
    found = subprocess.run([sys.executable, program, tmp_path], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) > 40


class TestResume:
    @pytest.fixture
    def cut(self, folder, tmp_path):
        """A folder of which the last file is bad, and a run over it."""
        last = max(folder.iterdir())
        kept = tmp_path / f"kept{last.suffix}"
        last.rename(kept)
        bad = ROWS[90:].copy()
        bad[3] = np.nan
        written(last, bad)
        with pytest.raises(ValueError, match=r"1 of 10 rows contain NaN or infinity \(the first is row 3\)"):
            apply_folder(a_map(), folder, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        if last.is_dir():
            shutil.rmtree(last)
        kept.rename(last)
        return folder

    def mapped(self, monkeypatch):
        """Return the list of the parts that are mapped from now on."""
        names, real = [], parts.map_part

        def counted(*arguments, **options):
            names.append(arguments[-1].name)
            return real(*arguments, **options)

        monkeypatch.setattr(parts, "map_part", counted)
        return names

    def test_whole_parts_are_not_done_again(self, cut, tmp_path, monkeypatch):
        names = self.mapped(monkeypatch)
        apply_folder(a_map(), cut, tmp_path / "out", resume=True)
        assert names == [max(cut.iterdir()).name]
        apply_folder(a_map(), cut, tmp_path / "one")
        if names[0].endswith((".npy", ".parquet")):
            assert contents(tmp_path / "out") == contents(tmp_path / "one")

    def test_without_it_all_is_done_again(self, cut, tmp_path, monkeypatch):
        names = self.mapped(monkeypatch)
        apply_folder(a_map(), cut, tmp_path / "out")
        assert len(names) == 4

    def test_what_is_whole_already_is_left_as_it_is(self, folder, tmp_path, monkeypatch):
        apply_folder(a_map(), folder, tmp_path / "out")
        names = self.mapped(monkeypatch)
        assert apply_folder(a_map(), folder, tmp_path / "out", resume=True).rows == 100
        assert names == []
        with pytest.raises(FileExistsError, match="it exists already"):
            apply_folder(a_map(), folder, tmp_path / "out")

    def test_a_part_that_was_damaged_is_done_again(self, cut, tmp_path, monkeypatch):
        damaged = sorted((tmp_path / ".out.partial").iterdir())[1]
        inside = (
            damaged
            if damaged.is_file()
            else max(
                (path for path in damaged.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
            )
        )
        content = bytearray(inside.read_bytes())
        content[-1] ^= 1
        inside.write_bytes(content)
        names = self.mapped(monkeypatch)
        apply_folder(a_map(), cut, tmp_path / "out", resume=True)
        assert names == [damaged.name, max(cut.iterdir()).name]

    def test_a_file_that_is_another_now_is_done_again(self, cut, tmp_path, monkeypatch):
        first = min(cut.iterdir())
        if first.is_dir():
            shutil.rmtree(first)
        written(first, ROWS[:39])
        names = self.mapped(monkeypatch)
        apply_folder(a_map(), cut, tmp_path / "out", resume=True)
        assert first.name in names
        assert open_rows(tmp_path / "out").rows == 99

    @pytest.mark.parametrize("options", [{"map_": a_map(1)}, {"batch_rows": 7}])
    def test_another_map_does_not_go_on(self, cut, tmp_path, options):
        call = {"map_": a_map(), "input": cut, "output": tmp_path / "out", "resume": True} | options
        with pytest.raises(ValueError, match="made by another map, or in other blocks"):
            apply_folder(**call)

    @pytest.mark.parametrize("content", ["", "[]", "{}", '{"parts": 3}'])
    def test_a_manifest_that_is_none(self, cut, tmp_path, content):
        (tmp_path / ".out.partial" / MANIFEST).write_text(content)
        with pytest.raises(ValueError, match=rf"{MANIFEST} is not sound"):
            apply_folder(a_map(), cut, tmp_path / "out", resume=True)

    def test_with_nothing_to_go_on_with_it_begins(self, folder, tmp_path):
        assert apply_folder(a_map(), folder, tmp_path / "out", resume=True).rows == 100


def test_nothing_is_left_where_no_part_was_whole(tmp_path):
    (tmp_path / "in").mkdir()
    written(tmp_path / "in" / "a.npy", np.full((5, 6), np.nan))
    with pytest.raises(ValueError, match="5 of 5 rows"):
        apply_folder(a_map(), tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_an_empty_folder_is_taken_and_a_full_one_is_not(folder, tmp_path):
    (tmp_path / "out").mkdir()
    apply_folder(a_map(), folder, tmp_path / "out")
    with pytest.raises(FileExistsError, match="it exists already"):
        apply_folder(a_map(), folder, tmp_path / "out")
    with pytest.raises(FileExistsError, match="it exists already"):
        apply_folder(a_map(), folder, folder)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        apply_folder(a_map(), folder, tmp_path / "none" / "out")


def test_a_full_disk(folder, tmp_path, monkeypatch):
    if any(path.suffix == ".zarr" for path in folder.iterdir()):
        pytest.skip("writes through its own library")

    def full(handle, mode):
        os.close(handle)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fdopen", full)
    with pytest.raises(OSError, match="the disk is full"):
        apply_folder(a_map(), folder, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_what_has_no_parts(tmp_path):
    pa = pytest.importorskip("pyarrow")
    stream = pa.table({"v": pa.FixedSizeListArray.from_arrays(pa.array(ROWS.reshape(-1)), 6)})
    with pytest.raises(ValueError, match="no known number of rows"):
        apply_folder(a_map(), stream, tmp_path / "out")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "same.npy", ROWS)
    with pytest.raises(ValueError, match="two files of one name"):
        apply_folder(a_map(), f"{tmp_path}/?/*.npy", tmp_path / "out")


def test_other_widths(folder, tmp_path):
    with pytest.raises(ValueError, match="rows of 6 dimensions; the map takes 5"):
        apply_folder(AffineMap.of(np.eye(5)), folder, tmp_path / "out")
