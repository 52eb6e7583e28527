"""latalign fit --unpaired."""

import json

import numpy as np
import pytest

import latalign
from calls import done, done_json, refused, run, written
from latalign.io.arrays import open_rows


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Rows of two spaces, none of which corresponds, with labels and a few that do; the working directory."""
    rng = np.random.default_rng(3)
    kind = rng.integers(6, size=2040)
    shapes, middles = rng.normal(size=(6, 4, 4)), 2 * rng.normal(size=(6, 4))
    X = np.einsum("ni,nij->nj", rng.normal(size=(2040, 4)), shapes[kind]) + middles[kind]
    Y = X @ rng.normal(size=(4, 5)) + 1
    written(tmp_path / "x.npy", X[:1000].astype("f4"))
    written(tmp_path / "y.safetensors", Y[1000:2000].astype("f4"))
    written(tmp_path / "round.npy", rng.normal(size=(600, 4)).astype("f4"))
    written(tmp_path / "line.npy", rng.exponential(size=(600, 1)).astype("f4"))
    written(tmp_path / "x-known.npy", X[2000:].astype("f4"))
    written(tmp_path / "y-known.npy", Y[2000:].astype("f4"))
    for side, part in (("x", kind[:1000]), ("y", kind[1000:2000])):
        np.save(tmp_path / f"{side}-labels.npy", part)
        (tmp_path / f"{side}-labels.txt").write_text("\n".join(f"kind {k}" for k in part) + "\n")
    monkeypatch.chdir(tmp_path)
    return X, Y


CALL = ("fit", "x.npy", "y.safetensors", "--unpaired", "-o", "m.safetensors")


def unexplained(path, X, Y):
    map_ = latalign.AffineMap.load(path)
    return np.square(map_(X) - Y).sum() / np.square(Y - Y.mean(axis=0)).sum()


def test_the_map_is_that_of_the_function(folder, tmp_path):
    record = done_json(run(*CALL, "--json", "--seed", 3, "--source-name", "old"))
    found = latalign.fit_unpaired(np.load("x.npy"), open_rows("y.safetensors").load(), random_state=3)
    assert found.found
    np.testing.assert_array_equal(latalign.AffineMap.load("m.safetensors").matrix, found.map.matrix)
    assert record["unpaired"] == found.to_json()
    assert (record["output"], record["source"], record["method"]) == ("m.safetensors", "old", "unpaired")
    assert record["evidence"] == found.map.evidence.to_json()
    assert unexplained("m.safetensors", *folder) < 0.05


def test_for_people(folder):
    text = done(run(*CALL))
    assert "m.safetensors: unpaired, 4 → 5 dimensions" in text
    for words in ("1,000 and 1,000", "confidence", "disagreement of halves", "rows with a mutual partner"):
        assert words in text


@pytest.mark.parametrize(
    ("source", "target", "reason", "words"),
    [
        ("round.npy", "x.npy", None, "No map was found: "),
        ("line.npy", "line.npy", "one dimension", "in one dimension the shapes of two clouds do not tell"),
    ],
)
def test_where_none_is_found_nothing_is_written(folder, tmp_path, source, target, reason, words):
    (tmp_path / "m.safetensors").write_bytes(b"what was there")
    call = ("fit", source, target, "--unpaired", "-o", "m.safetensors")
    result = run(*call)
    assert result.exit_code == 1
    assert words in result.stdout
    assert "Give more rows, class labels (labels=, --labels)" in result.stdout
    assert "confidence" in result.stdout
    assert result.stderr == ""
    result = run(*call, "--json")
    assert result.exit_code == 1
    record = json.loads(result.stdout)
    assert record["output"] is None
    assert record["unpaired"]["found"] is False
    assert record["unpaired"]["confidence"] < 0.75
    assert record["unpaired"]["reason"] is not None
    assert reason in (None, record["unpaired"]["reason"])
    assert (tmp_path / "m.safetensors").read_bytes() == b"what was there"


@pytest.mark.parametrize("suffix", ["npy", "txt"])
def test_labels_and_a_few_pairs_besides(folder, suffix):
    labels = ("--labels", f"x-labels.{suffix}", f"y-labels.{suffix}")
    anchors = ("--anchors", "x-known.npy", "y-known.npy")
    alone = done_json(run(*CALL, *labels, "--json"))
    assert alone["unpaired"]["basis"] == "labels"
    both = done_json(run(*CALL, *labels, *anchors, "--json"))
    assert (both["unpaired"]["basis"], both["unpaired"]["pairs"]) == ("labels", 40)
    # The pairs are without a label and no rows of the search; all they do is correct.
    assert both["unpaired"]["source_rows"] == alone["unpaired"]["source_rows"] == 1000
    assert unexplained("m.safetensors", *folder) < 1e-3


def test_a_few_pairs_besides(folder):
    record = done_json(run(*CALL, "--anchors", "x-known.npy", "y-known.npy", "--json"))
    assert record["unpaired"]["pairs"] == 40
    assert (record["unpaired"]["source_rows"], record["unpaired"]["target_rows"]) == (1000, 1000)
    assert unexplained("m.safetensors", *folder) < 1e-3


@pytest.mark.parametrize(
    "option",
    [("--method", "affine"), ("--holdout", "0.1"), ("--force",), ("--id-column", "id"), ("--engine", "dask")],
)
def test_what_is_about_pairs_is_refused(folder, tmp_path, option):
    refused(run(*CALL, *option), 2, f"{option[0]} is for pairs and does not go with --unpaired")
    assert not (tmp_path / "m.safetensors").exists()


def test_wrong_calls(folder, tmp_path):
    refused(
        run("fit", "x.npy", "x.npy", "-o", "m.safetensors", "--anchors", "x-known.npy", "x-known.npy"),
        2,
        "--anchors go with --unpaired",
    )
    refused(
        run(*CALL, "--anchors", "y-known.npy", "y-known.npy"),
        2,
        "y-known.npy has rows of 5 dimensions, x.npy of 4",
    )
    np.save("few.npy", np.load("x-known.npy")[:7])
    refused(run(*CALL, "--anchors", "few.npy", "y-known.npy"), 2, "do not pair by order")
    refused(
        run(*CALL, "--labels", "x-labels.npy", "x-labels.npy", "--anchors", "x-known.npy", "few.npy"),
        2,
        "do not pair by order",
    )
    np.save("short.npy", np.arange(9))
    refused(
        run(*CALL, "--labels", "short.npy", "y-labels.npy"), 2, "short.npy has 9 labels, x.npy has 1000 rows"
    )
    np.save("bad.npy", np.full((100, 4), np.nan))
    refused(run("fit", "bad.npy", "x.npy", "--unpaired", "-o", "m.safetensors"), 2, "finite values")
    np.save("some.npy", np.load("x.npy")[:10])
    refused(run("fit", "some.npy", "x.npy", "--unpaired", "-o", "m.safetensors"), 2, "needs 20 rows or more")
    refused(run(*CALL[:-1], "nowhere/m.safetensors"), 2, "does not exist")
    assert not (tmp_path / "m.safetensors").exists()
