"""Trainings and measurements, one after another or on several processors, with their failures kept apart."""

from __future__ import annotations

import math
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from typing import Any, cast, final

from joblib import Parallel, delayed

from latalign.evidence import IllConditionedWarning
from latalign.experiments.cache import Cache, CacheWarning
from latalign.experiments.lab import Lab, Listen, fingerprint
from latalign.experiments.measures import Measure
from latalign.experiments.specs import Trainable, key, record


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training or a measurement.

    Attributes
    ----------
    error : float or None
        The measured error; None for trainings, and for what failed.
    seconds : float
    failure : str or None
        Why there is none.
    """

    error: float | None
    seconds: float
    failure: str | None = None


@final
@dataclass(frozen=True, slots=True)
class Place:
    """Where work is done.

    Attributes
    ----------
    cache : str
        The folder of the cache.
    device : str
        "cpu" or "cuda".
    jobs : int
        How many processes share it.
    """

    cache: str
    device: str
    jobs: int = 1


def trained(specs: Sequence[Trainable], place: Place, listen: Listen) -> Iterator[tuple[Trainable, Outcome]]:
    """Yield what came of the training of each, as they end. What is in the cache is only looked at."""
    for index, outcome in _done(_train, specs, place, listen):
        yield specs[index], outcome


def measured(
    groups: Sequence[Sequence[Measure]], place: Place, listen: Listen
) -> Iterator[tuple[Measure, Outcome]]:
    """Yield what came of each measurement, as they end. A group stays together, for what it shares."""
    for _, outcomes in _done(_measure, groups, place, listen):
        yield from outcomes


def _done(
    function: Callable[..., Any], work: Sequence[Any], place: Place, listen: Listen
) -> Iterator[tuple[int, Any]]:
    """Yield the number of each piece of work, and what the function makes of it, as they end."""
    jobs = min(place.jobs, max(1, len(work)))
    apart = jobs > 1
    with _heard(listen, apart=apart) as told:
        calls = (
            delayed(_numbered)(function, index, one, place, told, apart) for index, one in enumerate(work)
        )
        ended = Parallel(jobs, return_as="generator_unordered")(calls)
        for index, result, said in cast("Iterator[tuple[int, Any, list[str]]]", ended):
            for text in said:
                warnings.warn(text, CacheWarning, stacklevel=3)
            yield index, result


def _numbered(
    function: Callable[..., Any], index: int, work: Any, place: Place, told: Listen, apart: bool
) -> tuple[int, Any, list[str]]:
    """Do one piece of work. What the cache warns of is handed back: warnings of a process are not seen."""
    if apart:  # in a process of its own: an interruption is for the parent to deal with
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    lab = _lab(place.cache, place.device)
    lab.progress = told
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CacheWarning)
        result = function(lab, work)
    return index, result, [str(one.message) for one in caught if issubclass(one.category, CacheWarning)]


@lru_cache(maxsize=1)
def _lab(cache: str, device: str) -> Lab:
    return Lab(Cache(cache), device)


def _train(lab: Lab, spec: Trainable) -> Outcome:
    began = time.perf_counter()
    failure = None
    try:
        lab.trained(spec)
    except ValueError as error:
        failure = str(error)
    return Outcome(None, time.perf_counter() - began, failure)


def _measure(lab: Lab, group: Sequence[Measure]) -> list[tuple[Measure, Outcome]]:
    return [(measure, _outcome(lab, measure)) for measure in group]


def _outcome(lab: Lab, measure: Measure) -> Outcome:
    """Return the error of a measure, from the cache or measured and put there."""
    name = key(measure, fingerprint(measure.data))
    kept = lab.cache.value(name)
    if kept is not None:
        return Outcome(kept["error"], kept["seconds"])
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            # Few anchors are what many of these experiments are about.
            warnings.simplefilter("ignore", IllConditionedWarning)
            error = measure(lab)
    except ValueError as failure:
        return Outcome(None, time.perf_counter() - began, str(failure))
    seconds = time.perf_counter() - began
    if not math.isfinite(error):
        return Outcome(None, seconds, f"the error of the decoded images became {error}")
    lab.cache.store_value(name, {"error": error, "seconds": seconds, **record(measure)})
    return Outcome(error, seconds)


@final
@dataclass(frozen=True, slots=True)
class _Mailbox:
    """What progress is told to in another process: it puts every event into the parent's queue."""

    queue: Any

    def __call__(self, *event: Any) -> None:
        self.queue.put(event)


@contextmanager
def _heard(listen: Listen, *, apart: bool) -> Iterator[Listen]:
    """Give what progress is told to: the listener itself, or a mailbox of it for other processes."""
    if not apart:
        yield listen
        return
    with get_context("spawn").Manager() as manager:
        queue = manager.Queue()

        def pass_on() -> None:
            while (event := queue.get()) is not None:
                listen(*event)

        thread = threading.Thread(target=pass_on, daemon=True)
        thread.start()
        try:
            yield _Mailbox(queue)
        finally:
            queue.put(None)
            thread.join()
