"""Every method against an independent reference: SciPy, scikit-learn, float64 SVD least squares."""

import warnings

import numpy as np
import pytest
import scipy.linalg
from sklearn.linear_model import LinearRegression, Ridge

import latalign
from latalign import METHODS, IllConditionedWarning, Moments, metrics, solve
from latalign.metrics import squared_error
from problems import SHAPES, centred, lstsq, pairs, relative, rotation


def fit(X, Y, method, **given):
    """Fit without the warning that few anchors call for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        return latalign.fit(X, Y, method, **given)


@pytest.fixture(params=SHAPES, ids=str)
def shape(request):
    return request.param


@pytest.fixture(params=[False, True], ids=["plain", "weighted"])
def data(request, rng, shape):
    X, Y = pairs(rng, *shape)
    return X, Y, rng.uniform(0.2, 3, len(X)) if request.param else None


def test_affine_is_least_squares(data):
    X, Y, w = data
    found = fit(X, Y, "affine", sample_weight=w)
    expected = lstsq(X, Y, w)
    tolerance = max(1e-10, 100 * found.evidence.error_bound)
    assert relative(found.matrix, expected) < tolerance
    np.testing.assert_allclose(found.source_mean, np.average(X, axis=0, weights=w))
    if len(X) > X.shape[1] + 1:
        model = LinearRegression().fit(X, Y, sample_weight=w)
        assert relative(found(X), model.predict(X)) < 1e-10
    # From moments alone the answer is the same.
    assert relative(solve.affine(Moments.of(X, Y, sample_weight=w)).matrix, expected) < max(1e-7, tolerance)


def test_linear_is_minimum_norm_without_translation(data):
    X, Y, w = data
    root = np.ones((len(X), 1)) if w is None else np.sqrt(w)[:, None]
    expected = np.linalg.lstsq(root * X, root * Y, rcond=None)[0]
    found = fit(X, Y, "linear", sample_weight=w)
    assert relative(found.matrix, expected) < max(1e-10, 100 * found.evidence.error_bound)
    assert not found.source_mean.any()
    assert not found.target_mean.any()
    by_moments = solve.linear(Moments.of(X, Y, sample_weight=w))
    assert relative(by_moments.matrix, expected) < 1e-5


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
def test_ridge_is_scikit_learns(data, alpha):
    X, Y, w = data
    model = Ridge(alpha=alpha, solver="svd").fit(X, Y, sample_weight=w)
    found = fit(X, Y, "ridge", alpha=alpha, sample_weight=w)
    assert relative(found.matrix, model.coef_.T) < 1e-8
    assert relative(found(X), model.predict(X)) < 1e-9


def test_ridge_of_nothing_is_affine(data):
    X, Y, w = data
    zero, plain = fit(X, Y, "ridge", alpha=0, sample_weight=w), fit(X, Y, "affine", sample_weight=w)
    np.testing.assert_array_equal(zero.matrix, plain.matrix)


def test_rigid_is_procrustes(data):
    X, Y, w = data
    x, y = centred(X, Y, w)
    found = fit(X, Y, "rigid", sample_weight=w)
    narrow = min(x.shape[1], y.shape[1])
    # A partial isometry: rows or columns are orthonormal, whichever are fewer.
    gram = found.matrix.T @ found.matrix if x.shape[1] >= y.shape[1] else found.matrix @ found.matrix.T
    np.testing.assert_allclose(gram, np.eye(narrow), atol=1e-12)
    wide = max(x.shape[1], y.shape[1])
    padded = [np.pad(a, ((0, 0), (0, wide - a.shape[1]))) for a in (x, y)]
    turn, size = scipy.linalg.orthogonal_procrustes(*padded)
    assert np.isclose((found.matrix * (x.T @ y)).sum(), size)  # the same optimum, where it is not unique
    if len(X) > narrow + 1 and x.shape[1] <= y.shape[1]:
        assert relative(found.matrix, turn[: x.shape[1], : y.shape[1]]) < 1e-10


def test_orthogonal_is_procrustes_about_the_origin(rng):
    X, Y = pairs(rng, 60, 8, 8)
    assert relative(fit(X, Y, "orthogonal").matrix, scipy.linalg.orthogonal_procrustes(X, Y)[0]) < 1e-10
    assert not fit(X, Y, "orthogonal").offset.any()


def test_similarity_has_the_best_scale(data):
    X, Y, w = data
    m = Moments.of(X, Y, sample_weight=w)
    found, turn = solve.similarity(m), solve.rigid(m)
    scale = np.linalg.norm(found.matrix) / np.linalg.norm(turn.matrix)
    assert relative(found.matrix, scale * turn.matrix) < 1e-12

    def error(s):
        return squared_error(latalign.AffineMap(m.source_mean, s * turn.matrix, m.target_mean), m)

    assert error(scale) <= min(error(scale * 1.001), error(scale * 0.999))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_reflection_can_be_refused(rng, d):
    X = rng.normal(size=(40, d))
    turn = rotation(rng, d, proper=True)
    mirror = turn @ np.diag([-1.0] + [1.0] * (d - 1))
    for method in ("rigid", "orthogonal", "similarity"):
        assert relative(fit(X, X @ turn, method, reflection=False).matrix, turn) < 1e-9
        assert relative(fit(X, X @ mirror, method).matrix, mirror) < 1e-9
        proper = fit(X, X @ mirror, method, reflection=False)
        scale = abs(np.linalg.det(proper.matrix)) ** (1 / d)
        assert np.linalg.det(proper.matrix) >= 0
        if d > 1 and method == "rigid":
            # No other proper rotation does better (Umeyama): compared with many at random.
            assert np.isclose(scale, 1)
            others = [rotation(rng, d, proper=True) for _ in range(200)]
            x, y = centred(X, X @ mirror)
            assert (proper.matrix * (x.T @ y)).sum() >= max((o * (x.T @ y)).sum() for o in others)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rotation_and_shift_are_recovered_to_rounding(rng, dtype):
    """A Procrustes that standardises its input first errs by 0.6 here."""
    X = rng.normal(size=(300, 16)) * rng.uniform(0.1, 10, 16) + 5
    turn, shift = rotation(rng, 16), rng.normal(size=16) * 10
    Y = (X @ turn + shift).astype(dtype)
    found = fit(X.astype(dtype), Y, "rigid")
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    assert np.abs(found.matrix - turn).max() < tolerance
    assert relative(found(X.astype(dtype)), Y) < tolerance


def test_low_rank_is_reduced_rank_regression(rng):
    X, Y = pairs(rng, 200, 10, 8, noise=0.5)
    x, y = centred(X, Y)
    full = lstsq(X, Y)
    _, _, right = np.linalg.svd(x @ full, full_matrices=False)
    for rank in (1, 3, 8):
        found = fit(X, Y, "low_rank", rank=rank)
        expected = full @ right[:rank].T @ right[:rank]
        assert relative(found.matrix, expected) < 1e-9
        assert np.linalg.matrix_rank(found.matrix, tol=1e-9) == rank
        if rank > 1:
            fewer = fit(X, Y, "low_rank", rank=rank - 1)
            assert np.linalg.norm(y - x @ found.matrix) < np.linalg.norm(y - x @ fewer.matrix)
    # With a penalty: the fit of the augmented rows (Mukherjee and Zhu).
    alpha = 30.0
    xa = np.vstack([x, np.sqrt(alpha) * np.eye(10)])
    ya = np.vstack([y, np.zeros((10, 8))])
    ridge = np.linalg.lstsq(xa, ya, rcond=None)[0]
    _, _, right = np.linalg.svd(xa @ ridge, full_matrices=False)
    found = fit(X, Y, "low_rank", rank=2, alpha=alpha)
    assert relative(found.matrix, ridge @ right[:2].T @ right[:2]) < 1e-9


@pytest.mark.parametrize("precision", ["double", "fast"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16])
def test_dtypes(rng, dtype, precision):
    X, Y = pairs(rng, 500, 12, 9)
    if np.issubdtype(dtype, np.integer):
        X, Y = X * 100, Y * 100
    X, Y = X.astype(dtype), Y.astype(dtype)
    expected = lstsq(X.astype(np.float64), Y.astype(np.float64))
    found = fit(X, Y, "affine", precision=precision)
    assert relative(found.matrix, expected) < (1e-11 if precision == "double" else 2e-6)


# What nothing determines gets the shortest answer -------------------------------------------------


def spoil(X, kind, rng):
    """Make the source rows rank-deficient in one of the ways that networks do."""
    X = X.copy()
    if kind == "dead units":
        X[:, [1, 4, 5]] = [0.0, 0.1, 1e5]
    elif kind == "duplicates":
        X[:, 3], X[:, 5] = X[:, 0], X[:, 0] * 2
    elif kind == "low rank":
        X = (
            (X - X.mean(0))
            @ np.linalg.qr(rng.normal(size=(X.shape[1], 4)))[0]
            @ rng.normal(size=(4, X.shape[1]))
        )
    elif kind == "duplicate rows":
        X[len(X) // 2 :] = X[: len(X) - len(X) // 2]
    return X


@pytest.mark.parametrize("kind", ["dead units", "duplicates", "low rank", "duplicate rows"])
@pytest.mark.parametrize("n", [300, 24, 8])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("method", ["linear", "affine"])
def test_rank_deficiency_gives_the_minimum_norm(rng, kind, n, dtype, method):
    X, Y = pairs(rng, n, 12, 7)
    X, Y = spoil(X, kind, rng).astype(dtype), Y.astype(dtype)
    if kind == "duplicate rows":
        Y[len(Y) // 2 :] = Y[: len(Y) - len(Y) // 2]
    X64, Y64 = X.astype(np.float64), Y.astype(np.float64)
    if method == "affine":
        X64, Y64 = X64 - X64.mean(0), Y64 - Y64.mean(0)
    # float32 rows of low rank are so only to their own rounding: the reference is cut there too.
    cut = 1e-10 if dtype == np.float64 or kind != "low rank" else 1e-6
    expected = np.linalg.lstsq(X64, Y64, rcond=cut)[0]
    found = fit(X, Y, method)
    assert relative(found.matrix, expected) < (1e-6 if cut == 1e-10 else 1e-4)
    if kind == "dead units" and method == "affine":
        assert not found.matrix[[1, 4, 5]].any()


@pytest.mark.parametrize("method", ["affine", "linear"])
def test_dead_units_of_64(rng, method):
    """Where PyTorch's default least squares is off by half and more."""
    X = np.maximum(rng.normal(size=(5000, 64)), 0).astype(np.float32)
    X[:, 20:28] = 0
    Y = (X @ rng.normal(size=(64, 64)) + 0.01 * rng.normal(size=(5000, 64))).astype(np.float32)
    with pytest.warns(IllConditionedWarning, match="determine 56 of 64 directions"):
        found = latalign.fit(X, Y, method)
    x, y = (centred(X, Y)) if method == "affine" else (X.astype(float), Y.astype(float))
    assert relative(found.matrix, np.linalg.lstsq(x, y, rcond=1e-10)[0]) < 1e-9


def test_columns_of_wildly_different_scale(rng):
    """Scaling a column of the source scales its coefficients, and changes nothing else."""
    X, Y = pairs(rng, 100, 8, 5)
    scale = 10.0 ** np.array([-12, -6, -3, 0, 3, 6, 9, 12])
    plain, scaled = fit(X, Y, "affine"), fit(X * scale, Y, "affine")
    assert relative(scaled.matrix * scale[:, None], plain.matrix) < 1e-9
    both = np.hstack([X * scale, (X * scale)[:, :1]])
    twice = fit(both, Y, "affine")
    assert relative(twice(both), plain(X)) < 1e-9
    np.testing.assert_allclose(twice.matrix[0], twice.matrix[-1], rtol=1e-6)


def ill_conditioned(rng, n, d, condition):
    u, v = np.linalg.qr(rng.normal(size=(n, d)))[0], np.linalg.qr(rng.normal(size=(d, d)))[0]
    u = np.linalg.qr(u - u.mean(0))[0]
    return u * np.geomspace(1, 1 / condition, d) @ v.T * np.sqrt(n)


@pytest.mark.parametrize(
    ("condition", "tolerance"), [(1e2, 1e-10), (1e4, 1e-8), (1e6, 1e-7), (1e8, 1e-5), (1e10, 1e-2)]
)
def test_ill_conditioned_double_rows_are_escalated(rng, condition, tolerance):
    X = ill_conditioned(rng, 2000, 20, condition)
    truth = rng.normal(size=(20, 6))
    found = fit(X, X @ truth, "affine")
    error = relative(found.matrix, truth)
    assert error < tolerance
    assert found.evidence.rank == 20
    assert relative(found(X), X @ truth) < 1e-9


@pytest.mark.parametrize("condition", [1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11])
@pytest.mark.parametrize("d", [2, 5, 20])
def test_the_bound_on_ill_conditioned_double_rows_holds(condition, d):
    """And says something: of a dozen seeds the worst comes within a ten-thousandth of it."""
    shares = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X, truth = ill_conditioned(rng, 500, d, condition), rng.normal(size=(d, 6))
        found = fit(X, X @ truth, "affine")
        length = np.linalg.norm(X, axis=0)[:, None]
        shares.append(relative(length * found.matrix, length * truth) / found.evidence.error_bound)
    assert 1e-4 < max(shares) < 1


def test_ill_conditioning_is_told(rng):
    X = ill_conditioned(rng, 500, 10, 1e11)
    with pytest.warns(IllConditionedWarning, match=r'use method="ridge"|method="ridge"'):
        latalign.fit(X.astype(np.float32), X, "affine")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        latalign.fit(X, X, "ridge")
        latalign.fit(*pairs(rng, 100, 5, 5), "affine")


def test_condition_and_rank_are_those_of_the_rows(rng):
    X, Y = pairs(rng, 400, 9, 4)
    x = centred(X, Y)[0]
    x /= np.linalg.norm(x, axis=0)
    evidence = fit(X, Y, "affine").evidence
    assert evidence.rank == 9
    assert evidence.anchors == 400
    # LAPACK's estimate is of the 1-norm condition: within the factor d of the 2-norm.
    exact = np.linalg.cond(x)
    assert exact / 3 < evidence.condition < 9 * exact


# Laws of every method -----------------------------------------------------------------------------

GIVEN = {"low_rank": {"rank": 3}, "shrunk": {"alpha": 1.0}}  # what would be chosen in folds drawn at random


@pytest.mark.parametrize("name", METHODS)
def test_weights_are_repeats(rng, name):
    X, Y = pairs(rng, 60, 6, 5)
    repeats = rng.integers(0, 4, 60)
    given = GIVEN.get(name, {})
    weighted = fit(X, Y, name, sample_weight=repeats, **given)
    repeated = fit(np.repeat(X, repeats, 0), np.repeat(Y, repeats, 0), name, **given)
    assert relative(weighted.matrix, repeated.matrix) < 1e-8
    np.testing.assert_allclose(weighted(X), repeated(X), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", ["rigid", "similarity", "affine", "ridge", "low_rank"])
def test_a_translation_of_either_side_changes_nothing_else(rng, name):
    X, Y = pairs(rng, 50, 6, 6)
    given = GIVEN.get(name, {})
    plain = fit(X, Y, name, **given)
    moved = fit(X + 7, Y - 4, name, **given)
    assert relative(moved.matrix, plain.matrix) < 1e-9
    np.testing.assert_allclose(moved(X + 7), plain(X) - 4, rtol=1e-8)


@pytest.mark.parametrize("name", METHODS)
def test_a_rotation_of_the_source_is_undone(rng, name):
    X, Y = pairs(rng, 50, 6, 6)
    turn = rotation(rng, 6)
    given = GIVEN.get(name, {})
    np.testing.assert_allclose(
        fit(X @ turn, Y, name, **given)(X @ turn), fit(X, Y, name, **given)(X), rtol=1e-7
    )


def test_the_scale_of_the_source_is_free_but_for_rigid(rng):
    X, Y = pairs(rng, 80, 6, 6)
    for name in ("similarity", "linear", "affine", "ridge"):
        np.testing.assert_allclose(fit(3 * X, Y, name)(3 * X), fit(X, Y, name)(X), rtol=1e-6)
    assert relative(fit(3 * X, Y, "rigid")(3 * X), fit(X, Y, "rigid")(X)) > 0.1


@pytest.mark.parametrize("name", METHODS)
def test_the_error_from_moments_is_that_of_rows(rng, name):
    X, Y = pairs(rng, 70, 6, 8)
    w = rng.uniform(0.5, 2, 70)
    found = fit(X, Y, name, **GIVEN.get(name, {}))
    X2, Y2 = pairs(rng, 50, 6, 8)
    m = Moments.of(X2, Y2, sample_weight=w[:50])
    expected = (w[:50, None] * (found(X2) - Y2) ** 2).sum()
    assert np.isclose(squared_error(found, m), expected, rtol=1e-9)
    assert np.isclose(metrics.mean_squared_error(found, m), expected / w[:50].sum() / 8, rtol=1e-9)


def test_ordering_of_the_sets(rng):
    """A larger set of maps fits its own anchors at least as well."""
    X, Y = pairs(rng, 100, 6, 6)
    m = Moments.of(X, Y)
    error = {name: squared_error(fit(X, Y, name), m) for name in METHODS if name != "low_rank"}
    assert error["affine"] <= error["similarity"] <= error["rigid"]
    assert error["affine"] <= error["linear"] <= error["orthogonal"]
    assert error["rigid"] <= error["orthogonal"]


def test_a_million_rows(rng):
    """Where a cut-off that grows with the number of rows loses 37 of 256 directions; fewer columns here."""
    X = ill_conditioned(rng, 200_000, 16, 3e3).astype(np.float32)
    truth = rng.normal(size=(16, 4))
    Y = X.astype(np.float64) @ truth
    found = fit(X, Y, "affine")
    assert found.evidence.rank == 16
    assert relative(found.matrix, truth) < 1e-7


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("rigid", {"alpha": 1.0}, "'rigid' takes reflection; it got alpha"),
        ("linear", {"rank": 2}, "takes no parameter; it got rank"),
        ("auto", {"alpha": 1.0}, "chooses by itself"),
        ("ridge", {"alpha": -1.0}, "zero or more"),
        ("ridge", {"alpha": np.nan}, "zero or more"),
        ("low_rank", {"rank": 0}, "at least 1"),
        ("best", {}, "there is no method 'best'; there are: auto, orthogonal"),
    ],
)
def test_parameters_are_checked(rng, method, given, message):
    X, Y = pairs(rng, 30, 4, 4)
    with pytest.raises(ValueError, match=message):
        latalign.fit(X, Y, method, **given)


@pytest.mark.parametrize("method", ["auto", *METHODS])
@pytest.mark.parametrize(
    ("X", "Y", "message"),
    [
        (np.ones((1, 3)), np.ones((1, 3)), "at least 2 pairs"),
        (np.ones((9, 3)), np.eye(9)[:, :3], "all 9 rows of the source X are the same"),
        (np.eye(9)[:, :3], np.full((9, 3), 0.1), "all 9 rows of the target Y are the same"),
        (np.eye(9)[:, :3], np.eye(8)[:, :3], "X has 9 rows, Y has 8"),
        (np.ones(3), np.ones((3, 1)), r"2-D array .*got shape \(3,\)"),
        (np.ones((2, 2, 2)), np.ones((2, 1)), "Flatten each item"),
        (np.ones((0, 3)), np.ones((0, 3)), "at least one row"),
        (np.full((4, 2), np.nan), np.eye(4), "4 of 4 rows contain NaN"),
    ],
)
def test_pairs_that_determine_nothing(method, X, Y, message):
    with pytest.raises(ValueError, match=message):
        latalign.fit(X, Y, method)


@pytest.mark.parametrize("bad", [np.array([["a", "b"]] * 3), np.ones((3, 2)) * 1j, object()])
def test_what_is_no_number(bad):
    with pytest.raises(TypeError, match="real numbers"):
        latalign.fit(bad, np.ones((3, 2)))


@pytest.mark.parametrize("weights", [[-1, 1, 1], [0, 0, 0], [1, np.nan, 1], [1, 1]])
def test_weights_are_checked(weights):
    with pytest.raises(ValueError, match="sample_weight needs"):
        latalign.fit(np.eye(3), np.eye(3), sample_weight=weights)


@pytest.mark.parametrize("precision", ["double", "fast"])
@pytest.mark.parametrize("method", ["rigid", "orthogonal", "similarity"])
def test_the_bound_on_a_rotation_holds(rng, method, precision):
    for d in (2, 20, 150):
        X = rng.normal(size=(6 * d, d))
        turn = rotation(rng, d)
        found = fit(X, X @ turn, method, precision=precision)
        assert relative(found.matrix, turn) <= found.evidence.error_bound < 1e-2


@pytest.mark.parametrize("method", ["rigid", "orthogonal", "similarity"])
def test_float32_products_show_no_more_directions_than_there_are(rng, method):
    X = rng.normal(size=(20, 50)).astype(np.float32)
    with pytest.warns(
        IllConditionedWarning, match="of 50 directions; the rotation of the others is arbitrary"
    ):
        found = latalign.fit(X, X, method, precision="fast")
    assert found.evidence.rank == (20 if method == "orthogonal" else 19)
