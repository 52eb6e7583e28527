"""The command that tells whether a map saves an index whose embedding model changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np

from latalign.cli.commands import main
from latalign.cli.options import FILES, call_is_right, json_option, print_json, print_parts, seed_option
from latalign.cli.parameters import LabelsFile, MapOutput, RelevantFile, RowsFile
from latalign.cli.program import ERRORS, answers_by_status, debug_option, exit_statuses
from latalign.cli.same_things import in_order_of, read_sides
from latalign.io.arrays import open_rows
from latalign.io.labels import read_labels
from latalign.io.protocol import Location
from latalign.io.relevant import read_relevant
from latalign.on_disk import refuse_same_file

_STATUSES = exit_statuses(
    "a map (a bridge, or mapped documents) beats keeping the old model",
    "no map does, or these queries do not tell, or -o and none was chosen",
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
    type=RelevantFile(),
    help="For each query the row (from 0) of the index that it should find, or several: a .npy file of shape "
    "(queries,) or (queries, several) filled up with -1; text with a line a query; or file.parquet:COLUMN (or "
    ".arrow) of numbers or lists of them. With --index-ids their ids. Unless given, the ten nearest rows of the "
    "new index are the truth.",
)
@click.option(
    "--index-ids",
    metavar="FILE",
    type=LabelsFile("ids of the index"),
    help="The id of every row of the index, by which --relevant names them: .npy, .txt (one a line) or "
    "file.parquet:COLUMN.",
)
@_rows(
    "new-index",
    "The documents embedded by the new model, row by row as in the old index: what re-embedding would give.",
    required=False,
)
@_rows(
    "unpaired-queries",
    "Other queries by the new model alone, a hundred or more: what all have in common a bridge takes off, if it is "
    "made for queries (retrieval, local_retrieval).",
    required=False,
)
@click.option(
    "--id-column",
    metavar="COLUMN",
    help="Pair anchors, queries and, where --new-index is given, documents by this column of both tables, not by "
    "their order. A table of --relevant or --index-ids that has it is paired with --old-queries or --old-index by "
    "it too.",
)
@click.option(
    "-o",
    "--output",
    metavar="MAP",
    type=MapOutput(),
    help="Write the map that is chosen: of the queries (bridge) or of the documents. Where documents and queries "
    "are compared less a mean, that of the queries goes to NAME.queries.safetensors. Where no map is chosen nothing "
    "is written, and the exit status is 1.",
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
    relevant: Location | None,
    index_ids: Location | None,
    new_index: Location | None,
    unpaired_queries: Location | None,
    id_column: str | None,
    output: Path | None,
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
    A zero vector has a cosine of 0 with any other: such a query finds nothing, such a document is not found.
    """  # noqa: D301 - click reads \b
    from latalign.cli import show
    from latalign.model_change import verdict as judged

    answers_by_status(context)
    if relevant is None and new_index is None:
        raise click.UsageError("give --relevant, or --new-index, whose nearest rows are the truth then")
    if index_ids is not None and relevant is None:
        raise click.UsageError("--index-ids goes with --relevant, which names rows of the index by them")
    given = old_anchors, new_anchors, old_index, old_queries, new_queries
    if output is not None:
        read = [*given, relevant, index_ids, new_index, unpaired_queries]
        call_is_right(refuse_same_file, output, [place.path for place in read if place is not None])
    with show.working("searching"):
        anchors = read_sides(old_anchors, new_anchors, id_column)
        queries = read_sides(old_queries, new_queries, id_column)
        index, anew = open_rows(old_index).load(), None
        if new_index is not None:
            index, anew = read_sides(old_index, new_index, id_column)
        ids = asked = None
        if index_ids is not None:
            ids = in_order_of(old_index, read_labels(index_ids), index_ids, id_column)
        if relevant is not None:
            asked = read_relevant(relevant, texts=_are_texts(ids))
            asked = in_order_of(old_queries, asked, relevant, id_column)
        found = judged(
            *(*anchors, index, *queries),
            relevant=asked,
            new_index=anew,
            index_ids=ids,
            unpaired_queries=None if unpaired_queries is None else open_rows(unpaired_queries).load(),
            random_state=seed,
        )
        written: dict[str, Path] = {}
        if output is not None and found.chosen_map_exists:
            written = found.save_map(output)
    if as_json:
        files = {name: str(path) for name, path in written.items()}
        print_json(found.to_json() | ({} if output is None else {"output": files}))
    else:
        parts = [show.verdict_table(found), show.verdict_hubs(found), show.line(show.verdict_words(found))]
        print_parts([*parts, show.line(show.written_maps(written))] if written else parts)
    if output is not None and not written:
        click.echo(
            f"Error: nothing was written to {output}: the verdict is {found.choice!r}, and no map is chosen.",
            err=True,
        )
    if not found.a_map_beats_keeping or (output is not None and not written):
        context.exit(1)


def _are_texts(ids: Any) -> bool:
    return ids is not None and np.asarray(ids).dtype.kind in "OU"
