"""The mean that is subtracted before float32 products are summed."""

from __future__ import annotations

import numpy as np

from latalign._validation import Array

LOOKED_AT = 256
"""As many rows tell what a column's values are like."""
# What counts as few different values, and digits like none of theirs.
_BITS, _ALMOST_ALL, _GOLDEN = 6, 0.75, 0.3819660112501051


def provisional(mean: Array, some: Array) -> Array:
    """Return a mean about which float32 products are summed with little rounding, near the one that is given.

    Rows of few different values, such as small integers or 16-bit floats far from zero, have few different
    products, and where the sums of those round alike, again and again, they are off by 5e-6 where others are by
    1e-7. So their mean is rounded to whole steps of the values: then the sums of their products have so few
    digits that they are exact. The mean of all others gets digits like none of theirs, so that no two sums
    round alike.

    Parameters
    ----------
    mean : (dim,) array
    some : (n, dim) array
        Some rows. The values of a column are few where nearly all are multiples of a power of two which is a
        64th of their spread or more.
    """
    with np.errstate(all="ignore"):  # what is not finite stays as it is
        spread = some.std(axis=0)
        varies = np.isfinite(mean) & np.isfinite(spread) & (spread > 0)
        step = np.ldexp(1.0, np.frexp(np.where(varies, spread, 1.0))[1] - _BITS)
        few = (np.fmod(some, step) == 0).mean(axis=0) > _ALMOST_ALL
        steps = np.round(mean / step) + np.where(few, 0.0, _GOLDEN)
        return np.where(varies, steps * step, mean)
