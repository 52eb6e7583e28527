"""Pairs in doubt: what robust fits lose, how many genuine pairs are doubted, and whether regions are calibrated.

``python -m benchmarks.doubt`` prints the tables, and fails where a figure is worse than claimed. Nothing is
timed: the figures depend on the seeds alone. With names (`related`, `coverage`, `robust`, `audited`) it prints those.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
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
COVERED_METHODS = ("rigid", "ridge", "shrunk", "linear", "affine", "auto")
NOISES = ("normal", "heavy tails", "of unequal rows", "larger far out")
TIMES = (0.5, 0.8, 1.25, 2, 4, 10)  # anchors a dimension
COVERED_DIMS = (8, 16, 32)
TOLD_FROM = 1.25  # below that `calibrate` warns of plain least squares
DIGITS = (12, 20, 30, 48, 96, 240)  # anchors, of 24 dimensions

_HELDOUT = 2000
_TELLS = 0.95  # a robust fit warns below it


def robust_cells() -> Iterator[Cell]:
    """Yield settings with 100 anchors or more: at least three a dimension, or fewer than dimensions."""
    for dim, anchors in ((4, 100), (16, 100), (16, 500), (64, 300), (64, 1000), (128, 500), (128, 100)):
        for distortion, noise in itertools.product(("rotation", "any matrix"), (0.1, 0.5)):
            if (dim, noise) != (4, 0.5):  # a fifth of such rows is as near to another target as to its own
                yield Cell(dim, distortion, noise, anchors)


def few_cells() -> Iterator[Cell]:
    """Yield settings with 20 and 50 anchors."""
    for dim, anchors in itertools.product((4, 16, 64), (20, 50)):
        for distortion, noise in itertools.product(("rotation", "any matrix"), (0.1, 0.5)):
            if (dim, noise) != (4, 0.5):
                yield Cell(dim, distortion, noise, anchors)


def robust_errors(
    cell: Cell, seed: int, methods: Sequence[str] = ROBUST_METHODS
) -> dict[str, tuple[float, float, float, float]]:
    """Return for every method the error of the plain, of the robust and of a robust fit to genuine pairs.

    Each is relative to that of a plain fit to the genuine pairs alone. The last number is the share of pairs of
    which the robust fit could tell that they correspond.
    """
    rng = np.random.default_rng([seed, cell.dim, cell.anchors, round(10 * cell.noise)])
    X, Y = cell.pairs(rng)
    n = cell.anchors
    heldout = Moments.of(X[n:], Y[n:])
    wrong = rng.permutation(n)[: int(SHARE * n)]
    genuine = np.setdiff1d(np.arange(n), wrong)
    shuffled = Y[:n].copy()
    shuffled[wrong] = Y[np.roll(wrong, 1)]

    def fitted(rows: Any, target: Any, method: str, robust: bool) -> latalign.AffineMap:
        return latalign.fit(X[rows], target[rows], method, robust=robust, random_state=seed)

    out: dict[str, tuple[float, float, float, float]] = {}
    for method in methods:
        clean = mean_squared_error(fitted(genuine, Y, method, False), heldout)
        maps = (
            fitted(slice(0, n), shuffled, method, False),
            fitted(slice(0, n), shuffled, method, True),
            fitted(genuine, Y, method, True),
        )
        plain, robust, alone = (mean_squared_error(one, heldout) / clean for one in maps)
        evidence = maps[1].evidence
        assert evidence is not None
        assert evidence.robust is not None
        out[method] = plain, robust, alone, evidence.robust["clear"]
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
    return covered(X, Y + 0.3 * Y.std() * _noise(noise, X, Y.shape, rng), n)


def digits(n: int, seed: int) -> dict[str, float]:
    """Return the same of random features of the handwritten digits of scikit-learn, from 24 to 20 dimensions."""
    from sklearn.datasets import load_digits

    pixels = np.asarray(load_digits(return_X_y=True)[0]) / 16
    rng = np.random.default_rng(seed)
    X, Y = (
        np.tanh((pixels - pixels.mean(axis=0)) @ rng.normal(size=(pixels.shape[1], dim)) / 2)
        for dim in (24, 20)
    )
    order = rng.permutation(len(pixels))
    return covered(X[order], Y[order], n)


def covered(X: np.ndarray, Y: np.ndarray, n: int) -> dict[str, float]:
    """Return, of maps of the first pairs, the share of the others inside the region of 90 %, by method."""
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
        yield from audited_figures(min(rounds, SEEDS))
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
    yield from few_figures(4 * seeds, table=table)
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


def few_figures(seeds: int, *, table: bool = False) -> Iterator[Figure]:
    """Yield what robust fits lose with 20 and 50 anchors, where they could tell the pairs apart and where not."""
    names = ("rigid", "shrunk", "ridge", "affine", "auto")
    results = {cell: [robust_errors(cell, seed, names) for seed in range(seeds)] for cell in few_cells()}
    if table:
        print("| dimensions | anchors | distortion | noise | draws warned of | " + " | ".join(names) + " |")
        print("|" + " --- |" * (5 + len(names)))
        for cell, found in results.items():
            warned = np.mean([one["ridge"][3] < _TELLS for one in found])
            errors = " | ".join(f"{np.mean([one[name][1] for one in found]):.2f}" for name in names)
            print(
                f"| {cell.dim} | {cell.anchors} | {cell.distortion} | {cell.noise} | {warned:.0%} | {errors} |"
            )
        print()
    draws = [one for found in results.values() for one in found]
    what = "error of robust fit, a fifth shuffled / of fit to the genuine pairs, 20 and 50 anchors, geometric mean"
    for told in (True, False):
        ratios = [one[name][1] for one in draws for name in names if (one[name][3] >= _TELLS) == told]
        where = "no warning" if told else "a warning"
        mean = float(np.exp(np.log(ratios).mean())) if ratios else float("nan")
        yield Figure(f"{what} of the draws with {where}", mean, ROBUST_LIMIT if told else None)
    alone = [one[name][2] for one in draws for name in names]
    what = "error of robust fit to genuine pairs / of plain fit, 20 and 50 anchors, geometric mean"
    yield Figure(what, float(np.exp(np.log(alone).mean())), CLEAN_LIMIT)


def audited_figures(seeds: int, *, table: bool = False) -> Iterator[Figure]:
    """Yield how often an audit calls pairs sound of which a share is shuffled, or the second half shifted by one."""
    wrongs: tuple[float | str, ...] = (0.0, 0.2, 0.5, 0.65, 0.8, "shifted")
    found: dict[float | str, list[latalign.Audit]] = {wrong: [] for wrong in wrongs}
    for (dim, noise, rows), seed in itertools.product(
        itertools.product((4, 16, 64), (0.1, 0.5), (200, 1000)), range(seeds)
    ):
        rng = np.random.default_rng([seed, dim, rows, round(10 * noise)])
        X, Y = (side[:rows] for side in Cell(dim, "any matrix", noise, rows).pairs(rng))
        for wrong in wrongs:
            target = Y.copy()
            if isinstance(wrong, str):
                target = np.insert(Y, rows // 2, Y[0], axis=0)[:rows]
            else:
                some = rng.permutation(rows)[: int(wrong * rows)]
                target[some] = Y[np.roll(some, 1)]
            found[wrong].append(latalign.audit(X, target))
    if table:
        print("| pairs that are wrong | called sound | rows without their own target, estimated |")
        print("|" + " --- |" * 3)
        for wrong, audits in found.items():
            name = "second half shifted by one" if isinstance(wrong, str) else f"{wrong:.0%}"
            shares = [one.mismatched for one in audits]
            sound = np.mean([one.sound for one in audits])
            print(f"| {name} | {sound:.0%} | {min(shares):.0%} to {max(shares):.0%} |")
    for wrong, audits in found.items():
        sound = float(np.mean([one.sound for one in audits]))
        name = "with the second half shifted" if isinstance(wrong, str) else f"with {wrong:.0%} shuffled"
        limit, better = (0.0, "at most") if wrong else (0.95, "at least")
        yield Figure(f"audits that call pairs sound {name}", sound, limit, better)  # pyright: ignore[reportArgumentType]


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
            for dim in COVERED_DIMS
            if times * dim >= 10
            for seed in range(max(seeds, round(seeds * 12 / max(times, TOLD_FROM))))
        ]
        found[times, noise] = {name: float(np.mean([one[name] for one in draws])) for name in COVERED_METHODS}
    for n in DIGITS:
        draws = [digits(n, seed) for seed in range(12 * seeds)]
        found[n / 24, "digits"] = {
            name: float(np.mean([one[name] for one in draws])) for name in COVERED_METHODS
        }
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
        if setting[0] >= TOLD_FROM or not (name in METHODS and METHODS[name].plain)
    )
    yield Figure(
        "share of held-out rows in the region of 90 %, worst distance from 0.9", worst, LOSS_LIMIT, note=where
    )


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.doubt", description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parts = {
        "related": lambda seeds: doubted_figures(table=True),
        "audited": lambda seeds: audited_figures(seeds, table=True),
        "coverage": lambda seeds: coverage_figures(seeds, table=True),
        "robust": lambda seeds: robust_figures(seeds, table=True),
    }
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*parts, []], help=", ".join(parts))
    given = parser.parse_args(arguments)
    found: list[Figure] = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        warnings.simplefilter("ignore", latalign.UnrelatedPairsWarning)
        for name in given.parts or parts:
            found.extend(parts[name](given.seeds))
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
