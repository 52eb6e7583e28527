"""What is measured, as values: each knows which networks it needs, and gives one error of images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from latalign.anchors import pair_class_means
from latalign.closest_points import Neighbors, icp
from latalign.experiments.lab import Lab, network_of
from latalign.experiments.specs import Anchors, DataName, EndToEnd, Network, RelativeDecoder, Trainable
from latalign.fitting import fit
from latalign.torch import fit_stitching
from latalign.unpaired.labels import fit_from_labels

# Of each side; all 60,000 of them would take minutes.
_ICP_ROWS = 10_000


class Measure(ABC):
    """One mean squared error, per pixel, over the test images. Abstract."""

    __slots__ = ()

    @property
    @abstractmethod
    def needs(self) -> tuple[Trainable, ...]:
        """The networks that must be trained before; the last one's decoder is what is heard."""

    @property
    def data(self) -> DataName:
        """Whose test images it is an error of."""
        return network_of(self.needs[-1]).data

    @abstractmethod
    def codes(self, lab: Lab) -> NDArray[Any]:
        """Return what the decoder of the last network reads: one row for each test image."""

    def __call__(self, lab: Lab) -> float:
        """Return the error."""
        return lab.error(lab.decoder(self.needs[-1]), self.codes(lab), self.data)


@final
@dataclass(frozen=True, slots=True)
class Own(Measure):
    """A decoder reads the codes that it was trained on."""

    model: Trainable

    @property
    def needs(self) -> tuple[Trainable, ...]:
        """The one network."""
        return (self.model,)

    def codes(self, lab: Lab) -> NDArray[Any]:
        """Return the codes of its own encoder."""
        return _read_by(self.model, lab)


@final
@dataclass(frozen=True, slots=True)
class Relative(Measure):
    """A decoder of relative codes reads those of another network, without any map between them.

    Attributes
    ----------
    source, target : RelativeDecoder or EndToEnd
    statistics : {"own", "target"}
        Whose means and deviations the codes are standardized with: of the network that they come from, or
        of the one whose decoder reads them, as if they were its own.
    """

    source: RelativeDecoder | EndToEnd
    target: RelativeDecoder | EndToEnd
    statistics: Literal["own", "target"] = "own"

    @property
    def needs(self) -> tuple[Trainable, ...]:
        """Both networks."""
        return self.source, self.target

    def codes(self, lab: Lab) -> NDArray[Any]:
        """Return the relative codes of the other encoder, in the units of the decoder's own."""
        codes = _read_by(self.source, lab)
        if self.statistics == "target":
            return codes
        mean, deviation = lab.statistics(self.source)
        target_mean, target_deviation = lab.statistics(self.target)
        return (codes - mean) / deviation * target_deviation + target_mean


@dataclass(frozen=True, slots=True)
class _Between(Measure):
    """A decoder reads what becomes of the codes of another network's encoder. Abstract."""

    source: Network
    target: Network

    @property
    def needs(self) -> tuple[Trainable, ...]:
        """Both networks."""
        return self.source, self.target


@final
@dataclass(frozen=True, slots=True)
class Unmapped(_Between):
    """The codes as they are."""

    def codes(self, lab: Lab) -> NDArray[Any]:
        """Return the source's codes."""
        return lab.codes(self.source, "test")


@final
@dataclass(frozen=True, slots=True)
class Mapped(_Between):
    """The codes through a map that is fitted on anchors in closed form.

    Attributes
    ----------
    anchors : Anchors
    method : str
        What `latalign.fit` takes.
    scale : float
        What the source's codes are multiplied by, anchors and test images alike.
    """

    anchors: Anchors
    method: str
    scale: float = 1.0

    def codes(self, lab: Lab) -> NDArray[Any]:
        """Return the mapped codes."""
        X, Y = _pairs(self.source, self.target, self.anchors, lab)
        scale = np.float32(self.scale)
        return fit(X * scale, Y, self.method)(lab.codes(self.source, "test") * scale)


@final
@dataclass(frozen=True, slots=True)
class Stitched(_Between):
    """The codes through a stitching MLP (eq. 3).

    Attributes
    ----------
    anchors : Anchors
    k : int
    epochs : int or None
        So many exactly; until it gets no better on held-out anchors unless given.
    """

    anchors: Anchors
    k: int
    epochs: int | None = None

    def codes(self, lab: Lab) -> NDArray[Any]:
        """Return the mapped codes."""
        X, Y = _pairs(self.source, self.target, self.anchors, lab)
        what = f"{self.source} → {self.target.architecture}, stitching, k = {self.k}, {self.anchors}"

        def told(done: int, total: int) -> None:
            # Of few pairs there are thousands of epochs, each of a step or two.
            if done < total and done % max(1, total // 100) == 0:
                lab.progress(what, done, total)

        found = fit_stitching(
            X,
            Y,
            k=self.k,
            max_epochs=self.epochs,
            holdout=0.1 if self.epochs is None else 0,
            random_state=self.source.seed,
            device=lab.device,
            progress=told,
        )
        lab.progress(what, 1, 1)  # it may have stopped early
        return found(lab.codes(self.source, "test"))


@final
@dataclass(frozen=True, slots=True)
class Means(_Between):
    """The codes through a map of the class means: labels, and no pairs (4.2.3)."""

    method: str

    def codes(self, lab: Lab) -> NDArray[Any]:
        """Return the mapped codes."""
        means = pair_class_means(*_labelled(self.source, lab), *_labelled(self.target, lab))
        return fit(*means, self.method)(lab.codes(self.source, "test"))


@final
@dataclass(frozen=True, slots=True)
class Icp(_Between):
    """The codes through a map of iterative closest points within the classes, from their means (4.2.3).

    Attributes
    ----------
    method : str
    neighbors : {"mutual", "one-sided"}
    images : {"same", "other"}
        Whether both sides have codes of the same images, in unknown order, or of images of their own. With
        the same, there is a right partner for every row.
    """

    method: str
    neighbors: Neighbors
    images: Literal["same", "other"]

    def codes(self, lab: Lab) -> NDArray[Any]:
        """Return the mapped codes."""
        sides = _sides(self.source, self.target, self.images, lab, _ICP_ROWS)
        found = icp(*sides, self.method, neighbors=self.neighbors)
        return found.map(lab.codes(self.source, "test"))


@final
@dataclass(frozen=True, slots=True)
class FromLabels(_Between):
    """The codes through the map that `latalign.fit_from_labels` finds.

    Attributes
    ----------
    images : {"same", "other"}
        As for `Icp`, but all of them.
    """

    images: Literal["same", "other"]

    def codes(self, lab: Lab) -> NDArray[Any]:
        """Return the mapped codes."""
        found = fit_from_labels(*_sides(self.source, self.target, self.images, lab, None))
        return found.map(lab.codes(self.source, "test"))


def _read_by(model: Trainable, lab: Lab) -> NDArray[Any]:
    return lab.relative(model, "test") if isinstance(model, RelativeDecoder) else lab.codes(model, "test")


def _pairs(source: Network, target: Network, anchors: Anchors, lab: Lab) -> tuple[NDArray[Any], NDArray[Any]]:
    rows = lab.rows(anchors, source.data)
    return lab.codes(source, "train")[rows], lab.codes(target, "train")[rows]


def _labelled(spec: Network, lab: Lab) -> tuple[NDArray[Any], NDArray[Any]]:
    return lab.codes(spec, "train"), lab.labels(spec.data, "train")


def _sides(
    source: Network, target: Network, images: Literal["same", "other"], lab: Lab, most: int | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return codes and labels of both sides, of the same images or of halves of them."""
    rows = np.random.default_rng(source.seed).permutation(len(lab.labels(source.data, "train")))
    halves = [rows, rows] if images == "same" else np.array_split(rows, 2)
    one, other = (np.sort(half[:most]) for half in halves)
    X, x_labels = _labelled(source, lab)
    Y, y_labels = _labelled(target, lab)
    return X[one], x_labels[one], Y[other], y_labels[other]
