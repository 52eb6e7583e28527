"""A map applied to a file of any size, block by block."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, final

import numpy as np
from threadpoolctl import threadpool_limits

from latalign._rowsum import AnyPrecision
from latalign._validation import Array, Rows
from latalign.io.ahead import ahead, behind
from latalign.io.arrays import Source, holds_columns, locate, open_rows, write_rows
from latalign.io.files import is_remote
from latalign.io.mapfile import read_header
from latalign.io.protocol import Block, Location, Reader, Shape, Writer
from latalign.io.stamps import reading, unchanged
from latalign.local_map import LocalMap
from latalign.maps import AffineMap, BlockMap
from latalign.pairing import require_finite_block, require_finite_rows
from latalign.relative import RelativeMap
from latalign.stitching import StitchingMap

# Where there are more to be mapped at once, this share keeps a device busy.
_SHARE = 4


class MapPlace(Protocol):
    """Where rows are mapped, other than here: `latalign.torch.Place`."""

    @property
    def device(self) -> object:
        """What it is called."""
        ...

    def rows_at_once(self, dims: tuple[int, int], precision: AnyPrecision) -> int | None:
        """Return how many rows are multiplied at once when they are summed."""
        ...

    def applied(
        self, map_: BlockMap, blocks: Iterable[Block], like: Rows, rows: int
    ) -> Generator[tuple[Block, Rows]]:
        """Yield every block with what its rows are mapped to, which lasts until the one after the next."""
        ...


AnyFile = str | PathLike[str] | Location
AnyMap = AffineMap | StitchingMap | RelativeMap | LocalMap
"""The maps that have files."""

# The larger of a block's two sides stays near this many values: 4 MiB of float32, within a cache.
_BLOCK_VALUES = 1 << 20
_COLUMN = "uncertainty"


@final
@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply_file` or `apply_folder` wrote.

    Attributes
    ----------
    output : str
    rows : int
    dim_source, dim_target : int
    dtype : str
    parts : int
        The files it is made of.
    uncertainty : str or None
        Where the uncertainty of the rows stands: the column or the file.
    """

    output: str
    rows: int
    dim_source: int
    dim_target: int
    dtype: str
    parts: int = 1
    uncertainty: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; `uncertainty` is there only where it was asked for."""
        record = asdict(self)
        if self.uncertainty is None:
            del record["uncertainty"]
        return record


def load_map(path: str | PathLike[str]) -> AnyMap:
    """Read a map from its file, of whichever kind it is.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a map file, of an unknown version or kind, truncated, or inconsistent.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from latalign import AffineMap
    >>> from latalign.on_disk import load_map
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     AffineMap.of([[2.0]]).save(Path(folder, "map.safetensors"))
    ...     load_map(Path(folder, "map.safetensors")).matrix
    array([[2.]])
    """
    kinds: dict[str, Callable[[str | PathLike[str]], AnyMap]] = {
        "affine": AffineMap.load,
        "stitching": StitchingMap.load,
        "relative": RelativeMap.load,
        "local": LocalMap.load,
    }
    return kinds[read_header(path).kind](path)


def apply_file(
    map_: BlockMap,
    input: Source,
    output: AnyFile,
    *,
    batch_rows: int | None = None,
    level: float | None = None,
    threads: int | None = None,
    progress: Callable[[int, int | None], object] | None = None,
    place: MapPlace | None = None,
) -> Applied:
    """Map the rows of one file into another, block by block: memory does not grow with the rows.

    Parameters
    ----------
    map_ : AffineMap, StitchingMap, RelativeMap or LocalMap
    input, output : path
        Files of any format, each by its suffix; the input may also be a folder, a pattern or an Arrow
        stream (see `latalign.io.arrays.open_rows`). From a table to a table (Parquet, Arrow, Lance) the
        other columns go along and the column keeps its type; so do the arrays beside the rows from HDF5
        or Zarr to either. The rows keep their dtype (integers become float64).
    batch_rows : int, optional
        The rows of a block; as many as make 4 MiB of float32 unless given.
    threads : int, optional
        How many threads there may be; as many as there are processors unless given.
    place : Place, optional
        Where the rows are multiplied: by NumPy unless given, on a GPU with ``latalign.torch.Place("cuda")``,
        which takes an `AffineMap`.
    level : float, optional
        If given, also write the distance from each mapped row within which its true place lies with
        that probability (`Uncertainty.radius`), float64: as a column ``uncertainty`` of a table (Parquet,
        Arrow, Lance), and for other formats as a file of shape (rows, 1) beside the output,
        ``name.uncertainty.npy``. That file gets its name right after the output got its own: when it is
        there, so is the output, and what ends the program between the two leaves the output alone.
    progress : callable, optional
        Called after every block with the number of rows that are done, and of all rows or None.

    Returns
    -------
    Applied

    Raises
    ------
    FileNotFoundError
        If there is no input, or no folder for the output.
    OSError
        If the output cannot be written, as on a full disk, or the input not be read.
    TypeError
        If a `place` does not take such a map.
    ValueError
        If the input is not sound, not as wide as the map takes, not finite, or the output is the input; or
        a `level` is given and the map does not know its uncertainty, or not for that level. Whatever is
        raised, no output is left and an older one stays as it was.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from latalign import AffineMap
    >>> from latalign.on_disk import apply_file
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     old, new = Path(folder, "old.npy"), Path(folder, "new.npy")
    ...     np.save(old, np.ones((3, 2), np.float32))
    ...     done = apply_file(AffineMap.of(np.eye(2), [1, 2]), old, new)
    ...     done.rows, np.load(new)[0]
    (3, array([2., 3.], dtype=float32))
    """
    require_batch(batch_rows)
    goal = locate(output)
    beside = None if level is None or holds_columns(goal) else _beside(goal)
    radius = None if level is None else _radius(map_, level)
    column = None if radius is None or beside is not None else _COLUMN
    reader = open_rows(input)
    for path in [goal.path] if beside is None else [goal.path, beside.path]:
        refuse_same_file(path, [*reader.files, reader.location.path])
    require_width(map_, reader)
    shape = Shape(reader.rows, map_.dim_target, float_of(reader), column)
    with ExitStack() as open_:
        open_.enter_context(limited(threads))
        second = None
        if beside is not None:  # entered first and left last: it gets its name when the rows have theirs
            second = open_.enter_context(write_rows(beside, Shape(reader.rows, 1, np.dtype(np.float64))))
        writer = open_.enter_context(write_rows(goal, shape, reader))
        options: dict[str, Any] = {
            "batch_rows": batch_rows,
            "threads": threads,
            "progress": progress,
            "place": place,
        }
        done = map_rows(map_, reader, writer, radius=radius, second=second, **options)
    where = None if level is None else f"{goal.path}:{_COLUMN}" if beside is None else str(beside)
    sizes = done, map_.dim_source, map_.dim_target
    return Applied(str(goal), *sizes, str(float_of(reader)), uncertainty=where)


def map_rows(
    map_: BlockMap,
    reader: Reader,
    writer: Writer,
    start: int = 0,
    stop: int | None = None,
    *,
    batch_rows: int | None = None,
    threads: int | None = None,
    progress: Callable[[int, int | None], object] | None = None,
    radius: Callable[[Rows], Array] | None = None,
    second: Writer | None = None,
    place: MapPlace | None = None,
) -> int:
    """Map the rows from `start` to before `stop` and append them, and return how many they were.

    What `radius` makes of the rows goes into a column beside the mapped ones, or to a `second` writer.

    Raises
    ------
    ValueError
        If values are not finite, overflow, or a file was changed meanwhile.
    """
    rows = block_rows(map_, batch_rows, place)
    most = rows if reader.rows is None else min(rows, reader.rows)
    done = 0

    def write(block: Block) -> None:
        if second is None:
            writer.append(block)
            return
        writer.append(Block(block.rows, block.beside))
        assert block.column is not None  # a second writer is there for it
        second.append(Block(block.column[:, None]))

    with unchanged(reader.files), behind(write, threads) as append:
        blocks = ahead(_read(reader, rows, start, stop, radius), threads)
        if place is None:
            found = _mapped(map_, blocks, float_of(reader), most)
        else:
            found = place.applied(map_, blocks, np.empty((0, reader.dim), reader.dtype), most)
        try:
            with closing(found):
                for block, out in found:
                    append(Block(out, block.beside, block.column))
                    done += len(out)
                    if progress is not None:
                        progress(done, reader.rows)
        except NotMapped:
            if reader.rows is not None:
                with reading(reader.location):
                    require_finite_rows(reader)  # counts the bad rows of all blocks
            raise
    return done


class NotMapped(ValueError):
    """Rows that are not finite, or not when they are mapped."""


def _read(
    reader: Reader, rows: int, start: int, stop: int | None, radius: Callable[[Rows], Array] | None
) -> Iterator[Block]:
    """Yield the rows of a source, and how far off they may be; what is wrong is not blamed on the output."""
    done = start
    with reading(reader.location):
        for block in reader.blocks(rows, start, stop):
            if reader.rows is None:  # a stream cannot be read again to count the bad rows
                require_finite_block(reader, block.rows, done)
            done += len(block.rows)
            if radius is not None:
                try:
                    block = Block(block.rows, block.beside, radius(block.rows))
                except ValueError as error:
                    raise NotMapped(str(error)) from error
            yield block


def _mapped(
    map_: BlockMap, blocks: Iterable[Block], dtype: np.dtype[Any], rows: int
) -> Generator[tuple[Block, Rows]]:
    """Yield every block with what its rows are mapped to, which lasts until the one after the next."""
    run = map_.kernel(dtype)
    buffers = [np.empty((rows, map_.dim_target), dtype) for _ in range(2)]  # one of them is being written
    for number, block in enumerate(blocks):
        out = buffers[number % 2][: len(block.rows)]
        try:
            run(block.rows, out)
        except ValueError as error:
            raise NotMapped(str(error)) from error
        yield block, out


def require_batch(batch_rows: int | None) -> None:
    """Raise a ValueError for blocks of no rows."""
    if batch_rows is not None and batch_rows < 1:
        raise ValueError(f"apply_file needs blocks of at least one row; got batch_rows={batch_rows}")


def require_width(map_: BlockMap, reader: Reader) -> None:
    """Raise a ValueError where a map does not take the rows of a source."""
    if reader.dim != map_.dim_source:
        raise ValueError(
            f"{reader.location} has rows of {reader.dim} dimensions; the map takes {map_.dim_source}. "
            "Give rows of the space that the map starts from."
        )


def block_rows(map_: BlockMap, batch_rows: int | None, place: MapPlace | None = None) -> int:
    """Return how many rows are mapped at once."""
    dims = map_.dim_source, map_.dim_target
    there = 0 if place is None else (place.rows_at_once(dims, "fast") or 0) // _SHARE
    return batch_rows or max(1, _BLOCK_VALUES // max(dims), there)


def float_of(reader: Reader) -> np.dtype[Any]:
    """Return the dtype of the mapped rows: that of the rows, float64 for integers."""
    return reader.dtype if reader.dtype.kind == "f" else np.dtype(np.float64)


def limited(threads: int | None) -> AbstractContextManager[Any]:
    """Let the libraries of linear algebra have so many threads and no more; None leaves them as they are."""
    return nullcontext() if threads is None else threadpool_limits(threads)


def _beside(output: Location) -> Location:
    """Return the file beside an output that holds the uncertainty of its rows."""
    return Location(output.path.with_name(f"{output.path.stem}.{_COLUMN}.npy"))


def _radius(map_: BlockMap, level: float) -> Callable[[Rows], Array]:
    """Return the function from rows, before they are mapped, to how far off they may be."""
    uncertainty = map_.uncertainty if isinstance(map_, AffineMap) else None
    if uncertainty is None:
        raise ValueError(
            "the map does not know how far off its rows may be. Fit it with latalign fit --uncertainty, or give "
            "it to latalign.calibrate with its anchors and save it again."
        )
    quantile = uncertainty.quantile(level)
    return lambda rows: uncertainty.scales(rows) * quantile


def refuse_same_file(output: str | PathLike[str], inputs: Sequence[str | PathLike[str]]) -> None:
    """Raise a ValueError if the output is one of the inputs, by whatever name or link."""
    for path in inputs:
        if is_remote(output) or is_remote(path):
            same = str(output) == str(path)
        else:
            same = Path(output).exists() and Path(path).exists() and Path(output).samefile(path)
        if same:
            raise ValueError(f"the output {output} is the input {path}. Name another file.")
