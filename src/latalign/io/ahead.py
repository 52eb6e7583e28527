"""Reading ahead: one item is made in another thread while the one before it is worked on."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def cores() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS or Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ahead(items: Iterable[Item], threads: int | None = None) -> Iterator[Item]:
    """Yield the items, the next of which is made meanwhile where there is a second thread for it.

    Reading and NumPy's products let go of the interpreter's lock, so that the two run side by side.
    An item must last until the one after the next is asked for.

    Parameters
    ----------
    items : iterable
    threads : int, optional
        How many threads there may be; as many as there are processors unless given.

    Examples
    --------
    >>> from latalign.io.ahead import ahead
    >>> list(ahead(iter("abc"), threads=2))
    ['a', 'b', 'c']
    """
    if (threads or cores()) < 2:
        yield from items
        return
    from concurrent.futures import ThreadPoolExecutor

    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, source, end)
        try:
            while (item := waiting.result()) is not end:
                waiting = pool.submit(next, source, end)
                yield item  # pyright: ignore[reportReturnType]
        finally:
            waiting.exception()  # until it is done nobody else may touch the source
            if isinstance(source, Generator):
                source.close()
