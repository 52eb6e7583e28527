"""Dask: workers of this machine, on loopback alone, or those of a scheduler that runs somewhere."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, final

from latalign.distributed._window import call, in_order
from latalign.engine import Engine
from latalign.io.ahead import cores
from latalign.io.extras import required

Result = TypeVar("Result")


@contextmanager
def dask(scheduler: str | None = None, *, workers: int | None = None) -> Iterator[Engine]:
    """Give an engine of Dask's workers, which end with the block where they were started for it.

    A worker that dies loses nothing: its part is done again by another.

    Parameters
    ----------
    scheduler : str, optional
        The address of a scheduler, such as ``"tcp://10.0.0.1:8786"``. Its workers need latalign, of the same
        version, and the files under the same paths. Unless given, workers are started on this machine, as
        processes that listen on loopback alone. In a script of your own they are started below
        ``if __name__ == "__main__":``, as all processes are.
    workers : int, optional
        How many to start here; as many as there are processors unless given.

    Yields
    ------
    Engine

    Raises
    ------
    ModuleNotFoundError
        If Dask is not installed.
    OSError
        If there is no scheduler at the address, or workers died again and again on the same part.

    Examples
    --------
    .. code-block:: python

        import latalign.distributed

        with latalign.distributed.dask("tcp://10.0.0.1:8786") as engine:
            found = latalign.fit_files("old/", "new/", engine=engine)
            latalign.apply_folder(found.map, "more-old/", "more-new", engine=engine)
    """
    distributed: Any = required("distributed", "dask", "Runs on Dask")
    if scheduler is not None:
        with distributed.Client(scheduler, set_as_default=False) as client:
            yield _Dask(client)
        return
    with (
        distributed.LocalCluster(
            n_workers=workers or cores(),
            threads_per_worker=1,
            host="127.0.0.1",
            dashboard_address=None,
            silence_logs=logging.CRITICAL,  # the death of a worker is told by what comes of it
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield _Dask(client)


@final
@dataclass(frozen=True, slots=True)
class _Dask:
    """The engine of a client."""

    client: Any

    def map(self, fn: Callable[[Any], Result], items: Iterable[Any], /) -> Iterator[Result]:
        """Yield the result for every item, in their order."""
        client = self.client
        # A task of its own: where the worker that has it dies, another makes it again; scattered, it were lost.
        function = client.submit(pickle.loads, pickle.dumps(fn), pure=False)
        return in_order(
            items,
            lambda item: client.submit(call, function, item, pure=False),
            _result,
            lambda: len(client.scheduler_info(n_workers=-1)["workers"]),
            client.cancel,
        )


def _result(future: Any) -> Any:
    try:
        return future.result()
    except Exception as error:
        if type(error).__module__.startswith("distributed."):  # nothing that our function raised
            raise OSError(f"Dask gave up: {error}") from error
        raise
