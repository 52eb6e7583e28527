"""How good a map is: the errors that moments alone tell, with no rows."""

from __future__ import annotations

from latalign.maps import AffineMap
from latalign.moments import Moments


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
