"""What the choice of a method costs on real pairs: the held-out error of `auto` against the best method's.

``python -m benchmarks.real_selection [--networks FOLDER] [--embeddings FOLDER]``

It prints a row a pair and number of anchors, the worst of the pairs of a kind, and fails where one is worse than
claimed. Four kinds of pairs, each from a fifth as many anchors as dimensions to ten times as many:

autoencoders   the codes of Fashion-MNIST by a convolutional network and an MLP, both ways
layers         the hidden layers of one autoencoder: encoder to decoder, and code to decoder
text encoders  all-MiniLM-L6-v2 and multilingual-e5-small of the same texts, both ways
LSA            TF-IDF and a truncated SVD against the latter, both ways

Networks that are not in their folder (the cache of ``latalign reproduce`` unless given) are trained, a minute each.
The embeddings are made by ``python -m benchmarks.real_pairs``; where they are not, texts are left out, and it says
so. What the choice does was found on other pairs: seed 0 of the networks, other widths, LSA against
all-MiniLM-L6-v2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from benchmarks.harness import Figure, add_folders
from benchmarks.real_pairs import embeddings
from benchmarks.selection import RATIOS, Errors, figures, heldout_errors, table_head, table_row
from latalign.experiments.cache import Cache
from latalign.experiments.lab import Lab
from latalign.experiments.specs import Architecture, Network

SEEDS = (1, 2)
SHARES = (0.2, 0.5, 0.9, 1.0, 1.1, 2.0, 5.0, 10.0)  # of the source dimensions
DRAWS, DRAWS_OF_FEW, DRAWS_OF_WIDE = 3, 12, 1  # errors in wide spaces hardly depend on the draw
FEW, NARROW = 200, 200

AUTO = RATIOS[-1]

_HELDOUT = 4000


@final
@dataclass(frozen=True, slots=True)
class Pair:
    """Two spaces that see the same things, by name: rows are read when they are asked for."""

    kind: str
    name: str
    rows: Callable[[], tuple[np.ndarray, np.ndarray]]


@final
@dataclass(frozen=True, slots=True)
class Cell:
    """A pair of spaces and a number of anchors."""

    kind: str
    name: str
    share: float  # of the source dimensions
    anchors: int


def network_pairs(lab: Lab, seeds: tuple[int, ...]) -> Iterator[Pair]:
    """Yield the pairs of two autoencoders, and of two layers of one."""

    def spec(architecture: Architecture, seed: int) -> Network:
        return Network("Fashion-MNIST", architecture, 50, 5, seed)

    def codes(source: Network, target: Network) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        return lambda: (lab.codes(source, "train"), lab.codes(target, "train"))

    def layers(network: Network, whole: bool) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        def rows() -> tuple[np.ndarray, np.ndarray]:
            encoder, decoder = lab.encoder(network), lab.decoder(network)
            with torch.no_grad():
                images = torch.from_numpy(lab.images("Fashion-MNIST", "train"))
                hidden = encoder[:3](images)  # linear, ReLU
                code = encoder[3:](hidden)
                return (hidden if whole else code).numpy(), decoder[:2](code).numpy()

        return rows

    for seed in seeds:
        conv, mlp = spec("conv", seed), spec("MLP", seed)
        yield Pair("autoencoders", f"conv → MLP, seed {seed}", codes(conv, mlp))
        yield Pair("autoencoders", f"MLP → conv, seed {seed}", codes(mlp, conv))
        yield Pair("layers", f"MLP, encoder → decoder, seed {seed}", layers(mlp, True))
        yield Pair("layers", f"MLP, code → decoder, seed {seed}", layers(mlp, False))


def text_pairs(given: Path | None) -> Iterator[Pair]:
    """Yield the pairs of two text encoders, and of one and LSA.

    There are none where no folder is given and the user's cache does not have them.
    """
    folder = embeddings(given)
    if folder is None:
        return

    def rows(source: str, target: str) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        return lambda: tuple(np.load(folder / f"{name}.documents.npy") for name in (source, target))

    for source, target in (("minilm", "e5"), ("e5", "minilm"), ("lsa", "e5"), ("e5", "lsa")):
        kind = "LSA" if "lsa" in (source, target) else "text encoders"
        yield Pair(kind, f"{source} → {target}", rows(source, target))


def measured(pair: Pair) -> Iterator[tuple[Cell, list[Errors]]]:
    """Yield the cells of a pair with the errors of every method, draw by draw."""
    source, target = pair.rows()
    for share in SHARES:
        anchors = round(share * source.shape[1])
        errors: list[Errors] = []
        narrow = DRAWS_OF_FEW if anchors < FEW else DRAWS
        for draw in range(narrow if source.shape[1] < NARROW else DRAWS_OF_WIDE):
            drawn = np.random.default_rng([draw, anchors]).permutation(len(source))[: anchors + _HELDOUT]
            errors.append(heldout_errors(source[drawn], target[drawn], anchors, draw))
        yield Cell(pair.kind, pair.name, share, anchors), errors


def summary(results: Mapping[Cell, Sequence[Errors]]) -> Iterator[str]:
    """Yield the lines of a table: of all pairs of a kind the worst."""
    kinds = list(dict.fromkeys(cell.kind for cell in results))
    yield f"| anchors / dimensions | {' | '.join(kinds)} |"
    yield "|" + " --- |" * (1 + len(kinds))
    for share in SHARES:
        worst = (
            max(
                AUTO.of(errors)
                for cell, errors in results.items()
                if (cell.kind, cell.share) == (kind, share)
            )
            for kind in kinds
        )
        yield f"| {share:g} | {' | '.join(f'{value:.3f}' for value in worst)} |"


def linear_at_threshold(results: Mapping[Cell, Sequence[Errors]]) -> Figure:
    """Return what plain least squares costs where anchors and dimensions are as many."""
    some = {cell: errors for cell, errors in results.items() if cell.share == 1}
    found = {cell: replace(AUTO, method="linear").of(errors) for cell, errors in some.items()}
    worst = max(found, key=lambda cell: found[cell])
    name = "held-out error of linear / the best single method, as many anchors as dimensions"
    return Figure(f"{name}, worst", found[worst], note=f"{worst}")


def main(arguments: list[str] | None = None) -> int:
    """Print the tables and the figures; return 1 where one falls short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_selection", description=__doc__)
    add_folders(parser, "networks", "embeddings")
    given = parser.parse_args(arguments)
    pairs = [*network_pairs(Lab(Cache(given.networks)), SEEDS), *text_pairs(given.embeddings)]
    results: dict[Cell, list[Errors]] = {}
    print(table_head(("kind", "pair", "anchors")))
    with threadpool_limits(1):
        for pair in pairs:
            for cell, errors in measured(pair):
                results[cell] = errors
                print(table_row((cell.kind, cell.name, f"{cell.anchors:,}"), errors), flush=True)
    print("", *summary(results), "", sep="\n")
    found = [*figures(results, [AUTO]), linear_at_threshold(results)]
    print(*found, sep="\n")
    return 0 if all(figure.met for figure in found) else 1


if __name__ == "__main__":
    sys.exit(main())
