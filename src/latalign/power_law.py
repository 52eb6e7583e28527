"""A law of errors in the number of anchors: a floor, and what is above it, which falls by a power.

For a given exponent the law is linear in its two other numbers, so the exponent alone is searched for, on a
grid, and nothing depends on where a search begins: variable projection.

References
----------
G. H. Golub, V. Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems whose
variables separate, SIAM Journal on Numerical Analysis 10 (1973) 413-432.
P. J. Huber, Robust estimation of a location parameter, Annals of Mathematical Statistics 35 (1964) 73-101.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Array

# From a law that hardly falls to one that falls at once: past an interpolation threshold errors do.
_EXPONENTS = np.geomspace(0.05, 6, 80)
_ROUNDS = 5  # of weighing down what lies off the law
_CLIPPED = 1.345  # standard deviations, Huber's


@final
@dataclass(frozen=True, slots=True)
class PowerLaw:
    """The error as a function of the number of anchors: floor + scale · anchors^(−exponent).

    Attributes
    ----------
    floor : float
        What no number of anchors goes below, zero or more.
    scale : float
        Zero or more.
    exponent : float
        Above zero.

    Examples
    --------
    >>> from latalign.power_law import PowerLaw
    >>> PowerLaw(floor=0.5, scale=8.0, exponent=1.0)(16)
    1.0
    """

    floor: float
    scale: float
    exponent: float

    def __call__(self, anchors: float) -> float:
        """Return the error with so many anchors."""
        return float(self.floor + self.scale * float(anchors) ** -self.exponent)


def fitted(anchors: NDArray[np.intp], errors: Array, spreads: Array) -> Array:
    """Return the laws that errors follow, relative to their spreads; what lies far off counts less.

    Parameters
    ----------
    anchors : (c,) array of int
        Above zero, three different numbers at least.
    errors : (sets, c) array
        Above zero; each row is a law's.
    spreads : (c,) array
        The standard deviation of the logarithm of each error, above zero.

    Returns
    -------
    (sets, 3) array
        Floor, scale and exponent of each.
    """
    start = float(anchors.min())
    powers = (anchors / start) ** -_EXPONENTS[:, None]  # (exponents, c)
    exact = 1 / (errors * spreads) ** 2
    weights = exact
    here, found = np.arange(len(errors)), np.empty((len(errors), 3))
    for _ in range(_ROUNDS):
        floor, scale = _two_coefficients(powers, errors, weights)
        left = floor[..., None] + scale[..., None] * powers - errors[:, None]  # (sets, exponents, c)
        best = np.argmin((weights[:, None] * left**2).sum(axis=-1), axis=1)
        found = np.column_stack((floor[here, best], scale[here, best], _EXPONENTS[best]))
        off = np.abs(left[here, best]) * np.sqrt(exact)
        # Relative to how far off most are: spreads say how the points scatter, not how well the law is one.
        typical = np.maximum(1.4826 * np.median(off, axis=1, keepdims=True), 1)
        weights = exact / np.maximum(off / (_CLIPPED * typical), 1)
    found[:, 1] *= start ** found[:, 2]
    return found


def _two_coefficients(powers: Array, errors: Array, weights: Array) -> tuple[Array, Array]:
    """Return floor and scale by weighted least squares, neither below zero: (sets, exponents) each."""
    total = weights.sum(axis=1)[:, None]
    mean = ((weights * errors).sum(axis=1)[:, None]) / total
    mean_power = (weights @ powers.T) / total
    cross = (weights * errors) @ powers.T - total * mean * mean_power
    spread = weights @ (powers**2).T - total * mean_power**2
    scale = np.maximum(cross / spread, 0)
    floor = mean - scale * mean_power
    through_zero = ((weights * errors) @ powers.T) / (weights @ (powers**2).T)
    return np.maximum(floor, 0), np.where(floor < 0, through_zero, scale)
