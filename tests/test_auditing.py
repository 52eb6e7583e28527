"""Which rows do not correspond, where that is known."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import latalign
from latalign._linalg import squared_distances
from latalign._validation import Pairs
from latalign.leave_one_out import LeaveOneOut
from problems import pairs, rotation


def related(rng, rows=200, dim=12, noise=0.1):
    X = rng.normal(size=(rows, dim))
    return X, X @ rotation(rng, dim) + noise * rng.normal(size=(rows, dim))


@pytest.mark.parametrize(
    ("size", "centred"), [(size, centred) for size in ((30, 8, 5), (12, 20, 9)) for centred in (True, False)]
)
def test_a_row_left_out_is_a_fit_without_it(rng, size, centred):
    X, Y = pairs(rng, *size)
    weight = rng.uniform(0.2, 1, len(X))
    fit = LeaveOneOut.of(Pairs.of(X, Y, weight), 0.7, centred=centred)
    mapped, residual, leverage = fit.without(Pairs(X, Y, weight))
    np.testing.assert_allclose(mapped + residual, Y, rtol=1e-10)
    for i in range(len(X)):
        kept = np.arange(len(X)) != i
        x, y, w = X[kept], Y[kept], weight[kept]
        means = [np.average(side, axis=0, weights=w) if centred else 0.0 for side in (x, y)]
        x, y = x - means[0], y - means[1]
        gram = (x * w[:, None]).T @ x + 0.7 * np.eye(size[1])
        here = X[i] - means[0]
        expected = here @ np.linalg.solve(gram, (x * w[:, None]).T @ y) + means[1]
        np.testing.assert_allclose(mapped[i], expected, rtol=1e-6, atol=1e-8)
        inside = here @ np.linalg.solve(gram, here) + (1 / w.sum() if centred else 0)
        assert np.isclose(leverage[i], inside, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_distances_far_from_the_origin(rng, dtype):
    a, b = (1e5 + rng.normal(size=(rows, 6)).astype(dtype) for rows in (7, 4))
    expected = cdist(a, b, "sqeuclidean")
    np.testing.assert_allclose(squared_distances(a, b), expected, rtol=1e-6)
    assert (squared_distances(a, a[:1])[0] == 0).all()


def test_a_row_that_is_not_in_the_fit(rng):
    X, Y = pairs(rng, 30, 4, 3)
    fit = LeaveOneOut.of(Pairs.of(X[1:], Y[1:]), 0.5)
    mapped, _, _ = fit.without(Pairs(X[:1], Y[:1], np.zeros(1)))
    expected = latalign.solve.ridge(latalign.Moments.of(X[1:], Y[1:]), alpha=0.5)(X[:1])
    np.testing.assert_allclose(mapped, expected, rtol=1e-10)


@pytest.mark.parametrize("rows", [60, 400])
@pytest.mark.parametrize("noise", [0.05, 0.5])
def test_genuine_pairs_are_sound(rng, rows, noise):
    found = latalign.audit(*related(rng, rows, noise=noise))
    assert found.sound
    assert found.p_value < 1e-6
    assert found.shift == 0
    assert len(found.suspicious) <= 1


def test_genuine_pairs_with_heavy_tails_are_hardly_suspected(rng):
    X, Y = related(rng, 1000)
    Y += 0.1 * rng.standard_t(3, size=Y.shape) * np.exp(0.5 * rng.normal(size=(1000, 1)))
    assert len(latalign.audit(X, Y).suspicious) <= 10


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35])
def test_shuffled_rows_are_found_and_put_right(rng, share):
    X, Y = related(rng, 400)
    wrong = rng.permutation(400)[: int(share * 400)]
    Y[wrong] = Y[np.roll(wrong, 1)]
    found = latalign.audit(X, Y)
    assert set(found.suspicious) <= set(wrong)
    assert len(found.suspicious) >= 0.9 * len(wrong)
    origin = dict(zip(np.roll(wrong, 1), wrong, strict=True))
    told = [one for one in found.suspicions if one.belongs_to is not None]
    assert len(told) >= 0.8 * len(wrong)
    assert all(one.belongs_to == origin[one.row] for one in told)
    assert not found.sound


def test_a_swapped_pair(rng):
    X, Y = related(rng)
    far = int(np.argmax(np.linalg.norm(Y - Y[10], axis=1)))
    Y[[10, far]] = Y[[far, 10]]
    found = latalign.audit(X, Y)
    assert found.swaps == ((min(10, far), max(10, far)),)
    assert not found.sound


@pytest.mark.parametrize("offset", [1, -2])
def test_rows_that_are_shifted(rng, offset):
    X, Y = related(rng)
    found = latalign.audit(X, np.roll(Y, offset, axis=0))
    assert found.shift == offset
    assert not found.sound
    inside = [one for one in found.suspicions if one.belongs_to is not None]
    assert len(inside) > 150
    assert {(one.belongs_to - one.row) % 200 for one in inside} == {offset % 200}  # the last are the first


def test_a_row_that_was_lost_on_the_way(rng):
    X, Y = related(rng, 300)
    found = latalign.audit(X[:299], np.delete(Y, 220, axis=0))
    assert found.shift == 0
    assert [one.offset for one in found.shifts] == [-1]
    assert abs(found.shifts[0].start - 220) <= 3
    assert min(found.suspicious) >= 220
    assert {one.belongs_to - one.row for one in found.suspicions if one.belongs_to is not None} == {-1}


@pytest.mark.parametrize(("dim", "offset"), [(12, 1), (4, 2)])
def test_a_shift_that_begins_in_the_middle(rng, dim, offset):
    """Rows were put in on one side: those behind them are shifted, half of all."""
    X, Y = related(rng, 400, dim)
    Y = np.insert(Y, [180] * offset, rng.normal(size=(offset, dim)), axis=0)[:400]
    found = latalign.audit(X, Y)
    assert [one.offset for one in found.shifts] == [offset]
    assert abs(found.shifts[0].start - 180) <= 3
    assert found.shifts[0].stop == 400
    assert found.shift == offset
    assert not found.sound
    told = [one for one in found.suspicions if one.belongs_to is not None]
    assert len(told) > 100
    assert np.mean([one.belongs_to - one.row == offset for one in told]) > 0.95
    assert np.mean([one.row >= 177 for one in told]) > 0.98
    assert abs(found.mismatched - 220 / 400) < 0.2


def test_rows_that_were_put_in_and_lost_again(rng):
    X, Y = related(rng, 500)
    Y = np.insert(np.delete(Y, 350, axis=0), 150, rng.normal(size=12), axis=0)
    found = latalign.audit(X, Y)
    assert [one.offset for one in found.shifts] == [1]
    assert abs(found.shifts[0].start - 150) <= 3
    assert abs(found.shifts[0].stop - 350) <= 3
    assert found.shift == 0  # two in five


def test_rows_that_change_slowly_are_not_shifted(rng):
    """Each is nearly the next one, so that by chance targets a little later are nearer for a while."""
    X = np.cumsum(rng.normal(size=(400, 6)), axis=0)
    noise = np.cumsum(0.1 * rng.normal(size=(400, 6)), axis=0)
    assert latalign.audit(X, X @ rotation(rng, 6) + noise).shifts == ()


@pytest.mark.parametrize("share", [0.5, 0.65, 0.8])
@pytest.mark.parametrize("rows", [200, 1000])
def test_most_pairs_are_wrong(rng, rows, share):
    X, Y = related(rng, rows)
    wrong = rng.permutation(rows)[: int(share * rows)]
    Y[wrong] = Y[np.roll(wrong, 1)]
    found = latalign.audit(X, Y)
    assert not found.sound
    assert found.mostly_mismatched
    assert abs(found.mismatched - share) < 0.2
    assert found.shifts == ()


@pytest.mark.parametrize(("dim", "noise"), [(2, 0.3), (8, 1.0), (12, 1.5), (60, 1.5)])
def test_genuine_pairs_are_not_taken_for_wrong(rng, dim, noise):
    """Down to an R² of about 0.3, of which few rows leave a map less."""
    found = latalign.audit(*related(rng, 300, dim, noise))
    assert not found.mostly_mismatched
    assert found.shifts == ()


def test_pairs_in_any_order(rng):
    X, Y = related(rng)
    found = latalign.audit(X, Y[np.random.default_rng(3).permutation(200)])
    assert found.p_value > 0.01
    assert not found.sound


def test_copies_are_in_conflict(rng):
    X, Y = related(rng)
    far = int(np.argmax(np.linalg.norm(Y - Y[7], axis=1)))
    Y[7] = Y[far]
    found = latalign.audit(X, Y)
    assert found.conflicts == (tuple(sorted((7, far))),)
    assert list(found.suspicious) == [7]
    assert not found.sound
    both = latalign.audit(np.vstack([X, X]), np.vstack([Y, Y]))
    assert {7, 207} <= set(both.suspicious)  # a duplicate does not vouch for its pair


def test_the_record_is_plain_json(rng):
    X, Y = related(rng)
    Y[[1, 2]] = Y[[2, 1]]
    record = json.loads(json.dumps(latalign.audit(X, Y).to_json(), allow_nan=False))
    assert record["rows"] == 200
    assert record["shifts"] == []
    assert {row["row"] for row in record["suspicious"]} <= {1, 2}


@pytest.mark.parametrize(
    ("X", "Y", "given", "words"),
    [
        (np.eye(9), np.eye(9), {}, "at least 10 pairs of rows to tell from; got 9"),
        (np.ones((12, 2)), np.eye(12), {}, "all 12 rows of the source X are the same"),
        (np.eye(12), np.eye(11), {}, "X has 12 rows, Y has 11"),
        (np.full((12, 2), np.nan), np.eye(12), {}, "12 of 12 rows contain NaN"),
        (np.eye(12), np.eye(12), {"false_positive_rate": 0.0}, "false_positive_rate above 0"),
        (np.eye(12), np.eye(12), {"random_state": "a"}, "random_state"),
    ],
)
def test_bad_input(X, Y, given, words):
    with pytest.raises((ValueError, TypeError), match=words):
        latalign.audit(X, Y, **given)
