"""Which method: the cross-validated error of every one, from fold moments, and the choice among them.

The error on a held-out fold is a function of the fold's moments, so K sums of moments give exact K-fold
cross-validation of every method and every hyperparameter with no second pass over the rows. Only the
scores that are not sums of squares (cosine, recall) look at held-out rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, final

import numpy as np
from numpy.typing import NDArray

from latalign._linalg import EPS, deviations
from latalign._validation import Array, Pairs, Rows, require_folds
from latalign.evidence import Candidate
from latalign.methods import LEAST_SQUARES, METHODS, Grid, Method, Parameters
from latalign.metrics import ranks
from latalign.metrics.retrieval import row_cosines
from latalign.moments import Grams, Moments, Precision, all_but_one, moments_of_pairs

Scoring = Literal["mse", "cosine", "recall@1", "recall@10", "mrr"]
"""What candidates are compared by."""


# Each is of a mapped row and of the row of that number in an index: one value a row, the best is 1.
_ROW_SCORES: Mapping[str, Callable[[Rows, Rows], Array]] = MappingProxyType(
    {
        "cosine": lambda mapped, index: row_cosines(mapped, index[: len(mapped)]),
        "recall@1": lambda mapped, index: np.asarray(ranks(mapped, index) <= 1, np.float64),
        "recall@10": lambda mapped, index: np.asarray(ranks(mapped, index) <= 10, np.float64),
        "mrr": lambda mapped, index: 1 / ranks(mapped, index),
    }
)
SCORINGS = ("mse", *_ROW_SCORES)

# Of two errors this close the earlier method wins; and of two that the folds do not tell apart, up to
# the second limit.
_TIE, _DOUBTFUL = 1.01, 1.05
_NEAR = 0.5, 1.5
# Scores of rows cost a map and a search for every point of a grid: so few rows and points are looked at.
_SCORED_ROWS = 1000
_SCORED_POINTS = 14
_SEARCHED_ROWS = 5000
# A stream of its own: that of a seed which a user may give, 0 for instance, has drawn the folds.
_DRAWING = np.random.SeedSequence(0, spawn_key=(1,))
_FOLDS, _FOLDS_OF_FEW, _FEW_PAIRS = 5, 20, 200
_FOLD_VALUES = 1 << 24  # 128 MiB
_KEYED_ROWS = 128  # a block stays in the cache


@final
@dataclass(frozen=True, slots=True, eq=False)
class Folds:
    """Pairs cut at random into folds of nearly equal size, with the moments of each.

    Equal pairs fall into the same fold, so that no pair is predicted from its own duplicate, and a
    weight of two means the same as a row given twice.

    Attributes
    ----------
    moments : tuple of Moments
        One a fold.
    pairs : Pairs
    number : (n,) array of int
        The fold that each pair is in.
    group : (n,) array of int
        The group of equal pairs that it is in.
    """

    moments: tuple[Moments, ...]
    pairs: Pairs
    number: NDArray[np.intp]
    group: NDArray[np.intp]

    @staticmethod
    def of(
        pairs: Pairs,
        n_folds: int,
        rng: np.random.Generator,
        *,
        precision: Precision = "double",
        grams: Grams = "source",
    ) -> Folds:
        """Cut the pairs into `n_folds` folds, or into as many as there are different pairs if fewer."""
        require_folds(n_folds, "cross-validation")
        if len(pairs) < 2:
            raise ValueError(f"cross-validation needs at least 2 pairs; got {len(pairs)}")
        group = groups_of(pairs)
        n_folds = min(n_folds, int(group.max()) + 1)
        number = fold_of_groups(group, n_folds, rng)
        parts = (pairs.take(np.flatnonzero(number == k)) for k in range(n_folds))
        try:
            moments = tuple(moments_of_pairs(part, precision=precision, grams=grams) for part in parts)
        except ValueError:
            pairs.require_finite()  # counts the bad rows of all folds
            raise
        return Folds(moments, pairs, number, group)

    def other_rows(self, fold: int) -> Pairs:
        """Return the pairs of all folds but one."""
        return self.pairs.take(np.flatnonzero(self.number != fold))

    def searched(self, fold: int) -> tuple[Pairs, Rows]:
        """Return pairs of one fold, a thousand at most, and the target rows to find theirs among.

        Those rows are at the beginning, and behind them others of all folds; of many pairs both are drawn
        at random, for rows that follow each other may be alike. Equal pairs are there once, with the
        weight of all of them: a row could not be told from its duplicate.
        """
        weight = self.pairs.weights
        total = np.bincount(self.group, weight)
        first = np.unique(self.group, return_index=True)[1]
        once = np.random.default_rng(_DRAWING).permutation(np.sort(first))
        looked_for = once[self.number[once] == fold][:_SCORED_ROWS]
        others = once[~np.isin(once, looked_for)][::-1]  # where the last of this fold are
        order = np.concatenate([looked_for, others])[:_SEARCHED_ROWS]
        part = self.pairs.take(looked_for)
        return replace(part, weight=total[self.group[looked_for]]), self.pairs.target[order]


def default_folds(pairs: Pairs, scoring: str = "mse") -> int:
    """Return in how many folds pairs are cross-validated unless something else is asked for.

    Five. Of few pairs up to twenty, because four fifths of them may span fewer dimensions than all do,
    and then say little of a map that is fitted to all. Not for scores that compare the rows of a fold
    with one another, nor where the moments of so many folds would fill the memory.
    """
    if scoring != "mse":
        return _FOLDS
    return folds_for(len(pairs), pairs.source.shape[1], pairs.target.shape[1])


def folds_for(count: int, dim_source: int, dim_target: int) -> int:
    """Return in how many folds so many pairs are cross-validated by their moments: see `default_folds`."""
    fitting = _FOLD_VALUES // (dim_source * (dim_source + dim_target))
    return max(_FOLDS, min(_FOLDS_OF_FEW, fitting)) if count <= _FEW_PAIRS else _FOLDS


def cross_validate(
    folds: Sequence[Moments], methods: Sequence[Method] = LEAST_SQUARES
) -> tuple[Candidate, ...]:
    """Return every method with its K-fold cross-validated mean squared error, best first.

    Parameters
    ----------
    folds : sequence of Moments
        Moments of disjoint sets of pairs, at least two, none of them of no pairs.
    methods : sequence of Method
        Rows of `latalign.METHODS`: all that are least squares unless given. Of "retrieval" a squared
        error says nothing.

    Returns
    -------
    tuple of Candidate

    Raises
    ------
    ValueError
        If there are fewer than two folds, one of them has no pairs, or their dimensions differ.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> folds = [latalign.Moments.of(X[k::5], X[k::5] + 1) for k in range(5)]
    >>> sorted(found.method for found in latalign.cross_validate(folds) if found.error < 1e-12)
    ['affine', 'low_rank', 'ridge', 'rigid', 'shrunk', 'similarity']
    """
    return tuple(found.candidate for found in validated(folds, methods))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Validated:
    """A candidate with what every fold adds to its error."""

    candidate: Candidate
    shares: Array


def validated(
    folds: Sequence[Moments],
    methods: Sequence[Method] = LEAST_SQUARES,
    given: Parameters = MappingProxyType({}),
) -> tuple[Validated, ...]:
    """Return what `cross_validate` returns, with the shares of the folds; some hyperparameters may be given."""
    if len(folds) < 2 or not all(fold.count for fold in folds):
        raise ValueError(
            "cross_validate needs Moments of at least 2 folds, each of 1 pair or more; got folds of "
            f"{[fold.count for fold in folds]} pairs"
        )
    trains = all_but_one(folds)
    weights = np.array([fold.weight for fold in folds]) * folds[0].dim_target
    found: list[Validated] = []
    for method in methods:
        grid, sums = method.tried(trains, folds, given)
        found.append(_validated(method, grid, sums / weights[:, None], weights))
    return tuple(sorted(found, key=lambda one: one.candidate.error))


def validated_by_rows(
    folds: Folds,
    scoring: Scoring,
    methods: Sequence[Method] = tuple(METHODS.values()),
    given: Parameters = MappingProxyType({}),
    *,
    among_heldout: bool = False,
) -> tuple[Validated, ...]:
    """Return every method with one minus its cross-validated score on held-out rows, best first.

    Parameters
    ----------
    folds : Folds
        With both Gram matrices, if a method reads them.
    scoring : str
    methods : sequence of Method
    given : mapping
        The hyperparameters that the user gave.
    among_heldout : bool
        Whether rows are searched for among those held out alone: a bent map lies near those of its fit.
    """
    score = _ROW_SCORES[scoring]
    trains = all_but_one(folds.moments)
    others = [folds.other_rows(k) for k in range(len(trains))]
    drawn = (folds.searched(k) for k in range(len(trains)))
    searched = [(part, index[: len(part)] if among_heldout else index) for part, index in drawn]
    weights = np.array([part.weight.sum() for part, _ in searched if part.weight is not None])
    found: list[Validated] = []
    for method in methods:
        grid = _thinned(method.points(trains, folds.moments, given))
        errors = np.array(
            [
                # Rounding may take a perfect score above 1.
                [
                    max(1 - float(np.average(score(map_(part.source), index), weights=part.weight)), 0.0)
                    for map_ in method.maps(train, grid, rest)
                ]
                for train, rest, (part, index) in zip(trains, others, searched, strict=True)
            ]
        )
        found.append(_validated(method, grid, errors, weights))
    return tuple(sorted(found, key=lambda one: one.candidate.error))


def choose(
    found: Sequence[Validated], floor: float = 0.0, *, about_as_many_as_dims: bool = False
) -> Candidate:
    """Return the candidate with the smallest error, or the earliest in `METHODS` that is as good.

    As good is what is within 1 % of it, or within 5 % where the standard error of the difference, fold
    by fold, is larger than the difference: of many candidates the best on few rows was lucky as well.

    Parameters
    ----------
    found : sequence of Validated
    floor : float
        What counts as no error at all: differences below it are rounding.
    about_as_many_as_dims : bool
        Whether there are about as many anchors as source dimensions. The error of plain least squares
        changes there with every anchor more, so what it is without a fold says little: it is left out.
    """
    if about_as_many_as_dims:
        found = [one for one in found if not METHODS[one.candidate.method].plain] or found
    best = min(found, key=lambda one: one.candidate.error)
    least = best.candidate.error
    order = {name: position for position, name in enumerate(METHODS)}

    def as_good(one: Validated) -> bool:
        more = one.shares - best.shares
        noise = float(deviations(more) * np.sqrt(len(more)))
        allowed = min(noise, (_DOUBTFUL - 1) * least)
        return one.candidate.error <= max(_TIE * least, least + allowed) + floor

    return min((one.candidate for one in found if as_good(one)), key=lambda one: order[one.method])


def near_threshold(moments: Moments) -> bool:
    """Tell whether pairs are between half and one and a half as many as there are source dimensions."""
    return _NEAR[0] < moments.count / moments.dim_source < _NEAR[1]


def baseline_error(folds: Sequence[Moments]) -> float:
    """Return the cross-validated mean squared error of the mean target row for every source row."""
    total = 0.0
    for train, fold in zip(all_but_one(folds), folds, strict=True):
        away = fold.target_mean - train.target_mean
        total += float(fold.yy_diagonal.sum() + fold.weight * away.dot(away))
    return total / (sum(fold.weight for fold in folds) * folds[0].dim_target)


ROUNDING_OF_SCORES = 100 * EPS
"""The error below which one minus a score of rows is rounding."""


def rounding_floor(moments: Moments) -> float:
    """Return the mean squared error below which the algebra on moments sees only rounding."""
    mean = ((np.sqrt(EPS) * moments.target_mean) ** 2).mean()  # of a mean that is large squares may overflow
    return float(100 * EPS * (moments.yy_diagonal.mean() / moments.weight + mean))


def groups_of(pairs: Pairs) -> NDArray[np.intp]:
    """Return for every pair the number, from 0, of the group of equal pairs that it is in.

    What is drawn at random to be held out is drawn by group: a pair says nothing of how its own
    duplicate is predicted. Groups are numbered as they come, so that the same draw falls on the same
    rows whatever their values are: scaled, say.
    """
    _, first, group = np.unique(keys_of(pairs), return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]


def fold_of_groups(group: NDArray[np.intp], n_folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Draw the fold of every pair, as many groups (of `groups_of`) in one as in another but for one."""
    return rng.permutation(np.arange(int(group.max()) + 1, dtype=np.intp) % n_folds)[group]


def distinct(pairs: Pairs) -> tuple[Pairs, NDArray[np.intp]]:
    """Return each different pair once, with the weight of all that are equal to it, and where each pair is.

    They are in the order in which they come; the numbers are those of `groups_of`. Pairs that all differ
    are returned as they are.
    """
    group = groups_of(pairs)
    first = np.unique(group, return_index=True)[1]
    if len(first) == len(pairs):
        return pairs, group
    weight = np.bincount(group, weights=pairs.weight).astype(np.float64)
    return replace(pairs.take(first), weight=weight), group


def held_out(group: NDArray[np.intp], count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw whole groups at random, of `count` pairs together or of as many as fit below that.

    Parameters
    ----------
    group : (n,) array of int
        As `groups_of` returns it.
    count : int
    rng : Generator

    Returns
    -------
    (n,) array of bool
        Which pairs are held out.
    """
    sizes = np.bincount(group)
    order = rng.permutation(len(sizes))
    order = order[sizes[order] <= count]
    return np.isin(group, order[np.cumsum(sizes[order]) <= count])


def keys_of(pairs: Pairs) -> NDArray[np.uint64]:
    """Return a number for every pair that equal pairs share, and different ones all but surely do not.

    A random linear function of the bits: the same at any place in an array, which a floating-point
    product is not.
    """
    rng = np.random.default_rng(0)
    sides = (pairs.source, pairs.target)
    factors = [rng.integers(1, 1 << 63, side.shape[1], np.uint64, endpoint=True) for side in sides]
    keys = np.zeros(len(pairs), np.uint64)
    for start in range(0, len(pairs), _KEYED_ROWS):
        part = slice(start, start + _KEYED_ROWS)
        for side, factor in zip(sides, factors, strict=True):
            bits = _bits(side[part])
            keys[part] += bits @ factor[: bits.shape[1]]
    return keys


def _bits(rows: Rows) -> NDArray[np.uint64]:
    """Return values as whole numbers, several in one where they are small, whose low bits differ too."""
    rows = np.add(rows, 0, order="C")  # so that −0.0 is 0.0
    packed = rows.shape[1] * rows.itemsize % 8 == 0
    bits = rows.view(np.uint64 if packed else f"u{rows.itemsize}").astype(np.uint64, copy=False)
    if packed:
        # Signs and small whole numbers are the highest bits of a float64, and those reach the highest
        # bits of a sum of products alone, where few numbers are left to tell pairs apart by.
        bits ^= bits >> np.uint64(32)
    return bits


def _validated(method: Method, grid: Grid, errors: Array, weights: Array) -> Validated:
    """Return the best point of the grid, given its error on every fold (rows: folds)."""
    best = _taken(errors, weights, method.caution)
    spread = float(deviations(errors[:, best]) / np.sqrt(len(errors)))
    point = grid[best]
    alpha = point.get("alpha")
    candidate = Candidate(
        method=method.name,
        error=float(weights @ errors[:, best] / weights.sum()),
        standard_error=spread,
        alpha=None if alpha in (None, "auto") else float(alpha),
        target_rank=point.get("rank"),
        scale=point.get("scale"),
        power=point.get("power"),
    )
    return Validated(candidate, errors[:, best] * (weights / weights.sum()))


def _taken(errors: Array, weights: Array, caution: float) -> int:
    """Return the point with the smallest error, or the last that is hardly worse for what the folds tell."""
    shares = errors * (weights / weights.sum())[:, None]
    means = shares.sum(axis=0)
    best = int(np.argmin(means))
    if not caution:
        return best
    noise = deviations(shares - shares[:, [best]]) * np.sqrt(len(shares))
    return int(np.flatnonzero(means - means[best] <= caution * noise)[-1])


def _thinned(grid: Grid) -> Grid:
    """Return evenly spread points of a long grid, its ends among them."""
    keep = np.linspace(0, len(grid) - 1, min(len(grid), _SCORED_POINTS)).round().astype(int)
    return tuple(grid[int(k)] for k in keep)
