"""Files of any size: fitted and mapped in one pass, against the bare products of the same rows."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Figure, medians, peak_mebibytes
from latalign import AffineMap
from latalign.io.arrays import write_rows
from latalign.io.protocol import Block, Shape
from latalign.on_disk import apply_file
from latalign.streamed import fit_files

_DIMS = (384, 768)
_BLOCK = 2730
_THINGS = 64  # dimensions that two files have in common
_ONE_THREAD = "import os; os.environ['OPENBLAS_NUM_THREADS'] = '1'\n"


def rows_of(path: Path, count: int, dim: int, side: int = 0) -> Path:
    """Write random float32 rows, block by block; those of two files are of the same things, so that they pair."""
    things, noise = np.random.default_rng(0), np.random.default_rng([dim, side])
    seen = noise.standard_normal((_THINGS, dim), dtype=np.float32)
    with write_rows(path, Shape(count, dim, np.dtype("float32"))) as writer:
        for start in range(0, count, 10_000):
            some = min(10_000, count - start)
            rows = things.standard_normal((some, _THINGS), dtype=np.float32) @ seen
            writer.append(Block(rows + noise.standard_normal((some, dim), dtype=np.float32)))
    return path


def fit_from_disk(rounds: int) -> Iterator[Figure]:
    """1,000,000 × (384 → 768) float32 `.npy` in the page cache, fast, and as `latalign fit` does it; the memory."""
    with tempfile.TemporaryDirectory() as folder:
        files = [rows_of(Path(folder, f"{dim}.npy"), 1_000_000, dim) for dim in _DIMS]
        # As many as stay in memory, and multiplied over and over: the bare products of as many rows.
        X, Y = (np.load(path, mmap_mode="r")[:100_000].copy() for path in files)
        wide = [side[:50_000].astype(np.float64) for side in (X, Y)]

        def bare() -> None:
            for _ in range(10):
                _ = X.T @ X, X.T @ Y

        def bare_double() -> None:
            for _ in range(20):
                _ = wide[0].T @ wide[0], wide[0].T @ wide[1]

        def fit(threads: int | None, holdout: float) -> Callable[[], object]:
            return lambda: fit_files(*files, "affine", precision="fast", holdout=holdout, threads=threads)

        turns = {
            "bare": bare,
            "fit": fit(None, 0.0),
            "one thread": fit(1, 0.0),
            "held out": fit(None, 0.2),
            "bare, double": bare_double,
            "by default": lambda: fit_files(*files),
        }
        seconds = medians(turns, rounds)
        name = "fit from .npy on disk, 1,000,000 × (384 → 768) float32, fast"
        for turn, what, limit in (
            ("fit", "", 0.75),
            ("held out", ", with held-out figures", 0.6),
            ("one thread", ", not reading ahead", None),
        ):
            share = seconds["bare"] / seconds[turn]
            yield Figure(f"{name}{what}: share of the bare products' speed", share, limit, "at least")
        share = seconds["bare, double"] / seconds["by default"]
        name = "fit from .npy on disk, 1,000,000 × (384 → 768) float32, as by default (auto, double, held-out figures)"
        yield Figure(f"{name}: share of the bare products' speed", share, 0.6, "at least")
        peaks = []
        for count in (100_000, 1_000_000):
            some = [rows_of(Path(folder, f"some{dim}.npy"), count, dim) for dim in _DIMS]
            start = f"{_ONE_THREAD}import latalign.streamed\n"
            call = f"latalign.fit_files(*{list(map(str, some))!r}, 'affine', precision='fast')\n"
            peaks.append(peak_mebibytes(start + call) - peak_mebibytes(start))
            yield Figure(f"fit from .npy of {count:,} rows, fast: extra MiB", peaks[-1], 128)
        yield Figure(
            "fit from .npy: extra MiB of 1,000,000 rows over those of 100,000", peaks[1] / peaks[0], 1.1
        )


def parquet(rounds: int) -> Iterator[Figure]:
    """200,000 × (384 → 384) float32, Parquet to Parquet, against the bare multiply of the same blocks."""
    rng = np.random.default_rng(0)
    found = AffineMap(rng.normal(size=384), rng.normal(size=(384, 384)), rng.normal(size=384))
    with tempfile.TemporaryDirectory() as folder:
        source, target, saved = (Path(folder, name) for name in ("x.parquet", "y.parquet", "m.safetensors"))
        rows_of(source, 200_000, 384)
        found.save(saved)
        block, product = np.ones((_BLOCK, 384), np.float32), np.empty((_BLOCK, 384), np.float32)
        matrix = found.matrix.astype(np.float32)

        def bare() -> None:
            for _ in range(200_000 // _BLOCK):
                np.matmul(block, matrix, out=product)

        turns = {"bare": bare, "apply": lambda: apply_file(found, source, target)}
        seconds = medians(turns, rounds)
        name = "apply, 200,000 × 384 float32 Parquet → Parquet"
        yield Figure(f"{name}: times the bare multiply", seconds["apply"] / seconds["bare"], 3)
        code = (
            f"{_ONE_THREAD}from latalign import AffineMap\nfrom latalign.on_disk import apply_file\n"
            f"apply_file(AffineMap.load({str(saved)!r}), {str(source)!r}, {str(target)!r})\n"
        )
        yield Figure(f"{name}: peak MiB of the whole process", peak_mebibytes(code), 256)


def fixed_cost(rounds: int) -> Iterator[Figure]:
    """`latalign fit` on 2,000 rows, over what it takes to import NumPy and scipy.linalg."""
    with tempfile.TemporaryDirectory() as folder:
        x, y = (str(rows_of(Path(folder, f"{dim}.npy"), 2_000, dim)) for dim in (64, 96))
        fit = ["-m", "latalign", "fit", x, y, "-o", str(Path(folder, "map.safetensors"))]

        def call(arguments: list[str]) -> Callable[[], object]:
            return lambda: subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

        turns = {"import": call(["-c", "import numpy, scipy.linalg"]), "fit": call(fit)}
        seconds = medians(turns, rounds)
        name = "latalign fit, 2,000 × (64 → 96)"
        yield Figure(
            f"{name}: seconds over the import of numpy and scipy.linalg",
            seconds["fit"] - seconds["import"],
            1,
        )


def linear_cost(rounds: int) -> Iterator[Figure]:
    """Twice the rows take twice the time at most, and so again; also with what a fit does by default."""
    counts = (200_000, 400_000, 800_000)
    with tempfile.TemporaryDirectory() as folder:
        files = {n: [rows_of(Path(folder, f"{n}-{dim}.npy"), n, dim) for dim in (128, 96)] for n in counts}
        ways: dict[str, dict[str, Any]] = {"affine": {"precision": "fast", "holdout": 0.0}, "auto": {}}
        for method, options in ways.items():
            turns = {str(n): partial(fit_files, *pair, method, **options) for n, pair in files.items()}
            seconds = medians(turns, rounds)
            what = "affine, fast" if options else "as by default"
            for few, many in pairwise(counts):
                ratio = seconds[str(many)] / seconds[str(few)]
                yield Figure(f"fit from .npy, {what}: time of {many:,} rows over that of {few:,}", ratio, 2.2)
