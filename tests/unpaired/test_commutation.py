"""The rotation that commutes with what is known, against dense least squares."""

import numpy as np
import pytest
from scipy.linalg import polar

from latalign.unpaired import commutation
from latalign.unpaired.commutation import Signature, commuting_rotation
from problems import rotation


def covariances(rng, count, dim):
    roots = rng.normal(size=(count, dim, dim))
    return roots @ roots.transpose(0, 2, 1) / dim


def dense(source, target, weights, trusted):
    """The same least squares as one system in the entries of the matrix, and the polar factor.

    Of a covariance only what is not a multiple of the identity counts.
    """
    dim = source.means.shape[1]
    eye = np.eye(dim)
    rows, right = [], []
    for m, n, w in zip(source.means, target.means, weights, strict=True):
        rows.append(np.sqrt(w) * np.kron(m[None, :], eye))
        right.append(np.sqrt(w) * n)
    for A, B, w in zip(source.covariances, target.covariances, trusted, strict=True):
        A, B = (part - np.trace(part) / dim * eye for part in (A, B))
        rows.append(np.sqrt(w) * (np.kron(A, eye) - np.kron(eye, B.T)))
        right.append(np.zeros(dim * dim))
    solved = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]
    return polar(solved.reshape(dim, dim))[0]


@pytest.mark.parametrize("dim", [1, 4, 7])
def test_it_is_that_of_dense_least_squares(rng, monkeypatch, dim):
    monkeypatch.setattr(commutation, "_KEPT", 1.0)
    monkeypatch.setattr(commutation, "_TOLERANCE", 1e-12)
    sides = [Signature(rng.normal(size=(6, dim)), covariances(rng, 6, dim)) for _ in range(2)]
    weights, trusted = rng.uniform(size=6), rng.uniform(size=6)
    found = commuting_rotation(*sides, weights, trusted)
    np.testing.assert_allclose(found, dense(*sides, weights, trusted), atol=1e-6)


@pytest.mark.parametrize("dim", [2, 9, 30])
def test_a_rotation_is_found(rng, dim):
    turn = rotation(rng, dim)
    one = Signature(rng.normal(size=(5, dim)), covariances(rng, 5, dim))
    other = Signature(one.means @ turn, turn.T @ one.covariances @ turn)
    weights = rng.uniform(0.5, 1, 5)
    np.testing.assert_allclose(commuting_rotation(one, other, weights, weights), turn, atol=1e-4)


def test_covariances_alone_leave_only_signs(rng):
    turn = rotation(rng, 6)
    one = Signature(0.01 * rng.normal(size=(2, 6)), covariances(rng, 2, 6))
    other = Signature(one.means @ turn, turn.T @ one.covariances @ turn)
    # Two means span a plane; the other four directions are told by the two covariances.
    found = commuting_rotation(one, other, np.ones(2), np.ones(2))
    np.testing.assert_allclose(found, turn, atol=1e-3)


def test_a_covariance_without_weight_is_not_heard(rng):
    sides = [Signature(rng.normal(size=(4, 3)), covariances(rng, 4, 3)) for _ in range(2)]
    trusted = np.array([1.0, 1.0, 0.0, 1.0])
    found = commuting_rotation(*sides, np.ones(4), trusted)
    sides[0].covariances[2] = covariances(rng, 1, 3)[0] * 100
    np.testing.assert_allclose(commuting_rotation(*sides, np.ones(4), trusted), found, atol=1e-9)
