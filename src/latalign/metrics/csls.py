"""Nearest neighbors corrected for hubs: cross-domain similarity local scaling (CSLS).

In many dimensions a few rows, the hubs, are near to everything. CSLS takes from a cosine how crowded it
is around either side, so that a hub must be nearer than others to be found.

References
----------
.. [1] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou, Word translation without parallel data,
   ICLR 2018 (section 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._validation import Array, require_whole
from latalign.metrics._cosine import similarities, unit_pair
from latalign.metrics.neighbors import count_nearest
from latalign.metrics.retrieval import places, query_pair


@final
@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What one search for every query's own row found.

    Attributes
    ----------
    ranks, csls_ranks : int64 array of shape (q,)
        As `latalign.metrics.ranks` and `latalign.metrics.csls_ranks` return them.
    occurrence : int64 array of shape (n,)
        As `latalign.metrics.k_occurrence` returns it.
    """

    ranks: NDArray[np.int64]
    csls_ranks: NDArray[np.int64]
    occurrence: NDArray[np.int64]


def crowding(index: ArrayLike, queries: ArrayLike, k: int = 10) -> Array:
    """Return for each row of the index its mean cosine with the `k` queries nearest to it.

    This is the r of CSLS [1]_: large for hubs. It needs no pairs, and it can be kept beside an index:
    ``2 * cosines - crowding`` ranks the index rows as CSLS does. A block of similarities is in memory at
    a time.

    Parameters
    ----------
    index : array-like of shape (n, dim)
    queries : array-like of shape (q, dim)
        Rows of the kind that the index will be asked for, mapped into its space.
    k : int
        At least 1 and at most q.

    Returns
    -------
    float64 array of shape (n,)
        From −1 to 1. Zero rows have a cosine of 0 with any.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If they are not 2-D, differ in width, are not finite, or `k` is out of range.

    Examples
    --------
    >>> from latalign import metrics
    >>> metrics.crowding([[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]], k=2)
    array([1. , 0.5])
    """
    y, x = unit_pair(index, queries, "crowding", same_rows=False)
    require_whole("crowding", k=k)
    if not 1 <= k <= len(x):
        raise ValueError(f"crowding needs 1 ≤ k ≤ queries; got k={k} with {len(x)} queries")
    return _mean_of_largest(y, x, k, but_own=False)


def csls_ranks(
    queries: ArrayLike, index: ArrayLike, k: int = 10, *, reference: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Return for each query the rank, from 1, at which the row of the same number comes back by CSLS.

    The similarity is 2 cos(x, y) − r(x) − r(y) [1]_, with r(y) as in `crowding`; r(x) is the same for all
    rows of the index and changes no rank. Of equal similarities the row itself comes last. For the
    recall: ``(csls_ranks(queries, index) <= 10).mean()``.

    Parameters
    ----------
    queries : array-like of shape (q, dim)
        Query i looks for row i of the index.
    index : array-like of shape (n, dim)
        With at least as many rows as there are queries.
    k : int
        The queries that are looked at around each row of the index.
    reference : array-like of shape (r, dim), optional
        The queries by which it is measured how crowded the index is, as in `crowding`. Unless given,
        those that are ranked, each row of the index without the query that looks for it: a query that
        is still to come is not there either.

    Returns
    -------
    int64 array of shape (q,)

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        As in `latalign.metrics.ranks`; also if `k` is not at least 1, and at most the rows of the
        reference, or below the number of queries where there is none.

    Examples
    --------
    The first row of the index is a hub: both queries find it first.

    >>> import numpy as np
    >>> from latalign import metrics
    >>> queries = np.array([[1.0, 0.0, 0.1], [1.0, 0.3, 0.0]])
    >>> index = np.array([[1.0, 0.2, 0.0], [0.8, 0.5, 0.0], [0.0, 0.0, 1.0]])
    >>> metrics.ranks(queries, index), metrics.csls_ranks(queries, index, k=1)
    (array([1, 2]), array([1, 1]))
    """
    x, y = query_pair(queries, index, "csls_ranks")
    require_whole("csls_ranks", k=k)
    if reference is None:
        if not 1 <= k < len(x):
            raise ValueError(
                f"csls_ranks needs 1 ≤ k < queries, or a reference; got k={k} with {len(x)} queries"
            )
        crowd = _mean_of_largest(y, x, k, but_own=True)
    else:
        crowd = crowding(y, reference, k)
    found = np.empty(len(x), np.int64)
    for part, cosines in similarities(x, y):
        found[part] = places(2 * cosines - crowd, part)
    return found


def search(queries: ArrayLike, index: ArrayLike, k: int = 10) -> Search:
    """Return the ranks of the own rows, plain and by CSLS, and the k-occurrence, of one search.

    The neighborhoods are as large as `k` where there are so many rows; where a query is alone, CSLS is
    the cosine. Arguments as in `csls_ranks`.
    """
    x, y = query_pair(queries, index, "search")
    around = min(k, len(x) - 1)
    crowd = _mean_of_largest(y, x, around, but_own=True) if around else np.zeros(len(y))
    plain, scaled = np.empty(len(x), np.int64), np.empty(len(x), np.int64)
    occurrence = np.zeros(len(y), np.int64)
    for part, cosines in similarities(x, y):
        plain[part] = places(cosines, part)
        occurrence += count_nearest(cosines, min(k, len(y)))
        scaled[part] = places(2 * cosines - crowd, part)
    return Search(plain, scaled, occurrence)


def _mean_of_largest(rows: Array, among: Array, k: int, *, but_own: bool) -> Array:
    """Return each row's mean cosine with the k nearest of `among`; `but_own`: but the one of its number."""
    found = np.empty(len(rows))
    for part, cosines in similarities(rows, among):
        if but_own and part.start < len(among):
            own: NDArray[np.intp] = np.arange(part.start, min(part.stop, len(among)), dtype=np.intp)
            cosines[own - part.start, own] = -np.inf
        cosines.partition(len(among) - k, axis=1)
        found[part] = cosines[:, len(among) - k :].mean(axis=1)
    return found
