"""A run: what is written, what goes on, and what failures cost."""

import json
from dataclasses import replace

import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor

torch = pytest.importorskip("torch")
pytest.importorskip("pooch")
pytest.importorskip("matplotlib")

from latalign.experiments import lab, work  # noqa: E402
from latalign.experiments import reproduce as module  # noqa: E402
from latalign.experiments.cache import CacheWarning  # noqa: E402
from latalign.experiments.data import FASHION_MNIST  # noqa: E402
from latalign.experiments.measures import (  # noqa: E402
    Mapped,
    Own,
)
from latalign.experiments.plan import Cell, Plan  # noqa: E402
from latalign.experiments.report import markdown  # noqa: E402
from latalign.experiments.reproduce import reproduce  # noqa: E402
from latalign.experiments.results import Table  # noqa: E402
from latalign.experiments.specs import Anchors, Network  # noqa: E402
from small_lab import CONV, MLP, SMALL, counted, forget, made  # noqa: E402

pytestmark = pytest.mark.usefixtures("tiny")


def small_plan(preset):
    def pair(seed):
        return (Network("MNIST", "conv", 3, preset.epochs, 2 * seed + side) for side in range(2))

    cells = [
        Cell({"latent": 3}, "ae_baseline", tuple(Own(tuple(pair(s))[1]) for s in range(preset.seeds)), 0.5),
        Cell(
            {"latent": 3},
            "linear",
            tuple(
                Mapped(*pair(s), Anchors(20, draw), "linear")
                for s in range(preset.seeds)
                for draw in range(preset.draws)
            ),
            0.6,
        ),
    ]
    return Plan("table1", "Table 1: small", "Does it work?", tuple(cells))


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(module, "TABLES", {"table1": small_plan})
    monkeypatch.setattr(module, "PRESETS", {"small": SMALL})


def run(tmp_path, **more):
    return reproduce(["table1"], tmp_path / "out", preset="small", jobs=1, cache=tmp_path / "cache", **more)


def test_a_table_is_written_three_ways(tmp_path, small, capsys):
    (table,) = run(tmp_path)
    out = capsys.readouterr().out
    assert "preset small" in out
    assert "minute" in out
    assert "tiny digits" in out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "table1.json",
        "table1.md",
        "table1.png",
    ]
    linear = table.cell("linear", latent=3)
    assert len(linear.errors) == SMALL.seeds * SMALL.draws
    assert linear.mean == pytest.approx(np.mean(linear.errors))
    assert linear.deviation == pytest.approx(np.std(linear.errors, ddof=1))
    record = json.loads((tmp_path / "out" / "table1.json").read_text())
    (cell,) = [one for one in record["results"] if one["column"] == "linear"]
    assert cell["mean"] == linear.mean
    assert cell["excess_over_floor"] == pytest.approx(linear.mean - made("sigmoid").floor)
    assert cell["configuration"]["kind"] == "Mapped"
    assert cell["seeds"] == 2
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "*0.6*" in text
    assert f"{linear.mean:.4f} ±" in text
    loaded = Table.load(tmp_path / "out" / "table1.json")
    assert loaded.cell("linear", latent=3).errors == linear.errors
    assert markdown(loaded) == text


def test_what_was_done_is_not_done_again(tmp_path, small, monkeypatch):
    (table,) = run(tmp_path)
    forget()
    done = counted(monkeypatch)
    monkeypatch.setattr(Mapped, "__call__", lambda self, lab: pytest.fail("measured again"))
    (again,) = run(tmp_path)
    assert not done
    assert again.results == table.results


def test_a_damaged_entry_is_told_of_by_the_run(tmp_path, small):
    (table,) = run(tmp_path)
    for entry in (tmp_path / "cache").iterdir():
        entry.write_bytes(b"")
    forget()
    with pytest.warns(CacheWarning, match="made anew"):
        (again,) = run(tmp_path)
    assert [one.errors for one in again.results] == [one.errors for one in table.results]
    assert all(entry.stat().st_size for entry in (tmp_path / "cache").iterdir())


def test_an_interrupted_run_goes_on(tmp_path, small, monkeypatch):
    inner, calls = lab.train, []

    def interrupted(*given, **more):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return inner(*given, **more)

    monkeypatch.setattr("latalign.experiments.estimate.train", inner)
    monkeypatch.setattr(lab, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert len(calls) == 3
    forget()
    run(tmp_path)
    assert len(calls) == 3 + 2  # of four networks two were there


def test_a_failed_training_costs_its_cells_and_names_itself(tmp_path, small, monkeypatch):
    inner = lab.train

    def failing(network, *given, seed, **more):
        if seed == 2:
            raise ValueError("train: the loss of Sequential became nan")
        return inner(network, *given, seed=seed, **more)

    monkeypatch.setattr(lab, "train", failing)
    (table,) = run(tmp_path)
    # Seed 1 of the table maps network 2 to network 3.
    own, linear = (table.cell(name, latent=3) for name in ("ae_baseline", "linear"))
    assert len(own.errors) == 2
    assert len(linear.errors) == 2
    assert len(linear.failures) == 2
    assert "MNIST, conv, codes of 3, seed 2" in linear.failures[0]
    assert "became nan" in linear.failures[0]
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "[2 failed]" in text
    assert "codes of 3, seed 2: train: the loss" in text


def test_an_error_that_is_not_finite_is_a_failure_that_names_its_cell(tmp_path, small, monkeypatch):
    monkeypatch.setattr(Mapped, "__call__", lambda self, lab: float("inf"))
    (table,) = run(tmp_path)
    linear = table.cell("linear", latent=3)
    assert not linear.errors
    assert len(linear.failures) == SMALL.seeds * SMALL.draws
    text = (tmp_path / "out" / "table1.md").read_text()
    assert "- linear (latent 3): the error of the decoded images became inf" in text
    assert Table.load(tmp_path / "out" / "table1.json").cell("linear", latent=3) == linear


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"names": ["table7"]}, "table1, .* and all; got 'table7'"),
        ({"names": []}, "needs a table"),
        ({"preset": "slow"}, "preset is 'quick' or 'full'"),
        ({"seeds": 0}, "1 seed or more"),
        ({"jobs": 0}, "1 process or more"),
        ({"device": "tpu"}, "device is"),
    ],
)
def test_wrong_calls_leave_nothing(tmp_path, given, text):
    names = given.pop("names", ["table1"])
    with pytest.raises(ValueError, match=text):
        reproduce(names, tmp_path / "out", cache=tmp_path / "cache", **given)
    assert not list(tmp_path.iterdir())


def test_the_cuts_tell_of_a_single_seed(tmp_path, small):
    (two,) = run(tmp_path)
    (one,) = run(tmp_path, seeds=1)
    assert (one.preset.seeds, two.preset.seeds) == (1, 2)
    assert "one seed" in one.preset.cuts
    assert "one seed" not in two.preset.cuts


def test_a_cache_that_cannot_be_is_refused_before_anything_is_trained(tmp_path, small, monkeypatch):
    (tmp_path / "cache").write_text("a file")
    done = counted(monkeypatch)
    with pytest.raises(FileExistsError, match="cache"):
        run(tmp_path)
    assert not done


def test_several_processes_train_measure_and_tell(tmp_path, monkeypatch):
    # Processes of their own do not see what is patched here: they read files.
    whole = made()
    parts = ((whole.train.images, whole.train.labels), (whole.test.images, whole.test.labels))
    arrays = [array for part in parts for array in part]
    for (name, _), values in zip(FASHION_MNIST.files, arrays, strict=True):
        shape = np.array(values.shape, ">u4").tobytes()
        (tmp_path / name.removesuffix(".gz")).write_bytes(
            bytes([0, 0, 8, values.ndim]) + shape + values.tobytes()
        )
    monkeypatch.setenv("LATALIGN_DATA", str(tmp_path))
    get_reusable_executor().shutdown(wait=True)  # one that was started before knows nothing of the variable
    try:
        two = work.Place(str(tmp_path / "cache"), "cpu", jobs=2)
        # Of no epochs: once through the images, since there an epoch is of 60,000.
        conv, mlp = (replace(spec, epochs=0) for spec in (CONV, MLP))
        told = []
        ended = dict(work.trained([conv, mlp], two, lambda *event: told.append(event)))
        assert set(ended) == {conv, mlp}
        assert not any(outcome.failure for outcome in ended.values())
        assert {what for what, *_ in told} == {str(conv), str(mlp)}
        assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2
        groups = [[Own(conv)], [Own(mlp)], [Mapped(conv, mlp, Anchors(50), "linear")]]
        found = dict(work.measured(groups, two, lambda *event: None))
        assert all(outcome.error and outcome.error > 0 for outcome in found.values())
        for entry in (tmp_path / "cache").glob("*.json"):
            entry.write_text("{")
        with pytest.warns(CacheWarning, match="made anew"):
            again = dict(work.measured(groups, two, lambda *event: None))
        assert {one: outcome.error for one, outcome in again.items()} == {
            one: outcome.error for one, outcome in found.items()
        }
    finally:
        get_reusable_executor().shutdown(wait=True)
