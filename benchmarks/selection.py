"""What the choice costs: the held-out error of `shrunk` and of `auto` against the best method of each cell.

``python -m benchmarks.selection`` prints a table, one row a cell, and fails where a cell is worse than
claimed (``benchmarks.real_selection`` does the same on real pairs). Nothing is timed: the figures depend on
the seeds alone.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import final

import numpy as np
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import Figure
from latalign import Moments
from latalign.methods import LEAST_SQUARES
from latalign.metrics import mean_squared_error

METHODS = [method.name for method in LEAST_SQUARES]
DIMS = (16, 64, 128)
DISTORTIONS = ("rotation", "anisotropic", "strongly anisotropic", "any matrix")
NOISES = (0.1, 0.5)
ANCHORS = (20, 50, 150, 500, 2000)
SEEDS, SEEDS_OF_FEW = 3, 12  # a cell of few anchors is noisy, and soon done
SHRUNK_LIMIT, AUTO_LIMIT = 1.01, 1.02

_HELDOUT = 2000
_PLAIN = ("rigid", "linear", "affine")


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of the simulation.

    Attributes
    ----------
    dim : int
        The dimensions of both spaces.
    distortion : str
        What lies between them beside a translation.
    noise : float
        Its standard deviation, relative to the target's.
    anchors : int
    """

    dim: int
    distortion: str
    noise: float
    anchors: int

    def errors(self, seed: int) -> dict[str, float]:
        """Return every method's error on held-out pairs, as a share of the target's variance."""
        key = (self.dim, DISTORTIONS.index(self.distortion), round(100 * self.noise), self.anchors)
        rng = np.random.default_rng([seed, *key])
        X, Y = self.pairs(rng)
        return heldout_errors(X, Y, self.anchors, seed)

    def pairs(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw pairs: a source whose widths span a factor of 5, in random directions, off the origin."""
        d = self.dim
        widths = np.geomspace(1, 0.2, d)
        X = rng.normal(size=(self.anchors + _HELDOUT, d)) * widths @ _rotation(rng, d)
        spread = {"rotation": (1, 1), "anisotropic": (0.7, 1.4), "strongly anisotropic": (0.2, 2)}
        if self.distortion in spread:
            low, high = spread[self.distortion]
            matrix = _rotation(rng, d) * np.geomspace(low, high, d) @ _rotation(rng, d)
        else:
            matrix = rng.normal(size=(d, d)) / np.sqrt(d)
        Y = X @ matrix
        Y += self.noise * Y.std() * rng.normal(size=Y.shape)
        return X + widths[0], Y - widths[0]


def heldout_errors(X: np.ndarray, Y: np.ndarray, anchors: int, seed: int) -> dict[str, float]:
    """Return every method's error, fitted to the first pairs and measured on the others."""
    heldout = Moments.of(X[anchors:], Y[anchors:])
    variance = heldout.yy_diagonal.mean() / heldout.weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        maps = {
            name: latalign.fit(X[:anchors], Y[:anchors], name, random_state=seed)
            for name in (*METHODS, "auto")
        }
    return {name: mean_squared_error(found, heldout) / variance for name, found in maps.items()}


def cells() -> Iterator[Cell]:
    """Yield the 120 cells of the table."""
    for setting in itertools.product(DIMS, DISTORTIONS, NOISES, ANCHORS):
        yield Cell(*setting)


def against_best(errors: Sequence[Mapping[str, float]], name: str, others: Sequence[str]) -> float:
    """Return a method's mean error over the seeds, relative to the best of others."""
    mean = {method: float(np.mean([one[method] for one in errors])) for method in errors[0]}
    return mean[name] / min(mean[other] for other in others)


def selection(rounds: int) -> Iterator[Figure]:
    """The worst and the mean cell of `shrunk` and `auto`, of spaces that are not so wide."""
    some = [cell for cell in cells() if cell.dim < max(DIMS)]
    yield from figures({cell: measured(cell, min(rounds, SEEDS)) for cell in some})


def measured(cell: Cell, seeds: int) -> list[dict[str, float]]:
    """Return the errors of a cell, seed by seed: of more seeds where there are few anchors."""
    seeds = max(seeds, SEEDS_OF_FEW) if cell.anchors < 50 else seeds
    return [cell.errors(seed) for seed in range(seeds)]


def figures(results: Mapping[object, Sequence[Mapping[str, float]]]) -> Iterator[Figure]:
    """Yield what is claimed of all cells together."""
    shrunk = {cell: against_best(found, "shrunk", _PLAIN) for cell, found in results.items()}
    auto = {cell: against_best(found, "auto", METHODS) for cell, found in results.items()}
    seeds = [against_best([one], "shrunk", _PLAIN) for found in results.values() for one in found]
    name = "held-out error of shrunk / the better of rigid and linear or affine"
    worst = max(shrunk, key=lambda cell: shrunk[cell])
    yield Figure(f"{name}, worst of {len(shrunk)} cells", shrunk[worst], SHRUNK_LIMIT, note=f"{worst}")
    yield Figure(f"{name}, geometric mean", float(np.exp(np.log(list(shrunk.values())).mean())), 1.0)
    yield Figure(f"{name}, worst single seed", max(seeds))
    worst = max(auto, key=lambda cell: auto[cell])
    name = "held-out error of auto / the best single method"
    yield Figure(f"{name}, worst of {len(auto)} cells", auto[worst], AUTO_LIMIT, note=f"{worst}")
    yield Figure(f"{name}, geometric mean", float(np.exp(np.log(list(auto.values())).mean())))


def table_row(where: Sequence[object], errors: Sequence[Mapping[str, float]]) -> str:
    """Return a row of the table, in Markdown."""
    names = ("rigid", "similarity", "linear", "affine", "ridge", "low_rank", "shrunk", "auto")
    values = " | ".join(f"{np.mean([one[name] for one in errors]):.3f}" for name in names)
    ratios = against_best(errors, "shrunk", _PLAIN), against_best(errors, "auto", METHODS)
    marks = (
        f"{ratio:.3f}" + (" !" if ratio > limit else "")
        for ratio, limit in zip(ratios, (SHRUNK_LIMIT, AUTO_LIMIT), strict=True)
    )
    return f"| {' | '.join(map(str, where))} | {values} | {' | '.join(marks)} |"


def table_head(where: Sequence[str]) -> str:
    """Return the head of the table."""
    names = "rigid | similarity | linear | affine | ridge | low_rank | shrunk | auto | shrunk / plain | auto / best"
    return f"| {' | '.join(where)} | {names} |\n|{' --- |' * (len(where) + 10)}"


def main(arguments: list[str] | None = None) -> int:
    """Print the table and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--dims", type=int, nargs="+", default=DIMS, help="these dimensions only")
    given = parser.parse_args(arguments)
    results: dict[Cell, list[dict[str, float]]] = {}
    print(table_head(("dim", "distortion", "noise", "anchors")))
    with threadpool_limits(1):
        for cell in cells():
            if cell.dim in given.dims:
                results[cell] = measured(cell, given.seeds)
                print(table_row(astuple(cell), results[cell]), flush=True)
    found = list(figures(results))
    print(*found, sep="\n")
    return 0 if all(figure.met for figure in found) else 1


def _rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(d, d)))
    return q * np.sign(np.diag(r))


if __name__ == "__main__":
    sys.exit(main())
