"""Which pairs do not correspond: rows that are shifted, swapped, shuffled or mislabelled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtrc, ndtri

from latalign._linalg import squared_distances
from latalign._validation import Array, Pairs, as_generator
from latalign.evidence import plain
from latalign.moments import moments_of_pairs
from latalign.paths import best_alpha
from latalign.relation import INDISTINGUISHABLE, relation_p_value
from latalign.robust import Weighed, normal_scores, spreads_above, weighed
from latalign.select import groups_of

_FEWEST = 10
# Offsets by which all rows may be shifted, each held against the pairs as they are.
_OFFSETS = (1, -1, 2, -2, 3, -3)
# A row is suspicious only where so many of the other rows' targets are nearer than its own.
_NEARER = 0.05
_OTHERS = 2000
_CHANCE = 0.01
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
    shift : int
        The offset by which all rows, or most of them, seem shifted: the target of row i is row i + shift.
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
    shift: int
    suspicions: tuple[Suspicion, ...]
    false_positive_rate: float
    conflicts: tuple[tuple[int, ...], ...]

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

        That is: the pairs are related and not shifted, and of the suspicious rows there are no more than by
        chance, none of which has its target elsewhere or is in conflict with another.
        """
        copied = {row for rows in self.conflicts for row in rows}
        certain = any(one.belongs_to is not None or one.row in copied for one in self.suspicions)
        by_chance = bdtrc(len(self.suspicions) - 1, self.rows, self.false_positive_rate) > _CHANCE
        return bool(not self.p_value > INDISTINGUISHABLE and self.shift == 0 and by_chance and not certain)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; NaN becomes null."""
        return plain(
            {
                "rows": self.rows,
                "sound": self.sound,
                "p_value": self.p_value,
                "r2": self.r2,
                "shift": self.shift,
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
    shift = _shift(pairs, rng)
    trusted = weighed(_shifted(pairs, shift))
    found: tuple[Suspicion, ...] = ()
    if (
        shift != 0 or not p_value > INDISTINGUISHABLE
    ):  # else there are no genuine pairs to hold others against
        found = _suspicions(pairs, trusted, shift, false_positive_rate, rng)
    conflicts = tuple(_conflicts(pairs))
    return Audit(len(pairs), p_value, trusted.r2, shift, found, false_positive_rate, conflicts)


def _shift(pairs: Pairs, rng: np.random.Generator) -> int:
    """Return the offset at which most pairs are related; 0 unless another is clearly the better one."""
    if len(pairs) < _FEWEST + max(_OFFSETS):
        return 0
    explained = {offset: _explained(pairs, offset) for offset in (0, *_OFFSETS)}
    best = max(explained, key=lambda offset: explained[offset])
    if explained[best] <= 2 * max(explained[0], 0.0):
        return 0
    return best if relation_p_value(_shifted(pairs, best), rng) * len(_OFFSETS) < _CHANCE else 0


def _explained(pairs: Pairs, offset: int) -> float:
    """Return the share of the target's spread that a map explains of rows left out, at an offset."""
    some = _shifted(pairs, offset).take(slice(0, _OTHERS))
    moments = moments_of_pairs(some, grams="source")
    spread = moments.yy_diagonal.sum() / (moments.weight * moments.dim_target)
    return 1 - best_alpha(moments, some)[1] / float(spread) if spread > 0 else 0.0


def _shifted(pairs: Pairs, offset: int) -> Pairs:
    """Return the pairs of row i of the source and row i + offset of the target; those at the ends have none."""
    count = len(pairs) - abs(offset)
    source = slice(max(-offset, 0), max(-offset, 0) + count)
    target = slice(max(offset, 0), max(offset, 0) + count)
    return Pairs(pairs.source[source], pairs.target[target], None, pairs.caller)


def _suspicions(
    pairs: Pairs, trusted: Weighed, shift: int, rate: float, rng: np.random.Generator
) -> tuple[Suspicion, ...]:
    """Return the rows that are far from their own target and not much nearer to it than to others."""
    weight = np.zeros(len(pairs))  # the rows at the ends of shifted pairs are in no fit
    start = max(-shift, 0)
    weight[start : start + len(trusted.weight)] = trusted.weight
    others = np.sort(rng.permutation(len(pairs))[:_OTHERS])
    own, nearer = np.empty(len(pairs)), np.empty(len(pairs))
    for rows in _blocks(len(pairs), len(others)):
        mapped = _mapped(pairs, trusted, weight, shift, rows)
        own[rows] = np.linalg.norm(pairs.target[rows] - mapped, axis=1)
        closer = np.sqrt(squared_distances(mapped, pairs.target[others])) < own[rows, None]
        closer &= rows[:, None] != others
        nearer[rows] = closer.sum(axis=1) / np.maximum((rows[:, None] != others).sum(axis=1), 1)
    scores = normal_scores(trusted.distance)
    limit = float(-ndtri(rate))
    wrong = np.flatnonzero((spreads_above(scores, normal_scores(own)) > limit) & (nearer > _NEARER))
    belongs = np.full(len(wrong), -1, dtype=np.intp)
    usual = float(np.median(trusted.distance))
    clear = np.sqrt(2 * _CLEAR) * usual / np.sqrt(pairs.target.shape[1])
    for places in _blocks(len(wrong), len(wrong)):
        mapped = _mapped(pairs, trusted, weight, shift, wrong[places])
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


def _mapped(pairs: Pairs, trusted: Weighed, weight: Array, shift: int, rows: NDArray[np.intp]) -> Array:
    """Return what rows of the source are mapped to by the fit without them."""
    targets = pairs.target[np.clip(rows + shift, 0, len(pairs) - 1)]
    return trusted.fit.without(Pairs(pairs.source[rows], targets, weight[rows], pairs.caller))[0]


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
