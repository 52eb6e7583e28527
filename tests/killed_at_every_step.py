"""A program for `test_parts`: apply into a folder, killed at every step there is, and gone on with each time.

``python killed_at_every_step.py FOLDER SUFFIX``: FOLDER holds ``map.safetensors`` and the files of ``in``.
Prints the number of steps. Forked, so that the libraries are loaded once.
"""

import os
import shutil
import signal
import sys
from pathlib import Path

from latalign.io.parquet import ParquetWriter
from latalign.io.raw import RawWriter
from latalign.on_disk import load_map
from latalign.parts import apply_folder


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_a_child(work):
    """Run in a process of its own, and return how it ended: 0, or the number of the signal."""
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1]


def steps_until(last):
    """Let every call that touches the disk be two steps, before and after, of which the last is deadly."""
    done = 0

    def step():
        nonlocal done
        done += 1
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(function):
        def call(*arguments, **options):
            step()
            result = function(*arguments, **options)
            step()
            return result

        return call

    for place, name in (
        (os, "replace"),
        (os, "rename"),
        (os, "fsync"),
        (os, "mkdir"),
        (os, "open"),
        (shutil, "rmtree"),
        (RawWriter, "append"),
        (ParquetWriter, "append"),
        (ParquetWriter, "flush"),
    ):
        setattr(place, name, counted(getattr(place, name)))


def main():
    home = Path(sys.argv[1])

    def run(output, **options):
        apply_folder(
            load_map(home / "map.safetensors"), home / "in", output, batch_rows=5, threads=1, **options
        )

    assert in_a_child(lambda: run(home / "whole")) == 0
    whole = contents(home / "whole")
    last, ended = 0, signal.SIGKILL
    while ended == signal.SIGKILL:
        last += 1
        output = home / "cut"

        def cut(last=last, output=output):
            steps_until(last)
            run(output)

        ended = in_a_child(cut)
        # Under its name there is all of it or nothing; and what is beside it has a name that is no part's.
        assert not output.exists() or contents(output) == whole, last
        for path in (home / ".cut.partial").glob("*"):
            assert (
                path.name.startswith(".")
                or whole.get(path.name) == path.read_bytes()
                or path.suffix == ".json"
            )
        assert in_a_child(lambda output=output: run(output, resume=True)) == 0, last
        assert contents(output) == whole, last
        assert sorted(path.name for path in home.iterdir()) == ["cut", "in", "map.safetensors", "whole"]
        shutil.rmtree(output)
    assert ended == 0
    print(last - 1)


if __name__ == "__main__":
    main()
