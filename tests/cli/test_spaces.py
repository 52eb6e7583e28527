"""latalign fit-many, latalign join, and the commands that use what they write."""

import numpy as np
import pytest

import latalign
from calls import done, done_json, refused, run, written
from latalign import SharedSpace, fit_many
from latalign.loading import read_many

DIMS = {"old": 8, "new": 6, "small": 5, "late": 7}


@pytest.fixture
def spaces(tmp_path, monkeypatch):
    """A folder with rows of four models that saw the same things; the working directory."""
    rng = np.random.default_rng(0)
    things = rng.normal(size=(300, 8))
    rows = {}
    for name, dim in DIMS.items():
        rows[name] = (things @ rng.normal(size=(8, dim)) + 0.1 * rng.normal(size=(300, dim))).astype("f4")
        written(tmp_path / f"{name}.npy", rows[name])
    monkeypatch.chdir(tmp_path)
    return rows


@pytest.fixture
def fitted(spaces):
    done(run("fit-many", "old.npy", "new.npy", "small.npy", "-o", "s.safetensors", "--dataset", "things"))
    return spaces


@pytest.mark.parametrize("method", ["ridge", "rigid"])
def test_the_file_holds_what_the_function_finds(spaces, method):
    call = ("fit-many", "old.npy", "new.npy", "small.npy", "-o", "s.safetensors", "--method", method)
    record = done_json(run(*call, "--seed", 3, "--json", "--dataset", "things"))
    expected = fit_many({name: spaces[name] for name in list(DIMS)[:3]}, method, random_state=3)
    found = SharedSpace.load("s.safetensors")
    for mine, its in zip(
        (*found.encoders, *found.decoders), (*expected.encoders, *expected.decoders), strict=True
    ):
        np.testing.assert_array_equal(mine.matrix, its.matrix)
    assert found.evidence == expected.evidence
    assert record == {
        "output": "s.safetensors",
        "method": method,
        "dim": expected.dim,
        "spaces": {"old": 8, "new": 6, "small": 5},
        "evidence": expected.evidence.to_json(),
        "dataset": "things",
    }


def test_for_people(fitted):
    text = done(run("fit-many", "old.npy", "new.npy", "-o", "t.safetensors", "--names", "a b, [c]"))
    assert "t.safetensors: ridge, 2 spaces in one of" in text
    assert "held-out rows, 5 folds" in text
    assert "a b" in text
    assert "[c]" in text
    text = done(run("inspect", "s.safetensors"))
    for words in ("space small", "5 dimensions, 300 anchors", "things", "map format 1", "round trip"):
        assert words in text
    record = done_json(run("inspect", "s.safetensors", "--json"))
    assert [(one["name"], one["dim"]) for one in record["spaces"]] == [("old", 8), ("new", 6), ("small", 5)]
    assert (record["kind"], record["dataset"]) == ("shared", "things")
    assert record["evidence"] == SharedSpace.load("s.safetensors").evidence.to_json()


def test_parameters_of_ridge(spaces):
    call = ("fit-many", "old.npy", "new.npy", "-o", "s.safetensors")
    done(run(*call, "--alpha", "0.5", "--dim", "4"))
    found = SharedSpace.load("s.safetensors")
    assert found.dim == 4
    assert found.into("old").evidence.alpha == 0.5
    done(run(*call, "--alpha", "auto", "--dim", "auto"))
    refused(run(*call, "--method", "rigid", "--dim", "4"), 2, "--dim goes with --method ridge")
    refused(run(*call, "--alpha", "-1"), 2)


@pytest.mark.parametrize(
    ("options", "find"),
    [
        (("--from", "old", "--to", "small"), lambda shared: shared.map("old", "small")),
        (("--from", "old"), lambda shared: shared.into("old")),
        (("--to", "new"), lambda shared: shared.back("new")),
    ],
)
def test_any_to_any(fitted, options, find):
    map_ = find(SharedSpace.load("s.safetensors"))
    rows = np.random.default_rng(1).normal(size=(20, map_.dim_source)).astype(np.float32)
    np.save("rows.npy", rows)
    done(run("apply", "s.safetensors", "rows.npy", "-o", "out.npy", *options))
    np.testing.assert_array_equal(np.load("out.npy"), map_(rows))
    done(run("apply", "s.safetensors", "rows.npy", "-o", "folder/", *options))


def test_a_map_is_measured(fitted):
    record = done_json(
        run("evaluate", "s.safetensors", "old.npy", "new.npy", "--from", "old", "--to", "new", "--json")
    )
    map_ = SharedSpace.load("s.safetensors").map("old", "new")
    mse = np.square(map_(fitted["old"]).astype(float) - fitted["new"]).mean()
    assert record["mapped"]["mse"] == pytest.approx(mse, rel=1e-4)


def test_a_space_joins(fitted):
    before = SharedSpace.load("s.safetensors")
    call = ("join", "s.safetensors", "late.npy", "--with", "old", "old.npy", "-o", "more.safetensors")
    record = done_json(run(*call, "--json", "--seed", 2))
    more = SharedSpace.load("more.safetensors")
    expected = before.join("late", fitted["late"], {"old": fitted["old"]}, random_state=2)
    np.testing.assert_array_equal(more.into("late").matrix, expected.into("late").matrix)
    np.testing.assert_array_equal(more.into("new").matrix, before.into("new").matrix)
    assert more.evidence == expected.evidence
    assert list(record["spaces"].items())[-1] == ("late", 7)
    assert record["dataset"] == "things"
    text = done(run(*call, "--with", "small", "small.npy", "--name", "x"))
    rows = [line.split()[:3] for line in text.splitlines()]
    assert ["x", "old", "300"] in rows
    assert ["x", "new", "0"] in rows
    assert not any(row[:2] == ["old", "new"] for row in rows)


def test_rows_are_matched_by_id(spaces):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(2)
    for number, name in enumerate(DIMS):
        order = rng.permutation(300)[number:]  # some things are not everywhere
        parquet.write_table(
            pa.table({"id": [f"t{i}" for i in order], "row": list(spaces[name][order])}), f"{name}.parquet"
        )
    files = [f"{name}.parquet" for name in DIMS]
    call = ("fit-many", *files, "-o", "s.safetensors", "--id-column", "id")
    refused(run(*call), 1, "old.parquet:row and new.parquet:row: pair_by_id: 1 of 300 source ids are missing")
    done(run(*call, "--unmatched", "drop"))
    rows = read_many(files, id_column="id", unmatched="drop")
    assert len({len(one) for one in rows}) == 1
    # Row by row the same thing: the maps are as good as those of rows in order.
    found = SharedSpace.load("s.safetensors").evidence.pair("old", "late")
    assert found.anchors == len(rows[0]) >= 300 - sum(range(4))
    assert found.error < 0.5 * found.baseline
    where = {tuple(x): i for i, x in enumerate(spaces["old"].tolist())}
    numbers = [where[tuple(x)] for x in rows[0].tolist()]
    for name, own in zip(DIMS, rows, strict=True):
        np.testing.assert_array_equal(own, spaces[name][numbers])


class TestWrongCalls:
    """Refused with one clear line, and nothing is written."""

    @pytest.fixture(autouse=True)
    def nothing_new(self, fitted, tmp_path):
        before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        yield
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (("fit-many", "old.npy"), "needs two files or more"),
            (("fit-many",), "Missing argument"),
            (("fit-many", "old.npy", "old.npy"), "the files have the same names, old, old: give --names"),
            (("fit-many", "old.npy", "new.npy", "--names", "a"), "1 names for 2 files"),
            (("fit-many", "old.npy", "new.npy", "--names", "a,a"), "names, none twice"),
            (("fit-many", "old.npy", "new.npy", "--names", "a,"), "names, none twice"),
            (("fit-many", "old.npy", "none.npy"), "there is no file none.npy"),
            (("join", "s.safetensors", "late.npy"), "Missing option '--with'"),
            (
                ("join", "s.safetensors", "late.npy", "--with", "x", "old.npy"),
                "has no space 'x'; it has: 'old'",
            ),
            (
                ("join", "s.safetensors", "new.npy", "--with", "old", "old.npy"),
                "there is a space 'new' already",
            ),
            (
                ("join", "s.safetensors", "late.npy", *("--with", "old", "old.npy") * 2),
                "--with names a space twice",
            ),
        ],
    )
    def test_fit_many_and_join(self, call, words):
        refused(run(*call, "-o", "t.safetensors"), 2, words)

    def test_the_output_is_no_input(self):
        call = ("join", "s.safetensors", "late.npy", "--with", "old", "old.npy", "-o")
        refused(run(*call, "s.safetensors"), 2, "the output s.safetensors is the input s.safetensors")
        refused(run("fit-many", "old.npy", "new.npy", "-o", "t.npy"), 2, "call it t.safetensors")

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ((), "holds many spaces, 'old', 'new', 'small': say --from NAME, --to NAME or both"),
            (("--from", "x"), "has no space 'x'; it has: 'old', 'new', 'small'"),
            (("--from", "old", "--to", "x"), "has no space 'x'"),
        ],
    )
    def test_which_map(self, options, words):
        refused(run("apply", "s.safetensors", "old.npy", "-o", "t.npy", *options), 2, words)
        refused(run("evaluate", "s.safetensors", "old.npy", "new.npy", *options), 2, words)

    def test_a_space_of_another_width(self):
        call = ("apply", "s.safetensors", "old.npy", "-o", "t.npy", "--from", "new", "--to", "old")
        refused(run(*call), 1, "old.npy has rows of 8 dimensions; the map takes 6")
        call = ("join", "s.safetensors", "late.npy", "--with", "new", "old.npy", "-o", "t.safetensors")
        refused(run(*call), 1, "the space 'new' has 6 dimensions; the rows given have 8")

    def test_no_uncertainty(self):
        call = ("apply", "s.safetensors", "old.npy", "-o", "t.npy", "--from", "old", "--uncertainty")
        refused(run(*call), 1, "does not know how far off")


def test_one_map_has_no_spaces(spaces):
    latalign.AffineMap.of(np.eye(8)).save("m.safetensors")
    refused(
        run("apply", "m.safetensors", "old.npy", "-o", "t.npy", "--from", "old"),
        2,
        "m.safetensors holds one map",
    )
    refused(
        run("join", "m.safetensors", "late.npy", "--with", "old", "old.npy", "-o", "t.safetensors"),
        1,
        "kind 'affine', not 'shared'",
    )


def test_bad_rows(fitted):
    np.save("few.npy", fitted["new"][:200])
    call = ("-o", "t.safetensors")
    refused(run("fit-many", "old.npy", "few.npy", *call), 1, "do not pair by order")
    bad = fitted["new"].copy()
    bad[3] = np.nan
    np.save("bad.npy", bad)
    refused(run("fit-many", "old.npy", "bad.npy", *call), 1, "1 of 300 rows contain NaN")
    np.save("same.npy", np.ones((300, 4)))
    refused(run("fit-many", "old.npy", "same.npy", *call), 1, "all 300 rows of the space 'same' are the same")


def test_rows_that_do_not_correspond(fitted):
    rng = np.random.default_rng(5)
    np.save("other.npy", rng.normal(size=(300, 4)))
    call = ("fit-many", "old.npy", "new.npy", "other.npy", "-o", "t.safetensors")
    refused(run(*call), 1, "fit_many, 'new' and 'other': the pairs cannot be told from shuffled ones")
    result = run(*call, "--force")
    assert result.exit_code == 0
    call = ("join", "s.safetensors", "other.npy", "--with", "old", "old.npy", "-o", "u.safetensors")
    refused(run(*call), 1, "join, 'other' and 'old': the pairs cannot be told from shuffled ones")
    assert "'other' and 'old'" in run(*call, "--force").stderr
