"""Moments: the one statistic that alignment needs from data, and the only code that reads rows.

Every closed-form map is a function of the weighted means and centred second moments of paired rows.
Moments of disjoint sets of rows add, so any amount of data is one pass of block sums: in memory, in a
stream, over folds or machines.

The blocks are centred on their own mean before they are multiplied, the residual mean is taken out
again (the corrected two-pass algorithm), and blocks are merged by the update of Chan, Golub and
LeVeque. XᵀX − n m mᵀ, which loses every digit where means are large, is never formed.

References
----------
T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for computing the sample variance: analysis and
recommendations, The American Statistician 37 (1983) 242-247.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._validation import Array, Pairs, Rows

if TYPE_CHECKING:
    from latalign.maps import AffineMap

Precision = Literal["double", "fast"]
"""``"double"`` multiplies float64 blocks, ``"fast"`` float32 blocks; both are summed in float64."""

Grams = Literal["both", "source", "none"]
"""Which Gram matrices are accumulated beside the cross moments and the two diagonals."""

# A block of both sides, in float64, stays near this many values (16 MiB): large enough for the
# matrix product to run at its peak, small enough for a second-level or third-level cache.
_BLOCK_VALUES = 1 << 21
# Below this sum of squares a float32 product may have lost values to underflow.
_FLOAT32_SAFE = np.float32(1e-28)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Weighted means and centred co-moments of paired rows: a sum that adds up, in float64.

    ``a + b`` are the moments of both sets of rows, ``total - fold`` those without a fold;
    ``Moments.zero(...)`` is neutral. Where only some methods will be solved, the Gram matrices that
    they do not read need not be accumulated (`grams`): a Procrustes map reads `xy` alone.

    Attributes
    ----------
    weight : float
        The sum of the weights; the number of rows where there are none.
    count : int
        The number of rows with a weight above zero.
    source_mean : (dim_source,) array
    target_mean : (dim_target,) array
    xy : (dim_source, dim_target) array
        Σ w (x − source_mean) (y − target_mean)ᵀ.
    xx_diagonal : (dim_source,) array
    yy_diagonal : (dim_target,) array
        The weighted sums of squares of every centred column.
    source_gram, target_gram : square array or None
        The full centred Gram matrices where they were accumulated. Read them as `xx` and `yy`.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments
    >>> X = np.arange(6.0).reshape(3, 2)
    >>> a, b = Moments.of(X[:1], X[:1]), Moments.of(X[1:], X[1:])
    >>> (a + b).source_mean
    array([2., 3.])
    >>> bool(np.allclose((a + b).xx, np.cov(X.T) * 2))
    True
    """

    weight: float
    count: int
    source_mean: Array
    target_mean: Array
    xy: Array
    xx_diagonal: Array
    yy_diagonal: Array
    source_gram: Array | None = None
    target_gram: Array | None = None

    @staticmethod
    def zero(dim_source: int, dim_target: int) -> Moments:
        """Return the moments of no rows: the neutral element of ``+``."""
        return Moments(
            weight=0.0,
            count=0,
            source_mean=np.zeros(dim_source),
            target_mean=np.zeros(dim_target),
            xy=np.zeros((dim_source, dim_target)),
            xx_diagonal=np.zeros(dim_source),
            yy_diagonal=np.zeros(dim_target),
            source_gram=np.zeros((dim_source, dim_source)),
            target_gram=np.zeros((dim_target, dim_target)),
        )

    @staticmethod
    def of(
        X: ArrayLike,
        Y: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        precision: Precision = "double",
        grams: Grams = "both",
    ) -> Moments:
        """Return the moments of paired rows, in one pass with a fixed amount of extra memory.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)
        Y : array-like of shape (n, dim_target)
            float16, float32, float64 or integers; no copy of the whole is made.
        sample_weight : array-like of shape (n,), optional
            Weights of zero or more.
        precision : {"double", "fast"}
            The dtype in which blocks are multiplied, float64 or float32. Sums are float64 always.
        grams : {"both", "source", "none"}
            The Gram matrices to accumulate; the diagonals always are.

        Raises
        ------
        TypeError
            If the arrays do not hold real numbers.
        ValueError
            If shapes do not fit or values are not finite.
        """
        pairs = Pairs.of(X, Y, sample_weight, caller="Moments.of")
        return moments_of_pairs(pairs, precision=precision, grams=grams)

    @property
    def dim_source(self) -> int:
        """The number of source dimensions."""
        return len(self.source_mean)

    @property
    def dim_target(self) -> int:
        """The number of target dimensions."""
        return len(self.target_mean)

    @property
    def effective_count(self) -> float:
        """How many observations the rows stand for: a weight above one counts as repeats of a row."""
        return max(self.weight, float(self.count))

    @property
    def source_varies(self) -> NDArray[np.bool_]:
        """Which source columns are not constant: whose spread is more than the rounding of their mean."""
        return self.xx_diagonal > self.weight * (32 * np.finfo(float).eps * self.source_mean) ** 2

    @property
    def xx(self) -> Array:
        """The centred source Gram matrix, (dim_source, dim_source)."""
        return _accumulated(self.source_gram, "source", 'grams="source" or "both"')

    @property
    def yy(self) -> Array:
        """The centred target Gram matrix, (dim_target, dim_target)."""
        return _accumulated(self.target_gram, "target", 'grams="both"')

    def __add__(self, other: Moments) -> Moments:
        """Return the moments of both sets of rows (Chan, Golub and LeVeque's merge)."""
        self._require_same_dims(other, "+")
        # A side without rows has no mean, and may lack nothing that the other side has.
        if other.count == 0 or self.count == 0:
            some, none = (self, other) if other.count == 0 else (other, self)
            return _without(some, source=none.source_gram is None, target=none.target_gram is None)
        weight = self.weight + other.weight
        source_step = other.source_mean - self.source_mean
        target_step = other.target_mean - self.target_mean
        share = other.weight / weight
        factor = self.weight * share
        return Moments(
            weight=weight,
            count=self.count + other.count,
            source_mean=self.source_mean + share * source_step,
            target_mean=self.target_mean + share * target_step,
            xy=self.xy + other.xy + np.outer(factor * source_step, target_step),
            xx_diagonal=self.xx_diagonal + other.xx_diagonal + factor * source_step**2,
            yy_diagonal=self.yy_diagonal + other.yy_diagonal + factor * target_step**2,
            source_gram=_merged(self.source_gram, other.source_gram, source_step, factor),
            target_gram=_merged(self.target_gram, other.target_gram, target_step, factor),
        )

    def __sub__(self, other: Moments) -> Moments:
        """Return the moments without the rows of `other`, which were added before.

        Digits cancel where little remains; `all_but_one` sums the other folds instead.
        """
        self._require_same_dims(other, "-")
        count, weight = self.count - other.count, self.weight - other.weight
        if count < 0 or (count > 0 and weight <= 0):
            raise ValueError(
                f"Moments - Moments removes rows that were added before: {other.count} rows of weight "
                f"{other.weight:g} cannot be taken out of {self.count} rows of weight {self.weight:g}"
            )
        if count == 0:
            zero = Moments.zero(self.dim_source, self.dim_target)
            return _without(zero, source=self.source_gram is None, target=self.target_gram is None)
        source_mean = self.source_mean + (self.source_mean - other.source_mean) * (other.weight / weight)
        target_mean = self.target_mean + (self.target_mean - other.target_mean) * (other.weight / weight)
        source_step, target_step = other.source_mean - source_mean, other.target_mean - target_mean
        factor = -weight * other.weight / self.weight
        return Moments(
            weight=weight,
            count=count,
            source_mean=source_mean,
            target_mean=target_mean,
            xy=self.xy - other.xy + np.outer(factor * source_step, target_step),
            # A sum of squares is not negative, whatever rounding says.
            xx_diagonal=np.maximum(self.xx_diagonal - other.xx_diagonal + factor * source_step**2, 0),
            yy_diagonal=np.maximum(self.yy_diagonal - other.yy_diagonal + factor * target_step**2, 0),
            source_gram=_merged(self.source_gram, _negated(other.source_gram), source_step, factor),
            target_gram=_merged(self.target_gram, _negated(other.target_gram), target_step, factor),
        )

    def mapped(self, f: AffineMap | None = None, g: AffineMap | None = None) -> Moments:
        """Return the moments of (f(x), g(y)), with no pass over data; None leaves a side as it is.

        Whitening, scaling or projecting either side is this algebra.
        """
        out = self
        if f is not None:
            gram = f.matrix.T @ out.xx @ f.matrix
            out = replace(
                out,
                source_mean=f(out.source_mean[None, :])[0],
                xy=f.matrix.T @ out.xy,
                xx_diagonal=np.maximum(gram.diagonal(), 0),
                source_gram=gram,
            )
        return out if g is None else out.swapped().mapped(g).swapped()

    def swapped(self) -> Moments:
        """Return the moments of (y, x): what a map back is solved from."""
        return Moments(
            weight=self.weight,
            count=self.count,
            source_mean=self.target_mean,
            target_mean=self.source_mean,
            xy=self.xy.T,
            xx_diagonal=self.yy_diagonal,
            yy_diagonal=self.xx_diagonal,
            source_gram=self.target_gram,
            target_gram=self.source_gram,
        )

    def uncentered(self) -> Moments:
        """Return the moments about the origin instead of the means: for maps without translation."""
        zero = np.zeros_like
        source, target = self.source_mean, self.target_mean
        return replace(
            self,
            source_mean=zero(source),
            target_mean=zero(target),
            xy=self.xy + np.outer(self.weight * source, target),
            xx_diagonal=self.xx_diagonal + self.weight * source**2,
            yy_diagonal=self.yy_diagonal + self.weight * target**2,
            source_gram=_merged(self.source_gram, zero(self.source_gram), source, self.weight),
            target_gram=_merged(self.target_gram, zero(self.target_gram), target, self.weight),
        )

    def _require_same_dims(self, other: Moments, sign: str) -> None:
        mine, its = (self.dim_source, self.dim_target), (other.dim_source, other.dim_target)
        if mine != its:
            raise ValueError(f"Moments {sign} Moments needs equal dimensions; got {mine} and {its}")


def accumulate(
    batches: Iterable[Sequence[Any]], *, precision: Precision = "double", grams: Grams = "both"
) -> Moments:
    """Return the moments of a stream of batches ``(X, Y)`` or ``(X, Y, sample_weight)``.

    Raises
    ------
    ValueError
        If there is no batch, or a batch does not fit (the error names it by its number).

    Examples
    --------
    >>> import numpy as np
    >>> from latalign.moments import accumulate
    >>> rng = np.random.default_rng(0)
    >>> stream = ((rng.normal(size=(10, 3)), rng.normal(size=(10, 2))) for _ in range(5))
    >>> accumulate(stream).count
    50
    """
    total: Moments | None = None
    for number, (X, Y, *rest) in enumerate(batches):
        try:
            part = Moments.of(X, Y, sample_weight=rest[0] if rest else None, precision=precision, grams=grams)
            total = part if total is None else total + part
        except ValueError as error:
            raise ValueError(f"batch {number}: {error}") from error
    if total is None:
        raise ValueError("accumulate needs at least one batch; the iterable was empty")
    return total


def moments_of_pairs(pairs: Pairs, *, precision: Precision = "double", grams: Grams = "both") -> Moments:
    """Return the moments of pairs that are checked already, summed block by block."""
    if precision not in ("double", "fast"):
        raise ValueError(f'precision is "double" or "fast"; got {precision!r}')
    if grams not in ("both", "source", "none"):
        raise ValueError(f'grams is "both", "source" or "none"; got {grams!r}')
    dims = pairs.source.shape[1], pairs.target.shape[1]
    block = max(256, min(8192, _BLOCK_VALUES // sum(dims)))
    work = _Workspace(min(block, len(pairs)), *dims, precision)
    try:
        return reduce(add, (work.moments(part, grams) for part in pairs.blocks(block)))
    except _NotFinite:
        pairs.require_finite("Moments.of")
        raise ValueError(
            "Moments.of: the values are finite, but their squares overflow float64 (beyond 1e154). "
            "Divide the rows by a constant first."
        ) from None


def all_but_one(folds: Sequence[Moments]) -> tuple[Moments, ...]:
    """Return for each fold the moments of all the others, by sums only (nothing cancels)."""
    zero = Moments.zero(folds[0].dim_source, folds[0].dim_target)
    before, after = [zero], [zero]
    for first, last in zip(folds[:-1], folds[:0:-1], strict=True):
        before.append(before[-1] + first)
        after.append(last + after[-1])
    return tuple(a + b for a, b in zip(before, reversed(after), strict=True))


class _NotFinite(ArithmeticError):
    """A sum came out as NaN or infinity: the rows must be looked at one by one."""


@final
class _Workspace:
    """The reused buffers of one pass."""

    def __init__(self, rows: int, dim_source: int, dim_target: int, precision: Precision) -> None:
        self.fast = precision == "fast"
        dtype = np.float32 if self.fast else np.float64
        self.source = np.empty((rows, dim_source), dtype)
        self.target = np.empty((rows, dim_target), dtype)

    def moments(self, part: Pairs, grams: Grams) -> Moments:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            found = _block_moments(part, self.source[: len(part)], self.target[: len(part)], grams)
            if found is None and self.fast:
                # Out of float32's range: this block is multiplied in float64 instead.
                source, target = np.empty(part.source.shape), np.empty(part.target.shape)
                found = _block_moments(part, source, target, grams)
        if found is None:
            raise _NotFinite
        return found


def _block_moments(part: Pairs, source: Rows, target: Rows, grams: Grams) -> Moments | None:
    """Return the moments of one block, multiplied in the dtype of the buffers; None if out of range."""
    weight = float(len(part)) if part.weight is None else float(part.weight.sum())
    root = None if part.weight is None else np.sqrt(part.weight)
    source_mean, source_rest = _centre(part.source, root, weight, source)
    target_mean, target_rest = _centre(part.target, root, weight, target)
    if not (np.isfinite(source_mean).all() and np.isfinite(target_mean).all()):
        return None
    xx, xx_diagonal = _gram(source, source_mean, source_rest, weight, full=grams != "none")
    yy, yy_diagonal = _gram(target, target_mean, target_rest, weight, full=grams == "both")
    xy = np.subtract(source.T @ target, np.outer(weight * source_rest, target_rest), dtype=np.float64)
    if xx_diagonal is None or yy_diagonal is None or not np.isfinite(xy).all():
        return None
    return Moments(
        weight=weight,
        count=len(part),
        source_mean=source_mean,
        target_mean=target_mean,
        xy=xy,
        xx_diagonal=xx_diagonal,
        yy_diagonal=yy_diagonal,
        source_gram=xx,
        target_gram=yy,
    )


def _centre(rows: Rows, root: Array | None, weight: float, out: Rows) -> tuple[Array, Array]:
    """Write √w (x − m₀) into `out` for a provisional mean m₀; return the mean, and the mean − m₀."""
    if rows.dtype.type in (np.float32, np.float64):
        ones = np.full(len(rows), 1 / len(rows), rows.dtype)
        provisional = ones @ rows
    else:
        provisional = rows.mean(axis=0, dtype=np.float64)
    if out.dtype == np.float32:
        # Rounded before it is subtracted, so that what is taken off is known exactly.
        provisional = provisional.astype(np.float32)
    if out.dtype == np.float64 and rows.dtype == np.float32:
        # Cast first: a subtraction of float32 operands rounds in float32, whatever `out` is.
        np.copyto(out, rows)
        out -= provisional
    else:
        np.subtract(rows, provisional, out=out, casting="same_kind")
    if root is None:
        rest = np.full(len(rows), 1 / weight, out.dtype) @ out
    else:
        out *= root.astype(out.dtype)[:, None]
        rest = (root / weight).astype(out.dtype) @ out
    rest = rest.astype(np.float64)
    return provisional.astype(np.float64) + rest, rest


def _gram(
    block: Rows, mean: Array, rest: Array, weight: float, *, full: bool
) -> tuple[Array | None, Array | None]:
    """Return the centred Gram matrix (or None) and its diagonal (None if out of range)."""
    if full:
        raw = block.T @ block  # one operand twice: the library takes the rank-k update
        diagonal = raw.diagonal()
    else:
        raw = None
        diagonal = np.einsum("ij,ij->j", block, block)
    if not np.isfinite(diagonal).all():
        return None, None
    if block.dtype == np.float32:
        small = np.flatnonzero(diagonal < _FLOAT32_SAFE)
        if len(small) and block[:, small].any():
            return None, None
    centred = np.subtract(diagonal, weight * rest**2, dtype=np.float64)
    # What is left of a constant column is the rounding of its mean: no spread at all.
    centred[centred <= weight * (4 * np.finfo(block.dtype).eps * mean) ** 2] = 0
    if raw is None:
        return None, centred
    gram = np.subtract(raw, np.outer(weight * rest, rest), dtype=np.float64)
    np.fill_diagonal(gram, centred)
    return gram, centred


def _merged(mine: Array | None, its: Array | None, step: Array, factor: float) -> Array | None:
    if mine is None or its is None:
        return None
    return mine + its + np.outer(factor * step, step)


def _negated(gram: Array | None) -> Array | None:
    return None if gram is None else -gram


def _without(moments: Moments, *, source: bool, target: bool) -> Moments:
    """Return the moments without the Gram matrices that are asked to go."""
    return replace(
        moments,
        source_gram=None if source else moments.source_gram,
        target_gram=None if target else moments.target_gram,
    )


def _accumulated(gram: Array | None, side: str, remedy: str) -> Array:
    if gram is None:
        raise ValueError(
            f"these Moments were accumulated without the {side} Gram matrix, which this needs. "
            f"Accumulate them with {remedy}."
        )
    return gram
