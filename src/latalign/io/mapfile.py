"""The map file: safetensors with a JSON header under one metadata key. Never pickle.

Format version 1: float64 tensors, which ones `KINDS` says, and the metadata key ``latalign`` with one
JSON object, keys sorted: ``format``, ``kind``, ``method``, ``dim_source``, ``dim_target``, ``source``,
``target``, ``dataset``, ``evidence`` and ``latalign_version``. Version 2 is version 1 with the tensors of an
`Uncertainty` besides, their names after ``uncertainty.``; only files that have them are of version 2.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from os import PathLike
from pathlib import Path
from typing import Any, cast, final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from latalign._validation import Array
from latalign._version import __version__
from latalign.evidence import Evidence, StitchingEvidence
from latalign.io.files import written_beside
from latalign.uncertainty import TENSORS as UNCERTAINTY

FORMAT, FORMAT_WITH_UNCERTAINTY = 1, 2
FORMATS = (FORMAT, FORMAT_WITH_UNCERTAINTY)
_KEY = "latalign"
_TEXTS: Mapping[str, tuple[type, ...]] = {
    "method": (str,),
    "latalign_version": (str,),
    "source": (str, type(None)),
    "target": (str, type(None)),
    "dataset": (str, type(None)),
}


@final
@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of map in a file.

    Attributes
    ----------
    reader : str
        The function that makes a map of it.
    tensors : dict of str to tuple of str
        Each tensor's axes by name: "source" and "target" are the header's, any other name stands for one
        length, whichever it is.
    evidence : callable or None
        What makes its evidence of the header's, or raises a ValueError; None where there never is any.
    optional : dict of str to tuple of str
        The tensors that a file of version 2 has besides.
    """

    reader: str
    tensors: Mapping[str, tuple[str, ...]]
    evidence: Callable[[object], object] | None = None
    optional: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])


def _affine(source: str, target: str, prefix: str = "") -> dict[str, tuple[str, ...]]:
    return {
        f"{prefix}source_mean": (source,),
        f"{prefix}matrix": (source, target),
        f"{prefix}target_mean": (target,),
    }


KINDS: Mapping[str, Kind] = {
    "affine": Kind(
        "latalign.AffineMap.load",
        _affine("source", "target"),
        Evidence.from_json,
        optional={f"uncertainty.{name}": axes for name, axes in UNCERTAINTY.items()},
    ),
    "stitching": Kind(
        "latalign.StitchingMap.load",
        _affine("source", "hidden", "layer_1.")
        | _affine("hidden", "hidden", "layer_2.")
        | _affine("hidden", "target", "layer_3."),
        StitchingEvidence.from_json,
    ),
    "relative": Kind("latalign.RelativeMap.load", {"anchors": ("target", "source")}),
}


@final
@dataclass(frozen=True, slots=True)
class MapHeader:
    """What a map file says of its map.

    Attributes
    ----------
    method : str
    dim_source, dim_target : int
    source, target, dataset : str or None
        The names of the two models and of the data, where they were given.
    evidence : dict or None
    kind : str
    latalign_version : str
        The version that wrote the file.
    format : int
    """

    method: str
    dim_source: int
    dim_target: int
    source: str | None = None
    target: str | None = None
    dataset: str | None = None
    evidence: dict[str, Any] | None = None
    kind: str = "affine"
    latalign_version: str = __version__
    format: int = FORMAT


def write_map(path: str | PathLike[str], tensors: Mapping[str, Array], header: MapHeader) -> None:
    """Write a map file: beside its target, then renamed into place.

    Raises
    ------
    TypeError
        If a field of the header is of another type than a reader takes.
    """
    for name, kinds in _TEXTS.items():
        if not isinstance(value := getattr(header, name), kinds):
            needed = "text" if kinds == (str,) else "text or None"
            raise TypeError(f"a map file needs a {name} that is {needed}; got {value!r}")
    text = json.dumps(asdict(header), sort_keys=True, separators=(",", ":"), allow_nan=False)
    with written_beside(path) as file:
        file.write(save(dict(tensors), {_KEY: text}))


def read_header(path: str | PathLike[str]) -> MapHeader:
    """Read what a map file says of its map, whatever its kind.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a map file, of an unknown version, or what it says is not sound.
    """
    return read_map(path)[1]


def read_map(path: str | PathLike[str], kind: str | None = None) -> tuple[dict[str, Array], MapHeader]:
    """Read a map file and check its header and the shapes and dtypes of its tensors.

    Parameters
    ----------
    path : path
    kind : str, optional
        The kind that it must be; any of `KINDS` unless given.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no map file {path}")
    try:
        with cast("Any", safe_open(path, framework="numpy")) as file:
            metadata = cast("Mapping[str, str] | None", file.metadata())
            names = set(cast("list[str]", file.keys()))
            header = _parsed(path, (metadata or {}).get(_KEY))
            if kind not in (None, header.kind):
                raise ValueError(
                    f"{path} holds a map of kind {header.kind!r}, not {kind!r}. "
                    f"Read it with {KINDS[header.kind].reader}."
                )
            expected = dict(KINDS[header.kind].tensors)
            if header.format == FORMAT_WITH_UNCERTAINTY:
                expected |= KINDS[header.kind].optional
            if names != set(expected):
                raise ValueError(
                    f"{path} is not a sound map file: it holds the tensors {sorted(names)}, "
                    f"not {sorted(expected)}"
                )
            tensors: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in expected}
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a map file, or it is truncated ({error}). Maps are written by "
            "latalign fit, or by the save method of a map."
        ) from error
    lengths = {"source": header.dim_source, "target": header.dim_target}
    for name, axes in expected.items():
        found: NDArray[Any] = tensors[name]
        if found.ndim == len(axes):
            for axis, length in zip(axes, found.shape, strict=True):
                lengths.setdefault(axis, length)
        shape = tuple(lengths.get(axis, axis) for axis in axes)
        if found.shape != shape or found.dtype != np.float64:
            raise ValueError(
                f"{path} is not a sound map file: {name} should be float64 of shape {shape}, "
                f"it is {found.dtype} of shape {found.shape}"
            )
    return tensors, header


def _parsed(path: str | PathLike[str], text: str | None) -> MapHeader:
    if text is None:
        raise ValueError(
            f"{path} is a safetensors file, but not one of latalign's maps (no {_KEY!r} metadata)"
        )
    try:
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not a sound map file: its header is no JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a sound map file: its header is no JSON object")
    values = cast("dict[str, Any]", record)
    if type(values.get("format")) is not int or values["format"] not in FORMATS:
        raise ValueError(
            f"{path} has map format {values.get('format')!r}; this latalign ({__version__}) reads formats "
            f"{' and '.join(map(str, FORMATS))}. Update latalign, or write the map again."
        )
    if values.get("kind") not in KINDS:
        raise ValueError(
            f"{path} holds a map of kind {values.get('kind')!r}; this latalign ({__version__}) reads "
            f"{', '.join(map(repr, KINDS))}. Update latalign."
        )
    if values["format"] == FORMAT_WITH_UNCERTAINTY and not KINDS[values["kind"]].optional:
        raise ValueError(
            f"{path} is not a sound map file: a map of kind {values['kind']!r} has format {FORMAT}, it says "
            f"{values['format']}"
        )
    names = {field.name for field in fields(MapHeader)}
    if set(values) != names:
        raise ValueError(
            f"{path} is not a sound map file: its header has the fields {sorted(values)}, not {sorted(names)}"
        )
    for name, kinds in {**_TEXTS, "evidence": (dict, type(None))}.items():
        if not isinstance(values[name], kinds):
            raise ValueError(f"{path} is not a sound map file: its {name} is {values[name]!r}")
    for name in ("dim_source", "dim_target"):
        if type(values[name]) is not int or values[name] < 1:
            raise ValueError(f"{path} is not a sound map file: its {name} is {values[name]!r}")
    if values["evidence"] is not None:
        read = KINDS[values["kind"]].evidence
        if read is None:
            raise ValueError(
                f"{path} is not a sound map file: a map of kind {values['kind']!r} has no evidence, its is "
                f"{values['evidence']!r}"
            )
        try:
            read(values["evidence"])
        except ValueError as error:
            raise ValueError(f"{path} is not a sound map file: {error}") from error
    return MapHeader(**values)
