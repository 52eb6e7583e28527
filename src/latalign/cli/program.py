"""What every command has in common: exit statuses, errors and warnings as one line, a clean end."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import click

_FAILED, _FAILED_OTHERWISE, _INTERRUPTED, _BROKEN_PIPE = 1, 2, 130, 141
# Raised on purpose with a text for the user; anything else is a fault of the program.
_EXPECTED = (ValueError, TypeError, OSError, ImportError)
_NOT_FOR_USERS = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)


@dataclass(slots=True)
class Settings:
    """What was asked of the program as a whole."""

    debug: bool = False
    failed: int = _FAILED  # the status of failed work; a command that means something else by 1 has its own


def answers_by_status(context: click.Context) -> None:
    """Let a command say something by the exit status 1: work that failed ends as a wrong call does, with 2."""
    context.ensure_object(Settings).failed = _FAILED_OTHERWISE


def exit_statuses(done: str, failed: str, wrong: str) -> str:
    """Return the text on exit statuses for the help of a command, of which three are its own."""
    return f"""
\b
Exit status:
    0  {done}
    1  {failed}
    2  {wrong}
  129  the terminal hung up
  130  interrupted
  141  whoever read the output went away
  143  told to end
"""


EXIT_STATUSES = exit_statuses(
    "done",
    "the work failed: unsound contents, no room, a missing extra",
    "the call was wrong: an unknown option, a file that does not exist,\n"
    "       a suffix that is not read, an output that is an input",
)
ERRORS = "the call was wrong or the work failed, and the error says why"
"""What 2 means to a command that says something by 1."""


class _ReaderGone(Exception):
    """Whoever read stdout went away, as ``head`` does."""


class Program(click.Group):
    """A group of commands that ends with one clear line and an exit status, whatever happens."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order in which they are used."""
        return list(self.commands)

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        """Run the command that the arguments name, and exit with its status."""
        settings = Settings()
        extra.setdefault("obj", settings)
        if not standalone_mode:
            return super().main(*args, standalone_mode=False, **extra)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # a terminal without arrows gets a question mark
        with _warnings_on_stderr(), _ended_by_signals():
            sys.exit(self._status(settings, *args, **extra))

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, what it printed included."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:  # closed by whoever started the program
                sys.stdout.flush()
        except BrokenPipeError as error:
            raise _ReaderGone from error  # click would end with a status of its own
        return result

    def _status(self, settings: Settings, *args: Any, **extra: Any) -> int:
        try:
            status = super().main(*args, standalone_mode=False, **extra)
        except click.ClickException as error:
            error.show()
            return error.exit_code
        except click.Abort:
            click.echo("Interrupted.", err=True)
            return _INTERRUPTED
        except _ReaderGone:
            _silence()
            return _BROKEN_PIPE
        except Exception as error:
            if settings.debug:
                raise
            click.echo(f"Error: {said(error)}", err=True)
            return settings.failed
        return status if isinstance(status, int) else 0


def said(error: Exception) -> str:
    """Return what an error says, for a user, on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"there is not enough memory. {text}".strip()
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, _EXPECTED) and text:
        return text
    return (
        f"unexpected {type(error).__name__}: {text}. This is a fault of latalign: please report it, with what "
        "the same call says with --debug."
    )


def debug_option(command: Any) -> Any:
    """Add ``--debug``, which may stand before or after the name of a command."""

    def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
        settings = context.find_object(Settings)
        if value and settings is not None:
            settings.debug = True

    return click.option(
        "--debug", is_flag=True, expose_value=False, callback=remember, help="Show the traceback of an error."
    )(command)


@contextmanager
def _warnings_on_stderr() -> Iterator[None]:
    """Show each warning once, as one line."""
    shown: set[str] = set()

    def show(message: Warning | str, *where: Any, **more: Any) -> None:
        text = " ".join(str(message).split())
        if text not in shown:
            shown.add(text)
            click.echo(f"Warning: {text}", err=True)

    with warnings.catch_warnings():
        if not sys.warnoptions:  # who asked Python for something else gets it
            warnings.simplefilter("always")
            for category in _NOT_FOR_USERS:
                warnings.simplefilter("ignore", category)
        warnings.showwarning = show
        yield


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave by the usual way out when the program is told to end, so that no temporary file stays."""
    told: tuple[int, BaseException] | None = None

    def leave(number: int, frame: object) -> None:
        nonlocal told
        if told is None:  # a second signal would end the clean-up half way
            told = number, KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
            raise told[1]

    def once_more(lost: sys.UnraisableHookArgs) -> None:
        """Give a signal again that came where nothing can be raised, as in the callback of a weak reference."""
        nonlocal told
        if told is None or lost.exc_value is not told[1]:
            show(lost)
            return
        again = threading.Timer(0.01, signal.raise_signal, [told[0]])
        told = None
        again.start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # What is ignored stays so: under nohup the program outlives its terminal.
    before = {one: found for one in numbers if (found := signal.getsignal(one)) is not signal.SIG_IGN}
    for one in before:
        signal.signal(one, leave)
    show, sys.unraisablehook = sys.unraisablehook, once_more
    try:
        yield
    finally:
        sys.unraisablehook = show
        for one, handler in before.items():  # Python ends by itself yet, with the handlers of the system
            signal.signal(one, handler if told is None else signal.SIG_IGN)


def _silence() -> None:
    """Send what is still buffered nowhere: its reader has gone away."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere, stream.fileno())
