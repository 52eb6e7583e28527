"""The commands of many spaces in one: fit them, and let another join."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from latalign.cli.commands import main
from latalign.cli.loading import require_known
from latalign.cli.options import (
    FILES,
    by_id,
    call_is_right,
    json_option,
    print_json,
    print_parts,
    seed_option,
)
from latalign.cli.parameters import MapFile, MapOutput, Names, OrAuto, RowsFile
from latalign.cli.program import EXIT_STATUSES, debug_option
from latalign.io.protocol import Location
from latalign.loading import read_many
from latalign.on_disk import refuse_same_file

if TYPE_CHECKING:
    from latalign.io.spacefile import SpacesHeader
    from latalign.many.evidence import SharedEvidence
    from latalign.many.space import SharedSpace


def _common(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both commands take."""
    for add in (
        debug_option,
        json_option,
        click.option("--force", is_flag=True, help="Take rows that cannot be told from shuffled ones, too."),
        seed_option("Draws the folds."),
        by_id("Match the rows by this column of all tables, not by their order.", "not all files have"),
    ):
        command = add(command)
    return command


@main.command(name="fit-many", epilog=FILES + EXIT_STATUSES)
@click.argument("files", metavar="FILE FILE...", nargs=-1, required=True, type=RowsFile())
@click.option("-o", "--output", required=True, type=MapOutput(), help="The file of all maps to write.")
@click.option(
    "--names",
    metavar="NAME,NAME...",
    type=Names(),
    help="The names of the spaces, in the order of the files; those of the files unless given.",
)
@click.option(
    "--method",
    type=click.Choice(["ridge", "rigid"]),
    default="ridge",
    show_default=True,
    help="rigid is generalized Procrustes: rotations, exactly consistent between spaces of equal width.",
)
@click.option(
    "--alpha",
    metavar="NUMBER|auto",
    type=OrAuto(click.FloatRange(min=0)),
    help="The penalty of ridge, relative to the mean sum of squares of a column (auto unless given).",
)
@click.option(
    "--dim",
    metavar="NUMBER|auto",
    type=OrAuto(click.IntRange(min=1)),
    help="The width of the shared space for ridge (auto unless given).",
)
@click.option("--dataset", metavar="TEXT", help="The name of the data, kept in the file.")
@_common
def fit_many(
    files: tuple[Location, ...],
    output: Path,
    names: tuple[str, ...] | None,
    method: Any,
    alpha: Any,
    dim: Any,
    dataset: str | None,
    id_column: str | None,
    unmatched: Any,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Map the rows of many models into one shared space, and so from any model to any other.

    Row i of all files is the same thing. All maps go to one file: 'latalign apply SPACES INPUT --from NAME
    --to NAME' takes rows from one space to another, and 'latalign join' lets a space in that comes later.
    The errors are held-out ones, of five folds, and stand next to those of maps that are fitted to two
    spaces alone. Rows that cannot be told from shuffled ones are refused (a permutation test, p > 0.05).
    """
    from latalign.cli import show
    from latalign.many import fitting

    if len(files) < 2:
        raise click.UsageError("fit-many needs two files or more")
    named = _named(files, names)
    given = {name: value for name, value in (("alpha", alpha), ("dim", dim)) if value is not None}
    if method == "rigid" and given:
        raise click.UsageError(f"--{next(iter(given))} goes with --method ridge; got --method rigid")
    call_is_right(refuse_same_file, output, [location.path for location in files])
    with show.working("fitting"):
        rows = read_many(files, id_column=id_column, unmatched=unmatched)
        spaces = dict(zip(named, rows, strict=True))
        options: dict[str, Any] = {"random_state": seed, "refuse_unrelated": not force, **given}
        found = fitting.fit_many(spaces, method, **options)
        found.save(output, dataset=dataset)
    _tell(found, output, dataset, as_json)


@main.command(epilog=FILES + EXIT_STATUSES)
@click.argument("spaces", type=MapFile())
@click.argument("file", type=RowsFile())
@click.option("-o", "--output", required=True, type=MapOutput(), help="The file of all maps to write.")
@click.option(
    "--with",
    "known",
    metavar="NAME FILE",
    nargs=2,
    multiple=True,
    required=True,
    type=(str, RowsFile()),
    help="The same things in a space that is there; of several spaces where there are, with one --with each.",
)
@click.option("--name", metavar="TEXT", help="The name of the new space; that of FILE unless given.")
@_common
def join(
    spaces: Path,
    file: Location,
    output: Path,
    known: tuple[tuple[str, Location], ...],
    name: str | None,
    id_column: str | None,
    unmatched: Any,
    seed: int,
    force: bool,
    as_json: bool,
) -> None:
    """Let a new space join those of SPACES, by rows that one or more of them have in common with FILE.

    The maps that are there stay as they are, to the bit: rows that were mapped stay valid.
    """
    from latalign.cli import show
    from latalign.io.spacefile import read_spaces
    from latalign.many.space import SharedSpace

    files = [file, *(location for _, location in known)]
    given = [one for one, _ in known]
    if len(set(given)) < len(given):
        raise click.UsageError(f"--with names a space twice: {', '.join(given)}")
    call_is_right(refuse_same_file, output, [spaces, *(location.path for location in files)])
    with show.working("fitting"):
        shared, dataset = SharedSpace.load(spaces), read_spaces(spaces)[1].dataset
        new = _stem(file) if name is None else name
        if new in shared.names:
            raise click.UsageError(f"there is a space {new!r} already; give the new one another --name")
        require_known(shared, spaces, given)
        rows = read_many(files, id_column=id_column, unmatched=unmatched)
        options: dict[str, Any] = {"random_state": seed, "refuse_unrelated": not force}
        more = shared.join(new, rows[0], dict(zip(given, rows[1:], strict=True)), **options)
        more.save(output, dataset=dataset)
    _tell(more, output, dataset, as_json, new)


def spaces_json(shared: SharedSpace) -> dict[str, Any]:
    """Return what JSON output tells of a shared space."""
    widths = {name: into.dim_source for name, into in zip(shared.names, shared.encoders, strict=True)}
    return {
        "method": shared.method,
        "dim": shared.dim,
        "spaces": widths,
        "evidence": shared.evidence.to_json(),
    }


def inspect_spaces(path: Path, as_json: bool) -> None:
    """Show a shared space: what `inspect` does with its file."""
    from latalign.cli import show
    from latalign.io.spacefile import read_spaces
    from latalign.many.space import SharedSpace

    shared, header = SharedSpace.load(path), read_spaces(path)[1]
    if as_json:
        print_json({**asdict(header), "evidence": shared.evidence.to_json()})
        return
    print_parts([show.line(str(path)), spaces_table(shared, header), pairs_table(shared.evidence)])


def spaces_table(shared: SharedSpace, header: SpacesHeader) -> Table:
    """Return what the file of a shared space says of the spaces, but for the evidence."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("method", header.method)
    table.add_row("shared dimensions", f"{header.dim}")
    if header.dataset is not None:
        table.add_row("dataset", Text(header.dataset))
    for name, into in zip(shared.names, shared.encoders, strict=True):
        anchors = "" if into.evidence is None else f", {into.evidence.anchors:,} anchors"
        table.add_row(Text(f"space {name}"), f"{into.dim_source} dimensions{anchors}")
    table.add_row("written by", f"latalign {header.latalign_version} (map format {header.format})")
    return table


def pairs_table(found: SharedEvidence, only: str | None = None) -> Table:
    """Return what is known of every pair of a shared space, or of those of one space."""
    from latalign.cli.show import number, titled

    what = f"held-out rows, {found.n_folds} folds" if found.n_folds > 1 else "nothing was held out"
    table = titled(f"from one space to another, beside maps fitted to the two alone: {what}")
    for name in ("from", "to", "anchors", "R² ↑", "R², direct", "round trip ↓", "detour ↓"):
        table.add_column(name, justify="left" if name in ("from", "to") else "right", no_wrap=True)
    for pair in found.pairs:
        if only in (None, pair.source, pair.target):
            r2 = (_r2(error, pair.baseline) for error in (pair.error, pair.direct_error))
            figures = number(pair.round_trip), number(pair.detour)
            table.add_row(Text(pair.source), Text(pair.target), f"{pair.anchors:,}", *r2, *figures)
    table.caption = (
        "round trip, detour: squared distance from where rows should be; 1 is as far off as the mean"
    )
    return table


def _r2(error: float | None, baseline: float | None) -> str:
    from latalign.cli.show import number

    return number(1 - error / baseline if error is not None and baseline else None)


def _tell(
    shared: SharedSpace, output: Path, dataset: str | None, as_json: bool, new: str | None = None
) -> None:
    """Print what was written; of a space that joined its own pairs alone."""
    from latalign.cli import show

    if as_json:
        print_json({"output": str(output), **spaces_json(shared), "dataset": dataset})
        return
    words = f"{output}: {shared.method}, {len(shared.names)} spaces in one of {shared.dim} dimensions"
    print_parts([show.line(words), pairs_table(shared.evidence, new)])


def _named(files: Sequence[Location], names: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the names of the spaces: those given, or those of the files."""
    if names is None:
        found = tuple(_stem(location) for location in files)
        if len(set(found)) < len(found):
            raise click.UsageError(f"the files have the same names, {', '.join(found)}: give --names")
        return found
    if len(names) != len(files):
        raise click.UsageError(f"--names has {len(names)} names for {len(files)} files")
    return names


def _stem(location: Location) -> str:
    return location.path.stem
