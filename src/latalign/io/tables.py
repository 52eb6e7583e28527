"""What all formats of tables have in common: rows in one column of lists, other columns beside it.

A format gives a `Scan`, which yields record batches, and takes record batches where it is written. They
are Arrow's; pyarrow is imported when the first table is opened.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Rows
from latalign.io.extras import pyarrow
from latalign.io.protocol import Block, Location, Reader, Shape, check_dtype, check_shape, count_of

_DEFAULT_NAME = "embedding"
_LOAD_ROWS = 8192
# Of what a file says about its schema only this stays true when the width of the rows changes.
_KEPT_METADATA = b"pandas"


class Scan(Protocol):
    """What a format of tables does to be read."""

    def __call__(self, columns: list[str] | None, rows: int, start: int, stop: int | None) -> Iterator[Any]:
        """Yield record batches of the columns (all of them for None), from row `start` to before `stop`.

        `rows` is the size that is asked for; a batch may have any.
        """
        ...


@final
@dataclass(frozen=True, slots=True)
class TableRows:
    """A `Reader` of one column of lists; `Block.beside` is the record batch with all columns.

    Attributes
    ----------
    location : Location
    files : tuple of Path
    rows : int or None
    dim : int
    dtype : dtype
    schema : pyarrow.Schema
        Of all columns.
    scan : Scan
    kind : str
        What the format is called.
    """

    location: Location
    files: tuple[Path, ...]
    rows: int | None
    dim: int
    dtype: np.dtype[Any]
    schema: Any = field(repr=False)
    scan: Scan = field(repr=False)
    kind: str

    def __reduce__(self) -> tuple[Any, ...]:
        """Go to another process with the schema as Arrow writes it: pickled, lists forget what items are called."""
        schema = self.schema.serialize().to_pybytes()
        return _sent, (
            schema,
            self.location,
            self.files,
            self.rows,
            self.dim,
            self.dtype,
            self.scan,
            self.kind,
        )

    @property
    def column(self) -> str:
        """The name of the column that holds the rows."""
        assert self.location.name is not None  # `opened` filled it in
        return self.location.name

    def blocks(
        self, rows: int, start: int = 0, stop: int | None = None, *, beside: bool = True
    ) -> Iterator[Block]:
        """Yield rows in order, at most `rows` at a time, with the other columns beside."""
        columns = None if beside else [self.column]
        done = 0
        for batch in self.batches(columns, rows, start, stop):
            lists = batch.column(batch.schema.get_field_index(self.column))
            yield Block(self._rows(lists, start + done), batch if beside else None)
            done += len(batch)
        expected = count_of(self.location, self.rows, start, stop)
        if self.rows is not None and done != expected:
            raise ValueError(f"{self.location} ended early: {done} of {expected} rows could be read")
        if not done:
            raise ValueError(f"{self.location} is empty: there are no rows")

    def batches(
        self, columns: list[str] | None, rows: int, start: int = 0, stop: int | None = None
    ) -> Iterator[Any]:
        """Yield record batches of at most so many rows, and say what is wrong in our words."""
        arrow = pyarrow()
        found = self.scan(columns, rows, start, stop)
        while True:
            try:
                batch = next(found, None)
            except (arrow.ArrowException, OSError) as error:
                raise foreign(self.location, self.kind, error) from error
            if batch is None:
                return
            for first in range(0, len(batch), rows):
                yield batch.slice(first, rows)

    def load(self) -> Rows:
        """Return all rows in one array."""
        blocks = self.blocks(_LOAD_ROWS, beside=False)
        if self.rows is None:
            return np.concatenate([block.rows for block in blocks])
        out = np.empty((self.rows, self.dim), self.dtype)
        done = 0
        for block in blocks:
            out[done : done + len(block.rows)] = block.rows
            done += len(block.rows)
        return out

    def ids(self, column: str) -> NDArray[Any]:
        """Return a column of integers or strings; missing ids are None or NaN."""
        kind = self.id_type(column)
        batches = [batch.column(0).cast(kind) for batch in self.batches([column], _LOAD_ROWS)]
        return pyarrow().chunked_array(batches, kind).to_numpy()

    def id_type(self, column: str) -> Any:
        """Return the type of a column of ids, and raise a ValueError where it is none."""
        return type_of_ids(self.schema, column, self.location.path, "ids")

    def _rows(self, lists: Any, start: int) -> Rows:
        """Return a column of lists as an array; `start` is the number of its first row."""
        # Checked first: flatten() passes over a list that is null, and .values over where a slice starts.
        if lists.null_count:
            row = start + int(np.flatnonzero(lists.is_null().to_numpy(zero_copy_only=False))[0])
            raise ValueError(f"{self.location}: row {row} is null. Remove or fill such rows.")
        if not pyarrow().types.is_fixed_size_list(lists.type):
            lengths = lists.value_lengths().to_numpy()
            if (wrong := np.flatnonzero(lengths != self.dim)).size:
                raise ValueError(
                    f"{self.location}: rows need one width; row {start + wrong[0]} has {lengths[wrong[0]]} "
                    f"values, those before it {self.dim}. Remove or repair such rows."
                )
        values = lists.flatten()
        if values.null_count:
            where = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]
            raise ValueError(
                f"{self.location}: row {start + where // self.dim} has a null among its values. "
                "Remove or fill such rows."
            )
        return values.to_numpy().reshape(-1, self.dim)


def opened(
    location: Location, files: tuple[Path, ...], rows: int | None, schema: Any, scan: Scan, kind: str
) -> TableRows:
    """Return the reader of a table: find its column of rows, and take the width of the first."""
    column = _only(location, schema, named=bool(files))
    found = Location(location.path, column)
    if rows == 0:
        raise ValueError(f"{found} is empty: the file has no rows")
    type_ = schema.field(column).type
    fixed = pyarrow().types.is_fixed_size_list(type_)
    dim = type_.list_size if fixed else _first_width(scan, found, kind)
    dtype = np.dtype(type_.value_type.to_pandas_dtype())
    check_dtype(found, dtype)
    check_shape(found, (1 if rows is None else rows, dim))
    return TableRows(found, files, rows, dim, dtype, schema, scan, kind)


def _sent(
    schema: bytes,
    location: Location,
    files: tuple[Path, ...],
    rows: int | None,
    dim: int,
    dtype: np.dtype[Any],
    scan: Scan,
    kind: str,
) -> TableRows:
    """Make the reader that another process sent."""
    found = pyarrow().ipc.read_schema(pyarrow().py_buffer(schema))
    return TableRows(location, files, rows, dim, dtype, found, scan, kind)


def type_of_ids(schema: Any, column: str, path: Path, what: str) -> Any:
    """Return the type of a column of integers or strings, and raise a ValueError where it is none."""
    types = pyarrow().types
    require_column(schema, column, path)
    kind = schema.field(column).type
    if types.is_dictionary(kind):
        kind = kind.value_type
    texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (types.is_integer(kind) or texts):
        raise ValueError(
            f"{path}: {what} are integers or strings; the column {column!r} is {kind}. Convert it first."
        )
    return kind


class NoSuchColumn(ValueError):
    """A table has no column of that name."""


def require_column(schema: Any, column: str, path: Path) -> None:
    """Raise a NoSuchColumn, a ValueError, that names the columns there are, where this one is not among them."""
    if column not in schema.names:
        raise NoSuchColumn(f"{path} has no column {column!r}; it has: {', '.join(schema.names)}")


def cut(batches: Iterable[Any], start: int, stop: int | None) -> Iterator[Any]:
    """Yield what lies between two rows of batches that begin at row 0, and none of no rows."""
    first = 0
    for batch in batches:
        if stop is not None and first >= stop:
            return
        low, high = max(start - first, 0), len(batch) if stop is None else min(stop - first, len(batch))
        first += len(batch)
        if low < high:
            yield batch.slice(low, high - low)


@final
class TableLayout:
    """The columns of a table that is written, and how rows become record batches of it.

    Attributes
    ----------
    schema : pyarrow.Schema
    name : str
        Of the column that holds the rows.
    """

    def __init__(self, location: Location, shape: Shape, like: Reader | None) -> None:
        self.schema, self._position = _schema(location, shape, like)
        self.name: str = self.schema.names[self._position]
        if shape.column is not None:
            if shape.column in self.schema.names:
                raise ValueError(f"{location.path} has a column {shape.column!r} already; rename it first")
            self.schema = self.schema.append(pyarrow().field(shape.column, pyarrow().float64()))

    def batch(self, block: Block) -> Any:
        """Return a block, with what stands beside it, as a record batch."""
        lists = self._lists(self.schema.field(self._position).type, block.rows)
        # What stands beside the rows may be of another format, which no table takes along.
        columns = list(block.beside.columns) if hasattr(block.beside, "columns") else [lists]
        columns[self._position] = lists
        if block.column is not None:
            columns.append(pyarrow().array(block.column))
        return pyarrow().record_batch(columns, schema=self.schema)

    def _lists(self, kind: Any, rows: Rows) -> Any:
        pa = pyarrow()
        # A copy: a writer may keep the batch, and the buffer is the caller's.
        values = pa.array(np.array(rows, order="C").reshape(-1), kind.value_type)
        if pa.types.is_fixed_size_list(kind):
            return pa.FixedSizeListArray.from_arrays(values, type=kind)
        offsets = np.arange(0, rows.size + 1, rows.shape[1], dtype=np.int64)
        large = pa.types.is_large_list(kind)
        lists = pa.LargeListArray if large else pa.ListArray
        return lists.from_arrays(pa.array(offsets, pa.int64() if large else pa.int32()), values, type=kind)


def foreign(location: Location, kind: str, error: Exception) -> Exception:
    """Return what to raise for an error of Arrow: an OSError without a number is its word for bad data."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{location} is not {kind}, or it is truncated ({reason})")


def _schema(location: Location, shape: Shape, like: Reader | None) -> tuple[Any, int]:
    """Return the schema to write, and the position of the rows' column in it."""
    pa = pyarrow()
    value = pa.from_numpy_dtype(shape.dtype)
    if not isinstance(like, TableRows):
        origin = like.location.name if like is not None else None
        name = location.name or (origin or _DEFAULT_NAME).rpartition("/")[2]
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


def _only(location: Location, schema: Any, *, named: bool) -> str:
    """Return the name of the column that holds the rows; where none can be `named`, it is the only one."""
    listed = ", ".join(f"{part.name} ({part.type})" for part in schema)
    if location.name is not None:
        if schema.names.count(location.name) != 1:
            raise ValueError(f"{location.path} has no one column {location.name!r}; it has: {listed}")
        kind = schema.field(location.name).type
        if not _is_rows(kind):
            raise ValueError(
                f"{location} is {kind}; rows need a column of lists of floats. {_remedy(kind)}The file has: {listed}"
            )
        return location.name
    rows = [part.name for part in schema if _is_rows(part.type)]
    if len(rows) != 1:
        way = (
            f"Name one: {location.path.name}:COLUMN"
            if named
            else "Leave out the others: table.select([NAME])"
        )
        remedies = "" if rows else "".join(_remedy(part.type) for part in schema)
        raise ValueError(
            f"{location} needs one column of lists of floats; it has: {listed}. {remedies or way}"
        )
    return rows[0]


def _remedy(kind: Any) -> str:
    """Return what to do about a column that holds rows in another form; nothing where it holds none."""
    if isinstance(kind, pyarrow().BaseExtensionType) and _is_rows(kind.storage_type):
        return (
            f"Of {kind.extension_name} give the lists that it is stored as: column.combine_chunks().storage. "
        )
    return ""


def _is_rows(kind: Any) -> bool:
    types = pyarrow().types
    kinds = ("fixed_size_list", "list", "large_list", "list_view", "large_list_view")
    return any(getattr(types, f"is_{name}")(kind) for name in kinds) and (
        types.is_floating(kind.value_type) or types.is_integer(kind.value_type)
    )


def _first_width(scan: Scan, location: Location, kind: str) -> int:
    try:
        first = next((batch for batch in scan([str(location.name)], 1, 0, 1) if len(batch)), None)
    except (pyarrow().ArrowException, OSError) as error:
        raise foreign(location, kind, error) from error
    if first is None:
        raise ValueError(f"{location} is empty: the file has no rows")
    lists = first.column(0)
    if lists[0].as_py() is None:
        raise ValueError(f"{location}: row 0 is null. Remove or fill such rows.")
    return int(lists.value_lengths()[0].as_py())
