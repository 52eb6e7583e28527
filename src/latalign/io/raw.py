"""Rows that lie in a file one after another as numbers: what `.npy` and safetensors have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, Any, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Rows
from latalign.io.files import send_to_disk, written_beside
from latalign.io.protocol import Block, Location, Shape, count_of, require_all

_SENT = 64 << 20  # bytes that are sent to the disk at a time


@final
@dataclass(frozen=True, slots=True)
class RawRows:
    """A `Reader` of numbers that start at a known place of a file.

    Blocks are read into two reused buffers: that is faster than a mapped file, whose pages are
    faulted in one by one, its memory stays what it is, and a file that shrinks is noticed.

    Attributes
    ----------
    location : Location
    rows, dim : int
    stored : dtype
        As the file has it, in either byte order.
    offset : int
        Where the numbers start, in bytes.
    fortran : bool
        Whether the columns lie one after another instead of the rows.
    """

    location: Location
    rows: int
    dim: int
    stored: np.dtype[Any]
    offset: int
    fortran: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The stored dtype in the machine's own byte order."""
        return self.stored.newbyteorder("=")

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file."""
        return (self.location.path,)

    def blocks(
        self, rows: int, start: int = 0, stop: int | None = None, *, beside: bool = True
    ) -> Iterator[Block]:
        """Yield rows in order, at most `rows` at a time; there is nothing beside them."""
        count = count_of(self.location, self.rows, start, stop)
        assert count is not None
        starts = range(start, start + count, rows)
        buffers = [np.empty((min(rows, count), self.dim), self.stored) for _ in range(min(2, len(starts)))]
        with FileIO(self.location.path, "rb") as file:
            file.seek(self.offset + start * self.dim * self.stored.itemsize)
            for number, first in enumerate(starts):
                block = buffers[number % 2][: min(rows, start + count - first)]
                if self.fortran:
                    self._fill_by_columns(file, block, first)
                else:
                    self._fill(file, block)
                yield Block(block.astype(self.dtype, copy=False))

    def load(self) -> Rows:
        """Return all rows, mapped from the file and read-only."""
        return np.asarray(
            np.memmap(
                self.location.path,
                self.stored,
                "r",
                self.offset,
                (self.rows, self.dim),
                "F" if self.fortran else "C",
            )
        )

    def ids(self, column: str) -> NDArray[Any]:
        """Raise a ValueError: these formats hold one array and no ids beside it."""
        raise ValueError(
            f"{self.location} has no column {column!r}: ids stand beside the rows in tables only. "
            "Write rows and ids to a Parquet file, or pair the rows by their order."
        )

    def _fill(self, file: FileIO, block: Rows) -> None:
        view = block.reshape(-1).view(np.uint8).data
        done = 0
        while done < len(view):  # one read gives at most 2 GiB
            got = file.readinto(view[done:])
            if not got:
                raise ValueError(f"{self.location} ended early: another program changed it while it was read")
            done += got

    def _fill_by_columns(self, file: FileIO, block: Rows, first: int) -> None:
        """Read rows of which no one lies in one piece: of every column the part that is needed.

        Through a mapped file every row of a block would touch a page of every column, and in the end the
        whole file would be counted.
        """
        part = np.empty(len(block), self.stored)
        for column in range(self.dim):
            file.seek(self.offset + (column * self.rows + first) * self.stored.itemsize)
            self._fill(file, part)
            block[:, column] = part


def require_length(location: Location, found: int, expected: int) -> None:
    """Raise a ValueError where a file is shorter than its header says."""
    if found < expected:
        raise ValueError(
            f"{location} is truncated: its header promises {expected} bytes, the file has {found}. "
            "Write or copy it again."
        )


@contextmanager
def raw_writer(
    location: Location, header: Callable[[int | None], bytes], shape: Shape
) -> Iterator[RawWriter]:
    """Write a header and then the rows that are appended, and rename the file when all are there.

    Parameters
    ----------
    location : Location
    header : callable
        ``header(rows)``: equally long for any number of rows, and for None. Where the number was not
        known, the header is written anew when it is.
    shape : Shape
    """
    with written_beside(location.path) as file:
        file.write(header(shape.rows))
        writer = RawWriter(file, shape)
        yield writer
        require_all(location, writer.written, shape)
        if shape.rows is None:
            file.seek(0)
            file.write(header(writer.written))


@final
class RawWriter:
    """A `Writer` of numbers, one row after another, little-endian."""

    def __init__(self, file: IO[bytes], shape: Shape) -> None:
        self._file = file
        self._dtype = shape.dtype.newbyteorder("<")
        self._on_its_way = 0
        self.written = 0

    def append(self, block: Block) -> None:
        """Write the next rows."""
        rows = np.ascontiguousarray(block.rows, self._dtype)
        self._file.write(rows.reshape(-1).view(np.uint8).data)
        self.written += len(rows)
        waiting = self.written * rows[:1].nbytes - self._on_its_way
        if waiting >= _SENT:
            send_to_disk(self._file, self._on_its_way, waiting)
            self._on_its_way += waiting
