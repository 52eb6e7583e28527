"""What carries out many independent calls: in this process, in others, or on other machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from latalign.io.arrays import Source, locate
from latalign.io.files import is_remote
from latalign.io.protocol import Location
from latalign.io.stream import is_stream

Result = TypeVar("Result")


class Engine(Protocol):
    """Whatever calls a function for many items somewhere, and gives the results in the order of the items.

    Every `concurrent.futures.Executor` is one, that of `mpi4py.futures` included; `latalign.distributed`
    has those of Dask and Ray. What is called, its items and its results can be pickled, and are the same
    whoever does the work, and however often.
    """

    def map(self, fn: Callable[[Any], Result], items: Iterable[Any], /) -> Iterator[Result]:
        """Yield the result for every item, in their order; the first error of one is raised."""
        ...


def named_anywhere(source: Source) -> Location:
    """Return the place of rows as it is called from every folder, for those who work in another.

    Raises
    ------
    ValueError
        If it is no file, folder or pattern but an object of this process.
    """
    if is_stream(source):
        raise ValueError(
            "an engine needs sources that its workers can open: files, folders or patterns; got an object "
            "of this process. Write it to a file first."
        )
    location = locate(source)
    path = location.path if is_remote(location.path) else Path(location.path).absolute()
    return Location(path, location.name)
