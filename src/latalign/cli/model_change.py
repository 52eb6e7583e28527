"""The command that tells whether a map saves an index whose embedding model changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from latalign.cli.commands import main
from latalign.cli.options import FILES, json_option, print_json, print_parts, seed_option
from latalign.cli.parameters import RowsFile
from latalign.cli.program import ERRORS, answers_by_status, debug_option, exit_statuses
from latalign.io.arrays import open_rows
from latalign.io.npy import read_array
from latalign.io.protocol import Location

_STATUSES = exit_statuses(
    "a map (a bridge, or mapped documents) beats keeping the old model",
    "no map does, or these queries do not tell",
    ERRORS,
)


def _rows(name: str, what: str, *, required: bool = True) -> Any:
    return click.option(
        f"--{name}", name.replace("-", "_"), metavar="FILE", type=RowsFile(), required=required, help=what
    )


@main.command(epilog=FILES + _STATUSES)
@_rows("old-anchors", "Rows embedded by the old model, and …")
@_rows("new-anchors", "… the same things embedded by the new one: what the maps are fitted on.")
@_rows("old-index", "The stored documents, embedded by the old model.")
@_rows("old-queries", "Test queries embedded by the old model, and …")
@_rows("new-queries", "… the same queries embedded by the new one.")
@click.option(
    "--relevant",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="For each query the row (from 0) of the index that it should find: a .npy file of whole numbers, of "
    "shape (queries,) or (queries, several) filled up with -1; or a text file with a line a query. Unless "
    "given, the ten nearest rows of the new index are the truth.",
)
@_rows(
    "new-index",
    "The documents embedded by the new model, row by row as in the old index: what re-embedding would give.",
    required=False,
)
@seed_option("Draws the folds of the anchors and the resamples of the intervals.")
@json_option
@debug_option
@click.pass_context
def verdict(
    context: click.Context,
    old_anchors: Location,
    new_anchors: Location,
    old_index: Location,
    old_queries: Location,
    new_queries: Location,
    relevant: Path | None,
    new_index: Location | None,
    seed: int,
    as_json: bool,
) -> None:
    """Keep the old model, bridge to it, map what is stored, or embed it anew.

    \b
    keep       the old model goes on embedding queries
    bridge     queries are embedded by the new model and mapped into the index
    documents  the stored index is mapped to the new model's space, once
    re-embed   every document is embedded by the new model

    Each is measured by what the test queries find (exact search, cosine), next to keeping the old model,
    with a 95 % bootstrap interval of the difference, query by query. The maps are fitted and chosen on the
    anchors alone, by what held-out ones find; anchors that are a test query or a relevant row are left out.
    """  # noqa: D301 - click reads \b
    from latalign.cli import show
    from latalign.model_change import verdict as judged

    answers_by_status(context)
    if relevant is None and new_index is None:
        raise click.UsageError("give --relevant, or --new-index, whose nearest rows are the truth then")
    given = old_anchors, new_anchors, old_index, old_queries, new_queries
    with show.working("searching"):
        found = judged(
            *(open_rows(location).load() for location in given),
            relevant=None if relevant is None else _read_relevant(relevant),
            new_index=None if new_index is None else open_rows(new_index).load(),
            random_state=seed,
        )
    if as_json:
        print_json(found.to_json())
    else:
        print_parts([show.verdict_table(found), show.line(show.verdict_words(found))])
    if not found.a_map_beats_keeping:
        context.exit(1)


def _read_relevant(path: Path) -> NDArray[Any]:
    try:
        if path.suffix.lower() == ".npy":
            return read_array(path)
        return np.loadtxt(path, dtype=np.int64, ndmin=2)
    except ValueError as error:
        raise ValueError(
            f"{path} is no list of relevant rows: a .npy file of whole numbers, or text with a line of them for "
            f"each query ({error})"
        ) from error
