"""The stitching MLP as a map: three affine layers with ReLU between. It is trained in `latalign.torch`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any, cast, final

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Array, Rows, as_rows, require_finite
from latalign.evidence import StitchingEvidence
from latalign.io.mapfile import MapHeader, read_map, write_map
from latalign.maps import AffineMap, Chain, Map

_PIECE_ROWS = 512
_TENSORS = ("source_mean", "matrix", "target_mean")


@final
@dataclass(frozen=True, slots=True, eq=False)
class StitchingMap:
    """A learned map, x ↦ third(relu(second(relu(first(x))))) with three affine maps; immutable.

    The paper's stitching network (eq. 3 of [1]_): an MLP of widths dim_source → k·dim_source →
    k·dim_source → dim_target. `latalign.torch.fit_stitching` trains one; applying, saving and loading it
    needs no PyTorch.

    Attributes
    ----------
    layers : tuple of three AffineMap
    method : str
        How it was found.
    evidence : StitchingEvidence or None
        How far to trust it, where it was trained.

    References
    ----------
    .. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023, section 3.2.

    Examples
    --------
    The length of a number, which no affine map can tell: relu(x) + relu(−x).

    >>> import numpy as np
    >>> from latalign import AffineMap, StitchingMap
    >>> both_signs, keep = AffineMap.of([[1.0, -1.0]]), AffineMap.of(np.eye(2))
    >>> length = StitchingMap((both_signs, keep, AffineMap.of([[1.0], [1.0]])))
    >>> length(np.array([[-2.0], [3.0]]))
    array([[2.],
           [3.]])
    >>> length.k, (length >> AffineMap.of([[10.0]]))(np.array([[-2.0]]))
    (2, array([[20.]]))
    """

    layers: tuple[AffineMap, AffineMap, AffineMap]
    method: str = "stitching"
    evidence: StitchingEvidence | None = None

    def __post_init__(self) -> None:
        layers = tuple(cast("tuple[object, ...]", self.layers))
        if len(layers) != 3 or not all(isinstance(layer, AffineMap) for layer in layers):
            found = ", ".join(type(layer).__name__ for layer in layers)
            raise TypeError(f"StitchingMap needs three layers, each an AffineMap; got {found or 'none'}")
        object.__setattr__(self, "layers", layers)
        first, second, third = (layer.matrix.shape for layer in self.layers)
        hidden = first[1]
        if hidden % first[0] or second != (hidden, hidden) or third[0] != hidden:
            raise ValueError(
                "StitchingMap needs layers dim_source → k·dim_source → k·dim_source → dim_target; got "
                f"{', '.join(f'{rows} → {columns}' for rows, columns in (first, second, third))}"
            )

    @property
    def dim_source(self) -> int:
        """The width of the rows it takes."""
        return self.layers[0].dim_source

    @property
    def dim_target(self) -> int:
        """The width of the rows it returns."""
        return self.layers[2].dim_target

    @property
    def k(self) -> int:
        """How many times as wide as the source the hidden layers are."""
        return self.layers[0].dim_target // self.dim_source

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
        rows = as_rows(X, "StitchingMap", dim=self.dim_source)
        dtype = rows.dtype if rows.dtype.kind == "f" else np.dtype(np.float64)
        out = np.empty((len(rows), self.dim_target), dtype)
        try:
            self.kernel(dtype)(rows, out)
        except ValueError:
            require_finite(rows, "StitchingMap")  # counts the bad rows of all
            raise
        return out

    def kernel(self, dtype: np.dtype[Any]) -> Callable[[Rows, Rows], None]:
        """Return the function ``run(block, out)`` that maps one block after another, buffers reused.

        As `AffineMap.kernel`: `out` has the given dtype, and a ValueError is raised where a row holds
        NaN or infinity.
        """
        work = np.dtype(np.float64 if dtype == np.float64 else np.float32)
        # Every kernel looks for NaN and infinity in what it made, before a ReLU can hide them.
        first, second = (layer.kernel(work, "StitchingMap") for layer in self.layers[:2])
        third = self.layers[2].kernel(dtype, "StitchingMap")
        hidden = [np.empty((_PIECE_ROWS, layer.dim_target), work) for layer in self.layers[:2]]

        def run(block: Rows, out: Rows) -> None:
            for start in range(0, len(block), _PIECE_ROWS):
                rows, into = block[start : start + _PIECE_ROWS], out[start : start + _PIECE_ROWS]
                one, two = (buffer[: len(rows)] for buffer in hidden)
                first(rows, one)
                np.maximum(one, 0, out=one)
                second(one, two)
                np.maximum(two, 0, out=two)
                third(two, into)

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
            The names of the two models and of the data whose rows it was trained on.

        Raises
        ------
        TypeError
            If a name is no text.
        OSError
            If the file cannot be written; nothing is left behind.
        """
        tensors = {
            f"layer_{number}.{name}": getattr(layer, name)
            for number, layer in enumerate(self.layers, start=1)
            for name in _TENSORS
        }
        header = MapHeader(
            method=self.method,
            dim_source=self.dim_source,
            dim_target=self.dim_target,
            source=source,
            target=target,
            dataset=dataset,
            evidence=None if self.evidence is None else self.evidence.to_json(),
            kind="stitching",
        )
        write_map(path, tensors, header)

    @staticmethod
    def load(path: str | PathLike[str]) -> StitchingMap:
        """Read a map that `save` wrote, and check everything in it. Nothing is ever unpickled.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a map file, of an unknown version, of another kind, truncated, or inconsistent.
        """
        tensors, header = read_map(path, "stitching")
        try:
            evidence = None if header.evidence is None else StitchingEvidence.from_json(header.evidence)
            layers = _layer(tensors, 1), _layer(tensors, 2), _layer(tensors, 3)
            return StitchingMap(layers, method=header.method, evidence=evidence)
        except ValueError as error:
            raise ValueError(f"{path} is not a sound map file: {error}") from error


def _layer(tensors: Mapping[str, Array], number: int) -> AffineMap:
    source_mean, matrix, target_mean = (tensors[f"layer_{number}.{name}"] for name in _TENSORS)
    return AffineMap(source_mean, matrix, target_mean)
