"""The command line: each command parses its arguments, calls the library, and shows what came back."""

from __future__ import annotations

from latalign.cli import reproduction as _reproduction  # noqa: F401 - adds its command
from latalign.cli.commands import main

__all__ = ["main"]
