"""Many files that are one sequence of rows: folders, patterns, and folders of Hugging Face datasets."""

import json
import sys

import numpy as np
import pytest

from foreign_files import GRIDS, IDS, ROWS, a_map, in_table, pa, pq, table
from latalign.io.arrays import exists, locate, open_rows, write_rows
from latalign.io.protocol import Block, Shape
from latalign.on_disk import apply_file


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
