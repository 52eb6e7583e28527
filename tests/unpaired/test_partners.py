"""Mutual partners under CSLS, against brute force."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from latalign.unpaired import partners


def brute(source, target, neighbors):
    """By the definition, in float64."""
    distances = cdist(source.astype(float), target.astype(float))
    mine = np.sort(distances, axis=1)[:, :neighbors].mean(axis=1)
    its = np.sort(distances, axis=0)[:neighbors].mean(axis=0)
    scaled = 2 * distances - mine[:, None] - its
    chosen, back = scaled.argmin(axis=1), scaled.argmin(axis=0)
    kept = [i for i, j in enumerate(chosen) if back[j] == i]
    return kept, chosen[kept]


@pytest.mark.parametrize("shape", [(60, 45), (45, 60), (7, 30), (30, 7), (1, 20), (20, 1), (1, 1)])
@pytest.mark.parametrize("neighbors", [1, 10])
@pytest.mark.parametrize("block", [1, 200, 1 << 24])
def test_partners_are_those_of_brute_force(rng, monkeypatch, shape, neighbors, block):
    monkeypatch.setattr(partners, "_BLOCK_VALUES", block)
    source, target = (rng.normal(size=(n, 5)).astype(np.float32) for n in shape)
    found = partners.mutual_partners(source, target, neighbors)
    for mine, expected in zip(found, brute(source, target, neighbors), strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_groups_keep_to_themselves(rng):
    source, target = (rng.normal(size=(50, 3)).astype(np.float32) for _ in range(2))
    sides = [np.arange(50) % 3, rng.integers(3, size=50)]
    groups = [tuple(np.flatnonzero(side == number) for side in sides) for number in range(3)]
    left, right = partners.partners_within(source, target, groups, 5)
    np.testing.assert_array_equal(sides[0][left], sides[1][right])
    for mine, its in groups:
        inside = np.isin(left, mine)
        expected = brute(source[mine], target[its], 5)
        np.testing.assert_array_equal(left[inside], mine[expected[0]])
        np.testing.assert_array_equal(right[inside], its[expected[1]])
