"""The arithmetic of the benchmarks; nothing is timed here."""

import importlib
import math

import numpy as np
import pytest

from benchmarks import __main__ as program
from benchmarks import harness, real_pairs, retrieval, selection
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
    assert not Figure("x", math.nan, 1.0, note="no peer", required=True).met
    assert str(Figure("x", math.nan, note="no peer", required=True)).startswith("SHORT")


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
    assert sum("of .npy" in figure.name for figure in figures) == 2
    checked = [
        figure for figure in figures if "relative difference" in figure.name and figure.limit is not None
    ]
    assert len(checked) == 3
    assert all(figure.met for figure in checked)


FOLDERS = {
    "real_pairs": {"--embeddings"},
    "retrieval": {"--embeddings"},
    "thresholds": {"--embeddings"},
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


class TestLabels:
    """What labels must find is held to the limits everywhere, whether all pairs reach them or not."""

    @pytest.fixture
    def labels(self):
        return importlib.import_module("benchmarks.labels")

    def figures(self, labels, latent, *errors):
        rows = [
            labels.Row(0.1, affine, found, linear, ridge, disagreement=0.1, agreement=0.3, seconds=1.0)
            for affine, found, linear, ridge in errors
        ]
        return {figure.name.split("labels / ")[1]: figure for figure in labels.figures({latent: rows})}

    def test_a_limit_that_all_pairs_miss_is_missed(self, labels):
        found = self.figures(labels, 30, (0.13, 0.14, 0.25, 0.3), (0.1, 0.11, 0.25, 0.2))
        assert list(found) == [
            "class means, linear, median",
            "class means, linear, worst",
            "better map of the class means, worst",
            "affine of all pairs, median",
            "affine of all pairs, worst",
        ]
        missed = self.figures(labels, 30, (0.13, 0.14, 0.25, 0.3))["class means, linear, median"]
        assert str(missed).startswith("SHORT")
        assert missed.value == pytest.approx(0.56)
        assert missed.note == "all pairs: 0.520"
        assert found["class means, linear, median"].met
        assert found["better map of the class means, worst"].value == pytest.approx(0.56)
        assert found["affine of all pairs, worst"].value == pytest.approx(1.1)

    def test_a_linear_map_that_explodes_is_no_measure(self, labels):
        found = self.figures(labels, labels.CLASSES, (0.2, 0.22, 9.0, 0.27))
        assert found["class means, ridge, median"].value == pytest.approx(0.22 / 0.27)
        assert not found["class means, ridge, median"].met
        assert found["better map of the class means, worst"].met

    def test_what_is_far_above_all_pairs_or_no_better_than_the_means_falls_short(self, labels):
        found = self.figures(labels, 50, (0.1, 0.2, 0.5, 0.19))
        assert not found["affine of all pairs, worst"].met
        assert not found["better map of the class means, worst"].met


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


class TestSelection:
    """What `shrunk` and `auto` cost is held against the best of the others, on average over the draws."""

    @staticmethod
    def errors(shrunk, auto=1.0, linear=1.0):
        others = dict.fromkeys(selection.METHODS, 2.0)
        return others | {"rigid": 1.5, "linear": linear, "affine": 0.5, "shrunk": shrunk, "auto": auto}

    def test_errors_are_averaged_before_they_are_compared(self):
        draws = [self.errors(0.5, linear=1.0), self.errors(1.5, linear=3.0)]
        rigid_or_linear, affine_too, auto = (ratio.of(draws) for ratio in selection.RATIOS)
        assert rigid_or_linear == pytest.approx(1.0 / 1.5)
        assert affine_too == pytest.approx(1.0 / 0.5)
        assert auto == pytest.approx(1.0 / 0.5)

    @pytest.mark.parametrize(("shrunk", "met"), [(1.0069, True), (1.0071, False)])
    def test_the_limit_is_that_of_the_worst_cell(self, shrunk, met):
        results = {"good": [self.errors(0.5)], "bad": [self.errors(shrunk)]}
        worst, mean, draw = selection.figures(results, selection.RATIOS[:1])
        assert worst.met == met
        assert "bad" in str(worst)
        assert draw.value == pytest.approx(shrunk)
        assert mean.value == pytest.approx((0.5 * shrunk) ** 0.5)

    def test_the_summary_is_by_anchors(self):
        cells = [selection.Cell(16, "rotation", noise, 20) for noise in (0.1, 0.5)]
        results = {
            cells[0]: [self.errors(0.4)],
            cells[1]: [self.errors(0.9)],
            selection.Digits(5): [self.errors(2.0)],
        }
        _, _, few, many = selection.summary(results)
        assert few.startswith("| 5 | 1 | 2.000 | 2.000 | 4.000 |")
        assert many.startswith("| 20 | 2 | 0.600 | 0.900 |")

    def test_real_pairs_are_summed_up_by_their_worst(self):
        real = importlib.import_module("benchmarks.real_selection")
        results = {
            real.Cell(kind, name, share, 10): [self.errors(1.0, auto=auto)]
            for share in real.SHARES
            for kind, name, auto in (("texts", "a", 0.5), ("texts", "b", 0.6), ("layers", "c", 0.505))
        }
        head, _, first, *_ = real.summary(results)
        assert head == "| anchors / dimensions | texts | layers |"
        assert first == "| 0.2 | 1.200 | 1.010 |"
        assert real.linear_at_threshold(results).value == pytest.approx(2.0)


def test_thresholds_are_those_that_own_queries_exceed_as_often(tmp_path, monkeypatch, capsys):
    thresholds = importlib.import_module("benchmarks.thresholds")
    monkeypatch.setattr(thresholds, "ANCHORS", (60,))
    monkeypatch.setattr(thresholds, "HELD_OUT", 200)
    monkeypatch.setattr(thresholds, "LET_THROUGH", (5,))
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    things = {"documents": rng.normal(size=(400, 8)), "anchors": rng.normal(size=(260, 8))}
    things["queries"], things["anchor_queries"] = things["documents"][:300], things["anchors"]
    np.save(tmp_path / "lsa.documents.npy", things["documents"])  # has to be there, and is not read
    for name, matrix in zip(retrieval.ENCODERS, (np.eye(8), turn), strict=True):
        for part, rows in things.items():
            noisy = rows + 0.3 * rng.normal(size=rows.shape)
            np.save(tmp_path / f"{name}.{part}.npy", noisy.astype(np.float32) @ matrix)
    np.save(tmp_path / "relevant.npy", np.arange(300))
    assert thresholds.main(["--embeddings", str(tmp_path)]) == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| minilm")]
    (_, _, *own), (_, _, *mapped), (_, native, _, calibrated, *_) = rows
    assert float(own[0]) >= float(mapped[0]) > 0.5
    assert float(native) == pytest.approx(5.0, abs=0.1)
    assert float(calibrated) == pytest.approx(5.0, abs=1.0)
