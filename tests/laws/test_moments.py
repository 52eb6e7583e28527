"""Moments add: the laws of the statistic, for any seed, weight and cut."""

import numpy as np
import pytest

from latalign import AffineMap, Moments, accumulate
from latalign.moments import all_but_one
from problems import centred, pairs, relative

FIELDS = ("weight", "source_mean", "target_mean", "xy", "xx_diagonal", "yy_diagonal", "xx", "yy")


def assert_same(a, b, tolerance=1e-12):
    assert a.count == b.count
    for name in FIELDS:
        assert relative(np.asarray(getattr(a, name)), np.asarray(getattr(b, name))) < tolerance, name


@pytest.fixture
def data(rng):
    X, Y = pairs(rng, 100, 6, 4)
    return X, Y, rng.uniform(0.1, 3, 100)


@pytest.mark.parametrize("weighted", [False, True])
def test_definition(data, weighted):
    X, Y, w = data
    w = w if weighted else None
    m = Moments.of(X, Y, sample_weight=w)
    x, y = centred(X, Y, w)
    assert np.isclose(m.weight, 100 if w is None else w.sum())
    np.testing.assert_allclose(m.source_mean, np.average(X, axis=0, weights=w))
    np.testing.assert_allclose(m.target_mean, np.average(Y, axis=0, weights=w))
    for found, expected in ((m.xx, x.T @ x), (m.xy, x.T @ y), (m.yy, y.T @ y)):
        assert relative(found, expected) < 1e-13
    np.testing.assert_allclose(m.xx_diagonal, np.diag(m.xx))
    np.testing.assert_allclose(m.yy_diagonal, np.diag(m.yy))


def test_associative_commutative_neutral(data):
    X, Y, w = data
    a, b, c = (
        Moments.of(X[s], Y[s], sample_weight=w[s]) for s in (slice(0, 20), slice(20, 21), slice(21, None))
    )
    whole = Moments.of(X, Y, sample_weight=w)
    assert_same((a + b) + c, whole)
    assert_same(a + (b + c), whole)
    assert_same(c + a + b, whole)
    zero = Moments.zero(6, 4)
    assert_same(zero + a, a, 0.0 + 1e-300)
    assert_same(a + zero, a, 0.0 + 1e-300)
    assert (zero + zero).count == 0


def test_subtraction_undoes_addition(data):
    X, Y, w = data
    a, b = Moments.of(X[:60], Y[:60], sample_weight=w[:60]), Moments.of(X[60:], Y[60:], sample_weight=w[60:])
    assert_same((a + b) - b, a, 1e-11)
    assert ((a + b) - (a + b)).count == 0
    with pytest.raises(ValueError, match="removes rows that were added before"):
        a - (a + b)


def test_subtraction_is_not_the_unstable_formula(rng):
    """Means 1e8 times the spread: the textbook sum of squares has no digit left."""
    X = rng.normal(size=(1000, 2)) + 1e8
    whole, tail = Moments.of(X, X), Moments.of(X[500:], X[500:])
    assert relative((whole - tail).xx, np.cov(X[:500].T) * 499) < 1e-6
    textbook = (X**2).sum() - 1000 * (X.mean(axis=0) ** 2).sum()
    assert abs(textbook - whole.xx_diagonal.sum()) > 0.1 * whole.xx_diagonal.sum()


def test_large_means_keep_their_digits(rng):
    X = rng.normal(size=(5000, 3))
    for shift in (1e4, 1e8):
        moved = X + shift  # rounds to what float64 can hold there
        exact = np.cov((moved - shift).T) * 4999
        assert relative(Moments.of(moved, moved).xx, exact) < 1e-12
        as_float32 = (X + 1e4).astype(np.float32)
        reference = np.cov(as_float32.astype(np.float64).T) * 4999
        assert relative(Moments.of(as_float32, as_float32).xx, reference) < 1e-12
        assert relative(Moments.of(as_float32, as_float32, precision="fast").xx, reference) < 1e-6


def test_rows_that_wander_off(rng):
    """Sorted data, whose blocks lie a million spreads apart, lose nothing to a distant mean."""
    X = np.sort(rng.normal(size=(20_000, 1)), axis=0) * 1e-3 + np.repeat(np.arange(4.0) * 1e6, 5000)[:, None]
    X = np.hstack([X, rng.normal(size=(20_000, 2))])
    for precision, tolerance in (("double", 1e-13), ("fast", 1e-6)):
        m = Moments.of(X, X, precision=precision)
        assert relative(m.xx, np.cov(X.T) * 19_999) < tolerance
        parts = [Moments.of(X[i : i + 5000], X[i : i + 5000]) for i in range(0, 20_000, 5000)]
        whole = parts[0] + parts[1] + parts[2] + parts[3]
        # Within the first block, the small spread beside the large mean is still there.
        assert relative((whole - parts[3] - parts[2] - parts[1]).xy, parts[0].xy) < 1e-2
        assert relative(whole.xy, m.xy) < max(tolerance, 1e-12)


def test_weights_are_repeats(data):
    X, Y, _ = data
    repeats = np.arange(100) % 4
    assert_weighted = Moments.of(X, Y, sample_weight=repeats)
    repeated = Moments.of(np.repeat(X, repeats, axis=0), np.repeat(Y, repeats, axis=0))
    assert assert_weighted.count == 75
    assert repeated.count == assert_weighted.weight == repeats.sum()
    for name in FIELDS[1:]:
        assert relative(getattr(assert_weighted, name), getattr(repeated, name)) < 1e-12


def test_rows_of_no_weight_are_not_looked_at(data):
    X, Y, w = data
    w[10] = 0
    expected = Moments.of(np.delete(X, 10, 0), np.delete(Y, 10, 0), sample_weight=np.delete(w, 10))
    X[10] = np.nan
    assert_same(Moments.of(X, Y, sample_weight=w), expected)


def test_mapped_and_swapped_are_those_of_mapped_rows(data, rng):
    X, Y, w = data
    f = AffineMap(rng.normal(size=6), rng.normal(size=(6, 3)), rng.normal(size=3))
    g = AffineMap(rng.normal(size=4), rng.normal(size=(4, 5)), rng.normal(size=5))
    m = Moments.of(X, Y, sample_weight=w)
    assert_same(m.mapped(f, g), Moments.of(f(X), g(Y), sample_weight=w))
    assert_same(m.mapped(f), Moments.of(f(X), Y, sample_weight=w))
    assert_same(m.mapped(g=g), Moments.of(X, g(Y), sample_weight=w))
    assert_same(m.swapped(), Moments.of(Y, X, sample_weight=w))
    assert_same(m.mapped(), m, 1e-300)


def test_uncentered(data):
    X, Y, _ = data
    m = Moments.of(X, Y).uncentered()
    assert relative(m.xx, X.T @ X) < 1e-13
    assert relative(m.xy, X.T @ Y) < 1e-13
    assert not m.source_mean.any()
    assert_same(Moments.of(X[:50], Y[:50]).uncentered() + Moments.of(X[50:], Y[50:]).uncentered(), m)


def test_all_but_one_is_exact_where_subtraction_cancels(rng):
    X, Y = pairs(rng, 60, 4, 3)
    X[:20] *= 1e9  # one fold dwarfs the others
    folds = [Moments.of(X[k : k + 20], Y[k : k + 20]) for k in (0, 20, 40)]
    assert_same(all_but_one(folds)[0], Moments.of(X[20:], Y[20:]))
    assert_same(all_but_one(folds)[2], Moments.of(X[:40], Y[:40]))
    assert len(all_but_one(folds)) == 3


def test_accumulate_is_of_the_whole(data):
    X, Y, w = data
    batches = ((X[k : k + 7], Y[k : k + 7], w[k : k + 7]) for k in range(0, 100, 7))
    assert_same(accumulate(batches), Moments.of(X, Y, sample_weight=w))
    with pytest.raises(ValueError, match="at least one batch"):
        accumulate([])
    with pytest.raises(ValueError, match=r"batch 1: .*3 rows, Y has 2"):
        accumulate([(X, Y), (X[:3], Y[:2])])


@pytest.mark.parametrize("precision", ["double", "fast"])
@pytest.mark.parametrize("n", [1, 2, 1023, 1025, 5000])
def test_blocks_do_not_show(rng, n, precision):
    X = rng.normal(size=(n, 600)).astype(np.float32)
    Y = rng.normal(size=(n, 700)).astype(np.float32)
    m = Moments.of(X, Y, precision=precision)
    x, y = centred(X, Y)
    tolerance = 1e-12 if precision == "double" else 3e-6
    if n > 1:
        assert relative(m.xy, x.T @ y) < tolerance
        assert relative(m.yy, y.T @ y) < tolerance
    assert m.count == n


def test_a_gram_that_was_not_accumulated_is_asked_for(data):
    X, Y, _ = data
    m = Moments.of(X, Y, grams="none")
    with pytest.raises(ValueError, match="without the source Gram matrix"):
        _ = m.xx
    assert (m + Moments.of(X, Y)).source_gram is None
    assert (Moments.zero(6, 4) + m).source_gram is None
    np.testing.assert_allclose(m.xx_diagonal, Moments.of(X, Y).xx_diagonal)
    with pytest.raises(ValueError, match="without the target Gram matrix"):
        _ = Moments.of(X, Y, grams="source").yy


def test_dimensions_must_agree():
    with pytest.raises(ValueError, match=r"equal dimensions; got \(2, 3\) and \(3, 2\)"):
        Moments.zero(2, 3) + Moments.zero(3, 2)


@pytest.mark.parametrize(("argument", "value"), [("precision", "half"), ("grams", "all")])
def test_unknown_choices(data, argument, value):
    with pytest.raises(ValueError, match=f"{argument} is "):
        Moments.of(data[0], data[1], **{argument: value})


def test_bad_rows_are_counted(data):
    X, Y, _ = data
    for value in (np.nan, np.inf, -np.inf):
        bad = X.copy()
        bad[[3, 50, 51], [0, 1, 2]] = value
        with pytest.raises(ValueError, match=r"3 of 100 rows contain NaN or infinity \(the first is row 3\)"):
            Moments.of(bad, Y)
        for dtype in (np.float16, np.float32):
            with pytest.raises(ValueError, match="3 of 100 rows"):
                Moments.of(Y, bad.astype(dtype), precision="fast")


def test_values_beyond_float64_squares(data):
    with pytest.raises(ValueError, match="squares overflow float64"):
        Moments.of(data[0] * 1e200, data[1])


def test_a_batch_is_a_pair_with_weights_or_without(data):
    X, Y, w = data
    assert_same(accumulate([(X, Y, w), (X, Y, None)]), Moments.of(X, Y, sample_weight=w) + Moments.of(X, Y))
    for batch, words in (((X,), "got 1 entries"), ((X, Y, w, 1), "got 4 entries")):
        with pytest.raises(ValueError, match=rf"batch 1: accumulate needs \(X, Y\).*{words}"):
            accumulate([(X, Y), batch])
    with pytest.raises(TypeError, match=r"batch 1: .*an array of real numbers"):
        accumulate([(X, Y), ("text", Y)])


@pytest.mark.parametrize("mean", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_fast_blocks_see_a_small_spread_about_a_large_mean(rng, mean, dtype, weighted):
    """The mean is subtracted before anything is rounded to float32; a constant column stays one."""
    spread = mean * (1e-5 if dtype is np.float32 else 1e-11)
    X = (mean + spread * rng.normal(size=(20_000, 3))).astype(dtype)
    X[:, 1] = mean + 0.1
    w = rng.uniform(0.5, 2, len(X)) if weighted else None
    fast, double = (Moments.of(X, X, sample_weight=w, precision=p) for p in ("fast", "double"))
    assert not fast.xx_diagonal[1]
    assert not double.xx_diagonal[1]
    np.testing.assert_allclose(fast.xx_diagonal, double.xx_diagonal, rtol=1e-4)
    np.testing.assert_allclose(fast.xy[0, 0], double.xx_diagonal[0], rtol=1e-4)


@pytest.mark.parametrize("spread", [1.0, 1.25, 1.9])
@pytest.mark.parametrize("mean", [0, 0.7, 6, 25, 50, 400])
@pytest.mark.parametrize("kind", ["float16", "few digits", "integers"])
def test_few_different_values_do_not_round_alike(rng, spread, mean, kind):
    """Of 16-bit rows far from zero every product is one of few, and so is what its addition is rounded by."""
    X = spread * rng.normal(size=(20_000, 6))
    if kind == "integers":
        X = np.round(X * (mean + 0.5)).astype(np.float32)
    elif kind == "float16":
        X = (X + mean).astype(np.float16)
    else:  # the eight bits of bfloat16
        X = (X + mean).astype(np.float32)
        X = (X.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    found = Moments.of(X, X[:, :2], precision="fast")
    exact = Moments.of(X.astype(np.float64), X[:, :2].astype(np.float64))
    assert np.abs(found.xx - exact.xx).max() <= 5e-7 * np.abs(exact.xx).max()
    assert np.abs(found.xy - exact.xy).max() <= 5e-7 * np.abs(exact.xx).max()
