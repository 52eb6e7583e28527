"""Search of an index of any size by CSLS, and how unevenly its rows are found: hubs.

CSLS takes from a cosine how crowded it is around the stored row: its mean cosine with the queries nearest to
it. A query must not be among those that tell how crowded a row is for itself, whether the row is the one it
looks for or not; so every row's crowding is that by the other queries.

References
----------
A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou, Word translation without parallel data, ICLR 2018.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Array, Rows
from latalign.maps import Normalize
from latalign.metrics.neighbors import skewness
from latalign.searching import Index, Ranks, nearest

NEIGHBORS = 10  # that crowding, and how often a row is found, are counted in
_BLOCK_VALUES = 1 << 23  # similarities at a time


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Crowds:
    """How crowded it is around every row of an index, with a query and without it.

    Attributes
    ----------
    mean, least, next : (n,) array
        The mean cosine with the nearest queries, the cosine with the farthest of them, and with the one
        that comes in where another is left out.
    count : int
        How many the nearest are.
    """

    mean: Array
    least: Array
    next: Array
    count: int

    def without(self, cosines: NDArray[Any], rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Return how crowded it is around rows, each without the query that has that cosine with it."""
        mean, least, after = self.mean[rows], self.least[rows], self.next[rows]
        # The query may be the farthest of the nearest itself, and its product rounded otherwise there; one that is as
        # near but not among them changes nothing.
        among = cosines >= least - _tie(cosines.dtype)
        return np.where(among, mean + (after - cosines) / self.count, mean)


def csls_relevant_ranks(queries: Rows, index: Index, relevant: NDArray[np.int64]) -> Ranks:
    """Return the rank by CSLS, from 1, at which each relevant row comes back.

    Parameters
    ----------
    queries : array of shape (q, dim)
        Two at least; they tell how crowded it is around the rows, each for the others.
    index : Index
    relevant : int array of shape (q, r)
        Numbers of rows of the index; −1 stands for none.

    Returns
    -------
    int64 array of shape (q, r)
        0 where `relevant` is −1. Of equal similarities the relevant row comes last.
    """
    narrow = all(rows.dtype in (np.float16, np.float32) for rows in (queries, index.rows))
    dtype = np.dtype(np.float32 if narrow else np.float64)
    units = np.asarray(Normalize()(queries.astype(dtype, copy=False)))
    crowds = _crowds(units, index, dtype)
    own = np.full(relevant.shape, np.inf, dtype)
    for column, numbers in enumerate(relevant.T):
        there = np.flatnonzero(numbers >= 0)
        if len(there):
            cosines = np.einsum("ij,ij->i", units[there], index.take(numbers[there], dtype))
            own[there, column] = 2 * cosines - crowds.without(cosines, numbers[there])
    found = np.zeros(relevant.shape, np.int64)
    for start, block in index.blocks(_BLOCK_VALUES // len(units), dtype):
        cosines = units @ block.T
        scores = 2 * cosines - crowds.without(cosines, slice(start, start + len(block)))
        for column, (least, numbers) in enumerate(zip(own.T - _tie(dtype), relevant.T, strict=True)):
            found[:, column] += np.count_nonzero(scores >= least[:, None], axis=1)
            # The row itself counts, however the map of a block rounded it.
            here = np.flatnonzero((start <= numbers) & (numbers < start + len(block)))
            found[here, column] += scores[here, numbers[here] - start] < least[here]
    return found


def index_hubness(queries: Rows, index: Index) -> float:
    """Return the skewness of how often the rows of an index are among the ten nearest of a query, by cosine."""
    found = nearest(queries, index, min(NEIGHBORS, len(index)))
    return skewness(np.bincount(found.ravel(), minlength=len(index)))


def _tie(dtype: np.dtype[Any]) -> float:
    """Return what the same product may differ by in another order."""
    return 128 * float(np.finfo(dtype).eps)


def _crowds(units: Rows, index: Index, dtype: np.dtype[Any]) -> _Crowds:
    """Return how crowded it is around the rows of an index by queries of length one."""
    count = min(NEIGHBORS, len(units) - 1)
    mean, least, after = (np.empty(len(index), dtype) for _ in range(3))
    for start, block in index.blocks(_BLOCK_VALUES // len(units), dtype):
        here = slice(start, start + len(block))
        cosines = block @ units.T
        places = [len(units) - count - 1, len(units) - count]
        cosines.partition(places, axis=1)
        after[here], least[here] = cosines[:, places].T
        mean[here] = cosines[:, places[1] :].mean(axis=1)
    return _Crowds(mean, least, after, count)
