"""Timing in turns, and the lines that come of it."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

import numpy as np

_WARM_BYTES = 1 << 31


@final
@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure and what it must reach.

    Attributes
    ----------
    name : str
    value : float
        NaN where it could not be measured; `note` says why.
    required : bool
        Whether it falls short where it could not be measured: not what is for a machine or a package that
        need not be there.
    limit : float or None
        None where nothing is claimed.
    better : {"at least", "at most"}
    note : str
    """

    name: str
    value: float
    limit: float | None = None
    better: Literal["at least", "at most"] = "at most"
    note: str = ""
    required: bool = False

    @property
    def met(self) -> bool:
        """Whether the claim holds; where nothing was measured, whether nothing had to be."""
        if self.value != self.value:
            return not self.required
        if self.limit is None:
            return True
        return self.value >= self.limit if self.better == "at least" else self.value <= self.limit

    def __str__(self) -> str:
        if self.value != self.value:
            return f"{'SHORT ' if self.required else '  --  '}  {self.name}: not measured, {self.note}"
        mark = "  info" if self.limit is None else "  ok  " if self.met else "SHORT "
        claim = "" if self.limit is None else f"  ({self.better} {self.limit:g})"
        return f"{mark}  {self.name}: {self.value:.4g}{claim}{'  ' + self.note if self.note else ''}"


def warm_memory() -> None:
    """Touch and free memory, so that the next turn gets pages that the machine holds.

    A virtual machine hands memory that lay free for some seconds back to its host, and whoever touches
    it next pays for that: 600 MiB cost 0.04 s where they were just freed and 0.55 s three seconds later.
    What a turn allocates would then depend on which turn came before it.
    """
    np.ones(_WARM_BYTES, np.uint8)


def medians(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median seconds of each function, run in turns after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            warm_memory()
            began = time.perf_counter()
            function()
            if turn:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def peak_mebibytes(code: str) -> float:
    """Return the peak resident memory of a fresh interpreter that runs `code`, in MiB (Linux)."""
    # Not ru_maxrss: a child inherits the peak of the process that started it.
    program = f"{code}\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1]) / 1024


_FOLDERS = {
    "networks": "their folder; the cache of latalign reproduce unless given",
    "embeddings": "their folder; in the user's cache unless given",
}


def add_folders(parser: ArgumentParser, *names: str) -> None:
    """Add the options of the folders that a command reads: networks, embeddings or both."""
    for name in names:
        parser.add_argument(f"--{name}", type=Path, help=_FOLDERS[name])
