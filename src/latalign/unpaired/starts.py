"""Rotations to start from where nothing is known: clusters of both spaces, matched by how they lie to each other.

The cluster means of the one space correspond to those of the other, but in an unknown order. The products of
all pairs of means are the same in both, if the spaces are rotations of each other; the order that makes them
most alike is a quadratic assignment problem ([1]_, [2]_; FAQ [3]_ solves it approximately). No clustering is the
right one, so several of either space are matched with several of the other.

References
----------
.. [1] G. Dar, mini-vec2vec: scaling universal geometry alignment with linear transformations, arXiv
   2510.02348 (2025).
.. [2] Unpaired Rosetta, arXiv 2610.09411 (2026).
.. [3] J. T. Vogelstein et al., Fast approximate quadratic programming for graph matching, PLoS ONE 10 (2015)
   e0121002.
"""

from __future__ import annotations

import warnings
from itertools import product
from typing import Any, cast

import numpy as np
from scipy.optimize import quadratic_assignment

from latalign._linalg import nearest_rotation
from latalign._validation import Array
from latalign.anchors import Index

_CLUSTERINGS = 4  # of each space
_CLUSTERS = 30  # of each of them, at most
_CLUSTER_ROWS = 5  # to a cluster, at least, on average
_CLUSTERED = 3000  # rows that are clustered, at most
_ATTEMPTS = 6  # of FAQ at each pair of clusterings


def starts(source: Array, target: Array, count: int, rng: np.random.Generator) -> list[Array]:
    """Return rotations that take clusters of the source to clusters of the target, the most promising first.

    Parameters
    ----------
    source : (n, rank) array
    target : (m, rank) array
        Centred rows along principal directions. Not whitened: clusters are seen in the wide directions.
    count : int
        How many to return, at most.
    rng : Generator

    Returns
    -------
    list of (rank, rank) arrays
        Orthogonal.
    """
    clusters = min(_CLUSTERS, max(2, min(len(source), len(target)) // _CLUSTER_ROWS))
    mine, its = ([_means(rows, clusters, rng) for _ in range(_CLUSTERINGS)] for rows in (source, target))
    found: list[tuple[float, Array]] = []
    for means, counterparts in product(mine, its):
        likeness, order = _matched(means, counterparts, rng)
        found.append((likeness, nearest_rotation(means.T @ counterparts[order])))
    found.sort(key=lambda one: -one[0])
    return [rotation for _, rotation in found[:count]]


def _means(rows: Array, clusters: int, rng: np.random.Generator) -> Array:
    """Return the means of clusters of some of the rows."""
    # Loaded only here: scikit-learn takes a second to import.
    from sklearn.cluster import KMeans  # pyright: ignore[reportMissingTypeStubs]
    from sklearn.exceptions import ConvergenceWarning  # pyright: ignore[reportMissingTypeStubs]

    drawn = rows[rng.choice(len(rows), min(_CLUSTERED, len(rows)), replace=False)]
    seed = int(rng.integers(2**31))
    with warnings.catch_warnings():
        # It warns where there are fewer different rows than clusters. Some means are then the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = cast("Any", KMeans)(clusters, n_init=1, random_state=seed).fit(drawn)
    return np.asarray(found.cluster_centers_, dtype=np.float64)


def _matched(means: Array, counterparts: Array, rng: np.random.Generator) -> tuple[float, Index]:
    """Return how alike the products of the means are in the best order that is found, and that order."""
    grams = [one @ one.T for one in (means, counterparts)]
    norm = float(np.prod([np.linalg.norm(gram) for gram in grams])) or 1.0
    best: Any = None
    for attempt in range(_ATTEMPTS):
        start = "randomized" if attempt else "barycenter"
        options: dict[str, Any] = {"maximize": True, "P0": start, "rng": rng}
        found = cast("Any", quadratic_assignment)(*grams, method="faq", options=options)
        if best is None or found.fun > best.fun:
            best = found
    return float(best.fun) / norm, np.asarray(best.col_ind)
