"""Retrieval by a map that bends: canonical correlations with a kernel, and a rotation beside them.

With the target whitened, `latalign.solve.retrieval` of power ½ is a ridge regression: a query becomes a
combination of the anchors, and so does a stored row, and the two are compared. It is one with another kernel as
well [1]_ [2]_: that of the linear map plus one that falls with the distance, so that near anchors count more than
they do for any linear map.

References
----------
.. [1] C. Saunders, A. Gammerman, V. Vovk, Ridge regression learning algorithm in dual variables, ICML 1998.
.. [2] D. R. Hardoon, S. Szedmak, J. Shawe-Taylor, Canonical correlation analysis: an overview with application
   to learning methods, Neural Computation 16 (2004) 2639-2664 (canonical correlations with kernels).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, final

import numpy as np
from numpy.typing import ArrayLike

from latalign import solve
from latalign._linalg import cholesky_of, inverse_diagonal, solve_cholesky
from latalign._validation import Array, Pairs, Rows, as_generator, checked_alpha, require_folds
from latalign.canonical import Canonical, canonical_evidence, canonical_path, found_score, shortness
from latalign.fitting import check_call
from latalign.local_map import LocalMap, nearness, with_evidence
from latalign.maps import AffineMap
from latalign.methods import METHODS, Grid, Method
from latalign.moments import Moments, moments_of_pairs
from latalign.querying import LOCAL
from latalign.relation import warn_if_unrelated
from latalign.select import Folds, Scoring, default_folds, distinct, validated_by_rows
from latalign.solvable import check_solvable

MOST_ANCHORS = 20_000
"""Square matrices of so many rows, 3.2 GB each, are what there should be room and time for."""

# What the near kernel is worth at a row itself, where the linear one is one on average, and how far it reaches, in
# units of the root mean squared distance from the mean. The rotation's part of a mapped row. All three were chosen
# between text encoders, where a half or twice as much of each finds hardly less.
_NEAR, _REACH = 2.0, 0.7
_TURNED = 0.3
# The penalties that are tried, where the kernel of a row with itself is three: one, unless another is better for
# certain. What is best hardly depends on the number of anchors, so some of many are enough to tell.
_PENALTIES = (0.25, 4.0, 1.0)
_CHOSEN_BY = 4000


def local_retrieval(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    alpha: float | Literal["auto"] = "auto",
    scoring: Scoring | None = None,
    n_folds: int | None = None,
    random_state: int | np.random.Generator | None = 0,
) -> LocalMap:
    """Find a map for queries that are searched for in the space of Y, one that bends where anchors are near.

    Of ``fit(X, Y, "retrieval", power=0.5)`` the matrix is a ridge regression from X to the whitened Y, in the
    coordinates of the anchors (K_X + λ)⁻¹ (K_Y + λ)⁻¹ Y. The kernels are the inner products of centred rows, in units
    of their root mean squared length w; to both is added 2 exp(−‖x − x′‖² / (2 (0.7 w)²)), and what comes out is
    still searched for by an inner product with the rows as they are stored. The offset is made as that of
    `solve.retrieval`, and a part of the best similarity map is added, three tenths as long as the rest. Where held-out
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
        The penalty of `solve.retrieval`, above zero: λ is alpha times the weight of the pairs, divided by
        `dim_source`. "auto" is a λ of one, or of ¼ or 4 where held-out retrieval tells for certain that it is better.
        With a number nothing is chosen, and what follows has no meaning.
    scoring : {"mrr", "recall@1", "recall@10", "cosine"}, optional
        What "auto" chooses by: "mrr" unless given.
    n_folds : int, optional
    random_state : int, Generator or None
        As in `fit`; of more than 4,000 pairs it also draws those that "auto" chooses by.

    Returns
    -------
    LocalMap
        Its evidence is that of ``solve.retrieval`` with the same penalty, and what was chosen among.

    Raises
    ------
    TypeError, ValueError
        As in `fit`; also if there are more pairs than that, or `alpha` is zero.

    See Also
    --------
    for_queries : Queries that are unlike the anchors, and need no counterpart, tell what to take off.

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
    given = Pairs.of(X, Y, sample_weight, caller="local_retrieval")
    check_call("retrieval", {}, scoring, "local_retrieval")
    require_few(len(given))
    if alpha != "auto" and checked_alpha(alpha) == 0:
        raise ValueError(
            "local_retrieval needs an alpha above zero: without one it fits any rows, and finds none"
        )
    if n_folds is not None:
        require_folds(n_folds, "local_retrieval")
    given.require_finite()
    pairs, _ = distinct(given)
    total = moments_of_pairs(pairs, grams="both")
    check_solvable(total)
    rng = as_generator(random_state, "local_retrieval")
    if alpha == "auto":
        found = _chosen(total, pairs, scoring or "mrr", n_folds, rng)
    else:
        found = _Kernels.of(total, pairs).map(checked_alpha(alpha))
    warn_if_unrelated(given)
    return found


def require_few(count: int) -> None:
    """Raise a ValueError where there are more pairs than can be kept."""
    if count > MOST_ANCHORS:
        raise ValueError(
            f"local_retrieval needs at most {MOST_ANCHORS:,} pairs, the square of their number being kept; got "
            f"{count:,}. Draw some of them (latalign.random_anchors or kmeans_anchors)."
        )


def _chosen(
    total: Moments, pairs: Pairs, scoring: Scoring, n_folds: int | None, rng: np.random.Generator
) -> LocalMap:
    """Return the map of both kernels, or that of the linear one alone where held-out rows find more by it."""
    some = pairs
    if len(pairs) > _CHOSEN_BY:
        some = pairs.take(np.sort(rng.choice(len(pairs), _CHOSEN_BY, replace=False)))
    count = default_folds(some, scoring) if n_folds is None else n_folds
    folds = Folds.of(some, count, rng, grams="both")
    straight = validated_by_rows(folds, scoring, (METHODS["retrieval"],))[0].candidate
    settled = {"alpha": straight.alpha, "power": straight.power}
    [affine] = validated_by_rows(folds, scoring, (METHODS["retrieval"],), settled, among_heldout=True)
    [bent] = validated_by_rows(folds, scoring, (_BENT,), among_heldout=True)
    # Among few rows both find nearly all. In doubt the bent one, which loses next to nothing where nothing bends.
    more = bent.shares - affine.shares
    doubt = float(more.std(ddof=1) * np.sqrt(len(more)))
    candidates = affine.candidate, replace(bent.candidate, power=0.5)
    taken, other = candidates if more.sum() > doubt else candidates[::-1]
    assert taken.alpha is not None  # either grid is of penalties
    # As heavy a penalty for all pairs as was found for some.
    alpha = taken.alpha * sum(fold.weight for fold in folds.moments) / total.weight
    if taken.method == LOCAL:
        found = _Kernels.of(total, pairs).map(alpha)
    else:
        map_ = solve.retrieval(total, alpha=alpha, power=taken.power or 0.0, rows=pairs)
        found = LocalMap(map_, pairs.source[:1], np.zeros((1, total.dim_target)), _width(total))
    assert found.evidence is not None  # every solver gives some
    return with_evidence(found, replace(found.evidence, scoring=scoring, candidates=(taken, other)))


def _penalties(moments: Moments) -> Grid:
    return tuple({"alpha": one * moments.dim_source / moments.weight} for one in _PENALTIES)


def _bent_maps(moments: Moments, grid: Grid, rows: Pairs) -> Iterator[LocalMap]:
    yield from _Kernels.of(moments, rows).maps([point["alpha"] for point in grid])


_BENT = Method(
    LOCAL,
    solve.retrieval,
    grams="both",
    grid=_penalties,
    caution=1.0,  # the last of the penalties, one, unless another is better for certain
    solve_all=_bent_maps,
    ranks=True,
)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Kernels:
    """Both sides' kernels between all anchors, and the best similarity map; `rows` are the pairs of the moments."""

    moments: Moments
    rows: Pairs
    source: Array
    target: Array
    turn: Array

    @staticmethod
    def of(moments: Moments, rows: Pairs) -> _Kernels:
        source = _kernel(rows.source, moments.source_mean, _width(moments))
        target = _kernel(rows.target, moments.target_mean, _width(moments.swapped()))
        turn = solve.shrunk(moments, alpha=np.inf).matrix  # in what the anchors span
        return _Kernels(moments, rows, source, target, turn)

    def map(self, alpha: float) -> LocalMap:
        """Return the map for one penalty."""
        return next(self.maps([alpha]))

    def maps(self, alphas: Sequence[float]) -> Iterator[LocalMap]:
        """Yield the map for one penalty after another; the Gram matrices are decomposed once."""
        for alpha, canonical in zip(alphas, canonical_path(self.moments, alphas), strict=True):
            yield self._map(alpha, canonical)

    def _map(self, alpha: float, canonical: Canonical) -> LocalMap:
        moments, rows = self.moments, self.rows
        root = np.sqrt(rows.weights)[:, None]
        penalty = alpha * moments.weight / moments.dim_source
        centred_target = np.subtract(rows.target, moments.target_mean, dtype=np.float64)
        # √w K √w + λ is symmetric where K + λ/w would not be.
        wanted = solve_cholesky(_factor(self.target, root, penalty), root * centred_target)
        factor = _factor(self.source, root, penalty)
        dual = solve_cholesky(factor, wanted)
        # What the map makes of every anchor in a fit without it: Allen's closed form.
        unseen = (wanted - dual / inverse_diagonal(factor)[:, None]) / root
        scale = _least_squares_scale(unseen, centred_target, rows.weights)
        dual *= scale * root
        unseen *= scale
        spread = (rows.weights[:, None] * unseen).T @ unseen
        width = _width(moments)
        matrix = ((rows.source - moments.source_mean) / width).T @ dual / width
        short = shortness(moments, canonical.weighted(0.5)[1], alpha, rows)
        affine = AffineMap(
            moments.source_mean,
            matrix + _turned(self.turn, moments, float(spread.trace())),
            found_score(spread, moments) * short,
            LOCAL,
            canonical_evidence(moments, canonical, alpha, 0.5),
        )
        return LocalMap(affine, rows.source, _NEAR * dual, _REACH * width)


def _kernel(rows: Rows, mean: Array, width: float) -> Array:
    """Return the sum of the linear kernel and the near one of all rows, the former one at a row on average."""
    centred = (rows - mean) / width
    gram = nearness(rows, mean, _REACH * width)(rows)
    gram *= _NEAR
    gram += centred @ centred.T
    return gram


def _factor(kernel: Array, root: Array, penalty: float) -> Array:
    held = kernel * root
    held *= root.T
    held[np.diag_indices_from(held)] += penalty
    return cholesky_of(held)


def _least_squares_scale(fitted: Array, target: Array, weights: Array) -> float:
    """Return the scale that brings fitted rows nearest to the target, where above zero: it changes no ranking."""
    along = float(np.einsum("i,ij,ij->", weights, fitted, target))
    size = float(np.einsum("i,ij,ij->", weights, fitted, fitted))
    return along / size if along > 0 else 1.0


def _turned(turn: Array, moments: Moments, size: float) -> Array:
    """Return the matrix of a similarity map, as long as its part of a mapped row."""
    own = float(((moments.xx @ turn) * turn).sum())
    return turn * (_TURNED * float(np.sqrt(size / own)) if own > 0 else 0.0)


def _width(moments: Moments) -> float:
    """Return the root mean squared distance of source rows from their mean; one where they do not differ."""
    return float(np.sqrt(moments.xx_diagonal.sum() / moments.weight)) or 1.0
