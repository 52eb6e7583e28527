"""Pairs by an id, of tables that are larger than memory: a join by DuckDB, which may use the disk.

Needs the extra ``duckdb``. Rows that fit in memory are paired by `latalign.pair_by_id` instead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, final

import numpy as np

from latalign._validation import Rows
from latalign.io.extras import pyarrow, required
from latalign.io.folder import FolderRows
from latalign.io.grids import GridRows
from latalign.io.protocol import Reader
from latalign.io.tables import TableRows

_SCAN_ROWS = 4096
_MEMORY = "512MB"
_SIDES = ("source", "target")


@final
@dataclass(frozen=True, slots=True)
class Joined:
    """Two sides whose ids were checked.

    Attributes
    ----------
    sides : tuple of Reader
    column : str
        The ids.
    rows : int
        The number of ids that both have.
    """

    sides: tuple[Reader, Reader]
    column: str
    rows: int

    def batches(self, rows: int) -> Iterator[tuple[Rows, Rows]]:
        """Yield paired rows, in the same order every time, about so many at a time."""
        with _connected() as database:
            for name, side in zip(_SIDES, self.sides, strict=True):
                database.register(name, _vectors(side, self.column))
            found = database.sql("SELECT source.rows, target.rows FROM source JOIN target USING (id)")
            read = getattr(found, "to_arrow_reader", None) or found.fetch_arrow_reader  # its name before 2.0
            for batch in read(rows):
                if len(batch):
                    x, y = (
                        batch.column(k)
                        .flatten()
                        .to_numpy()
                        .reshape(-1, side.dim)
                        .astype(side.dtype, copy=False)
                        for k, side in enumerate(self.sides)
                    )
                    yield x, y


def by_id(sides: tuple[Reader, Reader], column: str, unmatched: Literal["error", "drop"]) -> Joined:
    """Check the ids of two sides.

    Raises
    ------
    ValueError
        If ids are missing, not of one kind, stand in two rows, or have no partner.
    """
    with _connected() as database:
        kinds: list[str] = []
        for name, side in zip(_SIDES, sides, strict=True):
            database.register("read", _ids(side, column))
            database.execute(f"CREATE TABLE {name} AS SELECT * FROM read").fetchall()
            database.unregister("read")
            kinds.append(str(_one(database, f"SELECT typeof(id) FROM {name} LIMIT 1")[0]))
            _require_ids(database, name, side)
        if (kinds[0] == "VARCHAR") != (kinds[1] == "VARCHAR"):
            raise ValueError(
                f"pairs by id need ids of one kind on both sides; got {kinds[0]} in the source and {kinds[1]} in "
                "the target"
            )
        for name, other in (_SIDES, _SIDES[::-1]) if unmatched == "error" else ():
            count, one = _one(database, f"SELECT count(*), min(id) FROM {name} ANTI JOIN {other} USING (id)")
            if count:
                total = _one(database, f"SELECT count(*) FROM {name}")[0]
                raise ValueError(
                    f"{count} of {total} {name} ids are missing in the {other}, {one} among them. Pair what both "
                    'have with unmatched="drop" (--unmatched drop).'
                )
        rows = int(_one(database, "SELECT count(*) FROM source JOIN target USING (id)")[0])
    if not rows:
        raise ValueError("the two sides have no id in common")
    return Joined(sides, column, rows)


def _require_ids(database: Any, name: str, side: Reader) -> None:
    missing, first = _one(database, f"SELECT count(*), min(row) FROM {name} WHERE id IS NULL")
    if missing:
        raise ValueError(f"{missing} {name} ids are missing, the first in {_place(side, first)}. Fill them.")
    again = f"FROM {name} GROUP BY id HAVING count(*) > 1"
    count = _one(database, f"SELECT count(*) FROM (SELECT id {again})")[0]
    if count:
        one, low, high = _one(database, f"SELECT id, min(row), max(row) {again} ORDER BY min(row) LIMIT 1")
        raise ValueError(
            f"{count} {name} ids occur more than once, {one} among them: in {_place(side, low)}, and in "
            f"{_place(side, high)}. An id names one row."
        )


def _one(database: Any, query: str) -> tuple[Any, ...]:
    """Return the only row of an answer."""
    return database.execute(query).fetchall()[0]


def _place(side: Reader, row: int) -> str:
    return side.place(row) if isinstance(side, FolderRows) else f"{side.location}, row {row}"


@contextmanager
def _connected() -> Iterator[Any]:
    """Give a database that is gone afterwards; one thread, so that its order is the same every time."""
    duckdb = required("duckdb", "duckdb", "Pairs by id of more rows than fit in memory")
    with tempfile.TemporaryDirectory(prefix="latalign-") as folder:
        settings = {"threads": 1, "memory_limit": _MEMORY, "temp_directory": f"{folder}/spilled"}
        database = duckdb.connect(f"{folder}/ids.duckdb", config=settings)
        try:
            yield database
        finally:
            database.close()


def _ids(side: Reader, column: str) -> Any:
    """Return a reader of record batches with the columns id and row."""

    def batches() -> Iterator[Any]:
        done = 0
        for part in _parts(side):
            if isinstance(part, TableRows):
                kind = part.id_type(column)
                found = (batch.column(0).cast(kind) for batch in part.batches([column], _SCAN_ROWS))
            else:
                found = iter([arrow.array(part.ids(column))])  # or says that there are none
            for ids in found:
                yield arrow.record_batch({"id": ids, "row": np.arange(done, done + len(ids))})
                done += len(ids)

    arrow = pyarrow("Pairs by id")
    return _reader(batches())


def _vectors(side: Reader, column: str) -> Any:
    """Return a reader of record batches with the columns id and rows."""

    def batches() -> Iterator[Any]:
        for part in _parts(side):
            kind = part.id_type(column) if isinstance(part, TableRows) else None
            for block in _with_ids_alone(part, column).blocks(_SCAN_ROWS):
                ids = (
                    arrow.array(block.beside[column])
                    if kind is None
                    else block.beside.column(column).cast(kind)
                )
                # DuckDB has no float16.
                rows = block.rows.astype(np.float32) if block.rows.dtype == np.float16 else block.rows
                values = arrow.array(rows.reshape(-1))
                lists = arrow.FixedSizeListArray.from_arrays(values, side.dim)
                yield arrow.record_batch({"id": ids, "rows": lists})

    arrow = pyarrow("Pairs by id")
    return _reader(batches())


def _with_ids_alone(part: Reader, column: str) -> Reader:
    """Return the same rows with nothing but their ids beside them, so that nothing else is read."""
    if isinstance(part, TableRows):
        table = part
        return replace(part, scan=lambda _, *which: table.scan([table.column, column], *which))
    return replace(part, beside={column: part.beside[column]}) if isinstance(part, GridRows) else part


def _parts(side: Reader) -> tuple[Reader, ...]:
    return side.parts if isinstance(side, FolderRows) else (side,)


def _reader(batches: Iterator[Any]) -> Any:
    first = next(batches)
    return pyarrow("Pairs by id").RecordBatchReader.from_batches(first.schema, chain([first], batches))
