"""The embedding model changed: keep the old one, bridge to it, map what is stored, or embed it anew."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, norm

from latalign._validation import as_generator
from latalign.bridging import BRIDGE, DOCUMENTS, Crossing, Tried, chosen
from latalign.evidence import plain
from latalign.maps import AffineMap
from latalign.relevance import Case, Truth, checked, truth_of, without_tested
from latalign.searching import relevant_ranks

OptionName = Literal["keep", "bridge", "documents", "re-embed"]
"""From the one that costs least to the one that costs most."""
Choice = Literal[OptionName, "cannot tell"]

_MAPS: tuple[OptionName, ...] = ("bridge", "documents")
_CONFIDENCE = 0.95
_POWER = 0.8

Found = Mapping[OptionName, Mapping[str, NDArray[np.float64]]]


@final
@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over the queries with its bootstrap interval.

    Attributes
    ----------
    value, low, high : float
        The interval covers 95 %: percentiles of means over queries drawn with replacement, among them two
        made-up ones, which each side wins outright. So a few queries that all agree do not make an
        interval without width.
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
        The method of its map, chosen by retrieval among held-out anchors; "none" is no map between spaces
        of one width: queries by the new model as they are.
    recall_at_1, recall_at_10, mrr : float
        The share of the relevant rows among the nearest and the ten nearest of a query, and the mean of
        one over the rank of the first of them. From 0 to 1, higher is better.
    gain : Interval or None
        The recall@10 less that of keeping the old model, query by query; None of "keep" itself.
    queries_needed : int or None
        About how many queries would tell that gain from none four times in five, if it is what it seems;
        where the interval contains zero.
    tried : tuple of Tried
        How held-out anchors found themselves by every map, the chosen one first.
    query_map, index_map : AffineMap or None
        That one, fitted on all anchors: what the queries and the stored rows go through before they are
        compared, where they do. A file of one is made by its `save`.
    """

    name: OptionName
    method: str | None
    recall_at_1: float
    recall_at_10: float
    mrr: float
    gain: Interval | None = None
    queries_needed: int | None = None
    tried: tuple[Tried, ...] = ()
    query_map: AffineMap | None = field(default=None, compare=False, repr=False)
    index_map: AffineMap | None = field(default=None, compare=False, repr=False)

    @property
    def beats_keeping(self) -> bool:
        """Whether the whole interval of the gain lies above zero."""
        return self.gain is not None and self.gain.low > 0

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, without the maps."""
        return plain(
            {
                "name": self.name,
                "method": self.method,
                "recall_at_1": self.recall_at_1,
                "recall_at_10": self.recall_at_10,
                "mrr": self.mrr,
                "gain": None if self.gain is None else asdict(self.gain),
                "queries_needed": self.queries_needed,
                "tried": [asdict(one) for one in self.tried],
            }
        )


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and the figures that say so.

    Attributes
    ----------
    choice : {"keep", "bridge", "documents", "re-embed", "cannot tell"}
        The cheapest option that no other beats: one beats another where the whole interval of its
        recall@10 less that of the other lies above zero. "cannot tell" where none beats keeping the old
        model, but there is a map that does not lose to it for certain either.
    options : tuple of Option
        In the order of their cost. "re-embed" is there only if a new index was given.
    queries, index_rows : int
    anchors : int
        Those that the maps are fitted on.
    anchors_left_out : int
        Those that are a test query or a relevant row themselves: on what a map was fitted to, it does
        better than it will.
    truth : {"relevant rows", "neighbors in the new index"}
        By the latter "re-embed" is right by definition, but for equal rows, and cannot be chosen.
    """

    choice: Choice
    options: tuple[Option, ...]
    queries: int
    index_rows: int
    anchors: int
    anchors_left_out: int
    truth: Literal["relevant rows", "neighbors in the new index"]

    @property
    def a_map_beats_keeping(self) -> bool:
        """Whether either map is better than the old model, beyond chance."""
        return any(one.beats_keeping for one in self.options if one.name in _MAPS)

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
        """Return the record as plain JSON values, without the maps."""
        return {
            "choice": self.choice,
            "a_map_beats_keeping": self.a_map_beats_keeping,
            "options": [one.to_json() for one in self.options],
            "queries": self.queries,
            "index_rows": self.index_rows,
            "anchors": self.anchors,
            "anchors_left_out": self.anchors_left_out,
            "truth": self.truth,
        }


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
    anew. Each is measured by what the test queries find, by exact search and cosine.

    The two maps are chosen by held-out anchors alone: each looks for itself among all anchors and up to
    20,000 rows of the index, by every row of `latalign.METHODS`, as it is and less the mean of the anchors.
    The test queries choose nothing.

    Parameters
    ----------
    old_anchors : array-like of shape (a, dim_old)
    new_anchors : array-like of shape (a, dim_new)
        Row i of both is the same thing, embedded by either model. Anchors that are a test query or a
        relevant row as well (the same values, but for a factor) are left out of the fit.
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
    A. Agresti, Y. Min, Simple improved confidence intervals for comparing matched proportions, Statistics in
    Medicine 24 (2005) 729-740 (the made-up queries).

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
    maps: dict[OptionName, tuple[Crossing, tuple[Tried, ...]]] = {
        "bridge": chosen(BRIDGE, anchors, case.old_index, rng),
        "documents": chosen(DOCUMENTS, anchors, case.old_index, rng),
    }
    found = _measured(case, truth, {name: crossing for name, (crossing, _) in maps.items()})
    resampling = _Resampling(n_resamples, int(rng.integers(2**32)))
    candidates = dict(found)
    if truth.ordered:
        del candidates["re-embed"]  # right by definition
    return Verdict(
        choice=_choice(candidates, resampling),
        options=tuple(_option(name, found, maps.get(name), resampling) for name in found),
        queries=len(case.new_queries),
        index_rows=len(case.old_index),
        anchors=len(anchors),
        anchors_left_out=len(case.anchors) - len(anchors),
        truth="neighbors in the new index" if truth.ordered else "relevant rows",
    )


@final
@dataclass(frozen=True, slots=True)
class _Resampling:
    """How intervals are drawn: the same draws for the same values, so that no two statements differ."""

    count: int
    seed: int

    def mean(self, values: NDArray[np.float64]) -> Interval:
        """Return the mean of differences between −1 and 1, with its interval."""
        interval = bootstrap(
            (np.concatenate([values, [-1.0, 1.0]]),),
            np.mean,
            n_resamples=self.count,
            batch=max(1, (1 << 22) // len(values)),
            confidence_level=_CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(self.seed),
        ).confidence_interval
        return Interval(float(values.mean()), float(interval.low), float(interval.high))


def _measured(case: Case, truth: Truth, maps: Mapping[OptionName, Crossing]) -> Found:
    """Return every query's figures by option."""
    as_it_is = Crossing(None, None)
    searches = {"keep": as_it_is.search(case.old_queries, case.old_index)}
    for name, crossing in maps.items():
        searches[name] = crossing.search(case.new_queries, case.old_index)
    if case.new_index is not None:
        searches["re-embed"] = as_it_is.search(case.new_queries, case.new_index)
    return {
        cast("OptionName", name): truth.found(relevant_ranks(queries, index, truth.rows))
        for name, (queries, index) in searches.items()
    }


def _choice(found: Found, resampling: _Resampling) -> Choice:
    """Return the cheapest option that no other beats."""
    for name, figures in found.items():
        more = {
            other: resampling.mean(its["recall@10"] - figures["recall@10"])
            for other, its in found.items()
            if other != name
        }
        if any(gain.low > 0 for gain in more.values()):
            continue
        if name == "keep" and any(more[map_].high >= 0 for map_ in _MAPS):
            return "cannot tell"
        return name
    raise AssertionError("what finds most is beaten by none")


def _option(
    name: OptionName,
    found: Found,
    chosen: tuple[Crossing, tuple[Tried, ...]] | None,
    resampling: _Resampling,
) -> Option:
    figures = found[name]
    more = figures["recall@10"] - found["keep"]["recall@10"]
    gain = None if name == "keep" else resampling.mean(more)
    crossing, tried = chosen or (Crossing(None, None), ())
    return Option(
        name=name,
        method=tried[0].method if tried else None,
        recall_at_1=float(figures["recall@1"].mean()),
        recall_at_10=float(figures["recall@10"].mean()),
        mrr=float(figures["mrr"].mean()),
        gain=gain,
        queries_needed=None if gain is None else _needed(more, gain),
        tried=tried,
        query_map=crossing.query_map,
        index_map=crossing.index_map,
    )


def _needed(more: NDArray[np.float64], gain: Interval) -> int | None:
    """Return how many queries would bring the interval off zero if the gain is what it seems."""
    if not gain.low <= 0 <= gain.high or gain.value == 0:
        return None
    z = norm.ppf((1 + _CONFIDENCE) / 2) + norm.ppf(_POWER)
    return math.ceil(float((z * more.std(ddof=1) / gain.value) ** 2))
