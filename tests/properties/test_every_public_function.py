"""What of the public functions `test_any_array` does not call: a finite answer, or a clear refusal."""

import warnings
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import latalign
from latalign import METHODS, AffineMap, Moments, Normalize, metrics, solve
from strategies import answers, arrays, degenerate, paired, weights

FEW = ("at least 2 pairs", "at least one weight")
ALIGNERS = [name for name in latalign.__all__ if name.endswith("Aligner")]


def unchanged(*rows):
    """Return a function that asserts that the arrays still hold what they hold now."""
    before = [values.copy() for values in rows]

    def check():
        for values, old in zip(rows, before, strict=True):
            np.testing.assert_array_equal(values, old)

    return check


def finite(map_):
    assert np.isfinite(map_.matrix).all()
    assert np.isfinite(map_.offset).all()
    if map_.evidence is not None:
        assert np.isfinite([map_.evidence.condition, map_.evidence.error_bound]).all()
        assert map_.evidence.rank <= map_.dim_source


@given(st.data(), paired(), st.sampled_from(["auto", *METHODS]), st.sampled_from(["double", "fast"]))
def test_fit_with_weights(data, rows, method, precision):
    X, Y = rows
    w = data.draw(weights(len(X)))
    check = unchanged(X, Y)
    found = answers(lambda: latalign.fit(X, Y, method, sample_weight=w, precision=precision), *FEW)
    check()
    kept = slice(None) if w is None else w > 0
    if found is None:
        assert len(X[kept]) < 2 or degenerate(X[kept]) or degenerate(Y[kept])
    else:
        finite(found)
        assert found.evidence.anchors == len(X[kept])


@given(paired(), st.sampled_from(["auto", *METHODS]))
def test_robust_fit(rows, method):
    X, Y = rows
    check = unchanged(X, Y)
    found = answers(lambda: latalign.fit(X, Y, method, robust=True))
    check()
    if found is not None:
        finite(found)
        assert found.evidence.robust["pairs"] == len(X)


@given(st.data(), paired(), st.sampled_from(["auto", 0.3]))
def test_local_retrieval(data, rows, alpha):
    X, Y = rows
    w = data.draw(weights(len(X)))
    check = unchanged(X, Y)
    found = answers(lambda: latalign.local_retrieval(X, Y, sample_weight=w, alpha=alpha), *FEW)
    check()
    if found is not None:
        finite(found.affine)
        assert np.isfinite(found.coefficients).all()
        assert np.isfinite(found(X.astype(np.float64))).all()


@given(paired())
def test_audit(rows):
    X, Y = rows
    check = unchanged(X, Y)
    found = answers(lambda: latalign.audit(X, Y), "at least 10 pairs")
    check()
    if found is not None:
        found.to_json()
        assert set(found.suspicious) <= set(range(len(X)))


@given(paired(), st.sampled_from(["rigid", "ridge", "affine", "shrunk"]))
def test_calibrate(rows, method):
    X, Y = rows
    map_ = answers(lambda: latalign.fit(X, Y, method))
    if map_ is None:
        return
    check = unchanged(X, Y)
    found = answers(lambda: latalign.calibrate(map_, X, Y), "at least 10 different pairs")
    check()
    if found is not None:
        assert np.isfinite(found.uncertainty.radius(X, 0.5)).all()
        assert np.isfinite(found.uncertainty.error(X)).all()


@given(paired(), st.sampled_from(["cosine", "recall@1", "recall@10", "mrr"]))
def test_fit_by_another_score(rows, scoring):
    found = answers(lambda: latalign.fit(*rows, scoring=scoring))
    if found is not None:
        finite(found)
        assert all(0 <= row.error <= 2 for row in found.evidence.candidates)


@given(paired(), st.sampled_from(["rigid", "ridge"]))
def test_fit_heldout(rows, method):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        found = answers(lambda: latalign.fit_heldout(*rows, method))
    if found is not None:
        finite(found.map)
        if found.heldout is not None:
            found.heldout.to_json()


@given(st.data(), st.sampled_from(["rigid", "ridge"]))
def test_learning_curve(data, method):
    X, Y = (data.draw(arrays(48, data.draw(st.integers(1, 6)))) for _ in range(2))
    check = unchanged(X, Y)
    more = ("at least 40 different pairs", "several numbers of anchors")
    found = answers(lambda: latalign.learning_curve(X, Y, method, n_repeats=2), *more)
    check()
    if found is not None:
        assert np.isfinite([(p.error, p.low, p.high) for p in found.points]).all()
        assert all(p.low <= p.error <= p.high for p in found.points)
        assert found.check.passed == (found.twice is not None)
        found.to_json()


@given(st.data(), paired(), st.sampled_from(["double", "fast"]))
def test_moments_of_batches(data, rows, precision):
    X, Y = rows
    w = data.draw(weights(len(X)))
    cut = data.draw(st.integers(1, len(X) - 1))
    parts = [(X[:cut], Y[:cut]), (X[cut:], Y[cut:])]
    if w is not None:
        parts = [(*part, of) for part, of in zip(parts, (w[:cut], w[cut:]), strict=True)]
    check = unchanged(X, Y)
    found = answers(lambda: latalign.accumulate(parts, precision=precision), *FEW)
    check()
    if found is None:
        return
    back = (found + found) - found
    for moments in (found, back, found.swapped(), found.uncentered()):
        for values in (moments.xy, moments.xx, moments.yy, moments.source_mean, moments.target_mean):
            assert np.isfinite(values).all()
        assert (moments.xx_diagonal >= 0).all()
        assert (moments.yy_diagonal >= 0).all()


@given(st.data(), paired(), st.sampled_from(["double", "fast"]), st.booleans())
def test_moments_on_a_device(data, rows, precision, in_batches):
    pytest.importorskip("torch")
    from latalign.torch import accumulate, moments

    X, Y = rows
    w = data.draw(weights(len(X)))
    check = unchanged(X, Y)
    expected = answers(lambda: Moments.of(X, Y, sample_weight=w), *FEW)
    if in_batches and w is None:
        cut = data.draw(st.integers(1, len(X) - 1))
        parts = [(X[:cut], Y[:cut]), (X[cut:], Y[cut:])]
        found = answers(lambda: accumulate(parts, device="cpu", precision=precision))
    else:
        found = answers(lambda: moments(X, Y, sample_weight=w, device="cpu", precision=precision), *FEW)
    check()
    assert (found is None) == (expected is None)
    if found is None:
        return
    assert found.count == expected.count
    scale = np.sqrt(np.outer(expected.xx_diagonal, expected.yy_diagonal))
    # What a mean may be off by, seen from the spread.
    means = np.outer(*(np.abs(side.astype(np.float64)).max(axis=0) for side in (X, Y)))
    relative, rounding = (1e-12, 1e-28) if precision == "double" else (1e-5, 1e-13)
    tolerance = relative * scale + rounding * expected.weight * means + 1e-300
    assert (np.abs(found.xy - expected.xy) <= tolerance).all()
    assert (found.xx_diagonal >= 0).all()


@given(paired())
def test_apply_on_a_device(rows):
    torch = pytest.importorskip("torch")
    from latalign.torch import apply

    X, Y = rows
    map_ = answers(lambda: latalign.fit(X, Y, "affine"))
    if map_ is None:
        return
    check = unchanged(X, Y)
    expected = answers(lambda: map_(X))
    found = answers(lambda: apply(map_, X, device="cpu"))
    by_tensor = answers(lambda: apply(map_, torch.from_numpy(X.copy())))
    check()
    assert (found is None) == (by_tensor is None) == (expected is None)
    if found is None:
        return
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, by_tensor.numpy())
    eps = 4 * np.finfo(found.dtype if found.dtype != np.float16 else np.float32).eps
    sizes = np.abs(X.astype(np.float64) - map_.source_mean) @ np.abs(map_.matrix)
    sizes += np.abs(map_.target_mean) + np.abs((map_.source_mean * 1e-7) @ map_.matrix)
    error = np.abs(found.astype(np.float64) - expected.astype(np.float64))
    half = 1e-3 if found.dtype == np.float16 else 0.0
    assert (error <= eps * X.shape[1] * sizes + half * np.abs(expected) + 1e-7 * bool(half) + 1e-300).all()


@given(paired(), st.sampled_from(["auto", *METHODS]))
def test_fit_moments_and_cross_validate(rows, method):
    X, Y = rows
    folds = answers(lambda: [Moments.of(X[k::2], Y[k::2]) for k in range(2)])
    if folds is None:
        return
    found = answers(lambda: latalign.fit_moments(*folds, method=method))
    if found is None:
        return
    finite(found)
    candidates = latalign.cross_validate(folds)
    assert [row.error for row in candidates] == sorted(row.error for row in candidates)
    assert np.isfinite([(row.error, row.standard_error) for row in candidates]).all()


@given(paired(), st.sampled_from(["double", "fast"]))
def test_every_solver_and_the_error_of_its_map(rows, precision):
    moments = answers(lambda: Moments.of(*rows, precision=precision))
    if moments is None:
        return
    for name in METHODS:
        given_ = {"low_rank": {"rank": 1}, "shrunk": {"alpha": 1.0}}.get(name, {})
        found = getattr(solve, name)(moments, **given_)
        finite(found)
        assert metrics.squared_error(found, moments) >= 0
        assert metrics.mean_squared_error(found, moments) >= 0
        r2 = metrics.r2_score(found, moments)
        assert np.isnan(r2) or r2 <= 1
    for found in answers(lambda: solve.retrieval_pair(moments)) or ():
        finite(found)


@given(paired())
def test_calibrated_scores(rows):
    X, Y = rows
    width = min(X.shape[1], Y.shape[1])
    found = answers(
        lambda: latalign.calibrate_scores(X[:, :width], Y[:, :width]), "rows that have a direction"
    )
    if found is not None:
        scores = np.tile(np.linspace(-1, 1, 20), (len(X), 1))
        assert (np.diff(found(scores, X[:, :width])) >= 0).all()


@given(st.data())
def test_a_given_map_and_what_is_made_of_it(data):
    source, target = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    matrix, offset = data.draw(arrays(source, target)), data.draw(arrays(1, target))[0]
    map_ = answers(lambda: AffineMap.of(matrix, offset))
    if map_ is None:
        return
    rows = data.draw(arrays(data.draw(st.integers(1, 9)), source))
    check = unchanged(matrix, offset, rows)
    mapped = answers(lambda: map_(rows))
    unit = answers(lambda: (map_ >> Normalize())(rows))
    for values in (mapped, unit):
        assert values is None or np.isfinite(values.astype(np.float64)).all()
    back = answers(map_.inverse, "nothing leads back")
    if back is not None:
        finite(back)
        there_and_back = answers(lambda: map_ >> back)
        if there_and_back is not None:
            bound = 100 * back.evidence.error_bound
            np.testing.assert_allclose(there_and_back.matrix, np.eye(source), atol=bound)
    check()
    with TemporaryDirectory() as folder:
        map_.save(f"{folder}/map.safetensors")
        again = AffineMap.load(f"{folder}/map.safetensors")
    assert again.matrix.tobytes() == map_.matrix.tobytes()


@given(paired(), st.sampled_from(ALIGNERS))
def test_estimators(rows, name):
    X, Y = rows
    assume(np.isfinite(X).all() and np.isfinite(Y).all())  # scikit-learn's own check warns of infinity
    check = unchanged(X, Y)
    whole = answers(lambda: getattr(latalign, name)().fit(X, Y))
    if whole is not None:
        finite(whole.map_)
        mapped = answers(lambda: whole.transform(X))
        if mapped is not None:
            assert np.isfinite(mapped.astype(np.float64)).all()
            answers(lambda: whole.inverse_transform(mapped), "nothing leads back")
    batches = getattr(latalign, name)()

    def learned():
        for k in range(2):
            batches.partial_fit(X[k::2], Y[k::2])
        return batches.map_

    found = answers(learned)
    check()
    if found is not None:
        finite(found)


@given(paired())
def test_files(rows):
    X, Y = rows
    with TemporaryDirectory() as folder:
        source, target, output = (f"{folder}/{name}.npy" for name in ("x", "y", "z"))
        np.save(source, X)
        np.save(target, Y)
        read = answers(lambda: latalign.read_pairs(source, target))
        if read is None:
            return
        np.testing.assert_array_equal(read[0], X)
        np.testing.assert_array_equal(read[1], Y)
        map_ = answers(lambda: latalign.fit(*read, "ridge"))
        if map_ is None:
            return
        done = answers(lambda: latalign.apply_file(map_, source, output))
        if done is not None:
            np.testing.assert_array_equal(np.load(output), map_(X))


@given(st.data())
def test_pair_by_id(data):
    rows = data.draw(st.integers(1, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    kind = data.draw(st.sampled_from([np.int8, np.uint16, np.int64, np.str_]))
    ids = rng.choice(120, rows, replace=False).astype(kind)
    order = rng.permutation(rows)
    shuffled = ids[order][::-1].copy()[::-1]
    shuffled.setflags(write=False)
    source, target = latalign.pair_by_id(ids, shuffled)
    np.testing.assert_array_equal(source, np.arange(rows))
    np.testing.assert_array_equal(shuffled[target], ids)


@given(st.data())
def test_layers(data):
    torch = pytest.importorskip("torch")
    from latalign.torch import fold_into, to_linear

    source, target = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    map_ = answers(lambda: AffineMap.of(data.draw(arrays(source, target)), data.draw(arrays(1, target))[0]))
    if map_ is None:
        return
    dtype = data.draw(st.sampled_from([torch.float16, torch.float32, torch.float64]))
    layer = answers(lambda: to_linear(map_, dtype=dtype))
    if layer is not None:
        np.testing.assert_allclose(
            layer.weight.detach().double().numpy().T,
            map_.matrix,
            rtol=2e-3,
            atol=1e-7 if dtype == torch.float16 else 1e-44,
        )
    for side, width in (("input", (target, 3)), ("output", (3, source))):
        folded = answers(
            lambda side=side, width=width: fold_into(map_, torch.nn.Linear(*width, dtype=dtype), side=side)
        )
        assert folded is None or all(torch.isfinite(values).all() for values in folded.parameters())


@given(st.data(), st.integers(1, 6))
def test_fit_from_labels(data, classes):
    rows = [data.draw(arrays(data.draw(st.integers(2, 30)), data.draw(st.integers(1, 5)))) for _ in range(2)]
    seed = data.draw(st.integers(0, 2**32 - 1))
    labels = [np.random.default_rng(seed + side).integers(classes, size=len(rows[side])) for side in range(2)]
    check = unchanged(*rows)
    found = answers(
        lambda: latalign.fit_from_labels(rows[0], labels[0], rows[1], labels[1]), "two classes or more"
    )
    check()
    if found is not None:
        finite(found.map)
        found.to_json()
        assert found.classes == len(np.intersect1d(*labels))
        assert found.map.matrix.shape == (rows[0].shape[1], rows[1].shape[1])


@settings(max_examples=15)  # it searches from many starts
@given(st.data())
def test_fit_unpaired(data):
    sides = [
        data.draw(arrays(data.draw(st.integers(18, 40)), data.draw(st.integers(1, 4)))) for _ in range(2)
    ]
    check = unchanged(*sides)
    found = answers(lambda: latalign.fit_unpaired(*sides), "needs 20 rows or more", "are the same", *FEW)
    check()
    if found is None:
        return
    found.to_json()
    assert 0 <= found.confidence <= 1
    if found.found:
        finite(found.map)
        assert found.map.matrix.shape == (sides[0].shape[1], sides[1].shape[1])


@given(st.data(), st.sampled_from(["rigid", "ridge"]), st.sampled_from(["double", "fast"]))
def test_fit_many(data, method, precision):
    rows, spaces = data.draw(st.integers(2, 30)), data.draw(st.integers(2, 4))
    arrays_ = [data.draw(arrays(rows, data.draw(st.integers(1, 5)))) for _ in range(spaces + 1)]
    check = unchanged(*arrays_)
    w = data.draw(weights(rows))
    shared = answers(
        lambda: latalign.fit_many(arrays_[:-1], method, sample_weight=w, precision=precision), *FEW
    )
    check()
    if shared is None:
        return
    with TemporaryDirectory() as folder:
        shared.save(f"{folder}/spaces.safetensors")
        again = latalign.SharedSpace.load(f"{folder}/spaces.safetensors")
    assert again.evidence.to_json() == shared.evidence.to_json()
    assert all(
        one.matrix.tobytes() == other.matrix.tobytes()
        for one, other in zip(again.encoders, shared.encoders, strict=True)
    )
    for i in range(spaces):
        finite(shared.into(str(i)))
        finite(shared.map(str(i), str((i + 1) % spaces)))
    correction = answers(shared.correction, "agree on no direction")
    if correction is not None:
        assert np.isfinite(correction.matrix).all()
    joined = answers(lambda: shared.join("new", arrays_[-1], {"0": arrays_[0]}))
    if joined is not None:
        finite(joined.map("new", "1"))
        finite(joined.map("1", "new"))
