"""Retrieval by a map that bends: the affine one, and what near anchors add to it.

With the target whitened, `latalign.solve.retrieval` of power ½ is a ridge regression. It is one with another
kernel as well [1]_ [2]_: that of the linear map plus one that falls with the distance.

References
----------
.. [1] C. Saunders, A. Gammerman, V. Vovk, Ridge regression learning algorithm in dual variables, ICML 1998.
.. [2] D. R. Hardoon, S. Szedmak, J. Shawe-Taylor, Canonical correlation analysis: an overview with application
   to learning methods, Neural Computation 16 (2004) 2639-2664 (canonical correlations with kernels).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
import scipy.linalg as sla
from numpy.typing import ArrayLike

from latalign import solve
from latalign._validation import Array, Pairs, as_generator, checked_alpha
from latalign.evidence import Candidate
from latalign.fitting import check_call
from latalign.local_map import LocalMap, nearness
from latalign.maps import AffineMap
from latalign.methods import METHODS, Grid, Method
from latalign.moments import Moments, moments_of_pairs
from latalign.relation import warn_if_unrelated
from latalign.select import Folds, Scoring, default_folds, validated_by_rows
from latalign.solvable import check_solvable

MOST_ANCHORS = 20_000
"""A square matrix of so many rows, 3.2 GB, is what there should be room and time for."""


def local_retrieval(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    alpha: float | Literal["auto"] = "auto",
    scoring: Scoring = "mrr",
    n_folds: int | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> LocalMap:
    """Find a map for queries that are searched for in the space of Y, one that bends where anchors are near.

    Of ``fit(X, Y, "retrieval", power=0.5)`` the matrix is a ridge regression from X to the whitened Y. The kernel of
    that regression is the inner product of centred rows, in units of their root mean squared length w; to it
    is added exp(−‖x − x′‖² / (2 w²)), whose value at a row itself is one, what the former's is on average. Both
    parts are solved together, with one penalty. The offset and the scale are those of the affine map. Where held-out
    anchors, searched for among each other, find more by ``fit(X, Y, "retrieval")``, by more than the standard error of
    the difference, that is what comes out, with one anchor that adds nothing.

    It is no affine map: it keeps the anchors, mapping a row takes as many distances as there are anchors, and
    fitting takes the square of their number in memory and its cube in time. It is not made of moments.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        Row i of both is the same thing; at most 20,000 pairs.
    sample_weight : array-like of shape (n,), optional
        What each pair counts, zero or more.
    alpha : float or "auto"
        The penalty of `solve.retrieval`, above zero; by held-out retrieval of the affine map unless given.
    scoring : {"mrr", "recall@1", "recall@10", "cosine"}
        What "auto" chooses by.
    n_folds : int, optional
    random_state : int, Generator or None
        As in `fit`.

    Returns
    -------
    LocalMap
        Its evidence is that of ``solve.retrieval`` with the same penalty, and what the penalty was chosen by.

    Raises
    ------
    TypeError, ValueError
        As in `fit`; also if there are more pairs than that, or `alpha` is zero.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import fit, local_retrieval, metrics
    >>> rng = np.random.default_rng(0)
    >>> rows, part = rng.normal(size=(600, 8)), np.arange(600) % 2  # two parts of a space,
    >>> X = rows + 2 * rng.normal(size=(2, 8))[part]  # apart in the one,
    >>> turns = np.linalg.qr(rng.normal(size=(2, 8, 8)))[0]  # each turned its own way in the other
    >>> Y = np.einsum("ni,nij->nj", rows, turns[part])
    >>> Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    >>> bent, affine = local_retrieval(X[:400], Y[:400]), fit(X[:400], Y[:400], "retrieval")
    >>> mrr = [metrics.mrr_score(map_(X[400:]), Y[400:]) for map_ in (bent, affine)]
    >>> mrr[0] > 2 * mrr[1]
    True
    """
    pairs = Pairs.of(X, Y, sample_weight, caller="local_retrieval")
    check_call("retrieval", {}, scoring, "local_retrieval")
    if len(pairs) > MOST_ANCHORS:
        raise ValueError(
            f"local_retrieval needs at most {MOST_ANCHORS:,} pairs, the square of their number being kept; got "
            f"{len(pairs):,}. Draw some of them (latalign.random_anchors or kmeans_anchors)."
        )
    if alpha != "auto" and checked_alpha(alpha) == 0:
        raise ValueError(
            "local_retrieval needs an alpha above zero: without one it fits any rows, and finds none"
        )
    pairs.require_finite()
    total = moments_of_pairs(pairs, grams="both")
    check_solvable(total)
    rng = as_generator(random_state, "local_retrieval")
    if alpha == "auto":
        count = default_folds(pairs, scoring) if n_folds is None else n_folds
        found = _chosen(total, Folds.of(pairs, count, rng, grams="both"), scoring)
    else:
        found = _bent(total, checked_alpha(alpha), pairs, *_kernels(total, pairs))
    warn_if_unrelated(pairs)
    return found


def _chosen(total: Moments, folds: Folds, scoring: Scoring) -> LocalMap:
    """Return the map of both kernels, or that of the linear one alone where held-out rows find more by it."""
    affine = _validated(folds, scoring)
    # A penalty that is chosen by the bent map itself is too large for queries unlike the anchors.
    alike = affine if affine.power == 0.5 else _validated(folds, scoring, power=0.5)
    both = (
        (METHODS["retrieval"], {"alpha": affine.alpha, "power": affine.power}),
        (_BENT, {"alpha": alike.alpha}),
    )
    measured = [
        validated_by_rows(folds, scoring, (row,), given, among_heldout=True)[0] for row, given in both
    ]
    # Among few rows both find nearly all. In doubt the bent one, which loses next to nothing where nothing bends.
    more = measured[1].shares - measured[0].shares
    doubt = float(more.std(ddof=1) * np.sqrt(len(more)))
    straight, bent = measured[0].candidate, replace(measured[1].candidate, power=0.5)
    best, other = (straight, bent) if more.sum() > doubt else (bent, straight)
    assert best.alpha is not None
    assert best.power is not None
    rows = folds.pairs
    if best is straight:
        map_ = solve.retrieval(total, alpha=best.alpha, power=best.power, rows=rows)
        found = LocalMap(map_, rows.source[:1], np.zeros((1, total.dim_target)), _width(total))
    else:
        found = _bent(total, best.alpha, rows, *_kernels(total, rows))
    assert found.evidence is not None  # every solver gives some
    evidence = replace(found.evidence, scoring=scoring, candidates=(best, other))
    return replace(found, affine=replace(found.affine, evidence=evidence))


def _validated(folds: Folds, scoring: Scoring, **given: float) -> Candidate:
    return validated_by_rows(folds, scoring, (METHODS["retrieval"],), given)[0].candidate


def _bent_maps(moments: Moments, grid: Grid, rows: Pairs) -> Iterator[LocalMap]:
    kernels = _kernels(moments, rows)
    for point in grid:
        yield _bent(moments, point["alpha"], rows, *kernels)


_BENT = Method("local_retrieval", solve.retrieval, grams="both", solve_all=_bent_maps, ranks=True)


def _kernels(moments: Moments, rows: Pairs) -> tuple[float, Array, Array]:
    """Return the width, the centred source rows in units of it, and the Gram matrix of both kernels."""
    source = rows.source.astype(np.float64)
    width = _width(moments)
    centred = (source - moments.source_mean) / width
    return width, centred, centred @ centred.T + nearness(source, moments.source_mean, width)(source)


def _width(moments: Moments) -> float:
    """Return the root mean squared distance of source rows from their mean; one where they do not differ."""
    return float(np.sqrt(moments.xx_diagonal.sum() / moments.weight)) or 1.0


def _bent(moments: Moments, alpha: float, rows: Pairs, width: float, centred: Array, gram: Array) -> LocalMap:
    """Return the map of both kernels for one penalty; `rows` are the pairs of the moments."""
    affine = solve.retrieval(moments, alpha=alpha, power=0.5, rows=rows)
    # √w K √w + λ is symmetric where K + λ/w would not be; λ is alpha times the mean diagonal value of xx.
    root = np.sqrt(np.ones(len(rows)) if rows.weight is None else rows.weight)[:, None]
    held = gram * root * root.T
    held[np.diag_indices_from(held)] += alpha * moments.weight / moments.dim_source
    factor = sla.cho_factor(held, overwrite_a=True, check_finite=False)
    centred_target = np.subtract(rows.target, moments.target_mean, dtype=np.float64)
    target = root * (centred_target @ _whitening(moments, affine, alpha))
    dual = root * sla.cho_solve(factor, target, check_finite=False)
    linear = replace(affine, matrix=centred.T @ dual / width, method="local_retrieval")
    return LocalMap(linear, rows.source, dual, width)


def _whitening(moments: Moments, affine: AffineMap, alpha: float) -> Array:
    """Return the inverse of B, times the scale that makes the affine map of A⁻¹ xy B⁻¹; zeros where there is no map."""
    if not affine.matrix.any():
        return np.zeros_like(moments.yy)
    a, b = (gram + alpha * gram.diagonal().mean() * np.eye(len(gram)) for gram in (moments.xx, moments.yy))
    inverse = np.linalg.inv(b)
    matrix = np.linalg.solve(a, moments.xy) @ inverse
    size = float((matrix * matrix).sum())
    return inverse * (float((matrix * affine.matrix).sum()) / size if size > 0 else 1.0)
