"""Rows that correspond, read whole out of two files or more: by their order, or by an id."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Rows, require_finite
from latalign.anchors import pair_by_id
from latalign.io.arrays import Source, open_rows
from latalign.io.protocol import Reader
from latalign.io.stamps import unchanged
from latalign.pairing import Unmatched, paired

Ids = NDArray[Any]


def read_pairs(
    source: Source,
    target: Source,
    *,
    id_column: str | None = None,
    unmatched: Unmatched = "error",
) -> tuple[Rows, Rows]:
    """Return the rows of two files that correspond, by their order or by an id.

    Parameters
    ----------
    source, target : path
        Files of any format; see `latalign.io.arrays.open_rows`. Rows of `.npy` and `.safetensors` are
        mapped from the file, not copied.
    id_column : str, optional
        The column of both tables that says which rows are the same thing. By order unless given.
    unmatched : {"error", "drop"}
        What becomes of ids that only one side has.

    Returns
    -------
    X : array of shape (n, dim_source)
    Y : array of shape (n, dim_target)

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a file is not sound or holds no rows, values are not finite (counted, with the first row of
        the file), the numbers of rows differ, or ids are missing, duplicate or unmatched.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from latalign.loading import read_pairs
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "old.npy"), np.ones((3, 2)))
    ...     np.save(Path(folder, "new.npy"), np.ones((3, 4)))
    ...     X, Y = read_pairs(Path(folder, "old.npy"), Path(folder, "new.npy"))
    >>> X.shape, Y.shape
    ((3, 2), (3, 4))
    """
    return load_pairs(open_rows(source), open_rows(target), id_column, unmatched)


def read_many(
    sources: Sequence[Source], *, id_column: str | None = None, unmatched: Unmatched = "error"
) -> tuple[Rows, ...]:
    """Return the rows of two or more files that correspond, by their order or by an id.

    Parameters
    ----------
    sources : sequence of path
        As for `read_pairs`.
    id_column : str, optional
        The column of all tables that says which rows are the same thing; the order is then that of the first.
    unmatched : {"error", "drop"}
        What becomes of ids that not all have.

    Returns
    -------
    tuple of arrays of shape (n, dim), one a file

    Raises
    ------
    FileNotFoundError, ValueError
        As in `read_pairs`.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> from latalign.loading import read_many
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     paths = [Path(folder, f"{dim}.npy") for dim in (2, 3, 4)]
    ...     for path, dim in zip(paths, (2, 3, 4)):
    ...         np.save(path, np.ones((5, dim)))
    ...     [rows.shape for rows in read_many(paths)]
    [(5, 2), (5, 3), (5, 4)]
    """
    first, *others = readers = [open_rows(source) for source in sources]
    if id_column is None:
        for other in others:
            paired(first, other)  # as many rows everywhere
        return tuple(_loaded(reader) for reader in readers)
    ids = [np.asarray(reader.ids(id_column)) for reader in readers]
    shared = ids[0]
    for reader, own in zip(others, ids[1:], strict=True):
        kept, _ = _paired_by_id((first, reader), shared, own, unmatched)
        shared = shared[kept]
    numbers = [pair_by_id(shared, own, unmatched="drop")[1] for own in ids]
    return tuple(_loaded(reader)[rows] for reader, rows in zip(readers, numbers, strict=True))


def load_pairs(
    source: Reader, target: Reader, id_column: str | None, unmatched: Unmatched
) -> tuple[Rows, Rows]:
    """Return what `read_pairs` does, of sources that were opened."""
    if id_column is None:
        paired(source, target)  # as many rows on both sides
        return _loaded(source), _loaded(target)
    ids = source.ids(id_column), target.ids(id_column)
    source_rows, target_rows = _paired_by_id((source, target), *ids, unmatched)
    return _loaded(source)[source_rows], _loaded(target)[target_rows]


def _paired_by_id(
    sides: tuple[Reader, Reader], source_ids: Ids, target_ids: Ids, unmatched: Unmatched
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return what `pair_by_id` does; where it finds something wrong, say in which files."""
    try:
        return pair_by_id(source_ids, target_ids, unmatched=unmatched)
    except ValueError as error:
        raise ValueError(f"{sides[0].location} and {sides[1].location}: {error}") from error


def _loaded(reader: Reader) -> Rows:
    """Return all rows, every value of them finite."""
    with unchanged(reader.files):
        rows = reader.load()
        require_finite(rows, str(reader.location))
    return rows
