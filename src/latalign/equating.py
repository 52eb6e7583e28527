"""Scores of mapped queries on the scale of the target model's own, so that old thresholds keep their meaning.

References
----------
M. J. Kolen, R. L. Brennan, Test Equating, Scaling, and Linking, 3rd edition, Springer 2014 (chapter 2,
equipercentile equating).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._validation import Array, Rows, as_rows, require_finite
from latalign.maps import Normalize

# Thresholds lie far out, among the few highest scores: half of the levels are about the middle, and half
# come closer and closer to 1.
_LEVELS = 200
_QUERIES, _SEARCHED_ROWS = 1000, 5000
_LEAST_SPREAD = 1e-7  # of cosines: what they differ by less is rounding


@final
@dataclass(frozen=True, slots=True, eq=False)
class ScoreCalibration:
    """Monotone functions, one for each mapped query, from its cosines to those of the target model's own queries.

    Attributes
    ----------
    mean : (dim,) array
    covariance : (dim, dim) array
        Of stored rows of length one. With them the cosines of a query f of length one have the mean
        f · mean and the variance f · covariance f.
    mapped, native : (levels,) array
        Scores that are exceeded equally often: those of mapped queries in standard deviations from their
        query's mean, and native ones as they are.
    """

    mean: Array
    covariance: Array
    mapped: Array
    native: Array

    def __call__(self, scores: ArrayLike, queries: ArrayLike) -> Array:
        """Return cosines of mapped queries as native ones; beyond what was seen, the difference is kept.

        Parameters
        ----------
        scores : array-like of shape (n, k)
            Cosines of each mapped query with some stored rows.
        queries : array-like of shape (n, dim)
            The mapped queries, of any length but zero.

        Returns
        -------
        (n, k) array

        Raises
        ------
        TypeError
            If the arrays do not hold real numbers.
        ValueError
            If the queries are not as wide as the stored rows, or zero, values are not finite, or there is not
            a row of scores for each query.
        """
        level, spread = self._scales(queries)
        values = as_rows(scores, "ScoreCalibration: scores")
        if len(values) != len(level):
            raise ValueError(
                "ScoreCalibration needs a row of scores for each query; "
                f"got scores of shape {values.shape} and {len(level)} queries"
            )
        require_finite(values, "ScoreCalibration: scores")
        low, high = (level + spread * end for end in self.mapped[[0, -1]])
        inside = np.clip(values, low, high)
        return np.interp((inside - level) / spread, self.mapped, self.native) + (values - inside)

    def inverse(self, threshold: float, queries: ArrayLike) -> Array:
        """Return for a native threshold the one of each mapped query that is exceeded equally often.

        Parameters
        ----------
        threshold : float
        queries : array-like of shape (n, dim)
            The mapped queries, of any length but zero.

        Returns
        -------
        (n,) array

        Raises
        ------
        TypeError
            If the threshold or the queries are not real numbers.
        ValueError
            If the queries are not as wide as the stored rows, or zero, or values are not finite.
        """
        if not np.isfinite(threshold):
            raise ValueError(f"ScoreCalibration needs a finite threshold; got {threshold}")
        level, spread = self._scales(queries)
        inside = np.clip(threshold, self.native[0], self.native[-1])
        standard = np.interp(inside, self.native, self.mapped)
        return (level + spread * standard)[:, 0] + (threshold - inside)

    def _scales(self, queries: ArrayLike) -> tuple[Array, Array]:
        """Return the mean and the standard deviation of the cosines of each query, as columns."""
        rows = as_rows(queries, "ScoreCalibration: queries")
        if rows.shape[1] != len(self.mean):
            raise ValueError(
                f"ScoreCalibration needs queries of {len(self.mean)} dimensions, as the stored rows have; "
                f"got {rows.shape[1]}. Give the mapped queries, not those before the map."
            )
        require_finite(rows, "ScoreCalibration: queries")
        _require_directions(rows, "ScoreCalibration: queries")
        return _scale(Normalize()(rows.astype(np.float64)), self.mean, self.covariance)


def calibrate_scores(
    mapped: ArrayLike, native: ArrayLike, index: ArrayLike | None = None
) -> ScoreCalibration:
    """Match the cosines of mapped queries to those that the target model's own queries would have.

    Cosines of mapped rows are other numbers than those between rows of one model, and those of each mapped
    query lie about a level of its own, which says nothing of what it looks for. So they are counted in
    standard deviations from the mean of their query, both from the moments of the stored rows, and then
    compared with native cosines at the same share of pairs. A threshold afterwards lets through as many
    stored rows as it did before, all queries together. It does not say that those are as often the right
    ones.

    Parameters
    ----------
    mapped : array-like of shape (n, dim)
        Mapped rows of pairs that the map was not fitted on. They should be like the queries.
    native : array-like of shape (n, dim)
        The target rows of the same pairs.
    index : array-like of shape (m, dim), optional
        Stored rows, which the moments are of; better the index itself than other rows. Unless given, the
        native rows are, each left out for its own query. Of more than
        1,000 queries and 5,000 stored rows so many are taken, evenly spread.

    Returns
    -------
    ScoreCalibration

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If shapes do not fit, values are not finite, a mapped or native row is zero (it has no cosine; a stored
        one has 0 with all), or there is no pair of a query and a stored row.

    Examples
    --------
    A threshold of each mapped query, and as many rows above it as above 0.5 natively:

    >>> import numpy as np
    >>> from latalign import Normalize, calibrate_scores
    >>> rng = np.random.default_rng(0)
    >>> native, index = rng.normal(size=(400, 8)), rng.normal(size=(500, 8)) + 1
    >>> mapped = native + rng.normal(size=(400, 8))
    >>> calibrated = calibrate_scores(mapped[:200], native[:200], index)
    >>> stored = Normalize()(index).T
    >>> above = Normalize()(mapped[200:]) @ stored > calibrated.inverse(0.5, mapped[200:])[:, None]
    >>> natively = Normalize()(native[200:]) @ stored > 0.5
    >>> bool(abs(above.mean() / natively.mean() - 1) < 0.1)
    True
    """
    x, y = as_rows(mapped, "calibrate_scores: mapped"), as_rows(native, "calibrate_scores: native")
    stored = y if index is None else as_rows(index, "calibrate_scores: index")
    if x.shape != y.shape or stored.shape[1] != y.shape[1]:
        raise ValueError(
            "calibrate_scores needs mapped and native rows of the same pairs and an index of the same width; "
            f"got shapes {x.shape}, {y.shape} and {stored.shape}"
        )
    if index is None and len(y) < 2:
        raise ValueError(f"calibrate_scores needs an index, or at least 2 pairs; got {len(y)} pairs")
    for name, rows in (("mapped", x), ("native", y), ("index", stored)):
        require_finite(rows, f"calibrate_scores: {name}")
        if name != "index":
            _require_directions(rows, f"calibrate_scores: {name}")
    queries, rows = _spread(len(x), _QUERIES), _spread(len(stored), _SEARCHED_ROWS)
    kept = np.ones((len(queries), len(rows)), np.bool_)
    if index is None:
        kept = queries[:, None] != rows
    levels = np.concatenate(
        [
            np.linspace(0, 0.5, _LEVELS // 2, endpoint=False),
            1 - np.geomspace(0.5, 1 / kept.sum(), _LEVELS // 2 - 1),
            [1.0],
        ]
    )
    sample, asked, own = (
        Normalize()(side[which].astype(np.float64))
        for side, which in ((stored, rows), (x, queries), (y, queries))
    )
    mean, covariance = sample.mean(axis=0), np.atleast_2d(np.cov(sample, rowvar=False, bias=True))
    level, spread = _scale(asked, mean, covariance)
    scores = (asked @ sample.T - level) / spread, own @ sample.T
    return ScoreCalibration(mean, covariance, *(np.quantile(values[kept], levels) for values in scores))


def _scale(units: Array, mean: Array, covariance: Array) -> tuple[Array, Array]:
    """Return the mean and the standard deviation of the cosines of rows of length one, as columns.

    No deviation is less than rounding, as it would be where all stored rows have one cosine with a query.
    """
    variance = ((units @ covariance) * units).sum(axis=1, keepdims=True)
    return (units @ mean)[:, None], np.sqrt(np.maximum(variance, _LEAST_SPREAD**2))


def _require_directions(rows: Rows, name: str) -> None:
    """Raise a ValueError that names the rows which are zero, if there are any."""
    zero = np.flatnonzero(~rows.any(axis=1))
    if len(zero):
        first = ", ".join(map(str, zero[:5])) + (", …" if len(zero) > 5 else "")
        raise ValueError(
            f"{name} needs rows that have a direction; {len(zero)} of {len(rows)} are zero "
            f"(rows {first}), and have no cosine. Leave them out."
        )


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """Return the numbers of rows evenly spread, `most` of them at most."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))
