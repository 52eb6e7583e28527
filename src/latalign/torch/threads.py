"""How many threads PyTorch works with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep PyTorch to one thread of the processor within the block.

    On an idle machine a second one takes a third off the time of small networks. But the two wait for
    each other at every operation, and beside one other busy program that makes it ten times as long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
