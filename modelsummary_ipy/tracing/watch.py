"""Calls that happen by themselves: in a block, a cell, or the traceback of what just failed."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.pytree import list_items
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.isolation.object_cloner import Cloner
from modelsummary_ipy.model.tensor_meta import name_dtype
from modelsummary_ipy.torch_compat.modules import MODULE_CALL_CODES
from modelsummary_ipy.tracing.loss_path import LossPath
from modelsummary_ipy.tracing.loss_recorder import LossRecorder
from modelsummary_ipy.tracing.module_calls import observe_calls

#: Integer tensors up to this size keep their values: lengths, positions and offsets decide sizes.
_KEPT_VALUES = 64


@dataclass
class SeenCall:
    """One or several equal calls of a watched model.

    Attributes:
        model: The module that was called.
        inputs: Its arguments; every tensor is written down as a size, except small integer ones.
        times: How many calls in a row had these sizes.
        path: What the block did with the output of the first of them.
    """

    model: nn.Module
    inputs: ModelInputs
    times: int = 1
    path: LossPath | None = None


def note_inputs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelInputs:
    """Write down the arguments of a call without keeping the caller's tensors alive."""
    cloner = Cloner(_note_tensor)
    return ModelInputs(args=tuple(cloner(value) for value in args), kwargs={k: cloner(v) for k, v in kwargs.items()})


def _note_tensor(tensor: Any) -> Any:
    if not isinstance(tensor, Tensor) or type(tensor) not in (Tensor, nn.Parameter) or tensor.layout != torch.strided:
        return tensor
    counts = not tensor.is_floating_point() and not tensor.is_complex()
    if counts and tensor.device.type == "cpu" and tensor.numel() <= _KEPT_VALUES:
        return tensor.detach().clone()
    if 0 in tensor.shape:  # a size has no zero
        return tensor.detach().clone()
    return Size(tuple(tensor.shape), dtype=name_dtype(tensor.dtype))


@contextmanager
def watch_calls(model: nn.Module) -> Iterator[list[SeenCall]]:
    """Write down the arguments of every outermost call of ``model`` made in the block by this thread or task.

    No hook is put on the model: see ``observe_calls``.

    Yields:
        The list that fills with the calls; equal calls in a row are one entry.
    """
    seen: list[SeenCall] = []
    running = False

    def observe(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal running
        __tracebackhide__ = True
        if module is not model or running:
            return observer.pass_on(module, args, kwargs)
        is_new = _add(seen, model, note_inputs(args, kwargs))
        running = True
        try:
            with recorder.paused():
                output = observer.pass_on(module, args, kwargs)
        finally:
            running = False
        if is_new:
            seen[-1].path = recorder.follow(output, (args, kwargs))
        return output

    recorder, observer = LossRecorder(), observe_calls(observe)
    with recorder, observer:
        yield seen


def _add(seen: list[SeenCall], model: nn.Module, inputs: ModelInputs) -> bool:
    """Note a call; return whether it differs from the one before."""
    is_new = not seen or not _same(seen[-1].inputs, inputs)
    if is_new:
        seen.append(SeenCall(model, inputs))
    else:
        seen[-1].times += 1
    return is_new


def _same(one: Any, other: Any) -> bool:
    """Return whether two noted arguments are alike: sizes and plain values equal, kept tensors equal in size."""
    if isinstance(one, ModelInputs):
        return _same((one.args, one.kwargs), (other.args, other.kwargs))
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return bool(one.shape == other.shape and one.dtype == other.dtype)
    items, others = list(list_items(one)), list(list_items(other))
    if items or others:
        return [key for key, _ in items] == [key for key, _ in others] and all(
            _same(item, twin) for (_, item), (_, twin) in zip(items, others, strict=True)
        )
    state = getattr(one, "__dict__", None)
    if state is not None and not isinstance(one, (Size, type, nn.Module)) and not callable(one):
        return _same(dict(state), dict(vars(other)))
    return bool(one == other)


def find_failed_call(error: BaseException) -> SeenCall | None:
    """Find the outermost module call in an exception's traceback, with the arguments that it was made with.

    Returns:
        The call; where no module was being called that of a function of ``torch.nn.functional``, as the forward of a
        module; or ``None``.
    """
    entry: TracebackType | None = error.__traceback__
    function: SeenCall | None = None
    while entry is not None:
        frame = entry.tb_frame
        if frame.f_code in MODULE_CALL_CODES:
            held = frame.f_locals
            return SeenCall(held["self"], note_inputs(tuple(held["args"]), dict(held["kwargs"])))
        function = function or _read_function(frame)
        entry = entry.tb_next
    return function


def _read_function(frame: FrameType) -> SeenCall | None:
    """Read a call of a public function, with what is not left out of its arguments."""
    name = frame.f_code.co_name
    function: Any = getattr(nn.functional, name, None) if frame.f_globals is vars(nn.functional) else None
    if getattr(function, "__code__", None) is not frame.f_code:
        return None
    parameters = inspect.signature(function).parameters.values()
    given = {one.name: frame.f_locals[one.name] for one in parameters if one.name in frame.f_locals}
    kept = {one.name: given[one.name] for one in parameters if given.get(one.name, one.default) is not one.default}
    made = type(name, (nn.Module,), {"forward": staticmethod(function)})
    return SeenCall(made(), note_inputs((), kept))
