"""A fit and an application on Ray, a worker of which dies: run by `test_ray.py` where nobody can reach it."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import latalign
from latalign import dealing, pairing, parts
from latalign.distributed import ray
from problems import pairs


class Killing:
    """Kills the worker that did a task, by its own number, when the first part is done."""

    def __init__(self, engine):
        self.engine, self.pid = engine, None

    def __call__(self, done, count):
        if self.pid is None:
            self.pid = next(self.engine.map(own_number, [None]))
            assert self.pid != os.getpid()
            os.kill(self.pid, signal.SIGKILL)


def own_number(_):
    return os.getpid()


def contents(place):
    return {path.name: path.read_bytes() for path in place.iterdir()}


def main(folder):
    # Nothing is small enough to be loaded, and parts are short: the workers are told what a part is.
    pairing._LOADED_BYTES = 0
    dealing._PART_ROWS = 8192
    parts._PART_BYTES = 10_000 * 16
    X, Y = pairs(np.random.default_rng(0), 200_000, 8, 4, dtype=np.float32)
    x, y = folder / "x.npy", folder / "y.npy"
    np.save(x, X)
    np.save(y, Y)
    map_ = latalign.AffineMap.of(np.random.default_rng(1).normal(size=(8, 4)))
    alone = latalign.fit_files(x, y, "auto", threads=1)
    latalign.apply_folder(map_, x, folder / "one", threads=1)
    with ray(workers=2) as engine:
        kill = Killing(engine)
        shared = latalign.fit_files(x, y, "auto", engine=engine, progress=kill)
        assert kill.pid is not None
        assert shared.map.matrix.tobytes() == alone.map.matrix.tobytes()
        assert (shared.map.evidence, shared.heldout) == (alone.map.evidence, alone.heldout)
        kill = Killing(engine)
        latalign.apply_folder(map_, x, folder / "two", engine=engine, progress=kill)
        assert kill.pid is not None
        assert contents(folder / "one") == contents(folder / "two")

        X[150_000, 3] = np.nan
        np.save(x, X)
        bad = r"x\.npy needs finite values; 1 of the rows 147456 to 155648 contain NaN or infinity .*row 150000\)"
        with pytest.raises(ValueError, match=bad):
            latalign.fit_files(x, y, "affine", engine=engine)
        with pytest.raises(ValueError, match=r"x\.npy needs finite values; 1 of 200000 rows"):
            latalign.apply_folder(map_, x, folder / "three", engine=engine)
        assert not (folder / "three").exists()
        with pytest.raises(OSError, match=r"Ray gave up: .*died"):
            list(engine.map(os._exit, [1]))
        assert list(engine.map(abs, [-1, -2, 3])) == [1, 2, 3]
    assert not [path for path in folder.rglob("*") if path.is_file() and not path.stat().st_size]
    print("all is well")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
