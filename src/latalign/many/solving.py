"""Maps of many spaces into one and back, from the moments of their pairs.

Two families. Rotations: generalized Procrustes (Gower 1975, ten Berge 1977), whose objective Σ ‖X_i O_i − X_j O_j‖²
over all pairs depends on the cross moments alone. And ridge: reduced-rank regression (Izenman 1975, Mukherjee and
Zhu 2011) of all spaces on each of them, with one space between. `fit_many` names the sources in full.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise as successive
from typing import final

import numpy as np

from latalign import solve
from latalign._linalg import EPS, eigh, leading, nearest_rotation, svd
from latalign._validation import Array
from latalign.evidence import Evidence, IllConditionedWarning
from latalign.least_squares import Solution, solve_gram
from latalign.many.pairwise import Pairwise, Spread, rounding_of, spreads
from latalign.maps import AffineMap

STATIONARY, NEARLY = 1e-10, 1e-7
"""A round that gains less of the objective is the last: for maps, and for held-out errors, where it is enough."""

_ROUNDS = 500


@final
@dataclass(frozen=True, slots=True, eq=False)
class Solved:
    """The maps of all spaces into the shared one, and back, in the order of the spaces."""

    into: tuple[AffineMap, ...]
    back: tuple[AffineMap, ...]

    def map(self, source: int, target: int) -> AffineMap:
        """Return the map from one space to another."""
        return self.into[source] >> self.back[target]


def rigid(pairwise: Pairwise, least_gain: float = STATIONARY) -> Solved:
    """Return the rotations that bring all spaces as near to each other as rotations can.

    The shared space is as wide as the widest; narrower ones are rotated into it as if they were padded by
    zeros. One rotation after another is solved for with the others held, from the leading eigenvectors of
    the cross moments of all spaces side by side, which are the answer where there is no noise. It ends when a
    round gains less than `least_gain` of the objective.
    """
    dims, found = pairwise.dims, spreads(pairwise)
    width = max(dims)
    cross = {(i, j): one.xy for i in range(len(dims)) for j, one in pairwise.partners(i).items()}
    values: list[Array] = [np.zeros(0)] * len(dims)
    turns = [nearest_rotation(part) for part in _blocks(leading(_blocked(cross, dims, dims), width)[1], dims)]
    for _ in range(_ROUNDS):
        gain, objective = 0.0, 0.0
        for i, old in enumerate(turns):
            drawn = sum(
                (cross[i, j] @ turn for j, turn in enumerate(turns) if (i, j) in cross), np.zeros_like(old)
            )
            left, values[i], right = svd(drawn)
            turns[i] = left @ right
            gain += float(values[i].sum() - (drawn * old).sum())
            objective += float(values[i].sum())
        if gain <= least_gain * objective:
            break
    shifts = _translations(pairwise, found, turns)
    into: list[AffineMap] = []
    back: list[AffineMap] = []
    rounding = rounding_of(pairwise)
    for one, turn, singular, shift in zip(found, turns, values, shifts, strict=True):
        limit = rounding * max(turn.shape) * singular[0]
        rank = int(np.count_nonzero(singular > limit))
        condition = float(singular[0] / singular[rank - 1]) if rank else 1.0
        evidence = Evidence(one.count, rank, condition, rounding * max(turn.shape) * condition)
        into.append(AffineMap(one.mean, turn, shift, "rigid", evidence))
        back.append(AffineMap(shift, turn.T, one.mean, "rigid", evidence))
    return Solved(tuple(into), tuple(back))


@final
@dataclass(frozen=True, slots=True, eq=False)
class RidgePath:
    """The ridge solution for every width of the shared space up to a largest one: one decomposition serves all.

    Let W_ij be the ridge map from space i to j, W_ii that to itself, and P_i the penalized covariance. The maps
    into the shared space, E_i, are those that with any maps out of it, D_j, are nearest to all of them: they
    minimise Σ ‖P_i^½ (W_ij − E_i D_j)‖² over the spread of j, so they are leading singular vectors of the
    matrix of P_i^½ W_ij. With them D_j is least squares once more, without the map of j to itself.

    Attributes
    ----------
    spreads : tuple of Spread
    alphas : tuple of float
        The penalty of every space, relative to its mean variance.
    encoders : tuple of (dim, width) arrays
    grams : tuple of (width, width) arrays
        Of every space as a target: Σ Eᵀ(S + αI)E over the spaces that are mapped to it.
    crosses : tuple of (width, dim) arrays
        Σ Eᵀ times the covariance with it.
    pairwise : Pairwise
    """

    spreads: tuple[Spread, ...]
    alphas: tuple[float, ...]
    encoders: tuple[Array, ...]
    grams: tuple[Array, ...]
    crosses: tuple[Array, ...]
    pairwise: Pairwise

    @staticmethod
    def of(pairwise: Pairwise, alphas: Sequence[float], width: int) -> RidgePath:
        """Solve for the largest width: its coordinates come in the order of what they explain of all spaces."""
        dims, found = pairwise.dims, spreads(pairwise)
        scales = [alpha * _mean_variance(one) for one, alpha in zip(found, alphas, strict=True)]
        regressions, shares = _regressions(pairwise, alphas)
        roots = [_roots(one, scale) for one, scale in zip(found, scales, strict=True)]
        explained: dict[tuple[int, int], Array] = {}
        for j, target in enumerate(found):
            spread = np.sqrt(target.covariance.trace()) or 1.0
            for i, (root, _) in enumerate(roots):
                if i == j:
                    own = np.linalg.norm(root, axis=0)  # the root of penalized eigenvalues
                    explained[i, j] = (own - scales[i] / own)[:, None] * (root / own).T / spread
                else:
                    explained[i, j] = np.sqrt(shares[i, j]) * (root.T @ regressions[i, j]) / spread
        ranks = [root.shape[1] for root, _ in roots]
        stacked = _blocked(explained, ranks, dims)
        vectors = leading(stacked @ stacked.T, min(width, sum(ranks)))[1]
        vectors = np.pad(vectors, ((0, 0), (0, width - vectors.shape[1])))  # fewer rows than dimensions
        parts = _blocks(vectors, ranks)
        encoders = tuple(
            np.sqrt(len(dims)) * inverse @ part for (_, inverse), part in zip(roots, parts, strict=True)
        )
        grams: list[Array] = []
        crosses: list[Array] = []
        for j in range(len(dims)):
            gram, cross = np.zeros((width, width)), np.zeros((width, dims[j]))
            for i in (i for i in range(len(dims)) if i != j):
                rows = pairwise.pair(i, j)
                # Of the rows that the two share, where there are any.
                own = found[i].covariance if rows is None else rows.xx / rows.weight
                seen = own + scales[i] * np.eye(dims[i])
                across = seen @ regressions[i, j] if rows is None else rows.xy / rows.weight
                gram += shares[i, j] * (encoders[i].T @ seen @ encoders[i])
                cross += shares[i, j] * (encoders[i].T @ across)
            grams.append(gram)
            crosses.append(cross)
        return RidgePath(found, tuple(alphas), encoders, tuple(grams), tuple(crosses), pairwise)

    def solved(self, width: int) -> Solved:
        """Return the maps for one width."""
        encoders = [one[:, :width] for one in self.encoders]
        shifts = _translations(self.pairwise, self.spreads, encoders)
        into: list[AffineMap] = []
        back: list[AffineMap] = []
        rounding = rounding_of(self.pairwise)
        for j, (one, alpha, encoder, shift) in enumerate(
            zip(self.spreads, self.alphas, encoders, shifts, strict=True)
        ):
            decoder = solve_seen(self.grams[j][:width, :width], self.crosses[j][:width], rounding)
            evidence = _ridge_evidence(one, alpha, decoder, rounding)
            into.append(AffineMap(one.mean, encoder, shift, "ridge", evidence))
            back.append(AffineMap(shift, decoder.coefficients, one.mean, "ridge", evidence))
        return Solved(tuple(into), tuple(back))


def solve_seen(gram: Array, cross: Array, rounding: float) -> Solution:
    """Solve gram · W = cross with minimum norm; coordinates in which there is nothing but rounding take no part."""
    diagonal = gram.diagonal()
    alive = diagonal > rounding * len(gram) * diagonal.max()
    return solve_gram(gram, cross, max_rank=len(gram), alive=alive, rounding=rounding)


def warn_if_loose(spaces: Iterable[tuple[str, AffineMap, Sequence[int]]]) -> None:
    """Warn, once, where rows leave directions of a rotation undetermined that other spaces see as well.

    Parameters
    ----------
    spaces : iterable of (str, AffineMap, sequence of int)
        The name of a space, its map into the shared one, and the widths of the spaces it shares rows with.
    """
    for name, into, others in spaces:
        evidence, dims = into.evidence, min(into.dim_source, max(others))
        if into.method == "rigid" and evidence is not None and evidence.rank < dims:
            warnings.warn(
                f"rigid: {evidence.anchors} anchors determine {evidence.rank} of {dims} directions of the space "
                f'{name!r}; the rotation of the others is arbitrary. Use method="ridge", or more and more varied '
                "anchors.",
                IllConditionedWarning,
                stacklevel=4,
            )
            return


def _ridge_evidence(spread: Spread, alpha: float, decoder: Solution, rounding: float) -> Evidence:
    values = eigh(spread.covariance)[0]
    rank = min(int(np.count_nonzero(values > len(values) * EPS * values[0])), max(spread.count - 1, 0))
    penalty = alpha * values.mean()
    condition = float((values[0] + penalty) / (values[-1] + penalty)) if values[-1] + penalty > 0 else 1 / EPS
    bound = max(rounding * condition, decoder.error_bound)
    return Evidence(spread.count, rank, float(np.sqrt(condition)), bound, alpha=alpha)


def _regressions(
    pairwise: Pairwise, alphas: Sequence[float]
) -> tuple[dict[tuple[int, int], Array], dict[tuple[int, int], float]]:
    """Return the ridge map of every two spaces, both ways, and what it counts.

    Between spaces without rows in common it leads over those between them: the mean of the shortest ways.
    """
    count = len(pairwise.names)
    largest = max(one.weight for one in pairwise.moments.values())
    found: dict[tuple[int, int], Array] = {}
    shares: dict[tuple[int, int], float] = {}
    for i, alpha in enumerate(alphas):
        for j, one in pairwise.partners(i).items():
            found[i, j] = solve.ridge(one, alpha=alpha * float(one.xx_diagonal.mean())).matrix
            shares[i, j] = one.weight / largest
    while missing := [(i, j) for i in range(count) for j in range(count) if i != j and (i, j) not in found]:
        farther: dict[tuple[int, int], tuple[Array, float]] = {}
        for i, j in missing:
            between = [m for m in range(count) if (i, m) in found and (m, j) in found]
            if between:
                weights = [min(shares[i, m], shares[m, j]) for m in between]
                ways = [w * found[i, m] @ found[m, j] for m, w in zip(between, weights, strict=True)]
                farther[i, j] = sum(ways[1:], ways[0]) / sum(weights), max(weights)
        for edge, (matrix, share) in farther.items():
            found[edge], shares[edge] = matrix, share
    return found, shares


def _roots(spread: Spread, scale: float) -> tuple[Array, Array]:
    """Return L and K with LLᵀ = P, KᵀPK = I within what the rows span: P is the covariance plus scale·I."""
    values, vectors = eigh(spread.covariance)
    rank = int(np.count_nonzero(values > len(values) * EPS * values[0]))
    rank = min(rank, max(spread.count - 1, 0))
    root = np.sqrt(values[:rank] + scale)
    return vectors[:, :rank] * root, vectors[:, :rank] / root


def _mean_variance(spread: Spread) -> float:
    return float(spread.covariance.trace()) / len(spread.mean)


def _translations(pairwise: Pairwise, found: Sequence[Spread], matrices: Sequence[Array]) -> list[Array]:
    """Return where the mean of every space goes: zero, but where pairs have rows of their own.

    Least squares over the pairs of the distance between the means of the two sides.
    """
    count, width = len(found), matrices[0].shape[1]
    laplacian, right = np.zeros((count, count)), np.zeros((count, width))
    for (i, j), one in pairwise.moments.items():
        apart = (one.source_mean - found[i].mean) @ matrices[i] - (
            one.target_mean - found[j].mean
        ) @ matrices[j]
        laplacian[[i, j], [i, j]] += one.weight
        laplacian[[i, j], [j, i]] -= one.weight
        right[i] -= one.weight * apart
        right[j] += one.weight * apart
    inverse = np.asarray(np.linalg.pinv(laplacian / laplacian.max(), hermitian=True), np.float64)
    shifts = inverse @ (right / laplacian.max())
    return [shifts[i] for i in range(count)]


def _blocked(blocks: Mapping[tuple[int, int], Array], rows: Sequence[int], columns: Sequence[int]) -> Array:
    """Return the matrix of the blocks; those that are not there are zero."""
    tops, lefts = np.cumsum([0, *rows]), np.cumsum([0, *columns])
    out = np.zeros((tops[-1], lefts[-1]))
    for (i, j), block in blocks.items():
        out[tops[i] : tops[i + 1], lefts[j] : lefts[j + 1]] = block
    return out


def _blocks(rows: Array, dims: Sequence[int]) -> list[Array]:
    """Return the rows of every space."""
    ends = np.cumsum([0, *dims])
    return [rows[start:stop] for start, stop in successive(ends)]
