"""Writes down what a block does with the outputs of watched calls, up to the loss."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, handle_torch_function

from modelsummary_ipy.inputs.pytree import map_leaves
from modelsummary_ipy.torch_compat.modes import list_modes, set_modes
from modelsummary_ipy.tracing.loss_path import LossPath, Operation, list_tensors, run_at
from modelsummary_ipy.tracing.source_lines import find_lines

#: A loss of more operations than these is not followed, nor are those of more calls.
_MOST_OPERATIONS, _MOST_PATHS = 300, 20
_BACKWARD: Any = Tensor.backward
_LOSSES = frozenset({nn.functional.cross_entropy, nn.functional.kl_div, nn.functional.binary_cross_entropy,
    nn.functional.binary_cross_entropy_with_logits, *(function for name, function in vars(nn.functional).items()
    if name.endswith("_loss") and callable(function))})  # fmt: skip


class LossRecorder(TorchFunctionMode):
    """Writes down what is done with the outputs of calls. It keeps no tensor alive and changes no result."""

    def __init__(self) -> None:
        super().__init__()
        self._paths: list[LossPath] = []
        self._known: dict[int, tuple[weakref.ref[Tensor], LossPath, Tensor]] = {}

    def follow(self, output: Any, given: Any) -> LossPath | None:
        """Write down what is done with the output of a call from now on, and with what it was given."""
        tensors = list_tensors(output)
        if len(self._paths) == _MOST_PATHS or not tensors or not all(map(_is_plain, tensors)):
            return None
        inputs = list_tensors(given)
        path = LossPath(tuple(map(_stand_in, tensors)), tuple(map(_stand_in, inputs)))
        path.reached |= set(map(id, path.outputs))
        self._paths.append(path)
        pairs = zip(inputs, path.inputs, strict=True)
        new = [pair for pair in pairs if self._find(pair[0]) is None and _is_plain(pair[0])]
        self._remember(path, [one for one, _ in new], [stand_in for _, stand_in in new])
        self._remember(path, tensors, path.outputs)
        return path

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the mode for the block where it is the innermost: what torch compiles there is compiled without it."""
        if list_modes()[0][-1:] != [self]:
            yield
            return
        _set_functions(lambda functions: functions[:-1])
        try:
            yield
        finally:
            _set_functions(lambda functions: [*functions, self])

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        """Leave the mode, also where the block entered another and has not left it."""
        if list_modes()[0][-1:] in ([], [self]):
            super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]  # torch's is untyped
        else:
            _set_functions(lambda functions: [mode for mode in functions if mode is not self])

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run the function, and write it down if it reads what came of an output."""
        __tracebackhide__ = True  # IPython leaves the frame out of what it shows
        named = kwargs or {}
        if func is _BACKWARD:
            self._end(args[0])
        frame = _find_caller()
        try:
            result = run_at((frame.f_code, frame.f_lineno), frame.f_globals, func, args, named)
        except BaseException as error:  # noqa: BLE001  # it is raised again, without our frames
            raise error.with_traceback(_skip(error.__traceback__, 3))  # noqa: B904  # the same error
        if not all(path.is_over for path in self._paths):
            self._note(func, args, named, result, frame)
        return result

    def _end(self, loss: Tensor) -> None:
        found = self._find(loss)
        if found is not None and not found[1].is_over:
            found[1].loss, found[1].is_over = found[2], True

    def _note(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, frame: FrameType
    ) -> None:
        given = list_tensors((args, kwargs))
        path = next((found[1] for tensor in given if (found := self._find(tensor)) is not None), None)
        if path is None or path.is_over:
            return
        results = list_tensors(result)
        if not results:
            return
        if len(path.operations) == _MOST_OPERATIONS or not all(map(_is_plain, (*given, *results))):
            path.is_over = True
            return
        noted: Any = map_leaves((args, kwargs), "", lambda name, tensor: self._stand_for(path, tensor))
        made = tuple(map(_stand_in, results))
        place = next(iter(find_lines(frame, _NONE)), (frame.f_code, frame.f_lineno))
        path.operations.append(Operation(function, noted[0], noted[1], made, place))
        self._remember(path, results, made)
        if path.reached.isdisjoint(map(id, list_tensors(noted))):
            return  # of labels alone
        path.reached |= set(map(id, made))
        if len(results) == 1 and results[0].dim() == 0 and (results[0].requires_grad or function in _LOSSES):
            path.loss = made[0]

    def _find(self, tensor: Tensor) -> tuple[weakref.ref[Tensor], LossPath, Tensor] | None:
        found = self._known.get(id(tensor))
        return found if found is not None and found[0]() is tensor else None

    def _stand_for(self, path: LossPath, tensor: Any) -> Any:
        found = self._find(tensor)
        if found is None or found[1] is not path:
            self._remember(path, [tensor], [_stand_in(tensor)])
            found = self._known[id(tensor)]
        return found[2]

    def _remember(self, path: LossPath, tensors: Any, stand_ins: Any) -> None:
        for tensor, stand_in in zip(tensors, stand_ins, strict=True):
            self._known[id(tensor)] = weakref.ref(tensor), path, stand_in


def _set_functions(change: Callable[[list[Any]], list[Any]]) -> None:
    functions, *others = list_modes()
    set_modes((change(functions), *others))


def _skip(entry: TracebackType | None, count: int) -> TracebackType | None:
    for _ in range(count):
        entry = entry.tb_next if entry is not None else None
    return entry


def _find_caller() -> FrameType:
    """Return the frame that called the function of torch's which runs."""
    frame = sys._getframe(2)
    if frame.f_code is handle_torch_function.__code__ and frame.f_back is not None:
        frame = frame.f_back.f_back or frame
    return frame


_NONE = compile("", "", "exec")  # of no frame


def _is_plain(tensor: Tensor) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided and 0 not in tensor.shape


def _stand_in(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")
