"""The command that looks for rows which do not correspond."""

from __future__ import annotations

from typing import Any

import click

from latalign.cli.commands import _FILES, _json_option, _pairing, _print, _print_json, main, seed_option
from latalign.cli.program import EXIT_STATUSES, debug_option
from latalign.io.protocol import Location
from latalign.on_disk import read_pairs


@main.command(epilog=_FILES + EXIT_STATUSES)
@_pairing
@click.option(
    "--false-positive-rate",
    metavar="SHARE",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.001,
    show_default=True,
    help="The share of genuine pairs that may be called suspicious.",
)
@seed_option("Draws, of many rows, those that are looked at.")
@_json_option
@debug_option
@click.pass_context
def audit(
    context: click.Context,
    source: Location,
    target: Location,
    id_column: str | None,
    unmatched: Any,
    false_positive_rate: float,
    seed: int,
    as_json: bool,
) -> None:
    """Find the rows of SOURCE and TARGET that do not correspond.

    Are the pairs as a whole to be told from shuffled ones? Which rows are suspicious, since a map that was
    fitted without them takes their source far from their target, and nearer to others? Which row does
    their target belong to: are they swapped, or shifted? Rows are counted from 0, after pairing.

    The exit status is 0 where nothing was found and 1 where something was.
    """
    from latalign.auditing import audit as audited
    from latalign.cli import show

    with show.working("auditing"):
        X, Y = read_pairs(source, target, id_column=id_column, unmatched=unmatched)
        found = audited(X, Y, false_positive_rate=false_positive_rate, random_state=seed)
    if as_json:
        _print_json(found.to_json())
    else:
        _print(list(show.audit_parts(found)))
    if not found.sound:
        context.exit(1)
