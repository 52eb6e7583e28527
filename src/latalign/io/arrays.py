"""Arrays in and out of files: the formats there are, and how a file is named."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.request import url2pathname

from latalign.io import folder, grids, ipc, lance, npy, parquet, safetensors, stream
from latalign.io.extras import required
from latalign.io.files import is_remote
from latalign.io.protocol import Format, Location, Reader, Shape, Writer

_ARROW = Format(ipc.read, ipc.write, remote=True, tables=True)
_HDF5 = Format(grids.read_hdf5, grids.write_hdf5)
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        ".npy": Format(npy.read, npy.write),
        ".safetensors": Format(safetensors.read, safetensors.write),
        ".parquet": Format(parquet.read, parquet.write, remote=True, tables=True),
        ".arrow": _ARROW,
        ".feather": _ARROW,
        ".h5": _HDF5,
        ".hdf5": _HDF5,
        ".lance": Format(lance.read, lance.write, folder=True, remote=True, tables=True),
        ".zarr": Format(grids.read_zarr, grids.write_zarr, folder=True, remote=True),
    }
)
NAMED = ", ".join(FORMATS)
"""The suffixes, for errors."""

_PATTERN = frozenset("*?[")
_HERE = ("file", "local")  # schemes of addresses on this machine

Source = str | PathLike[str] | Location | Any
"""A path, an address, a folder, a pattern, or an object that has ``__arrow_c_stream__``."""


def locate(file: str | PathLike[str] | Location) -> Location:
    """Return the file or folder, and the name in it, that a path such as ``file.parquet:column`` says.

    A colon divides only where a known suffix or a folder stands before the last one, and where there is
    nothing of the whole name.

    Raises
    ------
    ValueError
        If the suffix is not one that is read and written.
    ModuleNotFoundError
        If it is an address (``s3://``) and the extra for those is not installed.

    Examples
    --------
    >>> from latalign.io.arrays import locate
    >>> locate("data/texts.parquet:embedding").name
    'embedding'
    >>> locate("texts.csv")
    Traceback (most recent call last):
        ...
    ValueError: texts.csv: rows are read and written as .npy, .safetensors, .parquet, ..., by ...
    """
    if isinstance(file, Location):
        return file
    path = _path(file)
    before, colon, name = str(file).rpartition(":")
    if colon and not name.startswith("//") and not path.exists():
        place = _path(before)
        if _suffix(place) in FORMATS or place.is_dir():
            if not name:
                raise ValueError(f"{file}: a name is missing after the colon")
            return _checked(Location(place, name))
    if _suffix(path) not in FORMATS and not path.is_dir():
        raise ValueError(
            f"{file}: rows are read and written as {NAMED}, by the file's suffix "
            "(file.parquet:column and file.safetensors:name say which array is meant)"
        )
    return _checked(Location(path))


def locate_output(file: str | PathLike[str] | Location) -> Location:
    """Return what `locate` does, of rows that are to be written.

    Raises
    ------
    IsADirectoryError
        If it is a folder.
    ValueError
        If the format is a folder and is to be at an address; and as in `locate`.
    """
    location = locate(file)
    suffix = _suffix(location.path)
    if suffix not in FORMATS:
        raise IsADirectoryError(f"cannot write {location.path}: it is a folder. Name a file in it.")
    if FORMATS[suffix].folder and is_remote(location.path):
        far = ", ".join(other for other, one in FORMATS.items() if one.remote and not one.folder)
        raise ValueError(
            f"cannot write {location.path}: {suffix} are folders, which are renamed in one step on this machine "
            f"only. Write it here and copy it, or write one of {far}."
        )
    return location


def exists(location: Location) -> bool:
    """Tell whether there is something to read: a file, a folder, or files that a pattern names."""
    return location.path.exists() or bool(_matches(location))


def open_rows(source: Source) -> Reader:
    """Open rows and check everything but the values.

    Parameters
    ----------
    source : path, Location or object
        A file of one of `FORMATS`; a folder of them, or a pattern such as ``"data/*.parquet"``, whose
        files are taken in the order of their names; a folder that Hugging Face `datasets` saved; an
        address such as ``s3://bucket/x.parquet``; or any object that has ``__arrow_c_stream__``. With
        ``:name`` after it which array or column is meant.

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
    if stream.is_stream(source):
        return stream.read(source)
    location = locate(source)
    path = location.path
    if matches := _matches(location):
        return folder.read(location, matches, _open_one)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if _suffix(path) in FORMATS:
        return _open_one(location)
    if not is_remote(path) and ipc.is_dataset(path):
        return ipc.read_dataset(location)
    return folder.read(location, folder.listed(path, is_part, NAMED), _open_one)


def write_rows(
    file: str | PathLike[str] | Location, shape: Shape, like: Reader | None = None
) -> AbstractContextManager[Writer]:
    """Open a file to append blocks of rows to; it is in its place when all of them are, or not at all.

    Parameters
    ----------
    file : path or Location
    shape : Shape
        The number of rows that will be appended, if it is known, their width and dtype.
    like : Reader, optional
        Where the rows come from: from a table to a table the other columns go along.
    """
    location = locate_output(file)
    if isinstance(like, folder.FolderRows):
        like = like.parts[0]
    return FORMATS[_suffix(location.path)].write(location, shape, like)


def holds_columns(file: str | PathLike[str] | Location) -> bool:
    """Tell whether a column of numbers can be written beside the rows of a file of that format."""
    return FORMATS[_suffix(locate(file).path)].tables


def is_part(path: Path) -> bool:
    """Tell whether a path may be one of several that hold one sequence of rows."""
    return _suffix(path) in FORMATS


def _open_one(location: Location) -> Reader:
    path, format_ = location.path, FORMATS[_suffix(location.path)]
    if not is_remote(path) and path.is_dir() != format_.folder:
        what = ("folders", "a file") if format_.folder else ("files", "a folder")
        raise ValueError(
            f"{path} is {what[1]}, but {_suffix(path)} are {what[0]}: it is truncated or foreign"
        )
    return format_.read(location)


def _checked(location: Location) -> Location:
    """Refuse an address of a format whose library reads files of this machine only."""
    format_ = FORMATS.get(_suffix(location.path))
    if is_remote(location.path) and format_ is not None and not format_.remote:
        far = ", ".join(suffix for suffix, one in FORMATS.items() if one.remote)
        raise ValueError(
            f"{location.path}: {_suffix(location.path)} files are read and written on this machine only. Copy it "
            f"first, or use one of {far}."
        )
    return location


def _matches(location: Location) -> list[Path]:
    """Return the files that a pattern names, in the order of their names."""
    path = location.path
    if not _PATTERN & set(str(path)) or path.exists():
        return []
    base = path
    while _PATTERN & set(str(base)):
        base = base.parent
    pattern = str(path)[len(str(base)) :].lstrip("/\\") if str(base) != "." else str(path)
    found = (one for one in base.glob(pattern) if not one.name.startswith((".", "_")) and is_part(one))
    return sorted(found, key=str)


def _path(file: str | PathLike[str]) -> Path:
    text = str(file)
    scheme, far, rest = text.partition("://")
    if not isinstance(file, Path) and far and scheme in _HERE:
        return Path(url2pathname(rest.removeprefix("localhost")))
    if not isinstance(file, Path) and far and len(scheme) > 1:
        address: Path = required("upath", "remote", f"Addresses such as {scheme}://").UPath(text)
        return address
    return file if is_remote(file) else Path(file)  # pyright: ignore[reportReturnType]


def _suffix(path: Path) -> str:
    return path.suffix.lower()
