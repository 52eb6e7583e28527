"""A map from rows alone; and from rows with some pairs, or with labels, in the same call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._linalg import nearest_rotation
from latalign._validation import Array, Pairs, Rows, as_generator, as_rows, require_finite, require_whole
from latalign.anchors import Index
from latalign.evidence import plain
from latalign.fitting import fit, solve_folds
from latalign.maps import AffineMap
from latalign.moments import Moments
from latalign.unpaired.classes import LabelledRows
from latalign.unpaired.climbing import Cloud, Peaks, peaks
from latalign.unpaired.labels import fit_from_labels
from latalign.unpaired.refining import map_of_partners, refined
from latalign.unpaired.resemblance import resemblance
from latalign.unpaired.signatures import Side, between, whitened

Basis = Literal["rows", "labels", "pairs"]
Reason = Literal["one dimension", "symmetry", "disagreement", "unlike clouds", "too few rows"]

_FEWEST = 20  # rows of a side without a counterpart, for anything to be looked for
_UNSTABLE = 0.12  # disagreement of halves of the rows above which nothing was found
_SYMMETRIC = 0.02  # how far apart a mirror image, or the like, that does as well may be
_ALIKE = 0.75  # resemblance of the clouds below which nothing was found
_CORRECTING = 10  # pairs from which on they correct the map


@final
@dataclass(frozen=True, slots=True, eq=False)
class UnpairedFit:
    """What was found without pairs, or with a few: a map, or that there is none to be trusted.

    Attributes
    ----------
    basis : {"rows", "labels", "pairs"}
        What was matched: the rows, the rows of each class, or nothing, since all rows are paired.
    disagreement : float
        How far apart the maps of two halves of the rows are, each found from the start and on its own:
        0 the same, 1 unrelated. Where one half has several answers that are as good, that of the two that
        are farthest apart. 0 where all rows are paired.
    resemblance : float
        How alike the two clouds are under the map: 1 as two samples of one cloud, 0 no more than under a
        rotation drawn at random. NaN where labels say what belongs together, or all rows are paired.
    agreement : tuple of float
        The share of rows that have a mutual partner: under the first map, and under each rotation after
        it. Empty where nothing was found or all rows are paired. It compares maps between the same rows only.
    source_rows, target_rows : int
        The rows that were matched.
    pairs : int
        The rows that are known to correspond.
    reason : str or None
        Why there is no map. "one dimension": there the shapes of two clouds tell nothing. "symmetry": a
        mirror image of the answer, or the like, does as well. "disagreement", "unlike clouds": see there.
        "too few rows": in each class, to find more than its mean. None where there is a map.
    """

    basis: Basis
    disagreement: float
    resemblance: float
    agreement: tuple[float, ...]
    source_rows: int
    target_rows: int
    pairs: int
    reason: Reason | None
    _map: AffineMap | None

    @property
    def found(self) -> bool:
        """Whether there is a map."""
        return self._map is not None

    @property
    def confidence(self) -> float:
        """From 0, nothing was found twice, to 1, the same was, and it fits: known from the rows alone.

        The less of 1 − `disagreement` and `resemblance`; at most ½ where there is a `reason` to believe neither.
        """
        most = 1.0 if self.reason is None else 0.5
        return min(most, max(0.0, float(np.nanmin([1.0 - self.disagreement, self.resemblance]))))

    @property
    def map(self) -> AffineMap:
        """The map.

        Raises
        ------
        ValueError
            If none was found.
        """
        if self._map is None:
            raise ValueError(f"fit_unpaired: {self.explanation}")
        return self._map

    @property
    def explanation(self) -> str:
        """Why there is no map, and what to give, in two sentences; empty where there is one."""
        if self.reason is None:
            return ""
        why = {
            "one dimension": "in one dimension the shapes of two clouds do not tell what corresponds",
            "symmetry": "the clouds are their own mirror image, or the like, so that there is more than one answer",
            "disagreement": f"two halves of the rows disagree by {self.disagreement:.2f} (0 the same, 1 unrelated)",
            "unlike clouds": f"the clouds are alike by {self.resemblance:.2f} (1 the same, 0 by chance)",
            "too few rows": "there are too few rows of each class to find more than the class means",
        }
        return (
            f"No map was found: {why[self.reason]}. Give more rows, class labels (labels=, --labels) or rows that "
            "correspond (pairs=, --anchors); with enough pairs, latalign.fit needs nothing else."
        )

    def to_json(self) -> dict[str, Any]:
        """Return the record, but for the map, as plain JSON values."""
        names = ("found", "reason", "confidence", "basis", "disagreement", "resemblance", "agreement")
        counts = ("source_rows", "target_rows", "pairs")
        return cast("dict[str, Any]", plain({name: getattr(self, name) for name in (*names, *counts)}))


def fit_unpaired(
    X: ArrayLike,
    Y: ArrayLike,
    *,
    pairs: tuple[ArrayLike, ArrayLike] | None = None,
    labels: tuple[ArrayLike, ArrayLike] | None = None,
    max_rows: int = 10_000,
    max_iterations: int = 20,
    random_state: int | np.random.Generator | None = 0,
) -> UnpairedFit:
    """Find a map from rows of which none is known to correspond to another, or only a few; or find none.

    Both spaces are whitened, so that what is left between them is a rotation. Clusters of the one are
    matched with those of the other by a quadratic assignment [1]_, [2]_, many times over; from the best
    matches, rows that are each other's nearest become partners, their rotation is found, and partners anew
    [3]_, the partners of one half of the rows judging the rotation of the other. The rotation under which
    most rows have a partner is taken. All this is done twice, with two halves of the rows that have none
    in common, once from source to target and once back. Where the two do not agree, rows are as near under a
    mirror image, or the clouds are not alike under what was agreed on, nothing was found.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    Y : array-like of shape (m, dim_target)
        Rows of the same kind of thing, in about the same shares, seen by two models. How many there are
        of each does not matter, nor how wide they are.
    pairs : tuple of two arrays of int, equally long, optional
        The numbers of rows of X and of those of Y that are known to correspond. They take part in the
        search, and from ten on they correct the map: by ridge regression on what it leaves, with the
        penalty by leave-one-out. Where they leave fewer than 20 other rows on a side, the map is that of
        `latalign.fit` on the pairs.
    labels : tuple of two arrays, optional
        The class of every row of X and of every row of Y, as for `latalign.fit_from_labels`, which then
        does the search.
    max_rows : int
        About how many rows of each side are looked at one by one. The means and covariances are of all.
    max_iterations : int
        Stop after so many rotations, once the first is found.
    random_state : int, Generator or None
        Draws those rows, the halves, the clusters and the starts of the assignment.

    Returns
    -------
    UnpairedFit
        Its ``map`` raises an error where nothing was found.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers, the pairs no whole ones, or `random_state` is neither a
        number nor a Generator.
    ValueError
        If shapes do not fit, values are not finite, there are fewer than 20 rows on a side and not all
        are paired, the rows of a side are all the same, or a number is out of range.

    Notes
    -----
    What nothing says, geometry must: the two spaces have to be near to an affine image of each other, and
    their clouds must have a shape of their own. A Gaussian has none, and nor has a cloud that is its own
    mirror image: any answer is then as good as another, and nothing is found. In one dimension nothing is,
    either, unless all rows are paired: there clouds of similar shape are alike whatever they are. The page
    on methods tells where it worked and where it did not.

    The confidence is about the rows given. Two spaces that hold different things (other classes, other
    shares of them) have no true map either. Between networks the halves disagreed in every such case that was tried.
    But a few round, tight clusters are all alike once both sides are whitened: unrelated ones, or those that exchanged
    their shares, may be mapped to each other and called found. Where rows may be like that, check the map on pairs.

    The time is that of searches of every row among all of the other side, up to some hundred times with
    4,000 rows and some ten times with `max_rows`.

    References
    ----------
    .. [1] G. Dar, mini-vec2vec: scaling universal geometry alignment with linear transformations, arXiv
       2510.02348 (2025).
    .. [2] Unpaired Rosetta, arXiv 2610.09411 (2026): a k-means and quadratic assignment start, and none,
       few or many pairs in one estimator.
    .. [3] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou, Word translation without parallel
       data, ICLR 2018: mutual nearest neighbors under CSLS, and Procrustes on them.

    Examples
    --------
    Two spaces that are the same but for a linear map; no row of the one is in the other, and nothing else
    is known:

    >>> import numpy as np
    >>> from latalign import fit_unpaired
    >>> rng = np.random.default_rng(0)
    >>> kind = rng.integers(6, size=4000)
    >>> shapes, middles = rng.normal(size=(6, 4, 4)), 2 * rng.normal(size=(6, 4))
    >>> codes = np.einsum("ni,nij->nj", rng.normal(size=(4000, 4)), shapes[kind]) + middles[kind]
    >>> others = codes @ rng.normal(size=(4, 4))
    >>> found = fit_unpaired(codes[:2000], others[2000:])
    >>> found.found
    True
    >>> unexplained = np.square(found.map(codes) - others).sum() / (len(codes) * others.var(axis=0).sum())
    >>> bool(unexplained < 0.05)
    True

    Clouds without a shape of their own have no answer:

    >>> round_ones = rng.normal(size=(2, 2000, 4))
    >>> fit_unpaired(*round_ones).found
    False
    """
    limits = {"max_rows": max_rows, "max_iterations": max_iterations}
    require_whole("fit_unpaired", **limits)
    for name, value in limits.items():
        if value < 1:
            raise ValueError(f"fit_unpaired needs {name} of 1 or more; got {value}")
    rng = as_generator(random_state, "fit_unpaired")
    source, target = (as_rows(X, "fit_unpaired: the source X"), as_rows(Y, "fit_unpaired: the target Y"))
    require_finite(source, "fit_unpaired: the source X")
    require_finite(target, "fit_unpaired: the target Y")
    known = _checked_pairs(pairs, source, target)
    free = [
        np.setdiff1d(np.arange(len(rows)), used) for rows, used in zip((source, target), known, strict=True)
    ]
    if len(known[0]) > 1 and min(len(numbers) for numbers in free) < _FEWEST:
        fitted = fit(source[known[0]], target[known[1]], random_state=rng)
        return UnpairedFit("pairs", 0.0, np.nan, (), 0, 0, len(known[0]), None, fitted)
    if labels is not None:
        by_class = fit_from_labels(
            source,
            labels[0],
            target,
            labels[1],
            max_rows=max_rows,
            max_iterations=max_iterations,
            random_state=rng,
        )
        rows = by_class.source_rows, by_class.target_rows
        told = by_class.basis == "rows"
        unpaired = UnpairedFit(
            basis="labels",
            disagreement=by_class.disagreement,
            resemblance=np.nan,
            agreement=by_class.agreement,
            source_rows=rows[0],
            target_rows=rows[1],
            pairs=len(known[0]),
            reason=None if told else "too few rows",
            _map=by_class.map if told else None,
        )
    else:
        for side, numbers in zip(("source X", "target Y"), free, strict=True):
            if len(numbers) < _FEWEST:
                raise ValueError(
                    f"fit_unpaired needs {_FEWEST} rows or more without a counterpart on either side, and many more to "
                    f"find anything; the {side} has {len(numbers)}"
                )
        unpaired = _by_rows(source, target, free, known, max_rows, max_iterations, rng)
    if unpaired.found and len(known[0]) >= _CORRECTING:
        corrected = _corrected(unpaired.map, source[known[0]], target[known[1]])
        return replace(unpaired, _map=corrected)
    return unpaired


def _checked_pairs(
    pairs: tuple[ArrayLike, ArrayLike] | None, source: Rows, target: Rows
) -> tuple[Index, Index]:
    """Return the numbers of the rows that correspond."""
    if pairs is None:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    found: list[NDArray[Any]] = []
    for numbers, rows, side in zip(pairs, (source, target), ("source X", "target Y"), strict=True):
        values = np.asarray(numbers)
        if values.ndim != 1 or (values.dtype.kind not in "iu" and values.size):
            raise TypeError(
                f"fit_unpaired needs pairs as two 1-D arrays of row numbers; got {values.dtype} of shape "
                f"{values.shape} for the {side}"
            )
        if values.size and not (values.min() >= 0 and values.max() < len(rows)):
            raise ValueError(
                f"fit_unpaired needs pairs that are numbers of rows, from 0 to {len(rows) - 1} in the {side}; got "
                f"{values.min()} to {values.max()}"
            )
        found.append(values.astype(np.intp))
    if len(found[0]) != len(found[1]):
        raise ValueError(
            f"fit_unpaired needs pairs of as many rows of either side; got {len(found[0])} of the source X and "
            f"{len(found[1])} of the target Y"
        )
    return found[0], found[1]


def _by_rows(
    source: Rows,
    target: Rows,
    free: list[Index],
    known: tuple[Index, Index],
    max_rows: int,
    max_iterations: int,
    rng: np.random.Generator,
) -> UnpairedFit:
    """Return what the rows alone say, with the pairs as a guide."""
    sides = whitened(_one_class(source), _one_class(target), max_rows, rng, "fit_unpaired")
    counts = len(free[0]), len(free[1]), len(known[0])
    if sides[0].whitening.rank == 1:
        return UnpairedFit("rows", 1.0, 0.0, (), *counts, "one dimension", None)
    clouds = [
        _halves(side, rows, numbers, own, rng)
        for side, rows, numbers, own in zip(sides, (source, target), free, known, strict=True)
    ]
    # Once from source to target and once back: what depends on whose distances are taken is no answer.
    there, back = peaks(clouds[0][0], clouds[1][0], rng), peaks(clouds[1][1], clouds[0][1], rng)
    best, best_back = there.best.rotation, back.best.rotation.T
    deviations = sides[1].whitening.deviations
    apart = max(
        *(between(one, best_back, deviations) for one in there.rotations),
        *(between(best, one.T, deviations) for one in back.rotations),
    )
    rotation = nearest_rotation(best + best_back)
    rows = clouds[0][0].rows, clouds[1][1].rows
    alike = resemblance(*rows, clouds[1][0].scale, rotation, rng)
    reason: Reason | None = None
    if max(_symmetric(there, deviations), _symmetric(back, sides[0].whitening.deviations)) > _SYMMETRIC:
        reason = "symmetry"
    elif apart > _UNSTABLE:
        reason = "disagreement"
    elif alike < _ALIKE:
        reason = "unlike clouds"
    if reason is not None:
        return UnpairedFit("rows", apart, alike, (), *counts, reason, None)
    moments, agreement = refined(*sides, rotation, max_iterations)
    fitted = map_of_partners(*sides, moments, max(agreement), "unpaired")
    return UnpairedFit("rows", apart, alike, agreement, *counts, None, fitted)


def _symmetric(found: Peaks, deviations: Array) -> float:
    """Return how far a mirror image, or the like, that does as well is from the best rotation; 0 where none does."""
    return max(
        (between(peak.rotation, found.best.rotation, deviations) for peak in found.symmetric), default=0.0
    )


def _one_class(rows: Rows) -> LabelledRows:
    """Return all rows as of the same class."""
    return LabelledRows(rows, np.zeros(1), (np.arange(len(rows)),), 0)


def _halves(
    side: Side, rows: Rows, free: Index, known: Index, rng: np.random.Generator
) -> tuple[Cloud, Cloud]:
    """Return two halves of the whitened rows that have no counterpart, and of those that have one."""
    drawn = rng.permutation(free)[: len(side.drawn)]
    parts = [
        [side.whitening(rows[part]) for part in np.array_split(numbers, 2)] for numbers in (drawn, known)
    ]
    one, other = (
        Cloud(loose, side.whitening.deviations, paired) for loose, paired in zip(*parts, strict=True)
    )
    return one, other


def _corrected(found: AffineMap, X: Rows, Y: Rows) -> AffineMap:
    """Return the map with the ridge map of what it leaves of the pairs added.

    From a few pairs the penalty leaves the map as it is; from many they say everything.
    """
    left = Y - found(X)
    rest = solve_folds("ridge", (Moments.of(X, left),), {}, Pairs.of(X, left, caller="fit_unpaired"))
    shift = (rest.source_mean - found.source_mean) @ found.matrix
    return AffineMap(
        rest.source_mean,
        found.matrix + rest.matrix,
        found.target_mean + shift + rest.target_mean,
        found.method,
        rest.evidence,
    )
