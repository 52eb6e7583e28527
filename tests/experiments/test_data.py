"""IDX files and where they are looked for."""

import gzip
import hashlib
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
pooch = pytest.importorskip("pooch")
pytest.importorskip("matplotlib")

from latalign.experiments.data import FASHION_MNIST, Dataset, Split, digits, load, read  # noqa: E402
from latalign.experiments.idx import read_idx  # noqa: E402


def idx(values):
    values = np.asarray(values, np.uint8)
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


def write_archive(folder, rng, *, compressed=True, train=20, test=10):
    """Write four small files under the names of Fashion-MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for (name, _), count in zip(FASHION_MNIST.files, (train, train, test, test), strict=True):
        shape = (count, 28, 28) if "images" in name else (count,)
        values = rng.integers(0, 256 if "images" in name else 10, shape, np.uint8)
        path = folder / (name if compressed else name.removesuffix(".gz"))
        path.write_bytes(gzip.compress(idx(values)) if compressed else idx(values))
        written.append(values)
    return written


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No data on this machine, and no network."""
    monkeypatch.delenv("LATALIGN_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache")

    def retrieve(**given):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    return tmp_path


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("shape", [(7,), (5, 3, 4)])
def test_idx_round_trip(tmp_path, rng, compressed, shape):
    values = rng.integers(0, 256, shape, np.uint8)
    path = tmp_path / "values"
    path.write_bytes(gzip.compress(idx(values)) if compressed else idx(values))
    found = read_idx(path, len(shape))
    np.testing.assert_array_equal(found, values)
    assert not found.flags.writeable


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"not an IDX file: it starts with the bytes of none"),
        (b"PK\x03\x04....", r"not an IDX file: it starts with the bytes 50 4b 03 04"),
        (b"\0\0\x0d\x03" + bytes(40), r"type 0x0d; images and labels are bytes"),
        (idx(np.zeros(4)), r"with 1 axes; images need 3"),
        (b"\0\0\x08\x03" + bytes(5), r"truncated: it ends within its header"),
        (idx(np.zeros((2, 3, 3)))[:-1], r"shape \(2, 3, 3\) needs 18 bytes .* there are 17"),
        (idx(np.zeros((2, 3, 3))) + b"x", r"needs 18 bytes .* there are 19"),
        (idx(np.zeros((0, 3, 3))), r"its header says shape \(0, 3, 3\)"),
        (b"\0\0\x08\x03" + b"\xff" * 12, r"truncated or damaged: shape \(4294967295, "),
        (gzip.compress(idx(np.zeros((2, 3, 3))), mtime=0)[:-12], r"truncated or damaged: gzip says"),
        (
            gzip.compress(idx(np.zeros((2, 3, 3))), mtime=0)[:-8] + bytes(8),
            r"truncated or damaged: gzip says",
        ),
    ],
)
def test_idx_errors(tmp_path, content, says):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        read_idx(path, 3)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("below", ["", "fashion-mnist"])
def test_the_variable_is_looked_at_first(nowhere, rng, monkeypatch, compressed, below):
    write_archive(nowhere / "share/datasets/fashion-mnist", np.random.default_rng(99))
    images, labels, test_images, test_labels = write_archive(
        nowhere / "own" / below, rng, compressed=compressed
    )
    monkeypatch.setenv("LATALIGN_DATA", str(nowhere / "own"))
    found = load(FASHION_MNIST)
    np.testing.assert_array_equal(found.train.images, images)
    np.testing.assert_array_equal(found.train.labels, labels)
    np.testing.assert_array_equal(found.test.images, test_images)
    np.testing.assert_array_equal(found.test.labels, test_labels)
    assert (found.name, found.image_size, found.output) == ("Fashion-MNIST", 28, "linear")


def test_a_share_folder_is_looked_at_next(nowhere, rng, monkeypatch):
    images = write_archive(nowhere / "b/datasets/fashion-mnist", rng)[0]
    write_archive(nowhere / "a/datasets/fashion-mnist", rng)
    (nowhere / "a/datasets/fashion-mnist/t10k-labels-idx1-ubyte.gz").unlink()  # so it is passed over
    monkeypatch.setenv("XDG_DATA_DIRS", f"{nowhere / 'a'}:{nowhere / 'b'}")
    np.testing.assert_array_equal(load(FASHION_MNIST).train.images, images)


def test_nowhere_to_be_found(nowhere, monkeypatch):
    monkeypatch.setenv("LATALIGN_DATA", str(nowhere / "own"))
    with pytest.raises(FileNotFoundError, match=r"Fashion-MNIST was not found") as error:
        load(FASHION_MNIST)
    for place in ("own", "own/fashion-mnist", "share/datasets/fashion-mnist", "cache/fashion-mnist"):
        assert str(nowhere / place) in str(error.value)
    for part in (FASHION_MNIST.url, "ConnectionError", "LATALIGN_DATA", "dataset-fashion-mnist"):
        assert part in str(error.value)


def test_another_hash_is_refused(nowhere, monkeypatch):
    def retrieve(**given):
        raise ValueError("MD5 hash of downloaded file does not match the known hash")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(FileNotFoundError, match="what came has another hash"):
        load(FASHION_MNIST)


def test_downloads_are_pinned_and_cached(nowhere, rng, monkeypatch):
    images = write_archive(nowhere / "cache/fashion-mnist", rng)[0]
    asked = []

    def retrieve(*, url, known_hash, fname, path, downloader):
        asked.append((url, known_hash))
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    np.testing.assert_array_equal(load(FASHION_MNIST).train.images, images)
    assert asked == [(FASHION_MNIST.url + name, f"md5:{md5}") for name, md5 in FASHION_MNIST.files]


def test_the_cache_is_used_without_a_network(monkeypatch, tmp_path, rng):
    # pooch itself, on files that are in the cache already and have the hashes that are pinned.
    monkeypatch.delenv("LATALIGN_DATA", raising=False)
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "share"))
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path)
    images = write_archive(tmp_path / "fashion-mnist", rng)[0]
    files = tuple(
        (name, hashlib.md5((tmp_path / "fashion-mnist" / name).read_bytes()).hexdigest())
        for name, _ in FASHION_MNIST.files
    )
    np.testing.assert_array_equal(load(replace(FASHION_MNIST, files=files)).train.images, images)


def test_files_that_do_not_belong_together(tmp_path, rng):
    write_archive(tmp_path, rng)
    paths = [tmp_path / name for name, _ in FASHION_MNIST.files]
    with pytest.raises(ValueError, match=r"has 20 images, .* has 10 labels"):
        read(FASHION_MNIST, [paths[0], paths[3], paths[2], paths[3]])
    paths[2].write_bytes(idx(np.zeros((10, 8, 8))))
    with pytest.raises(ValueError, match=r"train on are \(28, 28\) pixels, images to test on \(8, 8\)"):
        read(FASHION_MNIST, paths)


def test_fashion_mnist_where_it_is(monkeypatch):
    monkeypatch.setattr(
        pooch, "retrieve", lambda **given: pytest.skip("Fashion-MNIST is not on this machine")
    )
    found = load(FASHION_MNIST)
    assert (found.train.images.shape, found.test.images.shape) == ((60000, 28, 28), (10000, 28, 28))
    assert np.bincount(found.train.labels).tolist() == [6000] * 10
    pixels = found.normalized(found.train.take(slice(0, 20000)))
    assert abs(pixels.mean()) < 0.01
    assert abs(pixels.std() - 1) < 0.01


def test_digits_are_split_the_same_way_every_time():
    first, second = digits(), digits()
    np.testing.assert_array_equal(first.test.images, second.test.images)
    assert (len(first.train), len(first.test)) == (1437, 360)
    assert set(first.test.labels) == set(range(10))
    rows = np.concatenate([first.train.images, first.test.images]).reshape(-1, 64)
    from sklearn.datasets import load_digits

    original = load_digits().data
    np.testing.assert_array_equal(np.sort(rows.sum(axis=1)), np.sort(original.sum(axis=1)))
    pixels = first.normalized(first.train)
    assert pixels.dtype == np.float32
    assert pixels.shape == (1437, 1, 8, 8)
    assert abs(pixels.mean()) < 1e-4
    assert abs(pixels.std() - 1) < 1e-4


def test_normalized_and_shown(rng):
    images = rng.integers(0, 256, (6, 4, 4), np.uint8)
    split = Split(images, np.zeros(6, np.uint8))
    data = Dataset("some", split, split, white=255, mean=0.25, deviation=0.5)
    seen = data.normalized(split)
    np.testing.assert_allclose(seen[:, 0], (images / 255 - 0.25) / 0.5, atol=1e-6)
    np.testing.assert_allclose(data.shown(seen[:, 0]), images / 255, atol=1e-6)
    assert data.shown(np.array([-9.0, 9.0])).tolist() == [0.0, 1.0]


def test_a_split_is_checked():
    with pytest.raises(
        ValueError, match=r"square images \(n, size, size\) and a label for each; got \(2, 3, 4\)"
    ):
        Split(np.zeros((2, 3, 4), np.uint8), np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match=r"got \(2, 3, 3\) and \(1,\)"):
        Split(np.zeros((2, 3, 3), np.uint8), np.zeros(1, np.uint8))
