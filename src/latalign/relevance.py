"""A model change as test data: the arrays that belong together, what a query should find, what may be fitted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, final

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


def other_queries(case: Case, queries: ArrayLike) -> Rows:
    """Return queries of the new model that are none of the test queries."""
    rows = as_rows(queries, "verdict: the unpaired queries", dim=case.new_queries.shape[1])
    require_finite(rows, "verdict: the unpaired queries")
    left = rows[~among(rows, case.new_queries)]
    if not len(left):
        raise ValueError(
            f"verdict needs unpaired queries that are no test queries; all {len(rows)} are. Give others, or none."
        )
    return left


def truth_of(case: Case, relevant: Any, index_ids: ArrayLike | None = None) -> Truth:
    """Return the relevant rows, checked; the nearest rows of the new index where none are given."""
    count = len(case.old_index)
    if relevant is None:
        if index_ids is not None:
            raise ValueError(
                "verdict needs relevant ids to go with index_ids: give the ids that each query should find"
            )
        if case.new_index is None:
            raise ValueError(
                "verdict needs to know what a query should find: give relevant rows, or the new index, whose "
                "nearest rows are the truth then"
            )
        return Truth(nearest(case.new_queries, Index(case.new_index), min(NEIGHBORS, count)), ordered=True)
    given = _as_rows(relevant)
    if given.ndim != 2 or len(given) != len(case.new_queries):
        raise ValueError(
            f"verdict needs one relevant row, or a row of them, for each of {len(case.new_queries)} queries; "
            f"got shape {given.shape}"
        )
    rows = _numbers(given) if index_ids is None else _looked_up(given, index_ids, count)
    outside = np.flatnonzero(((rows < -1) | (rows >= count)).any(axis=1))
    if len(outside):
        query = int(outside[0])
        where = f", from 0 to {count - 1}" if index_ids is None else " (index_ids)"
        raise ValueError(
            f"verdict needs relevant rows that are in the index{where}; {len(outside)} queries "
            f"name others (the first is query {query}: {given[query].tolist()})"
        )
    rows = _once(rows)
    empty = np.flatnonzero((rows < 0).all(axis=1))
    if len(empty):
        raise ValueError(
            f"verdict needs a relevant row for every query; {len(empty)} queries have none (the first is query "
            f"{int(empty[0])}). Leave them out of both query files."
        )
    return Truth(rows, ordered=False)


def _as_rows(relevant: Any) -> NDArray[Any]:
    """Return what each query should find as a row, filled up with None where the queries have lists of any length."""
    try:
        rows = np.asarray(relevant)
    except ValueError:  # lists of unequal length
        rows = np.empty(len(relevant), object)
        rows[:] = [*relevant]
    if rows.ndim == 1 and rows.dtype == object and any(isinstance(one, _LISTS) for one in rows):
        lists = [[*one] if isinstance(one, _LISTS) else [one] for one in rows]
        width = max(max(map(len, lists)), 1)
        rows = np.empty((len(lists), width), object)
        for row, values in zip(rows, lists, strict=True):
            row[: len(values)] = values
    if rows.ndim == 2 and not rows.size:
        rows = np.full((len(rows), 1), None)
    return rows[:, None] if rows.ndim == 1 else rows


_LISTS = (list, tuple, np.ndarray)


def _numbers(given: NDArray[Any]) -> NDArray[np.int64]:
    """Return numbers of rows; −1 where there is none."""
    if given.dtype == object:
        filled = [-1 if _missing(one) else one for one in given.ravel().tolist()]
        given = np.asarray(filled).reshape(given.shape)
    if given.dtype.kind not in "iu":
        raise TypeError(
            f"verdict needs relevant rows as whole numbers; got {given.dtype}. Ids go with those of the index: "
            "index_ids (--index-ids)"
        )
    return given.astype(np.int64)


def _looked_up(given: NDArray[Any], index_ids: ArrayLike, count: int) -> NDArray[np.int64]:
    """Return the numbers of the rows that have those ids; −1 where there is none, −2 for an id that no row has."""
    ids = np.asarray(index_ids)
    if ids.shape != (count,):
        raise ValueError(f"verdict needs an id for each of {count} rows of the index; got shape {ids.shape}")
    place = {one: number for number, one in enumerate(ids.tolist())}
    if len(place) < count or None in place:
        twice = next(one for number, one in enumerate(ids.tolist()) if one is None or place[one] != number)
        raise ValueError(
            f"verdict needs ids of the index that differ and are all there; {twice!r} is there twice or is none"
        )
    texts = {isinstance(one, str) for one in place}
    others = {isinstance(one, str) for one in given.ravel().tolist() if not _missing(one)}
    if others - texts:
        kinds = ["texts" if kind == {True} else "numbers" for kind in (others, texts)]
        raise TypeError(
            f"verdict needs relevant ids and ids of the index of one kind; got {kinds[0]} and {kinds[1]}"
        )
    none = {-1} - place.keys()
    return np.array(
        [
            [-1 if _missing(one) or one in none else place.get(one, -2) for one in row]
            for row in given.tolist()
        ],
        np.int64,
    ).reshape(given.shape)


def _missing(value: object) -> bool:
    return value is None or value != value


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
