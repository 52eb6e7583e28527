"""From a rotation that is nearly right to the map: partners under it, their rotation, partners anew."""

from __future__ import annotations

import numpy as np

from latalign import solve
from latalign._validation import Array
from latalign.maps import AffineMap
from latalign.moments import Moments
from latalign.unpaired.partners import partners_within
from latalign.unpaired.signatures import Side

NEIGHBORS = 10  # whose distances CSLS takes the mean of
_TRUSTED = 2 / 3  # the least share of least squares on the partners in the map; the rest is their rotation's


def refined(
    source: Side, target: Side, rotation: Array, max_iterations: int
) -> tuple[Moments, tuple[float, ...]]:
    """Return the moments of the partners in the end, in the whitened spaces, and how many agreed on the way."""
    groups = list(zip(source.members, target.members, strict=True))
    # Distances are those of the target space, where errors count, in units that float32 has room for.
    scale = target.whitening.deviations / target.whitening.deviations[0]
    aims = (target.drawn * scale).astype(np.float32)
    most = min(len(source.drawn), len(target.drawn))

    def partners(turn: Array) -> tuple[Moments, float]:
        mapped = (source.drawn @ (turn * scale)).astype(np.float32)
        left, right = partners_within(mapped, aims, groups, NEIGHBORS)
        return Moments.of(source.drawn[left], target.drawn[right]), len(left) / most

    best, share = partners(rotation)
    agreement = [share]
    for _ in range(max_iterations):
        moments, share = partners(solve.rigid(best).matrix)
        agreement.append(share)
        if share <= agreement[-2]:
            break
        best = moments
    return best, tuple(agreement)


def map_of_partners(source: Side, target: Side, moments: Moments, agreed: float, method: str) -> AffineMap:
    """Return the map between the spaces that the partners say.

    A partner is nearer to the mapped row, and to the middle of the class, than the row that it stands for:
    least squares on partners shrinks. Their rotation does not at all. The truth is between the two. Where
    nearly all rows agree, they are the same things on both sides, and least squares is the truth.
    """
    alpha = moments.weight * (1 / max(_TRUSTED, agreed) - 1)
    inner = solve.shrunk(moments, alpha=alpha, scale=1.0)
    return AffineMap(
        source.whitening.mean,
        source.whitening.basis @ inner.matrix @ target.whitening.back,
        target.whitening.mean,
        method,
        inner.evidence,
    )
