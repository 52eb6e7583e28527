"""Whether moments determine a map: not at all, or not in every direction."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from latalign._validation import require_spread
from latalign.evidence import IllConditionedWarning
from latalign.maps import AffineMap
from latalign.moments import Moments

# The relative error of the coefficients that is worth a warning.
_WARNED = 1e-2


def require_moments(folds: Sequence[object], caller: str) -> None:
    """Raise an error where there are no moments, or there is something else among them."""
    if not folds:
        raise ValueError(f"{caller} needs Moments; it got none")
    for fold in folds:
        if not isinstance(fold, Moments):
            raise TypeError(
                f"{caller} needs Moments, one argument a fold; got {type(fold).__name__}. "
                "A list of them is unpacked with a star: *folds."
            )


def check_solvable(moments: Moments, caller: str = "fit") -> None:
    """Raise a ValueError where the pairs determine no map at all."""
    if moments.count < 2:
        raise ValueError(
            f"{caller} needs at least 2 pairs of rows; got {moments.count}. One row says nothing of directions."
        )
    for side, moment in (("source X", moments), ("target Y", moments.swapped())):
        require_spread(moment.source_varies, moment.source_mean, moment.count, side, caller)


def warn_if_undetermined(fitted: AffineMap) -> None:
    """Warn where the anchors leave directions of an unregularised map undetermined, or nearly so."""
    evidence = fitted.evidence
    if evidence is None or (evidence.alpha or 0.0) > 0:
        return
    rigid = fitted.method in ("rigid", "orthogonal", "similarity")
    dims = min(fitted.matrix.shape) if rigid else fitted.dim_source
    missing = dims - evidence.rank
    if missing > 0:
        what = (
            "the rotation of the others is arbitrary"
            if rigid
            else "the map of minimum norm takes the others to zero"
        )
        message = (
            f"{fitted.method}: {evidence.anchors} anchors determine {evidence.rank} of {dims} directions; "
            f'{what}. Use method="ridge" (alpha="auto"), or more and more varied anchors.'
        )
    elif not rigid and evidence.error_bound > _WARNED:
        message = (
            f"{fitted.method}: the source rows have condition {evidence.condition:.1e}, so rounding alone may "
            f"change the coefficients by {evidence.error_bound:.0e} of their size. Predictions suffer less; "
            'use method="ridge" (alpha="auto") for coefficients that can be trusted, or float64 rows and '
            'precision="double".'
        )
    else:
        return
    warnings.warn(message, IllConditionedWarning, stacklevel=3)
