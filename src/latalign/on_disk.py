"""Rows on disk: pairs read out of two files, and a map applied to a file of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from latalign._validation import Array, Rows, require_finite
from latalign.anchors import pair_by_id
from latalign.io.arrays import holds_columns, locate, open_rows, write_rows
from latalign.io.mapfile import read_header
from latalign.io.protocol import Block, Location, Reader, Shape
from latalign.maps import AffineMap, BlockMap
from latalign.relative import RelativeMap
from latalign.stitching import StitchingMap

AnyFile = str | PathLike[str] | Location
AnyMap = AffineMap | StitchingMap | RelativeMap
"""The maps that have files."""

# The larger of a block's two sides stays near this many values: 4 MiB of float32, within a cache.
_BLOCK_VALUES = 1 << 20
_COLUMN = "uncertainty"


@final
@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply_file` wrote.

    Attributes
    ----------
    output : str
    rows : int
    dim_source, dim_target : int
    dtype : str
    uncertainty : str or None
        Where the uncertainty of the rows stands: the column or the file.
    """

    output: str
    rows: int
    dim_source: int
    dim_target: int
    dtype: str
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
    kinds = {"affine": AffineMap.load, "stitching": StitchingMap.load, "relative": RelativeMap.load}
    return kinds[read_header(path).kind](path)


def read_pairs(
    source: AnyFile,
    target: AnyFile,
    *,
    id_column: str | None = None,
    unmatched: Literal["error", "drop"] = "error",
) -> tuple[Rows, Rows]:
    """Return the rows of two files that correspond, by their order or by an id.

    Parameters
    ----------
    source, target : path
        `.npy`, `.safetensors` or `.parquet`; see `latalign.io.arrays.open_rows`. Rows of the first two
        are mapped from the file, not copied.
    id_column : str, optional
        The column of both Parquet files that says which rows are the same thing. By order unless given.
    unmatched : {"error", "drop"}
        What becomes of ids that only one side has.

    Returns
    -------
    X : array of shape (n, dim_source)
    Y : array of shape (n, dim_target)

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is not sound or holds no rows, values are not finite (counted, with the first row of
        the file), the numbers of rows differ, or ids are missing, duplicate or unmatched.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from latalign.on_disk import read_pairs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "old.npy"), np.ones((3, 2)))
    ...     np.save(Path(folder, "new.npy"), np.ones((3, 4)))
    ...     X, Y = read_pairs(Path(folder, "old.npy"), Path(folder, "new.npy"))
    >>> X.shape, Y.shape
    ((3, 2), (3, 4))
    """
    readers = open_rows(source), open_rows(target)
    if id_column is None:
        if readers[0].rows != readers[1].rows:
            raise ValueError(
                f"{readers[0].location} has {readers[0].rows} rows and {readers[1].location} has "
                f"{readers[1].rows}, so they do not pair by order. Give files of the same rows, or pair "
                "Parquet files by a column of ids (id_column, --id-column)."
            )
        return _loaded(readers[0]), _loaded(readers[1])
    ids = [reader.ids(id_column) for reader in readers]
    source_rows, target_rows = pair_by_id(ids[0], ids[1], unmatched=unmatched)
    return _loaded(readers[0])[source_rows], _loaded(readers[1])[target_rows]


def apply_file(
    map_: BlockMap,
    input: AnyFile,
    output: AnyFile,
    *,
    batch_rows: int | None = None,
    level: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Applied:
    """Map the rows of one file into another, block by block: memory does not grow with the rows.

    Parameters
    ----------
    map_ : AffineMap, StitchingMap or RelativeMap
    input, output : path
        `.npy`, `.safetensors` or `.parquet`, each by its suffix. From Parquet to Parquet the other
        columns go along and the column keeps its type. The rows keep their dtype (integers become
        float64).
    batch_rows : int, optional
        The rows of a block; as many as make 4 MiB of float32 unless given.
    level : float, optional
        If given, also write the distance from each mapped row within which its true place lies with
        that probability (`Uncertainty.radius`), float64: as a column ``uncertainty`` of a Parquet file,
        and for other formats as a file of shape (rows, 1) beside the output, ``name.uncertainty.npy``.
    progress : callable, optional
        Called after every block with the number of rows that are done, and of all rows.

    Returns
    -------
    Applied

    Raises
    ------
    FileNotFoundError
        If there is no input, or no folder for the output.
    OSError
        If the output cannot be written, as on a full disk.
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
    if batch_rows is not None and batch_rows < 1:
        raise ValueError(f"apply_file needs blocks of at least one row; got batch_rows={batch_rows}")
    goal = locate(output)
    beside = None if level is None or holds_columns(goal) else _beside(goal)
    for path in [goal.path] if beside is None else [goal.path, beside.path]:
        refuse_same_file(path, [locate(input).path])
    radius = None if level is None else _radius(map_, level)
    reader = open_rows(input)
    if reader.dim != map_.dim_source:
        raise ValueError(
            f"{reader.location} has rows of {reader.dim} dimensions; the map takes {map_.dim_source}. "
            "Give rows of the space that the map starts from."
        )
    count = batch_rows or max(1, _BLOCK_VALUES // max(map_.dim_source, map_.dim_target))
    dtype = reader.dtype if reader.dtype.kind == "f" else np.dtype(np.float64)
    run = map_.kernel(dtype)
    mapped = np.empty((min(count, reader.rows), map_.dim_target), dtype)
    column = _COLUMN if radius is not None and beside is None else None
    done = 0
    with ExitStack() as files:
        writer = files.enter_context(
            write_rows(goal, Shape(reader.rows, map_.dim_target, dtype, column), reader)
        )
        second = None
        if beside is not None:
            second = files.enter_context(write_rows(beside, Shape(reader.rows, 1, np.dtype(np.float64))))
        for block in reader.blocks(count):
            out = mapped[: len(block.rows)]
            try:
                run(block.rows, out)
            except ValueError:
                _require_finite_file(reader, count)
                raise
            away = None if radius is None else radius(block.rows)
            writer.append(Block(out, block.beside, away if second is None else None))
            if second is not None and away is not None:
                second.append(Block(away[:, None]))
            done += len(out)
            if progress is not None:
                progress(done, reader.rows)
    where = None if level is None else f"{goal.path}:{_COLUMN}" if beside is None else str(beside)
    return Applied(str(goal), done, map_.dim_source, map_.dim_target, str(dtype), where)


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
    if not Path(output).exists():
        return
    for path in inputs:
        if Path(path).exists() and Path(output).samefile(path):
            raise ValueError(f"the output {output} is the input {path}. Name another file.")


def _loaded(reader: Reader) -> Rows:
    """Return all rows, every value of them finite."""
    rows = reader.load()
    require_finite(rows, str(reader.location))
    return rows


def _require_finite_file(reader: Reader, batch_rows: int) -> None:
    """Raise a ValueError that counts the rows of a whole file which hold NaN or infinity, if there are any."""
    bad, first, start = 0, -1, 0
    for block in reader.blocks(batch_rows):
        where = np.flatnonzero(~np.isfinite(block.rows).all(axis=1))
        if len(where):
            first = first if bad else start + int(where[0])
            bad += len(where)
        start += len(block.rows)
    if bad:
        raise ValueError(
            f"{reader.location} needs finite values; {bad} of {reader.rows} rows contain NaN or infinity "
            f"(the first is row {first}). Remove or repair those rows."
        )
