"""Whether pairs as a whole are distinguishable from shuffled ones: who is warned, and of what."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._validation import Pairs
from latalign.permutation import permutation_p_value
from latalign.select import keys_of

DOUBTFUL, INDISTINGUISHABLE = 0.01, 0.05
"""The p-values above which pairs look unrelated, and are not to be told from shuffled ones."""

# Fewer different pairs say nothing for certain. Of many, a few hundred settle nearly every case; only where
# they leave a doubt are more looked at.
_FEW_ROWS = 10
_ROWS = (256, 4096)
_CLEAR = 1e-6
_KEYED_ROWS = 1024


class UnrelatedPairsWarning(UserWarning):
    """The pairs cannot be told, or hardly, from pairs whose rows were shuffled."""


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
    """Raise a ValueError where pairs cannot be told from shuffled ones; warn where they look unrelated."""
    p_value = relation_p_value(Pairs.of(X, Y, caller=caller))
    if p_value > INDISTINGUISHABLE:
        raise ValueError(f"{unrelated(caller, p_value)} {remedy}")
    if p_value > DOUBTFUL:
        warnings.warn(unrelated(caller, p_value), UnrelatedPairsWarning, stacklevel=2)


def warn_if_unrelated(pairs: Pairs, rng: np.random.Generator | None = None) -> None:
    """Warn where pairs cannot be told from shuffled ones."""
    p_value = relation_p_value(pairs, rng)
    if p_value > INDISTINGUISHABLE:
        warnings.warn(unrelated(pairs.caller, p_value), UnrelatedPairsWarning, stacklevel=3)


def unrelated(caller: str, p_value: float) -> str:
    """Return what is to be said of pairs with so high a p-value."""
    doubt = "cannot be told from shuffled ones", "look unrelated, or hardly related"
    what = doubt[0] if p_value > INDISTINGUISHABLE else doubt[1]
    return (
        f"{caller}: the pairs {what} (permutation test, p = {p_value:.2g}). Check that row i of both sides is "
        "the same thing: latalign.audit looks for rows that are shifted, swapped or out of order."
    )
