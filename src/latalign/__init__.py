"""Align the latent spaces of independently trained networks, directly and in closed form.

Quick start::

    import latalign

    found = latalign.fit(X_anchors, Y_anchors)   # rows that correspond
    found.method, found.evidence                 # what was chosen, and why
    Y_like = found(X)                            # all other rows, in the target's space
    found.save("old-to-new.safetensors")

The paper: Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latalign import metrics, solve
from latalign._version import __version__
from latalign.anchors import pair_by_id, random_anchors
from latalign.evidence import Candidate, Evidence, IllConditionedWarning
from latalign.fitting import fit, fit_moments
from latalign.io.mapfile import MapHeader, read_header
from latalign.maps import AffineMap, Chain, Map, Normalize
from latalign.methods import METHODS
from latalign.moments import Moments, accumulate
from latalign.select import cross_validate

if TYPE_CHECKING:
    from latalign.estimators import (
        AffineAligner,
        AutoAligner,
        LinearAligner,
        LowRankAligner,
        OrthogonalAligner,
        RidgeAligner,
        RigidAligner,
        SimilarityAligner,
    )
    from latalign.evaluation import Comparison, Evaluation, compare, evaluate

__all__ = [
    "METHODS",
    "AffineAligner",
    "AffineMap",
    "AutoAligner",
    "Candidate",
    "Chain",
    "Comparison",
    "Evaluation",
    "Evidence",
    "IllConditionedWarning",
    "LinearAligner",
    "LowRankAligner",
    "Map",
    "MapHeader",
    "Moments",
    "Normalize",
    "OrthogonalAligner",
    "RidgeAligner",
    "RigidAligner",
    "SimilarityAligner",
    "__version__",
    "accumulate",
    "compare",
    "cross_validate",
    "evaluate",
    "fit",
    "fit_moments",
    "metrics",
    "pair_by_id",
    "random_anchors",
    "read_header",
    "solve",
]

_EVALUATION = ("Comparison", "Evaluation", "compare", "evaluate")


def __getattr__(name: str) -> Any:
    # scikit-learn takes a second to import; only who uses an estimator pays for it.
    if name.endswith("Aligner") and name in __all__:
        from latalign import estimators as home
    elif name in _EVALUATION:
        from latalign import evaluation as home
    else:
        raise AttributeError(f"module 'latalign' has no attribute {name!r}")
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
