"""The command that maps rows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from latalign.cli.commands import main
from latalign.cli.loading import loaded_map, spaces_options
from latalign.cli.options import (
    FILES,
    call_is_right,
    device_option,
    engine_options,
    json_option,
    multiplied_on,
    print_json,
    print_parts,
    started,
    threads_option,
)
from latalign.cli.parameters import MapFile, RowsFile, RowsOutput, is_folder
from latalign.cli.program import EXIT_STATUSES, debug_option
from latalign.io.protocol import Location
from latalign.on_disk import apply_file, refuse_same_file
from latalign.parts import apply_folder


@main.command(epilog=FILES + EXIT_STATUSES)
@click.argument("map_file", metavar="MAP", type=MapFile())
@click.argument("input", type=RowsFile())
@click.option(
    "-o", "--output", required=True, type=RowsOutput(), help="The file of mapped rows to write, or FOLDER/."
)
@spaces_options
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the whole parts of a folder that a run which was cut off left.",
)
@click.option(
    "--batch-rows",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    help="The rows in memory at a time; as many as make 4 MiB of float32 unless given.",
)
@threads_option
@device_option
@engine_options
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Write for each row the distance from its true place that it is within with a probability of "
    "--level: a column 'uncertainty' of a table (Parquet, Arrow, Lance), else a file beside the output, "
    "OUTPUT.uncertainty.npy. "
    "The map must know it (fit --uncertainty).",
)
@click.option(
    "--level",
    metavar="SHARE",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="The probability that --uncertainty is for; 0.9 unless given.",
)
@json_option
@debug_option
def apply(
    map_file: Path,
    input: Location,
    output: Location,
    from_space: str | None,
    to_space: str | None,
    resume: bool,
    batch_rows: int | None,
    threads: int | None,
    device: str,
    engine: str | None,
    scheduler: str | None,
    workers: int | None,
    uncertainty: bool,
    level: float | None,
    as_json: bool,
) -> None:
    """Map the rows of INPUT into another file, or into a folder.

    They are mapped in blocks: any number of rows needs the same memory. They keep their dtype; from one
    table to another the other columns go along. Into a folder, every file of INPUT becomes a file of the
    same name; it is called .FOLDER.partial until all are there.
    """
    from latalign.cli import show

    call_is_right(refuse_same_file, output.path, [input.path, map_file])
    place = multiplied_on(device, engine)
    options: dict[str, Any] = {"batch_rows": batch_rows, "threads": threads, "place": place}
    began = time.perf_counter()
    into_folder = is_folder(output)
    if level is not None and not uncertainty:
        raise click.UsageError("--level goes with --uncertainty, which it is the probability of")
    level = 0.9 if level is None else level
    if into_folder and uncertainty:
        raise click.UsageError("--uncertainty goes with a file as the output, not a folder")
    for name, asked in (("resume", resume), ("engine", engine is not None)):
        if asked and not into_folder:
            raise click.UsageError(f"--{name} goes with a folder as the output: -o FOLDER/")
    with started(engine, scheduler, workers) as running, show.working("mapping") as advance:
        map_ = loaded_map(map_file, from_space, to_space)
        if into_folder:
            options |= {"resume": resume, "engine": running}
            done = apply_folder(map_, input, output.path, progress=advance, **options)
        else:
            wanted = level if uncertainty else None
            done = apply_file(map_, input, output, level=wanted, progress=advance, **options)
    if as_json:
        print_json(done.to_json())
        return
    seconds = time.perf_counter() - began
    files = "" if done.parts == 1 else f" in {done.parts:,} files"
    shape = f"{done.rows:,} rows{files}, {done.dim_source} → {done.dim_target} dimensions, {done.dtype}"
    lines = [f"{done.output}: {shape}, in {seconds:.1f} s"]
    if done.uncertainty is not None:
        lines.append(
            f"{done.uncertainty}: the distance from its true place that a row is within, at {level:g}"
        )
    print_parts([show.line("\n".join(lines))])
