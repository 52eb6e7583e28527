"""`fit`: paired rows in, a map with its evidence out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Pairs, as_generator
from latalign.maps import AffineMap
from latalign.methods import METHODS, method_named
from latalign.moments import Moments, Precision, moments_of_pairs, summed
from latalign.relation import warn_if_unclear, warn_if_unrelated
from latalign.robust import downweighted
from latalign.select import (
    ROUNDING_OF_SCORES,
    SCORINGS,
    Folds,
    Scoring,
    Validated,
    baseline_error,
    choose,
    default_folds,
    near_threshold,
    rounding_floor,
    validated,
    validated_by_rows,
)
from latalign.solvable import check_solvable, require_moments, warn_if_undetermined


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
    scoring: Scoring | None = None,
    n_folds: int | None = None,
    precision: Precision = "double",
    robust: bool = False,
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
    scoring : {"mse", "cosine", "recall@1", "recall@10", "mrr"}, optional
        What "auto" selects by, "mse" unless given. With few anchors they disagree: choose by what the map is
        for. "retrieval" takes part where the score is one of rows; named, it chooses by "mrr" unless another
        of those is given.
    n_folds : int, optional
        Folds of the cross-validation: 5 unless given, and 20 of up to 200 pairs where squares are what
        counts (fewer in very wide spaces, whose moments would fill the memory).
    precision : {"double", "fast"}
        The dtype in which blocks of rows are multiplied; see `Moments.of`.
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing: by their errors in ridge
        regressions that they are left out of (see `latalign.audit` to see which they are). What was done
        stands in ``evidence.robust``. It takes some ten times as long.
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
    UnrelatedPairsWarning
        If the pairs cannot be told from shuffled ones (p > 0.05), by a permutation test on up to 4096 of
        them; of fewer than ten different pairs nothing is said. And if a robust fit has too few pairs to tell
        which of them correspond.

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
    plain = method != "auto" and method_named(method).plain
    weighed, record = downweighted(pairs, plain=plain) if robust else (pairs, None)
    rng = as_generator(random_state, "fit")
    fitted = fit_pairs(weighed, method, given, scoring=scoring, n_folds=n_folds, precision=precision, rng=rng)
    warn_if_undetermined(fitted)
    warn_if_unrelated(pairs)
    if record is None:
        return fitted
    warn_if_unclear(record, "fit")
    return with_robust(fitted, record)


def fit_pairs(
    pairs: Pairs,
    method: str,
    given: Mapping[str, Any],
    *,
    scoring: Scoring | None,
    n_folds: int | None,
    precision: Precision,
    rng: np.random.Generator,
) -> AffineMap:
    """Do what `fit` does with pairs and hyperparameters that are checked; no warning is given."""
    by_rows = score_of_rows(method, given, scoring)
    if len(pairs) < 2 or not (by_rows is not None or needs_folds(method, given)):
        grams = "source" if method == "auto" else method_named(method).grams
        return solve_folds(method, (moments_of_pairs(pairs, precision=precision, grams=grams),), given, pairs)
    count = default_folds(pairs, by_rows or "mse") if n_folds is None else n_folds
    if by_rows is None:
        return solve_folds(method, Folds.of(pairs, count, rng, precision=precision).moments, given, pairs)
    folds = Folds.of(pairs, count, rng, precision=precision, grams="both")
    return choose_by_rows(folds, by_rows, method, given, pairs)


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
    check_call(method, given)
    fitted = solve_folds(method, folds, given)
    warn_if_undetermined(fitted)
    return fitted


def needs_folds(method: str, given: Mapping[str, Any]) -> bool:
    """Tell whether a choice among candidates must be made from several folds, rows in reach or not."""
    if method == "auto":
        return True
    row = method_named(method)
    return row.by_folds is not None and row.is_open(row.by_folds, given)


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
    total = summed(folds)
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
        row = METHODS[chosen.method]
        # What is found by leave-one-out is found anew on all pairs, where the rows are in reach.
        given = {} if row.leaves_one_out and pairs is not None else row.settled(chosen)
        fitted = _solve(chosen.method, total, _penalized_by_folds(given, folds, pairs), pairs)
        return _with_candidates(fitted, found, "mse", baseline_error(folds))
    row = method_named(method)
    without_rows = row.leaves_one_out and row.is_open("alpha", given) and pairs is None and len(folds) > 1
    if needs_folds(method, given) or without_rows:
        given = row.settled(validated(folds, [row], given)[0].candidate)
    return _solve(method, total, _penalized_by_folds(given, folds, pairs), pairs)


def _penalized_by_folds(
    given: Mapping[str, Any], folds: Sequence[Moments], pairs: Pairs | None
) -> Mapping[str, Any]:
    """Return parameters with the penalty that ridge takes of several folds, where it is open and there are no rows."""
    if given.get("alpha") != "auto" or pairs is not None or len(folds) < 2:
        return given
    return {**given, "alpha": validated(folds, [METHODS["ridge"]])[0].candidate.alpha}


def check_call(
    method: str, given: Mapping[str, Any], scoring: str | None = None, caller: str = "fit"
) -> None:
    """Raise a ValueError for an unknown method or scoring, or a parameter or scoring that the method does not have."""
    if scoring is not None and scoring not in SCORINGS:
        raise ValueError(f"{caller}: scoring is one of {', '.join(SCORINGS)}; got {scoring!r}")
    if method == "auto":
        if given:
            raise ValueError(
                f'{caller}: method="auto" chooses by itself; {", ".join(given)} belongs to one method. Name the method.'
            )
        return
    parameters = method_named(method).parameters
    if scoring == "mse" and method_named(method).ranks:
        raise ValueError(
            f"{caller}: of {method!r} squared errors say nothing; it chooses by {', '.join(SCORINGS[1:])}. Leave "
            'scoring out for "mrr".'
        )
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


def with_robust(fitted: AffineMap, record: Mapping[str, float]) -> AffineMap:
    """Return the map with what a robust fit did to the weights of its pairs among its evidence."""
    assert fitted.evidence is not None  # every solver gives some
    return replace(fitted, evidence=replace(fitted.evidence, robust=record))


def given_parameters(**parameters: Any) -> dict[str, Any]:
    """Return the hyperparameters that were given."""
    return {name: value for name, value in parameters.items() if value is not None}


def score_of_rows(method: str, given: Mapping[str, Any], scoring: Scoring | None) -> Scoring | None:
    """Return the score of held-out rows by which something is chosen; None where there is no such choice."""
    if method == "auto":
        return None if scoring == "mse" else scoring
    row = METHODS[method]
    if not row.ranks or not any(row.is_open(name, given) for name in row.parameters):
        return None
    return "mrr" if scoring is None else scoring


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
    total = summed(folds.moments)
    check_solvable(total)
    methods = tuple(METHODS.values()) if method == "auto" else (method_named(method),)
    found = validated_by_rows(folds, scoring, methods, given)
    chosen = choose(found, ROUNDING_OF_SCORES, about_as_many_as_dims=near_threshold(total))
    row = METHODS[chosen.method]
    rows = folds.pairs if row.ranks else pairs  # to rank, some of them suffice
    fitted = _solve(chosen.method, total, row.settled(chosen), rows)
    return _with_candidates(fitted, found, scoring, None)


def _solve(method: str, moments: Moments, given: Mapping[str, Any], pairs: Pairs | None) -> AffineMap:
    row = method_named(method)
    rows = {"rows": pairs} if row.uses_rows and pairs is not None else {}
    return row.solve(moments, **given, **rows)


def _with_candidates(
    fitted: AffineMap, found: Sequence[Validated], scoring: Scoring, baseline: float | None
) -> AffineMap:
    assert fitted.evidence is not None  # every solver gives some
    candidates = tuple(one.candidate for one in found)
    evidence = replace(fitted.evidence, scoring=scoring, baseline=baseline, candidates=candidates)
    return replace(fitted, evidence=evidence)
