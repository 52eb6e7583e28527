"""Who corresponds to whom: pairing rows by id or by class, and choosing anchors.

References
----------
.. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023, PMLR 243:158-169.
.. [2] T. F. Gonzalez, Clustering to minimize the maximum intercluster distance, Theoretical Computer
   Science 38 (1985) 293-306.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._validation import Array, Rows, as_generator, as_rows, require_finite, require_whole

Index = NDArray[np.intp]
Labels = NDArray[Any]

_BLOCK_ROWS = 1024  # what stays in the cache while it is worked on
_NAMED = 5  # classes that an error lists


def pair_by_id(
    source_ids: ArrayLike, target_ids: ArrayLike, *, unmatched: str = "error"
) -> tuple[Index, Index]:
    """Return the row numbers that pair two sets of rows by their ids, in the order of the source.

    Parameters
    ----------
    source_ids : array-like of shape (n,)
    target_ids : array-like of shape (m,)
        Integers or strings. None of either may be missing or occur twice.
    unmatched : {"error", "drop"}
        What becomes of ids that only one side has.

    Returns
    -------
    source_rows, target_rows : arrays of int, equally long

    Raises
    ------
    ValueError
        If ids are duplicate or missing, or no id is on both sides.

    Examples
    --------
    >>> from latalign import pair_by_id
    >>> pair_by_id(["a", "b", "c"], ["c", "a", "b"])
    (array([0, 1, 2]), array([1, 2, 0]))
    """
    if unmatched not in ("error", "drop"):
        raise ValueError(f'pair_by_id: unmatched is "error" or "drop"; got {unmatched!r}')
    source, target = _as_ids(source_ids, "source"), _as_ids(target_ids, "target")
    if (source.dtype.kind == "U") != (target.dtype.kind == "U"):
        raise ValueError(
            "pair_by_id needs ids of one kind on both sides; got "
            f"{source.dtype} in the source and {target.dtype} in the target"
        )
    shared, source_rows, target_rows = np.intersect1d(source, target, assume_unique=True, return_indices=True)
    if unmatched == "error":
        for ids, name, other in ((source, "source", "target"), (target, "target", "source")):
            if len(ids) > len(shared):
                alone = np.setdiff1d(ids, shared)
                raise ValueError(
                    f"pair_by_id: {len(alone)} of {len(ids)} {name} ids are missing in the {other}, {alone[0]!s} "
                    'among them. Pair what both have with unmatched="drop" (--unmatched drop).'
                )
    if not len(shared):
        raise ValueError("pair_by_id: the two sides have no id in common")
    order = np.argsort(source_rows)
    return source_rows[order], target_rows[order]


def random_anchors(
    count: int, n_anchors: int, *, random_state: int | np.random.Generator | None = 0
) -> Index:
    """Return the sorted numbers of `n_anchors` different rows out of `count`, drawn at random.

    Examples
    --------
    >>> from latalign import random_anchors
    >>> len(random_anchors(1000, 20))
    20
    """
    require_whole("random_anchors", count=count)
    _require_anchors(n_anchors, count, "random_anchors")
    drawn = as_generator(random_state, "random_anchors").choice(count, n_anchors, replace=False)
    return np.sort(drawn).astype(np.intp)


def farthest_point_anchors(
    X: ArrayLike, n_anchors: int, *, random_state: int | np.random.Generator | None = 0
) -> Index:
    """Return the sorted numbers of `n_anchors` different rows, each far from all the others.

    Greedy k-center [2]_: from a row drawn at random, the row that is farthest from those chosen is
    chosen next. No choice of as many rows leaves the farthest row less than half as far from its nearest
    anchor. Outliers are chosen first.

    Parameters
    ----------
    X : array-like of shape (n, dim)
        The rows of one side; the other side's rows of the same numbers are their partners.
    n_anchors : int
    random_state : int, Generator or None
        Draws the first row.

    Returns
    -------
    array of int, shape (n_anchors,)

    Raises
    ------
    TypeError
        If `X` does not hold real numbers.
    ValueError
        If `X` is not 2-D or not finite, or has fewer rows than anchors are asked for; or if `n_anchors` is
        no whole number of 1 or more.

    Notes
    -----
    The time is that of n × n_anchors distances, the memory that of n numbers and one block.

    References
    ----------
    .. [2] T. F. Gonzalez, Clustering to minimize the maximum intercluster distance, Theoretical
       Computer Science 38 (1985) 293-306.

    Examples
    --------
    >>> from latalign import farthest_point_anchors
    >>> farthest_point_anchors([[0.0], [1.0], [5.0], [9.0]], 3)
    array([0, 2, 3])
    """
    rows = as_candidates(X, n_anchors, "farthest_point_anchors")
    latest = int(as_generator(random_state, "farthest_point_anchors").integers(len(rows)))
    nearest = np.full(len(rows), np.inf)  # squared distances
    chosen = [latest]
    while len(chosen) < n_anchors:
        anchor = rows[latest].astype(np.float64)
        for part in row_blocks(len(rows)):
            away = rows[part] - anchor
            np.minimum(nearest[part], np.einsum("ij,ij->i", away, away), out=nearest[part])
        nearest[latest] = -1.0  # never again, not even where only its duplicates are left
        latest = int(nearest.argmax())
        chosen.append(latest)
    return np.sort(np.array(chosen, dtype=np.intp))


def kmeans_anchors(
    X: ArrayLike, n_anchors: int, *, random_state: int | np.random.Generator | None = 0
) -> Index:
    """Return the sorted numbers of `n_anchors` different rows, the most central of as many clusters.

    The clusters are those of scikit-learn's `KMeans` (one start by k-means++); of each the row nearest to
    its mean is taken.

    Parameters
    ----------
    X : array-like of shape (n, dim)
        The rows of one side; the other side's rows of the same numbers are their partners.
    n_anchors : int
    random_state : int, Generator or None
        Draws the start of the clustering.

    Returns
    -------
    array of int, shape (n_anchors,)

    Raises
    ------
    TypeError
        If `X` does not hold real numbers.
    ValueError
        If `X` is not 2-D or not finite, or has fewer rows than anchors are asked for, or fewer different
        ones; or if `n_anchors` is no whole number of 1 or more.

    Examples
    --------
    >>> from latalign import kmeans_anchors
    >>> kmeans_anchors([[0.0], [1.0], [2.0], [7.0], [8.0], [9.0]], 2)
    array([1, 4])
    """
    rows = as_candidates(X, n_anchors, "kmeans_anchors")
    # Loaded only here: scikit-learn takes a second to import.
    from sklearn.cluster import KMeans  # pyright: ignore[reportMissingTypeStubs]
    from sklearn.exceptions import ConvergenceWarning  # pyright: ignore[reportMissingTypeStubs]

    seed = int(as_generator(random_state, "kmeans_anchors").integers(2**31))
    with warnings.catch_warnings():
        # It warns where there are fewer different rows than clusters, which is an error here.
        warnings.simplefilter("ignore", ConvergenceWarning)
        clusters = cast("Any", KMeans)(n_anchors, n_init=1, random_state=seed).fit(rows)
    labels: NDArray[np.int32] = clusters.labels_
    centers = cast("Array", clusters.cluster_centers_).astype(np.float64)
    away = np.empty(len(rows))
    for part in row_blocks(len(rows)):
        away[part] = np.linalg.norm(rows[part] - centers[labels[part]], axis=1)
    # Clusters have no row in common, so their most central rows are all different.
    order = np.lexsort((away, labels))
    found, first = np.unique(labels[order], return_index=True)
    if len(found) < n_anchors:
        raise ValueError(
            f"kmeans_anchors needs as many different rows as anchors; it found {len(found)} clusters "
            f"for {n_anchors} anchors. Ask for fewer, or remove the duplicates."
        )
    return np.sort(order[first]).astype(np.intp)


def class_means(X: ArrayLike, labels: ArrayLike) -> tuple[Labels, Array]:
    """Return the classes, sorted, and the mean row of each.

    Parameters
    ----------
    X : array-like of shape (n, dim)
    labels : array-like of shape (n,)
        The class of every row: integers or strings, none missing.

    Returns
    -------
    classes : array of shape (c,)
    means : float64 array of shape (c, dim)

    Raises
    ------
    TypeError
        If `X` does not hold real numbers.
    ValueError
        If `X` is not 2-D or not finite, or the labels are missing or not one a row.

    Examples
    --------
    >>> from latalign import class_means
    >>> class_means([[0.0, 1.0], [4.0, 4.0], [2.0, 3.0]], ["cat", "dog", "cat"])
    (array(['cat', 'dog'], dtype='<U3'), array([[1., 2.], [4., 4.]]))
    """
    rows = as_rows(X, "class_means: X")
    require_finite(rows, "class_means: X")
    classes, members = rows_by_class(labels, len(rows), "class_means")
    return classes, means_of(rows, members)


def pair_class_means(
    X: ArrayLike, source_labels: ArrayLike, Y: ArrayLike, target_labels: ArrayLike
) -> tuple[Array, Array]:
    """Return the class means of both sides, in the order of the sorted classes: one anchor a class.

    No row need correspond to any other; the labels do (4.2.3 of [1]_). Fit on what it returns:
    ``fit(*pair_class_means(X, source_labels, Y, target_labels), "rigid")``.

    Parameters
    ----------
    X : array-like of shape (n, dim_source)
    source_labels : array-like of shape (n,)
    Y : array-like of shape (m, dim_target)
    target_labels : array-like of shape (m,)
        The class of every row: integers or strings, none missing. Both sides have the same classes.

    Returns
    -------
    source_means : float64 array of shape (c, dim_source)
    target_means : float64 array of shape (c, dim_target)

    Raises
    ------
    TypeError
        If `X` or `Y` does not hold real numbers.
    ValueError
        If a class is on one side only (the message names it), or as for `class_means`.

    References
    ----------
    .. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.

    Examples
    --------
    >>> from latalign import pair_class_means
    >>> pair_class_means([[0.0], [4.0], [2.0]], ["cat", "dog", "cat"], [[7.0], [9.0]], ["dog", "cat"])
    (array([[1.], [4.]]), array([[9.], [7.]]))
    """
    source_classes, source_means = class_means(X, source_labels)
    target_classes, target_means = class_means(Y, target_labels)
    require_same_classes(source_classes, target_classes, "pair_class_means")
    return source_means, target_means


def rows_by_class(labels: ArrayLike, count: int, caller: str) -> tuple[Labels, list[Index]]:
    """Return the classes, sorted, and the row numbers of each, in order."""
    values = _present(labels, "labels", caller)
    if len(values) != count:
        raise ValueError(f"{caller} needs one label a row; got {len(values)} labels for {count} rows")
    values = _of_one_kind(values, caller)
    classes, number, counts = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(number, kind="stable")
    return classes, np.split(order, counts.cumsum()[:-1])


def _of_one_kind(values: Labels, caller: str) -> Labels:
    """Return labels as numbers or as strings, which one of them has to be."""
    if values.dtype.kind == "O":
        if len(kinds := {isinstance(value, str) for value in values}) > 1:
            number = next(value for value in values if not isinstance(value, str))
            raise TypeError(
                f"{caller} needs labels of one kind, all of them strings or none; got strings and {number!r} "
                f"({type(number).__name__}). Give str of each."
            )
        values = values.astype(np.str_) if kinds == {True} else np.array(values.tolist())
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError(f"{caller} needs finite labels; got {values[~np.isfinite(values)][0]}")
    return values if values.dtype.kind in "iufb" else values.astype(np.str_)


def means_of(rows: Rows, members: Sequence[Index]) -> Array:
    """Return the mean of the rows of each class, in float64."""
    return np.stack([rows[member].mean(axis=0, dtype=np.float64) for member in members])


def require_same_classes(source: Labels, target: Labels, caller: str) -> None:
    """Raise a ValueError that names the classes which one side only has, if there are any."""
    require_one_kind(source, target, caller)
    for mine, its, name, other in (
        (source, target, "source", "target"),
        (target, source, "target", "source"),
    ):
        if len(alone := np.setdiff1d(mine, its)):
            raise ValueError(
                f"{caller} needs the same classes on both sides; the {other} has no row of {len(alone)} of the "
                f"{len(mine)} {name} classes: {listed(alone)}. Leave their rows out."
            )


def require_one_kind(source: Labels, target: Labels, caller: str) -> None:
    """Raise a ValueError where labels are numbers on one side and strings on the other."""
    if (source.dtype.kind == "U") != (target.dtype.kind == "U"):
        kinds = ("strings" if one.dtype.kind == "U" else "numbers" for one in (source, target))
        raise ValueError(
            f"{caller} needs labels of one kind on both sides; got {next(kinds)} in the source ({listed(source)}) and "
            f"{next(kinds)} in the target ({listed(target)}). A text file holds strings: give both sides as text, or "
            "numbers as .npy."
        )


def listed(classes: Labels) -> str:
    """Return the first few classes, for an error."""
    return ", ".join(map(str, classes[:_NAMED])) + (", …" if len(classes) > _NAMED else "")


def row_blocks(count: int) -> Iterator[slice]:
    """Yield the slices of blocks that stay in the cache."""
    for start in range(0, count, _BLOCK_ROWS):
        yield slice(start, start + _BLOCK_ROWS)


def as_candidates(X: ArrayLike, n_anchors: int, caller: str) -> Rows:
    """Return the rows that anchors are chosen from, checked."""
    rows = as_rows(X, f"{caller}: X")
    require_finite(rows, f"{caller}: X")
    _require_anchors(n_anchors, len(rows), caller)
    return rows


def are_missing(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell of each of a 1-D array of ids or labels whether it is missing: None or NaN."""
    if values.dtype.kind == "O":
        return np.array([value is None or value != value for value in values], dtype=np.bool_)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=np.bool_)


def _require_anchors(n_anchors: int, count: int, caller: str) -> None:
    """Raise a ValueError where so many anchors cannot be chosen of so many rows."""
    require_whole(caller, n_anchors=n_anchors)
    if not 1 <= n_anchors <= count:
        raise ValueError(f"{caller} needs 1 ≤ n_anchors ≤ {count} rows; got {n_anchors}")


def _present(values: ArrayLike, what: str, caller: str) -> NDArray[Any]:
    """Return ids or labels as a 1-D array, none of them missing."""
    try:
        found = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{caller} needs a 1-D array of {what}; got {type(values).__name__} ({error})"
        ) from error
    if found.ndim != 1:
        raise ValueError(f"{caller} needs a 1-D array of {what}; got shape {found.shape}")
    if len(missing := np.flatnonzero(are_missing(found))):
        raise ValueError(
            f"{caller}: {len(missing)} of {len(found)} {what} are missing (null), the first in row {missing[0]}"
        )
    return found


def _as_ids(ids: ArrayLike, side: str) -> NDArray[Any]:
    """Return ids as integers or strings, none of them missing or twice."""
    values = _present(ids, f"{side} ids", "pair_by_id")
    if values.dtype.kind not in "iu":
        values = values.astype(np.str_)
    unique, counts = np.unique(values, return_counts=True)
    if len(unique) < len(values):
        twice = unique[counts > 1]
        one, other = np.flatnonzero(values == twice[0])[:2]
        raise ValueError(
            f"pair_by_id: {len(twice)} {side} ids occur more than once, {twice[0]!s} among them: in the rows {one} "
            f"and {other}. An id names one row; remove the duplicates."
        )
    return values
