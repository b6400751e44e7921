"""How often a forward's Python runs: once if that is asked for, else no more often than the documentation says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import InputError, ModelSummary


class Counted(nn.Module):
    """Writes a letter a forward into a file, which a trace leaves as it is."""

    def __init__(self, log: Path, kind: str) -> None:
        super().__init__()
        self.conv, self.log, self.kind = nn.Conv2d(3, 4, 3, stride=2), log, kind
        self.words = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        with self.log.open("a") as file:
            file.write(".")
        if self.kind == "words":
            return self.words(x) * 2  # type: ignore[no-any-return]
        y = self.conv(x)
        if self.kind == "values" and y.mean() > 0:
            y = y + 1
        y = y.flatten(2).mean(-1)
        return self.head(y[:, :3] if self.kind == "fails" else y)  # type: ignore[no-any-return]


def count(log: Path) -> int:
    return len(log.read_text()) if log.exists() else 0


GIVEN: dict[str, Any] = {"works": (2, 3, 16, 16), "fails": (2, 3, 16, 16), "values": (2, 3, 16, 16), "words": (2, 7)}


@pytest.mark.parametrize("engine", ["auto", "fake", "real"])
@pytest.mark.parametrize("kind", [*GIVEN, "nothing given"])
def test_the_forward_runs_exactly_once(kind: str, engine: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ms = ModelSummary(Counted(log, kind), GIVEN.get(kind), engine=engine, trace_once=True)
    ms._repr_mimebundle_()
    ms.formulas, ms.constraints, ms.flags, ms.error, ms.costs, ms.memory  # none may trace again
    str(ms)
    assert count(log) == 1
    assert "traced once, as asked" in str(ms)
    assert ms.formulas == {}


def test_what_one_trace_shows_is_the_same(tmp_path: Path) -> None:
    once = ModelSummary(Counted(tmp_path / "a", "works"), (2, 3, 16, 16), trace_once=True)
    more = ModelSummary(Counted(tmp_path / "b", "works"), (2, 3, 16, 16))
    assert once.rows == more.rows
    assert once.costs == more.costs
    for name in ("param_bytes", "input_bytes", "activation_bytes", "forward_peak_bytes"):  # a training step is a trace
        assert getattr(once.memory, name) == getattr(more.memory, name)
    assert more.formulas
    assert "traced once" not in str(more)


def test_a_forward_that_needs_values_says_why_it_has_none(tmp_path: Path) -> None:
    ms = ModelSummary(Counted(tmp_path / "log", "values"), (2, 3, 16, 16), trace_once=True)
    assert ms.error is not None
    assert "needs tensor values; the forward was to run once" in ms.error.reason
    assert ms.error.fix == "engine='real' runs the forward"


#: As the table of docs/tracing.md says; a search that time ends may be made twice.
MOST = {"works": 6 + 160, "words": 6 + 160, "fails": 6 + 160 + 180, "values": 6 + 4, "nothing given": 60 + 6 + 160}


@pytest.mark.parametrize("kind", [*GIVEN, "nothing given"])
def test_a_forward_runs_no_more_often_than_is_documented(kind: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    ms = ModelSummary(Counted(log, kind), GIVEN.get(kind))
    ms._repr_mimebundle_()
    ms.formulas, ms.constraints, ms.flags, ms.error  # all that traces again
    assert 1 < count(log) <= MOST[kind]


def test_to_trace_nothing_once_is_no_contradiction() -> None:
    assert ModelSummary(nn.Linear(2, 2), engine="static", trace_once=True).rows
    with pytest.raises(InputError):
        ModelSummary(nn.Linear(2, 2), (1, 2), device="nowhere", trace_once=True)
    assert torch.is_grad_enabled()
