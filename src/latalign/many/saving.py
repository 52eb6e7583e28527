"""A shared space into a file and out of it; what the file must hold `latalign.io.spacefile` says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Any, cast, final

import numpy as np

from latalign._validation import Array
from latalign.evidence import Evidence
from latalign.io.spacefile import AGREEMENT, SpaceEntry, SpacesHeader, read_spaces, write_spaces
from latalign.many.evidence import SharedEvidence
from latalign.maps import AffineMap
from latalign.moments import Moments

_MAP = ("source_mean", "matrix", "target_mean")
_METHODS = ("rigid", "ridge")


@final
@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What a shared space is made of, in the order of its fields."""

    names: tuple[str, ...]
    method: str
    encoders: tuple[AffineMap, ...]
    decoders: tuple[AffineMap, ...]
    agreement: Moments
    evidence: SharedEvidence


def write_parts(path: str | PathLike[str], parts: Parts, dataset: str | None) -> None:
    """Write a shared space."""
    tensors: dict[str, Array] = {
        f"agreement.{name}": np.ascontiguousarray(getattr(parts.agreement, name)) for name in AGREEMENT
    }
    spaces: list[SpaceEntry] = []
    for number, (name, into, back) in enumerate(
        zip(parts.names, parts.encoders, parts.decoders, strict=True)
    ):
        for side, map_ in (("into", into), ("back", back)):
            tensors |= {f"space_{number}.{side}.{part}": getattr(map_, part) for part in _MAP}
        assert into.evidence is not None  # solved from moments, both
        assert back.evidence is not None
        evidence = into.evidence.to_json(), back.evidence.to_json()
        spaces.append(SpaceEntry(name, into.dim_source, *evidence))
    agreement = {name: getattr(parts.agreement, name) for name in ("weight", "count", "rounding")}
    evidence = parts.evidence.to_json()
    del evidence["cost"]  # told by the pairs
    header = SpacesHeader(
        parts.method, parts.agreement.dim_source, tuple(spaces), agreement, evidence, dataset
    )
    write_spaces(path, tensors, header)


def read_parts(path: str | PathLike[str]) -> Parts:
    """Read a shared space, and check everything in it."""
    tensors, header = read_spaces(path)
    try:
        return _parts(tensors, header)
    except ValueError as error:
        raise ValueError(f"{path} is not a sound map file: {error}") from error


def _parts(tensors: dict[str, Array], header: SpacesHeader) -> Parts:
    if header.method not in _METHODS:
        raise ValueError(f"its method is {header.method!r}, none of {', '.join(_METHODS)}")
    names = tuple(entry.name for entry in header.spaces)
    maps: dict[str, list[AffineMap]] = {"into": [], "back": []}
    for number, entry in enumerate(header.spaces):
        for side, found in maps.items():
            mean, matrix, there = (tensors[f"space_{number}.{side}.{part}"] for part in _MAP)
            known = Evidence.from_json(getattr(entry, side))
            found.append(AffineMap(mean, matrix, there, header.method, known))
    evidence = SharedEvidence.from_json(header.evidence)
    _check_pairs(names, evidence)
    moments = {name: tensors[f"agreement.{name}"] for name in AGREEMENT}
    for name, values in moments.items():
        if not np.isfinite(values).all():
            raise ValueError(f"agreement.{name} has NaN or infinity")
        if name.endswith("gram") and not np.allclose(values, values.T):
            raise ValueError(f"agreement.{name} is not symmetric")
    for name, value in header.agreement.items():
        if isinstance(value, bool) or not (np.isfinite(value) and value > 0):
            raise ValueError(f"its agreement.{name} is {value!r}")
    agreement = Moments(**cast("dict[str, Any]", {**header.agreement, **moments}))
    return Parts(names, header.method, tuple(maps["into"]), tuple(maps["back"]), agreement, evidence)


def _check_pairs(names: Sequence[str], evidence: SharedEvidence) -> None:
    """Raise a ValueError where the evidence is not of every ordered pair, once."""
    found = sorted((pair.source, pair.target) for pair in evidence.pairs)
    if found != sorted((one, other) for one in names for other in names if one != other):
        raise ValueError(f"its evidence is not of every pair of {', '.join(map(repr, names))}, once")
