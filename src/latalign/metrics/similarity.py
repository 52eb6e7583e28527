"""How alike two spaces are, by inner products: linear CKA, with and without its bias, and Procrustes.

References
----------
.. [1] S. Kornblith, M. Norouzi, H. Lee, G. Hinton, Similarity of neural network representations
   revisited, ICML 2019.
.. [2] A. H. Williams, E. Kunz, S. Kornblith, S. Linderman, Generalized shape metrics on neural
   representations, NeurIPS 2021.
.. [3] L. Song, A. Smola, A. Gretton, J. Bedo, K. Borgwardt, Feature selection via dependence maximization,
   Journal of Machine Learning Research 13 (2012) 1393-1434 (the unbiased estimator of HSIC, eq. 5).
.. [4] T. Nguyen, M. Raghu, S. Kornblith, Do wide and deep networks learn the same things? Uncovering how
   neural network representations vary with width and depth, ICLR 2021.
.. [5] A. Murphy, J. Zylberberg, A. Fyshe, Correcting biased centered kernel alignment measures in biological
   and artificial neural networks, ICLR 2024 workshop on representational alignment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from latalign._linalg import EPS, row_coordinates, svd
from latalign._validation import Array, Pairs, Rows
from latalign.moments import Moments

FEWEST_ROWS = 4
"""What the unbiased estimator needs: it divides by n − 3."""


def linear_cka_score(moments: Moments) -> float:
    """Return the linear centred kernel alignment of two spaces, in [0, 1] (eq. 3 of [1]_).

    Invariant to rotation and one scale on either side. Biased upward where there are few rows for the
    dimensions: `debiased_cka_score` is not.

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


def debiased_cka_score(X: ArrayLike, Y: ArrayLike) -> float:
    """Return linear CKA without its bias: its three HSIC are unbiased estimates [3]_, [4]_, [5]_.

    0 on average for rows paired at random, whatever their number and dimensions are, where
    `linear_cka_score` comes out near 1 if there are more dimensions than rows. Computed from the products
    of features, or of rows where these are fewer.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        With at least four rows, of which no pair is given twice: a duplicate is taken for another row
        that happens to be the same, and makes any two spaces look alike.

    Returns
    -------
    float
        From −1 to 1; below 0 where the spaces are less alike than rows paired at random are on average.
        NaN if on one side all rows are the same, or all as far from each other.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If they are not 2-D, differ in rows, have fewer than four, or are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, metrics
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(50, 400)), rng.normal(size=(50, 300))
    >>> round(metrics.linear_cka_score(Moments.of(X, Y)), 2)
    0.88
    >>> round(metrics.debiased_cka_score(X, Y), 2)
    0.04
    """
    pairs = Pairs.of(X, Y, caller="debiased_cka_score")
    if len(pairs) < FEWEST_ROWS:
        raise ValueError(f"debiased_cka_score needs at least {FEWEST_ROWS} pairs of rows; got {len(pairs)}")
    pairs.require_finite()
    x, y = Centred.of(pairs.source), Centred.of(pairs.target)
    sizes = x.sum_of_squares() * y.sum_of_squares()
    if not sizes > 0:
        return float("nan")
    return min(unbiased_hsic(x.rows.T @ y.rows, x.norms, y.norms) / sizes**0.5, 1.0)  # but for rounding


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


@final
@dataclass(frozen=True, slots=True, eq=False)
class Centred:
    """The rows of one side about their mean, divided by their size all together.

    Attributes
    ----------
    rows : (n, r) float64 array
        Where there are more dimensions than rows, coordinates in the span of the rows: all inner products
        are the same. The sum of squares is 1, or 0 where all rows are the same.
    norms : (n,) float64 array
        The squared length of each row.
    """

    rows: Array
    norms: Array

    @staticmethod
    def of(values: Rows) -> Centred:
        """Center and scale rows that are finite."""
        rows = values.astype(np.float64)
        rows /= max(float(np.abs(rows).max()), np.finfo(float).tiny)  # no square overflows or vanishes
        largest = np.abs(rows).max(axis=0)
        rows -= rows.mean(axis=0)
        rows -= rows.mean(axis=0)  # what the first mean was off by
        # What is no more than the rounding of the mean is no spread.
        rows[:, np.abs(rows).max(axis=0) <= 32 * EPS * largest] = 0
        if rows.shape[1] > len(rows):
            rows = row_coordinates(rows)
        size = float(np.linalg.norm(rows))
        rows /= size if size > 0 else 1.0
        return Centred(rows, np.einsum("ij,ij->i", rows, rows))

    def sum_of_squares(self) -> float:
        """Return the unbiased HSIC of the side with itself: never negative, and 0 where it is rounding."""
        gram = self.rows.T @ self.rows
        found = unbiased_hsic(gram, self.norms, self.norms)
        return found if found > 100 * EPS * max(len(self.rows), 1) * float((gram**2).sum()) else 0.0


def unbiased_hsic(cross: Array, source_norms: Array, target_norms: Array) -> float:
    """Return n (n − 3) times the unbiased HSIC [3]_ of the linear kernels of two sides.

    In terms of centred rows, whose kernel has row sums of zero, its three sums come down to the squared
    norm of the cross products and the squared lengths of the rows.

    Parameters
    ----------
    cross : (r, s) array
        The products xᵀy of centred rows.
    source_norms, target_norms : (n,) arrays
        The squared lengths of the rows.
    """
    n = len(source_norms)
    own = float(source_norms @ target_norms)
    totals = float(source_norms.sum() * target_norms.sum())
    return float((cross**2).sum()) - n / (n - 2) * own + totals / ((n - 1) * (n - 2))
