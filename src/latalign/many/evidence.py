"""What is known of the maps through a shared space, beside those of every two spaces directly."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast, final

import numpy as np

from latalign._validation import Array
from latalign.evidence import checked_fields, plain
from latalign.maps import AffineMap

AnyToAny = Callable[[int, int], AffineMap | None]
"""The map from one space to another, by their numbers; None where there is none."""

_MAYBE = (int, float, type(None))
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "source": str,
    "target": str,
    "anchors": int,
    "baseline": _MAYBE,
    "error": _MAYBE,
    "direct_error": _MAYBE,
    "round_trip": _MAYBE,
    "direct_round_trip": _MAYBE,
    "detour": _MAYBE,
    "direct_detour": _MAYBE,
    "pairs": list,
    "n_folds": int,
    "by_dim": list,
}


@final
@dataclass(frozen=True, slots=True)
class PairEvidence:
    """The map from one space to another through the shared one, beside the map that is fitted to the two alone.

    Errors are mean squared errors per value on held-out rows; the others are squared distances on the rows of
    the fit, relative to the spread of the rows that are led to: 0 is consistent, and 1 as far off as the mean.
    None stands for what could not be told: errors without folds, and what needs rows that the two do not share.

    Attributes
    ----------
    source, target : str
    anchors : int
        The rows that the two have in common.
    baseline : float or None
        The held-out error of the mean target row for every source row.
    error : float or None
        The held-out error through the shared space.
    direct_error : float or None
        That of the direct map: `rigid`, or `ridge` with its own penalty.
    round_trip, direct_round_trip : float or None
        How far rows of the source come back from where they were: to the target and back.
    detour, direct_detour : float or None
        How far apart the map is from the ways by a third space, on average over those.
    """

    source: str
    target: str
    anchors: int
    baseline: float | None = None
    error: float | None = None
    direct_error: float | None = None
    round_trip: float | None = None
    direct_round_trip: float | None = None
    detour: float | None = None
    direct_detour: float | None = None


@final
@dataclass(frozen=True, slots=True)
class SharedEvidence:
    """How a shared space was found, and what it costs.

    Attributes
    ----------
    pairs : tuple of PairEvidence
        Every ordered pair of spaces.
    n_folds : int
        Of the cross-validation; 1 where there is none.
    by_dim : tuple of (int, float)
        For "ridge", every width of the shared space that was tried, with its held-out error relative to the
        baseline: the mean over all pairs.
    """

    pairs: tuple[PairEvidence, ...]
    n_folds: int
    by_dim: tuple[tuple[int, float], ...] = ()

    def pair(self, source: str, target: str) -> PairEvidence:
        """Return what is known of the map from one space to another.

        Raises
        ------
        KeyError
            If there is no such pair.
        """
        for found in self.pairs:
            if (found.source, found.target) == (source, target):
                return found
        raise KeyError(f"there is no pair of {source!r} and {target!r}")

    @property
    def cost(self) -> float | None:
        """The held-out error relative to that of the direct maps, less one: the mean over all pairs that tell."""
        ratios = [
            found.error / found.direct_error for found in self.pairs if found.error and found.direct_error
        ]
        return float(np.mean(ratios)) - 1 if ratios else None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return cast("dict[str, Any]", plain({**asdict(self), "cost": self.cost}))

    @staticmethod
    def from_json(record: object) -> SharedEvidence:
        """Return the record that `to_json` wrote, checked field by field; the ``cost`` is what its pairs say.

        Raises
        ------
        ValueError
            If a field is missing, unknown or of the wrong type.
        """
        if isinstance(record, Mapping):
            given = cast("Mapping[str, object]", record)
            record = {name: value for name, value in given.items() if name != "cost"}
        values = checked_fields(record, SharedEvidence, "evidence", _KINDS)
        values["pairs"] = tuple(
            PairEvidence(**checked_fields(one, PairEvidence, "a pair of the evidence", _KINDS))
            for one in values["pairs"]
        )
        values["by_dim"] = tuple(_width_and_error(one) for one in values.get("by_dim", ()))
        if values["n_folds"] < 1:
            raise ValueError(f"evidence.n_folds is less than one: {values['n_folds']}")
        return SharedEvidence(**values)


def _width_and_error(entry: object) -> tuple[int, float]:
    """Return an entry of `by_dim`; an error that JSON has no word for is infinite."""
    parts = cast("list[object]", entry) if isinstance(entry, list) else []
    if len(parts) == 2 and type(parts[0]) is int and type(parts[1]) in (int, float, type(None)):
        return parts[0], math.inf if parts[1] is None else float(cast("float", parts[1]))
    raise ValueError(f"evidence.by_dim has an entry that is not a width and an error: {entry!r}")


def round_trip(maps: AnyToAny, source: int, target: int, mean: Array, covariance: Array) -> float | None:
    """Return how far rows of the source, of that mean and covariance, come back from where they were."""
    there, back = maps(source, target), maps(target, source)
    if there is None or back is None:
        return None
    same = AffineMap(mean, np.eye(len(mean)), mean)
    return _relative(_apart(there >> back, same, mean, covariance), float(covariance.trace()))


def detour(
    maps: AnyToAny, source: int, target: int, count: int, mean: Array, covariance: Array, spread: float
) -> float | None:
    """Return how far the ways by every third space are from the map itself, relative to the target's spread."""
    straight = maps(source, target)
    found: list[float] = []
    for middle in range(count):
        first, second = (
            (None, None) if middle in (source, target) else (maps(source, middle), maps(middle, target))
        )
        if straight is not None and first is not None and second is not None:
            found.append(_apart(first >> second, straight, mean, covariance))
    return _relative(float(np.mean(found)), spread) if found else None


def _apart(one: AffineMap, other: AffineMap, mean: Array, covariance: Array) -> float:
    """Return the mean squared distance between two maps of rows of that mean and covariance."""
    difference = one.matrix - other.matrix
    at_mean = (
        (mean - one.source_mean) @ one.matrix
        - (mean - other.source_mean) @ other.matrix
        + (one.target_mean - other.target_mean)
    )
    return max(float((difference * (covariance @ difference)).sum()), 0.0) + float(at_mean @ at_mean)


def _relative(distance: float, spread: float) -> float | None:
    return distance / spread if spread > 0 else None
