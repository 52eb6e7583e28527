"""Two files of the same things, by an old and a new model: in one order, or brought into one by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Rows
from latalign.anchors import pair_by_id
from latalign.io.arrays import open_rows
from latalign.io.protocol import Location
from latalign.io.relevant import ids_beside
from latalign.pairing import paired


@final
@dataclass(frozen=True, slots=True, eq=False)
class Sides:
    """Rows of which row i of both is the same thing, in the order of the old ones.

    Attributes
    ----------
    old : array of shape (n, dim_old)
    new : array of shape (n, dim_new) or None
        None where there is no file of them.
    where : Location
        The file of the old ones.
    id_column : str or None
        By which rows are paired; None where it is by their order.
    """

    old: Rows
    new: Rows | None
    where: Location
    id_column: str | None

    def in_order(self, values: Sequence[Any] | NDArray[Any], place: Location) -> Sequence[Any] | NDArray[Any]:
        """Return values of the rows, out of another file, in the order of the rows: by their ids if it has them.

        Raises
        ------
        ValueError
            As `read_sides` by ids.
        """
        if self.id_column is None or (theirs := ids_beside(place, self.id_column)) is None:
            return values
        ids = open_rows(self.where).ids(self.id_column)
        return [values[row] for row in _order(ids, theirs, self.where, place)]


def read_sides(old: Location, new: Location | None, id_column: str | None) -> Sides:
    """Return the rows of two files of the same things.

    By their order it warns where a column of both tables, which may be ids, is in another order.

    Raises
    ------
    ValueError
        If they have not as many rows; or, by ids, if one is missing, there twice, or on one side only.
    """
    first = open_rows(old)
    if new is None:
        return Sides(first.load(), None, old, id_column)
    second = open_rows(new)
    if id_column is None:
        paired(first, second, caller="verdict")
        return Sides(first.load(), second.load(), old, None)
    order = _order(first.ids(id_column), second.ids(id_column), old, new)
    return Sides(first.load(), second.load()[order], old, id_column)


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
