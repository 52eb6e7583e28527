"""The autoencoders and their training."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pooch")
pytest.importorskip("matplotlib")

from torch import nn  # noqa: E402

from latalign.experiments.networks import (  # noqa: E402
    ConvAutoencoder,
    MLPAutoencoder,
    WideMLPAutoencoder,
)
from latalign.experiments.training import applied, reconstruction_error, seeded, train  # noqa: E402

ARCHITECTURES = [ConvAutoencoder, MLPAutoencoder, WideMLPAutoencoder]


@pytest.fixture
def images(rng):
    """Images of two patterns, so that there is something to learn."""
    patterns = rng.normal(size=(2, 1, 8, 8))
    return (rng.normal(size=(200, 2)) @ patterns.reshape(2, -1)).reshape(-1, 1, 8, 8).astype(np.float32)


def made(architecture, seed=0, latent=4):
    with seeded(seed):
        return architecture(8, latent)


def state(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("latent", [2, 50])
def test_shapes(architecture, size, latent):
    network = architecture(size, latent)
    x = torch.randn(3, 1, size, size)
    codes = network.encoder(x)
    assert codes.shape == (3, latent)
    assert network.decoder(codes).shape == x.shape
    assert network(x).shape == x.shape


def test_the_layers_are_the_papers():
    # 16·9+16, 32·16·9+32, 1568·50+50; 50·1568+1568, 32·16·16+16, 16·16+1
    conv = 160 + 4640 + 78450 + 79968 + 8208 + 257
    assert sum(p.numel() for p in ConvAutoencoder(28, 50).parameters()) == conv
    mlp = (784 * 128 + 128) + (128 * 50 + 50) + (50 * 128 + 128) + (128 * 784 + 784)
    assert sum(p.numel() for p in MLPAutoencoder(28, 50).parameters()) == mlp


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_sigmoid_output_stays_between_0_and_1(architecture):
    out = architecture(8, 4, output="sigmoid")(torch.randn(5, 1, 8, 8) * 100)
    assert out.min() >= 0
    assert out.max() <= 1
    assert (architecture(8, 4)(torch.randn(5, 1, 8, 8) * 100) < 0).any()


def test_architecture_errors():
    with pytest.raises(ValueError, match=r"a multiple of 4; got 30"):
        ConvAutoencoder(30, 4)
    with pytest.raises(ValueError, match=r"MLPAutoencoder needs a latent size of 1 or more; got 0"):
        MLPAutoencoder(8, 0)
    with pytest.raises(ValueError, match=r'output is "linear" or "sigmoid"; got \'relu\''):
        MLPAutoencoder(8, 4, output="relu")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_learns_and_is_the_same_for_a_seed(architecture, images):
    one, two, other = (made(architecture) for _ in range(3))
    record = train(one, images, epochs=15, seed=7, lr=1e-2)
    assert len(record.losses) == 15
    assert record.losses[-1] < 0.5 * record.losses[0]
    assert record.seconds > 0
    assert not one.training
    train(two, images, epochs=15, seed=7, lr=1e-2)
    assert torch.equal(state(one), state(two))
    train(other, images, epochs=15, seed=8, lr=1e-2)
    assert not torch.equal(state(one), state(other))


def test_seeds_leave_the_users_random_numbers_alone(images):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(made(MLPAutoencoder), images, epochs=1, seed=0)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(state(made(ConvAutoencoder, 3)), state(made(ConvAutoencoder, 3)))
    assert not torch.equal(state(made(ConvAutoencoder, 3)), state(made(ConvAutoencoder, 4)))


def test_one_thread_is_used_and_the_users_number_restored(images):
    seen = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        network = made(MLPAutoencoder)
        network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
        train(network, images, epochs=1, seed=0)
        applied(network, images)
        assert set(seen) == {1}
        assert torch.get_num_threads() == 3
        with pytest.raises(ValueError, match="epochs"):
            train(network, images, epochs=0, seed=0)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_progress_reaches_the_end(images):
    seen = []
    train(
        made(MLPAutoencoder),
        images,
        epochs=3,
        seed=0,
        batch=2,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(50 * k, 300) for k in range(1, 7)]


def test_the_loss_of_an_epoch_is_the_mean_over_images(images):
    # With a step size of zero nothing moves, so that the loss is the error of the network as it is,
    # a last batch of another size included.
    network = made(MLPAutoencoder)
    record = train(network, images[:150], epochs=1, seed=0, lr=0.0)
    expected = reconstruction_error(network.decoder, applied(network.encoder, images[:150]), images[:150])
    assert record.losses[0] == pytest.approx(expected, rel=1e-5)


def test_training_errors(images):
    bad = images.copy()
    bad[17, 0, 3, 3] = np.nan
    with pytest.raises(
        ValueError, match=r"loss of MLPAutoencoder became nan in epoch 1 of 2, .*NaN in the inputs"
    ):
        train(made(MLPAutoencoder), bad, epochs=2, seed=0)
    with pytest.raises(ValueError, match=r"train needs 1 or more epochs; got 0"):
        train(made(MLPAutoencoder), images, epochs=0, seed=0)
    with pytest.raises(ValueError, match=r"train needs 1 or more inputs; got 0"):
        train(made(MLPAutoencoder), images[:0], epochs=1, seed=0)


def test_applied_and_error_over_several_batches(rng):
    layer = nn.Linear(3, 2).double()
    codes = rng.normal(size=(2500, 3))
    out = applied(layer, codes)
    np.testing.assert_allclose(
        out, codes @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), rtol=0, atol=1e-12
    )
    images = rng.normal(size=(2500, 2))
    assert reconstruction_error(layer, codes, images) == pytest.approx(((out - images) ** 2).mean())
