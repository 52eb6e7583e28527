"""From moments to maps: one pure function a method.

Every function takes `Moments` and returns an `AffineMap` with its evidence. Where `rows` are given they
are the pairs that the moments were taken of, and are read again only where the moments do not suffice.

The methods are those of the paper [1]_ (`rigid`, `linear`) and their neighbours.

References
----------
.. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023, PMLR 243:158-169.
.. [2] P. H. Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31
   (1966) 1-10.
.. [3] S. Umeyama, Least-squares estimation of transformation parameters between two point patterns,
   IEEE PAMI 13 (1991) 376-380.
.. [4] A. J. Izenman, Reduced-rank regression for the multivariate linear model, Journal of
   Multivariate Analysis 5 (1975) 248-264.
"""

from __future__ import annotations

import math
import operator
from typing import Literal

import numpy as np

from latalign._linalg import svd
from latalign._validation import Array, Pairs
from latalign.evidence import Evidence
from latalign.least_squares import Solution, solve_gram, solve_rows
from latalign.maps import AffineMap
from latalign.moments import Moments
from latalign.paths import Spectrum, best_alpha, target_directions


def rigid(moments: Moments, *, reflection: bool = True) -> AffineMap:
    """Return the best rotation and translation (eq. 1 of [1]_ over E(n); orthogonal Procrustes [2]_).

    Into a space of other width it is the partial isometry of the same problem with the narrower space
    padded by zeros.

    Parameters
    ----------
    moments : Moments
        `xy` is all that is read.
    reflection : bool
        Whether a reflection is allowed; if not, the best proper rotation is returned [3]_ (between
        spaces of different width there is no difference).

    Returns
    -------
    AffineMap

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, solve
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    >>> found = solve.rigid(Moments.of(X, X @ turn + 5))
    >>> np.allclose(found.matrix, turn), np.allclose(found(X), X @ turn + 5)
    (True, True)
    """
    matrix, evidence = _procrustes(moments, reflection)
    return AffineMap(moments.source_mean, matrix, moments.target_mean, "rigid", evidence)


def orthogonal(moments: Moments, *, reflection: bool = True) -> AffineMap:
    """Return the best rotation about the origin: `rigid` without translation [2]_.

    Parameters
    ----------
    moments : Moments
        `xy` and the means are all that is read.
    reflection : bool
        As in `rigid`.

    Returns
    -------
    AffineMap

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, solve
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> found = solve.orthogonal(Moments.of(X, X[:, ::-1] + 5))
    >>> found.offset
    array([0., 0.])
    """
    origin = moments.uncentered()
    matrix, evidence = _procrustes(origin, reflection)
    return AffineMap(origin.source_mean, matrix, origin.target_mean, "orthogonal", evidence)


def similarity(moments: Moments, *, reflection: bool = True) -> AffineMap:
    """Return the best rotation, one scale and translation [3]_.

    The scale of a latent space is arbitrary: a network's next layer undoes it. This map does not
    depend on it, `rigid` does.

    Parameters
    ----------
    moments : Moments
        With the source Gram matrix, where the source is wider than the target.
    reflection : bool
        As in `rigid`.

    Returns
    -------
    AffineMap

    Raises
    ------
    ValueError
        If a Gram matrix that is needed was not accumulated.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, solve
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> solve.similarity(Moments.of(X, 3 * X + 1)).matrix.round(9) + 0.0
    array([[3., 0.],
           [0., 3.]])
    """
    matrix, evidence = _procrustes(moments, reflection)
    if moments.dim_source <= moments.dim_target:
        spread = moments.xx_diagonal.sum()  # an isometry keeps all of it
    else:
        spread = ((moments.xx @ matrix) * matrix).sum()
    scale = max(float((matrix * moments.xy).sum() / spread), 0.0) if spread > 0 else 1.0
    return AffineMap(moments.source_mean, scale * matrix, moments.target_mean, "similarity", evidence)


def linear(moments: Moments, *, rows: Pairs | None = None) -> AffineMap:
    """Return the paper's linear map: any matrix, no translation (eq. 1 of [1]_ over R^{n×n}).

    Where the anchors do not determine it, the solution of minimum norm.

    Parameters
    ----------
    moments : Moments
        With the source Gram matrix.
    rows : Pairs, optional
        The pairs of the moments, to go back to.

    Returns
    -------
    AffineMap

    Raises
    ------
    ValueError
        If the moments lack the source Gram matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, solve
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> found = solve.linear(Moments.of(X, X @ [[1, 2], [3, 4]]))
    >>> found.matrix.round(9), found.offset
    (array([[1., 2.], [3., 4.]]), array([0., 0.]))
    """
    origin = moments.uncentered()
    solution = (
        solve_gram(origin.xx, origin.xy, max_rank=moments.count, rounding=moments.rounding)
        if rows is None
        else solve_rows(rows, origin, centred=False)
    )
    return _linear_family("linear", origin, solution)


def affine(moments: Moments, *, rows: Pairs | None = None) -> AffineMap:
    """Return the best matrix and translation; of minimum norm where that is not determined.

    Parameters
    ----------
    moments : Moments
        With the source Gram matrix.
    rows : Pairs, optional
        The pairs of the moments, to go back to.

    Returns
    -------
    AffineMap

    Raises
    ------
    ValueError
        If the moments lack the source Gram matrix.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, solve
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> Y = X @ np.ones((3, 2)) + [1, 2]
    >>> found = solve.affine(Moments.of(X, Y))
    >>> np.allclose(found.matrix, 1), np.allclose(found.offset, [1, 2])
    (True, True)
    >>> found.evidence.rank, found.evidence.error_bound < 1e-14
    (3, True)
    """
    solution = _least_squares(moments, rows)
    return _linear_family("affine", moments, solution)


def ridge(
    moments: Moments, *, alpha: float | Literal["auto"] = "auto", rows: Pairs | None = None
) -> AffineMap:
    """Return the affine map that minimises ‖XW − Y‖² + alpha ‖W‖²; the translation is not penalised.

    Parameters
    ----------
    moments : Moments
    alpha : float or "auto"
        The penalty, on the scale of sums of squares (scikit-learn's). "auto" takes the one of 50 with
        the smallest exact leave-one-out error where `rows` are given, and the smallest generalized
        cross-validation score where they are not.
    rows : Pairs, optional
        The pairs of the moments.

    Returns
    -------
    AffineMap

    Raises
    ------
    ValueError
        If the moments lack the source Gram matrix, or `alpha` is not finite or below zero.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, solve
    >>> X = np.array([[-1.0], [1.0]])
    >>> solve.ridge(Moments.of(X, X + 5), alpha=2.0).matrix  # XᵀX is 2
    array([[0.5]])
    """
    penalty = best_alpha(moments, rows)[0] if alpha == "auto" else _checked_alpha(alpha)
    solution = (
        _least_squares(moments, rows)
        if penalty == 0
        else solve_gram(
            moments.xx, moments.xy, max_rank=moments.count - 1, alpha=penalty, rounding=moments.rounding
        )
    )
    return _linear_family("ridge", moments, solution, alpha=penalty)


def low_rank(
    moments: Moments,
    *,
    rank: int,
    alpha: float | Literal["auto"] = 0.0,
    rows: Pairs | None = None,
) -> AffineMap:
    """Return the best affine map whose matrix has at most the given rank (reduced-rank regression [4]_).

    Parameters
    ----------
    moments : Moments
    rank : int
        At least 1.
    alpha : float or "auto"
        A ridge penalty on top; "auto" by generalized cross-validation.
    rows : Pairs, optional
        The pairs of the moments, to go back to where there is no penalty.

    Returns
    -------
    AffineMap

    Raises
    ------
    ValueError
        If the moments lack the source Gram matrix, `rank` is no whole number or below 1, or `alpha` is not
        finite or below zero.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, solve
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> found = solve.low_rank(Moments.of(X, X), rank=2)
    >>> int(np.linalg.matrix_rank(found.matrix)), found.evidence.target_rank
    (2, 2)
    """
    rank = _checked_rank(rank)
    penalty = best_alpha(moments)[0] if alpha == "auto" else _checked_alpha(alpha)
    solution = (
        _least_squares(moments, rows)
        if penalty == 0
        else solve_gram(
            moments.xx, moments.xy, max_rank=moments.count - 1, alpha=penalty, rounding=moments.rounding
        )
    )
    directions = target_directions(Spectrum.of(moments), penalty)[:, :rank]
    limited = Solution(
        (solution.coefficients @ directions) @ directions.T,
        solution.rank,
        solution.condition,
        solution.error_bound,
    )
    return _linear_family("low_rank", moments, limited, alpha=penalty, target_rank=directions.shape[1])


def _procrustes(moments: Moments, reflection: bool) -> tuple[Array, Evidence]:
    """Return the orthonormal factor of the cross moments, and what is known of it."""
    left, values, right = svd(moments.xy)
    rounding = moments.rounding * max(moments.xy.shape)
    rank = int(np.count_nonzero(values > rounding * values[0]))
    square = moments.dim_source == moments.dim_target
    if not reflection and square and np.linalg.det(left) * np.linalg.det(right) < 0:
        # The direction that the data say least about is turned round.
        left = np.column_stack((left[:, :-1], -left[:, -1]))
    condition = float(values[0] / values[rank - 1]) if rank else 1.0
    evidence = Evidence(moments.count, rank, condition, rounding * condition)
    return left @ right, evidence


def _least_squares(moments: Moments, rows: Pairs | None) -> Solution:
    """Solve about the means, with the rows where they are in reach."""
    if rows is not None:
        return solve_rows(rows, moments, centred=True)
    return solve_gram(
        moments.xx,
        moments.xy,
        max_rank=moments.count - 1,
        alive=moments.source_varies,
        rounding=moments.rounding,
    )


def _linear_family(
    method: str,
    moments: Moments,
    solution: Solution,
    *,
    alpha: float | None = None,
    target_rank: int | None = None,
) -> AffineMap:
    evidence = Evidence(
        anchors=moments.count,
        rank=solution.rank,
        condition=solution.condition,
        error_bound=solution.error_bound,
        alpha=alpha,
        target_rank=target_rank,
    )
    return AffineMap(moments.source_mean, solution.coefficients, moments.target_mean, method, evidence)


def _checked_rank(rank: int) -> int:
    try:
        whole = operator.index(rank)
    except TypeError:
        whole = 0
    if whole < 1:
        raise ValueError(f"low_rank needs a rank of at least 1, a whole number; got {rank!r}")
    return whole


def _checked_alpha(alpha: float) -> float:
    try:
        penalty = float(alpha)
    except (TypeError, ValueError):
        penalty = math.nan
    if not (math.isfinite(penalty) and penalty >= 0):
        raise ValueError(f'alpha needs a finite number of zero or more, or "auto"; got {alpha!r}')
    return penalty
