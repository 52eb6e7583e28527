"""What `evaluate_files` keeps of its one pass: how near mapped rows come to their targets, and some of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from latalign.dealing import Sample, Sampler
from latalign.evaluation import Agreement, require_width
from latalign.io.ahead import ahead
from latalign.io.protocol import Reader
from latalign.maps import Map
from latalign.pairing import PairStream

Progress = Callable[[int, int | None], object]

_BLOCK_ROWS = 4096


def require_way(map_: Map, source: Reader, target: Reader) -> None:
    """Raise a ValueError, which names the file, where a map does not lead from the one source to the other."""
    for reader, attribute, does, where in (
        (source, "dim_source", "takes", "starts from"),
        (target, "dim_target", "returns", "leads to"),
    ):
        dim = getattr(map_, attribute, reader.dim)  # a chain of maps does not know
        if reader.dim != dim:
            raise ValueError(
                f"{reader.location} has rows of {reader.dim} dimensions; the map {does} {dim}. Give rows of the "
                f"space that the map {where}."
            )


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
