"""What `latalign fit` does with --labels: no row of one side is known to be one of the other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import click

from latalign.cli.options import call_is_right, map_json, print_json, print_parts
from latalign.io.protocol import Location
from latalign.on_disk import refuse_same_file

# What is for pairs alone.
_OF_PAIRS = [
    "id_column",
    "unmatched",
    "method",
    "alpha",
    "rank",
    "power",
    "scoring",
    "holdout",
    "curve",
    "precision",
    "robust",
    "uncertainty",
    "force",
    "threads",
    "device",
    "engine",
    "scheduler",
    "workers",
]


def fit_labelled(
    ctx: click.Context,
    rows: tuple[Location, Location],
    labels: tuple[Location, Location],
    output: Path,
    seed: int,
    names: Mapping[str, str | None],
    as_json: bool,
) -> None:
    """Fit from labels: what `fit` does with --labels."""
    from latalign.cli import show
    from latalign.io.arrays import open_rows
    from latalign.io.labels import read_labels
    from latalign.unpaired.labels import fit_from_labels

    for name in _OF_PAIRS:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is for pairs and does not go with --labels")
    call_is_right(refuse_same_file, output, [location.path for location in (*rows, *labels)])
    with show.working("fitting"):
        sides = [
            (open_rows(place).load(), read_labels(said)) for place, said in zip(rows, labels, strict=True)
        ]
        found = fit_from_labels(*sides[0], *sides[1], random_state=seed)
        found.map.save(output, **names)
    if as_json:
        print_json({"output": str(output), **map_json(found.map), **names, "labels": found.to_json()})
        return
    print_parts([show.line(f"{output}: {show.described(found.map)}"), show.labels_table(found)])
