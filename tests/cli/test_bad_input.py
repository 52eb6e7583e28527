"""What every command says of bad input and of wrong calls, and that nothing is left."""

import os
import sys

import numpy as np
import pytest

import latalign
from calls import refused, run

# What a file may hold that is no rows, and what is said of it.
BAD_ROWS = {
    "nan": (lambda X: X + np.where(np.arange(len(X)) == 3, np.nan, 0)[:, None], "1 of 200 rows contain NaN"),
    "infinity": (lambda X: X * np.where(np.arange(len(X)) > 197, np.inf, 1)[:, None], "2 of 200 rows"),
    "one dimension": (lambda X: X[:, 0], "rows need a 2-D array"),
    "three dimensions": (lambda X: X[None], "rows need a 2-D array"),
    "zero rows": (lambda X: X[:0], "is empty"),
    "objects": (lambda X: X.astype(object), "never unpickled"),
    "text": (lambda X: X.astype(str), "rows are float16"),
    "complex": (lambda X: X.astype(complex), "rows are float16"),
    "other width": (lambda X: X[:, :5], ""),
    "other count": (lambda X: X[:150], ""),
}


@pytest.mark.usefixtures("nothing_left")
class TestBadInput:
    @pytest.fixture
    def bad(self, folder, tmp_path_factory):
        elsewhere = tmp_path_factory.mktemp("bad")

        def bad(array):
            np.save(elsewhere / "bad.npy", array, allow_pickle=True)
            return elsewhere / "bad.npy"

        return bad

    @pytest.mark.parametrize("kind", sorted(set(BAD_ROWS) - {"other width"}))
    @pytest.mark.parametrize("command", ["fit", "compare", "evaluate"])
    @pytest.mark.parametrize("side", ["source", "target"])
    def test_pairs(self, bad, kind, command, side):
        change, words = BAD_ROWS[kind]
        path = bad(change(np.load("x.npy")))
        files_ = [path, "y.npy"] if side == "source" else ["x.npy", path]
        call = {
            "fit": ["fit", *files_, "-o", "new.safetensors"],
            "compare": ["compare", *files_],
            "evaluate": ["evaluate", "map.safetensors", *files_],
        }[command]
        refused(run(*call), 1, words or "do not pair by order")

    @pytest.mark.parametrize("kind", sorted(set(BAD_ROWS) - {"other count"}))
    @pytest.mark.parametrize("out", ["new.npy", "new.safetensors", "new.parquet"])
    def test_rows_to_map(self, bad, kind, out):
        change, words = BAD_ROWS[kind]
        path = bad(change(np.load("x.npy")))
        refused(
            run("apply", "map.safetensors", path, "-o", out),
            1,
            words or "rows of 5 dimensions; the map takes 6",
        )

    def test_rows_of_another_width_are_not_evaluated(self, bad):
        path = bad(np.load("x.npy")[:, :5])
        said = f"{path} has rows of 5 dimensions; the map takes 6"
        refused(run("evaluate", "map.safetensors", path, "y.npy"), 1, said)
        refused(run("evaluate", "map.safetensors", "x.npy", path), 1, said.replace("takes", "returns"))

    @pytest.mark.parametrize("method", ["auto", *latalign.METHODS])
    def test_one_row(self, bad, method):
        path = bad(np.ones((1, 6)))
        refused(run("fit", path, path, "-o", "new.safetensors", "--method", method), 1, "at least 2 pairs")

    def test_a_curve_of_few_rows(self, bad):
        path = bad(np.load("x.npy")[:39])
        refused(run("fit", path, path, "-o", "new.safetensors", "--curve"), 1, "at least 40 different pairs")

    def test_one_row_is_not_measured(self, bad):
        path = bad(np.ones((1, 6)))
        refused(run("compare", path, path), 1, "at least 2 pairs")
        refused(run("evaluate", "map.safetensors", path, path), 1, "at least 2 pairs")

    @pytest.mark.parametrize("method", ["auto", *latalign.METHODS])
    def test_rows_that_are_all_the_same(self, bad, method):
        path = bad(np.ones((200, 6)))
        call = ("-o", "new.safetensors", "--method", method)
        refused(run("fit", path, "y.npy", *call), 1, "all 200 rows of the source X are the same")
        refused(run("fit", "x.npy", path, *call), 1, "all 200 rows of the target Y are the same")
        refused(run("compare", path, "y.npy"), 1, "all 200 rows of the source X are the same")
        refused(
            run("evaluate", "map.safetensors", path, "y.npy"), 1, "all 200 rows of the source X are the same"
        )

    @pytest.mark.parametrize("suffix", ["npy", "safetensors", "parquet"])
    @pytest.mark.parametrize("content", ["nothing", "foreign", "half"])
    def test_a_broken_file(self, folder, tmp_path_factory, suffix, content):
        path = tmp_path_factory.mktemp("broken") / f"rows.{suffix}"
        whole = (folder / f"x.{suffix}").read_bytes()
        path.write_bytes(
            {"nothing": b"", "foreign": b"GIF89a" * 30, "half": whole[: len(whole) // 2]}[content]
        )
        refused(run("fit", path, "y.npy", "-o", "new.safetensors"), 1, "truncated")
        refused(run("apply", "map.safetensors", path, "-o", "new.npy"), 1, "truncated")
        refused(run("evaluate", "map.safetensors", "x.npy", path), 1, "truncated")
        refused(run("compare", "x.npy", path), 1, "truncated")

    @pytest.mark.parametrize("content", ["nothing", "foreign", "half", "rows"])
    def test_a_broken_map(self, folder, tmp_path_factory, content):
        path = tmp_path_factory.mktemp("broken") / "map.safetensors"
        whole = (folder / "map.safetensors").read_bytes()
        rows = (folder / "x.safetensors").read_bytes()
        path.write_bytes(
            {"nothing": b"", "foreign": b"GIF89a" * 30, "half": whole[:-9], "rows": rows}[content]
        )
        for call in (
            ["apply", path, "x.npy", "-o", "new.npy"],
            ["evaluate", path, "x.npy", "y.npy"],
            ["inspect", path],
        ):
            refused(run(*call), 1, "map")

    @pytest.mark.parametrize("ids", ["duplicate", "missing", "no column", "other kind", "not a table"])
    def test_bad_ids(self, folder, tmp_path_factory, ids):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        elsewhere = tmp_path_factory.mktemp("ids")
        X = list(np.load("x.npy"))
        columns, words = {
            "duplicate": (
                [0, *range(199)],
                "1 source ids occur more than once, 0 among them: in the rows 0 and 1",
            ),
            "missing": ([None, *range(199)], "1 of 200 source ids are missing (null), the first in row 0"),
            "no column": (None, "no column 'id'"),
            "other kind": (list(np.arange(200.0)), "ids are integers or strings"),
            "not a table": (range(200), "in tables only"),
        }[ids]
        good = pa.table({"id": range(200), "v": X})
        pq.write_table(good, elsewhere / "good.parquet")
        table = good.drop(["id"]) if columns is None else pa.table({"id": columns, "v": X})
        pq.write_table(table, elsewhere / "bad.parquet")
        sides = (elsewhere / "bad.parquet", "y.npy" if ids == "not a table" else elsewhere / "good.parquet")
        refused(run("fit", *sides, "-o", "new.safetensors", "--id-column", "id"), 1, words)
        refused(run("compare", *sides, "--id-column", "id"), 1, words)
        refused(run("evaluate", "map.safetensors", *sides, "--id-column", "id"), 1, words)

    def test_rows_that_overflow(self, bad):
        path = bad(np.full((4, 6), 6e4, np.float16))
        latalign.AffineMap.of(np.eye(6) * 2).save(path.parent / "double.safetensors")
        call = ("apply", path.parent / "double.safetensors", path, "-o", "new.npy")
        refused(run(*call), 1, "overflow float16")

    def test_a_missing_extra(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        refused(run("compare", "x.parquet", "y.parquet"), 1, "pip install 'latalign[parquet]'")


@pytest.mark.usefixtures("nothing_left")
class TestWrongCalls:
    @pytest.mark.parametrize(
        ("call", "words"),
        [
            ("fit x.npy y.npy", "Missing option '-o'"),
            ("fit x.npy -o new.safetensors", "Missing argument 'TARGET'"),
            ("fit none.npy y.npy -o new.safetensors", "there is no file none.npy"),
            ("fit x.csv y.npy -o new.safetensors", ".npy, .safetensors, .parquet"),
            ("fit x.npy y.npy -o none/new.safetensors", "the folder none does not exist"),
            ("fit x.npy y.npy -o new.npy", "call it new.safetensors"),
            ("fit x.npy y.npy -o .", "not a file that can be replaced"),
            ("fit x.safetensors y.npy -o x.safetensors", "is the input"),
            ("fit x.npy y.safetensors -o ./y.safetensors", "is the input"),
            ("fit x.npy y.npy -o new.safetensors --method best", "'best' is not one of 'auto'"),
            (
                "fit x.npy y.npy -o new.safetensors --method rigid --alpha 1",
                "--alpha goes with --method shrunk or ridge or low_rank or retrieval or local_retrieval; got --method",
            ),
            (
                "fit x.npy y.npy -o new.safetensors --rank 1",
                "--rank goes with --method low_rank; got --method auto",
            ),
            ("fit x.npy y.npy -o new.safetensors --method ridge --alpha -1", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --method retrieval --power -1", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --method retrieval --curve", "--curve is of squared errors"),
            ("fit x.npy y.npy -o new.safetensors --method ridge --alpha nan", "not a finite number"),
            ("fit x.npy y.npy -o new.safetensors --method ridge --alpha inf", "not a finite number"),
            ("fit x.npy y.npy -o new.safetensors --method ridge --alpha much", "not a valid float"),
            ("fit x.npy y.npy -o new.safetensors --method low_rank --rank 0", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --holdout 1", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --holdout -0.1", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --seed -1", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --scoring speed", "is not one of 'mse'"),
            ("fit x.npy y.npy -o new.safetensors --curve --scoring cosine", "--curve is of squared errors"),
            (
                "fit x.npy y.npy -o new.safetensors --method retrieval --scoring mse",
                "--scoring mse is of squared",
            ),
            (
                "fit x.npy y.npy -o new.safetensors --method retrieval --uncertainty",
                "--uncertainty goes with a map that says where a row lies, which retrieval does not",
            ),
            ("apply map.safetensors x.npy -o new.npy --level 0.5", "--level goes with --uncertainty"),
            ("apply none.safetensors x.npy -o new.npy", "there is no file none.safetensors"),
            ("apply map.safetensors none.npy -o new.npy", "there is no file none.npy"),
            ("apply map.safetensors x.npy -o new.txt", ".npy, .safetensors, .parquet"),
            ("apply map.safetensors x.npy -o none/new.npy", "the folder none does not exist"),
            ("apply map.safetensors x.npy -o x.npy", "is the input"),
            ("apply map.safetensors x.npy -o new.npy/", "new.npy/: .npy are files. Leave out the slash"),
            ("apply map.safetensors x.npy -o s3://bucket/new/", "is written on this machine only"),
            ("apply map.safetensors x.safetensors -o map.safetensors", "is the input"),
            ("apply map.safetensors x.npy -o new.npy --batch-rows 0", "not in the range"),
            ("evaluate none.safetensors x.npy y.npy", "there is no file"),
            ("evaluate map.safetensors x.npy", "Missing argument 'TARGET'"),
            ("evaluate map.safetensors x.npy y.npy --seed -1", "not in the range"),
            ("compare x.npy y.npy --seed first", "not a valid integer"),
            ("compare x.npy none.npy", "there is no file"),
            ("inspect none.safetensors", "there is no file"),
            ("inspect", "Missing argument 'MAP'"),
            ("demo --epochs 0", "not in the range"),
            ("demo -o none/new", "the folder none does not exist"),
            ("demo -o x.npy", "x.npy is not a folder"),
            ("fit x.npy y.npy -o new.safetensors --unmatched drop", "--unmatched goes with --id-column"),
            ("evaluate map.safetensors x.npy y.npy --unmatched drop", "--unmatched goes with --id-column"),
            ("compare x.npy y.npy --unmatched error", "--unmatched goes with --id-column"),
            ("audit x.npy y.npy --unmatched drop", "--unmatched goes with --id-column"),
            ("fit-many x.npy y.npy -o new.safetensors --unmatched drop", "--unmatched goes with --id-column"),
            ("align x.npy y.npy", "No such command 'align'"),
            ("fit --quick x.npy y.npy -o new.safetensors", "No such option"),
        ],
    )
    def test_they_are_refused(self, call, words):
        refused(run(*call.split()), 2, words)

    @pytest.mark.parametrize("link", [os.symlink, os.link])
    def test_an_output_that_is_the_input_by_another_name(self, folder, tmp_path_factory, link):
        other = tmp_path_factory.mktemp("links") / "other.npy"
        link(folder / "x.npy", other)
        refused(run("apply", "map.safetensors", "x.npy", "-o", other), 2, "is the input")
