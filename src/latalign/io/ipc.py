"""Arrow's own files, mapped; and the folders of Hugging Face `datasets`, which are made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from latalign.io.extras import pyarrow, required
from latalign.io.files import is_remote, written_beside
from latalign.io.protocol import Block, Location, Reader, Shape, require_all
from latalign.io.tables import TableLayout, TableRows, cut, foreign, opened, require_column

_KIND = "an Arrow file"
_MAGIC, _END = b"ARROW1", b"\xff\xff\xff\xff\x00\x00\x00\x00"
# What tells a folder that `Dataset.save_to_disk` wrote.
STATE = "state.json"
_SPLITS = "dataset_dict.json"


def read(location: Location) -> TableRows:
    """Open an Arrow file (of either form, with or without a footer) and find its column of rows."""
    return _opened(location, (location.path,), _KIND)


def read_dataset(location: Location) -> TableRows:
    """Open a folder that `datasets` saved, by the Arrow files that it lists."""
    folder, kind = location.path, "a folder of Hugging Face datasets"
    if not (folder / STATE).is_file():
        splits = json.loads((folder / _SPLITS).read_text()).get("splits", [])
        raise ValueError(
            f"{folder} holds several datasets. Name one of them: "
            + ", ".join(str(folder / name) for name in splits)
        )
    try:
        state = json.loads((folder / STATE).read_text())
        files = tuple(folder / Path(entry["filename"]).name for entry in state["_data_files"])
        chosen = state.get("_indices_files") or state.get("_indices_data_files")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder} is not {kind}, or its {STATE} is not whole ({error})") from error
    if chosen:
        raise ValueError(
            f"{folder} keeps its rows in another order than its files. Save it again after "
            "dataset.flatten_indices()."
        )
    if missing := [path.name for path in files if not path.is_file()]:
        raise ValueError(f"{folder} is not whole: {missing[0]} is missing, which its {STATE} lists")
    if not files:
        raise ValueError(f"{folder} is empty: it lists no files")
    return _opened(location, files, kind)


def column_of(location: Location, column: str) -> Any:
    """Return a column of any type, whole, as Arrow has it."""
    arrow = pyarrow("Arrow files")
    try:
        with _source(location.path) as source:
            schema = _reader(source).schema
        require_column(schema, column, location.path)
        return arrow.Table.from_batches(list(_batches(location.path)), schema).column(column)
    except (arrow.ArrowException, OSError) as error:
        raise foreign(location, _KIND, error) from error


def is_dataset(folder: Path) -> bool:
    """Tell whether a folder is one that `datasets` saved."""
    return (folder / STATE).is_file() or (folder / _SPLITS).is_file()


@contextmanager
def write(location: Location, shape: Shape, like: Reader | None) -> Iterator[IpcWriter]:
    """Write an Arrow file; rows out of a table keep their other columns and their column's type."""
    ipc = _ipc()
    layout = TableLayout(location, shape, like)
    with written_beside(location.path) as file:
        with ipc.new_file(file, layout.schema) as into:
            writer = IpcWriter(into, layout)
            yield writer
        require_all(location, writer.written, shape)


@final
class IpcWriter:
    """A `Writer` of record batches."""

    def __init__(self, into: Any, layout: TableLayout) -> None:
        self._into, self._layout = into, layout
        self.written = 0

    def append(self, block: Block) -> None:
        """Write the next rows, and the other columns that stand beside them."""
        self._into.write_batch(self._layout.batch(block))
        self.written += len(block.rows)


@final
@dataclass(frozen=True, slots=True)
class _Scan:
    """Record batches of several files, mapped: of what is passed over only the headers are read."""

    files: tuple[Path, ...]

    def __call__(self, columns: list[str] | None, rows: int, start: int, stop: int | None) -> Iterator[Any]:
        batches = (batch for path in self.files for batch in _batches(path))
        for batch in cut(batches, start, stop):
            yield batch if columns is None else batch.select(columns)


def _opened(location: Location, files: tuple[Path, ...], kind: str) -> TableRows:
    arrow = pyarrow("Arrow files")
    schema, rows = None, 0
    try:
        for path in files:
            with _source(path) as source:
                reader = _reader(source)
                if schema is not None and not schema.equals(reader.schema):
                    raise ValueError(f"{path} has other columns than {files[0]}: {reader.schema.names}")
                schema = reader.schema if schema is None else schema
            rows += sum(len(batch) for batch in _batches(path))
    except (arrow.ArrowException, OSError) as error:
        raise foreign(location, kind, error) from error
    return opened(location, files, rows, schema, _Scan(files), kind)


def _batches(path: Path) -> Iterator[Any]:
    """Yield the record batches of a file, none of them copied."""
    with _source(path) as source:
        reader, size = _reader(source), source.size()
        count = getattr(reader, "num_record_batches", None)
        number = 0
        while count is None or number < count:
            # A mapped file that became shorter would end the process, not the reading.
            if not is_remote(path) and os.stat(path).st_size < size:
                raise ValueError(f"{path} ended early: another program changed it while it was read")
            try:
                batch = reader.read_next_batch() if count is None else reader.get_batch(number)
            except StopIteration:
                return
            yield batch
            number += 1


def _reader(source: Any) -> Any:
    """Return the reader of a file with a footer, or of a stream that was saved as a file."""
    ipc = _ipc()
    head = source.read(len(_MAGIC))
    if head != _MAGIC and source.size() > len(_END):
        source.seek(source.size() - len(_END))
        if source.read() != _END:  # cut between two batches it would seem to be whole
            raise pyarrow("Arrow files").ArrowInvalid("it has no end")
    source.seek(0)
    return ipc.open_file(source) if head == _MAGIC else ipc.open_stream(source)


def _source(path: Path) -> Any:
    arrow = pyarrow("Arrow files")
    if is_remote(path):
        return arrow.PythonFile(path.fs.open(path.path, "rb"), mode="r")  # pyright: ignore[reportAttributeAccessIssue]
    return arrow.memory_map(str(path))


def _ipc() -> Any:
    pyarrow("Arrow files")
    return required("pyarrow.ipc", "arrow", "Arrow files")
