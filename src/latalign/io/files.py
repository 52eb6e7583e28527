"""Files that are either whole or not there."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import IO


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
    final = Path(path)
    real = Path(os.path.realpath(final))
    if final.is_dir():
        raise IsADirectoryError(f"cannot write {final}: it is a folder. Name a file in it.")
    if final.exists() and not final.is_file():
        raise OSError(f"cannot write {final}: it is a device or a pipe, which a rename would replace")
    if not real.parent.is_dir():
        raise FileNotFoundError(
            f"cannot write {final}: the folder {real.parent if final.is_symlink() else final.parent} "
            "does not exist. Make it first."
        )
    try:
        handle, name = tempfile.mkstemp(prefix=f".{real.name}.", suffix=".tmp", dir=real.parent)
    except OSError as error:
        raise _explained(error, final) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; a result is as readable as any file the user makes.
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, real)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise _explained(error, final) from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def send_to_disk(file: IO[bytes], start: int, length: int) -> None:
    """Let the disk begin with bytes that were written, while more are made; wait for nothing.

    Otherwise all of a large file waits in memory until the end, and then we wait for the disk.
    """
    if hasattr(os, "posix_fadvise"):  # not on macOS or Windows
        file.flush()
        # Of pages that will not be needed, Linux writes out those that the disk does not have yet.
        os.posix_fadvise(file.fileno(), start, length, os.POSIX_FADV_DONTNEED)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _explained(error: OSError, path: Path) -> OSError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OSError(error.errno, f"the disk is full; nothing was left at {path}. Free some space")
    return type(error)(error.errno, f"cannot write {path}: {error.strerror or error}")
