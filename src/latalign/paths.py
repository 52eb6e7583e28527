"""Errors along a whole path of one hyperparameter, in closed form: no refit for any of its values.

One eigen-decomposition of the source Gram matrix diagonalises every penalty, toward zero or toward a
similarity map, and one singular value decomposition orders every rank. What is left of each of the
values is a sum. Where products of moments would leave the range of floats they are taken in other units.

References
----------
G. H. Golub, M. Heath, G. Wahba, Generalized cross-validation as a method for choosing a good ridge
parameter, Technometrics 21 (1979) 215-223.
F. E. Satterthwaite, An approximate distribution of estimates of variance components, Biometrics Bulletin 2
(1946) 110-114.
A. Mukherjee, J. Zhu, Reduced rank ridge regression and its kernel extensions, Statistical Analysis and
Data Mining 4 (2011) 612-622.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from latalign._linalg import EPS, TINY, eigh, svd
from latalign._validation import Array, Pairs
from latalign.moments import Moments
from latalign.units import Units

N_ALPHAS = 50
# Leave-one-out residuals of the whole grid are taken where they cost less than this many
# multiplications (a fraction of a second); beyond, only around the minimum of the generalized score.
_LOO_BUDGET = 1e10
# How lucky a generalized score is taken to be.
_LUCKY = 0.1


@final
@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """The eigenvalues λ and vectors V of the centred source Gram matrix, and Vᵀ xy."""

    values: Array
    vectors: Array
    cross: Array

    @staticmethod
    def of(moments: Moments, *, centred: bool = True) -> Spectrum:
        """Decompose the moments, within the rank that they can have: about the means it is one less."""
        values, vectors = eigh(moments.xx)
        rank = int(np.count_nonzero(values > len(values) * EPS * values[0]))
        rank = min(rank, max(moments.count - int(centred), 0))
        vectors = vectors[:, :rank]
        return Spectrum(values[:rank], vectors, vectors.T @ moments.xy)

    @staticmethod
    def of_rows(pairs: Pairs, moments: Moments) -> Spectrum:
        """Decompose the rows themselves where they are fewer than their dimensions."""
        if len(pairs) > moments.dim_source:
            return Spectrum.of(moments)
        _, values, right = svd(_centred(pairs, moments)[0])
        rank = int(np.count_nonzero(values[: len(pairs) - 1] > max(right.shape) * EPS * values[0]))
        return Spectrum(values[:rank] ** 2, right[:rank].T, right[:rank] @ moments.xy)

    def coefficients(self, alpha: float) -> Array:
        """Return the ridge coefficients for one penalty."""
        return self.vectors @ (self.cross / (self.values + alpha)[:, None])


def alpha_grid(moments: Moments) -> Array:
    """Return the penalties that are tried: logarithmic, relative to the mean eigenvalue.

    Raises
    ------
    ValueError
        If the largest would overflow.
    """
    mean = moments.xx_diagonal.mean()
    with np.errstate(over="ignore"):
        alphas = np.asarray((mean if mean > 0 else 1.0) * np.logspace(-8, 4, N_ALPHAS))
    if not np.isfinite(alphas[-1]):
        raise ValueError(
            "a penalty needs a number for 10000 times the mean sum of squares of a source column; that is "
            f"{mean:.1e}, and the product would overflow. Divide the source rows by a constant first."
        )
    return alphas


def gcv_errors(moments: Moments, alphas: Array, spectrum: Spectrum | None = None) -> Array:
    """Return the generalized cross-validation score of every penalty: an error per value.

    The residual sum of squares over the number of rows, divided by (1 − degrees of freedom / rows)²;
    the intercept counts as one degree.
    """
    units = Units.of(moments)
    if not units.plain:
        return units.squares_back(gcv_errors(units.moments(moments), units.penalties(alphas)))
    spectrum = Spectrum.of(moments) if spectrum is None else spectrum
    values = spectrum.values
    explained = (spectrum.cross**2).sum(axis=1) / values
    total = moments.yy_diagonal.sum()
    # Written so that nothing cancels as alpha goes to zero.
    unexplained = max(total - explained.sum(), EPS * total)
    if len(values) >= moments.count - 1:
        unexplained = 0.0
    shrink = alphas / (values[:, None] + alphas)
    residual = unexplained + explained @ shrink**2
    left = 1 - (1 + (1 - shrink).sum(axis=0)) / moments.effective_count
    return residual / (moments.weight * moments.dim_target) / np.maximum(left, EPS) ** 2


def _at_worst(errors: Array, moments: Moments, alphas: Array, spectrum: Spectrum) -> Array:
    """Return generalized scores as large as they may be, were they as lucky as one in ten is.

    A score is a mean square of what the penalty leaves of the target, one part a direction of the rows and
    of the target. With about as many rows as dimensions a small penalty leaves of them one or two, and where the
    target's own spectrum falls fast those are hardly more than one number: close to zero now and then,
    whatever the error is. So each is divided by the quantile of a χ² over its degrees of freedom (as many as
    the parts that count, after Satterthwaite). Where much is left it makes no difference.
    """
    # Loaded only here: who applies a map has no need of scipy.special.
    from scipy.special import gammaincinv

    free = max(moments.count - 1 - len(spectrum.values), 0)
    squares = (alphas / (spectrum.values[:, None] + alphas)) ** 2
    parts = (squares.sum(axis=0) + free) ** 2 / np.maximum((squares**2).sum(axis=0) + free, TINY)
    scores = spectrum.cross / np.sqrt(spectrum.values)[:, None]
    gram = scores.T @ scores if len(scores) > scores.shape[1] else scores @ scores.T
    size = float((gram**2).sum())
    half = np.maximum(parts, 1.0) * (float(gram.trace()) ** 2 / size if size > 0 else 1.0) / 2
    return np.asarray(errors * half / gammaincinv(half, _LUCKY), np.float64)


def loo_errors(pairs: Pairs, moments: Moments, alphas: Array, spectrum: Spectrum) -> Array:
    """Return the exact leave-one-out mean squared error of every penalty, intercept refitted.

    A row of weight above one stands for so many equal rows, of which one is left out.
    """
    inverse = 1 / (spectrum.values[:, None] + alphas)
    sums = np.zeros(len(alphas))
    for part in pairs.blocks(2048):
        x, y = _centred(part, moments)
        weight = part.weights
        z = x @ spectrum.vectors
        leverage = weight[:, None] / moments.weight + (z**2) @ inverse
        left = 1 - leverage / np.maximum(weight, 1.0)[:, None]
        for k in range(len(alphas)):
            residual = y - z @ (spectrum.cross * inverse[:, k, None])
            sums[k] += ((residual**2).sum(axis=1) / np.maximum(left[:, k], EPS) ** 2).sum()
    return sums / (moments.weight * moments.dim_target)


def best_alpha(
    moments: Moments, pairs: Pairs | None = None, spectrum: Spectrum | None = None
) -> tuple[float, float]:
    """Return the penalty with the smallest error, and the error.

    Exact leave-one-out where the rows are in reach, generalized cross-validation elsewhere, with caution
    (`_at_worst`). Where the whole grid would be too many passes over the rows, leave-one-out walks downhill
    from the generalized minimum, which is next to its own there.
    """
    alphas = alpha_grid(moments)
    units = Units.of(moments)
    if not units.plain:
        rows = None if pairs is None else units.pairs(pairs)
        alpha, error = best_alpha(units.moments(moments), rows)
        return units.penalty_back(alpha), float(units.squares_back(np.asarray(error)))
    if pairs is None:
        spectrum = Spectrum.of(moments) if spectrum is None else spectrum
        errors = gcv_errors(moments, alphas, spectrum)
        best = int(np.argmin(_at_worst(errors, moments, alphas, spectrum)))
        return float(alphas[best]), float(errors[best])
    spectrum = Spectrum.of_rows(pairs, moments) if spectrum is None else spectrum
    if len(pairs) * moments.dim_source * moments.dim_target * len(alphas) <= _LOO_BUDGET:
        return _smallest(alphas, loo_errors(pairs, moments, alphas, spectrum))
    start = int(np.argmin(gcv_errors(moments, alphas, spectrum)))
    errors = np.full(len(alphas), np.inf)
    seen: set[int] = set()
    here = start
    while True:
        new = [k for k in (here - 1, here, here + 1) if 0 <= k < len(alphas) and k not in seen]
        errors[new] = loo_errors(pairs, moments, alphas[new], spectrum)
        seen.update(new)
        if (best := int(np.argmin(errors))) == here:
            return float(alphas[best]), float(errors[best])
        here = best


def ridge_fold_errors(train: Moments, heldout: Moments, alphas: Array) -> Array:
    """Return the sum of squared errors on held-out moments of every penalty fitted on `train`."""
    units = Units.of(train)
    train, heldout, alphas = units.moments(train), units.moments(heldout), units.penalties(alphas)
    spectrum = Spectrum.of(train)
    inverse = 1 / (spectrum.values[:, None] + alphas)
    heldout_cross = spectrum.vectors.T @ heldout.xy
    heldout_gram = spectrum.vectors.T @ heldout.xx @ spectrum.vectors
    linear = (spectrum.cross * heldout_cross).sum(axis=1) @ inverse
    quadratic = np.einsum("jk,jk->k", inverse, (heldout_gram * (spectrum.cross @ spectrum.cross.T)) @ inverse)
    step = (heldout.source_mean - train.source_mean) @ spectrum.vectors
    drift = heldout.target_mean - train.target_mean - (inverse.T * step) @ spectrum.cross
    errors = heldout.yy_diagonal.sum() - 2 * linear + quadratic + heldout.weight * (drift**2).sum(axis=1)
    return units.squares_back(np.maximum(errors, 0))


def seen_rotation(moments: Moments) -> Array:
    """Return the Procrustes map of the anchors in the directions that they span, zero in the others.

    n anchors span n − 1 directions at most. A full rotation sends the rest somewhere too, where nothing
    was seen to go.
    """
    left, values, right = svd(moments.xy)
    seen = int(np.count_nonzero(values > moments.rounding * max(moments.xy.shape) * values[0]))
    rank = min(seen, max(moments.count - 1, 0))
    return left[:, :rank] @ right[:rank]


def shrunk_parabolas(train: Moments, heldout: Moments, alphas: Array) -> Array:
    """Return for every penalty the sum of squared errors on held-out moments as a function of the scale.

    The map for a penalty and a scale is linear in the scale, so the error is a parabola in it:
    a − 2 b·scale + c·scale². `train` gives both the map and the rotation that it is drawn to.

    Returns
    -------
    (3, n_alphas) array
        The rows a, b and c.
    """
    units = Units.of(train)
    train, heldout, alphas = units.moments(train), units.moments(heldout), units.penalties(alphas)
    spectrum = Spectrum.of(train)
    rotation = spectrum.vectors.T @ seen_rotation(train)
    values = spectrum.values[:, None]
    inverse = 1 / (values + alphas)
    with np.errstate(divide="ignore", over="ignore"):
        toward = 1 / (1 + values / alphas)  # alpha / (value + alpha), for alphas of 0 and infinity as well
    # Held-out co-moments about the means of the training rows, which are those of the map.
    step = (heldout.source_mean - train.source_mean) @ spectrum.vectors
    away = heldout.target_mean - train.target_mean
    cross = spectrum.vectors.T @ heldout.xy + heldout.weight * np.outer(step, away)
    gram = spectrum.vectors.T @ heldout.xx @ spectrum.vectors + heldout.weight * np.outer(step, step)
    none = heldout.yy_diagonal.sum() + heldout.weight * away.dot(away)

    def product(u: Array, left: Array, v: Array, right: Array) -> Array:
        return np.einsum("jk,jk->k", u, (gram * (left @ right.T)) @ v)

    fitted, drawn = spectrum.cross, rotation
    free = none - 2 * (fitted * cross).sum(axis=1) @ inverse + product(inverse, fitted, inverse, fitted)
    slope = (drawn * cross).sum(axis=1) @ toward - product(inverse, fitted, toward, drawn)
    parabolas = np.array([free, slope, np.maximum(product(toward, drawn, toward, drawn), 0)])
    # a of the target's squares, c of the source's, for the scale is of the one by the other.
    both = units.source + units.target
    return np.ldexp(parabolas, np.array([[2 * units.target], [both], [2 * units.source]]))


def best_scales(parabolas: Array) -> Array:
    """Return the scale with the smallest error for every penalty, between zero and that of a similarity.

    Parameters
    ----------
    parabolas : (3, n_alphas) array
        As of `shrunk_parabolas`, summed over folds. The last penalty is infinite: it tells the scale of
        the best similarity map. A small penalty hardly feels its scale, which would follow the noise far
        beyond.
    """
    _, slope, curvature = parabolas
    scales = np.divide(slope, curvature, out=np.zeros_like(slope), where=curvature > 0)
    return np.clip(scales, 0, max(float(scales[-1]), 0))


def target_directions(spectrum: Spectrum, alpha: float) -> Array:
    """Return the target directions (columns) in the order in which ridge predictions use them."""
    return svd(spectrum.cross / np.sqrt(spectrum.values + alpha)[:, None])[2].T


def rank_fold_errors(train: Moments, heldout: Moments, ranks: Array, alpha: float) -> Array:
    """Return the sum of squared errors on held-out moments of every rank fitted on `train`."""
    units = Units.of(train)
    train, heldout = units.moments(train), units.moments(heldout)
    alpha = float(units.penalties(np.asarray(alpha)))
    spectrum = Spectrum.of(train)
    directions = target_directions(spectrum, alpha)
    into = spectrum.coefficients(alpha) @ directions
    linear = ((into.T @ heldout.xy) * directions.T).sum(axis=1)
    quadratic = ((heldout.xx @ into) * into).sum(axis=0)
    step = (heldout.source_mean - train.source_mean) @ into
    away = heldout.target_mean - train.target_mean
    gain = quadratic - 2 * linear + heldout.weight * (step**2 - 2 * step * (away @ directions))
    none = heldout.yy_diagonal.sum() + heldout.weight * (away**2).sum()
    total = none + np.concatenate(([0.0], np.cumsum(gain)))  # by rank, from zero
    return units.squares_back(np.maximum(total[np.minimum(ranks, len(gain))], 0))


def _centred(pairs: Pairs, moments: Moments) -> tuple[Array, Array]:
    """Return both sides as float64, centred and multiplied by the root of their weights."""
    x = np.subtract(pairs.source, moments.source_mean, dtype=np.float64)
    y = np.subtract(pairs.target, moments.target_mean, dtype=np.float64)
    if pairs.weight is not None:
        root = np.sqrt(pairs.weight)[:, None]
        x, y = x * root, y * root
    return x, y


def _smallest(alphas: Array, errors: Array) -> tuple[float, float]:
    best = int(np.argmin(errors))
    return float(alphas[best]), float(errors[best])
