"""From many rotations to the one under which most rows have a mutual partner, with no row judging its own fit.

The rows of both sides are split in two. Partners among the first halves say the rotation under which partners among
the second halves are looked for, and so on in turns. So the share of rows that have a partner is always
of rows that the rotation was not fitted to: it does not rise merely because it is fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import final

import numpy as np

from latalign._linalg import nearest_rotation
from latalign._validation import Array
from latalign.unpaired.nearness import in_standard_errors, log_radii, standard_errors
from latalign.unpaired.partners import mutual_partners
from latalign.unpaired.refining import NEIGHBORS
from latalign.unpaired.signatures import between
from latalign.unpaired.starts import starts

# Clusters are seen as the space is, as it is when whitened, and between: powers of the deviations.
_POWERS = (1.0, 0.5, 0.0)
_STARTS = 4  # that are climbed from, of each power
_STAGES = (1.0, 0.5)  # powers of the deviations in distances, one after another
_SCOUTS = 2000  # rows that they are climbed with
_CLIMBED = 4  # that are climbed from once more, with all rows
_MIRRORS = 8  # widest directions in which the best is mirrored, and climbed from as well
_TURNED = 3  # widest directions that are exchanged or turned, two at a time
_NARROW = 0.01  # share of the variance below which a direction is neither
# The least cosine of a wide direction under the best and under what was climbed to: above the first that came back,
# below the second it is another answer. Between them narrow directions are not settled, which is another answer only
# where the two are so far apart.
_BACK, _REVERSED, _APART = 0.5, -0.8, 0.06
_CLEARER = 4.0  # standard errors by which rows are nearer under the best than under what is no answer
_FAR_CLEARER = 12.0  # the same, with few rows
_STEPS = 24
_PATIENCE = 4  # steps without a larger share
_CLOSE = 0.01  # shares that differ by less are as good: a standard error of a share among 2000 rows
_PAIR = 10.0  # partners that a known pair counts as much as


@final
@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """Whitened rows of one space, what they are in it, and the rows that are known to have a counterpart.

    Attributes
    ----------
    rows : (n, rank) array
        In no order.
    deviations : (rank,) array
        What one unit of each direction is in the space, the widest first.
    known : (k, rank) array
        Rows whose counterparts stand in the same place of the other side.
    """

    rows: Array
    deviations: Array
    known: Array

    @property
    def scale(self) -> Array:
        """The deviations, in units of the largest: float32 has room for them."""
        return self.deviations / self.deviations[0]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Peak:
    """A rotation that was climbed to.

    Attributes
    ----------
    rotation : (rank, rank) array
    share : float
        Of rows that have a mutual partner under it, none of which it was fitted to.
    """

    rotation: Array
    share: float


@final
@dataclass(frozen=True, slots=True, eq=False)
class Peaks:
    """All rotations that are about as good as the best.

    Attributes
    ----------
    best : Peak
    others : tuple of Peak
        From other starts.
    symmetric : tuple of Peak
        From mirror images of the best, and the like.
    """

    best: Peak
    others: tuple[Peak, ...]
    symmetric: tuple[Peak, ...]

    @property
    def rotations(self) -> list[Array]:
        """All of them, the best first."""
        return [peak.rotation for peak in (self.best, *self.others, *self.symmetric)]


def peaks(source: Cloud, target: Cloud, rng: np.random.Generator) -> Peaks:
    """Return the best rotation that is found, and all others that are about as good.

    Parameters
    ----------
    source, target : Cloud
        Of as many directions.
    rng : Generator

    Returns
    -------
    Peaks
    """
    first: list[Array] = []
    for power in _POWERS:
        mine, its = (side.rows * side.scale**power for side in (source, target))
        first += starts(mine, its, _STARTS, rng)
    if len(source.known):
        first.append(
            nearest_rotation((source.known * source.deviations).T @ (target.known * target.deviations))
        )
    scouts = _ordered(climb(source, target, one, _SCOUTS) for one in first)
    every = max(len(source.rows), len(target.rows))
    best, *others = _ordered(climb(source, target, peak.rotation, every) for peak in scouts[:_CLIMBED])
    close = tuple(peak for peak in others if peak.share >= best.share - _CLOSE)
    return Peaks(best, close, tuple(_as_good_symmetric(source, target, best, every)))


def _as_good_symmetric(source: Cloud, target: Cloud, best: Peak, most: int) -> Iterator[Peak]:
    """Yield what is climbed to from mirror images of the best, and the like, where rows are as near under it.

    A cloud that is its own mirror image has two answers, of which the starts may have hit one only. The share of
    rows with a partner hardly tells them apart where the direction is narrow; how near rows are does.
    """
    shares = source.deviations**2 / np.square(source.deviations).sum()
    wide = max(1, min(_MIRRORS, int(np.count_nonzero(shares >= _NARROW))))  # of many directions none may be

    def cosine(peak: Peak) -> float:
        return float((peak.rotation * best.rotation).sum(axis=1)[:wide].min())

    def is_another(peak: Peak) -> bool:
        return cosine(peak) < _REVERSED or between(peak.rotation, best.rotation, target.deviations) > _APART

    for change in _symmetries(len(best.rotation), wide):
        peak = climb(source, target, change @ best.rotation, _SCOUTS)
        if cosine(peak) > _BACK or _clearer(source, target, best, peak, _SCOUTS) > _FAR_CLEARER:
            continue
        if most > _SCOUTS:
            peak = climb(source, target, peak.rotation, most)
        if is_another(peak) and _clearer(source, target, best, peak, most) < _CLEARER:
            yield peak


def _symmetries(rank: int, wide: int) -> Iterator[Array]:
    """Yield orthogonal matrices under which a cloud may be as it was: near any of them the climb finds the way.

    One wide direction mirrored; all of them; and two of the widest mirrored, exchanged or turned by a quarter.
    """
    same = np.eye(rank)
    for direction in range(wide):
        mirrored = same.copy()
        mirrored[direction] *= -1
        yield mirrored
    if rank > 1:
        yield -same
    for i, j in combinations(range(min(wide, _TURNED)), 2):
        for part in (
            [[-1, 0], [0, -1]],
            [[0, 1], [1, 0]],
            [[0, -1], [-1, 0]],
            [[0, -1], [1, 0]],
            [[0, 1], [-1, 0]],
        ):
            changed = same.copy()
            changed[np.ix_([i, j], [i, j])] = part
            yield changed


def _clearer(source: Cloud, target: Cloud, one: Peak, other: Peak, most: int) -> float:
    """Return by how many standard errors rows are nearer under one rotation than under another.

    So many rows to the other cloud, or those that are known to correspond to their counterparts: which tell more.
    """
    scale = target.scale ** _STAGES[-1]
    aims = target.rows[:most] * scale
    near, far = (log_radii(source.rows[:most] @ (peak.rotation * scale), aims) for peak in (one, other))
    left, left_by_other = (
        np.square((source.known @ peak.rotation - target.known) * scale).sum(axis=1) for peak in (one, other)
    )
    return max(standard_errors(near, far), in_standard_errors(left_by_other - left))


def _ordered(found: Iterable[Peak]) -> list[Peak]:
    return sorted(found, key=lambda peak: -peak.share)


def climb(source: Cloud, target: Cloud, rotation: Array, most: int) -> Peak:
    """Return the rotation with the largest share of partners on the way from one, with at most so many rows.

    Distances are at first those of the target space, where a few wide directions decide, and in the end
    those between it and the whitened one, where all directions have a say.
    """
    best = Peak(rotation, 0.0)
    for power in _STAGES:
        best = _climbed(source, target, best.rotation, target.scale**power, most)
    return best


def _climbed(source: Cloud, target: Cloud, rotation: Array, scale: Array, most: int) -> Peak:
    """Return the same for one kind of distances."""
    mine, its = (np.array_split(side.rows[:most], 2) for side in (source, target))
    aims = [(rows * scale).astype(np.float32) for rows in its]
    known = _PAIR * source.known.T @ target.known
    best = Peak(rotation, -1.0)
    waited = 0
    for step in range(_STEPS):
        half = step % 2
        mapped = (mine[half] @ (rotation * scale)).astype(np.float32)
        left, right = mutual_partners(mapped, aims[half], NEIGHBORS)
        share = len(left) / min(len(mapped), len(aims[half]))
        waited = 0 if share > best.share else waited + 1
        if share > best.share:
            best = Peak(rotation, share)
        if waited == _PATIENCE:
            break
        rotation = nearest_rotation(mine[half][left].T @ its[half][right] + known)
    return best
