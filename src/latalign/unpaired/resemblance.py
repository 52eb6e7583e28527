"""Whether one cloud under a rotation looks like another: an energy distance, against what any rotation would do."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist, pdist

from latalign._linalg import nearest_rotation
from latalign._validation import Array

_ROWS = 2000
_TURNS = 8


def resemblance(
    source: Array, target: Array, scale: Array, rotation: Array, rng: np.random.Generator
) -> float:
    """Return how much of the difference between the clouds a rotation takes away that others leave.

    1 where the clouds then differ no more than two samples of one, 0 where the rotation does no more than one
    drawn at random. Between unrelated clouds the best rotation may be as clear as between related ones,
    and found as often; but it does not make them alike.

    Parameters
    ----------
    source, target : (n, rank) and (m, rank) arrays
        Whitened rows; at most 2,000 of either are looked at, the first.
    scale : (rank,) array
        What one unit of each direction of the target counts.
    rotation : (rank, rank) array
    rng : Generator
        Draws the other rotations.

    Returns
    -------
    float

    Notes
    -----
    The energy distance 2 E‖x − y‖ − E‖x − x′‖ − E‖y − y′‖ is zero for two equal distributions only
    (G. J. Székely, M. L. Rizzo, Energy statistics, Journal of Statistical Planning and Inference 143 (2013)
    1249-1272).
    """
    rows, aims = source[:_ROWS], target[:_ROWS] * scale
    own = pdist(aims).mean()

    def apart(turn: Array) -> float:
        mapped = rows @ (turn * scale)
        return float(2 * cdist(mapped, aims).mean() - pdist(mapped).mean() - own)

    others = [apart(nearest_rotation(rng.standard_normal(rotation.shape))) for _ in range(_TURNS)]
    return 1 - apart(rotation) / float(np.mean(others))
