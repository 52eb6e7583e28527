"""Metrics against scikit-learn and their definitions; pairing by id and by class, choosing anchors."""

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

import latalign
from latalign import (
    Moments,
    anchors,
    class_means,
    farthest_point_anchors,
    kmeans_anchors,
    metrics,
    pair_by_id,
    pair_class_means,
    random_anchors,
)
from problems import pairs, rotation


def test_errors_are_scikit_learns(rng):
    X, Y = pairs(rng, 80, 6, 5)
    w = rng.uniform(0.5, 2, 80)
    found = latalign.fit(X, Y, "rigid")
    m = Moments.of(X, Y, sample_weight=w)
    assert np.isclose(metrics.mean_squared_error(found, m), mean_squared_error(Y, found(X), sample_weight=w))
    expected = r2_score(Y, found(X), sample_weight=w, multioutput="variance_weighted")
    assert np.isclose(metrics.r2_score(found, m), expected)


def test_linear_cka(rng):
    X, Y = pairs(rng, 80, 6, 5)
    x, y = X - X.mean(0), Y - Y.mean(0)
    K, L = x @ x.T, y @ y.T
    expected = (K * L).sum() / np.linalg.norm(K) / np.linalg.norm(L)
    m = Moments.of(X, Y)
    assert np.isclose(metrics.linear_cka_score(m), expected)
    assert np.isclose(metrics.linear_cka_score(m), metrics.linear_cka_score(m.swapped()))
    turned = Moments.of(3 * X @ rotation(rng, 6) + 1, -2 * Y)
    assert np.isclose(metrics.linear_cka_score(turned), expected)


def test_procrustes_distance(rng):
    X, Y = pairs(rng, 80, 6, 6)
    x, y = X - X.mean(0), Y - Y.mean(0)
    x, y = x / np.linalg.norm(x), y / np.linalg.norm(y)
    m = Moments.of(X, Y)
    expected = np.arccos(np.linalg.norm(x.T @ y, "nuc"))
    assert np.isclose(metrics.procrustes_distance(m), expected)
    assert metrics.procrustes_distance(Moments.of(X, 4 * X @ rotation(rng, 6) + 2)) < 1e-6
    flat = Moments.of(X, np.ones_like(Y))
    assert np.isnan(metrics.procrustes_distance(flat))
    assert np.isnan(metrics.linear_cka_score(flat))


def test_retrieval(rng):
    X = rng.normal(size=(60, 5))
    Y = X + 0.5 * rng.normal(size=(60, 5))
    similarity = cosine_similarity(X, Y)
    ranks = (similarity >= similarity.diagonal()[:, None]).sum(1)
    np.testing.assert_array_equal(metrics.ranks(X, Y), ranks)
    assert metrics.recall_score(X, Y, k=5) == (ranks <= 5).mean()
    assert np.isclose(metrics.mrr_score(X, Y), (1 / ranks).mean())
    assert np.isclose(metrics.mean_cosine_score(X, Y), similarity.diagonal().mean())
    np.testing.assert_array_equal(metrics.ranks(X[:7], Y), ranks[:7])


def test_a_collapsed_space_finds_nothing():
    same = np.ones((20, 3))
    assert metrics.recall_score(same, same, k=1) == 0
    assert metrics.mean_cosine_score(np.zeros((2, 3)), np.ones((2, 3))) == 0


def test_blocks_do_not_show(rng, monkeypatch):
    X, Y = rng.normal(size=(50, 4)), rng.normal(size=(50, 6))
    whole = metrics.ranks(X, X), metrics.mutual_knn_score(X, Y, k=3)
    monkeypatch.setattr(metrics, "_BLOCK_VALUES", 70)
    np.testing.assert_array_equal(metrics.ranks(X, X), whole[0])
    assert metrics.mutual_knn_score(X, Y, k=3) == whole[1]


def test_mutual_neighbours(rng):
    X, Y = rng.normal(size=(60, 4)), rng.normal(size=(60, 6))

    def neighbours(Z):
        index = NearestNeighbors(n_neighbors=6, metric="cosine").fit(Z)
        return index.kneighbors(return_distance=False)

    expected = np.mean([len(set(a) & set(b)) / 6 for a, b in zip(neighbours(X), neighbours(Y), strict=True)])
    assert np.isclose(metrics.mutual_knn_score(X, Y, k=6), expected)
    assert metrics.mutual_knn_score(X, 2 * X @ rotation(rng, 4), k=6) == 1
    with pytest.raises(ValueError, match="1 ≤ k < rows"):
        metrics.mutual_knn_score(X, Y, k=60)


def test_widths_and_counts():
    with pytest.raises(ValueError, match="Map one side first"):
        metrics.mean_cosine_score(np.ones((3, 2)), np.ones((3, 4)))
    with pytest.raises(ValueError, match="3 and 2 rows"):
        metrics.mean_cosine_score(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="index row for every query"):
        metrics.ranks(np.ones((3, 2)), np.ones((2, 2)))
    with pytest.raises(ValueError, match="1 of 3 rows contain NaN"):
        metrics.ranks(np.array([[1.0], [np.nan], [1]]), np.ones((3, 1)))


def test_what_cannot_be_measured():
    as_is = latalign.AffineMap.of(np.eye(2))
    nothing = Moments.zero(2, 2)
    assert np.isnan(metrics.mean_squared_error(as_is, nothing))
    assert np.isnan(metrics.r2_score(as_is, nothing))
    others = Moments.of(np.eye(3), np.eye(3)[:, :2])
    for measure in (metrics.squared_error, metrics.mean_squared_error, metrics.r2_score):
        with pytest.raises(ValueError, match="leads from 2 to 2 dimensions, the moments are of 3 and 2"):
            measure(as_is, others)
    with pytest.raises(ValueError, match="recall_score needs k ≥ 1; got k=0"):
        metrics.recall_score(np.eye(3), np.eye(3), k=0)


@pytest.mark.parametrize("kind", [int, str, object])
def test_pairing_by_id(rng, kind):
    ids = np.array([f"id{k}" for k in range(50)], dtype=object) if kind is not int else np.arange(50) * 3
    ids = ids.astype(kind)
    shuffled = rng.permutation(50)
    source, target = pair_by_id(ids, ids[shuffled])
    np.testing.assert_array_equal(source, np.arange(50))
    np.testing.assert_array_equal(ids[shuffled][target], ids)


def test_ids_that_do_not_pair():
    with pytest.raises(ValueError, match="1 of 3 source ids are missing in the target, c among them"):
        pair_by_id(["a", "b", "c"], ["a", "b"])
    with pytest.raises(ValueError, match="1 of 2 target ids are missing in the source, x"):
        pair_by_id(["a"], ["a", "x"])
    source, target = pair_by_id(["a", "b", "c"], ["c", "x", "a"], unmatched="drop")
    np.testing.assert_array_equal(source, [0, 2])
    np.testing.assert_array_equal(target, [2, 0])
    with pytest.raises(ValueError, match="no id in common"):
        pair_by_id(["a"], ["b"], unmatched="drop")
    with pytest.raises(ValueError, match="2 source ids occur more than once, a among them"):
        pair_by_id(["a", "a", "b", "b"], ["a", "b"])
    with pytest.raises(ValueError, match="1 of 2 target ids are missing"):
        pair_by_id(["a", "b"], np.array(["a", None], dtype=object))
    with pytest.raises(ValueError, match="ids of one kind"):
        pair_by_id([1, 2], ["1", "2"])
    with pytest.raises(ValueError, match="1-D"):
        pair_by_id([[1]], [1])
    with pytest.raises(ValueError, match="unmatched is"):
        pair_by_id([1], [1], unmatched="keep")


def test_random_anchors():
    drawn = random_anchors(100, 30)
    assert len(set(drawn)) == 30
    assert drawn.min() >= 0
    assert drawn.max() < 100
    np.testing.assert_array_equal(drawn, random_anchors(100, 30, random_state=0))
    assert not np.array_equal(drawn, random_anchors(100, 30, random_state=1))
    with pytest.raises(ValueError, match="1 ≤ n_anchors ≤ 5"):
        random_anchors(5, 6)


def test_farthest_points_are_brute_forces(rng, monkeypatch):
    X = rng.normal(size=(200, 6)).astype(np.float32)
    monkeypatch.setattr(anchors, "_BLOCK_ROWS", 64)
    distances = cdist(X, X)
    chosen = [int(np.random.default_rng(5).integers(200))]
    while len(chosen) < 12:
        chosen.append(int(distances[chosen].min(axis=0).argmax()))
    found = farthest_point_anchors(X, 12, random_state=5)
    np.testing.assert_array_equal(found, sorted(chosen))


def test_farthest_points_cover_at_most_twice_as_wide_as_the_best(rng):
    X = rng.normal(size=(12, 2))
    distances = cdist(X, X)
    best = min(distances[list(rows)].min(axis=0).max() for rows in combinations(range(12), 3))
    for seed in range(12):
        found = farthest_point_anchors(X, 3, random_state=seed)
        assert distances[found].min(axis=0).max() <= 2 * best


@pytest.mark.parametrize("choose", [farthest_point_anchors, kmeans_anchors])
def test_chosen_anchors_are_different_rows(rng, choose):
    X = rng.normal(size=(80, 3)) + 1e6
    for count in (1, 7, 80):
        found = choose(X, count)
        assert found.dtype == np.intp
        assert len(set(found)) == count
        np.testing.assert_array_equal(found, np.sort(found))
        np.testing.assert_array_equal(found, choose(X, count, random_state=0))
    assert any(not np.array_equal(choose(X, 7), choose(X, 7, random_state=seed)) for seed in (1, 2))
    for dtype in (np.float16, np.float32):
        small = (X - 1e6).astype(dtype)
        np.testing.assert_array_equal(choose(small, 7), choose(small.astype(np.float64), 7))
    with pytest.raises(ValueError, match=r"1 ≤ n_anchors ≤ 80 rows; got 81"):
        choose(X, 81)
    with pytest.raises(ValueError, match="1 of 2 rows contain NaN"):
        choose([[1.0], [np.nan]], 1)
    with pytest.raises(ValueError, match="X needs a 2-D array"):
        choose(X[0], 1)


def test_kmeans_anchors_are_the_middles_of_clusters(rng):
    labels = rng.permutation(np.repeat(range(6), 50))
    X = 100 * np.eye(6)[labels] + rng.normal(size=(300, 6))
    found = kmeans_anchors(X, 6)
    assert sorted(labels[found]) == list(range(6))
    for row in found:
        mine = np.flatnonzero(labels == labels[row])
        away = np.linalg.norm(X[mine] - X[mine].mean(axis=0), axis=1)
        assert row == mine[away.argmin()]


def test_anchors_among_duplicates():
    X = np.repeat([[0.0], [1.0], [5.0]], 4, axis=0)
    assert len(set(farthest_point_anchors(X, 7))) == 7
    assert set(X[farthest_point_anchors(X, 3), 0]) == {0, 1, 5}
    assert set(X[kmeans_anchors(X, 3), 0]) == {0, 1, 5}
    with pytest.raises(ValueError, match="it found 3 clusters for 4 anchors"):
        kmeans_anchors(X, 4)


def test_class_means(rng):
    X = rng.normal(size=(90, 4)).astype(np.float16)
    labels = rng.permutation(np.repeat(["x", "a", "long name"], 30))
    classes, means = class_means(X, labels.astype(object))
    np.testing.assert_array_equal(classes, ["a", "long name", "x"])
    assert means.dtype == np.float64
    for name, mean in zip(classes, means, strict=True):
        np.testing.assert_allclose(mean, X[labels == name].astype(np.float64).mean(axis=0), rtol=1e-14)
    numbers, same = class_means(X, np.searchsorted(classes, labels).astype(np.float32))
    np.testing.assert_array_equal(numbers, [0, 1, 2])
    np.testing.assert_array_equal(same, means)
    with pytest.raises(ValueError, match="one label a row; got 3 labels for 90 rows"):
        class_means(X, labels[:3])
    with pytest.raises(ValueError, match="1-D array of labels"):
        class_means(X, labels[:, None])
    with pytest.raises(ValueError, match="1 of 2 labels are missing"):
        class_means([[1.0], [2.0]], ["a", None])
    with pytest.raises(ValueError, match="1 of 2 rows contain NaN"):
        class_means([[1.0], [np.nan]], [0, 1])


def test_class_means_of_two_sides(rng):
    X, source_labels = rng.normal(size=(200, 4)), np.arange(200) % 10
    turn = rotation(rng, 4)
    Y, target_labels = X[::-1] @ turn + 1, source_labels[::-1]
    means = pair_class_means(X, source_labels, Y, target_labels)
    assert [side.shape for side in means] == [(10, 4), (10, 4)]
    np.testing.assert_allclose(latalign.fit(*means, "rigid").matrix, turn, atol=1e-10)
    some = source_labels < 3
    with pytest.raises(
        ValueError, match="the target has no row of 7 of the 10 source classes: 3, 4, 5, 6, 7, …"
    ):
        pair_class_means(X, source_labels, Y[some[::-1]], target_labels[some[::-1]])
    with pytest.raises(ValueError, match="the source has no row of 7 of the 10 target classes: 3, 4"):
        pair_class_means(X[some], source_labels[some], Y, target_labels)
    with pytest.raises(ValueError, match="labels of one kind"):
        pair_class_means(X, source_labels, Y, target_labels.astype(str))
