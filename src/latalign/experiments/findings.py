"""What the paper found, table by table, and whether it comes out here: counted in the JSON, each time anew."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import final

from latalign.experiments.report import setting
from latalign.experiments.results import Result, Table

_NEAR = 1.02  # what still counts as equal


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """A sentence and the figures for and against it.

    Attributes
    ----------
    claim : str
    holds : int
        In how many settings.
    of : int
        How many there are.
    figures : str
        The size of the effect, in words.
    """

    claim: str
    holds: int
    of: int
    figures: str

    def __str__(self) -> str:
        if not self.of:
            return f"**Not measured**: {self.claim}"
        verdict = "Reproduced" if self.holds == self.of else "Not reproduced" if not self.holds else "In part"
        return f"**{verdict}** ({self.holds} of {self.of} settings): {self.claim} {self.figures}"


def _pairs(table: Table, one: str, other: str) -> list[tuple[Result, Result]]:
    """Return the cells of two columns, row by row, where both are there."""
    rows = {tuple(result.row.items()): result for result in table.results if result.column == other}
    mine = [result for result in table.results if result.column == one and result.errors]
    found = ((result, rows.get(tuple(result.row.items()))) for result in mine)
    return [(result, its) for result, its in found if its is not None and its.errors]


def _ratio(one: Result, other: Result) -> float:
    """Return the ratio of two median errors, each less the floor that both stand on."""
    return (one.median - one.floor) / (other.median - other.floor)


def _below(table: Table, claim: str, one: str, other: str, limit: float = 1.0) -> Finding:
    """Return the finding that one column errs less than `limit` times what the other does."""
    pairs = _pairs(table, one, other)
    ratios = [_ratio(*pair) for pair in pairs]
    spread = f"{one} / {other}: {_range(ratios)}."
    against = [setting(pair[0].row) for pair, ratio in zip(pairs, ratios, strict=True) if ratio >= limit]
    return Finding(claim, len(ratios) - len(against), len(ratios), spread + _but(against))


def _range(ratios: Iterable[float]) -> str:
    values = sorted(ratios)
    if not values:
        return "no setting"
    middle = statistics.median(values)
    return f"{middle:.2f} in the median, from {values[0]:.2f} to {values[-1]:.3g}"


def _but(against: list[str]) -> str:
    return f" Not with {'; '.join(dict.fromkeys(against))}." if against else ""


def _table1(table: Table) -> tuple[Finding, ...]:
    return (
        _below(table, "With all pairs a linear map errs less than a rigid one.", "linear", "rigid"),
        *(
            _below(
                table,
                f"Stitching with k = {k} does no better than a linear map.",
                "linear",
                f"stitch_k{k}",
                _NEAR,
            )
            for k in (1, 2, 4)
        ),
    )


def _table2(table: Table) -> tuple[Finding, ...]:
    return (
        _below(
            table,
            "A decoder of relative codes errs little more than the network's own, under 1.5 times as much.",
            "decoder_only_N",
            "ae_baseline",
            1.5,
        ),
        _below(
            table,
            "Across networks, training end to end does better than training the decoder only.",
            "end2end_N_to_M",
            "decoder_only_N_to_M",
        ),
    )


def _table3(table: Table) -> tuple[Finding, ...]:
    return (
        _below(table, "With few anchors, too, a linear map errs less than a rigid one.", "linear", "rigid"),
        *(
            _below(
                table,
                f"Stitching with k = {k} errs at least twice what a linear map does.",
                "linear",
                f"stitch_k{k}",
                0.5,
            )
            for k in (1, 2, 4)
        ),
        *(
            _below(
                table,
                f"The same of stitching with k = {k} that is stopped after 20 epochs.",
                "linear",
                f"stitch_k{k} (20 epochs)",
                0.5,
            )
            for k in (1, 2, 4)
        ),
    )


def _table4(table: Table) -> tuple[Finding, ...]:
    return tuple(
        _below(
            table,
            f"Closest points within the classes ({how}) make a {method} map worse than that of the class means.",
            f"means_{method}",
            column,
        )
        for method in ("rigid", "linear")
        for how, column in (
            ("one-sided, same images on both sides", f"means_icp_{method}"),
            ("one-sided, other images", f"means_icp_{method} (one-sided, other images)"),
            ("mutual, same images", f"means_icp_{method} (mutual, same images)"),
            ("mutual, other images", f"means_icp_{method} (mutual, other images)"),
        )
    )


def _table5(table: Table) -> tuple[Finding, ...]:
    return (
        _below(table, "Between architectures a linear map errs less than a rigid one.", "linear", "rigid"),
        _below(
            table,
            "Decoders of relative codes err more than any map, from 3 to 17 times the linear one.",
            "linear",
            "relrep_decoder_only",
            0.5,
        ),
        _below(table, "Beyond the paper: ridge errs no more than the linear map.", "ridge", "linear", _NEAR),
        _below(table, "Beyond the paper: ridge errs less than the rigid map.", "ridge", "rigid"),
    )


def _table6(table: Table) -> tuple[Finding, ...]:
    return (
        _below(table, "Trained end to end, the MLP pays for relative codes.", "conv", "mlp"),
        _below(
            table,
            "The MLP's decoder reads the other's codes with at least twice its own error.",
            "mlp",
            "conv_to_mlp",
            0.5,
        ),
        _below(table, "So does the convolutional network's.", "conv", "mlp_to_conv", 0.5),
    )


FINDINGS: Mapping[str, Callable[[Table], tuple[Finding, ...]]] = MappingProxyType(
    {
        "table1": _table1,
        "table2": _table2,
        "table3": _table3,
        "table4": _table4,
        "table5": _table5,
        "table6": _table6,
    }
)
"""The findings of each table."""
