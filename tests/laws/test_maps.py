"""The laws of maps: composition, inverse, precision, and what they refuse."""

import dataclasses

import numpy as np
import pytest

import latalign
from latalign import AffineMap, Chain, Map, Moments, Normalize, solve
from problems import pairs, relative, rotation


def random_map(rng, ds, dt):
    return AffineMap(rng.normal(size=ds), rng.normal(size=(ds, dt)), rng.normal(size=dt))


def test_definition(rng):
    f = random_map(rng, 4, 6)
    X = rng.normal(size=(9000, 4))  # more than two blocks
    np.testing.assert_allclose(f(X), (X - f.source_mean) @ f.matrix + f.target_mean, atol=1e-12)
    np.testing.assert_allclose(f(X), X @ f.matrix + f.offset, atol=1e-12)
    np.testing.assert_allclose(AffineMap.of(f.matrix, f.offset)(X), f(X), atol=1e-12)


def test_composition_is_associative_and_applies_left_to_right(rng):
    f, g, h = random_map(rng, 3, 5), random_map(rng, 5, 2), random_map(rng, 2, 4)
    X = rng.normal(size=(20, 3))
    np.testing.assert_allclose((f >> g)(X), g(f(X)), atol=1e-12)
    np.testing.assert_allclose(((f >> g) >> h)(X), (f >> (g >> h))(X), atol=1e-12)
    with pytest.raises(ValueError, match="f returns 5 dimensions, g takes 3"):
        f >> f


def test_composition_with_what_is_not_affine(rng):
    f, g = random_map(rng, 3, 5), random_map(rng, 5, 2)
    X = rng.normal(size=(20, 3))
    unit = Normalize()
    for chain, expected in (
        (f >> unit, unit(f(X))),
        (f >> unit >> g, g(unit(f(X)))),
        (unit >> f, f(unit(X))),
        ((f >> unit) >> (unit >> g), g(unit(f(X)))),
    ):
        assert isinstance(chain, Chain)
        assert isinstance(chain, Map)
        np.testing.assert_allclose(chain(X), expected, atol=1e-12)


def test_normalize_at_any_scale(rng):
    X = rng.normal(size=(5, 3)) * 10.0 ** np.array([[-310], [-30], [0], [30], [300]])
    np.testing.assert_allclose(np.linalg.norm(Normalize()(X), axis=1), 1, rtol=1e-9)
    assert Normalize()(X[2:3].astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("dims", [(5, 5), (5, 8), (1, 1)])
def test_inverse_leads_back(rng, dims):
    f = random_map(rng, *dims)
    X = rng.normal(size=(30, dims[0]))
    back = f.inverse()
    np.testing.assert_allclose(back(f(X)), X, atol=1e-9)
    assert back.evidence.rank == dims[0]
    exact = np.linalg.cond(f.matrix)
    assert np.isclose(back.evidence.condition, exact)
    assert relative(back(f(X)), X) < 100 * back.evidence.error_bound


@pytest.mark.parametrize("dim", [1, 5, 60, 200])
@pytest.mark.parametrize("condition", [1.0, 1e4, 1e9])
def test_the_bound_on_the_inverse_holds(rng, dim, condition):
    """Against the inverse in extended precision, by Newton's iteration."""
    if np.finfo(np.longdouble).eps == np.finfo(float).eps:
        pytest.skip("no extended precision here")
    matrix = (rotation(rng, dim) * np.geomspace(1, 1 / condition, dim)) @ rotation(rng, dim)
    found = AffineMap.of(matrix).inverse()
    wide, exact = matrix.astype(np.longdouble), found.matrix.astype(np.longdouble)
    for _ in range(3):
        exact = exact @ (2 * np.eye(dim, dtype=np.longdouble) - wide @ exact)
    assert relative(found.matrix, exact) <= found.evidence.error_bound < 1e-4


def test_a_chain_is_made_of_maps():
    with pytest.raises(TypeError, match="made of maps; got int"):
        AffineMap.of(np.eye(2)) >> 3
    with pytest.raises(TypeError, match="made of maps; got list"):
        Normalize() >> [1]


def test_inverse_refuses_where_there_is_none(rng):
    for matrix in (
        rng.normal(size=(5, 3)),
        np.diag([1.0, 0.0]),
        np.diag([1.0, 1e-17]),
        np.zeros((2, 2)),
        [[1e-310]],
    ):
        with pytest.raises(ValueError, match=r"keeps \d of \d directions"):
            AffineMap.of(matrix).inverse()
    barely = AffineMap.of(np.diag([1.0, 1e-6]))
    assert barely.inverse().matrix[1, 1] == pytest.approx(1e6)
    with pytest.raises(ValueError, match="keeps 1 of 2"):
        barely.inverse(rcond=1e-3)


def test_inverse_of_a_rotation_is_its_transpose(rng):
    X = rng.normal(size=(50, 6))
    found = solve.rigid(Moments.of(X, X @ rotation(rng, 6) + 3))
    np.testing.assert_allclose(found.inverse().matrix, found.matrix.T, atol=1e-12)


def test_it_cannot_be_changed(rng):
    source = rng.normal(size=(3, 3))
    f = AffineMap.of(source)
    source[:] = 0
    assert f.matrix.any()
    with pytest.raises(ValueError, match="read-only"):
        f.matrix[0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        f.method = "other"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32])
def test_dtype_in_dtype_out(rng, dtype):
    f = random_map(rng, 4, 6)
    X = (rng.normal(size=(50, 4)) * 5).astype(dtype)
    out = f(X)
    assert out.dtype == (np.float64 if dtype == np.int32 else dtype)
    exact = (X.astype(np.float64) - f.source_mean) @ f.matrix + f.target_mean
    assert relative(out.astype(float), exact) < {np.float16: 1e-3, np.float32: 1e-6}.get(dtype, 1e-13)


def test_large_means_keep_their_digits_in_float32(rng):
    """With one float32 offset, half of the digits would be gone."""
    X = (rng.normal(size=(1000, 8)) + 1e4).astype(np.float32)
    f = AffineMap(X.mean(0, dtype=float), rotation(rng, 8), np.zeros(8))
    exact = (X.astype(float) - f.source_mean) @ f.matrix
    assert relative(f(X), exact) < 1e-6
    naive = X @ f.matrix.astype(np.float32) + f.offset.astype(np.float32)
    assert relative(naive, exact) > 1e-4


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones((3, 5)), ValueError, r"rows of 4 dimensions; got 5"),
        (np.ones(4), ValueError, r"2-D array .*A single row is array\[None, :\]"),
        (np.ones((0, 4)), ValueError, "at least one row"),
        (np.array([[1, 2, np.nan, 4]]), ValueError, "1 of 1 rows contain NaN"),
        (np.array([["a"] * 4]), TypeError, "real numbers"),
        (np.full((2, 4), 6e4, np.float16), ValueError, "overflow float16"),
        (np.full((2, 4), 1e300), ValueError, "overflow float64"),
    ],
)
def test_bad_rows(X, error, message):
    f = AffineMap.of(np.full((4, 2), 1e10))
    with pytest.raises(error, match=message):
        f(X)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((np.zeros(2), np.eye(3), np.zeros(3)), r"source_mean \(2,\)"),
        ((np.zeros(3), np.eye(3), np.zeros(2)), r"target_mean \(2,\)"),
        ((np.zeros(3), np.full((3, 3), np.inf), np.zeros(3)), "matrix has NaN or infinity"),
        ((np.zeros(0), np.zeros((0, 2)), np.zeros(2)), r"got matrix \(0, 2\)"),
    ],
)
def test_bad_parts(parts, message):
    with pytest.raises(ValueError, match=message):
        AffineMap(*parts)


def test_a_kernel_reuses_its_buffers_for_any_block(rng):
    X = rng.normal(size=(100, 4)).astype(np.float32)
    f = random_map(rng, 4, 6)
    run, out = f.kernel(np.dtype(np.float32)), np.empty((100, 6), np.float32)
    for part in (slice(0, 30), slice(30, 100), slice(99, 100)):
        run(X[part], out[part])
    np.testing.assert_allclose(out, f(X), rtol=1e-5)


def test_map_protocol(rng):
    X, Y = pairs(rng, 20, 3, 3)
    assert isinstance(latalign.fit(X, Y, "rigid"), Map)
    assert not isinstance(np.eye(3), Map)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize(("source", "target"), [(1e30, 1e-30), (1e20, 1e-20), (1e-30, 1e30)])
def test_float32_rows_of_any_scale_are_mapped_as_float64_rows(rng, source, target):
    X = (source * rng.normal(size=(50, 3))).astype(np.float32)
    map_ = AffineMap.of(rng.normal(size=(3, 2)) * (target / source))
    found = map_(X)
    assert found.dtype == np.float32
    assert relative(found.astype(np.float64), map_(X.astype(np.float64))) < 1e-6
