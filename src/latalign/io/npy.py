"""NumPy's `.npy` files. An array of objects is refused: nothing is ever unpickled."""

from __future__ import annotations

import io
from contextlib import AbstractContextManager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from latalign.io.protocol import Location, Reader, Shape, check_dtype, check_shape
from latalign.io.raw import RawRows, RawWriter, raw_writer, require_length

# What a header that is no header may raise in NumPy's parser.
_FOREIGN = (ValueError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError)


def read(location: Location) -> Reader:
    """Open a `.npy` file and check its header and its length."""
    if location.name is not None:
        raise ValueError(
            f"{location.path} holds one array without a name; it was asked for {location.name!r}"
        )
    with location.path.open("rb") as file:
        try:
            shape, fortran, dtype = _header(file)
        except _FOREIGN as error:
            raise ValueError(
                f"{location} is not a .npy file, or it is truncated ({error}). It is written by numpy.save."
            ) from error
        offset = file.tell()
        length = file.seek(0, io.SEEK_END)
    check_dtype(location, dtype)
    check_shape(location, shape)
    rows, dim = shape
    require_length(location, length, offset + rows * dim * dtype.itemsize)
    return RawRows(location, rows, dim, dtype, offset, fortran)


def read_array(path: Path) -> NDArray[Any]:
    """Return an array of any shape, whole."""
    try:
        with path.open("rb") as file:
            return npy_format.read_array(file, allow_pickle=False)
    except _FOREIGN as error:
        raise ValueError(
            f"{path} holds Python objects, which are never unpickled, or is not a sound .npy file ({error}). "
            "Save an array of numbers or strings with numpy.save."
        ) from error


def read_values(location: Location) -> NDArray[Any]:
    """Return a 1-D array of integers, floats or strings, whole."""
    found = read_array(location.path)
    if found.ndim != 1 or found.dtype.kind not in "biufU":
        raise ValueError(
            f"{location} holds {found.dtype} of shape {found.shape}; needed is a 1-D array of integers, floats "
            "or strings"
        )
    return found


def write(location: Location, shape: Shape, like: Reader | None) -> AbstractContextManager[RawWriter]:
    """Write a `.npy` file: the header first, and again where only the end told the number of rows."""
    if location.name is not None:
        raise ValueError(f"{location.path} holds one array without a name; leave out {location.name!r}")

    def header(rows: int | None) -> bytes:
        # NumPy pads its headers so that the length does not depend on the first axis.
        text = io.BytesIO()
        description = {
            "descr": npy_format.dtype_to_descr(shape.dtype.newbyteorder("<")),
            "fortran_order": False,
            "shape": (rows or 0, shape.dim),
        }
        npy_format.write_array_header_1_0(text, description)
        return text.getvalue()

    return raw_writer(location, header, shape)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy_format.read_magic(file)
    if version == (1, 0):
        return npy_format.read_array_header_1_0(file)
    if version == (2, 0):
        return npy_format.read_array_header_2_0(file)
    # Version 3 exists for the names of fields, which rows of numbers do not have.
    raise ValueError(f"its format version is {version[0]}.{version[1]}; 1.0 and 2.0 hold plain arrays")
