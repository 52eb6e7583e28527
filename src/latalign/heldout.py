"""A fit that is measured on pairs which it did not see."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Pairs, as_generator
from latalign.bending import local_retrieval
from latalign.evaluation import Evaluation, evaluate
from latalign.evidence import IllConditionedWarning
from latalign.fitting import fit
from latalign.local_map import LocalMap, with_evidence
from latalign.maps import AffineMap
from latalign.querying import LOCAL
from latalign.relation import UnrelatedPairsWarning
from latalign.select import groups_of, held_out

# Below this many held-out rows the figures are too rough to tell one map from another.
_FEW_ROWS = 10


@final
@dataclass(frozen=True, slots=True)
class HeldoutFit:
    """A map that was fitted on all pairs, and how well its recipe does on pairs that it does not see.

    Attributes
    ----------
    map : AffineMap, or LocalMap of "local_retrieval"
        Its ``evidence.heldout`` holds the figures of `heldout.mapped`.
    heldout : Evaluation or None
        Of a second map, fitted by the same recipe on the other pairs; None where nothing was held out.
    """

    map: AffineMap | LocalMap
    heldout: Evaluation | None


def fit_heldout(
    X: ArrayLike,
    Y: ArrayLike,
    method: str = "auto",
    *,
    holdout: float = 0.2,
    random_state: int = 0,
    **options: Any,
) -> HeldoutFit:
    """Fit a map on all pairs, and measure its recipe on some that a second fit does not see.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
    method : str
        As in `latalign.fit`, or "local_retrieval": see `latalign.local_retrieval`.
    holdout : float
        The share of the pairs, drawn at random, that the second fit does not see; 0 leaves it out.
        Equal pairs are held out together or not at all, so it may be a little less.
    random_state : int
        Draws those pairs, and the folds of both fits.
    **options
        What else `latalign.fit` takes, or `latalign.local_retrieval`, but for sample weights.

    Returns
    -------
    HeldoutFit

    Raises
    ------
    TypeError, ValueError
        As in `latalign.fit`.

    Warns
    -----
    UserWarning
        If the held-out pairs are too few to say much, or none can be held out.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign.heldout import fit_heldout
    >>> X = np.random.default_rng(0).normal(size=(100, 3))
    >>> found = fit_heldout(X, 2 * X, "similarity")
    >>> found.heldout.rows, found.map.evidence.anchors, round(found.map.evidence.heldout["r2"], 6)
    (20, 100, 1.0)
    """
    check_holdout(holdout)
    if "sample_weight" in options:
        raise TypeError("fit_heldout takes no sample_weight; split the pairs and call fit and evaluate")
    pairs = Pairs.of(X, Y, caller="fit")
    recipe = partial(_recipe(method), random_state=random_state, **options)
    fitted = recipe(pairs.source, pairs.target)
    found = _on_heldout(pairs, recipe, holdout, random_state) if holdout else None
    return with_figures(fitted, found)


def _recipe(method: str) -> Callable[..., AffineMap | LocalMap]:
    return _local if method == LOCAL else partial(fit, method=method)


def _local(X: ArrayLike, Y: ArrayLike, **options: Any) -> LocalMap:
    options.pop("robust", None)
    if unknown := options.keys() - {"alpha", "scoring", "n_folds", "random_state"}:
        raise ValueError(f"{LOCAL} takes alpha, scoring and n_folds; it got {', '.join(sorted(unknown))}")
    return local_retrieval(X, Y, **options)


def check_holdout(holdout: float) -> None:
    """Raise a ValueError where a share is none."""
    if not 0 <= holdout < 1:
        raise ValueError(f"fit_heldout needs a share 0 ≤ holdout < 1; got {holdout}")


def with_figures(fitted: AffineMap | LocalMap, found: Evaluation | None) -> HeldoutFit:
    """Return a fit with its held-out figures, which the map keeps too."""
    if found is not None and fitted.evidence is not None:
        figures = {"rows": found.rows, **found.mapped.figures()}
        fitted = with_evidence(fitted, replace(fitted.evidence, heldout=figures))
    return HeldoutFit(fitted, found)


def _on_heldout(
    pairs: Pairs, recipe: Callable[..., AffineMap | LocalMap], holdout: float, random_state: int
) -> Evaluation | None:
    """Fit on some of the pairs and evaluate on the others; None, with a warning, where that cannot be."""
    rng = as_generator(random_state, "fit_heldout")
    held = held_out(groups_of(pairs), round(holdout * len(pairs)), rng)
    train, unseen = pairs.take(np.flatnonzero(~held)), pairs.take(np.flatnonzero(held))
    if min(len(train), len(unseen)) < 2:
        warnings.warn(
            f"no held-out error: {holdout:g} of {len(pairs)} rows leaves {len(unseen)} to test and "
            f"{len(train)} to fit, and each needs at least 2 (equal pairs stay together)",
            stacklevel=3,
        )
        return None
    if len(unseen) < _FEW_ROWS:
        warnings.warn(f"only {len(unseen)} rows are held out: their figures are rough", stacklevel=3)
    try:
        with warnings.catch_warnings():
            # The fit on all pairs has said it already.
            warnings.simplefilter("ignore", IllConditionedWarning)
            warnings.simplefilter("ignore", UnrelatedPairsWarning)
            second = recipe(train.source, train.target)
        return evaluate(second, unseen.source, unseen.target, random_state=random_state)
    except ValueError as error:
        warnings.warn(f"no held-out error: {error}", stacklevel=3)
        return None
