"""The demo: two autoencoders of different architecture read each other's codes, on real images."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from os import PathLike
from typing import Any, final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from latalign._version import __version__
from latalign.anchors import random_anchors
from latalign.experiments import picture
from latalign.experiments.crossing import Coded, Crossing, cross
from latalign.experiments.data import FASHION_MNIST, Dataset, digits, load
from latalign.experiments.networks import Autoencoder, ConvAutoencoder, MLPAutoencoder
from latalign.experiments.screen import bars_on_stderr, made_folder
from latalign.experiments.training import Training, applied, seeded, train
from latalign.io.files import written_beside
from latalign.methods import LEAST_SQUARES

_NETWORKS: Mapping[str, type[Autoencoder]] = {"conv": ConvAutoencoder, "MLP": MLPAutoencoder}
_METHODS = [method.name for method in LEAST_SQUARES]  # what a decoder can read
_SHOWN = 6  # images in the picture, each of another class
# What the rows of the table and of the picture are called where the method's name does not say it all.
_NAMES = {"rigid": "rigid (paper)", "linear": "linear (paper)"}


@final
@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """What the demo works on.

    Attributes
    ----------
    dataset : Dataset
    latent : int
        The width of the codes of both networks.
    epochs : int
        Passes over the training images.
    anchors : int
        The number of training images whose codes the maps are fitted on.
    """

    dataset: Dataset
    latent: int
    epochs: int
    anchors: int = 100


@final
@dataclass(frozen=True, slots=True, eq=False)
class DemoResult:
    """What the demo found.

    Attributes
    ----------
    setting : Setting
    seed : int
    trainings : dict of str to Training
        By the name of the network.
    crossings : tuple of Crossing
        conv → MLP and MLP → conv, each with every method and "auto".
    seconds : float
        All of it, from the reading of the images to the last file.
    """

    setting: Setting
    seed: int
    trainings: Mapping[str, Training]
    crossings: tuple[Crossing, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, without the coefficients of the maps."""
        dataset = self.setting.dataset
        return {
            "latalign_version": __version__,
            "dataset": dataset.name,
            "train_images": len(dataset.train),
            "test_images": len(dataset.test),
            "latent": self.setting.latent,
            "anchors": self.setting.anchors,
            "epochs": self.setting.epochs,
            "seed": self.seed,
            "seconds": self.seconds,
            "error": "mean squared error per pixel of the test images, "
            f"normalized by ({dataset.mean:.4f}, {dataset.deviation:.4f})",
            "networks": {name: asdict(training) for name, training in self.trainings.items()},
            "directions": [_crossing_json(crossing) for crossing in self.crossings],
        }


def run_demo(
    folder: str | PathLike[str],
    *,
    epochs: int | None = None,
    seed: int = 0,
    console: Console | None = None,
    setting: Setting | None = None,
) -> DemoResult:
    """Train two autoencoders, and let each one's decoder read the other's codes through every method.

    A convolutional network and an MLP learn the same images apart. From the codes of a few random
    training images, the anchors, every method finds the map from one's latent space to the other's, in
    both directions; what the decoders then make of the codes of the test images is the table and the
    picture. The setting of table 5 and figure 3 of the paper.

    Written into the folder: ``demo.png``, ``table.json``, and what "auto" chose as
    ``conv-to-mlp.safetensors`` and ``mlp-to-conv.safetensors``.

    Parameters
    ----------
    folder : path
        Made if it does not exist; its parent must.
    epochs : int, optional
        Passes over the training images; the setting's unless given.
    seed : int
        Draws weights, batches and anchors. Zero or more.
    console : rich.console.Console, optional
        Where the table goes: stdout unless given. Bars go to stderr, if that is a terminal.
    setting : Setting, optional
        What to work on: `usual_setting` unless given.

    Returns
    -------
    DemoResult

    Raises
    ------
    OSError
        If the folder or a file cannot be written.
    ValueError
        If a number is out of range, a data file is unsound, or a training diverges.

    References
    ----------
    Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.
    """
    began = time.perf_counter()
    _check_numbers(seed, epochs, setting)
    out = made_folder(folder)
    seeds = np.random.SeedSequence(seed).generate_state(len(_NETWORKS) + 1)
    console = Console(soft_wrap=True) if console is None else console
    setting = usual_setting(console) if setting is None else setting
    if epochs is not None:
        setting = replace(setting, epochs=epochs)
    dataset = setting.dataset
    images, test = dataset.normalized(dataset.train), dataset.normalized(dataset.test)
    rows = random_anchors(len(images), setting.anchors, random_state=int(seeds[-1]))
    console.print(_introduced(setting), markup=False)
    coded: dict[str, Coded] = {}
    trainings: dict[str, Training] = {}
    with bars_on_stderr() as bars:
        for name, own_seed in zip(_NETWORKS, seeds, strict=False):
            network, trainings[name] = _trained(name, setting, images, int(own_seed), bars)
            coded[name] = Coded.of(name, network, images[rows], test)
    one, other = coded.values()
    methods = (*_METHODS, "auto")
    crossings = (cross(one, other, test, methods), cross(other, one, test, methods))
    picture.save(_picture(setting, coded, crossings), out / "demo.png")
    for crossing in crossings:
        crossing.maps["auto"].save(
            out / f"{crossing.source}-to-{crossing.target}.safetensors".lower(),
            source=crossing.source,
            target=crossing.target,
            dataset=dataset.name,
        )
    result = DemoResult(setting, seed, trainings, crossings, time.perf_counter() - began)
    with written_beside(out / "table.json") as file:
        file.write(json.dumps(result.to_json(), indent=2, allow_nan=False).encode() + b"\n")
    console.print(_table(crossings))
    console.print(
        f"{result.seconds:.0f} seconds in all. demo.png, table.json and the two maps are in {out}",
        markup=False,
    )
    return result


def usual_setting(console: Console | None = None) -> Setting:
    """Return Fashion-MNIST with codes of 50, as in the paper, or the digits where it cannot be had.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where it is told that the digits stand in, and why.
    """
    try:
        with bars_on_stderr() as bars:
            bars.add_task(f"reading {FASHION_MNIST.name}", total=None)
            return Setting(load(FASHION_MNIST), latent=50, epochs=5)
    except FileNotFoundError as error:
        if console is not None:
            console.print(f"{error} The digits of scikit-learn stand in.\n", markup=False)
        return Setting(digits(), latent=20, epochs=60)


def _trained(
    name: str, setting: Setting, images: NDArray[np.float32], seed: int, bars: Progress
) -> tuple[Autoencoder, Training]:
    dataset = setting.dataset
    with seeded(seed):
        network = _NETWORKS[name](dataset.image_size, setting.latent, output=dataset.output)
    task = bars.add_task(f"training the {name}")
    training = train(
        network,
        images,
        epochs=setting.epochs,
        seed=seed,
        progress=lambda done, total: bars.update(task, completed=done, total=total),
    )
    return network, training


def _introduced(setting: Setting) -> str:
    dataset = setting.dataset
    return (
        f"{dataset.name}: {len(dataset.train):,} images to train on, {len(dataset.test):,} to test on. "
        f"A conv and an MLP autoencoder, codes of {setting.latent}, {setting.epochs} "
        f"epoch{'s' if setting.epochs > 1 else ''} each; aligned from {setting.anchors} anchors."
    )


def _rows(crossing: Crossing) -> Iterator[tuple[str, float, str]]:
    """Yield name, error and a remark for every row of the table."""
    yield "its own codes", crossing.own, ""
    if crossing.no_map is not None:
        yield "no map", crossing.no_map, ""
    for method, error in crossing.errors.items():
        yield _NAMES.get(method, method), error, crossing.maps[method].method if method == "auto" else ""


def _table(crossings: tuple[Crossing, ...]) -> Table:
    table = Table(
        title="error of the decoded test images (mean squared error; lower is better)",
        box=None,
        title_justify="left",
        pad_edge=False,
        header_style="bold",
    )
    table.add_column("the decoder reads", no_wrap=True)
    for crossing in crossings:
        table.add_column(f"{crossing.source} → {crossing.target}", justify="right", no_wrap=True)
        table.add_column("", style="dim", no_wrap=True)
    for parts in zip(*(_rows(crossing) for crossing in crossings), strict=True):
        cells = (cell for _, error, remark in parts for cell in (f"{error:.4f}", remark))
        table.add_row(parts[0][0], *cells)
    return table


def _picture(setting: Setting, coded: Mapping[str, Coded], crossings: tuple[Crossing, ...]) -> Figure:
    """Draw the first test image of each class, and what becomes of it by every method."""
    dataset = setting.dataset
    shown = dataset.test.first_of_classes(_SHOWN)
    inputs = dataset.normalized(dataset.test.take(shown))
    rows = [
        picture.Row("input"),
        picture.Row("its own codes"),
        picture.Row("no map", begins_group=True),
        *(
            picture.Row(_NAMES.get(name, name), begins_group=name in ("orthogonal", "ridge"))
            for name in _METHODS
        ),
    ]
    panels = []
    for crossing in crossings:
        source, target = coded[crossing.source], coded[crossing.target]
        codes = source.test[shown]
        read = [target.test[shown], codes, *(crossing.maps[name](codes) for name in _METHODS)]
        decoded = [applied(target.network.decoder, values) for values in read]
        errors = [crossing.own, crossing.no_map, *(crossing.errors[name] for name in _METHODS)]
        chosen = 3 + _METHODS.index(crossing.maps["auto"].method)
        notes = ["", *(f"{error:.3f}" for error in errors)]
        notes[chosen] += "\nauto"
        panels.append(
            picture.Panel(
                f"{crossing.source} encoder → {crossing.target} decoder",
                dataset.shown(np.stack([inputs, *decoded])[:, :, 0]),
                notes,
                frozenset({chosen}),
            )
        )
    return picture.draw(
        "The decoder of one network reads the codes of another",
        f"{dataset.name}, test images. Two autoencoders trained apart, codes of {setting.latent}, aligned in "
        f"closed form from {setting.anchors} anchors.\nAt the right: the mean squared error over all test "
        "images; in blue, the method that auto chooses.",
        rows,
        panels,
    )


def _crossing_json(crossing: Crossing) -> dict[str, Any]:
    auto = crossing.maps["auto"]
    return {
        "source": crossing.source,
        "target": crossing.target,
        "own": crossing.own,
        "no_map": crossing.no_map,
        "methods": dict(crossing.errors),
        "auto": {
            "method": auto.method,
            "evidence": None if auto.evidence is None else auto.evidence.to_json(),
        },
    }


def _check_numbers(seed: int, epochs: int | None, setting: Setting | None) -> None:
    """Raise a ValueError for a number out of range, while there is no folder yet."""
    if setting is not None:
        epochs = setting.epochs if epochs is None else epochs
        if not 1 <= setting.anchors <= len(setting.dataset.train):
            raise ValueError(
                f"run_demo needs anchors to be 1 to {len(setting.dataset.train)}, the training images; "
                f"got {setting.anchors}"
            )
    for name, value, least in (("seed", seed, 0), ("epochs", epochs, 1)):
        if value is not None and value < least:
            raise ValueError(f"run_demo needs {name} to be {least} or more; got {value}")
