"""`fit`: paired rows in, a map with its evidence out."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Pairs
from latalign.evidence import Candidate, IllConditionedWarning
from latalign.least_squares import TOLERANCE
from latalign.maps import AffineMap
from latalign.methods import Method, method_named
from latalign.moments import Moments, Precision, moments_of_pairs
from latalign.select import (
    SCORINGS,
    Folds,
    Scoring,
    baseline_error,
    choose,
    cross_validate,
    cross_validate_rows,
    rounding_floor,
)


def fit(
    X: ArrayLike,
    Y: ArrayLike,
    method: str = "auto",
    *,
    sample_weight: ArrayLike | None = None,
    alpha: float | Literal["auto"] | None = None,
    rank: int | Literal["auto"] | None = None,
    reflection: bool | None = None,
    scoring: Scoring = "mse",
    n_folds: int = 5,
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
        "rigid" and "linear" are the paper's; "orthogonal", "similarity", "affine", "ridge" and
        "low_rank" its neighbours. "auto" takes the one with the smallest cross-validated error, and of
        two within 1 % the simpler.
    sample_weight : array-like of shape (n,), optional
        What each pair counts, zero or more.
    alpha : float or "auto", optional
        The penalty of "ridge" ("auto", exact leave-one-out, unless given) and of "low_rank" (0 unless
        given).
    rank : int or "auto", optional
        The rank of "low_rank"; cross-validated unless given.
    reflection : bool, optional
        Whether the rigid family may reflect; it may unless told otherwise.
    scoring : {"mse", "cosine", "recall@1"}
        What "auto" selects by. With few anchors they disagree: choose by what the map is for.
    n_folds : int
        Folds of the cross-validation.
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
        If the arrays do not hold real numbers.
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
    rng = np.random.default_rng(random_state)
    given = {
        name: value
        for name, value in (("alpha", alpha), ("rank", rank), ("reflection", reflection))
        if value is not None
    }
    if method == "auto":
        if given:
            raise ValueError(
                f'fit: method="auto" chooses by itself; {", ".join(given)} belongs to one method. Name the method.'
            )
        fitted = _fit_auto(pairs, scoring, n_folds, precision, rng)
    else:
        fitted = fit_method(pairs, method_named(method), given, n_folds=n_folds, precision=precision, rng=rng)
    warn_if_undetermined(fitted)
    return fitted


def fit_method(
    pairs: Pairs,
    method: Method,
    given: dict[str, Any],
    *,
    n_folds: int = 5,
    precision: Precision = "double",
    rng: np.random.Generator,
) -> AffineMap:
    """Fit one method to checked pairs; no warning is given."""
    check_parameters(method, given)
    if method.name == "low_rank" and given.get("rank", "auto") == "auto":
        folds = Folds.of(pairs, n_folds, rng, precision=precision)
        candidate = cross_validate(folds.moments, [method])[0]
        given = {"alpha": "auto", **given, "rank": candidate.target_rank}
        moments = _total(folds.moments)
    else:
        moments = moments_of_pairs(pairs, precision=precision, grams=method.grams)
    return solve_method(method, moments, given, pairs)


def solve_method(
    method: Method, moments: Moments, given: dict[str, Any], pairs: Pairs | None = None
) -> AffineMap:
    """Solve from moments, with the rows where the method can use them; no warning is given."""
    check_solvable(moments)
    rows = {"rows": pairs} if method.uses_rows and pairs is not None else {}
    return method.solve(moments, **given, **rows)


def check_parameters(method: Method, given: dict[str, Any]) -> None:
    """Raise a ValueError for a parameter that the method does not have."""
    for name in given:
        if name not in method.parameters:
            takes = ", ".join(method.parameters) or "no parameter"
            raise ValueError(f"method {method.name!r} takes {takes}; it got {name}")


def check_solvable(moments: Moments) -> None:
    """Raise a ValueError where the pairs determine no map at all."""
    if moments.count < 2:
        raise ValueError(
            f"fit needs at least 2 pairs of rows; got {moments.count}. One row says nothing of directions."
        )
    for side, moment in (("source X", moments), ("target Y", moments.swapped())):
        if not moment.source_varies.any():
            raise ValueError(
                f"fit needs rows that differ; all {moments.count} rows of the {side} are the same"
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
    elif not rigid and evidence.error_bound > TOLERANCE:
        message = (
            f"{fitted.method}: the source rows have condition {evidence.condition:.1e}, so rounding alone may "
            f"change the coefficients by {evidence.error_bound:.0e} of their size. Predictions suffer less; "
            'use method="ridge" (alpha="auto") for coefficients that can be trusted, or float64 rows.'
        )
    else:
        return
    warnings.warn(message, IllConditionedWarning, stacklevel=3)


def _fit_auto(
    pairs: Pairs, scoring: Scoring, n_folds: int, precision: Precision, rng: np.random.Generator
) -> AffineMap:
    if scoring not in SCORINGS:
        raise ValueError(f"fit: scoring is one of {', '.join(SCORINGS)}; got {scoring!r}")
    if len(pairs) < 2:
        pairs.require_finite()
        check_solvable(moments_of_pairs(pairs))
    folds = Folds.of(pairs, n_folds, rng, precision=precision)
    total = _total(folds.moments)
    check_solvable(total)
    if scoring == "mse":
        candidates = cross_validate(folds.moments)
        chosen = choose(candidates, rounding_floor(total))
        given = _parameters(chosen, alpha="auto")
    else:
        candidates = cross_validate_rows(folds, scoring)
        chosen = choose(candidates)
        given = _parameters(chosen, alpha=chosen.alpha)
    fitted = solve_method(method_named(chosen.method), total, given, pairs)
    assert fitted.evidence is not None
    evidence = replace(
        fitted.evidence,
        scoring=scoring,
        baseline=baseline_error(folds.moments) if scoring == "mse" else None,
        candidates=candidates,
    )
    return replace(fitted, evidence=evidence)


def _parameters(chosen: Candidate, *, alpha: float | str | None) -> dict[str, Any]:
    """Return the parameters to solve the chosen method with.

    The penalty of ridge is found anew on all pairs, by leave-one-out, where squares are what counts.
    """
    if chosen.method == "low_rank":
        return {"rank": chosen.target_rank, "alpha": "auto"}
    return {"alpha": alpha} if chosen.method == "ridge" else {}


def _total(folds: tuple[Moments, ...]) -> Moments:
    return sum(folds[1:], folds[0])
