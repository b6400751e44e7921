"""From the output of a watched call to the loss: what the block does with it, to be traced after the model."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from types import CodeType, FrameType, TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, handle_torch_function

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.pytree import map_leaves, replace_tensors, walk_leaves
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.model.tensor_meta import name_dtype
from modelsummary_ipy.torch_compat.modes import list_modes, set_modes
from modelsummary_ipy.tracing.source_lines import Place, find_lines
from modelsummary_ipy.tracing.training_step.losses import call_loss

#: A loss of more operations than these is not followed, nor are those of more calls.
_MOST_OPERATIONS, _MOST_PATHS = 300, 20
#: The name of the model in the module that goes on to the loss.
MODEL = "model"
_BACKWARD: Any = Tensor.backward
_LOSSES = frozenset({nn.functional.cross_entropy, nn.functional.kl_div, nn.functional.binary_cross_entropy,
    nn.functional.binary_cross_entropy_with_logits, *(function for name, function in vars(nn.functional).items()
    if name.endswith("_loss") and callable(function))})  # fmt: skip


class _Operation(NamedTuple):
    """A function that was called; meta tensors stand for the tensors that it was given and gave."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[Tensor, ...]
    place: Place

    @property
    def given(self) -> list[Tensor]:
        """What it was given, as stand-ins."""
        return _list_tensors((self.args, self.kwargs))


@dataclass
class LossPath:
    """The operations that read the output of one call, in order; meta tensors stand for tensors.

    Attributes:
        outputs: The tensors of the output.
        operations: What was done with them, and with what that gave.
        loss: What went backward, or the last loss that was made; ``None`` if there is none.
    """

    outputs: tuple[Tensor, ...]
    operations: list[_Operation] = field(default_factory=list)
    loss: Tensor | None = None
    is_over: bool = False

    def after(self, model: nn.Module, inputs: ModelInputs) -> tuple[nn.Module, ModelInputs] | None:
        """Return a module that calls ``model`` and goes on to the loss, and its inputs.

        Returns:
            ``None`` if the output leads to no loss, or a size of the batch is a number in an operation: what is traced
            with more samples would contradict it.
        """
        steps = self._find_steps()
        if self.loss is None or not steps or self._has_batch(steps):
            return None
        made = {id(tensor) for tensor in (*self.outputs, *(one for step in steps for one in step.results))}
        elsewhere = {id(one): one for step in steps for one in step.given if id(one) not in made}
        sizes = tuple(Size(tuple(one.shape), dtype=name_dtype(one.dtype)) for one in elsewhere.values())
        given = ModelInputs((*inputs.args, *sizes), inputs.kwargs)
        return _make_module(self, steps, tuple(elsewhere), model, len(inputs.args)), given

    def _find_steps(self) -> list[_Operation]:
        needed = set() if self.loss is None else {id(self.loss)}
        steps = []
        for step in reversed(self.operations):
            if not needed.isdisjoint(map(id, step.results)):
                needed |= set(map(id, step.given))
                steps.append(step)
        return steps[::-1] if not needed.isdisjoint(map(id, self.outputs)) else []

    def _has_batch(self, steps: list[_Operation]) -> bool:
        batches = {tensor.shape[0] for tensor in self.outputs if tensor.dim()} - {1}
        return any(batches & set(_list_ints((_free_batch(step), step.kwargs))) for step in steps)


def _make_module(
    path: LossPath, steps: list[_Operation], elsewhere: tuple[int, ...], model: nn.Module, count: int
) -> nn.Module:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = self.model(*args[:count], **kwargs)
        known = dict(zip(elsewhere, args[count:], strict=True))
        known.update(zip(map(id, path.outputs), _list_tensors(output), strict=True))
        for step in steps:
            args, named = replace_tensors((_free_batch(step), step.kwargs), known)
            result = _run_at(step.place, {}, step.function, _fix_batch(args), named)
            known.update(zip(map(id, step.results), _list_tensors(result), strict=True))
        return known[id(path.loss)]

    made: nn.Module = type("Step", (nn.Module,), {"forward": forward})()
    made.add_module(MODEL, model)
    return made


@dataclass(frozen=True)
class GivenLoss:
    """The loss of a training step, as the user gives it: its target is made up."""

    loss: Callable[..., Any]

    def after(self, model: nn.Module, inputs: ModelInputs) -> tuple[nn.Module, ModelInputs] | None:
        """Return a module that calls ``model`` and then the loss, and its inputs."""
        return _Step(model, self.loss), inputs


class _Step(nn.Module):
    def __init__(self, model: nn.Module, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.add_module(MODEL, model)
        self.loss = loss

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.get_submodule(MODEL)(*args, **kwargs)
        return call_loss(self.loss, output)


class _FirstSize:
    """Stands for the first size of a tensor where a size begins with it: ``x.view(x.shape[0], -1)``."""


def _free_batch(step: _Operation) -> tuple[Any, ...]:
    """Return the arguments with a ``_FirstSize`` where a size given to a tensor begins with that tensor's own."""
    if getattr(step.function, "__name__", "") not in ("view", "reshape", "expand") or len(step.args) < 2:
        return step.args
    tensor, *given = step.args
    is_one = isinstance(given[0], (tuple, list))
    size = (_FirstSize, *(given[0] if is_one else given)[1:])
    if not tensor.dim() or tuple(given[0] if is_one else given)[:1] != tensor.shape[:1]:
        return step.args
    return (tensor, size) if is_one else (tensor, *size)


def _fix_batch(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Put the size that the tensor has now in the place of a ``_FirstSize``."""

    def fix(value: Any) -> Any:
        return args[0].shape[0] if value is _FirstSize else tuple(map(fix, value)) if type(value) is tuple else value

    return tuple(map(fix, args))


def _run_at(place: Place, names: dict[str, Any], *given: Any) -> Any:
    """Run a function in a frame of another line, which warnings name and a trace writes down.

    Args:
        names: The globals of that line.
        given: The function, its arguments and its keyword arguments.
    """
    code, line = place
    return eval(_make_call(code.co_filename, line), names, dict(zip(("_", "a", "k"), given, strict=True)))


@cache
def _make_call(filename: str, line: int) -> CodeType:
    return compile("\n" * (line - 1) + "_(*a, **k)", filename, "eval")


def _list_tensors(value: Any) -> list[Tensor]:
    return [leaf for _, leaf in walk_leaves(value, kinds=(Tensor,))]


def _list_ints(value: Any) -> Iterator[int]:
    if type(value) is int:
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _list_ints(item)
    elif isinstance(value, dict):
        yield from _list_ints(list(value.values()))


class LossRecorder(TorchFunctionMode):
    """Writes down what is done with the outputs of calls. It keeps no tensor alive and changes no result."""

    def __init__(self) -> None:
        super().__init__()
        self._paths: list[LossPath] = []
        self._known: dict[int, tuple[weakref.ref[Tensor], LossPath, Tensor]] = {}

    def follow(self, output: Any) -> LossPath | None:
        """Write down what is done with the output of a call from now on."""
        tensors = _list_tensors(output)
        if len(self._paths) == _MOST_PATHS or not tensors or not all(map(_is_plain, tensors)):
            return None
        path = LossPath(tuple(map(_stand_in, tensors)))
        self._paths.append(path)
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
            result = _run_at((frame.f_code, frame.f_lineno), frame.f_globals, func, args, named)
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
        given = _list_tensors((args, kwargs))
        path = next((found[1] for tensor in given if (found := self._find(tensor)) is not None), None)
        if path is None or path.is_over:
            return
        results = _list_tensors(result)
        if not results:
            return
        if len(path.operations) == _MOST_OPERATIONS or not all(map(_is_plain, (*given, *results))):
            path.is_over = True
            return
        noted: Any = map_leaves((args, kwargs), "", lambda name, tensor: self._stand_for(path, tensor))
        made = tuple(map(_stand_in, results))
        place = next(iter(find_lines(frame, _NONE)), (frame.f_code, frame.f_lineno))
        path.operations.append(_Operation(function, noted[0], noted[1], made, place))
        self._remember(path, results, made)
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
