"""The embedding model changed: keep the old one, bridge to it, map what is stored, or embed it anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import bootstrap, norm

from latalign._validation import as_generator
from latalign.bridging import BRIDGE, DOCUMENTS, Crossing, Tried, chosen
from latalign.crowding import csls_relevant_ranks, index_hubness
from latalign.relation import warn_if_unrelated
from latalign.relevance import Case, Truth, checked, other_queries, truth_of, without_tested
from latalign.searching import relevant_ranks
from latalign.verdicts import MAPS, Choice, Interval, Option, OptionName, Verdict

_CONFIDENCE = 0.95
_POWER = 0.8
_MADE_UP = (-1.0, 1.0)  # two queries, which each side wins outright

Found = Mapping[OptionName, "_Figures"]


def verdict(
    old_anchors: ArrayLike,
    new_anchors: ArrayLike,
    old_index: ArrayLike,
    old_queries: ArrayLike,
    new_queries: ArrayLike,
    relevant: ArrayLike | Sequence[Any] | None = None,
    *,
    new_index: ArrayLike | None = None,
    index_ids: ArrayLike | None = None,
    unpaired_queries: ArrayLike | None = None,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> Verdict:
    """Tell whether a map saves an index of vectors whose embedding model changed.

    Four things can be done: keep embedding queries by the old model; embed them by the new one and map
    them into the stored index (a bridge); map the stored index to the new space; embed every document
    anew. Each is measured by what the test queries find, by exact search and cosine.

    The two maps are chosen by held-out anchors alone: each looks for itself among those held out with it and rows of
    the index, 20,000 together, by every row of `latalign.METHODS`, as it is and less the mean of the anchors, and the
    bridge by `latalign.local_retrieval` too.
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
    relevant : int array-like of shape (q,) or (q, r), or sequence of q sequences, optional
        The row (from 0) of the index that each query should find, or several of them; −1 fills up rows
        that have fewer. With `index_ids` their ids. Unless given, the ten nearest rows of the new index are
        the truth.
    new_index : array-like of shape (n, dim_new), optional
        The documents embedded anew, row by row as in the old index: what embedding everything anew would
        give. A part of the index is enough, if `old_index` is the same part.
    index_ids : array-like of shape (n,), optional
        The ids of the rows of the index, integers or strings, by which `relevant` names them.
    unpaired_queries : array-like of shape (m, dim_new), optional
        Other queries by the new model alone, a hundred or more, from a log for instance: what all of them have in
        common is taken off by a bridge that is made for queries (see `latalign.for_queries`). Test queries among them
        are left out.
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
        If the arrays do not hold real numbers, or `relevant` no whole numbers nor, with `index_ids`, ids of
        their kind.
    ValueError
        If shapes do not fit, values are not finite, a relevant row or id is not in the index, ids of the
        index are not unique, a query has no relevant row, neither `relevant` nor `new_index` is given, there
        are fewer than two queries, or too few anchors are left to fit and to choose by.

    Warns
    -----
    UnrelatedPairsWarning
        If the anchors cannot be told from shuffled ones, as in `latalign.fit`.

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
    truth = truth_of(case, relevant, index_ids)
    anchors = without_tested(case, truth)
    known = None if unpaired_queries is None else other_queries(case, unpaired_queries)
    warn_if_unrelated(anchors)
    bridge, bridges = chosen(BRIDGE, anchors, case.old_index, rng)
    maps: dict[OptionName, tuple[Crossing, tuple[Tried, ...]]] = {
        "bridge": (bridge if known is None else bridge.for_queries(known), bridges),
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
            (np.concatenate([values, _MADE_UP]),),
            np.mean,
            n_resamples=self.count,
            batch=max(1, (1 << 22) // len(values)),
            confidence_level=_CONFIDENCE,
            method="percentile",
            rng=np.random.default_rng(self.seed),
        ).confidence_interval
        return Interval(float(values.mean()), float(interval.low), float(interval.high))


@final
@dataclass(frozen=True, slots=True)
class _Figures:
    """Every query's figures, by cosine and by CSLS, and how uneven the index is found."""

    by_query: Mapping[str, NDArray[np.float64]]
    by_csls: Mapping[str, NDArray[np.float64]]
    hubness: float

    def more(self, other: _Figures) -> NDArray[np.float64]:
        """Return the recall@10 less that of another option, query by query."""
        return self.by_query["recall@10"] - other.by_query["recall@10"]


def _measured(case: Case, truth: Truth, maps: Mapping[OptionName, Crossing]) -> Found:
    """Return every query's figures by option."""
    as_it_is = Crossing(None, None)
    searches = {"keep": as_it_is.search(case.old_queries, case.old_index)}
    for name, crossing in maps.items():
        searches[name] = crossing.search(case.new_queries, case.old_index)
    if case.new_index is not None:
        searches["re-embed"] = as_it_is.search(case.new_queries, case.new_index)
    return {
        cast("OptionName", name): _Figures(
            truth.found(relevant_ranks(queries, index, truth.rows)),
            truth.found(csls_relevant_ranks(queries, index, truth.rows)),
            index_hubness(queries, index),
        )
        for name, (queries, index) in searches.items()
    }


def _choice(found: Found, resampling: _Resampling) -> Choice:
    """Return the cheapest option that no other beats."""
    for name, figures in found.items():
        more = {other: resampling.mean(its.more(figures)) for other, its in found.items() if other != name}
        if any(gain.low > 0 for gain in more.values()):
            continue
        if name == "keep" and any(more[map_].high >= 0 for map_ in MAPS):
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
    means = {measure: float(values.mean()) for measure, values in figures.by_query.items()}
    more = figures.more(found["keep"])
    gain = None if name == "keep" else resampling.mean(more)
    crossing, tried = chosen or (Crossing(None, None), ())
    return Option(
        name=name,
        method=tried[0].method if tried else None,
        recall_at_1=means["recall@1"],
        recall_at_10=means["recall@10"],
        mrr=means["mrr"],
        csls_recall_at_1=float(figures.by_csls["recall@1"].mean()),
        csls_recall_at_10=float(figures.by_csls["recall@10"].mean()),
        hubness=figures.hubness,
        gain=gain,
        queries_needed=None if gain is None else _needed(more, gain),
        tried=tried,
        query_map=crossing.query_map,
        index_map=crossing.index_map,
    )


def _needed(more: NDArray[np.float64], gain: Interval) -> int | None:
    """Return how many queries would bring the interval off zero if the gain is what it seems: more than these.

    Their spread is that with the made-up ones, as the interval has it: a few queries that all agree have none.
    """
    if not gain.low <= 0 <= gain.high or gain.value == 0:
        return None
    z = norm.ppf((1 + _CONFIDENCE) / 2) + norm.ppf(_POWER)
    spread = np.concatenate([more, _MADE_UP]).std(ddof=1)
    return max(math.ceil(float((z * spread / gain.value) ** 2)), len(more) + 1)
