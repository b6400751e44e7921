"""Who observes module calls: an observer in the current context, found by a class attribute that ``nn.Module`` reads.

So modules that are made during a forward are observed too, no module gets a hook, and other threads and tasks pass
by. The attribute is private in torch; ``torch_compat`` does without it where it is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import MethodType, TracebackType
from typing import Any

from torch import nn

from modelsummary_ipy.torch_compat.modules import call_module, set_module_call

#: Runs a module's call and returns what it gave: ``(module, args, kwargs) -> output``.
Handler = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]


class observe_calls:  # a block, as contextlib names its own
    """Let ``handler`` run every module call that is made in the block, in this thread or asyncio task.

    Of nested blocks the innermost runs the call; it may pass the call on to the one around it. Blocks may end in any
    order. A task that is started in the block keeps its context, so a block that has ended observes nothing more.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler: Handler | None = handler
        self._outer: observe_calls | None = None

    def __enter__(self) -> observe_calls:
        _install()
        self._outer = _find_observer()
        _entered[id(self)] = None
        try:
            _current.set(self)
        except BaseException:  # an exception from outside, just after it was set
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._end()
        finally:
            self._handler = None

    def _end(self) -> None:
        self._handler = None
        _entered.pop(id(self), None)
        if _current.get() is self:
            _current.set(_find_observer())

    def run(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call by the handler; if the block has ended, by the one around it."""
        __tracebackhide__ = True  # IPython leaves the frame out of what it shows
        handler = self._handler
        return self.pass_on(module, args, kwargs) if handler is None else handler(module, args, kwargs)

    def pass_on(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a call as if the block were not there."""
        __tracebackhide__ = True
        outer = self._outer
        return call_module(module, *args, **kwargs) if outer is None else outer.run(module, args, kwargs)


#: The blocks of all threads that have not ended. Torch's compiler up to 2.7 can read it, and no context variable.
_entered: dict[int, None] = {}
_current: ContextVar[observe_calls | None] = ContextVar("observer of module calls", default=None)


def _find_observer() -> observe_calls | None:
    """Return the innermost block of this context that has not ended."""
    observer = _current.get()
    while observer is not None and observer._handler is None:
        observer = observer._outer
    return observer


def _run_observed(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True
    observer = _find_observer()
    return call_module(module, *args, **kwargs) if observer is None else observer.run(module, args, kwargs)


class _ObservedCall:
    """What ``nn.Module.__call__`` finds when it reads its compiled call: ``None`` where nothing observes.

    It stays on the class once a block was entered. To take it away and put it back at every trace would leave moments
    at which an exception from outside leaves it with what it refers to, and would end the attribute caches of all
    module classes each time.
    """

    def __get__(self, module: nn.Module | None, owner: type[nn.Module]) -> Any:
        if not _entered:  # this test alone where nothing is observed: every call of every module passes here
            return None
        observer = _current.get()
        if observer is None or module is None or (observer._handler is None and _find_observer() is None):
            return None
        return MethodType(_run_observed, module)


_is_installed = False


def _install() -> None:
    global _is_installed
    if not _is_installed:
        set_module_call(_ObservedCall())
        _is_installed = True
