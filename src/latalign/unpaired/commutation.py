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

from latalign._linalg import eigh, svd
from latalign._validation import Array

_TOLERANCE = 1e-6  # of the residual, relative to the right side: far below what the statistics are worth
_KEPT = 0.99  # of the square of the covariances, when they are combined into fewer


@final
@dataclass(frozen=True, slots=True, eq=False)
class Signature:
    """Means and covariances of counterparts, the same list in either space.

    Attributes
    ----------
    means : (k, dim) array
    covariances : (k, dim, dim) array
    """

    means: Array
    covariances: Array


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
    tall, wide = A.reshape(-1, dim), np.ascontiguousarray(B.transpose(1, 0, 2)).reshape(dim, -1)

    def normal(matrix: Array) -> Array:
        # A symmetric, so Aᵀ(AO − OB) − (AO − OB)Bᵀ = A²O + OB² − 2AOB; the sum of AOB is one product.
        through = (matrix @ wide).reshape(dim, -1, dim).transpose(1, 0, 2).reshape(-1, dim)
        return left @ matrix + matrix @ right - 2 * (tall.T @ through)

    solved = _conjugate_gradients(normal, means.T @ counterparts, 10 * dim)
    u, _, v = svd(solved)
    return u @ v


def _combined(source: Array, target: Array, weights: Array) -> tuple[Array, Array]:
    """Return fewer covariances that make nearly the same equations: the principal combinations of all.

    The equations are linear in the pairs (A, B), so an orthogonal change of the list leaves their sum
    of squares as it is, and its small parts may be left out. Multiples of the identity are left out first:
    they commute with everything, and where the two of a pair are not the same they only ask for a smaller O.
    """
    count, dim = source.shape[0], source.shape[1]
    flat: list[Array] = []
    for matrices in (source, target):
        scaled = np.sqrt(weights)[:, None, None] * matrices
        trace = np.trace(scaled, axis1=1, axis2=2) / dim
        scaled -= trace[:, None, None] * np.eye(dim)
        flat.append(scaled.reshape(count, -1))
    values, vectors = eigh(flat[0] @ flat[0].T + flat[1] @ flat[1].T)
    kept = 1 + int(np.searchsorted(np.cumsum(values), _KEPT * values.sum()))
    combined = [(vectors[:, :kept].T @ one).reshape(-1, dim, dim) for one in flat]
    return combined[0], combined[1]


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
