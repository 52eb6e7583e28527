"""Which map leads queries of a new model to rows of an old index: chosen on held-out anchors alone."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Array, Pairs, Rows
from latalign.anchors import random_anchors
from latalign.bending import MOST_ANCHORS, local_retrieval
from latalign.evidence import IllConditionedWarning
from latalign.fitting import fit
from latalign.local_map import LocalMap, Searching, affine_part, with_affine
from latalign.maps import AffineMap
from latalign.methods import METHODS
from latalign.querying import LOCAL, for_queries, is_for_searching
from latalign.relation import UnrelatedPairsWarning
from latalign.searching import Index, among, relevant_ranks
from latalign.select import fold_of_groups, groups_of

_FOLDS = 5
# As many held-out anchors look for themselves, in as many folds as it takes …
_QUERIES = 1000
# … among so many rows, most of them of the index: among few, every map finds everything.
_SEARCHED_ROWS = 20_000
NO_MAP = "none"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Crossing:
    """What is done to queries of the new model and to rows of the old index, so that they meet.

    Attributes
    ----------
    query_map : AffineMap, LocalMap or None
    index_map : AffineMap or None
        None leaves that side as it is.
    """

    query_map: AffineMap | LocalMap | None
    index_map: AffineMap | None

    def search(self, queries: Rows, rows: Rows) -> tuple[Rows, Index]:
        """Return the queries and the index as they are compared."""
        return (queries if self.query_map is None else self.query_map(queries)), Index(rows, self.index_map)

    def for_queries(self, queries: Rows) -> Crossing:
        """Take off what queries have in common, where the map is one that is made for queries."""
        if self.query_map is None or not is_for_searching(self.query_map.method):
            return self
        return replace(self, query_map=for_queries(self.query_map, queries))


Way = Callable[[Any, Array], Crossing]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """Which space is mapped into which, by what, and in what ways such a map may be used.

    Attributes
    ----------
    into_old : bool
        Whether the new space is mapped into the old one, or the old one into the new.
    methods : tuple of str
        From the simplest: rows of `latalign.METHODS`, and where queries alone are mapped the map that bends, which
        takes too long for a whole index.
    ways : mapping
        From a name to what makes a `Crossing` of a map and the mean of the anchors in its target space.
    """

    into_old: bool
    methods: tuple[str, ...]
    ways: Mapping[str, Way]

    def crossings(self, method: str, anchors: Pairs) -> Iterator[tuple[str, Crossing]]:
        """Fit one method and yield every way to use it, by name; `anchors` lead from new to old."""
        new, old = anchors.source, anchors.target
        source, target = (new, old) if self.into_old else (old, new)
        map_ = _fitted(method, source, target)
        mean = np.asarray(target.mean(axis=0, dtype=np.float64))
        for name, way in self.ways.items():
            yield name, way(map_, mean)

    def methods_for(self, anchors: Pairs) -> Iterator[str]:
        """Yield what can be fitted to these anchors, "none" first where the spaces are of one width."""
        if anchors.source.shape[1] == anchors.target.shape[1]:
            yield NO_MAP
        yield from (name for name in self.methods if name != LOCAL or len(anchors) <= MOST_ANCHORS)


def _less(map_: Searching, mean: Array) -> Searching:
    affine = affine_part(map_)
    return with_affine(map_, replace(affine, target_mean=affine.target_mean - mean))


def _both_less(map_: AffineMap, mean: Array) -> Crossing:
    return Crossing(_less(AffineMap.of(np.eye(len(mean))), mean), _less(map_, mean))


BRIDGE = Direction(
    into_old=True,
    methods=(*METHODS, LOCAL),
    ways=MappingProxyType[str, Way](
        {
            "as it is": lambda map_, mean: Crossing(map_, None),
            "less the mean": lambda map_, mean: Crossing(_less(map_, mean), None),
        }
    ),
)
DOCUMENTS = Direction(
    into_old=False,
    methods=tuple(METHODS),
    ways=MappingProxyType[str, Way](
        {"as it is": lambda map_, mean: Crossing(None, map_), "less the mean": _both_less}
    ),
)


@final
@dataclass(frozen=True, slots=True)
class Tried:
    """How well held-out anchors found themselves by one map.

    Attributes
    ----------
    method : str
        A row of `latalign.METHODS`, "local_retrieval", or "none": rows as they are, between spaces of one width.
    way : {"as it is", "less the mean"}
        Whether the mean of the anchors is taken off what is compared: off the mapped query alone where the
        index stays as it is, off both sides where it is mapped.
    recall_at_10, mrr : float
        The maps are ordered by the latter: where nearly all find themselves among the first ten, it
        still tells them apart.
    """

    method: str
    way: str
    recall_at_10: float
    mrr: float


def chosen(
    direction: Direction, anchors: Pairs, index: Rows, rng: np.random.Generator
) -> tuple[Crossing, tuple[Tried, ...]]:
    """Return the map that held-out anchors find themselves best by, fitted on all, and all that were tried.

    Parameters
    ----------
    direction : Direction
    anchors : Pairs
        From the new space to the old one.
    index : (n, dim_old) array
        What is searched beside the anchors.
    rng : Generator
        Draws the folds and the rows of the index.

    Returns
    -------
    Crossing
    tuple of Tried
        Best first; of equals the simplest.
    """
    strangers, methods = _strangers(anchors, index, rng), tuple(direction.methods_for(anchors))
    ranks: dict[tuple[str, str], list[NDArray[np.int64]]] = {}
    for train, held in _splits(anchors, rng):
        # Not among those of the fit: a map that bends lies near them.
        searched = np.vstack([anchors.target[held], strangers])
        queries, own = anchors.source[held], np.arange(len(held))[:, None]
        for method in methods:
            for way, crossing in direction.crossings(method, train):
                found = relevant_ranks(*crossing.search(queries, searched), own)
                ranks.setdefault((method, way), []).append(found)
    tried = [_tried(*use, np.concatenate(found)) for use, found in ranks.items()]
    tried.sort(key=lambda one: -one.mrr)
    return dict(direction.crossings(tried[0].method, anchors))[tried[0].way], tuple(tried)


def _tried(method: str, way: str, ranks: NDArray[np.int64]) -> Tried:
    return Tried(method, way, float((ranks <= 10).mean()), float((1 / ranks).mean()))


def _fitted(method: str, source: Rows, target: Rows) -> AffineMap | LocalMap:
    if method == NO_MAP:
        return replace(AffineMap.of(np.eye(source.shape[1])), method=NO_MAP)
    with warnings.catch_warnings():
        # What a map does to directions that the anchors do not show is judged on held-out anchors.
        warnings.simplefilter("ignore", IllConditionedWarning)
        warnings.simplefilter("ignore", UnrelatedPairsWarning)  # `verdict` has said it of all of them
        if method == LOCAL:
            # The penalty that "auto" takes in doubt: one, where the kernel of a row with itself is three.
            return local_retrieval(source, target, alpha=source.shape[1] / len(source))
        return fit(source, target, method, scoring="recall@10")


def _splits(anchors: Pairs, rng: np.random.Generator) -> Iterator[tuple[Pairs, NDArray[np.intp]]]:
    """Yield the anchors to fit on and the numbers of those held out, until enough were."""
    number = fold_of_groups(groups_of(anchors), _FOLDS, rng)
    done = 0
    for fold in range(_FOLDS):
        held = np.flatnonzero(number == fold)
        if not len(held) or done >= _QUERIES:
            return
        yield anchors.take(np.flatnonzero(number != fold)), held[:_QUERIES]
        done += len(held)


def _strangers(anchors: Pairs, index: Rows, rng: np.random.Generator) -> Rows:
    """Return rows of the index that are no anchors, for held-out anchors to be told from."""
    held = min(len(anchors) // _FOLDS, _QUERIES)
    count = min(_SEARCHED_ROWS - held, len(index))
    if not count:
        return index[:0]
    drawn = index[random_anchors(len(index), count, random_state=rng)]
    return drawn[~among(drawn, anchors.target)]
