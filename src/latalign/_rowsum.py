"""The pass over rows: sums of products about a provisional mean, block after block, in fixed memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, final

import numpy as np
from scipy.linalg import blas

from latalign._linalg import EPS
from latalign._provisional import LOOKED_AT, provisional
from latalign._validation import Array, Pairs, Rows

Precision = Literal["double", "fast"]
"""``"double"`` multiplies float64 blocks, ``"fast"`` float32 blocks; both are summed in float64."""

AnyPrecision = Literal["double", "fast", "bfloat16"]
"""What a `Place` multiplies: some take bfloat16 as well."""

Grams = Literal["both", "source", "none"]
"""Which Gram matrices are accumulated beside the cross moments and the two diagonals."""

# Below the first sum of squares a float32 product may have lost values to underflow; above the second the
# sum over a few blocks may overflow.
_FLOAT32_SAFE = 1e-28, 1e36
# Of how many rows float32 products are summed before the sum goes into the float64 one.
_NEAR_ROWS = 8192
# A wide block is centred in strips that stay near the core, from which they are summed again; none is of
# more rows than can be added one after another with little rounding.
_STRIP_BYTES, _STRIP_ROWS = 1 << 21, 256
# The rounding of a sum of products over a block, in units of the last place of the sum.
_CANCELLED = 1024


@final
@dataclass(frozen=True, slots=True)
class Block:
    """The rows √w (x − m) of one side of a block, where they are multiplied, and their sums.

    Attributes
    ----------
    rows : (n, dim) array or tensor
    total : (dim,) array
        Σ w (x − m).
    diagonal : (dim,) array
        Σ w (x − m)².
    """

    rows: Any
    total: Array
    diagonal: Array

    def in_range(self) -> bool:
        """Tell whether no float32 product overflows, nor loses a column to underflow."""
        least, most = _FLOAT32_SAFE
        if not (self.diagonal < most).all():
            return False
        small = np.flatnonzero(self.diagonal < least)
        return not (len(small) and bool(self.rows[:, small].any()))


class ProductSum(Protocol):
    """A sum of products yᵀx of blocks."""

    def add(self, y: Any, x: Any) -> None:
        """Add the product of two blocks of rows; of rows with themselves the upper triangle is enough."""
        ...

    def total(self) -> Array:
        """Return the sum of all blocks, as an array in memory."""
        ...


class Multiplier(ABC):
    """What centres and multiplies blocks: `Buffers` in memory, `latalign.torch` on a device.

    Attributes
    ----------
    dims : tuple of int
        The source's and the target's.
    full : tuple of bool
        Which sides' Gram matrices are taken.
    narrow : bool
        Whether blocks have float32's range, or less.
    eps : float
        Of the dtype that a block is summed in.
    rounding : float
        Of what is multiplied.
    """

    dims: tuple[int, int]
    full: tuple[bool, bool]
    narrow: bool
    eps: float
    rounding: float

    @abstractmethod
    def mean(self, rows: Any) -> Any:
        """Return the mean of some rows in the precision that it is subtracted in, zero where it is not finite.

        What is subtracted is to be known exactly: so it is that of narrow blocks only for rows that have no
        more digits themselves.
        """

    @abstractmethod
    def gathered(self, mean: Any) -> Array:
        """Return a mean as a float64 array in memory."""

    @abstractmethod
    def centred(self, part: Pairs, means: tuple[Any, Any], *, wide: bool = False) -> tuple[Block, Block]:
        """Return both sides √w (x − m) about provisional means, until the next block; wide ones in float64."""

    @abstractmethod
    def products(self, rows: int, columns: int) -> ProductSum:
        """Return a sum of no products."""

    def there(
        self, parts: Iterable[tuple[int, Pairs]], like: Pairs, rows: int
    ) -> Iterator[tuple[int, Pairs]]:
        """Yield blocks, each with its number, where they are multiplied; each until the next one is asked for.

        Parameters
        ----------
        parts : iterable of (int, Pairs)
            Of at most `rows` rows each, of the widths and dtypes of `like`.
        """
        yield from parts


class Place(Protocol):
    """Where blocks are multiplied: whatever makes a multiplier for blocks of so many rows, as `Buffers` does."""

    def rows_at_once(self, dims: tuple[int, int], precision: AnyPrecision) -> int | None:
        """Return how many rows a block needs to have; None for as many as it has."""
        ...

    def __call__(self, rows: int, dims: tuple[int, int], precision: AnyPrecision, grams: Grams) -> Multiplier:
        """Return a multiplier."""
        ...


def full_grams(grams: Grams) -> tuple[bool, bool]:
    """Return which sides' Gram matrices are accumulated."""
    if grams not in ("both", "source", "none"):
        raise ValueError(f'grams is "both", "source" or "none"; got {grams!r}')
    return grams != "none", grams == "both"


@final
class Buffers(Multiplier):
    """What a block is centred and multiplied in: several sums that are added to in turn may share it.

    Parameters
    ----------
    rows : int
        The largest block that will come.
    dims : tuple of int
        The source's and the target's.
    precision, grams : see `Moments.of`
    """

    def __init__(self, rows: int, dims: tuple[int, int], precision: AnyPrecision, grams: Grams) -> None:
        if precision not in ("double", "fast"):
            raise ValueError(f'precision is "double" or "fast"; got {precision!r}')
        self._dtype = np.dtype(np.float32 if precision == "fast" else np.float64)
        self.dims, self.full = dims, full_grams(grams)
        self.narrow = precision == "fast"
        self.eps = self.rounding = float(np.finfo(self._dtype).eps)
        self._centred = tuple(np.empty((rows, dim), self._dtype) for dim in dims)

    @staticmethod
    def rows_at_once(dims: tuple[int, int], precision: AnyPrecision) -> int | None:
        """Take blocks as they come: they stay in the cache."""
        return None

    def mean(self, rows: Rows) -> Rows:
        """Return the mean, as `Multiplier.mean` says, as often as a strip has rows.

        Arrays of one shape are subtracted faster than a row from each.
        """
        few = rows.dtype.kind == "f" and rows.dtype.itemsize <= 4
        with np.errstate(over="ignore", invalid="ignore"):
            mean = rows.mean(axis=0, dtype=np.float64)
            if self.narrow:
                mean = provisional(mean, rows[:LOOKED_AT].astype(np.float64))
            mean = mean.astype(self._dtype if few else np.float64)
        strip = min(max(16, _STRIP_BYTES // (len(mean) * self._dtype.itemsize)), _STRIP_ROWS)
        return np.tile(np.where(np.isfinite(mean), mean, 0), (strip, 1))

    def gathered(self, mean: Rows) -> Array:
        """Return a mean in float64."""
        return mean[0].astype(np.float64)

    def centred(self, part: Pairs, means: tuple[Rows, Rows], *, wide: bool = False) -> tuple[Block, Block]:
        """Return both sides about provisional means, in the buffers or in float64 of their own."""
        root = None if part.weight is None else np.sqrt(part.weight)
        source, target = (
            _centred(rows, mean, root, np.empty(rows.shape) if wide else out[: len(rows)])
            for rows, mean, out in zip((part.source, part.target), means, self._centred, strict=True)
        )
        return source, target

    def products(self, rows: int, columns: int) -> ProductSum:
        """Return a sum of no products."""
        return Products(rows, columns, self._dtype)


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
    multiplier : Multiplier
    """

    def __init__(self, first: Pairs, multiplier: Multiplier) -> None:
        self._count = 0
        self._multiplier = multiplier
        self._means = multiplier.mean(first.source), multiplier.mean(first.target)
        self._source, self._target = (_Side(multiplier, self._means[side], side) for side in (0, 1))
        self._yx = multiplier.products(*multiplier.dims[::-1])

    def add(self, part: Pairs) -> bool:
        """Add a block; return False, and leave the sum as it is, where another mean is called for.

        Raises
        ------
        NotFinite
            If the block holds NaN or infinity, or its squares overflow.
        """
        weight = float(len(part)) if part.weight is None else float(part.weight.sum())
        source, target = self._multiplier.centred(part, self._means)
        if self._multiplier.narrow and not (source.in_range() and target.in_range()):
            # Out of float32's range: this block is multiplied in float64 instead.
            source, target = self._multiplier.centred(part, self._means, wide=True)
        # No cross product is larger than the squares of its two columns.
        if not all(np.isfinite(block.diagonal).all() for block in (source, target)):
            raise NotFinite
        if self._count and (self._source.is_far(source, weight) or self._target.is_far(target, weight)):
            return False
        self._source.add(source, weight)
        self._target.add(target, weight)
        self._yx.add(target.rows, source.rows)
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
            "xy": self._yx.total().T - np.outer(weight * source_rest, target_rest),
            "xx_diagonal": xx_diagonal,
            "yy_diagonal": yy_diagonal,
            "source_gram": xx,
            "target_gram": yy,
            "rounding": self._multiplier.rounding,
        }


@final
class Products:
    """The sum of yᵀx over blocks: float64, those of float32 blocks by way of a sum of a few in float32."""

    def __init__(self, rows: int, columns: int, dtype: np.dtype[Any]) -> None:
        # In the library's own order, so that it adds the products where they are to go.
        self._sum = np.zeros((rows, columns), order="F")
        self._near = None if dtype == np.float64 else np.zeros((rows, columns), dtype, order="F")
        self._waiting = 0

    def add(self, y: Rows, x: Rows) -> None:
        """Add a block's products; of rows with themselves only the upper triangle, for half the work."""
        if x.dtype == np.float64:
            self._sum = _added(self._sum, y, x, blas.dgemm, blas.dsyrk)
            return
        assert self._near is not None  # who adds float32 blocks said so
        self._near = _added(self._near, y, x, blas.sgemm, blas.ssyrk)
        self._waiting += len(x)
        if self._waiting >= _NEAR_ROWS:
            self._settle()

    def total(self) -> Array:
        """Return the sum of all blocks."""
        self._settle()
        return self._sum

    def _settle(self) -> None:
        if self._near is not None:
            self._sum += self._near
            self._near.fill(0)
            self._waiting = 0


def _added(into: Rows, y: Rows, x: Rows, gemm: Callable[..., Rows], syrk: Callable[..., Rows]) -> Rows:
    """Add yᵀx to a matrix, which is overwritten, and return it."""
    if y is x:
        return syrk(1.0, x.T, beta=1.0, c=into, overwrite_c=True)
    return gemm(1.0, y.T, x.T, beta=1.0, c=into, trans_b=True, overwrite_c=True)


def _centred(rows: Rows, means: Rows, root: Array | None, out: Rows) -> Block:
    """Write √w (x − m) for the provisional mean m, strip by strip, and sum what was written."""
    dim = rows.shape[1]
    total, diagonal = np.zeros(dim), np.zeros(dim)
    roots = None if root is None else root.astype(out.dtype)[:, None]
    step = len(means)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            strip = out[part]
            if out.dtype == np.float64 and rows.dtype == np.float32:
                # Cast first: a subtraction of float32 operands rounds in float32, whatever `out` is.
                np.copyto(strip, rows[part])
                strip -= means[: len(strip)]
            else:
                # The difference of wider rows is rounded once, when it is stored.
                np.subtract(rows[part], means[: len(strip)], out=strip, casting="same_kind")
            if roots is None:
                total += strip.sum(axis=0)
            else:
                strip *= roots[part]
                total += np.einsum("ij,ij->j", strip, roots[part])
            diagonal += np.einsum("ij,ij->j", strip, strip)
    return Block(out, total, diagonal)


@final
class _Side:
    """One side's sums about its provisional mean."""

    def __init__(self, multiplier: Multiplier, mean: Any, side: int) -> None:
        dim = multiplier.dims[side]
        self.provisional = multiplier.gathered(mean)
        self.weight, self.total, self.diagonal = 0.0, np.zeros(dim), np.zeros(dim)
        self._gram = multiplier.products(dim, dim) if multiplier.full[side] else None
        self._eps = multiplier.eps

    def is_far(self, block: Block, weight: float) -> bool:
        """Tell whether the block's own mean lies further from the provisional one than its spread.

        While none does, at most one bit cancels when the mean is corrected in the end. The spread
        seen so far counts too: a unit that is silent in one block has not moved away.
        """
        away = block.total**2 / weight
        if (away <= block.diagonal - away).all():
            return False
        so_far = (self.diagonal - self.total**2 / self.weight) * (weight / self.weight)
        spread = np.maximum(block.diagonal - away, so_far)
        rounding = weight * (64 * self._eps * self.provisional) ** 2
        return bool((away > spread + rounding).any())

    def add(self, block: Block, weight: float) -> None:
        self.weight += weight
        self.total += block.total
        self.diagonal += block.diagonal
        if self._gram is not None:
            self._gram.add(block.rows, block.rows)

    def about_mean(self) -> tuple[Array | None, Array]:
        """Return the Gram matrix (or None) and its diagonal about the true mean."""
        weight, rest = self.weight, self.total / self.weight
        gram = None if self._gram is None else np.triu(self._gram.total())
        # Those of the Gram matrix itself, where there is one, so that they are rounded as its products are.
        squares = self.diagonal if gram is None else gram.diagonal()
        diagonal = squares - weight * rest**2
        # What is left of a constant column is no spread: the rounding of its mean, which is float64's in
        # blocks of either precision, and that of the sums which cancelled.
        rounding = weight * (4 * EPS * (self.provisional + rest)) ** 2
        diagonal[diagonal <= rounding + _CANCELLED * self._eps * squares] = 0
        if gram is None:
            return None, diagonal
        gram = gram + np.triu(gram, 1).T - np.outer(weight * rest, rest)
        np.fill_diagonal(gram, diagonal)
        return gram, diagonal
