"""How alike two spaces are, and how well each method maps the one to the other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Pairs, as_generator, finite_pairs, require_spread, require_whole
from latalign.anchors import random_anchors
from latalign.evidence import Candidate, plain
from latalign.metrics import Likeness, likeness
from latalign.metrics.chance import FEWEST_PERMUTATIONS
from latalign.moments import Moments, summed
from latalign.select import Folds, baseline_error, cross_validate, distinct


@final
@dataclass(frozen=True, slots=True)
class MethodScore:
    """The cross-validated R² of one method.

    Attributes
    ----------
    method : str
    r2 : float
        One minus the error over the error of the mean target row; higher is better.
    standard_error : float
        From the spread over the folds.
    alpha : float or None
    target_rank : int or None
    scale : float or None
        The penalty, the rank and the scale that did best, where the method has them; an infinite penalty is
        null in JSON, where a scale stands beside it.
    """

    method: str
    r2: float
    standard_error: float
    alpha: float | None = None
    target_rank: int | None = None
    scale: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Comparison:
    """How alike two spaces are, by what their paired rows say.

    Attributes
    ----------
    rows, dim_source, dim_target : int
    measured_rows : int
        The rows, drawn at random, that the three measures are of: no pair twice, and `max_rows` at most.
        The methods are compared on all rows.
    linear_cka : Likeness
        Linear centred kernel alignment: 1 where the spaces are the same up to rotation and scale.
    procrustes_distance : Likeness
        In radians, from 0 (the same up to rotation, scale and shift) to π/2.
    mutual_knn : Likeness
        The mean share of a row's `k` nearest neighbors that both spaces agree on. NaN where there are no more
        than `k` rows.
    k : int
    permutations : int
        The random pairings that the measures are compared with.
    methods : tuple of MethodScore
        Every method, best first.
    """

    rows: int
    dim_source: int
    dim_target: int
    measured_rows: int
    linear_cka: Likeness
    procrustes_distance: Likeness
    mutual_knn: Likeness
    k: int
    permutations: int
    methods: tuple[MethodScore, ...]

    @property
    def told_from_chance(self) -> bool:
        """Whether every measure that has a p-value finds the spaces more alike than by chance: p ≤ 0.05."""
        found = (self.linear_cka, self.procrustes_distance, self.mutual_knn)
        values = [one.p_value for one in found if one.p_value == one.p_value]
        return bool(values) and max(values) <= 0.05

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; NaN becomes null."""
        record = plain(asdict(self))
        for method in record["methods"]:
            if method["scale"] is None:
                del method["scale"]
        return record


def compare(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    k: int = 10,
    n_folds: int = 5,
    n_permutations: int = 99,
    max_rows: int = 5000,
    random_state: int = 0,
) -> Comparison:
    """Tell how alike two spaces are beyond chance, and how well each method maps the one to the other.

    Each measure of likeness comes with what it is for the same rows paired at random, with its value
    corrected for that, an interval, and how many rows would make the interval narrow. The methods are
    compared by the moments of the folds, summed in one pass over the rows.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        Row i of both is the same thing. Where the rows have ids, pair them first: `latalign.pair_by_id`.
    k : int
        The neighbors of a row that are compared.
    n_folds : int
        Folds of the cross-validation.
    n_permutations : int
        Random pairings that the measures are compared with, at least 19. No p-value is below one over so
        many and one.
    max_rows : int
        Of more rows so many, drawn at random, are measured for likeness. A pair that is among them more
        than once is measured once: its copies would be each other's neighbors in any two spaces.
    random_state : int
        Draws the folds, those rows and the pairings.

    Returns
    -------
    Comparison

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If shapes do not fit, there are fewer than two pairs, a side is constant, values are not finite, or a
        parameter is out of range.

    Warns
    -----
    UserWarning
        If there are no more than `k` different rows, so that `mutual_knn` says nothing.

    References
    ----------
    The measures: `latalign.metrics.likeness`.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 4))
    >>> found = latalign.compare(X, 2 * X @ np.linalg.qr(rng.normal(size=(4, 4)))[0] + 1)
    >>> round(found.linear_cka.debiased, 6), round(found.procrustes_distance.value, 4), found.mutual_knn.p_value
    (1.0, 0.0, 0.01)
    >>> found.methods[-1].method
    'orthogonal'
    """
    check_compare(k, max_rows, n_permutations)
    pairs = finite_pairs(X, Y, "compare")
    rng = as_generator(random_state, "compare")
    folds = Folds.of(pairs, n_folds, rng, grams="both").moments
    some = pairs.take(random_anchors(len(pairs), min(max_rows, len(pairs)), random_state=rng))
    return comparison(folds, some, k=k, n_permutations=n_permutations, rng=rng)


def check_compare(k: int, max_rows: int, n_permutations: int) -> None:
    """Raise a ValueError where there is nothing to compare by such numbers."""
    require_whole("compare", k=k, max_rows=max_rows, n_permutations=n_permutations)
    if k < 1 or max_rows < 2 or n_permutations < FEWEST_PERMUTATIONS:
        raise ValueError(
            f"compare needs k ≥ 1, max_rows ≥ 2 and n_permutations ≥ {FEWEST_PERMUTATIONS}; "
            f"got k={k}, max_rows={max_rows}, n_permutations={n_permutations}"
        )


def comparison(
    folds: Sequence[Moments], some: Pairs, *, k: int, n_permutations: int, rng: np.random.Generator
) -> Comparison:
    """Return what the moments of the folds, and some of the pairs, say of two spaces.

    Parameters
    ----------
    folds : sequence of Moments
        With both Gram matrices.
    some : Pairs
        Those that likeness is measured on; what is there more than once is measured once.
    k, n_permutations : int
        As in `compare`.
    rng : Generator
        Draws the pairings.
    """
    total = summed(folds)
    for side, moments in (("source X", total), ("target Y", total.swapped())):
        require_spread(moments.source_varies, moments.source_mean, total.count, side, "compare")
    baseline = baseline_error(folds)
    some, _ = distinct(some)
    if k >= len(some):
        warnings.warn(
            f"compare: no more than k={k} different rows are measured ({len(some)}), so all are each other's "
            "neighbors and mutual_knn is NaN. Give a smaller k, or more rows.",
            stacklevel=3,
        )
    return Comparison(
        rows=total.count,
        dim_source=total.dim_source,
        dim_target=total.dim_target,
        measured_rows=len(some),
        **likeness(some.source, some.target, k=k, n_permutations=n_permutations, random_state=rng),
        k=k,
        permutations=n_permutations,
        methods=tuple(_method_score(found, baseline) for found in cross_validate(folds)),
    )


def _method_score(found: Candidate, baseline: float) -> MethodScore:
    return MethodScore(
        method=found.method,
        r2=1 - found.error / baseline,
        standard_error=found.standard_error / baseline,
        alpha=found.alpha,
        target_rank=found.target_rank,
        scale=found.scale,
    )
