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

from importlib import import_module
from typing import TYPE_CHECKING, Any

from latalign import metrics, solve
from latalign._version import __version__
from latalign.anchors import (
    class_means,
    farthest_point_anchors,
    kmeans_anchors,
    pair_by_id,
    pair_class_means,
    random_anchors,
)
from latalign.equating import ScoreCalibration, calibrate_scores
from latalign.evidence import Candidate, Evidence, IllConditionedWarning, StitchingEvidence
from latalign.fitting import fit, fit_moments
from latalign.io.mapfile import MapHeader, read_header
from latalign.local_map import LocalMap
from latalign.maps import AffineMap, Chain, Map, Normalize
from latalign.methods import METHODS
from latalign.moments import Moments, accumulate
from latalign.optimal_design import d_optimal_anchors
from latalign.relation import UnrelatedPairsWarning
from latalign.relative import RelativeMap
from latalign.select import cross_validate
from latalign.stitching import StitchingMap
from latalign.uncertainty import Uncertainty

if TYPE_CHECKING:
    from latalign.auditing import Audit, Suspicion, audit
    from latalign.bending import local_retrieval
    from latalign.calibration import calibrate
    from latalign.closest_points import IcpFit, icp
    from latalign.comparison import Comparison, compare
    from latalign.curve_results import CurveCheck, CurvePoint, Forecast, LearningCurve, Saving
    from latalign.curves import learning_curve, learning_curve_moments
    from latalign.estimators import (
        AffineAligner,
        LinearAligner,
        LowRankAligner,
        OrthogonalAligner,
        RidgeAligner,
        RigidAligner,
        ShrunkAligner,
        SimilarityAligner,
    )
    from latalign.evaluation import Evaluation, evaluate
    from latalign.heldout import HeldoutFit, fit_heldout
    from latalign.loading import read_pairs
    from latalign.many.evidence import PairEvidence, SharedEvidence
    from latalign.many.fitting import fit_many, fit_many_moments
    from latalign.many.space import SharedSpace
    from latalign.model_change import Interval, Option, Verdict, verdict
    from latalign.on_disk import apply_file, load_map
    from latalign.parts import apply_folder
    from latalign.power_law import PowerLaw
    from latalign.querying import for_queries
    from latalign.row_estimators import AutoAligner, RetrievalAligner
    from latalign.shifting import Shift
    from latalign.streamed import compare_files, evaluate_files, fit_files
    from latalign.unpaired.finding import UnpairedFit, fit_unpaired
    from latalign.unpaired.labels import LabelsFit, fit_from_labels

__all__ = [
    "METHODS",
    "AffineAligner",
    "AffineMap",
    "Audit",
    "AutoAligner",
    "Candidate",
    "Chain",
    "Comparison",
    "CurveCheck",
    "CurvePoint",
    "Evaluation",
    "Evidence",
    "Forecast",
    "HeldoutFit",
    "IcpFit",
    "IllConditionedWarning",
    "Interval",
    "LabelsFit",
    "LearningCurve",
    "LinearAligner",
    "LocalMap",
    "LowRankAligner",
    "Map",
    "MapHeader",
    "Moments",
    "Normalize",
    "Option",
    "OrthogonalAligner",
    "PairEvidence",
    "PowerLaw",
    "RelativeMap",
    "RetrievalAligner",
    "RidgeAligner",
    "RigidAligner",
    "Saving",
    "ScoreCalibration",
    "SharedEvidence",
    "SharedSpace",
    "Shift",
    "ShrunkAligner",
    "SimilarityAligner",
    "StitchingEvidence",
    "StitchingMap",
    "Suspicion",
    "Uncertainty",
    "UnpairedFit",
    "UnrelatedPairsWarning",
    "Verdict",
    "__version__",
    "accumulate",
    "apply_file",
    "apply_folder",
    "audit",
    "calibrate",
    "calibrate_scores",
    "class_means",
    "compare",
    "compare_files",
    "cross_validate",
    "d_optimal_anchors",
    "evaluate",
    "evaluate_files",
    "farthest_point_anchors",
    "fit",
    "fit_files",
    "fit_from_labels",
    "fit_heldout",
    "fit_many",
    "fit_many_moments",
    "fit_moments",
    "fit_unpaired",
    "for_queries",
    "icp",
    "kmeans_anchors",
    "learning_curve",
    "learning_curve_moments",
    "load_map",
    "local_retrieval",
    "metrics",
    "pair_by_id",
    "pair_class_means",
    "random_anchors",
    "read_header",
    "read_pairs",
    "solve",
    "verdict",
]

# scikit-learn takes a second to import, and scipy.spatial a tenth; only who uses them pays for it. What
# reads files comes when it is asked for as well.
_ROW_ESTIMATORS = ("AutoAligner", "RetrievalAligner")
_LATER = {
    "auditing": ("Audit", "Suspicion", "audit"),
    "shifting": ("Shift",),
    "calibration": ("calibrate",),
    "closest_points": ("IcpFit", "icp"),
    "comparison": ("Comparison", "compare"),
    "curve_results": ("CurveCheck", "CurvePoint", "Forecast", "LearningCurve", "Saving"),
    "curves": ("learning_curve", "learning_curve_moments"),
    "power_law": ("PowerLaw",),
    "querying": ("for_queries",),
    "estimators": tuple(name for name in __all__ if name.endswith("Aligner") and name not in _ROW_ESTIMATORS),
    "evaluation": ("Evaluation", "evaluate"),
    "heldout": ("HeldoutFit", "fit_heldout"),
    "bending": ("local_retrieval",),
    "many.evidence": ("PairEvidence", "SharedEvidence"),
    "many.fitting": ("fit_many", "fit_many_moments"),
    "many.space": ("SharedSpace",),
    "model_change": ("Interval", "Option", "Verdict", "verdict"),
    "on_disk": ("apply_file", "load_map"),
    "loading": ("read_pairs",),
    "parts": ("apply_folder",),
    "streamed": ("compare_files", "evaluate_files", "fit_files"),
    "row_estimators": _ROW_ESTIMATORS,
    "unpaired.finding": ("UnpairedFit", "fit_unpaired"),
    "unpaired.labels": ("LabelsFit", "fit_from_labels"),
}


def __getattr__(name: str) -> Any:
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(f"latalign.{module}"), name)
    raise AttributeError(f"module 'latalign' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
