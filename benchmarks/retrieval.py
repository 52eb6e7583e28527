"""What queries find when they are carried over into the index of another model.

``python -m benchmarks.retrieval [--embeddings FOLDER]``, after ``python -m benchmarks.real_pairs``, prints a
table, one row a setting, and fails where `retrieval` finds less than it should; it says in which. Recall@10
is the share of queries whose own document is among the ten best of 20,000, which stay as the target model wrote
them. What is chosen is chosen on held-out anchors; the other methods are each taken in the variant that does
best on the very queries that are measured.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import Figure, add_folders
from benchmarks.real_pairs import cache_folder
from latalign import AffineMap, Moments, Normalize, kmeans_anchors, solve

Rows = NDArray[np.floating]

ENCODERS = ("minilm", "e5")
ANCHORS = (500, 2000, 5000)
LIMIT = 1.07  # times what the best other method finds, in every setting
PLAIN = ("rigid", "similarity", "orthogonal", "affine", "linear", "ridge")
PARTS = ("documents", "queries", "anchors", "anchor_queries")
_BLOCK = 500


@final
@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The rows of one encoder."""

    documents: Rows
    queries: Rows
    anchors: Rows
    anchor_queries: Rows

    @staticmethod
    def load(folder: Path, name: str) -> Space:
        """Read the rows that `real_pairs` wrote."""
        return Space(**{part: np.load(folder / f"{name}.{part}.npy") for part in PARTS})


Choice = Callable[[Space, int], Rows]


def documents(space: Space, count: int) -> Rows:
    """Return long texts, as the index has."""
    return space.anchors[:count]


def half_queries(space: Space, count: int) -> Rows:
    """Return as many texts, half of them short ones of other things."""
    return np.vstack([space.anchors[: count // 2], space.anchor_queries[count // 2 : count]])


KINDS: Mapping[str, Choice] = {"documents": documents, "half queries": half_queries}


def recall(queries: Rows, index: Rows, relevant: NDArray[np.intp]) -> float:
    """Return the share of queries with fewer than ten rows above their own, by dot product."""
    found = 0
    for start in range(0, len(queries), _BLOCK):
        part = slice(start, start + _BLOCK)
        scores = queries[part].astype(np.float32) @ index.T
        own = scores[np.arange(len(scores)), relevant[part]]
        found += int(((scores > own[:, None]).sum(axis=1) < 10).sum())
    return found / len(queries)


def plain(X: Rows, Y: Rows, queries: Rows, index: Rows, relevant: NDArray[np.intp]) -> tuple[str, float]:
    """Return the best of the other methods, in its best variant, and what it finds.

    Each is searched with as it is, with the mean taken from the mapped queries, and with it taken from both
    sides; ridge also without translation.
    """
    mean = Y.mean(axis=0)
    centred = Normalize()(index - mean)
    maps: dict[str, AffineMap] = {name: latalign.fit(X, Y, name) for name in PLAIN}
    evidence = maps["ridge"].evidence
    assert evidence is not None
    origin = Moments.of(X, Y).uncentered()
    penalty = (evidence.alpha or 0.0) * np.eye(X.shape[1])
    maps["ridge, no translation"] = AffineMap.of(np.linalg.solve(origin.xx + penalty, origin.xy))
    found: dict[str, float] = {}
    for name, map_ in maps.items():
        mapped = map_(queries)
        found[name] = recall(mapped, index, relevant)
        found[f"{name}, queries centered"] = recall(mapped - mean, index, relevant)
        found[f"{name}, index centered"] = recall(mapped - mean, centred, relevant)
    best = max(found, key=lambda name: found[name])
    return best, found[best]


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """One setting of the table."""

    source: str
    target: str
    anchors: int
    kind: str
    native: float
    best: str
    plain: float
    retrieval: float
    no_offset: float
    both_sides: float
    local: float

    @property
    def ratio(self) -> float:
        """What `retrieval` finds, relative to the best other method."""
        return self.retrieval / self.plain

    @property
    def local_ratio(self) -> float:
        """What `local_retrieval` finds, relative to the best other method."""
        return self.local / self.plain

    def __str__(self) -> str:
        values = (self.native, self.plain, self.retrieval, self.no_offset, self.both_sides, self.local)
        where = f"{self.source} → {self.target} | {self.anchors:,} | {self.kind}"
        return (
            f"| {where} | {' | '.join(f'{value:.3f}' for value in values)} | {self.ratio:.3f} | "
            f"{self.local_ratio:.3f} | {self.best} |"
        )


HEAD = (
    "| direction | anchors | kind | native | best other | retrieval | without offset | both sides | local "
    "| retrieval / best other | local / best other | which |\n" + "|" + " --- |" * 12
)


def settings(folder: Path) -> Iterator[Measured]:
    """Measure both directions at every number and kind of anchors."""
    relevant = np.load(folder / "relevant.npy")
    spaces = {name: Space.load(folder, name) for name in ENCODERS}
    for source, target in (ENCODERS, ENCODERS[::-1]):
        for kind, choice in KINDS.items():
            for count in ANCHORS:
                pairs = choice(spaces[source], count), choice(spaces[target], count)
                yield replace(
                    measured(*pairs, spaces[source], spaces[target], relevant),
                    source=source,
                    target=target,
                    kind=kind,
                )


def measured(X: Rows, Y: Rows, source: Space, target: Space, relevant: NDArray[np.intp]) -> Measured:
    """Fit and search."""
    queries, index = source.queries, target.documents
    best, least = plain(X, Y, queries, index, relevant)
    found = latalign.fit(X, Y, "retrieval")
    assert found.evidence is not None
    chosen = {"alpha": found.evidence.alpha, "power": found.evidence.power}
    ours, theirs = solve.retrieval_pair(Moments.of(X, Y), **chosen)
    return Measured(
        *("", "", len(X), ""),
        native=recall(target.queries, index, relevant),
        best=best,
        plain=least,
        retrieval=recall(found(queries), index, relevant),
        no_offset=recall(found(queries) - found.target_mean, index, relevant),
        both_sides=recall(ours(queries), Normalize()(theirs(index)), relevant),
        local=recall(latalign.local_retrieval(X, Y)(queries), index, relevant),
    )


def spread(folder: Path) -> Iterator[str]:
    """Yield what anchors chosen for coverage find, next to as many drawn at random."""
    relevant = np.load(folder / "relevant.npy")
    spaces = {name: Space.load(folder, name) for name in ENCODERS}
    for source, target in (ENCODERS, ENCODERS[::-1]):
        mine, its = spaces[source], spaces[target]
        for count in ANCHORS[:-1]:
            central = kmeans_anchors(mine.anchors, count, random_state=0)
            found = latalign.fit(mine.anchors[central], its.anchors[central], "retrieval")
            value = recall(found(mine.queries), its.documents, relevant)
            yield f"{source} → {target}, {count:,} anchors by k-means of 5,000: {value:.3f}"


def figures(rows: Sequence[Measured]) -> Iterator[Figure]:
    """Yield what `retrieval` and `local_retrieval` find in each setting and on average, relative to the best other."""
    for method, ratios in (
        ("retrieval", [row.ratio for row in rows]),
        ("local_retrieval", [row.local_ratio for row in rows]),
    ):
        name = f"recall@10 of {method} / of the best other method"
        for row, ratio in zip(rows, ratios, strict=True):
            where = f"{row.source} → {row.target}, {row.anchors:,} anchors, {row.kind}"
            yield Figure(f"{name}: {where}", ratio, LIMIT, "at least")
        yield Figure(f"{name}, geometric mean", float(np.exp(np.mean(np.log(ratios)))), LIMIT, "at least")


def main(arguments: list[str] | None = None) -> int:
    """Print the table and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.retrieval", description=__doc__)
    add_folders(parser, "embeddings")
    folder = cache_folder(parser.parse_args(arguments).embeddings)
    rows: list[Measured] = []
    print(HEAD)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        for row in settings(folder):
            print(row, flush=True)
            rows.append(row)
        print(*spread(folder), sep="\n")
    found = list(figures(rows))
    print(*found, sep="\n")
    return 0 if all(figure.met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
