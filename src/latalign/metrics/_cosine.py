"""Cosine similarities of all rows of one side with all of the other, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Array, Rows, as_rows, require_finite
from latalign.maps import Normalize

# More rows at a time are no faster, and a few thousand of either side would fill much memory.
_BLOCK_VALUES, _BLOCK_ROWS = 1 << 22, 512

# Equal rows may differ in the last bits of a blocked product.
TIE = 1e-12


def unit_pair(
    X: ArrayLike, Y: ArrayLike, caller: str, *, same_rows: bool = True, same_width: bool = True
) -> tuple[Array, Array]:
    """Return both sides as float64 rows of length one; a zero row stays zero, so that its cosines are 0."""
    x, y = as_rows(X, f"{caller}: X"), as_rows(Y, f"{caller}: Y")
    if same_rows and len(x) != len(y):
        raise ValueError(f"{caller} needs rows that correspond; got {len(x)} and {len(y)} rows")
    if same_width and x.shape[1] != y.shape[1]:
        raise ValueError(
            f"{caller} compares rows of one space; got {x.shape[1]} and {y.shape[1]} dimensions. "
            "Map one side first."
        )
    return _unit(x, caller), _unit(y, caller)


def similarities(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """Yield the products of a few rows of `x` with all rows of `y`, and which rows of `x` those are."""
    step = max(1, min(_BLOCK_ROWS, _BLOCK_VALUES // len(y)))
    for start in range(0, len(x), step):
        part = slice(start, min(start + step, len(x)))
        yield part, x[part] @ y.T


def _unit(rows: Rows, caller: str) -> Array:
    require_finite(rows, caller)
    return Normalize()(rows.astype(np.float64))
