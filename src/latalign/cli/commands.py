"""The program, and the command that makes a map."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from latalign._version import __version__
from latalign.cli.options import (
    FILES,
    call_is_right,
    device_option,
    engine_options,
    json_option,
    map_json,
    multiplied_on,
    pairing,
    print_json,
    print_parts,
    seed_option,
    started,
    threads_option,
)
from latalign.cli.parameters import (
    LabelsFile,
    MapOutput,
    OrAuto,
    RowsFile,
)
from latalign.cli.program import EXIT_STATUSES, Program, debug_option
from latalign.io.arrays import open_rows
from latalign.io.protocol import Location
from latalign.loading import read_pairs
from latalign.maps import AffineMap
from latalign.methods import METHODS
from latalign.on_disk import refuse_same_file
from latalign.querying import LOCAL, for_queries, is_for_searching
from latalign.relation import UnrelatedPairsWarning
from latalign.select import SCORINGS


@click.group(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=FILES + EXIT_STATUSES,
)
@click.version_option(__version__, prog_name="latalign")
@debug_option
def main() -> None:
    """Find the map from one latent space to another, see how good it is, and use it.

    \b
    latalign fit old.npy new.npy -o old-to-new.safetensors
    latalign apply old-to-new.safetensors more-old.npy -o more-new.npy
    """  # noqa: D301 - click reads \b


@main.command(epilog=FILES + EXIT_STATUSES)
@pairing
@click.option("-o", "--output", required=True, type=MapOutput(), help="The map file to write.")
@click.option(
    "--labels",
    metavar="SOURCE_LABELS TARGET_LABELS",
    nargs=2,
    type=LabelsFile(),
    help="Fit without pairs, by the class of every row: .npy, .txt (one a line) or file.parquet:COLUMN. Rows "
    "need not correspond. How the map is found is then settled, and nothing is held out.",
)
@click.option(
    "--unpaired",
    is_flag=True,
    help="Fit without pairs, from the shapes of the two clouds alone; --labels may be given as well. Where that tells "
    "too little no map is found: then nothing is written, the exit status is 1, and that of any error 2.",
)
@click.option(
    "--anchors",
    metavar="SOURCE_ANCHORS TARGET_ANCHORS",
    nargs=2,
    type=RowsFile(),
    help="With --unpaired, files of rows that do correspond, besides those of SOURCE and TARGET: they help the "
    "search, and from ten on correct the map.",
)
@click.option(
    "--method",
    type=click.Choice(["auto", *METHODS, LOCAL]),
    default="auto",
    show_default=True,
    help="auto takes the method with the smallest cross-validated error, the simpler of two that are close. "
    f"retrieval and {LOCAL}, which keeps the anchors (20,000 at most), are for queries to be searched with.",
)
@click.option(
    "--alpha",
    metavar="NUMBER|auto",
    type=OrAuto(click.FloatRange(min=0)),
    help="The penalty of ridge, shrunk, retrieval and local_retrieval (auto unless given) and low_rank (auto where the "
    "rank is chosen, else 0).",
)
@click.option(
    "--rank",
    metavar="NUMBER|auto",
    type=OrAuto(click.IntRange(min=1)),
    help="The rank of low_rank (auto unless given).",
)
@click.option(
    "--power",
    metavar="NUMBER|auto",
    type=OrAuto(click.FloatRange(min=0)),
    help="The power of the correlations of retrieval (auto unless given).",
)
@click.option(
    "--scoring",
    type=click.Choice(SCORINGS),
    help="What auto (mse unless given) and retrieval (mrr) choose by; take what the map is for.",
)
@click.option(
    "--holdout",
    metavar="SHARE",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.2,
    show_default=True,
    help="The share of the pairs to measure on, by a second fit that does not see them (equal pairs stay "
    "together), or 2000 of them where the rows are streamed. 0 leaves it out.",
)
@click.option(
    "--curve",
    is_flag=True,
    help="Show the held-out error against the number of anchors as well, and what twice as many would buy. That "
    "takes as long as a hundred fits from moments, and loads the rows.",
)
@click.option(
    "--queries",
    metavar="FILE",
    type=RowsFile(),
    help=f"With --method retrieval or {LOCAL}, other queries of the source model, a hundred or more: where they are "
    "unlike the anchors, what all of them have in common is taken off. They need no counterparts.",
)
@seed_option("Draws the folds and the held-out pairs.")
@click.option(
    "--precision",
    type=click.Choice(["double", "fast", "bfloat16"]),
    default="double",
    show_default=True,
    help="fast multiplies float32 blocks; ill-conditioned rows are then read again in float64. bfloat16, with --device "
    "only, keeps two or three digits; rows that are loaded are then multiplied in float32.",
)
@click.option(
    "--robust",
    is_flag=True,
    help="Let pairs that do not seem to correspond count less, or nothing. Takes some ten times as long.",
)
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Keep in the map file how far off a mapped row may be, for apply --uncertainty. Loads the rows.",
)
@click.option(
    "--force",
    is_flag=True,
    help="Fit pairs that cannot be told from shuffled ones, too.",
)
@click.option("--source-name", metavar="TEXT", help="The name of the source model, kept in the map file.")
@click.option("--target-name", metavar="TEXT", help="The name of the target model, kept in the map file.")
@click.option("--dataset", metavar="TEXT", help="The name of the data, kept in the map file.")
@threads_option
@device_option
@engine_options
@json_option
@debug_option
@click.pass_context
def fit(
    ctx: click.Context,
    source: Location,
    target: Location,
    id_column: str | None,
    unmatched: Any,
    output: Path,
    labels: tuple[Location, Location] | None,
    unpaired: bool,
    anchors: tuple[Location, Location] | None,
    method: str,
    alpha: Any,
    rank: Any,
    power: Any,
    scoring: Any,
    holdout: float,
    curve: bool,
    queries: Location | None,
    seed: int,
    precision: Any,
    robust: bool,
    uncertainty: bool,
    force: bool,
    source_name: str | None,
    target_name: str | None,
    dataset: str | None,
    threads: int | None,
    device: str,
    engine: str | None,
    scheduler: str | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Find the map from SOURCE to TARGET.

    Row i of both is the same thing, seen by two models, unless --labels or --unpaired are given.
    The map is fitted on all pairs; the held-out figures come from a second fit without some of them.
    More rows than 32 MiB are read once, block by block: any number of them needs the same memory.
    Pairs that cannot be told from shuffled ones are refused (a permutation test, p > 0.05).
    """
    from latalign.calibration import calibrate
    from latalign.cli import show
    from latalign.cli.without_pairs import fit_labelled, fit_unpaired
    from latalign.curves import learning_curve
    from latalign.streamed import fit_files

    names = {"source": source_name, "target": target_name, "dataset": dataset}
    if anchors is not None and not unpaired:
        raise click.UsageError("--anchors go with --unpaired; without it SOURCE and TARGET are the anchors")
    if unpaired:
        fit_unpaired(ctx, (source, target), labels, anchors, output, seed, names, as_json)
        return
    if labels is not None:
        fit_labelled(ctx, (source, target), labels, output, seed, names, as_json)
        return
    options = {"alpha": alpha, "rank": rank, "power": power}
    given = {name: value for name, value in options.items() if value is not None}
    _require_parameters(method, given)
    if engine is not None and id_column is not None:
        raise click.UsageError("--engine reads pairs by their order, and goes without --id-column")
    _require_device(precision, device, curve)
    place = multiplied_on(device, engine)
    if curve and scoring not in (None, "mse"):
        raise click.UsageError(f"--curve is of squared errors and goes with --scoring mse; got {scoring}")
    ranks = is_for_searching(method)
    if curve and ranks:
        raise click.UsageError(f"--curve is of squared errors, of which {method} makes nothing")
    if scoring == "mse" and ranks:
        raise click.UsageError(f"--scoring mse is of squared errors, of which {method} makes nothing")
    if uncertainty and ranks:
        raise click.UsageError(
            f"--uncertainty goes with a map that says where a row lies, which {method} does not"
        )
    if queries is not None and not ranks:
        raise click.UsageError(f"--queries go with --method retrieval or {LOCAL}; got --method {method}")
    read = [source, target] if queries is None else [source, target, queries]
    call_is_right(refuse_same_file, output, [location.path for location in read])
    asked = None if queries is None else _queries(queries, source)
    with started(engine, scheduler, workers) as running, show.working("fitting") as advance:
        found = fit_files(
            source,
            target,
            method,
            id_column=id_column,
            unmatched=unmatched,
            holdout=holdout,
            scoring=scoring,
            precision=precision,
            robust=robust,
            random_state=seed,
            threads=threads,
            progress=advance,
            refuse_unrelated=not force,
            engine=running,
            **({} if place is None else {"place": place}),
            **given,
        )
        fitted, learned = found.map, None
        if asked is not None:
            fitted = for_queries(fitted, asked)
        if curve or uncertainty:
            X, Y = read_pairs(source, target, id_column=id_column, unmatched=unmatched)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UnrelatedPairsWarning)  # the fit has said it
                if curve:
                    given |= {"precision": precision, "robust": robust, "random_state": seed}
                    learned = learning_curve(X, Y, method, **given)
                if uncertainty:
                    assert isinstance(fitted, AffineMap)  # what ranks was refused
                    fitted = calibrate(fitted, X, Y, robust=robust, random_state=seed)
        fitted.save(output, **names)
    if as_json:
        print_json(
            {
                "output": str(output),
                **map_json(fitted),
                **names,
                # What was measured is the map before the mean of queries was taken off, which is not written.
                "heldout": None if found.heldout is None or asked is not None else found.heldout.to_json(),
                "curve": None if learned is None else learned.to_json(),
            }
        )
        return
    tables = list(show.evidence_tables(fitted))
    if found.heldout is not None:
        before = "" if asked is None else ", before --queries"
        tables.append(show.evaluation_table(found.heldout, f"held-out pairs{before}"))
    if learned is not None:
        tables.append(show.curve_table(learned))
    print_parts([show.line(f"{output}: {show.described(fitted)}"), *tables])


def _require_device(precision: str, device: str, curve: bool) -> None:
    """Refuse bfloat16 where NumPy multiplies."""
    if precision == "bfloat16" and device == "cpu":
        raise click.UsageError("--precision bfloat16 goes with --device cuda")
    if precision == "bfloat16" and curve:
        raise click.UsageError("--curve loads the rows, and goes without --precision bfloat16")


def _require_parameters(method: str, given: Mapping[str, Any]) -> None:
    """Refuse an option that belongs to another method."""
    for name in given:
        takers = [row.name for row in METHODS.values() if name in row.parameters]
        takers += [LOCAL] if name == "alpha" else []
        if method not in takers:
            raise click.UsageError(
                f"--{name} goes with --method {' or '.join(takers)}; got --method {method}"
            )


def _queries(queries: Location, source: Location) -> Any:
    """Return queries that are as wide as the source, before a fit takes its time."""
    asked, rows = open_rows(queries), open_rows(source)
    if asked.dim != rows.dim:
        raise ValueError(
            f"{asked.location} has rows of {asked.dim} dimensions and {rows.location} of {rows.dim}: queries are of "
            "the source model"
        )
    return asked.load()
