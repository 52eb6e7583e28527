"""What `latalign fit` does with --labels and --unpaired: no row of one side is known to be one of the other, or few."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from latalign.anchors import Labels
from latalign.cli.options import call_is_right, map_json, print_json, print_parts
from latalign.cli.program import answers_by_status
from latalign.io.arrays import open_rows
from latalign.io.labels import read_labels
from latalign.io.protocol import Location
from latalign.loading import read_pairs
from latalign.on_disk import refuse_same_file

if TYPE_CHECKING:
    from latalign.unpaired.finding import UnpairedFit

Sides = tuple[Location, Location]

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
    "queries",
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
    rows: Sides,
    labels: Sides,
    output: Path,
    seed: int,
    names: Mapping[str, str | None],
    as_json: bool,
) -> None:
    """Fit from labels: what `fit` does with --labels."""
    from latalign.cli import show
    from latalign.unpaired.labels import fit_from_labels

    _refuse_what_is_of_pairs(ctx, "--labels")
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


def fit_unpaired(
    ctx: click.Context,
    rows: Sides,
    labels: Sides | None,
    anchors: Sides | None,
    output: Path,
    seed: int,
    names: Mapping[str, str | None],
    as_json: bool,
) -> None:
    """Fit from rows alone, with what else is known of them: what `fit` does with --unpaired."""
    from latalign.cli import show
    from latalign.unpaired import finding

    _refuse_what_is_of_pairs(ctx, "--unpaired")
    answers_by_status(ctx)
    inputs = [*rows, *(labels or ()), *(anchors or ())]
    call_is_right(refuse_same_file, output, [location.path for location in inputs])
    with show.working("searching"):
        X, Y = (open_rows(place).load() for place in rows)
        given: dict[str, Any] = {}
        if labels is not None:
            given["labels"] = tuple(
                _of_as_many(read_labels(said), said, len(loaded), place)
                for said, loaded, place in zip(labels, (X, Y), rows, strict=True)
            )
        if anchors is not None:
            known = read_pairs(*anchors)
            given["pairs"] = tuple(np.arange(len(loaded), len(loaded) + len(known[0])) for loaded in (X, Y))
            X, Y = (
                _appended(loaded, more, place, where)
                for loaded, more, place, where in zip((X, Y), known, rows, anchors, strict=True)
            )
            if labels is not None:
                given["labels"] = tuple(_unlabelled(one, len(known[0])) for one in given["labels"])
        found = finding.fit_unpaired(X, Y, random_state=seed, **given)
        if found.found:
            found.map.save(output, **names)
    if as_json:
        known_of_map = map_json(found.map) if found.found else {}
        where = str(output) if found.found else None
        print_json({"output": where, **known_of_map, **names, "unpaired": found.to_json()})
    else:
        words = f"{output}: {show.described(found.map)}" if found.found else found.explanation
        print_parts([show.line(words), unpaired_table(found)])
    if not found.found:
        ctx.exit(1)


def unpaired_table(found: UnpairedFit) -> Table:
    """Return what was found without pairs, or with a few."""
    from latalign.cli.show import number

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("rows without a counterpart", f"{found.source_rows:,} and {found.target_rows:,}")
    table.add_row("rows that are known to correspond", f"{found.pairs:,}")
    table.add_row("confidence ↑", f"{number(found.confidence)}, from 0 to 1")
    table.add_row("disagreement of halves of the rows ↓", f"{number(found.disagreement)}, 1 is unrelated")
    table.add_row("resemblance of the clouds ↑", f"{number(found.resemblance)}, 0 is by chance")
    if found.agreement:
        shares = f"{number(found.agreement[0])} at first, {number(max(found.agreement))} in the end"
        table.add_row("rows with a mutual partner ↑", shares)
    return table


def _refuse_what_is_of_pairs(ctx: click.Context, mode: str) -> None:
    for name in _OF_PAIRS:
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} is for pairs and does not go with {mode}")


def _of_as_many(labels: Labels, said: Location, count: int, place: Location) -> Labels:
    """Return labels, of which there must be one a row."""
    if len(labels) != count:
        raise ValueError(f"{said} has {len(labels)} labels, {place} has {count} rows. Give one label a row.")
    return labels


def _appended(rows: NDArray[Any], more: NDArray[Any], place: Location, where: Location) -> NDArray[Any]:
    """Return rows and, after them, those that are known to correspond."""
    if rows.shape[1] != more.shape[1]:
        raise ValueError(
            f"{where} has rows of {more.shape[1]} dimensions, {place} of {rows.shape[1]}. Give rows of one space."
        )
    return np.concatenate([rows, more])


def _unlabelled(labels: Labels, more: int) -> Labels:
    """Return labels and, after them, so many that are missing."""
    if labels.dtype.kind in "biuf":
        return np.concatenate([labels.astype(np.float64), np.full(more, np.nan)])
    return np.concatenate([labels.astype(object), np.full(more, None)])
