"""The line that says what a summary does: where somebody reads it, and nowhere else."""

from __future__ import annotations

import io
import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.pipeline import observed, progress_line, writing_progress_with


class Terminal(io.StringIO):
    """A file that says it is a terminal, and lets whoever waits for it know what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with self.changed:
            written = super().write(text)
            self.changed.notify_all()
            return written

    def wait_for(self, text: str) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: text in self.getvalue(), 20)


class Waiting(nn.Module):
    """Goes on when the line has said something, so that no time is measured here."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def forward(self, x: Any) -> Any:
        if self.text not in progress_line.sys.stderr.getvalue():
            assert progress_line.sys.stderr.wait_for(self.text)
        return x * 2


class Reads(nn.Module):
    """Is data-dependent: it can only be run."""

    def forward(self, x: Any) -> Any:
        return x[: int(x.sum())]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    made = Terminal()
    # pytest itself puts its own file into ``sys`` between a fixture and its test
    monkeypatch.setattr(progress_line, "sys", SimpleNamespace(stderr=made))
    monkeypatch.setattr(progress_line, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(progress_line, "_TICK_SECONDS", 0.001)
    return made


def test_a_terminal_is_told_the_layer_and_the_line_is_taken_away(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = io.StringIO()
    monkeypatch.setattr(sys, "stdout", printed)
    net = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Sequential(Waiting("tracing: 1.0 (Waiting), ")))
    summary = ModelSummary(net, (1, 3, 8, 8))
    assert "tracing: 1.0 (Waiting), " in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K\r")
    str(summary)
    assert "formulas" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K\r")
    assert printed.getvalue() == ""
    assert not [thread for thread in threading.enumerate() if thread.name == "modelsummary-progress"]


def test_a_file_is_told_nothing_and_no_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(progress_line, "_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: started.append(thread.name))
    for file in (io.StringIO(), None):
        monkeypatch.setattr(progress_line, "sys", SimpleNamespace(stderr=file))
        str(ModelSummary(nn.Linear(2, 2), (1, 2)))
    assert started == []


def raise_below_a_line(terminal: Terminal, error: type[BaseException]) -> None:
    with progress_line.showing_progress("tracing", None):
        assert terminal.wait_for("tracing…, ")
        raise error


def test_a_line_ends_with_a_failure_and_an_interrupt_of_its_block(terminal: Terminal) -> None:
    for error in (ZeroDivisionError, KeyboardInterrupt):
        with pytest.raises(error):
            raise_below_a_line(terminal, error)
        assert terminal.getvalue().endswith("\r\x1b[K\r")
    assert progress_line._lines == {}


def test_what_another_observer_reports_is_not_reported_twice(terminal: Terminal) -> None:
    with observed(lambda count, path: None):
        ModelSummary(nn.Linear(2, 2), (1, 2))
    assert terminal.getvalue() == ""


def test_a_real_run_is_not_kept_back_by_the_lines_own_thread(terminal: Terminal) -> None:
    net = nn.Sequential(Waiting("tracing"), Reads())
    assert ModelSummary(net, torch.ones(2, 3)).engine == "real"


def test_a_name_that_moves_the_cursor_is_written_out_and_a_line_stays_one(terminal: Terminal) -> None:
    net = nn.Sequential()
    net.add_module("\x1b[2J" + "long" * 100, Waiting("tracing: "))
    ModelSummary(net, (1, 2))
    lines = terminal.getvalue().split("\r\x1b[K")
    assert not any("\x1b" in line or "\n" in line for line in lines)
    assert max(map(len, lines)) <= 200


def test_the_terminal_may_go_away(terminal: Terminal) -> None:
    net = nn.Sequential(Waiting("tracing"))
    net[0].register_forward_hook(lambda *_: terminal.close())
    assert ModelSummary(net, (1, 2)).error is None


def test_another_place_may_show_the_line(terminal: Terminal) -> None:
    written: list[str] = []
    came = threading.Event()

    def write(line: str) -> None:
        written.append(line)
        came.set()

    with writing_progress_with(write), progress_line.showing_progress("formulas", None):
        assert came.wait(20)
    assert written[0].startswith("formulas…, ")
    assert written[-1] == ""
    assert terminal.getvalue() == ""
    assert progress_line._writers == {}
