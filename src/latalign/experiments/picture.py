"""A picture of images in rows: the same images, through one network and another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from latalign.io.files import written_beside

# The layout, in pixels of the picture.
_TILE = 84
_GAP = 4  # between tiles
_BREAK = 16  # between groups of rows
_MARGIN = 28
_LABELS = 210  # the column of row labels
_NOTES = 96  # the column of figures at the right of a panel
_BETWEEN = 28  # between panels
_HEAD = 190  # title and panel titles
_DPI = 100
# In points. A page shows the picture at about half its size.
_TITLE_SIZE, _SUBTITLE_SIZE, _TEXT_SIZE = 23, 15, 18
_INK, _FAINT, _ACCENT = "#1f2328", "#6e7781", "#0a58ca"


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A row of the picture.

    Attributes
    ----------
    label : str
    begins_group : bool
        Whether more room is left above it.
    """

    label: str
    begins_group: bool = False


@final
@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """A block of images, with a figure at the end of each row.

    Attributes
    ----------
    title : str
    images : array of shape (rows, columns, size, size)
        From 0, black, to 1, white.
    notes : sequence of str
        One a row.
    accented : frozenset of int
        The rows whose note stands out.
    """

    title: str
    images: NDArray[Any]
    notes: Sequence[str]
    accented: frozenset[int] = frozenset()


def draw(title: str, subtitle: str, rows: Sequence[Row], panels: Sequence[Panel]) -> Figure:
    """Return the figure of panels side by side, whose rows have the same labels.

    Parameters
    ----------
    title, subtitle : str
    rows : sequence of Row
    panels : sequence of Panel
        With as many rows of images and notes as there are `rows`.

    Raises
    ------
    ValueError
        If a panel has another number of rows.
    """
    for panel in panels:
        if not len(rows) == len(panel.images) == len(panel.notes):
            raise ValueError(
                f"draw needs {len(rows)} rows of images and notes in every panel; {panel.title!r} has "
                f"{len(panel.images)} and {len(panel.notes)}"
            )
    tops = _tops(rows)
    widths = [panel.images.shape[1] * (_TILE + _GAP) - _GAP for panel in panels]
    width = 2 * _MARGIN + _LABELS + sum(widths) + len(panels) * _NOTES + (len(panels) - 1) * _BETWEEN
    height = tops[-1] + _TILE + _MARGIN
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    # One axes over everything, whose unit is the pixel: what is placed lies where it is said to.
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.text(_MARGIN, _MARGIN, title, size=_TITLE_SIZE, weight="bold", color=_INK, va="top")
    axes.text(_MARGIN, _MARGIN + 44, subtitle, size=_SUBTITLE_SIZE, color=_FAINT, va="top", linespacing=1.35)
    for row, top in zip(rows, tops, strict=True):
        axes.text(_MARGIN, top + _TILE / 2, row.label, size=_TEXT_SIZE, color=_INK, va="center_baseline")
    left = _MARGIN + _LABELS
    for panel, wide in zip(panels, widths, strict=True):
        _draw_panel(axes, panel, tops, left)
        left += wide + _NOTES + _BETWEEN
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    return figure


def save(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure as PNG, beside its target and then renamed into place."""
    with written_beside(path) as file:
        figure.savefig(file, format="png")


def _tops(rows: Sequence[Row]) -> list[int]:
    """Return where each row begins."""
    tops, top = [], _HEAD
    for number, row in enumerate(rows):
        top += _BREAK if row.begins_group and number else 0
        tops.append(top)
        top += _TILE + _GAP
    return tops


def _draw_panel(axes: Axes, panel: Panel, tops: Sequence[int], left: int) -> None:
    columns = panel.images.shape[1]
    axes.text(left, tops[0] - 12, panel.title, size=_TEXT_SIZE, weight="bold", color=_INK, va="bottom")
    for number, (images, top, note) in enumerate(zip(panel.images, tops, panel.notes, strict=True)):
        for column, image in enumerate(images):
            start = left + column * (_TILE + _GAP)
            axes.imshow(
                np.asarray(image),
                cmap="gray",
                vmin=0,
                vmax=1,
                extent=(start, start + _TILE, top + _TILE, top),
                interpolation="nearest",
                aspect="auto",
            )
        accented = number in panel.accented
        axes.text(
            left + columns * (_TILE + _GAP) + 6,
            top + _TILE / 2,
            note,
            size=_TEXT_SIZE,
            color=_ACCENT if accented else _INK,
            weight="bold" if accented else "normal",
            va="center_baseline",
            linespacing=1.3,
        )
