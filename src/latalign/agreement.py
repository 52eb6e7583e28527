"""How near mapped rows come to their targets, block by block: the sums that `evaluate_files` keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np

from latalign._validation import Array, Rows
from latalign.dealing import Sample, Sampler
from latalign.evaluation import Retrieval, Scores, require_width
from latalign.io.ahead import ahead
from latalign.maps import Map
from latalign.metrics import mean_cosine_score
from latalign.pairing import PairStream

Progress = Callable[[int, int | None], object]

_BLOCK_ROWS = 4096


def measured(
    map_: Map, pairs: PairStream, kept: int, seed: int, threads: int | None, progress: Progress | None
) -> tuple[dict[str, Agreement], Sample]:
    """Compare the mapped rows, and the source rows as they are, with all target rows."""
    found = {"mapped": Agreement(), "no map": Agreement()}
    sampler, done = Sampler(kept, pairs.dims, seed), 0
    for block in ahead(pairs.blocks(_BLOCK_ROWS), threads):
        try:
            mapped = map_(block.source)
            require_width(mapped, block.target)
            found["mapped"].add(mapped, block.target)
            if block.dims[0] == block.dims[1]:
                found["no map"].add(block.source, block.target)
        except ValueError:
            pairs.require_finite()  # counts the bad rows of all blocks
            raise
        sampler.add_of(block, done, np.arange(len(block)))
        done += len(block)
        if progress is not None:
            progress(done, pairs.rows)
    return found, sampler.sample()


@final
class Agreement:
    """Sums that say how near rows come to the target rows that they correspond to."""

    def __init__(self) -> None:
        self.count, self._error, self._cosine, self._spread = 0, 0.0, 0.0, 0.0
        self._mean: Array | None = None
        self._dim = 1

    def add(self, rows: Rows, target: Rows) -> None:
        """Add a block; the spread of the target is merged by Chan, Golub and LeVeque's update."""
        exact = target.astype(np.float64)
        away = rows - exact
        self._error += float(np.einsum("ij,ij->", away, away))
        self._cosine += mean_cosine_score(rows, target) * len(rows)
        mean = exact.mean(axis=0)
        exact -= mean
        before = mean if self._mean is None else self._mean
        share = len(rows) / (self.count + len(rows))
        self._spread += float(np.einsum("ij,ij->", exact, exact))
        self._spread += self.count * share * float(((mean - before) ** 2).sum())
        self._mean = before + share * (mean - before)
        self.count, self._dim = self.count + len(rows), target.shape[1]

    def scores(self, retrieval: Retrieval) -> Scores:
        """Return the figures of all rows, beside what retrieval found among some."""
        return Scores(
            mse=self._error / (self.count * self._dim),
            r2=1 - self._error / self._spread if self._spread > 0 else float("nan"),
            cosine=self._cosine / self.count,
            retrieval=retrieval,
        )
