"""Selection: exact cross-validation from moments, the paths, and the choice."""

import warnings

import numpy as np
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.metrics.pairwise import cosine_similarity

import latalign
from latalign import METHODS, Candidate, IllConditionedWarning, Moments, cross_validate
from latalign._validation import Pairs
from latalign.methods import LEAST_SQUARES, Method, method_named
from latalign.metrics import squared_error
from latalign.moments import all_but_one
from latalign.paths import Spectrum, alpha_grid, best_alpha, gcv_errors, loo_errors, ridge_fold_errors
from latalign.select import (
    Folds,
    Validated,
    _taken,
    baseline_error,
    choose,
    near_threshold,
    validated_by_rows,
)
from problems import pairs, relative, rotation

SIZES = [(120, 8, 6), (120, 6, 8), (12, 20, 9), (20, 20, 20), (26, 20, 20)]


def folded(rng, n, ds, dt, k=5, **given):
    X, Y = pairs(rng, n, ds, dt, **given)
    return X, Y, Folds.of(Pairs.of(X, Y), k, np.random.default_rng(0))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", [method.name for method in LEAST_SQUARES])
def test_the_error_is_that_of_refitting_on_rows(rng, size, name):
    """K-fold from moments is K-fold: fit on the rows of the others, measured on the rows left out."""
    if name in ("orthogonal", "rigid", "similarity") and size[0] * 4 // 5 <= min(size[1:]):
        pytest.skip("fewer anchors than dimensions leave a part of the rotation arbitrary")
    X, Y, folds = folded(rng, *size)
    found = cross_validate(folds.moments, [method_named(name)])[0]
    given = {"alpha": found.alpha} if name in ("ridge", "shrunk") else {}
    if name == "shrunk":
        given["scale"] = found.scale
    if name == "low_rank":
        given = {"rank": found.target_rank, "alpha": "auto"}
    squares = 0.0
    per_fold = []
    for k in range(5):
        train, test = folds.number != k, folds.number == k
        fitted = method_named(name).solve(Moments.of(X[train], Y[train]), **given)
        errors = (fitted(X[test]) - Y[test]) ** 2
        squares += errors.sum()
        per_fold.append(errors.mean())
    assert np.isclose(found.error, squares / Y.size, rtol=1e-6)
    assert np.isclose(found.standard_error, np.std(per_fold, ddof=1) / np.sqrt(5), rtol=1e-4)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["ridge", "low_rank"])
def test_a_path_is_what_solving_for_each_value_gives(rng, size, name):
    _, _, folds = folded(rng, *size, noise=0.5)
    train, heldout = all_but_one(folds.moments)[0], folds.moments[0]
    method = method_named(name)
    grid = method.grid(train)
    slow = Method(name, method.solve).fold_errors(train, heldout, grid)
    np.testing.assert_allclose(method.fold_errors(train, heldout, grid), slow, rtol=1e-5)


@pytest.mark.filterwarnings("ignore::latalign.UnrelatedPairsWarning")  # eleven noisy pairs
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_leave_one_out_is_leaving_one_out(rng, size, weighted):
    X, Y = pairs(rng, *size, noise=0.5)
    w = rng.uniform(0.2, 1, len(X)) if weighted else None
    rows, moments = Pairs.of(X, Y, w), Moments.of(X, Y, sample_weight=w)
    alphas = alpha_grid(moments)[10:45:7]
    found = loo_errors(rows, moments, alphas, Spectrum.of_rows(rows, moments))
    weights = np.ones(len(X)) if w is None else w
    for alpha, error in zip(alphas, found, strict=True):
        total = 0.0
        for i in range(len(X)):
            kept = np.arange(len(X)) != i
            fitted = latalign.fit(X[kept], Y[kept], "ridge", alpha=alpha, sample_weight=weights[kept])
            total += weights[i] * ((fitted(X[i : i + 1]) - Y[i]) ** 2).sum()
        assert np.isclose(error, total / weights.sum() / Y.shape[1], rtol=1e-6)


def test_leave_one_out_of_repeats_leaves_out_one_of_them(rng):
    X, Y = pairs(rng, 30, 5, 4)
    repeats = rng.integers(1, 4, 30)
    once = Pairs.of(X, Y, repeats)
    often = Pairs.of(np.repeat(X, repeats, 0), np.repeat(Y, repeats, 0))
    assert np.isclose(
        *(best_alpha(latalign.moments.moments_of_pairs(p), p)[1] for p in (once, often)), rtol=1e-9
    )


@pytest.mark.parametrize("size", [(120, 8, 6), (40, 30, 5), (30, 40, 5)], ids=str)
def test_the_alpha_is_ridgecvs(rng, size):
    X, Y = pairs(rng, *size, noise=1)
    moments = Moments.of(X, Y)
    alpha, error = best_alpha(moments, Pairs.of(X, Y))
    model = RidgeCV(alphas=alpha_grid(moments)).fit(X, Y)
    assert np.isclose(alpha, model.alpha_)
    assert np.isclose(error, -model.best_score_, rtol=1e-5)


def test_far_more_rows_than_the_budget_walk_downhill_to_the_same(rng, monkeypatch):
    X, Y = pairs(rng, 300, 30, 5, noise=3)
    moments, rows = Moments.of(X, Y), Pairs.of(X, Y)
    whole = best_alpha(moments, rows)
    monkeypatch.setattr("latalign.paths._LOO_BUDGET", 0)
    assert np.allclose(best_alpha(moments, rows), whole)


def test_generalized_cross_validation_is_its_definition(rng):
    X, Y = pairs(rng, 50, 8, 3, noise=1)
    moments = Moments.of(X, Y)
    x, y = X - X.mean(0), Y - Y.mean(0)
    alphas = alpha_grid(moments)[::7]
    for alpha, found in zip(alphas, gcv_errors(moments, alphas), strict=True):
        hat = x @ np.linalg.solve(x.T @ x + alpha * np.eye(8), x.T)
        residual = ((y - hat @ y) ** 2).sum() / y.size
        assert np.isclose(found, residual / (1 - (1 + np.trace(hat)) / 50) ** 2, rtol=1e-8)


def test_baseline(rng):
    X, Y, folds = folded(rng, 50, 4, 3)
    expected = sum(((Y[folds.number == k] - Y[folds.number != k].mean(0)) ** 2).sum() for k in range(5))
    assert np.isclose(baseline_error(folds.moments), expected / Y.size)
    assert len(X) == 50


@pytest.mark.parametrize("scoring", ["cosine", "recall@1", "recall@10", "mrr"])
def test_scores_are_those_of_held_out_rows(rng, scoring):
    X, Y, folds = folded(rng, 100, 8, 6)
    found = validated_by_rows(folds, scoring, [METHODS["affine"]])[0].candidate
    scores = []
    for k in range(5):
        test = np.flatnonzero(folds.number == k)
        train = folds.number != k
        similarity = cosine_similarity(latalign.fit(X[train], Y[train], "affine")(X[test]), Y)
        own = similarity[np.arange(len(test)), test]
        place = (similarity >= own[:, None]).sum(axis=1)  # among the rows of all folds
        values = {"cosine": own, "recall@1": place <= 1, "recall@10": place <= 10, "mrr": 1 / place}
        scores.append(values[scoring].mean())
    assert np.isclose(found.error, 1 - np.mean(scores))


@pytest.mark.parametrize("scoring", ["cosine", "recall@1", "mrr"])
def test_a_weight_of_two_is_a_row_given_twice_for_scores_of_rows(rng, scoring):
    X, Y = pairs(rng, 60, 8, 8, noise=2)
    w = rng.integers(1, 4, 60)
    weighted = latalign.fit(X, Y, sample_weight=w, scoring=scoring, n_folds=5)
    repeated = latalign.fit(X.repeat(w, axis=0), Y.repeat(w, axis=0), scoring=scoring, n_folds=5)
    errors = [{c.method: c.error for c in found.evidence.candidates} for found in (weighted, repeated)]
    for name in ("rigid", "affine", "retrieval"):
        assert errors[0][name] == pytest.approx(errors[1][name], abs=1e-9)


# The choice ---------------------------------------------------------------------------------------


def candidate(method, *shares):
    return Validated(Candidate(method, sum(shares), 0.0), np.array(shares))


def test_the_smallest_wins_and_of_a_tie_the_simpler():
    assert choose([candidate("affine", 0.5, 0.5), candidate("rigid", 0.51, 0.51)]).method == "affine"
    assert choose([candidate("affine", 0.5, 0.5), candidate("rigid", 0.504, 0.504)]).method == "rigid"
    assert (
        choose([candidate("linear", 1e-30, 0), candidate("rigid", 1e-29, 0)], floor=1e-20).method == "rigid"
    )


def test_what_the_folds_do_not_tell_apart_is_a_tie():
    affine, noisy, steady = (
        candidate("affine", 0.5, 0.5),
        candidate("rigid", 0.56, 0.47),  # 3 % worse, give or take 9 %
        candidate("rigid", 0.514, 0.516),
    )
    assert choose([affine, noisy]).method == "rigid"
    assert choose([affine, steady]).method == "affine"
    assert choose([affine, candidate("rigid", 0.7, 0.4)]).method == "affine"  # 10 % is too much for any doubt


def test_where_anchors_and_dimensions_are_about_as_many_plain_least_squares_is_no_choice(rng):
    best = candidate("affine", 0.1, 0.1)
    assert choose([best, candidate("ridge", 0.5, 0.5)]).method == "affine"
    assert choose([best, candidate("ridge", 0.5, 0.5)], about_as_many_as_dims=True).method == "ridge"
    assert choose([best], about_as_many_as_dims=True).method == "affine"
    for n, near in ((10, False), (11, True), (20, True), (29, True), (30, False)):
        assert near_threshold(Moments.of(*pairs(rng, n, 20, 4))) == near
    # An exact relation is found there all the same.
    X, W = rng.normal(size=(26, 20)), rng.normal(size=(20, 4))
    found = latalign.fit(X, X @ W + 1)
    assert found.method not in ("linear", "affine")
    assert relative(found.matrix, W) < 1e-6


def test_a_cautious_point_is_taken_where_the_folds_hardly_tell_it_from_the_best():
    weights = np.ones(4)
    errors = np.array([[3, 1, 1.1, 3], [3, 1, 0.95, 2], [3, 1, 1.05, 2], [3, 1, 0.92, 2]])
    assert _taken(errors, weights, 0.0) == 1
    assert _taken(errors, weights, 0.1) == 1  # 0.5 % worse, give or take 4 %
    assert _taken(errors, weights, 0.5) == 2
    assert _taken(errors, np.array([1, 9, 1, 9.0]), 0.0) == 2
    assert _taken(errors, weights, 5.0) == 3


@pytest.mark.parametrize(
    ("truth", "expected"),
    [("rotation", "orthogonal"), ("rigid", "rigid"), ("similar", "similarity"), ("none", None)],
)
def test_auto_finds_the_kind_of_the_truth(rng, truth, expected):
    X = rng.normal(size=(400, 10)) * np.geomspace(1, 3, 10) + 1
    turn = rotation(rng, 10)
    Y = {
        "rotation": X @ turn,
        "rigid": X @ turn + 2,
        "similar": 2.5 * X @ turn + 2,
        "none": X @ rng.normal(size=(10, 10)) + 2,
    }[truth] + 0.05 * rng.normal(size=(400, 10))
    found = latalign.fit(X, Y, random_state=int(rng.integers(100)))
    if expected:
        assert found.method == expected
    else:
        assert found.method in ("shrunk", "ridge", "affine", "linear")
    assert {c.method for c in found.evidence.candidates} == {method.name for method in LEAST_SQUARES}
    errors = [c.error for c in found.evidence.candidates]
    assert errors == sorted(errors)
    assert found.evidence.baseline > errors[0]
    assert found.evidence.anchors == 400


def test_the_interpolation_threshold(rng):
    """As many anchors as dimensions: plain least squares explodes, and is not chosen."""
    X = rng.normal(size=(1050, 50)) * np.geomspace(1, 0.1, 50)
    Y = X @ rotation(rng, 50) + 0.1 * rng.normal(size=(1050, 50))
    found = latalign.fit(X[:50], Y[:50])
    assert found.method in ("orthogonal", "rigid", "similarity", "ridge", "shrunk", "low_rank")
    heldout = Moments.of(X[50:], Y[50:])
    plain = latalign.fit(X[:51], Y[:51], "affine")
    ridge, rigid = (METHODS[name].solve(Moments.of(X[:50], Y[:50])) for name in ("ridge", "rigid"))
    error = {"ridge": squared_error(ridge, heldout), "rigid": squared_error(rigid, heldout)}
    assert squared_error(plain, heldout) > 3 * error["ridge"]
    assert squared_error(found, heldout) < 1.3 * min(error.values())


def test_auto_is_the_method_that_it_chose(rng):
    X, Y = pairs(rng, 80, 40, 10, noise=0.5)
    found = latalign.fit(X, Y)
    assert found.method in ("shrunk", "ridge")
    assert relative(found.matrix, latalign.fit(X, Y, found.method).matrix) < 1e-12
    assert (
        latalign.fit(X, Y, random_state=3).matrix.tobytes()
        == latalign.fit(X, Y, random_state=3).matrix.tobytes()
    )


@pytest.mark.parametrize("scoring", ["mse", "cosine", "recall@1", "recall@10", "mrr"])
def test_scorings(rng, scoring):
    X, Y = pairs(rng, 60, 12, 12)
    found = latalign.fit(X, Y, scoring=scoring)
    assert found.evidence.scoring == scoring
    assert (found.evidence.baseline is None) == (scoring != "mse")
    with pytest.raises(ValueError, match="scoring is one of mse, cosine, recall@1"):
        latalign.fit(X, Y, scoring="accuracy")


@pytest.mark.parametrize("scoring", ["cosine", "recall@1"])
def test_of_perfect_scores_the_simplest_method_wins(rng, scoring):
    """A cosine may be rounded to more than one."""
    X = rng.normal(size=(80, 5))
    found = latalign.fit(X, X @ rotation(rng, 5), scoring=scoring)
    assert found.method == "orthogonal"
    assert all(row.error >= 0 for row in found.evidence.candidates)


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("scoring", ["mse", "cosine"])
def test_a_handful_of_anchors(rng, n, scoring):
    X, Y = pairs(rng, n, 6, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        for name in METHODS:
            assert np.isfinite(latalign.fit(X, Y, name)(X)).all()
        assert np.isfinite(latalign.fit(X, Y, scoring=scoring)(X)).all()


def test_fit_moments_is_fit_without_rows(rng):
    X, Y, folds = folded(rng, 200, 8, 6)
    by_moments = latalign.fit_moments(*folds.moments)
    by_rows = latalign.fit(X, Y)
    assert by_moments.method == by_rows.method
    assert relative(by_moments(X), by_rows(X)) < 1e-3
    # One sum: the generalized score; several: cross-validation.
    total = Moments.of(X, Y)
    assert latalign.fit_moments(total, method="ridge").evidence.alpha == best_alpha(total)[0]
    assert latalign.fit_moments(*folds.moments, method="ridge").evidence.alpha == pytest.approx(
        cross_validate(folds.moments, [METHODS["ridge"]])[0].alpha
    )
    with pytest.raises(ValueError, match="at least 2 folds"):
        latalign.fit_moments(total)
    with pytest.raises(ValueError, match="it got none"):
        latalign.fit_moments()


def test_folds_of_no_pairs_are_passed_over(rng):
    *_, folds = folded(rng, 100, 4, 3)
    found = latalign.fit_moments(Moments.zero(4, 3), *folds.moments)
    assert relative(found.matrix, latalign.fit_moments(*folds.moments).matrix) < 1e-12
    with pytest.raises(ValueError, match=r"at least 2 folds.*of \[0, 20\] pairs"):
        cross_validate([Moments.zero(4, 3), folds.moments[0]])
    for few in ([], folds.moments[:1]):
        with pytest.raises(ValueError, match="cross_validate needs Moments of at least 2 folds"):
            cross_validate(few)


def test_what_is_no_moments_is_refused(rng):
    *_, folds = folded(rng, 50, 4, 3)
    with pytest.raises(TypeError, match=r"got tuple\. A list of them is unpacked with a star"):
        latalign.fit_moments(folds.moments)


@pytest.mark.parametrize("alpha", [-1, np.nan, np.inf, "much", [1.0, 2.0], 1j])
def test_a_penalty_is_a_number(rng, alpha):
    X, Y = pairs(rng, 30, 4, 3)
    for given in ({"method": "ridge"}, {"method": "low_rank", "rank": 1}):
        with pytest.raises(ValueError, match='alpha needs a finite number of zero or more, or "auto"; got'):
            latalign.fit(X, Y, alpha=alpha, **given)


@pytest.mark.parametrize("rank", [0, -1, 2.5, 2.0, "two"])
def test_a_rank_is_a_whole_number(rng, rank):
    X, Y = pairs(rng, 30, 4, 3)
    with pytest.raises(ValueError, match="low_rank needs a rank of at least 1, a whole number; got"):
        latalign.fit(X, Y, "low_rank", rank=rank)
    assert latalign.fit(X, Y, "low_rank", rank=np.int64(2)).evidence.target_rank == 2


@pytest.mark.parametrize("alpha", [0, 1.0, 300.0])
def test_the_rank_is_chosen_for_the_penalty_that_was_given(rng, alpha):
    X, Y = pairs(rng, 60, 25, 20, noise=1.5)
    found = latalign.fit(X, Y, "low_rank", alpha=alpha, n_folds=5)
    folds = Folds.of(Pairs.of(X, Y), 5, np.random.default_rng(0))
    trains = all_but_one(folds.moments)
    errors = {
        rank: sum(
            squared_error(latalign.solve.low_rank(train, rank=rank, alpha=alpha), fold)
            for train, fold in zip(trains, folds.moments, strict=True)
        )
        for rank in range(1, 21)
    }
    least = min(errors.values())
    assert found.evidence.alpha == alpha
    # A larger rank that the folds hardly tell from the best may be taken.
    assert errors[found.evidence.target_rank] <= 1.1 * least
    assert found.evidence.target_rank >= min(errors, key=errors.get)


@pytest.mark.filterwarnings("ignore::latalign.UnrelatedPairsWarning")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("n", [18, 20, 22], ids=str)
def test_a_low_rank_is_never_much_worse_than_ridge_about_the_threshold(seed, n):
    """The target's spectrum falls fast, so that what one direction of the rows leaves of it may be nothing."""
    rng = np.random.default_rng([seed, n])
    falling = np.arange(1.0, 21) ** -3
    X = rng.normal(size=(n + 500, 20)) * np.arange(1.0, 21) ** -0.5 @ rotation(rng, 20)
    Y = X @ rotation(rng, 20)
    Y = (Y / Y.std(0).mean() + rng.normal(size=Y.shape)) * falling @ rotation(rng, 20)
    heldout = Moments.of(X[n:], Y[n:])

    def error(found):
        return squared_error(found, heldout)

    free = error(latalign.fit(X[:n], Y[:n], "ridge"))
    assert error(latalign.fit(X[:n], Y[:n], "low_rank")) < 1.05 * free
    whole = latalign.fit(X[:n], Y[:n], "low_rank", rank=20, alpha="auto")
    assert error(whole) == pytest.approx(free)
    folds = [Moments.of(X[k:n:5], Y[k:n:5]) for k in range(5)]
    of_folds = [error(latalign.fit_moments(*folds, method=name)) for name in ("low_rank", "ridge")]
    assert of_folds[0] < 1.05 * of_folds[1]


def test_a_lucky_generalized_score_is_not_believed():
    """One set of moments, as many pairs as dimensions, and a target that is nearly one number."""
    worst = 0.0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(520, 20)) * np.arange(1.0, 21) ** -0.5
        Y = (X + rng.normal(size=X.shape)) @ rotation(rng, 20) * np.arange(1.0, 21) ** -3
        heldout, moments = Moments.of(X[20:], Y[20:]), Moments.of(X[:20], Y[:20])
        alphas = alpha_grid(moments)
        errors = ridge_fold_errors(moments, heldout, alphas)
        taken = errors[np.flatnonzero(alphas == best_alpha(moments)[0])[0]]
        worst = max(worst, taken / errors.min())
    assert worst < 2
