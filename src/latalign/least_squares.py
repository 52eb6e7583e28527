"""Least squares that knows its own error: from Gram matrices, and from rows where those do not suffice.

Second moments square the condition number, so every solve measures it and takes the next route when
what rounding does to the coefficients, about eps × condition, misses `TOLERANCE`:

1. the Gram matrix scaled to unit diagonal, by Cholesky;
2. the eigen-decomposition of the same matrix, cut off at its rounding: the minimum-norm answer;
3. where float64 rows are in reach, a second pass over them, preconditioned by the Cholesky factor
   (one step of shifted Cholesky QR): its Gram matrix is well conditioned again;
4. where there are at most as many rows as dimensions, the dual Gram matrix of the rows instead, and
   their singular value decomposition where that is singular.

Every route gives the solution of minimum Frobenius norm among those that fit best. Directions in which
float16 or float32 rows hold nothing but their own rounding count as absent.

References
----------
T. Fukaya, R. Kannan, Y. Nakatsukasa, Y. Yamamoto, Y. Yanagisawa, Shifted Cholesky QR for computing
the QR factorization of ill-conditioned matrices, SIAM J. Sci. Comput. 42 (2020) A477-A503.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from latalign._linalg import (
    EPS,
    cholesky,
    eigh,
    orthonormal,
    solve_cholesky,
    solve_upper,
    svd,
    times_upper,
)
from latalign._rowsum import Products
from latalign._validation import Array, Pairs
from latalign.moments import Moments, block_rows, moments_of_pairs

TOLERANCE = 1e-6
"""The relative error of the coefficients above which the next route is taken."""


def tolerance(rounding: float) -> float:
    """Return what is asked of the coefficients: `TOLERANCE`, or half the digits of coarser products."""
    return max(TOLERANCE, float(np.sqrt(rounding)))


# How much more the sums of many rows round than one product does: up to 12 times were seen, of two dimensions
# and 5000 rows.
_SUMMED = 16.0
# Singular values this close above the largest that rounding makes are still taken for rounding.
_MARGIN = 1.5


@final
@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """Coefficients and what is known of their error.

    Attributes
    ----------
    coefficients : (dim_source, dim_target) array
    rank : int
        The numerical rank of the source rows.
    condition : float
        The condition number of the source rows, columns scaled to equal length, within that rank.
    error_bound : float
        Relative error of the coefficients, those of each column times its length: 16 eps × the condition of
        the matrix that was solved with.
    """

    coefficients: Array
    rank: int
    condition: float
    error_bound: float


def solve_gram(
    xx: Array,
    xy: Array,
    *,
    max_rank: int,
    alive: NDArray[np.bool_] | None = None,
    alpha: float = 0.0,
    resolution: float = 0.0,
    rounding: float = EPS,
) -> Solution:
    """Solve (xx + alpha I) W = xy, with minimum norm where that is singular.

    Parameters
    ----------
    xx : (d, d) array
        Symmetric and positive semi-definite.
    xy : (d, k) array
    max_rank : int
        What the rank cannot exceed, whatever rounding says: the number of rows, less one if centred.
    alive : (d,) array of bool, optional
        The columns that carry anything; the coefficients of the others are zero.
    alpha : float
        Ridge penalty.
    resolution : float
        The singular value, columns scaled to length one, that the rounding of the rows alone may make.
    rounding : float
        The relative rounding of the sums in `xx`.
    """
    alive = xx.diagonal() > 0 if alive is None else alive & (xx.diagonal() > 0)
    if not alive.all():
        inner = solve_gram(
            xx[np.ix_(alive, alive)],
            xy[alive],
            max_rank=max_rank,
            alpha=alpha,
            resolution=resolution,
            rounding=rounding,
        )
        return _spread(inner, alive)
    scale = np.sqrt(xx.diagonal() + alpha)
    unit = xx / np.outer(scale, scale)
    np.fill_diagonal(unit, 1.0)
    if alpha > 0:
        max_rank = len(xx)
    found = cholesky(unit) if max_rank >= len(xx) else None
    if found is not None:
        factor, condition = found
        if rounding * condition <= tolerance(rounding) and condition * resolution**2 < 1:
            coefficients = solve_cholesky(factor, xy / scale[:, None]) / scale[:, None]
            return Solution(coefficients, len(xx), float(np.sqrt(condition)), _SUMMED * rounding * condition)
    return _solve_eigen(unit, xy / scale[:, None], scale, max_rank, resolution, rounding)


def solve_rows(pairs: Pairs, moments: Moments, *, centred: bool) -> Solution:
    """Solve for the least-squares coefficients, going back to the rows where the Gram misses.

    Parameters
    ----------
    pairs : Pairs
        The rows that `moments` were taken of.
    moments : Moments
        About the means if `centred`, else about the origin (``moments.uncentered()``).
    """
    if len(pairs) <= moments.dim_source:
        return _solve_dual(pairs, moments, centred=centred)
    alive = moments.source_varies
    noise = _rounding(pairs, moments)[alive] / np.sqrt(moments.xx_diagonal[alive] / moments.weight)
    edge = 1 + np.sqrt(moments.dim_source / len(pairs))
    first = solve_gram(
        moments.xx,
        moments.xy,
        max_rank=len(pairs) - centred,
        alive=alive,
        resolution=0.0 if pairs.is_double else _MARGIN * edge * float(noise.max(initial=0)),
        rounding=moments.rounding,
    )
    coarse = moments.rounding * first.condition**2 > tolerance(moments.rounding)
    if moments.rounding > EPS and coarse:
        # float32 products are too coarse for these rows.
        exact = moments_of_pairs(pairs, grams="source")
        return solve_rows(pairs, exact if centred else exact.uncentered(), centred=centred)
    full = first.rank == np.count_nonzero(alive)
    if not pairs.is_double or (full and not coarse):
        return first
    return _solve_preconditioned(pairs, moments, alive, centred=centred)


def _rounding(pairs: Pairs, moments: Moments) -> Array:
    """Return the standard deviation of the rounding of each source column, in the rows' own dtype.

    A matrix of such noise has singular values up to (√n + √d) times that (Marchenko and Pastur).
    """
    if pairs.source.dtype.kind in "iu":
        return np.zeros(moments.dim_source)
    mean_square = moments.xx_diagonal / moments.weight + moments.source_mean**2
    return float(np.finfo(pairs.source.dtype).eps) * np.sqrt(mean_square / 12)


def _spread(inner: Solution, alive: NDArray[np.bool_]) -> Solution:
    """Give the columns that were left out coefficients of zero."""
    coefficients = np.zeros((len(alive), inner.coefficients.shape[1]))
    coefficients[alive] = inner.coefficients
    return Solution(coefficients, inner.rank, inner.condition, inner.error_bound)


def _solve_eigen(
    unit: Array, right: Array, scale: Array, max_rank: int, resolution: float, rounding: float
) -> Solution:
    """Solve with the eigenvectors of the unit-diagonal Gram that stand above its rounding."""
    if not len(unit):
        return Solution(right, 0, 1.0, rounding)
    values, vectors = eigh(unit)
    limit = max(len(unit) * rounding * values[0], resolution**2)
    rank = min(max_rank, int(np.count_nonzero(values > limit)))
    kept = vectors[:, :rank]
    scaled = kept @ ((kept.T @ right) / values[:rank, None])
    coefficients = scaled / scale[:, None]
    if rank < len(unit):
        coefficients = _minimum_norm(coefficients, vectors[:, rank:], scale)
    condition = values[0] / values[rank - 1] if rank else 1.0
    return Solution(coefficients, rank, float(np.sqrt(condition)), float(_SUMMED * rounding * condition))


def _minimum_norm(coefficients: Array, null_vectors: Array, scale: Array) -> Array:
    """Take out the part that the rows do not see: scaling changed which solution is the shortest."""
    noise = 8 * len(scale) * EPS
    null_vectors = np.where(np.abs(null_vectors) > noise, null_vectors, 0.0) / scale[:, None]
    basis = orthonormal(null_vectors / np.linalg.norm(null_vectors, axis=0))
    return coefficients - basis @ (basis.T @ coefficients)


def _solve_preconditioned(
    pairs: Pairs, moments: Moments, alive: NDArray[np.bool_], *, centred: bool
) -> Solution:
    """Solve from a second pass over rows that a shifted Cholesky factor has made nearly orthogonal."""
    kept = np.flatnonzero(alive)
    scale = np.sqrt(moments.xx_diagonal[kept])
    unit = moments.xx[np.ix_(kept, kept)] / np.outer(scale, scale)
    np.fill_diagonal(unit, 1.0)
    shift = 4 * len(kept) * EPS
    found = None
    while found is None:  # the shift outgrows the rounding of the Gram within a few steps
        found = cholesky(unit + shift * np.eye(len(kept)))
        shift *= 16
    factor = found[0]
    # x ↦ x D⁻¹ R⁻¹ on the rows; its Gram matrix and cross moments in one more pass.
    inverse = solve_upper(factor, np.eye(len(kept))) / scale[:, None]
    inverse = np.asfortranarray(inverse)
    products = Products(len(kept), len(kept), inverse.dtype)
    crossed = Products(moments.dim_target, len(kept), inverse.dtype)
    for part in pairs.blocks(block_rows(pairs.dims, "double")):
        x = (part.source if alive.all() else part.source[:, kept]) - moments.source_mean[kept]
        y = part.target - moments.target_mean
        if part.weight is not None:
            root = np.sqrt(part.weight)[:, None]
            x *= root
            y *= root
        x = times_upper(x, inverse)
        products.add(x, x)
        crossed.add(y, x)
    cross = crossed.total().T
    values, vectors = eigh(products.total().T)  # it reads the lower triangle
    rank = min(len(pairs) - centred, int(np.count_nonzero(values > len(kept) * EPS * values[0])))
    basis = vectors[:, :rank]
    coefficients = inverse @ (basis @ ((basis.T @ cross) / values[:rank, None]))
    if rank < len(kept):
        null = solve_upper(factor, vectors[:, rank:])
        coefficients = _minimum_norm(coefficients, null / np.linalg.norm(null, axis=0), scale)
    preconditioned = values[0] / values[rank - 1] if rank else 1.0
    removed = float(np.linalg.cond(factor))
    condition = float(np.sqrt(preconditioned) * removed)
    # The rounding of the rows' products, or that of the second Gram carried back through the factor:
    # the shift leaves it ill-conditioned from a condition of about 1e9 on.
    bound = EPS * max(len(kept) * condition, preconditioned * removed)
    return _spread(Solution(coefficients, rank, condition, float(bound)), alive)


def _solve_dual(pairs: Pairs, moments: Moments, *, centred: bool) -> Solution:
    """Solve W = Xᵀ(XXᵀ)⁻¹Y for few rows; by singular values where XXᵀ is singular."""
    x = np.subtract(pairs.source, moments.source_mean, dtype=np.float64)
    y = np.subtract(pairs.target, moments.target_mean, dtype=np.float64)
    x[:, ~moments.source_varies] = 0
    root = np.sqrt(pairs.weights)
    x, y = x * root[:, None], y * root[:, None]
    gram = x @ x.T
    if centred:
        # Centred rows add up to zero. Lifting that one null direction changes no solution, since y
        # has no part in it either, and makes the matrix invertible.
        gram += np.outer(root, root) * (np.trace(gram) / root.dot(root) / len(gram))
    scale = np.sqrt(gram.diagonal())
    edge = np.sqrt(len(x)) + np.sqrt(moments.dim_source)
    noise = 0.0 if pairs.is_double else _MARGIN * edge * float(_rounding(pairs, moments).max())
    if (scale > 0).all():
        found = cholesky(gram / np.outer(scale, scale))
        if found is not None and EPS * found[1] <= TOLERANCE and scale.min() > noise * np.sqrt(found[1]):
            factor, condition = found
            coefficients = (x / scale[:, None]).T @ solve_cholesky(factor, y / scale[:, None])
            rank = len(x) - centred
            return Solution(coefficients, rank, float(np.sqrt(condition)), EPS * condition)
    left, values, right = svd(x)
    limit = min(values.shape[0], len(x) - centred)
    cut = max(max(x.shape) * EPS * values[0], noise)
    rank = min(limit, int(np.count_nonzero(values > cut)))
    coefficients = right[:rank].T @ ((left[:, :rank].T @ y) / values[:rank, None])
    condition = float(values[0] / values[rank - 1]) if rank else 1.0
    return Solution(coefficients, rank, condition, EPS * condition)
