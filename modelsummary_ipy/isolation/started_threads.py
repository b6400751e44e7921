"""Threads that a forward starts: a pool's tasks run in the forward's own thread, where they are traced.

A trace belongs to its thread. Tasks of a ``ThreadPoolExecutor`` run one after the other as they are submitted; a plain
``threading.Thread`` runs as it does, and that one was started is noted, for what it calls is not traced.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from modelsummary_ipy.isolation.forks import restoring
from modelsummary_ipy.records.packages import PACKAGES

_pool: Any = ThreadPoolExecutor
_thread: Any = threading.Thread


class StartedThreads:
    """Watches what threads a forward starts.

    Attributes:
        some: Whether it started one whose calls are not traced.
    """

    def __init__(self) -> None:
        self.some = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Run the tasks that this thread submits in the block at once, and note the threads that it starts."""
        own, submit, start = threading.get_ident(), _pool.submit, _thread.start

        def submit_here(pool: Any, task: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            is_usual = not getattr(pool, "_shutdown", True) and getattr(pool, "_initializer", submit) is None
            if threading.get_ident() != own or not is_usual:
                return submit(pool, task, *args, **kwargs)  # type: ignore[no-any-return]
            return _run(task, args, kwargs)

        def start_noted(thread: threading.Thread) -> None:
            self.some |= threading.get_ident() == own and not _watches_alone(thread)
            start(thread)

        def restore() -> None:
            _pool.submit, _thread.start = submit, start

        with restoring(restore):
            _pool.submit, _thread.start = submit_here, start_noted
            yield


def is_thread_of_python() -> bool:
    """Return whether this thread is one that Python code started, not one of torch's that calls Python."""
    thread = getattr(threading, "_active", {}).get(threading.get_ident())
    return thread is not None and not isinstance(thread, _dummy)


_dummy: Any = getattr(threading, "_DummyThread", ())
_ASYNCIO = os.path.join(os.path.dirname(asyncio.__file__), "")


def _watches_alone(thread: threading.Thread) -> bool:
    """Return whether a thread runs nothing of the model's: the monitor of a progress bar, what ends a pool."""
    run = type(thread).run
    if run is threading.Thread.run:
        code = getattr(getattr(thread, "_target", None), "__code__", None)
        return code is not None and code.co_filename.startswith(_ASYNCIO)
    code = getattr(run, "__code__", None)
    return code is not None and thread.daemon and code.co_filename.startswith(PACKAGES)


def _run(task: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
    done: Future[Any] = Future()
    done.set_running_or_notify_cancel()
    try:
        done.set_result(task(*args, **kwargs))
    except Exception as error:  # noqa: BLE001  # it is raised to whoever reads the result, as a pool does
        done.set_exception(error)
    return done
