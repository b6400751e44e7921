"""Ctrl-C and the stop button: the rows so far where somebody looks at them, ``KeyboardInterrupt`` in a script."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.isolation.interrupts import find_gate
from modelsummary_ipy.shapes import formula_search
from modelsummary_ipy.tracing.progress import find_keeping, keeping_rows


class Stopped(nn.Module):
    """Is interrupted before the pass of a given number, as by a key that is pressed."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 3, 3, padding=1)
        self.inner = nn.Sequential(nn.ReLU(), Interrupt())
        self.head = nn.Linear(8, 2)
        self.at = at
        self.register_buffer("passes", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        for number in range(4):
            x = self.c(x)
            if number == self.at:
                x = self.inner(x)
        return self.head(x)  # type: ignore[no-any-return]


class Interrupt(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x + 1
        os.kill(os.getpid(), signal.SIGINT)
        return y * 2


def summarise_stopped(**options: Any) -> ModelSummary:
    with keeping_rows():
        return ModelSummary(Stopped(2), (1, 3, 8, 8), **options)


@pytest.mark.parametrize("engine", ["auto", "fake", "real"])
def test_an_interrupted_trace_leaves_the_rows_so_far(engine: Any) -> None:
    ms = summarise_stopped(engine=engine)
    shown = [(row.path, row.type_name, row.status) for row in ms.rows if row.kind == "module"]
    assert shown == [
        ("", "Stopped", "failed"),
        *[("c", "Conv2d", "ran")] * 3,
        ("inner", "Sequential", "failed"),
        ("inner.0", "ReLU", "ran"),
        ("inner.1", "Interrupt", "failed"),
        ("head", "Linear", "unreached"),
    ]
    assert ms["c"].outputs[0].shape == (1, 3, 8, 8)
    assert ms.pipeline.traced.num_traces == 1


def test_where_it_was_interrupted_is_said_first() -> None:
    ms = summarise_stopped()
    line = Interrupt.forward.__code__.co_firstlineno + 2
    said = f"interrupted in inner.1 (Interrupt), call 7 of all, at test_interrupt.py:{line}"
    assert str(ms).splitlines()[0] == said
    assert said in ms.to_html()
    assert said in ms.to_markdown()
    assert "failed" not in str(ms)
    assert ms.error is not None
    assert (
        str(ms.error).splitlines()[0]
        == f"interrupted in 'inner.1' (Interrupt), call 7 of all, at test_interrupt.py:{line}"
    )
    assert isinstance(ms.error.__cause__, KeyboardInterrupt)
    assert (ms.formulas, ms.constraints) == ({}, ())


def test_a_script_gets_the_interrupt_and_its_model_as_it_was() -> None:
    net = Stopped(2)
    before = {name: (value.tolist(), value._version) for name, value in net.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        ModelSummary(net, (1, 3, 8, 8))
    assert {name: (value.tolist(), value._version) for name, value in net.state_dict().items()} == before
    assert type(torch.ones(1) * 2) is Tensor
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert find_keeping() is None


def interrupt_in(function: Callable[..., Any], times: list[int]) -> Callable[..., Any]:
    """Return ``function``, interrupted once as it begins."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if not times:
            times.append(1)
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args, **kwargs)

    return run


@pytest.mark.parametrize("name", ["choose_sample_sizes", "find_batch"])
def test_an_interrupted_search_leaves_the_table(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from modelsummary_ipy.pipeline import findings

    home = formula_search if hasattr(formula_search, name) else findings
    whole = ModelSummary(Stopped(9), (1, 3, 8, 8))
    monkeypatch.setattr(home, name, interrupt_in(getattr(home, name), []))
    ms = ModelSummary(Stopped(9), (1, 3, 8, 8))
    bundle = ms._repr_mimebundle_()
    note = "interrupted: formulas and sizes that work were not all searched"
    assert all(note in text for text in bundle.values())
    assert [row.outputs for row in ms.rows] == [row.outputs for row in whole.rows]
    assert ms.story.formulas == {}
    assert ms.formulas == whole.formulas  # read by name they are searched to the end
    assert ms.constraints == whole.constraints
    assert ms.flags == whole.flags
    assert note not in str(ms)


def test_an_interrupted_search_in_a_script_is_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formula_search, "choose_sample_sizes", interrupt_in(formula_search.choose_sample_sizes, []))
    ms = ModelSummary(Stopped(9), (1, 3, 8, 8))
    with pytest.raises(KeyboardInterrupt):
        str(ms)
    assert ms.formulas  # the next one that asks gets it


def test_a_search_for_inputs_that_is_interrupted_leaves_the_tree() -> None:
    with keeping_rows():
        ms = ModelSummary(Stopped(2))
    assert ms.engine == "static"
    assert ms.engine_reason == "interrupted while an input that works for forward(x) was searched: give one"


def test_an_interrupt_that_comes_too_late_ends_nothing() -> None:
    with keeping_rows():
        ms = ModelSummary(Stopped(9), (1, 3, 8, 8))
        os.kill(os.getpid(), signal.SIGINT)
    assert ms.error is None
    assert find_gate().depth == 0


def test_an_interrupted_block_searches_for_no_other_summary() -> None:
    with keeping_rows() as keeping:
        ms, other = (ModelSummary(Stopped(9), (1, 3, 8, 8)) for _ in range(2))
        keeping.is_interrupted = True
        changes = ms.diff(other)
    assert not changes.changes
    assert all(made.story.stopped.startswith("interrupted: ") and made.story.formulas == {} for made in (ms, other))
    assert ms.formulas


def test_after_an_interrupt_a_step_is_not_traced_but_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelsummary_ipy.pipeline import stages

    ms = ModelSummary(Stopped(9), (1, 3, 8, 8), optimizer="sgd")
    monkeypatch.setattr(stages, "trace_step", interrupt_in(stages.trace_step, []))
    with keeping_rows():
        shown = str(ms)
    assert shown.count("interrupted") == 1  # formulas were found before
    assert "interrupted: memory and the training step were not all traced" in shown
    assert ms.training.peak_bytes
