"""The file of a space that many are mapped into and out of: a map file of the kind "shared".

Format version 1, as other map files, but for the fields of the header and the tensors. The header has ``format``,
``kind``, ``method``, ``dim`` (the width of the shared space), ``dataset``, ``spaces``, ``agreement``,
``evidence`` and ``latalign_version``. Every entry of ``spaces`` has a ``name``, a ``dim`` and the evidence of
the two maps, ``into`` and ``back``. The tensors of space i are those of its two affine maps, their names after
``space_i.into.`` and ``space_i.back.``; those after ``agreement.`` are second moments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from os import PathLike
from typing import Any, cast, final

from latalign._validation import Array
from latalign._version import __version__
from latalign.evidence import Evidence
from latalign.io.mapfile import (
    FORMAT,
    SHARED,
    affine_tensors,
    check_fields,
    check_texts,
    checked_tensors,
    opened,
    write_file,
)

_TEXTS: Mapping[str, tuple[type, ...]] = {
    "method": (str,),
    "latalign_version": (str,),
    "dataset": (str, type(None)),
}
_AGREEMENT: Mapping[str, tuple[type, ...]] = {
    "weight": (int, float),
    "count": (int,),
    "rounding": (int, float),
}
AGREEMENT: Mapping[str, tuple[str, ...]] = {
    "source_mean": ("dim",),
    "target_mean": ("dim",),
    "xy": ("dim", "dim"),
    "xx_diagonal": ("dim",),
    "yy_diagonal": ("dim",),
    "source_gram": ("dim", "dim"),
    "target_gram": ("dim", "dim"),
}
"""The tensors of the agreement, and their axes."""


@final
@dataclass(frozen=True, slots=True)
class SpaceEntry:
    """What the file says of one of the spaces.

    Attributes
    ----------
    name : str
    dim : int
    into, back : dict
        The evidence of the two maps.
    """

    name: str
    dim: int
    into: dict[str, Any]
    back: dict[str, Any]


@final
@dataclass(frozen=True, slots=True)
class SpacesHeader:
    """What the file of a shared space says, but for the maps themselves.

    Attributes
    ----------
    method : str
    dim : int
        The width of the shared space.
    spaces : tuple of SpaceEntry
    agreement : dict
        The ``weight``, ``count`` and ``rounding`` of the moments.
    evidence : dict
        Of all pairs.
    dataset : str or None
        The name of the data, where it was given.
    kind : str
    latalign_version : str
        The version that wrote the file.
    format : int
    """

    method: str
    dim: int
    spaces: tuple[SpaceEntry, ...]
    agreement: dict[str, Any]
    evidence: dict[str, Any]
    dataset: str | None = None
    kind: str = SHARED
    latalign_version: str = __version__
    format: int = FORMAT


def write_spaces(path: str | PathLike[str], tensors: Mapping[str, Array], header: SpacesHeader) -> None:
    """Write the file of a shared space: beside its target, then renamed into place.

    Raises
    ------
    TypeError
        If a field of the header is of another type than a reader takes.
    """
    check_texts({name: getattr(header, name) for name in _TEXTS}, _TEXTS)
    for entry in header.spaces:
        check_texts({"name": entry.name}, {"name": (str,)})
    write_file(path, tensors, asdict(header))


def read_spaces(path: str | PathLike[str]) -> tuple[dict[str, Array], SpacesHeader]:
    """Read the file of a shared space, and check its header and the shapes and dtypes of its tensors.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no such file, of an unknown version, or what it says is not sound.
    """
    with opened(path, SHARED) as (record, file):
        header = _parsed(path, record)
        expected = {f"agreement.{name}": axes for name, axes in AGREEMENT.items()}
        lengths = {"dim": header.dim}
        for number, entry in enumerate(header.spaces):
            own = f"space_{number}"
            lengths[own] = entry.dim
            expected |= affine_tensors(own, "dim", f"{own}.into.") | affine_tensors(
                "dim", own, f"{own}.back."
            )
        return checked_tensors(path, file, expected, lengths), header


def _parsed(path: str | PathLike[str], values: dict[str, Any]) -> SpacesHeader:
    names = [field.name for field in fields(SpacesHeader)]
    kinds = {**_TEXTS, "evidence": (dict,), "agreement": (dict,), "spaces": (list,)}
    check_fields(path, values, names, kinds, ("dim",))
    check_fields(path, values["agreement"], list(_AGREEMENT), _AGREEMENT, ("count",))
    spaces: list[SpaceEntry] = []
    for entry in cast("list[object]", values["spaces"]):
        if not isinstance(entry, dict):
            raise ValueError(f"{path} is not a sound map file: one of its spaces is {entry!r}")
        known = cast("dict[str, Any]", entry)
        texts: Mapping[str, tuple[type, ...]] = {"name": (str,), "into": (dict,), "back": (dict,)}
        check_fields(path, known, [field.name for field in fields(SpaceEntry)], texts, ("dim",))
        for side in ("into", "back"):
            try:
                Evidence.from_json(known[side])
            except ValueError as error:
                raise ValueError(f"{path} is not a sound map file: {error}") from error
        spaces.append(SpaceEntry(**known))
    _check_names(path, [one.name for one in spaces])
    return SpacesHeader(**{**values, "spaces": tuple(spaces)})


def _check_names(path: str | PathLike[str], names: Sequence[str]) -> None:
    if len(names) < 2 or len(set(names)) < len(names):
        raise ValueError(
            f"{path} is not a sound map file: it needs two spaces or more, each of its own name; it has {list(names)}"
        )
