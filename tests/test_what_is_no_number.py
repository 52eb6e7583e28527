"""What is no array of real numbers is refused wherever one is asked for."""

from datetime import date

import numpy as np
import pytest

import latalign
from latalign import AffineMap, Moments, pair_by_id

ROWS = np.arange(12.0).reshape(6, 2)
NO_NUMBERS = {
    "bool": (ROWS > 3, "bool holds no numbers"),
    "datetime64": (ROWS.astype("datetime64[s]"), r"datetime64\[s\] holds no numbers"),
    "timedelta64": (ROWS.astype("timedelta64[s]"), r"timedelta64\[s\] holds no numbers"),
    "texts": (ROWS.astype(str), "holds no numbers; convert it first"),
    "texts among objects": (ROWS.astype(str).astype(object), "object holds no numbers"),
    "dates among objects": (np.full((6, 2), date(2020, 1, 1), object), "real number"),
    "complex": (ROWS + 1j, "complex values have no order"),
    "ragged": ([[1.0], [1.0, 2.0]], "got list, which is not one"),
    "a text": ("abc", "got str, which is not one"),
}


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_rows(kind):
    values, words = NO_NUMBERS[kind]
    for call in (
        lambda: latalign.fit(values, ROWS),
        lambda: latalign.fit(ROWS, values),
        lambda: Moments.of(values, ROWS),
        lambda: AffineMap.of(np.eye(2))(values),
    ):
        with pytest.raises(TypeError, match=words):
            call()


@pytest.mark.parametrize("kind", NO_NUMBERS)
def test_matrices_offsets_and_means(kind):
    values, words = NO_NUMBERS[kind]
    with pytest.raises(TypeError, match=f"AffineMap.of: the matrix needs.*{words}"):
        AffineMap.of(values)
    with pytest.raises(TypeError, match=f"AffineMap.of: the offset needs.*{words}"):
        AffineMap.of(np.eye(2), values)
    with pytest.raises(TypeError, match=f"AffineMap: source_mean needs.*{words}"):
        AffineMap(values, np.eye(2), np.zeros(2))


@pytest.mark.parametrize("kind", sorted(set(NO_NUMBERS) - {"bool"}))
def test_weights(kind):
    values, words = NO_NUMBERS[kind]
    with pytest.raises(TypeError, match=f"sample_weight needs an array of real numbers, one a row.*{words}"):
        latalign.fit(ROWS, ROWS, sample_weight=values)


def test_true_and_false_say_which_rows_count(rng):
    X = rng.normal(size=(20, 3))
    counted = np.arange(20) < 12
    found = latalign.fit(X, X[:, :2], "affine", sample_weight=counted)
    np.testing.assert_allclose(found.matrix, latalign.fit(X[:12], X[:12, :2], "affine").matrix)


def test_numbers_among_objects_are_numbers():
    np.testing.assert_array_equal(Moments.of(ROWS.astype(object), ROWS).xy, Moments.of(ROWS, ROWS).xy)


def test_masked_entries():
    masked = np.ma.masked_equal(ROWS, 3.0)
    for call in (
        lambda: latalign.fit(masked, ROWS),
        lambda: latalign.fit(ROWS, masked),
        lambda: latalign.fit(ROWS, ROWS, sample_weight=masked[:, 1]),
        lambda: AffineMap.of(np.eye(2))(masked),
        lambda: AffineMap.of(masked),
    ):
        with pytest.raises(ValueError, match=r"1 of \d+ entries are masked. Leave those rows out"):
            call()
    whole = np.ma.masked_array(ROWS, mask=False)
    np.testing.assert_array_equal(AffineMap.of(np.eye(2))(whole), ROWS)


def test_a_method_that_is_no_name():
    with pytest.raises(ValueError, match=r"there is no method \[1, 2\]; there are: auto"):
        latalign.fit(ROWS, ROWS, method=[1, 2])


def test_ragged_ids():
    with pytest.raises(ValueError, match="pair_by_id needs a 1-D array of source ids; got list"):
        pair_by_id([[1], [1, 2]], [1, 2])
