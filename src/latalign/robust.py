"""Weights under which pairs that do not correspond count little or nothing: iteratively reweighted fits.

Every pair is scored by how far its target is from what a ridge regression without the pair makes of its
source. Scores far above the others get a weight that falls to zero (redescending, after Hampel), and the
regression is fitted anew. What is far above is told by the lower half of the scores, which mismatched pairs
have hardly a part in.

References
----------
P. J. Huber, E. M. Ronchetti, Robust Statistics, 2nd ed., Wiley 2009.
F. R. Hampel, E. M. Ronchetti, P. J. Rousseeuw, W. A. Stahel, Robust Statistics: The Approach Based on
Influence Functions, Wiley 1986.
E. B. Wilson, M. M. Hilferty, The distribution of chi-square, PNAS 17 (1931) 684-688.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from latalign._linalg import squared_distances
from latalign._validation import Array, Pairs, Rows
from latalign.leave_one_out import LeaveOneOut
from latalign.select import distinct, groups_of

# A pair loses weight from so many spreads above the median on, and has none beyond the second.
_BEND, _END = 2.0, 4.0
_LOWER = 0.16  # the quantile one standard deviation below a normal median
_ITERATIONS = 12
_SETTLED = 0.02
# With fewer pairs than so many times the dimensions, how far a target is says less than how much nearer it
# is than other rows' targets; those are looked at among so many rows.
_FEW_PER_DIM, _OTHERS = 4, 256
# Of fewer pairs than so many the spread is itself uncertain. A pair keeps its weight if other pairings of the same
# rows are as near no more often than the first of these shares, and from the second on it has no such claim.
_FEW, _CLEAR, _DOUBTFUL = 32, 0.01, 0.05
_FAR = 2.5  # times the median distance from the middle
_FEWEST = 5  # of fewer different pairs none can be told from the others
_DOUBTED = 0.5
_BLOCK_ROWS = 2048


@final
@dataclass(frozen=True, slots=True, eq=False)
class Weighed:
    """Pairs with what each is to count.

    Attributes
    ----------
    factor : (n,) array
        From 0 to 1, to be multiplied with the weights that the pairs have.
    weight : (n,) array
        What a pair and all that are equal to it count in the fit together.
    distance : (n,) array
        From the target to what the source is mapped to by the fit without the pair.
    fit : LeaveOneOut
        The regression, with those weights.
    chance : (n,) array or None
        The share of other pairings of the same rows that are as near as the pair, of few pairs.
    """

    factor: Array
    weight: Array
    distance: Array
    fit: LeaveOneOut
    chance: Array | None

    @property
    def clear(self) -> float:
        """The share of the weight of pairs nearer than nearly all other pairings; 1 of many pairs."""
        if self.chance is None:
            return 1.0
        return float(np.average(self.chance < _DOUBTFUL, weights=self.factor))

    @property
    def r2(self) -> float:
        """The share of the target's spread, as the pairs count, that the fit without each explains of it."""
        moments = self.fit.moments
        spread = float(moments.yy_diagonal.sum() / moments.weight)
        left = float(np.average(self.distance**2, weights=self.factor))
        return 1 - left / spread if spread > 0 else float("nan")


def weighed(pairs: Pairs) -> Weighed:
    """Return what each pair is to count, so that those that do not correspond count little or nothing."""
    some, group = distinct(pairs)  # equal pairs are left out together: none vouches for its duplicate
    count = some.weights
    rng = np.random.default_rng(0)
    others = np.sort(rng.permutation(len(some))[:_OTHERS])
    factor = _near(some.source) * _near(some.target)
    fit, distance = _fitted(some, count * factor)
    rules, per_dim = [(False, True)], len(some) / pairs.source.shape[1]
    if per_dim < _FEW_PER_DIM:
        rules = [(True, False), (True, True)]
    few = per_dim < _FEW_PER_DIM or len(some) < _FEW
    for relative, absolute in rules:
        for _ in range(_ITERATIONS):
            fit, distance = _fitted(some, count * factor)
            new = np.ones(len(some))
            near = _Nearness.of(fit, _with(some, count * factor), others) if few else None
            if relative and near is not None:
                new = _redescending(near.own)
            if absolute:
                new = np.minimum(new, _redescending(normal_scores(distance)))
            if len(some) < _FEW and near is not None:
                doubt = np.clip((near.chance() - _CLEAR) / (_DOUBTFUL - _CLEAR), 0, 1)
                new = 1 - (1 - new) * doubt
            moved = float(np.abs(new - factor).max())
            factor = new
            if moved < _SETTLED:
                break
    fit, distance = _fitted(some, count * factor)
    chance = _Nearness.of(fit, _with(some, count * factor), others).chance()[group] if few else None
    return Weighed(factor[group], (count * factor)[group], distance[group], fit, chance)


def downweighted(pairs: Pairs, *, plain: bool = False) -> tuple[Pairs, dict[str, float]]:
    """Return the pairs that count, with their weights, and how many were given how little weight.

    `plain` is for a map with nothing to hold it, which fits what few pairs there are exactly.
    """
    pairs.require_finite()
    different = len(pairs) and int(groups_of(pairs).max()) + 1
    found = weighed(pairs) if different >= _FEWEST else None
    factor = np.ones(len(pairs)) if found is None else found.factor
    if plain and np.count_nonzero(factor) <= pairs.source.shape[1]:
        # It goes through so few pairs, whatever they weigh: a little is as much as all.
        factor = np.where(factor < _DOUBTED, 0.0, factor)
    kept = np.flatnonzero(factor)
    weight = factor if pairs.weight is None else factor * pairs.weight
    record = {
        "pairs": float(len(pairs)),
        "ignored": float(len(pairs) - len(kept)),
        "downweighted": float(np.count_nonzero((factor > 0) & (factor < 1))),
        "weight": float(factor.sum()),
        "clear": 0.0 if found is None else found.clear,
    }
    return Pairs(pairs.source[kept], pairs.target[kept], weight[kept], pairs.caller), record


def normal_scores(distance: Array) -> Array:
    """Return distances on a scale on which those of genuine pairs are nearly normal (Wilson and Hilferty)."""
    return np.cbrt(distance) ** 2


def spreads_above(scores: Array, values: Array | None = None) -> Array:
    """Return how many standard deviations values are above the median of scores, told by its lower half.

    The scores themselves are measured unless other values are given.
    """
    middle, lower = np.quantile(scores, (0.5, _LOWER))
    spread = max(float(middle - lower), 1e-9 * abs(float(middle)), float(np.finfo(np.float64).tiny))
    with np.errstate(over="ignore"):  # where half the scores are the same, others may be infinitely far above
        return ((scores if values is None else values) - middle) / spread


def left_out(fit: LeaveOneOut, pairs: Pairs) -> NDArray[np.float64]:
    """Return what all rows are mapped to by the fit without them, (n, dim_target)."""
    return np.concatenate([fit.without(part)[0] for part in pairs.blocks(_BLOCK_ROWS)])


def _redescending(scores: Array) -> Array:
    return np.clip((_END - spreads_above(scores)) / (_END - _BEND), 0, 1)


def _with(pairs: Pairs, weight: Array) -> Pairs:
    return Pairs(pairs.source, pairs.target, weight, pairs.caller)


def _fitted(pairs: Pairs, weight: Array) -> tuple[LeaveOneOut, Array]:
    """Return the regression of weighted pairs, and how far each target is from the fit without it."""
    kept = np.flatnonzero(weight)
    fit = LeaveOneOut.of(_with(pairs, weight).take(kept))
    residuals = (fit.without(part)[1] for part in _with(pairs, weight).blocks(_BLOCK_ROWS))
    return fit, np.concatenate([np.linalg.norm(residual, axis=1) for residual in residuals])


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Nearness:
    """Logarithms of distances, less what is usual for the row and the target.

    Attributes
    ----------
    own : (n,) array
        To the own target.
    others : sorted array
        To the targets of other rows: what a pair is that does not correspond.
    """

    own: Array
    others: Array

    @staticmethod
    def of(fit: LeaveOneOut, pairs: Pairs, others: NDArray[np.intp]) -> _Nearness:
        """Measure pairs in the fit without them, some of them with each other."""
        mapped = left_out(fit, pairs)
        own = _logs(((mapped - pairs.target) ** 2).sum(axis=1))
        here = np.full(len(pairs), -1)
        here[others] = np.arange(len(others))
        away = _logs(squared_distances(mapped, pairs.target[others]))
        rows = _mean_but_own(away, here)
        columns = _mean_but_own(_logs(squared_distances(pairs.target, mapped[others])), here)
        away -= rows[:, None] + columns[others]
        return _Nearness(own - rows - columns, np.sort(away[np.arange(len(pairs))[:, None] != others]))

    def chance(self) -> Array:
        """Return the share of other pairings that are as near as each pair, never quite zero."""
        return (np.searchsorted(self.others, self.own) + 0.5) / (len(self.others) + 1)


def _mean_but_own(values: Array, here: NDArray[np.intp]) -> Array:
    """Return the means of the rows, without the entry at `here` where there is one."""
    total, inside = values.sum(axis=1), np.flatnonzero(here >= 0)
    total[inside] -= values[inside, here[inside]]
    return total / (values.shape[1] - (here >= 0))


def _logs(squares: Array) -> Array:
    """Return the logarithms of distances, given their squares."""
    return 0.5 * np.log(np.maximum(squares, np.finfo(np.float64).tiny))


def _near(rows: Rows) -> Array:
    """Return weights under which rows far from the middle have no more of a say than others."""
    x = rows.astype(np.float64)
    x /= np.abs(x).max() or 1.0  # so that no square overflows
    away = np.linalg.norm(x - np.median(x, axis=0), axis=1)
    limit = _FAR * float(np.median(away))
    if limit <= 0:  # most rows are the same
        return np.ones(len(rows))
    return np.divide(limit, away, out=np.ones_like(away), where=away > limit) ** 2
