"""Where networks are trained, or taken from the cache, and their codes are kept at hand."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from latalign.anchors import farthest_point_anchors, kmeans_anchors, random_anchors
from latalign.experiments.cache import Cache
from latalign.experiments.data import FASHION_MNIST, Dataset, load, mnist
from latalign.experiments.networks import Autoencoder, ConvAutoencoder, MLPAutoencoder, WideMLPAutoencoder
from latalign.experiments.specs import (
    Anchors,
    Architecture,
    DataName,
    EndToEnd,
    Network,
    RelativeDecoder,
    Trainable,
    key,
    record,
)
from latalign.experiments.training import applied, reconstruction_error, seeded, train
from latalign.relative import RelativeMap
from latalign.torch import RelativeEncoder

Part = Literal["train", "test"]
Listen = Callable[[str, int, int], object]
"""``listen(what, done, total)`` during trainings."""
Values = NDArray[Any]

_ARCHITECTURES: dict[Architecture, type[Autoencoder]] = {
    "conv": ConvAutoencoder,
    "MLP": MLPAutoencoder,
    "wide MLP": WideMLPAutoencoder,
}
_EPOCH = 60_000  # images: what an epoch is counted in


@lru_cache(maxsize=2)
def dataset(name: DataName) -> Dataset:
    """Return a data set of the paper, or what stands in for it."""
    return mnist() if name == "MNIST" else load(FASHION_MNIST)


@lru_cache(maxsize=2)
def fingerprint(name: DataName) -> str:
    """Return a hash of the images and labels that are trained and tested on."""
    total = hashlib.sha256()
    data = dataset(name)
    for split in (data.train, data.test):
        total.update(split.images.tobytes())
        total.update(split.labels.tobytes())
    return total.hexdigest()


@final
class Lab:
    """Trained networks and their codes, for whoever measures.

    Parameters
    ----------
    cache : Cache
        Where trained networks are kept.
    device : str
        Where they are trained: "cpu" or "cuda".
    progress : callable, optional
        Is told of trainings.

    Attributes
    ----------
    progress : callable
        May be exchanged.
    """

    def __init__(
        self,
        cache: Cache,
        device: str = "cpu",
        progress: Listen = lambda what, done, total: None,
    ) -> None:
        self.cache = cache
        self.device = device
        self.progress: Listen = progress
        # A few tables' worth: what is asked for next is mostly what was asked for last.
        self.images = lru_cache(maxsize=4)(self._images)
        self.trained = lru_cache(maxsize=16)(self._trained)
        self.codes = lru_cache(maxsize=12)(self._codes)
        self.rows = lru_cache(maxsize=8)(self._rows)

    def labels(self, data: DataName, part: Part) -> NDArray[np.uint8]:
        """Return the labels of the images of a part."""
        whole = dataset(data)
        return (whole.train if part == "train" else whole.test).labels

    def error(self, decoder: nn.Module, codes: NDArray[Any], data: DataName) -> float:
        """Return the mean squared error, per pixel, of what a decoder makes of the codes of the test images."""
        return reconstruction_error(decoder, codes.astype(np.float32, copy=False), self.images(data, "test"))

    def encoder(self, spec: Network | EndToEnd) -> nn.Module:
        """Return the trained encoder."""
        return self.trained(spec).get_submodule("encoder")

    def decoder(self, spec: Trainable) -> nn.Module:
        """Return the trained decoder."""
        return self.trained(spec).get_submodule("decoder")

    def relative(self, spec: RelativeDecoder, part: Part) -> Values:
        """Return the relative codes that a decoder reads."""
        space = self.codes(spec.network, "train")[self.rows(spec.anchors, spec.network.data)]
        return RelativeMap(space, spec.similarity)(self.codes(spec.network, part))

    def statistics(self, spec: RelativeDecoder | EndToEnd) -> tuple[Values, Values]:
        """Return mean and deviation of the relative codes of a network, as its decoder divides by them."""
        first = self.decoder(spec).get_submodule("0")
        if not isinstance(first, nn.BatchNorm1d) or first.running_mean is None or first.running_var is None:
            raise TypeError(f"{spec}: its decoder does not begin with a batch normalization")
        deviation = (first.running_var + first.eps).sqrt()
        return first.running_mean.cpu().numpy(), deviation.cpu().numpy()

    def is_trained(self, spec: Trainable) -> bool:
        """Tell whether the cache has a sound entry."""
        return self.cache.arrays(key(spec, fingerprint(network_of(spec).data))) is not None

    def untrained(self, spec: Trainable) -> nn.Module:
        """Return what is to be trained, with its first weights: parts ``encoder`` and ``decoder``, or one."""
        network = network_of(spec)
        whole = dataset(network.data)
        rows = None if isinstance(spec, Network) else self.rows(spec.anchors, network.data)
        with seeded(network.seed):
            built = _ARCHITECTURES[network.architecture](
                whole.image_size,
                network.latent,
                output=whole.output,
                reads=None if rows is None else len(rows),
            )
        if rows is not None:
            # Distances lie all on one side of zero and far from it, where a decoder hardly learns.
            built.decoder.insert(0, nn.BatchNorm1d(len(rows), affine=False))
        match spec:
            case Network():
                parts = {"encoder": built.encoder, "decoder": built.decoder}
            case RelativeDecoder():
                parts = {"decoder": built.decoder}
            case EndToEnd():
                anchors = torch.from_numpy(self.images(network.data, "train")[rows])
                encoder = RelativeEncoder(built.encoder, anchors, spec.similarity)
                parts = {"encoder": encoder, "decoder": built.decoder}
        return nn.Sequential(OrderedDict(parts)).to(self.device)

    def epochs(self, spec: Trainable) -> int:
        """Return the passes over the training images that make as many steps as the epochs of 60,000 images."""
        network = network_of(spec)
        return max(1, round(network.epochs * _EPOCH / len(dataset(network.data).train)))

    def _trained(self, spec: Trainable) -> nn.Module:
        """Return the network, from the cache or trained and put there."""
        data = network_of(spec).data
        name = key(spec, fingerprint(data))
        kept = self.cache.arrays(name)
        if kept is not None:
            network = self.untrained(spec)
            try:
                network.load_state_dict({part: torch.from_numpy(values) for part, values in kept[0].items()})
                return network.eval()
            except RuntimeError:
                self.cache.warn(name, "it is of other layers")
        network = self.untrained(spec)
        images = self.images(data, "train")
        try:
            training = train(
                network,
                self.relative(spec, "train") if isinstance(spec, RelativeDecoder) else images,
                images,
                epochs=self.epochs(spec),
                seed=network_of(spec).seed,
                progress=lambda done, total: self.progress(str(spec), done, total),
            )
        except ValueError as error:
            raise ValueError(f"{spec}: {error}") from error
        about = {"data": dataset(data).title, "device": self.device, "torch": torch.__version__}
        weights = {part: values.cpu().numpy() for part, values in network.state_dict().items()}
        self.cache.store_arrays(name, weights, {**record(spec), **about, **asdict(training)})
        return network

    def _images(self, data: DataName, part: Part) -> Values:
        whole = dataset(data)
        return whole.normalized(whole.train if part == "train" else whole.test)

    def _codes(self, spec: Network | EndToEnd, part: Part) -> Values:
        return applied(self.encoder(spec), self.images(network_of(spec).data, part))

    def _rows(self, anchors: Anchors, data: DataName) -> NDArray[np.intp]:
        count = len(dataset(data).train)
        if anchors.count is None:
            return np.arange(count)
        if anchors.space is None:
            return random_anchors(count, anchors.count, random_state=anchors.seed)
        choose = farthest_point_anchors if anchors.choice == "farthest-point" else kmeans_anchors
        return choose(self.codes(anchors.space, "train"), anchors.count, random_state=anchors.seed)


def network_of(spec: Trainable) -> Network:
    """Return the network that a specification is of or about."""
    return spec if isinstance(spec, Network) else spec.network
