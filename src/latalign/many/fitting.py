"""`fit_many`: rows that many models have seen in, one shared space with its evidence out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise as successive
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import as_generator, checked_alpha, require_folds, require_whole
from latalign.many.crossval import (
    Checked,
    check_ridge,
    check_rigid,
    direct_map,
    penalties,
    solved_ridge,
)
from latalign.many.evidence import PairEvidence, SharedEvidence, detour, round_trip
from latalign.many.pairwise import (
    Pairwise,
    check_pairwise,
    folds_of_moments,
    folds_of_rows,
    require_names,
    spreads,
    total_of,
)
from latalign.many.relating import look_at_relation
from latalign.many.solving import Solved, rigid, warn_if_loose
from latalign.many.space import SharedSpace
from latalign.maps import AffineMap
from latalign.moments import Moments, Precision

SharedMethod = Literal["rigid", "ridge"]
METHODS = ("rigid", "ridge")


def fit_many(
    spaces: Mapping[str, ArrayLike] | Sequence[ArrayLike],
    method: SharedMethod = "ridge",
    *,
    sample_weight: ArrayLike | None = None,
    alpha: float | Literal["auto"] = "auto",
    dim: int | Literal["auto"] = "auto",
    n_folds: int = 5,
    precision: Precision = "double",
    random_state: int | np.random.Generator | None = 0,
    refuse_unrelated: bool = False,
) -> SharedSpace:
    """Map many spaces into one, from rows that all of them have, and so any of them to any other.

    Of k spaces this takes 2k maps instead of k (k − 1), and what leads over several spaces leads to the same
    place, or nearly so; how nearly, and what it costs beside maps that are fitted to two spaces alone, stands in the
    evidence. A new space joins by rows in common with one that is there (`SharedSpace.join`).

    Parameters
    ----------
    spaces : mapping of str to array-like of shape (n, dim), or a sequence of such arrays
        Row i of all of them is the same thing. The widths may differ. The spaces of a sequence are named
        "0", "1" and so on.
    method : {"rigid", "ridge"}
        "rigid" is generalized Procrustes analysis [1]_ [2]_: a rotation and a translation for every space, which
        minimise Σ ‖X_i O_i − X_j O_j‖² over all pairs. Ways between spaces of equal width are consistent exactly.
        "ridge" is its analogue for matrices: of all maps through one space those that are nearest to the direct
        ridge maps of every two, reduced-rank regression [3]_ [4]_ of all spaces on each. With a shared space as
        wide as all of them together they are the direct maps.
    sample_weight : array-like of shape (n,), optional
        What each row counts, zero or more.
    alpha : float or "auto"
        The penalty of "ridge", relative to the mean sum of squares of a column. "auto" takes for every space what
        is best for the direct maps that lead from it, by held-out rows.
    dim : int or "auto"
        The width of the shared space for "ridge". "auto" takes the smallest of ½, ¾, 1, 1½ and 2 times the widest
        space whose held-out error is within 1 % of the best. For "rigid" it is that of the widest space.
    n_folds : int
        Folds of the cross-validation.
    precision : {"double", "fast"}
        The dtype in which blocks of rows are multiplied; see `Moments.of`.
    random_state : int, Generator or None
        Draws the folds.
    refuse_unrelated : bool
        Whether rows that cannot be told from shuffled ones are an error instead of a warning.

    Returns
    -------
    SharedSpace

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers, or `random_state` is neither a number nor a Generator.
    ValueError
        If there are fewer than two spaces, their rows differ in number, values are not finite, a space is
        constant, or a parameter does not belong to the method.

    Warns
    -----
    IllConditionedWarning
        If the rows leave directions of a rotation undetermined.
    UnrelatedPairsWarning
        If the rows of a space and the next cannot be told from shuffled ones, as in `latalign.fit`.

    References
    ----------
    .. [1] J. C. Gower, Generalized Procrustes analysis, Psychometrika 40 (1975) 33-51.
    .. [2] J. M. F. ten Berge, Orthogonal Procrustes rotation for two or more matrices, Psychometrika 42 (1977)
       267-276.
    .. [3] A. J. Izenman, Reduced-rank regression for the multivariate linear model, Journal of Multivariate
       Analysis 5 (1975) 248-264.
    .. [4] A. Mukherjee, J. Zhu, Reduced rank ridge regression and its kernel extensions, Statistical Analysis
       and Data Mining 4 (2011) 612-622.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> things = rng.normal(size=(500, 5))
    >>> X, Y, Z = (things @ rng.normal(size=(5, dim)) + 0.1 * rng.normal(size=(500, dim)) for dim in (8, 6, 7))
    >>> shared = latalign.fit_many({"X": X, "Y": Y, "Z": Z})
    >>> shared.map("X", "Z")(X).shape
    (500, 7)
    >>> pair = shared.evidence.pair("X", "Z")
    >>> pair.error < 0.1 * pair.baseline
    True
    """
    named = _named(spaces)
    penalty, width = _checked(method, alpha, dim, "fit_many")
    require_folds(n_folds, "fit_many")
    rng = as_generator(random_state, "fit_many")
    folds = folds_of_rows(named, sample_weight, n_folds, rng, precision, "fit_many")
    found = _fitted(folds, method, penalty, width, "fit_many")
    # Each is compared with the next, and the last with the first.
    names = list(named)
    around = successive(names if len(names) == 2 else [*names, names[0]])
    look_at_relation(named, around, "fit_many", refuse_unrelated)
    return found


def fit_many_moments(
    pairs: Mapping[tuple[str, str], Moments | Sequence[Moments]],
    method: SharedMethod = "ridge",
    *,
    alpha: float | Literal["auto"] = "auto",
    dim: int | Literal["auto"] = "auto",
) -> SharedSpace:
    """Map many spaces into one, from the moments of those pairs of them that have rows in common.

    Parameters
    ----------
    pairs : mapping of (str, str) to Moments, or a sequence of them
        The moments of the rows of a source and a target space, with both Gram matrices. Not every two spaces need
        be there, as long as all are connected. Several moments are folds, as many for every pair: where the rows
        of two pairs are the same, they must be in folds of the same number. Of one alone nothing is held out:
        the penalty comes from generalized cross-validation, and the shared space is as wide as the widest.
    method, alpha, dim
        As in `fit_many`. Between two spaces without rows in common "ridge" takes the way over those between
        them for the direct map.

    Returns
    -------
    SharedSpace

    Raises
    ------
    TypeError
        If something else than Moments is given, or a space is not named by a string.
    ValueError
        If there are no pairs, a pair is there twice, widths or folds do not fit, a space is constant or not
        connected with the others, or a parameter does not belong to the method.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> things = rng.normal(size=(200, 4))
    >>> A, B, C = (things @ np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(3))
    >>> pairs = {
    ...     ("A", "B"): latalign.Moments.of(A[:100], B[:100]),
    ...     ("B", "C"): latalign.Moments.of(B[100:], C[100:]),
    ... }
    >>> shared = latalign.fit_many_moments(pairs, "rigid")
    >>> np.allclose(shared.map("A", "C")(A), C)
    True
    """
    if not pairs:
        raise ValueError("fit_many_moments needs the moments of at least one pair of spaces; it got none")
    penalty, width = _checked(method, alpha, dim, "fit_many_moments")
    folds = folds_of_moments(pairs, "fit_many_moments")
    return _fitted(folds, method, penalty, width, "fit_many_moments")


def _named(spaces: Mapping[str, ArrayLike] | Sequence[ArrayLike]) -> dict[str, ArrayLike]:
    named = dict(spaces) if isinstance(spaces, Mapping) else {str(i): rows for i, rows in enumerate(spaces)}
    if len(named) < 2:
        raise ValueError(f"fit_many needs at least 2 spaces; got {len(named)}")
    require_names(named, "fit_many")
    return named


def _checked(
    method: str, alpha: float | Literal["auto"], dim: int | Literal["auto"], caller: str
) -> tuple[float | None, int | None]:
    """Return the penalty and the width that are given; None for what is to be chosen."""
    if method not in METHODS:
        raise ValueError(f"{caller}: method is one of {', '.join(METHODS)}; got {method!r}")
    given = {name: value for name, value in (("alpha", alpha), ("dim", dim)) if value != "auto"}
    if method == "rigid" and given:
        raise ValueError(f"{caller}: method 'rigid' takes no parameter; it got {', '.join(given)}")
    penalty = None if alpha == "auto" else checked_alpha(alpha)
    if dim == "auto":
        return penalty, None
    require_whole(caller, dim=dim)
    if dim < 1:
        raise ValueError(f"{caller} needs a shared space of at least 1 dimension; got dim={dim}")
    return penalty, dim


def _fitted(
    folds: Sequence[Pairwise], method: SharedMethod, alpha: float | None, dim: int | None, caller: str
) -> SharedSpace:
    total = total_of(folds)
    check_pairwise(total, caller)
    folds = folds if all(one.count for fold in folds for one in fold.moments.values()) else (total,)
    by_dim: tuple[tuple[int, float], ...] = ()
    chosen = None
    if method == "rigid":
        solved = rigid(total)
        checked = check_rigid(folds) if len(folds) > 1 else Checked.nothing()
    else:
        chosen = penalties(folds, alpha)
        width, checked = dim or max(total.dims), Checked.nothing()
        if len(folds) > 1:
            width, checked, by_dim = check_ridge(folds, chosen, dim)
        solved = solved_ridge(total, chosen, width)
    direct = {
        (i, j): direct_map(total, i, j, method, chosen)
        for i in range(len(total.names))
        for j in range(len(total.names))
        if i != j
    }
    evidence = SharedEvidence(_pairs(total, solved, direct, checked), len(folds), by_dim)
    widths = [[total.dims[j] for j in total.partners(i)] for i in range(len(total.names))]
    warn_if_loose(zip(total.names, solved.into, widths, strict=True))
    agreement = _agreement(total, solved.into)
    return SharedSpace(total.names, method, solved.into, solved.back, agreement, evidence)


def _agreement(total: Pairwise, into: Sequence[AffineMap]) -> Moments:
    """Return the moments of rows in the shared space, as one space and as another sees them: all pairs, both ways."""
    one_way = [pair.mapped(into[i], into[j]) for (i, j), pair in total.moments.items()]
    both = [moments for pair in one_way for moments in (pair, pair.swapped())]
    return sum(both[1:], both[0])


def _pairs(
    total: Pairwise, solved: Solved, direct: Mapping[tuple[int, int], AffineMap | None], checked: Checked
) -> tuple[PairEvidence, ...]:
    """Return what is known of every ordered pair."""
    found, names, count = spreads(total), total.names, len(total.names)
    shared = {(i, j): solved.map(i, j) for i in range(count) for j in range(count) if i != j}

    def through(source: int, target: int) -> AffineMap:
        return shared[source, target]

    def straight(source: int, target: int) -> AffineMap | None:
        return direct[source, target]

    pairs: list[PairEvidence] = []
    for i, j in shared:
        rows = total.pair(i, j)
        spread = float(found[j].covariance.trace())
        mean, covariance = found[i].mean, found[i].covariance
        pairs.append(
            PairEvidence(
                names[i],
                names[j],
                0 if rows is None else rows.count,
                checked.baseline.get((i, j)),
                checked.error.get((i, j)),
                checked.direct.get((i, j)),
                round_trip(through, i, j, mean, covariance),
                round_trip(straight, i, j, mean, covariance),
                detour(through, i, j, count, mean, covariance, spread),
                detour(straight, i, j, count, mean, covariance, spread),
            )
        )
    return tuple(pairs)
