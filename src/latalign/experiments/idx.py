"""IDX files, the format that MNIST came in: a magic number, a shape, and bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_GZIP = b"\x1f\x8b"
_UINT8 = 0x08


def read_idx(path: Path, ndim: int) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, compressed by gzip or not.

    Parameters
    ----------
    path : Path
    ndim : int
        The number of axes it should have: 3 for images, 1 for labels.

    Returns
    -------
    read-only uint8 array

    Raises
    ------
    OSError
        If it cannot be read.
    ValueError
        If it is not an IDX file of bytes, has another number of axes, or its length is not what its
        header says.
    """
    content = _content(path)
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(
            f"{path} is not an IDX file: it starts with the bytes {content[:4].hex(' ') or 'of none'}"
        )
    kind, axes = content[2], content[3]
    if kind != _UINT8:
        raise ValueError(
            f"{path} is an IDX file of type 0x{kind:02x}; images and labels are bytes, type 0x08"
        )
    if axes != ndim:
        what = {1: "labels", 3: "images"}.get(ndim, "the array")
        raise ValueError(f"{path} is an IDX file with {axes} axes; {what} need {ndim}. Is it the right file?")
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(f"{path} is truncated: it ends within its header")
    shape = tuple(int(size) for size in np.frombuffer(content, ">u4", ndim, offset=4))
    if 0 in shape:
        raise ValueError(f"{path} is not a sound IDX file: its header says shape {shape}")
    if len(content) - start != math.prod(shape):
        raise ValueError(
            f"{path} is truncated or damaged: shape {shape} needs {math.prod(shape):,} bytes after the header, "
            f"there are {len(content) - start:,}. Copy or download it again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _content(path: Path) -> bytes:
    content = path.read_bytes()
    if not content.startswith(_GZIP):
        return content
    try:
        return gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(
            f"{path} is truncated or damaged: gzip says {error}. Copy or download it again."
        ) from error
