"""latalign fit --labels."""

import numpy as np
import pytest

import latalign
from calls import done, done_json, refused, run, written
from latalign.cli import main, without_pairs
from latalign.io.labels import read_labels

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Labelled rows of two spaces, none of which corresponds; the working directory."""
    rng = np.random.default_rng(0)
    labels = rng.integers(4, size=2000)
    X = np.einsum("ni,nij->nj", rng.normal(size=(2000, 5)), rng.normal(size=(4, 5, 5))[labels])
    X += rng.normal(size=(4, 5))[labels]
    Y = X @ rng.normal(size=(5, 3))
    written(tmp_path / "x.npy", X[:1000].astype(np.float32))
    written(tmp_path / "y.safetensors", Y[1000:].astype(np.float32))
    names = np.array(["cat", "dog", "eel", "fox"])[labels]
    for side, part in (("x", names[:1000]), ("y", names[1000:])):
        np.save(tmp_path / f"{side}-labels.npy", part)
        (tmp_path / f"{side}-labels.txt").write_text("\n".join(part) + "\n")
        parquet.write_table(pa.table({"kind": part}), tmp_path / f"{side}-labels.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FORMS = ["labels.npy", "labels.txt", "labels.parquet:kind"]


@pytest.mark.parametrize("source", FORMS)
@pytest.mark.parametrize("target", FORMS)
def test_the_map_is_that_of_the_function(folder, source, target):
    call = (
        "fit",
        "x.npy",
        "y.safetensors",
        "--labels",
        f"x-{source}",
        f"y-{target}",
        "-o",
        "new.safetensors",
    )
    record = done_json(run(*call, "--json", "--source-name", "old", "--seed", 3))
    found = latalign.fit_from_labels(
        np.load("x.npy"),
        np.load("x-labels.npy"),
        latalign.io.arrays.open_rows("y.safetensors").load(),
        np.load("y-labels.npy"),
        random_state=3,
    )
    written_map = latalign.AffineMap.load("new.safetensors")
    np.testing.assert_array_equal(written_map.matrix, found.map.matrix)
    assert latalign.read_header("new.safetensors").source == record["source"] == "old"
    assert record["labels"] == found.to_json()
    assert record["method"] == "labels"
    assert record["evidence"] == found.map.evidence.to_json()


def test_for_people(folder):
    names = (folder / "x-labels.txt").read_text().splitlines()
    (folder / "some.txt").write_text("\n".join(["", "gnu", *names[2:]]))
    text = done(
        run("fit", "x.npy", "y.safetensors", "--labels", "some.txt", "y-labels.txt", "-o", "m.safetensors")
    )
    assert "m.safetensors: labels, 5 → 3 dimensions" in text
    assert "998 (2 left out)" in text
    assert "rows with a mutual partner" in text
    np.save("few.npy", np.eye(6))
    (folder / "few.txt").write_text("a\na\na\nb\nb\nb\n")
    few = done(run("fit", "few.npy", "few.npy", "--labels", "few.txt", "few.txt", "-o", "m.safetensors"))
    assert "too few rows" in few


@pytest.mark.parametrize(
    "option",
    [
        ("--method", "affine"),
        ("--holdout", "0.1"),
        ("--alpha", "1"),
        ("--id-column", "id"),
        ("--engine", "dask"),
        ("--device", "cuda"),
    ],
)
def test_what_is_about_pairs_is_refused(folder, option):
    call = (
        "fit",
        "x.npy",
        "y.safetensors",
        "--labels",
        "x-labels.npy",
        "y-labels.npy",
        "-o",
        "m.safetensors",
    )
    refused(run(*call, *option), 2, f"{option[0]} is for pairs")
    assert not (folder / "m.safetensors").exists()


def test_no_option_of_fit_is_passed_over():
    """A new one is for pairs, or is heeded with --labels or --unpaired as well."""
    heeded = {"source", "target", "labels", "unpaired", "anchors", "output", "seed", "as_json", "debug"}
    heeded |= {"source_name", "target_name", "dataset"}
    assert {one.name for one in main.commands["fit"].params} == heeded | set(without_pairs._OF_PAIRS)


@pytest.mark.parametrize(
    ("labels", "status", "words"),
    [
        ("y-labels.csv", 2, "labels are read from .npy"),
        ("y-labels.parquet", 2, "which column holds the labels? Say y-labels.parquet:COLUMN"),
        ("none.npy", 2, "there is no file none.npy"),
        ("y-labels.parquet:color", 1, "has no column 'color'; it has: kind"),
        ("y-labels.parquet:weight", 1, "labels are integers or strings; the column 'weight' is double"),
        ("objects.npy", 1, "never unpickled"),
        ("nothing.npy", 1, "not a sound .npy file"),
        ("cut.npy", 1, "not a sound .npy file"),
        ("several.npy", 1, "not a sound .npy file"),
        ("x.npy", 1, "needed is a 1-D array"),
        ("latin.txt", 1, "not a text file in UTF-8"),
        ("short.txt", 1, "needs one label a row, shape (1000,); got labels of shape (1,)"),
        ("empty.txt", 1, "all 1000 labels are missing"),
        ("other.txt", 1, "share 0 of 4 in the source (cat, dog, eel, fox) and 1 in the target (owl)"),
        ("numbers.npy", 1, "labels of one kind"),
    ],
)
def test_bad_labels(folder, labels, status, words):
    np.save("objects.npy", np.array([{}] * 1000, object), allow_pickle=True)
    np.save("numbers.npy", np.arange(1000))
    (folder / "nothing.npy").touch()
    (folder / "cut.npy").write_bytes((folder / "numbers.npy").read_bytes()[:40])
    (folder / "several.npy").write_bytes(b"PK\x03\x04 cut")  # as numpy.savez begins
    (folder / "y-labels.csv").write_text("a")
    (folder / "latin.txt").write_bytes("Käse\n".encode("latin-1"))
    (folder / "short.txt").write_text("owl\n")
    (folder / "empty.txt").write_text("\n" * 1000)
    (folder / "other.txt").write_text("owl\n" * 1000)
    if labels.endswith("weight"):
        parquet.write_table(pa.table({"weight": [0.5] * 1000}), "y-labels.parquet")
    call = ("fit", "x.npy", "y.safetensors", "--labels", "x-labels.npy", labels, "-o", "m.safetensors")
    refused(run(*call), status, words)
    assert not (folder / "m.safetensors").exists()


def test_the_map_may_not_replace_the_labels(folder):
    np.save("l.npy", np.load("x-labels.npy"))
    (folder / "l.safetensors").symlink_to("x-labels.npy")
    refused(
        run(
            "fit", "x.npy", "y.safetensors", "--labels", "x-labels.npy", "y-labels.npy", "-o", "l.safetensors"
        ),
        2,
    )


def test_a_null_is_no_label(folder):
    parquet.write_table(pa.table({"kind": pa.array([1, None, 3])}), "n.parquet")
    np.testing.assert_array_equal(read_labels("n.parquet:kind"), [1, np.nan, 3])
    parquet.write_table(pa.table({"kind": pa.array(["a", None])}), "n.parquet")
    assert read_labels("n.parquet:kind").tolist() == ["a", None]
    with pytest.raises(FileNotFoundError, match="there is no file none"):
        read_labels("none.txt")
