"""A map applied on a device: to tensors where they lie, and to arrays on their way through a GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any, cast, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from latalign._validation import Rows, refuse_rows
from latalign.io.protocol import Block
from latalign.maps import AffineMap
from latalign.on_disk import NotMapped
from latalign.torch.device import (
    AnyRows,
    as_any_rows,
    as_floats,
    bad_rows,
    computed,
    device_for,
    dtype_of,
    exactly,
)
from latalign.torch.layers import require_affine
from latalign.torch.products import rows_at_once
from latalign.torch.sending import Returning, host_buffer, sent

_CALLER = "latalign.torch.apply"


@overload
def apply(
    map_: AffineMap, rows: Tensor, *, device: torch.device | str | None = None, out: Tensor | None = None
) -> Tensor: ...
@overload
def apply(
    map_: AffineMap, rows: ArrayLike, *, device: torch.device | str | None = None, out: Rows | None = None
) -> Rows: ...
def apply(
    map_: AffineMap, rows: Any, *, device: torch.device | str | None = None, out: Any = None
) -> AnyRows:
    """Map rows on a device: what ``map_(rows)`` returns, in the precision that it has.

    The two means of the map are kept apart: where means are large, the one bias of `to_linear` loses digits.
    Arrays, memory maps and tensors elsewhere go to the device and come back block by block, which a GPU does
    beside its work.

    Parameters
    ----------
    map_ : AffineMap
    rows : tensor or array-like of shape (n, dim_source)
    device : torch.device or str, optional
        Where the rows are multiplied: where the tensor lies unless given; for an array a GPU where there is
        one.
    out : tensor or array of shape (n, dim_target), optional
        What to write to, such as a memory map, of the dtype that is returned.

    Returns
    -------
    tensor or array of shape (n, dim_target)
        Tensors for a tensor, beside it, and an array for anything else; `out` where it is given. In the dtype
        of the rows where that is float16, bfloat16, float32 or float64, else in float64. The first two are
        multiplied in float32.

    Raises
    ------
    TypeError
        If the map is not affine, or the rows are not real numbers.
    ValueError
        If the rows are not 2-D, not `dim_source` wide or not finite, a value overflows its dtype, `out` does
        not fit, or the device does not work.

    Examples
    --------
    >>> import torch
    >>> from latalign import AffineMap
    >>> from latalign.torch import apply
    >>> apply(AffineMap.of([[0.0, 1.0], [-1.0, 0.0]], [5.0, 0.0]), torch.tensor([[1.0, 2.0]]))
    tensor([[3., 1.]])
    """
    require_affine(map_, "apply")
    rows = as_any_rows(rows, _CALLER, dim=map_.dim_source)
    where = device_for(device, [rows], _CALLER)
    dtype = computed(dtype_of(rows))
    with exactly(where):
        out = _output(out, rows, map_, dtype)
        count = min(rows_at_once((map_.dim_source, map_.dim_target), "fast", where), len(rows))
        parts = [slice(start, start + count) for start in range(0, len(rows), count)]
        stays = isinstance(out, Tensor) and out.device == where
        with closing(
            _mapped(map_, ([rows[part]] for part in parts), rows, count, where, stays=stays)
        ) as came:
            for part, (values, finite) in zip(parts, came, strict=True):
                if not finite:
                    refuse_rows((bad_rows(rows[one]) for one in parts), _CALLER)
                    raise ValueError(_overflow(_CALLER, out.dtype))
                if isinstance(out, Tensor):
                    out[part].copy_(values)
                else:
                    np.copyto(out[part], values.numpy())
    return out


def applied(
    map_: AffineMap, blocks: Iterable[Block], like: Rows, rows: int, device: torch.device
) -> Generator[tuple[Block, Rows]]:
    """Map blocks on their way through a device, for `latalign.apply_file`.

    Parameters
    ----------
    map_ : AffineMap
    blocks : iterable of Block
        Of at most `rows` rows of the width and the dtype of `like`.

    Yields
    ------
    tuple of Block and array
        Each block, whose rows are others by now, and what they were mapped to, until the one after the next.

    Raises
    ------
    TypeError
        If the map is not affine.
    ValueError
        If mapped rows are not finite.
    """
    require_affine(map_, "latalign.torch.Place")
    waiting: deque[Block] = deque()

    def parts() -> Iterator[tuple[Rows]]:
        for block in blocks:
            waiting.append(block)
            yield (block.rows,)

    with exactly(device), closing(_mapped(map_, parts(), like, rows, device)) as came:
        for values, finite in came:
            if not finite:
                raise NotMapped(_overflow("AffineMap", values.dtype))
            yield waiting.popleft(), values.numpy()


def _mapped(
    map_: AffineMap,
    parts: Iterable[Sequence[AnyRows]],
    like: AnyRows,
    count: int,
    device: torch.device,
    *,
    stays: bool = False,
) -> Generator[tuple[Tensor, bool]]:
    """Yield what parts of at most `count` rows are mapped to, in memory unless it `stays`; and whether it is finite.

    It comes back while the device works on the next part, and lasts until the one after the next is asked for.
    """
    dtype = computed(dtype_of(like))
    constants = map_.constants(np.dtype(np.float64 if dtype == torch.float64 else np.float32))
    mean, matrix, offset = (torch.from_numpy(values).to(device) for values in constants)
    # Three: one is filled, one is given out, and who has it may still be busy with the one before.
    buffers = [None if stays else host_buffer(count, map_.dim_target, dtype, device) for _ in range(3)]
    flags = [host_buffer(1, 1, torch.bool, device) for _ in range(3)]
    last: Callable[[], tuple[Tensor, bool]] | None = None
    back = Returning(device)
    try:
        with closing(cast("Generator[Any]", sent(parts, [like], count, device))) as there:
            for number, (block,) in enumerate(there):
                buffer, flag = buffers[number % 3], flags[number % 3]
                # Not addmm: some processors begin with the offset, and round every product to its digits.
                values = ((as_floats(block) - mean) @ matrix).add_(offset).to(dtype)
                # NaN and infinity go through a product, whatever it is with.
                finite = flag, torch.isfinite(values).all()
                if buffer is None:
                    before, last = last, partial(_came, values, flag, back.copy(finite))
                else:
                    here = buffer[: len(values)]
                    before, last = last, partial(_came, here, flag, back.copy((here, values), finite))
                if before is not None:
                    yield before()
            if last is not None:
                yield last()
    finally:
        back.close()


def _came(values: Tensor, finite: Tensor, wait: Callable[[], object]) -> tuple[Tensor, bool]:
    wait()
    return values, bool(finite.item())


def _overflow(caller: str, dtype: object) -> str:
    return f"{caller}: mapped rows overflow {str(dtype).removeprefix('torch.')}; give rows of a wider dtype"


def _output(out: Any, rows: AnyRows, map_: AffineMap, dtype: torch.dtype) -> Any:
    """Return what mapped rows are written to, which must fit where it is given."""
    size: Any = (len(rows), map_.dim_target)
    if isinstance(rows, Tensor):
        made: AnyRows = torch.empty(size, dtype=dtype, device=rows.device)
    else:
        made = np.empty(size, rows.dtype if rows.dtype.kind == "f" else np.float64)
    if out is None:
        return made
    kind = Tensor if isinstance(rows, Tensor) else np.ndarray
    if not isinstance(out, kind) or tuple(out.shape) != size or out.dtype != made.dtype:
        raise ValueError(
            f"{_CALLER} needs an out that is a {kind.__name__} of shape {size} and {made.dtype}, as the rows are; "
            f"got a {type(out).__name__} of shape {getattr(out, 'shape', None)} and {getattr(out, 'dtype', None)}"
        )
    return out
