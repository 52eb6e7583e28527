"""The scikit-learn contract, and what the aligners promise beyond it."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import latalign
from latalign import METHODS, IllConditionedWarning, Moments
from latalign._aligner import BaseAligner
from problems import pairs, relative

ALIGNERS = {name: getattr(latalign, name) for name in latalign.__all__ if name.endswith("Aligner")}
RAN: dict[str, set[str]] = {}

ignore_few = pytest.mark.filterwarnings("ignore::latalign.IllConditionedWarning")


def make(name, **given):
    return ALIGNERS[name](**given)


@pytest.fixture(params=ALIGNERS)
def aligner(request):
    return make(request.param)


@ignore_few  # the checks fit on few, repeated and constant rows
@parametrize_with_checks([cls() for cls in ALIGNERS.values()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)
    RAN.setdefault(type(estimator).__name__, set()).add(check.func.__name__)


def test_the_contract_really_ran(request):
    """No check is expected to fail, and none is left out but by its own missing environment."""
    if not RAN:
        pytest.skip("the checks were not selected, or ran in another process")
    generated = {
        name: {
            item.callspec.params["check"].func.__name__
            for item in request.session.items
            if "test_scikit_learn_contract" in item.name
            and type(item.callspec.params["estimator"]).__name__ == name
        }
        for name in ALIGNERS
    }
    for name, ran in RAN.items():
        assert generated[name] - ran <= {"check_array_api_input"}, name  # needs SCIPY_ARRAY_API
        assert len(ran) > 45, name
    assert set(RAN) == set(ALIGNERS)


def test_one_class_a_method():
    assert {cls._method for cls in ALIGNERS.values()} == {"auto", *METHODS}
    with pytest.raises(TypeError, match="abstract"):
        BaseAligner()


def test_fit_is_the_functions_fit(rng, aligner):
    X, Y = pairs(rng, 60, 6, 5)
    fitted = aligner.fit(X, Y)
    given = {"low_rank": {"alpha": "auto"}, "retrieval": {"alpha": 0.3, "power": 0.5}}
    expected = latalign.fit(X, Y, aligner._method, **given.get(aligner._method, {}))
    assert relative(fitted.map_.matrix, expected.matrix) < 1e-12
    assert fitted.map_.method == expected.method
    np.testing.assert_allclose(fitted.transform(X), expected(X), rtol=1e-9)
    np.testing.assert_array_equal(fitted.predict(X), fitted.transform(X))
    assert list(fitted.get_feature_names_out()) == [f"{type(aligner).__name__.lower()}{i}" for i in range(5)]


def test_one_dimensional_target(rng, aligner):
    X, Y = pairs(rng, 60, 6, 1)
    fitted = aligner.fit(X, Y[:, 0])
    assert fitted.predict(X).shape == (60,)
    assert fitted.transform(X).shape == (60, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtype_is_kept(rng, aligner, dtype):
    X, Y = pairs(rng, 60, 6, 5, dtype=dtype)
    assert aligner.fit(X, Y).transform(X).dtype == dtype


@pytest.mark.parametrize("sizes", [[60], [1] * 60, [7, 20, 33], [59, 1]])
def test_partial_fit_is_fit(rng, aligner, sizes):
    X, Y = pairs(rng, 60, 6, 5)
    w = rng.uniform(0.5, 2, 60)
    whole = clone(aligner).fit(X, Y, sample_weight=w)
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        aligner.partial_fit(X[part], Y[part], sample_weight=w[part])
        start += size
    assert relative(aligner.moments_.xy, whole.moments_.xy) < 1e-12
    if aligner._method in (
        "auto",
        "ridge",
        "shrunk",
        "low_rank",
    ):  # chosen from other folds, or not leave-one-out
        assert relative(aligner.predict(X), whole.predict(X)) < 0.1
    elif aligner._method == "retrieval":  # has no rows to choose or to take an offset by
        expected = latalign.fit_moments(whole.moments_, method="retrieval")
        assert relative(aligner.predict(X), expected(X)) < 1e-9
    else:
        assert relative(aligner.predict(X), whole.predict(X)) < 1e-9


def test_a_batch_that_is_refused_changes_nothing(rng, aligner):
    X, Y = pairs(rng, 60, 6, 5)
    aligner.partial_fit(X, Y)
    before = aligner.predict(X)
    nan = np.full_like(X, np.nan)
    for bad in ((X[:, :3], Y), (X, Y[:, :2]), (X, Y[:, 0]), (nan, Y), (X[:10], Y)):
        with pytest.raises(ValueError, match=r"features|equal dimensions|NaN|inconsistent"):
            aligner.partial_fit(*bad)
        assert aligner.moments_.count == 60
        np.testing.assert_array_equal(aligner.predict(X), before)


def test_partial_fit_solves_only_when_asked(rng, monkeypatch):
    X, Y = pairs(rng, 60, 6, 5)
    calls = []
    solved = BaseAligner._solved
    monkeypatch.setattr(BaseAligner, "_solved", lambda self, *rows: calls.append(1) or solved(self, *rows))
    aligner = make("AffineAligner")
    for k in range(0, 60, 10):
        aligner.partial_fit(X[k : k + 10], Y[k : k + 10])
    assert not calls
    aligner.predict(X)
    aligner.predict(X)
    assert len(calls) == 1


def test_fit_moments(rng, aligner):
    X, Y = pairs(rng, 60, 6, 5)
    folds = [Moments.of(X[k::5], Y[k::5]) for k in range(5)]
    fitted = aligner.fit_moments(*folds)
    assert fitted.n_features_in_ == 6
    assert fitted.predict(X).shape == (60, 5)
    given = {"alpha": "auto"} if aligner._method == "low_rank" else {}
    expected = latalign.fit_moments(*folds, method=aligner._method, **given)
    np.testing.assert_array_equal(fitted.map_.matrix, expected.matrix)
    with pytest.raises(ValueError, match="it got none"):
        aligner.fit_moments()
    with pytest.raises(TypeError, match=r"fit_moments needs Moments, .* got list"):
        aligner.fit_moments(folds)


def test_one_moment_is_too_few_for_a_choice(rng):
    m = Moments.of(*pairs(rng, 60, 6, 5))
    for name in ("AutoAligner", "LowRankAligner"):
        with pytest.raises(ValueError, match="at least 2 folds; got 1"):
            make(name).fit_moments(m)
    assert make("RidgeAligner").fit_moments(m).map_.evidence.alpha > 0
    assert make("LowRankAligner", rank=2).fit_moments(m).map_.evidence.target_rank == 2
    with pytest.raises(ValueError, match=r"needs fit\(X, y\)"):
        make("AutoAligner", scoring="cosine").fit_moments(m, m)


def test_a_fit_that_fails_leaves_no_map_of_other_rows(rng, aligner):
    X, Y = pairs(rng, 60, 6, 5)
    same = np.ones((5, 3))
    for before in (lambda: None, lambda: aligner.fit(X, Y)):
        for fails in (lambda: aligner.fit(same, Y[:5]), lambda: aligner.fit_moments(Moments.of(same, Y[:5]))):
            before()
            with pytest.raises(ValueError, match="rows that differ"):
                fails()
            with pytest.raises(ValueError, match="rows that differ"):
                _ = aligner.map_


def test_not_fitted(aligner):
    for call in (lambda: aligner.predict(np.eye(3)), lambda: aligner.map_, lambda: aligner.moments_):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            call()


def test_inverse_transform(rng):
    X, _ = pairs(rng, 60, 4, 4)
    Y = X @ rng.normal(size=(4, 6)) + 1
    aligner = make("AffineAligner").fit(X, Y)
    np.testing.assert_allclose(aligner.inverse_transform(aligner.transform(X)), X, rtol=1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", IllConditionedWarning)
        narrower = make("AffineAligner").fit(Y, X)
    with pytest.raises(ValueError, match="nothing leads back"):
        narrower.inverse_transform(X)


def test_in_a_pipeline(rng):
    X, Y = pairs(rng, 200, 6, 5)
    pipe = make_pipeline(StandardScaler(), make("SimilarityAligner"), make("AffineAligner"))
    assert pipe.fit(X, Y).score(X, Y) > 0.9
    frame = clone(pipe).set_output(transform="pandas").fit(X, Y).transform(X)
    assert list(frame.columns) == [f"affinealigner{k}" for k in range(5)]


def test_in_a_grid_search(rng):
    X, Y = pairs(rng, 40, 30, 5, noise=1)
    search = GridSearchCV(make("RidgeAligner"), {"alpha": [1e-6, 10.0, 1e9]}).fit(X, Y)
    assert search.best_params_ == {"alpha": 10.0}
    assert len(cross_val_score(make("AutoAligner"), X, Y, cv=3)) == 3


def test_with_a_transformed_target(rng):
    X, Y = pairs(rng, 100, 6, 5)
    model = TransformedTargetRegressor(make("AffineAligner"), transformer=StandardScaler()).fit(X, Y)
    assert relative(model.predict(X), make("AffineAligner").fit(X, Y).predict(X)) < 1e-9


def test_ridge_chooses_as_ridgecv(rng):
    X, Y = pairs(rng, 80, 30, 4, noise=1)
    from latalign.paths import alpha_grid

    alphas = alpha_grid(Moments.of(X, Y))
    reference = RidgeCV(alphas=alphas).fit(X, Y)
    assert np.isclose(make("RidgeAligner").fit(X, Y).map_.evidence.alpha, reference.alpha_)


@pytest.mark.parametrize(
    "aligner",
    [
        latalign.AutoAligner(scoring="mrr"),
        latalign.RetrievalAligner(),
        latalign.RetrievalAligner(alpha="auto", power="auto"),
    ],
)
def test_rows_are_summed_once(rng, monkeypatch, aligner):
    summed = []
    add = latalign.moments.MomentSum.add
    monkeypatch.setattr(
        latalign.moments.MomentSum, "add", lambda self, part: summed.append(len(part)) or add(self, part)
    )
    X, Y = pairs(rng, 200, 4, 4)
    aligner.fit(X, Y)
    assert sum(summed) == 200
