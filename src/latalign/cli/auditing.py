"""The command that looks for rows which do not correspond."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from latalign.cli.commands import main
from latalign.cli.options import FILES, json_option, pairing, print_json, print_parts, seed_option
from latalign.cli.program import ERRORS, answers_by_status, debug_option, exit_statuses
from latalign.io.protocol import Location
from latalign.loading import read_pairs
from latalign.relation import INDISTINGUISHABLE

if TYPE_CHECKING:
    from latalign.auditing import Audit
    from latalign.shifting import Shift

_SUSPICIONS, _SHIFTS = 20, 5
_STATUSES = exit_statuses("nothing was found", "some rows do not seem to correspond", ERRORS)


@main.command(epilog=FILES + _STATUSES)
@pairing
@click.option(
    "--false-positive-rate",
    metavar="SHARE",
    type=click.FloatRange(0, 0.5, min_open=True, max_open=True),
    default=0.001,
    show_default=True,
    help="The share of genuine pairs that may be called suspicious.",
)
@seed_option("Draws, of many rows, those that are looked at.")
@json_option
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
    their target belong to: are they swapped, or shifted, and from which row on? How many rows are without their
    target, where they are too many to be named? Rows are counted from 0, after pairing.
    """
    from latalign.auditing import audit as audited
    from latalign.cli import show

    answers_by_status(context)
    with show.working("auditing"):
        X, Y = read_pairs(source, target, id_column=id_column, unmatched=unmatched)
        found = audited(X, Y, false_positive_rate=false_positive_rate, random_state=seed)
    if as_json:
        print_json(found.to_json())
    else:
        print_parts(list(audit_parts(found)))
    if not found.sound:
        context.exit(1)


def _shifted(one: Shift) -> str:
    way = "+" if one.offset > 0 else "-"
    return f"Rows {one.start} to {one.stop - 1} are shifted: the target of row i is row i {way} {abs(one.offset)}."


def audit_parts(found: Audit) -> Iterator[Table | Text]:
    """Yield what an audit found: a verdict, the figures, and the suspicious rows."""
    from latalign.cli.show import line, number, titled

    if found.p_value > INDISTINGUISHABLE and not found.shifts:
        verdict = "The pairs cannot be told from shuffled ones."
    elif found.shifts:
        verdict = " ".join(map(_shifted, found.shifts[:_SHIFTS]))
    elif found.sound:
        verdict = "The rows correspond, as far as can be told."
    elif found.mostly_mismatched and len(found.suspicions) < found.mismatched * found.rows / 2:
        verdict = (
            f"About {found.mismatched:.0%} of the rows are no nearer to their own target than to others: so many pairs "
            "are wrong, or the spaces have little in common. They are too many to name the rows."
        )
    else:
        verdict = f"{len(found.suspicions):,} of {found.rows:,} rows do not seem to correspond."
    yield line(verdict)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("pairs", f"{found.rows:,}")
    facts.add_row("p, against pairs in a random order", number(found.p_value))
    facts.add_row("R² on rows left out, bad ones aside", number(found.r2))
    facts.add_row("rows without their own target, about", f"{found.mismatched:.0%}")
    rate = f"{len(found.suspicions):,} (of genuine rows at most {found.false_positive_rate:.2g})"
    facts.add_row("suspicious rows", rate)
    facts.add_row("groups equal on one side only", f"{len(found.conflicts):,}")
    yield facts
    if not found.suspicions:
        return
    table = titled("suspicious rows, the farthest first")
    for name in ("row", "distance / median", "targets nearer", "its target is that of row"):
        table.add_column(name, justify="right")
    for one in sorted(found.suspicions, key=lambda one: -one.distance)[:_SUSPICIONS]:
        belongs = "–" if one.belongs_to is None else f"{one.belongs_to}"
        table.add_row(f"{one.row}", number(one.distance), f"{one.nearer:.1%}", belongs)
    if len(found.suspicions) > _SUSPICIONS:
        table.caption = f"and {len(found.suspicions) - _SUSPICIONS:,} more; --json has them all"
    yield table
