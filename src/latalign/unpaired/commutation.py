"""The rotation that takes matrices of one space to those of another: one linear equation, in closed form.

Where two whitened spaces differ by an orthogonal O, every mean m and covariance A of rows of the one and
its counterpart n, B in the other satisfy m O = n and A O = O B. Both are linear in O. Least squares over
all matrices, and then the nearest orthogonal one, needs no start and has no local minimum. It is the
relaxation that spectral matching of shapes and graphs rests on (functional maps commute with operators,
[1]_).

References
----------
.. [1] M. Ovsjanikov, M. Ben-Chen, J. Solomon, A. Butscher, L. Guibas, Functional maps: a flexible
   representation of maps between shapes, ACM Transactions on Graphics 31 (2012) 30.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from latalign._linalg import eigh, nearest_rotation
from latalign._validation import Array

_TOLERANCE = 1e-6  # of the residual, relative to the right side: far below what the statistics are worth
_KEPT = 0.99  # of the square of the covariances, when they are combined into fewer
_PRODUCT_VALUES = 1 << 18  # of products with covariances at a time, at most about as many


@final
@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """Means and covariances of counterparts, the same list in either space.

    Attributes
    ----------
    means : (k, dim) array
    covariances : k arrays of shape (dim, dim)
    """

    means: Array
    covariances: tuple[Array, ...]


def commuting_rotation(source: Signature, target: Signature, weights: Array, trusted: Array) -> Array:
    """Return the orthogonal O nearest to the minimum of Σ w ‖m O − n‖² + Σ v ‖A O − O B‖², A and B without trace.

    The minimum is found by conjugate gradients from zero, so that what nothing determines stays out of
    the rotation's way.

    Parameters
    ----------
    source, target : Signature
        Of one number of dimensions.
    weights : (k,) array
        What each mean counts.
    trusted : (k,) array
        What each covariance counts.

    Returns
    -------
    (dim, dim) array
    """
    root = np.sqrt(weights)[:, None]
    means, counterparts = root * source.means, root * target.means
    A, B = _combined(source.covariances, target.covariances, trusted)
    dim = A.shape[1]
    left = means.T @ means + np.einsum("kij,kjl->il", A, A)
    right = np.einsum("kij,kjl->il", B, B)
    at_once = max(1, _PRODUCT_VALUES // dim**2)
    parts = [slice(start, start + at_once) for start in range(0, len(A), at_once)]

    def normal(matrix: Array) -> Array:
        # A symmetric, so Aᵀ(AO − OB) − (AO − OB)Bᵀ = A²O + OB² − 2AOB.
        product = left @ matrix + matrix @ right
        for part in parts:
            through = (matrix @ B[part]).reshape(-1, dim)
            product -= 2 * (A[part].reshape(-1, dim).T @ through)
        return product

    return nearest_rotation(_conjugate_gradients(normal, means.T @ counterparts, 10 * dim))


def _combined(source: tuple[Array, ...], target: tuple[Array, ...], weights: Array) -> tuple[Array, Array]:
    """Return fewer covariances that make nearly the same equations: the principal combinations of all.

    The equations are linear in the pairs (A, B), so an orthogonal change of the list leaves their sum
    of squares as it is, and its small parts may be left out. Multiples of the identity are left out first:
    they commute with everything, and where the two of a pair are not the same they only ask for a smaller O.
    """
    dim = len(source[0])
    flat = [_scaled_without_trace(matrices, np.sqrt(weights)) for matrices in (source, target)]
    values, vectors = eigh(flat[0] @ flat[0].T + flat[1] @ flat[1].T)
    kept = 1 + int(np.searchsorted(np.cumsum(values), _KEPT * values.sum()))
    A = (vectors[:, :kept].T @ flat.pop(0)).reshape(-1, dim, dim)  # and its list is let go
    B = (vectors[:, :kept].T @ flat.pop(0)).reshape(-1, dim, dim)
    return A, B


def _scaled_without_trace(matrices: tuple[Array, ...], scales: Array) -> Array:
    """Return square matrices as rows, one by one: a stack of them may be most of what is in memory."""
    dim = len(matrices[0])
    flat = np.empty((len(matrices), dim * dim))
    for row, matrix, scale in zip(flat, matrices, scales, strict=True):
        np.multiply(scale, matrix, out=row.reshape(dim, dim))
        row[:: dim + 1] -= row[:: dim + 1].sum() / dim
    return flat


def _conjugate_gradients(operator: Callable[[Array], Array], right: Array, steps: int) -> Array:
    """Solve operator(x) = right, positive semidefinite, from zero on."""
    found = np.zeros_like(right)
    residual = right.copy()
    direction = right.copy()
    square = float((residual * residual).sum())
    goal = _TOLERANCE**2 * square
    for _ in range(steps):
        if square <= goal:
            break
        product = operator(direction)
        curvature = float((direction * product).sum())
        if curvature <= 0:
            break
        step = square / curvature
        found += step * direction
        residual -= step * product
        before, square = square, float((residual * residual).sum())
        direction = residual + (square / before) * direction
    return found
