"""Which pairs do not correspond: rows that are shifted, swapped, shuffled or mislabelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc, ndtri

from latalign._linalg import squared_distances
from latalign._validation import Array, Pairs, as_generator
from latalign.evidence import plain
from latalign.relation import INDISTINGUISHABLE, relation_p_value
from latalign.robust import Weighed, normal_scores, spreads_above, weighed
from latalign.select import groups_of
from latalign.shifting import Shift, at_offsets, offsets_of, shifts_of

_FEWEST = 10
# A row is suspicious only where so many of the other rows' targets are nearer than its own.
_NEARER = 0.05
_OTHERS = 2000
_CHANCE = 0.01
# Of rows without their own target a quarter have a share of nearer ones beyond that, and of others hardly any.
_UPPER = 0.75
_TOLERATED = 0.2
# A target belongs to a row where it is so much likelier than the next one: the logarithm of the ratio.
_CLEAR = 5.0
_NOWHERE = 1e150  # farther than any row that is looked for
_BLOCK_VALUES = 1 << 22


@final
@dataclass(frozen=True, slots=True)
class Suspicion:
    """A row whose target seems not to be its own.

    Attributes
    ----------
    row : int
    distance : float
        From its target to what a map that was fitted without the row makes of its source, relative to
        the median of all rows.
    nearer : float
        The share of the other rows' targets that are nearer. Of a row without its own target it is as
        likely to be any number from 0 to 1.
    belongs_to : int or None
        The row whose target it seems to belong to; None where no target is near enough, or several are.
    """

    row: int
    distance: float
    nearer: float
    belongs_to: int | None = None


@final
@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found.

    Attributes
    ----------
    rows : int
    p_value : float
        Of the hypothesis that the pairs are shuffled: a permutation test of all of them together. NaN
        where there are too few different pairs, or they cannot tell.
    r2 : float
        The share of the target's spread that a map explains of rows left out of its fit, suspicious rows
        aside.
    mismatched : float
        About which share of the rows do not have their own target, told by how many of them are nearer to most
        other rows' targets. Too large where the spaces have little in common. It also tells of rows that are
        too many to be named: those that are suspicious are judged by the nearer half of all rows.
    shifts : tuple of Shift
        The runs of rows that seem shifted, in order: from ``start`` to before ``stop`` the target of row i is
        row i + ``offset``, of three at most. What begins in the middle begins where a row was put in, or lost.
    suspicions : tuple of Suspicion
        The rows that do not seem to correspond, by number.
    false_positive_rate : float
        The share of genuine pairs that may be among them.
    conflicts : tuple of tuple of int
        Groups of rows that have the same source, or the same target, and differ in the other: copied, or
        labelled in two ways.
    """

    rows: int
    p_value: float
    r2: float
    mismatched: float
    shifts: tuple[Shift, ...]
    suspicions: tuple[Suspicion, ...]
    false_positive_rate: float
    conflicts: tuple[tuple[int, ...], ...]

    @property
    def shift(self) -> int:
        """The offset by which all rows, or most of them, seem shifted; 0 where there is none."""
        lengths = {one.offset: 0 for one in self.shifts}
        for one in self.shifts:
            lengths[one.offset] += one.stop - one.start
        return next((offset for offset, rows in lengths.items() if 2 * rows > self.rows), 0)

    @property
    def mostly_mismatched(self) -> bool:
        """Whether more than a fifth of the rows do not have their own target, beyond chance."""
        beyond = round((1 - _UPPER) * self.mismatched * self.rows)
        return bool(bdtrc(beyond - 1, self.rows, (1 - _UPPER) * _TOLERATED) < _CHANCE)

    @property
    def suspicious(self) -> NDArray[np.intp]:
        """The numbers of the suspicious rows."""
        return np.array([one.row for one in self.suspicions], dtype=np.intp)

    @property
    def swaps(self) -> tuple[tuple[int, int], ...]:
        """The pairs of suspicious rows that each have the other's target."""
        where = {one.row: one.belongs_to for one in self.suspicions}
        found = (
            (row, other) for row, other in where.items() if other is not None and where.get(other) == row
        )
        return tuple((row, other) for row, other in found if row < other)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong.

        That is: the pairs are related, no rows are shifted, no more than a fifth of them are without their own
        target, and of the suspicious rows there are no more than by chance, none of which has its target
        elsewhere or is in conflict with another.
        """
        copied = {row for rows in self.conflicts for row in rows}
        certain = any(one.belongs_to is not None or one.row in copied for one in self.suspicions)
        by_chance = bdtrc(len(self.suspicions) - 1, self.rows, self.false_positive_rate) > _CHANCE
        related = not self.p_value > INDISTINGUISHABLE and not self.mostly_mismatched
        return bool(related and not self.shifts and by_chance and not certain)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; NaN becomes null."""
        return plain(
            {
                "rows": self.rows,
                "sound": self.sound,
                "p_value": self.p_value,
                "r2": self.r2,
                "mismatched": self.mismatched,
                "shift": self.shift,
                "shifts": [asdict(one) for one in self.shifts],
                "false_positive_rate": self.false_positive_rate,
                "suspicious": [
                    {
                        "row": one.row,
                        "distance": one.distance,
                        "nearer": one.nearer,
                        "belongs_to": one.belongs_to,
                    }
                    for one in self.suspicions
                ],
                "swaps": self.swaps,
                "conflicts": self.conflicts,
            }
        )


def audit(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    false_positive_rate: float = 0.001,
    random_state: int | np.random.Generator | None = 0,
) -> Audit:
    """Find the rows that do not correspond.

    A ridge regression is fitted in which pairs that do not fit the others count nothing. Each row's target
    is then held against what the fit without that row (in closed form) makes of its source. A row is
    suspicious where the distance is beyond what genuine pairs would have once in ``1 / false_positive_rate``
    times, judged by the nearer half of all rows, and where more than a twentieth of the other rows'
    targets are nearer than its own.

    Where half of the pairs or more do not correspond, the nearer half is no measure any more, and the rows are not
    named; `Audit.mismatched` tells that there are many, and `Audit.shifts` where they are only shifted.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        Row i of both should be the same thing.
    false_positive_rate : float
        The share of genuine pairs that may be called suspicious, above 0 and below a half. It holds where
        their distances spread above the median as below it, as those of normal errors do; where a few
        genuine pairs are so far off that other targets are nearer, they are suspicious as well.
    random_state : int, Generator or None
        Draws, of many rows, those for the permutation test and those that a row's target is compared with.

    Returns
    -------
    Audit

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If shapes do not fit, values are not finite, there are fewer than ten pairs, or a side is constant.

    References
    ----------
    D. M. Allen (1974) for the residuals of rows left out; F. Kazi-Aoual and others (1995) and J. Josse and
    others (2008) for the permutation test; P. J. Huber, E. M. Ronchetti (2009) for the weights.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 6))
    >>> Y = X @ rng.normal(size=(6, 6)) + 0.1 * rng.normal(size=(200, 6))
    >>> latalign.audit(X, Y).sound
    True
    >>> Y[[3, 50]] = Y[[50, 3]]
    >>> found = latalign.audit(X, Y)
    >>> found.suspicious, found.swaps, found.sound
    (array([ 3, 50]), ((3, 50),), False)
    """
    if not 0 < false_positive_rate < 0.5:
        raise ValueError(
            f"audit needs a false_positive_rate above 0 and below 0.5; got {false_positive_rate!r}"
        )
    pairs = Pairs.of(X, Y, caller="audit")
    rng = as_generator(random_state, "audit")
    pairs.require_finite()
    if len(pairs) < _FEWEST:
        raise ValueError(f"audit needs at least {_FEWEST} pairs of rows to tell from; got {len(pairs)}")
    for side, rows in (("source X", pairs.source), ("target Y", pairs.target)):
        if not np.ptp(rows, axis=0).any():
            raise ValueError(f"audit needs rows that differ; all {len(rows)} rows of the {side} are the same")
    p_value = relation_p_value(pairs, rng)
    shifts = shifts_of(pairs, rng)
    left_out = _LeftOut.of(pairs, offsets_of(shifts, len(pairs)))
    own, nearer = _nearness(pairs, left_out, rng)
    mismatched = min(float((nearer > _UPPER).mean()) / (1 - _UPPER), 1.0)
    found: tuple[Suspicion, ...] = ()
    if shifts or not p_value > INDISTINGUISHABLE:  # else there are no genuine pairs to hold others against
        found = _suspicions(pairs, left_out, own, nearer, false_positive_rate)
    r2, conflicts = left_out.trusted.r2, tuple(_conflicts(pairs))
    return Audit(len(pairs), p_value, r2, mismatched, shifts, found, false_positive_rate, conflicts)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _LeftOut:
    """The fit in which pairs that do not fit the others count nothing, and every row's place in it.

    Attributes
    ----------
    trusted : Weighed
        Of the rows that have a target at their offset.
    offset, weight : (n,) array
        Of all rows; those without a target are in no fit.
    """

    trusted: Weighed
    offset: NDArray[np.intp]
    weight: Array

    @staticmethod
    def of(pairs: Pairs, offset: NDArray[np.intp]) -> _LeftOut:
        """Fit to the targets at the offsets of the rows."""
        aligned, kept = at_offsets(pairs, np.arange(len(pairs)), offset)
        trusted = weighed(aligned)
        weight = np.zeros(len(pairs))
        weight[kept] = trusted.weight
        return _LeftOut(trusted, offset, weight)

    def mapped(self, pairs: Pairs, rows: NDArray[np.intp]) -> Array:
        """Return what rows of the source are mapped to by the fit without them."""
        targets = pairs.target[np.clip(rows + self.offset[rows], 0, len(pairs) - 1)]
        return self.trusted.fit.without(Pairs(pairs.source[rows], targets, self.weight[rows], pairs.caller))[
            0
        ]


def _nearness(pairs: Pairs, left_out: _LeftOut, rng: np.random.Generator) -> tuple[Array, Array]:
    """Return how far every row is from its own target, and the share of others that are nearer."""
    others = np.sort(rng.permutation(len(pairs))[:_OTHERS])
    own, nearer = np.empty(len(pairs)), np.empty(len(pairs))
    for rows in _blocks(len(pairs), len(others)):
        mapped = left_out.mapped(pairs, rows)
        own[rows] = np.linalg.norm(pairs.target[rows] - mapped, axis=1)
        closer = np.sqrt(squared_distances(mapped, pairs.target[others])) < own[rows, None]
        closer &= rows[:, None] != others
        nearer[rows] = closer.sum(axis=1) / np.maximum((rows[:, None] != others).sum(axis=1), 1)
    return own, nearer


def _suspicions(
    pairs: Pairs, left_out: _LeftOut, own: Array, nearer: Array, rate: float
) -> tuple[Suspicion, ...]:
    """Return the rows that are far from their own target and not much nearer to it than to others."""
    trusted = left_out.trusted
    scores = normal_scores(trusted.distance)
    limit = float(-ndtri(rate))
    wrong = np.flatnonzero((spreads_above(scores, normal_scores(own)) > limit) & (nearer > _NEARER))
    belongs = np.full(len(wrong), -1, dtype=np.intp)
    usual = float(np.median(trusted.distance))
    clear = np.sqrt(2 * _CLEAR) * usual / np.sqrt(pairs.target.shape[1])
    for places in _blocks(len(wrong), len(wrong)):
        mapped = left_out.mapped(pairs, wrong[places])
        far = np.sqrt(squared_distances(mapped, pairs.target[wrong]))
        far = np.column_stack((far, np.full(len(places), _NOWHERE)))
        far[np.arange(len(places)), places] = _NOWHERE
        nearest = far.argmin(axis=1)
        first, second = np.partition(far, 1, axis=1)[:, :2].T
        found = spreads_above(scores, normal_scores(first)) <= limit
        found &= np.sqrt(second**2 - first**2) > clear
        belongs[places[found]] = wrong[nearest[found]]
    return tuple(
        Suspicion(int(row), float(own[row] / usual) if usual > 0 else np.inf, float(nearer[row]), other)
        for row, other in zip(wrong, (int(b) if b >= 0 else None for b in belongs), strict=True)
    )


def _blocks(rows: int, width: int) -> Iterator[NDArray[np.intp]]:
    step = max(1, _BLOCK_VALUES // max(width, 1))
    for start in range(0, rows, step):
        yield np.arange(start, min(start + step, rows))


def _conflicts(pairs: Pairs) -> Iterator[tuple[int, ...]]:
    """Yield groups of rows that are equal on one side and not on the other."""
    both = groups_of(pairs)
    for side in (pairs.source, pairs.target):
        group = groups_of(Pairs(side, side))
        order = np.argsort(group, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            if len(np.unique(both[rows])) > 1:
                yield tuple(int(row) for row in rows)
