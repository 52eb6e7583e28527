"""Pairs in doubt: what robust fits lose, how many genuine pairs are doubted, and whether regions are calibrated.

``python -m benchmarks.doubt`` prints the tables, and fails where a figure is worse than claimed. Nothing is
timed: the figures depend on the seeds alone.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import Figure
from benchmarks.selection import Cell
from latalign import METHODS, Moments
from latalign._validation import Pairs
from latalign.metrics import mean_squared_error
from latalign.relation import INDISTINGUISHABLE, relation_p_value

SEEDS = 3
SHARE = 0.2
ROBUST_LIMIT, CLEAN_LIMIT, LOSS_LIMIT = 1.1, 1.02, 0.03
ROBUST_METHODS = (*(name for name, row in METHODS.items() if not row.ranks), "auto")
COVERED_METHODS = ("rigid", "ridge", "shrunk", "affine", "auto")
NOISES = ("normal", "heavy tails", "of unequal rows", "larger far out")
TIMES = (1.25, 2, 4, 10)  # anchors a dimension

_HELDOUT = 2000


def robust_cells() -> Iterator[Cell]:
    """Yield settings with at least three anchors a dimension, and two with fewer anchors than dimensions."""
    for dim, anchors in ((4, 100), (16, 100), (16, 500), (64, 300), (64, 1000), (128, 500), (128, 100)):
        for distortion, noise in itertools.product(("rotation", "any matrix"), (0.1, 0.5)):
            if (dim, noise) != (4, 0.5):  # a fifth of such rows is as near to another target as to its own
                yield Cell(dim, distortion, noise, anchors)


def robust_errors(cell: Cell, seed: int) -> dict[str, tuple[float, float, float]]:
    """Return for every method the error of the plain, of the robust and of a robust fit to genuine pairs.

    Each is relative to that of a plain fit to the genuine pairs alone.
    """
    rng = np.random.default_rng([seed, cell.dim, cell.anchors, round(10 * cell.noise)])
    X, Y = cell.pairs(rng)
    n = cell.anchors
    heldout = Moments.of(X[n:], Y[n:])
    wrong = rng.permutation(n)[: int(SHARE * n)]
    genuine = np.setdiff1d(np.arange(n), wrong)
    shuffled = Y[:n].copy()
    shuffled[wrong] = Y[np.roll(wrong, 1)]

    def error(rows: Any, target: Any, method: str, robust: bool) -> float:
        found = latalign.fit(X[rows], target[rows], method, robust=robust, random_state=seed)
        return mean_squared_error(found, heldout)

    out: dict[str, tuple[float, float, float]] = {}
    for method in ROBUST_METHODS:
        clean = error(genuine, Y, method, False)
        found = (
            error(slice(0, n), shuffled, method, False),
            error(slice(0, n), shuffled, method, True),
            error(genuine, Y, method, True),
        )
        out[method] = tuple(value / clean for value in found)
    return out


def doubted(rows: int, dim: int, r2: float, seeds: int) -> tuple[float, float]:
    """Return how often genuine pairs, and shuffled ones, cannot be told from shuffled ones."""
    found: list[tuple[bool, bool]] = []
    for seed in range(seeds):
        rng = np.random.default_rng([seed, rows, dim])
        X, Y = Cell(dim, "anisotropic", float(np.sqrt(1 / r2 - 1)), rows).pairs(rng)
        shuffled = Y[rng.permutation(rows)]
        sides = (relation_p_value(Pairs.of(X[:rows], target[:rows])) for target in (Y, shuffled))
        found.append(tuple(p > INDISTINGUISHABLE for p in sides))
    genuine, mixed = np.mean(found, axis=0)
    return float(genuine), float(mixed)


def coverage(dim: int, times: float, noise: str, seed: int) -> dict[str, float]:
    """Return how many held-out rows are inside the region of 90 %, by method."""
    n = round(times * dim)
    rng = np.random.default_rng([seed, dim, n, NOISES.index(noise)])
    X, Y = Cell(dim, "anisotropic", 0.0, n).pairs(rng)
    Y = Y + 0.3 * Y.std() * _noise(noise, X, Y.shape, rng)
    out: dict[str, float] = {}
    for method in COVERED_METHODS:
        found = latalign.calibrate(latalign.fit(X[:n], Y[:n], method), X[:n], Y[:n])
        off = np.linalg.norm(found(X[n:]) - Y[n:], axis=1)
        out[method] = float((off <= found.uncertainty.radius(X[n:])).mean())
    return out


def doubt(rounds: int) -> Iterator[Figure]:
    """What `python -m benchmarks` prints of it; as many seeds as rounds, three at most."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        warnings.simplefilter("ignore", latalign.UnrelatedPairsWarning)
        yield from robust_figures(min(rounds, SEEDS))
        yield from doubted_figures()
        yield from coverage_figures(min(rounds, SEEDS))


def robust_figures(seeds: int, *, table: bool = False) -> Iterator[Figure]:
    """Yield what robust fits lose."""
    results = {cell: [robust_errors(cell, seed) for seed in range(seeds)] for cell in robust_cells()}
    means = {
        cell: {name: np.mean([one[name] for one in found], axis=0) for name in ROBUST_METHODS}
        for cell, found in results.items()
    }
    if table:
        print("| method | plain fit | robust fit: mean | worst | robust fit to genuine pairs: mean | worst |")
        print("|" + " --- |" * 6)
        for name in ROBUST_METHODS:
            ratios = np.array([found[name] for found in means.values()])
            mean, worst = np.exp(np.log(ratios).mean(axis=0)), ratios.max(axis=0)
            print(
                f"| {name} | {mean[0]:.2f} | {mean[1]:.3f} | {worst[1]:.3f} | {mean[2]:.3f} | {worst[2]:.3f} |"
            )
    what = "error of robust fit, a fifth shuffled / of fit to the genuine pairs, worst"
    for few in (False, True):
        some = {cell: found for cell, found in means.items() if (cell.anchors < cell.dim) == few}
        worst, where = max(
            (float(found[name][1]), f"{name}, {cell}")
            for cell, found in some.items()
            for name in ROBUST_METHODS
        )
        than = "fewer anchors than dimensions" if few else "more anchors than dimensions"
        yield Figure(f"{what} of {len(some)} cells with {than}", worst, ROBUST_LIMIT, note=where)
    loss = float(np.mean([found[name][2] for found in means.values() for name in ROBUST_METHODS]))
    yield Figure("error of robust fit to genuine pairs / of plain fit, mean", loss, CLEAN_LIMIT)


def doubted_figures(*, table: bool = False) -> Iterator[Figure]:
    """Yield how often the right pairs are doubted."""
    settings = itertools.product((12, 20, 50, 200, 1000), (8, 128), (0.9, 0.5, 0.2, 0.1))
    found = {setting: doubted(*setting, seeds=40) for setting in settings}
    if table:
        print("| anchors | dimensions | R² | genuine pairs doubted | shuffled pairs found |")
        print("|" + " --- |" * 5)
        for (rows, dim, r2), (genuine, mixed) in found.items():
            print(f"| {rows} | {dim} | {r2} | {genuine:.1%} | {mixed:.1%} |")
    clear = max(
        genuine for (rows, _, r2), (genuine, _) in found.items() if r2 >= 0.9 or (rows >= 50 and r2 >= 0.2)
    )
    yield Figure("genuine pairs doubted, worst cell (R² of 0.9, or of 0.2 with 50 anchors)", clear, 0.0)
    yield Figure(
        "shuffled pairs found, mean", float(np.mean([mixed for _, mixed in found.values()])), 0.93, "at least"
    )


def coverage_figures(seeds: int, *, table: bool = False) -> Iterator[Figure]:
    """Yield how well calibrated regions are: means over draws of the anchors, more of them where few."""
    found: dict[tuple[float, str], Mapping[str, float]] = {}
    for times, noise in itertools.product(TIMES, NOISES):
        draws = [
            coverage(dim, times, noise, seed)
            for dim in (8, 16, 32, 64)
            for seed in range(max(seeds, round(seeds * 40 / times)))
        ]
        found[times, noise] = {name: float(np.mean([one[name] for one in draws])) for name in COVERED_METHODS}
    if table:
        print("| anchors / dimensions | noise | " + " | ".join(COVERED_METHODS) + " |")
        print("|" + " --- |" * (2 + len(COVERED_METHODS)))
        for (times, noise), shares in found.items():
            print(
                f"| {times:g} | {noise} | "
                + " | ".join(f"{shares[name]:.1%}" for name in COVERED_METHODS)
                + " |"
            )
    worst, where = max(
        (abs(share - 0.9), f"{name}, {setting}")
        for setting, shares in found.items()
        for name, share in shares.items()
    )
    yield Figure(
        "share of held-out rows in the region of 90 %, worst distance from 0.9", worst, LOSS_LIMIT, note=where
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doubt", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    given = parser.parse_args(arguments)
    found: list[Figure] = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        warnings.simplefilter("ignore", latalign.UnrelatedPairsWarning)
        for part in (
            doubted_figures(table=True),
            coverage_figures(given.seeds, table=True),
            robust_figures(given.seeds, table=True),
        ):
            found.extend(part)
            print(flush=True)
    print(*found, sep="\n")
    return 0 if all(figure.met for figure in found) else 1


def _noise(kind: str, X: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Draw noise of unit variance."""
    noise = rng.normal(size=shape)
    if kind == "heavy tails":
        return rng.standard_t(3, size=shape) / np.sqrt(3)
    if kind == "of unequal rows":
        return noise * np.exp(0.5 * rng.normal(size=(shape[0], 1)) - 0.25)
    if kind == "larger far out":
        length = np.linalg.norm(X - X.mean(axis=0), axis=1, keepdims=True)
        return noise * length / np.sqrt((length**2).mean())
    return noise


if __name__ == "__main__":
    sys.exit(main())
