"""Parquet files, of which the rows are one column of lists of floats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from numpy.typing import NDArray

from latalign.io.extras import required
from latalign.io.files import is_remote, written_beside
from latalign.io.protocol import Block, Location, Reader, Shape, require_all
from latalign.io.tables import TableLayout, TableRows, cut, foreign, opened, require_column, type_of_ids

# A column chunk is read through a buffer of this size, not as a whole.
_READ_BYTES = 1 << 20
# What is gathered before a row group is written.
_GROUP_BYTES = 16 << 20
_KIND = "a Parquet file"


def read(location: Location) -> TableRows:
    """Open a Parquet file and find its column of rows."""
    pq, arrow = _parquet(), required("pyarrow", "parquet", "Parquet files")
    try:
        with _opened(pq, location) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
    except (arrow.ArrowException, OSError) as error:
        raise foreign(location, _KIND, error) from error
    return opened(location, (location.path,), rows, schema, _Scan(location), _KIND)


def read_column(location: Location, column: str, what: str) -> NDArray[Any]:
    """Return a column of integers or strings, which are `what`; missing ones are None or NaN."""
    pq, arrow = _parquet(), required("pyarrow", "parquet", "Parquet files")
    try:
        with _opened(pq, location) as file:
            kind = type_of_ids(file.schema_arrow, column, location.path, what)
            values = file.read(columns=[column], use_threads=False).column(column)
    except (arrow.ArrowException, OSError) as error:
        raise foreign(location, _KIND, error) from error
    return values.cast(kind).to_numpy()


def column_of(location: Location, column: str) -> Any:
    """Return a column of any type, whole, as Arrow has it."""
    pq, arrow = _parquet(), required("pyarrow", "parquet", "Parquet files")
    try:
        with _opened(pq, location) as file:
            require_column(file.schema_arrow, column, location.path)
            return file.read(columns=[column], use_threads=False).column(column)
    except (arrow.ArrowException, OSError) as error:
        raise foreign(location, _KIND, error) from error


@contextmanager
def write(location: Location, shape: Shape, like: Reader | None) -> Iterator[ParquetWriter]:
    """Write a Parquet file; rows out of a table keep their other columns and their column's type."""
    pq = _parquet()
    layout = TableLayout(location, shape, like)
    # Floats repeat too seldom for a dictionary, and looking for one triples the time; the least and the
    # largest of them say nothing.
    others: Any = [name for name in layout.schema.names if name != layout.name]
    options = {"use_dictionary": others, "write_statistics": others}
    with written_beside(location.path) as file:
        with pq.ParquetWriter(file, layout.schema, **options) as into:
            writer = ParquetWriter(into, layout)
            yield writer
            writer.flush()
        require_all(location, writer.written, shape)


@final
class ParquetWriter:
    """A `Writer` of row groups of some MiB, however small the blocks are."""

    def __init__(self, into: Any, layout: TableLayout) -> None:
        self._into, self._layout = into, layout
        self._waiting: list[Any] = []
        self._bytes = 0
        self.written = 0

    def append(self, block: Block) -> None:
        """Take the next rows, and the other columns that stand beside them."""
        batch = self._layout.batch(block)
        self._waiting.append(batch)
        self._bytes += batch.nbytes
        self.written += len(block.rows)
        if self._bytes >= _GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one row group."""
        if self._waiting:
            table = required("pyarrow", "parquet", "Parquet files").Table.from_batches(self._waiting)
            self._into.write_table(table, row_group_size=max(table.num_rows, 1))
            self._waiting, self._bytes = [], 0


@final
@dataclass(frozen=True, slots=True)
class _Scan:
    """Record batches out of the row groups that hold the rows which are asked for."""

    location: Location

    def __call__(self, columns: list[str] | None, rows: int, start: int, stop: int | None) -> Iterator[Any]:
        with _opened(_parquet(), self.location) as file:
            counts = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
            first, groups, skipped = 0, [], 0
            for number, count in enumerate(counts):
                if first + count <= start:
                    skipped += count
                elif stop is None or first < stop:
                    groups.append(number)
                first += count
            batches = file.iter_batches(rows, groups, columns, use_threads=False)
            yield from cut(batches, start - skipped, None if stop is None else stop - skipped)


def _opened(pq: Any, location: Location) -> Any:
    # Read through one small buffer: ahead of itself pyarrow keeps all column chunks in memory.
    options = {"buffer_size": _READ_BYTES, "pre_buffer": False}
    path: Any = location.path
    return pq.ParquetFile(path.fs.open(path.path, "rb") if is_remote(path) else path, **options)


def _parquet() -> Any:
    required("pyarrow", "parquet", "Parquet files")
    return required("pyarrow.parquet", "parquet", "Parquet files")
