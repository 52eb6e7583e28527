"""The map that a command is to use: that of a map file, or one of those in the file of a shared space."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latalign.io.mapfile import SHARED, kind_of
from latalign.on_disk import AnyMap, load_map

if TYPE_CHECKING:
    from latalign.many.space import SharedSpace


def spaces_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which of the maps of a shared space is meant."""
    for add in (
        click.option(
            "--to",
            "to_space",
            metavar="NAME",
            help="Where MAP holds many spaces, the one that the rows go to; the shared one unless given.",
        ),
        click.option(
            "--from",
            "from_space",
            metavar="NAME",
            help="Where MAP holds many spaces (fit-many), the one that the rows are of; the shared one unless given.",
        ),
    ):
        command = add(command)
    return command


def loaded_map(path: Path, source: str | None, target: str | None) -> AnyMap:
    """Return the map of a file, or out of that of a shared space the one from a space to another.

    Raises
    ------
    UsageError
        If the names do not go with the file.
    """
    if kind_of(path) != SHARED:
        if source is not None or target is not None:
            raise click.UsageError(f"--from and --to are for a file of many spaces; {path} holds one map")
        return load_map(path)
    from latalign.many.space import SharedSpace

    shared = SharedSpace.load(path)
    if source is None and target is None:
        listed = ", ".join(map(repr, shared.names))
        raise click.UsageError(f"{path} holds many spaces, {listed}: say --from NAME, --to NAME or both")
    require_known(shared, path, (name for name in (source, target) if name is not None))
    if source is None:
        assert target is not None  # one of them is there
        return shared.back(target)
    return shared.into(source) if target is None else shared.map(source, target)


def require_known(shared: SharedSpace, path: Path, names: Iterable[str]) -> None:
    """Refuse a name that no space has."""
    for name in names:
        if name not in shared.names:
            raise click.UsageError(
                f"{path} has no space {name!r}; it has: {', '.join(map(repr, shared.names))}"
            )
