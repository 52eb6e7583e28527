"""What one format hands to another: other columns, ids, streams, addresses."""

import asyncio
import signal
import sys
import time
from itertools import product

import numpy as np
import pytest

from foreign_files import GRIDS, IDS, ROWS, TABLES, a_map, in_grid, in_table, of_table, pa, pq, table
from latalign import AffineMap
from latalign.io.arrays import locate, open_rows, write_rows
from latalign.io.protocol import Block, Shape
from latalign.on_disk import apply_file


@pytest.mark.parametrize(("into", "out"), list(product(TABLES, TABLES)))
def test_the_other_columns_go_from_table_to_table(tmp_path, into, out):
    apply_file(a_map(), in_table(tmp_path / f"in{into}", table()), tmp_path / f"out{out}", batch_rows=33)
    found = of_table(tmp_path / f"out{out}")
    assert found.drop(["v"]).equals(table().drop(["v"]))
    assert found.schema.field("v").type == pa.list_(pa.float32(), 2)
    np.testing.assert_allclose(open_rows(tmp_path / f"out{out}").load(), a_map()(ROWS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("into", "out"), [(".h5", ".h5"), (".zarr", ".zarr"), (".zarr", ".h5")])
def test_the_arrays_beside_go_along(tmp_path, into, out):
    apply_file(a_map(), in_grid(tmp_path / f"in{into}"), tmp_path / f"out{out}", batch_rows=33)
    before, after = open_rows(tmp_path / f"in{into}"), open_rows(tmp_path / f"out{out}")
    assert after.location.name == "group/v"
    assert set(after.beside) == set(before.beside) == {"id", "year"}
    for name in ("id", "year"):
        np.testing.assert_array_equal(after.ids(name), before.ids(name))
    np.testing.assert_allclose(after.load(), a_map()(ROWS), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("suffix", TABLES + GRIDS)
def test_ids_stand_beside_the_rows(tmp_path, suffix):
    path = tmp_path / f"in{suffix}"
    reader = open_rows(in_table(path, table()) if suffix in TABLES else in_grid(path))
    assert list(reader.ids("id")) == (list(range(90)) if suffix == ".zarr" else IDS)
    with pytest.raises(ValueError, match=r"no column 'none'|no array 'none'"):
        reader.ids("none")


@pytest.mark.parametrize("suffix", GRIDS)
def test_an_array_is_named_or_the_only_one(tmp_path, suffix):
    path = in_grid(tmp_path / f"in{suffix}")
    np.testing.assert_array_equal(open_rows(path).load(), ROWS)
    np.testing.assert_array_equal(open_rows(f"{path}:group/v").load(), ROWS)
    with pytest.raises(ValueError, match=r"holds an array of shape \(3,\)"):
        open_rows(f"{path}:bias")
    with pytest.raises(ValueError, match="has no array 'w'; it has: bias"):
        open_rows(f"{path}:w")


def test_a_zarr_array_alone(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(str(tmp_path / "a.zarr"), data=ROWS, chunks=(20, 3))
    np.testing.assert_array_equal(open_rows(tmp_path / "a.zarr").load(), ROWS)


def test_a_zarr_chunk_that_is_cut_is_noticed(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(str(tmp_path / "a.zarr"), data=ROWS, chunks=(20, 3))
    chunk = sorted(path for path in (tmp_path / "a.zarr" / "c").rglob("*") if path.is_file())[1]
    chunk.write_bytes(chunk.read_bytes()[:9])
    with pytest.raises(ValueError, match="damaged or truncated"):
        list(open_rows(tmp_path / "a.zarr").blocks(20))


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="timers of POSIX systems")
def test_zarr_writes_nothing_more_once_it_was_interrupted(tmp_path, monkeypatch):
    storage = pytest.importorskip("zarr.storage")
    put = storage.LocalStore.set

    async def slow(*arguments):
        await asyncio.sleep(0.3)
        await put(*arguments)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with (  # noqa: PT012 - where it is interrupted is not known
            pytest.raises(KeyboardInterrupt),
            write_rows(tmp_path / "a.zarr", Shape(*ROWS.shape, ROWS.dtype)) as writer,
        ):
            monkeypatch.setattr(storage.LocalStore, "set", slow)
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            writer.append(Block(ROWS))
    finally:
        signal.signal(signal.SIGALRM, before)
    time.sleep(0.5)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.parametrize("row", [0, 47, 89])
def test_a_null_row_is_named(tmp_path, suffix, row):
    rows = [None if k == row else list(map(float, values)) for k, values in enumerate(ROWS)]
    found = pa.table({"v": pa.array(rows, pa.list_(pa.float32(), 3))})
    with pytest.raises(ValueError, match=rf"row {row} (is null|has a null)"):
        list(open_rows(in_table(tmp_path / f"a{suffix}", found)).blocks(20))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_ragged_row_is_named_where_reading_begins_later(tmp_path, suffix):
    rows = [list(map(float, values)) for values in ROWS]
    rows[47] = [1.0]
    path = in_table(tmp_path / f"a{suffix}", pa.table({"v": pa.array(rows, pa.list_(pa.float32()))}))
    reader = open_rows(path)
    assert sum(len(block.rows) for block in reader.blocks(20, 48, 90)) == 42
    with pytest.raises(ValueError, match="row 47 has 1 values, those before it 3"):
        list(reader.blocks(20, 45, 50))


class TestStreams:
    @pytest.fixture(params=["pyarrow", "polars", "duckdb", "once"])
    def source(self, request):
        found = table()
        if request.param == "polars":
            return pytest.importorskip("polars").from_arrow(found)
        if request.param == "duckdb":
            return pytest.importorskip("duckdb").sql("SELECT * FROM found")
        return found if request.param == "pyarrow" else found.to_reader(20)

    def test_they_are_rows(self, source):
        reader = open_rows(source)
        assert (reader.rows, reader.dim, reader.dtype) == (None, 3, np.float32)
        np.testing.assert_array_equal(np.concatenate([block.rows for block in reader.blocks(33)]), ROWS)

    @pytest.mark.parametrize("out", [".npy", ".safetensors", ".parquet"])
    def test_they_are_mapped(self, source, tmp_path, out):
        done = apply_file(a_map(), source, tmp_path / f"out{out}", batch_rows=33)
        assert done.rows == 90
        np.testing.assert_allclose(
            open_rows(tmp_path / f"out{out}").load(), a_map()(ROWS), rtol=1e-5, atol=1e-6
        )

    def test_what_is_gone_is_not_read_again(self):
        reader = open_rows(table().to_reader(20))
        list(reader.blocks(20))
        with pytest.raises(ValueError, match="can be read once only"):
            list(reader.blocks(20))

    def test_columns_cannot_be_named(self):
        two = table().append_column("w", table()["v"])
        with pytest.raises(ValueError, match=r"Leave out the others: table\.select\(\[NAME\]\)$"):
            open_rows(two)
        assert open_rows(two.select(["v", "id"])).dim == 3

    @pytest.mark.parametrize("view", [pa.list_view, pa.large_list_view])
    def test_views_of_lists(self, tmp_path, view):
        rows = ROWS.tolist()
        views = pa.table({"v": pa.array(rows, view(pa.float32())), "id": IDS})
        assert open_rows(views).dim == 3
        np.testing.assert_array_equal(np.concatenate([b.rows for b in open_rows(views).blocks(20)]), ROWS)
        apply_file(a_map(), views, tmp_path / "out.parquet")
        assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == IDS
        np.testing.assert_allclose(open_rows(tmp_path / "out.parquet").load(), a_map()(ROWS), atol=1e-6)
        rows[47] = rows[47][:2]
        with pytest.raises(ValueError, match="row 47 has 2 values, those before it 3"):
            open_rows(pa.table({"v": pa.array(rows, view(pa.float32()))})).load()

    def test_tensors_are_told_what_to_do(self):
        tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(ROWS)
        with pytest.raises(
            ValueError, match=r"Of arrow\.fixed_shape_tensor give the lists .*combine_chunks\(\)\.storage"
        ):
            open_rows(pa.table({"v": tensors}))
        found = pa.table({"v": pa.table({"v": tensors})["v"].combine_chunks().storage})
        np.testing.assert_array_equal(open_rows(found).load(), ROWS)

    def test_an_empty_one(self):
        with pytest.raises(ValueError, match="is empty"):
            list(open_rows(table(ROWS[:0], []).to_reader()).blocks(5))
        with pytest.raises(ValueError, match="is empty"):
            open_rows(pa.table({"v": pa.array([], pa.list_(pa.float32()))}))


class TestAddresses:
    @pytest.fixture
    def address(self):
        pytest.importorskip("upath")
        fsspec = pytest.importorskip("fsspec")
        yield "memory://rows"
        store = fsspec.filesystem("memory")
        if store.exists("/rows"):
            store.rm("/rows", recursive=True)

    @pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
    def test_rows_go_there_and_come_back(self, address, tmp_path, suffix):
        in_table(tmp_path / "in.parquet", table())
        apply_file(a_map(), tmp_path / "in.parquet", f"{address}/out{suffix}", batch_rows=33)
        reader = open_rows(f"{address}/out{suffix}:v")
        np.testing.assert_allclose(reader.load(), a_map()(ROWS), rtol=1e-5, atol=1e-6)
        assert list(reader.ids("id")) == IDS
        apply_file(AffineMap.of(np.eye(2)), f"{address}/out{suffix}", tmp_path / "back.npy")
        np.testing.assert_array_equal(np.load(tmp_path / "back.npy"), reader.load())

    def test_nothing_is_left_there_when_it_fails(self, address, tmp_path):
        bad = ROWS.copy()
        bad[80] = np.nan
        with pytest.raises(ValueError, match="1 of 90 rows"):
            apply_file(a_map(), in_table(tmp_path / "in.parquet", table(bad)), f"{address}/out.parquet")
        import fsspec

        store = fsspec.filesystem("memory")
        assert not store.exists("/rows") or store.ls("/rows") == []

    def test_a_folder_and_a_pattern_there(self, address, tmp_path):
        for k, part in enumerate(np.array_split(np.arange(90), 3)):
            in_table(tmp_path / "in.parquet", table(ROWS[part], [IDS[i] for i in part]))
            apply_file(AffineMap.of(np.eye(3)), tmp_path / "in.parquet", f"{address}/{k}.parquet")
        for source in (address, f"{address}/*.parquet"):
            np.testing.assert_array_equal(open_rows(source).load(), ROWS)

    def test_zarr_there(self, address):
        zarr = pytest.importorskip("zarr")
        zarr.create_array(f"{address}/a.zarr", data=ROWS)
        np.testing.assert_array_equal(open_rows(f"{address}/a.zarr").load(), ROWS)

    @pytest.mark.parametrize("suffix", [".zarr", ".lance"])
    def test_folders_are_written_here(self, address, tmp_path, suffix):
        np.save(tmp_path / "in.npy", ROWS)
        with pytest.raises(
            ValueError, match=rf"cannot write memory://.*a{suffix}: .*one of .parquet, .arrow"
        ):
            apply_file(a_map(), tmp_path / "in.npy", f"{address}/a{suffix}")

    def test_what_is_mapped_must_be_here(self, address):
        with pytest.raises(ValueError, match=r"\.npy files are read and written on this machine only"):
            locate(f"{address}/x.npy")
        with pytest.raises(ValueError, match=r"\.h5 files are read and written on this machine only"):
            locate(f"{address}/x.h5")

    @pytest.mark.parametrize("suffix", [".npy", ".arrow"])
    def test_an_address_of_this_machine_is_a_path(self, tmp_path, suffix):
        path = in_table(tmp_path / "a b.arrow", table()) if suffix == ".arrow" else tmp_path / "a b.npy"
        if suffix == ".npy":
            np.save(path, ROWS)
        for address in (path.as_uri(), f"file://localhost{path}"):
            assert locate(address).path == path
            np.testing.assert_array_equal(open_rows(address).load(), ROWS)

    def test_the_missing_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "upath", None)
        with pytest.raises(ModuleNotFoundError, match=r"s3:// need upath.*pip install 'latalign\[remote\]'"):
            locate("s3://bucket/x.parquet")


@pytest.mark.parametrize(
    ("suffix", "module", "extra"),
    [
        (".parquet", "pyarrow", "parquet"),
        (".arrow", "pyarrow", "arrow"),
        (".lance", "lance", "lance"),
        (".h5", "h5py", "hdf5"),
        (".zarr", "zarr", "zarr"),
    ],
)
def test_the_missing_extra_is_named(tmp_path, monkeypatch, suffix, module, extra):
    path = tmp_path / f"a{suffix}"
    in_table(path, table()) if suffix in TABLES else in_grid(path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=rf"{module}, .*pip install 'latalign\[{extra}\]'"):
        open_rows(path)
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'latalign\[{extra}\]'"):
        write_rows(tmp_path / f"b{suffix}", Shape(1, 1, np.dtype("float32"))).__enter__()


@pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".arrow", ".parquet", ".h5"])
def test_a_file_that_is_cut_while_it_is_read_is_noticed(tmp_path, suffix):
    if suffix == ".h5":
        pytest.importorskip("h5py")
    path = tmp_path / f"a{suffix}"
    rows = np.random.default_rng(0).normal(size=(4000, 64))
    with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
        for part in np.array_split(rows, 40):
            writer.append(Block(part))

    def cut(done, total):
        if done == 200:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 3)

    with pytest.raises(ValueError, match=r"truncated|ended early|changed by another program"):
        apply_file(AffineMap.of(np.eye(64)), path, tmp_path / "out.npy", batch_rows=100, progress=cut)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".npy", ".arrow", ".parquet"])
def test_a_file_that_is_written_anew_while_it_is_read_is_noticed(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with write_rows(path, Shape(*ROWS.shape, ROWS.dtype)) as writer:
        writer.append(Block(ROWS))

    def other(done, total):
        if done == 60:
            with write_rows(path, Shape(*ROWS.shape, ROWS.dtype)) as writer:
                writer.append(Block(ROWS + 1))

    with pytest.raises(ValueError, match="was changed by another program while it was read"):
        apply_file(a_map(), path, tmp_path / "out.npy", batch_rows=30, progress=other)
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
