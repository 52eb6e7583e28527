"""Whether the rows of many spaces correspond, two at a time, before anything is made of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

from numpy.typing import ArrayLike

from latalign._validation import Pairs
from latalign.relation import (
    INDISTINGUISHABLE,
    UnrelatedPairsWarning,
    relation_p_value,
    require_related,
    unrelated,
)

_FORCE = "Where that cannot be, --force takes them as they are (refuse_unrelated=False)."


def look_at_relation(
    rows: Mapping[str, ArrayLike], pairs: Iterable[tuple[str, str]], caller: str, refuse: bool
) -> None:
    """Warn of the first two spaces whose rows cannot be told from shuffled ones, or refuse them."""
    for one, other in pairs:
        named = f"{caller}, {one!r} and {other!r}"
        if refuse:
            require_related(rows[one], rows[other], named, _FORCE)
            continue
        p_value = relation_p_value(Pairs.of(rows[one], rows[other]))
        if p_value > INDISTINGUISHABLE:
            warnings.warn(unrelated(named, p_value), UnrelatedPairsWarning, stacklevel=3)
            return
