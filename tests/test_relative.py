"""Relative representations: SciPy's and scikit-learn's numbers, what they do not see, and bad input."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import cosine_similarity

import latalign
from latalign import AffineMap, Chain, Map, RelativeMap, relative
from latalign.io.mapfile import write_map
from problems import rotation


@pytest.fixture
def rows(rng):
    return rng.normal(size=(60, 7)) + 3


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_distances_are_scipys(rows, dtype):
    X = rows.astype(dtype)
    found = RelativeMap(X[:9])(X)
    expected = cdist(X.astype(np.float64), X[:9].astype(np.float64))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected.astype(dtype))
    np.testing.assert_array_equal(found[range(9), range(9)], 0)
    assert (found >= 0).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_cosines_are_scikit_learns(rows, dtype):
    X = rows.astype(dtype)
    found = RelativeMap(X[:9], "cosine")(X)
    expected = cosine_similarity(X.astype(np.float64), X[:9].astype(np.float64))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=4 * np.finfo(dtype).eps)
    np.testing.assert_allclose(found[range(9), range(9)], 1, rtol=0, atol=4 * np.finfo(dtype).eps)
    assert (np.abs(found) <= 1).all()


def test_integers_become_float64():
    found = RelativeMap(np.array([[0, 0]]))(np.array([[3, 4], [0, 0]]))
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, [[5], [0]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nothing_is_lost_far_from_the_origin(rng, dtype):
    # Neighbours a thousandth apart, at a place where a product of rows has no digit left for that.
    step = 2.0**-10
    grid = step * rng.integers(-8, 8, size=(40, 5))
    X = (grid + 2.0**10).astype(dtype)
    np.testing.assert_array_equal(X.astype(np.float64) - 2.0**10, grid)  # all of it is in the rows
    expected = cdist(grid, grid[:6]).astype(dtype)
    np.testing.assert_array_equal(RelativeMap(X[:6])(X), expected)


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_blocks_do_not_show(rows, similarity, monkeypatch):
    whole = RelativeMap(rows[:9], similarity)(rows)
    monkeypatch.setattr(relative, "_BLOCK_VALUES", 40)
    np.testing.assert_allclose(RelativeMap(rows[:9], similarity)(rows), whole, rtol=1e-14)


def test_distances_do_not_see_a_rigid_motion(rng, rows):
    moved = rows @ rotation(rng, 7) - 5
    found = RelativeMap(moved[:9])(moved)
    np.testing.assert_allclose(found, RelativeMap(rows[:9])(rows), rtol=0, atol=1e-12)
    # They see a scale, by as much as it is.
    np.testing.assert_allclose(RelativeMap(2 * rows[:9])(2 * rows), 2 * found, rtol=0, atol=1e-12)


def test_cosines_do_not_see_rotation_and_scale(rng, rows):
    turned = 3 * rows @ rotation(rng, 7)
    expected = RelativeMap(rows[:9], "cosine")(rows)
    np.testing.assert_allclose(RelativeMap(turned[:9], "cosine")(turned), expected, rtol=0, atol=1e-14)
    # Nor the length of any row, or of an anchor; but a translation they do.
    lengths = rng.uniform(0.1, 9, size=(60, 1))
    found = RelativeMap(rows[:9] * lengths[:9], "cosine")(rows * lengths)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    assert np.abs(RelativeMap(rows[:9] + 5, "cosine")(rows + 5) - expected).max() > 0.1


def test_a_zero_row_has_a_cosine_of_0_with_any(rows):
    X = np.vstack((rows, np.zeros((1, 7))))
    np.testing.assert_array_equal(RelativeMap(rows[:4], "cosine")(X)[-1], 0)


def test_huge_and_tiny_directions(rng):
    rows = rng.normal(size=(20, 4))
    expected = RelativeMap(rows[:3], "cosine")(rows)
    for scale in (1e300, 1e-300):
        found = RelativeMap(rows[:3] * scale, "cosine")(rows * scale)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)


def test_it_is_a_map(rng, rows):
    found = RelativeMap(rows[:9])
    assert isinstance(found, Map)
    assert (found.dim_source, found.dim_target) == (7, 9)
    turn = AffineMap.of(rotation(rng, 7))
    chain = turn >> found >> AffineMap.of(np.ones((9, 2)))
    assert isinstance(chain, Chain)
    assert len(chain.maps) == 3
    expected = cdist(turn(rows), rows[:9]) @ np.ones((9, 2))
    np.testing.assert_allclose(chain(rows), expected, rtol=1e-13)


def test_maps_between_relative_codes_are_fitted_like_any_other(rng, rows):
    moved = rows @ rotation(rng, 7) + 1
    found = latalign.fit(RelativeMap(rows[:5])(rows), RelativeMap(moved[:5])(moved), "affine")
    np.testing.assert_allclose(found.matrix, np.eye(5), atol=1e-8)


def test_it_does_not_change(rows):
    given = rows[:5].copy()
    found = RelativeMap(given)
    given[:] = 0
    np.testing.assert_array_equal(found.anchors, rows[:5])
    with pytest.raises(ValueError, match="read-only"):
        found.anchors[0, 0] = 1
    with pytest.raises(AttributeError):
        found.similarity = "cosine"


@pytest.mark.parametrize("similarity", ["euclidean", "cosine"])
def test_files(rows, similarity, tmp_path):
    path = tmp_path / "relative.safetensors"
    kept = RelativeMap(rows[:5], similarity)
    kept.save(path, source="old", dataset="rows")
    header = latalign.read_header(path)
    assert (header.kind, header.method, header.source) == ("relative", similarity, "old")
    assert (header.dim_source, header.dim_target) == (7, 5)
    for found in (RelativeMap.load(path), latalign.load_map(path)):
        assert isinstance(found, RelativeMap)
        assert found.similarity == similarity
        np.testing.assert_array_equal(found.anchors, kept.anchors)
    with pytest.raises(
        ValueError, match=r"kind 'relative', not 'affine'. Read it with latalign\.RelativeMap\.load"
    ):
        AffineMap.load(path)
    write_map(path, {"anchors": rows[:5]}, replace(header, method="dot"))
    with pytest.raises(ValueError, match=r"not a sound map file: RelativeMap: similarity is"):
        RelativeMap.load(path)
    write_map(path, {"anchors": rows[:6]}, header)
    with pytest.raises(ValueError, match=r"anchors should be float64 of shape \(5, 7\), it is .* \(6, 7\)"):
        RelativeMap.load(path)


def test_files_of_rows_are_mapped(rows, tmp_path):
    np.save(tmp_path / "rows.npy", rows)
    latalign.apply_file(RelativeMap(rows[:5]), tmp_path / "rows.npy", tmp_path / "codes.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "codes.npy"), cdist(rows, rows[:5]))


def test_errors(rows):
    bad = rows.copy()
    bad[4, 2] = np.nan
    with pytest.raises(ValueError, match=r"1 of 60 rows contain NaN or infinity \(the first is row 4"):
        RelativeMap(rows[:5])(bad)
    with pytest.raises(ValueError, match=r"1 of 60 rows contain NaN or infinity \(the first is row 4"):
        RelativeMap(rows[:5], "cosine")(bad)
    with pytest.raises(ValueError, match="RelativeMap: the anchors needs finite values; 1 of 5"):
        RelativeMap(bad[:5])
    with pytest.raises(ValueError, match="rows of 7 dimensions; got 3"):
        RelativeMap(rows[:5])(rows[:, :3])
    with pytest.raises(ValueError, match="the anchors needs a 2-D array"):
        RelativeMap(rows[0])
    with pytest.raises(TypeError, match="the anchors needs an array of real numbers"):
        RelativeMap([["a"]])
    with pytest.raises(ValueError, match='similarity is "euclidean" or "cosine"; got \'dot\''):
        RelativeMap(rows[:5], "dot")
    with pytest.raises(ValueError, match=r"anchors with a direction; 2 of 5 are zero. Leave them out"):
        RelativeMap(np.vstack((rows[:3], np.zeros((2, 7)))), "cosine")
    with pytest.raises(ValueError, match="distances overflow float16; give rows of a wider dtype"):
        RelativeMap([[-6e4]])(np.array([[6e4]], np.float16))
    with pytest.raises(ValueError, match="distances overflow float64"):
        RelativeMap([[-1e200]])([[1e200]])
