"""Moments: the one statistic that alignment needs from data, and the only code that reads rows.

Every closed-form map is a function of the weighted means and centred second moments of paired rows.
Moments of disjoint sets of rows add, so any amount of data is one pass of block sums: in memory, in a
stream, over folds or machines.

Rows are centred on a provisional mean before they are multiplied, what that mean was off by is taken
out again, and sums about different means are merged by the update of Chan, Golub and LeVeque.
XᵀX − n m mᵀ, which loses every digit where means are large, is never formed.

References
----------
T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for computing the sample variance: analysis and
recommendations, The American Statistician 37 (1983) 242-247.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._linalg import EPS, TINY
from latalign._rowsum import AnyPrecision, Buffers, Grams, Multiplier, NotFinite, Precision, RowSum, overflow
from latalign._validation import Array, Pairs

if TYPE_CHECKING:
    from latalign.maps import AffineMap

# Blocks of so many values (both sides) stay in a core's own cache while they are multiplied; what is done
# once a block is dear where they are smaller, and so is adding the products of fewer than the least rows.
_BLOCK_VALUES, _LEAST_ROWS = 3 << 17, 256


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
    rounding : float
        The relative rounding of the products: float64's, or that of float32 blocks.

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
    rounding: float = EPS

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
        """Which source columns are not constant: whose spread is more than rounding, of their mean or of squares."""
        return self.xx_diagonal > np.maximum(self.weight * (32 * EPS * self.source_mean) ** 2, TINY)

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
            rounding=max(self.rounding, other.rounding),
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
            source_gram=_merged(self.source_gram, other.source_gram, source_step, factor, sign=-1),
            target_gram=_merged(self.target_gram, other.target_gram, target_step, factor, sign=-1),
            rounding=max(self.rounding, other.rounding),
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
            rounding=self.rounding,
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

    Parameters
    ----------
    batches : iterable of tuples
        X of shape (n, dim_source), Y of shape (n, dim_target); n may differ from batch to batch.
    precision, grams
        As in `Moments.of`.

    Returns
    -------
    Moments

    Raises
    ------
    TypeError
        If a batch does not hold real numbers.
    ValueError
        If there is no batch, or a batch does not fit. Either error names the batch by its number.

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
    for number, batch in enumerate(batches):
        if not 2 <= len(batch) <= 3:
            raise ValueError(
                f"batch {number}: accumulate needs (X, Y) or (X, Y, sample_weight); got {len(batch)} entries"
            )
        X, Y, *rest = batch
        try:
            part = Moments.of(X, Y, sample_weight=rest[0] if rest else None, precision=precision, grams=grams)
            total = part if total is None else total + part
        except (TypeError, ValueError) as error:
            raise type(error)(f"batch {number}: {error}") from error
    if total is None:
        raise ValueError("accumulate needs at least one batch; the iterable was empty")
    return total


def moments_of_pairs(pairs: Pairs, *, precision: Precision = "double", grams: Grams = "both") -> Moments:
    """Return the moments of pairs that are checked already, summed block by block."""
    rows = min(block_rows(pairs.dims, precision), len(pairs))
    total = MomentSum(Buffers(rows, pairs.dims, precision, grams))
    try:
        for part in pairs.blocks(rows):
            total.add(part)
    except NotFinite:
        pairs.require_finite()
        raise overflow(pairs.caller) from None
    return total.moments()


def block_rows(dims: tuple[int, int], precision: AnyPrecision) -> int:
    """Return how many rows are multiplied at once."""
    # In float32 no more: of a few columns the library may add the rows up one after another.
    return max(_LEAST_ROWS, min(1024 if precision == "fast" else 8192, _BLOCK_VALUES // sum(dims)))


@final
class MomentSum:
    """The moments of rows that come in blocks, the same for the same blocks.

    Parameters
    ----------
    multiplier : Multiplier
        For blocks as large as will come; sums that are added to in turn may share it.
    """

    def __init__(self, multiplier: Multiplier) -> None:
        self._multiplier = multiplier
        self._done: Moments | None = None
        self._here: RowSum | None = None

    def add(self, part: Pairs) -> None:
        """Add a block.

        Raises
        ------
        NotFinite
            If the block holds NaN or infinity, or its squares overflow.
        """
        if self._here is None:
            self._here = RowSum(part, self._multiplier)
        if not self._here.add(part):
            # The rows have moved away (sorted data, say): go on about another mean.
            self._done = self.moments()
            self._here = RowSum(part, self._multiplier)
            self._here.add(part)

    def moments(self) -> Moments:
        """Return the moments of all that was added; of nothing, those of no rows."""
        if self._here is None:
            return Moments.zero(*self._multiplier.dims)
        here = Moments(**self._here.total())
        return here if self._done is None else self._done + here


def summed(folds: Sequence[Moments]) -> Moments:
    """Return the moments of all folds together."""
    return sum(folds[1:], folds[0])


def all_but_one(folds: Sequence[Moments]) -> tuple[Moments, ...]:
    """Return for each fold the moments of all the others, by sums only (nothing cancels)."""
    zero = Moments.zero(folds[0].dim_source, folds[0].dim_target)
    before, after = [zero], [zero]
    for first, last in zip(folds[:-1], folds[:0:-1], strict=True):
        before.append(before[-1] + first)
        after.append(last + after[-1])
    return tuple(a + b for a, b in zip(before, reversed(after), strict=True))


def _merged(mine: Array | None, its: Array | None, step: Array, factor: float, sign: int = 1) -> Array | None:
    if mine is None or its is None:
        return None
    return mine + sign * its + np.outer(factor * step, step)


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
