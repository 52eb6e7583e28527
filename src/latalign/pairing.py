"""Pairs of rows out of two sources of any size, block by block: by their order, or by an id."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, final

import numpy as np

from latalign._validation import Pairs, Rows, all_finite
from latalign.io import join
from latalign.io.folder import FolderRows
from latalign.io.protocol import Block, Reader
from latalign.io.stamps import unchanged
from latalign.io.tables import TableRows

Unmatched = Literal["error", "drop"]

# Up to so many bytes the rows are loaded, and treated as arrays in memory are. So they are where they are
# fewer than their dimensions, which is when the Gram matrices are larger than they.
_LOADED_BYTES = 32 << 20
_SCAN_ROWS = 4096


class PairStream(Protocol):
    """Pairs that come in blocks, never all at a time: what `PairedRows` and `JoinedRows` are."""

    @property
    def rows(self) -> int | None:
        """The number of pairs; None where only the end will tell."""
        ...

    @property
    def dims(self) -> tuple[int, int]:
        """The widths of the source and of the target."""
        ...

    @property
    def dtypes(self) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """The dtypes of the source and of the target."""
        ...

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Pairs]:
        """Yield the pairs in order, exactly `rows` at a time but for the last."""
        ...

    def require_finite(self) -> None:
        """Raise a ValueError that counts the rows which hold NaN or infinity, if there are any."""
        ...


@final
@dataclass(frozen=True, slots=True)
class PairedRows:
    """Row i of one source and row i of the other, read side by side.

    Attributes
    ----------
    source, target : Reader
    caller : str
        Who asked for them, for the errors.
    """

    source: Reader
    target: Reader
    caller: str = field(default="fit")

    @property
    def rows(self) -> int | None:
        """The number of pairs; None where only the end will tell."""
        return self.target.rows if self.source.rows is None else self.source.rows

    @property
    def dims(self) -> tuple[int, int]:
        """The widths of the source and of the target."""
        return self.source.dim, self.target.dim

    @property
    def dtypes(self) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """The dtypes of the source and of the target."""
        return self.source.dtype, self.target.dtype

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Pairs]:
        """Yield the pairs in order, exactly `rows` at a time but for the last.

        Raises
        ------
        ValueError
            If one source ends before the other, or a file was changed meanwhile.
        """
        sides = [
            _exact(side.blocks(rows, start, stop, beside=False), rows) for side in (self.source, self.target)
        ]
        done = start
        with unchanged((*self.source.files, *self.target.files)):
            while True:
                x, y = (next(side, None) for side in sides)
                if x is None and y is None:
                    break
                if x is None or y is None or len(x) != len(y):
                    raise self._uneven(done + min(0 if one is None else len(one) for one in (x, y)))
                for side, values in ((self.source, x), (self.target, y)):
                    if side.rows is None:  # it cannot be read again to count them
                        require_finite_block(side, values, done)
                yield Pairs(x, y, None, self.caller)
                done += len(x)

    def require_finite(self, start: int = 0, stop: int | None = None) -> None:
        """Raise a ValueError that counts the rows which hold NaN or infinity, if there are any."""
        for side in (self.source, self.target):
            if side.rows is not None:
                require_finite_rows(side, start, stop)

    def _uneven(self, shorter: int) -> ValueError:
        return ValueError(
            f"{self.source.location} and {self.target.location} do not pair by order: one of them ends after "
            f"{shorter} rows, the other does not. Give sources of the same rows."
        )


@final
@dataclass(frozen=True, slots=True)
class JoinedRows:
    """Rows of two tables that have the same id, joined by DuckDB, which keeps on disk what does not fit.

    Attributes
    ----------
    joined : latalign.io.join.Joined
    caller : str
    """

    joined: join.Joined
    caller: str = field(default="fit")

    @property
    def rows(self) -> int:
        """The number of pairs."""
        return self.joined.rows

    @property
    def dims(self) -> tuple[int, int]:
        """The widths of the source and of the target."""
        return self.joined.sides[0].dim, self.joined.sides[1].dim

    @property
    def dtypes(self) -> tuple[np.dtype[Any], np.dtype[Any]]:
        """The dtypes of the source and of the target."""
        return self.joined.sides[0].dtype, self.joined.sides[1].dtype

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[Pairs]:
        """Yield the pairs, in the same order every time, exactly `rows` at a time but for the last."""
        if start or stop is not None:
            raise ValueError("rows that are joined by an id have no numbers: they are read as a whole")
        held: list[Pairs] = []
        for x, y in self.joined.batches(rows):
            held.append(Pairs(x, y, None, self.caller))
            if sum(map(len, held)) >= rows:
                whole = _concatenated(held)
                yield from (part for part in whole.blocks(rows) if len(part) == rows)
                rest = len(whole) % rows
                held = [whole.take(slice(len(whole) - rest, None))] if rest else []
        if held:
            yield _concatenated(held)

    def require_finite(self) -> None:
        """Raise a ValueError that counts the rows which hold NaN or infinity, if there are any."""
        for side in self.joined.sides:
            require_finite_rows(side)


def _concatenated(parts: list[Pairs]) -> Pairs:
    if len(parts) == 1:
        return parts[0]
    source, target = (
        np.concatenate([getattr(part, side) for part in parts]) for side in ("source", "target")
    )
    return Pairs(source, target, None, parts[0].caller)


def paired(
    source: Reader,
    target: Reader,
    *,
    id_column: str | None = None,
    unmatched: Unmatched = "error",
    caller: str = "fit",
) -> PairStream:
    """Return the pairs of two sources that were opened, by their order or by an id.

    Raises
    ------
    ValueError
        If they are known not to pair.
    ModuleNotFoundError
        If they are to be joined by an id, and the extra for that is not installed.
    """
    if id_column is not None:
        return JoinedRows(join.by_id((source, target), id_column, unmatched), caller)
    if None not in (source.rows, target.rows) and source.rows != target.rows:
        raise ValueError(
            f"{source.location} has {source.rows} rows and {target.location} has {target.rows}, so they do not "
            "pair by order. Give files of the same rows, or pair tables by a column of ids (id_column, "
            "--id-column)."
        )
    _warn_if_ids_differ(source, target)
    return PairedRows(source, target, caller)


def _warn_if_ids_differ(source: Reader, target: Reader) -> None:
    """Warn where two tables that are paired by order have ids in a column of one name, and in another order.

    Ids are numbers or texts of which none is there twice. The first rows are looked at.
    """
    if not (isinstance(source, TableRows) and isinstance(target, TableRows)):
        return
    if not (source.files and target.files):  # a stream is read once
        return
    others = {source.column, target.column}
    for column in (
        name for name in source.schema.names if name in target.schema.names and name not in others
    ):
        if not (_has_ids(source, column) and _has_ids(target, column)):
            continue
        one, other = ([*_first_of(side, column)] for side in (source, target))
        if len(set(one)) < len(one) or len(set(other)) < len(other) or not set(one) & set(other):
            continue
        row = next((k for k, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), None)
        if row is not None:
            warnings.warn(
                f"the tables are paired by the order of their rows, but row {row} has the {column} "
                f"{one[row]!r} in {source.location.path} and {other[row]!r} in {target.location.path}. If those "
                f"are ids, pair by them: id_column={column!r} (--id-column {column}).",
                stacklevel=3,
            )
            return


def _has_ids(side: TableRows, column: str) -> bool:
    try:
        side.id_type(column)
    except ValueError:
        return False
    return True


def _first_of(side: TableRows, column: str) -> Iterator[object]:
    """Yield the first values of a column."""
    for batch in side.batches([column], _SCAN_ROWS, 0, min(_SCAN_ROWS, side.rows or _SCAN_ROWS)):
        yield from batch.column(0).to_pylist()


def fits(*readers: Reader) -> bool:
    """Tell whether rows are few enough to be loaded."""
    width = sum(reader.dim * reader.dtype.itemsize for reader in readers)
    few = max(max(reader.dim for reader in readers), _LOADED_BYTES // width)
    return all(reader.rows is not None and reader.rows <= few for reader in readers)


def require_finite_rows(reader: Reader, start: int = 0, stop: int | None = None) -> None:
    """Raise a ValueError that counts the rows of a source which hold NaN or infinity, if any do."""
    bad, first, done = 0, -1, start
    for block in reader.blocks(_SCAN_ROWS, start, stop, beside=False):
        if not all_finite(block.rows):
            where = np.flatnonzero(~np.isfinite(block.rows).all(axis=1))
            first = first if bad else done + int(where[0])
            bad += len(where)
        done += len(block.rows)
    if bad:
        where = f", {reader.place(first)}" if isinstance(reader, FolderRows) else ""
        some = f"{done} rows" if not start and done == reader.rows else f"the rows {start} to {done}"
        raise ValueError(
            f"{reader.location} needs finite values; {bad} of {some} contain NaN or infinity "
            f"(the first is row {first}{where}). Remove or repair those rows."
        )


def require_finite_block(reader: Reader, block: Rows, start: int) -> None:
    """Raise a ValueError that names the first row of a block with NaN or infinity; `start` is that of the block."""
    if not all_finite(block):
        bad = start + int(np.flatnonzero(~np.isfinite(block).all(axis=1))[0])
        raise ValueError(
            f"{reader.location} needs finite values; row {bad} contains NaN or infinity. "
            "Remove or repair such rows."
        )


def _exact(blocks: Iterator[Block], rows: int) -> Iterator[Rows]:
    """Yield the rows of blocks of any size, exactly so many at a time but for the last.

    What is yielded lasts until the one after the next is asked for, as a block does.
    """
    buffers: list[Rows] = []
    turn, filled = 0, 0
    for block in blocks:
        values = block.rows
        if not filled and len(values) == rows:
            yield values
            continue
        if not buffers:
            buffers = [np.empty((rows, values.shape[1]), values.dtype) for _ in range(2)]
        taken = 0
        while taken < len(values):
            count = min(rows - filled, len(values) - taken)
            buffers[turn][filled : filled + count] = values[taken : taken + count]
            filled, taken = filled + count, taken + count
            if filled == rows:
                yield buffers[turn]
                turn, filled = 1 - turn, 0
    if filled:
        yield buffers[turn][:filled]


@final
@dataclass(frozen=True, slots=True)
class PairsAgain:
    """What solvers ask of `Pairs`, of pairs that are more than fit in memory."""

    stream: PairStream
    count: int
    caller: str = "fit"
    weight: None = None

    def __len__(self) -> int:
        return self.count

    @property
    def dims(self) -> tuple[int, int]:
        """The widths of both sides."""
        return self.stream.dims

    @property
    def source(self) -> Rows:
        """No rows, of the width and the dtype of all."""
        return np.zeros((0, self.dims[0]), self.stream.dtypes[0])

    @property
    def is_double(self) -> bool:
        """Whether both sides carry float64 precision."""
        return all(dtype.kind in "iu" or dtype == np.float64 for dtype in self.stream.dtypes)

    def blocks(self, rows: int) -> Iterator[Pairs]:
        """Yield the pairs from the first on, at most `rows` at a time."""
        return self.stream.blocks(rows)

    def require_finite(self) -> None:
        """Raise a ValueError that counts the rows with NaN or infinity, if there are any."""
        self.stream.require_finite()
