"""An affine map and what near anchors add to it: a map that bends where the anchors say so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any, TypeVar, cast, final

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Array, Rows, all_finite, as_rows, require_finite
from latalign.evidence import Evidence
from latalign.io.mapfile import MapHeader, read_map, write_map
from latalign.maps import AffineMap, Chain, Map

_BLOCK_VALUES = 1 << 20


@final
@dataclass(frozen=True, slots=True, eq=False)
class LocalMap:
    """The map x ↦ affine(x) + Σ exp(−‖x − z_j‖² / (2 width²)) c_j; immutable, in float64.

    Attributes
    ----------
    affine : AffineMap
    anchors : (k, dim_source) array
        The z_j: the source rows of the anchors.
    coefficients : (k, dim_target) array
        The c_j: what each of them adds where it is.
    width : float
        How far an anchor reaches, in the units of the source space; above zero.

    Raises
    ------
    TypeError
        If the arrays do not hold real numbers.
    ValueError
        If their shapes do not fit the affine map, values are not finite, or the width is not above zero.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import AffineMap, LocalMap
    >>> bump = LocalMap(AffineMap.of([[2.0]]), np.array([[3.0]]), np.array([[1.0]]), 0.5)
    >>> bump(np.array([[0.0], [3.0], [4.0]])).round(3)
    array([[0.   ],
           [7.   ],
           [8.135]])
    """

    affine: AffineMap
    anchors: Array
    coefficients: Array
    width: float

    def __post_init__(self) -> None:
        for name, dim in (("anchors", self.dim_source), ("coefficients", self.dim_target)):
            rows = as_rows(getattr(self, name), f"LocalMap: the {name}", dim=dim)
            require_finite(rows, f"LocalMap: the {name}")
            values = np.array(rows, dtype=np.float64, order="C")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if len(self.anchors) != len(self.coefficients):
            raise ValueError(
                f"LocalMap needs one row of coefficients an anchor; got {len(self.coefficients)} for "
                f"{len(self.anchors)} anchors"
            )
        if not 0 < self.width < np.inf:
            raise ValueError(f"LocalMap needs a finite width above zero; got {self.width}")

    @property
    def dim_source(self) -> int:
        """The width of the rows it takes."""
        return self.affine.dim_source

    @property
    def dim_target(self) -> int:
        """The width of the rows it returns."""
        return self.affine.dim_target

    @property
    def method(self) -> str:
        """How it was found."""
        return self.affine.method

    @property
    def evidence(self) -> Evidence | None:
        """How far to trust it, where it was fitted."""
        return self.affine.evidence

    def __call__(self, X: ArrayLike) -> Rows:
        """Return mapped rows.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)

        Returns
        -------
        array of shape (n, dim_target)
            In the dtype of `X` where that is float16, float32 or float64, else in float64.

        Raises
        ------
        TypeError
            If `X` does not hold real numbers.
        ValueError
            If `X` is not 2-D, not `dim_source` wide or not finite, or a mapped row overflows its dtype.
        """
        rows = as_rows(X, "LocalMap", dim=self.dim_source)
        dtype = rows.dtype if rows.dtype.kind == "f" else np.dtype(np.float64)
        out = np.empty((len(rows), self.dim_target), dtype)
        self.kernel(dtype)(rows, out)
        return out

    def kernel(self, dtype: np.dtype[Any]) -> Callable[[Rows, Rows], None]:
        """Return the function ``run(block, out)`` that maps one block after another.

        As `AffineMap.kernel`: `out` has the given dtype, and a ValueError is raised where a row holds
        NaN or infinity.
        """
        affine = self.affine.kernel(np.dtype(np.float64), "LocalMap")
        near = nearness(self.anchors, self.affine.source_mean, self.width)
        step = max(1, _BLOCK_VALUES // max(len(self.anchors), self.dim_source, self.dim_target))

        def run(block: Rows, out: Rows) -> None:
            for start in range(0, len(block), step):
                rows = block[start : start + step].astype(np.float64)
                mapped = np.empty((len(rows), self.dim_target))
                affine(rows, mapped)
                into = out[start : start + step]
                with np.errstate(over="ignore"):
                    into[...] = mapped + near(rows) @ self.coefficients
                if not all_finite(into):
                    raise ValueError(f"LocalMap: mapped rows overflow {dtype}; give rows of a wider dtype")

        return run

    def __rshift__(self, other: Map) -> Map:
        """Return this map followed by another."""
        return Chain((self,)) >> other

    def save(
        self,
        path: str | PathLike[str],
        *,
        source: str | None = None,
        target: str | None = None,
        dataset: str | None = None,
    ) -> None:
        """Write the map to a safetensors file, beside its target and then renamed into place.

        Parameters
        ----------
        path : path
        source, target, dataset : str, optional
            The names of the two models and of the data that the anchors are of.

        Raises
        ------
        TypeError
            If a name is no text.
        OSError
            If the file cannot be written; nothing is left behind.
        """
        header = MapHeader(
            method=self.method,
            dim_source=self.dim_source,
            dim_target=self.dim_target,
            source=source,
            target=target,
            dataset=dataset,
            evidence=None if self.evidence is None else self.evidence.to_json(),
            kind="local",
        )
        tensors = {
            "source_mean": self.affine.source_mean,
            "matrix": self.affine.matrix,
            "target_mean": self.affine.target_mean,
            "anchors": self.anchors,
            "coefficients": self.coefficients,
            "width": np.array([self.width]),
        }
        write_map(path, tensors, header)

    @staticmethod
    def load(path: str | PathLike[str]) -> LocalMap:
        """Read a map that `save` wrote, and check everything in it. Nothing is ever unpickled.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a map file, of an unknown version, of another kind, truncated, or inconsistent.
        """
        tensors, header = read_map(path, "local")
        try:
            evidence = None if header.evidence is None else Evidence.from_json(header.evidence)
            affine = AffineMap(
                tensors["source_mean"], tensors["matrix"], tensors["target_mean"], header.method, evidence
            )
            [width] = tensors["width"]
            return LocalMap(affine, tensors["anchors"], tensors["coefficients"], float(width))
        except ValueError as error:
            raise ValueError(f"{path} is not a sound map file: {error}") from error


Searching = TypeVar("Searching", bound=AffineMap | LocalMap)
"""A map for searching, of either kind."""


def with_evidence(map_: Searching, evidence: Evidence) -> Searching:
    """Return the same map with other evidence."""
    return with_affine(map_, replace(affine_part(map_), evidence=evidence))


def affine_part(map_: AffineMap | LocalMap) -> AffineMap:
    """Return a map for searching without what near anchors add."""
    return map_ if isinstance(map_, AffineMap) else map_.affine


def with_affine(map_: Searching, affine: AffineMap) -> Searching:
    """Return the map with another affine part."""
    moved = affine if isinstance(map_, AffineMap) else replace(map_, affine=affine)
    return cast("Searching", moved)


def nearness(anchors: Rows, mean: Array, width: float) -> Callable[[Rows], Array]:
    """Return the function from rows to exp(−‖x − z‖² / (2 width²)) for every anchor z.

    The squares come of products of rows that are centred and in units of the width: what rounding leaves
    is small against one wherever the nearness is not zero for it.
    """
    centred = (anchors - mean) / width
    squares = np.einsum("ij,ij->i", centred, centred)

    def near(rows: Rows) -> Array:
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            scaled = (rows - mean) / width
            distances = np.einsum("ij,ij->i", scaled, scaled)[:, None] + squares - 2 * (scaled @ centred.T)
            # Of rows so far away that their squares overflow no anchor is near.
            return np.exp(
                -np.fmax(distances, 0) / 2, where=np.isfinite(distances), out=np.zeros_like(distances)
            )

    return near
