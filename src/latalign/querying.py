"""Queries that are unlike the anchors: what of them needs no counterpart in the other space."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import as_rows, require_finite
from latalign.local_map import Searching, affine_part, with_affine
from latalign.methods import METHODS

LOCAL = "local_retrieval"
"""What `latalign.local_retrieval` is called where methods are named."""

_FEW_QUERIES = 30


def for_queries(map_: Searching, queries: ArrayLike) -> Searching:
    """Return a map for searching that takes off what all queries have in common.

    Queries are often unlike the anchors: short where those are long, questions where those are answers. Then all of
    them are mapped off to one side, and the stored rows that lie there are found for too many. The mean of some
    mapped queries is taken off; an offset that the map has by itself, that of `retrieval`, stays. These queries
    are rows of the source space alone: neither their counterparts nor what they should find has to be known. A log of
    queries will do, embedded by the new model.

    Parameters
    ----------
    map_ : AffineMap or LocalMap
        Best of "retrieval", or of `local_retrieval`. What comes out is a direction to search along, whatever it was.
    queries : array-like of shape (n, dim_source)
        Like those to come, and none of those by which the map will be judged; a hundred or more.

    Returns
    -------
    AffineMap or LocalMap
        As was given, without the held-out figures in its evidence: they are of the map that was given.

    Raises
    ------
    TypeError
        If the queries do not hold real numbers.
    ValueError
        If their shape does not fit the map, or values are not finite.

    Warns
    -----
    UserWarning
        If there are fewer than thirty queries: their mean is then as much their own as that of all.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import AffineMap, for_queries
    >>> found = for_queries(AffineMap.of(2 * np.eye(2)), [[1.0, 5.0], [3.0, 5.0]] * 50)
    >>> found([[4.0, 5.0]])
    array([[4., 0.]])
    """
    rows = as_rows(queries, "for_queries: the queries", dim=map_.dim_source)
    require_finite(rows, "for_queries: the queries")
    if len(rows) < _FEW_QUERIES:
        warnings.warn(
            f"for_queries: the mean of {len(rows)} queries is as much their own as that of all queries; give a "
            "hundred or more",
            stacklevel=2,
        )
    affine = affine_part(map_)
    offset = affine.target_mean if is_for_searching(map_.method) else np.zeros(map_.dim_target)
    common = map_(rows.astype(np.float64)).mean(axis=0)
    evidence = None if affine.evidence is None else replace(affine.evidence, heldout=None)
    moved = replace(affine, target_mean=affine.target_mean + offset - common, evidence=evidence)
    return with_affine(map_, moved)


def is_for_searching(method: str) -> bool:
    """Tell whether a method makes directions to search along, not rows that are near those of the target."""
    return method == LOCAL or (method in METHODS and METHODS[method].ranks)
