"""`retrieval`: its definition, its ends, what its offset is, what it chooses; both sides; calibrated scores."""

import json
import warnings

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st

import latalign
from latalign import METHODS, AffineMap, Evidence, Moments, ScoreCalibration, calibrate_scores, solve
from latalign._validation import Pairs
from latalign.canonical import Canonical
from latalign.metrics import mrr_score, ranks
from problems import SHAPES, centred, pairs, relative, rotation


def by_rows(X, Y, alpha, power):
    """The two factors of the definition, on rows: no code of the library."""
    x, y = centred(X, Y)
    roots = []
    for side in (x, y):
        gram = side.T @ side
        gram += alpha * gram.diagonal().mean() * np.eye(len(gram))
        roots.append(np.linalg.inv(np.real(scipy.linalg.sqrtm(gram))))
    u, s, v = np.linalg.svd(roots[0] @ x.T @ y @ roots[1], full_matrices=False)
    return roots[0] @ u * s**power, roots[1] @ v.T * s**power


def along(a, b):
    """The relative distance of two arrays, one of them scaled as is best."""
    return relative(a * ((a * b).sum() / (a * a).sum()), b)


@pytest.mark.parametrize("size", SHAPES, ids=str)
@pytest.mark.parametrize(("alpha", "power"), [(0.3, 0.5), (3.0, 0.25), (0.05, 1.0)])
def test_it_is_its_definition(rng, size, alpha, power):
    X, Y = pairs(rng, *size)
    found = solve.retrieval(Moments.of(X, Y), alpha=alpha, power=power)
    source, target = by_rows(X, Y, alpha, power)
    assert along(found.matrix, source @ target.T) < 1e-6
    x, y = centred(X, Y)
    fitted = x @ found.matrix
    assert np.isclose((fitted * y).sum(), (fitted**2).sum())  # the scale is the least-squares one
    np.testing.assert_array_equal(found.target_mean, 0)
    assert (found.evidence.alpha, found.evidence.power) == (alpha, power)


@pytest.mark.parametrize("size", SHAPES, ids=str)
def test_both_sides_make_the_one_side(rng, size):
    X, Y = pairs(rng, *size)
    moments = Moments.of(X, Y)
    queries, stored = solve.retrieval_pair(moments, alpha=0.7, power=0.4)
    one = solve.retrieval(moments, alpha=0.7, power=0.4)
    assert along(queries.matrix @ stored.matrix.T, one.matrix) < 1e-9
    assert along(queries(X) @ stored(Y).T, one(X) @ (Y - Y.mean(0)).T) < 1e-9


def test_a_power_of_a_half_is_ridge_with_the_target_whitened(rng):
    X, Y = pairs(rng, 100, 7, 5)
    moments = Moments.of(X, Y)
    x, y = 0.3 * moments.xx_diagonal.mean(), 0.3 * moments.yy_diagonal.mean()
    expected = solve.ridge(moments, alpha=x).matrix @ np.linalg.inv(moments.yy + y * np.eye(5))
    assert along(solve.retrieval(moments).matrix, expected) < 1e-9


def test_no_power_and_a_large_penalty_are_the_rotation(rng):
    moments = Moments.of(*pairs(rng, 100, 6, 6))
    found = solve.retrieval(moments, alpha=1e9, power=0)
    assert along(found.matrix, solve.rigid(moments).matrix) < 1e-6


def test_without_penalty_the_correlations_are_those_of_an_independent_reference(rng):
    X, Y = pairs(rng, 200, 6, 4, noise=1)
    x, y = (np.linalg.qr(side)[0] for side in centred(X, Y))
    expected = np.linalg.svd(x.T @ y, compute_uv=False)
    np.testing.assert_allclose(Canonical.of(Moments.of(X, Y), 0.0).correlations, expected, rtol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_offset_is_the_regression_of_the_log_length(rng, weighted):
    X, Y = pairs(rng, 80, 6, 5, noise=0.5)
    w = rng.integers(1, 4, 80) if weighted else None
    found = latalign.fit(X, Y, "retrieval", alpha=0.3, power=0.5, sample_weight=w)
    if weighted:
        X, Y = X.repeat(w, axis=0), Y.repeat(w, axis=0)
    source, target = by_rows(X, Y, 0.3, 0.5)
    x, y = centred(X, Y)
    length = np.log(np.linalg.norm(y @ target, axis=1))
    gram = y.T @ y
    gram += 0.3 * gram.diagonal().mean() * np.eye(5)
    slope = np.linalg.solve(gram, y.T @ (length - length.mean()))
    score = 3 * np.sqrt(((x @ source @ (y @ target).T) ** 2).mean())  # of all pairs of rows
    scale = (found.matrix * (source @ target.T)).sum() / ((source @ target.T) ** 2).sum()
    np.testing.assert_allclose(found.target_mean, -scale * score * slope, rtol=1e-6)


def test_the_offset_makes_up_for_a_part_of_the_length(rng):
    """Where a row stands for a frequent thing, and so lies far out, it is found for too many queries."""
    latent = rng.normal(size=(3000, 20)) * rng.gamma(1.0, size=(3000, 1))
    latent[:, 0] = np.abs(latent).sum(axis=1)  # a direction that the length goes along with
    Y = latent + 0.1 * rng.normal(size=latent.shape)
    X = latent @ rotation(rng, 20) + 0.5 * rng.normal(size=latent.shape)
    found = latalign.fit(X[:1000], Y[:1000], "retrieval", alpha=0.3, power=0.5)
    queries, index = found(X[1000:]), Y[1000:]

    def recall(queries):
        scores = queries @ index.T
        return ((scores >= scores.diagonal()[:, None]).sum(axis=1) <= 10).mean()

    assert recall(queries) > recall(queries - found.target_mean) + 0.01


@pytest.mark.parametrize("given_", [{}, {"alpha": 0.5}, {"power": 1.0}])
def test_the_choice_is_the_best_of_the_grid(rng, given_):
    X, Y = pairs(rng, 60, 8, 6, noise=1)
    found = latalign.fit(X, Y, "retrieval", n_folds=4, **given_)
    number = latalign.select.Folds.of(Pairs.of(X, Y), 4, np.random.default_rng(0)).number
    errors = {}
    for alpha in (given_["alpha"],) if "alpha" in given_ else (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0):
        for power in (given_["power"],) if "power" in given_ else (0.25, 0.5):
            scores = []
            for k in range(4):
                test = np.flatnonzero(number == k)
                train = np.flatnonzero(number != k)
                one = latalign.fit(X[train], Y[train], "retrieval", alpha=alpha, power=power)
                scores += list(1 / ranks(one(X[test]), np.vstack([Y[test], Y[train]])))
            errors[alpha, power] = 1 - np.mean(scores)
    [candidate] = found.evidence.candidates
    assert candidate.error == pytest.approx(min(errors.values()))
    assert errors[found.evidence.alpha, found.evidence.power] == pytest.approx(candidate.error)
    assert found.evidence.scoring == "mrr"


def private_directions(rng, n=1300):
    """Two spaces that share most directions; in a few each has something large of its own."""
    shared = rng.normal(size=(n, 20)) * np.geomspace(1, 0.3, 20)
    return (
        np.hstack([shared + 0.3 * rng.normal(size=shared.shape), 2 * rng.normal(size=(n, 4))])
        @ rotation(rng, 24)
        for _ in range(2)
    )


def test_it_finds_more_than_least_squares_and_auto_takes_it(rng):
    X, Y = private_directions(rng)
    Y /= np.linalg.norm(Y, axis=1, keepdims=True)
    train, test = slice(0, 300), slice(300, None)
    score = {
        name: mrr_score(latalign.fit(X[train], Y[train], name)(X[test]), Y[test])
        for name in ("rigid", "orthogonal", "affine", "ridge", "retrieval")
    }
    assert score.pop("retrieval") > 1.25 * max(score.values())
    assert latalign.fit(X[train], Y[train], scoring="mrr").method == "retrieval"
    assert latalign.fit(X[train], Y[train]).method != "retrieval"


def test_moments_alone_take_the_usual_values_and_no_offset(rng):
    X, Y = pairs(rng, 50, 6, 5)
    found = latalign.fit_moments(Moments.of(X[:25], Y[:25]), Moments.of(X[25:], Y[25:]), method="retrieval")
    assert (found.evidence.alpha, found.evidence.power) == (0.3, 0.5)
    np.testing.assert_array_equal(found.target_mean, 0)
    with pytest.raises(ValueError, match="without the target Gram matrix"):
        latalign.fit_moments(Moments.of(X, Y, grams="source"), method="retrieval")


def test_the_scale_of_either_side_changes_no_ranking(rng):
    X, Y = pairs(rng, 60, 6, 6, noise=1)
    plain, scaled = (latalign.fit(a * X, b * Y, "retrieval") for a, b in ((1, 1), (100, 0.01)))
    np.testing.assert_allclose(scaled(100 * X) / plain(X), 0.01, rtol=1e-6)


def test_values_that_are_no_power(rng):
    moments = Moments.of(*pairs(rng, 20, 4, 3))
    for bad in (-1, np.nan, np.inf, "much"):
        with pytest.raises(ValueError, match="power needs a finite number of zero or more"):
            solve.retrieval(moments, power=bad)
    with pytest.raises(ValueError, match=r"'rigid' takes reflection; it got power"):
        latalign.fit(*pairs(rng, 20, 4, 3), "rigid", power=0.5)


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_fewer_anchors_than_dimensions_and_duplicates(rng, alpha):
    X, Y = pairs(rng, 5, 9, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        found = latalign.fit(X.repeat(3, axis=0), Y.repeat(3, axis=0), "retrieval", alpha=alpha)
    assert np.isfinite(found(X)).all()
    assert found.evidence.rank == 4


def test_the_power_goes_through_a_file_and_is_left_out_elsewhere(rng, tmp_path):
    found = latalign.fit(*pairs(rng, 40, 5, 4), "retrieval")
    found.save(tmp_path / "map.safetensors")
    loaded = AffineMap.load(tmp_path / "map.safetensors")
    assert loaded.evidence == found.evidence
    assert Evidence.from_json(json.loads(json.dumps(found.evidence.to_json()))) == found.evidence
    assert "power" not in latalign.fit(*pairs(rng, 40, 5, 4), "ridge").evidence.to_json()


def test_the_registry_says_that_it_ranks():
    assert [method.name for method in METHODS.values() if method.ranks] == ["retrieval"]


def test_what_compares_rows_does_not_take_it(rng):
    X, Y = pairs(rng, 60, 4, 4)
    with pytest.raises(ValueError, match="learning_curve compares mapped rows with target rows"):
        latalign.learning_curve(X, Y, "retrieval")
    with pytest.raises(ValueError, match="icp compares mapped rows with target rows"):
        latalign.icp(X, np.arange(60) % 3, Y, np.arange(60) % 3, method="retrieval")


# Calibrated scores --------------------------------------------------------------------------------


def cosines(x, y):
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    return x @ y.T


def test_a_threshold_lets_through_as_much_as_before(rng):
    native, index = rng.normal(size=(1000, 10)), rng.normal(size=(2000, 10))
    mapped = 0.3 * (native + 1.5 * rng.normal(size=(1000, 10))) + 0.2
    found = calibrate_scores(mapped[:500], native[:500], index)
    before, scores = cosines(native[500:], index), cosines(mapped[500:], index)
    for threshold in (0.0, 0.3, 0.6, 0.8):
        as_many = pytest.approx((before > threshold).mean(), rel=0.15)
        assert (found(scores, mapped[500:]) > threshold).mean() == as_many
        assert (scores > found.inverse(threshold, mapped[500:])[:, None]).mean() == as_many


def test_each_query_has_the_mean_and_the_deviation_of_its_own_cosines(rng):
    native, mapped, index = rng.normal(size=(3, 40, 6)) + np.array([[[0.0]], [[1.0]], [[2.0]]])
    found = calibrate_scores(mapped, native, index)
    scores = cosines(mapped, index)
    level, spread = scores.mean(axis=1), scores.std(axis=1)
    standard = (scores - level[:, None]) / spread[:, None]
    np.testing.assert_allclose(found.mapped[[0, 50, -1]], np.quantile(standard, [0, 0.25, 1]))
    np.testing.assert_allclose(found.native[[0, 50, -1]], np.quantile(cosines(native, index), [0, 0.25, 1]))
    for_half = (found.inverse(0.5, mapped) - level) / spread  # the same for all, in deviations
    np.testing.assert_allclose(for_half, for_half[0], atol=1e-9)


def test_what_a_map_adds_to_all_scores_of_a_query_is_taken_off(rng):
    """Stored rows have one mean; a query that leans towards it scores higher with all of them."""
    index = rng.normal(size=(2000, 8)) * 0.3 + 3 * np.eye(9, 8)[0]
    native = rng.normal(size=(600, 8)) * [0.3, *[1] * 7]
    mapped = native + np.outer(rng.normal(size=600), np.eye(8)[0])
    found = calibrate_scores(mapped[:300], native[:300], index)
    above = found(cosines(mapped[300:], index), mapped[300:]) > np.quantile(found.native, 0.5)
    assert (above.mean(axis=1) > 0.9).mean() < 0.01
    assert (above.mean(axis=1) < 0.1).mean() < 0.01


def test_it_is_monotone_there_and_back_and_beyond(rng):
    native = rng.normal(size=(60, 4))
    mapped = native + rng.normal(size=(60, 4))
    found = calibrate_scores(mapped, native)
    scores = np.tile(np.linspace(-1.5, 1.5, 500), (60, 1))
    after = found(scores, mapped)
    assert (np.diff(after) >= 0).all()
    for threshold in (-0.5, 0.2, 0.6):
        there = found.inverse(threshold, mapped)
        np.testing.assert_allclose(found(there[:, None], mapped), threshold, atol=1e-9)
    np.testing.assert_allclose(found([[2.5]], mapped[:1]) - found([[2.0]], mapped[:1]), 0.5)
    np.testing.assert_allclose(found(found.inverse(3.0, mapped)[:, None], mapped), 3.0)


def test_lengths_of_queries_say_nothing(rng):
    native, mapped, index = rng.normal(size=(3, 50, 6))
    found = calibrate_scores(mapped, native, index)
    np.testing.assert_allclose(found.inverse(0.4, mapped), found.inverse(0.4, 7 * mapped))
    assert calibrate_scores(native, native).native[-1] < 1  # no row is its own neighbor


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 5), st.integers(0, 99))
def test_any_sizes(queries, stored, dim, seed):
    rng = np.random.default_rng(seed)
    mapped, native = rng.normal(size=(2, queries, dim))
    found = calibrate_scores(mapped, native, rng.integers(-1, 2, size=(stored, dim)))
    assert isinstance(found, ScoreCalibration)
    assert (np.diff(found.mapped) >= 0).all()
    assert (np.diff(found.native) >= 0).all()
    assert np.isfinite(found(np.tile([-1.0, 0.0, 1.0], (queries, 1)), mapped)).all()
    assert np.isfinite(found.inverse(0.5, mapped)).all()


def test_a_call_needs_the_mapped_queries(rng):
    rows = rng.normal(size=(5, 3))
    found = calibrate_scores(rows, rows)
    with pytest.raises(ValueError, match="needs queries of 3 dimensions, as the stored rows have; got 2"):
        found.inverse(0.5, rows[:, :2])
    with pytest.raises(ValueError, match="needs a row of scores for each query; got scores of shape"):
        found(np.zeros((4, 2)), rows)
    with pytest.raises(ValueError, match="queries needs rows that have a direction; 5 of 5 are zero"):
        found(np.zeros((5, 2)), 0 * rows)
    with pytest.raises(ValueError, match="ScoreCalibration: queries needs finite values"):
        found.inverse(0.5, np.full_like(rows, np.nan))
    with pytest.raises(ValueError, match="ScoreCalibration: scores needs finite values"):
        found(np.full((5, 2), np.nan), rows)
    with pytest.raises(ValueError, match="needs a finite threshold; got nan"):
        found.inverse(float("nan"), rows)


def test_bad_rows(rng):
    rows = rng.normal(size=(5, 3))
    for bad in ((rows, rows[:4]), (rows, rows[:, :2]), (rows, rows, rows[:, :2])):
        with pytest.raises(
            ValueError, match="calibrate_scores needs mapped and native rows of the same pairs"
        ):
            calibrate_scores(*bad)
    with pytest.raises(ValueError, match="needs an index, or at least 2 pairs; got 1"):
        calibrate_scores(rows[:1], rows[:1])
    with pytest.raises(ValueError, match="calibrate_scores: native needs finite values"):
        calibrate_scores(rows, np.full_like(rows, np.nan))
    with pytest.raises(
        ValueError, match=r"mapped needs rows that have a direction; 5 of 5 are zero \(rows 0, 1, 2"
    ):
        calibrate_scores(0 * rows, rows)
    with pytest.raises(ValueError, match=r"native needs .*; 1 of 5 are zero \(rows 3\), and have no cosine"):
        calibrate_scores(rows, np.where(np.arange(5)[:, None] == 3, 0, rows))


def test_squared_errors_choose_nothing_for_retrieval(rng):
    X, Y = rng.normal(size=(60, 5)), rng.normal(size=(60, 4))
    X[:, :4] += 2 * Y
    assert latalign.fit(X, Y, "retrieval").evidence.scoring == "mrr"
    words = "of 'retrieval' squared errors say nothing; it chooses by cosine, recall@1, recall@10, mrr"
    with pytest.raises(ValueError, match=f"fit: {words}"):
        latalign.fit(X, Y, "retrieval", scoring="mse")
    with pytest.raises(ValueError, match=f"local_retrieval: {words}"):
        latalign.local_retrieval(X, Y, scoring="mse")
    with pytest.raises(ValueError, match=words):
        latalign.RetrievalAligner(scoring="mse").fit(X, Y)


@pytest.mark.parametrize("alpha", [1, 0.5, np.float32(0.5), np.int64(2)])
def test_a_given_penalty_is_a_number_of_any_kind(rng, alpha):
    X, Y = rng.normal(size=(60, 5)), rng.normal(size=(60, 4))
    X[:, :4] += 2 * Y
    found = latalign.fit(X, Y, "retrieval", alpha=alpha)
    assert found.evidence.alpha == float(alpha)
    aligner = latalign.RetrievalAligner(alpha=alpha, power="auto").fit(X, Y)
    assert aligner.map_.evidence.alpha == float(alpha)
    with pytest.raises(ValueError, match="alpha needs a finite number"):
        latalign.fit(X, Y, "retrieval", alpha=-1.0)
