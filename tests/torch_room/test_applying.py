"""Maps applied on a device, against the map itself; what needs a GPU waits for one."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from latalign import AffineMap  # noqa: E402
from latalign.torch import apply, to_linear  # noqa: E402

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch):
    """Blocks of a few hundred rows, so that a few thousand make several."""
    monkeypatch.setattr("latalign.moments._BLOCK_VALUES", 1)
    monkeypatch.setattr("latalign.torch.products._BLOCK_BYTES", 1)


def a_map(rng, mean=3.0):
    return AffineMap(
        rng.normal(size=6) + mean, rng.normal(size=(6, 4)), rng.normal(size=4) + mean, method="given"
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("n", [1, 1024, 5000])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(np.float16, 2e-3), (np.float32, 1e-6), (np.float64, 1e-14), (np.int32, 1e-14)]
)
def test_is_what_the_map_returns(rng, device, n, dtype, tolerance):
    map_ = a_map(rng)
    rows = (3 * rng.normal(size=(n, 6))).astype(dtype)
    expected = map_(rows)
    found = apply(map_, rows, device=device)
    assert isinstance(found, np.ndarray)
    tensor = apply(map_, torch.from_numpy(rows), device=device)
    assert isinstance(tensor, torch.Tensor)
    assert tensor.device.type == "cpu"
    for one in (found, tensor.numpy(), apply(map_, torch.from_numpy(rows).to(device)).cpu().numpy()):
        assert one.dtype == expected.dtype
        scale = np.abs(expected.astype(np.float64)).max()
        np.testing.assert_allclose(one, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", [">f2", ">f4", ">f8", ">i4"])
def test_the_other_byte_order(rng, dtype):
    map_, rows = a_map(rng), (9 * rng.normal(size=(300, 6))).astype(dtype)
    native = rows.astype(rows.dtype.newbyteorder("="))
    for found in (apply(map_, rows), map_(rows)):
        assert found.dtype == map_(native).dtype
        assert found.dtype.isnative
        np.testing.assert_allclose(found, map_(native), rtol=2e-3 if dtype == ">f2" else 1e-5, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_is_multiplied_in_float32(rng, device):
    map_ = a_map(rng)
    rows = torch.from_numpy(rng.normal(size=(2000, 6))).bfloat16()
    found = apply(map_, rows, device=device)
    assert found.dtype == torch.bfloat16
    expected = torch.from_numpy(map_(rows.double().numpy()))
    assert ((found.double() - expected).abs() <= 2.0**-8 * expected.abs() + 1e-5).all()


@pytest.mark.parametrize("device", DEVICES)
def test_two_means_keep_what_one_bias_loses(rng, device):
    map_ = a_map(rng, mean=1e4)
    rows = (rng.normal(size=(500, 6)) + 1e4).astype(np.float32)
    exact = map_(rows.astype(np.float64))
    tensor = torch.from_numpy(rows).to(device)
    with torch.no_grad():
        by_layer = to_linear(map_, device=device)(tensor).cpu().numpy()
    error, of_layer = (np.abs(y - exact).max() for y in (apply(map_, tensor).cpu().numpy(), by_layer))
    assert error <= 2e-7 * np.abs(exact).max()
    assert of_layer > 3 * error


def test_coefficients_that_have_no_room_in_float32(rng):
    map_ = AffineMap(np.zeros(2), np.array([[1e-60, 0.0], [0.0, 1e-60]]), np.zeros(2))
    rows = torch.full((3, 2), 1e30, dtype=torch.float32)
    np.testing.assert_allclose(apply(map_, rows).numpy(), map_(rows.numpy()))
    assert apply(map_, rows).max() > 0


@pytest.mark.parametrize("device", DEVICES)
def test_out_is_written_to(rng, tmp_path, device):
    map_, rows = a_map(rng), rng.normal(size=(3000, 6)).astype(np.float32)
    out = np.lib.format.open_memmap(tmp_path / "y.npy", mode="w+", dtype=np.float32, shape=(3000, 4))
    assert apply(map_, rows, device=device, out=out) is out
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), map_(rows), atol=1e-5)
    beside = torch.zeros(3000, 4)
    assert apply(map_, torch.from_numpy(rows), device=device, out=beside) is beside
    np.testing.assert_allclose(beside.numpy(), map_(rows), atol=1e-5)
    back = torch.from_numpy(np.zeros((4, 3000), np.float32)).T
    apply(map_, torch.from_numpy(rows), out=back)
    np.testing.assert_allclose(back.numpy(), map_(rows), atol=1e-5)


def test_an_out_that_does_not_fit(rng):
    map_, rows = a_map(rng), rng.normal(size=(5, 6)).astype(np.float32)
    for out in (np.zeros((5, 3), np.float32), np.zeros((5, 4)), torch.zeros(5, 4), "a file"):
        with pytest.raises(ValueError, match=r"needs an out that is a ndarray of shape \(5, 4\) and float32"):
            apply(map_, rows, out=out)
    with pytest.raises(ValueError, match=r"a Tensor of shape \(5, 4\) and torch.float32, .* got a ndarray"):
        apply(map_, torch.from_numpy(rows), out=np.zeros((5, 4), np.float32))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", [torch.from_numpy, np.asarray])
def test_bad_rows(rng, device, kind):
    map_, rows = a_map(rng), rng.normal(size=(3000, 6)).astype(np.float32)
    rows[[1500, 2900], 2] = np.nan, np.inf
    with pytest.raises(
        ValueError, match=r"apply needs finite values; 2 of 3000 rows .*the first is row 1500"
    ):
        apply(map_, kind(rows), device=device)
    with pytest.raises(ValueError, match=r"apply: mapped rows overflow (torch\.)?float16"):
        apply(map_, kind(np.full((3, 6), 6e4, np.float16)), device=device)
    with pytest.raises(ValueError, match=r"apply needs rows of 6 dimensions; got 5"):
        apply(map_, kind(rows[:, :5]), device=device)


def test_other_maps_are_refused():
    with pytest.raises(TypeError, match="apply needs an AffineMap"):
        apply(to_linear(AffineMap.of(np.eye(2))), np.eye(2))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_in_every_mode(rng, mode):
    map_, rows = a_map(rng), rng.normal(size=(3000, 6)).astype(np.float32)
    with mode():
        array, tensor = apply(map_, rows), apply(map_, torch.from_numpy(rows).requires_grad_())
    assert not tensor.requires_grad
    tensor += 1
    np.testing.assert_allclose(array, map_(rows), atol=1e-5)


@GPU
class TestOnAGpu:
    def test_arrays_go_there_by_themselves(self, rng):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.max_memory_allocated()
        map_, rows = a_map(rng), rng.normal(size=(100_000, 6)).astype(np.float32)
        np.testing.assert_allclose(apply(map_, rows), map_(rows), atol=1e-5)
        assert torch.cuda.max_memory_allocated() > before

    def test_memory_does_not_grow_with_the_rows(self, rng):
        map_, peaks = AffineMap.of(np.eye(256)), []
        for count in (10_000, 80_000):
            rows = rng.standard_normal((count, 256), dtype=np.float32)
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            np.testing.assert_array_equal(apply(map_, rows), rows)
            peaks.append(torch.cuda.max_memory_allocated())
        assert peaks[1] <= 1.1 * peaks[0]
