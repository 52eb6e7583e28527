"""Anchors that determine a linear map best: an optimal design of the experiment that pairing is.

References
----------
.. [1] V. V. Fedorov, Theory of Optimal Experiments, Academic Press 1972.
.. [2] T. J. Mitchell, An algorithm for the construction of "D-optimal" experimental designs,
   Technometrics 16 (1974) 203-210.
.. [3] K. Chaloner, I. Verdinelli, Bayesian experimental design: a review, Statistical Science 10 (1995)
   273-304.
"""

from __future__ import annotations

from typing import final

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Array, Rows, as_generator
from latalign.anchors import Index, as_candidates, row_blocks

# What is known before the first anchor, relative to one average row: without it the determinant of fewer
# anchors than dimensions would be zero.
_PRIOR = 1e-3
_GAIN = 1e-9  # of an exchange, in the logarithm of the determinant


def d_optimal_anchors(
    X: ArrayLike, n_anchors: int, *, random_state: int | np.random.Generator | None = 0
) -> Index:
    """Return the sorted numbers of `n_anchors` different rows that determine a linear map best.

    The determinant of their Gram matrix, intercept included, is made large: so the coefficients of least
    squares vary least where all rows are equally noisy [1]_. The row that adds most (the one of the largest
    leverage) is taken next; then the least useful one is exchanged for the most useful, as long as the
    determinant grows [2]_. A weak prior lets it go on beyond what fewer anchors than dimensions can
    determine [3]_. Rows far out in any direction are taken first, outliers among them.

    Parameters
    ----------
    X : array-like of shape (n, dim)
        The rows of one side; the other side's rows of the same numbers are their partners.
    n_anchors : int
    random_state : int, Generator or None
        Draws which of equally useful rows is taken.

    Returns
    -------
    array of int, shape (n_anchors,)

    Raises
    ------
    TypeError
        If `X` does not hold real numbers.
    ValueError
        If `X` is not 2-D or not finite, or has fewer rows than anchors are asked for; or if `n_anchors` is
        no whole number of 1 or more.

    Notes
    -----
    The time is that of n × n_anchors inner products, a few times over; the memory that of n numbers, one
    block, and a square matrix of the dimensions.

    Examples
    --------
    >>> from latalign import d_optimal_anchors
    >>> d_optimal_anchors([[-3.0, 0.0], [-0.1, 0.1], [0.2, 3.0], [0.1, 0.1], [3.0, 0.0]], 3)
    array([0, 2, 4])
    """
    rows = as_candidates(X, n_anchors, "d_optimal_anchors")
    order = as_generator(random_state, "d_optimal_anchors").permutation(len(rows))
    design = _Design(rows, order)
    for _ in range(n_anchors):
        design.add(design.most_useful())
    for _ in range(n_anchors):
        left = design.least_useful()
        lost = design.remove(left)
        best = design.most_useful()
        gained = design.add(best)
        if best == left or gained + lost <= _GAIN:
            if best != left:
                design.remove(best)
                design.add(left)
            break
    return np.flatnonzero(design.chosen)


@final
class _Design:
    """The rows that are chosen, and the leverage that every row has or would have among them."""

    def __init__(self, rows: Rows, order: Index) -> None:
        self._rows = rows
        self._place = np.empty(len(rows), dtype=np.intp)
        self._place[order] = np.arange(len(rows))
        self._mean = rows.mean(axis=0, dtype=np.float64)
        squares = np.empty(len(rows))
        for part in row_blocks(len(rows)):
            centred = rows[part] - self._mean
            squares[part] = np.einsum("ij,ij->i", centred, centred)
        spread = float(squares.mean() / rows.shape[1]) or 1.0
        self._one = np.sqrt(spread)  # the intercept's column
        prior = _PRIOR * spread
        self._inverse = np.eye(rows.shape[1] + 1) / prior
        self._leverage = (squares + spread) / prior
        self.chosen = np.zeros(len(rows), dtype=np.bool_)

    def most_useful(self) -> int:
        """Return the row outside that would add most."""
        outside = np.where(self.chosen, -np.inf, self._leverage)
        return self._first(np.flatnonzero(outside >= outside.max() * (1 - 1e-12)))

    def least_useful(self) -> int:
        """Return the chosen row that would be missed least."""
        inside = np.where(self.chosen, self._leverage, np.inf)
        return self._first(np.flatnonzero(inside <= inside.min() * (1 + 1e-12)))

    def add(self, row: int) -> float:
        """Take a row, and return what the logarithm of the determinant gains."""
        return self._update(row, 1.0)

    def remove(self, row: int) -> float:
        """Give a row back, and return what the logarithm of the determinant gains: less than nothing."""
        return self._update(row, -1.0)

    def _update(self, row: int, sign: float) -> float:
        own = self._inverse @ self._extended(slice(row, row + 1))[0]
        factor = 1 + sign * float(self._extended(slice(row, row + 1))[0] @ own)
        for part in row_blocks(len(self._rows)):
            self._leverage[part] -= sign * (self._extended(part) @ own) ** 2 / factor
        self._inverse -= sign * np.outer(own, own) / factor
        self.chosen[row] = sign > 0
        return float(np.log(factor))

    def _extended(self, part: slice) -> Array:
        """Return centred rows with the intercept's column."""
        centred = self._rows[part] - self._mean
        return np.column_stack((centred, np.full(len(centred), self._one)))

    def _first(self, rows: Index) -> int:
        return int(rows[np.argmin(self._place[rows])])
