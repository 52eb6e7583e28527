"""Which row comes back for which: cosine and the ranks of nearest neighbors by it."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._validation import Array
from latalign.metrics._cosine import TIE, similarities, unit_pair


def mean_cosine_score(X: ArrayLike, Y: ArrayLike) -> float:
    """Return the mean cosine between rows that correspond. A zero row has a cosine of 0 with any.

    Parameters
    ----------
    X, Y : array-like of shape (n, dim)

    Returns
    -------
    float
        From −1 to 1.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If they are not 2-D, not of one shape, or not finite.

    Examples
    --------
    >>> from latalign import metrics
    >>> metrics.mean_cosine_score([[1.0, 0.0], [1.0, 0.0]], [[2.0, 0.0], [0.0, 5.0]])
    0.5
    """
    return float(row_cosines(X, Y).mean())


def row_cosines(X: ArrayLike, Y: ArrayLike) -> Array:
    """Return the cosine of every row with the row of the same number."""
    x, y = unit_pair(X, Y, "mean_cosine_score")
    return np.einsum("ij,ij->i", x, y)


def ranks(queries: ArrayLike, index: ArrayLike) -> NDArray[np.int64]:
    """Return for each query the rank, from 1, at which the row of the same number comes back.

    By cosine similarity among all rows of the index. Of equal similarities (duplicates) the row itself
    comes last, so that a collapsed space is not taken for a good one.

    Parameters
    ----------
    queries : array-like of shape (q, dim)
        Query i looks for row i of the index.
    index : array-like of shape (n, dim)
        With at least as many rows as there are queries.

    Returns
    -------
    int64 array of shape (q,)

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If they are not 2-D, differ in width, are not finite, or the index has fewer rows than there are
        queries.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import metrics
    >>> metrics.ranks([[1.0, 0.1], [1.0, 0.0]], np.eye(2))
    array([1, 2])
    """
    x, y = query_pair(queries, index, "ranks")
    found = np.empty(len(x), np.int64)
    for part, cosines in similarities(x, y):
        found[part] = places(cosines, part)
    return found


def recall_score(queries: ArrayLike, index: ArrayLike, k: int = 1) -> float:
    """Return the share of queries whose own row is among the k nearest of the index, by cosine.

    Parameters
    ----------
    queries : array-like of shape (q, dim)
    index : array-like of shape (n, dim)
        As in `ranks`.
    k : int
        At least 1.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As in `ranks`; also if `k` is below 1.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import metrics
    >>> metrics.recall_score(np.eye(4), np.eye(4)[[1, 0, 2, 3]], k=1)
    0.5
    """
    if k < 1:
        raise ValueError(f"recall_score needs k ≥ 1; got k={k}")
    return float((ranks(queries, index) <= k).mean())


def mrr_score(queries: ArrayLike, index: ArrayLike) -> float:
    """Return the mean reciprocal rank at which each query finds its own row, by cosine.

    Parameters
    ----------
    queries : array-like of shape (q, dim)
    index : array-like of shape (n, dim)
        As in `ranks`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As in `ranks`.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import metrics
    >>> metrics.mrr_score([[1.0, 0.1], [1.0, 0.0]], np.eye(2))
    0.75
    """
    return float((1 / ranks(queries, index)).mean())


def query_pair(queries: ArrayLike, index: ArrayLike, caller: str) -> tuple[Array, Array]:
    """Return both sides as rows of length one; query i looks for row i of the index."""
    x, y = unit_pair(queries, index, caller, same_rows=False)
    if len(y) < len(x):
        raise ValueError(f"{caller} needs an index row for every query; got {len(x)} queries, {len(y)} rows")
    return x, y


def places(scores: Array, part: slice) -> NDArray[np.int64]:
    """Return the rank of the own row among the scores of the queries `part`; of ties it comes last."""
    own = scores[np.arange(len(scores)), np.arange(part.start, part.stop)]
    return (scores >= own[:, None] - TIE).sum(axis=1)
