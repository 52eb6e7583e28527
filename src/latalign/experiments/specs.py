"""What is to be trained, as values: equal specifications name the same network, and one entry of the cache."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, final

from latalign.relative import Similarity

DataName = Literal["MNIST", "Fashion-MNIST"]
Architecture = Literal["conv", "MLP", "wide MLP"]
Choice = Literal["random", "farthest-point", "k-means"]

# Of everything that a specification does not say: how training goes, what is measured and how. A change
# of those makes another number of this, and with it other keys.
_VERSION = 1


@final
@dataclass(frozen=True, slots=True)
class Network:
    """An autoencoder.

    Attributes
    ----------
    data : {"MNIST", "Fashion-MNIST"}
    architecture : {"conv", "MLP", "wide MLP"}
    latent : int
    epochs : int
        Of 60,000 images: a smaller set is gone through more often, so that the steps are as many.
    seed : int
        Draws the weights and the batches.
    """

    data: DataName
    architecture: Architecture
    latent: int
    epochs: int
    seed: int

    def __str__(self) -> str:
        return f"{self.data}, {self.architecture}, codes of {self.latent}, seed {self.seed}"


@final
@dataclass(frozen=True, slots=True)
class Anchors:
    """Which training images are the anchors.

    Attributes
    ----------
    count : int or None
        None for all of them.
    seed : int
        Draws them.
    choice : {"random", "farthest-point", "k-means"}
    space : Network, optional
        In whose codes they are chosen; not needed where they are drawn at random.
    """

    count: int | None
    seed: int = 0
    choice: Choice = "random"
    space: Network | None = None

    def __post_init__(self) -> None:
        if (self.choice == "random") is not (self.space is None):
            raise ValueError(
                f"anchors chosen by {self.choice} and a space of {self.space} do not go together"
            )

    def __str__(self) -> str:
        return f"{'all' if self.count is None else self.count} anchors ({self.choice}, seed {self.seed})"


@final
@dataclass(frozen=True, slots=True)
class RelativeDecoder:
    """A new decoder of the relative codes of a network whose encoder is kept (*decoder-only*)."""

    network: Network
    anchors: Anchors
    similarity: Similarity = "euclidean"

    def __str__(self) -> str:
        return f"{self.network}, decoder of relative codes ({self.similarity}), {self.anchors}"


@final
@dataclass(frozen=True, slots=True)
class EndToEnd:
    """A network of this kind with relative codes inside, all of it trained (*end2end*)."""

    network: Network
    anchors: Anchors
    similarity: Similarity = "euclidean"

    def __str__(self) -> str:
        return f"{self.network}, end to end with relative codes ({self.similarity}), {self.anchors}"


Trainable = Network | RelativeDecoder | EndToEnd


def required(spec: Trainable) -> tuple[Network, ...]:
    """Return the networks that must be trained before this one can be."""
    match spec:
        case RelativeDecoder():
            first = (spec.network,) if spec.anchors.space is None else (spec.network, spec.anchors.space)
            return tuple(dict.fromkeys(first))
        case _:
            return ()


def record(spec: Any) -> dict[str, Any]:
    """Return a dataclass as plain JSON values, with the kind of it and of each of its parts."""
    values = {field.name: getattr(spec, field.name) for field in fields(spec)}
    parts = {name: record(value) if is_dataclass(value) else value for name, value in values.items()}
    return {"kind": type(spec).__name__, **parts}


def key(spec: Any, data: str) -> str:
    """Return the name of a specification's entry in the cache.

    Parameters
    ----------
    spec : dataclass
        Of plain values and other such specifications.
    data : str
        The fingerprint of the images.
    """
    text = json.dumps([_VERSION, data, record(spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
