"""Whether pairs as a whole are distinguishable from shuffled ones: a permutation test in closed form.

How much of the target's spread the source explains is T = tr(A B), for a kernel A of the source rows and B
of the target rows. If the rows did not correspond, any order of them would be as likely, and the mean and
the variance of T over all orders are known exactly; so no order has to be drawn. The third moment is that
of random rotations, and a Pearson curve of the three gives the p-value.

References
----------
F. Kazi-Aoual, S. Hitier, R. Sabatier, J.-D. Lebreton, Refined approximations to permutation tests for
multivariate inference, Computational Statistics & Data Analysis 20 (1995) 643-656.
J. Josse, J. Pagès, F. Husson, Testing the significance of the RV coefficient, Computational Statistics &
Data Analysis 53 (2008) 82-91.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from latalign._linalg import eigh
from latalign._validation import Array, Pairs, Rows
from latalign.select import distinct

INDISTINGUISHABLE = 0.05
"""The p-value above which pairs are not to be told from shuffled ones."""

# Fewer different pairs say nothing for certain. Of many, a few hundred settle nearly every case; only where
# they leave a doubt are more looked at.
_FEW_ROWS = 10
_ROWS = (256, 4096)
_CLEAR = 1e-6
# A source kernel and a target kernel: 0 rows as they are; 1 rows of columns of one spread, their widest
# directions cut down, and 2 all their directions alike, which find what the widest have no part in.
_TESTED = ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1))
_MOSTLY = 0.95  # of the pairs that count in a robust fit should be nearer than nearly all other pairings
_PENALTY = 0.1  # relative to the mean eigenvalue
# Rows beyond so many times the median length are drawn in: no single row decides.
_DRAWN_IN = 2.0


Traces = tuple[float, float, float, float]


class UnrelatedPairsWarning(UserWarning):
    """The pairs cannot be told from pairs whose rows were shuffled: all of them together, or each of them."""


def relation_p_value(pairs: Pairs, rng: np.random.Generator | None = None) -> float:
    """Return the p-value of the hypothesis that the rows do not correspond; NaN where nothing can be said.

    Parameters
    ----------
    pairs : Pairs
        What they weigh does not matter; equal pairs count once.
    rng : Generator, optional
        Draws which of many pairs are looked at: 256, and 4096 where those leave a doubt.

    Returns
    -------
    float
    """
    rng = np.random.default_rng(0) if rng is None else rng
    p_value = np.nan
    for number, rows in enumerate(_ROWS):
        some = pairs
        if len(pairs) > rows:
            some = pairs.take(np.sort(rng.choice(len(pairs), rows, replace=False, shuffle=False)))
        some, _ = distinct(some)
        if len(some) < _FEW_ROWS:
            return np.nan
        p_value = _p_value(some.source, some.target, _TESTED[:1] if number == 0 else _TESTED)
        if p_value <= _CLEAR:
            break
    return p_value


def require_related(X: ArrayLike, Y: ArrayLike, caller: str, remedy: str) -> None:
    """Raise a ValueError where pairs cannot be told from shuffled ones."""
    p_value = relation_p_value(Pairs.of(X, Y, caller=caller))
    if p_value > INDISTINGUISHABLE:
        raise ValueError(f"{unrelated(caller, p_value)} {remedy}")


def warn_if_unrelated(pairs: Pairs, rng: np.random.Generator | None = None) -> None:
    """Warn where pairs cannot be told from shuffled ones."""
    p_value = relation_p_value(pairs, rng)
    if p_value > INDISTINGUISHABLE:
        warnings.warn(unrelated(pairs.caller, p_value), UnrelatedPairsWarning, stacklevel=3)


def warn_if_unclear(record: Mapping[str, float], caller: str) -> None:
    """Warn where a robust fit had too few pairs to tell which of them correspond."""
    if record["clear"] < _MOSTLY:
        warnings.warn(
            f"{caller}: a robust fit could tell of {record['clear']:.0%} of the pairs that count, and there are "
            f"{record['pairs']:.0f}, that they are nearer to each other than to others'. Wrong pairs may be among the "
            'rest. Give more pairs, four a dimension or more, or check these; method="rigid" suffers least.',
            UnrelatedPairsWarning,
            stacklevel=3,
        )


def unrelated(caller: str, p_value: float) -> str:
    """Return what is to be said of pairs with so high a p-value."""
    return (
        f"{caller}: the pairs cannot be told from shuffled ones (permutation test, p = {p_value:.2g}). Check that "
        "row i of both sides is the same thing: latalign.audit looks for rows that are shifted, swapped or out of "
        "order."
    )


def _factors(rows: Rows, count: int) -> tuple[Array, ...]:
    """Return factors F of the first so many kernels F Fᵀ of one side, centred, as `_TESTED` counts them."""
    x = rows.astype(np.float64)
    x /= np.abs(x).max() or 1.0  # so that no square overflows
    x = _drawn_in(x)
    x /= np.linalg.norm(x) or 1.0
    if count == 1:
        return (x,)
    deviation = x.std(axis=0)
    even = np.divide(x, deviation, out=np.zeros_like(x), where=deviation > 0)
    scores, values = _decomposed(_drawn_in(even))
    mean = values.mean() if len(values) else 1.0
    return x, scores * np.sqrt(values / (values + _PENALTY * mean)), scores


def _drawn_in(x: Array) -> Array:
    """Return centred rows, none of which is much farther from the middle than others."""
    ranked, last = np.sort(x, axis=0), len(x) - 1
    x = x - (ranked[last // 2] + ranked[len(x) // 2]) / 2  # the medians: many times faster than np.median
    length = np.linalg.norm(x, axis=1)
    limit = _DRAWN_IN * float(np.median(length))
    x = x * np.divide(limit, length, out=np.ones_like(length), where=length > limit)[:, None]
    return x - x.mean(axis=0)


def _decomposed(x: Array) -> tuple[Array, Array]:
    """Return the left singular vectors and the squared singular values of rows, within their rank."""
    tall = len(x) > x.shape[1]
    values, vectors = eigh(x.T @ x if tall else x @ x.T)
    rank = int(np.count_nonzero(values > 1e-12 * values[0])) if values[0] > 0 else 0
    values, vectors = values[:rank], vectors[:, :rank]
    return (x @ vectors / np.sqrt(values) if tall else vectors), values


def _p_value(source: Rows, target: Rows, tested: tuple[tuple[int, int], ...]) -> float:
    """Return the p-value of pairs, of several kernels the smallest times their number."""
    x = _factors(source, 1 + max(i for i, _ in tested))
    y = _factors(target, 1 + max(j for _, j in tested))
    found: list[float] = []
    for i, j in tested:
        statistic = float(np.sum((x[i].T @ y[j]) ** 2))
        tail = _tail(statistic, _traces(x[i]), _traces(y[j]), len(source))
        if not np.isnan(tail):
            found.append(tail)
    return min(1.0, len(found) * min(found)) if found else np.nan


def _traces(factor: Array) -> Traces:
    """Return the traces of a kernel F Fᵀ, its square and its cube, and the sum of its squared diagonal."""
    gram = factor.T @ factor if len(factor) > factor.shape[1] else factor @ factor.T
    diagonal = np.sum(factor**2, axis=1)
    cube = float(np.sum((gram @ gram) * gram))
    return float(gram.trace()), float(np.sum(gram**2)), cube, float(diagonal @ diagonal)


def _tail(statistic: float, a: Traces, b: Traces, n: int) -> float:
    """Return the probability of so large a tr(AB), or a larger one, over all orders; NaN where all are equal."""
    mean, variance, third = permutation_moments(a, b, n)
    if variance <= 1e-12 * mean**2:
        return np.nan
    skew = min(max(third / float(np.sqrt(variance)) ** 3, 0.0), 6.0)
    return pearson_tail((statistic - mean) / float(np.sqrt(variance)), skew)


def pearson_tail(z: float, skew: float) -> float:
    """Return the upper tail of the Pearson type III curve of mean 0 and variance 1: a gamma curve, shifted."""
    # Loaded only here: who applies a map has no need of scipy.special.
    from scipy.special import gammaincc, ndtr

    if skew < 1e-4:
        return float(ndtr(-z))
    return float(gammaincc(4 / skew**2, max((z + 2 / skew) * 2 / skew, 0.0)))


def permutation_moments(a: Traces, b: Traces, n: int) -> tuple[float, float, float]:
    """Return the mean, the variance and about the third central moment of tr(A P B Pᵀ) over all orders P.

    Parameters
    ----------
    a, b : tuple of float
        Of the centred kernels A and B the traces of the first three powers, and the sum of the squared
        diagonal.
    n : int
        The number of rows, more than three.
    """
    (a1, a2, a3, ad), (b1, b2, b3, bd) = a, b
    free = n - 1  # centred kernels have so many dimensions

    def spread(t1: float, t2: float) -> float:
        return free * t2 - t1**2

    def diagonal(t1: float, t2: float, squares: float) -> float:
        return n * (n + 1) * squares - free * (t1**2 + 2 * t2)

    variance = 2 * spread(a1, a2) * spread(b1, b2) / (free**2 * (n + 1) * (n - 2))
    variance += diagonal(a1, a2, ad) * diagonal(b1, b2, bd) / ((n + 1) * n * free * (n - 2) * (n - 3))

    def cubes(t1: float, t2: float, t3: float) -> float:
        return t3 - 3 * t2 * t1 / free + 2 * t1**3 / free**2

    third = 8 * cubes(a1, a2, a3) * cubes(b1, b2, b3) * free
    third /= (free - 1) * (free + 2) * max(free - 2, 1) * (free + 4)
    return a1 * b1 / free, variance, third
