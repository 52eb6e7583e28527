"""What several commands have in common: options, and how their results are printed."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import click

from latalign.cli.parameters import RowsFile
from latalign.engine import Engine
from latalign.local_map import LocalMap
from latalign.maps import AffineMap

FILES = """
\b
Files of rows:
  .npy              an array of shape (rows, dimensions)
  .safetensors      one 2-D tensor, or file.safetensors:NAME
  .parquet          a column of lists of floats, or file.parquet:COLUMN
  .arrow, .feather  the same
  .lance            the same
  .h5, .hdf5        one 2-D array, or file.h5:NAME
  .zarr             the same
  FOLDER            of such files, in the order of their names; or one
                    that Hugging Face datasets saved
  'DATA/*.parquet'  the files that a pattern names
  s3://...          Parquet and Arrow; Lance and Zarr as input
All but the first two need an extra, which an error names.
"""


def seed_option(draws: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option of a seed, which draws what `draws` says."""
    return click.option(
        "--seed", metavar="NUMBER", type=click.IntRange(min=0), default=0, show_default=True, help=draws
    )


threads_option = click.option(
    "--threads",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    help="How many threads there may be; as many as there are processors unless given. Of Zarr and Lance the "
    "libraries that read have threads of their own beside.",
)


def engine_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of what does the work, see `started`."""
    for add in (
        click.option(
            "--workers",
            metavar="NUMBER",
            type=click.IntRange(min=1),
            help="How many workers --engine starts here; as many as there are processors unless given.",
        ),
        click.option(
            "--scheduler",
            metavar="ADDRESS",
            help="Where --engine runs already: on this machine unless given.",
        ),
        click.option(
            "--engine",
            type=click.Choice(["dask", "ray"]),
            help="Let processes or machines do the work, with one thread each unless --threads says more. They "
            "reach the files by the same paths. The result has the bits of one process with as many threads.",
        ),
    ):
        command = add(command)
    return command


device_option = click.option(
    "--device",
    type=click.Choice(["cpu", "cuda"]),
    default="cpu",
    show_default=True,
    help="Where rows that are streamed are multiplied: cuda is a GPU, and needs the extra torch.",
)


def multiplied_on(device: str, engine: str | None) -> Any:
    """Return the place that --device names; None for NumPy."""
    if device == "cpu":
        return None
    if engine is not None:
        raise click.UsageError(f"--engine multiplies on processors, and goes without --device {device}")
    from latalign import torch

    return torch.Place(device)


def started(
    engine: str | None, scheduler: str | None, workers: int | None
) -> AbstractContextManager[Engine | None]:
    """Start, or find, the engine that was asked for; None where none was."""
    if engine is None:
        if scheduler is not None or workers is not None:
            raise click.UsageError("--scheduler and --workers go with --engine")
        return nullcontext()
    if scheduler is not None and workers is not None:
        raise click.UsageError("--workers are started on this machine, and go without --scheduler")
    from latalign import distributed

    return {"dask": distributed.dask, "ray": distributed.ray}[engine](scheduler, workers=workers)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def pairing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments of two files whose rows correspond."""
    command = by_id("Pair the rows by this column of both tables, not by their order.", "only one side has")(
        command
    )
    for name in ("target", "source"):
        command = click.argument(name, type=RowsFile())(command)
    return command


def by_id(column: str, alone: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what adds the options of ids; the one for those that are `alone` means nothing without the other."""

    def added(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def checked(*args: Any, id_column: str | None, unmatched: str | None, **more: Any) -> Any:
            if unmatched is not None and id_column is None:
                raise click.UsageError(
                    "--unmatched goes with --id-column; rows that pair by their order have no ids"
                )
            return command(*args, id_column=id_column, unmatched=unmatched or "error", **more)

        unmatched = click.option(
            "--unmatched",
            type=click.Choice(["error", "drop"]),
            help=f"What becomes of ids that {alone}; error unless given.",
        )
        return click.option("--id-column", metavar="COLUMN", help=column)(unmatched(checked))

    return added


def map_json(map_: AffineMap | LocalMap) -> dict[str, Any]:
    """Return what JSON output tells of a map."""
    return {
        "method": map_.method,
        "dim_source": map_.dim_source,
        "dim_target": map_.dim_target,
        "evidence": None if map_.evidence is None else map_.evidence.to_json(),
    }


def call_is_right(check: Callable[..., None], *arguments: Any) -> None:
    """Run a check of the library; what it refuses is a wrong call."""
    try:
        check(*arguments)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def print_json(record: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of its own."""
    click.echo(json.dumps(record, allow_nan=False))


def print_parts(parts: Sequence[Any]) -> None:
    """Print texts and tables with an empty line between two."""
    from latalign.cli import show

    console = show.console()
    for place, part in enumerate(parts):
        if place:
            console.print()
        console.print(part)
