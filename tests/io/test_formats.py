"""What one format hands to another: other columns, ids, folders, patterns, datasets, streams, addresses."""

import asyncio
import json
import signal
import sys
import time
from itertools import product

import numpy as np
import pytest

from latalign import AffineMap
from latalign.io.arrays import exists, locate, open_rows, write_rows
from latalign.io.protocol import Block, Shape
from latalign.on_disk import apply_file

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

ROWS = np.random.default_rng(0).normal(size=(90, 3)).astype(np.float32)
IDS = [f"t{k}" for k in range(90)]
TABLES = [".parquet", ".arrow", ".lance"]
GRIDS = [".h5", ".zarr"]


def table(rows=ROWS, ids=IDS):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return pa.table({"id": ids, "v": lists, "year": range(len(rows))})


def in_table(path, found):
    """Write a table as the format's own library does."""
    if path.suffix == ".parquet":
        pq.write_table(found, path, row_group_size=40)
    elif path.suffix == ".arrow":
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, found.schema) as into:
            into.write_table(found, 40)
    else:
        pytest.importorskip("lance").write_dataset(found, str(path), max_rows_per_group=40)
    return path


def of_table(path):
    if path.suffix == ".parquet":
        return pq.read_table(path)
    if path.suffix == ".arrow":
        return pa.ipc.open_file(path).read_all()
    return pytest.importorskip("lance").dataset(str(path)).to_table()


def in_grid(path, rows=ROWS, ids=IDS):
    if path.suffix == ".h5":
        with pytest.importorskip("h5py").File(path, "w") as file:
            file["group/v"] = rows
            file["id"] = ids
            file["year"] = np.arange(len(rows))
            file["bias"] = np.ones(3)
    else:
        group = pytest.importorskip("zarr").open_group(str(path), mode="w")
        group.create_array("group/v", data=rows, chunks=(25, 2))
        group.create_array("id", data=np.arange(len(rows)))
        group.create_array("year", data=np.arange(len(rows)))
        group.create_array("bias", data=np.ones(3))
    return path


def a_map(width=2):
    return AffineMap.of(np.random.default_rng(1).normal(size=(3, width)))


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


class TestFolders:
    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "many").mkdir()
        for k, (start, stop) in enumerate([(0, 40), (40, 41), (41, 90)]):
            in_table(tmp_path / "many" / f"part-{k}.parquet", table(ROWS[start:stop], IDS[start:stop]))
        (tmp_path / "many" / "_SUCCESS").touch()
        return tmp_path / "many"

    @pytest.mark.parametrize(
        "named", ["{}", "{}:v", "{}/*.parquet", "{}/part-?.parquet:v", "{}/../m*/*.parquet"]
    )
    @pytest.mark.parametrize("count", [7, 40, 500])
    def test_they_are_one_sequence_of_rows(self, folder, named, count):
        source = named.format(folder)
        assert exists(locate(source))
        reader = open_rows(source)
        assert (reader.rows, reader.dim, reader.dtype) == (90, 3, np.float32)
        np.testing.assert_array_equal(np.concatenate([block.rows for block in reader.blocks(count)]), ROWS)
        some = reader.blocks(count, 39, 60, beside=False)
        np.testing.assert_array_equal(np.concatenate([block.rows for block in some]), ROWS[39:60])
        assert list(reader.ids("id")) == IDS

    def test_into_one_file_the_columns_go_along(self, folder, tmp_path):
        apply_file(a_map(), folder, tmp_path / "one.parquet")
        found = pq.read_table(tmp_path / "one.parquet")
        assert found["id"].to_pylist() == IDS
        assert found["year"].to_pylist() == [*range(40), 0, *range(49)]

    def test_a_foreign_file_among_them_is_named(self, folder):
        (folder / "part-1.txt").write_text("not rows")
        with pytest.raises(
            ValueError, match=r"part-1\.txt is no file of rows .* by a pattern: '.*/\*\.parquet'"
        ):
            open_rows(folder)
        assert open_rows(f"{folder}/*.parquet").rows == 90

    def test_files_of_two_formats_are_refused(self, folder):
        np.save(folder / "z.npy", ROWS)
        with pytest.raises(ValueError, match=r"several formats, part-0\.parquet and z\.npy"):
            open_rows(folder)

    @pytest.mark.parametrize(
        ("rows", "extra", "words"),
        [
            (
                np.ones((2, 4), np.float32),
                {},
                r"has rows of 4 dimensions, float32; .*part-0\.parquet:v .* has 3",
            ),
            (np.ones((2, 3)), {}, "has rows of 3 dimensions, float64"),
            (ROWS[:2], {"more": [1, 2]}, r"part-3\.parquet has the columns .*more"),
        ],
    )
    def test_files_of_another_kind_are_named(self, folder, rows, extra, words):
        found = table(rows, ["a", "b"])
        for name, values in extra.items():
            found = found.append_column(name, pa.array(values))
        in_table(folder / "part-3.parquet", found)
        with pytest.raises(ValueError, match=words):
            open_rows(folder)

    @pytest.mark.parametrize("suffix", GRIDS)
    @pytest.mark.parametrize(
        ("other", "words"),
        [
            (
                np.arange(2.0),
                r"1\.\w+ has beside its rows year \(float64 \[\]\); .*0\.\w+ in .* year \(int64 \[\]\)",
            ),
            (np.zeros((2, 2), np.int64), r"year \(int64 \[2\]\)"),
            (np.arange(3), "1\\.\\w+ has beside its rows nothing"),
        ],
    )
    def test_arrays_of_another_kind_are_named(self, tmp_path, suffix, other, words):
        for number, year in enumerate((np.arange(2), other)):
            path = tmp_path / "many" / f"{number}{suffix}"
            path.parent.mkdir(exist_ok=True)
            if suffix == ".h5":
                with pytest.importorskip("h5py").File(path, "w") as file:
                    file["v"], file["year"] = ROWS[:2], year
            else:
                group = pytest.importorskip("zarr").open_group(str(path), mode="w")
                for name, values in (("v", ROWS[:2]), ("year", year)):
                    group.create_array(name, data=values)
        with pytest.raises(ValueError, match=words):
            open_rows(tmp_path / "many:v")

    def test_a_broken_file_is_named(self, folder):
        (folder / "part-1.parquet").write_bytes(b"PAR1 and then nothing")
        with pytest.raises(ValueError, match=r"part-1\.parquet is not a Parquet file, or it is truncated"):
            open_rows(folder)

    def test_an_id_that_stands_in_two_files_is_placed(self, folder):
        in_table(folder / "part-2.parquet", table(ROWS[41:], [*IDS[41:89], IDS[3]]))
        with pytest.raises(
            ValueError, match=r"t3 among them: in .*part-0\.parquet, row 3, and in .*part-2\.parquet, row 48"
        ):
            open_rows(folder).ids("id")

    def test_nothing_is_nothing(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match="there are no files in"):
            open_rows(tmp_path / "empty")
        with pytest.raises(FileNotFoundError, match="there is no file"):
            open_rows(f"{tmp_path}/*.parquet")
        assert not exists(locate(f"{tmp_path}/*.parquet"))

    @pytest.mark.parametrize("suffix", [".npy", ".safetensors", ".h5"])
    def test_of_other_formats(self, tmp_path, suffix):
        if suffix == ".h5":
            pytest.importorskip("h5py")
        (tmp_path / "many").mkdir()
        for k, part in enumerate(np.array_split(ROWS, 4)):
            with write_rows(tmp_path / "many" / f"{k}{suffix}", Shape(*part.shape, part.dtype)) as writer:
                writer.append(Block(part))
        reader = open_rows(tmp_path / "many")
        np.testing.assert_array_equal(reader.load(), ROWS)
        np.testing.assert_array_equal(np.concatenate([b.rows.copy() for b in reader.blocks(50)]), ROWS)


class TestDatasets:
    """Folders as `Dataset.save_to_disk` leaves them (its version 5 was looked at)."""

    @pytest.fixture
    def folder(self, tmp_path):
        (tmp_path / "data").mkdir()
        names = []
        for k, (start, stop) in enumerate([(0, 50), (50, 90)]):
            names.append(f"data-{k:05d}-of-00002.arrow")
            part = table(ROWS[start:stop], IDS[start:stop])
            with (
                pa.OSFile(str(tmp_path / "data" / names[-1]), "wb") as file,
                pa.ipc.new_stream(file, part.schema) as into,
            ):
                into.write_table(part, 20)
        state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0"}
        (tmp_path / "data" / "state.json").write_text(json.dumps(state))
        (tmp_path / "data" / "dataset_info.json").write_text("{}")
        return tmp_path / "data"

    @pytest.mark.parametrize("count", [7, 50, 500])
    def test_they_are_read_through_their_arrow_files(self, folder, count):
        reader = open_rows(folder)
        assert (reader.rows, reader.location.name) == (90, "v")
        np.testing.assert_array_equal(np.concatenate([block.rows for block in reader.blocks(count)]), ROWS)
        np.testing.assert_array_equal(
            np.concatenate([b.rows for b in reader.blocks(count, 45, 60)]), ROWS[45:60]
        )
        assert list(reader.ids("id")) == IDS
        assert "datasets" not in sys.modules

    def test_the_columns_go_along(self, folder, tmp_path):
        apply_file(a_map(), f"{folder}:v", tmp_path / "out.parquet")
        assert pq.read_table(tmp_path / "out.parquet")["id"].to_pylist() == IDS

    def test_a_missing_file_is_named(self, folder):
        (folder / "data-00001-of-00002.arrow").unlink()
        with pytest.raises(ValueError, match=r"data-00001-of-00002\.arrow is missing"):
            open_rows(folder)

    @pytest.mark.parametrize("kept", [8, 400, -8])
    def test_a_cut_file_is_noticed(self, folder, kept):
        path = folder / "data-00001-of-00002.arrow"
        path.write_bytes(path.read_bytes()[:kept])
        with pytest.raises(ValueError, match="truncated"):
            open_rows(folder)

    @pytest.mark.parametrize("state", ["", "[]", "{}", '{"_data_files": 3}'])
    def test_a_broken_list_of_files(self, folder, state):
        (folder / "state.json").write_text(state)
        with pytest.raises(ValueError, match=r"its state\.json is not whole"):
            open_rows(folder)

    def test_another_order_is_refused(self, folder):
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(
            json.dumps(state | {"_indices_data_files": [{"filename": "i.arrow"}]})
        )
        with pytest.raises(ValueError, match="flatten_indices"):
            open_rows(folder)

    def test_several_datasets_are_to_be_named(self, folder):
        (folder.parent / "dataset_dict.json").write_text('{"splits": ["data"]}')
        with pytest.raises(ValueError, match=r"holds several datasets. Name one of them: .*data"):
            open_rows(folder.parent)


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
        with pytest.raises(ValueError, match=r"\.npy files are mapped, so they need to be on this machine"):
            locate(f"{address}/x.npy")

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
