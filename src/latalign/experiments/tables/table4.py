"""Table 4: class labels only, no pairs; on MNIST as in the paper, and on Fashion-MNIST."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

from latalign.experiments.measures import FromLabels, Icp, Mapped, Means, Own
from latalign.experiments.plan import Cell, Labels, Plan, Preset, published
from latalign.experiments.specs import Anchors, Network
from latalign.experiments.tables.pairs import (
    PAPER_METHODS,
    SAME_ORDER,
    Published,
    cell,
    fashion_pair,
    mnist_pair,
)

_QUICK = (2, 50)  # latent sizes
_FASHION_LATENT = 50
_IMAGES = ("same", "other")  # on the two sides


def plan(preset: Preset) -> Plan:
    """Return the table's plan."""
    return Plan(
        "table4",
        "Table 4: class labels only",
        "What can be found without any pair, from the class means and by closest points within the classes?",
        tuple(_cells(preset)),
        (
            "closest points: up to 10,000 rows a side; of the same images in unknown order, or of other images; "
            "one-sided, each row of the source with the nearest of the target, or mutual, only those that are each "
            "other's nearest",
            "labels: covariances and mutual partners within the classes (fit_from_labels), from all images or from "
            "halves of them; beside it, what the pairs of all images give",
            SAME_ORDER,
        ),
    )


def _cells(preset: Preset) -> Iterator[Cell]:
    for paper in published("table4"):
        latent = int(paper["latent"])
        if preset.everything or latent in _QUICK:
            row: Labels = {"networks": "MNIST", "latent": latent}
            yield from _row(preset, row, lambda seed, width=latent: mnist_pair(width, seed, preset), paper)
    for direction in ("conv_to_mlp", "mlp_to_conv"):
        row = {"networks": f"Fashion-MNIST {direction}", "latent": _FASHION_LATENT}
        yield from _row(
            preset, row, lambda seed, d=direction: fashion_pair(d, _FASHION_LATENT, seed, preset), {}
        )


def _row(
    preset: Preset, row: Labels, pair: Callable[[int], tuple[Network, Network]], paper: Published
) -> Iterator[Cell]:
    yield cell(preset, row, "ae_baseline", lambda seed: Own(pair(seed)[1]), paper.get("ae_baseline"))
    for method in PAPER_METHODS:
        name = f"means_{method}"
        yield cell(preset, row, name, lambda seed, m=method: Means(*pair(seed), m), paper.get(name))
    yield cell(preset, row, "means_ridge", lambda seed: Means(*pair(seed), "ridge"))
    for images in _IMAGES:
        yield cell(
            preset, row, f"labels ({images} images)", lambda seed, i=images: FromLabels(*pair(seed), i)
        )
    yield cell(preset, row, "affine, all pairs", lambda seed: Mapped(*pair(seed), Anchors(None), "affine"))
    # The paper does not say which neighbors count: one-sided is the plain form of the algorithm.
    for method in PAPER_METHODS:
        for neighbors, images in product(("one-sided", "mutual"), _IMAGES):
            name = f"means_icp_{method}"
            plain = (neighbors, images) == ("one-sided", "same")
            yield cell(
                preset,
                row,
                name if plain else f"{name} ({neighbors}, {images} images)",
                lambda seed, rest=(method, neighbors, images): Icp(*pair(seed), *rest),
                paper.get(name) if plain else None,
            )
