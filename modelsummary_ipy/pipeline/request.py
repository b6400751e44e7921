"""The user's request: the arguments of ``ModelSummary``, read and checked before anything is traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import nn

from modelsummary_ipy.costs import read_budget, read_context, write_budget
from modelsummary_ipy.inputs import ModelInputs
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import ENGINES, MODES, Engine, Mode
from modelsummary_ipy.records.training import PRECISIONS
from modelsummary_ipy.tracing.training_step import StepSettings, check_loss, read_optimizer


@dataclass(frozen=True)
class Request:
    """The user's request, without the model.

    Attributes:
        inputs: What to pass; ``None`` if nothing was given.
        method, mode, engine: As ``ModelSummary`` takes them.
        device: As it was given.
        expect: Declared sizes by path.
        ignore: Ids of rules that do not run.
        trace_once: Whether the forward runs once and never again.

    Raises:
        InputError: If there is no such mode or engine.
    """

    inputs: ModelInputs | None
    method: str
    device: Any
    mode: Mode
    engine: Engine
    expect: Mapping[str, Any]
    ignore: tuple[str, ...]
    trace_once: bool = False

    def __post_init__(self) -> None:
        _check_choice("mode", self.mode, MODES)
        _check_choice("engine", self.engine, ENGINES)


class Assumptions(NamedTuple):
    """What a training step and the memory it takes are asked for.

    Attributes:
        step: Optimizer and loss of the step.
        budget: Bytes there are, ``None`` if not requested.
        budget_text: The budget as it is shown, in the unit in which it was typed: ``"24 GB"``.
        context: Length of the context to measure, ``None`` if not requested.
        is_asked: Whether the step was asked for: a budget was given, or something of what it is made of.
    """

    step: StepSettings
    budget: int | None = None
    budget_text: str = ""
    context: int | None = None
    is_asked: bool = False

    @property
    def unasked(self) -> Assumptions:
        """The same for a table that comes before all that is asked for is traced."""
        return self._replace(budget=None, budget_text="", context=None, is_asked=False)


def read_assumptions(
    model: nn.Module | None,
    memory: str | int | None = None,
    optimizer: Any = None,
    loss: Callable[..., Any] | None = None,
    precision: str | None = None,
    accumulate: int | None = None,
    context: int | str | None = None,
    base: Assumptions | None = None,
) -> Assumptions:
    """Read a memory budget and what a step is made of; what is ``None`` stays as in ``base``.

    Raises:
        InputError: If one of them can't be read.
    """
    check_loss(loss)
    budget = read_budget(memory)
    length = read_context(context)
    base = base or Assumptions(StepSettings(read_optimizer("adamw")))
    base = base if length is None else base._replace(context=length)
    if any(value is not None for value in (memory, optimizer, loss, precision, accumulate)):
        base = base._replace(is_asked=True)
    step = base.step
    if optimizer is not None:
        step = step._replace(optimizer=read_optimizer(optimizer, model))
    if loss is not None:
        step = step._replace(loss=loss)
    if precision is not None:
        _check_choice("precision", precision, PRECISIONS)
        step = step._replace(precision=precision)
    if accumulate is not None:
        if type(accumulate) is not int or accumulate < 1:
            raise InputError(f"accumulate={accumulate!r}", "one or more batches", "accumulate=4")
        step = step._replace(accumulate=accumulate)
    if budget is None:
        return base._replace(step=step)
    return base._replace(step=step, budget=budget, budget_text=write_budget(budget, memory))


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name}={value!r}", f"one of {', '.join(map(repr, choices))}", f"{name}={choices[0]!r}")
