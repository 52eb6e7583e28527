"""Which rows to pair where only some can be: random, farthest-point, k-means and D-optimal anchors.

``python -m benchmarks.anchor_choice [--networks FOLDER] [--embeddings FOLDER]`` prints a row a pair of spaces and
number of anchors: the held-out error with anchors that are chosen among 4,000 rows of the source, relative to the
error with as many random ones; and the geometric means over the pairs of a kind. The pairs are simulated ones and
those of ``benchmarks.real_selection``, the networks of one seed. Nothing is timed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import add_folders
from benchmarks.real_selection import NARROW, Pair, network_pairs, text_pairs
from benchmarks.selection import Cell, geometric_mean
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
DRAWS, DRAWS_OF_WIDE = 5, 1  # errors in wide spaces hardly depend on the draw

_POOL, _HELDOUT = 4000, 4000
_SEED = 2

Ratios = dict[tuple[str, str], float]


def pairs(networks: Path | None, embeddings: Path | None) -> Iterator[Pair]:
    """Yield the pairs of spaces."""
    for distortion in ("anisotropic", "any matrix"):
        cell = Cell(64, distortion, 0.5, _POOL + _HELDOUT)
        yield Pair("simulated, linear", distortion, partial(cell.pairs, np.random.default_rng(_SEED)))
    yield from network_pairs(Lab(Cache(networks)), (_SEED,))
    yield from text_pairs(embeddings)


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


def ratios(X: np.ndarray, Y: np.ndarray, share: float) -> Ratios:
    """Return the mean error with every choice, relative to that with random anchors, by method."""
    draws = DRAWS if X.shape[1] < NARROW else DRAWS_OF_WIDE
    found = [errors(X, Y, round(share * X.shape[1]), draw) for draw in range(draws)]
    mean = {key: float(np.mean([one[key] for one in found])) for key in found[0]}
    return {(m, c): mean[c, m] / mean["random", m] for m in METHODS for c in CHOICES if c != "random"}


def head(*where: str) -> str:
    """Return the head of a table."""
    columns = [*where, *(f"{m}: {c}" for m in METHODS for c in CHOICES if c != "random")]
    return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"


def row(*where: str, of: Ratios) -> str:
    """Return a row of a table, in Markdown."""
    return f"| {' | '.join((*where, *(f'{ratio:.2f}' for ratio in of.values())))} |"


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anchor_choice", description=__doc__)
    add_folders(parser, "networks", "embeddings")
    given = parser.parse_args(arguments)
    found: dict[tuple[str, float], list[Ratios]] = {}
    print(head("kind", "pair", "anchors / dimensions"))
    with threadpool_limits(1):
        for pair in pairs(given.networks, given.embeddings):
            X, Y = pair.rows()
            for share in SHARES:
                one = ratios(X, Y, share)
                found.setdefault((pair.kind, share), []).append(one)
                print(row(pair.kind, pair.name, f"{share:g}", of=one), flush=True)
    print("", head("pairs", "anchors / dimensions"), sep="\n")
    for (kind, share), several in found.items():
        means = {key: geometric_mean(one[key] for one in several) for key in several[0]}
        print(row(kind, f"{share:g}", of=means))
    return 0


if __name__ == "__main__":
    sys.exit(main())
