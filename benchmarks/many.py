"""What one shared space costs beside maps of every two spaces alone, and what it gives.

``python -m benchmarks.many [--networks FOLDER] [--embeddings FOLDER]`` prints three tables, and fails where a
figure is worse than claimed:

any to any     the held-out error of all maps through the shared space and of the direct ones, relative to the
               spread of the target; how far round trips and detours lead astray; a space that joins later
a chain        six spaces of which only neighbors share rows: through the shared space, and from one to the next
retrieval      recall@10 of queries of one encoder among 20,000 documents of another, both in the shared space

Spaces are the codes of Fashion-MNIST by autoencoders (three seeds of a convolutional network; those and three of
an MLP) and texts by two encoders and LSA. Networks that are not in the cache are trained, a minute each; the
embeddings are made by ``python -m benchmarks.real_pairs``.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from typing import final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import Figure, add_folders
from benchmarks.real_pairs import embeddings
from benchmarks.retrieval import Space, recall
from latalign import AffineMap, Moments, Normalize, fit_many, fit_many_moments, solve
from latalign.experiments.cache import Cache
from latalign.experiments.lab import Lab
from latalign.experiments.specs import Architecture, Network

Rows = NDArray[np.floating]
Models = Mapping[str, Rows]

METHODS = ("rigid", "ridge")
ANCHORS, TEXT_ANCHORS = (40, 100, 1000, 10_000), (500, 2000, 5000)
COST = {"rigid": 1.06, "ridge": 1.04}  # the error through the shared space, relative to the direct maps'
FOUND = 1.0  # what the correction finds, relative to the shared space as it is
_HELDOUT = 4000


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A set of spaces, a number of anchors and a method: all errors relative to the spread of the target."""

    spaces: str
    anchors: int
    method: str
    dim: int
    shared: float
    direct: float
    told: float
    round_trip: float
    direct_round_trip: float
    detour: float
    direct_detour: float
    joined_by_one: float
    joined_by_all: float
    together: float
    seconds: float

    @property
    def cost(self) -> float:
        """The error through the shared space, relative to that of the direct maps."""
        return self.shared / self.direct

    def __str__(self) -> str:
        errors = f"{self.shared:.4f} | {self.direct:.4f} | {self.cost:.3f} | {self.told:.4f}"
        cycles = f"{self.round_trip:.4f} | {self.direct_round_trip:.4f} | {self.detour:.4f} | {self.direct_detour:.4f}"
        joins = f"{self.joined_by_one:.4f} | {self.joined_by_all:.4f} | {self.together:.4f}"
        where = f"{self.spaces} | {self.anchors:,} | {self.method} | {self.dim}"
        return f"| {where} | {errors} | {cycles} | {joins} | {self.seconds:.1f} |"


HEAD = (
    "| spaces | anchors | method | shared dim | error, shared | error, direct | ratio | error, as the evidence has "
    "it | round trip | round trip, direct | detour | detour, direct | joined by one | joined by all | from the start "
    "| seconds |\n|" + " --- |" * 16
)


def networks(lab: Lab) -> Iterator[tuple[str, Models]]:
    """Yield the codes of three networks, and of six."""

    def codes(architecture: Architecture, seed: int) -> Rows:
        return lab.codes(Network("Fashion-MNIST", architecture, 50, 5, seed), "train")

    conv = {f"conv {seed}": codes("conv", seed) for seed in range(3)}
    yield "conv × 3", conv
    yield "conv × 3, MLP × 3", {**conv, **{f"MLP {seed}": codes("MLP", seed) for seed in range(3)}}


def error(map_: AffineMap, X: Rows, Y: Rows) -> float:
    """Return the squared error relative to the spread of the target."""
    return float(np.square(map_(X) - Y).sum() / np.square(Y - Y.mean(axis=0)).sum())


def mean_error(
    map_of: Callable[[str, str], AffineMap], models: Models, pairs: Sequence[tuple[str, str]]
) -> float:
    return float(np.mean([error(map_of(*pair), models[pair[0]], models[pair[1]]) for pair in pairs]))


def measured(spaces: str, models: Models, anchors: int, method: str) -> Row:
    """Fit to some rows, and measure on others."""
    order = np.random.default_rng(anchors).permutation(len(next(iter(models.values()))))
    train = {name: rows[order[:anchors]] for name, rows in models.items()}
    test = {name: rows[order[anchors : anchors + _HELDOUT]] for name, rows in models.items()}
    pairs = list(permutations(models, 2))
    began = time.perf_counter()
    shared = fit_many(train, method)
    seconds = time.perf_counter() - began

    def direct(source: str, target: str) -> AffineMap:
        return latalign.fit(train[source], train[target], method)

    *rest, last = models
    fewer = fit_many({name: train[name] for name in rest}, method)
    ends = [pair for pair in pairs if last in pair]

    def joined(known: Sequence[str]) -> float:
        more = fewer.join(last, train[last], {name: train[name] for name in known})
        return mean_error(more.map, test, ends)

    told = shared.evidence.pairs

    def mean(name: str) -> float:
        return float(np.mean([getattr(pair, name) for pair in told]))

    return Row(
        spaces,
        anchors,
        method,
        shared.dim,
        mean_error(shared.map, test, pairs),
        mean_error(direct, test, pairs),
        float(np.mean([pair.error / pair.baseline for pair in told if pair.error and pair.baseline])),
        mean("round_trip"),
        mean("direct_round_trip"),
        mean("detour"),
        mean("direct_detour"),
        joined(rest[:1]),
        joined(rest),
        mean_error(shared.map, test, ends),
        seconds,
    )


def chain(models: Models, anchors: int, method: str) -> tuple[float, float]:
    """Return the error of all maps where only neighbors share rows: through the shared space, and step by step."""
    order = np.random.default_rng(anchors).permutation(len(next(iter(models.values()))))
    test = {name: rows[order[-_HELDOUT:]] for name, rows in models.items()}
    folds, steps = {}, {}
    for number, (one, other) in enumerate(pairwise(models)):
        part = order[number * anchors : (number + 1) * anchors]
        folds[one, other] = [Moments.of(models[one][part[k::5]], models[other][part[k::5]]) for k in range(5)]
        steps[one, other] = latalign.fit(models[one][part], models[other][part], method)
        steps[other, one] = latalign.fit(models[other][part], models[one][part], method)
    names = list(models)

    def step_by_step(source: str, target: str) -> AffineMap:
        i, j = names.index(source), names.index(target)
        way = names[i : j + 1] if i < j else names[j : i + 1][::-1]
        first, *rest = (steps[pair] for pair in pairwise(way))
        for step in rest:
            first = first >> step
        return first

    pairs = list(permutations(models, 2))
    shared = fit_many_moments(folds, method)
    return mean_error(shared.map, test, pairs), mean_error(step_by_step, test, pairs)


def found(
    spaces: Mapping[str, Space], into: Callable[[str, str, str], AffineMap], relevant: NDArray[np.intp]
) -> float:
    """Return the mean recall of all ordered pairs; ``into(source, target, side)`` maps one side."""
    values = []
    for source, target in permutations(spaces, 2):
        queries = into(source, target, source)(spaces[source].queries)
        stored = Normalize()(into(source, target, target)(spaces[target].documents))
        values.append(recall(queries, stored, relevant))
    return float(np.mean(values))


def retrieval(spaces: Mapping[str, Space], anchors: int, relevant: NDArray[np.intp]) -> dict[str, float]:
    """Return what is found, by what the two sides go through."""
    train = {name: space.anchors[:anchors] for name, space in spaces.items()}
    pairs = {pair: Moments.of(train[pair[0]], train[pair[1]]) for pair in permutations(spaces, 2)}
    turns = {pair: solve.rigid(moments) for pair, moments in pairs.items()}
    both = {pair: solve.retrieval_pair(moments) for pair, moments in pairs.items()}

    def centred(map_: AffineMap) -> AffineMap:
        return AffineMap(map_.source_mean, map_.matrix, np.zeros(map_.dim_target))

    def turned(source: str, target: str, side: str) -> AffineMap:
        turn = turns[source, target]
        here = AffineMap(turn.target_mean, np.eye(turn.dim_target), np.zeros(turn.dim_target))
        return centred(turn) if side == source else here

    results = {
        "direct, rigid": found(spaces, turned, relevant),
        "direct, retrieval": found(
            spaces, lambda source, target, side: both[source, target][side != source], relevant
        ),
    }
    for method in METHODS:
        shared = fit_many(
            train, method, n_folds=2 if method == "rigid" else 5
        )  # a rotation has nothing to choose
        after = shared.correction()
        plain = {name: centred(shared.into(name)) for name in spaces}
        corrected = {name: shared.into(name) >> after for name in spaces}
        for name, maps in ((f"shared, {method}", plain), (f"shared, {method}, corrected", corrected)):
            results[name] = found(spaces, lambda source, target, side, maps=maps: maps[side], relevant)
    return results


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many", description=__doc__)
    add_folders(parser, "networks", "embeddings")
    given = parser.parse_args(arguments)
    sets = [(*one, ANCHORS) for one in networks(Lab(Cache(given.networks)))]
    folder = embeddings(given.embeddings)
    texts = {} if folder is None else {name: Space.load(folder, name) for name in ("minilm", "e5", "lsa")}
    if texts:
        sets.append(("texts", {name: space.documents for name, space in texts.items()}, TEXT_ANCHORS))
    figures: list[Figure] = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        print(HEAD)
        rows: list[Row] = []
        for name, models, counts in sets:
            for anchors in counts:
                for method in METHODS:
                    rows.append(measured(name, models, anchors, method))
                    print(rows[-1], flush=True)
        for method in METHODS:
            worst = max(row.cost for row in rows if row.method == method)
            figures.append(
                Figure(f"{method}: error through the shared space / direct, worst", worst, COST[method])
            )
        print("\n| chain, anchors | method | shared | step by step |\n| --- | --- | --- | --- |")
        for anchors in ANCHORS[1:3]:
            for method in METHODS:
                through, steps = chain(sets[1][1], anchors, method)
                print(f"| {anchors:,} | {method} | {through:.4f} | {steps:.4f} |", flush=True)
        for anchors in () if folder is None else TEXT_ANCHORS:
            relevant = np.load(folder / "relevant.npy")
            results = retrieval(texts, anchors, relevant)
            print(f"\n{anchors:,} anchors")
            print(*(f"  {name}: {value:.3f}" for name, value in results.items()), sep="\n", flush=True)
            for method in METHODS:
                gain = results[f"shared, {method}, corrected"] / results[f"shared, {method}"]
                name = f"{anchors:,} anchors: corrected / as it is, {method}"
                figures.append(Figure(name, gain, FOUND, "at least"))
    print(*figures, sep="\n")
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
