"""Autoencoders of different architecture."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import final

from torch import Tensor, nn

from latalign.experiments.data import Output


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
    reads : int, optional
        The width of what the decoder reads, where that is not the code itself: the number of anchors,
        for relative representations.

    Attributes
    ----------
    encoder, decoder : nn.Module
    """

    def __init__(
        self, image_size: int, latent: int, *, output: Output = "linear", reads: int | None = None
    ) -> None:
        super().__init__()
        reads = latent if reads is None else reads
        if latent < 1 or reads < 1:
            raise ValueError(
                f"{type(self).__name__} needs a latent size of 1 or more; got {latent}"
                + (f", and {reads} for the decoder to read" if reads != latent else "")
            )
        if output not in ("linear", "sigmoid"):
            raise ValueError(f'{type(self).__name__}: output is "linear" or "sigmoid"; got {output!r}')
        self.image_size = image_size
        self.latent = latent
        encoder, decoder = self._layers(image_size, latent, reads)
        self.encoder = nn.Sequential(*encoder)
        self.decoder = nn.Sequential(*decoder, *([nn.Sigmoid()] if output == "sigmoid" else []))

    @staticmethod
    @abstractmethod
    def _layers(image_size: int, latent: int, reads: int) -> tuple[list[nn.Module], list[nn.Module]]:
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
    def _layers(image_size: int, latent: int, reads: int) -> tuple[list[nn.Module], list[nn.Module]]:
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
            nn.Linear(reads, wide),
            nn.ReLU(),
            nn.Unflatten(1, (32, side, side)),
            nn.ConvTranspose2d(32, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, stride=2, padding=1),
        ]
        return encoder, decoder


def _mlp_layers(
    image_size: int, latent: int, reads: int, hidden: int
) -> tuple[list[nn.Module], list[nn.Module]]:
    pixels = image_size * image_size
    encoder = [nn.Flatten(), nn.Linear(pixels, hidden), nn.ReLU(), nn.Linear(hidden, latent)]
    decoder = [
        nn.Linear(reads, hidden),
        nn.ReLU(),
        nn.Linear(hidden, pixels),
        nn.Unflatten(1, (1, image_size, image_size)),
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
    def _layers(image_size: int, latent: int, reads: int) -> tuple[list[nn.Module], list[nn.Module]]:
        return _mlp_layers(image_size, latent, reads, 128)


@final
class WideMLPAutoencoder(Autoencoder):
    """One hidden layer of 320 units: what reaches the paper's error of an MLP with codes of 100.

    On Fashion-MNIST, where the paper has 0.058, it comes to 0.057 in five epochs. With 128 units it stays
    at 0.063 however long it trains, with 256 it needs seven epochs.

    Examples
    --------
    >>> import torch
    >>> from latalign.experiments.networks import WideMLPAutoencoder
    >>> network = WideMLPAutoencoder(28, 100)
    >>> network(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 1, 28, 28])
    """

    @staticmethod
    def _layers(image_size: int, latent: int, reads: int) -> tuple[list[nn.Module], list[nn.Module]]:
        return _mlp_layers(image_size, latent, reads, 320)
