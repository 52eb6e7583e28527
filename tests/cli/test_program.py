"""What the commands have in common: help, errors, warnings, bars."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pytest

import latalign
from calls import POSIX, done, program, refused, run
from latalign.cli import show


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

        monkeypatch.setattr(latalign.comparison, "compare", broken)
        refused(
            run("compare", "x.npy", "y.npy"), 1, "unexpected KeyError: 'oops'. This is a fault of latalign"
        )

    def test_want_of_memory_is_said_to_be_that(self, folder, monkeypatch):
        def hungry(*arguments, **options):
            raise MemoryError("Unable to allocate 9 TiB")

        monkeypatch.setattr(latalign.comparison, "compare", hungry)
        refused(run("compare", "x.npy", "y.npy"), 1, "there is not enough memory. Unable to allocate 9 TiB")

    def test_warnings_are_short_lines_each_once_and_deprecations_none(self, folder, monkeypatch):
        def noisy(*arguments, **options):
            for _ in range(3):
                warnings.warn("mind the\n gap", UserWarning, stacklevel=1)
                warnings.warn("old hat", DeprecationWarning, stacklevel=1)
            raise ValueError("enough")

        monkeypatch.setattr(latalign.comparison, "compare", noisy)
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
