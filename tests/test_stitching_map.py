"""The stitching map: three affine maps with ReLU between, as rows, as a file and on the command line."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import latalign
from calls import done, done_json, refused, run
from latalign import AffineMap, Chain, Map, Normalize, RelativeMap, StitchingEvidence, StitchingMap, load_map
from latalign.on_disk import apply_file

EVIDENCE = StitchingEvidence(100, 10, 40, 30, 0.25, None, 1.5)


def a_map(rng, dim_source=4, k=3, dim_target=5, shift=3.0, evidence=EVIDENCE):
    hidden = k * dim_source
    return StitchingMap(
        (
            AffineMap(
                rng.normal(size=dim_source) + shift, rng.normal(size=(dim_source, hidden)), np.ones(hidden)
            ),
            AffineMap.of(rng.normal(size=(hidden, hidden)), rng.normal(size=hidden)),
            AffineMap.of(rng.normal(size=(hidden, dim_target)), rng.normal(size=dim_target) - shift),
        ),
        evidence=evidence,
    )


def by_hand(map_, rows):
    first, second, third = map_.layers
    one = np.maximum((rows - first.source_mean) @ first.matrix + first.target_mean, 0)
    two = np.maximum(one @ second.matrix + second.target_mean, 0)
    return two @ third.matrix + third.target_mean


class TestMap:
    @pytest.mark.parametrize("widths", [(4, 1, 4), (4, 3, 2), (2, 4, 7)])
    @pytest.mark.parametrize("count", [1, 512, 1300])
    def test_it_is_the_three_layers_with_relu_between(self, rng, widths, count):
        map_ = a_map(rng, *widths)
        rows = rng.normal(size=(count, widths[0])) + 3
        assert (map_.dim_source, map_.k, map_.dim_target) == widths
        np.testing.assert_allclose(map_(rows), by_hand(map_, rows), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize(
        ("dtype", "expected", "rtol"),
        [
            ("f8", "f8", 1e-12),
            ("f4", "f4", 1e-4),
            ("f2", "f2", 1e-2),
            ("i4", "f8", 1e-12),
            (">f4", "f4", 1e-4),
        ],
    )
    def test_rows_keep_their_dtype(self, rng, dtype, expected, rtol):
        map_ = a_map(rng)
        rows = (8 * rng.normal(size=(30, 4))).astype(dtype)
        out = map_(rows)
        assert out.dtype == expected
        truth = by_hand(map_, rows.astype(float))
        assert np.abs(out - truth).max() <= rtol * np.abs(truth).max()

    def test_no_digits_are_lost_where_means_are_large(self, rng):
        near = a_map(rng, shift=0.0)
        first, *others = near.layers
        far = StitchingMap((AffineMap(first.source_mean + 2.0**20, first.matrix, first.target_mean), *others))
        rows = rng.integers(-4, 5, size=(50, 4)).astype(np.float32)
        np.testing.assert_allclose(far(rows + 2.0**20), near(rows), rtol=1e-4, atol=1e-4)

    def test_it_is_a_map_and_chains_with_any(self, rng):
        map_ = a_map(rng)
        before, after = AffineMap.of(rng.normal(size=(2, 4))), AffineMap.of(rng.normal(size=(5, 3)))
        rows = rng.normal(size=(20, 2))
        assert isinstance(map_, Map)
        for chain in (before >> map_ >> after, before >> (map_ >> after), (before >> map_) >> after):
            assert isinstance(chain, Chain)
            np.testing.assert_allclose(chain(rows), after(map_(before(rows))), rtol=1e-12)
        unit = (map_ >> Normalize())(rng.normal(size=(20, 4)))
        np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1)

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_a_relu_hides_no_infinity(self, rng, bad, dtype):
        rows = rng.normal(size=(1000, 4)).astype(dtype)
        rows[[700, 900], 2] = bad
        with pytest.raises(
            ValueError, match=r"StitchingMap needs finite values; 2 of 1000 .* first is row 700"
        ):
            a_map(rng)(rows)

    def test_bad_rows(self, rng):
        map_ = a_map(rng)
        with pytest.raises(ValueError, match="StitchingMap needs rows of 4 dimensions; got 3"):
            map_(np.ones((2, 3)))
        with pytest.raises(ValueError, match="StitchingMap needs a 2-D array"):
            map_(np.ones(4))
        with pytest.raises(TypeError, match="StitchingMap needs an array of real numbers"):
            map_([["a"] * 4])
        with pytest.raises(
            ValueError, match="StitchingMap: mapped rows overflow float16; give rows of a wider"
        ):
            StitchingMap((*map_.layers[:2], AffineMap.of(map_.layers[2].matrix, np.full(5, 1e5))))(
                np.ones((3, 4), np.float16)
            )

    @pytest.mark.parametrize(
        "shapes",
        [
            ((4, 8), (8, 8), (4, 5)),
            ((4, 6), (6, 6), (6, 5)),
            ((4, 8), (8, 4), (4, 5)),
            ((4, 2), (2, 2), (2, 4)),
        ],
    )
    def test_layers_that_do_not_fit(self, shapes):
        with pytest.raises(
            ValueError, match=r"dim_source → k·dim_source → k·dim_source → dim_target; got 4 → "
        ):
            StitchingMap(tuple(AffineMap.of(np.ones(shape)) for shape in shapes))

    def test_layers_that_are_none(self):
        layer = AffineMap.of(np.eye(2))
        with pytest.raises(TypeError, match="three layers, each an AffineMap; got AffineMap, AffineMap"):
            StitchingMap((layer, layer))
        with pytest.raises(TypeError, match="each an AffineMap; got AffineMap, Normalize, AffineMap"):
            StitchingMap((layer, Normalize(), layer))

    def test_it_is_immutable(self, rng):
        map_ = a_map(rng)
        with pytest.raises(AttributeError):
            map_.layers = ()
        with pytest.raises(ValueError, match="read-only"):
            map_.layers[0].matrix[0, 0] = 1


class TestFile:
    @pytest.mark.parametrize("evidence", [None, EVIDENCE, StitchingEvidence(9, 1, 2, 1, 0.5, 0.75, 0.1)])
    def test_round_trip_is_exact(self, rng, tmp_path, evidence):
        map_, path = a_map(rng, evidence=evidence), tmp_path / "m.safetensors"
        map_.save(path, source="old", target="new", dataset="ü")
        for loaded in (StitchingMap.load(path), load_map(path)):
            assert isinstance(loaded, StitchingMap)
            for one, other in zip(loaded.layers, map_.layers, strict=True):
                for name in ("source_mean", "matrix", "target_mean"):
                    np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
            assert (loaded.evidence, loaded.method) == (evidence, "stitching")
        header = latalign.read_header(path)
        assert (header.kind, header.format, header.dim_source, header.dim_target) == ("stitching", 1, 4, 5)
        assert (header.source, header.target, header.dataset) == ("old", "new", "ü")
        first = path.read_bytes()
        loaded.save(path, source="old", target="new", dataset="ü")
        assert path.read_bytes() == first

    def test_the_kinds_are_told_apart(self, rng, tmp_path):
        learned, affine, relative = (tmp_path / name for name in ("learned", "affine", "relative"))
        a_map(rng).save(learned)
        AffineMap.of(np.eye(2)).save(affine)
        RelativeMap(np.eye(2)).save(relative)
        with pytest.raises(
            ValueError, match=r"kind 'stitching', not 'affine'.*with latalign\.StitchingMap\.load"
        ):
            AffineMap.load(learned)
        with pytest.raises(
            ValueError, match=r"kind 'affine', not 'stitching'.*with latalign\.AffineMap\.load"
        ):
            StitchingMap.load(affine)
        with pytest.raises(ValueError, match=r"kind 'relative', not 'stitching'"):
            StitchingMap.load(relative)
        kinds = [type(load_map(path)) for path in (learned, affine, relative)]
        assert kinds == [StitchingMap, AffineMap, RelativeMap]

    @pytest.fixture
    def changed(self, rng, tmp_path):
        """Save a map, change its tensors or its header, and return the path."""

        def changed(tensors=None, header=None):
            path = tmp_path / "m.safetensors"
            a_map(rng).save(path)
            with safe_open(path, framework="numpy") as file:
                record = json.loads(file.metadata()["latalign"])
                values = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            values = {name: value for name, value in (values | (tensors or {})).items() if value is not None}
            save_file(values, path, {"latalign": json.dumps(record | (header or {}))})
            return path

        return changed

    @pytest.mark.parametrize(
        ("tensors", "message"),
        [
            ({"layer_2.matrix": np.ones((12, 3))}, r"layer_2\.matrix should be float64 of shape \(12, 12\)"),
            ({"layer_1.matrix": np.ones(3)}, r"layer_1\.matrix should be float64 of shape \(4, 'hidden'\)"),
            ({"layer_3.matrix": np.ones((12, 5), np.float32)}, "it is float32"),
            ({"layer_3.target_mean": np.full(5, np.nan)}, "target_mean has NaN or infinity"),
            ({"layer_1.source_mean": None}, "it holds the tensors"),
            ({"layer_4.matrix": np.ones((2, 2))}, "it holds the tensors"),
        ],
    )
    def test_unsound_tensors(self, changed, tensors, message):
        with pytest.raises(ValueError, match=message):
            load_map(changed(tensors))

    def test_hidden_layers_that_are_no_multiple_of_the_source(self, changed):
        tensors = {
            f"layer_{number}.{name}": np.ones(6) for number, name in ((1, "target_mean"), (2, "source_mean"))
        }
        tensors |= {
            f"layer_{number}.{name}": np.ones(6) for number, name in ((2, "target_mean"), (3, "source_mean"))
        }
        tensors |= {
            "layer_1.matrix": np.ones((4, 6)),
            "layer_2.matrix": np.ones((6, 6)),
            "layer_3.matrix": np.ones((6, 5)),
        }
        with pytest.raises(ValueError, match=r"not a sound map file: .*got 4 → 6, 6 → 6, 6 → 5"):
            load_map(changed(tensors))

    @pytest.mark.parametrize(
        ("header", "message"),
        [
            ({"format": 3}, "has map format 3"),
            ({"kind": "forest"}, "kind 'forest'; this latalign .* reads 'affine', 'stitching'"),
            ({"evidence": {"anchors": 3}}, "evidence lacks a field"),
            (
                {"evidence": EVIDENCE.to_json() | {"epochs": 1.5}},
                r"evidence\.epochs has the wrong type, float",
            ),
            (
                {"evidence": EVIDENCE.to_json() | {"best_epoch": -1}},
                r"evidence\.best_epoch is less than zero",
            ),
            ({"evidence": EVIDENCE.to_json() | {"more": 1}}, "unknown fields: more"),
            ({"dim_source": 3}, r"layer_1\.source_mean should be float64 of shape \(3,\)"),
        ],
    )
    def test_unsound_header(self, changed, header, message):
        with pytest.raises(ValueError, match=message):
            load_map(changed(header=header))

    def test_truncated(self, changed):
        path = changed()
        whole = path.read_bytes()
        for cut in (0, 8, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:cut])
            with pytest.raises(ValueError, match="not a map file, or it is truncated"):
                StitchingMap.load(path)
        with pytest.raises(FileNotFoundError, match="there is no map file"):
            StitchingMap.load(path.with_name("none"))

    def test_a_write_that_fails_leaves_what_was_there(self, changed, monkeypatch, rng):
        path = changed()
        before = path.read_bytes()
        monkeypatch.setattr(
            "os.fsync", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(OSError, match="the disk is full"):
            a_map(rng).save(path)
        assert path.read_bytes() == before
        assert len(list(path.parent.iterdir())) == 1


class TestRowsOnDisk:
    @pytest.mark.parametrize("batch_rows", [1, 700, None])
    def test_apply_file(self, rng, tmp_path, batch_rows):
        map_ = a_map(rng)
        rows = rng.normal(size=(1500, 4)).astype(np.float32)
        np.save(tmp_path / "x.npy", rows)
        done_ = apply_file(map_, tmp_path / "x.npy", tmp_path / "y.npy", batch_rows=batch_rows)
        assert (done_.rows, done_.dim_source, done_.dim_target) == (1500, 4, 5)
        out = np.load(tmp_path / "y.npy")
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, map_(rows), rtol=1e-4, atol=1e-3)

    def test_bad_rows_of_a_file_leave_nothing(self, rng, tmp_path):
        rows = rng.normal(size=(1500, 4))
        rows[1400] = -np.inf
        np.save(tmp_path / "x.npy", rows)
        with pytest.raises(
            ValueError, match=r"1 of 1500 rows contain NaN or infinity \(the first is row 1400\)"
        ):
            apply_file(a_map(rng), tmp_path / "x.npy", tmp_path / "y.npy")
        assert not (tmp_path / "y.npy").exists()


class TestCommands:
    @pytest.fixture
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        rng = np.random.default_rng(0)
        map_ = a_map(rng)
        map_.save("map.safetensors", source="old")
        rows = rng.normal(size=(60, 4))
        np.save("x.npy", rows)
        np.save("y.npy", map_(rows))

    def test_inspect(self, folder):
        text = done(run("inspect", "map.safetensors"))
        for words in (
            "stitching",
            "4 → 5",
            "2 of 12 (k = 3)",
            "40, of which the best was 30",
            "0.25",
            "1.5 s",
            "old",
        ):
            assert words in text
        record = done_json(run("inspect", "map.safetensors", "--json"))
        assert (record["kind"], record["format"]) == ("stitching", 1)
        assert StitchingEvidence.from_json(record["evidence"]) == EVIDENCE

    def test_inspect_without_evidence(self, folder):
        a_map(np.random.default_rng(0), evidence=None).save("bare.safetensors")
        text = done(run("inspect", "bare.safetensors"))
        assert "k = 3" in text
        assert "epochs" not in text

    def test_apply_and_evaluate(self, folder):
        assert "60 rows, 4 → 5 dimensions" in done(run("apply", "map.safetensors", "x.npy", "-o", "out.npy"))
        np.testing.assert_allclose(np.load("out.npy"), np.load("y.npy"))
        record = done_json(run("evaluate", "map.safetensors", "x.npy", "y.npy", "--json"))
        assert record["mapped"]["mse"] < 1e-20
        refused(run("apply", "map.safetensors", "y.npy", "-o", "no.npy"), 1, "the map takes 4")


def test_no_torch_is_needed(rng, tmp_path):
    a_map(rng).save(tmp_path / "m")
    code = (
        "import sys, numpy as np, latalign\n"
        f"print(latalign.load_map({str(tmp_path / 'm')!r})(np.ones((2, 4))).shape, 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "(2, 5) False"
