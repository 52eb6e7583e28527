"""What is drawn together: equal pairs, folds, and rows to be searched."""

import numpy as np
import pytest

import latalign
from latalign._validation import Pairs
from latalign.select import (
    Folds,
    default_folds,
    distinct,
    groups_of,
    held_out,
)
from problems import pairs, relative


def test_equal_pairs_share_a_fold(rng):
    X, Y = pairs(rng, 40, 4, 3, dtype=np.float32)
    twice = rng.permutation(np.repeat(np.arange(40), 2))
    folds = Folds.of(Pairs.of(X[twice], Y[twice]), 5, np.random.default_rng(0))
    for i in range(40):
        assert len(set(folds.number[twice == i])) == 1
    assert sorted(np.bincount(folds.number)) == [16] * 5


@pytest.mark.parametrize("values", [(-1, 1), (0, 1), (0, 2), (1, 2, 4, 8), (-0.5, 0, 0.5), (0, 3, 100)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int64])
def test_pairs_are_told_apart_by_few_bits(rng, values, dtype):
    """Signs, flags and powers of two differ in the highest bits of a float64 alone."""
    X, Y = (rng.choice(np.array(values).astype(dtype), size=(500, d)) for d in (3, 2))
    expected = np.unique(np.hstack([X, Y]).astype(np.float64), axis=0, return_inverse=True)[1].ravel()
    found = groups_of(Pairs.of(X, Y))
    assert len(set(zip(found, expected, strict=True))) == len(set(found)) == len(set(expected))


def test_groups_are_numbered_as_they_come(rng):
    X, Y = pairs(rng, 40, 4, 3)
    often = rng.integers(0, 40, 200)
    group = groups_of(Pairs.of(X[often], Y[often]))
    firsts = np.unique(group, return_index=True)[1]
    assert (np.diff(firsts) > 0).all()
    assert (often[firsts[group]] == often).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_different_pairs_come_once_with_the_weight_of_all(rng, weighted):
    X, Y = pairs(rng, 40, 4, 3)
    often = rng.integers(0, 40, 200)
    weight = rng.uniform(0.5, 2, 200) if weighted else np.ones(200)
    some, group = distinct(Pairs.of(X[often], Y[often], weight if weighted else None))
    came = list(dict.fromkeys(often.tolist()))
    np.testing.assert_array_equal(some.source, X[came])
    np.testing.assert_array_equal(some.target, Y[came])
    np.testing.assert_array_equal(np.array(came)[group], often)
    np.testing.assert_allclose(some.weight, [weight[often == row].sum() for row in came])
    given = Pairs.of(X, Y)
    assert distinct(given)[0] is given


@pytest.mark.parametrize("factor", [3.0, 1e-3, 1e6])
def test_scaled_rows_are_drawn_alike(rng, factor):
    X, Y = pairs(rng, 60, 8, 5, noise=1.0)
    folds, scaled = (Folds.of(Pairs.of(Z, Y), 5, np.random.default_rng(4)) for Z in (X, factor * X))
    np.testing.assert_array_equal(scaled.number, folds.number)
    held, its = (held_out(groups_of(Pairs.of(Z, Y)), 12, np.random.default_rng(4)) for Z in (X, factor * X))
    np.testing.assert_array_equal(its, held)
    assert held.sum() == 12
    for method in ("low_rank", "ridge", "auto"):
        plain, other = (
            latalign.fit(X, Y, method, random_state=4),
            latalign.fit(factor * X, Y, method, random_state=4),
        )
        assert other.method == plain.method
        assert other.evidence.target_rank == plain.evidence.target_rank
        assert relative(other(factor * X), plain(X)) < 1e-6
    one, two = (latalign.fit_heldout(Z, Y, "affine", random_state=4) for Z in (X, factor * X))
    assert two.heldout.mapped.r2 == pytest.approx(one.heldout.mapped.r2, rel=1e-6)


def test_the_dtype_of_a_side_does_not_change_the_folds(rng):
    X, Y = rng.integers(-9, 9, size=(40, 3)), rng.integers(-9, 9, size=(40, 2))
    folds = [
        Folds.of(Pairs.of(X, Y.astype(d)), 5, np.random.default_rng(0)).number for d in (np.int64, float)
    ]
    np.testing.assert_array_equal(*folds)


def test_negative_zero_is_zero():
    zeros, signed = np.zeros((4, 3)), np.zeros((4, 3))
    signed[2:] *= -1
    assert set(groups_of(Pairs.of(signed, zeros))) == {0}


def test_codes_of_signs_fall_into_as_many_folds_as_any(rng):
    X = rng.choice([-1.0, 1.0], size=(300, 16))
    folds = Folds.of(Pairs.of(X, X[:, :4]), 5, np.random.default_rng(0))
    assert len(folds.moments) == 5
    assert all(55 <= fold.count <= 65 for fold in folds.moments)


def test_folds_are_few_where_pairs_are(rng):
    X, Y = pairs(rng, 3, 4, 4)
    assert len(Folds.of(Pairs.of(X, Y), 5, np.random.default_rng(0)).moments) == 3
    with pytest.raises(ValueError, match="at least 2 folds; got n_folds=1"):
        latalign.fit(X, Y, n_folds=1)


@pytest.mark.parametrize("n_folds", [1, -3, 2.5, 5.0, "five", True])
def test_a_number_of_folds_is_a_whole_number(rng, n_folds):
    X, Y = pairs(rng, 30, 4, 4)
    for call in (
        lambda: latalign.fit(X, Y, n_folds=n_folds),
        lambda: latalign.AutoAligner(n_folds=n_folds).fit(X, Y),
        lambda: latalign.compare(X, Y, n_folds=n_folds),
    ):
        with pytest.raises(ValueError, match=rf"whole number of at least 2 folds; got n_folds={n_folds!r}"):
            call()
    assert latalign.fit(X, Y, n_folds=np.int64(3)).evidence.candidates


@pytest.mark.parametrize(("random_state", "error"), [("a", TypeError), (1.5, TypeError), (-1, ValueError)])
def test_a_random_state_is_a_seed_or_a_generator(rng, random_state, error):
    X, Y = pairs(rng, 30, 4, 4)
    for name, call in {
        "fit": lambda: latalign.fit(X, Y, random_state=random_state),
        "evaluate": lambda: latalign.evaluate(
            latalign.AffineMap.of(np.eye(4)), X, Y, random_state=random_state
        ),
        "compare": lambda: latalign.compare(X, Y, random_state=random_state),
        "random_anchors": lambda: latalign.random_anchors(9, 3, random_state=random_state),
        "farthest_point_anchors": lambda: latalign.farthest_point_anchors(X, 3, random_state=random_state),
        "kmeans_anchors": lambda: latalign.kmeans_anchors(X, 3, random_state=random_state),
    }.items():
        words = (
            f"^{name} needs a random_state that is a whole number of zero or more, a Generator or None; got "
        )
        with pytest.raises(error, match=words):
            call()


def test_few_pairs_are_cut_into_more_folds(rng):
    few, many, wide = (Pairs.of(*pairs(rng, *size)) for size in ((200, 4, 4), (201, 4, 4), (9, 2000, 900)))
    assert (default_folds(few), default_folds(many), default_folds(wide)) == (20, 5, 5)
    assert default_folds(few, "recall@1") == 5  # a fold of few rows is no index to search


def test_rows_that_are_searched_are_drawn_from_all_of_many(rng):
    X, Y = pairs(rng, 12_000, 3, 2)
    folds = Folds.of(Pairs.of(X, Y), 5, np.random.default_rng(0))
    for fold in range(5):
        part, index = folds.searched(fold)
        assert (len(part), len(index)) == (1000, 5000)
        np.testing.assert_array_equal(index[:1000], part.target)
        place = {row.tobytes(): number for number, row in enumerate(Y)}
        numbers = np.array([place[row.tobytes()] for row in index])
        assert len(set(numbers)) == 5000
        assert (folds.number[numbers[:1000]] == fold).all()
        # From the first to the last row, and from every fold.
        for some in (numbers[:1000], numbers[1000:]):
            assert np.histogram(some, 6, (0, 12_000))[0].min() > 0.1 * len(some)
        assert np.bincount(folds.number[numbers[1000:]], minlength=5).min() > 300
