"""What the tables have in common: pairs of networks, and the closed-form methods."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from latalign.experiments.measures import Mapped, Measure, Stitched
from latalign.experiments.plan import Cell, Labels, Preset
from latalign.experiments.specs import Anchors, Architecture, Network
from latalign.methods import METHODS

Published = dict[str, str]

PAPER_METHODS = ("rigid", "linear")
OTHER_METHODS = tuple(name for name in METHODS if name not in PAPER_METHODS)
WIDTHS = (1, 2, 4)  # of the hidden layers of the stitching MLPs, in widths of the code

RELATIVE_CODES = (
    "relative codes are the Euclidean distances to the anchors, which are the same images on both sides; they are "
    "standardized with the mean and deviation that each has in its own network (a batch normalization without "
    "weights before every decoder), or, where it says so, with those of the target's"
)
SAME_ORDER = "the networks of a seed, of either architecture, see the images in the same order"


def mnist_pair(latent: int, seed: int, preset: Preset) -> tuple[Network, Network]:
    """Return the N and the M of the tables on MNIST: one architecture, two seeds."""
    one, other = (Network("MNIST", "conv", latent, preset.epochs, 2 * seed + side) for side in range(2))
    return one, other


def fashion_pair(direction: str, latent: int, seed: int, preset: Preset) -> tuple[Network, Network]:
    """Return source and target of the tables on Fashion-MNIST, for "conv_to_mlp" or "mlp_to_conv"."""
    wide: Architecture = "wide MLP" if latent >= 100 else "MLP"
    conv = Network("Fashion-MNIST", "conv", latent, preset.epochs, seed)
    mlp = Network("Fashion-MNIST", wide, latent, preset.epochs, seed)
    return (conv, mlp) if direction == "conv_to_mlp" else (mlp, conv)


def cell(
    preset: Preset, row: Labels, column: str, made: Callable[[int], Measure], paper: str | None = None
) -> Cell:
    """Return the cell of one measure a seed."""
    measures = tuple(made(seed) for seed in range(preset.seeds))
    return Cell(row, column, measures, None if paper is None else float(paper))


def mapped_cells(
    preset: Preset,
    row: Labels,
    pair: Callable[[int], tuple[Network, Network]],
    count: int | None,
    paper: Published,
    methods: tuple[str, ...] = (*PAPER_METHODS, *OTHER_METHODS),
) -> Iterator[Cell]:
    """Yield the cells of the closed-form methods, over all seeds and draws of the anchors."""
    draws = 1 if count is None else preset.draws
    for method in methods:
        measures = tuple(
            Mapped(*pair(seed), Anchors(count, drawn(seed, draw)), method)
            for seed in range(preset.seeds)
            for draw in range(draws)
        )
        yield Cell(row, method, measures, float(paper[method]) if method in paper else None)


def stitched_cells(
    preset: Preset,
    row: Labels,
    pair: Callable[[int], tuple[Network, Network]],
    count: int | None,
    paper: Published,
    widths: tuple[int, ...] = WIDTHS,
    epochs: int | None = None,
) -> Iterator[Cell]:
    """Yield the cells of the stitching MLPs, on the first draw of the anchors."""
    for k in widths:
        name = f"stitch_k{k}" if epochs is None else f"stitch_k{k} ({epochs} epochs)"
        measures = tuple(
            Stitched(*pair(seed), Anchors(count, drawn(seed, 0)), k, epochs) for seed in range(preset.seeds)
        )
        yield Cell(row, name, measures, float(paper[name]) if name in paper else None)


def drawn(seed: int, draw: int) -> int:
    """Return the seed of a draw of anchors: the same in every table, so that they share what is trained."""
    return 1000 * seed + draw
