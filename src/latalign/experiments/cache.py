"""What was computed once: trained networks and measured values in a folder, by the hash of what they are of."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any, final

import numpy as np
import pooch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from latalign.io.files import written_beside

Arrays = dict[str, NDArray[Any]]

_LEFT = 3600.0  # seconds after which nobody is still writing


class CacheWarning(UserWarning):
    """An entry of the cache cannot be read, and is made anew."""


@final
class Cache:
    """A folder of entries that are whole or not there: written beside their name and renamed.

    Parameters
    ----------
    folder : path, optional
        Made by `made`, or when the first entry is written. The user's cache folder unless given.
    """

    def __init__(self, folder: str | PathLike[str] | None = None) -> None:
        self.folder = Path(pooch.os_cache("latalign") / "reproduce" if folder is None else folder)

    def made(self) -> Cache:
        """Make the folder, before anything takes time, and return the cache."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(f"cannot write into the cache {self.folder}: it belongs to another")
        for left in self.folder.glob(".*.tmp"):  # by processes that were ended while they wrote
            if time.time() - left.stat().st_mtime > _LEFT:
                left.unlink(missing_ok=True)
        return self

    def arrays(self, key: str) -> tuple[Arrays, dict[str, Any]] | None:
        """Return the arrays of an entry and its record; None where there is none that is sound."""
        path = self._path(key, "safetensors")
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="np") as file:
                header = file.metadata() or {}
                found = {name: file.get_tensor(name) for name in sorted(file.keys())}
            if header.get("sha256") != _digest(found):
                raise ValueError("its contents have another hash than when they were written")
            return found, json.loads(header["record"])
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            _warn(path, error)
            return None

    def store_arrays(self, key: str, arrays: Mapping[str, NDArray[Any]], record: Mapping[str, Any]) -> None:
        """Write an entry of arrays."""
        values = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        header = {"sha256": _digest(values), "record": json.dumps(record)}
        self._write(self._path(key, "safetensors"), save(values, header))

    def warn(self, key: str, reason: str) -> None:
        """Warn that an entry of arrays is of no use, and is made anew."""
        _warn(self._path(key, "safetensors"), reason)

    def value(self, key: str) -> dict[str, Any] | None:
        """Return the measured record of an entry; None where there is none that is sound."""
        path = self._path(key, "json")
        if not path.exists():
            return None
        try:
            found = json.loads(path.read_text())
            if not isinstance(found, dict) or not all(
                isinstance(found.get(name), float) for name in ("error", "seconds")
            ):
                raise ValueError("it is not a record of a measured error")
            return found
        except (OSError, ValueError) as error:
            _warn(path, error)
            return None

    def store_value(self, key: str, record: Mapping[str, Any]) -> None:
        """Write an entry of one measured record."""
        self._write(self._path(key, "json"), json.dumps(record).encode())

    def _path(self, key: str, suffix: str) -> Path:
        return self.folder / f"{key}.{suffix}"

    def _write(self, path: Path, content: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with written_beside(path) as file:
            file.write(content)


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a hash of names, shapes and values: safetensors has none of its own."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        total.update(arrays[name].tobytes())
    return total.hexdigest()


def _warn(path: Path, error: Exception | str) -> None:
    warnings.warn(
        f"{path.name} in the cache is unsound ({error}); it is made anew", CacheWarning, stacklevel=4
    )
