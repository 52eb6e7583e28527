"""scikit-learn estimators: one short class a method over one base class."""

from __future__ import annotations

from typing import Any, Literal, final

from latalign._aligner import BaseAligner, SelectingAligner
from latalign.moments import Precision


class _RigidFamily(BaseAligner):
    """The aligners whose maps keep angles: poor regressors where the truth is no rotation."""

    def __init__(
        self, *, reflection: bool = True, precision: Precision = "double", robust: bool = False
    ) -> None:
        self.reflection = reflection
        self.precision = precision
        self.robust = robust

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
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, in `fit`.

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
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, in `fit`.

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
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, in `fit`.

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
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, in `fit`.

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

    def __init__(self, *, precision: Precision = "double", robust: bool = False) -> None:
        self.precision = precision
        self.robust = robust


@final
class AffineAligner(BaseAligner):
    """Any matrix and translation (`solve.affine`): least squares with an intercept.

    Parameters
    ----------
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, in `fit`.

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

    def __init__(self, *, precision: Precision = "double", robust: bool = False) -> None:
        self.precision = precision
        self.robust = robust


@final
class RidgeAligner(SelectingAligner):
    """Least squares with a penalty toward zero, intercept free (`solve.ridge`).

    Parameters
    ----------
    alpha : float or "auto"
        The penalty. "auto" takes the one of 50 with the smallest exact leave-one-out error in `fit`,
        and with the smallest K-fold error after `partial_fit` and in `fit_moments`.
    n_folds : int, optional
        Folds that `partial_fit` deals its rows out to; 5 unless given.
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, in `fit`.
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
        n_folds: int | None = None,
        precision: Precision = "double",
        robust: bool = False,
        random_state: int | None = 0,
    ) -> None:
        self.alpha = alpha
        self.n_folds = n_folds
        self.precision = precision
        self.robust = robust
        self.random_state = random_state

    def _open(self) -> bool:
        return self.alpha == "auto"


@final
class ShrunkAligner(SelectingAligner):
    """Least squares drawn to the best similarity map (`solve.shrunk`), intercept free.

    Parameters
    ----------
    alpha : float or "auto"
        The penalty. "auto" takes the one of 52 with the smallest K-fold error, zero and infinity among
        them, and the scale of the similarity map with it.
    n_folds : int, optional
        Folds of the cross-validation; as in `latalign.fit` unless given, and 5 after `partial_fit`.
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, in `fit`.
    random_state : int or None
        Draws the folds.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import ShrunkAligner
    >>> X = np.random.default_rng(0).normal(size=(20, 3))
    >>> ShrunkAligner().fit(X, 2 * X + 1).map_.matrix.round(6) + 0.0
    array([[2., 0., 0.],
           [0., 2., 0.],
           [0., 0., 2.]])
    """

    _method = "shrunk"

    def __init__(
        self,
        *,
        alpha: float | Literal["auto"] = "auto",
        n_folds: int | None = None,
        precision: Precision = "double",
        robust: bool = False,
        random_state: int | None = 0,
    ) -> None:
        self.alpha = alpha
        self.n_folds = n_folds
        self.precision = precision
        self.robust = robust
        self.random_state = random_state


@final
class LowRankAligner(SelectingAligner):
    """An affine map of limited rank (`solve.low_rank`): reduced-rank ridge regression.

    Parameters
    ----------
    rank : int or "auto"
        The rank; "auto" by K-fold cross-validation.
    alpha : float or "auto"
        A penalty on top; "auto" takes that of `RidgeAligner`.
    n_folds : int, optional
        Folds of the cross-validation; as in `latalign.fit` unless given, and 5 after `partial_fit`.
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, in `fit`.
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
        n_folds: int | None = None,
        precision: Precision = "double",
        robust: bool = False,
        random_state: int | None = 0,
    ) -> None:
        self.rank = rank
        self.alpha = alpha
        self.n_folds = n_folds
        self.precision = precision
        self.robust = robust
        self.random_state = random_state
