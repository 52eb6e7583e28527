"""Two real workers of Dask on loopback."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import latalign
from latalign import dealing, pairing, parts
from latalign.distributed import dask
from problems import pairs

distributed = pytest.importorskip("distributed")

ROWS = 200_000


@pytest.fixture(scope="module")
def engine():
    with dask(workers=2) as started:
        yield started


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    X, Y = pairs(np.random.default_rng(0), ROWS, 8, 4, dtype=np.float32)
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", Y)
    return folder


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Nothing is small enough to be loaded, and parts are short: the workers are told what a part is."""
    monkeypatch.setattr(pairing, "_LOADED_BYTES", 0)
    monkeypatch.setattr(dealing, "_PART_ROWS", 8192)
    monkeypatch.setattr(parts, "_PART_BYTES", 10_000 * 16)


def contents(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


class Killing:
    """Kills one of the workers, by its own number, when the first part is done."""

    def __init__(self, engine):
        self.client, self.pid = engine.client, None

    def __call__(self, done, count):
        if self.pid is None:
            self.pid = min(self.client.run(os.getpid).values())
            os.kill(self.pid, signal.SIGKILL)


def test_they_are_two_and_listen_on_loopback_alone(engine):
    assert len(engine.client.run(os.getpid)) == 2
    addresses = [engine.client.scheduler.address, *engine.client.scheduler_info(n_workers=-1)["workers"]]
    assert all(address.startswith("tcp://127.0.0.1:") for address in addresses)


@pytest.mark.parametrize("killed", [False, True])
def test_a_fit_has_the_bits_of_one_process(engine, files, killed):
    x, y = files / "x.npy", files / "y.npy"
    alone = latalign.fit_files(x, y, "auto", threads=1)
    kill = Killing(engine) if killed else None
    shared = latalign.fit_files(x, y, "auto", engine=engine, progress=kill)
    assert shared.map.matrix.tobytes() == alone.map.matrix.tobytes()
    assert (shared.map.evidence, shared.heldout) == (alone.map.evidence, alone.heldout)
    assert kill is None or kill.pid is not None


@pytest.mark.parametrize("killed", [False, True])
def test_files_are_byte_for_byte_those_of_one_process(engine, files, tmp_path, killed):
    map_ = latalign.AffineMap.of(np.random.default_rng(1).normal(size=(8, 4)))
    done = latalign.apply_folder(map_, files / "x.npy", tmp_path / "one", threads=1)
    kill = Killing(engine) if killed else None
    latalign.apply_folder(map_, files / "x.npy", tmp_path / "two", engine=engine, progress=kill)
    assert done.parts == 20
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert kill is None or kill.pid is not None


def test_a_poisoned_part_stops_the_run_and_is_named(engine, files, tmp_path):
    X = np.load(files / "x.npy")
    X[150_000, 3] = np.nan
    np.save(tmp_path / "x.npy", X)
    expected = (
        r"x\.npy needs finite values; 1 of the rows 147456 to 155648 contain NaN or infinity .*row 150000\)"
    )
    with pytest.raises(ValueError, match=expected):
        latalign.fit_files(tmp_path / "x.npy", files / "y.npy", "affine", engine=engine)
    map_ = latalign.AffineMap.of(np.eye(8))
    with pytest.raises(ValueError, match=r"x\.npy needs finite values; 1 of 200000 rows"):
        latalign.apply_folder(map_, tmp_path / "x.npy", tmp_path / "out", engine=engine)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_cut_meanwhile_is_named(engine, files, tmp_path):
    (tmp_path / "x").mkdir()
    for k, part in enumerate(np.split(np.load(files / "x.npy"), 20)):
        np.save(tmp_path / "x" / f"{k:02}.npy", part)
    last = tmp_path / "x" / "19.npy"

    def cut(*_):
        last.write_bytes(last.read_bytes()[:5000])

    with pytest.raises(ValueError, match=r"19\.npy"):
        latalign.fit_files(tmp_path / "x", files / "y.npy", "affine", engine=engine, progress=cut)
    map_ = latalign.AffineMap.of(np.eye(8))
    with pytest.raises(ValueError, match=r"19\.npy"):
        latalign.apply_folder(map_, tmp_path / "x", tmp_path / "out", engine=engine)
    assert not (tmp_path / "out").exists()
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and not path.stat().st_size]


def test_a_part_that_kills_every_worker_is_given_up(engine):
    with pytest.raises(OSError, match=r"Dask gave up: .*worker"):
        list(engine.map(os._exit, [1]))
    assert list(engine.map(abs, [-1, -2, 3])) == [1, 2, 3]


def test_no_scheduler():
    with (
        pytest.importorskip("dask").config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(OSError, match=r"127\.0\.0\.1:9 "),
        dask("tcp://127.0.0.1:9"),
    ):
        pass


def test_the_command_line_with_a_scheduler_that_runs(engine, tmp_path):
    X, Y = pairs(np.random.default_rng(2), 1_200_000, 8, 4, dtype=np.float32)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    on = ["--engine", "dask", "--scheduler", engine.client.scheduler.address]

    def run(*arguments):
        command = [sys.executable, "-m", "latalign", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stderr
        return done

    run("fit", "x.npy", "y.npy", "-o", "one.safetensors", "--method", "ridge", "--threads", "1")
    run("fit", "x.npy", "y.npy", "-o", "two.safetensors", "--method", "ridge", *on)
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "two.safetensors").read_bytes()
    run("apply", "one.safetensors", "x.npy", "-o", "one/", "--threads", "1")
    run("apply", "one.safetensors", "x.npy", "-o", "two/", *on)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
