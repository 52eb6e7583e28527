"""The permutation test of two kernels in closed form, in little memory.

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

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import NDArray

from latalign._linalg import eigh
from latalign._validation import Array, Pairs, Rows

_PENALTY = 0.1  # relative to the mean eigenvalue
# Rows beyond so many times the median length are drawn in: no single row decides.
_DRAWN_IN = 2.0
_PART_VALUES = 1 << 17  # 1 MiB
_ALL = slice(None)

Traces = tuple[float, float, float, float]
"""Of a kernel the traces of the first three powers, and the sum of the squared diagonal."""


def permutation_p_value(pairs: Pairs, index: NDArray[np.intp], *, thorough: bool) -> float:
    """Return how likely pairs that do not correspond explain as much of each other; NaN where all do.

    Parameters
    ----------
    pairs : Pairs
    index : array of int
        Which of them are looked at, more than three.
    thorough : bool
        Whether not only the rows as they are count, but also rows of columns of one spread: their widest
        directions cut down, and all their directions alike, which find what the widest have no part in.
        Of all p-values the smallest times their number is returned.
    """
    sources, targets = _Plain.of(pairs.source, index), _Plain.of(pairs.target, index)
    tails = [_tail(_explained(sources, targets), sources.traces, targets.traces, len(index))]
    if thorough:
        tails += _tails_of_even(sources, targets)
    found = [tail for tail in tails if not np.isnan(tail)]
    return min(1.0, len(found) * min(found)) if found else np.nan


@final
@dataclass(frozen=True, slots=True)
class _Side:
    """Rows of one side in float64, made anew part by part: thousands of them at once would take more than a fit.

    Attributes
    ----------
    shape : tuple of int
    cut : callable
        ``cut(rows, columns)``: any part of them.
    """

    shape: tuple[int, int]
    cut: Callable[[slice, slice], Array]

    @staticmethod
    def of(rows: Rows, index: NDArray[np.intp]) -> _Side:
        """Return the rows at `index`, scaled so that no square overflows."""
        shape = len(index), rows.shape[1]
        plain = _Side(shape, lambda some, columns: rows[:, columns][index[some]].astype(np.float64))
        largest = max(float(np.abs(plain.cut(part, _ALL)).max()) for part in plain.rows)
        return plain.divided(np.ones(shape[1]) * (largest or 1.0))

    @property
    def rows(self) -> list[slice]:
        """Parts of all rows."""
        return _parts(*self.shape)

    @property
    def columns(self) -> list[slice]:
        """Parts of all columns."""
        return _parts(*self.shape[::-1])

    @property
    def tall(self) -> bool:
        """Whether there are more rows than dimensions."""
        return self.shape[0] > self.shape[1]

    def divided(self, by: Array) -> _Side:
        """Return the columns divided by a number each."""
        return _Side(self.shape, lambda rows, columns: self.cut(rows, columns) / by[columns])

    def rows_with(self, other: _Side) -> list[slice]:
        """Parts of all rows of two sides, that are multiplied."""
        return _parts(self.shape[0], (self.shape[1] + other.shape[1]) // 2)

    def drawn_in(self) -> _Side:
        """Return centred rows, none of which is much farther from the middle than others."""
        middle = np.concatenate([_medians(self.cut(_ALL, part)) for part in self.columns])
        lengths = [np.linalg.norm(self.cut(part, _ALL) - middle, axis=1) for part in self.rows]
        length = np.concatenate(lengths)
        limit = _DRAWN_IN * float(np.median(length))
        kept = np.divide(limit, length, out=np.ones_like(length), where=length > limit)[:, None]

        def drawn(rows: slice, columns: slice) -> Array:
            part = self.cut(rows, columns) - middle[columns]
            part *= kept[rows]
            return part

        mean = np.array([drawn(part, _ALL).sum(axis=0) for part in self.rows]).sum(axis=0) / len(length)
        return _Side(self.shape, lambda rows, columns: drawn(rows, columns) - mean[columns])

    def squares(self) -> tuple[Array, Array]:
        """Return the sums of the squares of every row and of every column."""
        of_rows, of_columns = np.empty(self.shape[0]), np.zeros(self.shape[1])
        for part in self.rows:
            squares = self.cut(part, _ALL) ** 2
            of_rows[part] = squares.sum(axis=1)
            of_columns += squares.sum(axis=0)
        return of_rows, of_columns

    def gram(self) -> Array:
        """Return the smaller one of the two Gram matrices."""
        total = np.zeros((min(self.shape),) * 2)
        for part in self.rows if self.tall else self.columns:
            some = self.cut(part, _ALL) if self.tall else self.cut(_ALL, part)
            total += some.T @ some if self.tall else some @ some.T
        return total

    def directions(self) -> tuple[Array, Array]:
        """Return the squared singular values within the rank, and the right singular vectors."""
        values, vectors = eigh(self.gram())
        rank = int(np.count_nonzero(values > 1e-12 * values[0])) if values[0] > 0 else 0
        values, vectors = values[:rank], vectors[:, :rank]
        if self.tall:
            return values, vectors
        right = [self.cut(_ALL, part).T @ vectors for part in self.columns]
        return values, np.concatenate(right) / np.sqrt(values)


def _parts(count: int, length: int) -> list[slice]:
    """Return slices of so many rows, of that length, or of so many columns."""
    step = max(_PART_VALUES // length, 1)
    return [slice(start, min(start + step, count)) for start in range(0, count, step)]


def _medians(x: Array) -> Array:
    """Return the medians of columns: many times faster than np.median."""
    x = np.sort(x.T, axis=1)
    return (x[:, (x.shape[1] - 1) // 2] + x[:, x.shape[1] // 2]) / 2


@final
@dataclass(frozen=True, slots=True)
class _Plain:
    """Rows as they are, drawn in and of unit norm together.

    Attributes
    ----------
    side : _Side
    gram : array
        The smaller Gram matrix.
    traces : tuple of float
        Those of the kernel.
    deviation : (dim,) array
        Of every column.
    """

    side: _Side
    gram: Array
    traces: Traces
    deviation: Array

    @staticmethod
    def of(rows: Rows, index: NDArray[np.intp]) -> _Plain:
        side = _Side.of(rows, index).drawn_in()
        norm = np.sqrt(side.squares()[1].sum()) or 1.0
        side = side.divided(np.ones(side.shape[1]) * norm)
        of_rows, of_columns = side.squares()
        gram = side.gram()
        cube = float(np.sum((gram @ gram) * gram))
        traces = float(gram.trace()), float(np.sum(gram**2)), cube, float(of_rows @ of_rows)
        return _Plain(side, gram, traces, np.sqrt(of_columns / len(index)))

    def even(self) -> _Side:
        """Return the rows with columns of one spread; those of none are zero."""
        return self.side.divided(np.where(self.deviation > 0, self.deviation, np.inf)).drawn_in()


def _explained(source: _Plain, target: _Plain) -> float:
    """Return tr(A B) of the rows as they are."""
    x, y = source.side, target.side
    if not (x.tall or y.tall):
        return float(np.sum(source.gram * target.gram))
    cross = np.zeros((x.shape[1], y.shape[1]))
    for part in x.rows_with(y):
        cross += x.cut(part, _ALL).T @ y.cut(part, _ALL)
    return float(np.sum(cross**2))


def _tails_of_even(source: _Plain, target: _Plain) -> list[float]:
    """Return the p-values of even source kernels and of plain and even target kernels."""
    x, y, plain = source.even(), target.even(), target.side
    count = x.shape[0]
    x_values, x_vectors = x.directions()
    y_values, y_vectors = y.directions()
    # What each direction counts in a kernel: the widest cut down, and all alike.
    x_weights, y_weights = np.array([_cut_down(x_values), 1 / x_values]), np.array([_cut_down(y_values)])
    x_squares, y_squares = np.zeros(2), np.zeros(1)
    with_plain, with_even = np.zeros((len(x_values), y.shape[1])), np.zeros((len(x_values), len(y_values)))
    for part in x.rows_with(y):
        scores, aims = x.cut(part, _ALL) @ x_vectors, y.cut(part, _ALL) @ y_vectors
        with_plain += scores.T @ plain.cut(part, _ALL)
        with_even += scores.T @ aims
        x_squares += ((scores**2 @ x_weights.T) ** 2).sum(axis=0)
        y_squares += ((aims**2 @ y_weights.T) ** 2).sum(axis=0)
    x_traces = _traces(x_weights * x_values, x_squares)
    (y_traces,) = _traces(y_weights * y_values, y_squares)
    tails: list[float] = []
    for weights, traces in zip(x_weights, x_traces, strict=True):
        explained = float(weights @ (with_plain**2).sum(axis=1)), float(weights @ with_even**2 @ y_weights[0])
        tails.append(_tail(explained[0], traces, target.traces, count))
        tails.append(_tail(explained[1], traces, y_traces, count))
    return tails


def _cut_down(values: Array) -> Array:
    return 1 / (values + _PENALTY * (values.mean() if len(values) else 1.0))


def _traces(eigenvalues: Array, squares: Array) -> list[Traces]:
    """Return the traces of kernels of these eigenvalues (rows) and sums of the squared diagonal."""
    powers = ((eigenvalues**power).sum(axis=1) for power in (1, 2, 3))
    return [(float(a), float(b), float(c), float(d)) for a, b, c, d in zip(*powers, squares, strict=True)]


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
