"""Work that is shared out gives the bits of one thread, whoever does it, and in whatever order."""

import pickle
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import latalign
from latalign import dealing, moments, pairing, parts
from latalign.io.arrays import FORMATS, open_rows, write_rows
from latalign.io.protocol import Block, Shape
from problems import pairs

ROWS = 6000
LIBRARY = {".parquet": "pyarrow", ".arrow": "pyarrow", ".feather": "pyarrow", ".h5": "h5py", ".hdf5": "h5py"}
LIBRARY |= {".lance": "lance", ".zarr": "zarr"}


class Elsewhere:
    """Does everything in an order of its own, by what comes out of pickles, and some of it twice."""

    def __init__(self, seed=0):
        self.rng = np.random.default_rng(seed)
        self.done = 0

    def map(self, fn, items):
        calls = [pickle.dumps((fn, item)) for item in items]
        results = {}
        for k in (*self.rng.permutation(len(calls)), 0):
            function, item = pickle.loads(calls[k])
            results[k] = pickle.dumps(function(item))
            self.done += 1
        for k in range(len(calls)):
            yield pickle.loads(results[k])


@pytest.fixture
def short(monkeypatch):
    """Nothing is small enough to be loaded, and blocks and parts are short."""
    monkeypatch.setattr(moments, "_BLOCK_VALUES", 1)
    monkeypatch.setattr(pairing, "_LOADED_BYTES", 0)
    monkeypatch.setattr(dealing, "_PART_ROWS", 1024)
    monkeypatch.setattr(parts, "_PART_BYTES", 1000 * 16)


def written(path, rows):
    if path.suffix in LIBRARY:
        pytest.importorskip(LIBRARY[path.suffix])
    with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
        writer.append(Block(rows))
    return path


def contents(place):
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


def same(one, two):
    assert one.map.method == two.map.method
    assert one.map.matrix.tobytes() == two.map.matrix.tobytes()
    assert one.map.target_mean.tobytes() == two.map.target_mean.tobytes()
    assert one.map.evidence == two.map.evidence
    assert one.heldout == two.heldout


@pytest.mark.usefixtures("short")
class TestFit:
    @pytest.mark.parametrize(
        ("method", "more"),
        [
            ("auto", {}),
            ("auto", {"scoring": "recall@1"}),
            ("affine", {"precision": "fast"}),
            ("affine", {"holdout": 0.0}),
            ("low_rank", {}),
            ("retrieval", {}),
        ],
    )
    def test_the_bits_are_those_of_one_process(self, rng, tmp_path, method, more):
        X, Y = pairs(rng, ROWS, 5, 4, dtype=np.float32)
        x, y = written(tmp_path / "x.npy", X), written(tmp_path / "y.npy", Y)
        engine, told = Elsewhere(int(rng.integers(99))), []
        shared = latalign.fit_files(
            x, y, method, engine=engine, progress=lambda *now: told.append(now), **more
        )
        same(shared, latalign.fit_files(x, y, method, threads=1, **more))
        assert engine.done == 1 + len(told) > 4
        assert told[-1] == (ROWS, ROWS)

    @pytest.mark.parametrize("suffix", FORMATS)
    def test_every_format_can_be_sent(self, rng, tmp_path, suffix):
        X, Y = pairs(rng, ROWS, 5, 4, dtype=np.float32)
        x, y = written(tmp_path / f"x{suffix}", X), written(tmp_path / "y.npy", Y)
        same(
            latalign.fit_files(x, y, "ridge", engine=Elsewhere()),
            latalign.fit_files(x, y, "ridge", threads=1),
        )

    def test_a_folder_and_a_relative_path(self, rng, tmp_path, monkeypatch):
        X, Y = pairs(rng, ROWS, 5, 4, dtype=np.float32)
        (tmp_path / "x").mkdir()
        for k, part in enumerate(np.split(X, [100, 101, 3000])):
            written(tmp_path / "x" / f"{k}.npy", part)
        written(tmp_path / "y.npy", Y)
        alone = latalign.fit_files(tmp_path / "x", tmp_path / "y.npy", "ridge", threads=1)
        monkeypatch.chdir(tmp_path)

        class Away(Elsewhere):
            def map(self, fn, items):
                with monkeypatch.context() as there:
                    (tmp_path / "other").mkdir(exist_ok=True)
                    there.chdir(tmp_path / "other")
                    yield from list(super().map(fn, items))

        same(latalign.fit_files("x", "y.npy", "ridge", engine=Away()), alone)

    def test_a_bad_value_is_told_of_by_its_part(self, rng, tmp_path):
        X, Y = pairs(rng, ROWS, 5, 4)
        X[[2050, 2060], 2] = np.nan
        x, y = written(tmp_path / "x.npy", X), written(tmp_path / "y.npy", Y)
        expected = (
            r"x\.npy needs finite values; 2 of the rows 2048 to 3072 contain NaN or infinity .*row 2050\)"
        )
        with pytest.raises(ValueError, match=expected):
            latalign.fit_files(x, y, "affine", engine=Elsewhere())

    def test_a_file_that_changes_meanwhile(self, rng, tmp_path):
        X, Y = pairs(rng, ROWS, 5, 4)
        x, y = written(tmp_path / "x.npy", X), written(tmp_path / "y.npy", Y)
        with pytest.raises(ValueError, match=r"x\.npy was changed by another program while it was read"):
            latalign.fit_files(x, y, "affine", engine=Elsewhere(), progress=lambda *_: np.save(x, X))

    def test_a_file_that_is_cut_meanwhile(self, rng, tmp_path):
        X, Y = pairs(rng, ROWS, 5, 4)
        x, y = written(tmp_path / "x.npy", X), written(tmp_path / "y.npy", Y)

        class Cutting(Elsewhere):
            def map(self, fn, items):
                x.write_bytes(x.read_bytes()[:-5000])
                return super().map(fn, items)

        with pytest.raises(ValueError, match=r"x\.npy"):
            latalign.fit_files(x, y, "affine", engine=Cutting())

    def test_what_cannot_be_shared_out(self, rng, tmp_path):
        X, Y = pairs(rng, ROWS, 5, 4)
        x, y = written(tmp_path / "x.npy", X), written(tmp_path / "y.npy", Y)
        with pytest.raises(ValueError, match="an engine reads pairs by their order"):
            latalign.fit_files(x, y, id_column="id", engine=Elsewhere())
        pa = pytest.importorskip("pyarrow")
        with pytest.raises(ValueError, match="an engine needs sources that its workers can open"):
            latalign.fit_files(pa.table({"v": X.tolist()}), y, engine=Elsewhere())

    def test_few_rows_need_no_engine(self, rng, tmp_path, monkeypatch):
        monkeypatch.undo()
        X, Y = pairs(rng, 100, 5, 4)
        x, y = written(tmp_path / "x.npy", X), written(tmp_path / "y.npy", Y)
        engine = Elsewhere()
        same(latalign.fit_files(x, y, engine=engine), latalign.fit_files(x, y))
        assert engine.done == 0


def a_map():
    rng = np.random.default_rng(3)
    return latalign.AffineMap(rng.normal(size=6), rng.normal(size=(6, 4)), rng.normal(size=4))


@pytest.mark.usefixtures("short")
class TestApply:
    @pytest.mark.parametrize("suffix", [".npy", ".parquet", ".safetensors", ".h5", ".arrow"])
    def test_one_file_becomes_the_same_files(self, rng, tmp_path, suffix):
        x = written(tmp_path / f"x{suffix}", rng.normal(size=(ROWS, 6)).astype(np.float32))
        engine = Elsewhere()
        done = latalign.apply_folder(a_map(), x, tmp_path / "one", threads=1)
        shared = latalign.apply_folder(a_map(), x, tmp_path / "two", engine=engine)
        assert engine.done == 1 + done.parts > 4
        assert (shared.rows, shared.parts) == (done.rows, done.parts)
        assert contents(tmp_path / "one") == contents(tmp_path / "two")

    def test_a_folder_keeps_its_names_and_goes_on(self, rng, tmp_path):
        (tmp_path / "x").mkdir()
        X = rng.normal(size=(ROWS, 6)).astype(np.float32)
        for k, part in enumerate(np.split(X, [100, 101, 3000])):
            written(tmp_path / "x" / f"{k}.npy", part)
        good = (tmp_path / "x" / "3.npy").read_bytes()
        bad = X[3000:].copy()
        bad[7] = np.inf
        written(tmp_path / "x" / "3.npy", bad)

        class InOrder(Elsewhere):
            def map(self, fn, items):
                for item in items:
                    self.done += 1
                    yield fn(item)

        with pytest.raises(ValueError, match=r"3\.npy needs finite values; 1 of 3000 rows"):
            latalign.apply_folder(a_map(), tmp_path / "x", tmp_path / "out", engine=InOrder())
        assert not (tmp_path / "out").exists()
        (tmp_path / "x" / "3.npy").write_bytes(good)
        engine = InOrder()
        latalign.apply_folder(a_map(), tmp_path / "x", tmp_path / "out", engine=engine, resume=True)
        assert engine.done == 1
        latalign.apply_folder(a_map(), tmp_path / "x", tmp_path / "one", threads=1)
        assert contents(tmp_path / "one") == contents(tmp_path / "out")
        np.testing.assert_allclose(open_rows(tmp_path / "out").load(), a_map()(X), rtol=1e-4, atol=1e-4)


def test_processes_of_the_standard_library(tmp_path, monkeypatch):
    # The workers know nothing of what is patched: it is this process that says what a part is.
    monkeypatch.setattr(pairing, "_LOADED_BYTES", 0)
    monkeypatch.setattr(dealing, "_PART_ROWS", 8192)
    X, Y = pairs(np.random.default_rng(5), 30_000, 128, 96, dtype=np.float32)
    x, y = written(tmp_path / "x.npy", X), written(tmp_path / "y.npy", Y)
    told = []
    with ProcessPoolExecutor(2) as engine:
        shared = latalign.fit_files(
            x, y, "affine", precision="fast", engine=engine, progress=lambda *now: told.append(now)
        )
    same(shared, latalign.fit_files(x, y, "affine", precision="fast", threads=1))
    assert len(told) == len(dealing.part_bounds(30_000, (128, 96), "fast")) > 2
