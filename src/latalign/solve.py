"""From moments to maps: one pure function a method.

Every function takes `Moments` and returns an `AffineMap` with its evidence. Where `rows` are given they
are the pairs that the moments were taken of, and are read again only where the moments do not suffice.

The methods are those of the paper [1]_ (`rigid`, `linear`) and their neighbours. All but `retrieval` are
least squares.

References
----------
.. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023, PMLR 243:158-169.
.. [2] P. H. Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31
   (1966) 1-10.
.. [3] S. Umeyama, Least-squares estimation of transformation parameters between two point patterns,
   IEEE PAMI 13 (1991) 376-380.
.. [4] A. J. Izenman, Reduced-rank regression for the multivariate linear model, Journal of
   Multivariate Analysis 5 (1975) 248-264.
.. [5] A. E. Hoerl, R. W. Kennard, Ridge regression: biased estimation for nonorthogonal problems,
   Technometrics 12 (1970) 55-67.
.. [6] B. F. Swindel, Good ridge estimators based on prior information, Communications in Statistics
   A5 (1976) 1065-1075.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np

from latalign._linalg import svd
from latalign._validation import Array, Pairs, checked_alpha, checked_rank, checked_scale
from latalign.canonical import retrieval as retrieval
from latalign.canonical import retrieval_pair as retrieval_pair
from latalign.evidence import Evidence
from latalign.least_squares import Solution, solve_gram, solve_rows
from latalign.maps import AffineMap
from latalign.moments import Moments
from latalign.paths import Spectrum, best_alpha, seen_rotation, target_directions


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
    scale = _best_scale(moments, matrix, float(spread))
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
    >>> found.evidence.rank, found.evidence.error_bound < 1e-13
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
        cross-validation score where they are not, large ones preferred that hardly differ from it.
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
    penalty = best_alpha(moments, rows)[0] if alpha == "auto" else checked_alpha(alpha)
    solution = _penalized(moments, moments.xy, penalty, rows)
    return _linear_family("ridge", moments, solution, alpha=penalty)


def shrunk(
    moments: Moments, *, alpha: float, scale: float | None = None, rows: Pairs | None = None
) -> AffineMap:
    """Return the affine map that minimises ‖XW − Y‖² + alpha ‖W − scale·Q‖².

    Q is the Procrustes map [2]_ of the same anchors, in the directions that they span. So it is ridge
    regression [5]_ drawn to a similarity map instead of zero, an estimate from elsewhere [6]_: with few
    anchors nearly the rigid map, with many the free one. An alpha of 0 is `affine`, an infinite alpha is
    scale·Q, and a scale of 0 is `ridge`. `latalign.fit` chooses alpha and scale by cross-validation.

    Parameters
    ----------
    moments : Moments
        With the source Gram matrix.
    alpha : float
        The penalty, on the scale of sums of squares; it may be infinite.
    scale : float, optional
        That of the similarity map; the least-squares one of the same moments unless given, which is
        somewhat large where there are few anchors, since Q was fitted to them.
    rows : Pairs, optional
        The pairs of the moments, to go back to where there is no penalty.

    Returns
    -------
    AffineMap

    Raises
    ------
    ValueError
        If the moments lack the source Gram matrix, `alpha` is not a number of zero or more, or `scale` is
        not finite or below zero.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, solve
    >>> X = np.array([[-1.0], [1.0]])
    >>> solve.shrunk(Moments.of(X, 3 * X + 5), alpha=2.0, scale=1.0).matrix  # XᵀX is 2, Q is 1
    array([[2.]])
    """
    penalty = checked_alpha(alpha, infinite=True)
    turn = seen_rotation(moments)
    spread = float(((moments.xx @ turn) * turn).sum())
    factor = _best_scale(moments, turn, spread) if scale is None else checked_scale(scale)
    if math.isinf(penalty):
        _, found = _procrustes(moments, reflection=True)
        rank = min(found.rank, moments.count - 1)
        evidence = replace(found, rank=max(rank, 0), alpha=penalty, scale=factor)
        return AffineMap(moments.source_mean, factor * turn, moments.target_mean, "shrunk", evidence)
    if penalty == 0:
        solution = _least_squares(moments, rows)
    else:  # ridge on what the similarity map leaves
        rest = _penalized(moments, moments.xy - factor * (moments.xx @ turn), penalty, None)
        solution = replace(rest, coefficients=factor * turn + rest.coefficients)
    return _linear_family("shrunk", moments, solution, alpha=penalty, scale=factor)


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
        A ridge penalty on top; "auto" takes that of `ridge`.
    rows : Pairs, optional
        The pairs of the moments.

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
    rank = checked_rank(rank)
    penalty = best_alpha(moments, rows)[0] if alpha == "auto" else checked_alpha(alpha)
    solution = _penalized(moments, moments.xy, penalty, rows)
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


def _best_scale(moments: Moments, turn: Array, spread: float) -> float:
    """Return the least-squares scale of a rotation that leaves so much of the source's spread."""
    return max(float((turn * moments.xy).sum() / spread), 0.0) if spread > 0 else 1.0


def _penalized(moments: Moments, xy: Array, alpha: float, rows: Pairs | None) -> Solution:
    """Solve about the means, with a penalty unless it is zero."""
    if alpha == 0:
        return _least_squares(moments, rows)
    rank = moments.count - 1
    return solve_gram(moments.xx, xy, max_rank=rank, alpha=alpha, rounding=moments.rounding)


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
    scale: float | None = None,
) -> AffineMap:
    evidence = Evidence(
        anchors=moments.count,
        rank=solution.rank,
        condition=solution.condition,
        error_bound=solution.error_bound,
        alpha=alpha,
        target_rank=target_rank,
        scale=scale,
    )
    return AffineMap(moments.source_mean, solution.coefficients, moments.target_mean, method, evidence)
