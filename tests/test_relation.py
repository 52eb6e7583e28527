"""The permutation test, against all permutations; and whom `fit` warns."""

import itertools
import tracemalloc
import warnings

import numpy as np
import pytest
from scipy import stats

import latalign
from latalign import permutation
from latalign._validation import Pairs
from latalign.permutation import pearson_tail, permutation_moments
from latalign.relation import relation_p_value, require_related
from problems import pairs, rotation


def kernel(rows):
    x = rows - rows.mean(axis=0)
    return x @ x.T


def traces(gram):
    return np.trace(gram), np.trace(gram @ gram), np.trace(gram @ gram @ gram), (gram.diagonal() ** 2).sum()


def test_the_moments_are_those_of_all_orders(rng):
    a, b = kernel(rng.standard_t(3, size=(6, 4))), kernel(rng.normal(size=(6, 3)))
    orders = (list(order) for order in itertools.permutations(range(6)))
    found = np.array([(a * b[np.ix_(order, order)]).sum() for order in orders])
    mean, variance, _ = permutation_moments(traces(a), traces(b), 6)
    assert np.isclose(mean, found.mean(), rtol=1e-12)
    assert np.isclose(variance, found.var(), rtol=1e-12)


def test_the_third_moment_is_that_of_random_rotations():
    a, b = np.array([5, 2, 1, 1, 0.5, 0, 0]), np.array([4, 1, 1, 0.2, 0.1, 0, 0])
    turns = stats.ortho_group.rvs(7, size=100_000, random_state=1)
    found = np.einsum("i,nij,j->n", a, turns**2, b)
    powers = [(*((side**power).sum() for power in (1, 2, 3)), 0.0) for side in (a, b)]
    _, _, third = permutation_moments(*powers, 8)
    assert np.isclose(third, ((found - found.mean()) ** 3).mean(), rtol=0.1)


def drawn_in(x):
    x = x - np.median(x, axis=0)
    length = np.linalg.norm(x, axis=1)
    x = x * np.minimum(1, 2 * np.median(length) / length)[:, None]
    return x - x.mean(axis=0)


def kernels(x):
    """The kernels of one side, whole: rows as they are, and rows of even columns, cut down and all alike."""
    x = drawn_in(x)
    deviation = x.std(axis=0)
    even = drawn_in(x[:, deviation > 0] / deviation[deviation > 0])
    left, values, _ = np.linalg.svd(even, full_matrices=False)
    left, values = left[:, values > 1e-6 * values[0]], values[values > 1e-6 * values[0]] ** 2
    return x @ x.T, (left * (values / (values + 0.1 * values.mean()))) @ left.T, left @ left.T


@pytest.mark.parametrize("dims", [(8, 12), (8, 90), (90, 8), (70, 90), (40, 41)])
@pytest.mark.parametrize("kind", ["related", "rogue", "deficient"])
def test_p_values_are_those_of_whole_kernels(monkeypatch, dims, kind):
    monkeypatch.setattr(permutation, "_PART_VALUES", 100)  # many parts
    rng = np.random.default_rng(sum(dims))
    X, Y = (rng.normal(size=(41, dim)) for dim in dims)
    Y[:, :4] += 0.4 * X[:, :4]
    if kind == "rogue":
        X[:, 0] *= 50
        Y[:, -1] *= 50
    elif kind == "deficient":
        X[:, 1], Y[:, 1] = 3.0, Y[:, 0]
    a, b = kernels(X), kernels(Y)
    tails = []
    for i, j in ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1)):
        mean, variance, third = permutation_moments(traces(a[i]), traces(b[j]), 41)
        if variance > 1e-9 * mean**2:
            skew = min(max(third / variance**1.5, 0), 6)
            tails.append(pearson_tail(((a[i] * b[j]).sum() - mean) / variance**0.5, skew))
    found = relation_p_value(Pairs.of(X, Y))
    assert found == pytest.approx(min(1, len(tails) * min(tails)), rel=1e-6)


def test_doubt_takes_little_memory(rng):
    """What a second look at 4096 rows takes beyond them, also where they were copied three times before."""
    X, Y = (rng.standard_normal((5000, dim), np.float32) for dim in (128, 256))
    tracemalloc.start()
    try:
        assert relation_p_value(Pairs.of(X, Y)) > 0.01
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20  # one copy of these rows in float64 is 12 MiB


@pytest.mark.parametrize(("rows", "dim"), [(12, 4), (12, 60), (60, 8), (300, 8)])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "one wide direction"])
def test_shuffled_pairs_have_uniform_p_values(rows, dim, kind):
    rng = np.random.default_rng(rows * dim)
    found = []
    for _ in range(200):
        X, Y = rng.normal(size=(rows, dim)), rng.normal(size=(rows, dim))
        if kind == "heavy tails":
            X, Y = (side / np.sqrt(rng.gamma(1.5, size=(rows, 1))) for side in (X, Y))
        elif kind == "one wide direction":
            X[:, 0] *= 5
            Y[:, 0] *= 5
        found.append(relation_p_value(Pairs.of(X, Y)))
    assert stats.binomtest(int(np.sum(np.array(found) <= 0.05)), 200, 0.05, "greater").pvalue > 1e-3


@pytest.mark.parametrize("rows", [12, 30, 1000])
@pytest.mark.parametrize("dim", [8, 100])
def test_related_pairs_are_told(rng, rows, dim):
    X = rng.normal(size=(rows, dim))
    Y = X @ rotation(rng, dim) + 0.5 * rng.normal(size=(rows, dim))
    assert relation_p_value(Pairs.of(X, Y)) < 0.01


def test_a_relation_in_the_narrow_directions_is_told(rng):
    """What explains little of either side, behind wide directions that have nothing to do with each other."""
    X, Y = rng.normal(size=(2000, 20)), rng.normal(size=(2000, 20))
    Y[:, 10:] = X[:, 10:] + rng.normal(size=(2000, 10))
    X[:, :10] *= 30
    Y[:, :10] *= 30
    assert relation_p_value(Pairs.of(X, Y)) < 1e-6
    assert relation_p_value(Pairs.of(X, Y[rng.permutation(2000)])) > 1e-4


def test_equal_pairs_say_nothing_for_each_other(rng):
    X, Y = np.tile(rng.normal(size=(8, 3)), (50, 1)), np.tile(rng.normal(size=(8, 3)), (50, 1))
    assert np.isnan(relation_p_value(Pairs.of(X, Y)))


def test_where_every_order_is_as_good(rng):
    assert np.isnan(relation_p_value(Pairs.of(np.eye(30), rng.normal(size=(30, 4)))))


def test_the_scale_and_the_place_of_rows_do_not_matter(rng):
    X, Y = pairs(rng, 40, 5, 5, noise=5.0)
    plain = relation_p_value(Pairs.of(X, Y))
    assert np.isclose(relation_p_value(Pairs.of(1e150 * X, 1e-150 * Y + 1e-149)), plain, rtol=1e-6)


def test_fit_warns_of_shuffled_pairs(rng):
    X, Y = pairs(rng, 300, 6, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        latalign.fit(X, Y)
    shuffled = Y[np.random.default_rng(1).permutation(300)]
    with pytest.warns(latalign.UnrelatedPairsWarning, match=r"cannot be told from shuffled ones .*p = "):
        latalign.fit(X, shuffled)
    with pytest.raises(ValueError, match=r"fit: the pairs cannot be told .* latalign.audit .* Do it anyway"):
        require_related(X, shuffled, "fit", "Do it anyway.")


def test_what_is_not_refused_is_not_warned_of():
    """One rule: between p = 0.01 and 0.05 neither is said."""
    between = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        X, Y = rng.normal(size=(2, 20, 4))
        p = relation_p_value(Pairs.of(X, Y))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            latalign.fit(X, Y, "ridge", alpha=1.0)
        assert bool(caught) == (p > 0.05)
        if p > 0.05:
            with pytest.raises(ValueError, match="cannot be told"):
                require_related(X, Y, "fit", "")
        else:
            require_related(X, Y, "fit", "")
        between += 0.01 < p <= 0.05
    assert between > 2


@pytest.mark.parametrize("name", ["RidgeAligner", "AutoAligner", "RigidAligner"])
def test_estimators_say_nothing(rng, name):
    """A grid search would say it a hundred times."""
    X, Y = rng.normal(size=(2, 60, 4))
    getattr(latalign, name)().fit(X, Y)
