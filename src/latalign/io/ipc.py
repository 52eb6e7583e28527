"""Arrow's own files, batch by batch; and the folders of Hugging Face `datasets`, which are made of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from latalign.io.arrow_messages import MAGIC, Message, record_batches
from latalign.io.extras import pyarrow, required
from latalign.io.files import is_remote, written_beside
from latalign.io.protocol import Block, Location, Reader, Shape, require_all
from latalign.io.tables import TableLayout, TableRows, foreign, opened, require_column

_KIND = "an Arrow file"
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
# A record batch is read as a whole; one that is larger, and not compressed, is mapped instead.
_READ_BYTES = 64 << 20
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
            return _reader(source, [column]).read_all().column(column)
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
    """Record batches of several files: of what is passed over only the heads are read."""

    files: tuple[Path, ...]
    counts: tuple[int, ...]  # the rows of each

    def __call__(self, columns: list[str] | None, rows: int, start: int, stop: int | None) -> Iterator[Any]:
        for path, count in zip(self.files, self.counts, strict=True):
            if start < count and (stop is None or stop > 0):
                yield from _batches(path, columns, rows, max(start, 0), stop)
            start, stop = start - count, None if stop is None else stop - count


def _opened(location: Location, files: tuple[Path, ...], kind: str) -> TableRows:
    arrow = pyarrow("Arrow files")
    schema, counts = None, []
    for path in files:
        try:
            with _source(path) as source:
                reader = _reader(source)
                if schema is None:
                    schema = reader.schema
                elif not schema.equals(reader.schema):
                    raise ValueError(f"{path} has other columns than {files[0]}: {reader.schema.names}")
                counts.append(sum(batch.rows for batch in record_batches(source)))
        except (arrow.ArrowException, OSError) as error:
            raise foreign(location, kind, error) from error
    return opened(location, files, sum(counts), schema, _Scan(files, tuple(counts)), kind)


def _batches(
    path: Path, columns: list[str] | None, rows: int, start: int = 0, stop: int | None = None
) -> Iterator[Any]:
    """Yield what lies between two rows of a file; large batches in parts of so many rows."""
    with ExitStack() as open_:
        heads = record_batches(open_.enter_context(_source(path)))
        source = open_.enter_context(_source(path))
        reader, mapped = _reader(source, columns), None
        first = 0
        for number, head in enumerate(heads):
            if stop is not None and first >= stop:
                return
            low, high = max(start - first, 0), head.rows if stop is None else min(stop - first, head.rows)
            first += head.rows
            # Without a footer the dictionaries are told one after another, between the batches.
            whole = head.dictionaries and not hasattr(reader, "get_batch")
            if low >= high:
                if whole:
                    _batch(reader, source, number, head)
            elif is_remote(path) or head.size <= _READ_BYTES or head.compressed or whole:
                yield _batch(reader, source, number, head).slice(low, high - low)
            else:
                if mapped is None:
                    mapped = open_.enter_context(pyarrow("Arrow files").memory_map(str(path)))
                large = _batch(_reader(mapped, columns), mapped, number, head)
                for begin in range(low, high, rows):
                    _require_length(path, mapped.size())
                    yield large.slice(begin, min(rows, high - begin))


def _batch(reader: Any, source: Any, number: int, head: Message) -> Any:
    """Return a record batch, of a file with a footer by its number, of another by its place."""
    if hasattr(reader, "get_batch"):
        found = reader.get_batch(number)
    else:
        source.seek(head.start)
        found = reader.read_next_batch()
    found.validate()  # a damaged head would end the process when it is sliced
    return found


def _require_length(path: Path, size: int) -> None:
    """Raise a ValueError where a mapped file became shorter: it would end the process, not the reading."""
    if os.stat(path).st_size < size:
        raise ValueError(f"{path} ended early: another program changed it while it was read")


def _reader(source: Any, columns: list[str] | None = None) -> Any:
    """Return the reader of a file with a footer, or of a stream that was saved as a file."""
    ipc = _ipc()
    source.seek(0)
    head = source.read(len(MAGIC))
    if head != MAGIC and source.size() > len(_END):
        source.seek(source.size() - len(_END))
        if source.read() != _END:  # cut between two batches it would seem to be whole
            raise pyarrow("Arrow files").ArrowInvalid("it has no end")
    source.seek(0)
    read = ipc.open_file if head == MAGIC else ipc.open_stream
    found = read(source)
    if columns is None:
        return found
    fields = [found.schema.get_field_index(column) for column in columns]
    source.seek(0)
    return read(source, options=ipc.IpcReadOptions(included_fields=fields))


def _source(path: Path) -> Any:
    arrow = pyarrow("Arrow files")
    if is_remote(path):
        return arrow.PythonFile(path.fs.open(path.path, "rb"), mode="r")  # pyright: ignore[reportAttributeAccessIssue]
    return arrow.OSFile(str(path))


def _ipc() -> Any:
    pyarrow("Arrow files")
    return required("pyarrow.ipc", "arrow", "Arrow files")
