"""Arrays of any scale, dtype and layout at every public function: a finite answer, or a clear refusal."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import latalign
from latalign import METHODS, AffineMap, Moments, Normalize, metrics
from latalign.methods import LEAST_SQUARES
from problems import pairs
from strategies import answers, arrays, paired


@given(paired(), st.sampled_from(["auto", *METHODS]))
def test_fit_and_apply(data, method):
    X, Y = data
    before = X.copy(), Y.copy()
    found = answers(lambda: latalign.fit(X, Y, method))
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])
    if found is not None:
        assert np.isfinite(found.matrix).all()
        assert np.isfinite(found.evidence.error_bound)
        mapped = answers(lambda: found(X))
        assert mapped is None or np.isfinite(mapped.astype(np.float64)).all()


@given(paired(), st.sampled_from(["double", "fast"]))
def test_moments_are_those_of_float64_copies(data, precision):
    X, Y = data
    found = answers(lambda: Moments.of(X, Y, precision=precision))
    if found is None:
        return
    x, y = X.astype(np.float64), Y.astype(np.float64)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    scale = np.outer(np.linalg.norm(x, axis=0), np.linalg.norm(y, axis=0))
    # What a mean may be off by, seen from the spread.
    means = np.outer(np.abs(X.astype(np.float64)).max(axis=0), np.abs(Y.astype(np.float64)).max(axis=0))
    relative, rounding = (1e-12, 1e-28) if precision == "double" else (1e-5, 1e-13)
    tolerance = relative * scale + rounding * len(X) * means + 1e-300
    assert (np.abs(found.xy - x.T @ y) <= tolerance).all()
    assert (found.xx_diagonal >= 0).all()


@given(paired())
def test_affine_fits_at_least_as_well_as_the_mean(data):
    X, Y = data
    found = answers(lambda: latalign.fit(X, Y, "affine"))
    if found is None:
        return
    moments = Moments.of(X, Y)
    mean = AffineMap(moments.source_mean, np.zeros(found.matrix.shape), moments.target_mean)
    errors = metrics.squared_error(found, moments), metrics.squared_error(mean, moments)
    assert errors[0] <= errors[1] * (1 + 1e-6)


@given(st.data())
def test_metrics(data):
    rows = data.draw(st.integers(3, 20))
    dim = data.draw(st.integers(1, 5))
    X, Y = data.draw(arrays(rows, dim)), data.draw(arrays(rows, dim))
    for call in (
        lambda: metrics.mean_cosine_score(X, Y),
        lambda: metrics.recall_score(X, Y),
        lambda: metrics.mrr_score(X, Y),
        lambda: metrics.mutual_knn_score(X, Y, k=2),
        lambda: metrics.crowding(X, Y, k=2).max(),
        lambda: metrics.debiased_cka_score(X, Y) if rows > 3 else 0.0,
    ):
        score = answers(call)
        assert score is None or np.isnan(score) or -1 - 1e-9 <= score <= 1 + 1e-9
    assert answers(lambda: metrics.ranks(X, Y).max()) in (None, *range(1, rows + 1))
    assert answers(lambda: metrics.csls_ranks(X, Y, k=2).max()) in (None, *range(1, rows + 1))
    assert answers(lambda: metrics.k_occurrence(X, Y, k=2).sum()) in (None, 2 * rows)
    assert (answers(lambda: metrics.hubness(X, Y, k=2)) or 0) < rows**0.5
    for measure in (answers(lambda: metrics.likeness(X, Y, k=2, n_permutations=19)) or {}).values():
        assert np.isnan(measure.p_value) or 1 / 20 <= measure.p_value <= 1
        assert np.isnan(measure.low) or -1 <= measure.low <= measure.debiased <= measure.high <= 1
    moments = answers(lambda: Moments.of(X, Y))
    if moments is not None:
        for value in (metrics.linear_cka_score(moments), metrics.procrustes_distance(moments)):
            assert np.isnan(value) or -1e-9 <= value <= np.pi / 2 + 1e-9


@given(st.data())
def test_normalize(data):
    X = data.draw(arrays(data.draw(st.integers(1, 20)), data.draw(st.integers(1, 5))))
    unit = answers(lambda: Normalize()(X))
    if unit is not None:
        lengths = np.linalg.norm(unit.astype(np.float64), axis=1)
        zero = ~X.astype(np.float64).any(axis=1)
        np.testing.assert_allclose(lengths[~zero], 1, atol=3e-3)
        assert not lengths[zero].any()


@given(paired())
def test_evaluate_and_compare(data):
    X, Y = data
    found = answers(lambda: latalign.fit(X, Y, "ridge"))
    if found is None or len(X) < 4:
        return
    evaluation = answers(lambda: latalign.evaluate(found, X, Y))
    if evaluation is not None:
        evaluation.to_json()
    comparison = answers(lambda: latalign.compare(X, Y))
    if comparison is not None:
        comparison.to_json()


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1.0, 1e15, 1e30])
@pytest.mark.parametrize("precision", ["double", "fast"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scale_is_free(rng, scale, precision, dtype):
    """Where the source is scaled, the coefficients scale back."""
    X = rng.normal(size=(300, 5)).astype(dtype)
    Y = (X @ rng.normal(size=(5, 4))).astype(dtype)
    scaled = (X.astype(np.float64) * scale).astype(dtype)
    plain = latalign.fit(X, Y, "affine", precision=precision)
    found = latalign.fit(scaled, Y, "affine", precision=precision)
    np.testing.assert_allclose(found.matrix * scale, plain.matrix, rtol=1e-4, atol=1e-5)


EXPONENTS = st.integers(-498, 498)  # 1e-150 to 1e150
SCALED = [method.name for method in LEAST_SQUARES if method.name not in ("rigid", "orthogonal")]


@given(st.sampled_from(SCALED), EXPONENTS, EXPONENTS, st.sampled_from([12, 60]))
def test_a_power_of_two_changes_nothing_but_the_scale(method, source, target, rows):
    X, Y = pairs(np.random.default_rng(0), rows, 14, 3, noise=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        plain = latalign.fit(X, Y, method)
        found = latalign.fit(np.ldexp(X, source), np.ldexp(Y, target), method)
    back = np.ldexp(found.matrix, source - target)
    np.testing.assert_allclose(back, plain.matrix, rtol=1e-9, atol=1e-12)
    one, other = plain.evidence, found.evidence
    assert other.rank == one.rank
    assert other.target_rank == one.target_rank
    if one.alpha is not None:
        assert np.ldexp(other.alpha, -2 * source) == pytest.approx(one.alpha, rel=1e-12)
    if one.scale is not None:
        assert np.ldexp(other.scale, source - target) == pytest.approx(one.scale, rel=1e-9)


@given(EXPONENTS, st.sampled_from(["mse", "recall@1"]))
def test_the_choice_does_not_depend_on_the_unit(exponent, scoring):
    X, Y = pairs(np.random.default_rng(1), 60, 5, 4, noise=0.5)
    plain, found = (
        latalign.fit(np.ldexp(X, e), np.ldexp(Y, e), scoring=scoring).evidence for e in (0, exponent)
    )
    assert [one.method for one in found.candidates] == [one.method for one in plain.candidates]
    unit = 2 * exponent if scoring == "mse" else 0
    for one, other in zip(plain.candidates, found.candidates, strict=True):
        assert np.ldexp(other.error, -unit) == pytest.approx(one.error, rel=1e-9)
        assert np.ldexp(other.standard_error, -unit) == pytest.approx(one.standard_error, rel=1e-6)


@given(EXPONENTS, EXPONENTS)
def test_auto_in_any_two_units(source, target):
    X, Y = pairs(np.random.default_rng(2), 40, 5, 4, noise=0.5)
    plain = latalign.fit(X, Y, "shrunk")
    found = latalign.fit(np.ldexp(X, source), np.ldexp(Y, target))
    errors = {one.method: one.error for one in found.evidence.candidates}
    assert np.isfinite(list(errors.values())).all()
    assert found.evidence.baseline > 0
    back = np.ldexp(found.matrix, source - target)
    if found.method not in ("rigid", "orthogonal"):
        assert np.linalg.norm(back - plain.matrix) < 0.5 * np.linalg.norm(plain.matrix)


@pytest.mark.parametrize("scale", [1e-160, 1e-310])
def test_rows_too_small_for_their_squares_are_told(rng, scale):
    X, Y = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    words = r"all 20 rows of the source X are zero, or too small for their squares \(below 1e-154\)"
    for call in (latalign.fit, latalign.compare):
        with pytest.raises(ValueError, match=words):
            call(X * scale, Y)
    with pytest.raises(ValueError, match="too small for their squares"):
        latalign.fit_many({"a": X * scale, "b": Y})


def test_a_penalty_that_overflows_is_told(rng):
    X = 3e152 * rng.normal(size=(50, 3))
    with pytest.raises(ValueError, match=r"needs a number for 10000 times .* Divide the source rows"):
        latalign.fit(X, rng.normal(size=(50, 3)), "ridge")
