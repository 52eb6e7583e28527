"""The command for the tables of the paper. It needs an extra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latalign.cli.commands import main
from latalign.cli.program import EXIT_STATUSES, debug_option

_TABLES = ("table1", "table2", "table3", "table4", "table5", "table6", "all")


@main.command(epilog=EXIT_STATUSES)
@click.argument("tables", metavar="TABLE...", nargs=-1, required=True, type=click.Choice(_TABLES))
@click.option(
    "--preset",
    type=click.Choice(["quick", "full"]),
    default="quick",
    show_default=True,
    help="quick is a look of some minutes and says what it cuts; full is the paper's protocol.",
)
@click.option(
    "--seeds",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    help="Repetitions with other networks; the preset's unless given.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="Where networks are trained: auto is a GPU where there is one.",
)
@click.option(
    "--jobs",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    help="Processes at a time; one a processor unless given, one on a GPU.",
)
@click.option(
    "--cache",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Where trained networks are kept; the user's cache folder unless given.",
)
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reproduction"),
    show_default=True,
    help="Where the results go; made if it does not exist.",
)
@debug_option
def reproduce(
    tables: tuple[str, ...],
    preset: str,
    seeds: int | None,
    device: str,
    jobs: int | None,
    cache: Path | None,
    folder: Path,
) -> None:
    """Do tables of the paper, and write them beside its numbers.

    TABLE is table1 to table6, or all; with table5 and table6 come figures 3 and 4. Each is written as JSON,
    Markdown and PNG. An interrupted run goes on where it stopped.
    Needs the extra: pip install 'latalign[experiments]'
    """
    from latalign.cli import show
    from latalign.experiments.reproduce import reproduce as run

    more: dict[str, Any] = {"preset": preset, "seeds": seeds, "device": device, "jobs": jobs, "cache": cache}
    run(tables, folder, console=show.console(), **more)
