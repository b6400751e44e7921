from __future__ import annotations

import contextlib
import io
import logging
import pdb
import sys
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.isolation.ignored_warnings import warnings_ignored
from modelsummary_ipy.isolation.output import Held, quiet_output


def texts(held: Held) -> str:
    return "".join(text for _, text in held.parts)


def test_output_of_this_thread_is_caught_and_that_of_others_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet_output() as held:
        print("held back")
        other = threading.Thread(target=print, args=("another thread",))
        other.start()
        other.join()
    print("afterwards")
    assert texts(held) == "held back\n"
    assert capsys.readouterr().out == "another thread\nafterwards\n"


def test_blocks_of_one_thread_nest() -> None:
    with quiet_output() as outer:
        print("one")
        with quiet_output() as inner:
            print("two")
        print("three")
    assert (texts(outer), texts(inner)) == ("one\nthree\n", "two\n")


LOGGER = logging.getLogger("a.logger")


class WritesToStreams(nn.Module):
    def __init__(self, end: str = "") -> None:
        super().__init__()
        self.layer, self.end = nn.Linear(6, 8), end

    def forward(self, x: Tensor) -> Tensor:
        print("printed")
        print("told", file=sys.stderr)
        LOGGER.warning("logged")
        warnings.warn("warned", stacklevel=1)
        sys.stdout.writelines(["in ", "parts\n"])
        x = self.layer(x)
        if self.end == "fails":
            raise KeyError("no such thing")
        return x if self.end != "reads" or x.sum() > 100 else -x


@pytest.mark.parametrize("end", ["", "reads", "fails"])
@pytest.mark.filterwarnings("always")
def test_all_that_a_forward_says_shows_once(end: str, capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stdout)
    LOGGER.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: sys.stderr.write(f"{message}\n")  # as outside pytest
            ms = ModelSummary(WritesToStreams(end), (2, 6))
            str(ms)
            ms.formulas
    finally:
        LOGGER.removeHandler(handler)
    shown = capsys.readouterr()
    assert shown.out.splitlines() == ["printed", "logged", "in parts"]
    assert shown.err.splitlines() == ["told", "warned"]


def test_a_debugger_stops_in_the_first_trace_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stops(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            print("before")
            pdb.Pdb(nosigint=True, readrc=False).set_trace()
            return x * 2

    prompts = []

    def answer() -> str:
        prompts.append(capsys.readouterr().out)
        return "p x.shape\n" if len(prompts) == 1 else "c\n"

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(readline=answer))
    ms = ModelSummary(Stops(), (2, 6))
    assert ms.formulas[0] == (("B", "F"),)
    first, second = prompts
    assert first.startswith("before\n")
    assert first.endswith("(Pdb) ")
    assert "torch.Size([2, 6])" in second


def test_blocks_of_two_threads_may_end_in_any_order() -> None:
    before = sys.stdout
    first, second = threading.Event(), threading.Event()

    def begin_second_end_last() -> None:
        first.wait()
        with quiet_output():
            second.set()
            done.wait()

    done = threading.Event()
    other = threading.Thread(target=begin_second_end_last)
    other.start()
    with quiet_output():
        first.set()
        second.wait()
    done.set()
    other.join()
    assert sys.stdout is before


def test_warnings_of_this_thread_are_ignored_and_those_of_others_are_not() -> None:
    before = list(warnings.filters)
    entered, done = threading.Event(), threading.Event()

    def ignore_too() -> None:
        with warnings_ignored():
            entered.set()
            done.wait()
            warnings.warn("not seen", stacklevel=1)

    def warn() -> None:
        with pytest.raises(UserWarning):
            warnings.warn("an error here", stacklevel=1)
        others.append("warned")

    others: list[str] = []
    threads = [threading.Thread(target=ignore_too), threading.Thread(target=warn)]
    with warnings_ignored():
        for thread in threads:
            thread.start()
        entered.wait()
        warnings.warn("not seen", stacklevel=1)
        threads[1].join()
    with pytest.raises(UserWarning):
        warnings.warn("an error again", stacklevel=1)
    done.set()
    threads[0].join()
    assert others == ["warned"]
    assert list(warnings.filters) == before


class Warns(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("look at this", stacklevel=1)
        return x * 2


def test_after_a_summary_a_real_call_warns_as_before() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        seen: list[str] = []
        warnings.showwarning = lambda message, *_: seen.append(str(message))
        str(ModelSummary(Warns(), (2, 3)))
        Warns()(torch.ones(2, 3))
    assert seen == ["look at this"] * 2


def test_a_writer_that_ends_after_the_block_leaves_no_chain() -> None:
    before = sys.stdout
    block, theirs = quiet_output(), contextlib.redirect_stdout(io.StringIO())
    block.__enter__()
    theirs.__enter__()
    block.__exit__(None, None, None)
    theirs.__exit__(None, None, None)  # puts back what it found: the block's writer
    for _ in range(3):
        with quiet_output():
            pass
    assert sys.stdout is before


def test_two_threads_that_summarise_leave_the_output_as_it_was() -> None:
    before = sys.stdout
    nets = [
        (nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), (2, 3, 16, 16)),
        (nn.Sequential(nn.Linear(8, 8), nn.Tanh()), (2, 8)),
    ]

    def summarise(net: nn.Module, size: tuple[int, ...]) -> None:
        for _ in range(20):
            str(ModelSummary(net, size))

    threads = [threading.Thread(target=summarise, args=one) for one in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.stdout is before
