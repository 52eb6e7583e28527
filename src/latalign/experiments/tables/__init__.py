"""The tables of the paper, one file each: which networks, which anchors, which methods.

Each has ``plan(preset)``. Beside the paper's columns stand those of every method that the library has,
and beside its rows, where that answers a question it leaves open, more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from latalign.experiments.plan import Plan, Preset
from latalign.experiments.tables import table1, table2, table3, table4, table5, table6

TABLES: Mapping[str, Callable[[Preset], Plan]] = MappingProxyType(
    {
        "table1": table1.plan,
        "table2": table2.plan,
        "table3": table3.plan,
        "table4": table4.plan,
        "table5": table5.plan,
        "table6": table6.plan,
    }
)
