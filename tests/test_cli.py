"""The command line, as a user meets it: what it prints, what it leaves, and how it ends."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
import types
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
from click.testing import CliRunner

import latalign
from latalign.cli import main, show
from latalign.io import files
from latalign.io.arrays import write_rows
from latalign.io.protocol import Block, Shape
from problems import pairs

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX systems")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def program(*arguments, **options):
    """Start the program itself."""
    call = [sys.executable, "-c", "from latalign.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def refused(result, status, words=""):
    """The call ended with that status, one clear line, and nothing on stdout."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1
    assert said[0] == result.stderr.splitlines()[-1]
    assert words in said[0]


def done(result):
    assert result.exit_code == 0, result.output
    return result.stdout


def done_json(result):
    """The one JSON object that stands on stdout."""
    text = done(result)
    assert text.count("\n") == 1
    return json.loads(text)


def written(path, rows):
    with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
        writer.append(Block(rows))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with pairs in every format, and a map; the working directory."""
    X, Y = pairs(np.random.default_rng(0), 300, 6, 6, noise=0.3, dtype=np.float32)
    for suffix in ("npy", "safetensors", "parquet"):
        written(tmp_path / f"x.{suffix}", X[:200])
        written(tmp_path / f"y.{suffix}", Y[:200])
    written(tmp_path / "more.npy", X[200:])
    written(tmp_path / "truth.npy", Y[200:])
    latalign.fit(X[:200], Y[:200], "affine").save(tmp_path / "map.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def nothing_left(folder):
    """Nothing is new in the folder and nothing changed, when the test is over."""

    def state():
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    before = state()
    yield
    after = state()
    assert sorted(after) == sorted(before)
    assert after == before


class TestFit:
    @pytest.mark.parametrize("source", ["x.npy", "x.safetensors", "x.parquet"])
    @pytest.mark.parametrize("target", ["y.npy", "y.safetensors:rows", "y.parquet:embedding"])
    def test_the_map_is_that_of_all_rows(self, folder, source, target):
        text = done(run("fit", source, target, "-o", "new.safetensors", "--method", "affine"))
        assert "new.safetensors: affine, 6 → 6 dimensions, 200 anchors" in text
        assert "held-out pairs: 40 rows" in text
        expected = latalign.fit(np.load("x.npy"), np.load("y.npy"), "affine")
        np.testing.assert_array_equal(latalign.AffineMap.load("new.safetensors").matrix, expected.matrix)

    def test_auto_shows_what_it_chose_from(self, folder):
        text = done(run("fit", "x.npy", "y.npy", "-o", "new.safetensors"))
        chosen = [line for line in text.splitlines() if "← chosen" in line]
        assert len(chosen) == 1
        assert chosen[0].startswith(latalign.AffineMap.load("new.safetensors").method)
        for method in latalign.METHODS:
            assert any(line.startswith(method) for line in text.splitlines())
        assert "…" not in text  # all of it fits a terminal of 80 columns

    def test_the_record(self, folder):
        record = done_json(
            run(
                *("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--json", "--holdout", "0.25"),
                *("--source-name", "old", "--target-name", "new", "--dataset", "texts", "--seed", "7"),
            )
        )
        loaded = latalign.AffineMap.load("new.safetensors")
        assert record["output"] == "new.safetensors"
        assert record["method"] == loaded.method
        assert record["evidence"] == loaded.evidence.to_json()
        assert {row["method"] for row in record["evidence"]["candidates"]} == set(latalign.METHODS)
        assert record["heldout"]["rows"] == record["evidence"]["heldout"]["rows"] == 50
        assert record["heldout"]["mapped"]["mse"] == record["evidence"]["heldout"]["mse"]
        header = latalign.read_header("new.safetensors")
        assert (header.source, header.target, header.dataset) == ("old", "new", "texts")

    def test_the_seed_draws_the_held_out_pairs(self, folder):
        call = ("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--method", "rigid", "--json", "--seed")
        one, again, other = (done_json(run(*call, seed)) for seed in (1, 1, 2))
        assert one == again
        assert one["heldout"] != other["heldout"]

    def test_no_holdout(self, folder):
        record = done_json(run("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--holdout", 0, "--json"))
        assert record["heldout"] is None
        assert record["evidence"]["heldout"] is None
        text = done(run("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--holdout", 0))
        assert "held-out" not in text

    def test_parameters_of_a_method(self, folder):
        call = ("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--json", "--method")
        assert done_json(run(*call, "ridge", "--alpha", 2.5))["evidence"]["alpha"] == 2.5
        assert done_json(run(*call, "ridge", "--alpha", "auto"))["evidence"]["alpha"] > 0
        assert done_json(run(*call, "low_rank", "--rank", 2))["evidence"]["target_rank"] == 2
        assert done_json(run(*call, "low_rank", "--rank", "auto"))["evidence"]["target_rank"] >= 1
        fast = done_json(run(*call, "affine", "--precision", "fast"))
        assert fast["heldout"]["mapped"]["r2"] > 0.8

    @pytest.mark.parametrize("scoring", ["cosine", "recall@1"])
    def test_other_scorings(self, folder, scoring):
        call = ("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--scoring", scoring)
        assert done_json(run(*call, "--json"))["evidence"]["scoring"] == scoring
        assert f"1 − {scoring}" in done(run(*call))

    def test_pairs_by_id(self, folder):
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        X, Y = np.load("x.npy"), np.load("y.npy")
        order = np.random.default_rng(0).permutation(200)
        pq.write_table(pa.table({"id": range(200), "v": list(X)}), "a.parquet")
        pq.write_table(pa.table({"id": order, "v": list(Y[order])}), "b.parquet")
        pq.write_table(pa.table({"id": order[:150], "v": list(Y[order[:150]])}), "c.parquet")
        call = ("-o", "new.safetensors", "--method", "affine", "--id-column", "id")
        done(run("fit", "a.parquet", "b.parquet", *call))
        expected = latalign.fit(X, Y, "affine").matrix
        np.testing.assert_allclose(latalign.AffineMap.load("new.safetensors").matrix, expected, atol=1e-9)
        refused(run("fit", "a.parquet", "c.parquet", *call), 1, "50 of 200 source ids are missing")
        record = done_json(run("fit", "a.parquet", "c.parquet", *call, "--unmatched", "drop", "--json"))
        assert record["evidence"]["anchors"] == 150

    def test_undetermined_pairs_work_and_warn_once_with_the_remedy(self, folder):
        X = np.random.default_rng(0).normal(size=(30, 50))
        written("few.npy", X)
        result = run("fit", "few.npy", "few.npy", "-o", "new.safetensors", "--method", "affine", "--json")
        done_json(result)
        lines = result.stderr.splitlines()
        assert [line.partition(":")[0] for line in lines] == ["Warning", "Warning"]
        assert sum("anchors determine" in line and 'method="ridge"' in line for line in lines) == 1
        assert sum("only 6 rows are held out" in line for line in lines) == 1
        assert ".py" not in result.stderr

    def test_too_few_rows_to_hold_out_are_said_to_be(self, folder):
        written("few.npy", np.random.default_rng(0).normal(size=(4, 2)))
        result = run("fit", "few.npy", "few.npy", "-o", "new.safetensors", "--method", "rigid")
        done(result)
        assert "Warning: no held-out error: 0.2 of 4 rows leaves 1 to test" in result.stderr


class TestApply:
    @pytest.mark.parametrize("suffix", ["npy", "safetensors", "parquet"])
    def test_rows_are_mapped(self, folder, suffix):
        text = done(run("apply", "map.safetensors", "more.npy", "-o", f"out.{suffix}"))
        assert f"out.{suffix}: 100 rows, 6 → 6 dimensions, float32" in text
        expected = latalign.AffineMap.load("map.safetensors")(np.load("more.npy"))
        done(run("apply", "map.safetensors", "more.npy", "-o", "again.npy", "--batch-rows", 7))
        np.testing.assert_allclose(np.load("again.npy"), expected, rtol=1e-5, atol=1e-5)

    def test_the_record(self, folder):
        record = done_json(run("apply", "map.safetensors", "more.npy", "-o", "out.npy", "--json"))
        assert record == {
            "output": "out.npy",
            "rows": 100,
            "dim_source": 6,
            "dim_target": 6,
            "dtype": "float32",
        }


class TestEvaluate:
    def test_the_record_is_the_librarys(self, folder):
        record = done_json(run("evaluate", "map.safetensors", "more.npy", "truth.npy", "--json"))
        map_ = latalign.AffineMap.load("map.safetensors")
        assert record == latalign.evaluate(map_, np.load("more.npy"), np.load("truth.npy")).to_json()

    def test_the_table(self, folder):
        text = done(run("evaluate", "map.safetensors", "more.npy", "truth.npy"))
        record = done_json(run("evaluate", "map.safetensors", "more.npy", "truth.npy", "--json"))
        assert "100 rows, 100 of them as queries" in text
        for column in ("mapped", "no map", "native"):
            assert column in text
        row = next(line for line in text.splitlines() if line.startswith("R²"))
        expected = [f"{record[name]['r2']:.4g}" for name in ("mapped", "no_map")]
        assert row.split()[-3:] == [*expected, "–"]


class TestCompare:
    def test_the_record_is_the_librarys(self, folder):
        record = done_json(run("compare", "x.npy", "y.npy", "--json"))
        assert record == latalign.compare(np.load("x.npy"), np.load("y.npy")).to_json()

    def test_the_table(self, folder):
        text = done(run("compare", "x.npy", "y.npy"))
        for word in (
            "linear CKA ↑",
            "Procrustes distance ↓",
            "mutual nearest neighbors ↑",
            *latalign.METHODS,
        ):
            assert word in text
        assert "biased upward" not in text
        written("few.npy", np.random.default_rng(0).normal(size=(20, 5)))
        assert "linear CKA is biased upward" in done(run("compare", "few.npy", "few.npy"))


class TestInspect:
    def test_all_that_the_file_says(self, folder):
        done(run("fit", "x.npy", "y.npy", "-o", "new.safetensors", "--source-name", "[old] net"))
        text = done(run("inspect", "new.safetensors"))
        for words in ("new.safetensors", "6 → 6", "[old] net", "← chosen", "held-out pairs: 40 rows"):
            assert words in text
        record = done_json(run("inspect", "new.safetensors", "--json"))
        assert record["source"] == "[old] net"
        assert record["evidence"] == latalign.AffineMap.load("new.safetensors").evidence.to_json()
        assert record["format"] == 1

    def test_a_map_without_evidence(self, folder):
        latalign.AffineMap.of(np.eye(3)).save("given.safetensors")
        assert "given" in done(run("inspect", "given.safetensors"))
        assert done_json(run("inspect", "given.safetensors", "--json"))["evidence"] is None


class TestDemo:
    @pytest.fixture
    def calls(self, monkeypatch):
        calls = []
        module = types.ModuleType("latalign.experiments.demo")
        module.run_demo = lambda folder, **options: calls.append((str(folder), options))
        monkeypatch.setitem(sys.modules, "latalign.experiments.demo", module)
        return calls

    def test_it_calls_the_librarys(self, calls):
        done(run("demo", "-o", "here", "--epochs", 3, "--seed", 5))
        ((folder, options),) = calls
        assert (folder, options["epochs"], options["seed"]) == ("here", 3, 5)
        assert isinstance(options["console"], type(show.console()))

    def test_it_has_epochs_of_its_own(self, calls):
        done(run("demo"))
        assert "epochs" not in calls[0][1]

    def test_the_missing_extra_is_named(self, monkeypatch):
        for name in ("torch", "torch.nn"):
            monkeypatch.setitem(sys.modules, name, None)
        for name in [name for name in sys.modules if name.startswith("latalign.experiments")]:
            monkeypatch.delitem(sys.modules, name)
        refused(run("demo"), 1, "pip install 'latalign[experiments]'")


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
        refused(run("evaluate", "map.safetensors", path, "y.npy"), 1, "needs rows of 6 dimensions; got 5")
        refused(run("evaluate", "map.safetensors", "x.npy", path), 1, "it returns 6 dimensions, Y has 5")

    @pytest.mark.parametrize("method", ["auto", *latalign.METHODS])
    def test_one_row(self, bad, method):
        path = bad(np.ones((1, 6)))
        refused(run("fit", path, path, "-o", "new.safetensors", "--method", method), 1, "at least 2 pairs")

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
            "duplicate": ([0, *range(199)], "1 source ids occur more than once"),
            "missing": ([None, *range(199)], "1 of 200 source ids are missing (null)"),
            "no column": (None, "no column 'id'"),
            "other kind": (list(np.arange(200.0)), "ids are integers or strings"),
            "not a table": (range(200), "Parquet files only"),
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
            ("fit x.csv y.npy -o new.safetensors", ".npy, .safetensors or .parquet"),
            ("fit x.npy y.npy -o none/new.safetensors", "the folder none does not exist"),
            ("fit x.npy y.npy -o new.npy", "call it new.safetensors"),
            ("fit x.npy y.npy -o .", "not a file that can be replaced"),
            ("fit x.safetensors y.npy -o x.safetensors", "is the input"),
            ("fit x.npy y.safetensors -o ./y.safetensors", "is the input"),
            ("fit x.npy y.npy -o new.safetensors --method best", "'best' is not one of 'auto'"),
            ("fit x.npy y.npy -o new.safetensors --method rigid --alpha 1", "it got alpha"),
            ("fit x.npy y.npy -o new.safetensors --alpha 1", "Name the method"),
            ("fit x.npy y.npy -o new.safetensors --method ridge --alpha -1", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --method ridge --alpha nan", "not a finite number"),
            ("fit x.npy y.npy -o new.safetensors --method ridge --alpha inf", "not a finite number"),
            ("fit x.npy y.npy -o new.safetensors --method ridge --alpha much", "not a valid float"),
            ("fit x.npy y.npy -o new.safetensors --method low_rank --rank 0", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --holdout 1", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --holdout -0.1", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --seed -1", "not in the range"),
            ("fit x.npy y.npy -o new.safetensors --scoring speed", "is not one of 'mse'"),
            ("apply none.safetensors x.npy -o new.npy", "there is no file none.safetensors"),
            ("apply map.safetensors none.npy -o new.npy", "there is no file none.npy"),
            ("apply map.safetensors x.npy -o new.txt", ".npy, .safetensors or .parquet"),
            ("apply map.safetensors x.npy -o none/new.npy", "the folder none does not exist"),
            ("apply map.safetensors x.npy -o x.npy", "is the input"),
            ("apply map.safetensors x.safetensors -o map.safetensors", "is the input"),
            ("apply map.safetensors x.npy -o new.npy --batch-rows 0", "not in the range"),
            ("evaluate none.safetensors x.npy y.npy", "there is no file"),
            ("evaluate map.safetensors x.npy", "Missing argument 'TARGET'"),
            ("compare x.npy none.npy", "there is no file"),
            ("inspect none.safetensors", "there is no file"),
            ("inspect", "Missing argument 'MAP'"),
            ("demo --epochs 0", "not in the range"),
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


class TestTheProgram:
    def test_help_is_there_for_everything(self):
        text = done(run("--help"))
        names = ["fit", "apply", "evaluate", "compare", "inspect", "demo"]
        listed = [
            line.split()[0]
            for line in text.partition("Commands:")[2].splitlines()
            if line[:3] == "  " + line[2:3]
        ]
        assert [name for name in listed if name in names] == names
        assert "Exit status:" in text
        for name in names:
            assert f"Usage: main {name}" in done(run(name, "--help"))
        assert latalign.__version__ in done(run("--version"))

    @pytest.mark.parametrize("place", ["before", "after"])
    def test_debug_shows_the_traceback(self, folder, place):
        np.save("bad.npy", np.ones(3))
        call = ["compare", "bad.npy", "y.npy"]
        call = ["--debug", *call] if place == "before" else [*call, "--debug"]
        result = run(*call)
        assert isinstance(result.exception, ValueError)
        process = program(*call)
        out, err = process.communicate()
        assert process.returncode == 1
        assert out == ""
        assert "Traceback (most recent call last)" in err

    def test_a_fault_of_the_program_is_owned_up_to(self, folder, monkeypatch):
        def broken(*arguments, **options):
            raise KeyError("oops")

        monkeypatch.setattr(latalign.evaluation, "compare", broken)
        refused(
            run("compare", "x.npy", "y.npy"), 1, "unexpected KeyError: 'oops'. This is a fault of latalign"
        )

    def test_want_of_memory_is_said_to_be_that(self, folder, monkeypatch):
        def hungry(*arguments, **options):
            raise MemoryError("Unable to allocate 9 TiB")

        monkeypatch.setattr(latalign.evaluation, "compare", hungry)
        refused(run("compare", "x.npy", "y.npy"), 1, "there is not enough memory. Unable to allocate 9 TiB")

    def test_warnings_are_short_lines_each_once_and_deprecations_none(self, folder, monkeypatch):
        def noisy(*arguments, **options):
            for _ in range(3):
                warnings.warn("mind the\n gap", UserWarning, stacklevel=1)
                warnings.warn("old hat", DeprecationWarning, stacklevel=1)
            raise ValueError("enough")

        monkeypatch.setattr(latalign.evaluation, "compare", noisy)
        assert run("compare", "x.npy", "y.npy").stderr == "Warning: mind the gap\nError: enough\n"

    def test_a_terminal_without_arrows_is_served(self, folder):
        environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        process = program("inspect", "map.safetensors", env=environment)
        out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        assert "6 ? 6" in out

    def test_it_is_quick_to_start(self, folder):
        """Nothing heavy is loaded by a command that has no use for it."""
        code = (
            "import sys\nfrom latalign.cli import main\n"
            "main(['inspect', 'map.safetensors', '--json'], standalone_mode=False)\n"
            "heavy = {'sklearn', 'torch', 'pyarrow', 'matplotlib', 'pooch', 'scipy.stats', 'pandas'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        assert found.stdout.splitlines()[-1] == "[]"

    def test_no_bar_where_there_is_no_terminal(self, folder):
        with show.working("mapping") as advance:
            advance(1, 2)
        result = run("apply", "map.safetensors", "x.npy", "-o", "new.npy", "--batch-rows", 1)
        done(result)
        assert result.stderr == ""

    @POSIX
    @pytest.mark.parametrize("after", [0.0, 60.0])
    def test_a_bar_on_a_terminal_when_it_takes_long(self, folder, after):
        pty = pytest.importorskip("pty")
        code = (
            "import sys, time\nfrom latalign.cli import show\n"
            f"show._BAR_AFTER_SECONDS = {after}\n"
            "with show.working('mapping') as advance:\n"
            "    for done in range(4): time.sleep(0.15); advance(done, 4)\n"
            "print('rows')"
        )
        ours, theirs = pty.openpty()
        environment = os.environ | {"TERM": "xterm", "COLUMNS": "80"}
        call = [sys.executable, "-c", code]
        with subprocess.Popen(
            call, stdout=subprocess.PIPE, stderr=theirs, env=environment, text=True
        ) as process:
            os.close(theirs)
            shown = b""
            try:
                while part := os.read(ours, 1000):
                    shown += part
            except OSError:  # Linux's word for the end
                pass
            os.close(ours)
            assert process.stdout.read() == "rows\n"
        assert process.returncode == 0
        assert (b"mapping" in shown) == (after == 0)


@contextmanager
def interrupted(label):
    """A bar whose first step is Ctrl-C."""

    def advance(done, total):
        raise KeyboardInterrupt

    yield advance


class TestHowItEnds:
    @pytest.mark.usefixtures("nothing_left")
    def test_an_interrupt(self, folder, monkeypatch):
        monkeypatch.setattr(show, "working", interrupted)
        result = run("apply", "map.safetensors", "x.npy", "-o", "new.npy", "--batch-rows", 50)
        assert result.exit_code == 130
        assert result.stdout == ""
        assert result.stderr.split() == ["Interrupted."]

    @POSIX
    @pytest.mark.parametrize(
        ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
    )
    def test_a_signal_leaves_nothing(self, folder, number, status):
        # Sparse, and mapped row by row: it would take minutes.
        np.lib.format.open_memmap("huge.npy", "w+", np.float32, (20_000_000, 6))
        before = sorted(os.listdir())

        def heed():
            signal.signal(signal.SIGINT, signal.default_int_handler)

        call = ("apply", "map.safetensors", "huge.npy", "-o", "new.npy", "--batch-rows", 1)
        process = program(*call, preexec_fn=heed)
        try:
            deadline = time.monotonic() + 60
            while sorted(os.listdir()) == before:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.02)
            process.send_signal(number)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == status
        assert out == ""
        assert "Traceback" not in err
        assert sorted(os.listdir()) == before

    @POSIX
    @pytest.mark.parametrize(
        "arguments", [["inspect", "map.safetensors"], ["inspect", "map.safetensors", "--json"]]
    )
    def test_a_reader_who_goes_away(self, folder, arguments):
        with program(*arguments) as process:
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 141

    @pytest.mark.parametrize("suffix", ["npy", "safetensors", "parquet"])
    @pytest.mark.usefixtures("nothing_left")
    def test_a_disk_that_is_full(self, folder, monkeypatch, suffix):
        def fdopen(handle, mode):
            file = real(handle, mode)

            class FullDisk:
                """Every write fails; all else is the file's."""

                def __enter__(self):
                    return self

                def __exit__(self, *error):
                    file.close()

                def __getattr__(self, name):
                    return getattr(file, name)

                def write(self, data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            return FullDisk()

        real = os.fdopen
        monkeypatch.setattr(files.os, "fdopen", fdopen)
        refused(run("apply", "map.safetensors", "x.npy", "-o", f"new.{suffix}"), 1, "the disk is full")
        refused(run("fit", "x.npy", "y.npy", "-o", "new.safetensors"), 1, "the disk is full")

    @POSIX
    @pytest.mark.parametrize("suffix", ["npy", "safetensors", "parquet"])
    @pytest.mark.usefixtures("nothing_left")
    def test_a_limit_on_the_size_of_files(self, folder, tmp_path_factory, suffix):
        import resource

        wide = tmp_path_factory.mktemp("wide") / "wide.npy"
        written(wide, np.random.default_rng(0).normal(size=(5000, 6)))

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

        process = program("apply", "map.safetensors", wide, "-o", f"new.{suffix}", preexec_fn=limit)
        out, err = process.communicate()
        assert process.returncode == 1
        assert out == ""
        assert err.splitlines() == [f"Error: cannot write new.{suffix}: File too large"]

    @POSIX
    @pytest.mark.usefixtures("nothing_left")
    def test_a_folder_that_cannot_be_written_to(self, folder, tmp_path_factory):
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        sealed = tmp_path_factory.mktemp("sealed")
        sealed.chmod(0o500)
        refused(run("apply", "map.safetensors", "x.npy", "-o", sealed / "new.npy"), 1, "Permission denied")
