"""Lance datasets: folders of which the rows are one column of lists of floats."""

from __future__ import annotations

import os
import re
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
    scan = _Scan(location, dataset.version)
    return opened(location, (location.path,), dataset.count_rows(), dataset.schema, scan, _KIND)


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
            with _told():
                self._lance.write_dataset(table, self._folder, mode=mode)
            self._waiting, self._started = [], True


@final
@dataclass(frozen=True, slots=True)
class _Scan:
    """Record batches of the version that was opened, whatever was written since."""

    location: Location
    version: int

    def __call__(self, columns: list[str] | None, rows: int, start: int, stop: int | None) -> Iterator[Any]:
        dataset = _dataset(self.location, self.version)
        limit = None if stop is None else stop - start
        with _told():
            scanner = dataset.scanner(
                columns, offset=start, limit=limit, batch_size=rows, scan_in_order=True, batch_readahead=1
            )
            yield from scanner.to_batches()


def _dataset(location: Location, version: int | None = None) -> Any:
    lance = _lance()
    path: Any = location.path
    address = f"{path.protocol}://{path.path}" if is_remote(path) else str(path)
    try:
        with _told():
            return lance.dataset(address, version=version)
    except (ValueError, OSError) as error:
        raise foreign(location, _KIND, error) from error


@contextmanager
def _told() -> Iterator[None]:
    """Say what went wrong as the system does: the library, which is Rust's, hides its number, or panics."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise OSError(f"the library gave up: {error}") from error
        if isinstance(error, OSError) and (number := re.search(r"\(os error (\d+)\)", str(error))):
            raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
        raise


def _lance() -> Any:
    required("pyarrow", "lance", "Lance datasets")
    return required("lance", "lance", "Lance datasets", having="dataset")
