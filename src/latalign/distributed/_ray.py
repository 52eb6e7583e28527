"""Ray: workers of this machine, or those of a cluster that runs somewhere."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, final

from latalign.distributed._window import call, in_order
from latalign.engine import Engine
from latalign.io.extras import required

Result = TypeVar("Result")

_PATIENCE = 10.0  # seconds for what is in flight when a run ends early


@contextmanager
def ray(address: str | None = None, *, workers: int | None = None) -> Iterator[Engine]:
    """Give an engine of Ray's tasks, which end with the block where Ray was started for it.

    A worker that dies loses nothing: its part is done again by another.

    Parameters
    ----------
    address : str, optional
        Of a cluster, such as ``"10.0.0.1:6379"``, or ``"auto"``. Its workers need latalign, of the same
        version, and the files under the same paths. Unless given, Ray is started on this machine, or taken
        as it is where `ray.init` was called before.
    workers : int, optional
        How many to start here; as many as there are processors unless given.

    Yields
    ------
    Engine

    Raises
    ------
    ModuleNotFoundError
        If Ray is not installed.
    OSError
        If there is no cluster at the address, or workers died again and again on the same part.

    Notes
    -----
    What Ray starts listens on every interface of the machine, whatever it is told. Where that matters, start
    it in a network namespace of its own: ``unshare --net --map-root-user sh -c "ip link set lo up; ..."``.

    Examples
    --------
    .. code-block:: python

        import latalign.distributed

        with latalign.distributed.ray() as engine:
            found = latalign.fit_files("old/", "new/", engine=engine)
    """
    core: Any = required("ray", "ray", "Runs on Ray", having="init")
    if core.is_initialized():
        yield _Ray(core)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nobody was asked whether Ray may report home
    here: dict[str, Any] = {} if address is not None else {"num_cpus": workers, "include_dashboard": False}
    try:
        core.init(address or "local", log_to_driver=False, logging_level=logging.CRITICAL, **here)
    except (ConnectionError, RuntimeError) as error:
        raise OSError(f"there is no Ray at {address}: {error}") from error
    try:
        yield _Ray(core)
    finally:
        core.shutdown()


@final
@dataclass(frozen=True, slots=True)
class _Ray:
    """The engine of Ray's core; not of Ray Data, whose blocks are not ours."""

    core: Any

    def map(self, fn: Callable[[Any], Result], items: Iterable[Any], /) -> Iterator[Result]:
        """Yield the result for every item, in their order."""
        core = self.core
        function, task = core.put(fn), core.remote(call)
        return in_order(
            items,
            lambda item: task.remote(function, item),
            self._result,
            lambda: int(core.cluster_resources().get("CPU", 1)),
            # Not cancelled: Ray 2.60 aborts the whole process where a task ends at the same moment.
            lambda waiting: core.wait(waiting, num_returns=len(waiting), timeout=_PATIENCE),
        )

    def _result(self, reference: Any) -> Any:
        try:
            return self.core.get(reference)
        except self.core.exceptions.RayTaskError as error:  # what our function raised is in it
            raise error.cause from None
        except self.core.exceptions.RayError as error:
            raise OSError(f"Ray gave up: {error}") from error
