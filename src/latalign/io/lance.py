"""Lance datasets: folders of which the rows are one column of lists of floats."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from latalign.io.extras import required
from latalign.io.files import folder_beside, is_remote
from latalign.io.protocol import Block, Location, Reader, Shape, require_all
from latalign.io.tables import TableLayout, TableRows, foreign, opened

_FRAGMENT_BYTES = 64 << 20
_KIND = "a Lance dataset"


def read(location: Location) -> TableRows:
    """Open a Lance dataset and find its column of rows."""
    dataset = _dataset(location)
    return opened(location, (location.path,), dataset.count_rows(), dataset.schema, _Scan(location), _KIND)


@contextmanager
def write(location: Location, shape: Shape, like: Reader | None) -> Iterator[LanceWriter]:
    """Write a Lance dataset; rows out of a table keep their other columns and their column's type."""
    lance = _lance()
    layout = TableLayout(location, shape, like)
    with folder_beside(location.path) as folder:
        writer = LanceWriter(lance, str(folder), layout)
        yield writer
        writer.flush()
        require_all(location, writer.written, shape)


@final
class LanceWriter:
    """A `Writer` of fragments."""

    def __init__(self, lance: Any, folder: str, layout: TableLayout) -> None:
        self._lance, self._folder, self._layout = lance, folder, layout
        self._waiting: list[Any] = []
        self._started = False
        self.written = 0

    def append(self, block: Block) -> None:
        """Take the next rows, and the other columns that stand beside them."""
        self._waiting.append(self._layout.batch(block))
        self.written += len(block.rows)
        if sum(batch.nbytes for batch in self._waiting) >= _FRAGMENT_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one fragment."""
        if self._waiting:
            table = required("pyarrow", "lance", "Lance datasets").Table.from_batches(self._waiting)
            mode = "append" if self._started else "create"
            self._lance.write_dataset(table, self._folder, mode=mode)
            self._waiting, self._started = [], True


@final
@dataclass(frozen=True, slots=True)
class _Scan:
    location: Location

    def __call__(self, columns: list[str] | None, rows: int, start: int, stop: int | None) -> Iterator[Any]:
        dataset = _dataset(self.location)
        limit = None if stop is None else stop - start
        with _panics_told():
            scanner = dataset.scanner(
                columns, offset=start, limit=limit, batch_size=rows, scan_in_order=True, batch_readahead=1
            )
            yield from scanner.to_batches()


def _dataset(location: Location) -> Any:
    lance = _lance()
    path: Any = location.path
    try:
        with _panics_told():
            return lance.dataset(f"{path.protocol}://{path.path}" if is_remote(path) else str(path))
    except (ValueError, OSError) as error:
        raise foreign(location, _KIND, error) from error


@contextmanager
def _panics_told() -> Iterator[None]:
    """Raise an OSError where the library, which is Rust's, panics: over damaged files it does."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise OSError(f"the library gave up: {error}") from error


def _lance() -> Any:
    required("pyarrow", "lance", "Lance datasets")
    return required("lance", "lance", "Lance datasets", having="dataset")
