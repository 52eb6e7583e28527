"""Libraries that come with an extra: imported when they are needed, named when they are missing."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType


def required(module: str, extra: str, what: str, *, having: str | None = None) -> ModuleType:
    """Import a library of an extra.

    Parameters
    ----------
    module : str
        Its import name.
    extra : str
        The extra of latalign that brings it.
    what : str
        What needs it, in the plural.
    having : str, optional
        A name in it by which another package of the same import name is told apart.

    Raises
    ------
    ModuleNotFoundError
        If it is not installed; the message says what to type.
    """
    package = module.partition(".")[0]
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or package).partition(".")[0] != package:
            raise  # something that the library itself is missing
        raise _missing(package, extra, what) from error
    if having is not None and not hasattr(found, having):
        raise _missing(package, extra, what)
    return found


def pyarrow(what: str = "Tables", extra: str = "arrow") -> ModuleType:
    """Import pyarrow, which every format of tables needs."""
    return required("pyarrow", extra, what)


def _missing(package: str, extra: str, what: str) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"{what} need {package}, which is not installed: pip install 'latalign[{extra}]'", name=package
    )
