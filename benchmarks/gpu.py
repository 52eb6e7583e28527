"""What torch sums and maps on a device, against the bare products there; on a processor where there is no GPU."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fitting import relative, rows
from benchmarks.harness import Figure, medians
from latalign import AffineMap, Moments, apply_file, fit_files

_DIMS = 384, 768
_BATCH = 256


def gpu(rounds: int) -> Iterator[Figure]:
    """(384 → 768) float32: 500,000 rows on a GPU, 50,000 on a processor."""
    try:
        import torch
    except ImportError as error:
        yield Figure("torch on a device", math.nan, note=str(error))
        return
    on_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if on_gpu else "cpu")
    torch.set_num_threads(1)
    if not on_gpu:
        yield Figure(
            "on a GPU", math.nan, note="there is none; what follows is of one thread of the processor"
        )
    name = torch.cuda.get_device_name() if on_gpu else "cpu"
    X, Y = rows(500_000 if on_gpu else 50_000, *_DIMS)
    size = f"{len(X):,} × ({_DIMS[0]} → {_DIMS[1]}) float32 on {name}"
    yield from _summed(rounds, X, Y, size, device)
    yield from _mapped(rounds, X, size, device)
    yield from _from_files(rounds, X, Y, size, device)


def _from_files(rounds: int, X: np.ndarray, Y: np.ndarray, size: str, device: Any) -> Iterator[Figure]:
    """Files in the page cache: summed by folds and mapped, against NumPy on as many threads."""
    from latalign.torch import Place

    place, limit = Place(device), 2 if device.type == "cpu" else None
    with tempfile.TemporaryDirectory() as folder:
        x, y, out = (Path(folder, f"{name}.npy") for name in ("x", "y", "out"))
        np.save(x, X)
        np.save(y, Y)
        for method in ("affine", "auto"):
            turns = {
                "numpy": partial(fit_files, x, y, method, precision="fast"),
                "place": partial(fit_files, x, y, method, precision="fast", place=place),
            }
            found = medians(turns, rounds)
            ratio = found["place"] / found["numpy"]
            yield Figure(f"fit_files of .npy, {size}: {method}, fast, times NumPy's seconds", ratio, limit)
        rng = np.random.default_rng(0)
        map_ = AffineMap(rng.normal(size=_DIMS[0]), rng.normal(size=_DIMS), rng.normal(size=_DIMS[1]))
        turns = {
            "numpy": partial(apply_file, map_, x, out),
            "place": partial(apply_file, map_, x, out, place=place),
        }
        found = medians(turns, rounds)
        ratio = found["place"] / found["numpy"]
        yield Figure(f"apply_file, .npy → .npy, {size}: times NumPy's seconds", ratio, limit)


def _finished(device: Any, work: Callable[[], object]) -> Callable[[], None]:
    """Return the same work, waited for: a GPU is only asked for it."""
    import torch

    def run() -> None:
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return run


def _summed(rounds: int, X: np.ndarray, Y: np.ndarray, size: str, device: Any) -> Iterator[Figure]:
    import torch

    from latalign.torch import accumulate, moments
    from latalign.torch.products import Precision

    x, y = (torch.from_numpy(side).to(device) for side in (X, Y))
    dtypes: dict[Precision, torch.dtype] = {
        "double": torch.float64,
        "fast": torch.float32,
        "bfloat16": torch.bfloat16,
    }
    seconds: dict[Precision, float] = {}
    for precision, dtype in dtypes.items():
        a, b = x.to(dtype), y.to(dtype)
        turns = {
            "bare": _finished(device, lambda a=a, b=b: (a.T @ a, a.T @ b, b.T @ b)),
            "moments": partial(moments, x, y, precision=precision),
        }
        found = medians(turns, rounds)
        seconds[precision] = found["moments"]
        share = found["bare"] / found["moments"]
        yield Figure(f"moments of tensors, {size}: {precision}, share of the bare products' speed", share)
        del a, b
    turns = {
        "numpy": lambda: Moments.of(X, Y, precision="fast"),
        "arrays": lambda: moments(X, Y, device=device, precision="fast"),
        "copies": _finished(
            device, lambda: [torch.from_numpy(side).to(device, copy=True) for side in (X, Y)]
        ),
        "batches": lambda: accumulate(
            ((x[k : k + _BATCH], y[k : k + _BATCH]) for k in range(0, len(x), _BATCH)), precision="fast"
        ),
    }
    found = medians(turns, rounds)
    yield Figure(
        f"moments of arrays, {size}: fast, times those of tensors", found["arrays"] / seconds["fast"]
    )
    alone = max(found["copies"], seconds["fast"])
    yield Figure(
        f"moments of arrays, {size}: fast, times the slower of copying and multiplying",
        found["arrays"] / alone,
    )
    for kind, mine in (("tensors", seconds["fast"]), ("arrays", found["arrays"])):
        gain = found["numpy"] / mine
        yield Figure(f"moments of {kind}, {size}: fast, times faster than NumPy on one thread", gain)
    batches = found["batches"] / seconds["fast"]
    yield Figure(f"accumulate, {size}: batches of {_BATCH} rows, times moments of the whole", batches)
    few = slice(0, 50_000)
    exact = Moments.of(X[few], Y[few])
    limits: dict[Precision, float | None] = {"double": 1e-12, "fast": 1e-6, "bfloat16": None}
    for precision, limit in limits.items():
        mine = moments(x[few], y[few], precision=precision)
        error = max(relative(getattr(mine, part), getattr(exact, part)) for part in ("xx", "xy", "yy"))
        yield Figure(f"moments, {size}: {precision}, relative difference from NumPy's float64", error, limit)


def _mapped(rounds: int, X: np.ndarray, size: str, device: Any) -> Iterator[Figure]:
    import torch

    from latalign.torch import apply, to_linear

    rng = np.random.default_rng(0)
    map_ = AffineMap(rng.normal(size=_DIMS[0]), rng.normal(size=_DIMS), rng.normal(size=_DIMS[1]))
    x = torch.from_numpy(X).to(device)
    half = x.half()
    layer = to_linear(map_, device=device).requires_grad_(False)
    matrix, out = layer.weight.T.contiguous(), np.empty((len(X), _DIMS[1]), np.float32)
    turns = {
        "bare": _finished(device, lambda: x @ matrix),
        "apply": _finished(device, lambda: apply(map_, x)),
        "half": _finished(device, lambda: apply(map_, half)),
        "arrays": lambda: apply(map_, X, device=device, out=out),
        "numpy": lambda: map_(X),
    }
    found = medians(turns, rounds)
    yield Figure(
        f"apply to tensors, {size}: share of the bare multiply's speed", found["bare"] / found["apply"]
    )
    yield Figure(
        f"apply to tensors, {size}: float16 rows, times float32 rows", found["half"] / found["apply"]
    )
    for kind in ("apply", "arrays"):
        gain = found["numpy"] / found[kind]
        what = "tensors" if kind == "apply" else "arrays"
        yield Figure(f"apply to {what}, {size}: times faster than NumPy on one thread", gain)
    few = slice(0, 50_000)
    error = relative(apply(map_, X[few], device=device), map_(X[few].astype(np.float64)))
    yield Figure(f"apply, {size}: relative difference from NumPy's float64", error, 1e-6)
