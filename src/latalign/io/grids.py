"""HDF5 files and Zarr folders: the rows are one 2-D array among others, read by slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Rows
from latalign.io.extras import required
from latalign.io.files import folder_beside, is_remote, named_beside
from latalign.io.protocol import (
    Block,
    Location,
    Reader,
    Shape,
    Writer,
    check_dtype,
    check_shape,
    count_of,
    require_all,
)

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_DEFAULT_NAME = "embedding"
# Whole chunks are read at once, up to this size; a larger one is read for every block anew.
_READ_BYTES = 32 << 20
_CHUNK_BYTES = 8 << 20  # of what is written

Grids = Mapping[str, Any]
"""The arrays of a file by their names."""


@final
@dataclass(frozen=True, slots=True)
class GridRows:
    """A `Reader` of one 2-D array; `Block.beside` is the slices of the others that are as long.

    Attributes
    ----------
    location : Location
    rows, dim : int
    dtype : dtype
    opened : callable
        ``opened()``: a context manager that gives the arrays.
    beside : dict of str to (dtype, tuple of int)
        The arrays with a row for every row: the dtype and the shape of what they hold of each.
    kind : str
        What the format is called.
    """

    location: Location
    rows: int
    dim: int
    dtype: np.dtype[Any]
    opened: Callable[[], AbstractContextManager[Grids]] = field(repr=False)
    beside: Mapping[str, tuple[Any, tuple[int, ...]]]
    kind: str

    @property
    def files(self) -> tuple[Path, ...]:
        """The one file or folder."""
        return (self.location.path,)

    @property
    def name(self) -> str:
        """The name of the array that holds the rows."""
        return self.location.name or ""

    def blocks(
        self, rows: int, start: int = 0, stop: int | None = None, *, beside: bool = True
    ) -> Iterator[Block]:
        """Yield rows in order, at most `rows` at a time, with the arrays that are as long beside."""
        count = count_of(self.location, self.rows, start, stop)
        assert count is not None
        others = self.beside if beside else ()
        with _opened(self.location, self.opened, self.kind) as grids:
            self._require_same(grids)
            step = _step(grids[self.name], rows)
            first = start
            while first < start + count:
                # To the end of a chunk, so that none is read twice.
                last = min(first - first % step + step, start + count)
                whole = {name: self._slice(grids[name], first, last) for name in (self.name, *others)}
                block = np.ascontiguousarray(whole.pop(self.name), self.dtype)
                if len(block) != last - first:
                    raise ValueError(f"{self.location} ended early: another program changed it")
                for low in range(0, len(block), rows):
                    part = slice(low, low + rows)
                    yield Block(block[part], {name: values[part] for name, values in whole.items()} or None)
                first = last

    def load(self) -> Rows:
        """Return all rows in one array."""
        with _opened(self.location, self.opened, self.kind) as grids:
            self._require_same(grids)
            return np.ascontiguousarray(self._slice(grids[self.name], 0, self.rows), self.dtype)

    def ids(self, column: str) -> NDArray[Any]:
        """Return an array of integers or strings that stands beside the rows."""
        with _opened(self.location, self.opened, self.kind) as grids:
            known = column in grids
            found = self._slice(grids[column], 0, self.rows) if known else np.zeros(())
        if not known or column not in self.beside or found.ndim != 1:
            listed = ", ".join(self.beside) or "none"
            raise ValueError(
                f"{self.location.path} has no array {column!r} with an id for every row; as long are: {listed}"
            )
        if found.dtype.kind in "OS":  # HDF5 keeps texts as bytes
            found = np.array([one.decode() if isinstance(one, bytes) else one for one in found], object)
        if found.dtype.kind not in "iuOUT":
            raise ValueError(
                f"{self.location.path}: ids are integers or strings; the array {column!r} is {found.dtype}. "
                "Convert it first."
            )
        return found

    def _require_same(self, grids: Grids) -> None:
        """Raise a ValueError where what is opened once more is not what it was."""
        if not {self.name, *self.beside} <= grids.keys() or grids[self.name].shape != (self.rows, self.dim):
            raise ValueError(
                f"{self.location} was changed by another program since it was opened. Start again."
            )

    def _slice(self, grid: Any, start: int, stop: int) -> NDArray[Any]:
        try:
            return np.asarray(grid[start:stop])
        except (OSError, RuntimeError, ValueError) as error:
            raise ValueError(
                f"{self.location} could not be read from row {start} to {stop}: it is damaged or truncated "
                f"({_reason(error)})"
            ) from error


def read_hdf5(location: Location) -> GridRows:
    """Open an HDF5 file and find its array of rows."""
    return _found(location, partial(_hdf5_grids, location.path), "an HDF5 file")


def read_zarr(location: Location) -> GridRows:
    """Open a Zarr folder, be it one array or a group of them, and find its array of rows."""
    return _found(location, partial(_zarr_grids, location.path), "a Zarr folder")


@contextmanager
def write_hdf5(location: Location, shape: Shape, like: Reader | None) -> Iterator[Writer]:
    """Write an HDF5 file; rows out of such an array keep the arrays beside them."""
    h5py = required("h5py", "hdf5", "HDF5 files")
    with named_beside(location.path) as name, name.open("w+b") as raw:
        disk = _Disk(raw)
        try:
            with closing(h5py.File(disk, "w")) as file:
                writer = GridWriter(file, location, shape, like)
                yield _Told(writer, disk)
                writer.flush()
        finally:
            disk.check()
        require_all(location, writer.written, shape)


@contextmanager
def write_zarr(location: Location, shape: Shape, like: Reader | None) -> Iterator[Writer]:
    """Write a Zarr group; rows out of such an array keep the arrays beside them."""
    from concurrent.futures import ThreadPoolExecutor

    zarr = required("zarr", "zarr", "Zarr folders", having="open")
    with folder_beside(location.path) as name, ThreadPoolExecutor(1) as thread:
        group = thread.submit(zarr.open_group, str(name), mode="w").result()
        writer = GridWriter(group, location, shape, like)
        yield _Awaited(writer, thread)
        thread.submit(writer.flush).result()
        require_all(location, writer.written, shape)


@final
class GridWriter:
    """A `Writer` of arrays that grow, in whole chunks."""

    def __init__(self, group: Any, location: Location, shape: Shape, like: Reader | None) -> None:
        origin = like if isinstance(like, GridRows) else None
        self._group, self._shape = group, shape
        self._name = location.name or (origin.name if origin else None) or _DEFAULT_NAME
        self._others = tuple(origin.beside) if origin else ()
        if self._name in self._others:
            raise ValueError(f"{location.path}: the rows cannot be called {self._name!r}; others are")
        self._chunk = max(1, _CHUNK_BYTES // (shape.dim * shape.dtype.itemsize))
        self._waiting: list[dict[str, NDArray[Any]]] = []
        self._arrays: dict[str, Any] = {}
        self.written = 0

    def append(self, block: Block) -> None:
        """Take the next rows, and what stands beside them."""
        beside = {name: block.beside[name] for name in self._others}
        self._waiting.append({self._name: np.array(block.rows, self._shape.dtype), **beside})
        self.written += len(block.rows)
        waiting = sum(len(part[self._name]) for part in self._waiting)
        if waiting >= self._chunk:
            self._put(waiting - waiting % self._chunk)

    def flush(self) -> None:
        """Write what waits."""
        if self._waiting:
            self._put(sum(len(part[self._name]) for part in self._waiting))

    def _put(self, count: int) -> None:
        """Write so many rows of those that wait."""
        whole = {name: np.concatenate([part[name] for part in self._waiting]) for name in self._waiting[0]}
        self._waiting = [{name: values[count:] for name, values in whole.items()}]
        for name, values in whole.items():
            array = self._arrays.get(name)
            if array is None:
                array = self._arrays[name] = self._made(name, values)
            done = array.shape[0]
            array.resize((done + count, *array.shape[1:]))
            array[done:] = values[:count]

    def _made(self, name: str, values: NDArray[Any]) -> Any:
        chunks = (min(self._chunk, max(self._shape.rows or self._chunk, 1)), *values.shape[1:])
        more: dict[str, Any] = {"maxshape": (None, *values.shape[1:])} if self._is_hdf5() else {}
        dtype: Any = values.dtype
        if dtype.kind == "O":
            dtype = required("h5py", "hdf5", "HDF5 files").string_dtype() if self._is_hdf5() else str
        shape = (0, *values.shape[1:])
        make = self._group.create_dataset if self._is_hdf5() else self._group.create_array
        return make(name, shape=shape, chunks=chunks, dtype=dtype, **more)

    def _is_hdf5(self) -> bool:
        return type(self._group).__module__.startswith("h5py")


@final
class _Disk:
    """A file whose errors are kept until they are asked for: in the midst of HDF5 they end the process."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: Any) -> int:
        """Write, or do as if."""
        return self._kept(self._file.write, data, memoryview(data).nbytes)

    def truncate(self, size: int) -> int:
        """Set the length, or do as if."""
        return self._kept(self._file.truncate, size, size)

    def flush(self) -> None:
        """Send on what is buffered."""
        self._kept(lambda _: self._file.flush(), None, None)

    def check(self) -> None:
        """Raise what went wrong."""
        if self._error is not None:
            raise self._error

    def _kept(self, call: Callable[[Any], Any], argument: Any, result: Any) -> Any:
        if self._error is None:
            try:
                return call(argument)
            except OSError as error:
                self._error = error
        return result


@final
class _Told:
    """A writer that tells what went wrong with the disk."""

    def __init__(self, writer: GridWriter, disk: _Disk) -> None:
        self._writer, self._disk = writer, disk

    def append(self, block: Block) -> None:
        """Take the next rows."""
        self._writer.append(block)
        self._disk.check()


@final
class _Awaited:
    """A writer in a thread that is waited for when it is left.

    Zarr works in threads of its own. A signal would end our wait for them and not their work, which would
    go on in a folder that is being removed.
    """

    def __init__(self, writer: GridWriter, thread: ThreadPoolExecutor) -> None:
        self._writer, self._thread = writer, thread

    def append(self, block: Block) -> None:
        """Take the next rows."""
        self._thread.submit(self._writer.append, block).result()


def _found(location: Location, opened: Callable[[], AbstractContextManager[Grids]], kind: str) -> GridRows:
    with _opened(location, opened, kind) as grids:
        about = {name: (tuple(grid.shape), grid.dtype) for name, grid in grids.items()}
    name = _only(location, about)
    where = Location(location.path, name or None)
    shape, dtype = about[name]
    check_dtype(where, dtype)
    check_shape(where, shape)
    others = {
        other: (kind_, its[1:])
        for other, (its, kind_) in about.items()
        if other != name and its[:1] == shape[:1]
    }
    return GridRows(where, shape[0], shape[1], np.dtype(dtype).newbyteorder("="), opened, others, kind)


@contextmanager
def _opened(
    location: Location, opened: Callable[[], AbstractContextManager[Grids]], kind: str
) -> Iterator[Grids]:
    """Open the arrays, and say what is wrong with the file in our words."""
    with ExitStack() as open_:
        try:
            grids = open_.enter_context(opened())
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise ValueError(f"{location} is not {kind}, or it is truncated ({_reason(error)})") from error
        yield grids


def _only(location: Location, about: Mapping[str, tuple[tuple[int, ...], Any]]) -> str:
    listed = ", ".join(f"{name} {list(shape)}" for name, (shape, _) in sorted(about.items())) or "none"
    if location.name is not None:
        name = location.name.strip("/")
        if name not in about:
            raise ValueError(f"{location.path} has no array {location.name!r}; it has: {listed}")
        return name
    if set(about) == {""}:
        return ""
    rows = [name for name, (shape, _) in about.items() if len(shape) == 2]
    if len(rows) != 1:
        raise ValueError(
            f"{location} needs one 2-D array of rows; it has: {listed}. Name one: {location.path.name}:NAME"
        )
    return rows[0]


def _step(grid: Any, rows: int) -> int:
    """Return how many rows are read at once: whole chunks, where they are not too large."""
    chunk = (getattr(grid, "chunks", None) or (1,))[0]
    size = chunk * grid.shape[1] * grid.dtype.itemsize
    return -(-rows // chunk) * chunk if size <= _READ_BYTES else rows


# Functions of the module, not of a call: a reader goes to other processes.
@contextmanager
def _hdf5_grids(path: Any) -> Iterator[Grids]:
    """Open the arrays of an HDF5 file, by their names."""
    h5py = required("h5py", "hdf5", "HDF5 files")
    with h5py.File(path, "r") as file:
        found: dict[str, Any] = {}
        file.visititems(
            lambda name, item: found.__setitem__(name, item) if isinstance(item, h5py.Dataset) else None
        )
        yield found


def _zarr_grids(path: Any) -> AbstractContextManager[Grids]:
    """Open the arrays of a Zarr folder, by their names; of one that is an array itself by none."""
    zarr = required("zarr", "zarr", "Zarr folders", having="open")
    root = zarr.open(_store(path), mode="r")
    if isinstance(root, zarr.Array):
        return nullcontext({"": root})
    members = root.members(max_depth=None)
    return nullcontext({name: item for name, item in members if isinstance(item, zarr.Array)})


def _store(path: Any) -> Any:
    return f"{path.protocol}://{path.path.lstrip('/')}" if is_remote(path) else str(path)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
