"""What is known of a recipe with ever more anchors: small frozen records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, final

from latalign.evidence import plain
from latalign.power_law import PowerLaw


@final
@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The held-out error with so many anchors.

    Attributes
    ----------
    anchors : int
    error : float
        The mean squared error per value: the geometric mean over the nestings.
    low, high : float
        Its 90 % interval.
    chosen : mapping of str to int
        How often each method was chosen; the one that was asked for, if it was named.
    """

    anchors: int
    error: float
    low: float
    high: float
    chosen: Mapping[str, int]


@final
@dataclass(frozen=True, slots=True)
class CurveCheck:
    """The law that was fitted to the lower half of the curve, held against the upper end.

    Attributes
    ----------
    fitted_to : int
        The largest number of anchors that it was fitted to.
    anchors : int
        Where it is checked: about twice that.
    predicted, measured : float
        The errors there.
    passed : bool
        Whether they differ by a tenth at most.
    """

    fitted_to: int
    anchors: int
    predicted: float
    measured: float
    passed: bool


@final
@dataclass(frozen=True, slots=True)
class Forecast:
    """The error that the law extrapolates to.

    Attributes
    ----------
    anchors : int
    error : float
        The mean squared error per value.
    low, high : float
        Its 90 % interval. The law's own miss where it was checked is a part of it.
    """

    anchors: int
    error: float
    low: float
    high: float


@final
@dataclass(frozen=True, slots=True)
class Saving:
    """The share of the error that twice the anchors would take away, with its 90 % interval."""

    share: float
    low: float
    high: float


@final
@dataclass(frozen=True, slots=True)
class LearningCurve:
    """How the held-out error falls with the number of anchors.

    Attributes
    ----------
    method : str
        The recipe: "auto" or a method.
    anchors : int
        How many there are.
    variance : float
        The error of the mean target row for every source row.
    points : tuple of CurvePoint
        From few anchors to four fifths of all.
    law : PowerLaw
        What was fitted to the upper end of them.
    check : CurveCheck
    all_anchors, twice : Forecast or None
        The error to expect of a map that is fitted to all anchors, and to twice as many; None where the
        check failed.
    saving : Saving or None
        What the latter is below the former; None where the check failed.
    """

    method: str
    anchors: int
    variance: float
    points: tuple[CurvePoint, ...]
    law: PowerLaw
    check: CurveCheck
    all_anchors: Forecast | None
    twice: Forecast | None
    saving: Saving | None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; numbers that JSON has no word for become null."""
        return plain(asdict(self))
