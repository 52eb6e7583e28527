"""Table 6 and figure 4: Fashion-MNIST, relative representations trained end to end."""

from __future__ import annotations

from collections.abc import Iterator

from latalign.experiments.measures import Own, Relative
from latalign.experiments.plan import Cell, Labels, Plan, Preset, published
from latalign.experiments.specs import Anchors, EndToEnd
from latalign.experiments.tables.pairs import RELATIVE_CODES, SAME_ORDER, cell, drawn, fashion_pair

_QUICK = 50  # latent size


def plan(preset: Preset) -> Plan:
    """Return the table's plan."""
    return Plan(
        "table6",
        "Table 6: Fashion-MNIST, relative representations trained end to end",
        "Does training with relative codes inside make different architectures exchangeable?",
        tuple(_cells(preset)),
        (RELATIVE_CODES, SAME_ORDER),
    )


def _cells(preset: Preset) -> Iterator[Cell]:
    for paper in published("table6"):
        latent, count = int(paper["latent"]), int(paper["anchors"])
        if not preset.everything and latent != _QUICK:
            continue
        row: Labels = {"latent": latent, "anchors": count}

        def trained(seed: int, direction: str, latent: int = latent, count: int = count):
            """Return source and target of a direction."""
            source, target = fashion_pair(direction, latent, seed, preset)
            anchors = Anchors(count, drawn(seed, 0))
            return EndToEnd(source, anchors), EndToEnd(target, anchors)

        for side, name in enumerate(("conv", "mlp")):
            yield cell(
                preset,
                row,
                name,
                lambda seed, side=side, trained=trained: Own(trained(seed, "conv_to_mlp")[side]),
                paper[name],
            )
        for direction in ("conv_to_mlp", "mlp_to_conv"):
            yield cell(
                preset,
                row,
                direction,
                lambda seed, d=direction, trained=trained: Relative(*trained(seed, d)),
                paper[direction],
            )
            yield cell(
                preset,
                row,
                f"{direction} (target's statistics)",
                lambda seed, d=direction, trained=trained: Relative(*trained(seed, d), "target"),
            )
