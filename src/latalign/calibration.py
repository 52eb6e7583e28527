"""From held-out errors to an uncertainty of every mapped row.

References
----------
G. Shafer, V. Vovk, A tutorial on conformal prediction, JMLR 9 (2008) 371-421.
J. Lei, M. G'Sell, A. Rinaldo, R. J. Tibshirani, L. Wasserman, Distribution-free predictive inference for
regression, JASA 113 (2018) 1094-1111: locally weighted scores.
R. F. Barber, E. J. Candès, A. Ramdas, R. J. Tibshirani, Predictive inference with the jackknife+, Annals of
Statistics 49 (2021) 486-507: errors of rows left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._linalg import EPS, eigh
from latalign._validation import Array, Pairs, as_generator
from latalign.evidence import IllConditionedWarning
from latalign.fitting import solve_folds
from latalign.leave_one_out import LeaveOneOut
from latalign.maps import AffineMap
from latalign.methods import METHODS
from latalign.moments import Moments, all_but_one, moments_of_pairs, summed
from latalign.paths import alpha_grid, best_alpha
from latalign.relation import warn_if_unrelated
from latalign.robust import downweighted
from latalign.select import Folds, distinct
from latalign.uncertainty import Uncertainty

_FEWEST = 10
_FOLDS = 20
_SCORES = 1000
_SHARES = np.concatenate(([0.0], 1 / (1 + np.geomspace(1e3, 1e-3, 61)), [1.0]))
_SMALLEST = 1e-12  # variance, relative to that of the median leverage
_BLOCK_ROWS = 2048
# Of so many rows at most, and where it takes a second or so, the choices of a method are made anew without each.
_FEW_ROWS, _BUDGET = 100, 1e9
_TOLD_FROM = 1.25  # pairs a dimension
_ROWS = 20_000  # what more rows would add to the errors' distribution is little

Errors = tuple[Array, Array]
"""The errors of rows that a fit has not seen, (n, dim_target), and the leverage of each, (n,)."""


def calibrate(
    map_: AffineMap,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    heldout: bool = False,
    sample_weight: ArrayLike | None = None,
    robust: bool = False,
    random_state: int | np.random.Generator | None = 0,
) -> AffineMap:
    """Return the map with an `Uncertainty`: how far off each row that it maps may be.

    The pairs are those that the map was fitted to. Their errors are those of maps fitted without them, by
    the same method and parameters: in closed form row by row for "affine", "linear" and "ridge", by twenty
    folds for the other methods. Of up to a hundred pairs, in spaces that are not too wide, what was chosen
    (the method by "auto", the penalty of "ridge" and "shrunk") is chosen anew for each of those maps. What
    fits by itself is never counted. For any other map, give pairs that it was not fitted to
    (``heldout=True``).

    Parameters
    ----------
    map_ : AffineMap
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
    heldout : bool
        Whether the map was *not* fitted to these pairs.
    sample_weight : array-like of shape (n,), optional
        What each pair counts.
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, as in `latalign.fit`.
    random_state : int, Generator or None
        Draws the folds.

    Returns
    -------
    AffineMap
        The same map, with its ``uncertainty``.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If shapes do not fit each other or the map, values are not finite, there are fewer than ten
        different pairs, or the map was not found by one of the methods and `heldout` is not said.

    Warns
    -----
    IllConditionedWarning
        If "linear" or "affine" has fewer than 1¼ pairs a source dimension: such a map changes with every pair, so
        that maps without some of them say little of it.
    UnrelatedPairsWarning
        As in `latalign.fit`.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(1000, 5))
    >>> Y = X @ rng.normal(size=(5, 4)) + 0.1 * rng.normal(size=(1000, 4))
    >>> found = latalign.calibrate(latalign.fit(X[:200], Y[:200]), X[:200], Y[:200])
    >>> radius = found.uncertainty.radius(X[200:], 0.9)
    >>> inside = np.linalg.norm(found(X[200:]) - Y[200:], axis=1) <= radius
    >>> bool(0.87 < inside.mean() < 0.93)
    True
    """
    pairs = Pairs.of(X, Y, sample_weight, caller="calibrate")
    dims = pairs.source.shape[1], pairs.target.shape[1]
    if dims != (map_.dim_source, map_.dim_target):
        raise ValueError(
            f"calibrate needs pairs of {map_.dim_source} and {map_.dim_target} dimensions, as the map has; "
            f"got {dims[0]} and {dims[1]}"
        )
    if map_.method in METHODS and METHODS[map_.method].ranks:
        raise ValueError(
            f"calibrate needs a map that says where a row lies; {map_.method!r} gives directions to search along. "
            "Take another method, or latalign.calibrate_scores for its cosines."
        )
    pairs.require_finite()
    warn_if_unrelated(pairs)
    rng = as_generator(random_state, "calibrate")
    if robust:
        pairs, _ = downweighted(pairs, plain=map_.method in METHODS and METHODS[map_.method].plain)
    pairs, _ = distinct(pairs)
    if len(pairs) < _FEWEST:
        raise ValueError(f"calibrate needs at least {_FEWEST} different pairs; got {len(pairs)}")
    moments = moments_of_pairs(pairs, grams="source")
    some = np.sort(rng.permutation(len(pairs))[:_ROWS])
    if heldout:
        alpha = best_alpha(moments)[0]
        errors = _given(map_, pairs, some, alpha)
    elif map_.method in METHODS and map_.evidence is not None:
        _warn_near_threshold(map_, len(pairs))
        alpha, errors = _left_out(map_, pairs, some, rng)
    else:
        raise ValueError(
            "calibrate needs to fit the map again without some pairs, and does not know how one was found that "
            f"is {map_.method!r}. Give pairs that it was not fitted to, with heldout=True."
        )
    if map_.method == "linear":
        moments = moments.uncentered()
    weight = pairs.weights[some]
    # Errors of rows left out have those of the coefficients in common: where few rows are left to tell them
    # apart by, their spread is itself uncertain, as it is to Student, and with hardly any left they are all about
    # one number. A map that no row was in has none.
    freedom = np.inf if heldout else _freedom(moments.count, map_.dim_source, errors[1], weight)
    return replace(map_, uncertainty=_uncertainty(moments, alpha, *errors, weight, freedom))


def _warn_near_threshold(map_: AffineMap, count: int) -> None:
    """Warn where maps of fewer pairs say little of plain least squares."""
    if METHODS[map_.method].plain and count < _TOLD_FROM * map_.dim_source:
        warnings.warn(
            f"calibrate: {map_.method!r} has {count} pairs for {map_.dim_source} source dimensions. With fewer than "
            f"{_TOLD_FROM} a dimension, plain least squares changes with every pair, and regions may hold far fewer "
            'rows than they say. Use method="ridge", or give pairs that the map was not fitted to (heldout=True).',
            IllConditionedWarning,
            stacklevel=3,
        )


def _left_out(
    map_: AffineMap, pairs: Pairs, some: NDArray[np.intp], rng: np.random.Generator
) -> tuple[float, Errors]:
    """Return the penalty of the leverage, and the errors of some rows in fits by the same method without them."""
    evidence = map_.evidence
    assert evidence is not None
    if len(pairs) <= _FEW_ROWS:
        folds = Folds.of(pairs, _FOLDS, rng)
        total = summed(folds.moments)
        if choosing := _chosen_anew(map_, folds, total):

            def anew(fold: int) -> AffineMap:
                others = [moments for number, moments in enumerate(folds.moments) if number != fold]
                return solve_folds(choosing, others, {})

            alpha = evidence.alpha if map_.method == "ridge" and evidence.alpha else best_alpha(total)[0]
            return alpha, _by_folds(map_.method, anew, folds, alpha, some)
    determined = map_.method == "ridge" or len(pairs) > map_.dim_source + 1
    if determined and map_.method in ("affine", "linear", "ridge"):
        alpha = float(evidence.alpha or 0.0)
        return alpha, _residuals(
            LeaveOneOut.of(pairs, alpha, centred=map_.method != "linear"), pairs.take(some)
        )
    given: dict[str, Any] = {
        "low_rank": {"rank": evidence.target_rank, "alpha": evidence.alpha},
        "shrunk": {"alpha": evidence.alpha, "scale": evidence.scale},
    }.get(map_.method, {})
    if "reflection" in METHODS[map_.method].parameters and map_.dim_source == map_.dim_target:
        given = {"reflection": bool(np.linalg.det(map_.matrix) < 0)}
    folds = Folds.of(pairs, _FOLDS, rng)
    trains = all_but_one(folds.moments)
    alpha = best_alpha(summed(folds.moments))[0]

    def again(fold: int) -> AffineMap:
        return METHODS[map_.method].solve(trains[fold], **given)

    return alpha, _by_folds(map_.method, again, folds, alpha, some)


def _chosen_anew(map_: AffineMap, folds: Folds, total: Moments) -> str | None:
    """Return by which method maps of the other folds make the choices of this one anew, where that tells.

    What a choice among many owes to the row that is left out is much with few rows, and little with many. A
    penalty that is none of those that are tried was given.
    """
    evidence, dims = map_.evidence, max(total.dim_source, total.dim_target)
    assert evidence is not None
    if len(folds.moments) ** 2 * dims**3 > _BUDGET or len(folds.moments) < 3:
        return None
    if evidence.candidates:
        return "auto" if evidence.scoring == "mse" else None
    tried = {"ridge": alpha_grid(total), "shrunk": np.concatenate(([0, np.inf], alpha_grid(total)))}
    if map_.method not in tried or evidence.alpha is None:
        return None
    return map_.method if np.isclose(tried[map_.method], evidence.alpha, rtol=1e-9, atol=0).any() else None


def _by_folds(
    name: str, fitted: Callable[[int], AffineMap], folds: Folds, alpha: float, some: NDArray[np.intp]
) -> Errors:
    """Return the errors and leverages of some rows by maps of the other folds."""
    pairs, number = folds.pairs.take(some), folds.number[some]
    residual, leverage = np.empty(pairs.target.shape), np.empty(len(pairs))
    total = sum(fold.weight for fold in folds.moments)
    for fold, train in enumerate(all_but_one(folds.moments)):
        rows = np.flatnonzero(number == fold)
        if not len(rows):
            continue
        part = pairs.take(rows)
        residual[rows] = part.target - fitted(fold)(part.source.astype(np.float64))
        mean = np.zeros_like(train.source_mean) if name == "linear" else train.source_mean
        # Leverage falls with the number of rows; what is wanted is that in the fit to all of them.
        less = train.weight / total
        root = _root(train.uncentered() if name == "linear" else train, alpha * less)
        leverage[rows] = less * (((part.source - mean) @ root) ** 2).sum(axis=1)
    return residual, leverage


def _given(map_: AffineMap, pairs: Pairs, some: NDArray[np.intp], alpha: float) -> Errors:
    """Return the errors of a map on pairs that it was not fitted to, and their leverage among them."""
    fit, pairs = LeaveOneOut.of(pairs, alpha, centred=map_.method != "linear"), pairs.take(some)
    return pairs.target - map_(pairs.source.astype(np.float64)), _residuals(fit, pairs)[1]


def _residuals(fit: LeaveOneOut, pairs: Pairs) -> Errors:
    """Return the errors of rows left out, and their leverage in the fit to the others."""
    parts = [fit.without(part)[1:] for part in pairs.blocks(_BLOCK_ROWS)]
    leverage = np.concatenate([part[1] for part in parts])
    if fit.centred:  # what the mean of the others adds is no matter of where a row lies
        weight = 1.0 if pairs.weight is None else pairs.weight
        leverage -= 1 / np.maximum(fit.moments.weight - weight, EPS * fit.moments.weight)
    return np.concatenate([part[0] for part in parts]), np.maximum(leverage, 0)


def _root(moments: Moments, alpha: float) -> Array:
    """Return a root of the inverse of the penalized Gram matrix; without a penalty, of what the rows span."""
    values, vectors = eigh(moments.xx)
    spanned = values > len(values) * EPS * values[0]
    kept = spanned if alpha == 0 else np.ones(len(values), dtype=bool)
    return (vectors[:, kept] / np.sqrt(values[kept] + alpha)) @ vectors[:, kept].T


def _freedom(count: int, dim: int, leverage: Array, weight: Array) -> float:
    """Return how many of the rows are left to tell the spread of the errors by, the coefficients told.

    With no more rows than dimensions what a row has in no other's direction is its own error: half of the rows are
    taken to tell.
    """
    left = count - 1 - count * float(np.average(leverage / (1 + leverage), weights=weight))
    return max(left, 1.0 if count > dim else count / 2)


def _uncertainty(
    moments: Moments, alpha: float, residual: Array, leverage: Array, weight: Array, freedom: float
) -> Uncertainty:
    """Return how errors grow with the leverage, what is left of them then, and how it is distributed."""
    squares = (residual**2).sum(axis=1)
    middle = float(np.median(leverage))
    relative = leverage / middle if middle > 0 else np.ones(len(leverage))
    share = _share(squares, relative, weight)
    scale = np.maximum(1 - share + share * relative, _SMALLEST)
    covariance = (residual * (weight / scale)[:, None]).T @ residual / weight.sum()
    share = share if middle > 0 else 0.0
    factor = _root(moments, alpha) / np.sqrt(middle if middle > 0 else 1.0)
    scores = _ranked(np.sqrt(squares / scale * (1 + 0.25 / freedom + 1.2 / freedom**2)), weight)
    return Uncertainty(moments.source_mean, factor, np.array([share]), covariance, scores)


def _share(squares: Array, leverage: Array, weight: Array) -> float:
    """Return the share of the likeliest normal errors of variance 1 − share + share · leverage, times one number."""
    scales = 1 - _SHARES[:, None] + _SHARES[:, None] * leverage
    scales = np.maximum(scales, _SMALLEST)
    logs = np.average(np.log(scales), axis=1, weights=weight)
    means = np.average(squares / scales, axis=1, weights=weight)
    return float(_SHARES[np.argmin(logs + np.log(np.maximum(means, np.finfo(np.float64).tiny)))])


def _ranked(scores: Array, weight: Array) -> Array:
    """Return the scores in order: all of them, or a thousand at equally spaced ranks."""
    order = np.argsort(scores)
    count = min(len(scores), _SCORES)
    rank = np.cumsum(weight[order]) / weight.sum() * len(scores)
    wanted = np.arange(1, count + 1) * (len(scores) + 1) / (count + 1)
    return scores[order][np.minimum(np.searchsorted(rank, wanted - 1e-6), len(scores) - 1)]
