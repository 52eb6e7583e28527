"""Exact search of an index of any size by cosine: a block of its rows at a time, mapped on the way if asked.

The metrics compare all rows of one space with one another and keep them in float64. Here the index is the
large side and stays where it is: memory depends on the queries and the block alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from latalign._validation import Rows
from latalign.maps import Map, Normalize

_BLOCK_VALUES = 1 << 23  # similarities at a time
_SAME = 1e-7  # one less the cosine of a row and its copy in float16

Ranks = NDArray[np.int64]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """Rows that are searched by cosine, as they are or mapped.

    Attributes
    ----------
    rows : array of shape (n, dim)
        Finite; read block by block, so they may be mapped from a file.
    map : Map or None
        What every row goes through before it is compared.
    """

    rows: Rows
    map: Map | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, numbers: NDArray[np.int64], dtype: np.dtype[Any]) -> Rows:
        """Return some rows, mapped, of length one. A zero row stays zero: its cosine with any is 0."""
        return self._compared(self.rows[numbers], dtype)

    def blocks(self, rows: int, dtype: np.dtype[Any]) -> Iterator[tuple[int, Rows]]:
        """Yield what `take` returns of consecutive rows, at most `rows`, and the number of the first."""
        rows = max(1, min(rows, _BLOCK_VALUES // self.rows.shape[1]))
        for start in range(0, len(self), rows):
            yield start, self._compared(self.rows[start : start + rows], dtype)

    def _compared(self, rows: Rows, dtype: np.dtype[Any]) -> Rows:
        rows = rows.astype(dtype, copy=False)
        return _unit(rows if self.map is None else self.map(rows))


def relevant_ranks(queries: Rows, index: Index, relevant: NDArray[np.int64]) -> Ranks:
    """Return the rank, from 1, at which each relevant row comes back.

    Of equal similarities the relevant row comes last, so that a collapsed space is not taken for a good one.

    Parameters
    ----------
    queries : array of shape (q, dim)
    index : Index
    relevant : int array of shape (q, r)
        Numbers of rows of the index; −1 stands for none.

    Returns
    -------
    int64 array of shape (q, r)
        0 where `relevant` is −1.
    """
    dtype = _work_dtype(queries, index)
    units = _unit(queries.astype(dtype, copy=False))
    # The same product in another order differs in its last bits.
    tie = 64 * np.finfo(dtype).eps
    own = np.full(relevant.shape, np.inf, dtype)
    for column, numbers in enumerate(relevant.T):
        there = np.flatnonzero(numbers >= 0)
        if not len(there):
            continue
        own[there, column] = np.einsum("ij,ij->i", units[there], index.take(numbers[there], dtype))
    found = np.zeros(relevant.shape, np.int64)
    for start, block in index.blocks(_BLOCK_VALUES // len(units), dtype):
        cosines = units @ block.T
        for column, (least, numbers) in enumerate(zip(own.T - tie, relevant.T, strict=True)):
            found[:, column] += np.count_nonzero(cosines >= least[:, None], axis=1)
            # The row itself counts, however the map of a block rounded it.
            here = np.flatnonzero((start <= numbers) & (numbers < start + len(block)))
            found[here, column] += cosines[here, numbers[here] - start] < least[here]
    return found


def nearest(queries: Rows, index: Index, k: int) -> NDArray[np.int64]:
    """Return the numbers of the `k` nearest rows of the index, the nearest first.

    Parameters
    ----------
    queries : array of shape (q, dim)
    index : Index
    k : int
        At most the rows of the index.

    Returns
    -------
    int64 array of shape (q, k)
    """
    dtype = _work_dtype(queries, index)
    units = _unit(queries.astype(dtype, copy=False))
    best = np.full((len(units), k), -np.inf, dtype)
    numbers = np.full((len(units), k), -1, np.int64)
    for start, block in index.blocks(_BLOCK_VALUES // len(units), dtype):
        cosines = units @ block.T
        # After the first blocks few queries find anything nearer.
        some = np.flatnonzero(cosines.max(axis=1) > best.min(axis=1))
        here = np.broadcast_to(np.arange(start, start + len(block)), (len(some), len(block)))
        both = np.hstack([best[some], cosines[some]])
        keep = np.argpartition(-both, k - 1, axis=1)[:, :k]
        best[some] = np.take_along_axis(both, keep, axis=1)
        numbers[some] = np.take_along_axis(np.hstack([numbers[some], here]), keep, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(numbers, order, axis=1)


def among(rows: Rows, others: Rows) -> NDArray[np.bool_]:
    """Tell of every row whether it is one of the others, but for a factor and the rounding of float16.

    By content, because an index often keeps rows of length one, and in few digits. By cosine such rows are
    the same. A row of zeros is none of the others.
    """
    dtype = np.dtype(np.float64)
    found = np.zeros(len(rows), bool)
    units = _unit(rows.astype(dtype, copy=False))
    for _, block in Index(others).blocks(_BLOCK_VALUES // len(rows), dtype):
        found |= (units @ block.T).max(axis=1) > 1 - _SAME
    return found


def _unit(rows: Rows) -> Rows:
    """Return floats divided by their length, what `Normalize` does; faster where no square overflows."""
    with np.errstate(over="ignore", under="ignore"):
        squares = np.einsum("ij,ij->i", rows, rows)
    room = np.finfo(rows.dtype)
    if room.tiny / room.eps < squares.min() and squares.max() < room.max:
        return rows / np.sqrt(squares)[:, None]
    return Normalize()(rows)


def _work_dtype(queries: Rows, index: Index) -> np.dtype[Any]:
    """Return float32 where the stored rows have no more digits, else float64."""
    narrow = all(rows.dtype in (np.float16, np.float32) for rows in (queries, index.rows))
    return np.dtype(np.float32 if narrow else np.float64)
