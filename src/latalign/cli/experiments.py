"""The commands that train networks: the demo and the tables of the paper. They need an extra."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from latalign.cli.commands import main
from latalign.cli.options import seed_option
from latalign.cli.parameters import FolderOutput
from latalign.cli.program import EXIT_STATUSES, debug_option

TABLES = ("table1", "table2", "table3", "table4", "table5", "table6", "all")


def _output(default: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        "-o",
        "--output",
        "folder",
        metavar="FOLDER",
        type=FolderOutput(),
        default=Path(default),
        show_default=True,
        help=f"The folder to write {what} to; made if it does not exist.",
    )


@main.command(epilog=EXIT_STATUSES)
@_output("latalign-demo", "the picture, the table and the map")
@click.option(
    "--epochs",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    help="Passes over the training images; the demo's own few unless given.",
)
@seed_option("Draws weights, batches and anchors.")
@debug_option
def demo(folder: Path, epochs: int | None, seed: int) -> None:
    """Let two autoencoders read each other's codes.

    Two of different architecture are trained on real images and aligned from 100 anchors, by every method.
    Needs the extra: pip install 'latalign[experiments]'
    """
    from latalign.cli import show
    from latalign.experiments.demo import run_demo

    more: dict[str, Any] = {} if epochs is None else {"epochs": epochs}
    run_demo(folder, seed=seed, console=show.console(), **more)


@main.command(epilog=EXIT_STATUSES)
@click.argument("tables", metavar="TABLE...", nargs=-1, required=True, type=click.Choice(TABLES))
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
@_output("reproduction", "the results")
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
