"""What all scikit-learn estimators of the house share.

Each is a regressor and a transformer at once: ``predict`` and ``transform`` both return rows in the
target's space, so an aligner works as a step of a ``Pipeline`` and as the last one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import validate_data

from latalign._validation import Pairs, Rows, require_folds
from latalign.fitting import needs_folds, solve_folds, with_robust
from latalign.maps import AffineMap
from latalign.methods import METHODS
from latalign.moments import Grams, Moments, Precision, moments_of_pairs, summed
from latalign.robust import downweighted
from latalign.select import Folds, default_folds
from latalign.solvable import require_moments, warn_if_undetermined

_STREAM_FOLDS = 5
_DTYPES = [np.float64, np.float32, np.float16]


class BaseAligner(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    MultiOutputMixin,
    RegressorMixin,
    BaseEstimator,
    ABC,
):
    """What all aligners share. Abstract: use one of the classes below.

    They do not look whether the pairs are related, as `latalign.fit` does: a grid search would say it a hundred times.
    `latalign.audit` tells, and a score near zero.

    Attributes
    ----------
    map_ : AffineMap
        The fitted map, with its evidence.
    moments_ : Moments
        What it was solved from.
    n_features_in_ : int
        The number of source dimensions.
    """

    _method: ClassVar[str]
    precision: Precision
    robust: bool

    @abstractmethod
    def __init__(self) -> None: ...

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to rows that correspond.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)
        y : array-like of shape (n, dim_target) or (n,)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As in `latalign.fit`.
        """
        pairs, flat = self._checked(X, y, sample_weight, reset=True, ensure_min_samples=2)
        plain = self._method in METHODS and METHODS[self._method].plain
        pairs, record = downweighted(pairs, plain=plain) if self.robust else (pairs, None)
        self._start(pairs, flat, whole=True)
        folds = self._add(pairs)
        fitted = self._solved(pairs, folds)
        self._map = fitted if record is None else with_robust(fitted, record)
        return self

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Add a batch of pairs to what was seen before. The map is solved when it is asked for.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)
        y : array-like of shape (n, dim_target) or (n,)
        sample_weight : array-like of shape (n,), optional

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If the batch is not sound or of other widths. What was seen before stays. And where the aligner
            is robust: that takes all pairs at once.
        """
        self._require_not_robust("partial_fit")
        first = not self.__sklearn_is_fitted__()
        pairs, flat = self._checked(X, y, sample_weight, reset=first)
        if first:
            self._start(pairs, flat, whole=False)
        self._add(pairs)
        self._map = None
        return self

    def fit_moments(self, *folds: Moments) -> Self:
        """Fit to moments alone; several make cross-validated choices possible (see `latalign.fit_moments`).

        Parameters
        ----------
        *folds : Moments
            Moments of disjoint sets of pairs.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As in `latalign.fit_moments`.
        """
        require_moments(folds, f"{type(self).__name__}.fit_moments")
        self._require_not_robust("fit_moments")
        self._folds, self._map = folds, None
        self._flat = False
        self.n_features_in_ = folds[0].dim_source
        self._map = self._solved(None, None)
        return self

    def transform(self, X: ArrayLike) -> Rows:
        """Map rows into the target's space.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)

        Returns
        -------
        array of shape (n, dim_target)
        """
        fitted = self.map_
        return fitted(cast("Any", validate_data)(self, X, dtype=_DTYPES, reset=False))

    def predict(self, X: ArrayLike) -> Rows:
        """Map rows into the target's space; of shape (n,) where y was.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)

        Returns
        -------
        array of shape (n, dim_target) or (n,)
        """
        rows = self.transform(X)
        return rows[:, 0] if self._flat else rows

    def inverse_transform(self, Y: ArrayLike) -> Rows:
        """Map rows of the target's space back.

        Parameters
        ----------
        Y : array-like of shape (n, dim_target)

        Returns
        -------
        array of shape (n, dim_source)

        Raises
        ------
        ValueError
            If the map has no inverse (see `AffineMap.inverse`).
        """
        return self.map_.inverse()(Y)

    @property
    def map_(self) -> AffineMap:
        """The fitted map; a ValueError where the pairs that were seen determine none."""
        self._require_fitted()
        if self._map is None:
            self._map = self._solved(None, None)
        return self._map

    @property
    def moments_(self) -> Moments:
        """The moments of all pairs that were seen."""
        self._require_fitted()
        return summed(self._folds)

    @property
    def _n_features_out(self) -> int:
        return self._folds[0].dim_target

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_folds")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def _require_fitted(self) -> None:
        if not self.__sklearn_is_fitted__():
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit', 'partial_fit' or "
                "'fit_moments' first."
            )

    def _require_not_robust(self, caller: str) -> None:
        if self.robust:
            raise ValueError(
                f"{type(self).__name__}(robust=True).{caller}: a robust fit weighs each pair by its error, so it "
                "needs all rows at once: call fit(X, y). Moments do not know their rows; give robust=False."
            )

    def _given(self) -> Mapping[str, Any]:
        """Return the hyperparameters of the method, as they are set."""
        return {name: getattr(self, name) for name in METHODS[self._method].parameters}

    def _grams(self) -> Grams:
        return METHODS[self._method].grams

    def _n_folds(self, pairs: Pairs, whole: bool) -> int:
        """Return how many fold moments are kept for the choices that are left open.

        The pairs are all there will be if `whole`, else the first of a stream.
        """
        return 1

    def _checked(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool, **checks: Any
    ) -> tuple[Pairs, bool]:
        """Check the input as scikit-learn does, and tell whether y was 1-D; its width is noted if `reset`."""
        checks = {"dtype": _DTYPES, "multi_output": True, "y_numeric": True, "reset": reset, **checks}
        x, target = cast("Any", validate_data)(self, X, y, **checks)
        pairs = Pairs.of(x, target.reshape(len(target), -1), sample_weight, caller=type(self).__name__)
        return pairs, target.ndim == 1

    def _start(self, pairs: Pairs, flat: bool, *, whole: bool) -> None:
        dims = pairs.source.shape[1], pairs.target.shape[1]
        self._folds = (Moments.zero(*dims),) * self._n_folds(pairs, whole)
        self._flat = flat
        self._map = None  # that of an earlier fit is none of these pairs, also where this one fails

    def _add(self, pairs: Pairs) -> Folds | None:
        """Add the moments of pairs, dealt out to the folds at random; return those that were made of them."""
        made: Folds | None = None
        folds, seen = list(self._folds), sum(fold.count for fold in self._folds)
        if len(folds) > 1 and len(pairs) > 1:
            seed = getattr(self, "random_state", None)
            rng = np.random.default_rng(None if seed is None else [seed, seen])
            made = Folds.of(pairs, len(folds), rng, precision=self.precision, grams=self._grams())
            parts = made.moments
        else:
            parts = (moments_of_pairs(pairs, precision=self.precision, grams=self._grams()),)
        for k, part in enumerate(parts, start=seen):  # so that batches of one row go round
            folds[k % len(folds)] += part
        self._folds = tuple(folds)
        return made

    def _solved(self, pairs: Pairs | None, folds: Folds | None) -> AffineMap:
        """Solve from the moments; `pairs` are all rows and `folds` their folds, where they are in reach."""
        fitted = solve_folds(self._method, self._folds, self._given(), pairs)
        warn_if_undetermined(fitted)
        return fitted


class SelectingAligner(BaseAligner):
    """The aligners that choose something by cross-validation, and so may keep fold moments."""

    n_folds: int | None
    random_state: int | None

    def _open(self) -> bool:
        """Tell whether there is something left to choose."""
        return needs_folds(self._method, self._given())

    def _n_folds(self, pairs: Pairs, whole: bool) -> int:
        if self.n_folds is not None:
            require_folds(self.n_folds, type(self).__name__)
        if not self._open():
            return 1
        if self.n_folds is not None:
            return self.n_folds
        # How many pairs a stream will have is not known at its first batch.
        return default_folds(pairs) if whole else _STREAM_FOLDS
