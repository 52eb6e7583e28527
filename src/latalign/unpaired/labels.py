"""A map from labels alone: rows need not correspond, only their classes do."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast, final

import numpy as np
from numpy.typing import ArrayLike

from latalign import solve
from latalign._validation import Pairs, as_generator, require_whole
from latalign.anchors import listed, means_of, require_one_kind
from latalign.evidence import IllConditionedWarning, plain
from latalign.maps import AffineMap
from latalign.moments import Moments
from latalign.solvable import check_solvable
from latalign.unpaired.classes import LabelledRows
from latalign.unpaired.refining import map_of_partners, refined
from latalign.unpaired.signatures import disagreement, rotation_of_statistics, whitened

Basis = Literal["rows", "means"]

_UNSTABLE = 0.4  # disagreement of halves of the rows above which the class means are the better map


@final
@dataclass(frozen=True, slots=True)
class LabelsFit:
    """A map found from labels, and how it was found.

    Attributes
    ----------
    map : AffineMap
        Its ``evidence.anchors`` counts what it was fitted to: partners, which are neighbors and not rows
        that are known to correspond, or the class means. The rest is of what was solved: for partners
        `latalign.solve.shrunk`, between the whitened spaces.
    basis : {"rows", "means"}
        Whether the rows themselves decide, or there are too few and the map is that of the class means.
    disagreement : float
        How far apart the first maps of two halves of the rows are: 0 the same, 1 unrelated. Above 0.4
        the class means are taken.
    agreement : tuple of float
        The share of rows that have a mutual partner: under the first map, and under each rotation after
        it, until it grows no more. The map is of the largest. It compares maps between the same rows
        only. Empty where the class means are taken.
    classes : int
        The number of classes that both sides have.
    source_rows, target_rows : int
        The rows of those classes.
    source_left_out, target_left_out : int
        The rows without a label, or of a class that the other side does not have.
    """

    map: AffineMap
    basis: Basis
    disagreement: float
    agreement: tuple[float, ...]
    classes: int
    source_rows: int
    target_rows: int
    source_left_out: int
    target_left_out: int

    def to_json(self) -> dict[str, Any]:
        """Return the record, but for the map, as plain JSON values."""
        names = (field.name for field in fields(self) if field.name != "map")
        return cast("dict[str, Any]", plain({name: getattr(self, name) for name in names}))


def fit_from_labels(
    X: ArrayLike,
    source_labels: ArrayLike,
    Y: ArrayLike,
    target_labels: ArrayLike,
    *,
    max_rows: int = 20_000,
    max_iterations: int = 20,
    random_state: int | np.random.Generator | None = 0,
) -> LabelsFit:
    """Find a map from labelled rows of which none is known to correspond to another.

    Both spaces are whitened, so that what is left between them is a rotation. The first one is that which
    takes means and covariances of the classes, and of halves of them, to those of the other space, in
    closed form [1]_. Under it, rows of a class that are each other's nearest are partners; their rotation
    is found, and partners anew, as long as more rows have one [2]_. The map is least squares on the last
    partners, drawn to their rotation.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    source_labels : array-like of shape (n,)
    Y : array-like of shape (m, dim_target)
    target_labels : array-like of shape (m,)
        The class of every row: integers or strings. Rows whose label is missing (None or NaN), and those
        of classes that the other side does not have, are left out and counted. How many rows of a class
        there are on a side does not matter.
    max_rows : int
        About how many rows of each side are looked at one by one, drawn from each class alike. The means
        and covariances of classes are of all rows.
    max_iterations : int
        Stop after so many rotations.
    random_state : int, Generator or None
        Draws those rows, and the halves that tell whether there are enough.

    Returns
    -------
    LabelsFit

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers, or `random_state` is neither a number nor a Generator.
    ValueError
        If shapes do not fit, values are not finite, the sides share fewer than two classes, the rows of a
        side are all the same, or a number is out of range or not a whole one.

    Warns
    -----
    IllConditionedWarning
        If the sides share two classes only.

    Notes
    -----
    What labels do not say, geometry must: the two spaces have to be near to an affine image of each
    other, class by class. Between autoencoders they are; the page on methods has figures. About as many
    rows a class as the spaces have dimensions were enough there, with ten classes. Nothing can be told
    from a few rows a class: `disagreement` says so, and the map is then that of the class means.

    Two classes may leave the sign of a direction nearly open, and `disagreement` does not always tell: between
    clouds that were the same but for an affine map and a little noise they left 1 to 38 % of the variance
    unexplained where three classes left 4 % at most. Divide them where you can.

    Between spaces of different width the map leads through as many of the widest directions of either as
    the narrower one has.

    The time is that of a search of every row among those of its class, some ten times over, and of
    products of square matrices as wide as the spaces.

    References
    ----------
    .. [1] M. Ovsjanikov et al., Functional maps: a flexible representation of maps between shapes, ACM
       Transactions on Graphics 31 (2012) 30: that maps commute with operators, and least squares on it.
    .. [2] A. Conneau, G. Lample, M. Ranzato, L. Denoyer, H. Jégou, Word translation without parallel
       data, ICLR 2018: mutual nearest neighbors under CSLS, and Procrustes on them.

    Examples
    --------
    Two spaces that are the same but for a linear map; no row of the one is in the other:

    >>> import numpy as np
    >>> from latalign import fit_from_labels
    >>> rng = np.random.default_rng(0)
    >>> shapes, middles = rng.normal(size=(3, 4, 4)), rng.normal(size=(3, 4))
    >>> labels = rng.integers(3, size=4000)
    >>> codes = np.einsum("ni,nij->nj", rng.normal(size=(4000, 4)), shapes[labels]) + middles[labels]
    >>> matrix = rng.normal(size=(4, 4))
    >>> found = fit_from_labels(codes[:2000], labels[:2000], codes[2000:] @ matrix, labels[2000:])
    >>> found.basis, found.classes
    ('rows', 3)
    >>> unexplained = np.square(found.map(codes) - codes @ matrix).sum() / (codes @ matrix).var(axis=0).sum()
    >>> bool(unexplained / len(codes) < 0.05)
    True
    """
    limits = {"max_rows": max_rows, "max_iterations": max_iterations}
    require_whole("fit_from_labels", **limits)
    for name, value in limits.items():
        if value < 1:
            raise ValueError(f"fit_from_labels needs {name} of 1 or more; got {value}")
    rng = as_generator(random_state, "fit_from_labels")
    source, target = _shared(
        LabelledRows.of(X, source_labels, "fit_from_labels: the source X"),
        LabelledRows.of(Y, target_labels, "fit_from_labels: the target Y"),
    )
    sides = whitened(source, target, max_rows, rng, "fit_from_labels")
    apart = disagreement(*sides, rng)
    agreement: tuple[float, ...] = ()
    if apart > _UNSTABLE:
        fitted = _map_of_means(source, target)
    else:
        spreads = (
            side.whitening.spread(rows, side.weights)
            for side, rows in zip(sides, (source, target), strict=True)
        )
        rotation = rotation_of_statistics(*sides, *spreads)
        moments, agreement = refined(*sides, rotation, max_iterations)
        fitted = map_of_partners(*sides, moments, max(agreement), "labels")
        if len(source.classes) == 2:
            said = (
                "fit_from_labels: two classes may leave the sign of a direction open, so that the map is wrong in "
                "it. Divide the classes where you can, or check the map on some pairs (latalign.evaluate)."
            )
            warnings.warn(said, IllConditionedWarning, stacklevel=2)
    return LabelsFit(
        map=fitted,
        basis="rows" if agreement else "means",
        disagreement=apart,
        agreement=agreement,
        classes=len(source.classes),
        source_rows=int(source.counts.sum()),
        target_rows=int(target.counts.sum()),
        source_left_out=len(source.rows) - int(source.counts.sum()),
        target_left_out=len(target.rows) - int(target.counts.sum()),
    )


def _shared(source: LabelledRows, target: LabelledRows) -> tuple[LabelledRows, LabelledRows]:
    """Return both sides with the classes that both have."""
    require_one_kind(source.classes, target.classes, "fit_from_labels")
    shared, mine, its = np.intersect1d(source.classes, target.classes, return_indices=True)
    if len(shared) < 2:
        raise ValueError(
            "fit_from_labels needs two classes or more that both sides have; they share "
            f"{len(shared)} of {len(source.classes)} in the source ({listed(source.classes)}) and "
            f"{len(target.classes)} in the target ({listed(target.classes)}). Give the same classes the same "
            "labels."
        )
    return source.of_classes(mine), target.of_classes(its)


def _map_of_means(source: LabelledRows, target: LabelledRows) -> AffineMap:
    """Return the ridge map of the class means."""
    means = [means_of(side.rows, side.members) for side in (source, target)]
    pairs = Pairs.of(*means, caller="fit_from_labels")
    moments = Moments.of(*means)
    check_solvable(moments)
    return replace(solve.ridge(moments, rows=pairs), method="ridge of class means")
