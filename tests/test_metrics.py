"""Metrics against scikit-learn, SciPy and their definitions."""

import numpy as np
import pytest
from scipy.stats import skew
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.neighbors import NearestNeighbors

import latalign
from latalign import Moments, metrics
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
    monkeypatch.setattr("latalign.metrics._cosine._BLOCK_VALUES", 70)
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


def naive_csls_ranks(queries, index, k, reference):
    """CSLS as its paper writes it, one row at a time; `reference[j]` are the queries around row j."""
    cosines = cosine_similarity(queries, index)
    r_index = [
        np.sort(cosine_similarity(index[j][None], reference(j))[0])[-k:].mean() for j in range(len(index))
    ]
    found = []
    for i in range(len(queries)):
        r_query = np.sort(cosines[i])[-k:].mean()
        csls = [2 * cosines[i, j] - r_query - r_index[j] for j in range(len(index))]
        found.append(sum(value >= csls[i] - 1e-12 for value in csls))
    return found


@pytest.mark.parametrize("k", [1, 4])
def test_csls(rng, k):
    index = rng.normal(size=(50, 4)) + 0.5
    queries = index[:30] + 0.6 * rng.normal(size=(30, 4))
    others = index + 0.6 * rng.normal(size=(50, 4))
    given = metrics.csls_ranks(queries, index, k, reference=others)
    np.testing.assert_array_equal(given, naive_csls_ranks(queries, index, k, lambda j: others))
    itself = metrics.csls_ranks(queries, index, k)
    expected = naive_csls_ranks(queries, index, k, lambda j: np.delete(queries, j, 0) if j < 30 else queries)
    np.testing.assert_array_equal(itself, expected)
    assert (itself != metrics.ranks(queries, index)).any()


def test_crowding(rng):
    index, queries = rng.normal(size=(40, 3)), rng.normal(size=(25, 3))
    expected = np.sort(cosine_similarity(index, queries), axis=1)[:, -6:].mean(axis=1)
    np.testing.assert_allclose(metrics.crowding(index, queries, 6), expected)
    np.testing.assert_allclose(metrics.crowding(3 * index, queries / 2, 6), expected)


def test_csls_brings_back_what_a_hub_hides():
    """Rows around a circle, and one row in the middle, nearer to every query than its own."""
    angles = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    circle = np.column_stack([np.cos(angles), np.sin(angles), np.full(12, 0.8)])
    hub = np.array([[0.0, 0.0, 1.0]])
    queries = circle * [1, 1, 3]  # drawn toward the hub
    index = np.vstack([circle, hub])
    assert (metrics.ranks(queries, index) > 1).all()
    assert (metrics.csls_ranks(queries, index, 3) == 1).all()
    assert metrics.k_occurrence(queries, index, 1)[-1] == 12


def test_hubness_is_the_skewness_of_how_often_rows_are_found(rng):
    queries, index = rng.normal(size=(90, 12)) + 0.3, rng.normal(size=(70, 12)) + 0.3
    near = NearestNeighbors(n_neighbors=5, metric="cosine", algorithm="brute").fit(index)
    counts = np.bincount(near.kneighbors(queries, return_distance=False).ravel(), minlength=70)
    np.testing.assert_array_equal(metrics.k_occurrence(queries, index, 5), counts)
    assert np.isclose(metrics.hubness(queries, index, 5), skew(counts))


def test_all_rows_are_found_equally_often():
    assert metrics.hubness(np.eye(5), np.eye(5), 1) == 0
    assert metrics.hubness(np.eye(5), np.eye(5), 5) == 0


def test_zero_rows_have_a_cosine_of_zero(rng):
    rows = np.vstack([np.zeros((1, 3)), rng.normal(size=(9, 3))])
    assert metrics.crowding(rows, rows, 4)[0] == 0
    assert metrics.k_occurrence(rows, rows, 10).tolist() == [10] * 10
    assert metrics.csls_ranks(rows, rows, 2)[0] >= metrics.ranks(rows[1:], rows[1:])[0]
    assert np.isfinite(metrics.hubness(rows, rows, 3))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: metrics.crowding(x, x[:4], 5), "crowding needs 1 ≤ k ≤ queries; got k=5 with 4 queries"),
        (lambda x: metrics.crowding(x, x, 0), "crowding needs 1 ≤ k ≤ queries; got k=0 with 6 queries"),
        (lambda x: metrics.csls_ranks(x, x, 6), "1 ≤ k < queries, or a reference; got k=6 with 6 queries"),
        (lambda x: metrics.csls_ranks(x, x, 5, reference=x[:4]), "1 ≤ k ≤ queries; got k=5 with 4 queries"),
        (lambda x: metrics.csls_ranks(x, x[:4]), "csls_ranks needs an index row for every query; got 6"),
        (lambda x: metrics.csls_ranks(x, x[:, :2], 1), "csls_ranks compares rows of one space; got 3 and 2"),
        (lambda x: metrics.k_occurrence(x, x, 7), "1 ≤ k ≤ rows of the index; got k=7 with 6 rows"),
        (lambda x: metrics.k_occurrence(x, x, 2.5), "k_occurrence needs whole numbers; got k=2.5"),
        (lambda x: metrics.crowding(x, x, True), "crowding needs whole numbers; got k=True"),
        (lambda x: metrics.csls_ranks(x, x, "3"), "csls_ranks needs whole numbers; got k='3'"),
        (lambda x: metrics.mutual_knn_score(x, x, 2.0), "mutual_knn_score needs whole numbers; got k=2.0"),
        (lambda x: metrics.hubness(x, x * np.nan, 2), "k_occurrence needs finite values; 6 of 6 rows"),
    ],
)
def test_neighborhoods_that_are_not_there(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.random.default_rng(0).normal(size=(6, 3)))
