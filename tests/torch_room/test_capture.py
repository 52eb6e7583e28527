"""Capturing what a submodule returns: the right rows, and the network afterwards as it was before."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from latalign.torch import capture  # noqa: E402


@pytest.fixture
def model():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.Dropout(0.9), nn.Linear(6, 4))
    return nn.Sequential(*[encoder, nn.ReLU(inplace=True), nn.Linear(4, 12)]).train()


@pytest.fixture
def images():
    return torch.randn(25, 3, 4)


def hooks(model):
    return sum(len(module._forward_hooks) for module in model.modules())


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.shared(self.shared(x))


@pytest.mark.parametrize("labelled", [True, False])
def test_rows_are_the_layers_output_in_order(model, images, labelled):
    data = TensorDataset(images, torch.arange(25)) if labelled else images
    found = capture(model, DataLoader(data, batch_size=8), "0")
    with torch.no_grad():
        expected = model[0].eval()(images).numpy()
    assert found.dtype == np.float32
    # Dropout is off, and the ReLU that works in place on the very tensor changes nothing.
    assert (found < 0).any()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_the_model_itself(model, images):
    found = capture(model, [images], "")
    with torch.no_grad():
        np.testing.assert_allclose(found, model.eval()(images).numpy(), rtol=0, atol=1e-6)


def test_items_are_flattened_to_rows():
    conv = nn.Conv2d(1, 2, 3)
    x = torch.randn(5, 1, 6, 6)
    found = capture(conv, DataLoader(x, batch_size=2), "")
    assert found.shape == (5, 2 * 4 * 4)
    np.testing.assert_allclose(found, conv(x).detach().flatten(1).numpy(), rtol=0, atol=1e-6)
    # One number an item is a row of one.
    assert capture(nn.Flatten(0), [torch.randn(3, 1)], "").shape == (3, 1)


def test_dtypes():
    for dtype, expected in ((torch.float64, np.float64), (torch.bfloat16, np.float32)):
        found = capture(nn.Linear(4, 2, dtype=dtype), [torch.ones(3, 4, dtype=dtype)], "")
        assert found.dtype == expected


@pytest.mark.parametrize("limit", [1, 8, 11, 25, 99])
def test_limit(model, images, limit):
    seen = []

    def loader():
        for batch in images.split(8):
            seen.append(len(batch))
            yield batch

    whole = capture(model, [images], "0")
    found = capture(model, loader(), "0", limit=limit)
    np.testing.assert_allclose(found, whole[:limit], rtol=0, atol=1e-6)
    assert len(seen) == -(-min(limit, 25) // 8)  # no batch more than is needed


def test_state_is_restored(model, images):
    model[0].eval()
    before = [module.training for module in model.modules()]
    assert len(set(before)) == 2
    capture(model, [images], "0.1")
    assert [module.training for module in model.modules()] == before
    assert hooks(model) == 0
    assert torch.is_grad_enabled()


def test_state_is_restored_when_the_loader_fails(model, images):
    def broken():
        yield images
        raise OSError("the disk is gone")

    before = [module.training for module in model.modules()]
    with pytest.raises(OSError, match="the disk is gone"):
        capture(model, broken(), "0")
    assert [module.training for module in model.modules()] == before
    assert hooks(model) == 0
    assert torch.is_grad_enabled()


def test_unknown_layers(model, images):
    named = nn.ModuleDict({"encoder": nn.Linear(2, 2), "decoder": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match=r"has no submodule 'encodr'; near it: encoder"):
        capture(named, [images], "encodr")
    with pytest.raises(ValueError, match=r"'xyz'; there are: encoder, decoder\. \"\" is the model itself"):
        capture(named, [images], "xyz")
    with pytest.raises(ValueError, match=r"and 10 more"):
        capture(nn.Sequential(*(nn.Identity() for _ in range(20))), [images], "xyz")
    with pytest.raises(ValueError, match=r"it has none"):
        capture(nn.Linear(2, 2), [images], "xyz")


def test_layers_that_are_not_called_once():
    model = Twice()
    with pytest.raises(ValueError, match=r"layer 'idle' was never called"):
        capture(model, [torch.ones(3, 4)], "idle")
    with pytest.raises(ValueError, match=r"called once a batch; 'shared' was called again"):
        capture(model, [torch.ones(3, 4)], "shared")
    assert hooks(model) == 0


def test_outputs_that_are_no_rows():
    with pytest.raises(TypeError, match=r"returns a tensor; the model itself returned tuple"):
        capture(nn.LSTM(4, 2), [torch.ones(3, 5, 4)], "")
    with pytest.raises(ValueError, match=r"for a batch of 3, .* returned the shape \(12,\)"):
        capture(nn.Flatten(0), [torch.ones(3, 4)], "")
    with pytest.raises(ValueError, match=r"items of one width; .* returned 4 values an item and then 5"):
        capture(nn.ReLU(), [torch.ones(3, 4), torch.ones(3, 5)], "")


@pytest.mark.parametrize(
    ("batch", "what"),
    [
        ({"x": torch.ones(2, 4)}, "dict"),
        (["a", "b"], "list with str first"),
        (torch.tensor(1.0), "Tensor"),
        ((), "tuple"),
    ],
)
def test_batches_that_are_not_understood(batch, what):
    with pytest.raises(TypeError, match=rf"first entry is one; got {what}"):
        capture(nn.Identity(), [batch], "")


def test_other_errors(model, images):
    with pytest.raises(TypeError, match=r"needs an nn\.Module; got function"):
        capture(lambda x: x, [images], "")
    with pytest.raises(ValueError, match=r"limit of 1 row or more; got 0"):
        capture(model, [images], "0", limit=0)
    with pytest.raises(ValueError, match=r"the loader gave none"):
        capture(model, [], "0")


def test_an_empty_batch_adds_no_rows(model, images):
    assert capture(model, [images[:0], images], "0").shape == (25, 4)
