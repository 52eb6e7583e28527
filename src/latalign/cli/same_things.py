"""Two files of the same things, by an old and a new model: in one order, or brought into one by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Rows
from latalign.anchors import pair_by_id
from latalign.io.arrays import open_rows
from latalign.io.protocol import Location
from latalign.io.relevant import ids_beside
from latalign.pairing import paired

Values = Sequence[Any] | NDArray[Any]


def read_sides(old: Location, new: Location, id_column: str | None) -> tuple[Rows, Rows]:
    """Return the rows of two files of which row i of both is the same thing, in the order of the old ones.

    By their order it warns where a column of both tables, which may be ids, is in another order.

    Raises
    ------
    ValueError
        If they have not as many rows; or, by ids, if one is missing, there twice, or on one side only.
    """
    first, second = open_rows(old), open_rows(new)
    if id_column is None:
        paired(first, second, caller="verdict")
        return first.load(), second.load()
    order = _order(first.ids(id_column), second.ids(id_column), old, new)
    return first.load(), second.load()[order]


def in_order_of(rows: Location, values: Values, place: Location, id_column: str | None) -> Values:
    """Return values out of another file in the order of rows: by their ids, where that is asked for and it has ids.

    Raises
    ------
    ValueError
        As `read_sides`, by ids.
    """
    if id_column is None or (theirs := ids_beside(place, id_column)) is None:
        return values
    return [values[row] for row in _order(open_rows(rows).ids(id_column), theirs, rows, place)]


def _order(ids: NDArray[Any], others: NDArray[Any], where: Location, place: Location) -> NDArray[np.intp]:
    """Return the rows of one file in the order of another, which has the same ids."""
    try:
        own, order = pair_by_id(ids, others, unmatched="drop")
    except ValueError as error:
        raise ValueError(f"{where} and {place}: {error}") from error
    for count, here, there in ((len(ids), where, place), (len(others), place, where)):
        if count > len(own):
            raise ValueError(
                f"verdict needs the same things in {where} and {place}; {count - len(own)} of {count} ids of "
                f"{here} are not in {there}. Leave those rows out of {here}."
            )
    return order
