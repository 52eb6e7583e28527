"""Likeness against brute force; its null, p-values and intervals against what statistics says of them."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import binom, ks_1samp, uniform

from latalign import Moments, metrics
from latalign._validation import Pairs
from latalign.metrics.chance import _Linear, _Neighbors
from problems import rotation

MEASURES = ("linear_cka", "procrustes_distance", "mutual_knn")
SHAPES = [(40, 6, 9), (12, 30, 5), (12, 5, 30), (9, 30, 40), (30, 30, 29), (31, 30, 30), (4, 3, 3), (5, 2, 7)]


def related(rng, n, ds, dt, noise=1.0):
    X = rng.normal(size=(n, ds)) + 3
    return X, X @ rng.normal(size=(ds, dt)) / np.sqrt(ds) + noise * rng.normal(size=(n, dt))


def hsic(K, L):
    """The U-statistic as Song and others write it (eq. 5), with both kernels in full."""
    n, one = len(K), np.ones(len(K))
    K, L = K - np.diag(K.diagonal()), L - np.diag(L.diagonal())
    middle = (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2))
    return (np.trace(K @ L) + middle - 2 / (n - 2) * (one @ K @ L @ one)) / (n * (n - 3))


def debiased_cka(X, Y):
    K, L = X @ X.T, Y @ Y.T
    return hsic(K, L) / np.sqrt(hsic(K, K) * hsic(L, L))


def procrustes(X, Y):
    return metrics.procrustes_distance(Moments.of(X, Y))


def without(row, *sides):
    return (np.delete(side, row, axis=0) for side in sides)


@pytest.mark.parametrize("shape", SHAPES)
def test_debiased_cka_is_the_u_statistic(rng, shape):
    X, Y = related(rng, *shape)
    expected = debiased_cka(X, Y)
    assert metrics.debiased_cka_score(X, Y) == pytest.approx(expected, abs=1e-9)
    assert metrics.debiased_cka_score(Y, X) == pytest.approx(expected, abs=1e-9)
    turned = 1e-20 * X @ rotation(rng, shape[1]) - 1e-19
    assert metrics.debiased_cka_score(turned, 1e30 * Y) == pytest.approx(expected, abs=1e-6)
    assert metrics.debiased_cka_score(X, X) == pytest.approx(1, abs=1e-9)
    assert metrics.likeness(X, Y, k=2)["linear_cka"].debiased == pytest.approx(expected, abs=1e-9)


def test_the_u_statistic_is_unbiased():
    """Over all 720 samples of four of six rows, as the definition of unbiasedness has it."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(6, 2)), rng.normal(size=(6, 3))
    samples = list(permutations(range(6), 4))
    whole = hsic(x @ x.T, y @ y.T)
    assert np.mean([hsic(x[[*s]] @ x[[*s]].T, y[[*s]] @ y[[*s]].T) for s in samples]) == pytest.approx(whole)


@pytest.mark.parametrize("shape", [(5, 2, 2), (6, 3, 9)])
def test_chance_is_the_mean_over_all_pairings(rng, shape):
    X, Y = rng.normal(size=shape[:2]), rng.exponential(size=(shape[0], shape[2]))
    found = metrics.likeness(X, Y, k=2)
    orders = [list(order) for order in permutations(range(shape[0]))]
    drawn = np.array([debiased_cka(X, Y[order]) for order in orders])
    assert drawn.mean() == pytest.approx(0, abs=1e-12)
    assert drawn.std() == pytest.approx(found["linear_cka"].chance_spread)
    plain = [metrics.linear_cka_score(Moments.of(X, Y[order])) for order in orders]
    assert np.mean(plain) == pytest.approx(found["linear_cka"].chance)
    shared = [metrics.mutual_knn_score(X, Y[order], 2) for order in orders]
    assert np.mean(shared) == pytest.approx(found["mutual_knn"].chance)
    # This one is drawn: the mean of 99 is within five of its standard errors.
    away = np.array([procrustes(X, Y[order]) for order in orders])
    assert found["procrustes_distance"].chance == pytest.approx(away.mean(), abs=5 * away.std() / 99**0.5)


def test_permuted_figures_are_those_of_permuted_rows(rng):
    X, Y = related(rng, 25, 4, 60)
    linear, neighbors = _Linear.of(Pairs.of(X, Y)), _Neighbors.of(Pairs.of(X, Y), 3)
    for _ in range(5):
        order = rng.permutation(25)
        cka, distance = linear.permuted(order)
        assert cka == pytest.approx(debiased_cka(X, Y[order]))
        assert distance == pytest.approx(procrustes(X, Y[order]))
        assert neighbors.permuted(order) == pytest.approx(metrics.mutual_knn_score(X, Y[order], 3))


def interval(estimate, left_out):
    """Half of the 95 % interval by the jackknife, and the t quantile in a table."""
    n = len(left_out)
    return 2.0639 * np.sqrt((n - 1) / n * np.sum((left_out - np.mean(left_out)) ** 2))


@pytest.mark.parametrize("dims", [(3, 4), (40, 60)])
def test_intervals_are_of_every_row_left_out(rng, dims):
    X, Y = related(rng, 25, *dims)  # 24 degrees of freedom
    found = metrics.likeness(X, Y, k=4)
    cka = [debiased_cka(*without(i, X, Y)) for i in range(25)]
    shared = np.array([metrics.mutual_knn_score(*without(i, X, Y), 4) for i in range(25)])
    for name, left_out in (("linear_cka", cka), ("mutual_knn", (shared - 4 / 23) / (1 - 4 / 23))):
        half = interval(found[name].debiased, left_out)
        expected = (max(found[name].debiased - half, -1), min(found[name].debiased + half, 1))
        assert (found[name].low, found[name].high) == pytest.approx(expected, rel=1e-3)


def test_the_interval_of_procrustes_is_nearly_that_of_every_row_left_out(rng):
    X, Y = related(rng, 200, 4, 5)
    found = metrics.likeness(X, Y)["procrustes_distance"]
    left_out = np.array([procrustes(*without(i, X, Y)) for i in range(200)])
    error = np.sqrt(199 / 200 * np.sum((left_out - left_out.mean()) ** 2)) / found.chance
    assert found.high - found.low == pytest.approx(2 * 1.97196 * error, rel=0.02)
    assert found.debiased == pytest.approx(1 - procrustes(X, Y) / found.chance)


@pytest.mark.parametrize(("n", "ds", "dt"), [(30, 3, 4), (20, 40, 60)])
def test_independent_rows(n, ds, dt):
    """p is uniform, debiased figures are centred on zero, and plain ones are not."""
    rng = np.random.default_rng(0)
    runs = [
        metrics.likeness(rng.normal(size=(n, ds)), rng.exponential(size=(n, dt)), k=3, random_state=seed)
        for seed in range(200)
    ]
    for name in MEASURES:
        p = np.array([run[name].p_value for run in runs])
        debiased = np.array([run[name].debiased for run in runs])
        # P(p ≤ 0.1) is at most 0.1 for the exact test.
        assert (p <= 0.1).sum() <= binom.isf(1e-6, 200, 0.1)
        if name != "mutual_knn":  # whose ties make p larger
            assert ks_1samp(p, uniform(0, 1.01).cdf).pvalue > 1e-6
        assert abs(debiased.mean()) < 5 * debiased.std() / np.sqrt(200)
        covered = np.mean([run[name].low <= 0 <= run[name].high for run in runs])
        assert covered >= binom.ppf(1e-6, 200, 0.95) / 200
    if ds > n:
        assert min(run["linear_cka"].value for run in runs) > 0.5


@pytest.mark.parametrize(("n", "ds", "dt", "noise"), [(30, 3, 3, 0.5), (50, 30, 40, 1.0), (40, 60, 50, 1.0)])
def test_intervals_cover(n, ds, dt, noise):
    """Of 200 draws at least as many as a 95 % interval must cover, but for a chance of one in a million."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(ds, dt)) / np.sqrt(ds)
    scales = 1 / np.sqrt(np.arange(1, ds + 1))

    def draw(count):
        X = rng.normal(size=(count, ds)) * scales
        return X, X @ mixing + 0.3 * noise * rng.normal(size=(count, dt))

    # What linear CKA is of the distribution itself.
    xx = np.diag(scales**2)
    xy, yy = xx @ mixing, mixing.T @ xx @ mixing + (0.3 * noise) ** 2 * np.eye(dt)
    truth = np.linalg.norm(xy) ** 2 / np.linalg.norm(xx) / np.linalg.norm(yy)
    runs = [metrics.likeness(*draw(n), k=5, n_permutations=19) for _ in range(200)]
    least = binom.ppf(1e-6, 200, 0.95) / 200
    # The others have no value of the distribution: they depend on the number of rows. The interval of the
    # Procrustes distance is in units of each run's own chance.
    expected = np.mean([run["mutual_knn"].debiased for run in runs])
    distance = np.mean([run["procrustes_distance"].value for run in runs])
    for name, value in (("linear_cka", truth), ("mutual_knn", expected), ("procrustes_distance", None)):
        found = [run[name] for run in runs]
        values = [1 - distance / one.chance if value is None else value for one in found]
        covered = [one.low <= value <= one.high for one, value in zip(found, values, strict=True)]
        assert np.mean(covered) >= least, name
    estimates = np.array([run["linear_cka"].debiased for run in runs])
    assert estimates.mean() == pytest.approx(truth, abs=0.05)
    if ds > n / 2:
        plain = np.mean([run["linear_cka"].value for run in runs])
        assert abs(estimates.mean() - truth) < abs(plain - truth)


def test_the_bootstrap_would_be_biased(rng):
    """Why rows are left out and not drawn again: copies are each other's neighbors in both spaces."""
    X, Y = rng.normal(size=(60, 5)), rng.normal(size=(60, 5))
    found = metrics.likeness(X, Y, k=3)
    again = [rng.integers(0, 60, 60) for _ in range(20)]
    shared = [metrics.mutual_knn_score(X[drawn], Y[drawn], 3) for drawn in again]
    debiased = [metrics.debiased_cka_score(X[drawn], Y[drawn]) for drawn in again]
    assert np.mean(shared) > found["mutual_knn"].high + 0.1
    assert np.mean(debiased) > found["linear_cka"].debiased + 0.025


@pytest.mark.parametrize(("n", "noise"), [(300, 0.5), (300, 3.0)])
def test_as_many_rows_as_are_needed_make_the_interval_as_narrow(rng, n, noise):
    mixing = rng.normal(size=(5, 5))

    def draw(count):
        X = rng.normal(size=(count, 5))
        return X, X @ mixing / np.sqrt(5) + noise * rng.normal(size=(count, 5))

    for name in MEASURES:
        needed = metrics.likeness(*draw(n))[name].rows_needed
        halves = [
            (run.high - run.low) / 2 for run in (metrics.likeness(*draw(needed))[name] for _ in range(5))
        ]
        assert 0.02 < np.median(halves) < 0.1, (name, needed)


def test_sides_without_a_likeness(rng):
    other = rng.normal(size=(8, 3))
    constant = metrics.likeness(np.full((8, 2), 0.1), other, k=2)
    assert np.isnan([constant["linear_cka"].value, constant["procrustes_distance"].value]).all()
    assert np.isnan(metrics.debiased_cka_score(np.full((8, 2), 0.1), other))
    # All as far from each other: nothing tells one pair from another.
    assert np.isnan(metrics.debiased_cka_score(np.eye(8), other))
    simplex = metrics.likeness(np.eye(8), other, k=2)
    assert np.isnan(simplex["linear_cka"].p_value)
    assert simplex["procrustes_distance"].p_value == 1
    assert metrics.likeness(np.zeros((8, 2)), other, k=2)["mutual_knn"].value <= 1


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6])
def test_few_rows_have_what_they_can_have(rng, n):
    X, Y = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    found = metrics.likeness(X, Y, k=3)
    assert np.isnan(found["linear_cka"].debiased) == (n < 4)
    assert np.isnan(found["linear_cka"].low) == (n < 5)
    assert np.isnan(found["mutual_knn"].value) == (n < 4)
    assert np.isnan(found["mutual_knn"].debiased) == (n < 5)
    assert np.isnan(found["mutual_knn"].low) == (n < 6)
    assert np.isnan(found["procrustes_distance"].debiased) == (n < 3)


def test_bad_input(rng):
    X = rng.normal(size=(6, 3))
    with pytest.raises(ValueError, match="debiased_cka_score needs at least 4 pairs of rows; got 3"):
        metrics.debiased_cka_score(X[:3], X[:3])
    with pytest.raises(ValueError, match="X has 6 rows, Y has 5"):
        metrics.debiased_cka_score(X, X[:5])
    with pytest.raises(ValueError, match="debiased_cka_score: the target Y needs finite values; 6 of 6"):
        metrics.debiased_cka_score(X, X * np.inf)
    with pytest.raises(ValueError, match="likeness: the source X needs finite values; 6 of 6"):
        metrics.likeness(X * np.nan, X)
    with pytest.raises(ValueError, match="k ≥ 1 and n_permutations ≥ 19; got k=0, n_permutations=99"):
        metrics.likeness(X, X, k=0)
    with pytest.raises(ValueError, match="n_permutations=18"):
        metrics.likeness(X, X, n_permutations=18)
    with pytest.raises(ValueError, match=r"likeness needs whole numbers; got n_permutations=99\.5"):
        metrics.likeness(X, X, n_permutations=99.5)
    with pytest.raises(TypeError, match="likeness needs a random_state"):
        metrics.likeness(X, X, random_state="a")


def test_debiased_cka_is_not_above_one():
    for seed in range(40):
        X = np.random.default_rng(seed).normal(size=(30, 5))
        assert metrics.debiased_cka_score(X, X) <= 1
        assert metrics.likeness(X, X, n_permutations=19)["linear_cka"].debiased <= 1
