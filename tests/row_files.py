"""Rows in files, for what reads them in one pass."""

import numpy as np

from latalign.io.arrays import open_rows, write_rows
from latalign.io.protocol import Block, Shape
from latalign.pairing import paired

COUNT = 6000


def files(folder, X, Y, suffixes=(".npy", ".npy")):
    paths = []
    for name, rows, suffix in zip("xy", (X, Y), suffixes, strict=True):
        path = folder / f"{name}{suffix}"
        with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
            for part in np.array_split(rows, 7):
                writer.append(Block(part))
        paths.append(path)
    return paths


def in_parts(folder, name, rows, suffix=".npy"):
    (folder / name).mkdir()
    for k, part in enumerate(np.split(rows, [100, 101, 2000])):
        with write_rows(folder / name / f"{k}{suffix}", Shape(*part.shape, part.dtype)) as writer:
            writer.append(Block(part))
    return folder / name


def opened(x, y):
    return paired(open_rows(x), open_rows(y))
