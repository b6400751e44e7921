"""What is shown is searched for no longer than a reader waits; what was not found by then is said, not guessed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.pipeline import fixes
from modelsummary_ipy.pipeline.fixes import FixTrials
from modelsummary_ipy.records import retraced
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.retraced import Allowance

NOTE = "the search for formulas ended after"


class Clock:
    """A clock that goes on by as much at every look at it."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


class Net(nn.Module):
    """Writes a line a forward into a file, which a trace leaves as it is."""

    def __init__(self, log: Path) -> None:
        super().__init__()
        self.conv, self.log = nn.Conv2d(3, 4, 3, stride=2), log

    def forward(self, x: Tensor) -> Tensor:
        with self.log.open("a") as file:
            file.write("forward\n")
        return F.max_pool2d(self.conv(x), 2).flatten(2).mean(-1)


@pytest.mark.parametrize("step", [0.01, 0.1, 0.3, 1.0, 30.0])
def test_what_a_time_limit_leaves_is_a_part_of_the_whole(
    step: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ModelSummary(Net(tmp_path / "whole"), (2, 3, 32, 32))
    formulas, constraints = dict(whole.formulas), whole.constraints
    monkeypatch.setattr(retraced, "work_clock", Clock(step))
    ms = ModelSummary(Net(tmp_path / "limited"), (2, 3, 32, 32))
    text = ms.to_text()
    for row, leaves in ms.story.formulas.items():
        assert all(found in (None, known) for found, known in zip(leaves, formulas[row], strict=True))
    assert set(ms.story.constraints) <= set(constraints)
    if ms.story.stopped:
        assert NOTE in text
        assert NOTE in ms.to_html()
        assert NOTE in ms.to_markdown()
    else:
        assert ms.story.formulas == formulas
        assert ms.story.constraints == constraints
    if step >= 1:
        assert ms.story.stopped
        count = len((tmp_path / "limited").read_text().splitlines())
        assert count < len((tmp_path / "whole").read_text().splitlines())


def test_formulas_that_are_read_by_name_are_searched_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ModelSummary(Net(tmp_path / "whole"), (2, 3, 32, 32))
    monkeypatch.setattr(retraced, "work_clock", Clock(30.0))
    ms = ModelSummary(Net(tmp_path / "limited"), (2, 3, 32, 32))
    assert NOTE in str(ms)
    assert ms.formulas == whole.formulas
    assert ms.constraints == whole.constraints
    assert NOTE not in str(ms)


def test_a_failure_is_explained_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraced, "work_clock", Clock(30.0))
    ms = ModelSummary(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(10, 2)), (2, 3, 8, 8))
    assert ms.error is not None
    assert "Linear" in str(ms.error)


def test_sleep_is_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retraced, "monotonic", time.monotonic)
    monkeypatch.setattr(retraced, "_work", retraced._Work())
    before = retraced.work_clock()
    time.sleep(0.5)
    # only Linux says how long a thread slept; elsewhere it is the fifth of the clock
    assert retraced.work_clock() - before > (0.45 if sys.platform == "linux" else 0.09)


@pytest.mark.parametrize(("seconds", "is_over"), [(1.0, False), (2.0, True)])
def test_fixes_take_what_other_searches_left(seconds: float, is_over: bool) -> None:
    ms = ModelSummary(nn.Sequential(nn.Linear(10, 2), nn.Linear(3, 2)), (2, 10))
    request = ms.pipeline.traced.request
    assert request is not None
    trials = FixTrials(ms.pipeline.bare, request, None, (), seconds, time=Allowance(until=0.0))
    assert (trials.is_over, trials.was_late, trials.limit) == (is_over, is_over, 1.5)


def test_a_slow_first_trace_does_not_say_how_long_a_fix_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    ms = ModelSummary(nn.Sequential(nn.Linear(10, 2), nn.Linear(3, 2)), (2, 10))
    request = ms.pipeline.traced.request
    assert request is not None
    trials = FixTrials(ms.pipeline.bare, request, None, (), 1.4, time=Allowance(until=0.0))
    assert trials.run(Candidate("nothing", ())) is not None
    monkeypatch.setattr(fixes, "work_clock", lambda: 1e9)
    tried = [trials.run(Candidate("nothing", ())) is not None for _ in range(5)]
    assert tried == [True, True, True, False, False]


@pytest.mark.parametrize(("step", "found"), [(1e-4, (12, 0)), (4.0, (12, None)), (40.0, (None, None))])
def test_the_largest_batch_is_searched_within_a_limit(
    step: float, found: tuple[int | None, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ModelSummary(nn.Linear(100, 100), (8, 100), memory="50 KB", optimizer="adamw").memory
    assert (whole.most_for_inference, whole.most_for_training) == (12, 0)
    ms = ModelSummary(nn.Linear(100, 100), (8, 100), memory="50 KB", optimizer="adamw")
    ms.formulas  # without a limit, so that the search for batches alone is limited
    monkeypatch.setattr(retraced, "work_clock", Clock(step))
    memory, text = ms.memory, ms.to_text()
    assert (memory.most_for_inference, memory.most_for_training) == found
    assert memory.inference_bytes == whole.inference_bytes
    assert ("the search for the largest batch ended after 30 s" in text) == (None in found)
