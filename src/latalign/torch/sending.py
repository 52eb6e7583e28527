"""Rows on their way to a device and back, block by block, while it works on those before."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor

from latalign.io.ahead import ahead
from latalign.torch.device import AnyRows, dtype_of


def host_buffer(rows: int, dim: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return a buffer in memory, pinned where a GPU copies to and from it."""
    return torch.empty((rows, dim), dtype=dtype, device="cpu", pin_memory=device.type == "cuda")


def sent(
    parts: Iterable[Sequence[AnyRows]], like: Sequence[AnyRows], rows: int, device: torch.device
) -> Iterator[tuple[Tensor, ...]]:
    """Yield parts of rows as they lie on a device; the next one is copied while one is worked on.

    Parameters
    ----------
    parts : iterable of tuples
        Of at most `rows` rows of each of `like`.
    like : sequence of arrays or tensors
    rows : int
    device : torch.device

    Yields
    ------
    tuple of tensors
        Rows that are on the device are not copied. Others lie in one of two buffers in turn: a part lasts
        until the next one is asked for.
    """
    lanes = [_Lane(rows, one, device) for one in like]
    if not any(lane.copies for lane in lanes):
        for part in parts:
            yield tuple(lane.put(one, 0) for lane, one in zip(lanes, part, strict=True))
        return
    order = _Order(device, like)

    def copied() -> Iterator[tuple[int, tuple[Tensor, ...]]]:
        for number, part in enumerate(parts):
            turn = number % 2
            with order.copying(turn):
                there = tuple(lane.put(one, turn) for lane, one in zip(lanes, part, strict=True))
            yield turn, there

    try:
        # Closed first: whatever happens, nothing is copied any more when the buffers are freed.
        with closing(cast("Generator[Any]", ahead(copied(), threads=2))) as made:
            for turn, there in made:
                order.arrived(turn)
                yield there
                order.done(turn)
    finally:
        order.close()


@final
class _Lane:
    """The way of one side: two buffers in memory and two on the device, which are used in turn."""

    def __init__(self, rows: int, like: AnyRows, device: torch.device) -> None:
        self.copies = not (isinstance(like, Tensor) and like.device == device)
        if not self.copies:
            return
        size = (rows, like.shape[1])
        self._host = self._there = [host_buffer(*size, dtype_of(like), device) for _ in range(2)]
        if device.type != "cpu":
            self._there = [torch.empty(size, dtype=dtype_of(like), device=device) for _ in range(2)]

    def put(self, rows: AnyRows, turn: int) -> Tensor:
        """Return the rows on the device, to which they are copied in the order that was asked for."""
        if not self.copies:
            assert isinstance(rows, Tensor)
            return rows
        there = self._there[turn][: len(rows)]
        if isinstance(rows, Tensor) and rows.device.type != "cpu":
            return there.copy_(rows)  # from another device
        host = self._host[turn][: len(rows)]
        if isinstance(rows, Tensor):
            host.copy_(rows)
        else:
            np.copyto(host.numpy(), rows)
        return host if there.device == host.device else there.copy_(host, non_blocking=True)


@final
class _Order:
    """What waits for what: on a GPU the copies go beside the work, elsewhere each thing is done in its turn.

    A buffer in memory is filled when the copy from it is done, one on the GPU when the work on it is; and
    the work waits for the copy. Rows on another GPU are copied when that has made them.
    """

    def __init__(self, device: torch.device, like: Sequence[AnyRows]) -> None:
        self._gpu = device.type == "cuda"
        # The copies are asked for in another thread, whose streams know nothing of the work of this one.
        places = {one.device for one in like if isinstance(one, Tensor) and one.device != device}
        self._made = {place: _recorded(place) for place in places if place.type == "cuda"}
        if self._gpu:
            self._work, self._copies = torch.cuda.current_stream(device), torch.cuda.Stream(device)
            self._copied, self._used = ([torch.cuda.Event() for _ in range(2)] for _ in range(2))
            # The buffers may lie where work that is still under way has its own.
            self._copies.wait_stream(self._work)

    @contextmanager
    def copying(self, turn: int) -> Iterator[None]:
        """Fill the buffers of a turn within the block."""
        while self._made:
            place, event = self._made.popitem()
            torch.cuda.current_stream(place).wait_event(event)
        if not self._gpu:
            yield
            return
        self._copied[turn].synchronize()
        self._copies.wait_event(self._used[turn])
        with torch.cuda.stream(self._copies):
            yield
        self._copied[turn].record(self._copies)

    def arrived(self, turn: int) -> None:
        """Let the work that is asked for from here on wait for the copies of a turn."""
        if self._gpu:
            self._work.wait_event(self._copied[turn])

    def done(self, turn: int) -> None:
        """Note that the work on the buffers of a turn was asked for."""
        if self._gpu:
            self._used[turn].record(self._work)

    def close(self) -> None:
        """Wait for the copies, whose buffers will be freed."""
        if self._gpu:
            self._copies.synchronize()


@final
class Returning:
    """The way back of what a device made: on a GPU beside its work, and beside what is on its way there."""

    def __init__(self, device: torch.device) -> None:
        self._gpu = device.type == "cuda"
        if self._gpu:
            self._work, self._back = torch.cuda.current_stream(device), torch.cuda.Stream(device)

    def copy(self, *copies: tuple[Tensor, Tensor]) -> Callable[[], object]:
        """Copy tensors, each to where it belongs in memory; return what waits until they are there.

        Parameters
        ----------
        *copies : tuple of tensors
            A buffer, and what the work that was asked for so far leaves in a tensor on the device.
        """
        if not self._gpu:
            for here, there in copies:
                here.copy_(there)
            return lambda: None
        done = torch.cuda.Event()
        done.record(self._work)
        self._back.wait_event(done)
        with torch.cuda.stream(self._back):
            for here, there in copies:
                here.copy_(there, non_blocking=True)
                there.record_stream(self._back)  # its memory is not used again before
        came = torch.cuda.Event()
        came.record(self._back)
        return came.synchronize

    def close(self) -> None:
        """Wait for the copies, whose buffers will be freed."""
        if self._gpu:
            self._back.synchronize()


def _recorded(device: torch.device) -> torch.cuda.Event:
    """Return an event after the work that this thread asked a GPU for."""
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(device))
    return event
