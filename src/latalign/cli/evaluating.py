"""The commands that measure: a map on pairs, two spaces against each other, and what a map file holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from latalign.cli.commands import main
from latalign.cli.loading import loaded_map, spaces_options
from latalign.cli.options import (
    FILES,
    json_option,
    pairing,
    print_json,
    print_parts,
    seed_option,
    threads_option,
)
from latalign.cli.parameters import MapFile
from latalign.cli.program import EXIT_STATUSES, debug_option
from latalign.io.protocol import Location
from latalign.maps import AffineMap
from latalign.on_disk import load_map


@main.command(epilog=FILES + EXIT_STATUSES)
@click.argument("map_file", metavar="MAP", type=MapFile())
@pairing
@spaces_options
@seed_option("Draws the queries where there are more than 2000 rows, and what is searched of many rows.")
@threads_option
@json_option
@debug_option
def evaluate(
    map_file: Path,
    source: Location,
    target: Location,
    id_column: str | None,
    unmatched: Any,
    from_space: str | None,
    to_space: str | None,
    seed: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Measure a map on held-out pairs.

    The mapped rows stand next to the source rows as they are ("no map", where the dimensions are equal)
    and to the target rows themselves as queries ("native", the ceiling: below 1 where rows repeat).
    Retrieval searches all target rows by cosine, with 2000 rows at most as queries; of more rows than
    32 MiB it searches 10000, drawn at random, and the output says so. CSLS makes rows that are near to
    everything (hubs) harder to find. Hubness tells how unevenly rows are found.
    """
    from latalign.cli import show
    from latalign.streamed import evaluate_files

    with show.working("evaluating") as advance:
        found = evaluate_files(
            loaded_map(map_file, from_space, to_space),
            source,
            target,
            id_column=id_column,
            unmatched=unmatched,
            random_state=seed,
            threads=threads,
            progress=advance,
        )
    if as_json:
        print_json(found.to_json())
        return
    print_parts([show.evaluation_table(found, str(map_file))])


@main.command(epilog=FILES + EXIT_STATUSES)
@pairing
@click.option(
    "--max-rows",
    metavar="NUMBER",
    type=click.IntRange(min=2),
    default=5000,
    show_default=True,
    help="Of more pairs so many, drawn at random, are measured for likeness.",
)
@click.option(
    "--permutations",
    metavar="NUMBER",
    type=click.IntRange(min=19),
    default=99,
    show_default=True,
    help="The random pairings that likeness is compared with; no p is below one in so many and one.",
)
@seed_option("Draws the folds, the rows that are measured, and the random pairings.")
@threads_option
@json_option
@debug_option
def compare(
    source: Location,
    target: Location,
    id_column: str | None,
    unmatched: Any,
    max_rows: int,
    permutations: int,
    seed: int,
    threads: int | None,
    as_json: bool,
) -> None:
    """Tell how alike two spaces are beyond chance.

    Linear CKA, the Procrustes distance and the share of common nearest neighbors need no map. Each stands
    next to what it is where the same rows are paired at random, and to its value with that taken out
    ("debiased": 0 by chance, 1 for the same space) with a 95 % interval. p is the share of random pairings
    that are as alike. Below stands how well each method maps SOURCE to TARGET.
    """
    from latalign.cli import show
    from latalign.streamed import compare_files

    with show.working("comparing") as advance:
        found = compare_files(
            source,
            target,
            id_column=id_column,
            unmatched=unmatched,
            n_permutations=permutations,
            max_rows=max_rows,
            random_state=seed,
            threads=threads,
            progress=advance,
        )
    if as_json:
        print_json(found.to_json())
        return
    print_parts(list(show.comparison_tables(found)))


@main.command(epilog=EXIT_STATUSES)
@click.argument("map_file", metavar="MAP", type=MapFile())
@json_option
@debug_option
def inspect(map_file: Path, as_json: bool) -> None:
    """Show what a map, or a shared space with many, is, and how it was found."""
    from latalign.cli import show
    from latalign.cli.spaces import inspect_spaces
    from latalign.io.mapfile import SHARED, kind_of, read_header

    if kind_of(map_file) == SHARED:
        inspect_spaces(map_file, as_json)
        return
    loaded, header = load_map(map_file), read_header(map_file)
    if as_json:
        print_json(asdict(header))
        return
    parts = [show.line(str(map_file)), show.header_table(header), *show.evidence_tables(loaded)]
    if isinstance(loaded, AffineMap) and loaded.evidence is not None and loaded.evidence.heldout is not None:
        parts.append(show.heldout_table(loaded.evidence.heldout))
    print_parts(parts)
