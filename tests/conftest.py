"""What tests share: random problems whose answer is known."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import settings

from latalign import dealing, moments, pairing

# Deterministic for everybody; `--hypothesis-seed` and HYPOTHESIS_PROFILE=explore look further.
settings.register_profile("default", deadline=None, max_examples=60, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(params=[0, 1, 2])
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Three different seeds: no test may depend on one."""
    return np.random.default_rng(request.param)


@pytest.fixture
def streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is small enough to be loaded, and blocks and parts are short."""
    monkeypatch.setattr(moments, "_BLOCK_VALUES", 1)
    monkeypatch.setattr(pairing, "_LOADED_BYTES", 0)
    monkeypatch.setattr(dealing, "_PART_ROWS", 1500)
