"""The user's request: the arguments of ``ModelSummary``, read and checked before anything is traced."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from modelsummary_ipy.costs import check_optimizer, read_budget
from modelsummary_ipy.inputs import ModelInputs
from modelsummary_ipy.isolation.shadow import Mode
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.tracing.engine import Engine

__all__ = ["Assumptions", "Request", "read_assumptions"]

_MODES = ("same", "train", "eval")
_ENGINES = ("auto", "fake", "real", "static")


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
        _check_choice("mode", self.mode, _MODES)
        _check_choice("engine", self.engine, _ENGINES)


class Assumptions(NamedTuple):
    """What the memory estimate assumes: an optimizer, and a budget in bytes or ``None``."""

    optimizer: str = "adamw"
    budget: int | None = None


_USUAL = Assumptions()


def read_assumptions(memory: str | int | None, optimizer: str | None, base: Assumptions = _USUAL) -> Assumptions:
    """Read a memory budget and an optimizer; what is ``None`` stays as in ``base``.

    Raises:
        InputError: If the optimizer is not known, or the budget can't be read.
    """
    if optimizer is not None:
        check_optimizer(optimizer)
    budget = read_budget(memory)
    return Assumptions(optimizer or base.optimizer, base.budget if budget is None else budget)


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name}={value!r}", f"one of {', '.join(map(repr, choices))}", f"{name}={choices[0]!r}")
