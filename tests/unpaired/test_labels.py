"""Alignment by labels: what is found exactly, what nearly, what changes nothing, and when there is too little."""

import tracemalloc
import warnings

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes

import latalign
from latalign import Moments, fit_from_labels
from latalign.unpaired import labels as labels_module
from latalign.unpaired import refining, signatures
from latalign.unpaired.classes import LabelledRows
from latalign.unpaired.signatures import disagreement, whitened


def clusters(rng, n, dim, classes=6, apart=1.0):
    """Rows of classes that differ in mean and shape, skewed, and their labels."""
    shapes = rng.normal(size=(classes, dim, dim)) / np.sqrt(dim)
    middles = apart * rng.normal(size=(classes, dim))
    labels = rng.integers(classes, size=n)
    inner = rng.normal(size=(n, dim)) + 0.5 * rng.exponential(size=(n, dim))
    return np.einsum("ni,nij->nj", inner, shapes[labels]) + middles[labels], labels


def unexplained(map_, X, Y):
    return np.square(map_(X) - Y).sum() / np.square(Y - Y.mean(axis=0)).sum()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [3, 20])
def test_the_same_rows_in_another_order_give_the_map_itself(rng, dim, dtype):
    X, labels = clusters(rng, 3000, dim)
    matrix, shift = rng.normal(size=(dim, dim)), 10 * rng.normal(size=dim)
    order = rng.permutation(len(X))
    X = X.astype(dtype)
    Y = X.astype(float) @ matrix + shift
    found = fit_from_labels(X, labels, Y[order], labels[order])
    assert found.basis == "rows"
    assert found.agreement[-1] > 0.999
    assert unexplained(found.map, X.astype(float), Y) < 1e-10
    assert found.map.evidence.anchors == round(max(found.agreement) * len(X))


@pytest.mark.parametrize("classes", [2, 3])
def test_two_classes_are_warned_of(rng, classes):
    X, labels = clusters(rng, 2000, 3, classes)
    Y = X @ rng.normal(size=(3, 3))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = fit_from_labels(X[:1000], labels[:1000], Y[1000:], labels[1000:])
    assert found.basis == "rows"
    told = [one for one in said if issubclass(one.category, latalign.IllConditionedWarning)]
    assert [str(one.message)[:50] for one in told] == [
        "fit_from_labels: two classes may leave the sign of"
    ] * (classes == 2)


@pytest.mark.filterwarnings("ignore:fit_from_labels. two classes")
@pytest.mark.parametrize("classes", [2, 3, 6])
def test_no_row_in_common(rng, classes):
    X, labels = clusters(rng, 12_000, 10, classes)
    Y = X @ rng.normal(size=(10, 10)) + 5
    found = fit_from_labels(X[:6000], labels[:6000], Y[6000:], labels[6000:])
    means = latalign.pair_class_means(X[:6000], labels[:6000], Y[6000:], labels[6000:])
    by_means = unexplained(latalign.fit(*means, "ridge"), X, Y)
    if classes == 2:  # two shapes and means leave a direction's sign nearly open now and then
        assert unexplained(found.map, X, Y) < 1.001 * by_means
    else:
        assert found.basis == "rows"
        assert found.disagreement < 0.05
        assert unexplained(found.map, X, Y) < min(0.02, 0.2 * by_means)


def test_other_shares_of_the_classes_change_little(rng):
    X, labels = clusters(rng, 20_000, 8, 4)
    Y = X @ rng.normal(size=(8, 8))
    kept = rng.random(10_000) < np.array([1.0, 0.5, 0.3, 0.2])[labels[10_000:]]
    found = fit_from_labels(X[:10_000], labels[:10_000], Y[10_000:][kept], labels[10_000:][kept])
    assert found.target_rows == kept.sum() < found.source_rows
    assert unexplained(found.map, X, Y) < 0.06


@pytest.mark.parametrize(("dim_source", "dim_target"), [(6, 11), (11, 6)])
def test_spaces_of_different_width(rng, dim_source, dim_target):
    codes, labels = clusters(rng, 8000, 6)
    wide = codes @ rng.normal(size=(6, 11)) + 3
    X, Y = (codes, wide) if dim_source == 6 else (wide, codes)
    found = fit_from_labels(X[:4000], labels[:4000], Y[4000:], labels[4000:])
    assert found.map.matrix.shape == (dim_source, dim_target)
    assert found.map.evidence.rank == 6
    assert unexplained(found.map, X, Y) < 0.05


@pytest.mark.filterwarnings("ignore::latalign.IllConditionedWarning")
def test_an_affine_map_of_the_source_changes_nothing(rng):
    X, labels = clusters(rng, 2000, 5)
    Y = X @ rng.normal(size=(5, 5))
    matrix = rng.normal(size=(5, 5))
    one = fit_from_labels(X[:1000], labels[:1000], Y[1000:], labels[1000:])
    other = fit_from_labels(X[:1000] @ matrix - 7, labels[:1000], Y[1000:], labels[1000:])
    np.testing.assert_allclose(other.agreement, one.agreement, atol=0.005)
    assert unexplained(other.map, X @ matrix - 7, one.map(X)) < 1e-3


def test_names_and_order_of_rows_change_nothing(rng):
    X, labels = clusters(rng, 1500, 4)
    Y = X @ rng.normal(size=(4, 4))
    one = fit_from_labels(X[:800], labels[:800], Y[800:], labels[800:])
    order = rng.permutation(800)
    names = np.array([f"class {9 - label}" for label in labels], object)
    other = fit_from_labels(X[order], names[order], Y[800:], names[800:])
    np.testing.assert_allclose(other.map.matrix, one.map.matrix, rtol=1e-6, atol=1e-6)
    assert other.classes == one.classes


def test_a_seed_draws_the_same(rng):
    X, labels = clusters(rng, 4000, 4)
    call = (X[:2000], labels[:2000], X[2000:], labels[2000:])
    one, again, other = (fit_from_labels(*call, max_rows=500, random_state=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.map.matrix, again.map.matrix)
    assert (one.map.matrix != other.map.matrix).any()
    assert one.source_rows == 2000  # the means and covariances are of all
    assert one.map.evidence.anchors <= 510


def test_rows_without_a_label_and_classes_of_one_side_are_left_out(rng):
    X, labels = clusters(rng, 2000, 4)
    Y = X @ rng.normal(size=(4, 4))
    names = np.array(["abcdef"[label] for label in labels], object)
    source, target = names[:1000].copy(), names[1000:].copy()
    source[:100], target[:40] = None, np.nan
    source[source == "a"] = "only here"
    found = fit_from_labels(X[:1000], source, Y[1000:], target)
    kept = [np.flatnonzero(np.isin(side.astype(str), list("bcdef"))) for side in (source, target)]
    clean = fit_from_labels(X[:1000][kept[0]], source[kept[0]], Y[1000:][kept[1]], target[kept[1]])
    np.testing.assert_array_equal(found.map.matrix, clean.map.matrix)
    assert found.classes == 5
    assert found.source_rows + found.source_left_out == found.target_rows + found.target_left_out == 1000
    assert found.source_rows == len(kept[0])
    assert found.target_rows == len(kept[1])


def test_float_labels_may_be_missing(rng):
    X, labels = clusters(rng, 600, 3)
    values = labels.astype(float)
    values[::7] = np.nan
    found = fit_from_labels(X, values, X, labels)
    assert found.source_left_out == np.isnan(values).sum()


class TestTooLittle:
    """Where the rows do not tell a rotation, the class means do what they can."""

    def test_noise_disagrees_with_itself(self, rng):
        X, Y = rng.normal(size=(2, 3000, 12))
        labels = rng.integers(5, size=(2, 3000))
        found = fit_from_labels(X, labels[0], Y, labels[1])
        assert found.basis == "means"
        assert found.disagreement > 0.6
        assert found.agreement == ()

    def test_the_map_is_then_that_of_the_class_means(self, rng):
        X, labels = clusters(rng, 60, 30)
        Y = X @ rng.normal(size=(30, 30))
        found = fit_from_labels(X[:30], labels[:30], Y[30:], labels[30:])
        means = latalign.pair_class_means(X[:30], labels[:30], Y[30:], labels[30:])
        expected = latalign.fit(*means, "ridge")
        np.testing.assert_allclose(found.map.matrix, expected.matrix)
        assert found.map.method == "ridge of class means"
        assert found.map.evidence.anchors == found.classes == len(np.unique(labels))

    def test_class_means_that_are_all_the_same_determine_no_map(self, rng):
        X = rng.integers(-9, 10, size=(6, 3))  # whole, so that the means are without rounding
        X, labels = np.concatenate([X, -X]), np.tile([0, 0, 1, 1, 2, 2], 2)
        sides = [LabelledRows.of(rows, labels, "test") for rows in (X, rng.normal(size=(12, 3)))]
        with pytest.raises(ValueError, match="rows of the source X are zero"):
            labels_module._map_of_means(*sides)

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_few_rows_a_class(self, rng, count):
        # A class of one row has no spread, and one of three no halves.
        labels = np.repeat(np.arange(7), count)
        X, Y = rng.normal(size=(2, len(labels), 3))
        found = fit_from_labels(X, labels, Y, labels)
        assert np.isfinite(found.map.matrix).all()
        assert 0 <= found.disagreement <= 2
        assert count > 1 or found.basis == "means"

    def test_one_row_of_a_class_among_many(self, rng):
        X, labels = clusters(rng, 3000, 5)
        Y = X @ rng.normal(size=(5, 5))
        labels[0] = labels[2999] = 77
        found = fit_from_labels(X[:1500], labels[:1500], Y[1500:], labels[1500:])
        assert found.classes == 7
        assert unexplained(found.map, X, Y) < 0.06


@pytest.mark.parametrize("agreed", [0.3, 0.8, 1.0])
def test_the_evidence_is_that_of_the_system_solved(rng, agreed):
    """Least squares drawn to the rotation, by its definition in float64; its condition, not the rotation's."""
    X, labels = clusters(rng, 600, 8)
    Y = X @ rng.normal(size=(8, 8)) + 0.3 * rng.normal(size=(600, 8))
    source, target = whitened(
        LabelledRows.of(X, labels, "X"), LabelledRows.of(Y, labels, "Y"), 600, rng, "test"
    )
    chosen = rng.permutation(600)[:40]
    left, right = source.drawn[chosen] * np.geomspace(1, 0.01, 8), target.drawn[chosen]
    found = refining.map_of_partners(source, target, Moments.of(left, right), agreed, "labels")
    left, right = left - left.mean(axis=0), right - right.mean(axis=0)
    alpha = 40 * (1 / max(2 / 3, agreed) - 1)
    gram = left.T @ left + alpha * np.eye(8)
    turn = orthogonal_procrustes(left, right)[0]
    inner = np.linalg.solve(gram, left.T @ right + alpha * turn)
    np.testing.assert_allclose(
        found.matrix, source.whitening.basis @ inner @ target.whitening.back, rtol=1e-9, atol=1e-12
    )
    scale = np.sqrt(np.diag(gram))
    condition = np.sqrt(np.linalg.cond(gram / np.outer(scale, scale), 1))
    assert found.evidence.condition == pytest.approx(condition, rel=0.5)  # LAPACK estimates it
    assert found.evidence.error_bound == pytest.approx(16 * np.finfo(float).eps * condition**2, rel=0.8)
    assert (found.evidence.anchors, found.evidence.rank) == (40, 8)
    assert found.evidence.alpha == pytest.approx(alpha)


def test_fewer_partners_than_dimensions(rng):
    X, labels = clusters(rng, 600, 8)
    source, target = whitened(
        LabelledRows.of(X, labels, "X"), LabelledRows.of(X, labels, "Y"), 600, rng, "test"
    )
    left, right = source.drawn[:5], target.drawn[:5]
    found = refining.map_of_partners(source, target, Moments.of(left, right), 1.0, "labels")
    assert found.evidence.rank == 4
    inner = source.whitening.back @ found.matrix @ target.whitening.basis
    np.testing.assert_allclose(
        inner, np.linalg.pinv(left - left.mean(axis=0)) @ (right - right.mean(axis=0)), atol=1e-8
    )


def test_disagreement_falls_with_the_rows(rng):
    X, labels = clusters(rng, 40_000, 15)
    Y = X @ rng.normal(size=(15, 15))
    found = []
    for count in (200, 2000, 20_000):
        sides = (
            LabelledRows.of(X[:count], labels[:count], "X"),
            LabelledRows.of(Y[-count:], labels[-count:], "Y"),
        )
        found.append(disagreement(*whitened(*sides, count, rng, "test"), rng))
    assert found[0] > found[1] > found[2]
    assert found[2] < 0.01


@pytest.mark.parametrize("most", [3, 40])
def test_statistics_within_bounds(rng, monkeypatch, most):
    # However many statistics are allowed, the same is found; down to none but those of whole classes.
    X, labels = clusters(rng, 4000, 6)
    Y = X @ rng.normal(size=(6, 6))
    monkeypatch.setattr(signatures, "_STATISTICS", most)
    found = fit_from_labels(X[:2000], labels[:2000], Y[2000:], labels[2000:])
    assert unexplained(found.map, X, Y) < 0.1


def test_covariances_of_many_classes_are_held_a_few_times_only(rng):
    classes, dim, rows = 150, 64, 40
    shapes, middles = rng.normal(size=(classes, dim, dim)) / 8, 3 * rng.normal(size=(classes, 1, dim))
    X = (rng.normal(size=(classes, rows, dim)) @ shapes + middles).reshape(-1, dim)
    Y, labels = X @ rng.normal(size=(dim, dim)), np.repeat(np.arange(classes), rows)
    tracemalloc.start()
    try:
        assert fit_from_labels(X, labels, Y, labels).basis == "rows"
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Of both sides as they are and as they are combined, and one of them in between; the rest is of rows.
    assert peak < 8 * classes * dim * dim * 8


class TestBadInput:
    X = np.random.default_rng(0).normal(size=(20, 3))
    labels = np.arange(20) % 4

    def refused(self, words, *, error=ValueError, **changed):
        call = {"X": self.X, "source_labels": self.labels, "Y": self.X, "target_labels": self.labels}
        with pytest.raises(error, match=words):
            fit_from_labels(**{**call, **changed})

    def test_no_class_in_common(self):
        self.refused(r"share 0 of 4 in the source \(0, 1, 2, 3\) and 4", target_labels=self.labels + 9)

    def test_one_class_in_common(self):
        self.refused("two classes or more that both sides have; they share 1", target_labels=self.labels + 3)
        self.refused("share 1 of 1", source_labels=np.zeros(20), target_labels=np.zeros(20))

    def test_labels_of_two_kinds(self):
        self.refused("labels of one kind", target_labels=self.labels.astype(str))

    def test_no_label_at_all(self):
        self.refused("the source X needs rows with a label; all 20", source_labels=[None] * 20)

    @pytest.mark.parametrize("labels", [np.zeros(19), np.zeros((20, 1)), 3])
    def test_not_one_label_a_row(self, labels):
        self.refused("needs one label a row", target_labels=labels)

    def test_rows(self):
        self.refused("the source X needs finite values", X=np.where(self.X > 1, np.nan, self.X))
        self.refused("the target Y needs a 2-D array", Y=self.X[0])
        self.refused("real numbers", error=TypeError, X=self.X.astype(complex))
        self.refused("all rows of the target Y are the same", Y=np.ones((20, 5)))
        self.refused("all rows of the target Y are the same", Y=np.full((20, 5), 0.1))

    def test_numbers(self):
        self.refused("max_rows of 1 or more; got 0", max_rows=0)
        self.refused("max_iterations of 1 or more; got -1", max_iterations=-1)
        self.refused("random_state", error=TypeError, random_state="x")

    @pytest.mark.parametrize("value", [2.5, 3.0, True, "3", None])
    @pytest.mark.parametrize("name", ["max_rows", "max_iterations"])
    def test_numbers_that_are_not_whole(self, name, value):
        self.refused(f"fit_from_labels needs whole numbers; got {name}={value!r}", **{name: value})
