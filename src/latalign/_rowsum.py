"""The pass over rows: sums of products about a provisional mean, block after block, in fixed memory."""

from __future__ import annotations

from typing import Any, Literal, final

import numpy as np

from latalign._linalg import EPS
from latalign._validation import Array, Pairs, Rows

Precision = Literal["double", "fast"]
"""``"double"`` multiplies float64 blocks, ``"fast"`` float32 blocks; both are summed in float64."""

Grams = Literal["both", "source", "none"]
"""Which Gram matrices are accumulated beside the cross moments and the two diagonals."""

# Below this sum of squares a float32 product may have lost values to underflow.
_FLOAT32_SAFE = np.float32(1e-28)
# The rounding of a sum of products over a block, in units of the last place of the sum.
_CANCELLED = 1024


@final
class Buffers:
    """What a block is centred and multiplied in: several sums that are added to in turn may share it.

    Parameters
    ----------
    rows : int
        The largest block that will come.
    dims : tuple of int
        The source's and the target's.
    precision, grams : see `Moments.of`
    """

    def __init__(self, rows: int, dims: tuple[int, int], precision: Precision, grams: Grams) -> None:
        if precision not in ("double", "fast"):
            raise ValueError(f'precision is "double" or "fast"; got {precision!r}')
        if grams not in ("both", "source", "none"):
            raise ValueError(f'grams is "both", "source" or "none"; got {grams!r}')
        dtype = np.dtype(np.float32 if precision == "fast" else np.float64)
        full = grams != "none", grams == "both"
        self.dtype = dtype
        self.centred = tuple(np.empty((rows, dim), dtype) for dim in dims)
        self.grams = tuple(
            np.empty((dim, dim), dtype) if some else None for dim, some in zip(dims, full, strict=True)
        )
        self.cross = np.empty(dims, dtype)


class NotFinite(ArithmeticError):
    """A sum came out as NaN or infinity: the rows must be looked at one by one."""


def overflow(caller: str) -> ValueError:
    """Return what to raise for finite rows whose sums are not."""
    return ValueError(
        f"{caller}: the values are finite, but their squares overflow float64 (beyond 1e154). "
        "Divide the rows by a constant first."
    )


@final
class RowSum:
    """A running sum of products of centred rows, about one provisional mean a side.

    Parameters
    ----------
    first : Pairs
        The block that the provisional means are taken of, which should be added first.
    buffers : Buffers
    """

    def __init__(self, first: Pairs, buffers: Buffers) -> None:
        self._count = 0
        self._rounding = float(np.finfo(buffers.dtype).eps)
        self._source = _Side(first.source, buffers.centred[0], buffers.grams[0])
        self._target = _Side(first.target, buffers.centred[1], buffers.grams[1])
        self._xy = np.zeros(buffers.cross.shape)
        self._product = buffers.cross

    def add(self, part: Pairs) -> bool:
        """Add a block; return False, and leave the sum as it is, where another mean is called for.

        Raises
        ------
        NotFinite
            If the block holds NaN or infinity, or its squares overflow.
        """
        weight = float(len(part)) if part.weight is None else float(part.weight.sum())
        root = None if part.weight is None else np.sqrt(part.weight)
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            source = self._source.centred(part.source, root)
            target = self._target.centred(part.target, root)
            found = [self._source.products(source, root), self._target.products(target, root)]
            xy = np.matmul(source.T, target, out=self._product)
            if source.dtype == np.float32 and not (
                _in_range(source, found[0]) and _in_range(target, found[1])
            ):
                # Out of float32's range: this block is multiplied in float64 instead.
                source = self._source.centred(part.source, root, wide=True)
                target = self._target.centred(part.target, root, wide=True)
                found = [self._source.products(source, root), self._target.products(target, root)]
                xy = source.T @ target
        # No cross product is larger than the squares of its two columns.
        if not all(np.isfinite(block.diagonal).all() for block in found):
            raise NotFinite
        sides = (self._source, found[0]), (self._target, found[1])
        if self._count and any(side.is_far(block, weight) for side, block in sides):
            return False
        for side, block in sides:
            side.add(block, weight)
        self._xy += xy
        self._count += len(part)
        return True

    def total(self) -> dict[str, Any]:
        """Return the fields of the `Moments` of all rows that were added."""
        source, target, weight = self._source, self._target, self._source.weight
        source_rest, target_rest = source.total / weight, target.total / weight
        xx, xx_diagonal = source.about_mean()
        yy, yy_diagonal = target.about_mean()
        return {
            "weight": weight,
            "count": self._count,
            "source_mean": source.provisional + source_rest,
            "target_mean": target.provisional + target_rest,
            "xy": self._xy - np.outer(weight * source_rest, target_rest),
            "xx_diagonal": xx_diagonal,
            "yy_diagonal": yy_diagonal,
            "source_gram": xx,
            "target_gram": yy,
            "rounding": self._rounding,
        }


@final
class _Products:
    """What one block adds to one side."""

    __slots__ = ("diagonal", "gram", "total")

    def __init__(self, total: Rows, diagonal: Rows, gram: Rows | None) -> None:
        self.total, self.diagonal, self.gram = total, diagonal, gram


@final
class _Side:
    """One side's sums about its provisional mean, and the buffers of its blocks."""

    def __init__(self, first: Rows, buffer: Rows, product: Rows | None) -> None:
        dim, dtype = first.shape[1], buffer.dtype
        # In the precision that the difference is taken in, so that what is subtracted is known exactly:
        # of float32 blocks only for rows that have no more digits themselves.
        narrow = first.dtype.kind == "f" and first.dtype.itemsize <= 4
        with np.errstate(over="ignore", invalid="ignore"):
            mean = first.mean(axis=0, dtype=np.float64).astype(dtype if narrow else np.float64)
        self._mean: Rows = np.where(np.isfinite(mean), mean, 0)
        self.provisional = self._mean.astype(np.float64)
        self.weight, self.total, self.diagonal = 0.0, np.zeros(dim), np.zeros(dim)
        self.gram = None if product is None else np.zeros((dim, dim))
        self._buffer, self._product = buffer, product
        self._eps = float(np.finfo(dtype).eps)

    def centred(self, rows: Rows, root: Array | None, *, wide: bool = False) -> Rows:
        """Return √w (x − m) for the provisional mean m, in the buffer or in float64 of its own."""
        out = np.empty(rows.shape) if wide else self._buffer[: len(rows)]
        if out.dtype == np.float64 and rows.dtype == np.float32:
            # Cast first: a subtraction of float32 operands rounds in float32, whatever `out` is.
            np.copyto(out, rows)
            out -= self._mean
        else:
            # The difference of wider rows is rounded once, when it is stored.
            np.subtract(rows, self._mean, out=out, casting="same_kind")
        if root is not None:
            out *= root.astype(out.dtype)[:, None]
        return out

    def products(self, block: Rows, root: Array | None) -> _Products:
        ones = np.ones(len(block), block.dtype) if root is None else root.astype(block.dtype)
        total = ones @ block
        if self.gram is None:
            return _Products(total, np.einsum("ij,ij->j", block, block), None)
        out = self._product if self._product is not None and self._product.dtype == block.dtype else None
        # One operand twice: the library takes the symmetric rank-k update, half the work.
        gram = np.matmul(block.T, block, out=out)
        return _Products(total, gram.diagonal(), gram)

    def is_far(self, block: _Products, weight: float) -> bool:
        """Tell whether the block's own mean lies further from the provisional one than its spread.

        While none does, at most one bit cancels when the mean is corrected in the end. The spread
        seen so far counts too: a unit that is silent in one block has not moved away.
        """
        away = block.total.astype(np.float64) ** 2 / weight
        so_far = (self.diagonal - self.total**2 / self.weight) * (weight / self.weight)
        spread = np.maximum(block.diagonal - away, so_far)
        rounding = weight * (64 * self._eps * self.provisional) ** 2
        return bool((away > spread + rounding).any())

    def add(self, block: _Products, weight: float) -> None:
        self.weight += weight
        self.total += block.total
        self.diagonal += block.diagonal
        if self.gram is not None and block.gram is not None:
            self.gram += block.gram

    def about_mean(self) -> tuple[Array | None, Array]:
        """Return the Gram matrix (or None) and its diagonal about the true mean."""
        weight, rest = self.weight, self.total / self.weight
        diagonal = self.diagonal - weight * rest**2
        # What is left of a constant column is no spread: the rounding of its mean, which is float64's in
        # blocks of either precision, and that of the sums which cancelled.
        rounding = weight * (4 * EPS * (self.provisional + rest)) ** 2
        diagonal[diagonal <= rounding + _CANCELLED * self._eps * self.diagonal] = 0
        if self.gram is None:
            return None, diagonal
        gram = self.gram - np.outer(weight * rest, rest)
        np.fill_diagonal(gram, diagonal)
        return gram, diagonal


def _in_range(block: Rows, found: _Products) -> bool:
    """Tell whether no float32 product overflowed, nor lost a column to underflow."""
    if not np.isfinite(found.diagonal).all():
        return False
    small = np.flatnonzero(found.diagonal < _FLOAT32_SAFE)
    return not (len(small) and block[:, small].any())
