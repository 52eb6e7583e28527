"""What tells that a source is another than it was: the names, sizes and times of all files that it is made of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from latalign.io.files import SourceError, is_remote

# What stores call the tag or the time of what they keep. Not fsspec's `ukey`: that of HTTP is of the address alone.
_MARKS = (
    *("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime"),
    *("modificationTime", "modified", "created"),
)


@final
@dataclass(frozen=True, slots=True)
class Stamp:
    """What a source is recognized by.

    Attributes
    ----------
    digest : str
        Of every file's name within the source, its size, and its time or its tag.
    told : bool
        Whether the store tells more of every file than its size.
    """

    digest: str
    told: bool = True


def stamp(files: Iterable[Path], *, inodes: bool = False) -> Stamp:
    """Return the stamp of files, of folders with all that is in them, and of what lies at addresses.

    Parameters
    ----------
    files : iterable of Path
    inodes : bool
        Whether a copy that has the same time is another file.

    Raises
    ------
    OSError
        If one of them is not there.
    """
    found, told = hashlib.sha256(), True
    for path in files:
        for name, size, *marks in _far(path) if is_remote(path) else _here(path, inodes):
            found.update(repr((name, size, marks)).encode())
            told &= bool(marks)
    return Stamp(found.hexdigest(), told)


@contextmanager
def unchanged(files: Iterable[Path]) -> Iterator[None]:
    """Raise a ValueError where a source is another when the block ends than it was when it began.

    Raises
    ------
    OSError
        If one of the files cannot be found when it begins.
    """
    before: dict[Path, Stamp] = {}
    for path in files:
        with reading(path):
            before[path] = stamp([path], inodes=True)
    yield
    for path, was in before.items():
        try:
            same = stamp([path], inodes=True) == was
        except OSError as error:
            raise ValueError(
                f"{path} was removed, or is out of reach, since it was begun to be read ({error.strerror or error}). "
                "Start again when it is there."
            ) from error
        if not same:
            raise ValueError(
                f"{path} was changed by another program while it was read. Start again when that is done."
            )


@contextmanager
def reading(what: object) -> Iterator[None]:
    """Say of an OSError within the block that it is one of a source, not of what is written meanwhile."""
    try:
        yield
    except SourceError:
        raise
    except OSError as error:
        said = f"cannot read {what}: {error.strerror or error}"
        raise (SourceError(said) if error.errno is None else SourceError(error.errno, said)) from error


def _here(path: Path, inodes: bool) -> Iterator[tuple[Any, ...]]:
    """Yield what is known of a file of this machine, or of every file in a folder."""
    if not path.is_dir():
        yield _entry("", path.stat(), inodes)
        return
    for folder, folders, names in os.walk(path, onerror=_raised):
        folders.sort()
        for name in sorted(names):
            file = os.path.join(folder, name)
            yield _entry(os.path.relpath(file, path), os.stat(file), inodes)


def _entry(name: str, found: os.stat_result, inodes: bool) -> tuple[Any, ...]:
    return name, found.st_size, found.st_mtime_ns, *((found.st_ino,) if inodes else ())


def _far(path: Any) -> Iterator[tuple[Any, ...]]:
    """Yield what a store tells of a file, or of every file of a folder; never what it told before."""
    store = path.fs
    store.invalidate_cache()
    found = {path.path: store.info(path.path)}
    if found[path.path]["type"] == "directory":
        found = store.find(path.path, detail=True)
    for name in sorted(found):
        about = found[name]
        marks = [f"{key}={about[key]}" for key in _MARKS if about.get(key) is not None]
        yield name, about.get("size"), *(marks or _time(store, name))


def _time(store: Any, name: str) -> list[str]:
    try:
        return [str(store.modified(name))]
    except (NotImplementedError, KeyError, AttributeError):
        return []  # it has none


def _raised(error: OSError) -> None:
    raise error
