"""The kinds of arguments that the commands take."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from latalign.io.arrays import FORMATS, exists, is_part, locate, locate_output
from latalign.io.files import is_remote
from latalign.io.labels import locate_labels
from latalign.io.protocol import Location
from latalign.io.relevant import locate_relevant


class _File(click.ParamType):
    """A file, completed by the shell."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return [CompletionItem(incomplete, type="file")]

    def _required(self, path: Path, param: click.Parameter | None, ctx: click.Context | None) -> None:
        if not path.is_file():
            self.fail(f"there is no file {path}", param, ctx)

    def _writable(self, path: Path, param: click.Parameter | None, ctx: click.Context | None) -> None:
        if not path.parent.is_dir():
            self.fail(f"the folder {path.parent} does not exist; make it first", param, ctx)
        if path.exists() and not path.is_file():
            self.fail(f"{path} is not a file that can be replaced", param, ctx)


class RowsFile(_File):
    """A file of rows that is there."""

    name = "rows"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """Return where the rows are."""
        location = self._located(value, param, ctx)
        if not exists(location):
            self.fail(f"there is no file {location.path}", param, ctx)
        return location

    def _located(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
        find: Callable[[Any], Location] = locate,
    ) -> Location:
        try:
            return find(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class RowsOutput(RowsFile):
    """A file of rows to write, or a folder: one that is there, or any name with a slash at its end."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """Return where the rows are to go."""
        path, slash = Path(value), str(value).endswith(("/", os.sep))
        if slash and is_part(path) and not FORMATS[path.suffix.lower()].folder:
            self.fail(
                f"{value}: {path.suffix} are files. Leave out the slash at its end, or name a folder",
                param,
                ctx,
            )
        if not is_part(path) and (slash or path.is_dir()):
            if "://" in str(value):
                self.fail(f"{value}: a folder of files is written on this machine only", param, ctx)
            if not path.parent.is_dir():
                self.fail(f"the folder {path.parent} does not exist; make it first", param, ctx)
            return Location(path)
        location = self._located(value, param, ctx, locate_output)
        if not is_remote(location.path):
            self._writable(location.path, param, ctx)
        return location


def is_folder(output: Location) -> bool:
    """Tell whether an output is a folder of files of rows, not one of them."""
    return not is_part(output.path)


class LabelsFile(_File):
    """A file of labels, or of something else of which each row has one, that is there."""

    def __init__(self, name: str = "labels") -> None:
        self.name = name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """Return where the labels are."""
        try:
            location = locate_labels(value, self.name)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        self._required(location.path, param, ctx)
        return location


class RelevantFile(_File):
    """A file of what queries should find that is there."""

    name = "rows or ids"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Location:
        """Return where they are."""
        try:
            location = locate_relevant(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        self._required(location.path, param, ctx)
        return location


class MapFile(_File):
    """A map file that is there."""

    name = "map"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path of a map file."""
        self._required(Path(value), param, ctx)
        return Path(value)


class MapOutput(_File):
    """A map file to write."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path that the map is to be written to."""
        path = Path(value)
        if path.suffix.lower() in set(FORMATS) - {".safetensors"}:
            self.fail(
                f"{path}: a map file is a safetensors file; call it {path.stem}.safetensors", param, ctx
            )
        self._writable(path, param, ctx)
        return path


class FolderOutput(_File):
    """A folder to write to, made if only its own name is new."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the folder."""
        path = Path(value)
        if path.exists() and not path.is_dir():
            self.fail(f"{path} is not a folder", param, ctx)
        if not path.parent.is_dir():
            self.fail(f"the folder {path.parent} does not exist; make it first", param, ctx)
        return path


class Names(click.ParamType):
    """Names with commas between."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the names, no two the same."""
        names = tuple(part.strip() for part in str(value).split(","))
        if not all(names) or len(set(names)) < len(names):
            self.fail(f"{value!r} should be names, none twice, with commas between", param, ctx)
        return names


class OrAuto(click.ParamType):
    """A number, or the word auto."""

    name = "number|auto"

    def __init__(self, number: click.ParamType) -> None:
        self.number = number

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or "auto"."""
        if value == "auto":
            return value
        number = self.number.convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number
