"""Any Arrow stream: what DuckDB, Polars, pandas and pyarrow give to one another, with no file between.

An object that has ``__arrow_c_stream__`` is taken wherever a file of rows is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, final

from latalign.io.extras import pyarrow
from latalign.io.protocol import Location
from latalign.io.tables import TableRows, cut, opened

_KIND = "an Arrow stream"


def is_stream(value: object) -> bool:
    """Tell whether an object can give an Arrow stream."""
    return hasattr(value, "__arrow_c_stream__")


def read(value: Any) -> TableRows:
    """Return the reader of an Arrow stream.

    Parameters
    ----------
    value : object
        A DuckDB relation, a Polars or pyarrow table, a reader of record batches, ... of one column of
        lists of floats or integers.

    Examples
    --------
    >>> import pyarrow as pa
    >>> from latalign.io import stream
    >>> stream.read(pa.table({"id": [7], "v": [[1.0, 2.0]]})).load()
    array([[1., 2.]])
    """
    scan = _Scan(value)
    # A path that is none: it stands in errors alone.
    location = Location(Path(f"<{type(value).__module__.partition('.')[0]} {type(value).__name__}>"))
    return opened(location, (), None, scan.schema, scan, _KIND)


@final
class _Scan:
    """Record batches of a stream; what was taken to look at it comes again in the first scan."""

    def __init__(self, value: Any) -> None:
        self._value = value
        self._reader: Any = pyarrow("Arrow streams").RecordBatchReader.from_stream(value)
        self._first: list[Any] = []
        self.schema = self._reader.schema

    def __call__(self, columns: list[str] | None, rows: int, start: int, stop: int | None) -> Iterator[Any]:
        if (start, stop) == (0, 1):  # a look at the first row
            if not self._first and (batch := self._next()) is not None:
                self._first = [batch]
            batches: Iterator[Any] = iter(self._first)
        else:
            reader, first = self._taken()
            batches = chain(first, reader)
        for batch in cut(batches, start, stop):
            yield batch if columns is None else batch.select(columns)

    def _next(self) -> Any:
        return next((batch for batch in self._reader if len(batch)), None)

    def _taken(self) -> tuple[Any, list[Any]]:
        """Return the stream that is open, or another one where that was read already."""
        if self._reader is None:
            if type(self._value).__name__ == "RecordBatchReader":
                raise ValueError("an Arrow stream can be read once only; give a table, or a file")
            self._reader = pyarrow("Arrow streams").RecordBatchReader.from_stream(self._value)
        taken = self._reader, self._first
        self._reader, self._first = None, []
        return taken
