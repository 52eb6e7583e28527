"""What the choice costs: the held-out error of `shrunk` and of `auto` against the best method of each cell.

``python -m benchmarks.selection`` prints a row a cell, a summary by the number of anchors, and fails where a
cell is worse than claimed (``benchmarks.real_selection`` does the same on real pairs). Of fewer than twenty
anchors nothing is claimed: what the choice costs there is printed alone. Nothing is timed: the figures depend
on the seeds alone.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, final

import numpy as np
from sklearn.datasets import load_digits
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
FEW_DIMS, FEW_ANCHORS = (16, 64), (5, 8, 12)
SEEDS, SEEDS_OF_FEW = 3, 12  # a cell of few anchors is noisy, and soon done

_HELDOUT = 2000

Errors = Mapping[str, float]


@final
@dataclass(frozen=True, slots=True)
class Ratio:
    """What a method's error is held against, and what it must not exceed."""

    name: str
    method: str
    others: tuple[str, ...]
    limit: float

    def of(self, errors: Sequence[Errors]) -> float:
        """Return the method's mean error over the draws, relative to that of the best of the others."""
        mean = {method: float(np.mean([one[method] for one in errors])) for method in errors[0]}
        return mean[self.method] / min(mean[other] for other in self.others)


RATIOS = (
    Ratio("shrunk / the better of rigid and linear", "shrunk", ("rigid", "linear"), 1.007),
    Ratio("shrunk / the best of rigid, linear and affine", "shrunk", ("rigid", "linear", "affine"), 1.007),
    Ratio("auto / the best single method", "auto", tuple(METHODS), 1.02),
)


class Setting(Protocol):
    """What errors are measured in."""

    @property
    def anchors(self) -> int:
        """The pairs that are fitted to."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """What stands before a row of the table."""
        ...

    def errors(self, seed: int) -> Errors:
        """Return every method's error on held-out pairs, as a share of the target's variance."""
        ...


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

    @property
    def labels(self) -> tuple[str, ...]:
        """What stands before a row of the table."""
        return str(self.dim), self.distortion, f"{self.noise:g}", f"{self.anchors:,}"

    def errors(self, seed: int) -> Errors:
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


@final
@dataclass(frozen=True, slots=True)
class Digits:
    """From 24 pixels of scikit-learn's handwritten digits, drawn at random, to 20 others."""

    anchors: int

    @property
    def labels(self) -> tuple[str, ...]:
        """What stands before a row of the table."""
        return "24 → 20", "digits", "–", f"{self.anchors:,}"

    def errors(self, seed: int) -> Errors:
        """Return every method's error on held-out pairs, as a share of the target's variance."""
        rng = np.random.default_rng([seed, self.anchors])
        images = load_digits(return_X_y=True)[0]
        pixels = rng.permutation(np.flatnonzero(images.std(axis=0) > 0.5))
        images = rng.permutation(images)
        return heldout_errors(images[:, pixels[:24]], images[:, pixels[24:44]], self.anchors, seed)


def heldout_errors(X: np.ndarray, Y: np.ndarray, anchors: int, seed: int) -> dict[str, float]:
    """Return every method's error, fitted to the first pairs and measured on the others."""
    heldout = Moments.of(X[anchors:], Y[anchors:])
    variance = heldout.yy_diagonal.mean() / heldout.weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        warnings.simplefilter("ignore", latalign.UnrelatedPairsWarning)
        maps = {
            name: latalign.fit(X[:anchors], Y[:anchors], name, random_state=seed)
            for name in (*METHODS, "auto")
        }
    return {name: mean_squared_error(found, heldout) / variance for name, found in maps.items()}


def cells() -> Iterator[Cell]:
    """Yield the 120 cells of which something is claimed."""
    for setting in itertools.product(DIMS, DISTORTIONS, NOISES, ANCHORS):
        yield Cell(*setting)


def cells_of_few() -> Iterator[Cell | Digits]:
    """Yield the cells of fewer anchors than that."""
    for setting in itertools.product(FEW_DIMS, DISTORTIONS, NOISES, FEW_ANCHORS):
        yield Cell(*setting)
    for anchors in FEW_ANCHORS:
        yield Digits(anchors)


def measured(cell: Setting, seeds: int) -> list[Errors]:
    """Return the errors of a cell, seed by seed: of more seeds where there are few anchors."""
    seeds = max(seeds, SEEDS_OF_FEW) if cell.anchors < 50 else seeds
    return [cell.errors(seed) for seed in range(seeds)]


def selection(rounds: int) -> Iterator[Figure]:
    """The worst and the mean cell of `shrunk` and `auto`, of spaces that are not so wide."""
    some = [cell for cell in cells() if cell.dim < max(DIMS)]
    yield from figures({cell: measured(cell, min(rounds, SEEDS)) for cell in some})


def figures(results: Mapping[Any, Sequence[Errors]], ratios: Sequence[Ratio] = RATIOS) -> Iterator[Figure]:
    """Yield what is claimed of all cells together."""
    for ratio in ratios:
        found = {cell: ratio.of(errors) for cell, errors in results.items()}
        worst = max(found, key=lambda cell: found[cell])
        draws = [ratio.of([one]) for errors in results.values() for one in errors]
        name = f"held-out error of {ratio.name}"
        yield Figure(f"{name}, worst of {len(found)} cells", found[worst], ratio.limit, note=f"{worst}")
        yield Figure(f"{name}, geometric mean", geometric_mean(found.values()))
        yield Figure(f"{name}, worst single draw", max(draws))


def geometric_mean(values: Iterable[float]) -> float:
    """Return the geometric mean."""
    return float(np.exp(np.mean(np.log([*values]))))


def summary(results: Mapping[Any, Sequence[Errors]], label: str = "anchors") -> Iterator[str]:
    """Yield the lines of a table: the mean and the worst of all cells of as many anchors."""
    heads = (f"{ratio.name}: geometric mean | worst" for ratio in RATIOS)
    yield f"| {label} | cells | {' | '.join(heads)} |"
    yield "|" + " --- |" * (2 + 2 * len(RATIOS))
    for anchors in sorted({cell.anchors for cell in results}):
        some = [errors for cell, errors in results.items() if cell.anchors == anchors]
        columns: list[str] = []
        for ratio in RATIOS:
            found = [ratio.of(errors) for errors in some]
            columns += [f"{geometric_mean(found):.3f}", f"{max(found):.3f}"]
        yield f"| {anchors:,} | {len(some)} | {' | '.join(columns)} |"


_SHOWN = ("rigid", "similarity", "linear", "affine", "ridge", "low_rank", "shrunk", "auto")


def table_head(where: Sequence[str]) -> str:
    """Return the head of the table of all cells."""
    columns = (*where, *_SHOWN, *(ratio.name for ratio in RATIOS))
    return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"


def table_row(where: Sequence[str], errors: Sequence[Errors]) -> str:
    """Return a row of the table, in Markdown."""
    means = (f"{np.mean([one[name] for one in errors]):.3f}" for name in _SHOWN)
    found = ((ratio.of(errors), ratio.limit) for ratio in RATIOS)
    marked = (f"{value:.3f}" + (" !" if value > limit else "") for value, limit in found)
    return f"| {' | '.join((*where, *means, *marked))} |"


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--dims", type=int, nargs="+", default=DIMS, help="these dimensions only")
    given = parser.parse_args(arguments)
    results: dict[Setting, list[Errors]] = {}
    print(table_head(("dim", "distortion", "noise", "anchors")))
    with threadpool_limits(1):
        for cell in itertools.chain(cells(), cells_of_few()):
            if isinstance(cell, Digits) or cell.dim in given.dims:
                results[cell] = measured(cell, given.seeds)
                print(table_row(cell.labels, results[cell]), flush=True)
    digits = {cell: errors for cell, errors in results.items() if isinstance(cell, Digits)}
    simulated = {cell: errors for cell, errors in results.items() if isinstance(cell, Cell)}
    print("", *summary(simulated), "", *summary(digits, "anchors, digits"), "", sep="\n")
    found = list(figures({cell: simulated[cell] for cell in cells() if cell in simulated}))
    print(*found, sep="\n")
    return 0 if all(figure.met for figure in found) else 1


def _rotation(rng: np.random.Generator, d: int) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(d, d)))
    return q * np.sign(np.diag(r))


if __name__ == "__main__":
    sys.exit(main())
