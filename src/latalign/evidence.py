"""What is known about a fitted map: small frozen records that go into its file as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, cast, final


class IllConditionedWarning(UserWarning):
    """The anchors leave directions undetermined, or nearly so; the message names the remedy."""


@final
@dataclass(frozen=True, slots=True)
class Candidate:
    """One method's cross-validated error.

    Attributes
    ----------
    method : str
    error : float
        What the selection minimised: the mean squared error per value for ``scoring="mse"``, one minus
        the score for the others. Lower is better.
    standard_error : float
        The standard error of that mean, from the spread over the folds.
    alpha : float or None
        The penalty that did best, where the method has one.
    target_rank : int or None
        The rank that did best, for the methods that limit it.
    scale : float or None
        The scale of the similarity map that did best, for "shrunk".
    power : float or None
        The power of the correlations that did best, for "retrieval".
    """

    method: str
    error: float
    standard_error: float
    alpha: float | None = None
    target_rank: int | None = None
    scale: float | None = None
    power: float | None = None


@final
@dataclass(frozen=True, slots=True)
class Evidence:
    """How a map was found, and how far to trust it.

    Attributes
    ----------
    anchors : int
        The number of pairs that it was fitted on.
    rank : int
        The numerical rank of what was solved: of the source rows for the linear family, of the
        cross moments for the rigid family.
    condition : float
        The condition number of the same, within that rank.
    error_bound : float
        The relative rounding error of the coefficients, 16 eps × the condition of the matrix solved with.
        It says nothing about noise in the data.
    alpha : float or None
        The penalty, where there is one; infinite where "shrunk" is the similarity map itself.
    target_rank : int or None
        The rank that the method limits the map to, where it does.
    scale : float or None
        The scale of the similarity map that "shrunk" is drawn to.
    power : float or None
        The power of the correlations of "retrieval".
    scoring : str or None
        What the candidates were compared by.
    baseline : float or None
        The cross-validated error of no map at all: the mean target row for every source row.
    candidates : tuple of Candidate
        Every method that was tried, best first; empty where the method was given.
    heldout : dict of str to float, or None
        Errors on pairs that a fit by the same recipe did not see.
    robust : dict of str to float, or None
        Of a robust fit, how many ``pairs`` there were; how many of them were ``ignored`` (a weight of
        zero) and how many more ``downweighted`` (less than one); the ``weight`` of all together; and the share
        of it that is ``clear``: of pairs that are nearer than nearly all other pairings of the same rows. It is
        told of few pairs, and 1 of others.
    """

    anchors: int
    rank: int
    condition: float
    error_bound: float
    alpha: float | None = None
    target_rank: int | None = None
    scale: float | None = None
    power: float | None = None
    scoring: str | None = None
    baseline: float | None = None
    candidates: tuple[Candidate, ...] = ()
    heldout: Mapping[str, float] | None = None
    robust: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; numbers that JSON has no word for become null.

        `robust`, a `scale` or a `power` is there only where there is one.
        """
        record = cast("dict[str, Any]", plain(asdict(self)))
        if self.robust is None:
            del record["robust"]
        for part in (record, *record["candidates"]):
            for name in ("scale", "power"):
                if part[name] is None:
                    del part[name]
        return record

    @staticmethod
    def from_json(record: object) -> Evidence:
        """Return the record that `to_json` wrote, checked field by field.

        Raises
        ------
        ValueError
            If a field is missing, unknown or of the wrong type.
        """
        values = checked_fields(record, Evidence, "evidence")
        entries = values.get("candidates", [])
        if not isinstance(entries, list):
            raise ValueError("evidence.candidates is not a list")
        candidates = tuple(
            Candidate(**checked_fields(entry, Candidate, "candidate"))
            for entry in cast("list[object]", entries)
        )
        values["candidates"] = candidates
        for name in ("heldout", "robust"):
            if values.get(name) is not None:
                values[name] = _figures(values[name], name)
        return Evidence(**values)


@final
@dataclass(frozen=True, slots=True)
class StitchingEvidence:
    """How a stitching map was trained, and how far to trust it.

    Attributes
    ----------
    anchors : int
        The number of pairs that it was given, the held-out ones among them.
    heldout_anchors : int
        How many of them were kept back to tell when to stop.
    epochs : int
        The epochs that were run.
    best_epoch : int
        The epoch whose weights it has: that of the smallest held-out error, or the last where none
        were held out.
    training_error : float
        The mean squared error per value on the pairs that it was trained on.
    heldout_error : float or None
        The same on the held-out pairs. They chose the epoch, so it is a little too good.
    seconds : float
        What the training took.
    """

    anchors: int
    heldout_anchors: int
    epochs: int
    best_epoch: int
    training_error: float
    heldout_error: float | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values; numbers that JSON has no word for become null."""
        return cast("dict[str, Any]", plain(asdict(self)))

    @staticmethod
    def from_json(record: object) -> StitchingEvidence:
        """Return the record that `to_json` wrote, checked field by field.

        Raises
        ------
        ValueError
            If a field is missing, unknown or of the wrong type.
        """
        return StitchingEvidence(**checked_fields(record, StitchingEvidence, "evidence"))


_KINDS: dict[str, type | tuple[type, ...]] = {
    "anchors": int,
    "heldout_anchors": int,
    "epochs": int,
    "best_epoch": int,
    "training_error": (int, float),
    "heldout_error": (int, float, type(None)),
    "seconds": (int, float),
    "rank": int,
    "condition": (int, float),
    "error_bound": (int, float),
    "error": (int, float),
    "standard_error": (int, float),
    "method": str,
    "alpha": (int, float, type(None)),
    "target_rank": (int, type(None)),
    "scale": (int, float, type(None)),
    "power": (int, float, type(None)),
    "scoring": (str, type(None)),
    "baseline": (int, float, type(None)),
    "candidates": list,
    "heldout": (dict, type(None)),
    "robust": (dict, type(None)),
}
_COUNTS = ("anchors", "heldout_anchors", "epochs", "best_epoch", "rank", "target_rank")


def checked_fields(
    record: object, kind: type, name: str, kinds: Mapping[str, type | tuple[type, ...]] = _KINDS
) -> dict[str, Any]:
    """Return the record as keyword arguments of `kind`, the types of whose fields `kinds` says."""
    known = {field.name for field in fields(kind)}
    if not isinstance(record, dict):
        raise ValueError(f"{name} is not a JSON object")
    values = dict(cast("dict[str, Any]", record))
    if unknown := set(values) - known:
        raise ValueError(f"{name} has unknown fields: {', '.join(sorted(unknown))}")
    for key, value in values.items():
        number = kinds[key] == (int, float)
        values[key] = value = math.inf if number and value is None else value
        if not isinstance(value, kinds[key]) or isinstance(value, bool):
            raise ValueError(f"{name}.{key} has the wrong type, {type(value).__name__}")
        if key in _COUNTS and value is not None and value < 0:
            raise ValueError(f"{name}.{key} is less than zero: {value}")
    if values.get("scale") is not None and values.get("alpha") is None:
        values["alpha"] = math.inf  # a penalty toward a similarity map that JSON had no word for
    try:
        kind(**values)
    except TypeError as error:
        raise ValueError(f"{name} lacks a field ({error})") from error
    return values


def _figures(record: dict[str, Any], name: str) -> dict[str, float]:
    """Return figures as numbers; what `plain` wrote as null was no number."""
    for key, value in record.items():
        if not isinstance(value, (int, float, type(None))) or isinstance(value, bool):
            raise ValueError(f"evidence.{name}.{key} has the wrong type, {type(value).__name__}")
    return {key: math.nan if value is None else value for key, value in record.items()}


def plain(value: Any) -> Any:
    """Return plain JSON values; a number that JSON has no word for becomes None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, (tuple, list)):
        return [plain(item) for item in cast("list[Any]", value)]
    return value
