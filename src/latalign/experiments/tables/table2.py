"""Table 2: MNIST, relative representations, decoder-only and end2end."""

from __future__ import annotations

from collections.abc import Iterator

from latalign.experiments.measures import Own, Relative
from latalign.experiments.plan import Cell, Plan, Preset, published
from latalign.experiments.specs import Anchors, EndToEnd, Network, RelativeDecoder
from latalign.experiments.tables.pairs import RELATIVE_CODES, cell, drawn, mnist_pair
from latalign.relative import Similarity

_QUICK = ((10, 50), (50, 100))  # latent size and anchors
_CHOSEN = ((10, 50), (50, 100))  # rows in which other choices of anchors are tried as well


def plan(preset: Preset) -> Plan:
    """Return the table's plan."""
    return Plan(
        "table2",
        "Table 2: MNIST, relative representations",
        "How well does a decoder of relative codes read those of another network, with no map between?",
        tuple(_cells(preset)),
        (RELATIVE_CODES, "farthest-point and k-means anchors are chosen in the codes of N"),
    )


def _cells(preset: Preset) -> Iterator[Cell]:
    for paper in published("table2"):
        latent, count = int(paper["latent"]), int(paper["anchors"])
        if preset.everything or (latent, count) in _QUICK:
            yield from _row(preset, latent, count, paper)


def _row(preset: Preset, latent: int, count: int, paper: dict[str, str]) -> Iterator[Cell]:
    row = {"latent": latent, "anchors": count}

    def pair(seed: int) -> tuple[Network, Network]:
        return mnist_pair(latent, seed, preset)

    def kept(side: int, seed: int, similarity: Similarity = "euclidean") -> RelativeDecoder:
        return RelativeDecoder(pair(seed)[side], Anchors(count, drawn(seed, 0)), similarity)

    def chosen(side: int, seed: int, choice: str) -> RelativeDecoder:
        anchors = Anchors(count, drawn(seed, 0), choice, space=pair(seed)[0])  # type: ignore[arg-type]
        return RelativeDecoder(pair(seed)[side], anchors)

    def whole(side: int, seed: int) -> EndToEnd:
        return EndToEnd(pair(seed)[side], Anchors(count, drawn(seed, 0)))

    yield cell(preset, row, "ae_baseline", lambda seed: Own(pair(seed)[1]), paper["ae_baseline"])
    for name, made in (("decoder_only", kept), ("end2end", whole)):
        yield cell(preset, row, f"{name}_N", lambda seed, made=made: Own(made(0, seed)), paper[f"{name}_N"])
        yield cell(
            preset,
            row,
            f"{name}_N_to_M",
            lambda seed, made=made: Relative(made(0, seed), made(1, seed)),
            paper[f"{name}_N_to_M"],
        )
        yield cell(
            preset,
            row,
            f"{name}_N_to_M (target's statistics)",
            lambda seed, made=made: Relative(made(0, seed), made(1, seed), "target"),
        )
    if not preset.everything:
        return
    if (latent, count) not in _CHOSEN:
        return
    yield cell(preset, row, "decoder_only_N (cosine)", lambda seed: Own(kept(0, seed, "cosine")))
    yield cell(
        preset,
        row,
        "decoder_only_N_to_M (cosine)",
        lambda seed: Relative(kept(0, seed, "cosine"), kept(1, seed, "cosine")),
    )
    for choice in ("farthest-point", "k-means"):
        yield cell(
            preset,
            row,
            f"decoder_only_N_to_M ({choice})",
            lambda seed, choice=choice: Relative(chosen(0, seed, choice), chosen(1, seed, choice)),
        )
