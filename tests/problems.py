"""Paired rows with known structure, and references that share no code with the library."""

from __future__ import annotations

import numpy as np
import pytest

SHAPES = [
    (200, 12, 12),
    (200, 7, 15),
    (200, 15, 7),
    (9, 20, 14),
    (9, 14, 20),
    (20, 20, 20),
    (21, 20, 20),
    (3, 5, 5),
]


def pairs(rng, n, ds, dt, *, noise=0.1, shift=3.0, dtype=np.float64):
    """Rows of a noisy affine relation, both sides off-centre."""
    X = rng.normal(size=(n, ds)) * rng.uniform(0.5, 2, ds) + shift
    Y = X @ rng.normal(size=(ds, dt)) / np.sqrt(ds) + noise * rng.normal(size=(n, dt)) - shift
    return X.astype(dtype), Y.astype(dtype)


def rotation(rng, d, *, proper=False):
    """A random orthogonal matrix; without a reflection if proper."""
    q, r = np.linalg.qr(rng.normal(size=(d, d)))
    q = q * np.sign(np.diag(r))
    if proper and np.linalg.det(q) < 0:
        q[:, 0] *= -1
    return q


def centred(X, Y, w=None):
    """Both sides centred on their weighted means and multiplied by the root of the weights."""
    X, Y = np.asarray(X, np.float64), np.asarray(Y, np.float64)
    w = np.ones(len(X)) if w is None else w
    root = np.sqrt(w)[:, None]
    return (X - np.average(X, axis=0, weights=w)) * root, (Y - np.average(Y, axis=0, weights=w)) * root


def lstsq(X, Y, w=None):
    """The minimum-norm affine coefficients, by a float64 SVD of the rows."""
    x, y = centred(X, Y, w)
    return np.linalg.lstsq(x, y, rcond=None)[0]


def relative(a, b):
    """The relative difference of two arrays in the Frobenius norm."""
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300)


def model_change(rng, *, old_noise=0.0, asking_noise=0.0, new_noise=0.0, apart=0.0, asked=0.4):
    """Two models of the same things: how much noise each adds, and how unlike they are.

    The old model may be worse still at queries than at documents.
    """
    dim, anchors, documents, count = 12, 300, 400, 150
    things = rng.normal(size=(anchors + documents, dim))
    queries = things[anchors : anchors + count] + asked * rng.normal(size=(count, dim))
    turn, other = rotation(rng, dim), rng.normal(size=(dim, dim)) / np.sqrt(dim)

    def old(rows):
        return rows + old_noise * rng.normal(size=rows.shape)

    def new(rows):
        bent = (1 - apart) * rows @ turn + 2 * apart * np.sign(rows @ other)
        return bent + new_noise * rng.normal(size=rows.shape)

    before, after = old(things), new(things)
    return {
        "old_anchors": before[:anchors],
        "new_anchors": after[:anchors],
        "old_index": before[anchors:],
        "old_queries": old(queries) + asking_noise * rng.normal(size=queries.shape),
        "new_queries": new(queries),
        "relevant": np.arange(count),
        "new_index": after[anchors:],
    }


NAMES = ("a", "b", "c", "d")  # of spaces that see the same things


def rotated(rng, n=60, dim=6, count=4, shift=5.0):
    """The same rows, turned and moved."""
    things = rng.normal(size=(n, dim)) * np.linspace(1, 3, dim)
    return {name: things @ rotation(rng, dim) + shift * rng.normal(size=dim) for name in NAMES[:count]}


def seen(rng, n=300, dims=(6, 9, 7, 8), noise=0.3, inner=6):
    """Noisy linear views of the same things."""
    things = rng.normal(size=(n, inner))
    return {
        name: things @ rng.normal(size=(inner, dim)) + noise * rng.normal(size=(n, dim)) + 3
        for name, dim in zip(NAMES, dims, strict=False)
    }


def assert_same_moments(found, expected, tolerance):
    """Every field is the same: products relative to the spread of their columns, means to it or themselves."""
    assert found.count == expected.count
    assert found.weight == pytest.approx(expected.weight, rel=1e-14)
    x, y = (np.sqrt(np.linalg.norm(d)) for d in (expected.xx_diagonal, expected.yy_diagonal))
    for name, scale in (("xx", x * x), ("xy", x * y), ("yy", y * y)):
        mine, its = getattr(found, name), getattr(expected, name)
        assert np.linalg.norm(mine - its) <= tolerance * max(scale, 1e-300), name
    for name, spread in (("source_mean", x), ("target_mean", y)):
        size = spread / np.sqrt(expected.weight) + 1e-15 / tolerance * np.abs(getattr(expected, name)).max()
        assert np.linalg.norm(getattr(found, name) - getattr(expected, name)) <= tolerance * size, name
    for name in ("xx_diagonal", "yy_diagonal"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=10 * tolerance)
