"""Learning curves: the errors against rows, the law against SciPy, the check, and what is extrapolated."""

import json
import math

import numpy as np
import pytest
from scipy.optimize import curve_fit

import latalign
from latalign import Moments, curves
from latalign.methods import LEAST_SQUARES
from latalign.power_law import PowerLaw, fitted
from problems import lstsq, pairs, rotation

SIZES = np.array([50, 71, 100, 141, 200, 283, 400])


def noisy(rng, n, d=12, *, noise=1.0):
    """Return pairs of a linear relation between normal rows: the error of least squares is known."""
    X = rng.normal(size=(n, d))
    return X + 3, X @ rotation(rng, d) + noise * rng.normal(size=(n, d)) - 1


def least_squares_error(n, d=12):
    """Return the expected error of least squares with intercept for normal rows and noise of 1."""
    return (1 + 1 / n) * (n - 2) / (n - d - 2)


class Identity:
    """A generator that leaves the order as it is."""

    def permutation(self, values):
        return np.arange(values) if np.ndim(values) == 0 else np.asarray(values)


# The law ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [(0.5, 8, 1.0), (0.0, 2, 0.3), (1e-3, 50, 2.0), (0.7, 0, 1.0)], ids=str)
def test_an_exact_law_is_found(law):
    floor, scale, exponent = law
    errors = floor + scale * SIZES**-exponent
    found = PowerLaw(*fitted(SIZES, errors[None], np.full(7, 0.01))[0])
    for n in (50, 400, 800):
        assert found(n) == pytest.approx(floor + scale * n**-exponent, rel=0.01)


def test_the_fit_is_as_near_as_scipys(rng):
    law = PowerLaw(rng.uniform(0.1, 1), rng.uniform(5, 20), rng.uniform(0.7, 1.3))
    errors = np.array([law(n) for n in SIZES]) * np.exp(0.01 * rng.normal(size=7))
    found = PowerLaw(*fitted(SIZES, errors[None], np.full(7, 0.01))[0])
    reference, _ = curve_fit(
        lambda n, floor, scale, exponent: floor + scale * (n / 50) ** -exponent,
        SIZES.astype(float),
        errors,
        p0=(errors[-1], errors[0] - errors[-1], 1.0),
        sigma=0.01 * errors,
        bounds=(0, [np.inf, np.inf, 6]),
        loss="huber",
        method="trf",
    )
    for n in (50, 141, 400, 800):
        expected = reference[0] + reference[1] * (n / 50) ** -reference[2]
        assert found(n) == pytest.approx(expected, rel=0.03)


def test_a_point_off_the_law_counts_little(rng):
    errors = 0.5 + 8 / SIZES
    errors[rng.integers(1, 6)] *= 3
    found = PowerLaw(*fitted(SIZES, errors[None], np.full(7, 0.01))[0])
    assert found(800) == pytest.approx(0.51, rel=0.05)


def test_sets_are_fitted_as_each_alone(rng):
    errors = (0.5 + 8 / SIZES) * np.exp(0.05 * rng.normal(size=(20, 7)))
    spreads = rng.uniform(0.01, 0.1, 7)
    together = fitted(SIZES, errors, spreads)
    assert (together[:, :2] >= 0).all()
    for one, law in zip(errors, together, strict=True):
        np.testing.assert_allclose(fitted(SIZES, one[None], spreads)[0], law, rtol=1e-9)


# The errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [6, 30])
def test_an_error_is_that_of_refitting_on_rows(rng, d):
    """The last fifth is held out first, and the first pieces are what is fitted."""
    X, Y = pairs(rng, 120, d, 5, noise=0.5)
    owner = rng.permutation(np.arange(120) % 30)
    pieces = [Moments.of(X[owner == k], Y[owner == k]) for k in range(30)]
    anchors, errors, chosen = curves._measured(pieces, [3, 9, 24], "affine", {}, 1, Identity())
    np.testing.assert_array_equal(anchors, [12, 36, 96])
    test = owner >= 24
    for size, error in zip([3, 9, 24], errors[0], strict=True):
        train = owner < size
        W = lstsq(X[train], Y[train])
        left = (X[test] - X[train].mean(0)) @ W + Y[train].mean(0) - Y[test]
        assert error == pytest.approx((left**2).mean(), rel=1e-8)
    assert [dict(one) for one in chosen] == [{"affine": 1}] * 3


@pytest.mark.parametrize("method", ["ridge", "shrunk", "auto"])
def test_every_choice_is_made_anew(rng, method):
    X, Y = pairs(rng, 200, 8, 5, noise=0.5)
    pieces = [Moments.of(X[k::40], Y[k::40]) for k in range(40)]
    _, errors, chosen = curves._measured(pieces, [8, 32], method, {}, 1, Identity())
    heldout = Moments.of(*(np.vstack([side[k::40] for k in range(32, 40)]) for side in (X, Y)))
    for size, n_folds, error, names in zip([8, 32], [8, 20], errors[0], chosen, strict=True):
        folds = [sum(pieces[k:size:n_folds][1:], pieces[k]) for k in range(n_folds)]
        found = latalign.fit_moments(*folds, method=method)
        assert error == pytest.approx(latalign.metrics.mean_squared_error(found, heldout), rel=1e-9)
        assert names == {found.method: 1}


def test_the_curve_is_the_one_that_theory_has(rng):
    found = latalign.learning_curve(*noisy(rng, 500), "affine", random_state=int(rng.integers(100)))
    assert found.anchors == 500
    assert found.points[-1].anchors == 400
    for point in found.points:
        if point.anchors < 20:  # the error's mean is of a heavy tail there
            continue
        away = abs(math.log(point.error / least_squares_error(point.anchors)))
        assert away < 3 * math.log(point.high / point.error)
        assert point.low < point.error < point.high
        assert point.chosen == {"affine": 10}
    assert found.check.passed
    assert (found.check.fitted_to, found.check.anchors) == (200, 400)
    assert (found.all_anchors.anchors, found.twice.anchors) == (500, 1000)
    for forecast in (found.all_anchors, found.twice):
        assert forecast.low < forecast.error < forecast.high
        assert forecast.error == pytest.approx(least_squares_error(forecast.anchors), rel=0.1)
        assert forecast.error == pytest.approx(found.law(forecast.anchors), rel=1e-6)
    gain = 1 - least_squares_error(1000) / least_squares_error(500)
    assert found.saving.low < gain < found.saving.high
    assert found.saving.share == pytest.approx(1 - found.twice.error / found.all_anchors.error)


def test_intervals_hold_what_they_should():
    """Of forty curves of other pairs, nine tenths of the intervals hold the expected error."""
    inside, twice = [], []
    for seed in range(40):
        found = latalign.learning_curve(*noisy(np.random.default_rng(seed), 400), "affine", random_state=seed)
        inside += [p.low <= least_squares_error(p.anchors) <= p.high for p in found.points if p.anchors >= 40]
        if found.twice is not None:
            twice.append(found.twice.low <= least_squares_error(800) <= found.twice.high)
    assert np.mean(inside) > 0.8
    assert len(twice) > 30
    assert np.mean(twice) > 0.85


@pytest.mark.parametrize("method", ["ridge", "affine"])
def test_a_robust_curve_is_that_of_the_genuine_pairs(rng, method):
    X, Y = noisy(rng, 500, noise=0.3)
    wrong = rng.permutation(500)[:100]
    shuffled = Y.copy()
    shuffled[wrong] = Y[np.roll(wrong, 1)]
    kept = np.setdiff1d(np.arange(500), wrong)
    clean = latalign.learning_curve(X[kept], Y[kept], method)
    plain, robust = (latalign.learning_curve(X, shuffled, method, robust=on) for on in (False, True))
    assert plain.points[-1].error > 1.3 * clean.points[-1].error
    assert abs(robust.points[-1].error / clean.points[-1].error - 1) < 0.1
    assert abs(robust.anchors - 400) <= 20


def test_shuffled_pairs_are_warned_of(rng):
    X, Y = noisy(rng, 100)
    with pytest.warns(latalign.UnrelatedPairsWarning, match="learning_curve: the pairs cannot be told"):
        latalign.learning_curve(X, Y[np.random.default_rng(1).permutation(100)], "ridge")


def test_where_the_law_breaks_nothing_is_extrapolated(rng):
    """Half the anchors lie below the interpolation threshold, the others on it."""
    X, Y = noisy(rng, 50, 38, noise=0.3)
    found = latalign.learning_curve(X, Y, "affine")
    assert not found.check.passed
    assert found.all_anchors is found.twice is found.saving is None
    assert found.check.measured > 1.1 * found.check.predicted


@pytest.mark.parametrize("method", ["auto", *(method.name for method in LEAST_SQUARES)])
def test_every_method_of_least_squares_has_a_curve(rng, method):
    X, Y = pairs(rng, 90, 5, 4, noise=0.5)
    found = latalign.learning_curve(X, Y, method, n_repeats=3)
    assert found.method == method
    assert all(sum(point.chosen.values()) == 3 for point in found.points)
    if method != "auto":
        assert all(set(point.chosen) == {method} for point in found.points)
    assert [p.anchors for p in found.points] == sorted({p.anchors for p in found.points})
    record = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert record["points"][0]["anchors"] == found.points[0].anchors
    assert (record["saving"] is None) == (not found.check.passed)


def test_the_variance_is_the_error_of_the_mean_row(rng):
    X, Y = noisy(rng, 100)
    assert latalign.learning_curve(X, Y, "rigid").variance == pytest.approx(Y.var(axis=0).mean())


def test_a_scale_of_the_target_scales_the_curve(rng):
    X, Y = noisy(rng, 120)
    one, other = (latalign.learning_curve(X, c * Y, "affine") for c in (1, 1000))
    np.testing.assert_allclose([p.error for p in other.points], [1e6 * p.error for p in one.points])
    assert other.check.passed == one.check.passed
    assert other.law.floor == pytest.approx(1e6 * one.law.floor)
    assert other.law(500) == pytest.approx(1e6 * one.law(500))


def test_the_seed_draws_the_nestings(rng):
    X, Y = noisy(rng, 100)
    one, again, other = (latalign.learning_curve(X, Y, "affine", random_state=seed) for seed in (1, 1, 2))
    assert one == again
    assert one != other


@pytest.mark.filterwarnings("ignore::latalign.UnrelatedPairsWarning")
def test_no_pair_is_predicted_from_its_duplicate(rng):
    """There is nothing to learn, and the map could remember every pair."""
    X, Y = rng.normal(size=(60, 50)), rng.normal(size=(60, 50))
    found = latalign.learning_curve(np.repeat(X, 4, 0), np.repeat(Y, 4, 0), "ridge", alpha=1e-3)
    assert all(point.error > 0.9 * found.variance for point in found.points)


def test_an_exact_relation(rng):
    X = rng.normal(size=(60, 4))
    found = latalign.learning_curve(X, X @ rotation(rng, 4), "rigid")
    assert found.points[-1].error < 1e-14
    assert np.isfinite([found.law.floor, found.law.scale, found.law.exponent]).all()
    json.dumps(found.to_json(), allow_nan=False)


def test_moments_are_enough(rng):
    X, Y = noisy(rng, 500)
    pieces = [Moments.of(X[k::50], Y[k::50]) for k in range(50)]
    found = latalign.learning_curve_moments(Moments.zero(12, 12), *pieces, method="affine")
    assert found.anchors == 500
    assert found.twice.error == pytest.approx(least_squares_error(1000), rel=0.1)


def test_pieces_are_fewer_where_spaces_are_wide():
    assert curves._n_pieces(50, 50) == 100
    assert 20 < curves._n_pieces(768, 768) < 100
    assert curves._n_pieces(4096, 4096) == 20


# What is refused ----------------------------------------------------------------------------------


def test_too_few_pairs(rng):
    X, Y = noisy(rng, 39)
    with pytest.raises(ValueError, match=r"learning_curve needs at least 40 different pairs.* got 39"):
        latalign.learning_curve(X, Y)
    with pytest.raises(ValueError, match="at least 40 different pairs"):
        latalign.learning_curve(np.vstack([X, X]), np.vstack([Y, Y]))
    some = [Moments.of(X[k::19], Y[k::19]) for k in range(19)]
    with pytest.raises(ValueError, match=r"at least 20 sets, of 40 pairs together; got 19 sets of 39 pairs"):
        latalign.learning_curve_moments(*some)


@pytest.mark.parametrize("n_repeats", [1, 0, 2.0, "ten", True])
def test_a_number_of_repeats_is_a_whole_number(rng, n_repeats):
    with pytest.raises(ValueError, match="learning_curve needs a whole number of at least 2 repeats; got"):
        latalign.learning_curve(*noisy(rng, 50), n_repeats=n_repeats)


def test_what_is_asked_for_must_be_there(rng):
    X, Y = noisy(rng, 50)
    with pytest.raises(ValueError, match="there is no method 'best'"):
        latalign.learning_curve(X, Y, "best")
    with pytest.raises(ValueError, match="learning_curve: method 'rigid' takes reflection; it got alpha"):
        latalign.learning_curve(X, Y, "rigid", alpha=1.0)
    with pytest.raises(TypeError, match="learning_curve needs a random_state"):
        latalign.learning_curve(X, Y, random_state="a")
    with pytest.raises(TypeError, match=r"learning_curve_moments needs Moments.*got list"):
        latalign.learning_curve_moments([Moments.of(X, Y)])
    with pytest.raises(ValueError, match="2 of 50 rows contain NaN"):
        latalign.learning_curve(np.where(np.arange(50)[:, None] < 2, np.nan, X), Y)
    with pytest.raises(
        ValueError, match="learning_curve needs rows that differ; all 50 rows of the source X are the same"
    ):
        latalign.learning_curve(np.ones_like(X), Y)


def test_sets_that_are_too_unequal(rng):
    X, Y = noisy(rng, 1000)
    pieces = [
        Moments.of(X[:900], Y[:900]),
        *(Moments.of(X[k : k + 4], Y[k : k + 4]) for k in range(900, 1000, 4)),
    ]
    with pytest.raises(ValueError, match="about equally many pairs; one of 26 has 900 of the 1000"):
        latalign.learning_curve_moments(*pieces, method="affine")


def test_anchors_that_are_all_the_same_are_left_out(rng):
    """Of few rows the source differs, so few anchors are often equal."""
    X, Y = np.zeros((400, 3)), rng.normal(size=(400, 2))
    X[::10] = rng.normal(size=(40, 3))
    found = latalign.learning_curve(X, Y, "ridge")
    assert found.points[0].anchors > 4
    X[20:] = 0
    with pytest.raises(ValueError, match="needs errors with several numbers of anchors"):
        latalign.learning_curve(X, Y, "ridge")
