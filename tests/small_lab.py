"""A laboratory of tiny images: what the tests of the experiments share. It needs the extra `experiments`."""

import numpy as np

from latalign.experiments import lab, work
from latalign.experiments.data import Dataset, Split
from latalign.experiments.plan import Preset
from latalign.experiments.specs import Network

SMALL = Preset("small", seeds=2, draws=2, epochs=1, everything=False)
CONV, MLP = (Network("Fashion-MNIST", kind, 4, 1, 0) for kind in ("conv", "MLP"))


def made(output="linear", name="tiny"):
    """Return images of two patterns, and a label for each."""
    rng = np.random.default_rng(0)
    patterns = rng.uniform(size=(2, 8, 8))
    labels = np.arange(240) % 2
    images = 255 * np.clip(patterns[labels] * rng.uniform(0.3, 1, (240, 1, 1)), 0, 1)
    whole = Split(images.astype(np.uint8), labels.astype(np.uint8))
    return Dataset(name, whole.take(slice(0, 200)), whole.take(slice(200, None)), 255, 0.3, 0.3, output)


def forget():
    """Forget what is kept in memory, as another process would."""
    for kept in (lab.dataset, lab.fingerprint, work._lab):
        kept.cache_clear()


def counted(monkeypatch):
    """Count the trainings."""
    done = []
    inner = lab.train
    monkeypatch.setattr(lab, "train", lambda *given, **more: done.append(1) or inner(*given, **more))
    return done
