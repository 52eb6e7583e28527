"""Labels out of files: one value a row."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latalign.io import npy, parquet
from latalign.io.protocol import Location

SUFFIXES = (".npy", ".parquet", ".txt")


def locate_labels(file: str | PathLike[str], what: str = "labels") -> Location:
    """Return the file and the column in it that a path such as ``file.parquet:column`` says.

    Parameters
    ----------
    file : path
    what : str
        What an error calls the values.

    Raises
    ------
    ValueError
        If the suffix is not one that is read, or a Parquet file comes without a column.
    """
    path = Path(file)
    before, colon, name = str(path).rpartition(":")
    location = Location(path)
    if colon and Path(before).suffix.lower() == ".parquet" and not path.is_file():
        location = Location(Path(before), name)
    suffix = location.path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"{file}: {what} are read from .npy (a 1-D array), .parquet (file.parquet:column) or .txt (one a line)"
        )
    if suffix == ".parquet" and not location.name:
        raise ValueError(f"{file}: which column holds the {what}? Say {path.name.rstrip(':')}:COLUMN")
    return location


def read_labels(file: str | PathLike[str] | Location) -> NDArray[Any]:
    """Return the labels of a file, one a row.

    Parameters
    ----------
    file : path or Location
        A `.npy` file of a 1-D array of integers, floats or strings; ``file.parquet:column`` of integers or
        strings; or a `.txt` file, one label a line. NaN, null and an empty line are no label.

    Returns
    -------
    array of shape (n,)
        Of integers or floats; or of objects, strings and None where there is no label.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is foreign or truncated, or does not hold one label a row.
    ModuleNotFoundError
        If it is a Parquet file and pyarrow is not installed.
    """
    location = file if isinstance(file, Location) else locate_labels(file)
    if not location.path.is_file():
        raise FileNotFoundError(f"there is no file {location.path}")
    suffix = location.path.suffix.lower()
    if suffix == ".npy":
        return npy.read_values(location)
    if suffix == ".parquet":
        assert location.name is not None  # `locate_labels` saw to it
        return parquet.read_column(location, location.name, "labels")
    try:
        lines = location.path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{location} is not a text file in UTF-8 ({error})") from error
    values = np.empty(len(lines), object)
    values[:] = [line.strip() or None for line in lines]
    return values
