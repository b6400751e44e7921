"""Who hears module calls: one handler a thread, reached through a class attribute that ``nn.Module.__call__`` asks for.

So modules made during a forward are met too, no hook is put on any module, and other threads pass by. The attribute is
private in torch (``.compile()`` keeps its compiled call there): ``tests/test_fakes.py`` would notice a change.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

__all__ = ["hearing_calls"]

#: Runs a module's call and returns what it gave: ``(module, args, kwargs) -> output``.
Handler = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]

_handlers: dict[int, Handler] = {}
_lock = threading.Lock()


def _dispatch(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True  # IPython leaves the frame out of what it shows
    handler = _handlers.get(threading.get_ident())
    if handler is None:  # another thread's module
        return module._call_impl(*args, **kwargs)
    return handler(module, args, kwargs)


@contextmanager
def hearing_calls(handler: Handler) -> Iterator[None]:
    """Let ``handler`` run every module call that this thread makes in the block; the innermost handler hears."""
    thread = threading.get_ident()
    with _lock:
        outer = _handlers.get(thread)
        _handlers[thread] = handler
        nn.Module._compiled_call_impl = _dispatch
    try:
        yield
    finally:
        with _lock:
            if outer is None:
                del _handlers[thread]
            else:
                _handlers[thread] = outer
            if not _handlers:
                nn.Module._compiled_call_impl = None
