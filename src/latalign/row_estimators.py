"""The estimators that may choose by a score of held-out rows, and so want the rows themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

from latalign._aligner import SelectingAligner
from latalign._validation import Pairs
from latalign.canonical import ALPHA, POWER
from latalign.fitting import check_call, choose_by_rows, score_of_rows
from latalign.maps import AffineMap
from latalign.moments import Grams, Precision
from latalign.select import Folds, Scoring
from latalign.solvable import warn_if_undetermined


class _ScoredByRows(SelectingAligner):
    """The aligners that may choose by a score of held-out rows, which no moments tell."""

    scoring: Scoring

    def _by_rows(self) -> Scoring | None:
        return score_of_rows(self._method, self._given(), self.scoring)

    def _open(self) -> bool:
        return self._by_rows() is not None or super()._open()

    def _grams(self) -> Grams:
        if self._by_rows() is not None:
            return "both"
        return "source" if self._method == "auto" else super()._grams()

    def _solved(self, pairs: Pairs | None, folds: Folds | None) -> AffineMap:
        given, by_rows = self._given(), self._by_rows()
        check_call(self._method, given, self.scoring)
        if by_rows is None or folds is None:
            return super()._solved(pairs, folds)
        fitted = choose_by_rows(folds, by_rows, self._method, given, pairs)
        warn_if_undetermined(fitted)
        return fitted


@final
class RetrievalAligner(_ScoredByRows):
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


@final
class AutoAligner(_ScoredByRows):
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

    def _solved(self, pairs: Pairs | None, folds: Folds | None) -> AffineMap:
        if pairs is None and self.scoring != "mse":
            raise ValueError(
                f'AutoAligner(scoring="{self.scoring}") compares held-out rows and needs fit(X, y); '
                'moments give scoring="mse"'
            )
        return super()._solved(pairs, folds)
