"""From the output of a watched call to the loss: what the block does with it, to be traced after the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from types import CodeType
from typing import Any, NamedTuple

from torch import Tensor, nn

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.pytree import replace_tensors, walk_leaves
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.model.tensor_meta import name_dtype
from modelsummary_ipy.tracing.source_lines import Place
from modelsummary_ipy.tracing.training_step.losses import call_loss

#: The name of the model in the module that goes on to the loss.
MODEL = "model"


class Operation(NamedTuple):
    """A function that was called; meta tensors stand for the tensors that it was given and gave."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: tuple[Tensor, ...]
    place: Place

    @property
    def given(self) -> list[Tensor]:
        """What it was given, as stand-ins."""
        return list_tensors((self.args, self.kwargs))


@dataclass
class LossPath:
    """The operations that read the output of one call, in order; meta tensors stand for tensors.

    Attributes:
        outputs: The tensors of the output.
        inputs: The tensors that the call was given, labels that a language model reads too, say.
        operations: What was done with them, and with what that gave.
        reached: Stand-ins of what came of the output, by their ids.
        loss: What went backward, or the last loss that was made; ``None`` if there is none.
    """

    outputs: tuple[Tensor, ...]
    inputs: tuple[Tensor, ...] = ()
    operations: list[Operation] = field(default_factory=list)
    reached: set[int] = field(default_factory=set)
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
        if len(list_tensors((inputs.args, inputs.kwargs), Size)) != len(self.inputs):
            return None
        made = {id(one) for one in (*self.inputs, *self.outputs, *(one for step in steps for one in step.results))}
        elsewhere = {id(one): one for step in steps for one in step.given if id(one) not in made}
        sizes = tuple(Size(tuple(one.shape), dtype=name_dtype(one.dtype)) for one in elsewhere.values())
        given = ModelInputs((*inputs.args, *sizes), inputs.kwargs)
        return _make_module(self, steps, tuple(elsewhere), model, len(inputs.args)), given

    def _find_steps(self) -> list[Operation]:
        needed = set() if self.loss is None else {id(self.loss)}
        steps = []
        for step in reversed(self.operations):
            if not needed.isdisjoint(map(id, step.results)):
                needed |= set(map(id, step.given))
                steps.append(step)
        return steps[::-1] if not needed.isdisjoint(map(id, self.outputs)) else []

    def _has_batch(self, steps: list[Operation]) -> bool:
        batches = {tensor.shape[0] for tensor in self.outputs if tensor.dim()} - {1}
        return any(batches & set(_list_ints((_free_batch(step), step.kwargs))) for step in steps)


def _make_module(
    path: LossPath, steps: list[Operation], elsewhere: tuple[int, ...], model: nn.Module, count: int
) -> nn.Module:
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = self.model(*args[:count], **kwargs)
        known = dict(zip(elsewhere, args[count:], strict=True))
        known.update(zip(map(id, path.inputs), list_tensors((args[:count], kwargs)), strict=True))
        known.update(zip(map(id, path.outputs), list_tensors(output), strict=True))
        for step in steps:
            args, named = replace_tensors((_free_batch(step), step.kwargs), known)
            result = run_at(step.place, {}, step.function, _fix_batch(args), named)
            known.update(zip(map(id, step.results), list_tensors(result), strict=True))
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


def _free_batch(step: Operation) -> tuple[Any, ...]:
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


def run_at(place: Place, names: dict[str, Any], *given: Any) -> Any:
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


def list_tensors(value: Any, *others: type) -> list[Tensor]:
    """List the tensors in a value, and what is of other types."""
    return [leaf for _, leaf in walk_leaves(value, kinds=(Tensor, *others))]


def _list_ints(value: Any) -> Iterator[int]:
    if type(value) is int:
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _list_ints(item)
    elif isinstance(value, dict):
        yield from _list_ints(list(value.values()))
