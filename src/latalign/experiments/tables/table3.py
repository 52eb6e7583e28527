"""Table 3: MNIST, few anchors."""

from __future__ import annotations

from collections.abc import Iterator

from latalign.experiments.measures import Own
from latalign.experiments.plan import Cell, Plan, Preset, published
from latalign.experiments.tables.pairs import cell, mapped_cells, mnist_pair, stitched_cells

_QUICK = ((10, 50), (50, 100))  # latent size and anchors
_UNDERTRAINED = 20  # epochs: what explains the paper's errors of stitching, it seems


def plan(preset: Preset) -> Plan:
    """Return the table's plan."""
    return Plan(
        "table3",
        "Table 3: MNIST, few anchors",
        "How many pairs does each map need?",
        tuple(_cells(preset)),
        (
            "stitching MLPs train until they get no better on held-out anchors, or for 20 epochs where it says so",
        ),
    )


def _cells(preset: Preset) -> Iterator[Cell]:
    for paper in published("table3"):
        latent, count = int(paper["latent"]), int(paper["anchors"])
        if not preset.everything and (latent, count) not in _QUICK:
            continue

        def pair(seed: int, latent: int = latent):
            return mnist_pair(latent, seed, preset)

        row = {"latent": latent, "anchors": count}
        yield cell(
            preset, row, "ae_baseline", lambda seed, pair=pair: Own(pair(seed)[1]), paper["ae_baseline"]
        )
        yield from mapped_cells(preset, row, pair, count, paper)
        yield from stitched_cells(preset, row, pair, count, paper)
        yield from stitched_cells(preset, row, pair, count, paper, epochs=_UNDERTRAINED)
