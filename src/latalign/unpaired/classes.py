"""The rows of the classes that two spaces share: which they are, their means and covariances, and their halves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latalign._linalg import EPS, cholesky, eigh
from latalign._validation import Array, Rows, as_rows, require_finite
from latalign.anchors import Index, are_missing, rows_by_class

# Directions whose variance is less than this share of the largest are taken for constant.
_FLAT = 1e-8


@final
@dataclass(frozen=True, slots=True, eq=False)
class LabelledRows:
    """Rows and the numbers of those of each class.

    Attributes
    ----------
    rows : array of shape (n, dim)
    classes : array of shape (c,)
        Sorted.
    members : tuple of arrays of int
        The numbers of the rows of each class.
    unlabelled : int
        How many rows have no label.
    """

    rows: Rows
    classes: NDArray[Any]
    members: tuple[Index, ...]
    unlabelled: int

    @staticmethod
    def of(X: ArrayLike, labels: ArrayLike, caller: str) -> LabelledRows:
        """Check rows and labels against each other; rows whose label is missing are of no class."""
        rows = as_rows(X, caller)
        require_finite(rows, caller)
        values = np.asarray(labels)
        if values.shape != (len(rows),):
            raise ValueError(
                f"{caller} needs one label a row, shape ({len(rows)},); got labels of shape {values.shape}"
            )
        labelled = np.flatnonzero(~are_missing(values))
        if not len(labelled):
            raise ValueError(f"{caller} needs rows with a label; all {len(rows)} labels are missing (null)")
        classes, members = rows_by_class(values[labelled], len(labelled), caller)
        own = tuple(labelled[member] for member in members)
        return LabelledRows(rows, classes, own, len(rows) - len(labelled))

    @property
    def counts(self) -> NDArray[np.intp]:
        """The number of rows of each class."""
        return np.array([len(member) for member in self.members], dtype=np.intp)

    def of_classes(self, numbers: Index) -> LabelledRows:
        """Return the same with some of the classes only."""
        kept = tuple(self.members[number] for number in numbers)
        return LabelledRows(self.rows, self.classes[numbers], kept, self.unlabelled)

    def statistics(self) -> Iterator[tuple[Array, Array]]:
        """Yield the mean and the covariance of each class: all of them may be more than there is room for."""
        for member in self.members:
            yield mean_and_covariance(self.rows[member].astype(np.float64))


@final
@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """The means and covariances of classes, in a space.

    Attributes
    ----------
    means : (c, dim) array
    covariances : tuple of c arrays of shape (dim, dim)
    within : (dim, dim) array
        The covariance about the means of the classes, by their weights.
    """

    means: Array
    covariances: tuple[Array, ...]
    within: Array

    @staticmethod
    def of(statistics: Iterable[tuple[Array, Array]], weights: Array) -> Spread:
        """Return that of the mean and the covariance of each class."""
        means, covariances = zip(*statistics, strict=True)
        within = np.zeros_like(covariances[0])
        for weight, covariance in zip(weights, covariances, strict=True):
            within += weight * covariance
        return Spread(np.stack(means), covariances, within)


@final
@dataclass(frozen=True, slots=True, eq=False)
class Whitening:
    """The directions of a space in which rows vary, each in units of its own spread.

    Attributes
    ----------
    mean : (dim,) array
    directions : (dim, rank) array
        Principal directions, the widest first.
    deviations : (rank,) array
        Of the rows along each.
    """

    mean: Array
    directions: Array
    deviations: Array

    @staticmethod
    def of(labelled: LabelledRows, weights: Array) -> Whitening:
        """Return that of all rows, with a weight for each class."""
        dim = labelled.rows.shape[1]
        means, total = np.empty((len(weights), dim)), np.zeros((dim, dim))
        for number, (center, covariance) in enumerate(labelled.statistics()):
            means[number] = center
            total += weights[number] * covariance
        mean = weights @ means
        apart = means - mean
        total += (weights[:, None] * apart).T @ apart
        values, vectors = eigh(total)
        rounding = (32 * EPS * np.abs(mean).max()) ** 2
        rank = int(np.count_nonzero(values > max(_FLAT * values[0], rounding)))
        return Whitening(mean, vectors[:, :rank], np.sqrt(values[:rank]))

    @property
    def rank(self) -> int:
        """The number of directions."""
        return len(self.deviations)

    def limited(self, rank: int) -> Whitening:
        """Return the widest directions only."""
        return Whitening(self.mean, self.directions[:, :rank], self.deviations[:rank])

    @property
    def basis(self) -> Array:
        """The matrix W of z = (x − mean) W."""
        return self.directions / self.deviations

    @property
    def back(self) -> Array:
        """The matrix B of x = z B + mean."""
        return (self.directions * self.deviations).T

    def __call__(self, rows: Rows) -> Array:
        """Return whitened rows."""
        return (rows - self.mean) @ self.basis

    def spread(self, labelled: LabelledRows, weights: Array) -> Spread:
        """Return the means and covariances of all rows of each class, whitened."""
        basis = self.basis
        statistics = (
            (self(mean), basis.T @ covariance @ basis) for mean, covariance in labelled.statistics()
        )
        return Spread.of(statistics, weights)


def mean_and_covariance(rows: Array) -> tuple[Array, Array]:
    """Return the mean of float64 rows and their covariance (of the rows, not of what they are drawn from)."""
    mean = rows.mean(axis=0)
    apart = rows - mean
    return mean, apart.T @ apart / len(rows)


def squared_distances(rows: Array, spread: Spread, number: int, count: int) -> Array:
    """Return how far rows are from a class, in units of its own spread in their direction (Mahalanobis).

    The space is whitened; no affine map of it changes them. The covariance of a class of few rows (`count`) is drawn to
    that within all classes.
    """
    dim = spread.means.shape[1]
    covariance = (count * spread.covariances[number] + dim * spread.within) / (count + dim)
    found = cholesky(covariance + _FLAT * np.eye(dim))
    assert found is not None  # in a whitened space, where rounding is far below that part of the identity
    white = np.linalg.solve(found[0].T, (rows - spread.means[number]).T)
    return np.square(white).sum(axis=0)
