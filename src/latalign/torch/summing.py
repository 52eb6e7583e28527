"""`Moments` of tensors where they lie, and of arrays on their way through a GPU."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast, final

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from latalign._rowsum import Grams, NotFinite, overflow
from latalign._validation import (
    Array,
    Pairs,
    as_weights,
    refuse_rows,
    require_as_many,
)
from latalign.moments import Moments, MomentSum
from latalign.torch.device import (
    AnyRows,
    as_any_rows,
    bad_rows,
    computed,
    device_for,
    dtype_of,
    exactly,
)
from latalign.torch.products import DeviceBuffers, Precision, rows_at_once
from latalign.torch.sending import host_buffer, sent

Anything = ArrayLike | Tensor


def moments(
    X: Anything,
    Y: Anything,
    *,
    sample_weight: Anything | None = None,
    device: torch.device | str | None = None,
    precision: Precision = "double",
    grams: Grams = "both",
) -> Moments:
    """Return the moments of paired rows, which a device multiplies: those that `Moments.of` returns.

    Tensors on the device are read where they lie. Arrays, memory maps and tensors elsewhere go there block
    by block, through two buffers which a GPU fills by itself while it works on the block before. Beside the
    rows it holds some blocks and the sums. What PyTorch was told of TF32, autocast or gradients has no say.

    Parameters
    ----------
    X : tensor or array-like of shape (n, dim_source)
    Y : tensor or array-like of shape (n, dim_target)
        Of any real dtype, bfloat16 included.
    sample_weight : tensor or array-like of shape (n,), optional
        Weights of zero or more.
    device : torch.device or str, optional
        Where the rows are multiplied: where the tensors lie unless given; for arrays alone a GPU where
        there is one.
    precision : {"double", "fast", "bfloat16"}
        The dtype in which blocks are multiplied: float64, float32, or, with three digits left, bfloat16.
        Sums are float64 always.
    grams : {"both", "source", "none"}
        As in `Moments.of`.

    Returns
    -------
    Moments
        In memory, with `rounding` as `precision` has it.

    Raises
    ------
    TypeError
        If the rows are not real numbers, or a tensor is not dense.
    ValueError
        If shapes do not fit, values are not finite, or the device does not work or has no float64.

    Examples
    --------
    >>> import torch
    >>> from latalign import fit_moments
    >>> from latalign.torch import moments
    >>> X = torch.randn(100, 4, generator=torch.Generator().manual_seed(0))
    >>> fit_moments(moments(X, 2 * X + 1), method="similarity").matrix.round(6).diagonal()
    array([2., 2., 2., 2.])
    """
    caller = "latalign.torch.moments"
    rows = _Rows.of(X, Y, sample_weight, caller)
    where = device_for(device, rows.sides, caller)
    count = min(rows_at_once(rows.dims, precision, where), len(rows.sides[0]))
    with exactly(where):
        total = MomentSum(DeviceBuffers(count, rows.dims, precision, grams, where))
        try:
            for source, target, weight in rows.blocks_on(where, count):
                total.add(pairs_of(source, target, weight, caller))
        except NotFinite:
            rows.require_finite(count, caller)
            raise overflow(caller) from None
        return total.moments()


def accumulate(
    batches: Iterable[Sequence[Any]],
    *,
    device: torch.device | str | None = None,
    precision: Precision = "double",
    grams: Grams = "both",
) -> Moments:
    """Return the moments of a stream of batches ``(X, Y)`` or ``(X, Y, sample_weight)``, summed on a device.

    Such as the activations of two networks, batch by batch: the rows stay where they are made. They are
    copied there until there are enough to be multiplied, so that batches may be small and their memory be
    used again; nothing but the total leaves the device.

    Parameters
    ----------
    batches : iterable of tuples
        X of shape (n, dim_source), Y of shape (n, dim_target), tensors or arrays; n may differ from batch
        to batch. Weights are best left in memory, where they are checked.
    device : torch.device or str, optional
        As in `latalign.torch.moments`, by the first batch.
    precision, grams
        As in `latalign.torch.moments`.

    Returns
    -------
    Moments

    Raises
    ------
    TypeError
        If a batch does not hold real numbers.
    ValueError
        If there is no batch, a batch does not fit, or values are not finite. Either error names the batch by
        its number.

    Examples
    --------
    >>> import torch
    >>> from latalign.torch import accumulate
    >>> one, other = torch.nn.Linear(8, 3), torch.nn.Linear(8, 2)
    >>> inputs = (torch.randn(16, 8) for _ in range(5))
    >>> accumulate((one(x), other(x)) for x in inputs).count
    80
    """
    caller = "accumulate"
    gathered: _Gathered | None = None
    for number, batch in enumerate(batches):
        if not 2 <= len(batch) <= 3:
            raise ValueError(
                f"batch {number}: accumulate needs (X, Y) or (X, Y, sample_weight); got {len(batch)} entries"
            )
        X, Y, *rest = batch
        try:
            rows = _Rows.of(X, Y, rest[0] if rest else None, caller)
            if gathered is None:
                gathered = _Gathered(rows.dims, device_for(device, rows.sides, caller), precision, grams)
            rows.require_dims(gathered.dims, caller)
        except (TypeError, ValueError) as error:
            raise type(error)(f"batch {number}: {error}") from error
        with exactly(gathered.device):
            gathered.add(number, rows)
    if gathered is None:
        raise ValueError("accumulate needs at least one batch; the iterable was empty")
    return gathered.moments()


def pairs_of(source: Tensor, target: Tensor, weight: Array | None, caller: str) -> Pairs:
    """Return pairs of tensors: of all that pairs can do, sums on a device read their parts alone."""
    return Pairs(cast(Any, source), cast(Any, target), weight, caller)


@final
class _Rows:
    """Both sides as they were given, and the weights in memory."""

    def __init__(self, sides: tuple[AnyRows, AnyRows], weight: Array | None) -> None:
        self.sides, self.weight = sides, weight

    @staticmethod
    def of(X: Any, Y: Any, sample_weight: Any, caller: str) -> _Rows:
        """Check the rows against each other; values are looked at when they are multiplied."""
        sides = as_any_rows(X, f"{caller}: the source X"), as_any_rows(Y, f"{caller}: the target Y")
        require_as_many(len(sides[0]), len(sides[1]), caller)
        if isinstance(sample_weight, Tensor):
            sample_weight = sample_weight.detach().to("cpu", torch.float64).numpy()
        return _Rows(sides, as_weights(sample_weight, len(sides[0])))

    @property
    def dims(self) -> tuple[int, int]:
        return self.sides[0].shape[1], self.sides[1].shape[1]

    def require_dims(self, dims: tuple[int, int], caller: str) -> None:
        if self.dims != dims:
            raise ValueError(f"{caller} needs batches of equal dimensions; got {dims} and {self.dims}")

    def blocks(self, rows: int) -> Iterator[tuple[AnyRows, AnyRows, Array | None]]:
        """Yield blocks of at most so many rows, without those of no weight."""
        for part in self._parts(rows):
            yield from self._weighing(part, *(side[part] for side in self.sides))

    def blocks_on(self, device: torch.device, rows: int) -> Iterator[tuple[Any, Any, Array | None]]:
        """Yield the same with the rows on a device."""
        slices = (tuple(side[part] for side in self.sides) for part in self._parts(rows))
        for part, sides in zip(self._parts(rows), sent(slices, self.sides, rows, device), strict=True):
            yield from self._weighing(part, *sides)

    def _parts(self, rows: int) -> Iterator[slice]:
        return (slice(start, start + rows) for start in range(0, len(self.sides[0]), rows))

    def _weighing(
        self, part: slice, source: AnyRows, target: AnyRows
    ) -> Iterator[tuple[AnyRows, AnyRows, Array | None]]:
        """Yield the rows of a part that weigh something, if there are any."""
        weight = None if self.weight is None else self.weight[part]
        if weight is None or weight.all():
            yield source, target, weight
        elif len(kept := np.flatnonzero(weight)):
            yield _taken(source, kept), _taken(target, kept), weight[kept]

    def require_finite(self, rows: int, caller: str) -> None:
        """Raise a ValueError that counts the rows with NaN or infinity, if there are any."""
        for side, name in enumerate(("source X", "target Y")):
            refuse_rows((bad_rows(block[:2][side]) for block in self.blocks(rows)), f"{caller}: the {name}")


@final
class _Gathered:
    """A sum of batches: their rows are gathered where they are, and multiplied when there are enough of them."""

    def __init__(
        self, dims: tuple[int, int], device: torch.device, precision: Precision, grams: Grams
    ) -> None:
        self.dims, self.device = dims, device
        self._size = rows_at_once(dims, precision, device)
        self._sum = MomentSum(DeviceBuffers(self._size, dims, precision, grams, device))
        self._sides: list[Tensor] = []
        self._weight = np.ones(self._size)
        self._weighted, self._count = False, 0
        # The batches that the rows are of, and where they begin, here and in the batch.
        self._bounds: list[tuple[int, int, int]] = []

    def add(self, number: int, batch: _Rows) -> None:
        """Take copies of a batch's rows."""
        kinds = [(computed(dtype_of(side)), _in_memory(side)) for side in batch.sides]
        if [(side.dtype, _in_memory(side)) for side in self._sides] != kinds:
            self._flush()
            self._sides = [
                host_buffer(self._size, dim, dtype, self.device)
                if here
                else torch.empty((self._size, dim), dtype=dtype, device=self.device)
                for dim, (dtype, here) in zip(self.dims, kinds, strict=True)
            ]
        taken = 0
        for source, target, weight in batch.blocks(self._size):
            done = 0
            while done < len(source):
                more = min(len(source) - done, self._size - self._count)
                place = slice(self._count, self._count + more)
                for side, rows in zip(self._sides, (source, target), strict=True):
                    if isinstance(rows, Tensor):
                        side[place].copy_(rows[done : done + more])
                    else:
                        np.copyto(side[place].numpy(), rows[done : done + more])
                self._weight[place] = 1.0 if weight is None else weight[done : done + more]
                self._weighted |= weight is not None
                self._bounds.append((number, self._count, taken))
                self._count += more
                done, taken = done + more, taken + more
                if self._count == self._size:
                    self._flush()

    def moments(self) -> Moments:
        """Return the moments of all that was added."""
        self._flush()
        return self._sum.moments()

    def _flush(self) -> None:
        if not self._count:
            return
        # From pinned memory; the sum of a block waits for it, so that the buffer can be filled again.
        source, target = (side[: self._count].to(self.device, non_blocking=True) for side in self._sides)
        weight = self._weight[: self._count] if self._weighted else None
        try:
            self._sum.add(pairs_of(source, target, weight, "accumulate"))
        except NotFinite:
            self._require_finite()
            numbers = f"batches {self._bounds[0][0]} to {self._bounds[-1][0]}: accumulate"
            raise overflow(numbers) from None
        self._count, self._weighted = 0, False
        self._bounds.clear()

    def _require_finite(self) -> None:
        """Raise a ValueError that names the first row with NaN or infinity, if there is one."""
        for side, name in zip(self._sides, ("source X", "target Y"), strict=True):
            where = np.flatnonzero(bad_rows(side[: self._count]))
            if len(where):
                first = int(where[0])
                number, here, there = [bound for bound in self._bounds if bound[1] <= first][-1]
                raise ValueError(
                    f"batch {number}: accumulate: the {name} needs finite values; row {first - here + there} "
                    "contains NaN or infinity. Remove or repair such rows."
                )


def _in_memory(rows: AnyRows) -> bool:
    return not isinstance(rows, Tensor) or rows.device.type == "cpu"


def _taken(rows: AnyRows, index: NDArray[np.intp]) -> AnyRows:
    return rows[torch.from_numpy(index).to(rows.device)] if isinstance(rows, Tensor) else rows[index]
