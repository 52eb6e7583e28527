"""How good a map is and how alike two spaces are: of moments where those suffice, else of rows.

What ends in ``_score`` is better higher; ``_error`` and ``_distance`` are better lower.

References
----------
.. [1] S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network representations
   revisited, ICML 2019.
.. [2] A. H. Williams, E. Kunz, S. Kornblith, S. Linderman, Generalized shape metrics on neural
   representations, NeurIPS 2021.
.. [3] M. Huh, B. Cheung, T. Wang, P. Isola, The platonic representation hypothesis, ICML 2024.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._linalg import svd
from latalign._validation import Array, Rows, as_rows, require_finite
from latalign.maps import AffineMap, Normalize
from latalign.moments import Moments

_BLOCK_VALUES = 1 << 22


def squared_error(map_: AffineMap, moments: Moments) -> float:
    """Return the weighted sum of squared errors Σ w ‖f(x) − y‖² of a map on the rows of `moments`.

    Exact algebra, no rows: this is what makes cross-validation from fold moments exact. Below about
    1e-16 of the target's own sum of squares it is rounding.

    Parameters
    ----------
    map_ : AffineMap
    moments : Moments
        With the source Gram matrix, of the spaces that the map leads from and to.

    Returns
    -------
    float
        In the square of the target's unit.

    Raises
    ------
    ValueError
        If dimensions do not fit, or the moments lack the Gram matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import AffineMap, Moments, metrics
    >>> moments = Moments.of(np.eye(2), np.eye(2) + [[3.0, 0.0], [0.0, 0.0]])
    >>> round(metrics.squared_error(AffineMap.of(np.eye(2)), moments), 9)
    9.0
    """
    matrix = map_.matrix
    if matrix.shape != moments.xy.shape:
        raise ValueError(
            f"a map is measured on moments of its own spaces; it leads from {map_.dim_source} to "
            f"{map_.dim_target} dimensions, the moments are of {moments.dim_source} and {moments.dim_target}"
        )
    centred = (
        moments.yy_diagonal.sum() - 2 * (matrix * moments.xy).sum() + ((moments.xx @ matrix) * matrix).sum()
    )
    away = moments.target_mean - map_.target_mean - (moments.source_mean - map_.source_mean) @ matrix
    return float(max(centred, 0.0) + moments.weight * away.dot(away))


def mean_squared_error(map_: AffineMap, moments: Moments) -> float:
    """Return the mean squared error per value of a map on the rows of `moments`.

    Parameters
    ----------
    map_ : AffineMap
    moments : Moments
        As in `squared_error`.

    Returns
    -------
    float
        In the square of the target's unit. NaN if the moments are of no rows.

    Raises
    ------
    ValueError
        As in `squared_error`.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import AffineMap, Moments, metrics
    >>> round(metrics.mean_squared_error(AffineMap.of(np.eye(2)), Moments.of(np.eye(2), np.eye(2) + 2)), 9)
    4.0
    """
    values = moments.weight * moments.dim_target
    return squared_error(map_, moments) / values if values > 0 else float("nan")


def r2_score(map_: AffineMap, moments: Moments) -> float:
    """Return the share of the target's variance that a map explains, over all dimensions together.

    This is scikit-learn's R² with ``multioutput="variance_weighted"``.

    Parameters
    ----------
    map_ : AffineMap
    moments : Moments
        As in `squared_error`.

    Returns
    -------
    float
        At most 1; 0 for the mean target row, below 0 for worse. NaN if the target is constant.

    Raises
    ------
    ValueError
        As in `squared_error`.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import AffineMap, Moments, metrics
    >>> X = np.array([[-1.0], [1.0]])
    >>> metrics.r2_score(AffineMap.of([[0.5]]), Moments.of(X, X))
    0.75
    """
    total = float(moments.yy_diagonal.sum())
    return 1 - squared_error(map_, moments) / total if total > 0 else float("nan")


def linear_cka_score(moments: Moments) -> float:
    """Return the linear centred kernel alignment of two spaces, in [0, 1] (eq. 3 of [1]_).

    Invariant to rotation and one scale on either side. Biased upward where there are few rows for the
    dimensions.

    Parameters
    ----------
    moments : Moments
        With both Gram matrices.

    Returns
    -------
    float
        NaN if a side is constant.

    Raises
    ------
    ValueError
        If the moments lack a Gram matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, metrics
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> round(metrics.linear_cka_score(Moments.of(X, 2 * X[:, ::-1] + 1)), 6)
    1.0
    """
    sizes = float(np.linalg.norm(moments.xx) * np.linalg.norm(moments.yy))
    return float(np.linalg.norm(moments.xy) ** 2) / sizes if sizes > 0 else float("nan")


def procrustes_distance(moments: Moments) -> float:
    """Return the angular Procrustes distance of two centred spaces, in radians, from 0 to π/2 [2]_.

    arccos of the nuclear norm of the cross moments over the product of the sides' norms: zero where
    a rotation, one scale and a translation make the spaces the same.

    Parameters
    ----------
    moments : Moments
        No Gram matrix is read.

    Returns
    -------
    float
        NaN if a side is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, metrics
    >>> X = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    >>> round(metrics.procrustes_distance(Moments.of(X, X * [1.0, 0.0])), 6) == round(np.pi / 4, 6)
    True
    """
    sizes = float(np.sqrt(moments.xx_diagonal.sum()) * np.sqrt(moments.yy_diagonal.sum()))
    if sizes == 0:
        return float("nan")
    return float(np.arccos(min(svd(moments.xy)[1].sum() / sizes, 1.0)))


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
    x, y = _unit_pair(X, Y, "mean_cosine_score")
    return float(np.einsum("ij,ij->", x, y) / len(x))


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
    x, y = _unit_pair(queries, index, "ranks", same_rows=False)
    if len(y) < len(x):
        raise ValueError(f"ranks needs an index row for every query; got {len(x)} queries, {len(y)} rows")
    found = np.empty(len(x), np.int64)
    for part in _parts(len(x), len(y)):
        similarity = x[part] @ y.T
        own = similarity[np.arange(len(similarity)), np.arange(part.start, part.stop)]
        # Equal rows may differ in the last bits of a blocked product.
        found[part] = (similarity >= own[:, None] - 1e-12).sum(axis=1)
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


def mutual_knn_score(X: ArrayLike, Y: ArrayLike, k: int = 10) -> float:
    """Return the mean share of the k nearest neighbours (cosine, itself excluded) that both spaces agree on.

    The alignment measure of [3]_. For independent spaces of n rows it is about k / (n − 1).

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
    x, y = _unit_pair(X, Y, "mutual_knn_score", same_width=False)
    if not 1 <= k < len(x):
        raise ValueError(f"mutual_knn_score needs 1 ≤ k < rows; got k={k} with {len(x)} rows")
    shared = 0
    for part in _parts(len(x), len(x)):
        mine, its = _neighbours(x, part, k), _neighbours(y, part, k)
        shared += sum(len(np.intersect1d(a, b, assume_unique=True)) for a, b in zip(mine, its, strict=True))
    return shared / (k * len(x))


def _neighbours(rows: Array, part: slice, k: int) -> NDArray[np.intp]:
    similarity = rows[part] @ rows.T
    similarity[np.arange(len(similarity)), np.arange(part.start, part.stop)] = -np.inf
    return np.argpartition(-similarity, k - 1, axis=1)[:, :k]


def _parts(rows: int, width: int) -> Iterator[slice]:
    """Cut `rows` so that a block of similarities stays small."""
    step = max(1, _BLOCK_VALUES // width)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def _unit_pair(
    X: ArrayLike, Y: ArrayLike, caller: str, *, same_rows: bool = True, same_width: bool = True
) -> tuple[Array, Array]:
    """Return both sides as float64 rows of length one."""
    x, y = as_rows(X, f"{caller}: X"), as_rows(Y, f"{caller}: Y")
    if same_rows and len(x) != len(y):
        raise ValueError(f"{caller} needs rows that correspond; got {len(x)} and {len(y)} rows")
    if same_width and x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{caller} compares rows of one space; got {x.shape[1]} and {y.shape[1]} dimensions. "
            "Map one side first."
        )
    return _unit(x, caller), _unit(y, caller)


def _unit(rows: Rows, caller: str) -> Array:
    require_finite(rows, caller)
    return Normalize()(rows.astype(np.float64))
