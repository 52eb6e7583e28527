"""Whether pairs as a whole are distinguishable from shuffled ones: who is warned, and of what."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._validation import Pairs
from latalign.permutation import permutation_p_value
from latalign.select import keys_of

INDISTINGUISHABLE = 0.05
"""The p-value above which pairs are not to be told from shuffled ones."""

# Fewer different pairs say nothing for certain. Of many, a few hundred settle nearly every case; only where
# they leave a doubt are more looked at.
_FEW_ROWS = 10
_ROWS = (256, 4096)
_CLEAR = 1e-6
_KEYED_ROWS = 1024
_MOSTLY = 0.95  # of the pairs that count in a robust fit should be nearer than nearly all other pairings


class UnrelatedPairsWarning(UserWarning):
    """The pairs cannot be told from pairs whose rows were shuffled: all of them together, or each of them."""


def relation_p_value(pairs: Pairs, rng: np.random.Generator | None = None) -> float:
    """Return the p-value of the hypothesis that the rows do not correspond; NaN where nothing can be said.

    Parameters
    ----------
    pairs : Pairs
        What they weigh does not matter; equal pairs count once.
    rng : Generator, optional
        Draws which of many pairs are looked at: 256, and 4096 where those leave a doubt.

    Returns
    -------
    float
    """
    rng = np.random.default_rng(0) if rng is None else rng
    p_value = np.nan
    for number, rows in enumerate(_ROWS):
        index = _different(pairs, _drawn(len(pairs), rows, rng))
        if len(index) < _FEW_ROWS:
            return np.nan
        p_value = permutation_p_value(pairs, index, thorough=number > 0)
        if p_value <= _CLEAR:
            break
    return p_value


def _drawn(count: int, most: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the numbers of so many pairs at most, in order."""
    if count <= most:
        return np.arange(count)
    return np.sort(rng.choice(count, most, replace=False, shuffle=False))


def _different(pairs: Pairs, index: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return `index` with equal pairs once. No more than some rows are copied at a time."""
    parts = (index[start : start + _KEYED_ROWS] for start in range(0, len(index), _KEYED_ROWS))
    keys = np.concatenate([keys_of(pairs.take(part)) for part in parts])
    return index[np.sort(np.unique(keys, return_index=True)[1])]


def require_related(X: ArrayLike, Y: ArrayLike, caller: str, remedy: str) -> None:
    """Raise a ValueError where pairs cannot be told from shuffled ones."""
    p_value = relation_p_value(Pairs.of(X, Y, caller=caller))
    if p_value > INDISTINGUISHABLE:
        raise ValueError(f"{unrelated(caller, p_value)} {remedy}")


def warn_if_unrelated(pairs: Pairs, rng: np.random.Generator | None = None) -> None:
    """Warn where pairs cannot be told from shuffled ones."""
    p_value = relation_p_value(pairs, rng)
    if p_value > INDISTINGUISHABLE:
        warnings.warn(unrelated(pairs.caller, p_value), UnrelatedPairsWarning, stacklevel=3)


def warn_if_unclear(record: Mapping[str, float], caller: str) -> None:
    """Warn where a robust fit had too few pairs to tell which of them correspond."""
    if record["clear"] < _MOSTLY:
        warnings.warn(
            f"{caller}: a robust fit could tell of {record['clear']:.0%} of the pairs that count, and there are "
            f"{record['pairs']:.0f}, that they are nearer to each other than to others'. Wrong pairs may be among the "
            'rest. Give more pairs, four a dimension or more, or check these; method="rigid" suffers least.',
            UnrelatedPairsWarning,
            stacklevel=3,
        )


def unrelated(caller: str, p_value: float) -> str:
    """Return what is to be said of pairs with so high a p-value."""
    return (
        f"{caller}: the pairs cannot be told from shuffled ones (permutation test, p = {p_value:.2g}). Check that "
        "row i of both sides is the same thing: latalign.audit looks for rows that are shifted, swapped or out of "
        "order."
    )
