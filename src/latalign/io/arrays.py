"""Arrays in and out of files: the formats there are, and how a file is named."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from types import MappingProxyType

from latalign.io import npy, parquet, safetensors
from latalign.io.protocol import Format, Location, Reader, Shape, Writer

FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        ".npy": Format(npy.read, npy.write),
        ".safetensors": Format(safetensors.read, safetensors.write),
        ".parquet": Format(parquet.read, parquet.write, tables=True),
    }
)


def locate(file: str | PathLike[str] | Location) -> Location:
    """Return the file and the name in it that a path such as ``file.parquet:column`` says.

    A colon divides only where a known suffix stands before the last one, and where there is no file of
    the whole name.

    Raises
    ------
    ValueError
        If the suffix is not one that is read and written.

    Examples
    --------
    >>> from latalign.io.arrays import locate
    >>> locate("data/texts.parquet:embedding").name
    'embedding'
    >>> locate("texts.csv")
    Traceback (most recent call last):
        ...
    ValueError: texts.csv: arrays are read and written as .npy, .safetensors or .parquet, by ...
    """
    if isinstance(file, Location):
        return file
    path = Path(file)
    before, colon, name = str(path).rpartition(":")
    if colon and _suffix(Path(before)) in FORMATS and not path.is_file():
        if not name:
            raise ValueError(f"{file}: a name is missing after the colon")
        return Location(Path(before), name)
    if _suffix(path) not in FORMATS:
        raise ValueError(
            f"{file}: arrays are read and written as .npy, .safetensors or .parquet, by the file's suffix "
            "(file.parquet:column and file.safetensors:name say which array is meant)"
        )
    return Location(path)


def open_rows(file: str | PathLike[str] | Location) -> Reader:
    """Open a file of rows and check everything but the values.

    Parameters
    ----------
    file : path or Location
        A `.npy`, `.safetensors` or `.parquet` file; ``file.safetensors:name`` and
        ``file.parquet:column`` say which array of the file is meant.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the format is not read, the file is foreign or truncated, or it holds no 2-D array of float16,
        float32, float64 or integers.
    ModuleNotFoundError
        If the format needs an extra that is not installed.
    """
    location = locate(file)
    if not location.path.is_file():
        raise FileNotFoundError(f"there is no file {location.path}")
    return FORMATS[_suffix(location.path)].read(location)


def write_rows(
    file: str | PathLike[str] | Location, shape: Shape, like: Reader | None = None
) -> AbstractContextManager[Writer]:
    """Open a file to append blocks of rows to; it is in its place when all of them are, or not at all.

    Parameters
    ----------
    file : path or Location
    shape : Shape
        The number of rows that will be appended, their width and dtype.
    like : Reader, optional
        Where the rows come from: from Parquet to Parquet the other columns go along.
    """
    location = locate(file)
    return FORMATS[_suffix(location.path)].write(location, shape, like)


def holds_columns(file: str | PathLike[str] | Location) -> bool:
    """Tell whether a column of numbers can be written beside the rows of a file of that format."""
    return FORMATS[_suffix(locate(file).path)].tables


def _suffix(path: Path) -> str:
    return path.suffix.lower()
