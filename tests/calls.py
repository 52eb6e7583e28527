"""Calls of the command line, and what is asked of every one."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from latalign.cli import main
from latalign.io.arrays import write_rows
from latalign.io.protocol import Block, Shape

POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and limits of POSIX systems")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def program(*arguments, before="", **options):
    """Start the program itself, after some lines of Python."""
    lines = f"{before}\nfrom latalign.cli import main; main()"
    call = [sys.executable, "-c", lines, *map(str, arguments)]
    return subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def refused(result, status, words=""):
    """The call ended with that status, one clear line, and nothing on stdout."""
    assert result.exit_code == status, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert len(said) == 1
    assert said[0] == result.stderr.splitlines()[-1]
    assert words in said[0]


def done(result):
    assert result.exit_code == 0, result.output
    return result.stdout


def done_json(result):
    """The one JSON object that stands on stdout."""
    text = done(result)
    assert text.count("\n") == 1
    return json.loads(text)


def written(path, rows):
    with write_rows(path, Shape(*rows.shape, rows.dtype)) as writer:
        writer.append(Block(rows))
    return path
