"""Table 1: MNIST, one architecture, all training codes as pairs."""

from __future__ import annotations

from collections.abc import Iterator

from latalign.experiments.measures import Own, Unmapped
from latalign.experiments.plan import Cell, Plan, Preset, published
from latalign.experiments.tables.pairs import cell, mapped_cells, mnist_pair, stitched_cells

_QUICK = (2, 10, 50)  # latent sizes


def plan(preset: Preset) -> Plan:
    """Return the table's plan."""
    return Plan(
        "table1",
        "Table 1: MNIST, two convolutional autoencoders, all training codes as pairs",
        "With all the pairs there are, how near does a map come to the decoder's own encoder?",
        tuple(_cells(preset)),
        ("stitching MLPs train until they get no better on held-out pairs",),
    )


def _cells(preset: Preset) -> Iterator[Cell]:
    for paper in published("table1"):
        latent = int(paper["latent"])
        if not preset.everything and latent not in _QUICK:
            continue

        def pair(seed: int, latent: int = latent):
            return mnist_pair(latent, seed, preset)

        row = {"latent": latent}
        yield cell(
            preset, row, "ae_baseline", lambda seed, pair=pair: Own(pair(seed)[1]), paper["ae_baseline"]
        )
        yield cell(preset, row, "no map", lambda seed, pair=pair: Unmapped(*pair(seed)))
        yield from mapped_cells(preset, row, pair, None, paper)
        yield from stitched_cells(preset, row, pair, None, paper)
