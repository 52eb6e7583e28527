"""Relative representations: a code written as its similarities to a set of anchors, as a map.

The method that the paper compares with [1]_ (3.3, eq. 4). Two models' relative codes to the same anchors
are rows of one space, with no map between: as far as the two spaces differ by what the similarity does
not see. A distance does not see a rigid motion, a cosine neither a rotation nor one scale.

References
----------
.. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023, PMLR 243:158-169.
.. [2] L. Moschella, V. Maiorano, M. Fumero, A. Norelli, F. Locatello, E. Rodolà, Relative
   representations enable zero-shot latent space communication, ICLR 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, cast, final, get_args

import numpy as np
from numpy.typing import ArrayLike

from latalign._validation import Array, Rows, all_finite, as_rows, require_finite
from latalign.io.mapfile import MapHeader, read_map, write_map
from latalign.maps import Chain, Map, Normalize

Similarity = Literal["euclidean", "cosine"]
"""What a relative code is made of."""

_BLOCK_VALUES = 1 << 20


@final
@dataclass(frozen=True, slots=True, eq=False)
class RelativeMap:
    """The map from codes to their similarities to k anchors; immutable, in float64.

    It leads from a latent space to the space of relative codes, which has one dimension an anchor. To
    compare two models take the same anchors, in the same order, as each of them encodes them.

    Attributes
    ----------
    anchors : (k, dim_source) array
        The anchors' own codes.
    similarity : {"euclidean", "cosine"}
        "euclidean": the distance to every anchor, as the paper has it (eq. 4 of [1]_). "cosine": the
        cosine with every anchor, as in the original [2]_. A zero row has a cosine of 0 with any.

    Raises
    ------
    TypeError
        If the anchors are not real numbers.
    ValueError
        If the anchors are not 2-D or not finite, `similarity` is unknown, or an anchor is zero where
        its cosine is asked for.

    References
    ----------
    .. [1] Z. Lähner, M. Moeller, On the Direct Alignment of Latent Spaces, UniReps 2023.
    .. [2] L. Moschella et al., Relative representations enable zero-shot latent space communication,
       ICLR 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from latalign import RelativeMap
    >>> X = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
    >>> RelativeMap(X[:2])(X)
    array([[ 0.,  5.],
           [ 5.,  0.],
           [10.,  5.]])

    Another space that is the first one moved has the same relative codes:

    >>> Y = X @ [[0.0, 1.0], [-1.0, 0.0]] + 7
    >>> bool(np.allclose(RelativeMap(Y[:2])(Y), RelativeMap(X[:2])(X)))
    True

    >>> RelativeMap([[3.0, 4.0], [0.0, 1.0]], similarity="cosine")([[1.0, 0.0], [0.0, 2.0]])
    array([[0.6, 0. ],
           [0.8, 1. ]])
    """

    anchors: Array
    similarity: Similarity = "euclidean"

    def __post_init__(self) -> None:
        check_similarity(self.similarity, "RelativeMap")
        rows = as_rows(self.anchors, "RelativeMap: the anchors")
        require_finite(rows, "RelativeMap: the anchors")
        values = np.array(rows, dtype=np.float64, order="C")
        if self.similarity == "cosine" and not (directed := values.any(axis=1)).all():
            raise ValueError(
                'RelativeMap(similarity="cosine") needs anchors with a direction; '
                f"{int((~directed).sum())} of {len(values)} are zero. Leave them out, or take the distance."
            )
        values.setflags(write=False)
        object.__setattr__(self, "anchors", values)

    @property
    def dim_source(self) -> int:
        """The width of the rows it takes."""
        return self.anchors.shape[1]

    @property
    def dim_target(self) -> int:
        """The width of the rows it returns: the number of anchors."""
        return self.anchors.shape[0]

    def __call__(self, X: ArrayLike) -> Rows:
        """Return relative codes.

        Distances are taken of differences, in float64 and block by block: a row that is an anchor is at
        distance 0 from it, and nothing is lost where rows are far from the origin.

        Parameters
        ----------
        X : array-like of shape (n, dim_source)

        Returns
        -------
        array of shape (n, k)
            In the dtype of `X` where that is float16, float32 or float64, else in float64.

        Raises
        ------
        TypeError
            If `X` does not hold real numbers.
        ValueError
            If `X` is not 2-D, not `dim_source` wide or not finite, or a distance overflows its dtype.
        """
        rows = as_rows(X, "RelativeMap", dim=self.dim_source)
        dtype = rows.dtype if rows.dtype.kind == "f" else np.dtype(np.float64)
        out = np.empty((len(rows), self.dim_target), dtype)
        self.kernel(dtype)(rows, out)
        return out

    def kernel(self, dtype: np.dtype[Any]) -> Callable[[Rows, Rows], None]:
        """Return the function ``run(block, out)`` that maps one block after another.

        As `AffineMap.kernel`: `out` has the given dtype, and a ValueError is raised where a row holds
        NaN or infinity.
        """
        codes = _cosines(self.anchors) if self.similarity == "cosine" else _distances(self.anchors)
        step = max(1, _BLOCK_VALUES // max(self.anchors.shape))

        def run(block: Rows, out: Rows) -> None:
            require_finite(block, "RelativeMap")
            with np.errstate(over="ignore"):
                for start in range(0, len(block), step):
                    into = out[start : start + step]
                    into[...] = codes(block[start : start + step].astype(np.float64))
                    if not all_finite(into):
                        raise ValueError(
                            f"RelativeMap: distances overflow {dtype}; give rows of a wider dtype, "
                            "or divide rows and anchors by a constant"
                        )

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
            The names of the model, of the space of relative codes, and of the data that the anchors are of.

        Raises
        ------
        TypeError
            If a name is no text.
        OSError
            If the file cannot be written; nothing is left behind.
        """
        header = MapHeader(
            method=self.similarity,
            dim_source=self.dim_source,
            dim_target=self.dim_target,
            source=source,
            target=target,
            dataset=dataset,
            kind="relative",
        )
        write_map(path, {"anchors": self.anchors}, header)

    @staticmethod
    def load(path: str | PathLike[str]) -> RelativeMap:
        """Read a map that `save` wrote, and check everything in it. Nothing is ever unpickled.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is not a map file, of an unknown version, of another kind, truncated, or inconsistent.
        """
        tensors, header = read_map(path, "relative")
        try:
            return RelativeMap(tensors["anchors"], cast("Similarity", header.method))
        except ValueError as error:
            raise ValueError(f"{path} is not a sound map file: {error}") from error


def _distances(anchors: Array) -> Callable[[Array], Array]:
    # Loaded only here: scipy.spatial takes a tenth of a second to import.
    from scipy.spatial.distance import cdist

    return lambda rows: np.asarray(cdist(rows, anchors))


def _cosines(anchors: Array) -> Callable[[Array], Array]:
    unit = Normalize()
    directions = unit(anchors).T
    return lambda rows: np.clip(unit(rows) @ directions, -1, 1)


def check_similarity(similarity: str, caller: str) -> None:
    """Raise a ValueError for a similarity that there is not."""
    if similarity not in get_args(Similarity):
        raise ValueError(f'{caller}: similarity is "euclidean" or "cosine"; got {similarity!r}')
