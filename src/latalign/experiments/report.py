"""Tables as Markdown: our errors, and the paper's under them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from latalign.experiments.plan import Labels
from latalign.experiments.results import Result, Table

_GROUPS = ("networks", "direction")
_MANY = 1000.0  # errors from here on are written as powers of ten


def markdown(table: Table) -> str:
    """Return a table as Markdown: methods down, settings across.

    In each cell our mean ± standard deviation over the seeds and draws, where the networks end in a
    sigmoid the excess over its floor in brackets, and under it the paper's number.
    """
    return "\n".join([f"# {table.title}", "", table.question, "", *notes(table), "", *body(table, level=2)])


def body(table: Table, *, level: int) -> Iterator[str]:
    """Yield the lines of the grids, with headings of a level, and what failed."""
    for name, results in grouped(table):
        if name:
            yield from ("#" * level + f" {name}", "")
        yield from (*_grid(results), "")
    failures: dict[str, list[str]] = {}
    for result in table.results:
        where = f"{result.column} ({', '.join(f'{name} {value}' for name, value in result.row.items())})"
        for failure in dict.fromkeys(result.failures):
            failures.setdefault(failure, []).append(where)
    if failures:
        items = (f"- {'; '.join(cells)}: {failure}" for failure, cells in failures.items())
        yield from ("Failed, and left out of the means:", "", *items, "")


def notes(table: Table) -> Iterator[str]:
    """Yield what a reader must know, as items of a list."""
    yield f"- data: {'; '.join(table.data)}"
    yield (
        f"- preset {table.preset.name}: {table.preset.seeds} seed{'s' * (table.preset.seeds > 1)} of the networks; of "
        f"closed-form maps, {table.preset.draws} draw{'s' * (table.preset.draws > 1)} of the anchors for each; "
        f"{table.preset.epochs} epochs of 60,000 images (a smaller set is gone through more often); on {table.device}"
    )
    if table.preset.cuts:
        yield f"- cut: {table.preset.cuts}"
    yield from (f"- {remark}" for remark in table.remarks)
    yield "- mean squared error per pixel of the normalized test images: ours, mean ± standard deviation"
    for floor in sorted({result.floor for result in table.results} - {0.0}):
        yield (
            f"- in brackets, the excess over {floor:.4f}: the sigmoid at the end of the networks cannot "
            "come nearer to the normalized images"
        )
    if any(result.paper is not None for result in table.results):
        yield "- under it in italics, the paper's number"


def grouped(table: Table) -> list[tuple[str, list[Result]]]:
    """Return the results by the pair of networks that they are of; one group without a name if all are alike."""
    groups: dict[str, list[Result]] = {}
    for result in table.results:
        name = next((str(result.row[key]) for key in _GROUPS if key in result.row), "")
        groups.setdefault(name.replace("_to_", " → "), []).append(result)
    return list(groups.items())


def setting(row: Labels) -> str:
    """Return the head of a column: what its errors are of, the pair of networks left out."""
    return ", ".join(f"{name} {value}" for name, value in row.items() if name not in _GROUPS)


def number(value: float) -> str:
    """Return an error as a table shows it."""
    if not math.isfinite(value):
        return "—"
    return f"{value:.3g}" if value >= _MANY else f"{value:.4f}"


def _grid(results: Sequence[Result]) -> Iterator[str]:
    heads = list(dict.fromkeys(setting(result.row) for result in results))
    methods = list(dict.fromkeys(result.column for result in results))
    cells = {(result.column, setting(result.row)): _shown(result) for result in results}
    yield "| | " + " | ".join(heads) + " |"
    yield "| --- |" + " --- |" * len(heads)
    for method in methods:
        yield f"| {method} | " + " | ".join(cells.get((method, head), "") for head in heads) + " |"


def _shown(result: Result) -> str:
    if not result.errors:
        return "failed"
    parts = [number(result.mean)]
    if math.isfinite(result.deviation):
        parts.append(f"± {number(result.deviation)}")
    if result.floor > 0:
        parts.append(f"({result.mean - result.floor:+.4f})")
    if result.failures:
        parts.append(f"[{len(result.failures)} failed]")
    ours = " ".join(parts)
    return ours if result.paper is None else f"{ours}<br>*{result.paper:g}*"
