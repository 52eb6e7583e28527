"""Who corresponds to whom: pairing rows by id, and drawing anchors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Index = NDArray[np.intp]


def pair_by_id(
    source_ids: ArrayLike, target_ids: ArrayLike, *, unmatched: str = "error"
) -> tuple[Index, Index]:
    """Return the row numbers that pair two sets of rows by their ids, in the order of the source.

    Parameters
    ----------
    source_ids : array-like of shape (n,)
    target_ids : array-like of shape (m,)
        Integers or strings. None of either may be missing or occur twice.
    unmatched : {"error", "drop"}
        What becomes of ids that only one side has.

    Returns
    -------
    source_rows, target_rows : arrays of int, equally long

    Raises
    ------
    ValueError
        If ids are duplicate or missing, or no id is on both sides.

    Examples
    --------
    >>> from latalign import pair_by_id
    >>> pair_by_id(["a", "b", "c"], ["c", "a", "b"])
    (array([0, 1, 2]), array([1, 2, 0]))
    """
    if unmatched not in ("error", "drop"):
        raise ValueError(f'pair_by_id: unmatched is "error" or "drop"; got {unmatched!r}')
    source, target = _as_ids(source_ids, "source"), _as_ids(target_ids, "target")
    if (source.dtype.kind == "U") != (target.dtype.kind == "U"):
        raise ValueError(
            "pair_by_id needs ids of one kind on both sides; got "
            f"{source.dtype} in the source and {target.dtype} in the target"
        )
    shared, source_rows, target_rows = np.intersect1d(source, target, assume_unique=True, return_indices=True)
    if unmatched == "error":
        for ids, name, other in ((source, "source", "target"), (target, "target", "source")):
            if len(ids) > len(shared):
                alone = np.setdiff1d(ids, shared)
                raise ValueError(
                    f"pair_by_id: {len(alone)} of {len(ids)} {name} ids are missing in the {other}, {alone[0]!s} "
                    'among them. Pair what both have with unmatched="drop" (--unmatched drop).'
                )
    if not len(shared):
        raise ValueError("pair_by_id: the two sides have no id in common")
    order = np.argsort(source_rows)
    return source_rows[order], target_rows[order]


def random_anchors(
    count: int, n_anchors: int, *, random_state: int | np.random.Generator | None = 0
) -> Index:
    """Return the sorted numbers of `n_anchors` different rows out of `count`, drawn at random.

    Examples
    --------
    >>> from latalign import random_anchors
    >>> len(random_anchors(1000, 20))
    20
    """
    if not 1 <= n_anchors <= count:
        raise ValueError(f"random_anchors needs 1 ≤ n_anchors ≤ {count} rows; got {n_anchors}")
    drawn = np.random.default_rng(random_state).choice(count, n_anchors, replace=False)
    return np.sort(drawn).astype(np.intp)


def _as_ids(ids: ArrayLike, side: str) -> NDArray[Any]:
    """Return ids as integers or strings, none of them missing or twice."""
    values = np.asarray(ids)
    if values.ndim != 1:
        raise ValueError(f"pair_by_id needs a 1-D array of {side} ids; got shape {values.shape}")
    if values.dtype.kind == "O":
        missing = sum(1 for value in values if value is None or value != value)
    elif values.dtype.kind == "f":
        missing = int(np.isnan(values).sum())
    else:
        missing = 0
    if missing:
        raise ValueError(f"pair_by_id: {missing} of {len(values)} {side} ids are missing (null)")
    if values.dtype.kind not in "iu":
        values = values.astype(np.str_)
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) < len(values):
        twice = counts > 1
        raise ValueError(
            f"pair_by_id: {int(twice.sum())} {side} ids occur more than once, {unique[twice][0]!s} among them. "
            "An id names one row; remove the duplicates."
        )
    return values
