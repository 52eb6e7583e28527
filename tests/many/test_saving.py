"""The file of a shared space: pinned by its bytes, exact, whole or not there, and checked when it is read."""

import hashlib
import json
import pickle
import re
import struct
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import latalign
from latalign import AffineMap, Evidence, Moments, SharedSpace, fit_many, read_header
from latalign.io import spacefile
from latalign.many.evidence import PairEvidence, SharedEvidence
from latalign.on_disk import load_map
from problems import NAMES, seen

# Of the file that was first written for `small()`, with a version of 0.1.0.
GOLDEN = "1139a50bcf1729d9f0c8fd1e10f87e89ca99be94531413389ab13c09b5ff2915"


def small():
    """Two spaces, of one and two dimensions, in a shared one of two: every number chosen, none computed."""
    known = Evidence(anchors=3, rank=1, condition=2.0, error_bound=1e-15, alpha=0.5)
    pairs = (
        PairEvidence("old", "neu ü", 3, 1.0, 0.5, 0.25, 0.1, 0.2),
        PairEvidence("neu ü", "old", 3),
    )
    into = (
        AffineMap([1.0], [[1.0, 2.0]], [0.0, 1.0], "ridge", known),
        AffineMap([1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]], [5.0, 6.0], "ridge", known),
    )
    back = (
        AffineMap([0.0, 1.0], [[1.0], [2.0]], [1.0], "ridge", known),
        AffineMap([5.0, 6.0], [[0.5, 1.0], [1.5, 2.0]], [1.0, 2.0], "ridge", replace(known, alpha=None)),
    )
    square = np.array([[2.0, 1.0], [1.0, 3.0]])
    agreement = Moments(
        weight=6.0,
        count=6,
        source_mean=np.array([1.0, 2.0]),
        target_mean=np.array([1.0, 2.0]),
        xy=np.array([[1.0, 0.5], [0.25, 1.0]]),
        xx_diagonal=np.array([2.0, 3.0]),
        yy_diagonal=np.array([2.0, 3.0]),
        source_gram=square,
        target_gram=square,
    )
    evidence = SharedEvidence(pairs, 2, ((1, 0.5), (2, 0.25)))
    return SharedSpace(("old", "neu ü"), "ridge", into, back, agreement, evidence)


def same(one, other):
    """The two are equal, bit by bit."""
    assert (one.names, one.method, one.evidence) == (other.names, other.method, other.evidence)
    for mine, its in zip((*one.encoders, *one.decoders), (*other.encoders, *other.decoders), strict=True):
        for name in ("source_mean", "matrix", "target_mean"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(its, name))
        assert (mine.method, mine.evidence) == (its.method, its.evidence)
    for field in fields(Moments):
        np.testing.assert_array_equal(
            getattr(one.agreement, field.name), getattr(other.agreement, field.name)
        )


def taken_apart(path):
    """Return the header and the tensors of a file, read after the specification of safetensors."""
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    entries = json.loads(raw[8 : 8 + size])
    header = json.loads(entries.pop("__metadata__")["latalign"])
    tensors = {}
    for name, entry in entries.items():
        start, stop = (8 + size + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(raw[start:stop], "<f8").reshape(entry["shape"])
        assert entry["dtype"] == "F64"
    return header, tensors


def put_together(path, header, tensors):
    """Write a file by hand, after the specification of safetensors."""
    entries, body = {}, b""
    for name, value in tensors.items():
        kind = {"f8": "F64", "f4": "F32"}[value.dtype.str[1:]]
        offsets = [len(body), len(body) + value.nbytes]
        entries[name] = {"dtype": kind, "shape": value.shape, "data_offsets": offsets}
        body += value.tobytes()
    text = header if isinstance(header, str) else json.dumps(header)
    head = json.dumps({"__metadata__": {"latalign": text}, **entries}).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)
    return path


@pytest.fixture
def path(tmp_path):
    small().save(tmp_path / "s.safetensors", dataset="images")
    return tmp_path / "s.safetensors"


def test_golden_bytes(path):
    """Format 1 is these bytes. A change here is a new format, and needs a new number."""
    tensors, header = spacefile.read_spaces(path)
    spacefile.write_spaces(path, tensors, replace(header, latalign_version="0.1.0"))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == GOLDEN
    found, _ = taken_apart(path)
    assert found == {
        "agreement": {"count": 6, "rounding": 2.0**-52, "weight": 6.0},
        "dataset": "images",
        "dim": 2,
        "evidence": {
            "by_dim": [[1, 0.5], [2, 0.25]],
            "n_folds": 2,
            "pairs": [
                {
                    "anchors": 3,
                    "baseline": 1.0,
                    "detour": None,
                    "direct_detour": None,
                    "direct_error": 0.25,
                    "direct_round_trip": 0.2,
                    "error": 0.5,
                    "round_trip": 0.1,
                    "source": "old",
                    "target": "neu ü",
                },
                {
                    "anchors": 3,
                    "baseline": None,
                    "detour": None,
                    "direct_detour": None,
                    "direct_error": None,
                    "direct_round_trip": None,
                    "error": None,
                    "round_trip": None,
                    "source": "neu ü",
                    "target": "old",
                },
            ],
        },
        "format": 1,
        "kind": "shared",
        "latalign_version": "0.1.0",
        "method": "ridge",
        "spaces": [
            {
                "name": entry.name,
                "dim": entry.dim,
                "into": entry.into,
                "back": entry.back,
            }
            for entry in header.spaces
        ],
    }
    assert [(entry.name, entry.dim) for entry in header.spaces] == [("old", 1), ("neu ü", 2)]


def test_what_is_read_is_what_was_written(path):
    same(SharedSpace.load(path), small())
    first = path.read_bytes()
    SharedSpace.load(path).save(path, dataset="images")
    assert path.read_bytes() == first
    same(SharedSpace.load(put_together(path, *taken_apart(path))), small())


@pytest.mark.parametrize("method", ["rigid", "ridge"])
def test_a_fitted_space_and_one_that_joined_are_exact(tmp_path, rng, method):
    models = seen(rng)
    shared = fit_many({name: models[name] for name in NAMES[:3]}, method)
    more = shared.join("d", models["d"], {"a": models["a"]})
    for number, one in enumerate((shared, more)):
        one.save(tmp_path / f"{number}.safetensors")
        loaded = SharedSpace.load(tmp_path / f"{number}.safetensors")
        same(loaded, one)
        assert loaded.map("a", "c").evidence == one.map("a", "c").evidence
        np.testing.assert_array_equal(loaded.correction().matrix, one.correction().matrix)
    # What joins what was loaded is what joins what was not.
    again = SharedSpace.load(tmp_path / "0.safetensors").join("d", models["d"], {"a": models["a"]})
    same(again, more)


def without(name):
    return lambda header, tensors: header.pop(name)


def says(name, value):
    return lambda header, tensors: header.update({name: value})


def space(name, value):
    return lambda header, tensors: header["spaces"][1].update({name: value})


def pair(name, value):
    return lambda header, tensors: header["evidence"]["pairs"][1].update({name: value})


def evidence(name, value):
    return lambda header, tensors: header["evidence"].update({name: value})


def agreement(name, value):
    return lambda header, tensors: header["agreement"].update({name: value})


def tensor(name, value):
    return lambda header, tensors: tensors.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (says("format", 3), "has map format 3; this latalign .* reads formats 1 and 2"),
        (says("format", 2), "a map of kind 'shared' has format 1, it says 2"),
        (says("format", None), "has map format None"),
        (says("kind", "spaces"), "map of kind 'spaces'"),
        (says("kind", "affine"), "map of kind 'affine', not 'shared'. Read it with latalign.AffineMap.load"),
        (says("kind", []), r"map of kind \[\]"),
        (says("method", "affine"), "its method is 'affine', none of rigid, ridge"),
        (says("method", None), "its method is None"),
        (says("dim", 0), "its dim is 0"),
        (says("dim", True), "its dim is True"),
        (says("dim", 3), r"should be float64 of shape \(3,\), it is float64 of shape \(2,\)"),
        (says("dataset", 3), "its dataset is 3"),
        (says("surprise", 1), "its header has the fields"),
        (without("evidence"), "its header has the fields"),
        (says("spaces", {}), "its spaces is {}"),
        (says("spaces", []), r"two spaces or more, each of its own name; it has \[\]"),
        (says("spaces", [1, 2]), "one of its spaces is 1"),
        (space("name", "old"), "each of its own name; it has"),
        (space("name", 2), "its name is 2"),
        (space("dim", 3), r"space_1.into.source_mean should be float64 of shape \(3,\)"),
        (space("dim", -1), "its dim is -1"),
        (space("into", None), "its into is None"),
        (space("back", {}), "evidence lacks a field"),
        (space("more", 1), "its header has the fields"),
        (agreement("weight", 0.0), "its agreement.weight is 0.0"),
        (agreement("weight", True), "its agreement.weight is True"),
        (agreement("count", 0), "its count is 0"),
        (agreement("count", 1.5), "its count is 1.5"),
        (agreement("rounding", "x"), "its rounding is 'x'"),
        (says("evidence", []), r"its evidence is \[\]"),
        (evidence("n_folds", 0), "n_folds is less than one"),
        (evidence("n_folds", "5"), "n_folds has the wrong type"),
        (evidence("pairs", {}), "pairs has the wrong type"),
        (evidence("pairs", [1]), "a pair of the evidence is not a JSON object"),
        (evidence("pairs", []), "its evidence is not of every pair of 'old', 'neu ü', once"),
        (evidence("by_dim", [[1]]), r"not a width and an error: \[1\]"),
        (evidence("by_dim", [[1.5, 1]]), "not a width and an error"),
        (evidence("x", 1), "evidence has unknown fields: x"),
        (pair("target", "neu ü"), "its evidence is not of every pair"),
        (pair("anchors", -1), "anchors is less than zero"),
        (pair("error", "0"), "error has the wrong type"),
        (pair("cycle", 0), "unknown fields: cycle"),
        (tensor("agreement.xy", np.ones((2, 3))), r"agreement.xy should be float64 of shape \(2, 2\)"),
        (tensor("agreement.xy", np.ones((2, 2), np.float32)), "it is float32"),
        (tensor("agreement.xy", np.full((2, 2), np.inf)), "agreement.xy has NaN or infinity"),
        (tensor("agreement.source_gram", np.array([[1.0, 2], [0, 1]])), "source_gram is not symmetric"),
        (tensor("space_0.back.matrix", np.ones((1, 2))), r"space_0.back.matrix should .* shape \(2, 1\)"),
        (tensor("space_0.back.matrix", np.full((2, 1), np.nan)), "matrix has NaN or infinity"),
        (tensor("space_2.back.matrix", np.ones((2, 1))), "it holds the tensors"),
        (lambda header, tensors: tensors.pop("space_1.into.matrix"), "it holds the tensors"),
    ],
)
def test_unsound_files(path, change, message):
    header, tensors = taken_apart(path)
    change(header, tensors)
    put_together(path, header, tensors)
    with pytest.raises(ValueError, match=message):
        SharedSpace.load(path)


def test_foreign_and_broken_files(path):
    whole = path.read_bytes()
    with pytest.raises(FileNotFoundError, match="there is no map file"):
        SharedSpace.load(path.with_name("none"))
    for cut in (0, 7, 8, 40, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="not a map file, or it is truncated"):
            SharedSpace.load(path)
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(ValueError, match="not a map file"):
        SharedSpace.load(path)
    AffineMap.of(np.eye(2)).save(path)
    with pytest.raises(
        ValueError, match=r"kind 'affine', not 'shared'. Read it with latalign.AffineMap.load"
    ):
        SharedSpace.load(path)


def test_it_is_no_single_map(path):
    with pytest.raises(
        ValueError, match=r"kind 'shared', not 'affine'. Read it with latalign.SharedSpace.load"
    ):
        AffineMap.load(path)
    for read in (read_header, load_map):
        with pytest.raises(ValueError, match="holds many maps, of kind 'shared', not one"):
            read(path)


def test_names_are_text(tmp_path):
    unnamed = replace(small(), names=(1, "b"))
    for call, words in (
        (lambda: unnamed.save(tmp_path / "s"), "a name that is text; got 1"),
        (lambda: small().save(tmp_path / "s", dataset=3), "a dataset that is text or None; got 3"),
    ):
        with pytest.raises(TypeError, match=words):
            call()
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_what_was_there(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="the disk is full"):
        replace(small(), names=("x", "y")).save(path)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_the_documents_tell_of_every_field_and_tensor():
    text = (Path(latalign.__file__).parents[2] / "docs" / "map-file.md").read_text(encoding="utf-8")
    part = text.split("## Kind `shared`", 1)[1].split("\n## ", 1)[0]
    named = set(re.findall("`([a-z_]+)`", part))
    for kind in (spacefile.SpacesHeader, spacefile.SpaceEntry, SharedEvidence):
        assert {field.name for field in fields(kind)} <= named
    assert set(spacefile.AGREEMENT) | {"weight", "count", "rounding"} <= named
