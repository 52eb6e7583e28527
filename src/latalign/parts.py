"""A map applied part by part: rows into a folder of files, each of them whole; what was done is not done again.

The folder is made under another name, ``.NAME.partial``, and gets its own when all parts are there. Beside
the parts lies a manifest, with the rows and a checksum of each and of what it was made of.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np

from latalign.engine import Engine, named_anywhere
from latalign.io.arrays import FORMATS, Source, open_rows, write_rows
from latalign.io.files import require_free, written_beside
from latalign.io.folder import FolderRows
from latalign.io.protocol import Reader, Shape
from latalign.io.stamps import Stamp, stamp, unchanged
from latalign.maps import BlockMap
from latalign.on_disk import (
    Applied,
    MapPlace,
    block_rows,
    float_of,
    limited,
    map_rows,
    require_batch,
    require_width,
)

MANIFEST = "_latalign.json"
_FORMAT = 1
_PART_BYTES = 256 << 20  # of mapped rows, where the input is not made of files itself


@final
@dataclass(frozen=True, slots=True)
class Part:
    """Rows that become one file.

    Attributes
    ----------
    name : str
        Of the file.
    reader : Reader
        What they come from, and its rows from `start` to before `stop`.
    start, stop : int
    made_of : Stamp
        Of all that the reader reads, as it was when the parts were planned.
    """

    name: str
    reader: Reader
    start: int
    stop: int
    made_of: Stamp

    def key(self) -> dict[str, Any]:
        """Return what tells it from any other: the sizes and the times of its files are part of that."""
        return {"name": self.name, "start": self.start, "stop": self.stop, "made_of": self.made_of.digest}


def apply_folder(
    map_: BlockMap,
    input: Source,
    output: str | PathLike[str],
    *,
    resume: bool = False,
    batch_rows: int | None = None,
    threads: int | None = None,
    progress: Callable[[int, int | None], object] | None = None,
    engine: Engine | None = None,
    place: MapPlace | None = None,
) -> Applied:
    """Map rows into a folder of files; a run that was cut off can go on.

    Parameters
    ----------
    map_ : AffineMap, StitchingMap, RelativeMap or LocalMap
    input : path
        Of a folder or a pattern every file becomes a file of the same name. Other rows are cut into parts
        of 256 MiB, ``part-00000`` and so on, of the input's own format.
    output : path
        The folder, which must not be there yet, or be empty.
    resume : bool
        Go on from the last whole part of a run that was cut off. What comes out is byte for byte what a
        run in one piece makes. Without it, what such a run left is removed first.
    batch_rows, threads
        As in `latalign.apply_file`.
    progress : callable, optional
        Called after every part with the number of rows that are done, and of all rows.
    engine : Engine, optional
        Maps several parts at a time, see `latalign.distributed`: the files are byte for byte those of one
        process with as many `threads`, of which each of its calls has one unless given. Its workers reach
        the input and the output by the same paths.
    place : Place, optional
        As in `latalign.apply_file`; an engine has none.

    Returns
    -------
    Applied

    Raises
    ------
    FileNotFoundError
        If there is no input, or no folder for the output.
    FileExistsError
        If there is something at the output.
    OSError
        If the output cannot be written, as on a full disk.
    ValueError
        As in `latalign.apply_file`; if an engine and a place are given; and if what is to be resumed was made
        by another map or elsewhere, or the store of the input tells neither a time nor a tag of it. Whatever is
        raised, nothing is left under the final name; whole parts wait in ``.NAME.partial`` beside it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from latalign import AffineMap, apply_folder
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "old").mkdir()
    ...     for name in ("a.npy", "b.npy"):
    ...         np.save(Path(folder, "old", name), np.ones((3, 2), np.float32))
    ...     done = apply_folder(AffineMap.of(np.eye(2)), Path(folder, "old"), Path(folder, "new"))
    ...     done.rows, sorted(path.name for path in Path(folder, "new").iterdir())
    (6, ['_latalign.json', 'a.npy', 'b.npy'])
    """
    require_batch(batch_rows)
    if engine is not None and place is not None:
        raise ValueError("an engine's workers multiply by NumPy: give an engine or a place, not both")
    final_, reader = Path(output), open_rows(input if engine is None else named_anywhere(input))
    require_width(map_, reader)
    parts = planned(reader, map_)
    if resume:
        _require_told(parts)
    header = {
        "format": _FORMAT,
        "map": _fingerprint(map_),
        "dims": [map_.dim_source, map_.dim_target],
        "dtype": str(float_of(reader)),
        "block_rows": block_rows(map_, batch_rows, place),
    } | ({} if place is None else {"device": str(place.device)})
    rows = sum(part.stop - part.start for part in parts)
    done = Applied(str(final_), rows, map_.dim_source, map_.dim_target, str(float_of(reader)), len(parts))
    if resume and (final_ / MANIFEST).is_file() and len(_whole(final_, header, parts)) == len(parts):
        return done
    if final_.is_dir() and not any(final_.iterdir()):
        final_.rmdir()
    require_free(final_)
    work = final_.absolute().parent / f".{final_.name}.partial"
    if not resume:
        shutil.rmtree(work, ignore_errors=True)
    records = _whole(work, header, parts)
    work.mkdir(exist_ok=True)
    todo = [part for part in parts if part.name not in records]
    threads = threads if engine is None else threads or 1
    make = partial(map_part, map_, work, batch_rows, threads, place=place)
    try:
        # From the first part to the last: every one by itself may have been read from something else.
        with unchanged(reader.files):
            for part, made in zip(todo, (map if engine is None else engine.map)(make, todo), strict=True):
                records[part.name] = made
                _write_manifest(work, header, [records[one.name] for one in parts if one.name in records])
                if progress is not None:
                    progress(sum(one["rows"] for one in records.values()), rows)
    except BaseException:
        if not records:
            shutil.rmtree(work, ignore_errors=True)
        raise
    _remove_others(work, {MANIFEST, *records})
    os.rename(work, final_)
    return done


def planned(reader: Reader, map_: BlockMap) -> tuple[Part, ...]:
    """Return the parts that rows are mapped in: a file each, or ranges of about 256 MiB.

    Raises
    ------
    ValueError
        If the number of rows is not known.
    """
    if reader.rows is None:
        raise ValueError(
            f"{reader.location} has no known number of rows, so it is not cut into parts. Name a file."
        )
    if isinstance(reader, FolderRows):
        names = [part.location.path.name for part in reader.parts]
        if len(set(names)) < len(names):
            raise ValueError(
                f"{reader.location} names two files of one name; in one folder they cannot both be"
            )
        counts = [stop - start for start, stop in zip(reader.starts, reader.starts[1:], strict=False)]
        return tuple(
            Part(name, one, 0, count, stamp(one.files))
            for name, one, count in zip(names, reader.parts, counts, strict=True)
        )
    suffix = reader.location.path.suffix.lower()
    suffix = suffix if suffix in FORMATS else ".arrow"  # a folder of Hugging Face datasets
    step = max(1, _PART_BYTES // (map_.dim_target * float_of(reader).itemsize))
    made_of = stamp(reader.files)
    return tuple(
        Part(f"part-{number:05d}{suffix}", reader, start, min(start + step, reader.rows), made_of)
        for number, start in enumerate(range(0, reader.rows, step))
    )


def _require_told(parts: tuple[Part, ...]) -> None:
    """Raise a ValueError where nothing tells whether a source is what it was when a part was made of it."""
    for part in parts:
        if not part.made_of.told:
            raise ValueError(
                f"{part.reader.location.path} has neither a time nor a tag in its store, so nobody can tell whether "
                "it is what it was, and a run over it cannot be gone on with. Start again without --resume."
            )


def map_part(
    map_: BlockMap,
    folder: Path,
    batch_rows: int | None,
    threads: int | None,
    part: Part,
    *,
    place: MapPlace | None = None,
) -> dict[str, Any]:
    """Map the rows of one part into one file of a folder, which is whole or not there; return its record."""
    path = folder / part.name
    if path.is_dir():
        shutil.rmtree(path)
    shape = Shape(part.stop - part.start, map_.dim_target, float_of(part.reader))
    with limited(threads), write_rows(path, shape, part.reader) as writer:
        options: dict[str, Any] = {"batch_rows": batch_rows, "threads": threads, "place": place}
        map_rows(map_, part.reader, writer, part.start, part.stop, **options)
    return record(folder, part)


def record(folder: Path, part: Part) -> dict[str, Any]:
    """Return what the manifest keeps of a part that was written."""
    path = folder / part.name
    size, checksum = sum(one.stat().st_size for one in _inside(path)), _checksum(path)
    return part.key() | {"rows": part.stop - part.start, "bytes": size, "sha256": checksum}


def _whole(folder: Path, header: dict[str, Any], parts: tuple[Part, ...]) -> dict[str, dict[str, Any]]:
    """Return the records of the parts that are there, and are what they should be."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
        records = {one["name"]: one for one in found.pop("parts")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not sound ({error}). Remove {folder}, and start again.") from error
    if found != header:
        raise ValueError(
            f"{folder} was made by another map, or in other blocks, so it cannot be gone on with. Give the same "
            "map and options, or start again without --resume."
        )
    whole = {}
    for part in parts:
        its = records.get(part.name)
        file = folder / part.name
        if its is not None and file.exists() and record(folder, part) == its:
            whole[part.name] = its
    return whole


def _write_manifest(folder: Path, header: dict[str, Any], records: list[dict[str, Any]]) -> None:
    with written_beside(folder / MANIFEST) as file:
        file.write(json.dumps(header | {"parts": records}, indent=1, sort_keys=True).encode() + b"\n")


def _remove_others(folder: Path, names: set[str]) -> None:
    """Remove what a run that was killed left in the folder."""
    for path in folder.iterdir():
        if path.name not in names:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _fingerprint(map_: object) -> str:
    """Return a checksum of the numbers of a map."""
    found = hashlib.sha256()

    def take(value: object) -> None:
        if isinstance(value, np.ndarray):
            found.update(repr((value.shape, value.dtype)).encode() + np.ascontiguousarray(value).tobytes())
        elif isinstance(value, (tuple, list)):
            for one in value:
                take(one)
        elif is_dataclass(value):
            found.update(type(value).__name__.encode())
            for field in fields(value):
                take(getattr(value, field.name))

    take(map_)
    return found.hexdigest()


def _inside(path: Path) -> Iterator[Path]:
    yield from sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file; of a folder, that of the sums of its files."""
    sums = []
    for one in _inside(path):
        with one.open("rb") as file:
            sums.append(hashlib.file_digest(file, "sha256"))
    if not path.is_dir():
        return sums[0].hexdigest()
    return hashlib.sha256(b"".join(one.digest() for one in sums)).hexdigest()
