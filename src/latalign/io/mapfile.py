"""The map file: safetensors with a JSON header under one metadata key. Never pickle.

Format version 1: float64 tensors, which ones `KINDS` says, and the metadata key ``latalign`` with one
JSON object, keys sorted: ``format``, ``kind``, ``method``, ``dim_source``, ``dim_target``, ``source``,
``target``, ``dataset``, ``evidence`` and ``latalign_version``. Version 2 is version 1 with the tensors of an
`Uncertainty` besides, their names after ``uncertainty.``; only files that have them are of version 2.
Files of the kind "shared" have other fields and tensors: see `latalign.io.spacefile`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
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
SHARED = "shared"
"""The kind of the file of a space that many are mapped into and out of."""

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


def affine_tensors(source: str, target: str, prefix: str = "") -> dict[str, tuple[str, ...]]:
    """Return the tensors of an affine map, and their axes."""
    return {
        f"{prefix}source_mean": (source,),
        f"{prefix}matrix": (source, target),
        f"{prefix}target_mean": (target,),
    }


KINDS: Mapping[str, Kind] = {
    "affine": Kind(
        "latalign.AffineMap.load",
        affine_tensors("source", "target"),
        Evidence.from_json,
        optional={f"uncertainty.{name}": axes for name, axes in UNCERTAINTY.items()},
    ),
    "stitching": Kind(
        "latalign.StitchingMap.load",
        affine_tensors("source", "hidden", "layer_1.")
        | affine_tensors("hidden", "hidden", "layer_2.")
        | affine_tensors("hidden", "target", "layer_3."),
        StitchingEvidence.from_json,
    ),
    "relative": Kind("latalign.RelativeMap.load", {"anchors": ("target", "source")}),
    "local": Kind(
        "latalign.LocalMap.load",
        affine_tensors("source", "target")
        | {"anchors": ("anchors", "source"), "coefficients": ("anchors", "target"), "width": ("one",)},
        Evidence.from_json,
    ),
}
READERS = {name: kind.reader for name, kind in KINDS.items()} | {SHARED: "latalign.SharedSpace.load"}
"""What reads a file of each kind."""


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
    check_texts({name: getattr(header, name) for name in _TEXTS}, _TEXTS)
    write_file(path, tensors, asdict(header))


def check_texts(values: Mapping[str, object], kinds: Mapping[str, tuple[type, ...]]) -> None:
    """Raise a TypeError for a field of a header that a reader would not take."""
    for name, value in values.items():
        if not isinstance(value, kinds[name]):
            needed = "text" if kinds[name] == (str,) else "text or None"
            raise TypeError(f"a map file needs a {name} that is {needed}; got {value!r}")


def write_file(path: str | PathLike[str], tensors: Mapping[str, Array], header: Mapping[str, Any]) -> None:
    """Write tensors and a header: beside the target, then renamed into place."""
    text = json.dumps(header, sort_keys=True, separators=(",", ":"), allow_nan=False)
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
    with opened(path, kind) as (record, file):
        header = _parsed(path, record)
        expected = dict(KINDS[header.kind].tensors)
        if header.format == FORMAT_WITH_UNCERTAINTY:
            expected |= KINDS[header.kind].optional
        lengths = {"source": header.dim_source, "target": header.dim_target}
        return checked_tensors(path, file, expected, lengths), header


def kind_of(path: str | PathLike[str]) -> str:
    """Return the kind of a map file: one of `READERS`.

    Raises
    ------
    FileNotFoundError, ValueError
        As in `read_header`.
    """
    with opened(path) as (record, _):
        return record["kind"]


@contextmanager
def opened(path: str | PathLike[str], kind: str | None = None) -> Generator[tuple[dict[str, Any], Any]]:
    """Open a map file, of a known version and kind; gives its header, unchecked but for these, and the file.

    Parameters
    ----------
    path : path
    kind : str, optional
        The kind that it must be; any of `READERS` unless given.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no map file {path}")
    try:
        with cast("Any", safe_open(path, framework="numpy")) as file:
            metadata = cast("Mapping[str, str] | None", file.metadata())
            record = _record(path, (metadata or {}).get(_KEY))
            if kind not in (None, record["kind"]):
                raise ValueError(
                    f"{path} holds a map of kind {record['kind']!r}, not {kind!r}. "
                    f"Read it with {READERS[record['kind']]}."
                )
            yield record, file
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a map file, or it is truncated ({error}). Maps are written by "
            "latalign fit, or by the save method of a map."
        ) from error


def checked_tensors(
    path: str | PathLike[str],
    file: Any,
    expected: Mapping[str, tuple[str, ...]],
    lengths: Mapping[str, int],
) -> dict[str, Array]:
    """Return the tensors of an open file, which must be those expected, float64, and of the lengths of their axes.

    An axis whose length is not given may have any, but the same in all tensors.
    """
    names = set(cast("list[str]", file.keys()))
    if names != set(expected):
        raise ValueError(
            f"{path} is not a sound map file: it holds the tensors {sorted(names)}, not {sorted(expected)}"
        )
    known = dict(lengths)
    tensors: dict[str, NDArray[Any]] = {name: file.get_tensor(name) for name in expected}
    for name, axes in expected.items():
        found = tensors[name]
        if found.ndim == len(axes):
            for axis, length in zip(axes, found.shape, strict=True):
                known.setdefault(axis, length)
        shape = tuple(known.get(axis, axis) for axis in axes)
        if found.shape != shape or found.dtype != np.float64:
            raise ValueError(
                f"{path} is not a sound map file: {name} should be float64 of shape {shape}, "
                f"it is {found.dtype} of shape {found.shape}"
            )
    return tensors


def _record(path: str | PathLike[str], text: str | None) -> dict[str, Any]:
    """Return the header of a file, of a version and a kind that are known."""
    if text is None:
        raise ValueError(
            f"{path} is a safetensors file, but not one of latalign's maps (no {_KEY!r} metadata)"
        )
    try:
        record = json.loads(
            text,
            object_pairs_hook=_each_once,
            parse_constant=_refused,
            parse_float=_finite,
            parse_int=_whole,
        )
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a sound map file: its header is no JSON ({error})") from error
    if not isinstance(record, dict):
        raise ValueError(f"{path} is not a sound map file: its header is no JSON object")
    values = cast("dict[str, Any]", record)
    if type(values.get("format")) is not int or values["format"] not in FORMATS:
        raise ValueError(
            f"{path} has map format {values.get('format')!r}; this latalign ({__version__}) reads formats "
            f"{' and '.join(map(str, FORMATS))}. Update latalign, or write the map again."
        )
    if values.get("kind") not in tuple(READERS):
        raise ValueError(
            f"{path} holds a map of kind {values.get('kind')!r}; this latalign ({__version__}) reads "
            f"{', '.join(map(repr, READERS))}. Update latalign."
        )
    optional = values["kind"] in KINDS and KINDS[values["kind"]].optional
    if values["format"] == FORMAT_WITH_UNCERTAINTY and not optional:
        raise ValueError(
            f"{path} is not a sound map file: a map of kind {values['kind']!r} has format {FORMAT}, it says "
            f"{values['format']}"
        )
    return values


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object, none of whose names is there twice: which of two values counts is not said."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _refused(word: str) -> float:
    """Refuse the words for what is no finite number, which JSON does not have."""
    raise ValueError(f"{word} is no finite number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refused(text)


def _whole(text: str) -> int:
    """Return a whole number that 64 bits hold."""
    if len(text) > 20 or abs(number := int(text)) >= 1 << 63:
        raise ValueError(f"{text[:20]}… is beyond 64 bits")
    return number


def check_fields(
    path: str | PathLike[str],
    values: Mapping[str, Any],
    names: Sequence[str],
    kinds: Mapping[str, tuple[type, ...]],
    widths: Sequence[str],
) -> None:
    """Raise a ValueError where a header has other fields than it should, of other types, or a width is none."""
    if set(values) != set(names):
        raise ValueError(
            f"{path} is not a sound map file: its header has the fields {sorted(values)}, not {sorted(names)}"
        )
    for name, types in kinds.items():
        if not isinstance(values[name], types):
            raise ValueError(f"{path} is not a sound map file: its {name} is {values[name]!r}")
    for name in widths:
        if type(values[name]) is not int or values[name] < 1:
            raise ValueError(f"{path} is not a sound map file: its {name} is {values[name]!r}")


def _parsed(path: str | PathLike[str], values: dict[str, Any]) -> MapHeader:
    if values["kind"] not in KINDS:
        raise ValueError(
            f"{path} holds many maps, of kind {values['kind']!r}, not one. Read it with {READERS[values['kind']]}."
        )
    names = [field.name for field in fields(MapHeader)]
    kinds = {**_TEXTS, "evidence": (dict, type(None))}
    check_fields(path, values, names, kinds, ("dim_source", "dim_target"))
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
