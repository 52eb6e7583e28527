"""Table 5 and figure 3: Fashion-MNIST, a convolutional network and an MLP, both directions."""

from __future__ import annotations

from collections.abc import Iterator

from latalign.experiments.measures import Mapped, Own, Relative, Unmapped
from latalign.experiments.plan import Cell, Labels, Plan, Preset, published
from latalign.experiments.specs import Anchors, Network, RelativeDecoder
from latalign.experiments.tables.pairs import (
    RELATIVE_CODES,
    SAME_ORDER,
    cell,
    drawn,
    fashion_pair,
    mapped_cells,
    stitched_cells,
)

_SMALL = 50  # latent size, of which more is asked than by the paper
# Numbers of anchors before and after the paper's: where linear maps explode, and up to all there are.
_FEWER, _MORE = (20, 50), (200, 500, None)
_GAUGE = 3.0


def plan(preset: Preset) -> Plan:
    """Return the table's plan."""
    return Plan(
        "table5",
        "Table 5: Fashion-MNIST, a convolutional network and an MLP",
        "Does it work between architectures, and with how many anchors?",
        tuple(_cells(preset)),
        (RELATIVE_CODES, SAME_ORDER),
    )


def _cells(preset: Preset) -> Iterator[Cell]:
    for paper in published("table5"):
        direction, latent, count = paper["direction"], int(paper["latent"]), int(paper["anchors"])
        if latent != _SMALL:
            if preset.everything:
                yield from _row(preset, direction, latent, count, paper)
            continue
        for fewer in _FEWER:
            yield from _row(preset, direction, latent, fewer, {})
        yield from _row(preset, direction, latent, count, paper)
        for more in _MORE:
            yield from _row(preset, direction, latent, more, {})


def _row(
    preset: Preset, direction: str, latent: int, count: int | None, paper: dict[str, str]
) -> Iterator[Cell]:
    row: Labels = {"direction": direction, "latent": latent, "anchors": "all" if count is None else count}

    def pair(seed: int) -> tuple[Network, Network]:
        return fashion_pair(direction, latent, seed, preset)

    def relative(side: int, seed: int) -> RelativeDecoder:
        return RelativeDecoder(pair(seed)[side], Anchors(count, drawn(seed, 0)))

    def network(seed: int, architecture: str) -> Network:
        return next(spec for spec in pair(seed) if (spec.architecture == "conv") is (architecture == "conv"))

    if paper:
        for name in ("conv", "mlp"):
            yield cell(preset, row, name, lambda seed, name=name: Own(network(seed, name)), paper[name])
        yield cell(preset, row, "no map", lambda seed: Unmapped(*pair(seed)))
    yield from mapped_cells(preset, row, pair, count, paper)
    if paper:
        yield cell(
            preset,
            row,
            "relrep_decoder_only",
            lambda seed: Relative(relative(0, seed), relative(1, seed)),
            paper["relrep_decoder_only"],
        )
        yield cell(
            preset,
            row,
            "relrep_decoder_only (target's statistics)",
            lambda seed: Relative(relative(0, seed), relative(1, seed), "target"),
        )
        for method in ("rigid", "similarity", "linear", "ridge"):
            # The scale of a space is arbitrary: who depends on it depends on nothing that was learned.
            yield cell(
                preset,
                row,
                f"{method} (source × 3)",
                lambda seed, m=method: Mapped(*pair(seed), Anchors(count, drawn(seed, 0)), m, scale=_GAUGE),
            )
    if preset.everything and (paper or count is None):
        yield from stitched_cells(preset, row, pair, count, {})
