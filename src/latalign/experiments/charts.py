"""A table as a picture: errors over the settings, ours and the paper's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from latalign.experiments.report import grouped, number, setting
from latalign.experiments.results import Result, Table

_MORE = ("similarity", "ridge", "no map")  # shown beside the paper's columns; the rest is in the table
_COLORS = (
    "#0a58ca", "#d1495b", "#2e8b57", "#8e6c8a", "#c77d0a", "#0f8b8d", "#6e7781", "#a23b72", "#3d348b", "#5c8001",
)  # fmt: skip
_WIDEST = 8.0  # times the middle error: what lies further out is told at the edge


def draw(table: Table) -> Figure:
    """Return a figure with one panel for each pair of networks.

    Filled marks are ours, with the standard deviation; open ones of the same color are the paper's.
    """
    groups = grouped(table)
    widest = max(len({setting(one.row) for one in results}) for _, results in groups)
    size = (2.6 + 1.1 * widest * len(groups) ** 0.5, 4.2 * len(groups) + 0.6)
    figure = Figure(figsize=(max(8.0, size[0]), size[1]), dpi=110, layout="constrained")
    figure.suptitle(table.title, x=0.01, ha="left", weight="bold")
    for axes, (name, results) in zip(
        figure.subplots(len(groups), 1, squeeze=False)[:, 0], groups, strict=True
    ):
        _panel(axes, name, results)
    figure.supxlabel(
        f"{'; '.join(table.data)}; preset {table.preset.name}. Filled: ours. Open: the paper's.",
        size=8,
        x=0.01,
        ha="left",
    )
    return figure


def _panel(axes: Axes, name: str, results: Sequence[Result]) -> None:
    published = {one.column for one in results if one.paper is not None}
    shown = [
        column
        for column in dict.fromkeys(one.column for one in results)
        if column in published or column in _MORE or not published
    ]
    heads = list(dict.fromkeys(setting(one.row) for one in results))
    beyond: list[tuple[float, float, str]] = []
    for place, column in enumerate(shown):
        color = _COLORS[place % len(_COLORS)]
        offset = (place - (len(shown) - 1) / 2) * 0.7 / max(len(shown), 1)
        mine = [one for one in results if one.column == column and one.errors]
        x = np.array([heads.index(setting(one.row)) + offset for one in mine])
        deviations = [0.0 if one.deviation != one.deviation else one.deviation for one in mine]
        axes.errorbar(
            x,
            [one.mean for one in mine],
            yerr=deviations,
            fmt="o",
            ms=4.5,
            color=color,
            capsize=2,
            label=column,
        )
        beyond += [(at, one.mean, color) for at, one in zip(x, mine, strict=True)]
        theirs = [(at, one.paper) for at, one in zip(x, mine, strict=True) if one.paper is not None]
        if theirs:
            axes.plot(*zip(*theirs, strict=True), "o", ms=7, mfc="none", mec=color, ls="none")
            beyond += [(at, value, color) for at, value in theirs]
    values = [v for one in results if one.column in shown for v in (one.mean, one.paper) if v and v == v]
    top = min(max(values) * 1.07, float(np.median(values)) * _WIDEST)
    axes.set_yscale("log")
    axes.set_ylim(min(values) * 0.93, top)
    for at, value, color in beyond:
        if value > top:
            axes.annotate(
                f"▲ {number(value)}",
                (at, top),
                (0, -9),
                textcoords="offset points",
                color=color,
                size=7,
                ha="center",
            )
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: f"{value:.2g}")
    axes.tick_params(axis="y", which="both", labelsize=8)
    axes.set_xticks(range(len(heads)), [head.replace(", ", "\n") for head in heads], size=8)
    axes.set_ylabel("error")
    axes.set_title(name, loc="left", size=10)
    axes.grid(axis="y", which="both", color="#e5e7eb", lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
