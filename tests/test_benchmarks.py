"""The arithmetic of the benchmarks; nothing is timed here."""

import math

import pytest

from benchmarks import __main__ as program
from benchmarks import harness
from benchmarks.harness import Figure, medians


def test_limits_both_ways():
    assert Figure("x", 1.0, 1.1).met
    assert not Figure("x", 1.2, 1.1).met
    assert Figure("x", 1.2, 1.1, "at least").met
    assert not Figure("x", 1.0, 1.1, "at least").met
    assert Figure("x", 99.0).met
    assert Figure("x", math.nan, 1.0).met
    assert str(Figure("x", 1.2, 1.1)).startswith("SHORT")
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
