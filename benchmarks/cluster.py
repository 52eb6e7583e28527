"""One process, of one thread or two, against two workers of an engine on this machine.

``python -m benchmarks.cluster [--rows N] [--rounds N]`` prints the seconds of a fit and of an application of
2,000,000 rows of 256 dimensions, and times those of one process with two threads. Ray listens on every
interface: give it a network of its own, with
``unshare --net --map-root-user sh -c "ip link set lo up; python -m benchmarks.cluster"``.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.streaming import rows_of
from latalign import apply_folder, fit_files
from latalign.distributed import dask, ray

ENGINES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "two threads": nullcontext,
    "one thread": nullcontext,
    "process pool": lambda: ProcessPoolExecutor(2),
    "Dask": lambda: dask(workers=2),
    "Ray": lambda: ray(workers=2),
}


def main() -> None:
    """Measure in turns, and print medians."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    seconds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ENGINES}
    with tempfile.TemporaryDirectory() as folder:
        x, y = (rows_of(Path(folder, f"{k}.npy"), given.rows, given.dim, k) for k in range(2))
        out = Path(folder, "out")
        bits = set()
        for _ in range(given.rounds):
            for name, started in ENGINES.items():
                times = [perf_counter()]
                with started() as engine:
                    times.append(perf_counter())
                    threads = 2 if name == "two threads" else 1
                    fitted = fit_files(x, y, "affine", engine=engine, precision="fast", threads=threads).map
                    times.append(perf_counter())
                    apply_folder(fitted, x, out, engine=engine, threads=threads)
                    times.append(perf_counter())
                bits |= {fitted.matrix.tobytes()} if threads == 1 else set()
                shutil.rmtree(out)
                seconds[name].append(tuple(np.diff(times)))
    alike = "maps of one thread are the same" if len(bits) == 1 else "MAPS DIFFER"
    print(f"{given.rows:,} × ({given.dim} → {given.dim}) float32 .npy; {alike}")
    alone = [median(column) for column in zip(*seconds["two threads"], strict=True)]
    for name, runs in seconds.items():
        start, fit, apply = (median(column) for column in zip(*runs, strict=True))
        print(
            f"{name:12} start {start:5.1f} s   fit {fit:5.1f} s ({fit / alone[1]:.2f} ×)   "
            f"apply {apply:5.1f} s ({apply / alone[2]:.2f} ×)   all {start + fit + apply:5.1f} s"
        )


if __name__ == "__main__":
    main()
