"""Held-out errors of maps through a shared space, and of the direct ones, from fold moments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from latalign import solve
from latalign.many.pairwise import Pairwise, total_of
from latalign.many.solving import NEARLY, RidgePath, Solved, rigid
from latalign.maps import AffineMap
from latalign.metrics import squared_error
from latalign.moments import Moments
from latalign.paths import gcv_errors, ridge_fold_errors
from latalign.select import baseline_error, rounding_floor

Ordered = tuple[int, int]

GRID = np.logspace(-8, 4, 50)
"""The penalties of the direct maps that are tried, relative to the mean sum of squares of a column."""

# Widths of the shared space that are tried, relative to the widest space; and how much worse than the best
# a smaller one may be.
_SHARES, _AS_GOOD = (0.5, 0.75, 1.0, 1.5, 2.0), 1.01


@final
@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Mean squared errors per value on held-out rows of every ordered pair; nothing where there are no folds.

    Attributes
    ----------
    baseline, error, direct : mapping of (source, target) to float
    """

    baseline: Mapping[Ordered, float]
    error: Mapping[Ordered, float]
    direct: Mapping[Ordered, float]

    @staticmethod
    def nothing() -> Checked:
        """Return what is known without folds."""
        return Checked({}, {}, {})


@final
@dataclass(frozen=True, slots=True, eq=False)
class Penalties:
    """The penalties of ridge maps, relative to the mean sum of squares of a column.

    Attributes
    ----------
    direct : mapping of (source, target) to float
        Of every direct map.
    shared : tuple of float
        Of every space, as the source of all: what is best for its direct maps together.
    error : mapping of (source, target) to float
        The held-out error of the direct maps; empty without folds.
    """

    direct: Mapping[Ordered, float]
    shared: tuple[float, ...]
    error: Mapping[Ordered, float]


def penalties(folds: Sequence[Pairwise], alpha: float | None) -> Penalties:
    """Choose the penalties of the direct maps: by held-out rows, or by generalized cross-validation without folds."""
    total, grid = total_of(folds), GRID if alpha is None else np.array([alpha])
    count, edges = len(total.names), _ordered(total)
    errors = {edge: np.zeros(len(grid)) for edge in edges}
    if len(folds) < 2:
        for edge in edges:
            found = pair_of(total, edge)
            errors[edge] += gcv_errors(found, grid * found.xx_diagonal.mean()) if alpha is None else 1.0
    for k, fold in enumerate(folds if len(folds) > 1 else ()):
        train = total_of(folds, k)
        for edge in edges:
            seen = pair_of(train, edge)
            held = ridge_fold_errors(seen, pair_of(fold, edge), grid * _scale(seen))
            errors[edge] += held / values_of(pair_of(total, edge))
    size = {edge: float(pair_of(total, edge).yy_diagonal.mean()) for edge in edges}
    together = [
        sum((errors[i, j] / size[i, j] for i, j in edges if i == space), np.zeros(len(grid)))
        for space in range(count)
    ]
    return Penalties(
        {edge: float(grid[np.argmin(errors[edge])]) for edge in edges},
        tuple(float(grid[np.argmin(sums)]) for sums in together),
        {edge: float(errors[edge].min()) for edge in edges} if len(folds) > 1 else {},
    )


def direct_map(
    total: Pairwise, source: int, target: int, method: str, found: Penalties | None
) -> AffineMap | None:
    """Return the map that is fitted to two spaces alone; None where they have no rows in common."""
    moments = total.pair(source, target)
    if moments is None:
        return None
    if method == "rigid" or found is None:
        return solve.rigid(moments)
    return solve.ridge(moments, alpha=found.direct[source, target] * _scale(moments))


def check_rigid(folds: Sequence[Pairwise]) -> Checked:
    """Return the held-out errors of rotations through the shared space, and of direct ones."""
    edges = _ordered(folds[0])
    error, direct = dict.fromkeys(edges, 0.0), dict.fromkeys(edges, 0.0)
    for k, fold in enumerate(folds):
        train = total_of(folds, k)
        shared = rigid(train, NEARLY)
        for edge in edges:
            held = pair_of(fold, edge)
            error[edge] += squared_error(shared.map(*edge), held)
            direct[edge] += squared_error(solve.rigid(pair_of(train, edge)), held)
    values = {edge: values_of(pair_of(total_of(folds), edge)) for edge in edges}
    return Checked(
        baselines(folds),
        {edge: error[edge] / values[edge] for edge in edges},
        {edge: direct[edge] / values[edge] for edge in edges},
    )


def check_ridge(
    folds: Sequence[Pairwise], found: Penalties, dim: int | None
) -> tuple[int, Checked, tuple[tuple[int, float], ...]]:
    """Choose the width of the shared space, and return it with the held-out errors, and those of every width.

    The smallest width that is within 1 % of the best, relative to the baselines, over all pairs together.
    """
    total = total_of(folds)
    edges, widest = _ordered(total), max(total.dims)
    most = sum(total.dims)
    tried = [dim] if dim else sorted({min(max(round(share * widest), 1), most) for share in _SHARES})
    error = {width: dict.fromkeys(edges, 0.0) for width in tried}
    for k, fold in enumerate(folds):
        path = RidgePath.of(total_of(folds, k), found.shared, tried[-1])
        for width in tried:
            shared = path.solved(width)
            for edge in edges:
                error[width][edge] += squared_error(shared.map(*edge), pair_of(fold, edge))
    baseline = baselines(folds)
    for width in tried:
        for edge in edges:
            error[width][edge] /= values_of(pair_of(total, edge))
    by_dim = {
        width: float(np.mean([_share(error[width][edge], baseline[edge]) for edge in edges]))
        for width in tried
    }
    # Of two errors that are rounding none is better.
    floor = max(_share(rounding_floor(pair_of(total, edge)), baseline[edge]) for edge in edges)
    limit = _AS_GOOD * min(by_dim.values()) + floor
    chosen = next(width for width in tried if by_dim[width] <= limit)
    return chosen, Checked(baseline, error[chosen], found.error), tuple(by_dim.items())


def solved_ridge(total: Pairwise, found: Penalties, width: int) -> Solved:
    """Return the maps for chosen penalties and width."""
    return RidgePath.of(total, found.shared, width).solved(width)


def baselines(folds: Sequence[Pairwise]) -> dict[Ordered, float]:
    """Return the held-out error of the mean target row for every pair."""
    return {edge: baseline_error([pair_of(fold, edge) for fold in folds]) for edge in _ordered(folds[0])}


def _ordered(pairwise: Pairwise) -> list[Ordered]:
    """Return the pairs of spaces that have rows in common, both ways."""
    return [(i, j) for i in range(len(pairwise.names)) for j in pairwise.partners(i)]


def pair_of(pairwise: Pairwise, edge: Ordered) -> Moments:
    """Return the moments of two spaces that have rows in common."""
    found = pairwise.pair(*edge)
    assert found is not None  # edges are those that there are
    return found


def _scale(moments: Moments) -> float:
    mean = float(moments.xx_diagonal.mean())
    return mean if mean > 0 else 1.0


def values_of(moments: Moments) -> float:
    """Return how many target values there are, by weight."""
    return moments.weight * moments.dim_target


def _share(error: float, baseline: float) -> float:
    return error / baseline if baseline > 0 else 1.0
