"""What a table of the paper consists of, and how much of it is done."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import final

from latalign.experiments.measures import Measure
from latalign.experiments.specs import Network, Trainable, required

Labels = Mapping[str, str | int]
"""What a row is about, by the name of its column of the table: ``{"latent": 50, "anchors": 100}``."""


@final
@dataclass(frozen=True, slots=True)
class Preset:
    """How much is done.

    Attributes
    ----------
    name : {"quick", "full"}
    seeds : int
        Repetitions with other networks (and other anchors).
    draws : int
        Of anchors, for each pair of networks; one where something is trained on them.
    epochs : int
        Of 60,000 images, for every network.
    everything : bool
        Whether every row of the tables is done, and every method beside the paper's.
    cuts : str
        What is left out, for the reader; empty where nothing is.
    """

    name: str
    seeds: int
    draws: int
    epochs: int
    everything: bool
    cuts: str = ""


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "quick": Preset(
            "quick",
            seeds=1,
            draws=1,
            epochs=3,
            everything=False,
            cuts="one draw of the anchors; three epochs in place of five; some rows of each table; of the "
            "methods beside the paper's, the closed-form ones only",
        ),
        "full": Preset("full", seeds=3, draws=3, epochs=5, everything=True),
    }
)


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a table, and what it is the mean of.

    Attributes
    ----------
    row : mapping
    column : str
    measures : tuple of Measure
        One for each seed and draw.
    paper : float or None
        What the paper has in its place.
    """

    row: Labels
    column: str
    measures: tuple[Measure, ...]
    paper: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """A table to be done.

    Attributes
    ----------
    name : str
        As on the command line: "table1".
    title : str
    question : str
        What it is to show, in a sentence.
    cells : tuple of Cell
        Row after row.
    remarks : tuple of str
        What was chosen where the paper leaves it open.
    """

    name: str
    title: str
    question: str
    cells: tuple[Cell, ...]
    remarks: tuple[str, ...] = ()


def needed(plans: Iterable[Plan]) -> tuple[tuple[Trainable, ...], tuple[Trainable, ...]]:
    """Return what must be trained: first the networks on their own, then those that build on them."""
    wanted = [spec for plan in plans for cell in plan.cells for one in cell.measures for spec in one.needs]
    every = dict.fromkeys(spec for one in wanted for spec in (*required(one), one))
    alone = tuple(spec for spec in every if isinstance(spec, Network))
    return alone, tuple(spec for spec in every if not isinstance(spec, Network))


def published(name: str) -> Iterator[dict[str, str]]:
    """Yield the rows of a table as the paper has it, from the file whose name begins so."""
    folder = files("latalign.experiments") / "paper"
    (file,) = (entry for entry in folder.iterdir() if entry.name.startswith(f"{name}_"))
    yield from csv.DictReader(file.read_text().splitlines())
