"""The held-out error against the number of anchors, and what twice as many would buy.

Moments add, so the moments of disjoint pieces of the pairs, taken in one pass, hold the moments of every
training set that is made of pieces, and of every test set. A curve from ten random nestings costs the
solving alone.

References
----------
C. Nadeau, Y. Bengio, Inference for the generalization error, Machine Learning 52 (2003) 239-281.
C. Cortes, L. D. Jackel, S. A. Solla, V. Vapnik, J. S. Denker, Learning curves: asymptotic values and rate of
convergence, NIPS 6 (1993) 327-334.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from latalign._linalg import EPS
from latalign._validation import Array, Pairs, as_generator
from latalign.curve_results import CurveCheck, CurvePoint, Forecast, LearningCurve, Saving
from latalign.fitting import check_call, given_parameters, require_least_squares, solve_folds
from latalign.methods import METHODS
from latalign.metrics import mean_squared_error
from latalign.moments import Moments, Precision, summed
from latalign.power_law import PowerLaw, fitted
from latalign.relation import warn_if_unrelated
from latalign.robust import downweighted
from latalign.select import Folds, folds_for, groups_of
from latalign.solvable import check_solvable, require_moments

_PIECES, _PIECE_VALUES = 100, 1 << 25  # 256 MiB
_LEAST_PIECES, _LEAST_PAIRS, _LEAST_TRAINED = 20, 40, 4
_UNEQUAL = 4  # times the mean
_TEST_SHARE = 5  # every fifth piece is held out
_STEP, _SIZES, _LEAST_SIZES = math.sqrt(2), 10, 3
_LEVEL, _LEAST_SPREAD = 0.9, 1e-6
_HALF = 0.52  # sizes are rounded to whole pieces
# What few anchors do, fewer than dimensions say, tells little of what many will do: the law is of those
# from a quarter of the most on.
_WINDOW = 4
_DRAWS = 200  # of the nestings, for the intervals of what is extrapolated
_TOLERATED = 0.1  # of the law, where it is checked


def learning_curve(
    X: ArrayLike,
    Y: ArrayLike,
    method: str = "auto",
    *,
    alpha: float | Literal["auto"] | None = None,
    rank: int | Literal["auto"] | None = None,
    reflection: bool | None = None,
    n_repeats: int = 10,
    precision: Precision = "double",
    robust: bool = False,
    random_state: int | np.random.Generator | None = 0,
) -> LearningCurve:
    """Measure how the held-out error of a recipe falls with the number of anchors, and extrapolate it.

    In each of `n_repeats` random nestings a fifth of the pairs is held out, and the recipe is fitted to ever
    more of the others, every choice that it leaves open made anew. A law, floor + scale · n^(−exponent), is
    fitted to the errors of the largest numbers. It is checked first: fitted to half the anchors and fewer, it
    has to tell the error with twice as many. Where it misses that by more than a tenth, nothing is extrapolated.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (n, dim_target)
        Row i of both is the same thing, seen by two models.
    method, alpha, rank, reflection
        As in `latalign.fit`.
    n_repeats : int
        Nestings: 2 or more.
    precision : {"double", "fast"}
        As in `latalign.fit`.
    robust : bool
        Whether pairs that do not seem to correspond count less, or nothing, as in `latalign.fit`. The weights are
        found once, from all pairs, and hold for those that are held out as well. Pairs that count nothing are not
        among the numbers of anchors.
    random_state : int, Generator or None
        Draws the pieces and the nestings.

    Returns
    -------
    LearningCurve

    Raises
    ------
    TypeError, ValueError
        As in `latalign.fit`; or if there are fewer than 40 different pairs.

    Warns
    -----
    UnrelatedPairsWarning
        As in `latalign.fit`.

    Notes
    -----
    Intervals allow for what the nestings share by the correction of Nadeau and Bengio (2003). The rows are
    read once; the time beyond that is that of solving from moments up to ten times a nesting. The memory is
    that of up to a hundred moments: 256 MiB, where the spaces are not so wide that 20 of them take more.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(400, 8))
    >>> found = latalign.learning_curve(X, X + rng.normal(size=(400, 8)), "affine")
    >>> found.points[-1].anchors, found.points[-1].error < found.points[0].error
    (320, True)
    >>> found.check.passed, found.twice.anchors, 0.9 < found.twice.error < 1.1
    (True, 800, True)
    """
    pairs = Pairs.of(X, Y, caller="learning_curve")
    given = given_parameters(alpha=alpha, rank=rank, reflection=reflection)
    check_call(method, given, caller="learning_curve")
    require_least_squares(method, "learning_curve")
    _require_repeats(n_repeats, "learning_curve")
    rng = as_generator(random_state, "learning_curve")
    pairs.require_finite()
    warn_if_unrelated(pairs)
    if robust:
        pairs, _ = downweighted(pairs, plain=method in METHODS and METHODS[method].plain)
    different = int(groups_of(pairs).max()) + 1
    if different < _LEAST_PAIRS:
        raise ValueError(
            f"learning_curve needs at least {_LEAST_PAIRS} different pairs, to hold some out and halve the others "
            f"several times; got {different}. Of so few, cross_validate tells the error."
        )
    dims = pairs.source.shape[1], pairs.target.shape[1]
    pieces = Folds.of(pairs, _n_pieces(*dims), rng, precision=precision).moments
    return _curve(pieces, method, given, n_repeats, rng, "learning_curve")


def learning_curve_moments(
    *pieces: Moments,
    method: str = "auto",
    alpha: float | Literal["auto"] | None = None,
    rank: int | Literal["auto"] | None = None,
    reflection: bool | None = None,
    n_repeats: int = 10,
    random_state: int | np.random.Generator | None = 0,
) -> LearningCurve:
    """Measure the same from moments alone: of a stream, or of another machine.

    Parameters
    ----------
    *pieces : Moments
        Moments of disjoint sets of pairs, drawn alike and about equally many: at least 20 sets, of 40
        pairs together.
    method, alpha, rank, reflection, n_repeats, random_state
        As in `learning_curve`.

    Returns
    -------
    LearningCurve

    Raises
    ------
    TypeError
        If something else than Moments is given.
    ValueError
        If there are fewer pieces or pairs, one is far larger than others, their dimensions differ, or they
        determine no map.

    Examples
    --------
    >>> import numpy as np
    >>> import latalign
    >>> rng = np.random.default_rng(0)
    >>> pieces = []
    >>> for _ in range(50):
    ...     X = rng.normal(size=(10, 4))
    ...     pieces.append(latalign.Moments.of(X, X + rng.normal(size=(10, 4))))
    >>> latalign.learning_curve_moments(*pieces, method="ridge").anchors
    500
    """
    require_moments(pieces, "learning_curve_moments")
    given = given_parameters(alpha=alpha, rank=rank, reflection=reflection)
    check_call(method, given, caller="learning_curve_moments")
    require_least_squares(method, "learning_curve_moments")
    _require_repeats(n_repeats, "learning_curve_moments")
    rng = as_generator(random_state, "learning_curve_moments")
    pieces = tuple(piece for piece in pieces if piece.count)
    count = sum(piece.count for piece in pieces)
    if len(pieces) < _LEAST_PIECES or count < _LEAST_PAIRS:
        raise ValueError(
            f"learning_curve_moments needs Moments of at least {_LEAST_PIECES} sets, of {_LEAST_PAIRS} pairs together; "
            f"got {len(pieces)} sets of {count} pairs. Cut the pairs into more sets, at random."
        )
    largest = max(piece.count for piece in pieces)
    if largest * len(pieces) > _UNEQUAL * count:
        raise ValueError(
            f"learning_curve_moments needs sets of about equally many pairs; one of {len(pieces)} has {largest} of the "
            f"{count} pairs. Cut them again, at random."
        )
    return _curve(pieces, method, given, n_repeats, rng, "learning_curve_moments")


def _curve(
    pieces: Sequence[Moments],
    method: str,
    given: Mapping[str, Any],
    n_repeats: int,
    rng: np.random.Generator,
    caller: str,
) -> LearningCurve:
    """Measure, fit the law, and hold it against itself."""
    total = summed(pieces)
    check_solvable(total, caller)
    variance = float(total.yy_diagonal.mean() / total.weight)
    sizes = _sizes(len(pieces), total.count)
    anchors, errors, chosen = _measured(pieces, sizes, method, given, n_repeats, rng)
    lower = anchors <= _HALF * anchors.max(initial=0)
    if np.count_nonzero(lower & (_WINDOW * anchors >= anchors[lower].max(initial=0))) < _LEAST_SIZES:
        raise ValueError(
            "a learning curve needs errors with several numbers of anchors to half of the most; there are those with "
            f"{', '.join(map(str, anchors)) or 'none'}. The rows of other sets were all the same."
        )
    logs = np.log(np.maximum(errors / variance, EPS))  # of an exact relation rounding is left
    # Nestings share pairs, so their mean is less certain than their spread says (Nadeau and Bengio).
    widening = math.sqrt(1 + n_repeats / (_TEST_SHARE - 1))
    spreads = np.maximum(logs.std(axis=0, ddof=1) * widening / math.sqrt(n_repeats), _LEAST_SPREAD)
    halves = spreads * float(stdtrit(n_repeats - 1, (1 + _LEVEL) / 2))
    points = tuple(
        CurvePoint(int(n), *_interval(variance, log, half), dict(names))
        for n, log, half, names in zip(anchors, logs.mean(axis=0), halves, chosen, strict=True)
    )

    def laws(seen: NDArray[np.bool_]) -> Array:
        seen = seen & (anchors >= anchors[seen].max() / _WINDOW)
        drawn = rng.integers(n_repeats, size=(_DRAWS, n_repeats))
        means = np.concatenate((logs.mean(axis=0)[None], logs[drawn].mean(axis=1)))
        return fitted(anchors[seen], np.exp(means[:, seen]), spreads[seen])

    predicted = _logs_at(laws(lower), anchors[-1:])[0, 0]
    miss = float(predicted - logs[:, -1].mean())
    passed = abs(miss) <= math.log1p(_TOLERATED)
    check = CurveCheck(
        int(anchors[lower][-1]), int(anchors[-1]), variance * math.exp(predicted), points[-1].error, passed
    )
    found = laws(np.ones_like(lower))
    floor, scale, exponent = map(float, found[0])
    law = PowerLaw(variance * floor, variance * scale, exponent)
    if not passed:
        return LearningCurve(method, total.count, variance, points, law, check, None, None, None)
    wanted = np.array([total.count, 2 * total.count])
    ahead = _logs_at(found, wanted)
    doubts = widening * np.quantile(np.abs(ahead[1:] - ahead[0]), _LEVEL, axis=0)
    all_anchors, twice = (
        Forecast(int(n), *_interval(variance, log, math.hypot(max(doubt, halves[-1]), miss)))
        for n, log, doubt in zip(wanted, ahead[0], doubts, strict=True)
    )
    falls = ahead[:, 1] - ahead[:, 0]
    doubt = math.hypot(widening * np.quantile(np.abs(falls[1:] - falls[0]), _LEVEL), miss)
    saving = Saving(*(float(-np.expm1(falls[0] + step)) for step in (0.0, doubt, -doubt)))
    return LearningCurve(method, total.count, variance, points, law, check, all_anchors, twice, saving)


def _measured(
    pieces: Sequence[Moments],
    sizes: Sequence[int],
    method: str,
    given: Mapping[str, Any],
    n_repeats: int,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], Array, list[Counter[str]]]:
    """Return the mean number of anchors of every size, the error in every nesting, and what was chosen.

    Sizes at which the anchors of some nesting are all the same are left out.
    """
    errors, counts = np.full((n_repeats, len(sizes)), np.nan), np.zeros((n_repeats, len(sizes)))
    chosen: list[Counter[str]] = [Counter() for _ in sizes]
    groups: list[NDArray[np.intp]] = []
    for repeat in range(n_repeats):
        if not groups:  # every piece is held out equally often
            groups = np.array_split(rng.permutation(len(pieces)), _TEST_SHARE)
        test: NDArray[np.intp] = groups.pop()
        order: NDArray[np.intp] = rng.permutation(np.setdiff1d(np.arange(len(pieces)), test))
        heldout = summed([pieces[int(k)] for k in test])
        for column, size in enumerate(sizes):
            train = [pieces[int(k)] for k in order[:size]]
            count = sum(piece.count for piece in train)
            counts[repeat, column] = count
            n_folds = min(folds_for(count, heldout.dim_source, heldout.dim_target), size)
            folds = [summed(train[k::n_folds]) for k in range(n_folds)]
            if not _determines_a_map(summed(folds)):
                continue
            found = solve_folds(method, folds, given)
            errors[repeat, column] = mean_squared_error(found, heldout)
            chosen[column][found.method] += 1
    kept = np.flatnonzero(~np.isnan(errors).any(axis=0))
    anchors = counts[:, kept].mean(axis=0).round().astype(np.intp)
    return anchors, errors[:, kept], [chosen[column] for column in kept]


def _determines_a_map(moments: Moments) -> bool:
    return bool(moments.source_varies.any() and moments.swapped().source_varies.any())


def _logs_at(laws: Array, anchors: NDArray[np.intp]) -> Array:
    """Return the logarithms of the errors that laws (rows) give at numbers of anchors (columns)."""
    floor, scale, exponent = laws.T[..., None]
    return np.log(np.maximum(floor + scale * anchors.astype(np.float64) ** -exponent, EPS))


def _interval(variance: float, log: float, half: float) -> tuple[float, float, float]:
    """Return an error and its interval, of its logarithm relative to the variance."""
    return variance * math.exp(log), variance * math.exp(log - half), variance * math.exp(log + half)


def _sizes(n_pieces: int, count: int) -> list[int]:
    """Return how many pieces the training sets have: falling by √2 from all that are not held out."""
    largest = n_pieces - -(-n_pieces // _TEST_SHARE)
    least = max(2, math.ceil(_LEAST_TRAINED * n_pieces / count))
    found = {round(largest / _STEP**k) for k in range(_SIZES)}
    return sorted(size for size in found if size >= least)


def _require_repeats(n_repeats: object, caller: str) -> None:
    if isinstance(n_repeats, bool) or not isinstance(n_repeats, Integral) or n_repeats < 2:
        raise ValueError(f"{caller} needs a whole number of at least 2 repeats; got n_repeats={n_repeats!r}")


def _n_pieces(dim_source: int, dim_target: int) -> int:
    """Return into how many pieces pairs are cut: as many as the memory should hold."""
    fitting = _PIECE_VALUES // (dim_source * (dim_source + dim_target))
    return max(_LEAST_PIECES, min(_PIECES, fitting))
