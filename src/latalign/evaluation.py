"""How good a map is on pairs that it has not seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from latalign._linalg import EPS
from latalign._validation import Array, Rows, as_generator, finite_pairs, require_whole
from latalign.anchors import random_anchors
from latalign.evidence import plain
from latalign.maps import Map
from latalign.metrics import mean_cosine_score
from latalign.metrics.csls import Search, search
from latalign.metrics.neighbors import skewness

_BLOCK_ROWS = 4096  # that are compared at a time
_NEIGHBORS = 10  # of a row, where it is told how crowded it is around it and how often it is found


@final
@dataclass(frozen=True, slots=True)
class Retrieval:
    """How often a row finds its own row among all target rows, by cosine. Higher is better.

    Attributes
    ----------
    recall_at_1, recall_at_10 : float
        The share of queries whose own row is the nearest, or among the ten nearest. With ten rows or
        fewer the latter is 1 for any map.
    mrr : float
        The mean of one over the rank of the own row. Of equally near rows the own comes last.
    csls_recall_at_1, csls_recall_at_10 : float
        The same shares by CSLS, which makes a row that is near to many queries harder to find
        (`latalign.metrics.csls_ranks`, with ten neighbors).
    hubness : float
        How unevenly the rows are found: the skewness of how often each is among the ten nearest of a query
        (`latalign.metrics.hubness`). Near 0 if all are found about equally often; lower is better.
    """

    recall_at_1: float
    recall_at_10: float
    mrr: float
    csls_recall_at_1: float
    csls_recall_at_10: float
    hubness: float

    @staticmethod
    def of(found: Search) -> Retrieval:
        """Return the figures of a search."""
        return Retrieval(
            recall_at_1=float((found.ranks <= 1).mean()),
            recall_at_10=float((found.ranks <= 10).mean()),
            mrr=float((1 / found.ranks).mean()),
            csls_recall_at_1=float((found.csls_ranks <= 1).mean()),
            csls_recall_at_10=float((found.csls_ranks <= 10).mean()),
            hubness=skewness(found.occurrence),
        )

    def figures(self) -> dict[str, float]:
        """Return the figures under the names that reports use."""
        return {
            "recall@1": self.recall_at_1,
            "recall@10": self.recall_at_10,
            "mrr": self.mrr,
            "csls_recall@1": self.csls_recall_at_1,
            "csls_recall@10": self.csls_recall_at_10,
            "hubness": self.hubness,
        }


@final
@dataclass(frozen=True, slots=True)
class Scores:
    """How near rows come to the target rows that they correspond to.

    Attributes
    ----------
    mse : float
        The mean squared error per value; lower is better.
    r2 : float
        The share of the target's variance that is explained: 1 is all of it, 0 no better than the mean
        target row for every row, below 0 worse. NaN where the target rows are all the same.
    cosine : float
        The mean cosine between rows that correspond, from −1 to 1; higher is better.
    retrieval : Retrieval
    """

    mse: float
    r2: float
    cosine: float
    retrieval: Retrieval

    def figures(self) -> dict[str, float]:
        """Return all figures under the names that reports use."""
        return {"mse": self.mse, "r2": self.r2, "cosine": self.cosine, **self.retrieval.figures()}


@final
@dataclass(frozen=True, slots=True)
class Evaluation:
    """How good a map is on pairs.

    Attributes
    ----------
    rows : int
        The pairs: all are in `mse`, `r2` and `cosine`.
    queries : int
        The rows, drawn at random, that looked for their own row.
    mapped : Scores
        Of the rows that the map returns.
    no_map : Scores or None
        Of the source rows as they are; None where the spaces differ in dimension.
    native : Retrieval
        Of the target rows themselves, the ceiling: below 1 where rows occur more than once.
    searched : int or None
        The target rows, drawn at random, that were searched, where those were not all (`evaluate_files`).
    """

    rows: int
    queries: int
    mapped: Scores
    no_map: Scores | None
    native: Retrieval
    searched: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; NaN becomes null."""
        return plain(
            {
                "rows": self.rows,
                "queries": self.queries,
                "searched": self.rows if self.searched is None else self.searched,
                "mapped": self.mapped.figures(),
                "no_map": None if self.no_map is None else self.no_map.figures(),
                "native": self.native.figures(),
            }
        )


@final
class Agreement:
    """Sums that say how near rows come to the target rows that they correspond to."""

    def __init__(self) -> None:
        self.count, self._error, self._cosine = 0, 0.0, 0.0
        self._spread: Array = np.zeros(1)
        self._mean: Array | None = None

    @staticmethod
    def of(rows: Rows, target: Rows) -> Agreement:
        """Return what is known of all rows at once."""
        found = Agreement()
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            found.add(rows[part], target[part])
        return found

    def add(self, rows: Rows, target: Rows) -> None:
        """Add a block; the spread of the target is merged by Chan, Golub and LeVeque's update."""
        exact = target.astype(np.float64)
        away = rows - exact
        self._error += float(np.einsum("ij,ij->", away, away))
        self._cosine += mean_cosine_score(rows, target) * len(rows)
        mean = exact.mean(axis=0)
        exact -= mean
        before = mean if self._mean is None else self._mean
        share = len(rows) / (self.count + len(rows))
        self._spread = self._spread + np.einsum("ij,ij->j", exact, exact)
        self._spread += self.count * share * (mean - before) ** 2
        self._mean = before + share * (mean - before)
        self.count += len(rows)

    def scores(self, retrieval: Retrieval) -> Scores:
        """Return the figures of all rows, beside what retrieval found among some."""
        mean = np.zeros(1) if self._mean is None else self._mean
        # What is left of a column whose values are all the same is the rounding of its mean.
        varies = self._spread > self.count * (32 * EPS * mean) ** 2
        spread = float(self._spread[varies].sum())
        return Scores(
            mse=self._error / (self.count * len(mean)),
            r2=1 - self._error / spread if spread > 0 else float("nan"),
            cosine=self._cosine / self.count,
            retrieval=retrieval,
        )


def evaluate(
    map_: Map, X: ArrayLike, Y: ArrayLike, *, max_queries: int = 2000, random_state: int = 0
) -> Evaluation:
    """Measure a map on pairs, best those that it was not fitted on, next to no map at all.

    Parameters
    ----------
    map_ : Map
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        Row i of both is the same thing.
    max_queries : int
        Of more rows so many, drawn at random, look for their own row among all of them.
    random_state : int
        Draws the queries.

    Returns
    -------
    Evaluation

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If shapes do not fit each other or the map, there are fewer than two pairs, all rows of a side are
        the same, or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 8))
    >>> Y = X @ np.linalg.qr(rng.normal(size=(8, 8)))[0] + 0.1 * rng.normal(size=(200, 8))
    >>> found = latalign.evaluate(latalign.fit(X[:100], Y[:100]), X[100:], Y[100:])
    >>> found.mapped.r2 > 0.98, found.mapped.retrieval.recall_at_1, found.no_map.retrieval.recall_at_1 < 0.1
    (True, 1.0, True)
    """
    require_whole("evaluate", max_queries=max_queries)
    if max_queries < 1:
        raise ValueError(f"evaluate needs at least one query; got max_queries={max_queries}")
    pairs = finite_pairs(X, Y, "evaluate")
    mapped = map_(pairs.source)
    require_width(mapped, pairs.target)
    count = len(pairs)
    for side, rows in (("source X", pairs.source), ("target Y", pairs.target)):
        if (rows[1] == rows[0]).all() and (rows == rows[0]).all():
            raise ValueError(f"evaluate needs rows that differ; all {count} rows of the {side} are the same")
    rng = as_generator(random_state, "evaluate")
    queries = random_anchors(count, min(max_queries, count), random_state=rng)
    # `ranks` wants the rows of the queries first.
    rest = np.ones(count, dtype=bool)
    rest[queries] = False
    index = pairs.target if len(queries) == count else pairs.target[np.r_[queries, np.flatnonzero(rest)]]

    def retrieval(rows: Rows) -> Retrieval:
        return Retrieval.of(search(rows[queries], index, _NEIGHBORS))

    def scores(rows: Rows) -> Scores:
        return Agreement.of(rows, pairs.target).scores(retrieval(rows))

    return Evaluation(
        rows=count,
        queries=len(queries),
        mapped=scores(mapped),
        no_map=scores(pairs.source) if pairs.source.shape[1] == pairs.target.shape[1] else None,
        native=retrieval(pairs.target),
    )


def require_width(mapped: Rows, target: Rows) -> None:
    """Raise a ValueError where a map returns rows of another width than those it is measured on."""
    if mapped.shape[1] != target.shape[1]:
        raise ValueError(
            f"evaluate needs target rows as wide as the map returns; it returns {mapped.shape[1]} "
            f"dimensions, Y has {target.shape[1]}"
        )
