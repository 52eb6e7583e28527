"""Pairing by id and by class, choosing anchors."""

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import latalign
from latalign import (
    anchors,
    class_means,
    d_optimal_anchors,
    farthest_point_anchors,
    kmeans_anchors,
    pair_by_id,
    pair_class_means,
    random_anchors,
)
from problems import rotation


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
    with pytest.raises(ValueError, match="pair_by_id needs a 1-D array of source ids; got list"):
        pair_by_id([[1], [1, 2]], [1])
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


@pytest.mark.parametrize("value", [2.5, 2.0, True, "2", None])
def test_every_choice_asks_for_a_whole_number_of_anchors(value):
    X = np.arange(12.0).reshape(6, 2)
    for choose in (farthest_point_anchors, kmeans_anchors, d_optimal_anchors):
        with pytest.raises(
            ValueError, match=f"{choose.__name__} needs whole numbers; got n_anchors={value!r}"
        ):
            choose(X, value)
    with pytest.raises(ValueError, match=f"random_anchors needs whole numbers; got n_anchors={value!r}"):
        random_anchors(6, value)
    with pytest.raises(ValueError, match=f"random_anchors needs whole numbers; got count={value!r}"):
        random_anchors(value, 1)


def test_a_number_of_anchors_may_be_numpys():
    X = np.arange(12.0).reshape(6, 2)
    for choose in (farthest_point_anchors, kmeans_anchors, d_optimal_anchors):
        np.testing.assert_array_equal(choose(X, np.int16(3)), choose(X, 3))
    np.testing.assert_array_equal(random_anchors(np.int64(6), np.uint8(3)), random_anchors(6, 3))


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
