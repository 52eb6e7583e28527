"""How networks are trained and applied: all from one seed, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import mse_loss

from latalign.torch.threads import one_thread

Progress = Callable[[int, int], object]
"""``progress(done, total)``, called now and then."""

_BATCH = 1000  # images at a time where nothing is trained
_LOOK_EVERY = 50  # steps between two looks at the loss


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw PyTorch's random numbers from a seed within the block, and leave the user's own as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@final
@dataclass(frozen=True, slots=True)
class Training:
    """What a training was like.

    Attributes
    ----------
    losses : tuple of float
        The mean squared error over the batches of each epoch.
    seconds : float
    """

    losses: tuple[float, ...]
    seconds: float


@one_thread()
def train(
    network: nn.Module,
    inputs: NDArray[np.float32],
    outputs: NDArray[np.float32] | None = None,
    *,
    epochs: int,
    seed: int,
    batch: int = 64,
    lr: float = 1e-3,
    progress: Progress = lambda done, total: None,
) -> Training:
    """Train a network, in place, to return its input or what is asked of it: Adam on the mean squared error.

    Parameters
    ----------
    network : nn.Module
        On any device; the values follow it.
    inputs : float32 array of shape (n, …)
    outputs : float32 array of shape (n, …), optional
        What it is to return; the inputs unless given.
    epochs : int
        Passes over all inputs.
    seed : int
        Draws the batches: with the same weights at the start, the same machine ends with the same.
    batch : int
        Inputs a step.
    lr : float
        Adam's step size.
    progress : callable
        ``progress(done, total)`` in steps.

    Returns
    -------
    Training

    Raises
    ------
    ValueError
        If there are no inputs, or a number is out of range, or the loss becomes NaN or infinite.
    """
    name = type(network).__name__
    for what, value in (("inputs", len(inputs)), ("epochs", epochs), ("batch", batch)):
        if value < 1:
            raise ValueError(f"train needs 1 or more {what}; got {value}")
    began = time.perf_counter()
    device = next(network.parameters()).device
    # One tensor and permutations of it: a loader would cost more than the small networks' own work.
    data = torch.from_numpy(inputs).to(device)
    wanted = data if outputs is None else torch.from_numpy(outputs).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    order = torch.Generator().manual_seed(seed)
    steps = -(-len(data) // batch)
    losses: list[float] = []
    network.train()
    for epoch in range(epochs):
        total = torch.zeros((), dtype=torch.float64, device=device)
        for step, index in enumerate(torch.randperm(len(data), generator=order).split(batch), start=1):
            index = index.to(device)
            loss = mse_loss(network(data[index]), wanted[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(index)
            if step % _LOOK_EVERY == 0 or step == steps:
                if not torch.isfinite(total):
                    raise ValueError(
                        f"train: the loss of {name} became {float(total)} in epoch {epoch + 1} of {epochs}, "
                        f"by step {step}. Lower lr ({lr:g}), and look for NaN in the inputs."
                    )
                progress(epoch * steps + step, epochs * steps)
        losses.append(float(total) / len(data))
    network.eval()
    return Training(tuple(losses), time.perf_counter() - began)


@one_thread()
def applied(network: nn.Module, values: NDArray[Any]) -> NDArray[Any]:
    """Return what a network, or a part of one, makes of all values, in batches and without gradients."""
    device = next(network.parameters()).device
    with torch.inference_mode():
        parts = [network(part.to(device)).cpu() for part in torch.from_numpy(values).split(_BATCH)]
    return torch.cat(parts).numpy()


def reconstruction_error(
    decoder: nn.Module, codes: NDArray[np.float32], images: NDArray[np.float32]
) -> float:
    """Return the mean squared error, per pixel, of what a decoder makes of codes."""
    total = 0.0
    for start in range(0, len(codes), _BATCH):
        part = slice(start, start + _BATCH)
        total += float(np.square(applied(decoder, codes[part]) - images[part], dtype=np.float64).sum())
    return total / images.size
