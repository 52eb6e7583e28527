"""How far off a mapped row may be: a value that goes with a map, and into its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Array, as_rows, require_finite

_BLOCK_ROWS = 4096


@final
@dataclass(frozen=True, slots=True, eq=False)
class Uncertainty:
    """How far mapped rows are from where they belong, as rows tell that the map was not fitted to.

    The error of a mapped row x is taken to have the covariance s(x)² · `covariance`, where
    s(x)² = 1 − share + share · ‖(x − source_mean) @ factor‖² grows with the leverage of the row: how far it
    lies from the anchors, in the directions that they determine badly. ``radius`` needs no more than that:
    of held-out rows as many as it says were as near as that, whatever the distribution of the errors
    (locally weighted conformal prediction). `latalign.calibrate` makes one.

    Attributes
    ----------
    source_mean : (dim_source,) array
    factor : (dim_source, dim_source) array
        A root of the inverse of the penalized Gram matrix of the anchors, scaled to a median leverage of 1.
    share : (1,) array
        Which part of the squared error grows with the leverage, from 0 to 1.
    covariance : (dim_target, dim_target) array
        The second moments of the errors of held-out rows, divided by s(x)².
    scores : (m,) array
        ‖error‖ / s(x) of held-out rows, sorted, of m ≤ 1000 rows or at m equally spaced ranks.
    """

    source_mean: Array
    factor: Array
    share: Array
    covariance: Array
    scores: Array

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            values = np.array(getattr(self, name), dtype=np.float64, order="C")
            if not np.isfinite(values).all():
                raise ValueError(f"Uncertainty needs finite values; {name} has NaN or infinity")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        dim = len(self.source_mean) if self.source_mean.ndim == 1 else -1
        square = self.covariance.ndim == 2 and len(set(self.covariance.shape)) == 1
        if self.factor.shape != (dim, dim) or not square or self.share.shape != (1,) or self.scores.ndim != 1:
            raise ValueError(
                "Uncertainty needs arrays of shape (dim_source,), (dim_source, dim_source), (1,), "
                f"(dim_target, dim_target) and (m,); got {self.source_mean.shape}, {self.factor.shape}, "
                f"{self.share.shape}, {self.covariance.shape} and {self.scores.shape}"
            )
        if not 0 <= self.share[0] <= 1 or not len(self.scores) or np.diff(self.scores).min(initial=0) < 0:
            raise ValueError("Uncertainty needs a share from 0 to 1, and one sorted score or more")

    @property
    def dim_source(self) -> int:
        """The width of the rows it takes."""
        return len(self.source_mean)

    @property
    def dim_target(self) -> int:
        """The width of the mapped rows that it speaks of."""
        return len(self.covariance)

    def error(self, X: ArrayLike) -> Array:
        """Return the expected root-mean-square distance of mapped rows from their targets.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)
            The rows before they are mapped.

        Returns
        -------
        array of shape (n,)
            In the units of the target space.
        """
        return self.scales(X) * float(np.sqrt(self.covariance.trace()))

    def radius(self, X: ArrayLike, level: float = 0.9) -> Array:
        """Return the distance from a mapped row within which its target lies with a probability of `level`.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)
            The rows before they are mapped.
        level : float
            Above 0 and below 1.

        Returns
        -------
        array of shape (n,)
            In the units of the target space.

        Raises
        ------
        TypeError
            If the level is no number.
        ValueError
            If rows are not sound, or there were too few held-out rows for that level: n say nothing beyond
            n / (n + 1).
        """
        return self.scales(X) * self.quantile(level)

    def quantile(self, level: float = 0.9) -> float:
        """Return the score that held-out rows were below with a probability of `level`, between two ranks."""
        if isinstance(level, bool) or not isinstance(level, Real):
            raise TypeError(f"Uncertainty needs a number as the level; got {level!r}")
        if not 0 < level < 1:
            raise ValueError(f"Uncertainty needs a level above 0 and below 1; got {level!r}")
        rank = (len(self.scores) + 1) * level
        if rank > len(self.scores) + 1e-9:
            raise ValueError(
                f"Uncertainty: {len(self.scores)} held-out rows say nothing of a level of {level:g}, only up to "
                f"{len(self.scores) / (len(self.scores) + 1):.3g}. Calibrate on more pairs."
            )
        return float(np.interp(rank, np.arange(1, len(self.scores) + 1), self.scores))

    def scales(self, X: ArrayLike) -> Array:
        """Return s(x) of rows before they are mapped, shape (n,)."""
        rows = as_rows(X, "Uncertainty", dim=self.dim_source)
        require_finite(rows, "Uncertainty")
        out = np.empty(len(rows))
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            away = np.subtract(rows[part], self.source_mean, dtype=np.float64) @ self.factor
            out[part] = np.sqrt(1 - self.share + self.share * (away**2).sum(axis=1))
        return out

    def tensors(self) -> dict[str, Array]:
        """Return the arrays by their names in a map file."""
        return {name: getattr(self, name) for name in TENSORS}


TENSORS: Mapping[str, tuple[str, ...]] = {
    "source_mean": ("source",),
    "factor": ("source", "source"),
    "share": ("one",),
    "covariance": ("target", "target"),
    "scores": ("scores",),
}
"""The arrays of an `Uncertainty` and their axes, as a map file has them."""
