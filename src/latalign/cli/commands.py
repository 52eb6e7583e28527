"""The commands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from latalign._version import __version__
from latalign.cli.parameters import MapFile, MapOutput, OrAuto, RowsFile, RowsOutput
from latalign.cli.program import EXIT_STATUSES, Program, debug_option
from latalign.io.protocol import Location
from latalign.maps import AffineMap
from latalign.methods import METHODS
from latalign.on_disk import apply_file, load_map, read_pairs, refuse_same_file
from latalign.relation import require_related
from latalign.select import SCORINGS

_FILES = """
\b
Files of rows:
  .npy          an array of shape (rows, dimensions)
  .safetensors  one 2-D tensor, or file.safetensors:NAME
  .parquet      a column of lists of floats, or file.parquet:COLUMN
                (needs the extra: pip install 'latalign[parquet]')
"""


def seed_option(draws: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return the option of a seed, which draws what `draws` says."""
    return click.option(
        "--seed", metavar="NUMBER", type=click.IntRange(min=0), default=0, show_default=True, help=draws
    )


_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def _pairing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments of two files whose rows correspond."""
    for add in (
        click.option(
            "--unmatched",
            type=click.Choice(["error", "drop"]),
            default="error",
            show_default=True,
            help="What becomes of ids that only one side has.",
        ),
        click.option(
            "--id-column",
            metavar="COLUMN",
            help="Pair the rows by this column of both Parquet files, not by their order.",
        ),
        click.argument("target", type=RowsFile()),
        click.argument("source", type=RowsFile()),
    ):
        command = add(command)
    return command


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_FILES + EXIT_STATUSES,
)
@click.version_option(__version__, prog_name="latalign")
@debug_option
def main() -> None:
    """Find the map from one latent space to another, see how good it is, and use it.

    \b
    latalign fit old.npy new.npy -o old-to-new.safetensors
    latalign apply old-to-new.safetensors more-old.npy -o more-new.npy
    """  # noqa: D301 - click reads \b


@main.command(epilog=_FILES + EXIT_STATUSES)
@_pairing
@click.option("-o", "--output", required=True, type=MapOutput(), help="The map file to write.")
@click.option(
    "--method",
    type=click.Choice(["auto", *METHODS]),
    default="auto",
    show_default=True,
    help="auto takes the method with the smallest cross-validated error, the simpler of two that are close.",
)
@click.option(
    "--alpha",
    metavar="NUMBER|auto",
    type=OrAuto(click.FloatRange(min=0)),
    help="The penalty of ridge and shrunk (auto unless given) and low_rank (auto where the rank is chosen, "
    "else 0).",
)
@click.option(
    "--rank",
    metavar="NUMBER|auto",
    type=OrAuto(click.IntRange(min=1)),
    help="The rank of low_rank (auto unless given).",
)
@click.option(
    "--scoring",
    type=click.Choice(SCORINGS),
    default="mse",
    show_default=True,
    help="What auto chooses by; take what the map is for.",
)
@click.option(
    "--holdout",
    metavar="SHARE",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="The share of the pairs to measure on, by a second fit that does not see them (equal pairs stay "
    "together). 0 leaves it out.",
)
@seed_option("Draws the folds and the held-out pairs.")
@click.option(
    "--precision",
    type=click.Choice(["double", "fast"]),
    default="double",
    show_default=True,
    help="fast multiplies float32 blocks; ill-conditioned rows are then read again in float64.",
)
@click.option(
    "--robust",
    is_flag=True,
    help="Let pairs that do not seem to correspond count less, or nothing. Takes some ten times as long.",
)
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Keep in the map file how far off a mapped row may be, for apply --uncertainty.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Fit pairs that cannot be told from shuffled ones, too.",
)
@click.option("--source-name", metavar="TEXT", help="The name of the source model, kept in the map file.")
@click.option("--target-name", metavar="TEXT", help="The name of the target model, kept in the map file.")
@click.option("--dataset", metavar="TEXT", help="The name of the data, kept in the map file.")
@_json_option
@debug_option
def fit(
    source: Location,
    target: Location,
    id_column: str | None,
    unmatched: Any,
    output: Path,
    method: str,
    alpha: Any,
    rank: Any,
    scoring: str,
    holdout: float,
    seed: int,
    precision: str,
    robust: bool,
    uncertainty: bool,
    force: bool,
    source_name: str | None,
    target_name: str | None,
    dataset: str | None,
    as_json: bool,
) -> None:
    """Find the map from SOURCE to TARGET.

    Row i of both is the same thing, seen by two models.
    The map is fitted on all pairs; the held-out figures come from a second fit without some of them.
    Pairs that cannot be told from shuffled ones are refused (a permutation test, p > 0.05).
    """
    from latalign.calibration import calibrate
    from latalign.cli import show
    from latalign.heldout import fit_heldout

    given = {name: value for name, value in (("alpha", alpha), ("rank", rank)) if value is not None}
    _require_parameters(method, given)
    _call_is_right(refuse_same_file, output, [source.path, target.path])
    with show.working("fitting"):
        X, Y = read_pairs(source, target, id_column=id_column, unmatched=unmatched)
        if not force:
            require_related(X, Y, "fit", "Where that cannot be, --force fits them as they are.")
        given |= {"scoring": scoring, "precision": precision, "robust": robust}
        found = fit_heldout(X, Y, method, holdout=holdout, random_state=seed, **given)
        fitted = found.map
        if uncertainty:
            fitted = calibrate(fitted, X, Y, robust=robust, random_state=seed)
        fitted.save(output, source=source_name, target=target_name, dataset=dataset)
    if as_json:
        _print_json(
            {
                "output": str(output),
                **_map_json(fitted),
                "source": source_name,
                "target": target_name,
                "dataset": dataset,
                "heldout": None if found.heldout is None else found.heldout.to_json(),
            }
        )
        return
    tables = list(show.evidence_tables(fitted))
    if found.heldout is not None:
        tables.append(show.evaluation_table(found.heldout, "held-out pairs"))
    _print([show.line(f"{output}: {show.described(fitted)}"), *tables])


@main.command(epilog=_FILES + EXIT_STATUSES)
@click.argument("map_file", metavar="MAP", type=MapFile())
@click.argument("input", type=RowsFile())
@click.option("-o", "--output", required=True, type=RowsOutput(), help="The file of mapped rows to write.")
@click.option(
    "--batch-rows",
    metavar="NUMBER",
    type=click.IntRange(min=1),
    help="The rows in memory at a time; as many as make 4 MiB of float32 unless given.",
)
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Write for each row the distance from its true place that it is within with a probability of "
    "--level: a column 'uncertainty' of a Parquet file, else a file beside the output, OUTPUT.uncertainty.npy. "
    "The map must know it (fit --uncertainty).",
)
@click.option(
    "--level",
    metavar="SHARE",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.9,
    show_default=True,
    help="The probability that --uncertainty is for.",
)
@_json_option
@debug_option
def apply(
    map_file: Path,
    input: Location,
    output: Location,
    batch_rows: int | None,
    uncertainty: bool,
    level: float,
    as_json: bool,
) -> None:
    """Map the rows of INPUT into another file.

    They are mapped in blocks: any number of rows needs the same memory. They keep their dtype; from
    Parquet to Parquet the other columns go along.
    """
    from latalign.cli import show

    _call_is_right(refuse_same_file, output.path, [input.path, map_file])
    began = time.perf_counter()
    with show.working("mapping") as advance:
        options = {"batch_rows": batch_rows, "level": level if uncertainty else None}
        done = apply_file(load_map(map_file), input, output, progress=advance, **options)
    if as_json:
        _print_json(done.to_json())
        return
    seconds = time.perf_counter() - began
    shape = f"{done.rows:,} rows, {done.dim_source} → {done.dim_target} dimensions, {done.dtype}"
    lines = [f"{done.output}: {shape}, in {seconds:.1f} s"]
    if done.uncertainty is not None:
        lines.append(
            f"{done.uncertainty}: the distance from its true place that a row is within, at {level:g}"
        )
    _print([show.line("\n".join(lines))])


@main.command(epilog=_FILES + EXIT_STATUSES)
@click.argument("map_file", metavar="MAP", type=MapFile())
@_pairing
@seed_option("Draws the queries where there are more than 2000 rows.")
@_json_option
@debug_option
def evaluate(
    map_file: Path,
    source: Location,
    target: Location,
    id_column: str | None,
    unmatched: Any,
    seed: int,
    as_json: bool,
) -> None:
    """Measure a map on held-out pairs.

    The mapped rows stand next to the source rows as they are ("no map", where the dimensions are equal)
    and to the target rows themselves as queries ("native", the ceiling: below 1 where rows repeat).
    Retrieval searches all target rows by cosine, with 2000 rows at most as queries; by CSLS as well, which
    makes rows that are near to everything (hubs) harder to find. Hubness tells how unevenly rows are found.
    """
    from latalign.cli import show
    from latalign.evaluation import evaluate as evaluated

    with show.working("evaluating"):
        X, Y = read_pairs(source, target, id_column=id_column, unmatched=unmatched)
        found = evaluated(load_map(map_file), X, Y, random_state=seed)
    if as_json:
        _print_json(found.to_json())
        return
    _print([show.evaluation_table(found, str(map_file))])


@main.command(epilog=_FILES + EXIT_STATUSES)
@_pairing
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
@_json_option
@debug_option
def compare(
    source: Location,
    target: Location,
    id_column: str | None,
    unmatched: Any,
    max_rows: int,
    permutations: int,
    seed: int,
    as_json: bool,
) -> None:
    """Tell how alike two spaces are beyond chance.

    Linear CKA, the Procrustes distance and the share of common nearest neighbors need no map. Each stands
    next to what it is where the same rows are paired at random, and to its value with that taken out
    ("debiased": 0 by chance, 1 for the same space) with a 95 % interval. p is the share of random pairings
    that are as alike. Below stands how well each method maps SOURCE to TARGET.
    """
    from latalign.cli import show
    from latalign.comparison import compare as compared

    with show.working("comparing"):
        X, Y = read_pairs(source, target, id_column=id_column, unmatched=unmatched)
        found = compared(X, Y, n_permutations=permutations, max_rows=max_rows, random_state=seed)
    if as_json:
        _print_json(found.to_json())
        return
    _print(list(show.comparison_tables(found)))


@main.command(epilog=EXIT_STATUSES)
@click.argument("map_file", metavar="MAP", type=MapFile())
@_json_option
@debug_option
def inspect(map_file: Path, as_json: bool) -> None:
    """Show what a map is, and how it was found."""
    from latalign.cli import show
    from latalign.io.mapfile import read_header

    loaded, header = load_map(map_file), read_header(map_file)
    if as_json:
        _print_json(asdict(header))
        return
    parts = [show.line(str(map_file)), show.header_table(header), *show.evidence_tables(loaded)]
    if isinstance(loaded, AffineMap) and loaded.evidence is not None and loaded.evidence.heldout is not None:
        parts.append(show.heldout_table(loaded.evidence.heldout))
    _print(parts)


def _map_json(map_: AffineMap) -> dict[str, Any]:
    return {
        "method": map_.method,
        "dim_source": map_.dim_source,
        "dim_target": map_.dim_target,
        "evidence": None if map_.evidence is None else map_.evidence.to_json(),
    }


def _require_parameters(method: str, given: Mapping[str, Any]) -> None:
    """Refuse an option that belongs to another method."""
    for name in given:
        takers = [row.name for row in METHODS.values() if name in row.parameters]
        if method not in takers:
            raise click.UsageError(
                f"--{name} goes with --method {' or '.join(takers)}; got --method {method}"
            )


def _call_is_right(check: Callable[..., None], *arguments: Any) -> None:
    """Run a check of the library; what it refuses is a wrong call."""
    try:
        check(*arguments)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _print_json(record: Mapping[str, Any]) -> None:
    click.echo(json.dumps(record, allow_nan=False))


def _print(parts: Sequence[Any]) -> None:
    """Print texts and tables with an empty line between two."""
    from latalign.cli import show

    console = show.console()
    for place, part in enumerate(parts):
        if place:
            console.print()
        console.print(part)
