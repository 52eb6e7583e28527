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
    """A file, and the name of the array in it where the format holds several.

    Attributes
    ----------
    path : Path
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
        In a buffer that the next block may overwrite: copy what must last.
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
    """A file of rows that was opened and checked; nothing of its rows is in memory yet."""

    @property
    def location(self) -> Location:
        """Where the rows are, with the name of the array that was found."""
        ...

    @property
    def rows(self) -> int:
        """The number of rows, one at least."""
        ...

    @property
    def dim(self) -> int:
        """The width of a row, one at least."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the blocks: float16, float32, float64 or an integer, native."""
        ...

    def blocks(self, rows: int) -> Iterator[Block]:
        """Yield all rows in order, at most `rows` at a time."""
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
    """What is known of an array before its first row is written.

    With a `column` each block brings numbers to go into a column of that name; only formats of tables
    have any (see `Format`).
    """

    rows: int
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
    tables : bool
        Whether a column of numbers may stand beside the rows (`Shape.column`).
    """

    read: Callable[[Location], Reader]
    write: Callable[[Location, Shape, Reader | None], AbstractContextManager[Writer]]
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
