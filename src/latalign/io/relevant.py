"""What queries should find, out of files: rows or ids, one or several a query."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from latalign.io import ipc, npy, parquet
from latalign.io.extras import pyarrow
from latalign.io.protocol import Location
from latalign.io.tables import NoSuchColumn

_TABLES = {".parquet": parquet.column_of, ".arrow": ipc.column_of, ".feather": ipc.column_of}
_FORMS = (
    "a .npy file of whole numbers or strings, text with a line of them for each query, or file.parquet:COLUMN of "
    "integers, of strings or of lists of them (.arrow and .feather as well)"
)


def locate_relevant(file: str | PathLike[str]) -> Location:
    """Return the file and, of a table, the column that a path such as ``file.parquet:column`` says.

    Raises
    ------
    ValueError
        If it is a table and no column is said.
    """
    path = Path(file)
    before, colon, name = str(path).rpartition(":")
    if colon and Path(before).suffix.lower() in _TABLES and not path.is_file():
        path = Path(before)
        if name:
            return Location(path, name)
    if path.suffix.lower() in _TABLES:
        raise ValueError(f"{file}: which column says what a query should find? Say {path.name}:COLUMN")
    return Location(path)


def read_relevant(file: str | PathLike[str] | Location, *, texts: bool = False) -> NDArray[Any] | list[Any]:
    """Return what each query should find: one value or a list of them a query.

    Parameters
    ----------
    file : path or Location
        A `.npy` file of shape (queries,) or (queries, several); ``file.parquet:column`` (or of an Arrow file) of
        integers, strings or lists of them; any other is text with a line a query, values with blanks between.
    texts : bool
        Whether the values of a text are strings, whatever they look like.

    Returns
    -------
    array or list
        As `latalign.verdict` takes it. None where a table has a null.

    Raises
    ------
    ValueError
        If it is foreign or truncated, or holds something else.
    ModuleNotFoundError
        If it is a table and pyarrow is not installed.
    """
    location = file if isinstance(file, Location) else locate_relevant(file)
    try:
        if location.name is not None:
            return _values(location, location.name)
        if location.path.suffix.lower() == ".npy":
            return npy.read_array(location.path)
        lines = location.path.read_text(encoding="utf-8").splitlines()
        while lines and not lines[-1].strip():
            del lines[-1]
        return [[one if texts else int(one) for one in line.split()] for line in lines]
    except ValueError as error:
        raise ValueError(f"{location} is no list of relevant rows: {_FORMS} ({error})") from error


def ids_beside(location: Location, column: str) -> NDArray[Any] | None:
    """Return the ids that stand beside a column of a table; None where it is no table, or has no such column."""
    table = _TABLES.get(location.path.suffix.lower())
    if location.name is None or table is None:
        return None
    try:
        return table(location, column).to_numpy()
    except NoSuchColumn:
        return None


def _values(location: Location, name: str) -> list[Any]:
    """Return a column of integers, strings or lists of either."""
    types = pyarrow().types
    column = _TABLES[location.path.suffix.lower()](location, name)
    kind = column.type
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        kind = kind.value_type
    if types.is_dictionary(kind):
        kind = kind.value_type
    texts = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if not (types.is_integer(kind) or texts):
        raise ValueError(f"the column {name!r} is {column.type}")
    return column.to_pylist()
