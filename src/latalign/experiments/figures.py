"""Figures 3 and 4: what the decoders make of the codes of some test images."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from latalign.experiments import picture
from latalign.experiments.lab import Lab, dataset, network_of
from latalign.experiments.measures import Mapped, Measure, Own, Relative, Unmapped
from latalign.experiments.plan import Preset
from latalign.experiments.specs import Anchors, EndToEnd, RelativeDecoder
from latalign.experiments.tables.pairs import drawn, fashion_pair
from latalign.experiments.training import applied

_LATENT, _ANCHORS = 50, 100
_SHOWN = 6  # images, each of another class
_DIRECTIONS = {"conv_to_mlp": "conv encoder → MLP decoder", "mlp_to_conv": "MLP encoder → conv decoder"}


def figure3(lab: Lab, preset: Preset) -> Figure:
    """Return the picture of table 5: every way from one network to the other, both directions."""
    anchors = Anchors(_ANCHORS, drawn(0, 0))
    panels: dict[str, dict[str, Measure]] = {}
    for direction, title in _DIRECTIONS.items():
        pair = fashion_pair(direction, _LATENT, 0, preset)
        relative = [RelativeDecoder(spec, anchors) for spec in pair]
        panels[title] = {
            "its own codes": Own(pair[1]),
            "no map": Unmapped(*pair),
            "rigid": Mapped(*pair, anchors, "rigid"),
            "similarity": Mapped(*pair, anchors, "similarity"),
            "linear": Mapped(*pair, anchors, "linear"),
            "ridge": Mapped(*pair, anchors, "ridge"),
            "relative": Relative(relative[0], relative[1]),
        }
    return _drawn("Figure 3: one network's decoder, another's codes", panels, lab)


def figure4(lab: Lab, preset: Preset) -> Figure:
    """Return the picture of table 6: networks trained with relative codes inside."""
    panels: dict[str, dict[str, Measure]] = {}
    for direction, title in _DIRECTIONS.items():
        source, target = (
            EndToEnd(spec, Anchors(_ANCHORS, drawn(0, 0)))
            for spec in fashion_pair(direction, _LATENT, 0, preset)
        )
        panels[title] = {"its own codes": Own(target), "the other's": Relative(source, target)}
    return _drawn("Figure 4: relative representations, trained end to end", panels, lab)


def _drawn(title: str, measures: dict[str, dict[str, Measure]], lab: Lab) -> Figure:
    first = next(iter(next(iter(measures.values())).values()))
    data = dataset(first.data)
    shown = data.test.first_of_classes(_SHOWN)
    inputs = data.normalized(data.test.take(shown))
    rows = ["input", *next(iter(measures.values()))]
    panels = [
        picture.Panel(
            name,
            data.shown(np.stack([inputs, *(_decoded(one, shown, lab) for one in these.values())])[:, :, 0]),
            ["", *(f"{one(lab):.3f}" for one in these.values())],
        )
        for name, these in measures.items()
    ]
    count = network_of(first.needs[-1]).latent
    return picture.draw(
        title,
        f"{data.title}, test images. Codes of {count}, {_ANCHORS} anchors.\n"
        "At the right: the mean squared error over all test images.",
        [picture.Row(row) for row in rows],
        panels,
    )


def _decoded(measure: Measure, shown: NDArray[np.intp], lab: Lab) -> NDArray[Any]:
    return applied(lab.decoder(measure.needs[-1]), measure.codes(lab)[shown].astype(np.float32))
