"""How long it will take: a few steps of each kind are timed, and the rest is multiplication."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch

from latalign.experiments.lab import Lab, dataset, fingerprint, network_of
from latalign.experiments.measures import Measure, Stitched
from latalign.experiments.plan import Plan, needed
from latalign.experiments.specs import Anchors, Network, RelativeDecoder, Trainable, key
from latalign.experiments.training import applied, train
from latalign.torch import fit_stitching

_BATCH, _STEPS, _EPOCHS = 64, 12, 4
# What early stopping comes to, in steps: measured on 10 to 300 anchors, and on all the pairs.
_STITCHING_STEPS, _STITCHING_STEPS_ALL = 3_000, 25_000


def seconds(plans: Sequence[Plan], lab: Lab, jobs: int) -> float:
    """Return about how many seconds the trainings and measurements that the cache lacks will take."""
    alone, built = needed(plans)
    kinds = Counter(_kind(spec) for spec in (*alone, *built) if not lab.is_trained(spec))
    samples = {_kind(spec): _sample(spec) for spec in (*alone, *built)}
    total = sum(count * _training(samples[kind], lab) for kind, count in kinds.items())
    return (total + _measuring(_missing(plans, lab), lab)) / jobs


def _missing(plans: Iterable[Plan], lab: Lab) -> list[Measure]:
    measures = dict.fromkeys(one for plan in plans for cell in plan.cells for one in cell.measures)
    return [one for one in measures if lab.cache.value(key(one, fingerprint(one.data))) is None]


def _kind(spec: Trainable) -> tuple[str | int | None, ...]:
    """Return what the time of a training depends on."""
    network = network_of(spec)
    count = None if isinstance(spec, Network) else spec.anchors.count
    return type(spec).__name__, network.data, network.architecture, network.latent, network.epochs, count


def _sample(spec: Trainable) -> Trainable:
    """Return a specification of the same cost that needs no trained network."""
    return spec if isinstance(spec, Network) else replace(spec, anchors=Anchors(spec.anchors.count))


def _training(spec: Trainable, lab: Lab) -> float:
    data = network_of(spec).data
    images = lab.images(data, "train")[: _BATCH * _STEPS]
    if isinstance(spec, RelativeDecoder):
        inputs = np.random.default_rng(0).random((len(images), spec.anchors.count or 1), np.float32)
    else:
        inputs = images
    network = lab.untrained(spec)
    train(network, inputs[:_BATCH], images[:_BATCH], epochs=1, seed=0)  # the first step is slow
    took = train(network, inputs, images, epochs=1, seed=0).seconds
    steps = lab.epochs(spec) * -(-len(dataset(data).train) // _BATCH)
    return took / _STEPS * steps


def _measuring(measures: Sequence[Measure], lab: Lab) -> float:
    """Return the seconds of decoding test images, and of training what stitches."""
    decoders = {_kind(one.needs[-1])[:4]: _sample(one.needs[-1]) for one in measures}
    counts = Counter(_kind(one.needs[-1])[:4] for one in measures)
    total = sum(count * _decoding(decoders[kind], lab) for kind, count in counts.items())
    widths = Counter(
        (one.source.latent, one.k, one.anchors.count is None, one.epochs)
        for one in measures
        if isinstance(one, Stitched)
    )
    steps = {(latent, k): _stitching_step(latent, k, lab.device) for latent, k, *_ in widths}
    for (latent, k, every, epochs), count in widths.items():
        total += count * (_STITCHING_STEPS_ALL if every else epochs or _STITCHING_STEPS) * steps[latent, k]
    return total


def _decoding(spec: Trainable, lab: Lab) -> float:
    network = lab.untrained(spec).eval()
    reads = network_of(spec).latent if isinstance(spec, Network) else spec.anchors.count or 1
    codes = np.zeros((1000, reads), np.float32)
    began = time.perf_counter()
    applied(network.get_submodule("decoder"), codes)
    return (time.perf_counter() - began) * len(dataset(network_of(spec).data).test) / len(codes)


def _stitching_step(latent: int, k: int, device: str) -> float:
    X = torch.randn(_BATCH * _STEPS, latent, generator=torch.Generator().manual_seed(0)).numpy()
    began: list[float] = []
    # From the end of the first epoch on: what comes before it is paid once.
    fit_stitching(
        X,
        X,
        k=k,
        max_epochs=1 + _EPOCHS,
        holdout=0,
        device=device,
        progress=lambda done, total: began.append(time.perf_counter()),
    )
    return (began[-1] - began[0]) / (_EPOCHS * _STEPS)
