"""Mapping a file of rows into another, against the bare multiply of the same blocks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.harness import Figure, medians, peak_mebibytes
from latalign import AffineMap
from latalign.on_disk import apply_file

_ROWS, _DIM, _BLOCK = 1_000_000, 384, 2730


_MEMORY = Path("/dev/shm")


def apply(rounds: int) -> Iterator[Figure]:
    """1,000,000 × 384 float32, `.npy` to `.npy`: the claim is for the disk, files in memory are told beside it."""
    if _MEMORY.is_dir():
        yield from _applied(rounds, _MEMORY, "in memory", None)
    yield from _applied(rounds, None, "on disk", 0.70)


def _applied(rounds: int, place: Path | None, where: str, limit: float | None) -> Iterator[Figure]:
    rng = np.random.default_rng(0)
    found = AffineMap(rng.normal(size=_DIM), rng.normal(size=(_DIM, _DIM)), rng.normal(size=_DIM))
    with tempfile.TemporaryDirectory(dir=place) as folder:
        source, target, saved = (Path(folder, name) for name in ("x.npy", "y.npy", "m.safetensors"))
        out = np.lib.format.open_memmap(source, mode="w+", dtype=np.float32, shape=(_ROWS, _DIM))
        for start in range(0, _ROWS, 100_000):
            out[start : start + 100_000] = rng.standard_normal((100_000, _DIM), dtype=np.float32)
        del out
        found.save(saved)
        block, product = np.ones((_BLOCK, _DIM), np.float32), np.empty((_BLOCK, _DIM), np.float32)
        matrix = found.matrix.astype(np.float32)

        def bare() -> None:
            for _ in range(_ROWS // _BLOCK):
                np.matmul(block, matrix, out=product)

        seconds = medians({"bare": bare, "apply": lambda: apply_file(found, source, target)}, rounds)
        name = f"apply, 1,000,000 × 384 float32 .npy → .npy {where}"
        share = seconds["bare"] / seconds["apply"]
        yield Figure(f"{name}: share of the bare multiply's speed", share, limit, "at least")
        code = (
            "import os; os.environ['OPENBLAS_NUM_THREADS'] = '1'\n"
            "from latalign import AffineMap\nfrom latalign.on_disk import apply_file\n"
            f"apply_file(AffineMap.load({str(saved)!r}), {str(source)!r}, {str(target)!r})\n"
        )
        yield Figure(f"{name}: peak MiB of the whole process", peak_mebibytes(code), 100)
