"""Which device work is done on, what rows it takes, and how exactly it multiplies."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latalign._validation import Rows, as_rows, finite_rows, require_matrix

AnyRows = Rows | Tensor
"""Rows as the user has them: in memory, or on a device."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@final
class _Exactness:
    """PyTorch's leave to round the factors of float32 products to TF32 or bfloat16, taken and given back.

    It is the whole process's: the first who needs exact products takes it, the last one gives it back.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._give_back: list[Callable[[], object]] = []

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._take()

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            while not self._inside and self._give_back:
                self._give_back.pop()()

    def _take(self) -> None:
        # From PyTorch 2.9 on every library has a setting of its own; before, one was for all.
        places: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul", None)]
        settings = [place for place in places if hasattr(place, "fp32_precision")]
        for setting in settings:
            if (before := setting.fp32_precision) not in ("none", "ieee"):
                setting.fp32_precision = "ieee"
                self._give_back.append(partial(_put_back, setting, before))
        if not settings and (before := torch.get_float32_matmul_precision()) != "highest":
            torch.set_float32_matmul_precision("highest")
            self._give_back.append(partial(torch.set_float32_matmul_precision, before))


def _put_back(setting: Any, precision: str) -> None:
    setting.fp32_precision = "none"  # then it is that of a setting above it, which may be what it was
    if setting.fp32_precision != precision:
        setting.fp32_precision = precision


_EXACTNESS = _Exactness()


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Multiply float32 in float32 within the block, whatever PyTorch was told, and without gradients."""
    castable = torch.amp.is_autocast_available(device.type)
    uncast = torch.autocast(device.type, enabled=False) if castable else nullcontext()
    # What is made here may be added to by whoever comes later, in inference mode or not.
    with _EXACTNESS, torch.inference_mode(mode=False), torch.no_grad(), uncast:
        yield


def usable(device: torch.device | str, caller: str, dtype: torch.dtype = torch.float64) -> torch.device:
    """Return a device, with its number, on which arithmetic in a dtype works.

    Raises
    ------
    ValueError
        If there is none of that name, or it does not have the dtype.
    MemoryError
        If it works, and all its memory is taken.
    """
    try:
        found = torch.zeros(1, dtype=dtype, device=torch.device(device))
        found.sum().item()
    except (RuntimeError, AssertionError, TypeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        if "out of memory" in reason:
            raise MemoryError(
                f"{caller}: all memory of {device!r} is taken ({reason}). End what else uses it, or take another."
            ) from error
        raise ValueError(f"{caller}: {device!r} is no device that works here ({reason})") from error
    return found.device


def device_for(device: torch.device | str | None, rows: Sequence[AnyRows], caller: str) -> torch.device:
    """Return the device that is asked for; else that of the tensors; for arrays a GPU where there is one."""
    if device is not None:
        return usable(device, caller)
    places = [one.device for one in rows if isinstance(one, Tensor)]
    if not places:
        return usable("cuda" if torch.cuda.is_available() else "cpu", caller)
    return usable(next((place for place in places if place.type != "cpu"), places[0]), caller)


def as_any_rows(values: Any, name: str, *, dim: int | None = None) -> AnyRows:
    """Return a tensor as it is, without its history, or anything else as a 2-D real array.

    Raises
    ------
    TypeError
        If the values are not real numbers, or not dense.
    ValueError
        If they are not 2-D, empty, or not `dim` wide.
    """
    if not isinstance(values, Tensor):
        return as_rows(values, name, dim=dim)
    if values.is_complex() or values.is_quantized or values.layout != torch.strided:
        raise TypeError(
            f"{name} needs a dense tensor of real numbers of shape (rows, dimensions); got {values.dtype}, "
            f"{values.layout}"
        )
    require_matrix(tuple(values.shape), name, dim=dim)
    return values.detach()


def as_floats(rows: Tensor) -> Tensor:
    """Return rows in a dtype that is computed with; those of another become float64."""
    return rows.to(computed(rows.dtype))


def as_tensor(rows: AnyRows) -> Tensor:
    """Return a tensor as it is, and a copy of an array, which PyTorch would warn of where it is read-only."""
    return rows if isinstance(rows, Tensor) else torch.from_numpy(np.array(rows))


def computed(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that rows of a dtype are computed with."""
    return dtype if dtype in _FLOATS else torch.float64


def bad_rows(rows: AnyRows) -> NDArray[np.bool_]:
    """Return of every row whether it holds NaN or infinity."""
    if isinstance(rows, Tensor):
        return (~torch.isfinite(as_floats(rows)).all(dim=1)).cpu().numpy()
    return ~finite_rows(rows)


def dtype_of(rows: AnyRows) -> torch.dtype:
    """Return the dtype of rows as PyTorch calls it."""
    return rows.dtype if isinstance(rows, Tensor) else torch.from_numpy(np.empty(0, rows.dtype)).dtype
