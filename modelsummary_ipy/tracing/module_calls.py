"""Who hears module calls: one handler a thread, reached through a class attribute that ``nn.Module.__call__`` asks for.

So modules made during a forward are met too, no hook is put on any module, and other threads pass by. The attribute is
private in torch; ``torch_compat`` does without it where it is missing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from types import MethodType
from typing import Any

from torch import nn

from modelsummary_ipy.torch_compat.modules import set_module_call

__all__ = ["hearing_calls"]

#: Runs a module's call and returns what it gave: ``(module, args, kwargs) -> output``.
Handler = Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], Any]

_handlers: dict[int, Handler] = {}
_lock = threading.Lock()


def _dispatch(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    __tracebackhide__ = True  # IPython leaves the frame out of what it shows
    return _handlers[get_ident()](module, args, kwargs)


class _Ear:
    """What ``nn.Module.__call__`` finds when it asks for a compiled call: a thread that has a handler finds it.

    It asks twice, to see whether there is one and to call it. Another thread always finds ``None``, so the end of a
    block here can't come between the two.
    """

    def __get__(self, module: nn.Module | None, owner: type[nn.Module]) -> Any:
        return MethodType(_dispatch, module) if get_ident() in _handlers and module is not None else None


_EAR: Any = _Ear()


@contextmanager
def hearing_calls(handler: Handler) -> Iterator[None]:
    """Let ``handler`` run every module call that this thread makes in the block; the innermost handler hears."""
    thread = get_ident()
    with _lock:
        outer = _handlers.get(thread)
        _handlers[thread] = handler
        set_module_call(_EAR)
    try:
        yield
    finally:
        with _lock:
            if outer is None:
                del _handlers[thread]
            else:
                _handlers[thread] = outer
            if not _handlers:
                set_module_call(None)
