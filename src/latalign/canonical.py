"""Maps for retrieval: regularized canonical correlations of two spaces, from moments.

Least squares asks where the other model would put a row; this asks which rows both models take for the
same. Directions of the two spaces are paired by how strongly they correlate [1]_, with a penalty on both
sides [2]_, and weighted by their correlation. A row then matches another by the product of their
weighted coordinates: canonical correlations with weights [3]_, where a query is carried over into the
space that is searched and the index stays as it is [4]_.

References
----------
.. [1] H. Hotelling, Relations between two sets of variates, Biometrika 28 (1936) 321-377.
.. [2] H. D. Vinod, Canonical ridge and econometrics of joint production, Journal of Econometrics 4
   (1976) 147-166.
.. [3] Y. Gong, Q. Ke, M. Isard, S. Lazebnik, A multi-view embedding space for modeling internet images,
   tags, and their semantics, International Journal of Computer Vision 106 (2014) 210-233.
.. [4] Y. Mroueh, E. Marcheret, V. Goel, Asymmetrically weighted CCA and hierarchical kernel sentence
   embedding for multimodal retrieval, arXiv:1511.06267 (2015).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, final

import numpy as np

from latalign._linalg import EPS, eigh, svd
from latalign._validation import Array, Pairs, checked_alpha, checked_power
from latalign.evidence import Evidence
from latalign.maps import AffineMap
from latalign.moments import Moments

# What does well between text encoders, where there are no rows to choose by.
ALPHA, POWER = 0.3, 0.5
# What is found lies so many standard deviations above the scores of rows that do not belong together:
# about one in a thousand does.
_FOUND_AT = 3.0
_BLOCK_ROWS = 2048


@final
@dataclass(frozen=True, slots=True, eq=False)
class Canonical:
    """Directions of both spaces in pairs, and how strongly the two spaces correlate along each pair.

    With A the source Gram matrix plus alpha times its mean diagonal value, B likewise of the target, and
    A^(−½) xy B^(−½) = U S Vᵀ.

    Attributes
    ----------
    source : (dim_source, k) array
        A^(−½) U.
    target : (dim_target, k) array
        B^(−½) V.
    correlations : (k,) array
        The diagonal of S, from 0 to 1, the largest first.
    condition : float
        Of A or B, whichever is larger, within what the anchors span.
    """

    source: Array
    target: Array
    correlations: Array
    condition: float

    @staticmethod
    def of(moments: Moments, alpha: float) -> Canonical:
        """Return the canonical directions for one penalty."""
        return next(canonical_path(moments, [alpha]))

    def weighted(self, power: float) -> tuple[Array, Array]:
        """Return the directions of both sides, each times its correlation to a power."""
        weights = self.correlations**power
        return self.source * weights, self.target * weights


def canonical_path(moments: Moments, alphas: Iterable[float]) -> Iterator[Canonical]:
    """Yield the canonical directions for one penalty after another; the Gram matrices are decomposed once."""
    (source, left), (target, right) = _spectrum(moments.xx, moments), _spectrum(moments.yy, moments)
    cross = left.T @ moments.xy @ right
    for alpha in alphas:
        if not cross.size:
            nothing = np.zeros((moments.dim_source, 0)), np.zeros((moments.dim_target, 0))
            yield Canonical(*nothing, np.zeros(0), 1.0)
            continue
        x = source + alpha * moments.xx_diagonal.mean()
        y = target + alpha * moments.yy_diagonal.mean()
        u, s, v = svd(cross / np.sqrt(x)[:, None] / np.sqrt(y))
        yield Canonical(
            left @ (u / np.sqrt(x)[:, None]),
            right @ (v.T / np.sqrt(y)[:, None]),
            np.minimum(s, 1.0),
            float(max(x[0] / x[-1], y[0] / y[-1])),
        )


def retrieval(
    moments: Moments,
    *,
    alpha: float | Literal["auto"] = "auto",
    power: float | Literal["auto"] = "auto",
    rows: Pairs | None = None,
) -> AffineMap:
    """Return the map that carries queries into a space to be searched there: weighted canonical correlations.

    With A = xx + alpha·mean(diag xx)·I, B likewise of the target, and A^(−½) xy B^(−½) = U S Vᵀ [2]_, a
    query q becomes (q − source_mean) A^(−½) U S^p · S^p Vᵀ B^(−½), times one scale. Its dot product with a
    stored row ranks that row; where the stored rows have length one, so does the cosine. The index is not
    touched [4]_. What comes out is a direction to search along, far from where least squares would put the
    row: use it for nothing else.

    A power of ½ is ridge regression with the target whitened, A^(−1) xy B^(−1). The smaller the power and the
    larger alpha, the nearer it is to the rotation of `latalign.solve.rigid`.

    Where `rows` are given, the map has an offset as well. Two mapped sides are compared by cosine, which
    divides by the length of the stored row in canonical coordinates; an untouched index cannot. The offset
    is what of the logarithm of that length is a linear function of the row, at the score that decides.

    Parameters
    ----------
    moments : Moments
        With both Gram matrices.
    alpha : float or "auto"
        The penalty on both sides, relative to the mean sum of squares of a column. "auto" is 0.3 here;
        `latalign.fit` chooses it, and the power, by held-out retrieval.
    power : float or "auto"
        What the correlations are raised to on either side, zero or more; ½ unless given.
    rows : Pairs, optional
        The pairs of the moments, or some of them.

    Returns
    -------
    AffineMap

    Raises
    ------
    ValueError
        If the moments lack a Gram matrix, or `alpha` or `power` is not finite or below zero.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, Normalize, metrics, solve
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 32))
    >>> Y = Normalize()(X @ rng.normal(size=(32, 32)) + rng.normal(size=(500, 32)))
    >>> found = solve.retrieval(Moments.of(X[:400], Y[:400]))
    >>> metrics.recall_score(found(X[400:]), Y[400:]) > 0.9
    True
    """
    penalty = ALPHA if alpha == "auto" else checked_alpha(alpha)
    exponent = POWER if power == "auto" else checked_power(power)
    return searching(moments, Canonical.of(moments, penalty), penalty, exponent, rows)


def retrieval_pair(
    moments: Moments,
    *,
    alpha: float | Literal["auto"] = "auto",
    power: float | Literal["auto"] = "auto",
) -> tuple[AffineMap, AffineMap]:
    """Return the maps of queries and of stored rows into one space, where they are compared by cosine.

    Both sides of `retrieval`: x ↦ (x − source_mean) A^(−½) U S^p and y ↦ (y − target_mean) B^(−½) V S^p, the
    canonical correlations with weights of [3]_. It finds a little more than the query side alone, for a
    pass over the index.

    Parameters
    ----------
    moments, alpha, power
        As in `retrieval`. Take the alpha and the power that `latalign.fit` has chosen, from the evidence.

    Returns
    -------
    queries, stored : AffineMap

    Raises
    ------
    ValueError
        As in `retrieval`; also if all rows of a side are the same.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Moments, Normalize, metrics, solve
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(500, 32))
    >>> Y = Normalize()(X @ rng.normal(size=(32, 32)) + rng.normal(size=(500, 32)))
    >>> queries, stored = solve.retrieval_pair(Moments.of(X[:400], Y[:400]))
    >>> metrics.recall_score(queries(X[400:]), stored(Y[400:])) > 0.9
    True
    """
    penalty = ALPHA if alpha == "auto" else checked_alpha(alpha)
    exponent = POWER if power == "auto" else checked_power(power)
    canonical = Canonical.of(moments, penalty)
    source, target = canonical.weighted(exponent)
    evidence = canonical_evidence(moments, canonical, penalty, exponent)
    if not len(canonical.correlations):
        raise ValueError(
            f"retrieval_pair needs rows that differ on both sides; all {moments.count} of one side are the same, "
            "or too small for their squares"
        )
    shared = np.zeros(len(canonical.correlations))
    return (
        AffineMap(moments.source_mean, source, shared, "retrieval", evidence),
        AffineMap(moments.target_mean, target, shared, "retrieval", evidence),
    )


def searching(
    moments: Moments, canonical: Canonical, alpha: float, power: float, rows: Pairs | None
) -> AffineMap:
    """Return the map of `retrieval`, given the canonical directions of the moments."""
    source, target = canonical.weighted(power)
    matrix = source @ target.T
    spread = float(((moments.xx @ matrix) * matrix).sum())
    scale = float((matrix * moments.xy).sum()) / spread if spread > 0 else 1.0
    offset = np.zeros(moments.dim_target)
    if rows is not None:
        shared = source.T @ moments.xx @ source
        offset = (
            scale * found_score(target @ shared @ target.T, moments) * shortness(moments, target, alpha, rows)
        )
    evidence = canonical_evidence(moments, canonical, alpha, power)
    return AffineMap(moments.source_mean, scale * matrix, offset, "retrieval", evidence)


def canonical_evidence(moments: Moments, canonical: Canonical, alpha: float, power: float) -> Evidence:
    """Return what is known of a map of these directions."""
    return Evidence(
        anchors=moments.count,
        rank=len(canonical.correlations),
        condition=float(np.sqrt(canonical.condition)),
        error_bound=moments.rounding * canonical.condition,
        alpha=alpha,
        power=power,
    )


def found_score(spread: Array, moments: Moments) -> float:
    """Return the product with a mapped row, whose sums of squares are `spread`, at which a stored row is found."""
    variance = float((spread * moments.yy).sum())
    return _FOUND_AT * float(np.sqrt(max(variance, 0.0))) / moments.weight


def shortness(moments: Moments, target: Array, alpha: float, rows: Pairs) -> Array:
    """Return minus the coefficients of the log length of a target row's coordinates, regressed on the row."""
    sums, cross, total = np.zeros(2), np.zeros(moments.dim_target), np.zeros(moments.dim_target)
    for part in rows.blocks(_BLOCK_ROWS):
        centred = np.subtract(part.target, moments.target_mean, dtype=np.float64)
        length = np.linalg.norm(centred @ target, axis=1)
        weight = (length > 0) * (1.0 if part.weight is None else part.weight)  # a row at the mean has none
        values = weight * np.log(np.where(length > 0, length, 1.0))
        sums += values.sum(), weight.sum()
        cross += values @ centred
        total += weight @ centred
    cross = moments.weight / max(sums[1], EPS) * (cross - sums[0] / max(sums[1], EPS) * total)
    values, vectors = _spectrum(moments.yy, moments)
    inverse = 1 / (values + alpha * moments.yy_diagonal.mean())
    return -vectors @ (inverse * (vectors.T @ cross))


def _spectrum(gram: Array, moments: Moments) -> tuple[Array, Array]:
    """Return the eigenvalues and vectors of a Gram matrix, in what the anchors span."""
    values, vectors = eigh(gram)
    limit = len(values) * max(EPS, moments.rounding) * values[0]
    rank = min(int(np.count_nonzero(values > limit)), max(moments.count - 1, 0))
    return values[:rank], vectors[:, :rank]
