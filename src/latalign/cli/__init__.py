"""The command line: each command parses its arguments, calls the library, and shows what came back."""

from __future__ import annotations

from latalign.cli import applying as _applying  # noqa: F401 - adds its command
from latalign.cli import auditing as _auditing  # noqa: F401
from latalign.cli import evaluating as _evaluating  # noqa: F401
from latalign.cli import experiments as _experiments  # noqa: F401 - adds its commands
from latalign.cli import model_change as _model_change  # noqa: F401
from latalign.cli import spaces as _spaces  # noqa: F401
from latalign.cli.commands import main

__all__ = ["main"]
