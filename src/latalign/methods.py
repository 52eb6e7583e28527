"""The registry: one row a method, read by the selection, the estimators, the command line and the tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, final

import numpy as np

from latalign import solve
from latalign._validation import Array, Pairs, checked_alpha, checked_power, checked_rank
from latalign.canonical import canonical_path, searching
from latalign.evidence import Candidate, Evidence
from latalign.maps import AffineMap, Map
from latalign.metrics import squared_error
from latalign.moments import Grams, Moments
from latalign.paths import (
    alpha_grid,
    best_alpha,
    best_scales,
    rank_fold_errors,
    ridge_fold_errors,
    shrunk_parabolas,
)

Parameters = Mapping[str, Any]
Grid = tuple[Parameters, ...]

_AUTO = "auto"
_CHECKED = MappingProxyType({"alpha": checked_alpha, "power": checked_power, "rank": checked_rank})
# What evidence calls by another name.
_RECORDED = MappingProxyType({"rank": "target_rank"})


def _one(moments: Moments) -> Grid:
    return ({},)


def _alphas(moments: Moments) -> Grid:
    return tuple({"alpha": float(alpha)} for alpha in alpha_grid(moments))


def _ranks(moments: Moments) -> Grid:
    # The full rank, ridge's own answer, among them: where no rank below it is better there is nothing to lose.
    largest = min(moments.dim_source, moments.dim_target, moments.count - 1)
    return tuple({"rank": rank, "alpha": _AUTO} for rank in range(1, max(largest, 1) + 1))


def _ridge_errors(train: Moments, heldout: Moments, grid: Grid) -> Array:
    return ridge_fold_errors(train, heldout, np.array([point["alpha"] for point in grid]))


def _penalties_and_powers(moments: Moments) -> Grid:
    alphas, powers = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0), (0.25, 0.5)
    return tuple({"alpha": alpha, "power": power} for alpha in alphas for power in powers)


def _retrieval_maps(moments: Moments, grid: Grid, rows: Pairs) -> Iterator[AffineMap]:
    alphas = sorted({point["alpha"] for point in grid})
    shared = dict(zip(alphas, canonical_path(moments, alphas), strict=True))
    for point in grid:
        yield searching(moments, shared[point["alpha"]], point["alpha"], point["power"], rows)


def _rank_errors(train: Moments, heldout: Moments, grid: Grid) -> Array:
    ranks, alpha = np.array([point["rank"] for point in grid]), grid[0]["alpha"]
    return rank_fold_errors(train, heldout, ranks, best_alpha(train)[0] if alpha == _AUTO else alpha)


def _shrunk_search(trains: Sequence[Moments], folds: Sequence[Moments]) -> tuple[Grid, Array]:
    alphas = np.concatenate(([0.0], alpha_grid(trains[0] + folds[0]), [np.inf]))
    parabolas = np.array(
        [shrunk_parabolas(train, fold, alphas) for train, fold in zip(trains, folds, strict=True)]
    )
    scales = best_scales(parabolas.sum(axis=0))
    free, slope, curvature = parabolas.transpose(1, 0, 2)
    grid = tuple(
        {"alpha": float(alpha), "scale": float(scale)} for alpha, scale in zip(alphas, scales, strict=True)
    )
    return grid, np.maximum(free - 2 * slope * scales + curvature * scales * scales, 0)


@final
@dataclass(frozen=True, slots=True)
class Method:
    """What the rest of the house needs to know of a method.

    Attributes
    ----------
    name : str
    solve : callable
        ``solve(moments, **parameters) -> AffineMap``.
    grams : {"both", "source", "none"}
        The Gram matrices that `solve` reads.
    parameters : tuple of str
        The hyperparameters that a user may give.
    settles : tuple of str
        Those of `solve` that candidates and evidence tell: with them it gives the same map again.
    by_folds : str or None
        The hyperparameter that is chosen from several folds where it is open, rows in reach or not.
    centred : bool
        Whether it takes out the means.
    leaves_one_out : bool
        Whether `solve` finds an open penalty by exact leave-one-out of the rows.
    uses_rows : bool
        Whether `solve` takes ``rows`` to go back to.
    grid : callable
        ``grid(moments)``: the values of its hyperparameters that are tried.
    path : callable or None
        ``path(train, heldout, grid)``: the sums of squared errors for the whole grid where there is a
        closed form; None solves for each value in turn.
    search : callable or None
        ``search(trains, folds)``: the grid and its sums of squared errors on every fold, for a method
        that takes a part of the grid from all folds together; `grid` and `path` are not read then.
    caution : float
        How many standard errors of the difference the last points of the grid, the most cautious ones, may
        be worse than the best, and still be taken.
    plain : bool
        Whether it is least squares with nothing to hold it where anchors and dimensions are about as many.
    solve_all : callable or None
        ``solve_all(moments, grid, rows)``: the maps of the whole grid where they share work.
    ranks : bool
        Whether it is made to rank rows: squared errors say nothing of it, only scores of rows do.
    """

    name: str
    solve: Callable[..., AffineMap]
    grams: Grams = "source"
    parameters: tuple[str, ...] = ()
    settles: tuple[str, ...] = ()
    by_folds: str | None = None
    leaves_one_out: bool = False
    centred: bool = True
    uses_rows: bool = False
    grid: Callable[[Moments], Grid] = field(default=_one)
    path: Callable[[Moments, Moments, Grid], Array] | None = None
    search: Callable[[Sequence[Moments], Sequence[Moments]], tuple[Grid, Array]] | None = None
    caution: float = 0.0
    plain: bool = False
    solve_all: Callable[[Moments, Grid, Pairs], Iterator[Map]] | None = None
    ranks: bool = False

    def is_open(self, name: str, given: Parameters) -> bool:
        """Tell whether a hyperparameter is left to be chosen."""
        return given.get(name, _AUTO) == _AUTO

    def settled(self, record: Candidate | Evidence) -> dict[str, Any]:
        """Return the parameters to solve with that a record tells; "auto" for what it leaves open."""
        values = {name: getattr(record, _RECORDED.get(name, name)) for name in self.settles}
        return {name: _AUTO if value is None else value for name, value in values.items()}

    def tried(
        self,
        trains: Sequence[Moments],
        folds: Sequence[Moments],
        given: Parameters = MappingProxyType({}),
    ) -> tuple[Grid, Array]:
        """Return the grid, and the sum of squared errors of its points (columns) on every fold (rows)."""
        if self.search is not None:
            return self.search(trains, folds)
        grid = self.points(trains, folds, given)
        pairs = zip(trains, folds, strict=True)
        return grid, np.array([self.fold_errors(train, fold, grid) for train, fold in pairs])

    def points(
        self,
        trains: Sequence[Moments],
        folds: Sequence[Moments],
        given: Parameters = MappingProxyType({}),
    ) -> Grid:
        """Return the grid alone: its different points, with the values that the user gave."""
        if self.search is not None:
            return self.search(trains, folds)[0]
        fixed = {
            name: _CHECKED[name](value)
            for name, value in given.items()
            if name in _CHECKED and value != _AUTO
        }
        points: list[Parameters] = []
        for point in self.grid(trains[0] + folds[0]):
            if (here := {**point, **fixed}) not in points:
                points.append(here)
        return tuple(points)

    def maps(self, moments: Moments, grid: Grid, rows: Pairs) -> Iterator[Map]:
        """Yield the map of every point of the grid; `rows` are the pairs of the moments."""
        if self.solve_all is not None:
            yield from self.solve_all(moments, grid, rows)
            return
        for point in grid:
            yield self.solve(moments, **point)

    def fold_errors(self, train: Moments, heldout: Moments, grid: Grid) -> Array:
        """Return the sum of squared errors on held-out moments for every point of the grid."""
        if self.path is not None:
            return self.path(train, heldout, grid)
        return np.array([squared_error(self.solve(train, **point), heldout) for point in grid])


# Of two methods that do equally well the earlier is chosen: from the simplest to the one with the most
# freedom, but for `shrunk`, which stands before what it contains.
_ROWS = (
    Method("orthogonal", solve.orthogonal, grams="none", parameters=("reflection",)),
    Method("rigid", solve.rigid, grams="none", parameters=("reflection",)),
    Method("similarity", solve.similarity, parameters=("reflection",)),
    Method(
        "shrunk",
        solve.shrunk,
        parameters=("alpha",),
        settles=("alpha", "scale"),
        by_folds="alpha",
        uses_rows=True,
        search=_shrunk_search,
        caution=0.5,
    ),
    Method(
        "ridge",
        solve.ridge,
        parameters=("alpha",),
        settles=("alpha",),
        leaves_one_out=True,
        uses_rows=True,
        grid=_alphas,
        path=_ridge_errors,
    ),
    Method(
        "low_rank",
        solve.low_rank,
        parameters=("rank", "alpha"),
        settles=("rank", "alpha"),
        by_folds="rank",
        uses_rows=True,
        grid=_ranks,
        path=_rank_errors,
        caution=1.0,
    ),
    Method("linear", solve.linear, centred=False, uses_rows=True, plain=True),
    Method("affine", solve.affine, uses_rows=True, plain=True),
    Method(
        "retrieval",
        solve.retrieval,
        grams="both",
        parameters=("alpha", "power"),
        settles=("alpha", "power"),
        uses_rows=True,
        grid=_penalties_and_powers,
        solve_all=_retrieval_maps,
        ranks=True,
    ),
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ROWS})

LEAST_SQUARES = tuple(method for method in _ROWS if not method.ranks)
"""The methods that a mean squared error compares."""


def method_named(name: str) -> Method:
    """Return the method of that name.

    Raises
    ------
    ValueError
        If there is none; the message lists those there are.
    """
    if name == "local_retrieval":
        raise ValueError(
            "local_retrieval is no row of METHODS; call latalign.local_retrieval, or fit_heldout or fit_files"
        )
    if not isinstance(name, str) or name not in METHODS:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ValueError(f"there is no method {name!r}; there are: auto, {', '.join(METHODS)}")
    return METHODS[name]
