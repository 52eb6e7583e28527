"""How the program ends when it is interrupted, or there is no room."""

import errno
import os
import signal
import time
from contextlib import contextmanager

import numpy as np
import pytest

from calls import POSIX, program, refused, run, written
from latalign.cli import show
from latalign.io import files


@contextmanager
def interrupted(label):
    """A bar whose first step is Ctrl-C."""

    def advance(done, total):
        raise KeyboardInterrupt

    yield advance


SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)] if os.name == "posix" else []
HASTE = """
import os
import signal
from pathlib import Path

def unlink(path, *, missing_ok=False, remove=Path.unlink):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(os.getpid(), number)
    remove(path, missing_ok=missing_ok)

Path.unlink = unlink
"""
"""A program that gets more signals when it removes a file."""
LOST = """
import os
import signal
from latalign.io.raw import RawWriter

class Dying:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)

def append(writer, block, write=RawWriter.append, one=[Dying()]):
    one.clear()
    write(writer, block)

RawWriter.append = append
"""
"""A program that gets its signal while an object is finalized."""


def ended_by(*numbers, before="", ignored=()):
    """Return the status of an apply that gets signals in the midst of it (or gives itself one), and leaves nothing."""
    # Sparse, and mapped row by row: it would take minutes.
    np.lib.format.open_memmap("huge.npy", "w+", np.float32, (20_000_000, 6))
    there = sorted(os.listdir())

    def heed():
        for number, _ in SIGNALS:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)

    call = ("apply", "map.safetensors", "huge.npy", "-o", "new.npy", "--batch-rows", 1)
    process = program(*call, before=before, preexec_fn=heed)
    try:
        deadline = time.monotonic() + 60
        while numbers and sorted(os.listdir()) == there:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        for number in numbers:
            process.send_signal(number)
            time.sleep(0.1)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert out == ""
    assert "Traceback" not in err
    assert sorted(os.listdir()) == there
    return process.returncode


class TestHowItEnds:
    @pytest.mark.usefixtures("nothing_left")
    def test_an_interrupt(self, folder, monkeypatch):
        monkeypatch.setattr(show, "working", interrupted)
        result = run("apply", "map.safetensors", "x.npy", "-o", "new.npy", "--batch-rows", 50)
        assert result.exit_code == 130
        assert result.stdout == ""
        assert result.stderr.split() == ["Interrupted."]

    @POSIX
    @pytest.mark.parametrize(("number", "status"), SIGNALS)
    def test_a_signal_leaves_nothing(self, folder, number, status):
        assert ended_by(number) == status

    @POSIX
    @pytest.mark.parametrize(("number", "status"), SIGNALS)
    def test_signals_that_come_while_it_cleans_up(self, folder, number, status):
        assert ended_by(number, before=HASTE) == status

    @POSIX
    def test_a_signal_that_comes_where_nothing_can_be_raised(self, folder):
        assert ended_by(before=LOST) == 143

    @POSIX
    def test_a_hang_up_is_ignored_under_nohup(self, folder):
        assert ended_by(signal.SIGHUP, signal.SIGTERM, ignored=[signal.SIGHUP]) == 143

    @POSIX
    @pytest.mark.parametrize(
        "arguments", [["inspect", "map.safetensors"], ["inspect", "map.safetensors", "--json"]]
    )
    def test_a_reader_who_goes_away(self, folder, arguments):
        with program(*arguments) as process:
            process.stdout.close()
            assert process.stderr.read() == ""
        assert process.returncode == 141

    @POSIX
    def test_stdout_that_is_closed(self, folder):
        process = program("inspect", "map.safetensors", preexec_fn=lambda: os.close(1))
        _, err = process.communicate()
        assert (process.returncode, err) == (0, "")

    @pytest.mark.parametrize("suffix", ["npy", "safetensors", "parquet"])
    @pytest.mark.usefixtures("nothing_left")
    def test_a_disk_that_is_full(self, folder, monkeypatch, suffix):
        def fdopen(handle, mode):
            file = real(handle, mode)

            class FullDisk:
                """Every write fails; all else is the file's."""

                def __enter__(self):
                    return self

                def __exit__(self, *error):
                    file.close()

                def __getattr__(self, name):
                    return getattr(file, name)

                def write(self, data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            return FullDisk()

        real = os.fdopen
        monkeypatch.setattr(files.os, "fdopen", fdopen)
        refused(run("apply", "map.safetensors", "x.npy", "-o", f"new.{suffix}"), 1, "the disk is full")
        refused(run("fit", "x.npy", "y.npy", "-o", "new.safetensors"), 1, "the disk is full")

    @POSIX
    @pytest.mark.parametrize("suffix", ["npy", "safetensors", "parquet"])
    @pytest.mark.usefixtures("nothing_left")
    def test_a_limit_on_the_size_of_files(self, folder, tmp_path_factory, suffix):
        import resource

        wide = tmp_path_factory.mktemp("wide") / "wide.npy"
        written(wide, np.random.default_rng(0).normal(size=(5000, 6)))

        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

        process = program("apply", "map.safetensors", wide, "-o", f"new.{suffix}", preexec_fn=limit)
        out, err = process.communicate()
        assert process.returncode == 1
        assert out == ""
        assert err.splitlines() == [f"Error: cannot write new.{suffix}: File too large"]

    @POSIX
    @pytest.mark.usefixtures("nothing_left")
    def test_a_folder_that_cannot_be_written_to(self, folder, tmp_path_factory):
        if os.geteuid() == 0:
            pytest.skip("root may write anywhere")
        sealed = tmp_path_factory.mktemp("sealed")
        sealed.chmod(0o500)
        refused(run("apply", "map.safetensors", "x.npy", "-o", sealed / "new.npy"), 1, "Permission denied")
