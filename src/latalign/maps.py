"""Maps from one latent space to another: the affine one, row normalisation, and their composition."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any, Protocol, cast, final, overload, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from latalign._linalg import EPS, svd
from latalign._validation import Array, Rows, all_finite, as_numbers, as_rows, require_finite
from latalign.evidence import Evidence
from latalign.io.mapfile import FORMAT, FORMAT_WITH_UNCERTAINTY, MapHeader, read_map, write_map
from latalign.uncertainty import Uncertainty

_BLOCK_ROWS = 4096
_PIECE_ROWS = 1024


@runtime_checkable
class Map(Protocol):
    """Anything that takes rows of one space to rows of another.

    ``f >> g`` is first f, then g.
    """

    def __call__(self, X: ArrayLike) -> Rows:
        """Return the mapped rows, shape (n, dim_target)."""
        ...

    def __rshift__(self, other: Map) -> Map:
        """Return this map followed by another."""
        ...


class BlockMap(Map, Protocol):
    """A map between two known widths that can work block by block: what `apply_file` takes."""

    @property
    def dim_source(self) -> int:
        """The width of the rows it takes."""
        ...

    @property
    def dim_target(self) -> int:
        """The width of the rows it returns."""
        ...

    def kernel(self, dtype: np.dtype[Any]) -> Callable[[Rows, Rows], None]:
        """Return the function ``run(block, out)`` that maps one block after another into `out`."""
        ...


@final
@dataclass(frozen=True, slots=True, eq=False)
class AffineMap:
    """The map x ↦ (x − source_mean) @ matrix + target_mean; immutable, in float64.

    Two means are kept, not one offset: where means are large, one offset in the rows' precision loses
    the digits that the difference x − source_mean keeps.

    Attributes
    ----------
    source_mean : (dim_source,) array
    matrix : (dim_source, dim_target) array
    target_mean : (dim_target,) array
    method : str
        How it was found.
    evidence : Evidence or None
        How far to trust it, where it was fitted.
    uncertainty : Uncertainty or None
        How far off each mapped row may be, where `latalign.calibrate` has told. Maps that are made of
        this one (``f >> g``, ``inverse``) do not have it.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import AffineMap
    >>> turn = AffineMap.of([[0.0, 1.0], [-1.0, 0.0]])
    >>> turn(np.array([[1.0, 0.0], [0.0, 1.0]]))
    array([[ 0.,  1.],
           [-1.,  0.]])
    >>> half_turn = turn >> turn
    >>> half_turn.matrix
    array([[-1.,  0.],
           [ 0., -1.]])
    >>> np.allclose((turn >> turn.inverse()).matrix, np.eye(2))
    True
    """

    source_mean: Array
    matrix: Array
    target_mean: Array
    method: str = "given"
    evidence: Evidence | None = None
    uncertainty: Uncertainty | None = None

    def __post_init__(self) -> None:
        for name in ("source_mean", "matrix", "target_mean"):
            values = np.array(as_numbers(getattr(self, name), f"AffineMap: {name}"), np.float64, order="C")
            if not np.isfinite(values).all():
                raise ValueError(f"AffineMap needs finite values; {name} has NaN or infinity")
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        source, target = self.source_mean.shape, self.target_mean.shape
        if self.matrix.ndim != 2 or (source + target) != self.matrix.shape or 0 in self.matrix.shape:
            raise ValueError(
                "AffineMap needs a matrix of shape (dim_source, dim_target) and means of shape "
                f"(dim_source,) and (dim_target,); got matrix {self.matrix.shape}, source_mean {source}, "
                f"target_mean {target}"
            )
        if self.uncertainty is not None:
            dims = self.uncertainty.dim_source, self.uncertainty.dim_target
            if dims != self.matrix.shape:
                raise ValueError(
                    f"AffineMap needs an uncertainty of its own dimensions, {self.matrix.shape}; got one of {dims}"
                )

    @staticmethod
    def of(matrix: ArrayLike, offset: ArrayLike | None = None) -> AffineMap:
        """Return the map x ↦ x @ matrix + offset.

        Raises
        ------
        TypeError, ValueError
            If either does not hold real numbers, shapes do not fit, or values are not finite.
        """
        values = as_numbers(matrix, "AffineMap.of: the matrix")
        if values.ndim != 2:
            raise ValueError(f"AffineMap.of needs a 2-D matrix; got shape {values.shape}")
        shift = (
            np.zeros(values.shape[1]) if offset is None else as_numbers(offset, "AffineMap.of: the offset")
        )
        return AffineMap(np.zeros(len(values)), values, shift)

    @property
    def dim_source(self) -> int:
        """The width of the rows it takes."""
        return self.matrix.shape[0]

    @property
    def dim_target(self) -> int:
        """The width of the rows it returns."""
        return self.matrix.shape[1]

    @property
    def offset(self) -> Array:
        """The single offset b of the same map written as x ↦ x @ matrix + b."""
        return self.target_mean - self.source_mean @ self.matrix

    def __call__(self, X: ArrayLike) -> Rows:
        """Map rows.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)

        Returns
        -------
        array of shape (n, dim_target)
            In the dtype of `X` where that is float16, float32 or float64, else in float64. float16 is
            multiplied in float32.

        Raises
        ------
        TypeError
            If `X` does not hold real numbers.
        ValueError
            If `X` is not 2-D, not `dim_source` wide or not finite, or a value overflows its dtype.
        """
        rows = as_rows(X, "AffineMap", dim=self.dim_source)
        dtype = rows.dtype if rows.dtype.kind == "f" else np.dtype(np.float64)
        out = np.empty((len(rows), self.dim_target), dtype)
        run = self.kernel(dtype)
        for start in range(0, len(rows), _BLOCK_ROWS):
            part = slice(start, start + _BLOCK_ROWS)
            run(rows[part], out[part])
        return out

    def kernel(self, dtype: np.dtype[Any], caller: str = "AffineMap") -> Callable[[Rows, Rows], None]:
        """Return the function ``run(block, out)`` that maps one block after another, buffers reused.

        `out` has the given dtype. It raises a ValueError, in the name of `caller`, that counts the bad
        rows of a block which holds NaN or infinity.
        """
        mean, matrix, offset = self.constants(dtype)
        work = matrix.dtype
        # A column of ones beside the rows, so that the product adds the offset: no pass of its own.
        matrix = np.vstack([matrix, offset])
        # Pieces of a block go through every step while they are in the cache.
        centred = np.ones((_PIECE_ROWS, self.dim_source + 1), work)
        product = np.empty((_PIECE_ROWS, self.dim_target), work) if dtype != work else None

        def run(block: Rows, out: Rows) -> None:
            with np.errstate(over="ignore", invalid="ignore"):
                for start in range(0, len(block), _PIECE_ROWS):
                    rows, into = block[start : start + _PIECE_ROWS], out[start : start + _PIECE_ROWS]
                    source = centred[: len(rows)]
                    target = into if product is None else product[: len(rows)]
                    np.subtract(rows, mean, out=source[:, :-1], casting="same_kind")
                    np.matmul(source, matrix, out=target)
                    if product is not None:
                        into[...] = target
                    # NaN and infinity go through a product, whatever it is with.
                    if not all_finite(into):
                        require_finite(block, caller)
                        raise ValueError(
                            f"{caller}: mapped rows overflow {out.dtype}; give rows of a wider dtype"
                        )

        return run

    def constants(self, dtype: np.dtype[Any]) -> tuple[Rows, Rows, Rows]:
        """Return m, W and b of (x − m) W + b, in the dtype in which rows of a dtype are multiplied.

        The mean is rounded before it is subtracted, and what the rounding moved is put right in the offset:
        so the difference is exact and nothing is lost where means are large.
        """
        work = np.dtype(np.float64 if dtype == np.float64 or not self._fits_float32() else np.float32)
        mean = self.source_mean.astype(work)
        offset = self.target_mean + (mean - self.source_mean) @ self.matrix
        return mean, self.matrix.astype(work), offset.astype(work)

    def _fits_float32(self) -> bool:
        """Tell whether float32 has room for every coefficient: none becomes zero, denormal or infinite."""
        room = np.finfo(np.float32)
        sizes = np.abs(np.concatenate([self.source_mean, self.target_mean, self.offset]))
        coefficients = np.abs(self.matrix[self.matrix != 0])
        smallest, largest = coefficients.min(initial=1), coefficients.max(initial=1)
        return bool(sizes.max() < room.max and room.tiny <= smallest and largest < room.max)

    @overload
    def __rshift__(self, other: AffineMap) -> AffineMap: ...
    @overload
    def __rshift__(self, other: Map) -> Map: ...
    def __rshift__(self, other: Map) -> Map:
        """Return this map followed by another; two affine maps make one."""
        if not isinstance(other, AffineMap):
            return Chain((self,)) >> other
        if self.dim_target != other.dim_source:
            raise ValueError(
                f"f >> g needs g to take what f returns; f returns {self.dim_target} dimensions, "
                f"g takes {other.dim_source}"
            )
        return AffineMap(
            self.source_mean,
            self.matrix @ other.matrix,
            (self.target_mean - other.source_mean) @ other.matrix + other.target_mean,
            method=f"{self.method} >> {other.method}",
        )

    def inverse(self, rcond: float | None = None) -> AffineMap:
        """Return the map back, with the bound on its error in `evidence.error_bound`.

        The bound is on the relative error of its matrix: eps × max(shape) × condition. Into a wider
        space the map is undone exactly on its own image (the pseudo-inverse).

        Parameters
        ----------
        rcond : float, optional
            Relative to the largest, the smallest singular value that counts; eps × max(shape) unless given.

        Raises
        ------
        ValueError
            If there is no map back: into a narrower space, or where directions are lost.

        Examples
        --------
        >>> from latalign import AffineMap
        >>> AffineMap.of([[1.0, 0.0], [0.0, 0.0]]).inverse()
        Traceback (most recent call last):
            ...
        ValueError: AffineMap.inverse: the map keeps 1 of 2 directions ..., so nothing leads back. ...
        """
        left, values, right = svd(self.matrix)
        limit = EPS * max(self.matrix.shape) if rcond is None else rcond
        # What divides to infinity leads nowhere, even where it is the largest.
        rank = int(np.count_nonzero(values > max(limit * values[0], np.finfo(np.float64).tiny)))
        if rank < self.dim_source:
            raise ValueError(
                f"AffineMap.inverse: the map keeps {rank} of {self.dim_source} directions (singular values "
                f"from {values[0]:.3g} to {values[-1]:.3g}), so nothing leads back. Fit the map back instead: "
                "exchange source and target."
            )
        condition = float(values[0] / values[-1])
        return AffineMap(
            self.target_mean,
            (right.T / values) @ left.T,
            self.source_mean,
            method=f"inverse of {self.method}",
            evidence=Evidence(
                anchors=self.evidence.anchors if self.evidence else 0,
                rank=rank,
                condition=condition,
                error_bound=EPS * max(self.matrix.shape) * condition,
            ),
        )

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
            The names of the two models and of the data whose rows they were fitted on.

        Raises
        ------
        TypeError
            If a name is no text.
        OSError
            If the file cannot be written; nothing is left behind.
        """
        tensors = {name: getattr(self, name) for name in ("source_mean", "matrix", "target_mean")}
        if self.uncertainty is not None:
            tensors |= {f"uncertainty.{name}": part for name, part in self.uncertainty.tensors().items()}
        header = MapHeader(
            method=self.method,
            dim_source=self.dim_source,
            dim_target=self.dim_target,
            source=source,
            target=target,
            dataset=dataset,
            evidence=None if self.evidence is None else self.evidence.to_json(),
            format=FORMAT if self.uncertainty is None else FORMAT_WITH_UNCERTAINTY,
        )
        write_map(path, tensors, header)

    @staticmethod
    def load(path: str | PathLike[str]) -> AffineMap:
        """Read a map that `save` wrote, and check everything in it. Nothing is ever unpickled.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a map file, of an unknown version, of another kind, truncated, or inconsistent.
        """
        tensors, header = read_map(path, "affine")
        try:
            evidence = None if header.evidence is None else Evidence.from_json(header.evidence)
            own = {name: part for name, part in tensors.items() if "." not in name}
            beside = {name.partition(".")[2]: part for name, part in tensors.items() if name not in own}
            uncertainty = Uncertainty(**beside) if beside else None
            return AffineMap(**own, method=header.method, evidence=evidence, uncertainty=uncertainty)
        except ValueError as error:
            raise ValueError(f"{path} is not a sound map file: {error}") from error


@final
@dataclass(frozen=True, slots=True)
class Normalize:
    """The map x ↦ x / ‖x‖: rows of length one, as a cosine index keeps them. A zero row stays zero.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import Normalize
    >>> Normalize()(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """

    def __call__(self, X: ArrayLike) -> Rows:
        """Return the rows divided by their length, in their own dtype (float64 for integers)."""
        rows = as_rows(X, "Normalize")
        require_finite(rows, "Normalize")
        values = rows.astype(np.float64)
        # Divided by the largest value first, so that no square overflows or vanishes.
        largest = np.abs(values).max(axis=1, keepdims=True)
        values /= np.where(largest > 0, largest, 1.0)
        length = np.linalg.norm(values, axis=1, keepdims=True)
        values /= np.where(length > 0, length, 1.0)
        return values.astype(rows.dtype if rows.dtype.kind == "f" else np.float64)

    def __rshift__(self, other: Map) -> Map:
        """Return this map followed by another."""
        return Chain((self,)) >> other


@final
@dataclass(frozen=True, slots=True)
class Chain:
    """Maps one after another, where they do not make one affine map.

    Attributes
    ----------
    maps : tuple of Map
    """

    maps: tuple[Map, ...]

    def __post_init__(self) -> None:
        for step in cast("tuple[object, ...]", self.maps):
            if not isinstance(step, Map):
                raise TypeError(f"a Chain (f >> g) is made of maps; got {type(step).__name__}")

    def __call__(self, X: ArrayLike) -> Rows:
        """Return the rows after every map in turn."""
        rows = as_rows(X, "Chain")
        for step in self.maps:
            rows = step(rows)
        return rows

    def __rshift__(self, other: Map) -> Map:
        """Return this chain followed by another map."""
        return Chain((*self.maps, *(other.maps if isinstance(other, Chain) else (other,))))
