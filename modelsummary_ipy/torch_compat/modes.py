"""The stacks of modes of a thread, and its default device: a forward may enter a mode and never leave it."""

from __future__ import annotations

import contextlib
import importlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils import _device

from modelsummary_ipy.torch_compat import prefer

#: Function modes, dispatch modes, and the device that the innermost device block names.
Modes = tuple[list[Any], list[Any], Any]


def _find_list_modes() -> Any:
    count_functions, function_at, count_dispatches, dispatch_at = (
        getattr(torch._C, f"_{name}")
        for name in (
            "len_torch_function_stack", "get_function_stack_at", "len_torch_dispatch_stack", "get_dispatch_stack_at",
        )
    )  # fmt: skip

    def find() -> Modes:
        functions = [function_at(place) for place in range(count_functions())]
        dispatches = [dispatch_at(place) for place in range(count_dispatches())]
        return functions, dispatches, getattr(_device, "CURRENT_DEVICE", None)

    functions = find()[0]
    with _Probe() as mode:
        served = find()[0] == [*functions, mode]
    return find if served and find()[0] == functions else None


class _Probe(TorchFunctionMode):
    """A mode to find on the stack."""


#: Lists the modes that are on. Without it none are put back.
list_modes: Callable[[], Modes] = prefer("list_modes", _find_list_modes, lambda: ([], [], None))


def _find_set_modes() -> Any:
    pop, push, pop_dispatch = (
        getattr(torch._C, f"_{name}")
        for name in ("pop_torch_function_stack", "push_on_torch_function_stack", "pop_torch_dispatch_stack")
    )

    def set_back(before: Modes) -> None:
        functions, dispatches, device = before
        functions_now, dispatches_now, device_now = list_modes()
        for mode in reversed(dispatches_now[len(dispatches) :]):
            pop_dispatch(getattr(mode, "_mode_key", None))
        if list(map(id, functions_now)) != list(map(id, functions)):
            for _ in functions_now:
                pop()
            for mode in functions:
                push(mode)
        if device_now != device:
            _device.CURRENT_DEVICE = device

    return set_back


def _leave_modes(before: Modes) -> None:
    """Do nothing: a mode that a forward enters and never leaves stays on."""


#: Leaves the modes that were entered since ``list_modes`` returned, and enters those that were left.
set_modes: Callable[[Modes], None] = prefer("set_modes", _find_set_modes, _leave_modes)


def _find_set_jit_trace() -> Any:
    set_state: Callable[[Any], None] = getattr(torch._C, "_set_tracing_state")  # noqa: B009  # not in the stubs
    set_state(torch._C._get_tracing_state())
    return set_state


#: Returns what a ``torch.jit.trace`` of this thread has written down so far, ``None`` where none is at work. Without
#: it none is known of, and what a forward traces so is written down as constants.
find_jit_trace: Callable[[], Any] = prefer("find_jit_trace", lambda: torch._C._get_tracing_state, lambda: None)
#: Lets another go on in its place, or none.
set_jit_trace: Callable[[Any], None] = prefer("set_jit_trace", _find_set_jit_trace, lambda state: None)


def set_default_device(device: Any) -> None:
    """Call torch's, and after ``None`` leave torch as it was before any was set.

    torch 2.7 keeps the ``None`` where a device is expected, and its ``get_default_device`` fails from then on.
    """
    torch.set_default_device(device)
    context: Any = getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None)
    if device is None and getattr(context, "device_context", device) is None:
        with contextlib.suppress(AttributeError):
            del context.device_context


def _find_default_device() -> Any:
    context: Any = torch._GLOBAL_DEVICE_CONTEXT

    def find() -> Any:
        return getattr(getattr(context, "device_context", None), "device", None)

    before = find()
    torch.set_default_device("meta")
    served = find() == torch.device("meta")
    set_default_device(before)
    return find if served and find() == before else None


#: Returns the device that ``torch.set_default_device`` was called with in this thread, ``None`` for none. Without it:
#: the device in use, which blocks may have set.
find_default_device: Callable[[], Any] = prefer("find_default_device", _find_default_device, torch.get_default_device)


def leave_inference(mode: Any) -> None:
    """Leave an inference mode that was entered, unless it has been left."""
    kind: Any = getattr(torch._C, "_InferenceMode", ())
    for guard in vars(mode).values():  # releases name it differently
        if isinstance(guard, kind):
            guard.__exit__(None, None, None)


# -- torch.jit.trace ---------------------------------------------------------------------------------------------------

#: What reads sizes.
_SIZES = frozenset({Tensor.shape.__get__, Tensor.size, Tensor.numel})  # type: ignore[attr-defined]


def is_jit_tracing() -> bool:
    """Return whether ``torch.jit.trace`` is at work in this thread."""
    return find_jit_trace() is not None


def run_in_jit_trace(func: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Run a function of torch's; sizes that it gives are numbers: as tensors they would end fakes or the process."""
    state = find_jit_trace()
    if func not in _SIZES:
        return func(*args, **kwargs)
    set_jit_trace(None)
    try:
        return func(*args, **kwargs)
    finally:
        set_jit_trace(state)


def is_in_jit_trace(error: BaseException | None) -> bool:
    """Return whether ``torch.jit.trace`` was at work: it can't write down what is done with the sizes of fakes."""
    frames = traceback.walk_tb(None if error is None else error.__traceback__)
    return any(frame.f_globals.get("__name__") == "torch.jit._trace" for frame, _ in frames)


# -- exceptions that another thread sets -------------------------------------------------------------------------------

_registry: Any = importlib.import_module("torch._library.simple_registry")
_FINDS = staticmethod(getattr(_registry, "find_torch_dispatch_rule", None) or (lambda op, cls: None))


class _RuleFinder:
    """Torch's function that finds the rule of an operation under a mode; C++ calls it at every operation.

    An exception that another thread sets (``PyThreadState_SetAsyncExc``) is raised where Python's next code begins. In
    this function it would end the process. While there is no rule to find, a function that is not Python's says so.
    """

    __call__ = _FINDS


#: Takes any arguments and returns ``None``.
_FINDS_NONE: Any = ().__init__  # type: ignore[misc]  # of an instance, for that
_skipping: set[object] = set()  # who skips the search


def _find_has_rules() -> Any:
    _registry.find_torch_dispatch_rule = _RuleFinder()  # C++ keeps what it finds at the first operation

    def has_rules() -> bool:
        entries = list(_registry.singleton._data.values())
        return any(entry.torch_dispatch_rules._data for entry in entries)

    return None if has_rules() else has_rules


#: Returns whether an operation may have a rule under some mode: ``torch.library.register_torch_dispatch`` makes them.
has_dispatch_rules: Callable[[], bool] = prefer("has_dispatch_rules", _find_has_rules, lambda: True)


def skip_dispatch_rules(who: object) -> None:
    """Let no rule be looked for, if there is none."""
    if not has_dispatch_rules():
        _skipping.add(who)
        _RuleFinder.__call__ = _FINDS_NONE  # type: ignore[method-assign]  # a class keeps its other methods


def find_dispatch_rules(who: object) -> None:
    """Let torch find its dispatch rules again, when no other trace skips them."""
    _skipping.discard(who)
    if not _skipping:
        _RuleFinder.__call__ = _FINDS  # type: ignore[method-assign]  # as above


def _find_keeping() -> Any:
    top: Any = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks")  # noqa: B009  # not in the stubs

    def is_kept_by(keep: Callable[[Tensor], Any]) -> bool:
        hooks = top(True)
        return hooks is not None and hooks[0] == keep

    def probe(tensor: Tensor) -> Tensor:
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(probe, probe):
        serves = is_kept_by(probe)
    return is_kept_by if serves and not is_kept_by(probe) else None


#: Whether it is a function, and none put on later, that keeps what autograd saves. Without it that is never known.
is_kept_by: Callable[[Callable[[Tensor], Any]], bool] = prefer("is_kept_by", _find_keeping, lambda keep: False)


def has_dual_level() -> bool:
    """Return whether forward-mode differentiation is on."""
    return forward_ad._current_level >= 0
