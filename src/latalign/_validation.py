"""Where array-likes become checked float arrays: every shape and finiteness error is raised here."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any, cast, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
"""A float64 array: what every statistic and every map is made of."""

Rows = NDArray[Any]
"""Rows as the user has them: any real dtype, not copied."""

_FLOATS = (np.float16, np.float32, np.float64)
_SCAN_ROWS = 8192
_TINY = 1e-150  # of rows whose mean is as small, the squares of what they differ by may vanish
_HINTS = {0: "", 1: " A single row is array[None, :]."}  # by the number of axes


def as_rows(values: ArrayLike, name: str, *, dim: int | None = None) -> Rows:
    """Return `values` as a 2-D real array, unchanged where it is one already.

    float16, float32, float64 and integers keep their dtype (blocks are cast later, one at a time), in the machine's
    own byte order; other numbers become float64. As in files, what is true or false, a time or a text is no number.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If the array is not 2-D, is empty, is not `dim` wide, or has masked entries.
    """
    rows = as_numbers(values, name, "an array of real numbers of shape (rows, dimensions)")
    require_matrix(rows.shape, name, dim=dim)
    return rows


def as_numbers(
    values: ArrayLike, name: str, what: str = "an array of real numbers", kinds: str = "iufO"
) -> NDArray[Any]:
    """Return an array of any shape, of a dtype that rows may have; `kinds` are those that are taken.

    Raises
    ------
    TypeError
        If the values are not real numbers, or no array at all.
    ValueError
        If some are masked.
    """
    _refuse_masked(values, name)
    try:
        found = np.asarray(values)
        if found.dtype.kind == "c":
            raise TypeError("complex values have no order and no real map")
        if found.dtype.kind not in kinds or (found.dtype.kind == "O" and not _all_numbers(found)):
            raise TypeError(f"{found.dtype} holds no numbers; convert it first, with array.astype(float)")
        if found.dtype.kind not in "iu" and found.dtype.type not in _FLOATS:
            found = found.astype(np.float64)
        elif not found.dtype.isnative:
            found = found.astype(found.dtype.newbyteorder("="))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{name} needs {what}; got {type(values).__name__}, which is not one ({error})"
        ) from error
    return found


def _refuse_masked(values: object, name: str) -> None:
    """Raise a ValueError where NumPy would take what a mask hides for values."""
    if isinstance(values, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(cast("NDArray[Any]", values))
        if masked.any():
            raise ValueError(
                f"{name} needs a value everywhere; {int(masked.sum())} of {masked.size} entries are masked. "
                "Leave those rows out on both sides, or fill them (array.filled)."
            )


def _all_numbers(objects: NDArray[Any]) -> bool:
    """Tell whether no object is of a kind that float() reads a number out of, and that is none."""
    return not any(isinstance(value, (str, bytes, bool, np.bool_)) for value in objects.flat)


def require_matrix(shape: tuple[int, ...], name: str, *, dim: int | None = None) -> None:
    """Raise a ValueError where a shape is not that of rows, of `dim` dimensions if it is given."""
    if len(shape) != 2:
        hint = _HINTS.get(len(shape), " Flatten each item to one row first.")
        raise ValueError(f"{name} needs a 2-D array (rows, dimensions); got shape {shape}.{hint}")
    if shape[0] == 0 or shape[1] == 0:
        raise ValueError(f"{name} needs at least one row and one dimension; got shape {shape}")
    if dim is not None and shape[1] != dim:
        raise ValueError(
            f"{name} needs rows of {dim} dimensions; got {shape[1]} (shape {shape}). "
            "Give the rows of the space that the map starts from."
        )


def all_finite(block: Rows) -> bool:
    """Tell whether every value is finite, at the price of one dot product.

    NaN and infinity survive a sum of squares. So may the square of a large finite value, so the
    answer is checked value by value before it is a no.
    """
    if block.dtype.kind in "iu":
        return True
    if block.flags.c_contiguous and block.dtype != np.float16:
        flat = block.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(np.dot(flat, flat)):
                return True
    return bool(np.isfinite(block).all())


def require_finite(rows: Rows, name: str) -> None:
    """Raise a ValueError that counts the rows with NaN or infinity, if there are any."""
    blocks = (rows[start : start + _SCAN_ROWS] for start in range(0, len(rows), _SCAN_ROWS))
    refuse_rows((~finite_rows(block) for block in blocks), name)


def finite_rows(block: Rows) -> NDArray[np.bool_]:
    """Return of every row whether all its values are finite."""
    if all_finite(block):
        return np.ones(len(block), np.bool_)
    return np.asarray(np.isfinite(block).all(axis=1))


def refuse_rows(bad: Iterable[NDArray[np.bool_]], name: str) -> None:
    """Raise a ValueError that counts the rows of blocks which hold NaN or infinity, if there are any."""
    done, found, first = 0, 0, -1
    for block in bad:
        where = np.flatnonzero(block)
        if len(where) and not found:
            first = done + int(where[0])
        found += len(where)
        done += len(block)
    if found:
        raise ValueError(
            f"{name} needs finite values; {found} of {done} rows contain NaN or infinity "
            f"(the first is row {first}). Remove or repair those rows."
        )


def as_weights(sample_weight: ArrayLike | None, count: int) -> Array | None:
    """Return the weights as float64 of shape (count,), or None where every row counts the same."""
    if sample_weight is None:
        return None
    what = "an array of real numbers, one a row"  # true and false say which rows count
    weights = as_numbers(sample_weight, "sample_weight", what, "biufO").astype(np.float64)
    if weights.ndim == 0:
        weights = np.full(count, float(weights))
    if weights.shape != (count,):
        raise ValueError(f"sample_weight needs one weight a row, shape ({count},); got shape {weights.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("sample_weight needs finite weights of zero or more")
    if not (weights > 0).any():
        raise ValueError("sample_weight needs at least one weight above zero; all are zero")
    return weights


def require_spread(varies: NDArray[np.bool_], mean: Array, count: int, what: str, caller: str) -> None:
    """Raise a ValueError where rows, whose moments are about `mean`, do not differ in any column."""
    if varies.any():
        return
    if np.abs(mean).max(initial=0) < _TINY:
        raise ValueError(
            f"{caller} needs rows that differ; all {count} rows of the {what} are zero, or too small for their "
            "squares (below 1e-154). Where they do differ, multiply them by a constant first."
        )
    raise ValueError(
        f"{caller} needs rows that differ; all {count} rows of the {what} are the same, to rounding"
    )


def require_as_many(source: int, target: int, caller: str) -> None:
    """Raise a ValueError where the two sides have different numbers of rows."""
    if source != target:
        raise ValueError(
            f"{caller} needs rows that correspond: X has {source} rows, Y has {target}. "
            "Pair them first, by order or by id (latalign.pair_by_id)."
        )


def as_generator(random_state: int | np.random.Generator | None, caller: str) -> np.random.Generator:
    """Return the generator that `random_state` is, or one that it seeds.

    Raises
    ------
    TypeError, ValueError
        If it is neither a seed nor a Generator.
    """
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise type(error)(
            f"{caller} needs a random_state that is a whole number of zero or more, a Generator or None; "
            f"got {random_state!r}"
        ) from error


def require_folds(n_folds: object, caller: str) -> None:
    """Raise a ValueError where `n_folds` is no number of folds to cross-validate with."""
    if isinstance(n_folds, bool) or not isinstance(n_folds, Integral) or n_folds < 2:
        raise ValueError(f"{caller} needs a whole number of at least 2 folds; got n_folds={n_folds!r}")


def require_whole(caller: str, **counts: object) -> None:
    """Raise a ValueError that names the first of the counts that is no whole number."""
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise ValueError(f"{caller} needs whole numbers; got {name}={count!r}")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Rows that correspond: row i of `source` and row i of `target` are the same thing.

    Attributes
    ----------
    source : array of shape (n, dim_source)
    target : array of shape (n, dim_target)
    weight : float64 array of shape (n,), or None
        What each pair counts; None is one each. No row has a weight of zero.
    caller : str
        Who asked for them, for the errors.
    """

    source: Rows
    target: Rows
    weight: Array | None = None
    caller: str = "fit"

    @staticmethod
    def of(
        X: ArrayLike, Y: ArrayLike, sample_weight: ArrayLike | None = None, *, caller: str = "fit"
    ) -> Pairs:
        """Check the two arrays against each other and drop the rows that weigh nothing."""
        source = as_rows(X, f"{caller}: the source X")
        target = as_rows(Y, f"{caller}: the target Y")
        require_as_many(len(source), len(target), caller)
        weight = as_weights(sample_weight, len(source))
        if weight is not None and not weight.all():
            kept = np.flatnonzero(weight)
            source, target, weight = source[kept], target[kept], weight[kept]
        return Pairs(source, target, weight, caller)

    def __len__(self) -> int:
        return len(self.source)

    @property
    def dims(self) -> tuple[int, int]:
        """The widths of the source and of the target."""
        return self.source.shape[1], self.target.shape[1]

    @property
    def is_double(self) -> bool:
        """Whether both sides carry float64 precision (integers do: they are exact)."""
        return all(a.dtype.kind in "iu" or a.dtype == np.float64 for a in (self.source, self.target))

    @property
    def weights(self) -> Array:
        """What each pair counts, in numbers: ones where no weight was given."""
        return np.ones(len(self)) if self.weight is None else self.weight

    def take(self, index: NDArray[np.intp] | slice) -> Pairs:
        """Return the pairs at `index`."""
        weight = None if self.weight is None else self.weight[index]
        return Pairs(self.source[index], self.target[index], weight, self.caller)

    def blocks(self, rows: int) -> Iterator[Pairs]:
        """Yield consecutive views of at most `rows` pairs."""
        for start in range(0, len(self), rows):
            yield self.take(slice(start, start + rows))

    def require_finite(self) -> None:
        """Raise a ValueError that counts the rows with NaN or infinity, if there are any."""
        require_finite(self.source, f"{self.caller}: the source X")
        require_finite(self.target, f"{self.caller}: the target Y")


def finite_pairs(X: ArrayLike, Y: ArrayLike, caller: str) -> Pairs:
    """Return at least two pairs, all of whose values are finite."""
    pairs = Pairs.of(X, Y, caller=caller)
    if len(pairs) < 2:
        raise ValueError(f"{caller} needs at least 2 pairs of rows; got {len(pairs)}")
    pairs.require_finite()
    return pairs


def checked_alpha(alpha: float, *, infinite: bool = False) -> float:
    """Return a penalty as a number of zero or more, finite unless it may be infinite."""
    penalty = _number(alpha)
    if not (penalty >= 0 and (infinite or math.isfinite(penalty))):
        finite = "number of zero or more" if infinite else "finite number of zero or more"
        raise ValueError(f'alpha needs a {finite}, or "auto"; got {alpha!r}')
    return penalty


def checked_power(power: float) -> float:
    """Return the power of the canonical correlations as a finite number of zero or more."""
    exponent = _number(power)
    if not (math.isfinite(exponent) and exponent >= 0):
        raise ValueError(f'power needs a finite number of zero or more, or "auto"; got {power!r}')
    return exponent


def checked_scale(scale: float) -> float:
    """Return the scale of a similarity map as a finite number of zero or more."""
    factor = _number(scale)
    if not (math.isfinite(factor) and factor >= 0):
        raise ValueError(f"shrunk needs a scale that is finite and zero or more; got {scale!r}")
    return factor


def checked_rank(rank: int) -> int:
    """Return a rank as a whole number of one or more."""
    try:
        whole = operator.index(rank)
    except TypeError:
        whole = 0
    if whole < 1:
        raise ValueError(f"low_rank needs a rank of at least 1, a whole number; got {rank!r}")
    return whole


def _number(value: float) -> float:
    """Return a real number, or NaN for what is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
