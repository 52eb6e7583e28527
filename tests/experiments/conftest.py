"""The tiny images in the place of both data sets."""

import pytest


@pytest.fixture
def tiny(monkeypatch):
    """Put the tiny images in the place of both data sets, and let an epoch be of 400."""
    from small_lab import forget, lab, made

    monkeypatch.setattr(lab, "load", lambda archive: made())
    monkeypatch.setattr(lab, "mnist", lambda: made("sigmoid", "tiny digits"))
    monkeypatch.setattr(lab, "_EPOCH", 400)
    forget()
    yield
    forget()


@pytest.fixture
def place(tmp_path, tiny):
    """A laboratory with a cache of its own."""
    from latalign.experiments.cache import Cache
    from latalign.experiments.lab import Lab

    return Lab(Cache(tmp_path / "cache"))
