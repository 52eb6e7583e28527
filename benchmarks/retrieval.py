"""What queries find when they are carried over into the index of another model.

``python -m benchmarks.retrieval [--embeddings FOLDER]``, after ``python -m benchmarks.real_pairs``, prints a
table, one row a setting, and fails where `local_retrieval` finds less than it should; it says in which. Recall@10
is the share of queries whose own document is among the ten best of 20,000, which stay as the target model wrote
them. What is chosen is chosen on held-out anchors; the other methods are each taken in the variant that does
best on the very queries that are measured. A second table is of maps that know a thousand other queries, by the
source model alone, whose mean they take off; there the other methods may do that too.
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
KNOWN_QUERIES = np.r_[500:1000, 2000:2500]  # of the anchors' own; among the anchors of no setting
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


def others(X: Rows, Y: Rows) -> Mapping[str, AffineMap]:
    """Return the maps of the other methods; ridge also without translation."""
    maps: dict[str, AffineMap] = {name: latalign.fit(X, Y, name) for name in PLAIN}
    evidence = maps["ridge"].evidence
    assert evidence is not None
    origin = Moments.of(X, Y).uncentered()
    penalty = (evidence.alpha or 0.0) * np.eye(X.shape[1])
    return maps | {"ridge, no translation": AffineMap.of(np.linalg.solve(origin.xx + penalty, origin.xy))}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Queries, the index and its centred copy, and the row that each query should find."""

    queries: Rows
    known: Rows
    index: Rows
    centred: Rows
    mean: Rows
    relevant: NDArray[np.intp]

    def finds(self, map_: latalign.Map) -> float:
        """Return the recall of queries that are mapped, in the index as it is."""
        return recall(map_(self.queries), self.index, self.relevant)

    def plain(self, maps: Mapping[str, AffineMap]) -> tuple[str, float]:
        """Return the best of the other methods, in its best variant, and what it finds.

        Each is searched with as it is, with the mean of the anchors taken from the mapped queries, and with it taken
        from both sides.
        """
        found: dict[str, float] = {}
        for name, map_ in maps.items():
            mapped = map_(self.queries)
            found[name] = recall(mapped, self.index, self.relevant)
            found[f"{name}, queries centered"] = recall(mapped - self.mean, self.index, self.relevant)
            found[f"{name}, index centered"] = recall(mapped - self.mean, self.centred, self.relevant)
        best = max(found, key=lambda name: found[name])
        return best, found[best]

    def plain_for_queries(self, maps: Mapping[str, AffineMap]) -> float:
        """Return what the best of them finds where the mean of known queries is taken off."""
        mapped = [latalign.for_queries(map_, self.known)(self.queries) for map_ in maps.values()]
        return max(
            recall(rows, side, self.relevant) for rows in mapped for side in (self.index, self.centred)
        )


@final
@dataclass(frozen=True, slots=True)
class Measured:
    """One setting of the tables."""

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
    plain_for_queries: float
    retrieval_for_queries: float
    local_for_queries: float

    @property
    def where(self) -> str:
        """The setting in words."""
        return f"{self.source} → {self.target}, {self.anchors:,} anchors, {self.kind}"

    @property
    def ratios(self) -> Mapping[str, float]:
        """What ours find, relative to the best other method."""
        return {
            "retrieval": self.retrieval / self.plain,
            "local_retrieval": self.local / self.plain,
            "retrieval for known queries": self.retrieval_for_queries / self.plain,
            "local_retrieval for known queries": self.local_for_queries / self.plain,
        }

    def cells(self) -> Iterator[str]:
        """Yield the cells of the row of the first table."""
        yield from (f"{self.source} → {self.target}", f"{self.anchors:,}", self.kind)
        yield from (f"{self.native:.3f}", f"{self.plain:.3f}")
        for value in (self.retrieval, self.local):
            yield f"{value:.3f}, {value / self.plain:.3f}"
        yield from (f"{value:.3f}" for value in (self.no_offset, self.both_sides))
        yield f"{self.plain_for_queries:.3f}, {self.plain_for_queries / self.plain:.3f}"
        for value in (self.retrieval_for_queries, self.local_for_queries):
            yield f"{value:.3f}, {value / self.plain:.3f}"
        yield self.best

    def __str__(self) -> str:
        return f"| {' | '.join(self.cells())} |"


HEAD = (
    "| direction | anchors | kind | native | best other | retrieval | local_retrieval | retrieval, no offset "
    "| both sides | for queries: best other | retrieval | local_retrieval | best other is |\n"
    + "|"
    + " --- |" * 13
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
    mean, index = Y.mean(axis=0), target.documents
    known = source.anchor_queries[KNOWN_QUERIES]
    search = Search(source.queries, known, index, Normalize()(index - mean), mean, relevant)
    maps = others(X, Y)
    best, least = search.plain(maps)
    found, bent = latalign.fit(X, Y, "retrieval"), latalign.local_retrieval(X, Y)
    assert found.evidence is not None
    chosen = {"alpha": found.evidence.alpha, "power": found.evidence.power}
    ours, theirs = solve.retrieval_pair(Moments.of(X, Y), **chosen)
    return Measured(
        *("", "", len(X), ""),
        native=recall(target.queries, index, relevant),
        best=best,
        plain=least,
        retrieval=search.finds(found),
        no_offset=search.finds(replace(found, target_mean=np.zeros(found.dim_target))),
        both_sides=recall(ours(source.queries), Normalize()(theirs(index)), relevant),
        local=search.finds(bent),
        plain_for_queries=search.plain_for_queries(maps),
        retrieval_for_queries=search.finds(latalign.for_queries(found, known)),
        local_for_queries=search.finds(latalign.for_queries(bent, known)),
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


CLAIMED = ("local_retrieval", "local_retrieval for known queries")


def figures(rows: Sequence[Measured]) -> Iterator[Figure]:
    """Yield what ours find in each setting and on average, relative to the best other."""
    for method in rows[0].ratios:
        name = f"recall@10 of {method} / of the best other method"
        limit = LIMIT if method in CLAIMED else None
        for row in rows:
            yield Figure(f"{name}: {row.where}", row.ratios[method], limit, "at least")
        mean = float(np.exp(np.mean([np.log(row.ratios[method]) for row in rows])))
        yield Figure(f"{name}, geometric mean", mean, limit, "at least")


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
