"""Queries that are unlike the anchors: what of them needs no counterpart in the other space."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import as_rows, require_finite
from latalign.local_map import Searching, affine_part, with_affine
from latalign.methods import METHODS

LOCAL = "local_retrieval"
"""What `latalign.local_retrieval` is called where methods are named."""


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
        As was given.

    Raises
    ------
    TypeError
        If the queries do not hold real numbers.
    ValueError
        If their shape does not fit the map, or values are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import AffineMap, for_queries
    >>> found = for_queries(AffineMap.of(2 * np.eye(2)), [[1.0, 5.0], [3.0, 5.0]])
    >>> found([[4.0, 5.0]])
    array([[4., 0.]])
    """
    rows = as_rows(queries, "for_queries: the queries", dim=map_.dim_source)
    require_finite(rows, "for_queries: the queries")
    affine = affine_part(map_)
    offset = affine.target_mean if is_for_searching(map_.method) else np.zeros(map_.dim_target)
    common = map_(rows.astype(np.float64)).mean(axis=0)
    return with_affine(map_, replace(affine, target_mean=affine.target_mean + offset - common))


def is_for_searching(method: str) -> bool:
    """Tell whether a method makes directions to search along, not rows that are near those of the target."""
    return method == LOCAL or (method in METHODS and METHODS[method].ranks)
