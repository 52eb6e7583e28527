"""The moments of every pair of many spaces: of rows that all of them have, in one pass, or as they are given.

Of rows that all spaces have, the second moments of the spaces side by side hold those of every pair: blocks
of rows are put side by side as they are read, and no copy of all of them is made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from itertools import pairwise as successive
from typing import Any, cast, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._linalg import EPS
from latalign._rowsum import Buffers, NotFinite, Precision, overflow
from latalign._validation import Array, Pairs, Rows, as_rows, as_weights, require_finite, require_spread
from latalign.moments import Moments, MomentSum, block_rows
from latalign.select import fold_of_groups, groups_of, keys_of

Edge = tuple[int, int]
"""Two spaces by their numbers, the smaller one first."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pairwise:
    """The moments of all pairs of spaces that have rows in common; those of disjoint rows add up.

    Attributes
    ----------
    names : tuple of str
    moments : mapping of Edge to Moments
        With both Gram matrices.
    """

    names: tuple[str, ...]
    moments: Mapping[Edge, Moments]

    @property
    def dims(self) -> tuple[int, ...]:
        """The width of every space."""
        found = {
            end: dim
            for edge, one in self.moments.items()
            for end, dim in zip(edge, one.xy.shape, strict=True)
        }
        return tuple(found[i] for i in range(len(self.names)))

    def pair(self, source: int, target: int) -> Moments | None:
        """Return the moments of (source, target) rows; None where the two have no rows in common."""
        if source < target:
            return self.moments.get((source, target))
        found = self.moments.get((target, source))
        return None if found is None else found.swapped()

    def partners(self, space: int) -> dict[int, Moments]:
        """Return the moments of a space, as source, and every other with which it has rows in common."""
        every = ((other, self.pair(space, other)) for other in range(len(self.names)) if other != space)
        return {other: found for other, found in every if found is not None}

    def __add__(self, other: Pairwise) -> Pairwise:
        """Return the moments of the rows of both."""
        return Pairwise(self.names, {edge: one + other.moments[edge] for edge, one in self.moments.items()})


@final
@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """What is known of one space: over the rows of all its pairs.

    Attributes
    ----------
    mean : (dim,) array
    covariance : (dim, dim) array
        About the mean of each pair.
    count : int
        The rows of the pair that has the most.
    """

    mean: Array
    covariance: Array
    count: int

    @staticmethod
    def of(partners: Sequence[Moments]) -> Spread:
        """Pool the moments of a space, the source of each; it is the mean itself where all are the same."""
        weight = sum(one.weight for one in partners)
        first = partners[0].source_mean
        away = sum((one.weight * (one.source_mean - first) for one in partners), np.zeros_like(first))
        total = sum((one.xx for one in partners[1:]), partners[0].xx)
        return Spread(first + away / weight, total / weight, max(one.count for one in partners))


def spreads(pairwise: Pairwise) -> tuple[Spread, ...]:
    """Return what is known of every space."""
    return tuple(Spread.of(tuple(pairwise.partners(i).values())) for i in range(len(pairwise.names)))


def total_of(folds: Sequence[Pairwise], left_out: int | None = None) -> Pairwise:
    """Return the moments of all folds together, or of all but one: sums only, so that nothing cancels."""
    first, *rest = (fold for number, fold in enumerate(folds) if number != left_out)
    for fold in rest:
        first = first + fold
    return first


def folds_of_rows(
    spaces: Mapping[str, ArrayLike],
    sample_weight: ArrayLike | None,
    n_folds: int,
    rng: np.random.Generator,
    precision: Precision,
    caller: str,
) -> tuple[Pairwise, ...]:
    """Return the moments of rows that all spaces have, dealt at random to folds; equal rows stay together."""
    arrays = [as_rows(rows, f"{caller}: the space {name!r}") for name, rows in spaces.items()]
    names = tuple(spaces)
    counts = {name: len(rows) for name, rows in zip(names, arrays, strict=True)}
    if len(set(counts.values())) > 1:
        raise ValueError(
            f"{caller} needs rows that correspond: the spaces have {counts} rows. Pair them first, or give the "
            "moments of every two spaces that share rows (latalign.fit_many_moments)."
        )
    weight = as_weights(sample_weight, len(arrays[0]))
    if weight is not None and not weight.all():
        kept = np.flatnonzero(weight)
        arrays, weight = [rows[kept] for rows in arrays], weight[kept]
    if len(arrays[0]) < 2:
        raise ValueError(f"{caller} needs at least 2 pairs of rows; got {len(arrays[0])}")
    keys = _keys(arrays)[:, None]
    group = groups_of(Pairs(keys, keys))
    n_folds = min(n_folds, int(group.max()) + 1)
    fold = fold_of_groups(group, n_folds, rng)
    try:
        sums = [_joint(arrays, weight, np.flatnonzero(fold == k), precision) for k in range(n_folds)]
    except NotFinite:
        for name, rows in zip(names, arrays, strict=True):
            require_finite(rows, f"{caller}: the space {name!r}")
        raise overflow(caller) from None
    return tuple(_pairs_of(names, [rows.shape[1] for rows in arrays], joint) for joint in sums)


def _keys(arrays: Sequence[Rows]) -> NDArray[np.uint64]:
    """Return a number for every row that equal rows share, over all spaces."""
    keys = np.zeros(len(arrays[0]), np.uint64)
    for number in range(0, len(arrays), 2):
        pair = Pairs(arrays[number], arrays[min(number + 1, len(arrays) - 1)])
        # An odd factor keeps what is different different, and tells one pair of spaces from the next.
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + keys_of(pair)
    return keys


def _joint(
    arrays: Sequence[Rows], weight: Array | None, index: NDArray[np.intp], precision: Precision
) -> Moments:
    """Return the moments of some rows of all spaces side by side; the target is a column of zeros."""
    dims = sum(rows.shape[1] for rows in arrays), 1
    block = min(block_rows(dims, precision), len(index))
    total = MomentSum(Buffers(block, dims, precision, "source"))
    for start in range(0, len(index), block):
        part = index[start : start + block]
        side_by_side = np.hstack([rows[part] for rows in arrays])
        total.add(Pairs(side_by_side, np.zeros((len(part), 1)), None if weight is None else weight[part]))
    return total.moments()


def _pairs_of(names: tuple[str, ...], dims: Sequence[int], joint: Moments) -> Pairwise:
    """Return the moments of every pair: views of those of all spaces side by side."""
    ends = np.cumsum([0, *dims])
    parts = [slice(start, stop) for start, stop in successive(ends)]
    gram = joint.xx
    moments = {
        (i, j): Moments(
            weight=joint.weight,
            count=joint.count,
            source_mean=joint.source_mean[parts[i]],
            target_mean=joint.source_mean[parts[j]],
            xy=gram[parts[i], parts[j]],
            xx_diagonal=joint.xx_diagonal[parts[i]],
            yy_diagonal=joint.xx_diagonal[parts[j]],
            source_gram=gram[parts[i], parts[i]],
            target_gram=gram[parts[j], parts[j]],
            rounding=joint.rounding,
        )
        for i, j in combinations(range(len(names)), 2)
    }
    return Pairwise(names, moments)


def require_names(names: Iterable[object], caller: str) -> None:
    """Raise a TypeError where a space is named by something else than a string: files hold nothing else."""
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"{caller} needs names of spaces that are strings; got {name!r}. Give str({name!r})."
            )


def folds_of_moments(
    pairs: Mapping[tuple[str, str], Moments | Sequence[Moments]], caller: str
) -> tuple[Pairwise, ...]:
    """Return the moments that are given, checked against each other, fold by fold."""
    for pair in cast("Mapping[Any, object]", pairs):
        if not isinstance(pair, tuple) or len(cast("tuple[Any, ...]", pair)) != 2:
            raise TypeError(f"{caller} needs pairs of names, (source, target); got {pair!r}")
    names = tuple(dict.fromkeys(name for pair in pairs for name in pair))
    require_names(names, caller)
    number = {name: i for i, name in enumerate(names)}
    found: dict[Edge, tuple[Moments, ...]] = {}
    for (source, target), given in pairs.items():
        folds = (given,) if isinstance(given, Moments) else tuple(given)
        if not folds or not all(isinstance(cast(object, fold), Moments) for fold in folds):
            raise TypeError(f"{caller} needs Moments, or a sequence of them, for {source!r} and {target!r}")
        if any(fold.source_gram is None or fold.target_gram is None for fold in folds):
            raise ValueError(
                f"{caller} needs Moments with both Gram matrices; those of {source!r} and {target!r} lack one. "
                'Accumulate them with grams="both".'
            )
        i, j = number[source], number[target]
        if i == j:
            raise ValueError(f"{caller} needs two different spaces of every pair; got {source!r} twice")
        if (i, j) in found or (j, i) in found:
            raise ValueError(f"{caller} needs every two spaces once; got {source!r} and {target!r} again")
        found[min(i, j), max(i, j)] = folds if i < j else tuple(fold.swapped() for fold in folds)
    counts = {len(folds) for folds in found.values()}
    if len(counts) != 1:
        raise ValueError(f"{caller} needs as many folds of every pair; got {sorted(counts)}")
    dims: dict[int, int] = {}
    for edge, folds in found.items():
        for end, dim in [(end, dim) for fold in folds for end, dim in zip(edge, fold.xy.shape, strict=True)]:
            if dims.setdefault(end, dim) != dim:
                raise ValueError(
                    f"{caller}: the space {names[end]!r} has {dims[end]} dimensions, and {dim} as well"
                )
    return tuple(
        Pairwise(names, {edge: folds[k] for edge, folds in found.items()}) for k in range(counts.pop())
    )


def check_pairwise(pairwise: Pairwise, caller: str) -> None:
    """Raise a ValueError where a space is the same everywhere, or is not connected with the others."""
    names = pairwise.names
    for i, name in enumerate(names):
        for found in pairwise.partners(i).values():
            if found.count < 2:
                raise ValueError(
                    f"{caller} needs at least 2 pairs of rows; {name!r} has {found.count} with another"
                )
            require_spread(found.source_varies, found.source_mean, found.count, f"space {name!r}", caller)
    reached, new = {0}, [0]
    while new:
        new = [j for i in new for j in pairwise.partners(i) if j not in reached]
        reached.update(new)
    if apart := [name for i, name in enumerate(names) if i not in reached]:
        raise ValueError(
            f"{caller} needs spaces that are connected by pairs; nothing leads from {names[0]!r} to "
            f"{', '.join(map(repr, apart))}"
        )


def rounding_of(pairwise: Pairwise) -> float:
    """Return the relative rounding of the products."""
    return max([EPS, *(found.rounding for found in pairwise.moments.values())])
