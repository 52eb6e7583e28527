"""latalign demo."""

import sys
import types

import pytest

from calls import done, refused, run
from latalign.cli import show


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
