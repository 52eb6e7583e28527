"""What came back, for people: rich tables on stdout, a bar on stderr."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from latalign.comparison import Comparison
from latalign.curve_results import CurvePoint, Forecast, LearningCurve
from latalign.evaluation import Evaluation
from latalign.evidence import Evidence
from latalign.io.mapfile import MapHeader
from latalign.local_map import LocalMap
from latalign.maps import AffineMap
from latalign.metrics import Likeness
from latalign.on_disk import AnyMap
from latalign.stitching import StitchingMap
from latalign.uncertainty import Uncertainty

if TYPE_CHECKING:
    from pathlib import Path

    from latalign.model_change import Option, Verdict
    from latalign.unpaired.labels import LabelsFit

_BAR_AFTER_SECONDS = 1.0
_NAMED_METHODS = 2  # of those that a curve saw chosen
# The figures of an evaluation, and which way is better.
_FIGURES = {
    "mse": "mean squared error ↓",
    "r2": "R² ↑",
    "cosine": "mean cosine ↑",
    "recall@1": "recall@1 ↑",
    "recall@10": "recall@10 ↑",
    "mrr": "mean reciprocal rank ↑",
    "csls_recall@1": "recall@1 by CSLS ↑",
    "csls_recall@10": "recall@10 by CSLS ↑",
    "hubness": "hubness ↓",
}


class _Console(Console):
    """A console that leaves a reader who went away to the program."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """Return the console of stdout."""
    return _Console(highlight=False, soft_wrap=True)


@contextmanager
def working(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar on stderr while the block runs, if that is a terminal and it takes more than a second.

    Gives the function ``advance(done, total)``; until it is called the bar only says that work goes on.
    """
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(label, total=None)
    timer = threading.Timer(_BAR_AFTER_SECONDS, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda done, total: bar.update(task, completed=done, total=total)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def line(text: str) -> Text:
    """Return a line of plain text, in which no path is taken for markup."""
    return Text(text)


def described(map_: AffineMap | LocalMap) -> str:
    """Return a map in a few words."""
    words = f"{map_.method}, {map_.dim_source} → {map_.dim_target} dimensions"
    return words if map_.evidence is None else f"{words}, {map_.evidence.anchors:,} anchors"


def evidence_tables(map_: AnyMap) -> Iterator[Table]:
    """Yield what is known of how a map was found."""
    if isinstance(map_, StitchingMap):
        yield _training(map_)
    if not isinstance(map_, AffineMap | LocalMap) or map_.evidence is None:
        return
    evidence = map_.evidence
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("rank", f"{evidence.rank}")
    facts.add_row("condition", number(evidence.condition))
    facts.add_row("rounding error of the coefficients, at most", f"{evidence.error_bound:.1e}")
    if evidence.alpha is not None:
        facts.add_row("alpha (penalty)", number(evidence.alpha))
    if evidence.target_rank is not None:
        facts.add_row("limited to rank", f"{evidence.target_rank}")
    if evidence.robust is not None:
        ignored, less = (int(evidence.robust[name]) for name in ("ignored", "downweighted"))
        facts.add_row("pairs that count nothing, and less than others", f"{ignored:,}, {less:,}")
    if isinstance(map_, AffineMap) and map_.uncertainty is not None:
        facts.add_row("uncertainty of a mapped row, typically", number(_typical(map_.uncertainty)))
    if evidence.power is not None:
        facts.add_row("power of the correlations", number(evidence.power))
    if evidence.scale is not None:
        facts.add_row("scale of the similarity map that it is drawn to", number(evidence.scale))
    yield facts
    if evidence.candidates:
        yield _candidates(evidence, map_.method)


def evaluation_table(found: Evaluation, title: str) -> Table:
    """Return the figures of a map next to those of no map and of the target rows themselves."""
    columns: dict[str, Mapping[str, float]] = {"mapped": found.mapped.figures()}
    if found.no_map is not None:
        columns["no map"] = found.no_map.figures()
    columns["native"] = found.native.figures()
    among = "" if found.searched is None else f" among {found.searched:,} drawn at random"
    table = titled(f"{title}: {found.rows:,} rows, {found.queries:,} of them as queries{among}")
    table.add_column("↑ higher, ↓ lower is better", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    for figure, label in _FIGURES.items():
        table.add_row(label, *(number(column.get(figure)) for column in columns.values()))
    return table


def heldout_table(heldout: Mapping[str, float | None]) -> Table:
    """Return the held-out figures that a map file keeps."""
    rows = heldout.get("rows")
    table = titled("held-out pairs" if rows is None else f"held-out pairs: {int(rows):,} rows")
    table.add_column("↑ higher, ↓ lower is better", no_wrap=True)
    table.add_column("mapped", justify="right")
    for figure, label in _FIGURES.items():
        table.add_row(label, number(heldout.get(figure)))
    return table


def labels_table(found: LabelsFit) -> Table:
    """Return how a map was found from labels."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("classes that both sides have", f"{found.classes:,}")
    for side, rows, left_out in (
        ("source", found.source_rows, found.source_left_out),
        ("target", found.target_rows, found.target_left_out),
    ):
        table.add_row(f"{side} rows of them", f"{rows:,}" + (f" ({left_out:,} left out)" if left_out else ""))
    table.add_row("disagreement of halves of the rows ↓", f"{number(found.disagreement)}, from 0 to 1")
    if found.agreement:
        shares = f"{number(found.agreement[0])} at first, {number(max(found.agreement))} in the end"
        table.add_row("rows with a mutual partner ↑", shares)
    else:
        table.caption = "There are too few rows to tell a rotation; the map is that of the class means."
        table.caption_justify = "left"
    return table


def comparison_tables(found: Comparison) -> Iterator[Table | Text]:
    """Yield how alike two spaces are, and how well each method maps the one to the other."""
    table = titled(f"{found.rows:,} pairs, {found.dim_source} and {found.dim_target} dimensions")
    table.add_column("how alike they are", no_wrap=True)
    for name in ("value", "by chance", "debiased ↑", "95 % interval", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, measure in _measures(found):
        figures = (number(value) for value in (measure.value, measure.chance, measure.debiased))
        interval = "–" if measure.low != measure.low else f"{measure.low:.3f} to {measure.high:.3f}"
        p_value = "–" if measure.p_value != measure.p_value else f"{measure.p_value:.2g}"
        table.add_row(label, *figures, interval, p_value)
    yield table
    yield line("\n".join(_on_likeness(found)))
    table = titled("cross-validated R² of the map from source to target, ± standard error")
    for name in ("method", "R² ↑", "±", "with"):
        table.add_column(name, justify="left" if name in ("method", "with") else "right", no_wrap=True)
    for row in found.methods:
        with_ = _with(row.alpha, row.target_rank)
        table.add_row(row.method, number(row.r2), _spread(row.standard_error), with_)
    yield table


def curve_table(found: LearningCurve) -> Table:
    """Return the errors against the number of anchors, the check of the law, and what it extrapolates to."""
    table = titled("held-out error against the number of anchors, with 90 % interval")
    table.caption = "\n".join(_said_of_curve(found))
    for name in ("anchors", "error ↓", "from", "to", "R² ↑", "method"):
        table.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for point in found.points:
        table.add_row(*_curve_figures(point, found.variance), _chosen(point.chosen))
    for forecast, what in ((found.all_anchors, "all, extrapolated"), (found.twice, "twice, extrapolated")):
        if forecast is not None:
            table.add_row(*_curve_figures(forecast, found.variance), what)
    return table


def header_table(header: MapHeader) -> Table:
    """Return what a map file says of its map, but for the evidence."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("method", header.method)
    table.add_row("dimensions", f"{header.dim_source} → {header.dim_target}")
    for name in ("source", "target", "dataset"):
        value = getattr(header, name)
        if value is not None:
            table.add_row(name, Text(value))
    if header.evidence is not None:
        table.add_row("anchors", f"{header.evidence['anchors']:,}")
    table.add_row("written by", f"latalign {header.latalign_version} (map format {header.format})")
    return table


def verdict_table(found: Verdict) -> Table:
    """Return what can be done, and what the test queries find then."""
    left_out = f", {found.anchors_left_out:,} left out" if found.anchors_left_out else ""
    table = titled(
        f"{found.queries:,} queries, {found.index_rows:,} rows in the index, {found.anchors:,} anchors{left_out}\n"
        f"truth: {found.truth}; gain: recall@10 less that of keep [95 %]"
    )
    for name in ("", "map", "recall@1", "recall@10", "MRR", "gain"):
        table.add_column(name, justify="left" if name in ("", "map") else "right", no_wrap=True)
    for one in found.options:
        gain = (
            "" if one.gain is None else f"{one.gain.value:+.3f} [{one.gain.low:+.3f}, {one.gain.high:+.3f}]"
        )
        figures = (f"{value:.3f}" for value in (one.recall_at_1, one.recall_at_10, one.mrr))
        mark = "→" if one.name == found.choice else " "
        table.add_row(f"{mark} {one.name}", _map_words(one), *figures, gain)
    if any(one.tried and one.tried[0].way != "as it is" for one in found.options):
        table.caption = "* less the mean of the anchors"
    return table


def verdict_hubs(found: Verdict) -> Table:
    """Return what a search that corrects for hubs finds, option by option."""
    table = titled("searched by CSLS, which corrects for hubs; no option is chosen by it")
    for name in ("", "recall@1", "recall@10", "hubness"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for one in found.options:
        recalls = (f"{value:.3f}" for value in (one.csls_recall_at_1, one.csls_recall_at_10))
        table.add_row(f"  {one.name}", *recalls, f"{one.hubness:.2f}")
    return table


def written_maps(files: Mapping[str, Path]) -> str:
    """Return where the maps of a verdict went."""
    return "; ".join(f"{path}: {what} are mapped by it" for what, path in files.items()) + "."


_VERDICTS = {
    "keep": "Keep embedding queries by the old model: nothing to choose from finds more, beyond chance.",
    "bridge": "Bridge: embed queries by the new model and map them; the index stays as it is.",
    "documents": "Map the stored documents to the new model's space.",
    "re-embed": "Embed the documents anew: that finds more than any map does, beyond chance.",
    "cannot tell": "Cannot tell: keep the old model until more queries do.",
}


def _map_words(option: Option) -> str:
    if not option.tried:
        return "–"
    best = option.tried[0]
    return best.method if best.way == "as it is" else f"{best.method}*"


def verdict_words(found: Verdict) -> str:
    """Return the verdict in a sentence or two."""
    words = [_VERDICTS[found.choice]]
    if found.choice != "cannot tell" and not found.a_map_beats_keeping:
        words.append("No map beats keeping the old model.")
    elif found.choice == "re-embed":
        better = " and ".join(one.name for one in found.options if one.beats_keeping and one.tried)
        words.append(f"Until then, there is a map that beats keeping the old model: {better}.")
    open_ = [(one.name, one.queries_needed) for one in found.options if one.queries_needed is not None]
    if open_:
        told = " and ".join(f"{name} (about {needed:,} queries would)" for name, needed in open_)
        words.append(f"These queries do not tell keeping from {told}.")
    if found.truth == "neighbors in the new index":
        words.append("Re-embedding is the truth here and no choice: give --relevant to measure it as well.")
    if all(one.name != "re-embed" for one in found.options):
        words.append(
            "What embedding anew would give is not known: give --new-index, of a part of the index say."
        )
    return " ".join(words)


def number(value: float | None) -> str:
    """Return a number to four digits; a dash where there is none."""
    if value is None or value != value:
        return "–"
    return f"{value:.4g}"


def _measures(found: Comparison) -> tuple[tuple[str, Likeness], ...]:
    return (
        ("linear CKA ↑", found.linear_cka),
        ("Procrustes distance ↓", found.procrustes_distance),
        (f"{found.k} neighbors shared ↑", found.mutual_knn),
    )


def _on_likeness(found: Comparison) -> Iterator[str]:
    """Yield what the figures of likeness are of, and what they can and cannot tell."""
    yield f"Of {found.measured_rows:,} rows, no pair twice, next to {found.permutations:,} random pairings of them."
    yield "debiased: 0 for rows paired at random, 1 for the same space."
    needed = [
        f"{measure.rows_needed:,} ({label[:-2]})"
        for label, measure in _measures(found)
        if measure.rows_needed is not None
    ]
    if needed:
        yield f"Rows for an interval of ± 0.05, about: {', '.join(needed)}."
    if found.told_from_chance:
        yield "These rows tell the spaces from unrelated ones: p ≤ 0.05 by every measure."
    else:
        yield "These rows do not tell the spaces from unrelated ones: p > 0.05 by some measure."
        yield "Check that the rows correspond (--id-column), or give more of them."


def _typical(uncertainty: Uncertainty) -> float:
    """Return the median distance of held-out rows from their place, at a leverage as most have."""
    return float(uncertainty.scores[len(uncertainty.scores) // 2])


def _training(map_: StitchingMap) -> Table:
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_row("hidden layers", f"2 of {map_.k * map_.dim_source} (k = {map_.k})")
    evidence = map_.evidence
    if evidence is None:
        return facts
    facts.add_row("epochs", f"{evidence.epochs:,}, of which the best was {evidence.best_epoch:,}")
    facts.add_row("mean squared error on the pairs trained on", number(evidence.training_error))
    what = f"the same on the {evidence.heldout_anchors:,} held out, which chose the epoch"
    facts.add_row(what, number(evidence.heldout_error))
    facts.add_row("training time", f"{evidence.seconds:,.1f} s")
    return facts


def _candidates(evidence: Evidence, method: str) -> Table:
    squares = evidence.scoring == "mse"
    what = "mean squared error" if squares else f"1 − {evidence.scoring}"
    table = titled(f"cross-validated error of every method: {what} ± standard error")
    baseline = evidence.baseline if squares else None
    for name in ("method", "error ↓", "±", *(["R² ↑"] if baseline else []), "with", ""):
        table.add_column(name, justify="left" if name in ("method", "with", "") else "right", no_wrap=True)
    for row in evidence.candidates:
        r2 = [number(1 - row.error / baseline)] if baseline else []
        figures = number(row.error), _spread(row.standard_error), *r2
        mark = "← chosen" if row.method == method else ""
        table.add_row(row.method, *figures, _with(row.alpha, row.target_rank), mark)
    return table


def _curve_figures(point: CurvePoint | Forecast, variance: float) -> tuple[str, ...]:
    figures = (point.error, point.low, point.high, 1 - point.error / variance)
    return f"{point.anchors:,}", *map(number, figures)


def _chosen(chosen: Mapping[str, int]) -> str:
    order = sorted(chosen, key=lambda name: -chosen[name])
    if len(order) == 1:
        return order[0]
    named = [f"{name} {chosen[name]}" for name in order[:_NAMED_METHODS]]
    return ", ".join([*named, "…"] if len(order) > _NAMED_METHODS else named)


def _said_of_curve(found: LearningCurve) -> tuple[str, ...]:
    law, check, saving = found.law, found.check, found.saving
    off = 100 * (check.predicted / check.measured - 1)
    checked = (
        f"check: fitted to {check.fitted_to:,} anchors and fewer, the law gives {number(check.predicted)} "
        f"with {check.anchors:,}; measured {number(check.measured)} ({off:+.1f} %)"
    )
    if saving is None:
        return checked, "It does not hold, so nothing is extrapolated."
    return (
        f"law: {law.floor:.4g} + {law.scale:.4g} · anchors^−{law.exponent:.3g}",
        checked,
        f"Twice the anchors would take {100 * saving.share:.1f} % of the error away "
        f"({100 * saving.low:.1f} to {100 * saving.high:.1f} %).",
    )


def _with(alpha: float | None, rank: int | None) -> str:
    parts = ([] if rank is None else [f"rank {rank}"]) + ([] if alpha is None else [f"alpha {alpha:.3g}"])
    return ", ".join(parts)


def _spread(value: float) -> str:
    return "–" if value != value else f"{value:.2g}"


def titled(title: str) -> Table:
    """Return an empty table under a title."""
    options: dict[str, Any] = {
        "box": None,
        "title_justify": "left",
        "caption_justify": "left",
        "pad_edge": False,
        "header_style": "bold",
    }
    return Table(title=title, **options)
