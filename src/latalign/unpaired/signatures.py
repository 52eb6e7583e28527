"""What two spaces have in common before any map is known: whitened statistics of classes and their halves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Array
from latalign.anchors import Index
from latalign.unpaired.classes import LabelledRows, Spread, Whitening, mean_and_covariance, squared_distances
from latalign.unpaired.commutation import Signature, commuting_rotation

_STATISTICS = 200  # halves of classes, at most about as many
_STATISTIC_VALUES = 1 << 24  # of all their covariances together, at most about as many


@final
@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """One space, whitened, and the drawn rows of each class in it.

    Attributes
    ----------
    whitening : Whitening
    weights : (c,) array
        The share of each class, the same on both sides: what the shares are is no matter of the space.
    drawn : (n, rank) array
        Whitened rows.
    members : tuple of arrays of int
        The numbers of the drawn rows of each class.
    """

    whitening: Whitening
    weights: Array
    drawn: Array
    members: tuple[Index, ...]

    @staticmethod
    def of(
        labelled: LabelledRows, weights: Array, whitening: Whitening, most: int, rng: np.random.Generator
    ) -> Side:
        """Draw at most about `most` rows, as large a share of each class, but one of each at least."""
        share = min(1.0, most / labelled.counts.sum())
        taken: list[Index] = []
        for member in labelled.members:
            count = max(1, round(share * len(member)))
            taken.append(
                member if count == len(member) else np.sort(rng.choice(member, count, replace=False))
            )
        ends = np.cumsum([len(one) for one in taken])
        numbers: NDArray[np.intp] = np.arange(ends[-1], dtype=np.intp)
        drawn = whitening(labelled.rows[np.concatenate(taken)])
        return Side(whitening, weights, drawn, tuple(np.split(numbers, ends[:-1])))

    def halves(self, classes: Index, rng: np.random.Generator) -> tuple[Side, Side]:
        """Return the same with one half and with the other half of the drawn rows of some classes."""
        shuffled = [np.array_split(rng.permutation(self.members[number]), 2) for number in classes]
        weights = self.weights[classes] / self.weights[classes].sum()
        one, other = (
            replace(self, weights=weights, members=members) for members in zip(*shuffled, strict=True)
        )
        return one, other

    def spread(self) -> Spread:
        """Return the means and covariances of the drawn rows of each class."""
        return Spread.of((mean_and_covariance(self.drawn[member]) for member in self.members), self.weights)


def whitened(
    source: LabelledRows, target: LabelledRows, most: int, rng: np.random.Generator, caller: str
) -> tuple[Side, Side]:
    """Return both spaces in as many directions as the one has that has fewer, each of deviation one.

    Raises
    ------
    ValueError
        If the rows of a side do not differ.
    """
    both = source, target
    shares = [side.counts / side.counts.sum() for side in both]
    weights = (shares[0] + shares[1]) / 2
    whitenings = [Whitening.of(side, weights) for side in both]
    for name, whitening in zip(("source X", "target Y"), whitenings, strict=True):
        if not whitening.rank:
            raise ValueError(
                f"{caller} needs rows that differ; all rows of the {name} are the same, to rounding"
            )
    rank = min(whitening.rank for whitening in whitenings)
    sides = [
        Side.of(labelled, weights, whitening.limited(rank), most, rng)
        for labelled, whitening in zip(both, whitenings, strict=True)
    ]
    return sides[0], sides[1]


def rotation_of_statistics(source: Side, target: Side, *spreads: Spread) -> Array:
    """Return the rotation between whitened spaces that the statistics say, without a look at single rows."""
    return commuting_rotation(*_signatures((source, target), spreads))


def disagreement(source: Side, target: Side, rng: np.random.Generator) -> float:
    """Return how far apart the rotations are that two halves of the rows say: 0 the same, 1 unrelated.

    It is half the mean square between a row under the one and under the other, in units of the target's
    variance. What the sampling of rows moves is noise; this measures it, at half of the rows.
    """
    counts = np.minimum(*(np.array([len(one) for one in side.members]) for side in (source, target)))
    classes = np.flatnonzero(counts > 1)
    if len(classes) < 2:
        return 1.0
    pairs = zip(source.halves(classes, rng), target.halves(classes, rng), strict=True)
    # One half after the other: their covariances are what fills the memory.
    one, other = (rotation_of_statistics(*sides, *(side.spread() for side in sides)) for sides in pairs)
    return between(one, other, target.whitening.deviations)


def between(one: Array, other: Array, deviations: Array) -> float:
    """Return how far apart two rotations are: 0 the same, 1 unrelated, 2 opposite.

    It is half the mean square between a row under the one and under the other, in units of the target's
    variance.
    """
    variances = deviations**2
    return float(1 - ((one * other).sum(axis=0) * variances).sum() / variances.sum())


def _signatures(
    sides: tuple[Side, Side], spreads: Sequence[Spread]
) -> tuple[Signature, Signature, Array, Array]:
    """Return means and covariances of counterparts, and what each counts.

    Of every class that has the rows for it there are halves: those of its rows that are farther from the
    class itself, or nearer to another class than to it, than the others. An affine map changes none of
    these distances, so the halves of the one space are the counterparts of those of the other.
    """
    classes, dim = spreads[0].means.shape
    fewest = np.minimum(*(np.array([len(one) for one in side.members]) for side in sides))
    statistics = min(_STATISTICS, _STATISTIC_VALUES // dim**2)
    near = min(statistics // (2 * classes), classes)
    nearest = _neighboring_classes(*spreads)[:, :near]
    found: tuple[list[tuple[Array, Array]], list[tuple[Array, Array]]] = ([], [])
    weights: list[float] = []
    trusted: list[float] = []
    for number, share in enumerate(sides[0].weights):
        split = near > 0 and fewest[number] >= 4
        for side, spread, parts in zip(sides, spreads, found, strict=True):
            if not split:
                parts.append((spread.means[number], spread.covariances[number]))
            else:
                parts.extend(
                    half for other in nearest[number] for half in _halves(side, spread, number, int(other))
                )
        count = 2 * near if split else 1
        weights += [share / count] * count
        # The covariance of a single row says nothing of the class.
        trusted += [share / count if fewest[number] > 1 else 0.0] * count
    one, other = (
        Signature(np.stack([mean for mean, _ in parts]), tuple(covariance for _, covariance in parts))
        for parts in found
    )
    return one, other, np.array(weights), np.array(trusted)


def _halves(side: Side, spread: Spread, number: int, other: int) -> list[tuple[Array, Array]]:
    """Return mean and covariance of the halves of a class, by how much nearer its rows are to another."""
    rows = side.drawn[side.members[number]]
    distance = squared_distances(rows, spread, number, len(rows))
    if other != number:
        distance = squared_distances(rows, spread, other, len(side.members[other])) - distance
    order = np.argsort(distance, kind="stable")
    return [mean_and_covariance(rows[part]) for part in np.array_split(order, 2)]


def _neighboring_classes(source: Spread, target: Spread) -> Index:
    """Return for each class all of them, itself first, by how near their means are within both spaces."""
    apart = np.zeros((len(source.means), len(source.means)))
    for spread in (source, target):
        gram = spread.means @ np.linalg.pinv(spread.within, hermitian=True) @ spread.means.T
        squares = gram.diagonal()
        apart += squares[:, None] + squares - 2 * gram
    np.fill_diagonal(apart, -np.inf)
    return np.argsort(apart, axis=1, kind="stable")
