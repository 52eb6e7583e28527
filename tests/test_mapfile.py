"""The map file: pinned by its bytes, whole or not there, and checked when it is read."""

import hashlib
import json
import pickle
import re
import struct
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

import latalign
from latalign import AffineMap, Evidence, RelativeMap, StitchingMap, read_header
from latalign.evidence import Candidate
from latalign.io import mapfile
from problems import pairs

HEADER = {
    "dataset": "images",
    "dim_source": 2,
    "dim_target": 3,
    "evidence": None,
    "format": 1,
    "kind": "affine",
    "latalign_version": "0.1.0",
    "method": "given",
    "source": "old",
    "target": "new",
}


# Of the file that version 0.1.0 of latalign wrote for `small()`.
GOLDEN = "5f5f60b643bf621448da062ccb9897732c1add8488340bc03168e50f3c532a75"


def small():
    return AffineMap(np.array([1.0, 2.0]), np.arange(6.0).reshape(2, 3), np.array([-1.0, 0.5, 0.0]))


def write(path, tensors=None, text=None, key="latalign"):
    """A safetensors file written by hand, after its specification."""
    tensors = {
        "matrix": small().matrix,
        "source_mean": small().source_mean,
        "target_mean": small().target_mean,
    } | (tensors or {})
    tensors = {name: value for name, value in tensors.items() if value is not None}
    entries, body = {}, b""
    for name, value in tensors.items():
        kind = {"f8": "F64", "f4": "F32", "i8": "I64"}[value.dtype.str[1:]]
        entries[name] = {
            "dtype": kind,
            "shape": value.shape,
            "data_offsets": [len(body), len(body) + value.nbytes],
        }
        body += value.tobytes()
    head = json.dumps(
        {"__metadata__": {key: json.dumps(HEADER) if text is None else text}, **entries}
    ).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)
    return path


def test_golden_bytes(tmp_path):
    """Format 1 is these bytes. A change here is a new format, and needs a new number."""
    path = tmp_path / "m.safetensors"
    tensors = {name: getattr(small(), name) for name in ("source_mean", "matrix", "target_mean")}
    mapfile.write_map(path, tensors, mapfile.MapHeader(**HEADER))
    raw = path.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    head = json.loads(raw[8 : 8 + size])
    assert head["__metadata__"] == {"latalign": json.dumps(HEADER, sort_keys=True, separators=(",", ":"))}
    assert raw[8 + size :] == b"".join(tensors[name].tobytes() for name in sorted(tensors))
    assert hashlib.sha256(raw).hexdigest() == GOLDEN
    small().save(path, source="old", target="new", dataset="images")
    assert path.read_bytes() == raw.replace(b"0.1.0", latalign.__version__.encode())


def test_a_file_written_by_hand_is_read(tmp_path):
    loaded = AffineMap.load(write(tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(loaded.matrix, small().matrix)
    np.testing.assert_array_equal(loaded.source_mean, small().source_mean)
    np.testing.assert_array_equal(loaded.target_mean, small().target_mean)


def test_round_trip_is_exact(tmp_path, rng):
    X, Y = pairs(rng, 60, 5, 4)
    found = latalign.fit(X, Y)
    path = tmp_path / "m.safetensors"
    found.save(path, source="a", dataset="ü")
    loaded = AffineMap.load(path)
    for name in ("source_mean", "matrix", "target_mean"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(found, name))
    assert loaded.method == found.method
    assert loaded.evidence == found.evidence
    header = read_header(path)
    assert (header.source, header.target, header.dataset) == ("a", None, "ü")
    assert (header.dim_source, header.dim_target) == (5, 4)
    assert header.latalign_version == latalign.__version__
    first = path.read_bytes()
    found.save(path, source="a", dataset="ü")
    assert path.read_bytes() == first


def test_what_json_has_no_word_for():
    evidence = Evidence(5, 2, float("inf"), 1e-16, candidates=(Candidate("rigid", float("inf"), 0.1),))
    text = json.dumps(evidence.to_json(), allow_nan=False)
    assert Evidence.from_json(json.loads(text)) == evidence


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"matrix": np.ones((3, 2))}, r"matrix should be float64 of shape \(2, 3\)"),
        ({"matrix": np.ones((2, 3), np.float32)}, "it is float32"),
        ({"source_mean": np.ones(3)}, r"source_mean should be float64 of shape \(2,\)"),
        ({"matrix": np.full((2, 3), np.nan)}, "matrix has NaN or infinity"),
        ({"more": np.ones(3)}, "it holds the tensors"),
        ({"target_mean": None}, "it holds the tensors"),
    ],
)
def test_unsound_tensors(tmp_path, tensors, message):
    with pytest.raises(ValueError, match=message):
        AffineMap.load(write(tmp_path / "m.safetensors", tensors))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 3}, "has map format 3; this latalign .* reads formats 1 and 2"),
        ({"format": None}, "has map format None"),
        ({"format": 1.0}, "has map format 1.0"),
        ({"format": True}, "has map format True"),
        ({"kind": "mlp"}, "map of kind 'mlp'"),
        ({"method": 3}, "its method is 3"),
        ({"dim_source": "2"}, "its dim_source is '2'"),
        ({"dim_source": 0}, "its dim_source is 0"),
        ({"dim_source": True}, "its dim_source is True"),
        ({"dataset": 1}, "its dataset is 1"),
        ({"surprise": 1}, "its header has the fields"),
        ({"evidence": []}, r"its evidence is \[\]"),
        ({"evidence": {}}, "lacks a field"),
        (
            {"evidence": {"anchors": 1, "rank": 1, "condition": 1, "error_bound": 0, "x": 1}},
            "unknown fields: x",
        ),
        (
            {"evidence": {"anchors": "1", "rank": 1, "condition": 1, "error_bound": 0}},
            "anchors has the wrong type",
        ),
        (
            {"evidence": {"anchors": 1, "rank": 1, "condition": 1, "error_bound": 0, "candidates": [1]}},
            "candidate is not a JSON object",
        ),
    ],
)
def test_unsound_header(tmp_path, change, message):
    path = write(tmp_path / "m.safetensors", text=json.dumps(HEADER | change))
    for read in (AffineMap.load, read_header):
        with pytest.raises(ValueError, match=message):
            read(path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"condition": 1.5', '"condition": NaN', "NaN is no finite number"),
        ('"condition": 1.5', '"condition": -Infinity', "-Infinity is no finite number"),
        ('"condition": 1.5', '"condition": 1e999', "1e999 is no finite number"),
        ('"condition": 1.5', f'"condition": {10**30}', "is beyond 64 bits"),
        ('"condition": 1.5', f'"condition": {2**63}', "is beyond 64 bits"),
        ('"condition": 1.5', '"condition": 1.5, "condition": 2.5', "'condition' is there twice"),
        ('"format": 1', '"format": 1, "format": 1', "'format' is there twice"),
    ],
)
def test_what_no_json_of_ours_holds(tmp_path, old, new, message):
    evidence = {"anchors": 1, "rank": 1, "condition": 1.5, "error_bound": 0}
    text = json.dumps(HEADER | {"evidence": evidence})
    AffineMap.load(write(tmp_path / "m.safetensors", text=text))
    path = write(tmp_path / "m.safetensors", text=text.replace(old, new))
    for read in (AffineMap.load, read_header):
        with pytest.raises(ValueError, match=f"m.safetensors is not a sound map file.*{message}"):
            read(path)


def test_relative_codes_have_no_evidence(tmp_path):
    header = HEADER | {"kind": "relative", "method": "cosine", "evidence": {"anchors": 2}}
    tensors = {"matrix": None, "source_mean": None, "target_mean": None, "anchors": np.ones((3, 2))}
    path = write(tmp_path / "m.safetensors", tensors, text=json.dumps(header))
    with pytest.raises(ValueError, match=r"kind 'relative' has no evidence, its is \{'anchors': 2\}"):
        read_header(path)


def test_reading_the_evidence_leaves_the_header_plain_json(tmp_path):
    evidence = Evidence(5, 2, float("inf"), 1e-16, candidates=(Candidate("rigid", float("inf"), 0.1),))
    replace(small(), evidence=evidence).save(tmp_path / "m.safetensors")
    header = read_header(tmp_path / "m.safetensors")
    assert header.evidence == evidence.to_json()
    assert header.evidence["condition"] is None
    assert header.evidence["candidates"][0]["error"] is None


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "nonsense", "[" * 200_000, '{"a":' * 200_000])
def test_header_that_is_no_object(tmp_path, text):
    with pytest.raises(ValueError, match="is not a sound map file: its header is no JSON"):
        AffineMap.load(write(tmp_path / "m.safetensors", text=text))


def test_foreign_and_broken_files(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no map file"):
        AffineMap.load(path)
    with pytest.raises(ValueError, match="not one of latalign's maps"):
        AffineMap.load(write(path, key="other"))
    whole = write(path).read_bytes()
    for cut in (0, 1, 7, 8, 40, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(ValueError, match="not a map file, or it is truncated"):
            AffineMap.load(path)
    path.write_bytes(struct.pack("<Q", 1 << 60) + whole[8:])
    with pytest.raises(ValueError, match="not a map file"):
        AffineMap.load(path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a map file was unpickled",))


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="not a map file"):
        AffineMap.load(path)
    assert "pickle" not in "".join(vars(mapfile))


def test_a_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "m.safetensors"
    small().save(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="the disk is full"):
        AffineMap.of(np.eye(7)).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    monkeypatch.setattr("os.fsync", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        AffineMap.of(np.eye(7)).save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"folder .* does not exist"):
        small().save(tmp_path / "nowhere" / "m.safetensors")
    with pytest.raises(IsADirectoryError, match="it is a folder"):
        small().save(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["source", "target", "dataset"])
@pytest.mark.parametrize("value", [3, b"old", ["old"]])
@pytest.mark.parametrize(
    "map_",
    [small(), StitchingMap((AffineMap.of(np.eye(2)),) * 3), RelativeMap(np.eye(2))],
    ids=lambda m: type(m).__name__,
)
def test_names_are_text(tmp_path, map_, name, value):
    """Nothing is written that could not be read again."""
    path = tmp_path / "m.safetensors"
    with pytest.raises(
        TypeError, match=rf"a map file needs a {name} that is text or None; got {re.escape(repr(value))}"
    ):
        map_.save(path, **{name: value})
    assert not list(tmp_path.iterdir())


def test_a_method_is_text(tmp_path):
    with pytest.raises(TypeError, match="a map file needs a method that is text; got 3"):
        replace(small(), method=3).save(tmp_path / "m.safetensors")


def test_the_documents_tell_of_every_kind_tensor_and_field():
    text = (Path(__file__).parents[1] / "docs" / "map-file.md").read_text(encoding="utf-8")
    kinds = next(line for line in text.splitlines() if line.startswith("| `kind` |"))
    for name, kind in mapfile.KINDS.items():
        assert f'`"{name}"`' in kinds
        assert all(f"`{tensor}`" in text for tensor in kind.tensors)
    table = {
        name
        for line in text.splitlines()
        if line.count("|") == 4
        for name in re.findall("`([a-z_]+)`", line.split("|")[1])
    }
    assert table >= {field.name for field in fields(mapfile.MapHeader)}


def test_the_file_is_as_readable_as_any(tmp_path):
    small().save(tmp_path / "m.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "m.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_evidence_of_every_method_survives(tmp_path, rng):
    X, Y = pairs(rng, 12, 20, 9)
    for name in ("auto", *latalign.METHODS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", latalign.IllConditionedWarning)
            found = latalign.fit(X, Y, name)
        found.save(tmp_path / "m")
        assert AffineMap.load(tmp_path / "m").evidence == found.evidence
