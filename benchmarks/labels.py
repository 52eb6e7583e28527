"""What labels alone find: reconstruction errors through `fit_from_labels` on autoencoders of Fashion-MNIST.

``python -m benchmarks.labels [--networks FOLDER]`` prints a table, one row a pair of networks, and fails
where a figure is worse than its limit. With 10 and 30 dimensions that of the median is out of reach, for the map
of all pairs as well. Source and target are fitted on the two halves of the training images, which have no image
in common; errors are those of the decoded test images, which no fit sees. Networks that are not in the folder,
the cache of ``latalign reproduce`` unless given, are trained first, five epochs each. Needs the extra
``experiments``.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import final

import numpy as np
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import Figure, add_folders
from latalign.experiments.cache import Cache
from latalign.experiments.lab import Lab
from latalign.experiments.specs import Architecture, DataName, Network

LATENTS = (10, 30, 50, 100)
# Source and target: kind and seed. Both directions between kinds, and other seeds of one kind.
PAIRS = (
    (("conv", 0), ("MLP", 0)),
    (("MLP", 0), ("conv", 0)),
    (("conv", 2), ("MLP", 1)),
    (("MLP", 2), ("conv", 1)),
    (("conv", 1), ("conv", 2)),
    (("conv", 0), ("conv", 1)),
    (("MLP", 1), ("MLP", 2)),
    (("MLP", 0), ("MLP", 1)),
)
CLASSES = 10  # of Fashion-MNIST
MEDIAN_LIMIT, WORST_LIMIT = 0.50, 0.65  # of the error of the class means, linear
BEATEN_LIMIT = 1.0  # of the error of the class means, the better of ridge and linear
ABOVE_LIMIT = 1.15  # of the error of the affine map of all pairs

_DATA: DataName = "Fashion-MNIST"
_EPOCHS = 5
_WIDE = 100  # dimensions from which on the MLP of 128 units is too narrow


@final
@dataclass(frozen=True, slots=True)
class Row:
    """The errors of one pair of networks: mean squared, per pixel.

    Attributes
    ----------
    own : float
        Of the target's own codes.
    affine : float
        Through the affine map of all pairs of training images: what an affine map can do.
    labels : float
        Through `fit_from_labels`.
    linear, ridge : float
        Through the maps of the class means.
    disagreement : float
    agreement : float
    seconds : float
        Of the fit from labels, on one thread.
    """

    own: float
    affine: float
    labels: float
    linear: float
    ridge: float
    disagreement: float
    agreement: float
    seconds: float

    @property
    def ratio(self) -> float:
        """The error from labels, relative to that of the class means, linear."""
        return self.labels / self.linear

    @property
    def floor(self) -> float:
        """What that ratio is for all pairs."""
        return self.affine / self.linear

    def __str__(self) -> str:
        errors = (self.own, self.affine, self.labels, self.ridge, self.linear)
        shown = [f"{error:.4f}" if error < 10 else f"{error:.2g}" for error in errors]
        ratios = [f"{self.ratio:.3f}", f"{self.floor:.3f}"]
        found = [f"{self.disagreement:.3f}", f"{self.agreement:.3f}", f"{self.seconds:.1f}"]
        return " | ".join([*shown, *ratios, *found])


def network(kind: str, seed: int, latent: int) -> Network:
    """Return the specification of a network, as the tables have it."""
    architecture: Architecture = "conv" if kind == "conv" else "wide MLP" if latent >= _WIDE else "MLP"
    return Network(_DATA, architecture, latent, _EPOCHS, seed)


def measured(lab: Lab, source: Network, target: Network) -> Row:
    """Fit on halves of the training images, and measure on the test images."""
    X, Y = lab.codes(source, "train"), lab.codes(target, "train")
    labels = lab.labels(_DATA, "train")
    one, other = (np.sort(half) for half in np.array_split(np.random.default_rng(0).permutation(len(X)), 2))
    sides = X[one], labels[one], Y[other], labels[other]
    began = time.perf_counter()
    found = latalign.fit_from_labels(*sides)
    seconds = time.perf_counter() - began
    means = latalign.pair_class_means(*sides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        maps = {
            "affine": latalign.fit(X, Y, "affine"),
            "labels": found.map,
            "linear": latalign.fit(*means, "linear"),
            "ridge": latalign.fit(*means, "ridge"),
        }
    decoder, codes = lab.decoder(target), lab.codes(source, "test")
    errors = {name: lab.error(decoder, map_(codes), _DATA) for name, map_ in maps.items()}
    own = lab.error(decoder, lab.codes(target, "test"), _DATA)
    agreement = max(found.agreement, default=float("nan"))
    return Row(own, **errors, disagreement=found.disagreement, agreement=agreement, seconds=seconds)


def figures(results: Mapping[int, Sequence[Row]]) -> Iterator[Figure]:
    """Yield what is claimed, size by size; what all pairs reach stands beside a limit that they may miss as well."""
    for latent, rows in results.items():
        # With as many classes as dimensions the linear map of their means explodes, and anything is good beside it.
        other = "ridge" if latent == CLASSES else "linear"
        means = np.array([getattr(row, other) for row in rows])
        labels, floor = (np.array([getattr(row, name) for row in rows]) for name in ("labels", "affine"))
        name = f"{latent} dimensions: error from labels /"
        for what, of, limit in (("median", np.median, MEDIAN_LIMIT), ("worst", np.max, WORST_LIMIT)):
            reached = f"all pairs: {of(floor / means):.3f}"
            yield Figure(
                f"{name} class means, {other}, {what}", float(of(labels / means)), limit, note=reached
            )
        better = np.array([min(row.ridge, row.linear) for row in rows])
        yield Figure(
            f"{name} better map of the class means, worst", float((labels / better).max()), BEATEN_LIMIT
        )
        yield Figure(f"{name} affine of all pairs, median", float(np.median(labels / floor)))
        yield Figure(f"{name} affine of all pairs, worst", float((labels / floor).max()), ABOVE_LIMIT)


_HEAD = (
    "| dimensions | source → target | own | affine, all pairs | labels | means, ridge | means, linear | labels / "
    "means, linear | all pairs / means, linear | disagreement | agreement | seconds |\n|" + " --- |" * 12
)


def main(arguments: list[str] | None = None) -> int:
    """Print the table and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description=__doc__)
    parser.add_argument("--latents", type=int, nargs="+", default=LATENTS, help="these sizes only")
    add_folders(parser, "networks")
    given = parser.parse_args(arguments)
    lab = Lab(Cache(given.networks).made())
    results: dict[int, list[Row]] = {}
    print(_HEAD)
    with threadpool_limits(1):
        for latent, pair in product(given.latents, PAIRS):
            row = measured(lab, *(network(*one, latent) for one in pair))
            results.setdefault(latent, []).append(row)
            names = " → ".join(f"{kind} {seed}" for kind, seed in pair)
            print(f"| {latent} | {names} | {row} |", flush=True)
    found = list(figures(results))
    print(*found, sep="\n")
    return 0 if all(figure.met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
