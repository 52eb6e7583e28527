"""Sums of products of rows on a device: what `latalign.moments.MomentSum` adds to there."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor

from latalign._provisional import LOOKED_AT, provisional
from latalign._rowsum import AnyPrecision, Block, Grams, Multiplier, full_grams
from latalign._validation import Array, Pairs, Rows
from latalign.moments import block_rows
from latalign.torch.device import AnyRows, as_floats, as_tensor, computed, dtype_of, exactly
from latalign.torch.sending import sent

Precision = AnyPrecision
"""The dtype in which blocks are multiplied on a device: float64, float32 or bfloat16; sums are float64."""

_DTYPES = {"double": torch.float64, "fast": torch.float32, "bfloat16": torch.bfloat16}
# The rows whose products are summed in float32: of more, the digits of the sum wear off.
_CHUNK = 1024
# On a processor fewer of float32: of few columns its library may add up row after row, which 1024 rounds to 1e-6.
_CHUNK_HERE = 256
# The products of so many values are taken at a time: together they fill a GPU that one would not.
_PRODUCTS = 1 << 25
# On a GPU the rows of a block, of both sides, take so many bytes: below, more time goes between the blocks.
_BLOCK_BYTES = 256 << 20


def rows_at_once(dims: tuple[int, int], precision: Precision, device: torch.device) -> int:
    """Return how many rows are multiplied at once: on a processor few, on a GPU more."""
    if device.type == "cpu":
        return (
            _CHUNK_HERE
            if precision == "fast"
            else block_rows(dims, "double" if precision == "double" else "fast")
        )
    width = sum(dims) * (8 if precision == "double" else 4)
    return max(_CHUNK, min(64 * _CHUNK, _BLOCK_BYTES // width // _CHUNK * _CHUNK))


@final
class DeviceBuffers(Multiplier):
    """What a block is centred and multiplied in on a device; several sums may share it.

    The rows of the pairs are tensors that lie there, or arrays, which are copied; their weights are arrays
    in memory.

    Parameters
    ----------
    rows : int
        The largest block that will come.
    dims : tuple of int
        The source's and the target's.
    precision, grams : see `latalign.torch.moments`
    device : torch.device
    """

    def __init__(
        self, rows: int, dims: tuple[int, int], precision: Precision, grams: Grams, device: torch.device
    ) -> None:
        if precision not in _DTYPES:
            raise ValueError(f'precision is "double", "fast" or "bfloat16"; got {precision!r}')
        dtype = _DTYPES[precision]
        self.dims, self.full = dims, full_grams(grams)
        self.narrow = dtype != torch.float64
        self.rounding = torch.finfo(dtype).eps
        self.eps = torch.finfo(torch.float32 if self.narrow else torch.float64).eps
        self._device = device
        with exactly(device):
            self._centred = tuple(torch.empty((rows, dim), dtype=dtype, device=device) for dim in dims)

    def mean(self, rows: AnyRows) -> Tensor:
        """Return the mean, as `Multiplier.mean` says: float32 is known exactly beside bfloat16 as well."""
        few = self.narrow and computed(dtype_of(rows)) != torch.float64
        with exactly(self._device):
            there = self._there(rows)
            mean = there.mean(dim=0, dtype=torch.float64)
            if self._centred[0].dtype == torch.float32:
                some = there[:LOOKED_AT].to("cpu", torch.float64).numpy()
                mean = torch.from_numpy(provisional(mean.cpu().numpy(), some)).to(self._device)
            return mean.to(torch.float32 if few else torch.float64).nan_to_num(
                nan=0.0, posinf=0.0, neginf=0.0
            )

    def gathered(self, mean: Tensor) -> Array:
        """Return a mean as a float64 array in memory."""
        return mean.to("cpu", torch.float64).numpy()

    def centred(
        self, part: Pairs, means: tuple[Tensor, Tensor], *, wide: bool = False
    ) -> tuple[Block, Block]:
        """Return both sides about provisional means, in the buffers or in float64 of their own."""
        sides: tuple[Any, Any] = part.source, part.target
        with exactly(self._device):
            root = None if part.weight is None else torch.from_numpy(np.sqrt(part.weight)).to(self._device)
            source, target = (
                _centred(self._there(rows), mean, root, wide, out[: len(rows)])
                for rows, mean, out in zip(sides, means, self._centred, strict=True)
            )
            sums = [one for block in (source, target) for one in _sums(block, root)]
            # All sums come over at a time: each time the host waits for the device.
            total, diagonal, target_total, target_diagonal = np.split(
                torch.cat(sums).cpu().numpy(), np.cumsum([self.dims[0], self.dims[0], self.dims[1]])
            )
        return Block(source, total, diagonal), Block(target, target_total, target_diagonal)

    def _there(self, rows: AnyRows) -> Tensor:
        return as_floats(as_tensor(rows).to(self._device))

    def there(
        self, parts: Iterable[tuple[int, Pairs]], like: Pairs, rows: int
    ) -> Iterator[tuple[int, Pairs]]:
        """Send blocks to the device, each while it works on the one before."""
        waiting: deque[tuple[int, str]] = deque()

        def sides() -> Iterator[tuple[Rows, Rows]]:
            for number, part in parts:
                waiting.append((number, part.caller))
                yield part.source, part.target

        with closing(
            cast("Generator[Any]", sent(sides(), (like.source, like.target), rows, self._device))
        ) as came:
            for source, target in came:
                number, caller = waiting.popleft()
                yield number, Pairs(source, target, None, caller)

    def products(self, rows: int, columns: int) -> DeviceSum:
        """Return a sum of no products."""
        return DeviceSum(rows, columns, self._device)


@final
class DeviceSum:
    """A sum of products yᵀx of blocks on a device, in float64."""

    def __init__(self, rows: int, columns: int, device: torch.device) -> None:
        with exactly(device):
            self._sum = torch.zeros((rows, columns), dtype=torch.float64, device=device)
        self._chunks = max(1, _PRODUCTS // (rows * columns))

    def add(self, y: Tensor, x: Tensor) -> None:
        """Add the product of two blocks, chunk by chunk of their rows."""
        with exactly(x.device):
            step = self._chunks * _CHUNK
            for start in range(0, len(x), step):
                parts = y[start : start + step], x[start : start + step]
                whole = len(parts[1]) // _CHUNK * _CHUNK
                if whole:
                    chunks = (part[:whole].view(-1, _CHUNK, part.shape[1]) for part in parts)
                    self._sum += _products(*chunks).sum(dim=0, dtype=torch.float64)
                if whole < len(parts[1]):
                    self._sum += _products(*(part[None, whole:] for part in parts))[0]

    def total(self) -> Array:
        """Return the sum of all blocks, as an array in memory."""
        return self._sum.cpu().numpy()


def _centred(rows: Tensor, mean: Tensor, root: Tensor | None, wide: bool, out: Tensor) -> Tensor:
    """Return √w (x − m) for the provisional mean m, rounded once."""
    if wide:
        out = torch.empty(rows.shape, dtype=torch.float64, device=rows.device)
    if out.dtype == torch.float64:
        mean = mean.to(torch.float64)  # and with it the difference
    if root is None:
        return torch.sub(rows, mean, out=out)
    return torch.mul(torch.sub(rows, mean), root.to(mean.dtype)[:, None], out=out)


def _sums(block: Tensor, root: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the sums √w · rows of a block, and those of their squares, in float64."""
    diagonal = torch.linalg.vector_norm(block, dim=0, dtype=torch.float64).square()
    if root is None:
        return block.sum(dim=0, dtype=torch.float64), diagonal
    return (block * root[:, None]).sum(dim=0), diagonal


def _products(y: Tensor, x: Tensor) -> Tensor:
    """Return the products yᵀx of chunks of rows; those of bfloat16 in float32."""
    if x.dtype != torch.bfloat16:
        return torch.bmm(y.transpose(1, 2), x)
    try:
        return torch.bmm(y.transpose(1, 2), x, out_dtype=torch.float32)  # pyright: ignore[reportCallIssue]
    except (TypeError, NotImplementedError):
        # Before PyTorch 2.8, and on a processor, they would be rounded to bfloat16 again.
        return torch.bmm(y.transpose(1, 2).float(), x.float())
