"""What came of a table: cells with their means and deviations, as JSON and back."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path
from typing import Any, final

from latalign._version import __version__
from latalign.evidence import plain
from latalign.experiments.lab import dataset
from latalign.experiments.measures import Measure
from latalign.experiments.plan import Cell, Labels, Plan, Preset
from latalign.experiments.specs import record
from latalign.experiments.work import Outcome
from latalign.io.files import written_beside


@final
@dataclass(frozen=True, slots=True)
class Result:
    """A cell that is done.

    Attributes
    ----------
    row : mapping
    column : str
    errors : tuple of float
        Mean squared errors per pixel over the test images: one for each seed and draw that did not fail.
    failures : tuple of str
        Why others have none.
    seeds : int
        How many pairs of networks were asked for.
    seconds : float
        For measuring them, trainings not counted.
    paper : float or None
        What the paper has in its place.
    floor : float
        The error that no decoder of this kind gets below (`latalign.experiments.data.Dataset.floor`).
    configuration : mapping
        Of the first error; the others differ in their seeds.
    """

    row: Labels
    column: str
    errors: tuple[float, ...]
    failures: tuple[str, ...]
    seeds: int
    seconds: float
    paper: float | None
    floor: float
    configuration: Mapping[str, Any]

    @staticmethod
    def of(cell: Cell, outcomes: Mapping[Measure, Outcome], preset: Preset) -> Result:
        """Return what came of a cell."""
        found = [outcomes[measure] for measure in cell.measures]
        return Result(
            row=cell.row,
            column=cell.column,
            errors=tuple(one.error for one in found if one.error is not None),
            failures=tuple(one.failure for one in found if one.failure is not None),
            seeds=preset.seeds,
            seconds=sum(one.seconds for one in found),
            paper=cell.paper,
            floor=dataset(cell.measures[0].data).floor,
            configuration=record(cell.measures[0]),
        )

    @property
    def mean(self) -> float:
        """The mean of the errors; NaN where there is none."""
        return statistics.fmean(self.errors) if self.errors else math.nan

    @property
    def median(self) -> float:
        """The median of the errors; NaN where there is none."""
        return statistics.median(self.errors) if self.errors else math.nan

    @property
    def deviation(self) -> float:
        """Their standard deviation (n − 1); NaN for fewer than two."""
        return statistics.stdev(self.errors) if len(self.errors) > 1 else math.nan


@final
@dataclass(frozen=True, slots=True)
class Table:
    """A table that is done.

    Attributes
    ----------
    name, title, question : str
    preset : Preset
    data : tuple of str
        The data sets, and what they stand in for.
    device : str
    results : tuple of Result
    remarks : tuple of str
        What was chosen where the paper leaves it open.
    """

    name: str
    title: str
    question: str
    preset: Preset
    data: tuple[str, ...]
    device: str
    results: tuple[Result, ...]
    remarks: tuple[str, ...] = ()

    @staticmethod
    def of(plan: Plan, preset: Preset, device: str, results: Iterable[Result]) -> Table:
        """Return the results of a plan."""
        names = dict.fromkeys(measure.data for cell in plan.cells for measure in cell.measures)
        data = tuple(dataset(name).title for name in names)
        return Table(plan.name, plan.title, plan.question, preset, data, device, tuple(results), plan.remarks)

    def cell(self, column: str, **row: str | int) -> Result:
        """Return one cell.

        Raises
        ------
        KeyError
            If there is no such cell.
        """
        for result in self.results:
            if result.column == column and all(result.row.get(name) == value for name, value in row.items()):
                return result
        raise KeyError(f"{self.name} ({self.preset.name}) has no cell {column!r} at {row}")

    def save(self, path: str | PathLike[str]) -> None:
        """Write the table as JSON."""
        body = {
            "latalign_version": __version__,
            "error": "mean squared error per pixel of the normalized test images",
            **asdict(self),
            "results": [
                {
                    **asdict(one),
                    "mean": one.mean,
                    "standard_deviation": one.deviation,
                    "median": one.median,
                    "excess_over_floor": one.mean - one.floor,
                }
                for one in self.results
            ],
        }
        with written_beside(path) as file:
            file.write(json.dumps(plain(body), indent=1, allow_nan=False).encode() + b"\n")

    @staticmethod
    def load(path: str | PathLike[str]) -> Table:
        """Read a table that `save` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no such table.
        """
        try:
            body = json.loads(Path(path).read_text())
            known = {name: body[name] for name in ("name", "title", "question", "device")}
            results = tuple(
                Result(
                    **{name: one[name] for name in ("row", "column", "seeds", "seconds", "paper", "floor")},
                    errors=tuple(one["errors"]),
                    failures=tuple(one["failures"]),
                    configuration=one["configuration"],
                )
                for one in body["results"]
            )
            return Table(
                **known,
                preset=Preset(**body["preset"]),
                data=tuple(body["data"]),
                results=results,
                remarks=tuple(body["remarks"]),
            )
        except (KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is not a table of latalign reproduce ({error!r})") from error
