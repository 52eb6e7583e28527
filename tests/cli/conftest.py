"""The folder in which the commands are called."""

import numpy as np
import pytest

import latalign
from calls import written
from problems import pairs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with pairs in every format, and a map; the working directory."""
    X, Y = pairs(np.random.default_rng(0), 300, 6, 6, noise=0.3, dtype=np.float32)
    for suffix in ("npy", "safetensors", "parquet"):
        written(tmp_path / f"x.{suffix}", X[:200])
        written(tmp_path / f"y.{suffix}", Y[:200])
    written(tmp_path / "more.npy", X[200:])
    written(tmp_path / "truth.npy", Y[200:])
    latalign.fit(X[:200], Y[:200], "affine").save(tmp_path / "map.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nothing_left(folder):
    """Nothing is new in the folder and nothing changed, when the test is over."""

    def state():
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    before = state()
    yield
    after = state()
    assert sorted(after) == sorted(before)
    assert after == before
