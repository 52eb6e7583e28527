"""`fit`: paired rows in, a map with its evidence out."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Pairs, as_generator
from latalign.evidence import Candidate, IllConditionedWarning
from latalign.maps import AffineMap
from latalign.methods import METHODS, method_named
from latalign.moments import Moments, Precision, moments_of_pairs
from latalign.select import (
    ROUNDING_OF_SCORES,
    SCORINGS,
    Folds,
    Scoring,
    Validated,
    baseline_error,
    choose,
    cross_validate,
    default_folds,
    near_threshold,
    rounding_floor,
    validated,
    validated_by_rows,
)

# The relative error of the coefficients that is worth a warning.
_WARNED = 1e-3


def fit(
    X: ArrayLike,
    Y: ArrayLike,
    method: str = "auto",
    *,
    sample_weight: ArrayLike | None = None,
    alpha: float | Literal["auto"] | None = None,
    rank: int | Literal["auto"] | None = None,
    reflection: bool | None = None,
    power: float | Literal["auto"] | None = None,
    scoring: Scoring = "mse",
    n_folds: int | None = None,
    precision: Precision = "double",
    random_state: int | np.random.Generator | None = 0,
) -> AffineMap:
    """Find the map from the space of X to the space of Y from rows that correspond (the anchors).

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        Row i of both is the same thing, seen by two models. float16, float32, float64 or integers.
    method : str
        "rigid" and "linear" are the paper's; "orthogonal", "similarity", "affine", "ridge", "shrunk" and
        "low_rank" its neighbours. "retrieval" is for queries that are searched for in the space of Y, and
        no least squares. "auto" takes the one with the smallest cross-validated error, and of two that do
        equally well the earlier in `latalign.METHODS`.
    sample_weight : array-like of shape (n,), optional
        What each pair counts, zero or more.
    alpha : float or "auto", optional
        The penalty of "ridge" ("auto", exact leave-one-out, unless given), of "shrunk" (cross-validated,
        with its scale, unless given), of "low_rank" ("auto" where the rank is chosen, else 0) and of
        "retrieval" (by held-out retrieval unless given).
    rank : int or "auto", optional
        The rank of "low_rank"; cross-validated unless given.
    reflection : bool, optional
        Whether the rigid family may reflect; it may unless told otherwise.
    power : float or "auto", optional
        That of the correlations in "retrieval"; by held-out retrieval unless given.
    scoring : {"mse", "cosine", "recall@1", "recall@10", "mrr"}
        What "auto" selects by. With few anchors they disagree: choose by what the map is for. "retrieval"
        takes part where the score is one of rows; named, it chooses by "mrr" unless by another.
    n_folds : int, optional
        Folds of the cross-validation: 5 unless given, and 20 of up to 200 pairs (see `default_folds`).
    precision : {"double", "fast"}
        The dtype in which blocks of rows are multiplied; see `Moments.of`.
    random_state : int, Generator or None
        Draws the folds.

    Returns
    -------
    AffineMap
        With ``evidence``: rank, condition, number of anchors, and for "auto" every candidate's error.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers, or `random_state` is neither a number nor a Generator.
    ValueError
        If shapes do not fit, values are not finite, there are fewer than two pairs, a side is constant,
        or a parameter does not belong to the method.

    Warns
    -----
    IllConditionedWarning
        If the anchors leave directions undetermined and nothing regularises; with the remedy.

    References
    ----------
    Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(100, 8))
    >>> turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    >>> found = latalign.fit(X, X @ turn + 1)
    >>> found.method
    'rigid'
    >>> np.allclose(found(X), X @ turn + 1)
    True
    """
    pairs = Pairs.of(X, Y, sample_weight, caller="fit")
    given = given_parameters(alpha=alpha, rank=rank, reflection=reflection, power=power)
    check_call(method, given, scoring)
    by_rows = score_of_rows(method, given, scoring)
    rng = as_generator(random_state, "fit")
    folds = _folds_of(pairs, method, given, by_rows or "mse", n_folds, precision, rng)
    if by_rows is not None and isinstance(folds, Folds):
        fitted = choose_by_rows(folds, by_rows, method, given, folds.pairs)
    elif isinstance(folds, Folds):
        fitted = solve_folds(method, folds.moments, given, pairs)
    else:
        fitted = solve_folds(method, (folds,), given, pairs)
    warn_if_undetermined(fitted)
    return fitted


def fit_moments(
    *folds: Moments,
    method: str = "auto",
    alpha: float | Literal["auto"] | None = None,
    rank: int | Literal["auto"] | None = None,
    reflection: bool | None = None,
    power: float | Literal["auto"] | None = None,
) -> AffineMap:
    """Find the map from moments alone: of a stream, of another machine, of a sum of either.

    Parameters
    ----------
    *folds : Moments
        Moments of disjoint sets of pairs, drawn alike. Several make exact K-fold cross-validation of
        every choice possible ("auto", the rank of "low_rank", the penalties of "ridge" and "shrunk"); of
        a single one "ridge" takes the generalized score. What "retrieval" chooses needs rows: of moments it
        takes an alpha of 0.3 and a power of ½ unless they are given, and has no offset.
    method, alpha, rank, reflection, power
        As in `fit`.

    Returns
    -------
    AffineMap

    Raises
    ------
    TypeError
        If something else than Moments is given.
    ValueError
        If no moments are given, or one only where a choice needs several, their dimensions differ, or
        they determine no map.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> folds = []
    >>> for _ in range(5):
    ...     X = rng.normal(size=(40, 4))
    ...     folds.append(latalign.Moments.of(X, 3 * X))
    >>> found = latalign.fit_moments(*folds)
    >>> found.method, np.allclose(found.matrix, 3 * np.eye(4))
    ('similarity', True)
    """
    require_moments(folds, "fit_moments")
    given = given_parameters(alpha=alpha, rank=rank, reflection=reflection, power=power)
    check_call(method, given, "mse")
    fitted = solve_folds(method, folds, given)
    warn_if_undetermined(fitted)
    return fitted


def require_moments(folds: Sequence[object], caller: str) -> None:
    """Raise an error where there are no moments, or there is something else among them."""
    if not folds:
        raise ValueError(f"{caller} needs Moments; it got none")
    for fold in folds:
        if not isinstance(fold, Moments):
            raise TypeError(
                f"{caller} needs Moments, one argument a fold; got {type(fold).__name__}. "
                "A list of them is unpacked with a star: *folds."
            )


def needs_folds(method: str, given: Mapping[str, Any]) -> bool:
    """Tell whether a choice among candidates must be made from several folds, rows in reach or not."""
    open_ = {"low_rank": "rank", "shrunk": "alpha"}.get(method)
    return method == "auto" or (open_ is not None and given.get(open_, "auto") == "auto")


def solve_folds(
    method: str, folds: Sequence[Moments], given: Mapping[str, Any], pairs: Pairs | None = None
) -> AffineMap:
    """Make the choices that are left open from the folds, and solve from their sum; no warning is given.

    Parameters
    ----------
    method : str
    folds : sequence of Moments
    given : mapping
        The hyperparameters that the user gave.
    pairs : Pairs, optional
        The rows of all folds, where they are in reach.
    """
    total = sum(folds[1:], folds[0])
    check_solvable(total)
    folds = tuple(fold for fold in folds if fold.count)  # a fold of no pairs has no error
    if needs_folds(method, given) and len(folds) < 2:
        raise ValueError(
            f"method {method!r} chooses by cross-validation and needs Moments of at least 2 folds; "
            "got 1. Give several (fit_moments(*folds)), or name the method and its parameters."
        )
    if method == "auto":
        found = validated(folds)
        chosen = choose(found, rounding_floor(total), about_as_many_as_dims=near_threshold(total))
        fitted = _solve(chosen.method, total, _parameters(chosen, rows=pairs is not None), pairs)
        return _with_candidates(fitted, found, "mse", baseline_error(folds))
    if needs_folds(method, given):
        chosen = cross_validate(folds, [method_named(method)])[0]
        settled = {name: value for name, value in given.items() if value != "auto"}
        given = {**_parameters(chosen, rows=False), **settled}
    elif method == "ridge" and given.get("alpha", "auto") == "auto" and pairs is None and len(folds) > 1:
        given = {"alpha": cross_validate(folds, [method_named(method)])[0].alpha}
    return _solve(method, total, given, pairs)


def check_call(method: str, given: Mapping[str, Any], scoring: str, caller: str = "fit") -> None:
    """Raise a ValueError for an unknown method or scoring, or a parameter that the method does not have."""
    if scoring not in SCORINGS:
        raise ValueError(f"{caller}: scoring is one of {', '.join(SCORINGS)}; got {scoring!r}")
    if method == "auto":
        if given:
            raise ValueError(
                f'{caller}: method="auto" chooses by itself; {", ".join(given)} belongs to one method. Name the method.'
            )
        return
    parameters = method_named(method).parameters
    for name in given:
        if name not in parameters:
            takes = ", ".join(parameters) or "no parameter"
            raise ValueError(f"{caller}: method {method!r} takes {takes}; it got {name}")


def require_least_squares(method: str, caller: str) -> None:
    """Raise a ValueError for a method whose rows are not meant to be near those of the target."""
    if method != "auto" and method_named(method).ranks:
        raise ValueError(
            f"{caller} compares mapped rows with target rows, which {method!r} does not bring together; "
            "name a method of least squares"
        )


def check_solvable(moments: Moments) -> None:
    """Raise a ValueError where the pairs determine no map at all."""
    if moments.count < 2:
        raise ValueError(
            f"fit needs at least 2 pairs of rows; got {moments.count}. One row says nothing of directions."
        )
    for side, moment in (("source X", moments), ("target Y", moments.swapped())):
        if not moment.source_varies.any():
            raise ValueError(
                f"fit needs rows that differ; all {moments.count} rows of the {side} are the same, to rounding"
            )


def warn_if_undetermined(fitted: AffineMap) -> None:
    """Warn where the anchors leave directions of an unregularised map undetermined, or nearly so."""
    evidence = fitted.evidence
    if evidence is None or (evidence.alpha or 0.0) > 0:
        return
    rigid = fitted.method in ("rigid", "orthogonal", "similarity")
    dims = min(fitted.matrix.shape) if rigid else fitted.dim_source
    missing = dims - evidence.rank
    if missing > 0:
        what = (
            "the rotation of the others is arbitrary"
            if rigid
            else "the map of minimum norm takes the others to zero"
        )
        message = (
            f"{fitted.method}: {evidence.anchors} anchors determine {evidence.rank} of {dims} directions; "
            f'{what}. Use method="ridge" (alpha="auto"), or more and more varied anchors.'
        )
    elif not rigid and evidence.error_bound > _WARNED:
        message = (
            f"{fitted.method}: the source rows have condition {evidence.condition:.1e}, so rounding alone may "
            f"change the coefficients by {evidence.error_bound:.0e} of their size. Predictions suffer less; "
            'use method="ridge" (alpha="auto") for coefficients that can be trusted, or float64 rows.'
        )
    else:
        return
    warnings.warn(message, IllConditionedWarning, stacklevel=3)


def given_parameters(**parameters: Any) -> dict[str, Any]:
    """Return the hyperparameters that were given."""
    return {name: value for name, value in parameters.items() if value is not None}


def _folds_of(
    pairs: Pairs,
    method: str,
    given: Mapping[str, Any],
    scoring: str,
    n_folds: int | None,
    precision: Precision,
    rng: np.random.Generator,
) -> Folds | Moments:
    """Take the moments of the rows in one pass: in folds where a choice needs them."""
    if (scoring != "mse" or needs_folds(method, given)) and len(pairs) > 1:
        if n_folds is None:
            n_folds = default_folds(pairs, scoring)
        return Folds.of(
            pairs, n_folds, rng, precision=precision, grams="source" if scoring == "mse" else "both"
        )
    grams = "source" if method == "auto" else method_named(method).grams
    return moments_of_pairs(pairs, precision=precision, grams=grams)


def score_of_rows(method: str, given: Mapping[str, Any], scoring: Scoring) -> Scoring | None:
    """Return the score of held-out rows by which something is chosen; None where there is no such choice."""
    if method == "auto":
        return None if scoring == "mse" else scoring
    open_ = any(given.get(name, "auto") == "auto" for name in METHODS[method].parameters)
    if not (METHODS[method].ranks and open_):
        return None
    return "mrr" if scoring == "mse" else scoring


def choose_by_rows(
    folds: Folds, scoring: Scoring, method: str, given: Mapping[str, Any], pairs: Pairs | None = None
) -> AffineMap:
    """Choose by a score of held-out rows, and solve from the moments of all; no warning is given.

    Parameters
    ----------
    folds : Folds
        With both Gram matrices.
    scoring : str
        As `score_of_rows` returns it.
    method : str
    given : mapping
        The hyperparameters that the user gave.
    pairs : Pairs, optional
        The rows of all folds, where they are in reach: `folds` may hold some of them only.
    """
    total = sum(folds.moments[1:], folds.moments[0])
    check_solvable(total)
    settled = {name: value for name, value in given.items() if value != "auto"}
    methods = tuple(METHODS.values()) if method == "auto" else (method_named(method),)
    found = validated_by_rows(folds, scoring, methods, settled)
    chosen = choose(found, ROUNDING_OF_SCORES, about_as_many_as_dims=near_threshold(total))
    rows = folds.pairs if method_named(chosen.method).ranks else pairs  # to rank, some of them suffice
    fitted = _solve(chosen.method, total, _parameters(chosen, rows=False), rows)
    return _with_candidates(fitted, found, scoring, None)


def _solve(method: str, moments: Moments, given: Mapping[str, Any], pairs: Pairs | None) -> AffineMap:
    row = method_named(method)
    rows = {"rows": pairs} if row.uses_rows and pairs is not None else {}
    return row.solve(moments, **given, **rows)


def _parameters(chosen: Candidate, *, rows: bool) -> dict[str, Any]:
    """Return the parameters to solve the chosen method with.

    Where the rows are in reach and squares are what counts, the penalty of ridge is found anew on all
    pairs, by leave-one-out.
    """
    if chosen.method == "low_rank":
        return {"rank": chosen.target_rank, "alpha": "auto"}
    if chosen.method == "ridge":
        return {"alpha": "auto" if rows else chosen.alpha}
    if chosen.method == "shrunk":
        return {"alpha": chosen.alpha, "scale": chosen.scale}
    if chosen.method == "retrieval":
        return {"alpha": chosen.alpha, "power": chosen.power}
    return {}


def _with_candidates(
    fitted: AffineMap, found: Sequence[Validated], scoring: Scoring, baseline: float | None
) -> AffineMap:
    assert fitted.evidence is not None  # every solver gives some
    candidates = tuple(one.candidate for one in found)
    evidence = replace(fitted.evidence, scoring=scoring, baseline=baseline, candidates=candidates)
    return replace(fitted, evidence=evidence)
