"""The estimators that may choose by a score of held-out rows, and so want the rows themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

from latalign._aligner import BaseAligner, SelectingAligner
from latalign._validation import Pairs, as_generator
from latalign.canonical import ALPHA, POWER
from latalign.fitting import check_call, fit_pairs
from latalign.maps import AffineMap
from latalign.moments import Grams, Precision
from latalign.select import Scoring
from latalign.solvable import warn_if_undetermined


@final
class RetrievalAligner(BaseAligner):
    """Carries queries into a space to be searched there (`solve.retrieval`); no regression.

    Parameters
    ----------
    alpha : float or "auto"
        The penalty. "auto" is chosen by held-out retrieval in `fit`; after `partial_fit` and in
        `fit_moments`, which have no rows to search, it is 0.3.
    power : float or "auto"
        That of the correlations; "auto" likewise, ½ where there are no rows.
    scoring : {"mrr", "recall@1", "recall@10", "cosine"}
        What "auto" is chosen by.
    n_folds : int, optional
        Folds of the cross-validation; as in `latalign.fit` unless given.
    precision : {"double", "fast"}
        The dtype in which rows are multiplied.
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, in `fit`.
    random_state : int or None
        Draws the folds.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Normalize, RetrievalAligner, metrics
    >>> X = Normalize()(np.random.default_rng(0).normal(size=(200, 16)))
    >>> aligner = RetrievalAligner().fit(X[:100], -X[:100])
    >>> metrics.recall_score(aligner.transform(X[100:]), -X[100:])
    1.0
    """

    _method = "retrieval"

    def __init__(
        self,
        *,
        alpha: float | Literal["auto"] = ALPHA,
        power: float | Literal["auto"] = POWER,
        scoring: Scoring = "mrr",
        n_folds: int | None = None,
        precision: Precision = "double",
        robust: bool = False,
        random_state: int | None = 0,
    ) -> None:
        self.alpha = alpha
        self.power = power
        self.scoring: Scoring = scoring
        self.n_folds = n_folds
        self.precision = precision
        self.robust = robust
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags

    def _solved(self, pairs: Pairs | None) -> AffineMap:
        if pairs is None:
            return super()._solved(pairs)
        return _fitted(self, pairs, **self._given())


@final
class AutoAligner(SelectingAligner):
    """Whichever method has the smallest cross-validated error (`latalign.fit` with ``method="auto"``).

    Parameters
    ----------
    scoring : {"mse", "cosine", "recall@1", "recall@10", "mrr"}
        What to select by. Only "mse" can be had from moments: `partial_fit` and `fit_moments` need it.
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
        n_folds: int | None = None,
        precision: Precision = "double",
        robust: bool = False,
        random_state: int | None = 0,
    ) -> None:
        self.scoring: Scoring = scoring
        self.n_folds = n_folds
        self.precision = precision
        self.robust = robust
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
        return _fitted(self, pairs)


def _fitted(aligner: AutoAligner | RetrievalAligner, pairs: Pairs, **given: Any) -> AffineMap:
    """Fit with the rows, which are scored."""
    check_call(aligner._method, given, aligner.scoring)
    fitted = fit_pairs(
        pairs,
        aligner._method,
        given,
        scoring=aligner.scoring,
        n_folds=aligner.n_folds,
        precision=aligner.precision,
        rng=as_generator(aligner.random_state, type(aligner).__name__),
    )
    warn_if_undetermined(fitted)
    return fitted
