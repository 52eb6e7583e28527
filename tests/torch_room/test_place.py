"""Files that are multiplied on a device: the same map as by NumPy."""

from contextlib import nullcontext

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import latalign  # noqa: E402
from calls import done_json, refused, run, written  # noqa: E402
from latalign import AffineMap, apply_file, apply_folder, dealing, on_disk, pairing  # noqa: E402
from latalign.io.arrays import open_rows  # noqa: E402
from latalign.pairing import paired  # noqa: E402
from latalign.torch import Place  # noqa: E402
from latalign.torch.device import usable  # noqa: E402
from latalign.torch.products import DeviceBuffers  # noqa: E402
from problems import assert_same_moments, pairs  # noqa: E402

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
@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-9), ("fast", 1e-6)])
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


@pytest.mark.parametrize(("folds", "size"), [(1, 3000), (5, 500)])
def test_rows_are_gathered_until_they_are_enough(files, monkeypatch, folds, size):
    """All folds together hold as many as the device multiplies at once."""
    monkeypatch.setattr("latalign.torch.place.rows_at_once", lambda *_: 3000)
    monkeypatch.setattr(dealing, "_PART_ROWS", 1 << 20)
    monkeypatch.setattr(dealing, "_GATHERED", 100)
    sizes, centred = [], DeviceBuffers.centred

    def counted(self, part, means, **options):
        assert isinstance(part.source, torch.Tensor)
        sizes.append(len(part))
        return centred(self, part, means, **options)

    monkeypatch.setattr(DeviceBuffers, "centred", counted)
    pairs = paired(open_rows(files[0]), open_rows(files[1]))
    deal = dealing.Deal(folds, grams="both")
    found = dealing.deal_out(pairs, deal, place=Place("cpu"))
    assert sum(sizes) == 4000
    assert sizes.count(size) >= 4000 // size - folds
    assert len([count for count in sizes if count != size]) <= folds
    by_numpy = dealing.deal_out(pairs, deal)
    for mine, its in zip(found.folds, by_numpy.folds, strict=True):
        assert_same_moments(mine, its, 1e-12)


@pytest.mark.parametrize("small", [False, True])
def test_bfloat16_when_it_is_asked_for(files, monkeypatch, small):
    """Rows that are loaded are multiplied in float32."""
    if small:
        monkeypatch.setattr(pairing, "_LOADED_BYTES", 32 << 20)
    coarse = nullcontext() if small else pytest.warns(latalign.IllConditionedWarning, match="by 2e-01")
    with coarse:
        found = latalign.fit_files(*files, "affine", precision="bfloat16", place=Place("cpu"))
    exact = latalign.fit_files(*files, "affine")
    error = np.abs(found.map.matrix - exact.map.matrix).max()
    assert error < (1e-5 if small else 0.03)
    if not small:
        assert error > 1e-6
    with pytest.raises(ValueError, match=r'"bfloat16" is for a device: give place=latalign\.torch\.Place'):
        latalign.fit_files(*files, "affine", precision="bfloat16")


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


@pytest.mark.parametrize("words", ["CUDA out of memory. Tried", "CUDA error: out of memory"])
def test_a_device_without_room_is_one_all_the_same(monkeypatch, words):
    def full(*arguments, **options):
        raise RuntimeError(words)

    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(MemoryError, match=r"all memory of 'cpu' is taken \(CUDA .*End what else uses it"):
        usable("cpu", "x")


def a_map(seed=0, **more):
    rng = np.random.default_rng(seed)
    return AffineMap(rng.normal(size=8), rng.normal(size=(8, 3)), rng.normal(size=3), **more)


@pytest.mark.parametrize("device", DEVICES)
class TestApplied:
    @pytest.fixture
    def rows(self, rng):
        return (rng.normal(size=(3000, 8)) + 5).astype(np.float32)

    @pytest.mark.parametrize("suffix", [".npy", ".parquet", ".zarr"])
    @pytest.mark.parametrize("threads", [1, 2])
    def test_the_same_rows(self, rows, tmp_path, device, suffix, threads):
        if suffix != ".npy":
            pytest.importorskip({".parquet": "pyarrow", ".zarr": "zarr"}[suffix])
        source, seen = written(tmp_path / f"x{suffix}", rows), []
        options = {"batch_rows": 70, "threads": threads, "progress": lambda *told: seen.append(told)}
        done = apply_file(a_map(), source, tmp_path / f"y{suffix}", place=Place(device), **options)
        assert (done.rows, done.dtype, seen[-1]) == (3000, "float32", (3000, 3000))
        expected = a_map()(rows)
        found = open_rows(tmp_path / f"y{suffix}").load()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())

    @pytest.mark.parametrize("dtype", ["float16", "float64", "int16", ">f4"])
    def test_of_every_dtype(self, rows, tmp_path, device, dtype):
        rows = rows.astype(dtype)
        np.save(tmp_path / "x.npy", rows)
        apply_file(a_map(), tmp_path / "x.npy", tmp_path / "y.npy", place=Place(device))
        apply_file(a_map(), tmp_path / "x.npy", tmp_path / "z.npy")
        y, z = np.load(tmp_path / "y.npy"), np.load(tmp_path / "z.npy")
        assert y.dtype == z.dtype
        np.testing.assert_allclose(y, z, rtol=1e-3 if dtype == "float16" else 1e-6, atol=1e-5)

    def test_what_stands_beside_goes_along(self, rows, tmp_path, device):
        pa = pytest.importorskip("pyarrow")
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 8)
        stream = pa.table({"id": range(3000), "v": lists}).to_reader(999)
        X, Y = pairs(np.random.default_rng(0), 300, 8, 3, noise=0.3, dtype=np.float32)
        map_ = latalign.calibrate(latalign.fit(X, Y, "affine"), X, Y)
        apply_file(map_, stream, tmp_path / "y.parquet", level=0.8, batch_rows=64, place=Place(device))
        found = pytest.importorskip("pyarrow.parquet").read_table(tmp_path / "y.parquet")
        assert found["id"].to_pylist() == list(range(3000))
        radius = map_.uncertainty.radius(rows, 0.8)
        np.testing.assert_allclose(found["uncertainty"].to_numpy(), radius, rtol=1e-6)
        mapped = np.array(found["v"].to_pylist())
        np.testing.assert_allclose(mapped, map_(rows), rtol=0, atol=1e-5)

    def test_bad_rows_are_counted_as_ever(self, rows, tmp_path, device):
        pa = pytest.importorskip("pyarrow")
        rows[[1500, 2900], 3] = np.nan, np.inf
        source, options = written(tmp_path / "x.npy", rows), {"place": Place(device), "batch_rows": 64}
        with pytest.raises(ValueError, match=r"x\.npy needs finite values; 2 of 3000 rows .*is row 1500"):
            apply_file(a_map(), source, tmp_path / "y.npy", **options)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 8)
        with pytest.raises(ValueError, match=r"Reader>:v needs finite values; row 1500 contains NaN"):
            apply_file(a_map(), pa.table({"v": lists}).to_reader(999), tmp_path / "y.npy", **options)
        written(tmp_path / "h.npy", np.full((9, 8), 6e4, np.float16))
        with pytest.raises(ValueError, match="AffineMap: mapped rows overflow float16"):
            apply_file(a_map(), tmp_path / "h.npy", tmp_path / "y.npy", **options)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["h.npy", "x.npy"]

    def test_into_a_folder(self, rows, tmp_path, device):
        source, place = written(tmp_path / "x.npy", rows), Place(device)
        apply_folder(a_map(), source, tmp_path / "out", place=place)
        expected = a_map()(rows)
        found = open_rows(tmp_path / "out").load()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
        assert apply_folder(a_map(), source, tmp_path / "out", place=place, resume=True).rows == 3000
        with pytest.raises(ValueError, match="made by another map, or in other blocks"):
            apply_folder(a_map(), source, tmp_path / "out", resume=True)
        with pytest.raises(ValueError, match="give an engine or a place, not both"):
            apply_folder(a_map(), source, tmp_path / "more", place=place, engine=object())

    def test_other_maps_are_refused(self, rows, tmp_path, device):
        map_ = latalign.RelativeMap(rows[:20])
        with pytest.raises(TypeError, match=r"latalign\.torch\.Place needs an AffineMap"):
            apply_file(
                map_, written(tmp_path / "x.npy", rows[:, :8]), tmp_path / "y.npy", place=Place(device)
            )
        assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]

    def test_a_gpu_gets_more_rows_at_a_time(self, device, monkeypatch):
        monkeypatch.setattr("latalign.torch.place.rows_at_once", lambda *_: 4_000_000)
        assert on_disk.block_rows(a_map(), None, Place(device)) == 1_000_000
        assert on_disk.block_rows(a_map(), 7, Place(device)) == 7


class TestCommand:
    @pytest.fixture
    def gpu(self, monkeypatch):
        """A processor that is taken for one."""
        monkeypatch.setattr(latalign.torch, "Place", lambda device: {"cuda": Place("cpu")}[device])

    def test_apply(self, files, tmp_path, gpu, monkeypatch):
        a_map().save(tmp_path / "m.safetensors")
        call = ("apply", tmp_path / "m.safetensors", files[0], "-o")
        done_json(run(*call, tmp_path / "a.npy", "--json"))
        asked, real = [], Place.applied
        monkeypatch.setattr(Place, "applied", lambda *given: asked.append(1) or real(*given))
        done_json(run(*call, tmp_path / "b.npy", "--json", "--device", "cuda"))
        done_json(run(*call, f"{tmp_path}/c/", "--json", "--device", "cuda"))
        a, b = np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy")
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(a).max())
        np.testing.assert_array_equal(open_rows(tmp_path / "c").load(), b)
        assert len(asked) == 2
        options = ("--device", "cuda", "--engine", "dask")
        refused(run(*call, f"{tmp_path}/d/", *options), 2, "goes without --device cuda")

    def test_bfloat16(self, files, tmp_path, gpu):
        call = ("fit", *files, "-o", tmp_path / "m.safetensors", "--precision", "bfloat16", "--json")
        refused(run(*call), 2, "--precision bfloat16 goes with --device cuda")
        refused(run(*call, "--curve", "--device", "cuda"), 2, "goes without --precision bfloat16")
        assert done_json(run(*call, "--device", "cuda"))["heldout"]["rows"] > 100

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
    def test_apply_where_no_gpu_is(self, files, tmp_path):
        a_map().save(tmp_path / "m.safetensors")
        call = ("apply", tmp_path / "m.safetensors", files[0], "-o", tmp_path / "b.npy", "--device", "cuda")
        refused(run(*call), 1, "'cuda' is no device that works here")
        assert not (tmp_path / "b.npy").exists()

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
