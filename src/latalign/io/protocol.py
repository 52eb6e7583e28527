"""What every array format does: rows out of a file in blocks, and rows into a file in blocks.

A format is one module with two functions, `read` and `write`, and one row in `latalign.io.arrays`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Array, Rows


@final
@dataclass(frozen=True, slots=True)
class Location:
    """A file or folder, and the name of the array in it where the format holds several.

    Attributes
    ----------
    path : Path
        Of an address with a scheme (``s3://``) the path that universal-pathlib makes of it.
    name : str or None
        The column or tensor that was asked for; None takes the only one.
    """

    path: Path
    name: str | None = None

    def __str__(self) -> str:
        return str(self.path) if self.name is None else f"{self.path}:{self.name}"


@final
@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive rows of a file.

    Attributes
    ----------
    rows : (n, dim) array
        In a buffer that a later block overwrites: copy what must last.
    beside : object
        What else the file holds of the same rows (the other columns of a table), in the format's own
        form; None where there is nothing.
    column : (n,) array or None
        Numbers to be written beside the rows, in a column of their own (see `Shape`).
    """

    rows: Rows
    beside: Any = None
    column: Array | None = None


class Reader(Protocol):
    """Rows that were found and checked; nothing of them is in memory yet."""

    @property
    def location(self) -> Location:
        """Where the rows are, with the name of the array that was found."""
        ...

    @property
    def files(self) -> tuple[Path, ...]:
        """The files or folders that the rows lie in, in order; none for a stream."""
        ...

    @property
    def rows(self) -> int | None:
        """The number of rows, one at least; None where only the end will tell."""
        ...

    @property
    def dim(self) -> int:
        """The width of a row, one at least."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the blocks: float16, float32, float64 or an integer, native."""
        ...

    def blocks(
        self, rows: int, start: int = 0, stop: int | None = None, *, beside: bool = True
    ) -> Iterator[Block]:
        """Yield the rows from `start` to before `stop` in order, at most `rows` at a time.

        What stands beside them is not read where `beside` is False. A block lives until the one after
        the next is asked for, so that one may be read while another is worked on.
        """
        ...

    def load(self) -> Rows:
        """Return all rows, mapped from the file where the format allows it."""
        ...

    def ids(self, column: str) -> NDArray[Any]:
        """Return the column of ids that stands beside the rows, shape (rows,)."""
        ...


class Writer(Protocol):
    """A file that rows are appended to."""

    def append(self, block: Block) -> None:
        """Write the next rows; the buffer may be reused afterwards."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Shape:
    """What is known of an array before its first row is written; `rows` may be None.

    With a `column` each block brings numbers to go into a column of that name; only formats of tables
    have any (see `Format`).
    """

    rows: int | None
    dim: int
    dtype: np.dtype[Any]
    column: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Format:
    """One file format.

    Attributes
    ----------
    read : callable
        ``read(location) -> Reader``: opens the file and checks everything but the values.
    write : callable
        ``write(location, shape, like)``: a context manager that gives a `Writer`, and renames the file
        into place when exactly ``shape.rows`` rows were appended. `like` is the reader of the rows'
        origin, or None: a format that holds more than the rows may take the rest from there.
    folder : bool
        Whether it is a folder that holds the rows, not a file.
    remote : bool
        Whether its library reads addresses such as ``s3://``. They are written, too, unless it is a folder.
    tables : bool
        Whether a column of numbers may stand beside the rows (`Shape.column`).
    """

    read: Callable[[Location], Reader]
    write: Callable[[Location, Shape, Reader | None], AbstractContextManager[Writer]]
    folder: bool = False
    remote: bool = False
    tables: bool = False


def check_dtype(location: Location, dtype: np.dtype[Any]) -> None:
    """Raise a ValueError for values that are not floats of 16 to 64 bits or integers."""
    if dtype.hasobject:
        raise ValueError(
            f"{location} holds Python objects, which are never unpickled. "
            "Save the rows as a float array: rows.astype(numpy.float32)."
        )
    if dtype.kind not in "iu" and dtype.newbyteorder("=").type not in (np.float16, np.float32, np.float64):
        raise ValueError(
            f"{location} holds {dtype}; rows are float16, float32, float64 or integers. Convert it first."
        )


def check_shape(location: Location, shape: tuple[int, ...]) -> None:
    """Raise a ValueError for an array that is not 2-D, or is empty."""
    if len(shape) != 2:
        raise ValueError(
            f"{location} holds an array of shape {shape}; rows need a 2-D array (rows, dimensions). "
            "Reshape it first."
        )
    if min(shape) < 1:
        raise ValueError(f"{location} is empty: it holds an array of shape {shape}")


def require_all(location: Location, written: int, shape: Shape) -> None:
    """Raise a ValueError where other than the promised number of rows were appended, or none."""
    if shape.rows is not None and written != shape.rows:
        raise ValueError(f"{location} was to hold {shape.rows} rows; {written} were written")
    if not written:
        raise ValueError(f"{location} was to hold rows; there were none")


def count_of(location: Location, rows: int | None, start: int, stop: int | None) -> int | None:
    """Return how many rows there are from `start` to before `stop`; None where that is not known."""
    if rows is None and stop is None:
        return None
    end = rows if stop is None else stop if rows is None else min(stop, rows)
    assert end is not None
    if not 0 <= start <= end:
        raise ValueError(f"{location} has {rows} rows; there are none from {start} to {stop}")
    return end - start
