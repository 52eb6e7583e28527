"""``latalign reproduce``: its calls. What it does is tested in tests/experiments."""

import pytest

from calls import done, refused, run

pytest.importorskip("torch")
pytest.importorskip("pooch")
pytest.importorskip("matplotlib")

from latalign.cli.experiments import TABLES
from latalign.experiments import reproduce as module
from latalign.experiments import tables


@pytest.fixture
def asked(monkeypatch):
    """Keep what the command asks of the library, and do nothing."""
    calls = []
    monkeypatch.setattr(module, "reproduce", lambda *given, **more: calls.append((given, more)))
    return calls


def test_the_command_passes_on_what_it_is_given(asked, tmp_path):
    done(
        run(
            "reproduce", "table3", "table1", "--preset", "full", "--seeds", 2, "--device", "cpu",
            "--jobs", 1, "--cache", tmp_path / "cache", "-o", tmp_path / "out",
        )
    )  # fmt: skip
    ((names, folder), more) = asked[0]
    assert names == ("table3", "table1")
    assert folder == tmp_path / "out"
    more.pop("console")
    assert more == {"preset": "full", "seeds": 2, "device": "cpu", "jobs": 1, "cache": tmp_path / "cache"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("table7",), "'table7' is not one of"),
        (("table1", "--preset", "slow"), "'slow' is not one of"),
        (("table1", "--seeds", "0"), "0 is not in the range"),
        (("table1", "--jobs", "0"), "0 is not in the range"),
        (("table1", "--device", "tpu"), "'tpu' is not one of"),
    ],
)
def test_wrong_calls(asked, arguments, words):
    refused(run("reproduce", *arguments), 2, words)
    assert not asked


def test_no_table(asked):
    result = run("reproduce")
    assert result.exit_code == 2
    assert "table1" in result.stderr
    assert not asked


def test_a_folder_that_cannot_be_is_said_in_a_line(tmp_path):
    refused(run("reproduce", "table1", "-o", tmp_path / "no" / "out"), 2, "does not exist; make it first")
    assert not list(tmp_path.iterdir())


def test_the_command_knows_every_table():
    assert (*tables.TABLES, "all") == TABLES
