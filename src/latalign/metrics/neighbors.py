"""Nearest neighbors: whether two spaces agree on them, and whether a few rows are everybody's.

References
----------
.. [1] M. Huh, B. Cheung, T. Wang, P. Isola, The platonic representation hypothesis, ICML 2024.
.. [2] M. Radovanović, A. Nanopoulos, M. Ivanović, Hubs in space: popular nearest neighbors in
   high-dimensional data, Journal of Machine Learning Research 11 (2010) 2487-2531.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._validation import Array, require_whole
from latalign.metrics._cosine import similarities, unit_pair

Index = NDArray[np.intp]


def mutual_knn_score(X: ArrayLike, Y: ArrayLike, k: int = 10) -> float:
    """Return the mean share of the k nearest neighbours (cosine, itself excluded) that both spaces agree on.

    The alignment measure of [1]_. For rows paired at random it is k / (n − 1) on average, whatever the spaces are.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
    k : int
        At least 1 and below n.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If they are not 2-D, differ in rows, are not finite, or `k` is out of range.

    Examples
    --------
    >>> from latalign import metrics
    >>> X = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]]
    >>> metrics.mutual_knn_score(X, [[y, x, 0.0] for x, y in X], k=1)
    1.0
    """
    x, y = unit_pair(X, Y, "mutual_knn_score", same_width=False)
    require_whole("mutual_knn_score", k=k)
    if not 1 <= k < len(x):
        raise ValueError(f"mutual_knn_score needs 1 ≤ k < rows; got k={k} with {len(x)} rows")
    return float(among(nearest_others(x, k), nearest_others(y, k)).mean())


def k_occurrence(queries: ArrayLike, index: ArrayLike, k: int = 10) -> NDArray[np.int64]:
    """Return for each row of the index how many queries have it among their `k` nearest, by cosine.

    A block of similarities is in memory at a time.

    Parameters
    ----------
    queries : array-like of shape (q, dim)
    index : array-like of shape (n, dim)
    k : int
        At least 1 and at most n.

    Returns
    -------
    int64 array of shape (n,)
        The sum is q × k. Which of equally near rows are counted is left open.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If they are not 2-D, differ in width, are not finite, or `k` is out of range.

    Examples
    --------
    >>> from latalign import metrics
    >>> metrics.k_occurrence([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], k=1)
    array([2, 1])
    """
    x, y = unit_pair(queries, index, "k_occurrence", same_rows=False)
    require_whole("k_occurrence", k=k)
    if not 1 <= k <= len(y):
        raise ValueError(f"k_occurrence needs 1 ≤ k ≤ rows of the index; got k={k} with {len(y)} rows")
    found = np.zeros(len(y), np.int64)
    for _, cosines in similarities(x, y):
        found += count_nearest(cosines, k)
    return found


def hubness(queries: ArrayLike, index: ArrayLike, k: int = 10) -> float:
    """Return how unevenly the rows of an index are found: the skewness of their `k_occurrence` [2]_.

    Near 0 where all rows are found about as often, large where a few rows (hubs) are among the nearest
    of many queries and most are never found. It depends on `k` and on the counts of queries and rows:
    compare figures where these are the same.

    Parameters
    ----------
    queries : array-like of shape (q, dim)
    index : array-like of shape (n, dim)
    k : int
        As in `k_occurrence`.

    Returns
    -------
    float
        Without a unit. 0 where every row is found equally often.

    Raises
    ------
    TypeError, ValueError
        As in `k_occurrence`.

    Examples
    --------
    >>> from latalign import metrics
    >>> index = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]
    >>> metrics.hubness(index, index, k=1)
    0.0
    >>> round(metrics.hubness([[1.0, 0.1]] * 9, index, k=1), 4)  # all find the first row
    1.1547
    """
    return skewness(k_occurrence(queries, index, k))


def skewness(counts: NDArray[np.int64]) -> float:
    """Return the third central moment over the cube of the standard deviation; 0 where all are equal."""
    away = counts - counts.mean()
    spread = float((away**2).mean())
    return float((away**3).mean()) / spread**1.5 if np.ptp(counts) else 0.0


def count_nearest(cosines: Array, k: int) -> NDArray[np.int64]:
    """Return how often each column is among the k largest of a row."""
    count = cosines.shape[1]
    nearest = np.argpartition(cosines, count - k, axis=1)[:, count - k :]
    return np.bincount(nearest.ravel(), minlength=count)


def nearest_others(rows: Array, k: int) -> Index:
    """Return the numbers of the k nearest of the other rows, the nearest first; of rows of length one."""
    found = np.empty((len(rows), k), np.intp)
    for part, cosines in similarities(rows, rows):
        here = np.arange(len(cosines))[:, None]
        cosines[here[:, 0], np.arange(part.start, part.stop)] = -np.inf
        nearest = np.argpartition(cosines, len(rows) - k, axis=1)[:, len(rows) - k :]
        found[part] = nearest[here, np.argsort(-cosines[here, nearest], axis=1, kind="stable")]
    return found


def among(mine: Index, others: Index) -> NDArray[np.bool_]:
    """Tell of every entry of `mine` whether the same row of `others` has it."""
    # One number for every row and entry; entries are numbers of rows.
    offset = len(mine) * np.arange(len(mine))[:, None]
    return np.isin(mine + offset, others + offset)
