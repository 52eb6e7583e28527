"""Iterative closest points within classes: a map from labels alone, with no row that corresponds to another.

The paper's *means + ICP* (4.2.3 of [1]_): start from the map of the class means, take for every source
row the nearest target row of its class for its partner, fit again, and so on [2]_.

References
----------
.. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023, PMLR 243:158-169.
.. [2] P. J. Besl, N. D. McKay, A method for registration of 3-D shapes, IEEE PAMI 14 (1992) 239-256.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, final

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import cKDTree

from latalign._validation import Array, Pairs, Rows, as_rows, require_finite
from latalign.anchors import Index, class_means, require_same_classes, rows_by_class
from latalign.fitting import check_call, needs_folds, require_least_squares, solve_folds
from latalign.maps import AffineMap
from latalign.methods import method_named
from latalign.moments import moments_of_pairs
from latalign.solvable import warn_if_undetermined

Neighbors = Literal["mutual", "one-sided"]

# In more dimensions than this a tree looks at most of the rows, and a blocked product is faster.
_TREE_DIMS = 8


@final
@dataclass(frozen=True, slots=True)
class IcpFit:
    """A map found by iterative closest points, and the course that led to it.

    Attributes
    ----------
    map : AffineMap
        Its ``evidence.anchors`` counts the pairs of the last fit. They are neighbours, not rows that are
        known to correspond: the evidence says nothing of whether they do.
    errors : tuple of float
        The mean squared error per value between mapped source rows and their partners: first of the
        map from the start, then of each fit. The last is that of `map`. A small one is no proof of a
        good map; a map that draws all rows together has a small one.
    pairs : tuple of int
        The number of partners that each of these errors is of.
    converged : bool
        Whether it stopped by itself: the partners no longer changed, or the error hardly.
    """

    map: AffineMap
    errors: tuple[float, ...]
    pairs: tuple[int, ...]
    converged: bool

    @property
    def iterations(self) -> int:
        """The number of fits after the start."""
        return len(self.errors) - 1


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Class:
    """The rows of one class: their numbers on both sides, and the target rows about their mean."""

    source: Index
    target: Index
    center: Array
    points: Array

    @staticmethod
    def of(source: Index, target: Index, Y: Rows) -> _Class:
        points = Y[target].astype(np.float64)
        center = points.mean(axis=0)
        return _Class(source, target, center, points - center)

    def partners(self, mapped: Rows, mutual: bool) -> tuple[Index, Index]:
        """Return the numbers of source rows and of the target rows nearest to them."""
        # About a mean close by, no distance is lost where rows are far from the origin.
        queries = mapped[self.source] - self.center
        nearest = _nearest(queries, self.points)
        if not mutual:
            return self.source, self.target[nearest]
        # Only target rows that were chosen can choose back.
        chosen, which = np.unique(nearest, return_inverse=True)
        back = _nearest(self.points[chosen], queries)
        kept = np.flatnonzero(back[which] == np.arange(len(nearest)))
        return self.source[kept], self.target[nearest[kept]]


def icp(
    X: ArrayLike,
    source_labels: ArrayLike,
    Y: ArrayLike,
    target_labels: ArrayLike,
    method: str = "rigid",
    *,
    neighbors: Neighbors = "mutual",
    start: AffineMap | None = None,
    alpha: float | Literal["auto"] | None = None,
    rank: int | None = None,
    reflection: bool | None = None,
    max_iterations: int = 50,
    tol: float = 1e-4,
) -> IcpFit:
    """Find a map from labelled rows of which none is known to correspond to another.

    From the map of the class means on, every source row is mapped, takes the nearest target row of its
    own class for its partner, and a new map is fitted to the partners.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    source_labels : array-like of shape (n,)
    Y : array-like of shape (m, dim_target)
    target_labels : array-like of shape (m,)
        The class of every row: integers or strings, none missing. Both sides have the same classes.
    method : str
        As in `latalign.fit`, but for "auto": candidates that are fitted to partners of their own cannot
        be compared by their errors.
    neighbors : {"mutual", "one-sided"}
        Which pairs are fitted: only those that are each other's nearest, or those of every source row
        with the target row nearest to it.
    start : AffineMap, optional
        The map to start from; that of `method` on the class means unless given. With one class for all
        rows and a start, this is the unrestricted algorithm [2]_.
    alpha, rank, reflection
        As in `latalign.fit`. "low_rank" needs its rank, and "shrunk" its alpha.
    max_iterations : int
        Stop after so many fits.
    tol : float
        Stop where the error changes by no more than this share of it.

    Returns
    -------
    IcpFit
        With the map, and the error of every iteration.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If shapes do not fit, values are not finite, labels are missing, a class is on one side only, a
        parameter is out of range or does not belong to the method, or the partners determine no map.

    Warns
    -----
    IllConditionedWarning
        If the partners leave directions of the map undetermined.

    Notes
    -----
    With one-sided neighbours the error never rises for a method that minimises it, and that is the
    danger: a map that may shrink ("similarity" and the linear family) makes it small by drawing all rows
    of a class together, where some target row is near to them all. It then is worse than the class
    means, as the paper found. "rigid" keeps distances and cannot do this. Mutual neighbours do not reward
    it either: of many rows that share one partner only the nearest counts. The page on methods has
    figures. Nothing of this shows in `IcpFit.errors`: measure the map on a few known pairs, against that
    of the class means (`pair_class_means`).

    The time of an iteration is that of a search of every source row among the target rows of its class:
    quadratic in the rows of a class, unless there are 8 dimensions or fewer. For many rows, fit on some.

    References
    ----------
    .. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.
    .. [2] P. J. Besl, N. D. McKay, A method for registration of 3-D shapes, IEEE PAMI 14 (1992) 239-256.

    Examples
    --------
    Two clusters, the same in both spaces but for a turn; the rows of the two sides are in no common order:

    >>> import numpy as np
    >>> from latalign import icp
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat([0, 1, 2], 100)
    >>> X = rng.normal(size=(300, 2)) * [1.0, 0.3] + 4 * np.eye(3, 2)[labels]
    >>> turn = np.array([[0.0, 1.0], [-1.0, 0.0]])
    >>> shuffled = rng.permutation(300)
    >>> found = icp(X, labels, (X @ turn)[shuffled], labels[shuffled])
    >>> found.converged, bool(np.allclose(found.map.matrix, turn))
    (True, True)
    """
    source, target = as_rows(X, "icp: the source X"), as_rows(Y, "icp: the target Y")
    require_finite(source, "icp: the source X")
    require_finite(target, "icp: the target Y")
    given = {k: v for k, v in (("alpha", alpha), ("rank", rank), ("reflection", reflection)) if v is not None}
    _check(method, given, neighbors, max_iterations, tol)
    source_classes, source_rows = rows_by_class(source_labels, len(source), "icp: the source X")
    target_classes, target_rows = rows_by_class(target_labels, len(target), "icp: the target Y")
    require_same_classes(source_classes, target_classes, "icp")
    if start is None:
        means = class_means(source, source_labels)[1], class_means(target, target_labels)[1]
        fitted = _fitted(Pairs(*means, caller="icp"), method, given, "the class means", second_pass=True)
    elif (start.dim_source, start.dim_target) == (source.shape[1], target.shape[1]):
        fitted = start
    else:
        raise ValueError(
            f"icp needs a start from {source.shape[1]} to {target.shape[1]} dimensions; got a map from "
            f"{start.dim_source} to {start.dim_target}"
        )
    classes = [_Class.of(*rows, target) for rows in zip(source_rows, target_rows, strict=True)]
    errors: list[float] = []
    counts: list[int] = []
    before: tuple[Index, Index] | None = None
    while True:
        mapped = fitted(source)
        left, right = _partners(classes, mapped, neighbors == "mutual")
        errors.append(float(np.square(mapped[left] - target[right].astype(np.float64)).mean()))
        counts.append(len(left))
        settled = before is not None and all(map(np.array_equal, (left, right), before))
        converged = settled or (len(errors) > 1 and abs(errors[-2] - errors[-1]) <= tol * errors[-2])
        if converged or len(errors) > max_iterations:
            break
        pairs = Pairs(source[left], target[right], caller="icp")
        fitted = _fitted(pairs, method, given, f"the partners of iteration {len(errors)}")
        before = left, right
    warn_if_undetermined(fitted)
    return IcpFit(replace(fitted, method=f"{method} by icp"), tuple(errors), tuple(counts), converged)


def _partners(classes: Sequence[_Class], mapped: Rows, mutual: bool) -> tuple[Index, Index]:
    found = [one.partners(mapped, mutual) for one in classes]
    return np.concatenate([left for left, _ in found]), np.concatenate([right for _, right in found])


def _check(method: str, given: Mapping[str, Any], neighbors: str, max_iterations: int, tol: float) -> None:
    if needs_folds(method, given):
        raise ValueError(
            "icp needs a method that is fitted without a choice among candidates, whose partners would be "
            f'their own; got {method!r}. Name another than "auto", and for "low_rank" its rank, for "shrunk" its alpha.'
        )
    check_call(method, given)
    require_least_squares(method, "icp")
    if neighbors not in ("mutual", "one-sided"):
        raise ValueError(f'icp: neighbors is "mutual" or "one-sided"; got {neighbors!r}')
    if max_iterations < 1:
        raise ValueError(f"icp needs max_iterations of 1 or more; got {max_iterations}")
    if not tol >= 0:
        raise ValueError(f"icp needs a tol of zero or more; got {tol}")


def _fitted(
    pairs: Pairs, method: str, given: Mapping[str, Any], what: str, *, second_pass: bool = False
) -> AffineMap:
    """Fit to pairs: where they will change again by their moments alone, with no second pass for digits."""
    moments = moments_of_pairs(pairs, grams=method_named(method).grams)
    try:
        return solve_folds(method, (moments,), given, pairs if second_pass else None)
    except ValueError as error:
        raise ValueError(f"icp: {what} determine no map ({error})") from error


def _nearest(queries: Array, points: Array) -> Index:
    """Return for every query the number of the point nearest to it."""
    if points.shape[1] <= _TREE_DIMS:
        return np.asarray(cast("Any", cKDTree(points)).query(queries)[1], dtype=np.intp)
    # Loaded only here: scikit-learn takes a second to import.
    import sklearn.metrics  # pyright: ignore[reportMissingTypeStubs]

    found = cast("Any", sklearn.metrics).pairwise_distances_argmin(queries, points)
    return np.asarray(found, dtype=np.intp)
