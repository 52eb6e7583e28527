"""Whether rows are nearer under one rotation than another, against SciPy's nearest neighbors and t-test."""

import numpy as np
import pytest
from scipy.spatial import KDTree
from scipy.stats import ttest_1samp

from latalign.unpaired.nearness import log_radii, standard_errors


@pytest.mark.parametrize(("n", "m"), [(2300, 900), (40, 1200), (3, 2)])
def test_the_radii_are_those_of_the_third_nearest(rng, n, m):
    X, Y = rng.normal(size=(n, 4)), rng.normal(size=(m, 4))
    for found, rows, others in zip(log_radii(X, Y), (X, Y), (Y, X), strict=True):
        nearest = min(3, len(others))
        expected = KDTree(others).query(rows, k=[nearest])[0][:, 0]
        np.testing.assert_allclose(found, np.log(expected))


def test_the_standard_errors_are_those_of_a_paired_t_test(rng):
    X, Y = rng.normal(size=(200, 3)), rng.normal(size=(300, 3))
    one, other = log_radii(X, Y), log_radii(X + 1, Y)
    tests = [ttest_1samp(far - near, 0).statistic for near, far in zip(one, other, strict=True)]
    # A t statistic divides by one less.
    assert standard_errors(one, other) == pytest.approx(min(tests), rel=0.01)
    assert standard_errors(other, one) == pytest.approx(-max(tests), rel=0.01)
    assert standard_errors(one, other) > 4


def test_what_is_the_same_is_no_nearer(rng):
    X = np.repeat(rng.normal(size=(5, 2)), 10, axis=0)
    same = log_radii(X, X)
    assert np.isfinite(same).all()
    assert standard_errors(same, same) == 0
    assert np.isfinite(log_radii(np.ones((4, 2)), np.ones((5, 2)))[0]).all()


def test_mirror_images_of_a_symmetric_cloud_are_as_near():
    # Of many draws the differences are about as large as their standard errors.
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        X, Y = rng.laplace(size=(2, 500, 3))
        flip = np.array([-1, 1, 1])
        found.append(standard_errors(log_radii(X, Y), log_radii(X * flip, Y)))
    assert np.abs(found).max() < 4
    X, Y = rng.exponential(size=(2, 500, 3))
    X, Y = X - 1, Y - 1
    assert standard_errors(log_radii(X, Y), log_radii(X * flip, Y)) > 4
