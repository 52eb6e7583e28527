"""Fits with some of the pairs shuffled, against fits to the genuine ones alone."""

import warnings

import numpy as np
import pytest

import latalign
from latalign import METHODS, Moments
from latalign._validation import Pairs
from latalign.metrics import mean_squared_error
from latalign.robust import weighed
from problems import rotation

ALIGNERS = [name for name in latalign.__all__ if name.endswith("Aligner")]


def problem(rng, rows, dim, noise=0.2):
    X = rng.normal(size=(rows + 1000, dim)) * np.geomspace(1, 0.3, dim)
    Y = 2 + X @ (rotation(rng, dim) * np.geomspace(0.7, 1.4, dim))
    Y += noise * Y.std() * rng.normal(size=Y.shape)
    wrong = rng.permutation(rows)[: rows // 5]
    shuffled = Y[:rows].copy()
    shuffled[wrong] = Y[np.roll(wrong, 1)]
    genuine = np.setdiff1d(np.arange(rows), wrong)
    return X[:rows], Y[:rows], shuffled, genuine, Moments.of(X[rows:], Y[rows:])


@pytest.mark.parametrize(("rows", "dim"), [(60, 8), (100, 40), (400, 16)])
@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_a_fifth_of_the_pairs_shuffled(rng, rows, dim, method):
    X, Y, shuffled, genuine, heldout = problem(rng, rows, dim)
    clean = mean_squared_error(latalign.fit(X[genuine], Y[genuine], method), heldout)
    found = latalign.fit(X, shuffled, method, robust=True)
    assert mean_squared_error(found, heldout) <= 1.1 * clean
    plain = mean_squared_error(latalign.fit(X, shuffled, method), heldout)
    if method in ("affine", "ridge"):
        assert plain > 1.3 * clean
    assert found.evidence.robust["pairs"] == rows
    assert found.evidence.robust["ignored"] >= 0.8 * (rows // 5)
    assert found.evidence.anchors == rows - found.evidence.robust["ignored"]


def test_genuine_pairs_keep_their_weight(rng):
    X, Y, _, _, heldout = problem(rng, 300, 16)
    factor = weighed(Pairs.of(X, Y)).factor
    assert factor.mean() > 0.98
    robust, plain = (latalign.fit(X, Y, "ridge", robust=on) for on in (True, False))
    assert mean_squared_error(robust, heldout) <= 1.01 * mean_squared_error(plain, heldout)


@pytest.mark.parametrize(("rows", "dim"), [(20, 4), (16, 16), (24, 16)])
def test_few_genuine_pairs_keep_their_weight(rows, dim):
    """Of so few the spread is uncertain: what is nearer than all other pairings is no error for being far."""
    ratios = []
    for seed in range(6):
        X, Y, _, _, heldout = problem(np.random.default_rng([seed, rows]), rows, dim, noise=0.05)
        robust, plain = (latalign.fit(X, Y, "shrunk", robust=on) for on in (True, False))
        ratios.append(mean_squared_error(robust, heldout) / mean_squared_error(plain, heldout))
    assert np.mean(ratios) <= 1.05


def test_a_fit_that_cannot_tell_says_so(rng):
    X, _, shuffled, _, _ = problem(rng, 20, 16, noise=0.5)
    with pytest.warns(
        latalign.UnrelatedPairsWarning, match=r"a robust fit could tell of .*% .* Give more pairs"
    ):
        found = latalign.fit(X, shuffled, "ridge", robust=True)
    assert found.evidence.robust["clear"] < 0.95
    X, _, shuffled, _, _ = problem(rng, 100, 16)
    assert latalign.fit(X, shuffled, "ridge", robust=True).evidence.robust["clear"] > 0.95


def test_gross_outliers_on_either_side(rng):
    X, Y, _, _, heldout = problem(rng, 200, 8)
    clean = mean_squared_error(latalign.fit(X[20:], Y[20:], "affine"), heldout)
    X, Y = X.copy(), Y.copy()
    X[:10] *= 1e6
    Y[10:20] += 1e6
    assert mean_squared_error(latalign.fit(X, Y, "affine", robust=True), heldout) <= 1.05 * clean


def test_weights_are_multiplied_and_duplicates_stay_together(rng):
    X, _, shuffled, _, _ = problem(rng, 100, 6)
    twice = latalign.fit(np.vstack([X, X]), np.vstack([shuffled, shuffled]), "affine", robust=True)
    weighted = latalign.fit(X, shuffled, "affine", sample_weight=np.full(100, 2.0), robust=True)
    np.testing.assert_allclose(twice.matrix, weighted.matrix, rtol=1e-6)


@pytest.mark.filterwarnings(
    "ignore::latalign.IllConditionedWarning", "ignore::latalign.UnrelatedPairsWarning"
)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["linear", "affine"])
def test_a_small_weight_is_not_gone_through(seed, name):
    """With fewer pairs than dimensions plain least squares fits them all, however little they weigh."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(80 + 1000, 100)) * np.geomspace(1, 0.1, 100)
    Y = X @ rng.normal(size=(100, 100))
    Y += 0.45 * Y.std() * rng.normal(size=Y.shape)
    wrong = rng.permutation(80)[:16]
    genuine = np.setdiff1d(np.arange(80), wrong)
    shuffled = Y[:80].copy()
    shuffled[wrong] = Y[np.roll(wrong, 1)]
    heldout = Moments.of(X[80:], Y[80:])
    clean = mean_squared_error(latalign.fit(X[genuine], Y[genuine], name), heldout)
    robust = mean_squared_error(latalign.fit(X[:80], shuffled, name, robust=True), heldout)
    assert robust < 1.1 * clean


@pytest.mark.parametrize("name", ALIGNERS)
def test_the_estimators(rng, name):
    X, Y, shuffled, genuine, heldout = problem(rng, 200, 8)
    aligner = getattr(latalign, name)
    clean = mean_squared_error(aligner().fit(X[genuine], Y[genuine]).map_, heldout)
    found = aligner(robust=True).fit(X, shuffled).map_
    assert mean_squared_error(found, heldout) <= 1.1 * clean
    assert found.evidence.robust["ignored"] > 30
    with pytest.raises(ValueError, match=rf"{name}\(robust=True\).partial_fit: .* call fit\(X, y\)"):
        aligner(robust=True).partial_fit(X, Y)
    with pytest.raises(ValueError, match=r"fit_moments: a robust fit .* all rows at once"):
        aligner(robust=True).fit_moments(Moments.of(X[:9], Y[:9]), Moments.of(X[9:], Y[9:]))


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 9])
def test_very_few_pairs(rng, rows):
    X, Y = rng.normal(size=(rows, 3)), rng.normal(size=(rows, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        warnings.simplefilter("ignore", latalign.UnrelatedPairsWarning)
        found = latalign.fit(X, Y, "ridge", alpha=1.0, robust=True)
    assert np.isfinite(found.matrix).all()
    assert found.evidence.robust["pairs"] == rows


def test_the_record_in_a_map_file(rng, tmp_path):
    X, _, shuffled, _, _ = problem(rng, 100, 6)
    found = latalign.fit(X, shuffled, "rigid", robust=True)
    found.save(tmp_path / "map.safetensors")
    again = latalign.AffineMap.load(tmp_path / "map.safetensors")
    assert again.evidence.robust == found.evidence.robust
    assert "robust" not in latalign.fit(X, shuffled, "rigid").evidence.to_json()
