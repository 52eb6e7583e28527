"""What the tables must show: ``python -m latalign.experiments.acceptance FOLDER``, with the JSON of table 1, 4 and 5.

The limits of the full preset are the project's claims; those of the quick one are what its single seed
gives, with room for another machine's rounding.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import final

from latalign.experiments.results import Result, Table

_LATENT = 50
_GAUGE = 1e-3  # what scaling a space may change, of the error
_FREE = ("similarity", "linear", "ridge")  # of the scale of the source

Limits = tuple[float | None, float | None]
# By direction, for the claims whose limit depends on it.
_RATIOS: Mapping[str, Mapping[str, Limits]] = {
    "conv_to_mlp": {"all": (None, 0.75), "100": (None, 0.75), "similarity": (None, 0.85)},
    "mlp_to_conv": {"all": (None, 0.80), "100": (None, 0.85), "similarity": (None, None)},
}
# A decoder's own error, by preset: three epochs do not come as far as five.
_OWN: Mapping[str, Mapping[str, Limits]] = {
    "full": {"mlp": (0.083, 0.098), "conv": (None, 0.072)},
    "quick": {"mlp": (0.090, 0.103), "conv": (None, 0.078)},
}


@final
@dataclass(frozen=True, slots=True)
class Check:
    """One figure and where it must lie.

    Attributes
    ----------
    claim : str
    value : float
    low, high : float or None
        None where there is no such limit.
    """

    claim: str
    value: float
    low: float | None = None
    high: float | None = None

    @property
    def holds(self) -> bool:
        """Whether it lies there; what could not be measured does not."""
        low = -float("inf") if self.low is None else self.low
        high = float("inf") if self.high is None else self.high
        return low <= self.value <= high

    def __str__(self) -> str:
        low = "" if self.low is None else f"{self.low:g} ≤ "
        high = "" if self.high is None else f" ≤ {self.high:g}"
        return f"{'ok   ' if self.holds else 'FAILS'}  {self.claim}: {low}{self.value:.4g}{high}"


def checks(tables: Mapping[str, Table]) -> Iterator[Check]:
    """Yield what tables 1, 4 and 5 must show; medians over seeds and draws.

    Raises
    ------
    KeyError
        If a table or a cell is missing.
    """
    five = tables["table5"]
    yield Check("MNIST: the floor of a sigmoid", tables["table1"].results[0].floor, 0.455, 0.475)
    for direction in _RATIOS:
        yield from _direction(five, direction)
    yield from _labels_only(tables["table4"])


def _direction(table: Table, direction: str) -> Iterator[Check]:
    def error(column: str, anchors: int | str) -> float:
        return _cell(column, anchors).median

    def _cell(column: str, anchors: int | str) -> Result:
        return table.cell(column, direction=direction, latent=_LATENT, anchors=anchors)

    arrow = direction.replace("_to_", " → ")
    limits = _RATIOS[direction]
    own = "mlp" if direction.endswith("mlp") else "conv"
    expected = _OWN.get(table.preset.name, _OWN["full"])
    yield Check(f"{own}: its own error", error(own, 100), *expected[own])
    yield Check(f"{arrow}: no map", error("no map", 100), 0.9)
    for anchors, key in (("all", "all"), (100, "100")):
        ratio = error("linear", anchors) / error("rigid", anchors)
        yield Check(f"{arrow}, {anchors} anchors: linear / rigid", ratio, *limits[key])
    yield Check(f"{arrow}, all anchors: linear / own", error("linear", "all") / error(own, 100), None, 1.6)
    yield Check(
        f"{arrow}, all anchors: affine / linear", error("affine", "all") / error("linear", "all"), None, 1.01
    )
    yield Check(
        f"{arrow}, 100 anchors: ridge / linear", error("ridge", 100) / error("linear", 100), None, 1.0
    )
    yield Check(f"{arrow}, 50 anchors: linear / ridge", error("linear", 50) / error("ridge", 50), 3.0)
    yield Check(f"{arrow}, 50 anchors: ridge / rigid", error("ridge", 50) / error("rigid", 50), None, 1.0)
    for anchors in (200, 500, "all"):
        ratio = error("ridge", anchors) / error("linear", anchors)
        yield Check(f"{arrow}, {anchors} anchors: ridge / linear", ratio, None, 1.01)
    if limits["similarity"] != (None, None):
        ratio = error("similarity", 100) / error("rigid", 100)
        yield Check(f"{arrow}, 100 anchors: similarity / rigid", ratio, *limits["similarity"])
    for method in _FREE:
        scaled, plain = _cell(f"{method} (source × 3)", 100), _cell(method, 100)
        # The scaled fits are those of each seed's first draw of the anchors.
        first = plain.errors[:: table.preset.draws]
        whole = len(scaled.errors) == len(first) and not (scaled.failures or plain.failures)
        changes = [abs(a / b - 1) for a, b in zip(scaled.errors, first, strict=False)]
        change = max(changes) if whole and changes else math.nan
        yield Check(f"{arrow}: {method}, change when the source is scaled by 3", change, None, _GAUGE)


def _labels_only(table: Table) -> Iterator[Check]:
    for direction in _RATIOS:
        row = {"networks": f"Fashion-MNIST {direction}", "latent": _LATENT}
        means = table.cell("means_linear", **row).median
        arrow = direction.replace("_to_", " → ")
        columns = {"other": "means_icp_linear (one-sided, other images)", "the same": "means_icp_linear"}
        if table.preset.name == "quick":
            # With the same images on both sides, closest points now and then find the very partners, as they
            # do from the MLP to the convolutional network of quick's one seed.
            del columns["the same"]
        for images, column in columns.items():
            ratio = table.cell(column, **row).median / means
            name = f"{arrow}, labels only, {images} images on both sides: one-sided linear ICP / class means"
            yield Check(name, ratio, 1.6)
        others = {
            "class means, linear": ("means_linear", 0.65),
            "affine of all pairs": ("affine, all pairs", 1.15),
        }
        for images, (other, (column, limit)) in product(("same", "other"), others.items()):
            ratio = _worst(table.cell(f"labels ({images} images)", **row), table.cell(column, **row))
            yield Check(
                f"{arrow}, labels only, {images} images: from labels / {other}, worst", ratio, None, limit
            )


def _worst(one: Result, other: Result) -> float:
    """Return the largest ratio of errors between the same networks; NaN where some failed."""
    if not one.errors or one.failures or other.failures:
        return math.nan
    return max(a / b for a, b in zip(one.errors, other.errors, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print every check, and return 1 where one fails, 2 where a table is missing."""
    parser = argparse.ArgumentParser(prog="python -m latalign.experiments.acceptance", description=__doc__)
    parser.add_argument("folder", type=Path, help="where latalign reproduce wrote its tables")
    folder = parser.parse_args(arguments).folder
    try:
        tables = {name: Table.load(folder / f"{name}.json") for name in ("table1", "table4", "table5")}
        found = list(checks(tables))
    except (OSError, ValueError, KeyError) as error:
        print(
            f"{error}\nMake the tables first: latalign reproduce all --preset full -o {folder}",
            file=sys.stderr,
        )
        return 2
    for check in found:
        print(check)
    failed = sum(not check.holds for check in found)
    print(f"{len(found)} checks of the preset {tables['table5'].preset.name}, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
