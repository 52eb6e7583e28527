"""Maps as layers: exact against map-then-layer, whatever the side, the widths and the bias."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from latalign import AffineMap  # noqa: E402
from latalign.torch import Stitched, fold_into, to_linear  # noqa: E402

WIDTHS = [(5, 5), (7, 3), (3, 7)]


def a_map(rng, dim_source, dim_target, shift=3.0):
    return AffineMap(
        rng.normal(size=dim_source) + shift,
        rng.normal(size=(dim_source, dim_target)),
        rng.normal(size=dim_target) - shift,
    )


def a_layer(rng, dim_in, dim_out, *, bias=True, dtype=torch.float64):
    layer = nn.Linear(dim_in, dim_out, bias=bias, dtype=dtype)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=tuple(parameter.shape))))
    return layer


def run(layer, rows):
    with torch.no_grad():
        return layer(torch.from_numpy(rows)).numpy()


@pytest.mark.parametrize("widths", WIDTHS)
def test_to_linear_is_the_map(rng, widths):
    map_ = a_map(rng, *widths)
    rows = rng.normal(size=(20, widths[0]))
    layer = to_linear(map_, dtype=torch.float64)
    assert (layer.in_features, layer.out_features) == widths
    np.testing.assert_allclose(run(layer, rows), map_(rows), rtol=0, atol=1e-12)


def test_to_linear_rounds_once_into_the_default_dtype(rng):
    map_ = a_map(rng, 6, 4)
    layer = to_linear(map_)
    assert layer.weight.dtype == torch.float32
    np.testing.assert_array_equal(layer.weight.detach().numpy(), map_.matrix.T.astype(np.float32))
    np.testing.assert_array_equal(layer.bias.detach().numpy(), map_.offset.astype(np.float32))
    assert to_linear(map_, dtype=torch.bfloat16, device="cpu").weight.dtype == torch.bfloat16


def test_to_linear_trains_and_spends_no_random_numbers(rng):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    layer = to_linear(a_map(rng, 3, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(parameter.requires_grad for parameter in layer.parameters())


def test_to_linear_errors(rng):
    with pytest.raises(TypeError, match=r"to_linear needs an AffineMap .*; got Linear"):
        to_linear(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"floating-point dtype; got torch\.int64"):
        to_linear(a_map(rng, 2, 2), dtype=torch.int64)
    with pytest.raises(ValueError, match=r"overflow torch\.float16; take a wider dtype"):
        to_linear(AffineMap.of([[1e6]]), dtype=torch.float16)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", WIDTHS)
def test_folded_before_a_layer(rng, widths, bias):
    map_, layer = a_map(rng, *widths), a_layer(rng, widths[1], 6, bias=bias)
    rows = rng.normal(size=(20, widths[0]))
    folded = fold_into(map_, layer, side="input")
    assert (folded.in_features, folded.out_features) == (widths[0], 6)
    np.testing.assert_allclose(run(folded, rows), run(layer, map_(rows)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", WIDTHS)
def test_folded_after_a_layer(rng, widths, bias):
    map_, layer = a_map(rng, *widths), a_layer(rng, 6, widths[0], bias=bias)
    rows = rng.normal(size=(20, 6))
    folded = fold_into(map_, layer, side="output")
    assert (folded.in_features, folded.out_features) == (6, widths[1])
    np.testing.assert_allclose(run(folded, rows), map_(run(layer, rows)), rtol=0, atol=1e-12)


def test_fold_keeps_dtype_mode_and_training_and_leaves_the_layer(rng):
    layer = a_layer(rng, 4, 4, bias=False, dtype=torch.float32).eval()
    layer.weight.requires_grad_(False)
    before = layer.weight.clone()
    folded = fold_into(a_map(rng, 4, 4), layer, side="input")
    assert folded is not layer
    assert torch.equal(layer.weight, before)
    assert layer.bias is None
    assert folded.weight.dtype == torch.float32
    assert not folded.training
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_fold_takes_products_in_float64(rng):
    # In float32 the two terms of the bias, 1e7 each, would cancel to noise.
    map_ = AffineMap(np.full(3, 1e7), np.eye(3), np.full(3, 1e7))
    layer = a_layer(rng, 3, 2, dtype=torch.float32)
    folded = fold_into(map_, layer, side="input")
    np.testing.assert_allclose(folded.bias.detach(), layer.bias.detach(), rtol=0, atol=1e-6)


def test_fold_errors(rng):
    map_ = a_map(rng, 3, 4)
    with pytest.raises(ValueError, match=r"the map returns 4 dimensions, the layer takes 5"):
        fold_into(map_, nn.Linear(5, 2), side="input")
    with pytest.raises(ValueError, match=r"the layer returns 2 dimensions, the map takes 3"):
        fold_into(map_, nn.Linear(5, 2), side="output")
    with pytest.raises(ValueError, match=r'side is "input" or "output"; got \'before\''):
        fold_into(map_, nn.Linear(4, 2), side="before")
    with pytest.raises(TypeError, match=r"needs an nn\.Linear .*; got Conv2d"):
        fold_into(map_, nn.Conv2d(1, 1, 1), side="input")
    with pytest.raises(TypeError, match=r"fold_into needs an AffineMap"):
        fold_into(np.eye(3), nn.Linear(4, 2), side="input")


def test_stitched_is_decoder_of_map_of_encoder(rng):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.Tanh()).double()
    decoder = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 12)).double()
    map_ = a_map(rng, 5, 3)
    x = torch.from_numpy(rng.normal(size=(9, 3, 4)))
    network = Stitched(encoder, map_, decoder)
    assert network.map.weight.dtype == torch.float64  # as the decoder
    with torch.no_grad():
        expected = run(decoder, map_(encoder(x).numpy()))
        np.testing.assert_allclose(network(x).numpy(), expected, rtol=0, atol=1e-12)
    # Folding the map into the decoder's first layer gives the same network with no extra layer.
    decoder[0] = fold_into(map_, decoder[0], side="input")
    with torch.no_grad():
        np.testing.assert_allclose(decoder(encoder(x)).numpy(), expected, rtol=0, atol=1e-12)


def test_gradients_flow_through_a_frozen_map(rng):
    network = Stitched(nn.Linear(6, 4), a_map(rng, 4, 3), nn.Linear(3, 2))
    x = torch.randn(5, 6, requires_grad=True)
    network(x).square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert network.encoder.weight.grad.abs().sum() > 0
    assert network.map.weight.grad is None
    assert {name for name, p in network.named_parameters() if not p.requires_grad} == {
        "map.weight",
        "map.bias",
    }


def test_a_module_as_map_is_taken_as_it_is():
    learned = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    network = Stitched(nn.Linear(6, 4), learned, nn.Linear(3, 2))
    assert network.map is learned
    network(torch.randn(5, 6)).sum().backward()
    assert learned[0].weight.grad is not None


def test_stitched_without_parameters_takes_the_default_dtype(rng):
    assert Stitched(nn.Identity(), a_map(rng, 2, 2), nn.Identity()).map.weight.dtype == torch.float32


def test_stitched_errors(rng):
    map_ = a_map(rng, 4, 3)
    with pytest.raises(
        ValueError, match=r"codes of shape \(batch, dim\); .* returned \(2, 4, 1, 1\).*Flatten"
    ):
        Stitched(nn.Conv2d(1, 4, 3), map_, nn.Linear(3, 2))(torch.zeros(2, 1, 3, 3))
    with pytest.raises(ValueError, match=r"takes codes of 4 dimensions; the encoder returned 5"):
        Stitched(nn.Linear(6, 5), map_, nn.Linear(3, 2))(torch.zeros(2, 6))
    with pytest.raises(TypeError, match=r"returns a tensor of codes; it returned tuple"):
        Stitched(nn.LSTM(6, 4), map_, nn.Linear(3, 2))(torch.zeros(2, 6))
    with pytest.raises(TypeError, match=r"as its decoder; got NoneType"):
        Stitched(nn.Identity(), map_, None)
    with pytest.raises(TypeError, match=r"an AffineMap, a StitchingMap or an nn\.Module as map; got ndarray"):
        Stitched(nn.Identity(), np.eye(3), nn.Identity())
