"""What becomes of hubs and of thresholds where queries are carried over into the index of another model.

``python -m benchmarks.thresholds [--embeddings FOLDER]``, after ``python -m benchmarks.real_pairs``, prints two
tables of `retrieval` on the texts of ``benchmarks.retrieval``. The first: recall@10 by dot product and by CSLS, and
how unevenly the stored rows are found, by the target model's own queries and by mapped ones. The second: at
thresholds that the target model's own queries exceed with so many stored rows each, how many mapped ones do, and
how often the row that a query looks for is among them, before and after `calibrate_scores` on pairs that no map was
fitted to. Nothing is timed.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

import latalign
from benchmarks.harness import Figure, add_folders
from benchmarks.real_pairs import embeddings
from benchmarks.retrieval import ENCODERS, Space, recall
from latalign import AffineMap, Normalize
from latalign.crowding import csls_relevant_ranks, index_hubness
from latalign.searching import Index

ANCHORS = (500, 2000, 4000)
HELD_OUT = 1000  # the last anchors: scores are calibrated with them
LET_THROUGH = (2, 10, 50)  # stored rows a query, of 20,000

HUBS = "| direction | queries | recall@10 by dot product | by CSLS | hubness |\n|" + " --- |" * 5
PASSED = (
    "| direction | stored rows above it, own queries | mapped | calibrated | own document above it, own queries "
    "| mapped | calibrated |\n|" + " --- |" * 7
)

_MOST = 1.5  # times as many rows as natively, and as few: what calibrated thresholds are held to


@final
@dataclass(frozen=True, slots=True)
class Direction:
    """From the queries of one encoder to the index of another."""

    source: Space
    target: Space
    name: str
    relevant: NDArray[np.intp]

    def fitted(self, anchors: int) -> AffineMap:
        """Return the map of the first anchors."""
        return latalign.fit(self.source.anchors[:anchors], self.target.anchors[:anchors], "retrieval")

    def hubs(self) -> Iterator[str]:
        """Yield the rows of the table of what own and mapped queries find, and how unevenly."""
        index = Index(self.target.documents)
        kinds = {"own": self.target.queries}
        kinds |= {f"mapped, {count:,} anchors": self.fitted(count)(self.source.queries) for count in ANCHORS}
        for kind, queries in kinds.items():
            plain = recall(queries, self.target.documents, self.relevant)
            csls = csls_relevant_ranks(queries, index, self.relevant[:, None].astype(np.int64))
            hubness = index_hubness(queries, index)
            yield f"| {self.name} | {kind} | {plain:.3f} | {(csls <= 10).mean():.3f} | {hubness:.1f} |"

    def passed(self) -> Iterator[Passed]:
        """Yield for each threshold what is above it."""
        found = self.fitted(ANCHORS[-1])
        pairs = found(self.source.anchor_queries[-HELD_OUT:]), self.target.anchor_queries[-HELD_OUT:]
        calibrated = latalign.calibrate_scores(*pairs, self.target.documents)
        stored = Normalize()(self.target.documents).T
        queries = self.target.queries, found(self.source.queries)
        native, mapped = (Normalize()(side) @ stored for side in queries)
        for rows in LET_THROUGH:
            threshold = float(np.quantile(native, 1 - rows / len(self.target.documents)))
            of_each = calibrated.inverse(threshold, queries[1])[:, None]
            above = native > threshold, mapped > threshold, mapped > of_each
            own = np.arange(len(native)), self.relevant
            yield Passed(
                rows=tuple(float(passed.sum(axis=1).mean()) for passed in above),
                own=tuple(float(passed[own].mean()) for passed in above),
            )


@final
@dataclass(frozen=True, slots=True)
class Passed:
    """What is above a threshold: by own queries, by mapped ones, and by those with calibrated scores.

    Attributes
    ----------
    rows : tuple of float
        Stored rows a query.
    own : tuple of float
        The share of queries whose own row is.
    """

    rows: tuple[float, ...]
    own: tuple[float, ...]

    def __str__(self) -> str:
        counts, shares = (
            (f"{count:.1f}" for count in self.rows),
            (f"{100 * share:.0f} %" for share in self.own),
        )
        return " | ".join((*counts, *shares))


def figures(name: str, passed: Passed) -> Iterator[Figure]:
    """Yield what is claimed of calibrated scores: about as many rows pass as natively."""
    native, _, calibrated = passed.rows
    claim = f"calibrated scores, rows above a threshold / as many natively: {name}, {native:.0f} rows a query"
    yield Figure(claim, calibrated / native, _MOST)
    yield Figure(claim, calibrated / native, 1 / _MOST, "at least")


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.thresholds", description=__doc__)
    add_folders(parser, "embeddings")
    folder = embeddings(parser.parse_args(arguments).embeddings)
    if folder is None:
        return 0
    relevant = np.load(folder / "relevant.npy")
    spaces = {name: Space.load(folder, name) for name in ENCODERS}
    directions = [
        Direction(spaces[name], spaces[other], f"{name} → {other}", relevant)
        for name, other in (ENCODERS, ENCODERS[::-1])
    ]
    found: list[Figure] = []
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        print(HUBS)
        for direction in directions:
            for line in direction.hubs():
                print(line, flush=True)
        print("", PASSED, sep="\n")
        for direction in directions:
            for passed in direction.passed():
                print(f"| {direction.name} | {passed} |", flush=True)
                found += figures(direction.name, passed)
    print("", *found, sep="\n")
    return 0 if all(figure.met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
