"""Files and folders that are either whole or not there."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import IO, Any

# A file of this name must not be there yet; Windows would change the ends of lines in others.
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)


class SourceError(OSError):
    """A source that cannot be read, or no longer: no fault of what is written from it meanwhile."""


@contextmanager
def written_beside(path: str | PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`, and rename it to `path` when the block ends well.

    Whatever goes wrong, the temporary file is removed and a file that was at `path` stays as it was.
    A symbolic link at `path` stays too: what it points to is replaced.

    Raises
    ------
    OSError
        If the folder does not exist or cannot be written to, or the disk is full; the message says
        which, and what to do.
    """
    if is_remote(path):
        with _written_far(path) as file:
            yield file
        return
    with _renamed(path) as handle, os.fdopen(handle[0], "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def named_beside(path: str | PathLike[str]) -> Iterator[Path]:
    """Give the name of an empty file beside `path`, for a library that opens files itself.

    All else is as with `written_beside`.
    """
    with _renamed(path) as (handle, name):
        os.close(handle)
        yield name
        _sync(name)


@contextmanager
def folder_beside(path: str | PathLike[str]) -> Iterator[Path]:
    """Make a temporary folder beside `path`, and rename it to `path` when the block ends well.

    Raises
    ------
    OSError
        If there is something at `path` already, which a rename could not replace in one step; and as
        with `written_beside`.
    """
    final = Path(path)
    require_free(final)
    name = _temporary(final)
    try:
        with _explained(final):
            os.mkdir(name)
            yield name
            for folder, _, files in os.walk(name):
                for file in files:
                    _sync(Path(folder, file))
            os.rename(name, final)
    finally:
        shutil.rmtree(name, ignore_errors=True)


def require_free(path: Path) -> None:
    """Raise an error where a folder cannot be put at `path`."""
    if path.exists():
        raise FileExistsError(f"cannot write {path}: it exists already. Remove it, or name another.")
    _require_parent(path, path)


def is_remote(path: str | PathLike[str]) -> bool:
    """Tell whether a path is an address with a scheme, which `locate` made no `Path` of."""
    return not isinstance(path, (str, Path))


def send_to_disk(file: IO[bytes], start: int, length: int) -> None:
    """Let the disk begin with bytes that were written, while more are made; wait for nothing.

    Otherwise all of a large file waits in memory until the end, and then we wait for the disk.
    """
    if hasattr(os, "posix_fadvise"):  # not on macOS or Windows
        with suppress(OSError, AttributeError):  # a file that is no file of this machine
            file.flush()
            # Of pages that will not be needed, Linux writes out those that the disk does not have yet.
            os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_DONTNEED)


@contextmanager
def _renamed(path: str | PathLike[str]) -> Iterator[tuple[int, Path]]:
    """Make a temporary file beside `path`, and rename it when the block ends well."""
    final = Path(path)
    real = Path(os.path.realpath(final))
    if final.is_dir():
        raise IsADirectoryError(f"cannot write {final}: it is a folder. Name a file in it.")
    if final.exists() and not final.is_file():
        raise OSError(f"cannot write {final}: it is a device or a pipe, which a rename would replace")
    _require_parent(final, real)
    name = _temporary(real)
    try:
        with _explained(final):
            yield os.open(name, _NEW, 0o666), name
            os.replace(name, real)
    except BaseException:
        name.unlink(missing_ok=True)
        raise


def _temporary(path: Any) -> Any:
    """Return a name beside `path` that nothing has.

    It is known before there is a file: a signal may come when that was just made, and the name would be
    lost with what `tempfile.mkstemp` returns.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


@contextmanager
def _written_far(path: Any) -> Iterator[IO[bytes]]:
    """Write to another name in the same store, and move it when the block ends well."""
    away = _temporary(path)
    try:
        with _explained(path):
            with away.fs.open(away.path, "wb") as file:
                yield file
            away.fs.mv(away.path, path.path)
    except BaseException:
        with suppress(Exception):
            away.fs.rm(away.path)
        raise


def _require_parent(final: Path, real: Path) -> None:
    if not real.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {final}: the folder {real.parent if final.is_symlink() else final.parent} "
            "does not exist. Make it first."
        )


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say of an OSError within the block that `path` could not be written, unless it is one of a source."""
    try:
        yield
    except SourceError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(
                error.errno, f"the disk is full; nothing was left at {path}. Free some space"
            ) from error
        said = f"cannot write {path}: {error.strerror or error}"
        raise (OSError(said) if error.errno is None else type(error)(error.errno, said)) from error
