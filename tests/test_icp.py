"""Closest points within classes: every step against brute force, what it finds and where it fails."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

import latalign
from latalign import AffineMap, IllConditionedWarning, icp, pair_class_means
from problems import rotation

# Below the limit, a tree searches; above it, scikit-learn.
DIMS = [3, 12]


def clusters(rng, n, dim, classes=5, apart=2.0):
    """Rows of a few directions about as many means as there are classes, and their labels."""
    labels = rng.integers(classes, size=n)
    labels[:classes] = range(classes)
    inner = rng.normal(size=(n, dim)) * np.linspace(1.5, 0.3, dim)
    basis = np.stack([rotation(rng, dim) for _ in range(classes)])
    return apart * rng.normal(size=(classes, dim))[labels] + np.einsum(
        "ni,nij->nj", inner, basis[labels]
    ), labels


def brute_partners(mapped, source_labels, Y, target_labels, mutual):
    distances = cdist(mapped, Y)
    distances[np.asarray(source_labels)[:, None] != np.asarray(target_labels)] = np.inf
    nearest = distances.argmin(axis=1)
    if not mutual:
        return np.arange(len(mapped)), nearest
    kept = np.flatnonzero(distances.argmin(axis=0)[nearest] == np.arange(len(mapped)))
    return kept, nearest[kept]


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("method", ["rigid", "linear", "ridge"])
@pytest.mark.parametrize("neighbors", ["mutual", "one-sided"])
@pytest.mark.filterwarnings("ignore::latalign.IllConditionedWarning")
def test_every_step_is_that_of_brute_force(rng, dim, method, neighbors):
    X, source_labels = clusters(rng, 200, dim)
    Y, target_labels = clusters(rng, 150, dim)
    given = {"alpha": 0.1} if method == "ridge" else {}
    expected = latalign.fit(*pair_class_means(X, source_labels, Y, target_labels), method, **given)
    for step in (1, 2, 3):
        found = icp(
            X,
            source_labels,
            Y,
            target_labels,
            method,
            neighbors=neighbors,
            max_iterations=step,
            tol=0,
            **given,
        )
        for number in range(step + 1):
            left, right = brute_partners(expected(X), source_labels, Y, target_labels, neighbors == "mutual")
            if number == found.iterations == step:
                break
            expected = latalign.fit(X[left], Y[right], method, **given)
        assert found.pairs[-1] == len(left)
        np.testing.assert_allclose(found.errors[-1], ((expected(X[left]) - Y[right]) ** 2).mean(), rtol=1e-6)
        np.testing.assert_allclose(found.map(X), expected(X), rtol=0, atol=1e-6)
        expected = latalign.fit(*pair_class_means(X, source_labels, Y, target_labels), method, **given)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("neighbors", ["mutual", "one-sided"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_rigid_motion_is_found_without_a_pair(rng, dim, neighbors, dtype):
    X, labels = clusters(rng, 600, dim, classes=dim + 2)
    turn = rotation(rng, dim)
    shuffled = rng.permutation(600)
    Y = (X @ turn + 3)[shuffled]
    names = np.array([f"class {label}" for label in labels])
    found = icp(X.astype(dtype), names, Y.astype(dtype), names[shuffled], "rigid", neighbors=neighbors)
    assert found.converged
    assert found.errors[-1] < 1e-10
    np.testing.assert_allclose(found.map.matrix, turn, atol=1e-4)
    assert found.map.method == "rigid by icp"
    assert found.map.evidence.anchors == found.pairs[-1] == 600
    assert len(found.pairs) == len(found.errors) == found.iterations + 1


def test_spaces_of_other_width(rng):
    X, labels = clusters(rng, 500, 4, classes=8)
    into = np.linalg.qr(rng.normal(size=(10, 4)))[0].T
    shuffled = rng.permutation(500)
    found = icp(X, labels, (X @ into)[shuffled], labels[shuffled])
    np.testing.assert_allclose(found.map.matrix, into, atol=1e-8)


@pytest.mark.parametrize("method", ["rigid", "similarity", "affine", "linear"])
@pytest.mark.filterwarnings("ignore::latalign.IllConditionedWarning")
def test_the_error_of_one_sided_neighbours_never_rises(rng, method):
    X, source_labels = clusters(rng, 400, 6)
    Y, target_labels = clusters(rng, 300, 6)
    found = icp(X, source_labels, Y, target_labels, method, neighbors="one-sided", tol=0)
    errors = np.array(found.errors)
    # The first may be of a map that no method would have fitted to these pairs.
    assert (np.diff(errors) <= 1e-9 * errors[1:]).all()
    assert found.iterations > 3


def test_it_ends_where_the_partners_stay(rng):
    X, source_labels = clusters(rng, 200, 3)
    Y, target_labels = clusters(rng, 200, 3)
    found = icp(X, source_labels, Y, target_labels, tol=0, max_iterations=1000)
    assert found.converged
    left, right = brute_partners(found.map(X), source_labels, Y, target_labels, mutual=True)
    again = latalign.fit(X[left], Y[right], "rigid")
    np.testing.assert_allclose(again.matrix, found.map.matrix, atol=1e-12)
    short = icp(X, source_labels, Y, target_labels, tol=0, max_iterations=1)
    assert (short.iterations, short.converged) == (1, False)
    loose = icp(X, source_labels, Y, target_labels, tol=10)
    assert (loose.iterations, loose.converged) == (1, True)


def noisy_spaces(rng, n, dim):
    """Clusters, and what a matrix that is no rotation and noise make of them."""
    X, labels = clusters(rng, n, dim, classes=10)
    Y = X @ (rotation(rng, dim) * np.exp(0.4 * rng.normal(size=dim)))
    return X, Y + 0.3 * Y.std() * rng.normal(size=Y.shape), labels


def test_a_free_matrix_shrinks_under_one_sided_neighbours(rng):
    # What the paper found. No row of one side is seen by the other.
    X, Y, labels = noisy_spaces(rng, 4000, 30)
    half = np.arange(4000) < 2000
    sides = X[half], labels[half], Y[~half], labels[~half]

    def error(map):
        return ((map(X) - Y) ** 2).mean()

    with pytest.warns(IllConditionedWarning, match="10 anchors determine 10 of 30 directions"):
        means = error(latalign.fit(*pair_class_means(*sides), "linear"))
    found = icp(*sides, "linear", neighbors="one-sided")
    assert error(found.map) > 1.2 * means
    assert found.errors[-1] < 0.6 * found.errors[0]  # and it looks ever better
    assert found.map(X).var(axis=0).sum() < 0.85 * Y.var(axis=0).sum()
    assert error(icp(*sides, "linear").map) < 0.85 * error(found.map)


def test_mutual_neighbours_find_what_pairs_would(rng):
    # The same things on both sides, in an order that nobody knows.
    X, Y, labels = noisy_spaces(rng, 3000, 30)
    shuffled = rng.permutation(3000)
    found = icp(X, labels, Y[shuffled], labels[shuffled], "linear")
    best = ((latalign.fit(X, Y, "linear")(X) - Y) ** 2).mean()
    assert ((found.map(X) - Y) ** 2).mean() < 1.05 * best


def test_nothing_is_lost_far_from_the_origin(rng):
    # As many classes as determine the start.
    X, source_labels = clusters(rng, 400, 12, classes=14)
    Y, target_labels = clusters(rng, 400, 12, classes=14)
    near = icp(X, source_labels, Y, target_labels, tol=0)
    far = icp(X + 1e7, source_labels, Y - 1e7, target_labels, tol=0)
    assert far.pairs == near.pairs
    np.testing.assert_allclose(far.map.matrix, near.map.matrix, atol=1e-6)


def test_a_start_and_no_labels(rng):
    X, _ = clusters(rng, 300, 3)
    turn = rotation(rng, 3)
    shuffled = rng.permutation(300)
    one = np.zeros(300, dtype=int)
    nearly = AffineMap.of(turn + 0.02 * rng.normal(size=(3, 3)))
    found = icp(X, one, (X @ turn)[shuffled], one, "affine", start=nearly)
    np.testing.assert_allclose(found.map.matrix, turn, atol=1e-8)
    with pytest.raises(ValueError, match=r"the class means determine no map \(fit needs at least 2 pairs"):
        icp(X, one, X, one)
    with pytest.raises(ValueError, match="a start from 3 to 3 dimensions; got a map from 3 to 2"):
        icp(X, one, X, one, start=AffineMap.of(np.ones((3, 2))))


def test_the_map_is_saved_like_any_other(rng, tmp_path):
    X, labels = clusters(rng, 100, 3)
    found = icp(X, labels, X, labels)
    found.map.save(tmp_path / "map.safetensors")
    loaded = AffineMap.load(tmp_path / "map.safetensors")
    assert loaded.method == "rigid by icp"
    assert loaded.evidence == found.map.evidence


def test_undetermined_directions_warn(rng):
    X, labels = clusters(rng, 40, 3)
    X[:, 2] = 1.0
    with pytest.warns(IllConditionedWarning, match="affine: .* anchors determine 2 of 3 directions"):
        icp(X, labels, X, labels, "affine")


def test_errors(rng):
    X, labels = clusters(rng, 60, 3)
    bad = X.copy()
    bad[7] = np.nan
    with pytest.raises(ValueError, match="icp: the source X needs finite values; 1 of 60"):
        icp(bad, labels, X, labels)
    with pytest.raises(ValueError, match="icp: the target Y needs finite values; 1 of 60"):
        icp(X, labels, bad, labels)
    with pytest.raises(ValueError, match="the source X needs one label a row; got 59 labels for 60 rows"):
        icp(X, labels[1:], X, labels)
    with pytest.raises(ValueError, match=r"the target has no row of 1 of the 5 source classes: 4\. Leave"):
        icp(X, labels, X[labels < 4], labels[labels < 4])
    with pytest.raises(ValueError, match="the target Y: 1 of 60 labels are missing"):
        icp(X, labels, X, np.where(np.arange(60) == 3, np.nan, labels))
    with pytest.raises(ValueError, match=r"got 'auto'\. Name another"):
        icp(X, labels, X, labels, "auto")
    with pytest.raises(ValueError, match=r"got 'low_rank'\. Name .* for \"low_rank\" its rank"):
        icp(X, labels, X, labels, "low_rank")
    with pytest.raises(ValueError, match="there is no method 'nearest'"):
        icp(X, labels, X, labels, "nearest")
    with pytest.raises(ValueError, match="method 'rigid' takes reflection; it got alpha"):
        icp(X, labels, X, labels, "rigid", alpha=1.0)
    with pytest.raises(ValueError, match='neighbors is "mutual" or "one-sided"; got \'all\''):
        icp(X, labels, X, labels, neighbors="all")
    with pytest.raises(ValueError, match="max_iterations of 1 or more; got 0"):
        icp(X, labels, X, labels, max_iterations=0)
    with pytest.raises(ValueError, match="tol of zero or more; got nan"):
        icp(X, labels, X, labels, tol=np.nan)
    with pytest.raises(ValueError, match="the class means determine no map"):
        icp(X, labels, np.ones_like(X), labels)
