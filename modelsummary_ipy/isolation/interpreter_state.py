"""Python's own settings, which a forward may set and not set back: paths, hooks, loggers, signals, the locale."""

from __future__ import annotations

import decimal
import gc
import locale
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from operator import attrgetter
from typing import Any

from modelsummary_ipy.isolation.ignored_warnings import list_filters, set_filters
from modelsummary_ipy.isolation.output import set_stream
from modelsummary_ipy.isolation.threads import AloneWatch

#: What reads a setting, and what sets it to what was read.
Setting = tuple[Callable[[], Any], Callable[[Any], Any]]


def _attribute(owner: Any, name: str) -> Setting:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


def _list(owner: Any, name: str) -> Setting:
    """Find a list that others hold too: its items are put back, and itself where another is in its place."""

    def read() -> tuple[list[Any], list[Any]]:
        items = getattr(owner, name)
        return items, list(items)

    def write(before: tuple[list[Any], list[Any]]) -> None:
        before[0][:] = before[1]
        setattr(owner, name, before[0])

    return read, write


# -- the process -------------------------------------------------------------------------------------------------------


def _read_directory() -> str | None:
    with suppress(OSError):  # it may have been deleted
        return os.getcwd()
    return None


def _set_directory(before: str | None) -> None:
    if before is not None:
        with suppress(OSError):
            os.chdir(before)


def _read_environment() -> dict[Any, Any]:
    """Copy the variables as Python holds them: to decode each takes 50 µs, and every trace reads them twice."""
    return dict(getattr(os.environ, "_data", os.environ))


def _set_environment(before: dict[Any, Any]) -> None:
    variables: Any = os.environb if any(isinstance(name, bytes) for name in before) else os.environ
    zone = os.environ.get("TZ")
    for name in [name for name in variables if name not in before]:
        del variables[name]
    variables.update(before)
    if os.environ.get("TZ") != zone and hasattr(time, "tzset"):
        time.tzset()


def _read_umask() -> int:
    """Read it where Linux shows it: to ask the system is to set it, and another thread may make a file meanwhile."""
    with suppress(OSError), open("/proc/self/status", "rb") as status:
        for line in status:
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    before = os.umask(0o77)
    os.umask(before)
    return before


# -- signals -----------------------------------------------------------------------------------------------------------

_SIGNALS = sorted(signal.valid_signals())
#: What ``signal.getsignal`` asks: to make a member of an enum of each handler takes four times as long.
_get_handler: Callable[[int], Any] = getattr(sys.modules.get("_signal"), "getsignal", signal.getsignal)
_TIMERS = [getattr(signal, f"ITIMER_{name}") for name in ("REAL", "VIRTUAL", "PROF") if hasattr(signal, "setitimer")]


def _read_handlers() -> list[Any]:
    return list(map(_get_handler, _SIGNALS))


def _set_handlers(before: list[Any]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return  # nor can it have set one
    for number, handler in zip(_SIGNALS, before, strict=True):
        if signal.getsignal(number) != handler and handler is not None:  # ``None``: set by C, and not known
            signal.signal(number, handler)


def _read_timers() -> list[bool]:
    return [signal.getitimer(timer)[0] > 0 for timer in _TIMERS]


def _stop_timers(before: list[bool]) -> None:
    """Stop those that were not running: without its handler an alarm ends the process."""
    for timer, was_running in zip(_TIMERS, before, strict=True):
        if not was_running:
            signal.setitimer(timer, 0)


def _read_mask() -> set[int]:
    return set(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _set_mask(before: set[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


# -- loggers and warnings ----------------------------------------------------------------------------------------------


_get_state: Callable[[logging.Logger], Any] = attrgetter("level", "propagate", "disabled", "handlers", "filters")


def _list_loggers() -> list[Any]:
    """List all loggers, and what only holds a place in their tree."""
    return [logging.root, *logging.root.manager.loggerDict.values()]


def _read_loggers(known: list[Any]) -> dict[logging.Logger, Any]:
    loggers = [logger for logger in known if isinstance(logger, logging.Logger)]
    states = zip(loggers, map(_get_state, loggers), strict=True)
    return {one: (level, up, off, [*handlers], [*filters]) for one, (level, up, off, handlers, filters) in states}


class Loggers:
    """The settings of all loggers, of which there are hundreds: traces in a row read once how they were before."""

    def __init__(self) -> None:
        self._known: list[Any] = []
        self._before: dict[logging.Logger, Any] = {}
        self._alone: AloneWatch | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Set back what the block set; what another thread of the user's may have set since the first block stays."""
        if self._alone is None:
            self._known, self._alone = _list_loggers(), AloneWatch()
            self._before = _read_loggers(self._known)
        try:
            yield
        finally:
            known = _list_loggers()
            is_same = known == self._known and [*map(_get_state, self._before)] == [*self._before.values()]
            if not is_same and self._alone.holds():
                self._put_back(_read_loggers(known))
                self._known = known

    def _put_back(self, now: dict[logging.Logger, Any]) -> None:
        for logger, state in self._before.items():
            if now.get(logger) != state:
                level, logger.propagate, logger.disabled, logger.handlers[:], logger.filters[:] = state
                logger.setLevel(level)
        self._before = now | self._before  # new ones among them


def _set_warner(before: Any) -> None:
    logged = getattr(logging, "_showwarning", None)
    if logged is not None and logged in (before, warnings.showwarning):
        logging.captureWarnings(before is logged)
    warnings.showwarning = before


# -- numbers -----------------------------------------------------------------------------------------------------------


def _read_decimals() -> Any:
    return decimal.getcontext().__reduce__()[1]


def _set_decimals(before: Any) -> None:
    decimal.setcontext(decimal.Context(*before))


def _of_numpy(read: str, write: str) -> Setting:
    """Find a setting of numpy's: before numpy 2 a context does not keep it."""

    def find(name: str) -> Any:
        return getattr(sys.modules.get("numpy"), name, lambda **_: None)

    return lambda: find(read)(), lambda before: find(write)(**before or {})


#: This thread's.
OF_THREAD: tuple[Setting, ...] = (
    (_read_decimals, _set_decimals),
    _of_numpy("geterr", "seterr"),
    *([(_read_mask, _set_mask)] if hasattr(signal, "pthread_sigmask") else []),
)
#: The process's: what another thread of the user's sets meanwhile stays.
OF_PROCESS: tuple[Setting, ...] = (
    (_read_directory, _set_directory),
    (_read_environment, _set_environment),
    (_read_umask, os.umask),
    (_read_timers, _stop_timers),  # before the handlers
    (_read_handlers, _set_handlers),
    _list(sys, "path"),
    _list(sys, "argv"),
    _list(gc, "callbacks"),
    (gc.get_threshold, lambda before: gc.set_threshold(*before)),
    _attribute(sys, "excepthook"),
    _attribute(sys, "unraisablehook"),
    _attribute(sys, "displayhook"),
    _attribute(threading, "excepthook"),
    (lambda: sys.stdout, partial(set_stream, "stdout")),
    (lambda: sys.stderr, partial(set_stream, "stderr")),
    (sys.getswitchinterval, sys.setswitchinterval),
    (sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    (socket.getdefaulttimeout, socket.setdefaulttimeout),
    (lambda: locale.setlocale(locale.LC_ALL), lambda before: locale.setlocale(locale.LC_ALL, before)),
    (list_filters, set_filters),
    (lambda: warnings.showwarning, _set_warner),
    _attribute(logging.root.manager, "disable"),
    _of_numpy("get_printoptions", "set_printoptions"),
)
