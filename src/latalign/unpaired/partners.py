"""Rows of two clouds that are each other's nearest, corrected for hubs (mutual neighbors under CSLS).

In many dimensions a few rows, the hubs, are near to everything. CSLS takes from a distance how far the
neighbors of either side are, so that a hub must be nearer than others to be chosen [1]_; that the choice
be mutual leaves out what has no partner.

References
----------
.. [1] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou, Word translation without parallel data,
   ICLR 2018 (section 2.3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from latalign.anchors import Index

Single = NDArray[np.float32]

# Values of a block of distances: 64 MiB of float32.
_BLOCK_VALUES = 1 << 24


def mutual_partners(source: Single, target: Single, neighbors: int) -> tuple[Index, Index]:
    """Return the numbers of rows that are each other's nearest by 2 d(x, y) − r(x) − r(y).

    r is the mean distance to the `neighbors` nearest rows of the other side (to all of them where there
    are fewer). The rows are near the origin: float32 suffices for which is nearest.

    Parameters
    ----------
    source : float32 array of shape (n, dim)
    target : float32 array of shape (m, dim)
    neighbors : int

    Returns
    -------
    source_rows, target_rows : arrays of int, equally long
    """
    # What fits into one block is computed once, all else once for the radii and once more.
    once = list(_distances(source, target)) if len(source) * len(target) <= _BLOCK_VALUES else None
    source_radius, target_radius = _radii(
        once or _distances(source, target), len(source), len(target), neighbors
    )
    chosen = np.empty(len(source), np.intp)
    back = np.zeros(len(target), np.intp)
    least = np.full(len(target), np.inf, np.float32)
    for part, distances in once or _distances(source, target):
        distances *= 2
        distances -= source_radius[part, None]
        distances -= target_radius
        chosen[part] = distances.argmin(axis=1)
        nearest = distances.argmin(axis=0)
        value = distances[nearest, np.arange(len(target))]
        nearer = value < least
        back[nearer] = part.start + nearest[nearer]
        least[nearer] = value[nearer]
    kept = np.flatnonzero(back[chosen] == np.arange(len(source)))
    return kept, chosen[kept]


def partners_within(
    source: Single, target: Single, groups: Iterable[tuple[Index, Index]], neighbors: int
) -> tuple[Index, Index]:
    """Return the mutual partners of each group of rows, by their numbers."""
    left: list[Index] = []
    right: list[Index] = []
    for mine, its in groups:
        found = mutual_partners(source[mine], target[its], neighbors)
        left.append(mine[found[0]])
        right.append(its[found[1]])
    return np.concatenate(left), np.concatenate(right)


def _radii(
    blocks: Iterable[tuple[slice, Single]], sources: int, targets: int, neighbors: int
) -> tuple[Single, Single]:
    """Return each row's mean distance to its nearest rows of the other side."""
    across = np.empty(sources, np.float32)
    nearest = np.empty((0, targets), np.float32)
    for part, distances in blocks:
        across[part] = _smallest(distances, neighbors, axis=1).mean(axis=1)
        nearest = _smallest(
            np.concatenate([nearest, _smallest(distances, neighbors, axis=0)]), neighbors, axis=0
        )
    return across, nearest.mean(axis=0)


def _smallest(values: Single, count: int, axis: int) -> Single:
    """Return the `count` smallest values along an axis, or all where there are no more, in no order."""
    if count >= values.shape[axis]:
        return values
    ordered = np.partition(values, count - 1, axis=axis)
    return ordered[:, :count] if axis else ordered[:count]


def _distances(source: Single, target: Single) -> Iterator[tuple[slice, Single]]:
    """Yield the distances of a block of source rows to all target rows."""
    source_squares = np.einsum("ij,ij->i", source, source)
    target_squares = np.einsum("ij,ij->i", target, target)
    step = max(1, _BLOCK_VALUES // len(target))
    for start in range(0, len(source), step):
        part = slice(start, min(start + step, len(source)))
        block = source[part] @ target.T
        block *= -2
        block += source_squares[part, None]
        block += target_squares
        np.maximum(block, 0, out=block)
        yield part, np.sqrt(block, out=block)
