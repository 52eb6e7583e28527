"""Folders, patterns, threads and other formats on the command line, and what is said of bad ones."""

import os
import shutil
import subprocess

import numpy as np
import pytest

from calls import done, done_json, program, refused, run, written
from latalign import pairing
from latalign.io.arrays import FORMATS, open_rows

LIBRARIES = {
    ".parquet": "pyarrow",
    ".arrow": "pyarrow",
    ".feather": "pyarrow",
    ".h5": "h5py",
    ".hdf5": "h5py",
    ".lance": "lance",
    ".zarr": "zarr",
}


@pytest.fixture(params=sorted(FORMATS))
def suffix(request):
    if request.param in LIBRARIES:
        pytest.importorskip(LIBRARIES[request.param])
    return request.param


@pytest.fixture
def many(folder):
    for name in ("x", "y"):
        (folder / name).mkdir()
        for k, rows in enumerate(np.split(np.load(f"{name}.npy"), [70, 71])):
            written(folder / name / f"{k}.npy", rows)
    return folder


def place(tmp_path_factory, name, rows):
    path = tmp_path_factory.mktemp("rows") / name
    return written(path, rows)


@pytest.mark.usefixtures("nothing_left")
class TestBadInputOfEveryFormat:
    @pytest.mark.parametrize("large", [False, True])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_rows_that_are_not_finite(self, folder, tmp_path_factory, suffix, value, large, monkeypatch):
        if large:
            monkeypatch.setattr(pairing, "_LOADED_BYTES", 0)
        rows = np.load("x.npy")
        rows[[3, 150], 2] = value
        path = place(tmp_path_factory, f"bad{suffix}", rows)
        words = "2 of 200 rows contain NaN or infinity (the first is row 3"
        refused(run("fit", path, "y.npy", "-o", "new.safetensors"), 1, words)
        refused(run("fit", "x.npy", path, "-o", "new.safetensors", "--method", "affine"), 1, words)
        refused(run("compare", path, "y.npy"), 1, words)
        refused(run("evaluate", "map.safetensors", path, "y.npy"), 1, words)
        refused(run("apply", "map.safetensors", path, "-o", f"new{suffix}"), 1, words)
        refused(run("apply", "map.safetensors", path, "-o", "new/"), 1, words)

    @pytest.mark.parametrize("large", [False, True])
    def test_other_counts_and_widths(self, folder, tmp_path_factory, suffix, large, monkeypatch):
        if large:
            monkeypatch.setattr(pairing, "_LOADED_BYTES", 0)
        path = place(tmp_path_factory, f"bad{suffix}", np.load("x.npy")[:150, :5])
        refused(run("fit", path, "y.npy", "-o", "new.safetensors"), 1, "150 rows and y.npy has 200")
        refused(run("compare", path, "y.npy"), 1, "do not pair by order")
        refused(run("evaluate", "map.safetensors", path, path), 1, "5 dimensions; the map takes 6")
        refused(
            run("apply", "map.safetensors", path, "-o", f"new{suffix}"), 1, "5 dimensions; the map takes 6"
        )

    @pytest.mark.parametrize("content", ["nothing", "foreign", "half"])
    def test_a_broken_file(self, folder, tmp_path_factory, suffix, content):
        path = place(tmp_path_factory, f"bad{suffix}", np.load("x.npy"))
        if path.is_dir():
            # Of a folder what says what it is: its metadata, or its list of versions.
            known = [one for one in path.rglob("*") if one.suffix in (".json", ".manifest", ".lance")]
        else:
            known = [path]
        for one in known:
            whole = one.read_bytes()
            one.write_bytes(
                {"nothing": b"", "foreign": b"GIF89a" * 30, "half": whole[: len(whole) // 2]}[content]
            )
        refused(run("fit", path, "y.npy", "-o", "new.safetensors"), 1, "truncated")
        refused(run("apply", "map.safetensors", path, "-o", "new.npy"), 1, "truncated")
        refused(run("compare", "x.npy", path), 1, "truncated")

    def test_integers_and_texts_and_one_dimension(self, folder, tmp_path_factory):
        h5py = pytest.importorskip("h5py")
        path = tmp_path_factory.mktemp("rows") / "bad.h5"
        with h5py.File(path, "w") as file:
            file["one"] = np.ones(5)
            file["none"] = np.ones((0, 3))
            file["complex"] = np.ones((3, 3), complex)
        for name, words in {"one": "2-D", "none": "is empty", "complex": "holds complex128"}.items():
            refused(run("apply", "map.safetensors", f"{path}:{name}", "-o", "new.npy"), 1, words)

    def test_a_disk_that_is_full(self, folder, tmp_path_factory, suffix):
        small = tmp_path_factory.mktemp("small")
        if (
            os.name != "posix"
            or subprocess.run(
                ["mount", "-t", "tmpfs", "-o", "size=200k", "none", small], capture_output=True
            ).returncode
        ):
            pytest.skip("only who may mount a small disk can fill it")
        try:
            path = place(tmp_path_factory, f"wide{suffix}", np.random.default_rng(0).normal(size=(8000, 6)))
            process = program("apply", "map.safetensors", path, "-o", small / f"new{suffix}")
            out, err = process.communicate()
            assert (process.returncode, out) == (1, "")
            assert err.splitlines()[-1].startswith("Error: ")
            assert "disk is full" in err or "No space left" in err
            assert "Traceback" not in err
            assert os.listdir(small) == []
        finally:
            subprocess.run(["umount", small], check=True)


class TestManyFiles:
    @pytest.mark.parametrize("source", ["x", "x/*.npy", "x/"])
    def test_they_are_fitted_as_one(self, many, source):
        one = done_json(run("fit", "x.npy", "y.npy", "-o", "a.safetensors", "--json"))
        all_ = done_json(run("fit", source, "y", "-o", "b.safetensors", "--json"))
        assert one["evidence"] == all_["evidence"]
        assert (many / "a.safetensors").read_bytes() == (many / "b.safetensors").read_bytes()

    def test_a_folder_becomes_a_folder(self, many):
        assert "200 rows in 3 files" in done(run("apply", "map.safetensors", "x", "-o", "out/"))
        done(run("apply", "map.safetensors", "x.npy", "-o", "out.npy"))
        np.testing.assert_allclose(open_rows("out").load(), np.load("out.npy"), rtol=1e-5, atol=1e-5)
        refused(run("apply", "map.safetensors", "x", "-o", "out/"), 1, "it exists already")
        done(run("apply", "map.safetensors", "x", "-o", "out/", "--resume"))
        done(run("apply", "map.safetensors", "x", "-o", "one.npy"))
        np.testing.assert_array_equal(np.load("one.npy"), open_rows("out").load())

    def test_resume_goes_with_a_folder(self, many):
        refused(run("apply", "map.safetensors", "x", "-o", "new.npy", "--resume"), 2, "goes with a folder")

    def test_a_foreign_file_is_named(self, many):
        (many / "x" / "notes.txt").write_text("hello")
        refused(run("fit", "x", "y", "-o", "new.safetensors"), 1, "notes.txt is no file of rows")
        refused(run("apply", "map.safetensors", "x", "-o", "new/"), 1, "notes.txt is no file of rows")
        assert not (many / "new").exists()

    def test_nothing_that_is_there(self, many):
        refused(run("fit", "z/*.npy", "y", "-o", "new.safetensors"), 2, "there is no file z/*.npy")
        shutil.rmtree("x")
        os.mkdir("x")
        refused(run("fit", "x", "y", "-o", "new.safetensors"), 1, "there are no files in x")

    @pytest.mark.parametrize("threads", [1, 2])
    def test_threads(self, many, monkeypatch, threads):
        from threadpoolctl import threadpool_info

        seen = []
        real = np.matmul

        def looked(*arguments, **options):
            seen.extend(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas")
            return real(*arguments, **options)

        monkeypatch.setattr(pairing, "_LOADED_BYTES", 0)
        monkeypatch.setattr(np, "matmul", looked)
        call = ("fit", "x", "y", "-o", "a.safetensors", "--method", "affine", "--threads", threads)
        done(run(*call))
        assert seen
        assert max(seen) <= threads
        done(run("evaluate", "a.safetensors", "x", "y", "--threads", threads))
        done(run("compare", "x", "y", "--threads", threads))
        done(run("apply", "a.safetensors", "x", "-o", "out.npy", "--threads", threads))

    def test_what_is_searched_is_said(self, many, monkeypatch):
        monkeypatch.setattr(pairing, "_LOADED_BYTES", 0)
        assert "200 of them as queries among 200 drawn at random" in done(
            run("evaluate", "map.safetensors", "x", "y")
        )
        assert done_json(run("evaluate", "map.safetensors", "x", "y", "--json"))["searched"] == 200
