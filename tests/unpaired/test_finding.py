"""Alignment from nothing: what is found, what is not said to be found, and what pairs and labels add."""

import numpy as np
import pytest

import latalign
from latalign import fit_from_labels, fit_unpaired


def clusters(rng, n, dim, kinds=6):
    """Rows of clusters that differ in middle and shape, and which each is of."""
    shapes = rng.normal(size=(kinds, dim, dim)) / np.sqrt(dim)
    middles = 2 * rng.normal(size=(kinds, dim))
    kind = rng.integers(kinds, size=n)
    return np.einsum("ni,nij->nj", rng.normal(size=(n, dim)), shapes[kind]) + middles[kind], kind


def turned(rng, X, noise=0.0):
    """Return the rows rotated, stretched a little and moved, as another space has them."""
    dim = X.shape[1]
    matrix = np.linalg.qr(rng.normal(size=(dim, dim)))[0] * rng.uniform(0.7, 1.4, dim)
    return X @ matrix + 3 + noise * rng.normal(size=X.shape)


def unexplained(map_, X, Y):
    return np.square(map_(X) - Y).sum() / np.square(Y - Y.mean(axis=0)).sum()


def never_wrong(found, X, Y, limit=0.2):
    """Check that a map that is returned is a good one; tell whether there is one."""
    if not found.found:
        with pytest.raises(ValueError, match="No map was found") as error:
            _ = found.map
        assert found.explanation in str(error.value)
        return False
    assert (found.reason, found.explanation) == (None, "")
    assert unexplained(found.map, X, Y) < limit
    return True


@pytest.mark.parametrize("dim", [4, 8, 16])
def test_the_other_rows_of_a_rotated_space(dim):
    # Most draws are found, and whatever is found is right.
    successes = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X, _ = clusters(rng, 4000, dim)
        Y = turned(rng, X)
        found = fit_unpaired(X[:2000], Y[2000:], random_state=seed)
        assert (found.source_rows, found.target_rows, found.pairs, found.basis) == (2000, 2000, 0, "rows")
        assert found.to_json()["found"] is found.found
        successes += never_wrong(found, X, Y)
    assert successes >= 1


def test_the_same_rows_in_another_order_give_the_map_itself(rng):
    X, _ = clusters(rng, 1500, 6)
    Y = turned(rng, X)
    found = fit_unpaired(X, Y[rng.permutation(1500)])
    if never_wrong(found, X, Y):
        assert max(found.agreement) > 0.9
        assert unexplained(found.map, X, Y) < 1e-3


def test_nothing_is_found_between_gaussians(rng):
    X, Y = rng.normal(size=(2, 2000, 6)) * [4, 3, 2, 1, 1, 1]
    found = fit_unpaired(X, Y)
    assert not found.found
    assert found.confidence < 0.9
    assert found.agreement == ()
    assert found.reason in ("symmetry", "disagreement")
    assert found.to_json()["reason"] == found.reason
    with pytest.raises(ValueError, match=r"No map was found: .* Give more rows, class labels"):
        _ = found.map


@pytest.mark.parametrize("dim", [2, 8])
def test_nothing_is_found_between_unrelated_clouds(rng, dim):
    # In two dimensions both halves find the same best rotation, under which the clouds are still unlike.
    assert not fit_unpaired(clusters(rng, 2000, dim)[0], clusters(rng, 2000, dim)[0]).found


def test_nothing_is_found_where_a_cloud_is_its_own_mirror_image(rng):
    X, _ = clusters(rng, 4000, 5)
    X[:, 0] = 6 * np.abs(X[:, 0]) * rng.choice([-1, 1], 4000)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    found = fit_unpaired(X[:2000], X[2000:] @ turn)
    assert not found.found
    assert found.reason == "symmetry"
    assert "more than one answer" in found.explanation


@pytest.mark.parametrize("share", [0.02, 0.04])
@pytest.mark.parametrize("dim", [3, 5])
def test_a_narrow_mirror_image_is_seen(dim, share):
    # The two halves differ by little, or not at all where both took the wrong one; a map would be wrong by 4 shares.
    rng = np.random.default_rng(dim)
    X, _ = clusters(rng, 2000, dim)
    X[:, 1:] -= X[:, 1:].mean(axis=0)
    both_ways = np.abs(X[:, 0]) * rng.choice([-1, 1], 2000)
    X[:, 0] = both_ways / both_ways.std() * np.sqrt(share / (1 - share) * X[:, 1:].var(axis=0).sum())
    Y = X @ np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    found = fit_unpaired(X[:1000], Y[1000:])
    assert found.disagreement < 0.12
    assert found.reason == "symmetry"
    # Pairs can tell which of the two it is, if the direction is not too narrow for them to be looked at first.
    told = fit_unpaired(X[:1000], np.concatenate([Y[:50], Y[1000:]]), pairs=(np.arange(50), np.arange(50)))
    assert never_wrong(told, X, Y, 0.01) or share == 0.02


@pytest.mark.parametrize("draw", ["exponential", "normal", "uniform"])
def test_one_dimension_tells_nothing(rng, draw):
    # Two clouds of the same shape are alike there, whether they have to do with each other or not.
    X, Y = getattr(rng, draw)(size=(2, 500, 1))
    for source, target in ((X, -2 * X[::-1]), (X, Y), (np.hstack([X, 2 * X]), Y)):
        found = fit_unpaired(source, target)
        assert (found.found, found.reason, found.confidence) == (False, "one dimension", 0.0)
        assert "in one dimension" in found.explanation
    some, every = np.arange(20), np.arange(500)
    assert fit_unpaired(X, -2 * X, pairs=(some, some)).reason == "one dimension"
    found = fit_unpaired(X, -2 * X, pairs=(every, every))
    assert unexplained(found.map, X, -2 * X) < 1e-9


@pytest.mark.parametrize(("dim_source", "dim_target"), [(5, 9), (9, 5)])
def test_clouds_of_different_sizes_and_widths(dim_source, dim_target):
    successes = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        codes, _ = clusters(rng, 5000, 5)
        wide = codes @ np.linalg.qr(rng.normal(size=(9, 5)))[0].T + 1
        X, Y = (codes, wide) if dim_source == 5 else (wide, codes)
        found = fit_unpaired(X[:1500], Y[1500:])
        assert (found.source_rows, found.target_rows) == (1500, 3500)
        if never_wrong(found, X, Y):
            successes += 1
            assert found.map.matrix.shape == (dim_source, dim_target)
    assert successes


def test_a_seed_draws_the_same(rng):
    X, _ = clusters(rng, 2000, 4)
    Y = turned(rng, X)
    one, again, other = (
        fit_unpaired(X[:1000], Y[1000:], max_rows=600, random_state=seed) for seed in (1, 1, 2)
    )
    assert one.to_json() == again.to_json()
    assert one.disagreement != other.disagreement
    if one.found:
        np.testing.assert_array_equal(one.map.matrix, again.map.matrix)


def test_the_rows_are_left_alone(rng):
    X, _ = clusters(rng, 300, 3)
    Y = turned(rng, X)
    before = X.copy(), Y.copy()
    fit_unpaired(X, Y, pairs=(np.arange(5), np.arange(5)))
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


class TestPairs:
    """From a few pairs to nothing but pairs."""

    def test_they_find_what_rows_alone_do_not(self, rng):
        # Clouds with a mirror image have two answers; pairs say which.
        X, _ = clusters(rng, 4000, 5)
        X[:, 0] = 6 * np.abs(X[:, 0]) * rng.choice([-1, 1], 4000)
        Y = X @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
        known = np.arange(300)
        X_rows, Y_rows = X[:2000], np.concatenate([Y[:300], Y[2000:]])
        found = fit_unpaired(X_rows, Y_rows, pairs=(known, known))
        assert (found.source_rows, found.target_rows, found.pairs) == (1700, 2000, 300)
        assert found.found
        assert unexplained(found.map, X, Y) < 0.01

    @pytest.mark.parametrize("count", [10, 30, 300])
    def test_they_correct_the_map(self, rng, count):
        # With many pairs it is the map of all pairs; with few it is better than what the few say alone.
        X, _ = clusters(rng, 4000, 6)
        Y = turned(rng, X, noise=0.3)
        known = np.arange(count)
        found = fit_unpaired(X[:2000], np.concatenate([Y[:count], Y[2000:]]), pairs=(known, known))
        assert found.found
        error = unexplained(found.map, X, Y)
        assert error < 1.02 * unexplained(latalign.fit(X[:count], Y[:count]), X, Y)
        if count == 300:
            assert error < 1.1 * unexplained(latalign.fit(X, Y, "affine"), X, Y)

    def test_all_rows_paired_is_the_paired_fit(self, rng):
        X, _ = clusters(rng, 300, 4)
        Y = turned(rng, X, noise=0.1)
        order = rng.permutation(300)
        found = fit_unpaired(X, Y[order], pairs=(order, np.arange(300)))
        expected = latalign.fit(X[order], Y[order])
        assert found.basis == "pairs"
        assert found.confidence == 1
        np.testing.assert_allclose(found.map.matrix, expected.matrix, atol=1e-9)
        assert found.map.method == expected.method


class TestLabels:
    """With labels the search is that of `fit_from_labels`."""

    def test_the_map_is_that_of_the_labels(self, rng):
        X, kind = clusters(rng, 3000, 6)
        Y = turned(rng, X)
        labels = kind[:1500], kind[1500:]
        found = fit_unpaired(X[:1500], Y[1500:], labels=labels, max_rows=20_000)
        expected = fit_from_labels(X[:1500], labels[0], Y[1500:], labels[1])
        assert found.basis == "labels"
        np.testing.assert_array_equal(found.map.matrix, expected.map.matrix)
        assert found.disagreement == expected.disagreement

    def test_class_means_are_not_called_found(self, rng):
        X, Y = rng.normal(size=(2, 500, 8))
        labels = rng.integers(4, size=(2, 500))
        found = fit_unpaired(X, Y, labels=tuple(labels))
        assert (found.found, found.reason) == (False, "too few rows")

    def test_pairs_correct_it(self, rng):
        X, kind = clusters(rng, 3000, 6)
        Y = turned(rng, X, noise=0.3)
        known = np.arange(200)
        X_rows, Y_rows = X[:1500], np.concatenate([Y[:200], Y[1500:]])
        labels = kind[:1500], np.concatenate([kind[:200], kind[1500:]])
        without = fit_unpaired(X_rows, Y_rows, labels=labels)
        found = fit_unpaired(X_rows, Y_rows, labels=labels, pairs=(known, known))
        assert unexplained(found.map, X, Y) < unexplained(without.map, X, Y)


class TestBadInput:
    X = np.random.default_rng(0).normal(size=(30, 3))

    def refused(self, words, *, error=ValueError, **changed):
        with pytest.raises(error, match=words):
            fit_unpaired(**{"X": self.X, "Y": self.X, **changed})

    def test_rows(self):
        self.refused("the source X needs finite values", X=np.where(self.X > 1, np.nan, self.X))
        self.refused("the target Y needs a 2-D array", Y=self.X[0])
        self.refused("real numbers", error=TypeError, X=self.X.astype(complex))
        self.refused("all rows of the target Y are the same", Y=np.ones((30, 5)))

    def test_too_few_rows(self):
        self.refused("needs 20 rows or more without a counterpart .* the target Y has 19", Y=self.X[:19])
        self.refused("the source X has 19", X=self.X[:19])
        self.refused("the source X has 1", X=self.X[:1], pairs=([], []))

    def test_few_rows_are_no_error_and_no_map(self):
        assert not fit_unpaired(self.X, -self.X[:20]).found

    def test_the_same_rows_many_times(self):
        same = np.repeat(self.X[:3], 10, axis=0)
        assert not fit_unpaired(same, self.X).found

    def test_pairs(self):
        self.refused("from 0 to 29 in the target Y; got 1 to 30", pairs=([1, 2], [1, 30]))
        self.refused("from 0 to 29 in the source X; got -1", pairs=([-1, 2], [1, 3]))
        self.refused("as many rows of either side; got 2 .* and 1", pairs=([1, 2], [1]))
        self.refused("row numbers", error=TypeError, pairs=([1.5], [1]))
        self.refused("row numbers", error=TypeError, pairs=([[1]], [1]))

    def test_labels(self):
        self.refused("needs one label a row", labels=(np.zeros(29), np.zeros(30)))

    def test_numbers(self):
        self.refused("max_rows of 1 or more; got 0", max_rows=0)
        self.refused("max_iterations of 1 or more; got -1", max_iterations=-1)
        self.refused("random_state", error=TypeError, random_state="x")


def test_clouds_without_a_wide_direction(rng):
    """Of so many directions that are alike none has a hundredth of the variance."""
    sides = rng.normal(size=(2, 400, 130))
    found = fit_unpaired(*sides, max_rows=200)
    assert not found.found
    assert found.confidence <= 0.5
