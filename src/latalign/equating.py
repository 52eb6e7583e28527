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


@final
@dataclass(frozen=True, slots=True, eq=False)
class ScoreCalibration:
    """A monotone function from the scores of mapped queries to those of the target model's own queries.

    Attributes
    ----------
    mapped, native : (levels,) array
        Scores that are exceeded equally often.
    """

    mapped: Array
    native: Array

    def __call__(self, scores: ArrayLike) -> Array:
        """Return scores of mapped queries as native ones; beyond what was seen, the difference is kept."""
        values = np.asarray(scores, dtype=np.float64)
        beyond = values - np.clip(values, self.mapped[0], self.mapped[-1])
        return np.interp(values, self.mapped, self.native) + beyond

    def inverse(self, thresholds: ArrayLike) -> Array:
        """Return for native thresholds those that mapped queries exceed equally often."""
        return ScoreCalibration(self.native, self.mapped)(thresholds)


def calibrate_scores(
    mapped: ArrayLike, native: ArrayLike, index: ArrayLike | None = None
) -> ScoreCalibration:
    """Match the cosines of mapped queries to those that the target model's own queries would have.

    Cosines of mapped rows are smaller, and otherwise spread, than those between rows of one model. A
    threshold that was set on the latter lets too little through. Here both are compared at the same
    share of pairs: after it, a threshold lets through as many stored rows as it did before, all queries
    together. It does not say that those are as often the right ones. Where the scores of each query lie
    about a level of its own, and close to it, no function of a score alone can tell which those are.

    Parameters
    ----------
    mapped : array-like of shape (n, dim)
        Mapped rows of pairs that the map was not fitted on.
    native : array-like of shape (n, dim)
        The target rows of the same pairs.
    index : array-like of shape (m, dim), optional
        Stored rows. Unless given, the native rows are, each left out for its own query. Of more than
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
    >>> import numpy as np
    >>> from latalign import calibrate_scores
    >>> rng = np.random.default_rng(0)
    >>> native, index = rng.normal(size=(200, 8)), rng.normal(size=(500, 8))
    >>> calibrated = calibrate_scores(native + rng.normal(size=(200, 8)), native, index)
    >>> round(float(calibrated.inverse(0.5)), 1)
    0.5
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
            _require_directions(rows, name)
    queries, rows = _spread(len(x), _QUERIES), _spread(len(stored), _SEARCHED_ROWS)
    kept = np.ones((len(queries), len(rows)), np.bool_)
    if index is None:
        kept = queries[:, None] != rows
    against = Normalize()(stored[rows].astype(np.float64)).T
    levels = np.concatenate(
        [
            np.linspace(0, 0.5, _LEVELS // 2, endpoint=False),
            1 - np.geomspace(0.5, 1 / kept.sum(), _LEVELS // 2 - 1),
            [1.0],
        ]
    )
    scores = (Normalize()(side[queries].astype(np.float64)) @ against for side in (x, y))
    return ScoreCalibration(*(np.quantile(values[kept], levels) for values in scores))


def _require_directions(rows: Rows, name: str) -> None:
    """Raise a ValueError that names the rows which are zero, if there are any."""
    zero = np.flatnonzero(~rows.any(axis=1))
    if len(zero):
        first = ", ".join(map(str, zero[:5])) + (", …" if len(zero) > 5 else "")
        raise ValueError(
            f"calibrate_scores: {name} needs rows that have a direction; {len(zero)} of {len(rows)} are zero "
            f"(rows {first}), and have no cosine. Leave them out."
        )


def _spread(count: int, most: int) -> NDArray[np.intp]:
    """Return the numbers of rows evenly spread, `most` of them at most."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.intp))
