"""A device as the place where files are multiplied."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import cast, final

import torch

from latalign._rowsum import Grams
from latalign._validation import Rows
from latalign.io.protocol import Block
from latalign.maps import AffineMap, BlockMap
from latalign.torch.applying import applied
from latalign.torch.device import usable
from latalign.torch.products import DeviceBuffers, Precision, rows_at_once


@final
class Place:
    """A device as the place where files are multiplied, for `latalign.fit_files` and `latalign.apply_file`.

    Parameters
    ----------
    device : torch.device or str

    Raises
    ------
    ValueError
        If the device does not work or has no float64.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import latalign
    >>> from latalign.torch import Place
    >>> X = np.random.default_rng(0).normal(size=(20_000, 200))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "x.npy")
    ...     np.save(path, X)
    ...     found = latalign.fit_files(path, path, "rigid", holdout=0, place=Place("cpu"))
    >>> bool(np.allclose(found.map.matrix, np.eye(200)))
    True
    """

    def __init__(self, device: torch.device | str) -> None:
        self._device = usable(device, "latalign.torch.Place")

    @property
    def device(self) -> torch.device:
        """The device, with its number."""
        return self._device

    def rows_at_once(self, dims: tuple[int, int], precision: Precision) -> int:
        """Return how many rows keep the device busy, and on a processor round little."""
        return rows_at_once(dims, precision, self._device)

    def __call__(self, rows: int, dims: tuple[int, int], precision: Precision, grams: Grams) -> DeviceBuffers:
        """Return what multiplies blocks of at most so many rows."""
        return DeviceBuffers(rows, dims, precision, grams, self._device)

    def applied(
        self, map_: BlockMap, blocks: Iterable[Block], like: Rows, rows: int
    ) -> Generator[tuple[Block, Rows]]:
        """Map blocks of at most so many rows, of the width and the dtype of `like`."""
        return applied(cast("AffineMap", map_), blocks, like, rows, self._device)
