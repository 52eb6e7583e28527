"""Files that are multiplied on a device: the same map as by NumPy."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import latalign  # noqa: E402
from calls import done_json, refused, run  # noqa: E402
from latalign.torch import Place  # noqa: E402
from problems import pairs  # noqa: E402

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


@pytest.fixture
def files(rng, tmp_path, streamed):
    X, Y = pairs(rng, 4000, 8, 6, dtype=np.float32)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", Y)
    return tmp_path / "x.npy", tmp_path / "y.npy"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", ["rigid", "ridge", "shrunk", "auto"])
@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-9), ("fast", 1e-4)])
def test_the_same_map(files, device, method, precision, tolerance):
    def options():
        return {"precision": precision, "random_state": 3}

    by_numpy = latalign.fit_files(*files, method, **options())
    found = latalign.fit_files(*files, method, place=Place(device), **options())
    assert found.map.method == by_numpy.map.method
    np.testing.assert_allclose(found.map.matrix, by_numpy.map.matrix, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.map.offset, by_numpy.map.offset, rtol=0, atol=10 * tolerance)
    assert found.heldout.mapped.mse == pytest.approx(by_numpy.heldout.mapped.mse, rel=10 * tolerance)


def test_the_device_is_asked(files, monkeypatch):
    asked = []
    multiplied = Place.__call__
    monkeypatch.setattr(
        Place, "__call__", lambda self, *given: asked.append(given) or multiplied(self, *given)
    )
    latalign.fit_files(*files, "rigid", place=Place("cpu"))
    assert [entry[1:] for entry in asked] == [((8, 6), "double", "none")] * len(asked) != []


def test_bad_rows_are_counted_as_ever(files):
    rows = np.load(files[1])
    rows[[5, 2000]] = np.nan
    np.save(files[1], rows)
    with pytest.raises(ValueError, match=r"y\.npy needs finite values; 2 of 4000 rows"):
        latalign.fit_files(*files, "rigid", place=Place("cpu"))


def test_an_engine_and_a_place_are_too_much(files):
    with pytest.raises(ValueError, match="give an engine or a place, not both"):
        latalign.fit_files(*files, "rigid", place=Place("cpu"), engine=object())


def test_no_such_device():
    with pytest.raises(ValueError, match=r"latalign\.torch\.Place: 'nowhere' is no device that works here"):
        Place("nowhere")


class TestCommand:
    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_a_gpu_that_is_not_there(self, files, tmp_path):
        result = run("fit", *files, "-o", tmp_path / "m.safetensors", "--device", "cuda")
        refused(result, 1, "'cuda' is no device that works here")
        assert not (tmp_path / "m.safetensors").exists()

    def test_engines_have_processors(self, files, tmp_path):
        options = ("--device", "cuda", "--engine", "dask")
        refused(run("fit", *files, "-o", tmp_path / "m", *options), 2, "goes without --device cuda")

    @GPU
    def test_the_same_map(self, files, tmp_path):
        options = ("--method", "ridge", "--json")
        by_numpy = done_json(run("fit", *files, "-o", tmp_path / "a", *options))
        found = done_json(run("fit", *files, "-o", tmp_path / "b", *options, "--device", "cuda"))
        assert found["heldout"]["mapped"]["mse"] == pytest.approx(by_numpy["heldout"]["mapped"]["mse"])
        a, b = (latalign.AffineMap.load(tmp_path / name).matrix for name in "ab")
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-9)
