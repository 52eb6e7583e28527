"""A model change as test data: the arrays that belong together, what a query should find, what may be fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._validation import Pairs, Rows, as_rows, require_finite
from latalign.searching import Index, Ranks, among, nearest

NEIGHBORS = 10  # of a query in the new index, which are the truth where no relevant rows are given


@final
@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Which rows of the index a query should find, (q, r); −1 for none.

    `ordered`: the columns are the first, the second, … nearest, and of the k nearest only the first k
    columns are asked for.
    """

    rows: NDArray[np.int64]
    ordered: bool

    def found(self, ranks: Ranks) -> dict[str, NDArray[np.float64]]:
        """Return every query's own figures."""
        there = self.rows >= 0
        first = ranks[:, 0] if self.ordered else np.where(there, ranks, np.iinfo(np.int64).max).min(axis=1)
        return {"recall@1": self._recall(ranks, 1), "recall@10": self._recall(ranks, 10), "mrr": 1 / first}

    def _recall(self, ranks: Ranks, k: int) -> NDArray[np.float64]:
        ranks = ranks[:, :k] if self.ordered else ranks
        there = ranks > 0
        return (there & (ranks <= k)).sum(axis=1) / np.minimum(there.sum(axis=1), k)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """The checked arrays."""

    anchors: Pairs  # from the new space to the old one
    old_queries: Rows
    new_queries: Rows
    old_index: Rows
    new_index: Rows | None


def without_tested(case: Case, truth: Truth) -> Pairs:
    """Return the anchors that are neither a test query nor a relevant row."""
    rows = np.unique(truth.rows[truth.rows >= 0])
    tested = among(case.anchors.target, np.vstack([case.old_queries, case.old_index[rows]]))
    tested |= among(case.anchors.source, case.new_queries)
    if case.new_index is not None:
        tested |= among(case.anchors.source, case.new_index[rows])
    left = case.anchors.take(np.flatnonzero(~tested))
    if len(left) < NEIGHBORS:
        raise ValueError(
            f"verdict needs at least {NEIGHBORS} anchors that are neither a test query nor a relevant row; "
            f"of {len(case.anchors)} anchors {len(left)} are left. Embed others by both models."
        )
    return left


def truth_of(case: Case, relevant: ArrayLike | None) -> Truth:
    """Return the relevant rows, checked; the nearest rows of the new index where none are given."""
    count = len(case.old_index)
    if relevant is None:
        if case.new_index is None:
            raise ValueError(
                "verdict needs to know what a query should find: give relevant rows, or the new index, whose "
                "nearest rows are the truth then"
            )
        return Truth(nearest(case.new_queries, Index(case.new_index), min(NEIGHBORS, count)), ordered=True)
    rows = np.asarray(relevant)
    if rows.dtype.kind not in "iu":
        raise TypeError(f"verdict needs relevant rows as whole numbers; got {rows.dtype}")
    rows = rows[:, None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or len(rows) != len(case.new_queries) or not rows.shape[1]:
        raise ValueError(
            f"verdict needs one relevant row, or a row of them, for each of {len(case.new_queries)} queries; "
            f"got shape {np.asarray(relevant).shape}"
        )
    outside = np.flatnonzero(((rows < -1) | (rows >= count)).any(axis=1))
    if len(outside):
        query = int(outside[0])
        raise ValueError(
            f"verdict needs relevant rows that are in the index, from 0 to {count - 1}; {len(outside)} queries "
            f"name others (the first is query {query}: {rows[query].tolist()})"
        )
    rows = _once(rows.astype(np.int64))
    empty = np.flatnonzero((rows < 0).all(axis=1))
    if len(empty):
        raise ValueError(
            f"verdict needs a relevant row for every query; {len(empty)} queries have none (the first is query "
            f"{int(empty[0])}). Leave them out of both query files."
        )
    return Truth(rows, ordered=False)


def _once(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return relevant rows of which none is named twice for a query."""
    rows = -np.sort(-rows, axis=1)
    again = np.zeros(rows.shape, bool)
    again[:, 1:] = rows[:, 1:] == rows[:, :-1]
    return np.where(again, -1, rows)


def checked(
    old_anchors: ArrayLike,
    new_anchors: ArrayLike,
    old_index: ArrayLike,
    old_queries: ArrayLike,
    new_queries: ArrayLike,
    new_index: ArrayLike | None,
) -> Case:
    """Return the arrays as rows, checked by themselves and against each other."""
    given = {
        "old anchors": old_anchors,
        "new anchors": new_anchors,
        "old index": old_index,
        "old queries": old_queries,
        "new queries": new_queries,
    }
    if new_index is not None:
        given["new index"] = new_index
    rows = {name: as_rows(values, f"verdict: the {name}") for name, values in given.items()}
    for name, values in rows.items():
        require_finite(values, f"verdict: the {name}")
    _same(rows, ["old anchors", "new anchors"], axis=0)
    _same(rows, ["old queries", "new queries"], axis=0)
    _same(rows, ["old anchors", "old index", "old queries"], axis=1)
    _same(rows, ["new anchors", "new queries"] + ["new index"] * (new_index is not None), axis=1)
    if new_index is not None:
        _same(rows, ["old index", "new index"], axis=0)
    if len(rows["new queries"]) < 2:
        raise ValueError("verdict needs at least two queries to know how far to trust a mean; got one")
    return Case(
        anchors=Pairs.of(rows["new anchors"], rows["old anchors"], caller="verdict"),
        old_queries=rows["old queries"],
        new_queries=rows["new queries"],
        old_index=rows["old index"],
        new_index=rows.get("new index"),
    )


def _same(rows: Mapping[str, Rows], names: Sequence[str], axis: Literal[0, 1]) -> None:
    """Raise a ValueError where arrays that belong together differ in rows (0) or dimensions (1)."""
    sizes = [rows[name].shape[axis] for name in names]
    if len(set(sizes)) > 1:
        what = ("rows", "dimensions")[axis]
        found = ", ".join(f"the {name} {size}" for name, size in zip(names, sizes, strict=True))
        remedy = (
            "Row i of them must be the same thing." if axis == 0 else "They must come from the same model."
        )
        raise ValueError(f"verdict needs {' and '.join(names)} of as many {what}; got {found}. {remedy}")
