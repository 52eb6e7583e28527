"""The embedding model changed: keep the old one, bridge to it, map what is stored, or embed it anew."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, norm

from latalign._validation import Pairs, Rows, as_generator
from latalign.evidence import IllConditionedWarning, plain
from latalign.fitting import fit
from latalign.maps import AffineMap
from latalign.relevance import Case, Truth, checked, truth_of, without_tested
from latalign.searching import Index, relevant_ranks

OptionName = Literal["keep", "bridge", "documents", "re-embed"]
"""From the one that costs least to the one that costs most."""

_CONFIDENCE = 0.95
_SCORING = "recall@1"


@final
@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over the queries with its bootstrap interval.

    Attributes
    ----------
    value, low, high : float
        The interval covers 95 %: percentiles of means over queries drawn with replacement.
    """

    value: float
    low: float
    high: float


@final
@dataclass(frozen=True, slots=True)
class Option:
    """One thing that can be done, and how well the test queries find what they should.

    Attributes
    ----------
    name : {"keep", "bridge", "documents", "re-embed"}
        Old queries in the old index; new queries mapped into the untouched old index; new queries in
        the old index mapped to the new space; new queries in the new index.
    method : str or None
        The method of its map, chosen by retrieval among held-out anchors.
    recall_at_1, recall_at_10, mrr : float
        The share of the relevant rows among the nearest and the ten nearest of a query, and the mean of
        one over the rank of the first of them. From 0 to 1, higher is better.
    gain : Interval or None
        The recall@10 less that of keeping the old model, query by query; None of "keep" itself.
    queries_needed : int or None
        About how many queries would tell that gain from none, where the interval contains zero.
    """

    name: OptionName
    method: str | None
    recall_at_1: float
    recall_at_10: float
    mrr: float
    gain: Interval | None = None
    queries_needed: int | None = None

    @property
    def beats_keeping(self) -> bool:
        """Whether the whole interval of the gain lies above zero."""
        return self.gain is not None and self.gain.low > 0


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and the figures that say so.

    Attributes
    ----------
    choice : {"keep", "bridge", "documents", "re-embed"}
        The cheapest option that no dearer one beats: starting from keeping the old model, an option is
        taken where the whole interval of its recall@10 less that of the one before lies above zero.
    options : tuple of Option
        In the order of their cost. "re-embed" is there only if a new index was given.
    queries, index_rows : int
    anchors : int
        Those that the maps are fitted on.
    anchors_left_out : int
        Those that are a test query or a relevant row themselves: on what a map was fitted to, it does
        better than it will.
    truth : {"relevant rows", "neighbors in the new index"}
    """

    choice: OptionName
    options: tuple[Option, ...]
    queries: int
    index_rows: int
    anchors: int
    anchors_left_out: int
    truth: Literal["relevant rows", "neighbors in the new index"]

    @property
    def a_map_beats_keeping(self) -> bool:
        """Whether either map is better than the old model, beyond chance."""
        return any(one.beats_keeping for one in self.options if one.name in ("bridge", "documents"))

    def option(self, name: OptionName) -> Option:
        """Return the option of that name.

        Raises
        ------
        KeyError
            If it was not measured: "re-embed" without a new index.
        """
        for one in self.options:
            if one.name == name:
                return one
        raise KeyError(f"{name!r} was not measured: it needs a new index")

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; NaN becomes null."""
        return plain({**asdict(self), "a_map_beats_keeping": self.a_map_beats_keeping})


def verdict(
    old_anchors: ArrayLike,
    new_anchors: ArrayLike,
    old_index: ArrayLike,
    old_queries: ArrayLike,
    new_queries: ArrayLike,
    relevant: ArrayLike | None = None,
    *,
    new_index: ArrayLike | None = None,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> Verdict:
    """Tell whether a map saves an index of vectors whose embedding model changed.

    Four things can be done: keep embedding queries by the old model; embed them by the new one and map
    them into the stored index (a bridge); map the stored index to the new space; embed every document
    anew. Each is measured by what the test queries find, by exact search and cosine. The methods of the
    two maps are chosen by retrieval among held-out anchors; the test queries choose nothing.

    Parameters
    ----------
    old_anchors : array-like of shape (a, dim_old)
    new_anchors : array-like of shape (a, dim_new)
        Row i of both is the same thing, embedded by either model. Anchors that are a test query or a
        relevant row as well (the same values, in float32) are left out of the fit.
    old_index : array-like of shape (n, dim_old)
        The stored vectors. It may be mapped from a file: it is read block by block.
    old_queries : array-like of shape (q, dim_old)
    new_queries : array-like of shape (q, dim_new)
        Row i of both is the same query.
    relevant : int array-like of shape (q,) or (q, r), optional
        The row (from 0) of the index that each query should find, or several of them; −1 fills up rows
        that have fewer. Unless given, the ten nearest rows of the new index are the truth.
    new_index : array-like of shape (n, dim_new), optional
        The documents embedded anew, row by row as in the old index: what embedding everything anew would
        give. A part of the index is enough, if `old_index` is the same part.
    n_resamples : int
        Of the bootstrap over queries, at least 100.
    random_state : int, Generator or None
        Draws the folds of the anchors and the resamples.

    Returns
    -------
    Verdict

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers, or `relevant` no whole numbers.
    ValueError
        If shapes do not fit, values are not finite, a relevant row is not in the index, a query has no
        relevant row, neither `relevant` nor `new_index` is given, there are fewer than two queries, or too
        few anchors are left to fit and to choose by.

    Notes
    -----
    A zero vector has a cosine of 0 with any other: such a query finds nothing, such a document is not
    found. Of equally similar rows the relevant one comes last.

    References
    ----------
    B. Efron, R. J. Tibshirani, An Introduction to the Bootstrap, 1993 (chapter 13: percentile intervals).

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> truth, turn = rng.normal(size=(1300, 16)), np.linalg.qr(rng.normal(size=(16, 16)))[0]
    >>> old = truth + 0.5 * rng.normal(size=truth.shape)  # the old model is noisy
    >>> new = truth @ turn  # the new one is not
    >>> asked = truth[1000:] + 0.3 * rng.normal(size=(300, 16))
    >>> found = latalign.verdict(
    ...     old[:500], new[:500], old[500:], asked + 0.5 * rng.normal(size=asked.shape), asked @ turn,
    ...     relevant=np.arange(500, 800),
    ... )
    >>> found.choice, found.option("bridge").beats_keeping
    ('bridge', True)
    """
    if n_resamples < 100:
        raise ValueError(f"verdict needs n_resamples of at least 100; got {n_resamples}")
    rng = as_generator(random_state, "verdict")
    case = checked(old_anchors, new_anchors, old_index, old_queries, new_queries, new_index)
    truth = truth_of(case, relevant)
    anchors = without_tested(case, truth)
    found, methods = _measured(case, anchors, truth, rng)
    return Verdict(
        choice=_choice(found, n_resamples, rng),
        options=tuple(_option(name, found, methods.get(name), n_resamples, rng) for name in found),
        queries=len(case.new_queries),
        index_rows=len(case.old_index),
        anchors=len(anchors),
        anchors_left_out=len(case.anchors) - len(anchors),
        truth="neighbors in the new index" if truth.ordered else "relevant rows",
    )


def _measured(
    case: Case, anchors: Pairs, truth: Truth, rng: np.random.Generator
) -> tuple[dict[OptionName, dict[str, NDArray[np.float64]]], dict[OptionName, str]]:
    """Return every query's figures by option, and the methods of the two maps."""
    bridge = _map(anchors.source, anchors.target, rng)
    onward = _map(anchors.target, anchors.source, rng)
    searches: dict[OptionName, tuple[Rows, Index]] = {
        "keep": (case.old_queries, Index(case.old_index)),
        "bridge": (bridge(case.new_queries), Index(case.old_index)),
        "documents": (case.new_queries, Index(case.old_index, onward)),
    }
    if case.new_index is not None:
        searches["re-embed"] = (case.new_queries, Index(case.new_index))
    found: dict[OptionName, dict[str, NDArray[np.float64]]] = {
        name: truth.found(relevant_ranks(queries, index, truth.rows))
        for name, (queries, index) in searches.items()
    }
    return found, {"bridge": bridge.method, "documents": onward.method}


def _map(source: Rows, target: Rows, rng: np.random.Generator) -> AffineMap:
    with warnings.catch_warnings():
        # What a map does to directions that the anchors do not show was judged on held-out anchors.
        warnings.simplefilter("ignore", IllConditionedWarning)
        return fit(source, target, scoring=_SCORING, random_state=rng)


def _choice(
    found: Mapping[OptionName, Mapping[str, NDArray[np.float64]]], n_resamples: int, rng: np.random.Generator
) -> OptionName:
    """Return the cheapest option that no dearer one beats."""
    chosen: OptionName = "keep"
    for name, figures in found.items():
        if _mean(figures["recall@10"] - found[chosen]["recall@10"], n_resamples, rng).low > 0:
            chosen = name
    return chosen


def _option(
    name: OptionName,
    found: Mapping[OptionName, Mapping[str, NDArray[np.float64]]],
    method: str | None,
    n_resamples: int,
    rng: np.random.Generator,
) -> Option:
    figures = found[name]
    more = figures["recall@10"] - found["keep"]["recall@10"]
    gain = None if name == "keep" else _mean(more, n_resamples, rng)
    return Option(
        name=name,
        method=method,
        recall_at_1=float(figures["recall@1"].mean()),
        recall_at_10=float(figures["recall@10"].mean()),
        mrr=float(figures["mrr"].mean()),
        gain=gain,
        queries_needed=None if gain is None else _needed(more, gain),
    )


def _mean(values: NDArray[np.float64], n_resamples: int, rng: np.random.Generator) -> Interval:
    value = float(values.mean())
    if not np.ptp(values):
        return Interval(value, value, value)
    interval = bootstrap(
        (values,),
        np.mean,
        n_resamples=n_resamples,
        batch=max(1, (1 << 22) // len(values)),
        confidence_level=_CONFIDENCE,
        method="percentile",
        rng=rng,
    ).confidence_interval
    return Interval(value, float(interval.low), float(interval.high))


def _needed(more: NDArray[np.float64], gain: Interval) -> int | None:
    """Return how many queries would bring the interval off zero if the gain is what it seems."""
    if not gain.low <= 0 <= gain.high or gain.value == 0:
        return None
    z = norm.ppf((1 + _CONFIDENCE) / 2)
    return math.ceil(float((z * more.std(ddof=1) / gain.value) ** 2))
