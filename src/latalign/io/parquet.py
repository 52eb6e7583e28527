"""Parquet files: the rows are one column of lists of floats; the other columns go along.

Needs the extra ``parquet`` (pyarrow), which is imported when the first such file is opened.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Rows
from latalign.io.files import written_beside
from latalign.io.protocol import Block, Location, Reader, Shape, check_dtype, check_shape
from latalign.io.raw import require_all

_DEFAULT_NAME = "embedding"
# A column chunk is read through a buffer of this size, not as a whole.
_READ_BYTES = 1 << 20
_LOAD_ROWS = 8192
# Of what a file says about its schema only this stays true when the width of the rows changes.
_KEPT_METADATA = b"pandas"


def read(location: Location) -> Reader:
    """Open a Parquet file, find its column of rows, and take the width of the first."""
    pa = _pyarrow()
    try:
        with _opened(location) as file:
            rows, schema = file.metadata.num_rows, file.schema_arrow
            column = _only(location, schema)
            found = Location(location.path, column)
            kind = schema.field(column).type
            if rows == 0:
                raise ValueError(f"{found} is empty: the file has no rows")
            dim = kind.list_size if pa.types.is_fixed_size_list(kind) else _first_width(file, found)
    except (pa.ArrowException, OSError) as error:
        raise _foreign(location, error) from error
    dtype = np.dtype(kind.value_type.to_pandas_dtype())
    check_dtype(found, dtype)
    check_shape(found, (rows, dim))
    return ParquetRows(found, rows, dim, dtype, schema)


@contextmanager
def write(location: Location, shape: Shape, like: Reader | None) -> Iterator[ParquetWriter]:
    """Write a Parquet file; rows out of a Parquet file keep their other columns and their column's type."""
    pa = _pyarrow()
    import pyarrow.parquet as pq

    schema, position = _schema(pa, location, shape, like)
    if shape.column is not None:
        if shape.column in schema.names:
            raise ValueError(f"{location.path} has a column {shape.column!r} already; rename it first")
        schema = schema.append(pa.field(shape.column, pa.float64()))
    # Floats repeat too seldom for a dictionary.
    others: Any = [name for name in schema.names if name != schema.names[position]]
    with written_beside(location.path) as file:
        with pq.ParquetWriter(file, schema, use_dictionary=others) as into:
            writer = ParquetWriter(pa, into, schema, position)
            yield writer
        require_all(location, writer.written, shape)


@final
@dataclass(frozen=True, slots=True)
class ParquetRows:
    """A `Reader` of one column of lists; `Block.beside` is the record batch with all columns.

    Attributes
    ----------
    location : Location
    rows, dim : int
    dtype : dtype
    schema : pyarrow.Schema
        Of all columns.
    """

    location: Location
    rows: int
    dim: int
    dtype: np.dtype[Any]
    schema: Any = field(repr=False)

    @property
    def column(self) -> str:
        """The name of the column that holds the rows."""
        assert self.location.name is not None  # `read` filled it in
        return self.location.name

    def blocks(self, rows: int) -> Iterator[Block]:
        """Yield all rows in order, at most `rows` at a time, with the other columns beside."""
        for block, batch in self._batches(rows, None):
            yield Block(block, batch)

    def load(self) -> Rows:
        """Return all rows in one array."""
        out = np.empty((self.rows, self.dim), self.dtype)
        done = 0
        for block, _ in self._batches(_LOAD_ROWS, [self.column]):
            out[done : done + len(block)] = block
            done += len(block)
        return out

    def ids(self, column: str) -> NDArray[Any]:
        """Return a column of integers or strings; missing ids are None or NaN."""
        pa = _pyarrow()
        if column not in self.schema.names:
            raise ValueError(
                f"{self.location.path} has no column {column!r}; it has: {', '.join(self.schema.names)}"
            )
        kind = self.schema.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        types = pa.types
        if not (types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)):
            raise ValueError(
                f"{self.location.path}: ids are integers or strings; the column {column!r} is {kind}. "
                "Convert it first."
            )
        try:
            with _opened(self.location) as file:
                values = file.read(columns=[column]).column(column)
        except (pa.ArrowException, OSError) as error:
            raise _foreign(self.location, error) from error
        return values.cast(kind).to_numpy()

    def _batches(self, rows: int, columns: list[str] | None) -> Iterator[tuple[Rows, Any]]:
        pa = _pyarrow()
        done = 0
        with _opened(self.location) as file:
            batches = file.iter_batches(batch_size=rows, columns=columns)
            while True:
                try:
                    batch = next(batches, None)
                except (pa.ArrowException, OSError) as error:
                    raise _foreign(self.location, error) from error
                if batch is None:
                    break
                lists = batch.column(batch.schema.get_field_index(self.column))
                yield self._rows(lists, done), batch
                done += len(batch)
        if done != self.rows:
            raise ValueError(f"{self.location} ended early: {done} of {self.rows} rows could be read")

    def _rows(self, lists: Any, start: int) -> Rows:
        """Return a column of lists as an array; `start` is the number of its first row in the file."""
        # Checked first: flatten() passes over a list that is null, and .values over where a slice starts.
        if lists.null_count:
            row = start + int(np.flatnonzero(lists.is_null().to_numpy(zero_copy_only=False))[0])
            raise ValueError(f"{self.location}: row {row} is null. Remove or fill such rows.")
        lengths = lists.value_lengths().to_numpy()
        if (wrong := np.flatnonzero(lengths != self.dim)).size:
            raise ValueError(
                f"{self.location}: rows need one width; row {start + wrong[0]} has {lengths[wrong[0]]} values, "
                f"those before it {self.dim}. Remove or repair such rows."
            )
        values = lists.flatten()
        if values.null_count:
            where = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]
            raise ValueError(
                f"{self.location}: row {start + where // self.dim} has a null among its values. "
                "Remove or fill such rows."
            )
        return values.to_numpy().reshape(-1, self.dim)


@final
class ParquetWriter:
    """A `Writer` of record batches, one row group a block."""

    def __init__(self, pa: ModuleType, into: Any, schema: Any, position: int) -> None:
        self._pa, self._into, self._schema, self._position = pa, into, schema, position
        self.written = 0

    def append(self, block: Block) -> None:
        """Write the next rows, and the other columns that stand beside them."""
        field_ = self._schema.field(self._position)
        lists = self._lists(field_.type, block.rows)
        columns = [lists] if block.beside is None else list(block.beside.columns)
        columns[self._position] = lists
        if block.column is not None:
            columns.append(self._pa.array(block.column))
        self._into.write_batch(self._pa.record_batch(columns, schema=self._schema))
        self.written += len(block.rows)

    def _lists(self, kind: Any, rows: Rows) -> Any:
        pa = self._pa
        values = pa.array(np.ascontiguousarray(rows).reshape(-1), kind.value_type)
        if pa.types.is_fixed_size_list(kind):
            return pa.FixedSizeListArray.from_arrays(values, type=kind)
        offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int64)
        large = pa.types.is_large_list(kind)
        lists = pa.LargeListArray if large else pa.ListArray
        return lists.from_arrays(pa.array(offsets, pa.int64() if large else pa.int32()), values, type=kind)


def _schema(pa: ModuleType, location: Location, shape: Shape, like: Reader | None) -> tuple[Any, int]:
    """Return the schema to write, and the position of the rows' column in it."""
    value = pa.from_numpy_dtype(shape.dtype)
    if not isinstance(like, ParquetRows):
        origin = like.location.name if like is not None else None
        name = location.name or origin or _DEFAULT_NAME
        return pa.schema([pa.field(name, pa.list_(value, shape.dim))]), 0
    position = like.schema.get_field_index(like.column)
    was = like.schema.field(position)
    if pa.types.is_fixed_size_list(was.type):
        kind = pa.list_(was.type.value_field.with_type(value), shape.dim)
    else:
        make = pa.large_list if pa.types.is_large_list(was.type) else pa.list_
        kind = make(was.type.value_field.with_type(value))
    name = location.name or was.name
    if name in set(like.schema.names) - {was.name}:
        raise ValueError(f"{location.path}: the rows' column cannot be called {name!r}; another one is")
    fields = list(like.schema)
    fields[position] = was.with_type(kind).with_name(name)
    metadata = like.schema.metadata or {}
    return pa.schema(fields, {key: metadata[key] for key in metadata if key == _KEPT_METADATA}), position


def _only(location: Location, schema: Any) -> str:
    """Return the name of the column that holds the rows."""
    listed = ", ".join(f"{part.name} ({part.type})" for part in schema)
    if location.name is not None:
        if schema.names.count(location.name) != 1:
            raise ValueError(f"{location.path} has no one column {location.name!r}; it has: {listed}")
        if not _is_rows(schema.field(location.name).type):
            raise ValueError(
                f"{location} is {schema.field(location.name).type}; rows need a column of lists of floats. "
                f"The file has: {listed}"
            )
        return location.name
    rows = [part.name for part in schema if _is_rows(part.type)]
    if len(rows) != 1:
        raise ValueError(
            f"{location} needs one column of lists of floats; it has: {listed}. "
            f"Name one: {location.path.name}:COLUMN"
        )
    return rows[0]


def _is_rows(kind: Any) -> bool:
    types = _pyarrow().types
    lists = types.is_fixed_size_list(kind) or types.is_list(kind) or types.is_large_list(kind)
    return lists and (types.is_floating(kind.value_type) or types.is_integer(kind.value_type))


def _first_width(file: Any, location: Location) -> int:
    first = next(file.iter_batches(batch_size=1, columns=[location.name])).column(0)
    if first.null_count:
        raise ValueError(f"{location}: row 0 is null. Remove or fill such rows.")
    return int(first.value_lengths()[0].as_py())


def _opened(location: Location) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(location.path, buffer_size=_READ_BYTES, pre_buffer=False)


def _foreign(location: Location, error: Exception) -> Exception:
    """Return what to raise for an error of pyarrow: an OSError without a number is its word for bad data."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    reason = str(error).splitlines()[0]
    return ValueError(f"{location} is not a Parquet file, or it is truncated ({reason})")


def _pyarrow() -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Parquet files need pyarrow, which is not installed: pip install 'latalign[parquet]'",
            name=error.name,
        ) from error
    return pyarrow
