"""How far a learning curve can be trusted: what it extrapolates to, against maps of as many anchors.

``python -m benchmarks.curves [--networks FOLDER]`` takes simulated pairs and those of autoencoders, asks for a
curve of some of the pairs with `auto`, and fits maps to other draws of as many and of twice as many. It prints a
row a number of anchors. Nothing is timed.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import add_folders
from benchmarks.real_selection import network_pairs
from benchmarks.selection import Cell
from latalign import LearningCurve, Moments
from latalign.experiments.cache import Cache
from latalign.experiments.lab import Lab
from latalign.metrics import mean_squared_error

ANCHORS = (60, 120, 250, 500, 1200, 2500)

_POOL, _HELDOUT, _FRESH = 6000, 2000, 5
_SEED = 2


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """A curve, and the errors of maps fitted to other draws of twice the anchors, as logarithms."""

    curve: LearningCurve
    once: np.ndarray
    twice: np.ndarray

    @property
    def miss(self) -> float:
        """How far off the extrapolated error is, of its logarithm."""
        assert self.curve.twice is not None
        return abs(float(np.log(self.curve.twice.error) - self.twice.mean()))

    @property
    def law_miss(self) -> float:
        """The same of the law, whether or not it passed its check."""
        law, anchors = self.curve.law, 2 * self.curve.anchors
        return abs(float(np.log(law(anchors)) - self.twice.mean()))

    @property
    def held(self) -> bool:
        """Whether the error with twice the anchors is in the interval, for what the draws tell."""
        assert self.curve.twice is not None
        slack = self.twice.std(ddof=1) / np.sqrt(len(self.twice))
        return bool(
            np.log(self.curve.twice.low) - slack <= self.twice.mean() <= np.log(self.curve.twice.high) + slack
        )

    @property
    def saving_held(self) -> bool:
        """The same of what twice the anchors save."""
        assert self.curve.saving is not None
        slack = np.hypot(self.twice.std(ddof=1), self.once.std(ddof=1)) / np.sqrt(len(self.twice))
        falls = self.twice.mean() - self.once.mean()
        low, high = 1 - np.exp(falls + slack), 1 - np.exp(falls - slack)
        return bool(low <= self.curve.saving.high and high >= self.curve.saving.low)


def spaces(networks: Path | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield paired rows."""
    for dim, distortion, noise in itertools.product(
        (16, 64), ("rotation", "anisotropic", "any matrix"), (0.1, 0.5)
    ):
        cell = Cell(dim, distortion, noise, _POOL)
        yield cell.pairs(np.random.default_rng([_SEED, dim, len(distortion), round(10 * noise)]))
    for pair in network_pairs(Lab(Cache(networks)), (_SEED,)):
        X, Y = pair.rows()
        yield X[: _POOL + _HELDOUT], Y[: _POOL + _HELDOUT]


def trial(X: np.ndarray, Y: np.ndarray, anchors: int) -> Trial:
    """Ask for a curve of some of the pairs, and fit maps to others."""
    rng = np.random.default_rng([_SEED, anchors])
    heldout = Moments.of(X[_POOL:], Y[_POOL:], grams="source")

    def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = rng.permutation(_POOL)[:count]
        return X[rows], Y[rows]

    def fresh(count: int) -> np.ndarray:
        maps = [latalign.fit(*drawn(count)) for _ in range(_FRESH)]
        return np.log([mean_squared_error(found, heldout) for found in maps])

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        curve = latalign.learning_curve(*drawn(anchors))
        return Trial(curve, fresh(anchors), fresh(2 * anchors))


def row(anchors: int, trials: Sequence[Trial]) -> str:
    """Return a row of the table, in Markdown."""
    passed = [one for one in trials if one.curve.check.passed]
    failed = [one for one in trials if not one.curve.check.passed]
    columns = (
        f"{anchors:,}",
        f"{len(passed)} of {len(trials)}",
        _percent(np.median, [one.miss for one in passed]),
        _percent(np.mean, [one.held for one in passed]),
        _percent(np.mean, [one.saving_held for one in passed]),
        _percent(np.median, [one.law_miss for one in failed]),
    )
    return f"| {' | '.join(columns)} |"


def _percent(summary: Callable[[Sequence[float]], np.floating], values: Sequence[float]) -> str:
    return f"{100 * summary(values):.0f} %" if values else "–"


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    add_folders(parser, "networks")
    given = parser.parse_args(arguments)
    print(
        "| anchors | check passed | off with twice as many, median | error in the interval | saving in its "
        "| where it failed: the law would be off, median |"
    )
    print("|" + " --- |" * 6)
    with threadpool_limits(1):
        pairs = list(spaces(given.networks))
        for anchors in ANCHORS:
            print(row(anchors, [trial(X, Y, anchors) for X, Y in pairs]), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
