"""One network's decoder reads another's codes: what every method makes of them, as an error of images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from latalign.experiments.networks import Autoencoder
from latalign.experiments.training import applied, reconstruction_error
from latalign.fitting import fit
from latalign.maps import AffineMap

Images = NDArray[np.float32]
"""Images as networks see them, shape (n, 1, size, size)."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """A trained autoencoder and its codes.

    Attributes
    ----------
    name : str
    network : Autoencoder
    anchors : (n, latent) float32 array
        Codes of the images that maps are fitted on.
    test : (m, latent) float32 array
        Codes of the images that errors are measured on.
    """

    name: str
    network: Autoencoder
    anchors: NDArray[np.float32]
    test: NDArray[np.float32]

    @staticmethod
    def of(name: str, network: Autoencoder, anchors: Images, test: Images) -> Coded:
        """Encode both sets of images."""
        return Coded(name, network, applied(network.encoder, anchors), applied(network.encoder, test))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """The target's decoder reads the source's codes.

    All errors are mean squared errors per pixel of the reconstructed test images, normalized.

    Attributes
    ----------
    source, target : str
        The names of the two networks.
    own : float
        The error where the decoder reads the codes of its own encoder: what no map can be expected to
        do better than.
    no_map : float or None
        The error where it reads the source's codes as they are; None where they have another width.
    maps : dict of str to AffineMap
        The fitted maps, by the method that was asked for.
    errors : dict of str to float
        The error through each of them.
    """

    source: str
    target: str
    own: float
    no_map: float | None
    maps: Mapping[str, AffineMap]
    errors: Mapping[str, float]


def cross(source: Coded, target: Coded, test: Images, methods: Iterable[str]) -> Crossing:
    """Fit every method on the anchors, and let the target's decoder read the source's test codes.

    Parameters
    ----------
    source, target : Coded
        With codes of the same images, in the same order.
    test : float32 array of shape (m, 1, size, size)
        The test images.
    methods : iterable of str
        What `latalign.fit` takes.

    References
    ----------
    Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023, tables 3 and 5.
    """
    decoder = target.network.decoder

    def error(codes: NDArray[np.float32]) -> float:
        return reconstruction_error(decoder, codes, test)

    maps = {method: fit(source.anchors, target.anchors, method) for method in methods}
    return Crossing(
        source=source.name,
        target=target.name,
        own=error(target.test),
        no_map=error(source.test) if source.network.latent == target.network.latent else None,
        maps=maps,
        errors={method: error(map_(source.test)) for method, map_ in maps.items()},
    )
