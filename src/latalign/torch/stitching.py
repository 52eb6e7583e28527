"""The stitching MLP: a map that is learned from pairs, by gradient descent with early stopping."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from latalign._validation import Array, Pairs, Rows, as_generator
from latalign.evidence import StitchingEvidence
from latalign.maps import AffineMap
from latalign.select import groups_of, held_out
from latalign.stitching import StitchingMap
from latalign.torch.device import usable
from latalign.torch.layers import to_linear
from latalign.torch.threads import one_thread

_STEPS = 100_000  # as many epochs as make this many, unless told otherwise
_FEWEST_EPOCHS = 20
_STEPS_OF_PATIENCE = 100  # what an epoch counts at least, so that few pairs get their time
# Where the hidden units' biases start, beside pre-activations of deviation 0.6: most units are on.
_BIAS = 0.5
_BLOCK_ROWS = 4096


def fit_stitching(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    k: int = 2,
    lr: float = 1e-3,
    batch: int = 64,
    max_epochs: int | None = None,
    patience: int = 10,
    holdout: float = 0.1,
    random_state: int | np.random.Generator | None = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], object] | None = None,
) -> StitchingMap:
    """Train a stitching MLP from the space of X to the space of Y on rows that correspond (the anchors).

    Three layers with ReLU between (eq. 3 of [1]_), trained with Adam on the mean squared error. Some
    pairs are held out, and the weights of the epoch that did best on them are returned.

    Inside, each side is centred and divided by one number, its root mean square: where either space lies
    and what scale it has makes no difference. Hidden units begin with most of their inputs above zero, so
    that the network starts close to an affine map and few pairs bend it little.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        Row i of both is the same thing, seen by two models.
    k : int
        The hidden layers are k times as wide as the source. The paper takes 1, 2 and 4.
    lr : float
        Adam's step size.
    batch : int
        Pairs a step.
    max_epochs : int, optional
        Passes over the pairs at most: 100,000 steps, and 20 epochs at least, unless given.
    patience : int
        Stop after so many epochs without a smaller held-out error. An epoch of fewer than 100 steps
        counts as its share of 100, so few pairs are given as many steps as many are.
    holdout : float
        The share of the pairs to hold out, one at least; equal pairs stay together. With 0 there is no
        early stopping: exactly `max_epochs` are run, and the last weights returned.
    random_state : int, Generator or None
        Draws the first weights, the held-out pairs and the batches. The same seed gives the same map on
        the same machine and device. PyTorch's own random numbers are not used.
    device : torch.device or str
        Where it is trained.
    progress : callable, optional
        ``progress(done, total)`` after every epoch, in epochs; it may end before `total`.

    Returns
    -------
    StitchingMap
        With ``evidence``: pairs, epochs, errors, seconds. The map is applied by NumPy, on the processor;
        see `to_sequential` for the network.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If shapes do not fit, values are not finite, there are fewer than two pairs, all rows of a side
        are the same or squares of its values overflow float64, a parameter is out of range, the device is
        none, or the error becomes NaN or infinite.

    Notes
    -----
    The networks are small, so training keeps to one thread, which is faster than several on a machine
    that does anything else.

    References
    ----------
    .. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023, section 3.2.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> from latalign.torch import fit_stitching
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(2000, 4))
    >>> Y = np.abs(X + 0.5)
    >>> learned = fit_stitching(X[:1500], Y[:1500], k=4, max_epochs=60)
    >>> straight = latalign.fit(X[:1500], Y[:1500], "affine")
    >>> errors = [np.mean((map_(X[1500:]) - Y[1500:]) ** 2) for map_ in (learned, straight)]
    >>> bool(errors[0] < 0.05 * errors[1])
    True
    """
    began = time.perf_counter()
    recipe = _Recipe(
        k, lr, batch, max_epochs, patience, holdout, usable(device, "fit_stitching", torch.float32)
    )
    pairs = Pairs.of(X, Y, caller="fit_stitching")
    if len(pairs) < 2:
        raise ValueError(f"fit_stitching needs at least 2 pairs of rows; got {len(pairs)}")
    pairs.require_finite()
    source, target = _Scaled.of(pairs.source, "source X"), _Scaled.of(pairs.target, "target Y")
    rng = as_generator(random_state, "fit_stitching")
    held = _held_out(pairs, holdout, rng)
    # Whatever mode the caller is in (no_grad as well), here gradients are needed.
    with one_thread(), torch.inference_mode(False):
        inside, outside = (
            tuple(torch.from_numpy(side.values[which]).to(recipe.device) for side in (source, target))
            for which in (~held, held)
        )
        network = _network(source.values.shape[1], k, target.values.shape[1], rng).to(recipe.device)
        epochs, best_epoch = _train(network, inside, outside, recipe, rng, progress)
        training_error = _error(network, *inside)
        heldout_error = _error(network, *outside) if held.any() else None
    square = target.scale**2
    return StitchingMap(
        _layers(network, source, target),
        evidence=StitchingEvidence(
            anchors=len(pairs),
            heldout_anchors=int(held.sum()),
            epochs=epochs,
            best_epoch=best_epoch,
            training_error=_finite(training_error, "error on the training pairs", epochs, lr) * square,
            heldout_error=None if heldout_error is None else heldout_error * square,
            seconds=time.perf_counter() - began,
        ),
    )


def to_sequential(
    map: StitchingMap, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
) -> nn.Sequential:
    """Return the network that computes the same as a stitching map, to go on with in PyTorch.

    Parameters
    ----------
    map : StitchingMap
    dtype, device
        As in `to_linear`.

    Returns
    -------
    nn.Sequential
        Three nn.Linear with ReLU between. It can be trained further, or stand between the two halves of
        a `Stitched`.

    Raises
    ------
    TypeError
        If it is not a StitchingMap.
    ValueError
        If a value overflows the dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import torch
    >>> from latalign.torch import fit_stitching, to_sequential
    >>> X = np.random.default_rng(0).normal(size=(50, 3)).astype("float32")
    >>> found = fit_stitching(X, X[:, :2], max_epochs=3)
    >>> network = to_sequential(found)
    >>> bool(np.allclose(network(torch.from_numpy(X)).detach(), found(X), atol=1e-5))
    True
    """
    if not isinstance(map, StitchingMap):
        raise TypeError(
            f"to_sequential needs a StitchingMap (what fit_stitching returns); got {type(map).__name__}"
        )
    first, second, third = (to_linear(layer, dtype=dtype, device=device) for layer in map.layers)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)


@final
@dataclass(frozen=True, slots=True)
class _Recipe:
    """How to train, checked."""

    k: int
    lr: float
    batch: int
    max_epochs: int | None
    patience: int
    holdout: float
    device: torch.device

    def __post_init__(self) -> None:
        for name in ("k", "batch", "max_epochs", "patience"):
            value = getattr(self, name)
            if name == "max_epochs" and value is None:
                continue
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
                raise ValueError(f"fit_stitching: {name} is a whole number of 1 or more; got {value!r}")
        if not 0 < self.lr < math.inf:
            raise ValueError(f"fit_stitching: lr is a finite number above 0; got {self.lr!r}")
        if not 0 <= self.holdout < 1:
            raise ValueError(f"fit_stitching: holdout is a share 0 ≤ holdout < 1; got {self.holdout!r}")
        if self.holdout == 0 and self.max_epochs is None:
            raise ValueError(
                "fit_stitching: with holdout=0 nothing tells when to stop. Say how many epochs to run "
                "(max_epochs), or hold pairs out."
            )


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Scaled:
    """Rows of one space as the network sees them: (row − mean) / scale.

    One scale a space, not one a dimension: what is minimised stays the squared error of the rows, and
    the noise of a dimension that hardly varies is not blown up.
    """

    values: NDArray[np.float32]
    mean: Array
    scale: float

    @staticmethod
    def of(rows: Rows, name: str) -> _Scaled:
        if (rows == rows[0]).all():
            raise ValueError(
                f"fit_stitching needs rows that differ; all {len(rows)} rows of the {name} are the same"
            )
        parts = [slice(start, start + _BLOCK_ROWS) for start in range(0, len(rows), _BLOCK_ROWS)]
        with np.errstate(over="ignore", invalid="ignore"):
            # About the first row, so that no digits are lost where means are large.
            first = rows[0].astype(np.float64)
            mean = first + sum((rows[part] - first).sum(axis=0) for part in parts) / len(rows)
            # Divided by the largest value first, so that no square overflows or vanishes.
            largest = max(float(np.abs(rows[part] - mean).max()) for part in parts)
        if not largest * largest < math.inf:
            raise ValueError(
                f"fit_stitching: the values of the {name} are finite, but their squares overflow float64 "
                "(beyond 1e154). Divide the rows by a constant first."
            )
        values = np.empty(rows.shape, np.float32)
        for part in parts:
            values[part] = (rows[part] - mean) / largest
        root = math.sqrt(float(np.square(values, dtype=np.float64).mean()))
        values /= root
        return _Scaled(values, mean, largest * root)


def _held_out(pairs: Pairs, holdout: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the pairs to hold out, in whole groups of equal pairs, one group at least where any are asked for."""
    if holdout == 0:
        return np.zeros(len(pairs), dtype=bool)
    group = groups_of(pairs)
    smallest = int(np.bincount(group).min())
    return held_out(group, max(min(round(holdout * len(pairs)), len(pairs) - 1), smallest), rng)


def _network(dim_source: int, k: int, dim_target: int, rng: np.random.Generator) -> nn.Sequential:
    """Return the network with its first weights: those that nn.Linear has, but for the biases."""
    hidden = k * dim_source
    layers = [
        nn.Linear(*widths, device="meta", dtype=torch.float32).to_empty(device="cpu")
        for widths in ((dim_source, hidden), (hidden, hidden), (hidden, dim_target))
    ]
    with torch.no_grad():
        for layer, bias in zip(layers, (_BIAS, _BIAS, 0.0), strict=True):
            bound = layer.in_features**-0.5
            for parameter, start in ((layer.weight, 0.0), (layer.bias, bias)):
                drawn = start + rng.uniform(-bound, bound, tuple(parameter.shape))
                parameter.copy_(torch.from_numpy(drawn))
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])


def _train(
    network: nn.Sequential,
    inside: tuple[Tensor, ...],
    outside: tuple[Tensor, ...],
    recipe: _Recipe,
    rng: np.random.Generator,
    progress: Callable[[int, int], object] | None,
) -> tuple[int, int]:
    """Train the network in place, and return how many epochs were run and which one's weights it has."""
    X, Y = inside
    parameters = list(network.parameters())
    fused = X.device.type in ("cpu", "cuda")
    optimizer = torch.optim.Adam(parameters, lr=recipe.lr, fused=fused)
    steps = -(-len(X) // recipe.batch)
    last = recipe.max_epochs or max(_FEWEST_EPOCHS, -(-_STEPS // steps))
    patience = recipe.patience * max(1, -(-_STEPS_OF_PATIENCE // steps))
    best, best_epoch, epoch = math.inf, 0, 0
    kept: list[Tensor] = []
    for epoch in range(1, last + 1):
        # One tensor and permutations of it: a loader would cost more than the network's own work. Parts
        # of equal size, so that no step is taken after the few pairs that are left over.
        order = torch.from_numpy(rng.permutation(len(X))).to(X.device)
        total = torch.zeros((), device=X.device)
        for x, y in zip(X[order].tensor_split(steps), Y[order].tensor_split(steps), strict=True):
            loss = mse_loss(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
        _finite(float(total), "training loss", epoch, recipe.lr)
        if progress is not None:
            progress(epoch, last)
        if not len(outside[0]):
            continue
        error = _finite(_error(network, *outside), "held-out error", epoch, recipe.lr)
        if error < best:
            best, best_epoch = error, epoch
            kept = [parameter.detach().clone() for parameter in parameters]
        elif epoch - best_epoch >= patience:
            break
    if not len(outside[0]):
        return last, last
    with torch.no_grad():
        for parameter, values in zip(parameters, kept, strict=True):
            parameter.copy_(values)
    return epoch, best_epoch


def _error(network: nn.Module, X: Tensor, Y: Tensor) -> float:
    """Return the mean squared error per value."""
    with torch.no_grad():
        parts = zip(X.split(_BLOCK_ROWS), Y.split(_BLOCK_ROWS), strict=True)
        return sum(float(mse_loss(network(x), y, reduction="sum")) for x, y in parts) / Y.numel()


def _finite(value: float, name: str, epoch: int, lr: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"fit_stitching: the {name} became {value} in epoch {epoch}. Lower lr ({lr:g}).")
    return value


def _layers(
    network: nn.Sequential, source: _Scaled, target: _Scaled
) -> tuple[AffineMap, AffineMap, AffineMap]:
    """Return the layers as maps between the rows as they are, means and scales within the outer two."""
    (first, one), (second, two), (third, three) = (
        tuple(values.detach().to("cpu", torch.float64).numpy() for values in (layer.weight.T, layer.bias))
        for layer in network
        if isinstance(layer, nn.Linear)
    )
    return (
        AffineMap(source.mean, first / source.scale, one),
        AffineMap.of(second, two),
        AffineMap.of(third * target.scale, three * target.scale + target.mean),
    )
