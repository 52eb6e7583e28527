"""What must work with no extra installed. `make test-minimal` runs it in an environment without any."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import latalign


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "latalign", *map(str, arguments)], capture_output=True, text=True
    )


def test_the_main_path(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 8))
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", X @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + 1)
    assert (
        run("fit", tmp_path / "x.npy", tmp_path / "y.npy", "-o", tmp_path / "m.safetensors").returncode == 0
    )
    assert (
        run("apply", tmp_path / "m.safetensors", tmp_path / "x.npy", "-o", tmp_path / "z.npy").returncode == 0
    )
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), np.load(tmp_path / "y.npy"), atol=1e-9)
    assert latalign.RigidAligner().fit(X, X).score(X, X) > 0.99


@pytest.mark.parametrize(
    ("module", "needs", "extra"),
    [("latalign.torch", "torch", "torch"), ("latalign.experiments.demo", "matplotlib", "experiments")],
)
def test_a_missing_extra_says_what_to_type(module, needs, extra):
    if importlib.util.find_spec(needs):
        pytest.skip(f"{needs} is installed here")
    with pytest.raises(ImportError, match=rf"pip install 'latalign\[{extra}\]'"):
        __import__(module)


def test_parquet_without_its_extra(tmp_path):
    if importlib.util.find_spec("pyarrow"):
        pytest.skip("pyarrow is installed here")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    done = run("compare", tmp_path / "x.parquet", tmp_path / "x.parquet")
    assert done.returncode != 0
    assert "pip install 'latalign[parquet]'" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("engine", "needs"), [("dask", "distributed"), ("ray", "ray")])
def test_an_engine_without_its_extra(tmp_path, engine, needs):
    if importlib.util.find_spec(needs):
        pytest.skip(f"{needs} is installed here")
    np.save(tmp_path / "x.npy", np.eye(4))
    done = run("fit", tmp_path / "x.npy", tmp_path / "x.npy", "-o", tmp_path / "m", "--engine", engine)
    assert done.returncode == 1
    assert f"pip install 'latalign[{engine}]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_demo_without_its_extra(tmp_path):
    if importlib.util.find_spec("torch"):
        pytest.skip("torch is installed here")
    done = run("demo", "-o", tmp_path)
    assert done.returncode == 1
    assert "pip install 'latalign[experiments]'" in done.stderr
    assert "Traceback" not in done.stderr
