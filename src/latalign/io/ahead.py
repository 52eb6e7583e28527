"""Reading ahead and writing behind: what comes next, or came last, is handled in another thread meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
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


@contextmanager
def behind(act: Callable[[Item], object], threads: int | None = None) -> Iterator[Callable[[Item], object]]:
    """Give a function that does `act` while the caller goes on, where there is a second thread for it.

    Items are done one after another, in order, and all of them before the context is left. What `act`
    raises comes out of the next call, or at the end. An item must last until the next one is given.

    Parameters
    ----------
    act : callable
        Takes an item.
    threads : int, optional
        As in `ahead`.

    Examples
    --------
    >>> from latalign.io.ahead import behind
    >>> done = []
    >>> with behind(done.append, threads=2) as add:
    ...     add(1)
    ...     add(2)
    >>> done
    [1, 2]
    """
    if (threads or cores()) < 2:
        yield act
        return
    from concurrent.futures import Future, ThreadPoolExecutor

    last: Future[object] | None = None

    def hand_over(item: Item) -> None:
        nonlocal last
        before, last = last, None
        if before is not None:
            before.result()
        last = pool.submit(act, item)

    with ThreadPoolExecutor(1) as pool:  # which waits for what it was given, whatever happens
        yield hand_over
        if last is not None:
            last.result()
