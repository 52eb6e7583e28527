"""latalign verdict."""

import numpy as np
import pytest

import latalign
from calls import done, done_json, refused, run, written
from problems import model_change

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


def test_relevant_rows_may_be_text(case):
    np.savetxt("relevant.txt", case["relevant"], fmt="%d")
    expected = done_json(run(*call(), "--json"))
    assert done_json(run(*call(relevant="relevant.txt"), "--json")) == expected


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
    refused(run(*call(relevant="none.npy")), 2, "does not exist")
    refused(run(*call(old_index="none.npy")), 2, "there is no file none.npy")
    np.savetxt("relevant.txt", case["relevant"], fmt="%d")
    np.save("relevant.npy", np.full(len(case["relevant"]), 5000))
    refused(run(*call()), 2, "relevant rows that are in the index")
    (tmp_path / "words.txt").write_text("first\nsecond\n")
    refused(run(*call(relevant="words.txt")), 2, "words.txt is no list of relevant rows")
    (tmp_path / "nothing.npy").touch()
    refused(run(*call(relevant="nothing.npy")), 2, "nothing.npy is no list of relevant rows")
    refused(run(*call(old_queries="new_anchors.npy")), 2, "as many rows")
    written("nan.npy", np.full(case["old_queries"].shape, np.nan))
    refused(run(*call(relevant="relevant.txt", old_queries="nan.npy")), 2, "finite values; 150 of 150 rows")
    written("few.npy", case["old_anchors"][:5])
    np.save("relevant.npy", case["relevant"])
    refused(run(*call(old_anchors="few.npy", new_anchors="few.npy")), 2, "at least 10 anchors")
    assert run("verdict").exit_code == 2
