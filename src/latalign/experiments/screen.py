"""What a user sees of long work: bars, and a folder that is there before anything takes time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def bars_on_stderr() -> Iterator[Progress]:
    """Show bars on stderr, if that is a terminal. Nothing else may be printed while they are there."""
    stderr = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=stderr, transient=True, disable=not stderr.is_terminal) as bars:
        yield bars


def made_folder(folder: str | PathLike[str]) -> Path:
    """Make the folder of the results, before anything takes time."""
    folder = Path(folder)
    if not folder.parent.is_dir():
        raise FileNotFoundError(
            f"cannot make the folder {folder}: {folder.parent} does not exist. Make it first."
        )
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"cannot write into {folder}: it is a file. Name a folder.")
    folder.mkdir(exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(f"cannot write into {folder}: it belongs to another. Name another folder.")
    return folder
