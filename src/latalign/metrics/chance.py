"""How alike two spaces are beyond chance: each measure next to what random pairing gives, with an interval.

A measure of likeness is not zero for spaces that have nothing in common: with more dimensions than rows
linear CKA comes out near one. So each is told together with

- what it is on average where the same rows are paired at random (a permutation of one side),
- its value with that taken out, which is 0 by chance and 1 for the same spaces,
- the share of random pairings that are at least as alike,
- an interval, by the jackknife.

The bootstrap would be wrong here: rows that are drawn twice are each other's nearest neighbors, and each
other's off-diagonal kernel value. The jackknife leaves rows out and repeats none. Its variance is not too
small on average for any function of independent rows [1]_, and every value without one row is known in
closed form: for linear CKA and the neighbors exactly, for Procrustes to first order (the infinitesimal
jackknife).

References
----------
.. [1] B. Efron, C. Stein, The jackknife estimate of variance, Annals of Statistics 9 (1981) 586-596.
.. [2] B. Phipson, G. K. Smyth, Permutation p-values should never be zero, Statistical Applications in
   Genetics and Molecular Biology 9 (2010) 39.
.. [3] D. Pospisil, B. Larsen, S. Harvey, A. Williams, Estimating shape distances on neural representations
   with limited samples, ICLR 2024.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._linalg import nuclear_norm, svd
from latalign._validation import Array, Pairs, as_generator, require_whole
from latalign.metrics._cosine import unit_pair
from latalign.metrics.neighbors import Index, among, nearest_others
from latalign.metrics.similarity import FEWEST_ROWS, Centred, unbiased_hsic

CONFIDENCE = 0.95
WANTED_HALF_WIDTH = 0.05
FEWEST_PERMUTATIONS = 19  # with fewer no p-value is as small as 0.05

_NAN = float("nan")
# Differences of scores, and of angles, that are rounding: near 0 an angle is the root of that of its cosine.
_SAME, _SAME_ANGLE = 1e-9, 1e-6


@final
@dataclass(frozen=True, slots=True)
class Likeness:
    """One measure of how alike two spaces are, next to what chance gives.

    Attributes
    ----------
    value : float
        The measure as its paper defines it.
    chance : float
        What it is on average where the same rows are paired at random.
    debiased : float
        0 on average for rows paired at random, 1 for spaces that are the same. Below 0 where they are less
        alike than by chance.
    low, high : float
        The 95 % interval of `debiased` over draws of as many rows. NaN where there are too few rows.
    chance_spread : float
        The standard deviation of `debiased` over random pairings.
    p_value : float
        The share of random pairings that are at least as alike, the one that is given counted among them.
    rows_needed : int or None
        About how many rows an interval of ± 0.05 takes: this one narrowed with the root of their number,
        and the spread by chance with their number. None where there is no interval.
    """

    value: float
    chance: float = _NAN
    debiased: float = _NAN
    low: float = _NAN
    high: float = _NAN
    chance_spread: float = _NAN
    p_value: float = _NAN
    rows_needed: int | None = None


def likeness(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    k: int = 10,
    n_permutations: int = 99,
    random_state: int | np.random.Generator | None = 0,
) -> dict[str, Likeness]:
    """Return how alike two spaces are by three measures, each next to what chance gives.

    Every permutation costs the product of the two sides, and the singular values of that.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        Row i of both is the same thing; no pair is given twice.
    k : int
        The neighbors of a row that are compared, by cosine.
    n_permutations : int
        Random pairings, at least 19. No p-value is below 1 / (n_permutations + 1) [2]_.
    random_state : int, Generator or None
        Draws them.

    Returns
    -------
    dict of str to Likeness
        "linear_cka"
            Debiased as in `debiased_cka_score`.
        "procrustes_distance"
            Debiased by what it is by chance: 1 − distance / chance. The distance itself is biased
            upward for spaces that are alike and downward for spaces that are not, the more the fewer the
            rows are for the dimensions [3]_; this takes out the bias by chance, not that of the distance
            between. The interval is that of the distance, in units of what chance gives for these rows.
        "mutual_knn"
            Debiased by what it is by chance: (score − chance) / (1 − chance), chance = k / (n − 1).
            NaN where there are no more than `k` rows. Its interval is wider than it need be. The measure
            itself changes with the number of rows, among which neighbors are farther or nearer.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If they are not 2-D, differ in rows, or are not finite, or a parameter is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import metrics
    >>> rng = np.random.default_rng(0)
    >>> X, Y = rng.normal(size=(50, 200)), rng.normal(size=(50, 300))
    >>> found = metrics.likeness(X, Y)["linear_cka"]
    >>> round(found.value, 1), round(found.chance, 1), found.low < 0 < found.high, found.p_value > 0.05
    (0.8, 0.8, True, True)
    """
    pairs = Pairs.of(X, Y, caller="likeness")
    pairs.require_finite()
    require_whole("likeness", k=k, n_permutations=n_permutations)
    if k < 1 or n_permutations < FEWEST_PERMUTATIONS:
        raise ValueError(
            f"likeness needs k ≥ 1 and n_permutations ≥ {FEWEST_PERMUTATIONS}; "
            f"got k={k}, n_permutations={n_permutations}"
        )
    rng = as_generator(random_state, "likeness")
    count = len(pairs)
    linear = _Linear.of(pairs)
    neighbors = _Neighbors.of(pairs, k) if k < count else None
    orders = (rng.permutation(count) for _ in range(n_permutations))
    drawn = np.array(
        [(*linear.permuted(order), neighbors.permuted(order) if neighbors else _NAN) for order in orders]
    )
    return {
        "linear_cka": linear.cka(drawn[:, 0]),
        "procrustes_distance": linear.procrustes(drawn[:, 1]),
        "mutual_knn": neighbors.likeness(drawn[:, 2]) if neighbors else Likeness(_NAN),
    }


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Linear:
    """What linear CKA and the Procrustes distance are made of.

    Attributes
    ----------
    x, y : Centred
    cross : (r, s) array
        The products of the two sides.
    nuclear : float
        That sum: the cosine of the Procrustes distance, the sides being of size one.
    sizes : float
        The root of the product of the sides' own unbiased HSIC; 0 where there is none.
    """

    x: Centred
    y: Centred
    cross: Array
    nuclear: float
    sizes: float

    @staticmethod
    def of(pairs: Pairs) -> _Linear:
        x, y = Centred.of(pairs.source), Centred.of(pairs.target)
        cross = x.rows.T @ y.rows
        sizes = 0.0
        if len(pairs) >= FEWEST_ROWS:
            sizes = (x.sum_of_squares() * y.sum_of_squares()) ** 0.5
        varies = bool(x.norms.any() and y.norms.any())
        return _Linear(x, y, cross, nuclear_norm(cross) if varies else _NAN, sizes)

    def permuted(self, order: Index) -> tuple[float, float]:
        """Return the debiased linear CKA and the Procrustes distance of rows paired in another order."""
        cross = self.x.rows.T @ self.y.rows[order]
        hsic = unbiased_hsic(cross, self.x.norms, self.y.norms[order]) if self.sizes else _NAN
        return hsic / self.sizes if self.sizes else _NAN, _angle(nuclear_norm(cross))

    def cka(self, drawn: Array) -> Likeness:
        n = len(self.x.norms)
        own = (np.linalg.norm(side.rows.T @ side.rows) for side in (self.x, self.y))
        plain = float(np.prod([*own]))
        if plain == 0:
            return Likeness(_NAN)
        # Of all pairings the mean of ‖xᵀy‖² is the product of the two sums of squares over n − 1.
        found = Likeness(float((self.cross**2).sum()) / plain, 1 / ((n - 1) * plain))
        if not self.sizes:
            return found
        value = min(
            unbiased_hsic(self.cross, self.x.norms, self.y.norms) / self.sizes, 1.0
        )  # but for rounding
        sides = ((self.x, self.y, self.cross), (self.x, self.x, None), (self.y, self.y, None))
        left_out = np.full(n, _NAN)
        if n > FEWEST_ROWS:
            hsic, *sizes = (_hsic_left_out(a, b, a.rows.T @ b.rows if c is None else c) for a, b, c in sides)
            with np.errstate(invalid="ignore", divide="ignore"):
                left_out = hsic / np.sqrt(sizes[0] * sizes[1])
        found = replace(
            found,
            debiased=value,
            # Exact for every pair of U-centred kernels, whose sums over rows are zero.
            chance_spread=math.sqrt(2 / (n * (n - 3))),
            p_value=_p_value(drawn >= value - _SAME),
        )
        return _with_interval(found, left_out)

    def procrustes(self, drawn: Array) -> Likeness:
        if self.nuclear != self.nuclear:
            return Likeness(_NAN)
        value, chance = _angle(self.nuclear), float(drawn.mean())
        if chance <= _SAME_ANGLE:  # of two rows, say: any two spaces are the same
            return Likeness(value, chance)
        found = Likeness(
            value,
            chance,
            1 - value / chance,
            chance_spread=float(drawn.std(ddof=1)) / chance,
            p_value=_p_value(drawn <= value + _SAME_ANGLE),
        )
        # The derivative of the sum of the singular values is the polar factor.
        left, _, right = svd(self.cross)
        share = len(self.x.norms) / (len(self.x.norms) - 1)
        nuclear = self.nuclear - share * np.einsum("ij,ij->i", self.x.rows @ (left @ right), self.y.rows)
        sizes = (1 - share * self.x.norms) * (1 - share * self.y.norms)
        with np.errstate(invalid="ignore", divide="ignore"):
            left_out = np.arccos(np.clip(nuclear / np.sqrt(sizes), -1, 1))
        return _with_interval(found, 1 - left_out / chance)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Neighbors:
    """The k nearest neighbors of every row in both spaces.

    Attributes
    ----------
    mine, its : (n, k) arrays of row numbers
    my_next, its_next : (n, 0 or 1) arrays of row numbers
        The next neighbor after those, where there is one.
    """

    mine: Index
    its: Index
    my_next: Index
    its_next: Index

    @staticmethod
    def of(pairs: Pairs, k: int) -> _Neighbors:
        x, y = unit_pair(pairs.source, pairs.target, "likeness", same_width=False)
        mine, its = (nearest_others(side, min(k + 1, len(side) - 1)) for side in (x, y))
        return _Neighbors(mine[:, :k], its[:, :k], mine[:, k:], its[:, k:])

    def permuted(self, order: Index) -> float:
        """Return the share of neighbors in common where the target's rows come in another order."""
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        return float(among(self.mine, place[self.its[order]]).mean())

    def likeness(self, drawn: Array) -> Likeness:
        n, k = self.mine.shape
        chance = k / (n - 1)
        value = float(among(self.mine, self.its).mean())
        if chance == 1:
            return Likeness(value, chance)
        found = Likeness(
            value,
            chance,
            (value - chance) / (1 - chance),
            chance_spread=float(drawn.std(ddof=1)) / (1 - chance),
            p_value=_p_value(drawn >= value - _SAME),
        )
        if n < k + 3:  # with a row less, all the others are neighbors
            return found
        chance = k / (n - 2)
        return _with_interval(found, (self.left_out() - chance) / (1 - chance))

    def left_out(self) -> Array:
        """Return the score without each row in turn: all that had it for a neighbor take the next one."""
        n, k = self.mine.shape
        shared = among(self.mine, self.its)
        # A next neighbor that comes in is shared if the other side has it, or takes it in as well.
        mine_in_its, its_in_mine = among(self.my_next, self.its), among(self.its_next, self.mine)
        both_come_in = shared * (self.my_next == self.its_next)
        change = np.zeros(n)
        np.add.at(change, self.mine, mine_in_its + both_come_in - 1.0 * shared)
        np.add.at(change, self.its, np.broadcast_to(its_in_mine, self.its.shape))
        own = shared.sum(axis=1)
        return (own.sum() - own + change) / (k * (n - 1))


def _hsic_left_out(a: Centred, b: Centred, cross: Array) -> Array:
    """Return the unbiased HSIC without each row in turn, but for a factor that is the same for all sides.

    The kernels of the other rows have row sums that are not zero, so all three sums of the estimator are
    corrected by what row i has to do with them.
    """
    k, l = a.norms, b.norms  # noqa: E741 - the diagonals of the kernels K and L
    m = len(k) - 1
    own = float(k @ l)
    with_row = np.einsum("ij,ij->i", a.rows @ cross, b.rows) - k * l
    products = float((cross**2).sum()) - own - 2 * with_row
    totals = (2 * k - k.sum()) * (2 * l - l.sum())
    rows = own - 3 * k * l + b.rows @ (b.rows.T @ k) + a.rows @ (a.rows.T @ l) + with_row
    return products + totals / ((m - 1) * (m - 2)) - 2 * rows / (m - 2)


def _with_interval(found: Likeness, left_out: Array) -> Likeness:
    """Return the record with an interval, given the values of `debiased` without each row in turn."""
    # Loaded only here: who applies a map has no need of scipy.special.
    from scipy.special import stdtrit

    n = len(left_out)
    if not np.isfinite(left_out).all():
        return found
    quantile = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    half = quantile * math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    return replace(
        found,
        low=max(found.debiased - half, -1.0),
        high=min(found.debiased + half, 1.0),
        rows_needed=_rows_needed(n, half, quantile * found.chance_spread),
    )


def _rows_needed(n: int, half: float, by_chance: float) -> int:
    """Return the N at which half² n / N + by_chance² n² / N² is the square of the wanted half-width.

    The interval narrows with the root of the rows, but not below what random pairing leaves, which is
    all there is to it where rows are few, and falls with their number.
    """
    wanted = WANTED_HALF_WIDTH**2
    slow, fast = half**2 * n, (by_chance * n) ** 2
    return max(math.ceil((slow + math.sqrt(slow**2 + 4 * fast * wanted)) / (2 * wanted)), FEWEST_ROWS)


def _p_value(as_alike: NDArray[np.bool_]) -> float:
    return (1 + int(as_alike.sum())) / (1 + len(as_alike))


def _angle(cosine: float) -> float:
    return math.acos(min(cosine, 1.0))
