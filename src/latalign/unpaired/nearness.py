"""Whether rows are nearer to another cloud under one rotation than under another, beyond chance.

The distance of a row to its third nearest of the other cloud tells how dense that cloud is there; the mean
logarithm is, but for a constant, the cross-entropy of the two distributions. Under two rotations of the same
rows its difference is known row by row, and so is the standard error of the mean of it.

References
----------
Q. Wang, S. R. Kulkarni, S. Verdú, Divergence estimation for multidimensional densities via k-nearest-neighbor
distances, IEEE Transactions on Information Theory 55 (2009) 2392-2405.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from latalign._validation import Array

_NEIGHBOR = 3
_BLOCK = 1000  # rows whose distances are in memory at a time
_SAME = 1e-6  # distances below this share of the mean are that: rows may be the same

Radii = tuple[Array, Array]


def log_radii(mapped: Array, aims: Array) -> Radii:
    """Return the logarithm of how far each row of either cloud is from its third nearest of the other."""
    return _one_way(mapped, aims), _one_way(aims, mapped)


def standard_errors(one: Radii, other: Radii) -> float:
    """Return by how many standard errors rows are nearer in the one case than in the other, of both sides the less."""
    return min(in_standard_errors(far - near) for near, far in zip(one, other, strict=True))


def in_standard_errors(differences: Array) -> float:
    """Return the mean of differences in units of its standard error; zero where there is none."""
    if not len(differences):
        return 0.0
    error = float(differences.std()) / np.sqrt(len(differences))
    return float(differences.mean()) / error if error > 0 else 0.0


def _one_way(rows: Array, others: Array) -> Array:
    neighbor = min(_NEIGHBOR, len(others)) - 1
    radii = [
        np.partition(cdist(rows[start : start + _BLOCK], others), neighbor, axis=1)[:, neighbor]
        for start in range(0, len(rows), _BLOCK)
    ]
    found = np.concatenate(radii)
    least = _SAME * float(found.mean())
    return np.log(np.maximum(found, least if least > 0 else 1.0))
