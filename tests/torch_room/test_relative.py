"""Relative codes inside networks: the numbers of the map, gradients that are right, and bad input."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from latalign import RelativeMap  # noqa: E402
from latalign.torch import Relative, RelativeEncoder, Stitched  # noqa: E402

SIMILARITIES = ("euclidean", "cosine")


@pytest.fixture
def codes(rng):
    return rng.normal(size=(50, 6)) + 2


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.fixture
def images():
    torch.manual_seed(1)
    return torch.rand(40, 3, 4)


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-13), (torch.float32, 2e-6), (torch.float16, 4e-3), (torch.bfloat16, 3e-2)],
)
def test_the_numbers_are_the_maps(codes, similarity, dtype, tolerance):
    x = torch.tensor(codes, dtype=dtype)
    found = Relative(x[:7], similarity)(x)
    values = x.double().numpy()
    assert found.dtype == dtype
    np.testing.assert_allclose(
        found.double().numpy(), RelativeMap(values[:7], similarity)(values), rtol=tolerance, atol=tolerance
    )


def test_distances_keep_their_digits_far_from_the_origin(rng):
    # More rows than the number from which PyTorch would take a matrix product.
    x = torch.tensor(2.0**-10 * rng.integers(-8, 8, size=(60, 5)) + 2.0**10, dtype=torch.float32)
    expected = RelativeMap(x[:40].numpy())(x.numpy())
    np.testing.assert_allclose(Relative(x[:40])(x).numpy(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_map_becomes_a_layer(codes, similarity):
    map = RelativeMap(codes[:7], similarity)
    layer = Relative(map.anchors, map.similarity)
    assert layer.anchors.dtype == torch.float32
    assert not list(layer.parameters())
    found = layer(torch.tensor(codes, dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found, map(codes), rtol=1e-5, atol=1e-6)
    other = Relative(np.zeros((7, 6)) + 1, similarity)
    other.load_state_dict(layer.state_dict())
    np.testing.assert_array_equal(other(torch.ones(2, 6)), layer(torch.ones(2, 6)))
    assert f"anchors=7, dim=6, similarity='{similarity}'" in repr(layer)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gradients_are_those_of_finite_differences(codes, similarity):
    layer = Relative(torch.tensor(codes[:4]), similarity)
    assert torch.autograd.gradcheck(layer, torch.tensor(codes[10:14], requires_grad=True))


def test_gradients_are_finite_where_a_row_is_an_anchor():
    x = torch.tensor([[1.0, 2.0], [4.0, 6.0]], requires_grad=True)
    found = Relative(x)(x)
    found.sum().backward()
    np.testing.assert_array_equal(found.diagonal().detach(), 0)
    # From its own anchor comes nothing; from the other, the direction away from it.
    np.testing.assert_allclose(x.grad, [[-0.6, -0.8], [0.6, 0.8]], rtol=1e-6)


def test_gradients_are_finite_at_a_zero_row():
    x = torch.zeros(2, 3, requires_grad=True)
    found = Relative(torch.eye(3), "cosine")(x)
    found.sum().backward()
    np.testing.assert_array_equal(found.detach(), 0)
    assert torch.isfinite(x.grad).all()


def test_tiny_and_huge_directions(codes):
    x = torch.tensor(codes, dtype=torch.float32)
    expected = Relative(x[:5], "cosine")(x)
    for scale in (1e-30, 1e30):
        np.testing.assert_allclose(Relative(x[:5] * scale, "cosine")(x * scale), expected, atol=1e-6)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_the_encoder_encodes_its_anchors(encoder, images, similarity):
    network = RelativeEncoder(encoder, images[:9], similarity)
    with torch.no_grad():
        found, values = network(images), encoder(images).numpy()
        expected = RelativeMap(values[:9], similarity)(values)
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
        # The same by a layer that holds the anchors' codes.
        fixed = nn.Sequential(encoder, Relative(network.anchor_codes(), similarity))
        np.testing.assert_allclose(fixed(images), found, rtol=0, atol=1e-6)
    assert "anchors=9" in repr(network)


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_gradients_flow_through_the_anchors(encoder, images, similarity):
    network = RelativeEncoder(encoder.double(), images[:5].double(), similarity)
    weight = encoder[3].weight

    def loss():
        return (network(images.double()) ** 2).sum()

    loss().backward()
    step = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        weight += 1e-6 * step
        after = loss()
        weight -= 2e-6 * step
        before = loss()
        weight += 1e-6 * step
    expected = (after - before) / 2e-6
    assert torch.isclose((weight.grad * step).sum(), expected, rtol=1e-5)
    # With the anchors held still it would be another number.
    still = nn.Sequential(encoder, Relative(network.anchor_codes(), similarity))
    weight.grad = None
    (still(images.double()) ** 2).sum().backward()
    assert not torch.isclose((weight.grad * step).sum(), expected, rtol=1e-2)


def test_anchors_follow_the_encoder(encoder, images):
    network = RelativeEncoder(encoder, images[:5])
    before = network.anchor_codes()
    with torch.no_grad():
        encoder[3].weight *= 2
    assert not torch.allclose(network.anchor_codes(), before)
    assert not network.anchor_codes().requires_grad


@pytest.mark.parametrize("similarity", SIMILARITIES)
def test_a_network_with_relative_codes_learns(encoder, images, similarity):
    torch.manual_seed(0)
    network = Stitched(RelativeEncoder(encoder, images[:8], similarity), nn.Identity(), nn.Linear(8, 12))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(100):
        # Among the images are the anchors: rows at distance 0.
        loss = nn.functional.mse_loss(network(images), images.flatten(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_batch_norm_treats_batch_and_anchors_alike(images):
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.BatchNorm1d(3)).train()
    network = RelativeEncoder(encoder, images[:5])
    found = network(images[:20])
    np.testing.assert_allclose(found[range(5), range(5)].detach(), 0, atol=1e-6)
    assert encoder[2].num_batches_tracked == 1


def test_errors(encoder, images, codes):
    with pytest.raises(ValueError, match="Relative: similarity is"):
        Relative(codes, "dot")
    with pytest.raises(ValueError, match=r"anchors of shape \(anchors, dim\); got \(6,\)"):
        Relative(codes[0])
    with pytest.raises(ValueError, match="finite anchors"):
        Relative(torch.tensor([[1.0, float("nan")]]))
    with pytest.raises(ValueError, match="with a direction; 1 of 2 are zero"):
        Relative(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), "cosine")
    with pytest.raises(ValueError, match="the anchors have 6 dimensions, the codes 3"):
        Relative(codes)(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"codes of shape \(batch, dim\); got \(2, 3, 6\)"):
        Relative(codes)(torch.ones(2, 3, 6))
    with pytest.raises(ValueError, match="RelativeEncoder: similarity is"):
        RelativeEncoder(encoder, images, "dot")
    with pytest.raises(TypeError, match=r"an nn.Module as encoder; got function"):
        RelativeEncoder(lambda x: x, images)
    with pytest.raises(TypeError, match="anchor inputs as a tensor; got ndarray"):
        RelativeEncoder(encoder, images.numpy())
    with pytest.raises(ValueError, match="one at least"):
        RelativeEncoder(encoder, images[:0])
    with pytest.raises(
        ValueError, match=r"entries like the anchors', \(3, 4\); got a batch of shape \(5, 4\)"
    ):
        RelativeEncoder(encoder, images)(torch.ones(5, 4))
    with pytest.raises(ValueError, match=r"codes of shape \(batch, dim\); got \(80, 3, 4\)"):
        RelativeEncoder(nn.Identity(), images)(images)
    with pytest.raises(TypeError, match=r"returned tuple. Wrap it"):
        RelativeEncoder(nn.LSTM(4, 2), images)(images)
