"""`shrunk`: its two ends, its equivariance, the path from fold moments against rows, and what it costs."""

import json
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import latalign
from latalign import METHODS, AffineMap, Candidate, Evidence, IllConditionedWarning, Moments, cross_validate
from latalign.metrics import squared_error
from latalign.moments import all_but_one
from latalign.paths import best_scales, seen_rotation, shrunk_parabolas
from latalign.solve import affine, ridge, shrunk, similarity
from problems import SHAPES, centred, lstsq, pairs, relative, rotation

SIZES = [(60, 8, 6), (60, 6, 8), (12, 20, 9), (20, 20, 20), (26, 20, 20)]
GRID = np.array([0.0, 1e-3, 0.1, 10.0, 1e4, np.inf])


def by_rows(X, Y, alpha, scale):
    """The definition on rows, by a stacked least-squares problem: no code of the library."""
    x, y = centred(X, Y)
    left, _, right = np.linalg.svd(x.T @ y, full_matrices=False)
    rank = min(np.linalg.matrix_rank(x.T @ y), len(X) - 1)
    turn = left[:, :rank] @ right[:rank]
    if math.isinf(alpha):
        return scale * turn
    if alpha == 0:
        return lstsq(X, Y)
    root = np.sqrt(alpha)
    return np.linalg.lstsq(
        np.vstack([x, root * np.eye(x.shape[1])]), np.vstack([y, root * scale * turn]), rcond=None
    )[0]


# Laws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SHAPES, ids=str)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 50.0, np.inf])
def test_it_is_its_definition(rng, size, alpha):
    X, Y = pairs(rng, *size)
    found = shrunk(Moments.of(X, Y), alpha=alpha, scale=0.7)
    assert relative(found.matrix, by_rows(X, Y, alpha, 0.7)) < 1e-8
    assert (found.evidence.alpha, found.evidence.scale) == (alpha, 0.7)


@pytest.mark.parametrize("size", SHAPES, ids=str)
def test_the_ends_of_the_path(rng, size):
    m = Moments.of(*pairs(rng, *size))
    assert relative(shrunk(m, alpha=1e-9, scale=1).matrix, affine(m).matrix) < 1e-5
    far, end = (shrunk(m, alpha=alpha, scale=2.0).matrix for alpha in (1e12, np.inf))
    assert relative(far, end) < 1e-6
    assert relative(shrunk(m, alpha=3.0, scale=0).matrix, ridge(m, alpha=3.0).matrix) < 1e-9
    values = np.linalg.svd(end, compute_uv=False)
    seen = min(size[0] - 1, *size[1:])
    np.testing.assert_allclose(values[:seen], 2, rtol=1e-9)
    np.testing.assert_allclose(values[seen:], 0, atol=1e-9)


def test_the_end_is_similarity_where_all_is_seen(rng):
    m = Moments.of(*pairs(rng, 100, 6, 6))
    assert relative(shrunk(m, alpha=np.inf).matrix, similarity(m).matrix) < 1e-12


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_scale_of_the_source_changes_nothing(rng, size):
    X, Y = pairs(rng, *size, noise=0.5)
    plain, scaled = (
        latalign.fit_moments(*(Moments.of(c * X[k::4], Y[k::4]) for k in range(4)), method="shrunk")
        for c in (1, 1000)
    )
    np.testing.assert_allclose(scaled(1000 * X), plain(X), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("given_", [{}, {"alpha": 2.0}])
def test_turning_either_space_turns_the_map(rng, size, given_):
    X, Y = pairs(rng, *size, noise=0.5)
    source, target = rotation(rng, size[1]), rotation(rng, size[2])

    def found(X, Y):
        return latalign.fit_moments(
            *(Moments.of(X[k::4], Y[k::4]) for k in range(4)), method="shrunk", **given_
        )

    turned = found(X @ source, Y @ target)
    assert relative(turned.matrix, source.T @ found(X, Y).matrix @ target) < 1e-6


# The path -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_the_path_is_k_fold_on_rows(rng, size):
    """Q fitted anew to the rows of the other folds; the parabola in the scale, at several scales."""
    X, Y = pairs(rng, *size, noise=0.5)
    number = np.arange(len(X)) % 4
    folds = [Moments.of(X[number == k], Y[number == k]) for k in range(4)]
    per_fold = [shrunk_parabolas(t, f, GRID) for t, f in zip(all_but_one(folds), folds, strict=True)]
    for k, (free, slope, curvature) in enumerate(per_fold):
        train, test = number != k, number == k
        for j, alpha in enumerate(GRID):
            for scale in (0.0, 0.6, 1.5):
                W = by_rows(X[train], Y[train], alpha, scale)
                left = (X[test] - X[train].mean(0)) @ W - (Y[test] - Y[train].mean(0))
                found = free[j] - 2 * slope[j] * scale + curvature[j] * scale**2
                assert found == pytest.approx((left**2).sum(), rel=1e-10)


def test_the_scale_is_the_vertex_between_ridge_and_similarity(rng):
    parabolas = np.abs(rng.normal(size=(3, 5)))
    top = parabolas[1, -1] / parabolas[2, -1]
    expected = np.clip(parabolas[1] / parabolas[2], 0, top)
    np.testing.assert_allclose(best_scales(parabolas), expected)
    assert (best_scales(parabolas * [[1], [-1], [1]]) == 0).all()


def test_the_choice_is_the_strongest_of_the_best_of_the_grid(rng):
    X, Y = pairs(rng, 40, 10, 10, noise=1)
    folds = [Moments.of(X[k::5], Y[k::5]) for k in range(5)]
    grid, sums = METHODS["shrunk"].tried(all_but_one(folds), folds)
    slow = [
        [squared_error(shrunk(train, **point), fold) for point in grid]
        for train, fold in zip(all_but_one(folds), folds, strict=True)
    ]
    np.testing.assert_allclose(sums, slow, rtol=1e-7)
    total = np.sum(slow, axis=0)
    away = np.array(slow) - np.array(slow)[:, [total.argmin()]]
    error_of_the_difference = np.sqrt(5) * away.std(axis=0, ddof=1)
    best = grid[max(k for k in range(52) if away[:, k].sum() <= 0.5 * error_of_the_difference[k])]
    assert best["alpha"] >= grid[total.argmin()]["alpha"]
    fitted = latalign.fit_moments(*folds, method="shrunk")
    assert (fitted.evidence.alpha, fitted.evidence.scale) == (best["alpha"], best["scale"])
    found = cross_validate(folds, [METHODS["shrunk"]])[0]
    assert (found.alpha, found.scale) == (best["alpha"], best["scale"])
    expected = shrunk(sum(folds[1:], folds[0]), **best)
    np.testing.assert_array_equal(fitted.matrix, expected.matrix)


def test_a_rotation_is_found_and_so_is_any_matrix(rng):
    X = rng.normal(size=(2000, 12))
    turn, free = 2 * rotation(rng, 12), rng.normal(size=(12, 12))
    few = X[:40], X[:40] @ turn + rng.normal(size=(40, 12))
    error = {
        name: relative(latalign.fit(*few, name).matrix, turn) for name in ("similarity", "affine", "shrunk")
    }
    assert error["shrunk"] < min(1.1 * error["similarity"], 0.9 * error["affine"])
    with_many = latalign.fit(X, X @ free + rng.normal(size=(2000, 12)), "shrunk")
    assert relative(with_many.matrix, free) < 0.05


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SIZES), st.sampled_from(["rotation", "any"]))
def test_it_loses_little_to_the_better_and_nothing_to_the_worse(seed, size, truth):
    n, ds, dt = size
    rng = np.random.default_rng(seed)
    matrix = rotation(rng, max(ds, dt))[:ds, :dt] if truth == "rotation" else rng.normal(size=(ds, dt))
    X = rng.normal(size=(n + 500, ds))
    Y = X @ matrix + 0.3 * rng.normal(size=(n + 500, dt))
    heldout = Moments.of(X[n:], Y[n:])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        error = {
            name: squared_error(latalign.fit(X[:n], Y[:n], name), heldout)
            for name in ("rigid", "affine", "shrunk")
        }
    assert error["shrunk"] < 1.05 * max(error["rigid"], error["affine"])
    assert error["shrunk"] < 1.5 * min(error["rigid"], error["affine"])


# What it asks for, and what it leaves -------------------------------------------------------------


def test_one_sum_of_moments_does_not_choose(rng):
    m = Moments.of(*pairs(rng, 30, 4, 4))
    with pytest.raises(
        ValueError, match=r"'shrunk' chooses by cross-validation .* Give several .* parameters"
    ):
        latalign.fit_moments(m, method="shrunk")
    found = latalign.fit_moments(m, method="shrunk", alpha=2.0)
    assert relative(found.matrix, shrunk(m, alpha=2.0).matrix) < 1e-15


@pytest.mark.parametrize("alpha", [-1, -np.inf, np.nan, "much", [1.0, 2.0], 1j, None])
def test_a_penalty_that_is_none(rng, alpha):
    with pytest.raises(ValueError, match="alpha needs"):
        shrunk(Moments.of(*pairs(rng, 30, 4, 3)), alpha=alpha)


@pytest.mark.parametrize("scale", [-1, np.inf, np.nan, "much", [1.0, 2.0], 1j])
def test_a_scale_that_is_none(rng, scale):
    with pytest.raises(ValueError, match="shrunk needs a scale that is finite and zero or more; got"):
        shrunk(Moments.of(*pairs(rng, 30, 4, 3)), alpha=1.0, scale=scale)


def test_without_the_gram_matrix(rng):
    with pytest.raises(ValueError, match="without the source Gram matrix"):
        shrunk(Moments.of(*pairs(rng, 30, 4, 3), grams="none"), alpha=1.0)


@pytest.mark.parametrize("alpha", [0.0, 2.5, np.inf])
def test_the_file_keeps_alpha_and_scale(rng, tmp_path, alpha):
    found = shrunk(Moments.of(*pairs(rng, 30, 4, 4)), alpha=alpha)
    found.save(tmp_path / "map.safetensors")
    again = AffineMap.load(tmp_path / "map.safetensors")
    assert again.evidence == found.evidence
    assert again.evidence.alpha == alpha


def test_other_methods_write_no_scale(rng):
    plain = Evidence(9, 3, 2.0, 1e-15, candidates=(Candidate("rigid", 0.1, 0.01),)).to_json()
    assert "scale" not in json.dumps(plain)
    X, Y = pairs(rng, 60, 4, 4)
    found = latalign.fit(X, Y)
    record = found.evidence.to_json()
    assert [row["method"] for row in record["candidates"] if "scale" in row] == ["shrunk"]
    assert Evidence.from_json(record) == found.evidence


def test_the_rotation_has_no_direction_that_nobody_saw(rng):
    X, Y = pairs(rng, 8, 20, 20)
    turn = seen_rotation(Moments.of(X, Y))
    assert np.linalg.matrix_rank(turn) == 7
    unseen = np.linalg.svd(X - X.mean(0))[2][7:]
    assert np.abs(unseen @ turn).max() < 1e-10
    assert not seen_rotation(Moments.of(X[:1], Y[:1])).any()
