"""Powers of two to measure both sides in, where products of moments would leave the range of floats.

Moments hold squares, and the errors along a path of penalties products of those: of rows of 1e-120 nothing
would be left of them, of rows of 1e120 infinity. A power of two takes no digit away, so what comes out is what
would have come out with a wider range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from latalign._validation import Array, Pairs
from latalign.moments import Moments

# Deviations between 2⁻¹⁰⁰ and 2¹⁰⁰ are left as they are: eighth powers of them are in range.
_PLAIN = 100


@final
@dataclass(frozen=True, slots=True)
class Units:
    """What one is on each side, as exponents of two.

    Attributes
    ----------
    source, target : int
        0 where nothing is to be scaled: then everything is returned as it is.
    """

    source: int = 0
    target: int = 0

    @staticmethod
    def of(moments: Moments) -> Units:
        """Return the units in which the largest deviation of either side is about one."""
        return Units(*(_exponent(d, moments.weight) for d in (moments.xx_diagonal, moments.yy_diagonal)))

    @property
    def plain(self) -> bool:
        """Whether nothing is to be scaled."""
        return self.source == self.target == 0

    def moments(self, moments: Moments) -> Moments:
        """Return moments in these units."""
        if self.plain:
            return moments
        s, t = self.source, self.target
        gram, target_gram = moments.source_gram, moments.target_gram
        return replace(
            moments,
            source_mean=np.ldexp(moments.source_mean, -s),
            target_mean=np.ldexp(moments.target_mean, -t),
            xy=np.ldexp(moments.xy, -s - t),
            xx_diagonal=np.ldexp(moments.xx_diagonal, -2 * s),
            yy_diagonal=np.ldexp(moments.yy_diagonal, -2 * t),
            source_gram=None if gram is None else np.ldexp(gram, -2 * s),
            target_gram=None if target_gram is None else np.ldexp(target_gram, -2 * t),
        )

    def pairs(self, pairs: Pairs) -> Pairs:
        """Return rows in these units: a copy, where there is something to scale. Only float64 has such rows."""
        if self.plain:
            return pairs
        source = np.ldexp(pairs.source.astype(np.float64), -self.source)
        return replace(pairs, source=source, target=np.ldexp(pairs.target.astype(np.float64), -self.target))

    def penalties(self, alphas: Array) -> Array:
        """Return penalties on sums of squares in these units."""
        return alphas if self.plain else np.ldexp(alphas, -2 * self.source)

    def penalty_back(self, alpha: float) -> float:
        """Return a penalty in the rows' own units."""
        return alpha if self.plain else math.ldexp(alpha, 2 * self.source)

    def squares_back(self, errors: Array) -> Array:
        """Return sums of squares of the target in its own units."""
        return errors if self.plain else np.ldexp(errors, 2 * self.target)


def _exponent(squares: Array, weight: float) -> int:
    largest = float(squares.max(initial=0.0))
    if not (largest > 0 and weight > 0):
        return 0
    exponent = (math.frexp(largest)[1] - math.frexp(weight)[1]) // 2
    return exponent if abs(exponent) > _PLAIN else 0
