"""The arithmetic of the benchmarks; nothing is timed here."""

import importlib
import math

import numpy as np
import pytest

from benchmarks import __main__ as program
from benchmarks import harness, real_pairs, retrieval
from benchmarks.harness import Figure, medians


def test_limits_both_ways():
    assert Figure("x", 1.0, 1.1).met
    assert not Figure("x", 1.2, 1.1).met
    assert Figure("x", 1.2, 1.1, "at least").met
    assert not Figure("x", 1.0, 1.1, "at least").met
    assert Figure("x", 99.0).met
    assert Figure("x", math.nan, 1.0).met
    assert str(Figure("x", 1.2, 1.1)).startswith("SHORT")
    assert "1.068  (at least 1.07)" in str(Figure("x", 1.068, 1.07, "at least"))  # and not 1.07
    assert "not measured, no peer" in str(Figure("x", math.nan, note="no peer"))


def test_medians_in_turns_after_a_round_that_is_not_counted(monkeypatch):
    now, order = [0.0], []
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])

    def slow():
        order.append("slow")
        now[0] += 100.0 if len(order) <= 2 else 2.0

    def quick():
        order.append("quick")
        now[0] += 1.0

    monkeypatch.setattr(harness, "warm_memory", lambda: None)
    assert medians({"slow": slow, "quick": quick}, 3) == {"slow": 2.0, "quick": 1.0}
    assert order == ["slow", "quick"] * 4


@pytest.mark.parametrize(("value", "status"), [(1.0, 0), (3.0, 1)])
def test_exit_status(monkeypatch, capsys, tmp_path, value, status):
    monkeypatch.setattr(program, "SUITES", {"fake": lambda rounds: iter([Figure("it", value, 2.0)])})
    assert program.main(["--json", str(tmp_path / "out.json")]) == status
    assert f"1 figures, {status} short" in capsys.readouterr().out
    assert (tmp_path / "out.json").exists()


def test_the_device_suite_runs_on_whichever_there_is(monkeypatch):
    torch = pytest.importorskip("torch")
    gpu = importlib.import_module("benchmarks.gpu")
    threads, rows = torch.get_num_threads(), gpu.rows
    monkeypatch.setattr(gpu, "rows", lambda count, *dims: rows(1000, *dims))
    monkeypatch.setattr(harness, "warm_memory", lambda: None)
    try:
        figures = list(gpu.gpu(1))
    finally:
        torch.set_num_threads(threads)
    assert any("on a GPU: not measured" in str(figure) for figure in figures) != torch.cuda.is_available()
    checked = [figure for figure in figures if figure.limit is not None]
    assert len(checked) == 3
    assert all(figure.met for figure in checked)


FOLDERS = {
    "real_pairs": {"--embeddings"},
    "retrieval": {"--embeddings"},
    "real_selection": {"--networks", "--embeddings"},
    "anchor_choice": {"--networks", "--embeddings"},
    "curves": {"--networks"},
    "labels": {"--networks"},
    "many": {"--networks", "--embeddings"},
    "unpaired": {"--networks", "--embeddings"},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders_have_one_name_in_every_command(capsys, name):
    command = importlib.import_module(f"benchmarks.{name}")
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    options = set(capsys.readouterr().out.replace("]", " ").replace("[", " ").split())
    assert options & {"--networks", "--embeddings", "--cache"} == FOLDERS[name]


class TestTexts:
    """The pairs of text encoders: of a folder that is given, or of the user's cache."""

    @pytest.fixture
    def text_pairs(self):
        return importlib.import_module("benchmarks.real_selection").text_pairs

    def test_those_of_the_cache_unless_another_folder_is_given(self, text_pairs, tmp_path, monkeypatch):
        monkeypatch.setattr(real_pairs.pooch, "os_cache", lambda _: tmp_path)
        folder = tmp_path / "real-pairs"
        folder.mkdir()
        for name in real_pairs.ENCODERS:
            np.save(folder / f"{name}.documents.npy", np.full((2, 2), len(name)))
        for given in (None, folder):
            pairs = {pair.name: pair.rows() for pair in text_pairs(given)}
            assert list(pairs) == ["minilm → e5", "e5 → minilm", "lsa → e5", "e5 → lsa"]
            assert [int(rows[0, 0]) for rows in pairs["minilm → e5"]] == [6, 2]

    def test_none_where_they_were_not_made(self, text_pairs, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(real_pairs.pooch, "os_cache", lambda _: tmp_path)
        assert list(text_pairs(None)) == []
        assert "no texts: " in (said := capsys.readouterr().err)
        assert "python -m benchmarks.real_pairs makes them" in said

    def test_a_folder_that_is_given_must_have_them(self, text_pairs, tmp_path):
        with pytest.raises(
            SystemExit, match=r"does not have the embeddings; python -m benchmarks\.real_pairs"
        ):
            list(text_pairs(tmp_path))


def test_retrieval_is_held_to_its_claim_in_every_setting():
    def row(count, found):
        values = {
            "retrieval": 0.5,
            "no_offset": 0.5,
            "both_sides": 0.5,
            "local": found,
            "plain_for_queries": 0.5,
        }
        values |= {"retrieval_for_queries": 0.5, "local_for_queries": 0.6}
        return retrieval.Measured("one", "other", count, "documents", 1.0, "rigid", 0.5, **values)

    figures = list(retrieval.figures([row(500, 0.5345), row(2000, 0.535), row(5000, 0.6)]))
    of_local = [figure for figure in figures if " of local_retrieval / " in figure.name]
    for_queries = [figure for figure in figures if " of local_retrieval for known queries / " in figure.name]
    assert [figure.met for figure in of_local] == [False, True, True, True]  # the last is the mean
    assert [figure.value for figure in for_queries] == pytest.approx([1.2] * 4)
    assert str(of_local[0]).startswith("SHORT")
    assert "one → other, 500 anchors, documents: 1.069" in str(of_local[0])
    assert of_local[3].value == pytest.approx((1.069 * 1.07 * 1.2) ** (1 / 3))
    assert {figure.limit for figure in figures if " of retrieval" in figure.name} == {None}
