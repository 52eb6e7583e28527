"""Metrics against scikit-learn and their definitions; pairing by id."""

import numpy as np
import pytest
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

import latalign
from latalign import Moments, metrics, pair_by_id, random_anchors
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
