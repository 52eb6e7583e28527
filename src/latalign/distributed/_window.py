"""Calls in flight: few enough that their results do not pile up before it is their turn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

Future = TypeVar("Future")
Result = TypeVar("Result")

# What is asked for ahead of what is worked on, so that nobody waits for the next item.
_AHEAD = 2


def call(function: Callable[[Any], Result], item: Any) -> Result:
    """Call the function: what workers are sent is this name, and the function once."""
    return function(item)


def in_order(
    items: Iterable[Any],
    submit: Callable[[Any], Future],
    result: Callable[[Future], Result],
    workers: Callable[[], int],
    drop: Callable[[list[Future]], object],
) -> Iterator[Result]:
    """Yield the results in the order of the items, twice as many of which are in flight as there are workers.

    Whatever ends it before the last, `drop` is given what is still in flight.
    """
    waiting: deque[Future] = deque()
    try:
        for item in items:
            waiting.append(submit(item))
            while len(waiting) >= _AHEAD * max(workers(), 1):
                yield result(waiting.popleft())
        while waiting:
            yield result(waiting.popleft())
    finally:
        if waiting:
            drop(list(waiting))
