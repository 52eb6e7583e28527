"""Many files that hold one sequence of rows: a folder, or the files that a pattern names."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Rows
from latalign.io.grids import GridRows
from latalign.io.protocol import Block, Location, Reader, count_of
from latalign.io.tables import TableRows

_IGNORED = (".", "_")  # hidden files, and marks such as _SUCCESS


@final
@dataclass(frozen=True, slots=True)
class FolderRows:
    """A `Reader` of the rows of several files, one file after the other in the order of their names.

    Attributes
    ----------
    location : Location
    parts : tuple of Reader
        One a file.
    starts : tuple of int
        The number of the first row of every file, and of all rows at last.
    """

    location: Location
    parts: tuple[Reader, ...]
    starts: tuple[int, ...] = field(repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files."""
        return tuple(path for part in self.parts for path in part.files)

    @property
    def rows(self) -> int:
        """The number of rows of all files together."""
        return self.starts[-1]

    @property
    def dim(self) -> int:
        """The width of a row."""
        return self.parts[0].dim

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the blocks."""
        return self.parts[0].dtype

    def blocks(
        self, rows: int, start: int = 0, stop: int | None = None, *, beside: bool = True
    ) -> Iterator[Block]:
        """Yield rows in order, at most `rows` at a time; none of two files."""
        count = count_of(self.location, self.rows, start, stop)
        assert count is not None
        for part, first, last in zip(self.parts, self.starts, self.starts[1:], strict=False):
            low, high = max(start, first), min(start + count, last)
            if low < high:
                yield from part.blocks(rows, low - first, high - first, beside=beside)

    def load(self) -> Rows:
        """Return all rows in one array."""
        return np.concatenate([part.load() for part in self.parts])

    def ids(self, column: str) -> NDArray[Any]:
        """Return a column of ids, no id of which may stand in two of the files."""
        found = np.concatenate([part.ids(column) for part in self.parts])
        self._require_unique(found)
        return found

    def place(self, row: int) -> str:
        """Return where a row stands, for an error."""
        part = bisect_right(self.starts, row) - 1
        return f"{self.parts[part].location.path}, row {row - self.starts[part]}"

    def _require_unique(self, ids: NDArray[Any]) -> None:
        known = np.array([one is not None and one == one for one in ids]) if ids.dtype.kind in "Of" else None
        rows = np.arange(len(ids)) if known is None else np.flatnonzero(known)
        _, first, inverse = np.unique(ids[rows], return_index=True, return_inverse=True)
        again = np.flatnonzero(first[inverse] != np.arange(len(rows)))
        if len(again):
            row, before = rows[again[0]], rows[first[inverse[again[0]]]]
            raise ValueError(
                f"{self.location}: {len(again)} ids stand in more than one row, {ids[row]!s} among them: in "
                f"{self.place(int(before))}, and in {self.place(int(row))}. An id names one row."
            )


def read(location: Location, files: list[Path], open_one: Callable[[Location], Reader]) -> FolderRows:
    """Open every file, and check that all hold rows of one kind.

    Parameters
    ----------
    location : Location
        Of the folder or the pattern, with the column of every file if one was named.
    files : list of Path
    open_one : callable
        Opens one of them.
    """
    if not files:
        raise FileNotFoundError(f"there are no files in {location.path}")
    parts = tuple(open_one(Location(path, location.name)) for path in files)
    first = parts[0]
    for part in parts[1:]:
        mine, its = (first.dim, first.dtype), (part.dim, part.dtype)
        if mine != its:
            raise ValueError(
                f"{part.location} has rows of {part.dim} dimensions, {part.dtype}; {first.location} in the same "
                f"folder has {first.dim}, {first.dtype}. All files need rows of one kind."
            )
        if _beside(part) != _beside(first):
            raise ValueError(
                f"{part.location.path} has {_listed(part)}; {first.location.path} in the same folder has "
                f"{_listed(first)}. All files need the same."
            )
    counts = [part.rows for part in parts]
    starts = tuple(accumulate((count or 0 for count in counts), initial=0))
    return FolderRows(Location(location.path, first.location.name), parts, starts)


def listed(folder: Path, known: Callable[[Path], bool], all_known: str) -> list[Path]:
    """Return the files of a folder by their names, and raise a ValueError for one of no format or another.

    Parameters
    ----------
    folder : Path
    known : callable
        Tells whether a path is of a format that can be a part.
    all_known : str
        What to name those in an error.
    """
    found = sorted(
        (path for path in folder.iterdir() if not path.name.startswith(_IGNORED)), key=lambda path: path.name
    )
    for path in found:
        if not known(path):
            raise ValueError(
                f"{path} is no file of rows ({all_known}), but stands among them in {folder}. Move it "
                f"elsewhere, or name the files by a pattern: '{folder}/*{_usual(found, known)}'"
            )
        if path.suffix.lower() != found[0].suffix.lower():
            raise ValueError(
                f"{folder} has files of several formats, {found[0].name} and {path.name}. Name those of one by "
                f"a pattern: '{folder}/*{found[0].suffix}'"
            )
    return found


def _usual(paths: list[Path], known: Callable[[Path], bool]) -> str:
    return next((path.suffix for path in paths if known(path)), ".parquet")


def _beside(part: Reader) -> Any:
    """Return what the other columns or arrays are, to be compared."""
    if isinstance(part, TableRows):
        return part.schema
    return dict(part.beside) if isinstance(part, GridRows) else {}


def _listed(part: Reader) -> str:
    if isinstance(part, TableRows):
        return "the columns " + ", ".join(f"{one.name} ({one.type})" for one in part.schema)
    arrays = (f"{name} ({dtype} {list(shape)})" for name, (dtype, shape) in sorted(_beside(part).items()))
    return "beside its rows " + (", ".join(arrays) or "nothing")
