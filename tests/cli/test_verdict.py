"""latalign verdict."""

import pathlib

import numpy as np
import pytest

import latalign
from calls import done, done_json, refused, run, written
from problems import model_change

_RE_EMBED = {"old_noise": 1.2, "apart": 1.0, "asked": 0.1}
FILES = ("old_anchors", "new_anchors", "old_index", "old_queries", "new_queries", "new_index")


def call(**paths):
    given = {name: f"{name}.npy" for name in (*FILES, "relevant")} | paths
    options = ((f"--{name.replace('_', '-')}", path) for name, path in given.items() if path is not None)
    return ["verdict", *(word for option in options for word in option)]


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = model_change(np.random.default_rng(0), asking_noise=0.8)
    for name in FILES:
        written(tmp_path / f"{name}.npy", found[name])
    np.save("relevant.npy", found["relevant"])
    return found


def test_the_record_is_the_librarys(case):
    assert done_json(run(*call(), "--json")) == latalign.verdict(**case).to_json()


def test_the_table_and_the_verdict(case):
    text = done(run(*call()))
    for word in ("→ bridge", "keep", "documents", "re-embed", "300 anchors", "truth: relevant rows"):
        assert word in text
    assert "Bridge: embed queries by the new model and map them" in text
    assert "not known" not in text
    assert "give --new-index" in done(run(*call(new_index=None)))
    assert all(len(line) <= 80 for line in text.splitlines()[:-1])


def test_unpaired_queries(case):
    known = np.random.default_rng(1).normal(size=(120, case["new_queries"].shape[1]))
    np.save("known.npy", known)
    record = done_json(run(*call(), "--unpaired-queries", "known.npy", "--json"))
    assert record == latalign.verdict(**case, unpaired_queries=known).to_json()


def test_relevant_rows_may_be_text(case):
    np.savetxt("relevant.txt", case["relevant"], fmt="%d")
    expected = done_json(run(*call(), "--json"))
    assert done_json(run(*call(relevant="relevant.txt"), "--json")) == expected


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
def test_relevant_rows_and_ids_may_be_columns(case, suffix):
    pa = pytest.importorskip("pyarrow")
    expected = done_json(run(*call(), "--json"))
    ids = [f"doc-{number}" for number in range(len(case["old_index"]))]
    rows = case["relevant"].tolist()
    table = pa.table(
        {
            "row": pa.array(rows),
            "rows": pa.array([[one] for one in rows]),
            "id": pa.array([ids[one] for one in rows]).dictionary_encode(),
            "ids": pa.array([[ids[one], None] if one % 2 else [ids[one]] for one in rows]),
            "score": pa.array(np.ones(len(rows))),
        }
    )
    if suffix == "parquet":
        pytest.importorskip("pyarrow.parquet").write_table(table, "asked.parquet")
    else:
        pytest.importorskip("pyarrow.feather").write_feather(table, f"asked.{suffix}")
    np.save("ids.npy", ids)
    (pathlib.Path("ids.txt")).write_text("\n".join(ids) + "\n")
    for column in ("row", "rows"):
        assert done_json(run(*call(relevant=f"asked.{suffix}:{column}"), "--json")) == expected
    for column, file in (("id", "ids.npy"), ("ids", "ids.txt")):
        given = call(relevant=f"asked.{suffix}:{column}", index_ids=file)
        assert done_json(run(*given, "--json")) == expected
    refused(run(*call(relevant=f"asked.{suffix}")), 2, "which column says what a query should find")
    refused(run(*call(relevant=f"asked.{suffix}:none")), 2, "has no column 'none'; it has: row, rows")
    refused(run(*call(relevant=f"asked.{suffix}:score")), 2, "(the column 'score' is double)")
    refused(run(*call(relevant=f"asked.{suffix}:id")), 2, "Ids go with those of the index")
    refused(run(*call(relevant=f"asked.{suffix}:row", index_ids="ids.txt")), 2, "of one kind")


@pytest.fixture
def tables(case, tmp_path):
    """The files as tables with ids, those of the new model in another order, with what queries should find."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rng = np.random.default_rng(5)

    def table(name, order, **more):
        rows = case[name][order]
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        columns = {"id": [f"k{k}" for k in order], "v": lists} | {
            key: some[order] for key, some in more.items()
        }
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet")

    for name in FILES:
        count = len(case[name])
        shuffled = name.startswith("new")
        asked = {"find": case["relevant"]} if name.endswith("queries") else {}
        table(name, rng.permutation(count) if shuffled else np.arange(count), **asked)
    return {name: f"{name}.parquet" for name in FILES}


def test_tables_in_another_order_are_warned_of(tables):
    npy = {name: f"{name}.npy" for name in FILES}
    for what in ("anchors", "queries", "index"):
        some = {name: tables[name] for name in FILES if name.endswith(what)}
        said = " ".join(run(*call(**(npy | some))).stderr.split())
        assert (
            said.count("Warning: the tables are paired by the order of their rows, but row 0 has the id") == 1
        )
        assert f"old_{what}.parquet" in said
        assert "pair by them: id_column='id' (--id-column id)" in said


def test_pairs_by_id(tables, case):
    expected = latalign.verdict(**case).to_json()
    result = run(*call(**tables), "--id-column", "id", "--json")
    assert done_json(result) == expected
    assert "Warning" not in result.stderr
    alone = latalign.verdict(**case | {"new_index": None}).to_json()
    assert done_json(run(*call(**tables | {"new_index": None}), "--id-column", "id", "--json")) == alone


@pytest.mark.parametrize("side", ["old", "new"])
def test_what_stands_beside_rows_is_paired_with_them(tables, case, side):
    expected = latalign.verdict(**case).to_json()
    asked = tables | {"relevant": f"{side}_queries.parquet:find"}
    assert done_json(run(*call(**asked), "--id-column", "id", "--json")) == expected
    np.savetxt("asked.txt", [f"k{one}" for one in case["relevant"]], fmt="%s")
    for new_index in (tables["new_index"], None):
        named = latalign.verdict(**case | ({} if new_index else {"new_index": None})).to_json()
        given = {"relevant": "asked.txt", "index_ids": f"{side}_index.parquet:id", "new_index": new_index}
        assert done_json(run(*call(**tables | given), "--id-column", "id", "--json")) == named


def test_ids_that_do_not_pair(tables):
    pq = pytest.importorskip("pyarrow.parquet")
    by_id = ("--id-column", "id")
    refused(run(*call(**tables | {"old_queries": "old_queries.npy"}), *by_id), 2, "has no column 'id'")
    queries = pq.read_table("new_queries.parquet")
    pq.write_table(queries.slice(3), "fewer.parquet")
    words = "3 of 150 ids of old_queries.parquet are not in fewer.parquet. Leave those rows out of old_queries.parquet"
    refused(run(*call(**tables | {"new_queries": "fewer.parquet"}), *by_id), 2, words)
    refused(run(*call(**tables | {"new_queries": "fewer.parquet"})), 2, "do not pair by order")
    words = "3 of 150 ids of old_queries.parquet are not in fewer.parquet"
    refused(run(*call(**tables | {"relevant": "fewer.parquet:find"}), *by_id), 2, words)
    pq.write_table(queries.take([0, *range(149)]), "twice.parquet")
    refused(
        run(*call(**tables | {"new_queries": "twice.parquet"}), *by_id),
        2,
        "old_queries.parquet and twice.parquet",
    )


def test_relevant_ids_may_be_text_of_any_number_a_line(case):
    plain = done_json(run(*call(), "--json"))
    ids = [f"{number:04}" for number in range(len(case["old_index"]))]
    np.save("ids.npy", ids)
    lines = [ids[one] if one % 2 else f"{ids[one]} {ids[one]}" for one in case["relevant"]]
    pathlib.Path("asked.txt").write_text("\n".join(lines))
    assert done_json(run(*call(relevant="asked.txt", index_ids="ids.npy"), "--json")) == plain
    np.save("numbers.npy", np.arange(len(ids)))
    assert done_json(run(*call(relevant="asked.txt", index_ids="numbers.npy"), "--json")) == plain
    refused(run(*call(relevant=None, index_ids="ids.npy")), 2, "--index-ids goes with --relevant")


def test_the_chosen_map_is_written(case):
    text = done(run(*call(), "-o", "bridge.safetensors"))
    assert "bridge.safetensors: queries are mapped by it." in " ".join(text.split())
    mapped = latalign.load_map("bridge.safetensors")
    np.testing.assert_array_equal(mapped.matrix, latalign.verdict(**case).option("bridge").query_map.matrix)
    record = done_json(run(*call(), "-o", "again.safetensors", "--json"))
    assert record["output"] == {"queries": "again.safetensors"}
    refused(run(*call(), "-o", "map.npy"), 2, "a map file is a safetensors file")
    refused(run(*call(), "-o", "none/map.safetensors"), 2, "the folder none does not exist")


def test_no_map_is_written_where_none_is_chosen(case):
    kept = latalign.verdict(**case).option("bridge").query_map
    kept.save("old.safetensors")
    before = pathlib.Path("old.safetensors").read_bytes()
    for changed, choice in (({"new_noise": 1.0}, "keep"), (_RE_EMBED, "re-embed")):
        for name, rows in model_change(np.random.default_rng(1), **changed).items():
            np.save(f"{name}.npy", rows)
        result = run(*call(), "-o", "old.safetensors")
        assert result.exit_code == 1
        assert f"nothing was written to old.safetensors: the verdict is '{choice}'" in result.stderr
        assert pathlib.Path("old.safetensors").read_bytes() == before


def test_no_map_is_better(case):
    rng = np.random.default_rng(1)
    case = model_change(rng, new_noise=1.0)
    for name in FILES:
        written(f"{name}.npy", case[name])
    result = run(*call())
    assert result.exit_code == 1
    assert "No map beats keeping the old model." in result.stdout
    assert "→ keep" in result.stdout
    assert "Error" not in result.stderr


def test_few_queries_cannot_tell(case):
    for name in ("old_queries", "new_queries"):
        written(f"{name}.npy", case[name][:3])
    np.save("relevant.npy", case["relevant"][:3])
    result = run(*call())
    assert result.exit_code == 1
    assert "Cannot tell: keep the old model until more queries do." in result.stdout


def test_the_new_models_own_neighbors_are_no_choice(case):
    text = run(*call(relevant=None)).stdout
    assert "truth: neighbors in the new index" in text
    assert "→ re-embed" not in text
    assert "Re-embedding is the truth here and no choice" in text


def test_wrong_calls_and_unsound_files(case, tmp_path):
    refused(run(*call(relevant=None, new_index=None)), 2, "give --relevant, or --new-index")
    refused(run(*call(relevant="none.npy")), 2, "there is no file none.npy")
    refused(run(*call(old_index="none.npy")), 2, "there is no file none.npy")
    np.savetxt("relevant.txt", case["relevant"], fmt="%d")
    np.save("relevant.npy", np.full(len(case["relevant"]), 5000))
    refused(run(*call()), 2, "relevant rows that are in the index")
    (tmp_path / "words.txt").write_text("first\nsecond\n")
    refused(run(*call(relevant="words.txt")), 2, "words.txt is no list of relevant rows")
    (tmp_path / "nothing.npy").touch()
    refused(run(*call(relevant="nothing.npy")), 2, "nothing.npy is no list of relevant rows")
    refused(run(*call(old_queries="new_anchors.npy")), 2, "do not pair by order")
    written("nan.npy", np.full(case["old_queries"].shape, np.nan))
    refused(run(*call(relevant="relevant.txt", old_queries="nan.npy")), 2, "finite values; 150 of 150 rows")
    written("few.npy", case["old_anchors"][:5])
    np.save("relevant.npy", case["relevant"])
    refused(run(*call(old_anchors="few.npy", new_anchors="few.npy")), 2, "at least 10 anchors")
    assert run("verdict").exit_code == 2
