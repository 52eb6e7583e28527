"""Runs of rows that are shifted: a row was put in or lost on one side, and those behind it lost their targets.

A ridge regression is fitted at every small offset, in all rows and in parts of them, and the one that explains
most of rows left out tells how near every row is to its target at every offset. Of a row without its target the
share of others that are nearer is as likely to be any number from 0 to 1; of a row with its target it is small.
The likeliest course of the offset through the rows follows by dynamic programming, each change at a price.

References
----------
A. J. Viterbi, Error bounds for convolutional codes and an asymptotically optimum decoding algorithm, IEEE
Transactions on Information Theory 13 (1967) 260-269.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
from numpy.typing import NDArray

from latalign._linalg import squared_distances
from latalign._validation import Array, Pairs
from latalign.leave_one_out import LeaveOneOut
from latalign.moments import moments_of_pairs
from latalign.paths import best_alpha

_OFFSETS = (0, 1, -1, 2, -2, 3, -3)
_FEWEST = 10  # of fewer rows nothing is said
_PARTS, _LEAST_PART = (1, 2, 4), 20
_WORSE = 0.8  # what a map of half of the rows may explain less for being of fewer
_FITTED, _OTHERS = 2000, 256
_RELATED = 0.9  # the exponent above which nearness tells nothing
_CHANCE = 0.01
_ROUNDS = 3
_BLOCK_ROWS = 4096


@final
@dataclass(frozen=True, slots=True)
class Shift:
    """Rows that follow each other whose targets are at an offset.

    Attributes
    ----------
    start, stop : int
        From the first of them to before the last one's next.
    offset : int
        The target of row i is row i + offset.
    """

    start: int
    stop: int
    offset: int


def shifts_of(pairs: Pairs, rng: np.random.Generator) -> tuple[Shift, ...]:
    """Return the runs of rows that are shifted by up to three, in order."""
    count = len(pairs)
    if count < _FEWEST + max(_OFFSETS):
        return ()
    rows, offset = _best_part(pairs, rng)
    course = np.full(count, offset)
    others = np.sort(rng.permutation(count)[:_OTHERS])
    found: tuple[Shift, ...] = ()
    for _ in range(_ROUNDS):
        gains = _gains(pairs, rows, course, others)
        found = tuple(_runs(gains)) if gains is not None and _worth_a_change(gains) else ()
        new = offsets_of(found, count)
        if (new == course).all():
            break
        course, rows = new, np.sort(rng.permutation(count)[:_FITTED])
    return found


def offsets_of(shifts: Iterable[Shift], count: int) -> NDArray[np.intp]:
    """Return the offset of every row."""
    found = np.zeros(count, dtype=np.intp)
    for one in shifts:
        found[one.start : one.stop] = one.offset
    return found


def at_offsets(
    pairs: Pairs, rows: NDArray[np.intp], offset: NDArray[np.intp]
) -> tuple[Pairs, NDArray[np.intp]]:
    """Return rows of the source with the targets at their offsets, and which rows have one."""
    kept = rows[(rows + offset >= 0) & (rows + offset < len(pairs))]
    target = kept + offset[np.searchsorted(rows, kept)]
    return Pairs(pairs.source[kept], pairs.target[target], None, pairs.caller), kept


def _best_part(pairs: Pairs, rng: np.random.Generator) -> tuple[NDArray[np.intp], int]:
    """Return the rows, all or a part of them, and the offset at which a map explains most of them."""
    best = -np.inf, np.arange(0), 0
    for parts in _PARTS:
        for rows in np.array_split(np.arange(len(pairs)), parts):
            if parts > 1 and len(rows) < _LEAST_PART:
                continue
            some = np.sort(rng.permutation(rows)[:_FITTED])
            for offset in _OFFSETS:
                explained = _explained(at_offsets(pairs, some, np.full(len(some), offset))[0])
                explained *= _WORSE ** (parts > 1) * _WORSE ** (parts > 2)
                if explained > best[0]:
                    best = explained, some, offset
    return best[1:]


def _explained(some: Pairs) -> float:
    """Return the share of the target's spread that a map explains of rows left out."""
    moments = moments_of_pairs(some, grams="source")
    spread = moments.yy_diagonal.sum() / (moments.weight * moments.dim_target)
    varies = spread > 0 and bool(moments.source_varies.any())
    return 1 - best_alpha(moments, some)[1] / float(spread) if varies else 0.0


def _gains(
    pairs: Pairs, rows: NDArray[np.intp], course: NDArray[np.intp], others: NDArray[np.intp]
) -> Array | None:
    """Return how much likelier it is of every row that its target is at each offset than nowhere.

    That is the logarithm of the density of the share of nearer targets, a · share^(a − 1), whose exponent is
    that of the rows of the fit where they are taken to be; None where those are not related.
    """
    some, kept = at_offsets(pairs, rows, course[rows])
    if not np.ptp(some.source, axis=0).any() or not np.ptp(some.target, axis=0).any():
        return None
    fit = LeaveOneOut.of(some)
    inside = np.zeros(len(pairs))
    inside[kept] = 1
    nearer = np.full((len(pairs), len(_OFFSETS)), np.nan)
    for start in range(0, len(pairs), _BLOCK_ROWS):
        here = np.arange(start, min(start + _BLOCK_ROWS, len(pairs)))
        own = pairs.target[np.clip(here + course[here], 0, len(pairs) - 1)]
        mapped = fit.without(Pairs(pairs.source[here], own, inside[here], pairs.caller))[0]
        far = squared_distances(mapped, pairs.target[others])
        for column, offset in enumerate(_OFFSETS):
            there = here[(here + offset >= 0) & (here + offset < len(pairs))]
            away = ((mapped[there - start] - pairs.target[there + offset]) ** 2).sum(axis=1)
            closer = (far[there - start] < away[:, None]) & (others != there[:, None] + offset)
            nearer[there, column] = (closer.sum(axis=1) + 0.5) / (len(others) + 1)
    places = np.array([_OFFSETS.index(int(one)) for one in course[kept]])
    exponent = -1 / float(np.log(nearer[kept, places]).mean())
    if exponent > _RELATED:
        return None
    return np.nan_to_num(np.log(exponent) + (exponent - 1) * np.log(nearer))


def _price(gains: Array) -> float:
    """Return what a change of the offset costs: by chance none is worth it more often than once in a hundred files."""
    return float(np.log(gains.size / _CHANCE))


def _worth_a_change(gains: Array) -> bool:
    """Tell whether any run of rows is likelier at another offset by more than a change costs."""
    more = np.cumsum(gains[:, 1:] - np.maximum(gains[:, :1], 0), axis=0)
    more = np.concatenate((np.zeros((1, more.shape[1])), more))
    return bool((more - np.minimum.accumulate(more, axis=0)).max() > _price(gains))


def _runs(gains: Array) -> Iterator[Shift]:
    """Yield the runs of rows that are likeliest at an offset, and not likely to be where they are."""
    states = _course(np.column_stack((gains, np.zeros(len(gains)))))
    offsets = np.array([*_OFFSETS, 0])[states]
    known = np.flatnonzero(states < len(_OFFSETS))
    # What is nowhere between rows of one offset is as those.
    for one, other in pairwise(known):
        if offsets[one] == offsets[other]:
            offsets[one:other] = offsets[one]
    edges = np.flatnonzero(np.diff(offsets)) + 1
    for rows in np.split(np.arange(len(gains)), edges):
        start, stop = int(rows[0]), int(rows[-1]) + 1
        # Rows that change slowly are likely at more than one offset; those are left as they are.
        if offsets[start] and gains[start:stop, 0].sum() < 0:
            yield Shift(start, stop, int(offsets[start]))


def _course(gains: Array) -> NDArray[np.intp]:
    """Return the likeliest state of every row, where each change has its price."""
    price = _price(gains)
    came_from = np.empty(gains.shape, dtype=np.intp)
    total, same = gains[0], np.arange(gains.shape[1])
    for row in range(1, len(gains)):
        best = int(total.argmax())
        change = total < total[best] - price
        came_from[row] = np.where(change, best, same)
        total = np.maximum(total, total[best] - price) + gains[row]
    course = np.empty(len(gains), dtype=np.intp)
    course[-1] = int(total.argmax())
    for row in range(len(gains) - 1, 0, -1):
        course[row - 1] = came_from[row, course[row]]
    return course
