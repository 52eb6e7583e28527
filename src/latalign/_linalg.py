"""The few LAPACK calls of the project behind typed functions: float64 in, float64 out."""

from __future__ import annotations

import numpy as np
import scipy.linalg as sla
from scipy.linalg import blas, lapack

from latalign._validation import Array, Rows

EPS, TINY = float(np.finfo(np.float64).eps), float(np.finfo(np.float64).tiny)


def cholesky(gram: Array) -> tuple[Array, float] | None:
    """Return the upper Cholesky factor R (RᵀR = gram) and the 1-norm condition of `gram`.

    None where the matrix is not positive definite in float64. The condition is LAPACK's estimate from
    the factor: O(d²) once the factor is there.
    """
    if not len(gram):
        return gram, 1.0
    factor, info = lapack.dpotrf(gram, lower=0, clean=1)
    if info != 0:
        return None
    reciprocal, _ = lapack.dpocon(factor, float(np.abs(gram).sum(axis=0).max()))
    return np.asarray(factor), 1.0 / reciprocal if reciprocal > 0 else np.inf


def cholesky_of(positive: Array) -> Array:
    """Return the upper Cholesky factor of a matrix that is positive definite by a margin, and is overwritten."""
    return np.asarray(sla.cholesky(positive, overwrite_a=True, check_finite=False))


def inverse_diagonal(factor: Array) -> Array:
    """Return the diagonal of (RᵀR)⁻¹ for an upper Cholesky factor R."""
    inverse, _ = lapack.dtrtri(factor)
    return np.einsum("ij,ij->i", inverse, inverse)


def solve_cholesky(factor: Array, right: Array) -> Array:
    """Solve RᵀR z = right."""
    return np.asarray(sla.cho_solve((factor, False), right, check_finite=False))


def solve_upper(factor: Array, right: Array) -> Array:
    """Solve R z = right for an upper triangular R."""
    return np.asarray(sla.solve_triangular(factor, right, check_finite=False))


def times_upper(rows: Array, upper: Array) -> Array:
    """Return rows @ upper for an upper triangular matrix, for half the work; C-ordered rows are overwritten."""
    return np.asarray(blas.dtrmm(1.0, upper, rows.T, trans_a=True, overwrite_b=True)).T


def eigh(gram: Array) -> tuple[Array, Array]:
    """Return the eigenvalues of a symmetric matrix, largest first and never negative, and vectors."""
    values, vectors = np.linalg.eigh(gram)
    return np.maximum(values[::-1], 0), np.ascontiguousarray(vectors[:, ::-1])


def leading(matrix: Array, count: int) -> tuple[Array, Array]:
    """Return the largest eigenvalues of a symmetric matrix, of either sign, largest first, and their vectors."""
    last = len(matrix) - 1
    if not count:
        return np.zeros(0), np.zeros((len(matrix), 0))
    values, vectors = sla.eigh(matrix, subset_by_index=(last - count + 1, last), check_finite=False)
    return np.asarray(values)[::-1], np.ascontiguousarray(vectors[:, ::-1])


def svd(matrix: Array) -> tuple[Array, Array, Array]:
    """Return the thin singular value decomposition U, s, Vᵀ."""
    try:
        left, values, right = sla.svd(matrix, full_matrices=False, check_finite=False)
    except np.linalg.LinAlgError:
        # The divide-and-conquer driver fails on rare matrices that the older one handles.
        left, values, right = sla.svd(matrix, full_matrices=False, check_finite=False, lapack_driver="gesvd")
    return np.asarray(left), np.asarray(values), np.asarray(right)


def nearest_rotation(matrix: Array) -> Array:
    """Return the orthogonal matrix nearest to a square one; of a taller or wider one the nearest partial isometry."""
    u, _, v = svd(matrix)
    return u @ v


def nuclear_norm(matrix: Array) -> float:
    """Return the sum of the singular values, which cost much less without their vectors."""
    try:
        values = sla.svd(matrix, compute_uv=False, check_finite=False)
    except np.linalg.LinAlgError:
        values = svd(matrix)[1]
    return float(np.sum(values))


def deviations(values: Array) -> Array:
    """Return the standard deviations of columns, in units in which no square leaves the floats."""
    _, exponent = np.frexp(np.abs(values).max(axis=0))
    return np.ldexp(np.ldexp(values, -exponent).std(axis=0, ddof=1), exponent)


def squared_distances(a: Rows, b: Rows) -> Array:
    """Return the squared distances from every row of a to every row of b, never negative, (len(a), len(b))."""
    middle = b.mean(axis=0, dtype=np.float64)  # far from the origin little would be left of the differences
    a, b = a - middle, b - middle
    return np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0)


def orthonormal(columns: Array) -> Array:
    """Return an orthonormal basis of the span of independent columns."""
    return np.linalg.qr(columns)[0]


def row_coordinates(rows: Array) -> Array:
    """Return rows that are wider than they are many as (n, n): coordinates in their span."""
    (triangle,) = sla.qr(rows.T, mode="r", check_finite=False)
    return np.ascontiguousarray(triangle[: len(rows)].T, np.float64)
