"""Safetensors files: one 2-D tensor of rows, by its name or because it is the only one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, cast

import numpy as np
from safetensors import SafetensorError, safe_open

from latalign.io.protocol import Location, Reader, Shape, check_shape
from latalign.io.raw import RawRows, RawWriter, raw_writer

_DTYPES: Mapping[str, np.dtype[Any]] = MappingProxyType(
    {
        "F16": np.dtype("<f2"),
        "F32": np.dtype("<f4"),
        "F64": np.dtype("<f8"),
        "I8": np.dtype("i1"),
        "U8": np.dtype("u1"),
        "I16": np.dtype("<i2"),
        "U16": np.dtype("<u2"),
        "I32": np.dtype("<i4"),
        "U32": np.dtype("<u4"),
        "I64": np.dtype("<i8"),
        "U64": np.dtype("<u8"),
    }
)
_NAMES = MappingProxyType({dtype: name for name, dtype in _DTYPES.items()})
_METADATA = "__metadata__"
# The name of the tensor that is written where nothing else is known.
_DEFAULT_NAME = "rows"


def read(location: Location) -> Reader:
    """Open a safetensors file, find its tensor of rows, and check its header and its length."""
    try:
        # The library checks the header and every offset against the length of the file.
        with cast("Any", safe_open(location.path, framework="numpy")) as file:
            metadata = cast("Mapping[str, str] | None", file.metadata())
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            kinds = {name: str(part.get_dtype()) for name, part in slices.items()}
    except SafetensorError as error:
        raise ValueError(f"{location} is not a safetensors file, or it is truncated ({error})") from error
    if location.name is None and "latalign" in (metadata or {}):
        raise ValueError(f"{location} holds one of latalign's maps, not rows. Give a file of rows here.")
    name = _only(location, shapes)
    found = Location(location.path, name)
    if kinds[name] not in _DTYPES:
        raise ValueError(
            f"{found} holds {kinds[name]}, which NumPy has no type for; rows are float16, float32, float64 or "
            "integers. Save it as float32: in PyTorch, tensor.float()."
        )
    check_shape(found, shapes[name])
    rows, dim = shapes[name]
    return RawRows(found, rows, dim, _DTYPES[kinds[name]], _offset(found))


def write(location: Location, shape: Shape, like: Reader | None) -> AbstractContextManager[RawWriter]:
    """Write a safetensors file of one tensor, the header first, and again where only the end told its rows."""
    name = location.name or (like.location.name if like is not None else None) or _DEFAULT_NAME
    if name == _METADATA:
        raise ValueError(f"{location.path}: a tensor cannot be called {_METADATA}")
    dtype = shape.dtype.newbyteorder("<")
    room = 0 if shape.rows is not None else len(str(1 << 62)) * 2

    def header(rows: int | None) -> bytes:
        size = (rows or 0) * shape.dim * dtype.itemsize
        entry = {"dtype": _NAMES[dtype], "shape": [rows or 0, shape.dim], "data_offsets": [0, size]}
        text = json.dumps({name: entry}, separators=(",", ":")).encode()
        # What two numbers will need, and so that what follows is aligned.
        text = text.ljust(len(text) - len(f"{rows or 0}{size}") + room if room else 0)
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text

    return raw_writer(location, header, shape)


def _only(location: Location, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Return the name of the tensor that holds the rows."""
    listed = ", ".join(f"{name} {list(shape)}" for name, shape in sorted(shapes.items())) or "none"
    if location.name is not None:
        if location.name not in shapes:
            raise ValueError(f"{location.path} has no tensor {location.name!r}; it has: {listed}")
        return location.name
    rows = [name for name, shape in shapes.items() if len(shape) == 2]
    if len(rows) != 1:
        raise ValueError(
            f"{location} needs one 2-D tensor of rows; it has: {listed}. Name one: {location.path.name}:NAME"
        )
    return rows[0]


def _offset(location: Location) -> int:
    """Return where the numbers of a tensor start (the library read and checked the same header)."""
    with location.path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return 8 + length + header[location.name]["data_offsets"][0]
