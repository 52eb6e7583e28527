"""How good a map is on pairs that it has not seen, and how alike two spaces are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Pairs, Rows, as_generator
from latalign.anchors import random_anchors
from latalign.evidence import Candidate, plain
from latalign.maps import AffineMap, Map
from latalign.metrics import (
    linear_cka_score,
    mean_cosine_score,
    mean_squared_error,
    mutual_knn_score,
    procrustes_distance,
    r2_score,
    ranks,
)
from latalign.moments import Moments
from latalign.select import Folds, baseline_error, cross_validate


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
    """

    recall_at_1: float
    recall_at_10: float
    mrr: float

    def figures(self) -> dict[str, float]:
        """Return the figures under the names that reports use."""
        return {"recall@1": self.recall_at_1, "recall@10": self.recall_at_10, "mrr": self.mrr}


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
@dataclass(frozen=True, slots=True)
class MethodScore:
    """The cross-validated R² of one method.

    Attributes
    ----------
    method : str
    r2 : float
        One minus the error over the error of the mean target row; higher is better.
    standard_error : float
        From the spread over the folds.
    alpha : float or None
    target_rank : int or None
        The penalty and the rank that did best, where the method has them.
    """

    method: str
    r2: float
    standard_error: float
    alpha: float | None = None
    target_rank: int | None = None


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike two spaces are, by what their paired rows say.

    Attributes
    ----------
    rows, dim_source, dim_target : int
    linear_cka : float
        Linear centred kernel alignment, from 0 to 1 (the same up to rotation and scale). It is biased
        upward where rows are few for the dimensions.
    procrustes_distance : float
        In radians, from 0 (the same up to rotation, scale and shift) to π/2.
    mutual_knn : float
        The mean share of a row's `k` nearest neighbours that both spaces agree on; about k / rows for
        spaces that have nothing in common. NaN where there are no more than `k` rows.
    k : int
    knn_rows : int
        The rows, drawn at random, among which neighbours were looked for.
    methods : tuple of MethodScore
        Every method, best first.
    """

    rows: int
    dim_source: int
    dim_target: int
    linear_cka: float
    procrustes_distance: float
    mutual_knn: float
    k: int
    knn_rows: int
    methods: tuple[MethodScore, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; NaN becomes null."""
        return plain(asdict(self))


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
        If shapes do not fit each other or the map, there are fewer than two pairs, or values are not
        finite.

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
    if max_queries < 1:
        raise ValueError(f"evaluate needs at least one query; got max_queries={max_queries}")
    pairs = _checked_pairs(X, Y, "evaluate")
    mapped = map_(pairs.source)
    require_width(mapped, pairs.target)
    count = len(pairs)
    rng = as_generator(random_state, "evaluate")
    queries = random_anchors(count, min(max_queries, count), random_state=rng)
    # `ranks` wants the rows of the queries first.
    rest = np.ones(count, dtype=bool)
    rest[queries] = False
    index = pairs.target if len(queries) == count else pairs.target[np.r_[queries, np.flatnonzero(rest)]]

    def retrieval(rows: Rows) -> Retrieval:
        found = ranks(rows[queries], index)
        return Retrieval(float((found <= 1).mean()), float((found <= 10).mean()), float((1 / found).mean()))

    def scores(rows: Rows) -> Scores:
        moments = Moments.of(rows, pairs.target, grams="source")
        as_is = AffineMap.of(np.eye(moments.dim_target))
        return Scores(
            mean_squared_error(as_is, moments),
            r2_score(as_is, moments),
            mean_cosine_score(rows, pairs.target),
            retrieval(rows),
        )

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


def compare(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    k: int = 10,
    n_folds: int = 5,
    max_rows: int = 5000,
    random_state: int = 0,
) -> Comparison:
    """Tell how alike two spaces are, and how well each method maps the one to the other.

    One pass over the rows sums the moments of the folds; all but the neighbours is algebra on those.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        Row i of both is the same thing.
    k : int
        The neighbours of a row that are compared.
    n_folds : int
        Folds of the cross-validation.
    max_rows : int
        Of more rows so many, drawn at random, are searched for neighbours.
    random_state : int
        Draws the folds and those rows.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If shapes do not fit, there are fewer than two pairs, a side is constant, or values are not finite.

    References
    ----------
    The measures: `latalign.metrics`.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> found = latalign.compare(X, 2 * X @ np.linalg.qr(rng.normal(size=(4, 4)))[0] + 1)
    >>> round(found.linear_cka, 6), round(found.procrustes_distance, 4), found.methods[-1].method
    (1.0, 0.0, 'orthogonal')
    """
    check_compare(k, max_rows)
    pairs = _checked_pairs(X, Y, "compare")
    rng = as_generator(random_state, "compare")
    folds = Folds.of(pairs, n_folds, rng, grams="both").moments
    some = pairs.take(random_anchors(len(pairs), min(max_rows, len(pairs)), random_state=rng))
    return comparison(folds, some.source, some.target, k)


def check_compare(k: int, max_rows: int) -> None:
    """Raise a ValueError where there is nothing to compare by such numbers."""
    if k < 1 or max_rows < 2:
        raise ValueError(f"compare needs k ≥ 1 and max_rows ≥ 2; got k={k}, max_rows={max_rows}")


def comparison(folds: Sequence[Moments], source: Rows, target: Rows, k: int) -> Comparison:
    """Return what fold moments and some rows that correspond say of two spaces.

    Parameters
    ----------
    folds : sequence of Moments
        With both Gram matrices.
    source, target : arrays of shape (n, dim)
        The rows among which neighbors are looked for.
    k : int
    """
    total = sum(folds[1:], folds[0])
    for side, moments in (("source X", total), ("target Y", total.swapped())):
        if not moments.source_varies.any():
            raise ValueError(
                f"compare needs rows that differ; all {total.count} rows of the {side} are the same, to rounding"
            )
    baseline = baseline_error(folds)
    return Comparison(
        rows=total.count,
        dim_source=total.dim_source,
        dim_target=total.dim_target,
        linear_cka=linear_cka_score(total),
        procrustes_distance=procrustes_distance(total),
        mutual_knn=mutual_knn_score(source, target, k) if k < len(source) else float("nan"),
        k=k,
        knn_rows=len(source),
        methods=tuple(_method_score(found, baseline) for found in cross_validate(folds)),
    )


def _checked_pairs(X: ArrayLike, Y: ArrayLike, caller: str) -> Pairs:
    pairs = Pairs.of(X, Y, caller=caller)
    if len(pairs) < 2:
        raise ValueError(f"{caller} needs at least 2 pairs of rows; got {len(pairs)}")
    pairs.require_finite()
    return pairs


def _method_score(found: Candidate, baseline: float) -> MethodScore:
    return MethodScore(
        method=found.method,
        r2=1 - found.error / baseline,
        standard_error=found.standard_error / baseline,
        alpha=found.alpha,
        target_rank=found.target_rank,
    )
