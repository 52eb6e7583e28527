"""How far off mapped rows may be: calibrated, and kept in the map file."""

import numpy as np
import pytest

import latalign
from latalign import AffineMap, Uncertainty
from latalign.io.mapfile import read_header
from latalign.methods import LEAST_SQUARES
from problems import rotation

DRAWS = 12


def problem(rng, rows, dim, kind="normal"):
    X = rng.normal(size=(rows + 1000, dim)) * np.geomspace(1, 0.3, dim)
    Y = X @ (rotation(rng, dim) * np.geomspace(0.7, 1.4, dim))
    noise = rng.normal(size=Y.shape)
    if kind == "heavy tails":
        noise = rng.standard_t(3, size=Y.shape) / np.sqrt(3)
    elif kind == "far rows noisier":
        noise *= np.linalg.norm(X, axis=1, keepdims=True) / np.sqrt((X**2).sum(axis=1).mean())
    return X, 1 + Y + 0.3 * Y.std() * noise


def coverage(rows, dim, method, kind="normal", level=0.9, **given):
    """The share of held-out rows inside, over draws of the anchors, and its standard error."""
    found = []
    for draw in range(DRAWS):
        X, Y = problem(np.random.default_rng([draw, rows, dim]), rows, dim, kind)
        anchors = X[:rows], Y[:rows]
        map_ = latalign.calibrate(latalign.fit(*anchors, method), *anchors, **given)
        off = np.linalg.norm(map_(X[rows:]) - Y[rows:], axis=1)
        found.append((off <= map_.uncertainty.radius(X[rows:], level)).mean())
    return np.mean(found), np.std(found) / np.sqrt(DRAWS)


@pytest.mark.parametrize("method", [method.name for method in LEAST_SQUARES])
def test_of_held_out_rows_nine_in_ten_are_inside(method):
    share, error = coverage(120, 12, method)
    assert abs(share - 0.9) <= 0.03 + 3 * error


@pytest.mark.parametrize("kind", ["heavy tails", "far rows noisier"])
@pytest.mark.parametrize("method", ["ridge", "rigid"])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_whatever_the_noise(method, kind, level):
    share, error = coverage(200, 10, method, kind, level)
    assert abs(share - level) <= 0.03 + 3 * error


def test_with_fewer_rows_than_dimensions():
    share, error = coverage(50, 80, "ridge")
    assert abs(share - 0.9) <= 0.03 + 3 * error


def test_with_hardly_more_rows_than_dimensions():
    share, error = coverage(30, 24, "affine")
    assert abs(share - 0.9) <= 0.03 + 3 * error


@pytest.mark.filterwarnings(
    "ignore::latalign.IllConditionedWarning", "ignore::latalign.UnrelatedPairsWarning"
)
@pytest.mark.parametrize("method", ["ridge", "shrunk", "affine", "rigid", "auto"])
def test_a_choice_owes_nothing_to_the_row_that_is_left_out(method):
    """Ten anchors in eight dimensions, over many draws: what was chosen with a row makes its error too small."""
    found = []
    for draw in range(60):
        X, Y = problem(np.random.default_rng([draw, 10]), 10, 8)
        map_ = latalign.calibrate(latalign.fit(X[:10], Y[:10], method), X[:10], Y[:10])
        found.append(
            (np.linalg.norm(map_(X[10:]) - Y[10:], axis=1) <= map_.uncertainty.radius(X[10:])).mean()
        )
    assert abs(np.mean(found) - 0.9) <= 0.04 + 2 * np.std(found) / np.sqrt(len(found))


@pytest.mark.filterwarnings("ignore::latalign.IllConditionedWarning")
@pytest.mark.parametrize("method", ["rigid", "ridge", "shrunk"])
def test_with_fewer_rows_than_dimensions_whatever_the_method(method):
    found = []
    for draw in range(40):
        X, Y = problem(np.random.default_rng([draw, 12]), 12, 16)
        map_ = latalign.calibrate(latalign.fit(X[:12], Y[:12], method), X[:12], Y[:12])
        off = np.linalg.norm(map_(X[12:]) - Y[12:], axis=1)
        found.append((off <= map_.uncertainty.radius(X[12:])).mean())
    assert abs(np.mean(found) - 0.9) <= 0.03 + 2 * np.std(found) / np.sqrt(len(found))


@pytest.mark.parametrize("method", ["affine", "linear"])
@pytest.mark.filterwarnings("ignore:.*anchors determine:latalign.IllConditionedWarning")
def test_plain_least_squares_of_hardly_enough_rows_is_warned_of(rng, method):
    X, Y = problem(rng, 20, 24)
    map_ = latalign.fit(X[:20], Y[:20], method)
    with pytest.warns(
        latalign.IllConditionedWarning, match=r"has 20 pairs for 24 source dim.*\(heldout=True\)"
    ):
        latalign.calibrate(map_, X[:20], Y[:20])
    latalign.calibrate(map_, X[20:60], Y[20:60], heldout=True)


def test_shuffled_pairs_are_warned_of(rng):
    X, Y = problem(rng, 60, 6)
    map_ = latalign.fit(X[:60], Y[:60], "ridge")
    with pytest.warns(latalign.UnrelatedPairsWarning, match="calibrate: the pairs cannot be told"):
        latalign.calibrate(map_, X[:60], Y[np.random.default_rng(2).permutation(60)])


def test_a_penalty_that_was_given_is_kept(rng):
    X, Y = problem(rng, 30, 8)
    map_ = latalign.fit(X[:30], Y[:30], "ridge", alpha=1e6)  # as good as none
    found = latalign.calibrate(map_, X[:30], Y[:30]).uncertainty.error(X[30:]).mean()
    assert np.isclose(found, np.sqrt(((map_(X[30:]) - Y[30:]) ** 2).sum(axis=1).mean()), rtol=0.2)


def test_the_expected_error_is_that_of_held_out_rows(rng):
    X, Y = problem(rng, 300, 8)
    map_ = latalign.calibrate(latalign.fit(X[:300], Y[:300], "affine"), X[:300], Y[:300])
    off = np.linalg.norm(map_(X[300:]) - Y[300:], axis=1)
    expected = map_.uncertainty.error(X[300:])
    assert np.isclose(np.sqrt((off**2).mean()), np.sqrt((expected**2).mean()), rtol=0.06)
    residual = np.cov((map_(X[300:]) - Y[300:]).T)
    found = map_.uncertainty.covariance * (map_.uncertainty.scales(X[300:]) ** 2).mean()
    assert np.linalg.norm(found - residual) < 0.3 * np.linalg.norm(residual)


def test_far_rows_are_less_certain(rng):
    """Where the noise is the same everywhere the error grows with the leverage alone, as theory has it."""
    X, Y = problem(rng, 40, 20)
    map_ = latalign.calibrate(latalign.fit(X[:40], Y[:40], "affine"), X[:40], Y[:40])
    x = X[:40] - X[:40].mean(axis=0)
    away = X[40:] - X[:40].mean(axis=0)
    theory = np.sqrt(1 + 1 / 40 + (away @ np.linalg.inv(x.T @ x) * away).sum(axis=1))
    assert np.corrcoef(map_.uncertainty.scales(X[40:]), theory)[0, 1] > 0.95
    assert map_.uncertainty.error(100 * X[40:]).min() > 5 * map_.uncertainty.error(X[40:]).max() / 5


def test_held_out_pairs_serve_any_map(rng):
    X, Y = problem(rng, 300, 8)
    map_ = AffineMap.of(latalign.fit(X[:100], Y[:100], "ridge").matrix)
    with pytest.raises(ValueError, match=r"how one was found that is 'given'.* heldout=True"):
        latalign.calibrate(map_, X[:100], Y[:100])
    found = latalign.calibrate(map_, X[100:300], Y[100:300], heldout=True)
    off = np.linalg.norm(map_(X[300:]) - Y[300:], axis=1)
    assert 0.84 < (off <= found.uncertainty.radius(X[300:])).mean() < 0.96


@pytest.mark.parametrize("rows", [19, 39])  # so that a half and nine in ten are whole ranks of one more
@pytest.mark.parametrize("method", ["ridge", "linear", "rigid"])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_few_held_out_pairs_in_many_dimensions(rows, method, level):
    """They have no coefficients in common that a spread would be uncertain of: the shares are exact."""
    found = []
    for draw in range(24):
        X, Y = problem(np.random.default_rng([draw, rows]), 200 + rows, 64)
        map_ = latalign.fit(X[:200], Y[:200], method)
        map_ = latalign.calibrate(map_, X[200 : 200 + rows], Y[200 : 200 + rows], heldout=True)
        off = np.linalg.norm(map_(X) - Y, axis=1)[200 + rows :]
        found.append((off <= map_.uncertainty.radius(X[200 + rows :], level)).mean())
    assert abs(np.mean(found) - level) <= 0.02 + 3 * np.std(found) / np.sqrt(len(found))


@pytest.mark.filterwarnings("ignore::latalign.IllConditionedWarning")  # thirty anchors in 64 dimensions
@pytest.mark.parametrize("rows", [15, 25, 40])
@pytest.mark.parametrize("method", ["ridge", "linear", "rigid"])
@pytest.mark.parametrize("anchors", [30, 200])
def test_the_expected_error_of_few_held_out_pairs(rows, method, anchors):
    """A map of few anchors errs by the row: what was calibrated must be what is predicted."""
    for draw in range(8):
        rng = np.random.default_rng([draw, rows])
        X = 1 + rng.normal(size=(anchors + rows + 1000, 64))
        Y = X @ (rotation(rng, 64) * np.geomspace(0.7, 1.4, 64))
        Y += 0.01 * rng.normal(size=Y.shape)
        map_ = latalign.fit(X[:anchors], Y[:anchors], method)
        given, new = slice(anchors, anchors + rows), slice(anchors + rows, None)
        found = latalign.calibrate(map_, X[given], Y[given], heldout=True).uncertainty.error(X[new])
        off = np.linalg.norm(map_(X[new]) - Y[new], axis=1)
        assert 0.5 < np.sqrt((found**2).mean() / (off**2).mean()) < 2


@pytest.mark.filterwarnings("ignore::latalign.UnrelatedPairsWarning")  # the targets are noise
def test_the_leverage_is_that_of_new_rows_where_the_penalty_is_large(rng):
    """What moves the mean of few rows is then far more than where a row lies, and the same for all."""
    X = rng.normal(size=(1020, 64)) * np.geomspace(0.1, 10, 1020)[rng.permutation(1020), None]
    Y = rng.normal(size=X.shape) * np.linalg.norm(X, axis=1, keepdims=True)
    map_ = AffineMap.of(np.zeros((64, 64)))
    found = latalign.calibrate(map_, X[:20], Y[:20], heldout=True).uncertainty
    assert found.share > 0.5
    off = np.linalg.norm(Y[20:], axis=1)
    assert 0.5 < np.median(found.error(X[20:]) / off) < 2


@pytest.mark.parametrize("heldout", [False, True])
def test_a_pair_that_outweighs_all_others(rng, heldout):
    X, Y = problem(rng, 30, 4)
    map_ = latalign.fit(X[:30], Y[:30], "ridge")
    weight = np.where(np.arange(30), 1.0, 1e20)
    found = latalign.calibrate(map_, X[:30], Y[:30], heldout=heldout, sample_weight=weight)
    assert np.isfinite(found.uncertainty.error(X)).all()


def test_shuffled_pairs_are_left_aside(rng):
    X, Y = problem(rng, 300, 8)
    wrong = rng.permutation(300)[:60]
    Y[wrong] = Y[np.roll(wrong, 1)]
    map_ = latalign.fit(X[:300], Y[:300], "ridge", robust=True)
    found = latalign.calibrate(map_, X[:300], Y[:300], robust=True)
    off = np.linalg.norm(map_(X[300:]) - Y[300:], axis=1)
    assert 0.83 < (off <= found.uncertainty.radius(X[300:])).mean() < 0.97


def test_a_weight_of_two_is_the_row_twice(rng):
    X, Y = problem(rng, 80, 5)
    X, Y = X[:80], Y[:80]
    weight = np.ones(80)
    weight[:30] = 2
    weighted = latalign.fit(X, Y, "ridge", alpha=1.0, sample_weight=weight)
    one = latalign.calibrate(weighted, X, Y, sample_weight=weight).uncertainty
    two = latalign.calibrate(weighted, np.vstack([X, X[:30]]), np.vstack([Y, Y[:30]])).uncertainty
    np.testing.assert_allclose(one.covariance, two.covariance, rtol=1e-9)
    np.testing.assert_allclose(one.scores, two.scores, rtol=1e-9)


class TestFile:
    def test_the_uncertainty_comes_back(self, rng, tmp_path):
        X, Y = problem(rng, 60, 6)
        map_ = latalign.calibrate(latalign.fit(X[:60], Y[:60], "ridge"), X[:60], Y[:60])
        map_.save(tmp_path / "map.safetensors")
        again = AffineMap.load(tmp_path / "map.safetensors")
        for name, values in map_.uncertainty.tensors().items():
            assert getattr(again.uncertainty, name).tobytes() == values.tobytes()
        assert again.matrix.tobytes() == map_.matrix.tobytes()
        assert read_header(tmp_path / "map.safetensors").format == 2

    def test_a_file_without_one_is_of_version_1(self, rng, tmp_path):
        X, Y = problem(rng, 60, 6)
        latalign.fit(X[:60], Y[:60], "ridge").save(tmp_path / "map.safetensors")
        assert read_header(tmp_path / "map.safetensors").format == 1
        assert AffineMap.load(tmp_path / "map.safetensors").uncertainty is None

    def test_version_2_needs_all_of_it(self, rng, tmp_path):
        from safetensors.numpy import load_file, save_file

        X, Y = problem(rng, 60, 6)
        path = tmp_path / "map.safetensors"
        latalign.calibrate(latalign.fit(X[:60], Y[:60], "ridge"), X[:60], Y[:60]).save(path)
        from safetensors import safe_open

        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        kept = {name: values for name, values in tensors.items() if name != "uncertainty.scores"}
        save_file(kept, path, metadata)
        with pytest.raises(ValueError, match="holds the tensors"):
            AffineMap.load(path)
        save_file(
            {**tensors, "uncertainty.scores": tensors["uncertainty.scores"][::-1].copy()}, path, metadata
        )
        with pytest.raises(ValueError, match=r"not a sound map file: Uncertainty needs .* sorted"):
            AffineMap.load(path)


class TestBadInput:
    def test_too_few_rows_for_a_level(self, rng):
        X, Y = problem(rng, 20, 3)
        found = latalign.calibrate(latalign.fit(X[:20], Y[:20], "rigid"), X[:20], Y[:20]).uncertainty
        assert (found.radius(X, 0.95) > found.radius(X, 0.5)).all()
        with pytest.raises(
            ValueError, match=r"20 held-out rows say nothing of a level of 0.99, only up to 0.952"
        ):
            found.radius(X, 0.99)

    @pytest.mark.parametrize("level", [0, 1, -0.1, 2])
    def test_a_level_that_is_none(self, rng, level):
        found = Uncertainty([0.0], [[1.0]], [0.5], [[1.0]], [1.0, 2.0])
        with pytest.raises(ValueError, match="a level above 0 and below 1"):
            found.quantile(level)

    @pytest.mark.parametrize("level", ["a", None, True])
    def test_a_level_that_is_no_number(self, level):
        found = Uncertainty([0.0], [[1.0]], [0.5], [[1.0]], [1.0, 2.0])
        with pytest.raises(TypeError, match=f"needs a number as the level; got {level!r}"):
            found.radius([[1.0]], level)

    def test_pairs_that_do_not_fit(self, rng):
        X, Y = problem(rng, 30, 4)
        map_ = latalign.fit(X[:30], Y[:30], "ridge")
        with pytest.raises(
            ValueError, match="needs pairs of 4 and 4 dimensions, as the map has; got 3 and 4"
        ):
            latalign.calibrate(map_, X[:, :3], Y)
        with pytest.raises(ValueError, match="at least 10 different pairs; got 5"):
            latalign.calibrate(map_, X[[0, 1, 2, 3, 4, 4]], Y[[0, 1, 2, 3, 4, 4]])
        with pytest.raises(ValueError, match="rows of 4 dimensions"):
            latalign.calibrate(map_, X[:30], Y[:30]).uncertainty.radius(X[:, :2])

    @pytest.mark.parametrize(
        ("parts", "words"),
        [
            (([0.0], [[1.0]], [0.5], [[1.0]], [2.0, 1.0]), "sorted score"),
            (([0.0], [[1.0]], [1.5], [[1.0]], [1.0]), "a share from 0 to 1"),
            (([0.0], [[1.0, 2.0]], [0.5], [[1.0]], [1.0]), r"\(dim_source, dim_source\)"),
            (([0.0], [[np.nan]], [0.5], [[1.0]], [1.0]), "factor has NaN"),
        ],
    )
    def test_parts_that_make_none(self, parts, words):
        with pytest.raises(ValueError, match=words):
            Uncertainty(*parts)

    def test_a_map_of_other_dimensions(self):
        with pytest.raises(ValueError, match="an uncertainty of its own dimensions"):
            AffineMap(
                [0.0, 0.0],
                np.eye(2),
                [0.0, 0.0],
                uncertainty=Uncertainty([0.0], [[1.0]], [0.5], [[1.0]], [1.0]),
            )


def test_what_ranks_rows_predicts_none(rng):
    X, Y = rng.normal(size=(60, 4)), rng.normal(size=(60, 3))
    map_ = latalign.solve.retrieval(latalign.Moments.of(X, Y))
    with pytest.raises(ValueError, match="directions to search along"):
        latalign.calibrate(map_, X, Y)
