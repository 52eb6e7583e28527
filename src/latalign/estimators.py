"""scikit-learn estimators: one short class a method over one base class.

Each is a regressor and a transformer at once: ``predict`` and ``transform`` both return rows in the
target's space, so an aligner works as a step of a ``Pipeline`` and as the last one.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, cast, final

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

from latalign._validation import Pairs, Rows
from latalign.fitting import fit, needs_folds, solve_folds, warn_if_undetermined
from latalign.maps import AffineMap
from latalign.methods import METHODS
from latalign.moments import Grams, Moments, Precision, moments_of_pairs
from latalign.select import Folds, Scoring

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
        """
        pairs = self._checked(X, y, sample_weight, reset=True, ensure_min_samples=2)
        self._start(pairs)
        self._add(pairs)
        self._map = self._solved(pairs)
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
        """
        first = not self.__sklearn_is_fitted__()
        pairs = self._checked(X, y, sample_weight, reset=first)
        if first:
            self._start(pairs)
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
        """
        if not folds:
            raise ValueError(f"{type(self).__name__}.fit_moments needs Moments; it got none")
        self._folds = folds
        self._flat = False
        self.n_features_in_ = folds[0].dim_source
        self._map = self._solved(None)
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
        """The fitted map."""
        self._require_fitted()
        if self._map is None:
            self._map = self._solved(None)
        return self._map

    @property
    def moments_(self) -> Moments:
        """The moments of all pairs that were seen."""
        self._require_fitted()
        return sum(self._folds[1:], self._folds[0])

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

    def _given(self) -> Mapping[str, Any]:
        """Return the hyperparameters of the method, as they are set."""
        return {name: getattr(self, name) for name in METHODS[self._method].parameters}

    def _grams(self) -> Grams:
        return METHODS[self._method].grams

    def _n_folds(self) -> int:
        """Return how many fold moments are kept for the choices that are left open."""
        return 1

    def _checked(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, *, reset: bool, **checks: Any
    ) -> Pairs:
        """Check the input as scikit-learn does, and note its width and whether y was 1-D."""
        checks = {"dtype": _DTYPES, "multi_output": True, "y_numeric": True, "reset": reset, **checks}
        x, target = cast("Any", validate_data)(self, X, y, **checks)
        self._flat = target.ndim == 1
        return Pairs.of(x, target.reshape(len(target), -1), sample_weight, caller=type(self).__name__)

    def _start(self, pairs: Pairs) -> None:
        dims = pairs.source.shape[1], pairs.target.shape[1]
        self._folds = (Moments.zero(*dims),) * self._n_folds()

    def _add(self, pairs: Pairs) -> None:
        """Add the moments of pairs, dealt out to the folds at random."""
        folds, seen = list(self._folds), sum(fold.count for fold in self._folds)
        if len(folds) > 1 and len(pairs) > 1:
            seed = getattr(self, "random_state", None)
            rng = np.random.default_rng(None if seed is None else [seed, seen])
            parts = Folds.of(pairs, len(folds), rng, precision=self.precision).moments
        else:
            parts = (moments_of_pairs(pairs, precision=self.precision, grams=self._grams()),)
        for k, part in enumerate(parts, start=seen):  # so that batches of one row go round
            folds[k % len(folds)] += part
        self._folds = tuple(folds)

    def _solved(self, pairs: Pairs | None) -> AffineMap:
        folds = [fold for fold in self._folds if fold.count] or list(self._folds[:1])
        fitted = solve_folds(self._method, folds, self._given(), pairs)
        warn_if_undetermined(fitted)
        return fitted


class _RigidFamily(BaseAligner):
    """The aligners whose maps keep angles: poor regressors where the truth is no rotation."""

    def __init__(self, *, reflection: bool = True, precision: Precision = "double") -> None:
        self.reflection = reflection
        self.precision = precision

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


@final
class RigidAligner(_RigidFamily):
    """Rotation and translation (`solve.rigid`): the paper's rigid map.

    Parameters
    ----------
    reflection : bool
        Whether a reflection is allowed.
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import RigidAligner
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> RigidAligner().fit(X, X[:, ::-1] + 1).map_.matrix.round(6) + 0.0
    array([[0., 0., 1.],
           [0., 1., 0.],
           [1., 0., 0.]])
    """

    _method = "rigid"


@final
class OrthogonalAligner(_RigidFamily):
    """Rotation about the origin (`solve.orthogonal`).

    Parameters
    ----------
    reflection : bool
        Whether a reflection is allowed.
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import OrthogonalAligner
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> OrthogonalAligner().fit(X, -X).map_.matrix.round(6) + 0.0
    array([[-1.,  0.],
           [ 0., -1.]])
    """

    _method = "orthogonal"


@final
class SimilarityAligner(_RigidFamily):
    """Rotation, one scale and translation (`solve.similarity`).

    Parameters
    ----------
    reflection : bool
        Whether a reflection is allowed.
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import SimilarityAligner
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> SimilarityAligner().fit(X, 3 * X + 1).map_.matrix.round(6) + 0.0
    array([[3., 0.],
           [0., 3.]])
    """

    _method = "similarity"


@final
class LinearAligner(BaseAligner):
    """Any matrix, no translation (`solve.linear`): the paper's linear map.

    Parameters
    ----------
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import LinearAligner
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> LinearAligner().fit(X, X @ [[1, 2], [3, 4]]).map_.matrix.round(6)
    array([[1., 2.],
           [3., 4.]])
    """

    _method = "linear"

    def __init__(self, *, precision: Precision = "double") -> None:
        self.precision = precision


@final
class AffineAligner(BaseAligner):
    """Any matrix and translation (`solve.affine`): least squares with an intercept.

    Parameters
    ----------
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import AffineAligner
    >>> X = np.random.default_rng(0).normal(size=(20, 2))
    >>> aligner = AffineAligner().fit(X, X @ [[1, 2], [3, 4]] + 5)
    >>> round(aligner.score(X, X @ [[1, 2], [3, 4]] + 5), 6)
    1.0
    """

    _method = "affine"

    def __init__(self, *, precision: Precision = "double") -> None:
        self.precision = precision


class _Selecting(BaseAligner):
    """The aligners that choose something by cross-validation, and so may keep fold moments."""

    n_folds: int
    random_state: int | None

    def _open(self) -> bool:
        """Tell whether there is something left to choose."""
        return needs_folds(self._method, self._given())

    def _n_folds(self) -> int:
        if self.n_folds < 2:
            raise ValueError(f"{type(self).__name__} needs n_folds of at least 2; got {self.n_folds}")
        return self.n_folds if self._open() else 1


@final
class RidgeAligner(_Selecting):
    """Least squares with a penalty toward zero, intercept free (`solve.ridge`).

    Parameters
    ----------
    alpha : float or "auto"
        The penalty. "auto" takes the one of 50 with the smallest exact leave-one-out error in `fit`,
        and with the smallest K-fold error after `partial_fit` and in `fit_moments`.
    n_folds : int
        Folds that `partial_fit` deals its rows out to.
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.
    random_state : int or None
        Deals the rows out.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import RidgeAligner
    >>> X = np.random.default_rng(0).normal(size=(20, 30))
    >>> aligner = RidgeAligner().fit(X, X[:, :2])
    >>> aligner.map_.evidence.alpha > 0
    True
    """

    _method = "ridge"

    def __init__(
        self,
        *,
        alpha: float | Literal["auto"] = "auto",
        n_folds: int = 5,
        precision: Precision = "double",
        random_state: int | None = 0,
    ) -> None:
        self.alpha = alpha
        self.n_folds = n_folds
        self.precision = precision
        self.random_state = random_state

    def _open(self) -> bool:
        return self.alpha == "auto"


@final
class LowRankAligner(_Selecting):
    """An affine map of limited rank (`solve.low_rank`): reduced-rank ridge regression.

    Parameters
    ----------
    rank : int or "auto"
        The rank; "auto" by K-fold cross-validation.
    alpha : float or "auto"
        A penalty on top; "auto" by generalized cross-validation.
    n_folds : int
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.
    random_state : int or None
        Draws the folds.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import LowRankAligner
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 6))
    >>> Y = X @ rng.normal(size=(6, 2)) @ rng.normal(size=(2, 5)) + 0.1 * rng.normal(size=(200, 5))
    >>> LowRankAligner().fit(X, Y).map_.evidence.target_rank
    2
    """

    _method = "low_rank"

    def __init__(
        self,
        *,
        rank: int | Literal["auto"] = "auto",
        alpha: float | Literal["auto"] = "auto",
        n_folds: int = 5,
        precision: Precision = "double",
        random_state: int | None = 0,
    ) -> None:
        self.rank = rank
        self.alpha = alpha
        self.n_folds = n_folds
        self.precision = precision
        self.random_state = random_state


@final
class AutoAligner(_Selecting):
    """Whichever method has the smallest cross-validated error (`latalign.fit` with ``method="auto"``).

    Parameters
    ----------
    scoring : {"mse", "cosine", "recall@1"}
        What to select by. Only "mse" can be had from moments: `partial_fit` and `fit_moments` need it.
    n_folds : int
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.
    random_state : int or None
        Draws the folds.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import AutoAligner
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> AutoAligner().fit(X, X[:, ::-1] + 1).map_.method
    'rigid'
    """

    _method = "auto"

    def __init__(
        self,
        *,
        scoring: Scoring = "mse",
        n_folds: int = 5,
        precision: Precision = "double",
        random_state: int | None = 0,
    ) -> None:
        self.scoring: Scoring = scoring
        self.n_folds = n_folds
        self.precision = precision
        self.random_state = random_state

    def _given(self) -> Mapping[str, Any]:
        return {}

    def _grams(self) -> Grams:
        return "source"

    def _solved(self, pairs: Pairs | None) -> AffineMap:
        if self.scoring == "mse":
            return super()._solved(pairs)
        if pairs is None:
            raise ValueError(
                f'AutoAligner(scoring="{self.scoring}") compares held-out rows and needs fit(X, y); '
                'moments give scoring="mse"'
            )
        return fit(
            pairs.source,
            pairs.target,
            sample_weight=pairs.weight,
            scoring=self.scoring,
            n_folds=self.n_folds,
            precision=self.precision,
            random_state=self.random_state,
        )
