"""What a ridge regression makes of each of its rows when it is fitted without that row: no refit.

References
----------
D. M. Allen, The relationship between variable selection and data augmentation and a method for prediction,
Technometrics 16 (1974) 125-127.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from latalign._linalg import EPS
from latalign._validation import Array, Pairs
from latalign.moments import Moments, moments_of_pairs
from latalign.paths import Spectrum, best_alpha


@final
@dataclass(frozen=True, slots=True, eq=False)
class LeaveOneOut:
    """A ridge regression that can leave out any of its rows, translation refitted.

    Attributes
    ----------
    moments : Moments
        Of the rows that it is fitted to: about the origin for a map without translation.
    spectrum : Spectrum
    alpha : float
    centred : bool
        Whether there is a translation.
    """

    moments: Moments
    spectrum: Spectrum
    alpha: float
    centred: bool = True

    @staticmethod
    def of(pairs: Pairs, alpha: float | None = None, *, centred: bool = True) -> LeaveOneOut:
        """Fit to pairs, with the penalty of the smallest leave-one-out error unless it is given."""
        about_means = moments_of_pairs(pairs, grams="source")
        moments = about_means if centred else about_means.uncentered()
        spectrum = Spectrum.of_rows(pairs, moments) if centred else Spectrum.of(moments, centred=False)
        if alpha is None:
            alpha = best_alpha(moments, pairs, spectrum)[0]
        return LeaveOneOut(moments, spectrum, alpha, centred)

    def without(self, pairs: Pairs) -> tuple[Array, Array, Array]:
        """Return what rows are mapped to by the fit without them, how far that is off, and their leverage.

        Parameters
        ----------
        pairs : Pairs
            Their weights are what each counts in the fit: zero for one that is not in it.

        Returns
        -------
        mapped, residual : (n, dim_target) arrays
            Together they are the target.
        leverage : (n,) array
            Of the row in the fit to the others.
        """
        z = np.subtract(pairs.source, self.moments.source_mean, dtype=np.float64) @ self.spectrum.vectors
        inverse = 1 / (self.spectrum.values + self.alpha)
        mapped = z @ (self.spectrum.cross * inverse[:, None]) + self.moments.target_mean
        leverage = z**2 @ inverse + (1 / self.moments.weight if self.centred else 0.0)
        weight = pairs.weights
        kept = np.maximum(1 - weight * leverage, EPS)
        residual = (pairs.target - mapped) / kept[:, None]
        return pairs.target - residual, residual, leverage / kept
