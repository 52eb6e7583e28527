"""Streams and events of a GPU that is not there: who knows that what was done.

Every stream, and every thread, knows of some work that it is done by the time it goes on. Work in a stream
comes after what that knew, and what the thread that asked for it had waited for.
"""

import threading
from contextlib import contextmanager

import torch

DEVICE = torch.device("cuda", 0)


class Stream:
    def __init__(self, device=None):
        self.known = set()

    def wait_event(self, event):
        self.known |= event.known

    def wait_stream(self, other):
        self.known |= other.known

    def synchronize(self):
        _known_here().update(self.known)


class Event:
    def __init__(self):
        self.known = set()

    def record(self, stream):
        self.known = set(stream.known)

    def synchronize(self):
        _known_here().update(self.known)


_LOCAL = threading.local()


def _known_here():
    if not hasattr(_LOCAL, "known"):
        _LOCAL.known = set()
    return _LOCAL.known


class Gpu:
    """What stands in the place of ``torch.cuda``."""

    def __init__(self, monkeypatch):
        self.main = threading.current_thread()
        self.streams = {}
        for name, what in (
            ("Stream", Stream),
            ("Event", Event),
            ("current_stream", self.current),
            ("stream", self.within),
        ):
            monkeypatch.setattr(torch.cuda, name, what)

    def current(self, device=None):
        """Return the stream of this thread: that of the caller is none that other threads have."""
        inside = getattr(_LOCAL, "inside", None)
        if inside is not None and device in (None, DEVICE):
            return inside
        mine = threading.current_thread() is self.main
        return self.streams.setdefault((device or DEVICE, mine), Stream())

    @contextmanager
    def within(self, stream):
        before, _LOCAL.inside = getattr(_LOCAL, "inside", None), stream
        try:
            yield
        finally:
            _LOCAL.inside = before

    def work(self, what, *after, stream=None):
        """Do work in a stream, which must know that other work is done."""
        stream = stream or self.current()
        stream.known |= _known_here()
        missing = set(after) - stream.known
        assert not missing, f"{what} does not wait for {missing}"
        stream.known.add(what)

    def here(self, what, *after):
        """Do work in this thread, which must know that other work is done."""
        missing = set(after) - _known_here()
        assert not missing, f"{what} does not wait for {missing}"
