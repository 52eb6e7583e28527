"""Fits against the bare matrix products, and against other libraries."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import scipy.linalg
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV

import latalign
from benchmarks.harness import Figure, medians, peak_mebibytes
from latalign import Moments, solve
from latalign._validation import Pairs
from latalign.least_squares import solve_gram, solve_rows
from latalign.moments import moments_of_pairs
from latalign.paths import alpha_grid


def rows(n: int, ds: int, dt: int, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Paired rows of a noisy affine relation, off-centre, of condition 10."""
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(ds, ds)))[0]
    mix = np.geomspace(1, 0.1, ds)[:, None] * turn
    X = (rng.standard_normal((n, ds), dtype=np.float32) @ mix.astype(np.float32) + 0.5).astype(dtype)
    W = rng.normal(size=(ds, dt)).astype(dtype) / np.sqrt(ds).astype(dtype)
    Y = (X @ W + rng.standard_normal((n, dt), dtype=np.float32) - 1).astype(dtype)
    return X, Y


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def svd_least_squares(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """The reference: float64 least squares of the centred rows by their singular values."""
    x, y = X.astype(np.float64), Y.astype(np.float64)
    return scipy.linalg.lstsq(x - x.mean(0), y - y.mean(0), lapack_driver="gelsd", check_finite=False)[0]


def latentis(X: np.ndarray, Y: np.ndarray) -> Callable[[], np.ndarray]:
    """Return the peer's affine fit of these rows; an ImportError says that it is not installed."""
    import torch
    from latentis.transform.base import Centering
    from latentis.transform.translate.aligner import MatrixAligner, Translator
    from latentis.transform.translate.functional import lstsq_align_state

    torch.set_num_threads(1)
    tx, ty = torch.from_numpy(X), torch.from_numpy(Y)

    def fit() -> np.ndarray:
        # Its aligner has no translation: the rows are centred first, by its own transform.
        aligner = MatrixAligner("affine", lstsq_align_state)
        Translator(aligner, x_transform=Centering(), y_transform=Centering()).fit(tx, ty)
        return aligner.get_state("matrix").numpy()

    return fit


def affine(rounds: int) -> Iterator[Figure]:
    """100,000 × (384 → 768) float32."""
    X, Y = rows(100_000, 384, 768)
    turns = {
        "bare": lambda: (X.T @ X, X.T @ Y),
        "default": lambda: latalign.fit(X, Y, "affine"),
        "fast": lambda: latalign.fit(X, Y, "affine", precision="fast"),
        "scikit-learn": lambda: LinearRegression().fit(X, Y),
        "scikit-learn Ridge": lambda: Ridge(1.0).fit(X, Y),
    }
    peers: dict[str, str] = {}
    try:
        turns["latentis"] = latentis(X, Y)
    except ImportError as error:
        peers["latentis"] = str(error)
    try:
        import daal4py
        from sklearnex.linear_model import LinearRegression as Intel

        daal4py.daalinit(1)
        turns["scikit-learn-intelex"] = lambda: Intel().fit(X, Y)
    except ImportError as error:
        peers["scikit-learn-intelex"] = str(error)
    seconds = medians(turns, rounds)
    exact = svd_least_squares(X, Y)
    size = "affine fit, 100,000 × (384 → 768) float32"
    share = seconds["bare"] / seconds["fast"]
    yield Figure(f"{size}: fast, share of the bare products' speed", share, 0.80, "at least")
    yield Figure(f"{size}: default, times the bare products", seconds["default"] / seconds["bare"], 2.3)
    claims = {"scikit-learn": (4.5, 2.4), "latentis": (3.5, 1.9), "scikit-learn-intelex": (1.0, None)}
    for name, (fast, default) in claims.items():
        if name not in turns:
            missing = f"{size}: times faster than {name}"
            yield Figure(missing, math.nan, fast, "at least", peers[name], required=name == "latentis")
            continue
        for mode, limit in (("fast", fast), ("default", default)):
            gain = seconds[name] / seconds[mode]
            yield Figure(f"{size}: {mode}, times faster than {name}", gain, limit, "at least")
    for mode in ("fast", "default"):
        gain = seconds["scikit-learn Ridge"] / seconds[mode]
        yield Figure(f"{size}: {mode}, times faster than scikit-learn's Ridge", gain)
    theirs = {"scikit-learn": lambda: LinearRegression().fit(X, Y).coef_.T}
    if "latentis" in turns:
        theirs["latentis"] = turns["latentis"]
    if "scikit-learn-intelex" in turns:
        theirs["scikit-learn-intelex"] = lambda: turns["scikit-learn-intelex"]().coef_.T
    for name, coefficients in theirs.items():
        yield Figure(f"{size}: {name}, relative error of the coefficients", relative(coefficients(), exact))
    for precision, limit in (("double", 1e-12), ("fast", 1e-6)):
        found = latalign.fit(X, Y, "affine", precision=precision)
        yield Figure(
            f"{size}: {precision}, relative error of the coefficients", relative(found.matrix, exact), limit
        )


# The last two leave a doubt whether rows correspond: more of them are looked at.
_KINDS = {
    "pairs": "Y[:, :384] += X",
    "unrelated rows": "",
    "one wide dimension a side": "Y[:, :384] += X; X[:, 0] *= 100; Y[:, 500] *= 100",
}


def memory(rounds: int) -> Iterator[Figure]:
    """What a fit takes beyond the arrays it is given, at two numbers of rows."""
    for n in (100_000, 400_000):
        for kind, change in _KINDS.items():
            make = (
                "import os; os.environ['OPENBLAS_NUM_THREADS'] = '1'\n"
                "import warnings; warnings.simplefilter('ignore')\n"  # that the rows are unrelated
                "import numpy as np, latalign\n"
                "rng = np.random.default_rng(0)\n"
                f"X, Y = (rng.standard_normal(({n}, d), np.float32) for d in (384, 768))\n"
                f"{change}\n"
                "latalign.fit(X[:500], Y[:500], 'affine')\n"  # the libraries have their own buffers
            )
            before = peak_mebibytes(make)
            for precision in ("double", "fast") if kind == "pairs" else ("double",):
                fit = f"latalign.fit(X, Y, 'affine', precision='{precision}')\n"
                name = f"fit of {n:,} × (384 → 768), {kind}, {precision}: extra MiB"
                yield Figure(name, max(peak_mebibytes(make + fit) - before, 0.0), 64)


def many_rows(rounds: int) -> Iterator[Figure]:
    """1,000,000 × (256 → 64), condition 3e3: where a cut-off that grows with n loses directions."""
    rng = np.random.default_rng(0)
    spread = np.geomspace(1, 1 / 3e3, 256)
    turn = np.linalg.qr(rng.normal(size=(256, 256)))[0]
    X = (rng.standard_normal((1_000_000, 256), dtype=np.float32) * spread.astype(np.float32)) @ turn.astype(
        np.float32
    )
    truth = rng.normal(size=(256, 64))
    Y = X.astype(np.float64) @ truth
    found = latalign.fit(X, Y, "affine")
    name = "1,000,000 × (256 → 64), condition 3e3"
    yield Figure(f"{name}: rank found", found.evidence.rank, 256, "at least")
    yield Figure(f"{name}: relative error of the coefficients", relative(found.matrix, truth), 1e-7)
    Y32 = Y.astype(np.float32)
    del Y
    try:
        yield Figure(f"{name}: latentis, relative error", relative(latentis(X, Y32)(), truth))
    except ImportError as error:
        yield Figure(f"{name}: latentis, relative error", math.nan, note=str(error), required=True)
    try:
        import torch

        theirs = torch.linalg.lstsq(torch.from_numpy(X), torch.from_numpy(Y32))
        yield Figure(f"{name}: torch.linalg.lstsq, rank", float(theirs.rank))
        yield Figure(f"{name}: torch.linalg.lstsq, relative error", relative(theirs.solution.numpy(), truth))
    except ImportError as error:
        yield Figure(f"{name}: torch.linalg.lstsq", math.nan, note=str(error))


def safeguard(rounds: int) -> Iterator[Figure]:
    """What knowing its own error costs a fit, and what the second pass costs and gains."""
    X, Y = rows(50_000, 384, 768)
    pairs = Pairs.of(X, Y)

    def plain() -> np.ndarray:
        moments = moments_of_pairs(pairs, grams="source")
        factor = scipy.linalg.cho_factor(moments.xx, check_finite=False)
        return scipy.linalg.cho_solve(factor, moments.xy, check_finite=False)

    seconds = medians({"plain": plain, "fit": lambda: latalign.fit(X, Y, "affine")}, rounds)
    name = "affine fit, 50,000 × (384 → 768)"
    yield Figure(f"{name}: with the safeguard, times without", seconds["fit"] / seconds["plain"], 1.1)
    del X, Y, pairs
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(128, 128))
    turn = np.linalg.qr(rng.normal(size=(128, 128)))[0]
    base = np.linalg.qr(rng.normal(size=(50_000, 128)))[0] * np.sqrt(50_000)
    for condition, limit in ((1e8, 1e-6), (1e10, 1e-3)):
        X = base * np.geomspace(1, 1 / condition, 128) @ turn.T
        Y = X @ truth
        pairs = Pairs.of(X, Y)
        moments = moments_of_pairs(pairs, grams="source")
        first = solve_gram(moments.xx, moments.xy, max_rank=moments.count - 1)
        second = solve_rows(pairs, moments, centred=True)
        name = f"float64 rows of condition {condition:.0e}"
        yield Figure(
            f"{name}: relative error from the Gram matrix alone", relative(first.coefficients, truth)
        )
        yield Figure(f"{name}: after the second pass", relative(second.coefficients, truth), limit)
    turns = {
        "plain": lambda: solve.affine(moments_of_pairs(pairs, grams="source")),
        "escalated": lambda: latalign.fit(X, Y, "affine"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", latalign.IllConditionedWarning)
        seconds = medians(turns, rounds)
    yield Figure(
        "second pass, 50,000 × (128 → 128) float64: times the plain fit",
        seconds["escalated"] / seconds["plain"],
        2.6,
    )


def alphas(rounds: int) -> Iterator[Figure]:
    """Choosing among 50 penalties from moments, 50,000 × (384 → 768)."""
    X, Y = rows(50_000, 384, 768)

    def chosen() -> latalign.AffineMap:
        return solve.ridge(Moments.of(X, Y, grams="source"))

    def by_folds() -> latalign.AffineMap:
        parts = zip(np.array_split(X, 5), np.array_split(Y, 5), strict=True)
        folds = [Moments.of(*part, grams="source") for part in parts]
        return latalign.fit_moments(*folds, method="ridge")

    def plain() -> latalign.AffineMap:
        return latalign.fit(X, Y, "affine")

    seconds = medians({"chosen": chosen, "by folds": by_folds, "plain": plain}, rounds)
    grid = alpha_grid(Moments.of(X, Y, grams="source"))
    model = RidgeCV(alphas=grid)
    slow = medians({"RidgeCV": lambda: model.fit(X, Y)}, 1)["RidgeCV"]
    for turn, fit, how in (
        ("chosen", chosen, "generalized cross-validation"),
        ("by folds", by_folds, "5-fold cross-validation"),
    ):
        name = f"alpha among 50 by {how}, 50,000 × (384 → 768)"
        yield Figure(f"{name}: times the plain fit", seconds[turn] / seconds["plain"], 1.25)
        yield Figure(f"{name}: times faster than RidgeCV", slow / seconds[turn], 40, "at least")
        steps = abs(math.log(fit().evidence.alpha / model.alpha_) / math.log(grid[1] / grid[0]))
        yield Figure(f"{name}: steps of the grid away from RidgeCV's", round(steps), 0)


def rigid(rounds: int) -> Iterator[Figure]:
    """50,000 × (768 → 768)."""
    X, Y = rows(50_000, 768, 768)
    X64, Y64 = X.astype(np.float64), Y.astype(np.float64)
    x, y = X64 - X64.mean(0), Y64 - Y64.mean(0)
    turns = {
        "bare": lambda: scipy.linalg.svd(X64.T @ Y64, full_matrices=False, check_finite=False),
        "rigid": lambda: latalign.fit(X, Y, "rigid"),
        "scipy": lambda: scipy.linalg.orthogonal_procrustes(x, y, check_finite=False),
    }
    seconds = medians(turns, rounds)
    name = "rigid fit, 50,000 × (768 → 768)"
    yield Figure(f"{name}: times the cross product and one SVD", seconds["rigid"] / seconds["bare"], 1.2)
    yield Figure(
        f"{name}: times scipy's orthogonal_procrustes on centred float64 rows",
        seconds["rigid"] / seconds["scipy"],
    )
    expected = scipy.linalg.orthogonal_procrustes(x, y)[0]
    yield Figure(
        f"{name}: relative difference from it", relative(latalign.fit(X, Y, "rigid").matrix, expected), 1e-10
    )
