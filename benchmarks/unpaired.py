"""What nothing finds: reconstruction errors through `fit_unpaired` on autoencoders of Fashion-MNIST, and controls.

``python -m benchmarks.unpaired [--networks FOLDER] [--embeddings FOLDER]`` prints a table, one row a run, and
fails where a map that is returned as found is worse than the linear map of the class means
(`pair_class_means`), or where there is no true map at all and one is returned. Source and target are fitted
on two halves of the training images, which have no image in common; with ``overlap``, on two thirds each, so
that half of the images of either are on both sides, in unknown order. Errors are those of the decoded test
images, which no fit sees, relative to those through the class means. Text encoders take part where ``python
-m benchmarks.real_pairs`` has made their embeddings; there the classes are ten clusters of the source's
documents, and errors are mean squared, between the codes of other texts. Networks that the cache of
``latalign reproduce`` does not have are trained first. Needs the extra ``experiments``.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import Figure, add_folders
from benchmarks.labels import network
from benchmarks.real_pairs import embeddings
from latalign.experiments.cache import Cache
from latalign.experiments.lab import Lab

Rows = NDArray[Any]

LATENTS = (50, 30, 10, 100)
PAIRS = (
    (("conv", 1), ("conv", 2)),
    (("MLP", 1), ("MLP", 2)),
    (("conv", 0), ("MLP", 0)),
    (("MLP", 0), ("conv", 0)),
)
ENCODERS = (("minilm", "e5"), ("e5", "minilm"), ("minilm", "lsa"))

_DATA = "Fashion-MNIST"
_CLASSES = 10


@final
@dataclass(frozen=True, slots=True)
class Case:
    """Rows of both sides with their classes, and how a map between the spaces is measured.

    Attributes
    ----------
    name : str
    X, Y : arrays
    x_labels, y_labels : arrays
    whole : tuple of two arrays
        All rows, row by row the same thing: what an affine map can do. Empty where there is no true map.
    error : callable
    """

    name: str
    X: Rows
    Y: Rows
    x_labels: Rows
    y_labels: Rows
    whole: tuple[Rows, Rows] | tuple[()]
    error: Callable[[latalign.AffineMap], float]


@final
@dataclass(frozen=True, slots=True)
class Row:
    """What was found in a case.

    Attributes
    ----------
    case : str
    answer : bool
        Whether there is a true map.
    found : bool
    confidence : float
    ratio : float
        The error, relative to that of the class means, linear; NaN where nothing was found.
    ridge : float
        The same, relative to that of the class means, ridge.
    floor : float
        What the ratio is for the affine map of all pairs.
    seconds : float
    """

    case: str
    answer: bool
    found: bool
    confidence: float
    ratio: float
    ridge: float
    floor: float
    seconds: float

    @property
    def wrong(self) -> bool:
        """Whether a map is returned as found that is none."""
        return self.found and not (self.answer and self.ratio < 1)

    def __str__(self) -> str:
        figures = (
            f"{value:.3f}" if value == value else "–" for value in (self.ratio, self.ridge, self.floor)
        )
        words = "yes" if self.answer else "no", "yes" if self.found else "no"
        return " | ".join([self.case, *words, f"{self.confidence:.3f}", *figures, f"{self.seconds:.0f}"])


def halves(count: int, overlap: bool) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the rows of either side: none in common, or half of each."""
    order = np.random.default_rng(0).permutation(count)
    if not overlap:
        one, other = np.array_split(order, 2)
        return one, other
    return order[: 2 * count // 3], np.random.default_rng(1).permutation(order[count // 3 :])


def of_networks(lab: Lab, latents: Sequence[int], overlaps: Sequence[bool]) -> Iterator[Case]:
    """Yield pairs of autoencoders."""
    for latent, (source, target), overlap in product(latents, PAIRS, overlaps):
        networks = network(*source, latent), network(*target, latent)
        X, Y = (lab.codes(one, "train") for one in networks)
        labels = lab.labels(_DATA, "train")
        decoder, codes = lab.decoder(networks[1]), lab.codes(networks[0], "test")
        one, other = halves(len(X), overlap)
        name = " → ".join(f"{kind} {seed}" for kind, seed in (source, target))
        yield Case(
            f"{latent} dimensions, {name}{', overlap' if overlap else ''}",
            X[one],
            Y[other],
            labels[one],
            labels[other],
            (X, Y),
            lambda found, decoder=decoder, codes=codes: lab.error(decoder, found(codes), _DATA),
        )


def of_texts(given: Path | None) -> Iterator[Case]:
    """Yield pairs of text encoders, if their embeddings are there."""
    folder = embeddings(given)
    if folder is None:
        return
    for (source, target), overlap in product(ENCODERS, (False, True)):
        X, Y, new, expected = (
            np.load(folder / f"{name}.{part}.npy")
            for part in ("documents", "anchors")
            for name in (source, target)
        )
        labels = KMeans(_CLASSES, n_init=1, random_state=0).fit_predict(X)
        one, other = halves(len(X), overlap)
        yield Case(
            f"{source} → {target}{', overlap' if overlap else ''}",
            X[one],
            Y[other],
            labels[one],
            labels[other],
            (X, Y),
            lambda found, new=new, expected=expected: float(np.square(found(new) - expected).mean()),
        )


def of_nothing(lab: Lab) -> Iterator[Case]:
    """Yield clouds between which there is no true map."""
    X, Y = (lab.codes(network("conv", seed, 50), "train") for seed in (1, 2))
    labels = lab.labels(_DATA, "train")
    one, other = halves(len(X), overlap=False)
    rng = np.random.default_rng(0)

    def case(name: str, source: Rows, target: Rows) -> Case:
        nobody = np.empty(0)
        return Case(f"no map: {name}", source, target, nobody, nobody, (), lambda found: np.nan)

    for turn in range(3):
        some = np.random.default_rng(turn).permutation(_CLASSES)[:5]
        mine, its = X[one][np.isin(labels[one], some)], Y[other][~np.isin(labels[other], some)]
        yield case(f"other classes, {turn}", mine, its)
    yield case("four classes of seven shared", X[one][labels[one] < 7], Y[other][labels[other] >= 3])
    flat = rng.multivariate_normal(Y.mean(axis=0), np.cov(Y.T), len(other))
    yield case("codes and a Gaussian", X[one], flat)
    yield case("two Gaussians", rng.multivariate_normal(X.mean(axis=0), np.cov(X.T), len(one)), flat)
    vectors = np.linalg.eigh(np.cov(Y.T))[1]
    alone = np.stack([rng.permutation(column) for column in (Y[other] @ vectors).T], axis=1)
    yield case("principal directions shuffled", X[one], alone @ vectors.T)


def measured(case: Case) -> Row:
    """Fit, and measure where there is something to measure."""
    began = time.perf_counter()
    found = latalign.fit_unpaired(case.X, case.Y)
    seconds = time.perf_counter() - began
    ratio = ridge = floor = float("nan")
    if case.whole:
        means = latalign.pair_class_means(case.X, case.x_labels, case.Y, case.y_labels)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", latalign.IllConditionedWarning)
            linear = case.error(latalign.fit(*means, "linear"))
            floor = case.error(latalign.fit(*case.whole, "affine")) / linear
            if found.found:
                error = case.error(found.map)
                ratio, ridge = error / linear, error / case.error(latalign.fit(*means, "ridge"))
    return Row(case.name, bool(case.whole), found.found, found.confidence, ratio, ridge, floor, seconds)


def figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """Yield what is claimed."""
    answered = [row for row in rows if row.answer]
    yield Figure(f"wrong maps returned as found, of {len(rows)} runs", sum(row.wrong for row in rows), 0)
    yield Figure(f"maps found, of {len(answered)} that there are", sum(row.found for row in answered))
    found = [row.ratio for row in answered if row.found]
    yield Figure(
        "error / class means, linear, where found, median", float(np.median(found)) if found else np.nan
    )


_HEAD = (
    "| case | has a map | found | confidence | error / means, linear | error / means, ridge | all pairs / means, "
    "linear | seconds |\n|" + " --- |" * 8
)


def main(arguments: list[str] | None = None) -> int:
    """Print the table and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.unpaired", description=__doc__)
    parser.add_argument("--latents", type=int, nargs="*", default=LATENTS, help="these sizes only")
    add_folders(parser, "networks", "embeddings")
    parser.add_argument("--no-controls", action="store_true", help="leave out what has no true map")
    given = parser.parse_args(arguments)
    lab = Lab(Cache(given.networks).made())
    rows: list[Row] = []
    print(_HEAD)
    with threadpool_limits(1):
        cases = [of_networks(lab, given.latents, (False, True))]
        if not given.no_controls:
            cases.append(of_nothing(lab))
        cases.append(of_texts(given.embeddings))
        for case in (case for some in cases for case in some):
            rows.append(measured(case))
            print(f"| {rows[-1]} |", flush=True)
    found = list(figures(rows))
    print(*found, sep="\n")
    return 0 if all(figure.met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
