"""The tables and figures of the paper, with one call: trained, measured, and written beside its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from types import MappingProxyType
from typing import TypeVar, final

import torch
from joblib import cpu_count
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import Progress, TaskID

from latalign.experiments import charts, figures, picture
from latalign.experiments.cache import Cache
from latalign.experiments.estimate import seconds as estimated
from latalign.experiments.lab import Lab, dataset
from latalign.experiments.measures import Measure
from latalign.experiments.plan import PRESETS, Plan, Preset, needed
from latalign.experiments.report import markdown
from latalign.experiments.results import Result, Table
from latalign.experiments.screen import bars_on_stderr, made_folder
from latalign.experiments.specs import Trainable, required
from latalign.experiments.tables import TABLES
from latalign.experiments.work import Outcome, Place, measured, trained
from latalign.io.files import written_beside

Event = TypeVar("Event")

FIGURES: Mapping[str, tuple[str, Callable[[Lab, Preset], Figure]]] = MappingProxyType(
    {"table5": ("figure3", figures.figure3), "table6": ("figure4", figures.figure4)}
)
"""The figures that are drawn with a table."""


def reproduce(
    names: Iterable[str],
    folder: str | PathLike[str],
    *,
    preset: str = "quick",
    seeds: int | None = None,
    device: str = "auto",
    jobs: int | None = None,
    cache: str | PathLike[str] | None = None,
    console: Console | None = None,
) -> tuple[Table, ...]:
    """Do tables of the paper, and write each as JSON, Markdown and PNG, its numbers beside ours.

    Trained networks and measured errors are kept in the cache under the hash of their configuration:
    tables share them, and what was interrupted goes on where it stopped. A training that diverges costs
    its own cells; they say so, and the table goes on.

    Parameters
    ----------
    names : iterable of str
        Of "table1" to "table6"; "all" is all of them.
    folder : path
        Made if it does not exist; its parent must.
    preset : {"quick", "full"}
        "quick" is a look, and says what it cuts; "full" is the paper's protocol with three seeds.
    seeds : int, optional
        Repetitions with other networks and anchors; the preset's unless given.
    device : str
        "auto" is "cuda" where there is one, else "cpu".
    jobs : int, optional
        Processes that work at a time: unless given, one a processor, and one on a GPU.
    cache : path, optional
        The user's cache folder unless given.
    console : rich.console.Console, optional
        Where it is told what is done: stdout unless given. Bars go to stderr, if that is a terminal.

    Returns
    -------
    tuple of Table

    Raises
    ------
    FileNotFoundError
        If a data set is nowhere to be found, or there is no place for the folder.
    OSError
        If a file cannot be written.
    ValueError
        If a name, the preset, the device or a number is none.

    References
    ----------
    Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.
    """
    wanted, size = _tables(names), _preset(preset, seeds)
    place = _place(device, jobs, Cache(cache))
    console = Console(soft_wrap=True) if console is None else console
    plans = [TABLES[name](size) for name in wanted]
    for data in dict.fromkeys(one.data for plan in plans for cell in plan.cells for one in cell.measures):
        dataset(data)  # if it is nowhere to be found, before anything is written
    out = made_folder(folder)
    lab = Lab(Cache(place.cache).made(), place.device)
    console.print(f"preset {size.name}{f'; cut: {size.cuts}' if size.cuts else ''}", markup=False)
    minutes = round(estimated(plans, lab, place.jobs) / 60)
    console.print(
        f"{f'about {minutes} minutes' if minutes > 1 else 'a minute or less'} on {place.device} with {place.jobs} "
        f"process{'es' if place.jobs > 1 else ''}; what is done is kept in {place.cache}",
        markup=False,
    )
    done: list[Table] = []
    for plan in plans:
        table = _done(plan, size, place)
        table.save(out / f"{plan.name}.json")
        with written_beside(out / f"{plan.name}.md") as file:
            file.write(markdown(table).encode())
        picture.save(charts.draw(table), out / f"{plan.name}.png")
        failed = sum(len(result.failures) for result in table.results)
        if plan.name in FIGURES:
            name, drawn = FIGURES[plan.name]
            if failed:
                console.print(f"{name} is left out, since something of {plan.name} failed", markup=False)
            else:
                picture.save(drawn(lab, size), out / f"{name}.png")
        console.print(
            f"{plan.name}: {len(table.results)} cells{f', {failed} errors failed' if failed else ''}. "
            f"{'; '.join(table.data)}. {out / plan.name}.json, .md, .png",
            markup=False,
        )
        done.append(table)
    return tuple(done)


def _done(plan: Plan, preset: Preset, place: Place) -> Table:
    """Train what a table needs and measure its cells."""
    failures: dict[Trainable, str] = {}
    with bars_on_stderr() as bars:
        told = _Told(bars)
        for stage in needed([plan]):
            possible = [spec for spec in stage if not _failed(required(spec), failures)]
            failures |= {
                spec: failures[_failed(required(spec), failures)[0]] for spec in stage if spec not in possible
            }
            for spec, outcome in told.counted(
                f"{plan.name}: networks", len(possible), trained(possible, place, told)
            ):
                if outcome.failure is not None:
                    failures[spec] = outcome.failure
                    told.ended(str(spec))
        measures = dict.fromkeys(measure for cell in plan.cells for measure in cell.measures)
        outcomes = {
            measure: Outcome(None, 0.0, failures[failed[0]])
            for measure in measures
            if (failed := _failed(measure.needs, failures))
        }
        possible = [measure for measure in measures if measure not in outcomes]
        outcomes |= dict(
            told.counted(f"{plan.name}: errors", len(possible), measured(_grouped(possible), place, told))
        )
    return Table.of(plan, preset, place.device, (Result.of(cell, outcomes, preset) for cell in plan.cells))


def _failed(specs: Iterable[Trainable], failures: Mapping[Trainable, str]) -> list[Trainable]:
    return [spec for spec in specs if spec in failures]


def _grouped(measures: Iterable[Measure]) -> list[list[Measure]]:
    """Put together what is measured on the same networks: their codes are made once."""
    groups: dict[tuple[Trainable, ...], list[Measure]] = {}
    for measure in measures:
        groups.setdefault(measure.needs, []).append(measure)
    return list(groups.values())


@final
class _Told:
    """Shows a bar for every training that is going on, and one for all that is to be done."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, what: str, done: int, total: int) -> None:
        """Move the bar of a training on; it goes when the training ends."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what)
        self._bars.update(self._tasks[what], completed=done, total=total)
        if done >= total:
            self.ended(what)

    def ended(self, what: str) -> None:
        """Take the bar of a training away that did not come to its end."""
        if what in self._tasks:
            self._bars.remove_task(self._tasks.pop(what))

    def counted(self, what: str, total: int, events: Iterable[Event]) -> Iterator[Event]:
        """Yield the events, and count them in a bar of their own."""
        task = self._bars.add_task(what, total=total)
        for event in events:
            yield event
            self._bars.advance(task)
        self._bars.remove_task(task)


def _tables(names: Iterable[str]) -> list[str]:
    asked = list(names)
    if unknown := [name for name in asked if name not in (*TABLES, "all")]:
        raise ValueError(f"reproduce does {', '.join(TABLES)} and all; got {', '.join(map(repr, unknown))}")
    if not asked:
        raise ValueError(f"reproduce needs a table: {', '.join(TABLES)} or all")
    return list(TABLES) if "all" in asked else [name for name in TABLES if name in asked]


def _preset(name: str, seeds: int | None) -> Preset:
    if name not in PRESETS:
        raise ValueError(f"preset is {' or '.join(map(repr, PRESETS))}; got {name!r}")
    if seeds is not None and seeds < 1:
        raise ValueError(f"reproduce needs 1 seed or more; got {seeds}")
    size = PRESETS[name] if seeds is None else replace(PRESETS[name], seeds=seeds)
    if size.seeds > 1:
        return size
    return replace(
        size, cuts="; ".join(filter(None, ("one seed, so nothing of how seeds differ", size.cuts)))
    )


def _place(device: str, jobs: int | None, cache: Cache) -> Place:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f'device is "auto", "cpu", or "cuda" where PyTorch finds one; got {device!r}')
    if jobs is not None and jobs < 1:
        raise ValueError(f"reproduce needs 1 process or more; got jobs={jobs}")
    usual = cpu_count() if device == "cpu" else 1
    return Place(str(cache.folder), device, usual if jobs is None else jobs)
