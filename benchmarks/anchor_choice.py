"""Which rows to pair where only some can be: random, farthest-point, k-means and D-optimal anchors.

``python -m benchmarks.anchor_choice [--networks FOLDER] [--embeddings FOLDER]`` prints a table: the held-out
error with anchors that are chosen among 4,000 rows of the source, relative to the error with as many random
ones. The pairs are simulated ones and those of ``benchmarks.real_selection``, the networks of one seed. Nothing
is timed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import add_folders
from benchmarks.real_selection import network_pairs, text_pairs
from benchmarks.selection import Cell
from latalign import Moments
from latalign.experiments.cache import Cache
from latalign.experiments.lab import Lab
from latalign.metrics import mean_squared_error

CHOICES: Mapping[str, Callable[[np.ndarray, int, int], np.ndarray]] = MappingProxyType(
    {
        "random": lambda X, n, seed: latalign.random_anchors(len(X), n, random_state=seed),
        "farthest-point": lambda X, n, seed: latalign.farthest_point_anchors(X, n, random_state=seed),
        "k-means": lambda X, n, seed: latalign.kmeans_anchors(X, n, random_state=seed),
        "D-optimal": lambda X, n, seed: latalign.d_optimal_anchors(X, n, random_state=seed),
    }
)
SHARES = (0.2, 0.5, 1.0, 2.0, 5.0)  # of the source dimensions
METHODS = ("shrunk", "affine")
DRAWS = 5

_POOL, _HELDOUT = 4000, 4000
_SEED = 2

Pairs = tuple[np.ndarray, np.ndarray]


def pairs(networks: Path | None, embeddings: Path | None) -> Iterator[tuple[str, Pairs]]:
    """Yield the pairs by name."""
    for distortion in ("anisotropic", "any matrix"):
        cell = Cell(64, distortion, 0.5, _POOL + _HELDOUT)
        yield f"simulated, {distortion}", cell.pairs(np.random.default_rng(_SEED))
    for pair in network_pairs(Lab(Cache(networks)), (_SEED,)):
        yield pair.name, pair.rows()
    for pair in text_pairs(embeddings):
        yield pair.name, pair.rows()


def errors(X: np.ndarray, Y: np.ndarray, n_anchors: int, draw: int) -> dict[tuple[str, str], float]:
    """Return the held-out error of every choice and method."""
    drawn = np.random.default_rng([draw, n_anchors]).permutation(len(X))[: _POOL + _HELDOUT]
    pool, rest = drawn[:_POOL], drawn[_POOL:]
    heldout = Moments.of(X[rest], Y[rest], grams="source")
    found: dict[tuple[str, str], float] = {}
    for name, choose in CHOICES.items():
        anchors = pool[choose(X[pool], n_anchors, draw)]
        for method in METHODS:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", latalign.IllConditionedWarning)
                fitted = latalign.fit(X[anchors], Y[anchors], method, random_state=draw)
            found[name, method] = mean_squared_error(fitted, heldout)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anchor_choice", description=__doc__)
    add_folders(parser, "networks", "embeddings")
    given = parser.parse_args(arguments)
    others = list(CHOICES)[1:]
    print("| pair | anchors / dimensions |" + "".join(f" {m}: {c} |" for m in METHODS for c in others))
    print("|" + " --- |" * (2 + len(METHODS) * len(others)))
    with threadpool_limits(1):
        for name, (X, Y) in pairs(given.networks, given.embeddings):
            for share in SHARES:
                found = [errors(X, Y, round(share * X.shape[1]), draw) for draw in range(DRAWS)]
                mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
                ratios = (mean[c, m] / mean["random", m] for m in METHODS for c in others)
                print(f"| {name} | {share:g} | " + " | ".join(f"{r:.2f}" for r in ratios) + " |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
