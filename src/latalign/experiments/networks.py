"""Two autoencoders of different architecture, and how they are trained, all from one seed."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from latalign.experiments.data import Output

Progress = Callable[[int, int], None]
"""``progress(done, total)``, called now and then."""

_BATCH = 1000  # images at a time where nothing is trained
_LOOK_EVERY = 50  # steps between two looks at the loss


class Autoencoder(nn.Module, ABC):
    """An encoder of images (n, 1, size, size) into codes (n, latent), and a decoder back. Abstract.

    Parameters
    ----------
    image_size : int
        The width and height of an image.
    latent : int
        The width of a code.
    output : {"linear", "sigmoid"}
        How the decoder ends.

    Attributes
    ----------
    encoder, decoder : nn.Module
    """

    def __init__(self, image_size: int, latent: int, *, output: Output = "linear") -> None:
        super().__init__()
        if latent < 1:
            raise ValueError(f"{type(self).__name__} needs a latent size of 1 or more; got {latent}")
        if output not in ("linear", "sigmoid"):
            raise ValueError(f'{type(self).__name__}: output is "linear" or "sigmoid"; got {output!r}')
        self.image_size = image_size
        self.latent = latent
        encoder, decoder = self._layers(image_size, latent)
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.Sequential(*decoder, *([nn.Sigmoid()] if output == "sigmoid" else []))

    @staticmethod
    @abstractmethod
    def _layers(image_size: int, latent: int) -> tuple[list[nn.Module], list[nn.Module]]:
        """Return the layers of the encoder and those of the decoder."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstructions of the images."""
        return self.decoder(self.encoder(images))


@final
class ConvAutoencoder(Autoencoder):
    """Two strided convolutions (16 and 32 channels) and a linear layer, mirrored.

    Examples
    --------
    >>> import torch
    >>> from latalign.experiments.networks import ConvAutoencoder
    >>> network = ConvAutoencoder(28, 50)
    >>> network.encoder(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 50])
    """

    @staticmethod
    def _layers(image_size: int, latent: int) -> tuple[list[nn.Module], list[nn.Module]]:
        if image_size < 4 or image_size % 4:
            raise ValueError(
                f"ConvAutoencoder halves images twice and needs a size that is a multiple of 4; got {image_size}"
            )
        side = image_size // 4
        wide = 32 * side * side
        encoder = [
            nn.Conv2d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(wide, latent),
        ]
        decoder = [
            nn.Linear(latent, wide),
            nn.ReLU(),
            nn.Unflatten(1, (32, side, side)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        ]
        return encoder, decoder


@final
class MLPAutoencoder(Autoencoder):
    """One hidden layer of 128 units on either side of the code.

    Examples
    --------
    >>> import torch
    >>> from latalign.experiments.networks import MLPAutoencoder
    >>> network = MLPAutoencoder(28, 50)
    >>> network(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """

    @staticmethod
    def _layers(image_size: int, latent: int) -> tuple[list[nn.Module], list[nn.Module]]:
        pixels = image_size * image_size
        encoder = [nn.Flatten(), nn.Linear(pixels, 128), nn.ReLU(), nn.Linear(128, latent)]
        decoder = [
            nn.Linear(latent, 128),
            nn.ReLU(),
            nn.Linear(128, pixels),
            nn.Unflatten(1, (1, image_size, image_size)),
        ]
        return encoder, decoder


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw PyTorch's random numbers from a seed within the block, and leave the user's own as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep PyTorch to one thread of the processor within the block.

    On an idle machine a second one takes a third off the time of networks this small. But the two wait
    for each other at every operation, and beside one other busy program that makes it ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


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


@_one_thread()
def train(
    network: nn.Module,
    images: NDArray[np.float32],
    *,
    epochs: int,
    seed: int,
    batch: int = 64,
    lr: float = 1e-3,
    progress: Progress = lambda done, total: None,
) -> Training:
    """Train an autoencoder, in place, to return its input: Adam on the mean squared error.

    Parameters
    ----------
    network : nn.Module
        On any device; the images follow it.
    images : float32 array of shape (n, 1, size, size)
    epochs : int
        Passes over all images.
    seed : int
        Draws the batches: with the same weights at the start, the same machine ends with the same.
    batch : int
        Images a step.
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
        If there are no images, or a number is out of range, or the loss becomes NaN or infinite.
    """
    name = type(network).__name__
    for what, value in (("images", len(images)), ("epochs", epochs), ("batch", batch)):
        if value < 1:
            raise ValueError(f"train needs 1 or more {what}; got {value}")
    began = time.perf_counter()
    device = next(network.parameters()).device
    # One tensor and permutations of it: a loader would cost more than the small networks' own work.
    data = torch.from_numpy(images).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    order = torch.Generator().manual_seed(seed)
    steps = -(-len(data) // batch)
    losses: list[float] = []
    network.train()
    for epoch in range(epochs):
        total = torch.zeros((), dtype=torch.float64, device=device)
        for step, index in enumerate(torch.randperm(len(data), generator=order).split(batch), start=1):
            part = data[index.to(device)]
            loss = mse_loss(network(part), part)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(part)
            if step % _LOOK_EVERY == 0 or step == steps:
                if not torch.isfinite(total):
                    raise ValueError(
                        f"train: the loss of {name} became {float(total)} in epoch {epoch + 1} of {epochs}, "
                        f"by step {step}. Lower lr ({lr:g}), and look for NaN in the images."
                    )
                progress(epoch * steps + step, epochs * steps)
        losses.append(float(total) / len(data))
    network.eval()
    return Training(tuple(losses), time.perf_counter() - began)


@_one_thread()
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
