"""What two spaces have in common before any map is known: whitened statistics of classes and their halves."""

from __future__ import annotations

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
    spread : Spread
        Of the classes, in the whitened space.
    drawn : (n, rank) array
        Whitened rows.
    members : tuple of arrays of int
        The numbers of the drawn rows of each class.
    """

    whitening: Whitening
    spread: Spread
    drawn: Array
    members: tuple[Index, ...]

    @staticmethod
    def of(
        labelled: LabelledRows, spread: Spread, whitening: Whitening, most: int, rng: np.random.Generator
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
        return Side(whitening, spread.into(whitening), drawn, tuple(np.split(numbers, ends[:-1])))

    def halves(self, classes: Index, rng: np.random.Generator) -> tuple[Side, Side]:
        """Return the same with one half and with the other half of the drawn rows of some classes."""
        shuffled = [rng.permutation(self.members[number]) for number in classes]
        weights = self.spread.weights[classes] / self.spread.weights[classes].sum()
        parts: list[Side] = []
        for half in range(2):
            members = tuple(np.array_split(member, 2)[half] for member in shuffled)
            found = [mean_and_covariance(self.drawn[member]) for member in members]
            spread = Spread(weights, np.stack([m for m, _ in found]), np.stack([c for _, c in found]))
            parts.append(replace(self, spread=spread, members=members))
        return parts[0], parts[1]


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
    spreads = [Spread.of(side, (shares[0] + shares[1]) / 2) for side in both]
    whitenings = [Whitening.of(spread) for spread in spreads]
    for name, whitening in zip(("source X", "target Y"), whitenings, strict=True):
        if not whitening.rank:
            raise ValueError(
                f"{caller} needs rows that differ; all rows of the {name} are the same, to rounding"
            )
    rank = min(whitening.rank for whitening in whitenings)
    sides = [
        Side.of(labelled, spread, whitening.limited(rank), most, rng)
        for labelled, spread, whitening in zip(both, spreads, whitenings, strict=True)
    ]
    return sides[0], sides[1]


def rotation_of_statistics(source: Side, target: Side) -> Array:
    """Return the rotation between whitened spaces that the statistics say, without a look at single rows."""
    return commuting_rotation(*_signatures(source, target))


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
    one, other = (rotation_of_statistics(*sides) for sides in pairs)
    variances = target.whitening.deviations**2
    return float(1 - ((one * other).sum(axis=0) * variances).sum() / variances.sum())


def _signatures(source: Side, target: Side) -> tuple[Signature, Signature, Array, Array]:
    """Return means and covariances of counterparts, and what each counts.

    Of every class that has the rows for it there are halves: those of its rows that are farther from the
    class itself, or nearer to another class than to it, than the others. An affine map changes none of
    these distances, so the halves of the one space are the counterparts of those of the other.
    """
    classes, dim = source.spread.means.shape
    fewest = np.minimum(*(np.array([len(one) for one in side.members]) for side in (source, target)))
    statistics = min(_STATISTICS, _STATISTIC_VALUES // dim**2)
    near = min(statistics // (2 * classes), classes)
    nearest = _neighboring_classes(source.spread, target.spread)[:, :near]
    found: tuple[list[tuple[Array, Array]], list[tuple[Array, Array]]] = ([], [])
    weights: list[float] = []
    trusted: list[float] = []
    for number in range(classes):
        split = near > 0 and fewest[number] >= 4
        for side, parts in zip((source, target), found, strict=True):
            if not split:
                parts.append((side.spread.means[number], side.spread.covariances[number]))
            else:
                parts.extend(half for other in nearest[number] for half in _halves(side, number, int(other)))
        count = 2 * near if split else 1
        weights += [source.spread.weights[number] / count] * count
        # The covariance of a single row says nothing of the class.
        trusted += [source.spread.weights[number] / count if fewest[number] > 1 else 0.0] * count
    one, other = (
        Signature(np.stack([mean for mean, _ in parts]), np.stack([spread for _, spread in parts]))
        for parts in found
    )
    return one, other, np.array(weights), np.array(trusted)


def _halves(side: Side, number: int, other: int) -> list[tuple[Array, Array]]:
    """Return mean and covariance of the halves of a class, by how much nearer its rows are to another."""
    rows = side.drawn[side.members[number]]
    distance = squared_distances(rows, side.spread, number, len(rows))
    if other != number:
        distance = squared_distances(rows, side.spread, other, len(side.members[other])) - distance
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
