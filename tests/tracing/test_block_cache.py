"""Modules that are alike: a further trace runs the first and repeats it, and writes down what it would if all ran."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.op_events import OpEvents, TensorRef
from modelsummary_ipy.records.retraced import Retraced
from modelsummary_ipy.tracing.engine import run_engine
from modelsummary_ipy.tracing.retracer import Retracer

_runs = itertools.count()
_kept: list[Any] = []


class Block(nn.Module):
    """A layer that knows its number, and does ``forward`` with it; a copy of it is the next one."""

    def __init__(self, number: int, does: Callable[..., Any], width: int = 8) -> None:
        super().__init__()
        self.number = number
        self.does = does
        self.one = nn.Linear(8, width)
        self.two = nn.Linear(width, 8)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor, *rest: Any) -> Any:
        next(_runs)
        return self.does(self, x, *rest)


class Stack(nn.Module):
    """Some such layers in a row, before a head."""

    def __init__(self, does: Callable[..., Any], widths: tuple[int, ...] = (8, 8, 8, 8)) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(number, does, width) for number, width in enumerate(widths))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.ones(x.shape[1], dtype=torch.bool)
        for block in self.blocks:
            made = block(x, mask)
            x = made[0] if isinstance(made, tuple) else made
        if len(_kept) > 1:
            x = x + _kept.pop()
        return self.head(x)


def mlp(block: Any, x: Tensor, mask: Tensor) -> Any:
    heads = block.one(x).view(x.shape[0], x.shape[1], 2, -1).transpose(1, 2)
    made = (heads @ heads.mT).masked_fill(~mask, -1e9).softmax(-1) @ heads
    return x + block.norm(block.two(made.transpose(1, 2).reshape(*x.shape[:2], -1))), None


def alternating(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    if block.number % 2 and x.shape[1] > 8:
        x = torch.cat([x[:, :8].mean(1, keepdim=True), x[:, 8:]], 1)
    return mlp(block, x, mask[-x.shape[1] :])[0]


def counting(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    made = mlp(block, x, mask)[0]
    block.seen = x.shape[1]
    return made


def in_place(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    x.add_(1)
    return mlp(block, x, mask)[0]


def keeping(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    made = mlp(block, x, mask)[0]
    _kept.append(made.mean(1, keepdim=True))
    return made


def same(block: Any, x: Tensor, mask: Tensor) -> Tensor:
    mlp(block, x, mask)
    return x


def trace_twice(model: nn.Module, args: tuple[Any, ...], batch: int, length: int) -> tuple[Retraced, Retraced, int]:
    """Trace at another size with and without repeating; also the number of blocks that the first one ran."""
    traced = run_engine(model, ModelInputs(args))
    assert traced.request is not None
    dims = (("B", "T", ""),)
    usual, plain = (Retracer(traced.request, traced.trace, dims) for _ in range(2))
    plain.__dict__["_alike"] = None
    before = next(_runs)
    found = usual.at({"B": batch, "T": length})
    return found, plain.at({"B": batch, "T": length}), next(_runs) - before - 1 - 4


def write_ops(ops: OpEvents | None) -> list[Any]:
    """Write operations down with tensors numbered as they come."""
    assert ops is not None
    numbers: dict[int, int] = {}

    def write(value: Any) -> Any:
        if isinstance(value, TensorRef):
            number = numbers.setdefault(value.number, len(numbers))
            return number, value.shape, value.dtype, ops.params.get(value.number)
        return [write(item) for item in value] if isinstance(value, (list, tuple)) else value

    events = [
        (event.op, [(name, write(value)) for name, value in event.args.items()], write(event.outputs), event.call)
        for event in ops.events
    ]
    ends = [sorted((call, write(refs)) for call, refs in refs.items()) for refs in (ops.call_inputs, ops.call_outputs)]
    return [*events, *ends]


#: What the layers do, at which length, and how many of the four then run.
CASES = [
    ("alike", mlp, 13, 1),
    ("a number that is read at long inputs", alternating, 13, 4),
    ("a module that keeps something", counting, 13, 4),
    ("what is given is written to", in_place, 13, 4),
    ("what is made is read elsewhere", keeping, 13, 4),
    ("the input comes back", same, 13, 1),
]


@pytest.mark.parametrize(("does", "length", "runs"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_trace_that_repeats_modules_is_the_one_that_runs_them(does: Any, length: int, runs: int) -> None:
    found, plain, ran = trace_twice(Stack(does), (torch.zeros(2, 6, 8),), 3, length)

    assert ran == runs
    assert found.trace == plain.trace
    assert found.works
    assert write_ops(found.ops) == write_ops(plain.ops)


@pytest.mark.parametrize("most", [13, 12])
@pytest.mark.parametrize(("does", "length", "runs"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_trace_that_asks_for_the_end_alone_ends_as_the_whole_one(
    does: Any, length: int, runs: int, most: int
) -> None:
    class Limited(Stack):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.zeros(min(x.shape[1], most), 3)

    traced = run_engine(Limited(does), ModelInputs((torch.zeros(2, 6, 8),)))
    assert traced.request is not None
    whole, brief = (Retracer(traced.request, traced.trace, (("B", "T", ""),)) for _ in range(2))
    found = brief.asking_ends().at({"B": 3, "T": length})
    expected = whole.at({"B": 3, "T": length})

    assert (found.works, found.reason) == (expected.works, expected.reason)
    assert found.works == (most == length and does is not alternating)  # which shortens its input
    assert found.trace is not None
    assert expected.trace is not None
    assert found.trace.outputs == expected.trace.outputs
    assert (len(found.trace.calls) < len(expected.trace.calls)) == (runs == 1 and found.works)


def test_layers_of_another_width_are_run() -> None:
    found, plain, ran = trace_twice(Stack(mlp, (8, 8, 16, 16)), (torch.zeros(2, 6, 8),), 3, 13)

    assert ran == 2
    assert found.trace == plain.trace
    assert write_ops(found.ops) == write_ops(plain.ops)


def test_a_shared_layer_is_repeated_and_counted() -> None:
    stack = Stack(mlp)
    stack.blocks = nn.ModuleList([stack.blocks[0]] * 4)
    found, plain, ran = trace_twice(stack, (torch.zeros(2, 6, 8),), 3, 13)

    assert ran == 4  # under four names none is its own
    assert found.trace == plain.trace


def test_a_layer_called_in_a_loop_is_run_once() -> None:
    class Loop(Stack):
        def forward(self, x: Tensor) -> Tensor:
            mask = torch.ones(x.shape[1], dtype=torch.bool)
            for _ in range(4):
                x = self.blocks[0](x, mask)[0]
            return self.head(x)

    found, plain, ran = trace_twice(Loop(mlp, (8,)), (torch.zeros(2, 6, 8),), 3, 13)

    assert ran == 1
    assert found.trace == plain.trace
    assert write_ops(found.ops) == write_ops(plain.ops)
    assert found.trace is not None
    assert [call.call_index for call in found.trace.calls if call.path == "blocks.0" and call.kind == "module"] == [
        0, 1, 2, 3,
    ]  # fmt: skip
