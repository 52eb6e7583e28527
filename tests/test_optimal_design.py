"""D-optimal anchors: against brute force, and the leverages against their definition."""

from itertools import combinations

import numpy as np
import pytest

from latalign import d_optimal_anchors, farthest_point_anchors, kmeans_anchors, random_anchors
from latalign.optimal_design import _Design


def extended(X):
    centred = X - X.mean(axis=0)
    return np.column_stack([centred, np.full(len(X), np.sqrt((centred**2).mean()))])


def information(X, chosen):
    """Return the logarithm of the determinant that is to be large, by its definition."""
    rows = extended(X.astype(np.float64))
    prior = 1e-3 * rows[0, -1] ** 2
    return np.linalg.slogdet(rows[chosen].T @ rows[chosen] + prior * np.eye(rows.shape[1]))[1]


@pytest.mark.parametrize("count", [2, 4, 6])
def test_it_is_nearly_the_best_of_all(rng, count):
    """As many coefficients as dimensions and one: a tenth of each one's information at most is lost."""
    X = rng.normal(size=(14, 3)) * [1, 2, 0.5] + 4
    best = max(information(X, list(rows)) for rows in combinations(range(14), count))
    found = information(X, d_optimal_anchors(X, count))
    assert found <= best + 1e-9
    assert found > best - 0.1 * 4


@pytest.mark.parametrize("count", [10, 21, 60])
def test_no_other_choice_tells_more(rng, count):
    X = rng.normal(size=(400, 20)) * np.geomspace(1, 0.1, 20)
    found = information(X, d_optimal_anchors(X, count))
    for choose in (farthest_point_anchors, kmeans_anchors):
        assert found > information(X, choose(X, count))
    for seed in range(20):
        assert found > information(X, random_anchors(400, count, random_state=seed)) + 1


def test_no_exchange_of_the_least_useful_row_helps(rng):
    X = rng.normal(size=(60, 4))
    found = d_optimal_anchors(X, 12)
    value = information(X, found)
    rows = extended(X)
    inverse = np.linalg.inv(rows[found].T @ rows[found] + 1e-3 * rows[0, -1] ** 2 * np.eye(5))
    leverage = np.einsum("ij,jk,ik->i", rows, inverse, rows)
    others = found[found != found[leverage[found].argmin()]]
    for row in set(range(60)) - set(found):
        assert information(X, [*others, row]) <= value + 1e-6


def test_leverages_are_those_of_the_definition(rng, monkeypatch):
    monkeypatch.setattr("latalign.anchors._BLOCK_ROWS", 16)
    X = (rng.normal(size=(50, 5)) + 100).astype(np.float32)
    design = _Design(X, np.arange(50))
    gained = [design.add(row) for row in (3, 8, 20, 31, 40, 44, 49)]
    gained += [design.remove(row) for row in (8, 44)]
    rows = extended(X.astype(np.float64))
    kept = [3, 20, 31, 40, 49]
    inverse = np.linalg.inv(rows[kept].T @ rows[kept] + 1e-3 * rows[0, -1] ** 2 * np.eye(6))
    np.testing.assert_allclose(design._leverage, np.einsum("ij,jk,ik->i", rows, inverse, rows), rtol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(design.chosen), kept)
    empty = information(X, [])
    assert sum(gained) == pytest.approx(information(X, kept) - empty, rel=1e-6)


def test_where_the_rows_lie_and_how_long_they_are_makes_no_difference(rng):
    X = rng.normal(size=(100, 6))
    found = d_optimal_anchors(X, 15)
    np.testing.assert_array_equal(d_optimal_anchors(1000 * X + 5, 15), found)
    order = rng.permutation(100)
    np.testing.assert_array_equal(np.sort(order[d_optimal_anchors(X[order], 15)]), found)


def test_chosen_anchors_are_different_rows(rng):
    X = np.repeat(rng.normal(size=(20, 3)), 4, axis=0)
    for count in (1, 7, 80):
        found = d_optimal_anchors(X, count)
        assert found.dtype == np.intp
        assert len(set(found)) == count
        np.testing.assert_array_equal(found, np.sort(found))
        np.testing.assert_array_equal(found, d_optimal_anchors(X, count, random_state=0))
    # Equal rows are equally useful: the seed says which.
    choices = [d_optimal_anchors(X, 7, random_state=seed) for seed in range(5)]
    assert len({tuple(found) for found in choices}) > 1
    assert len({tuple(np.unique(found // 4)) for found in choices}) == 1


def test_rows_that_are_all_the_same_are_as_good_as_any():
    assert len(set(d_optimal_anchors(np.ones((5, 2)), 3))) == 3


def test_what_is_refused():
    with pytest.raises(ValueError, match=r"d_optimal_anchors needs 1 ≤ n_anchors ≤ 2 rows; got 3"):
        d_optimal_anchors([[1.0], [2.0]], 3)
    with pytest.raises(ValueError, match="1 of 2 rows contain NaN"):
        d_optimal_anchors([[1.0], [np.nan]], 1)
    with pytest.raises(TypeError, match="d_optimal_anchors needs a random_state"):
        d_optimal_anchors([[1.0], [2.0]], 1, random_state="a")
