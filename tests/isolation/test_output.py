from __future__ import annotations

import contextlib
import io
import sys
import threading

import pytest
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.isolation.output import quiet_output


def test_output_of_this_thread_is_caught_and_that_of_others_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    with quiet_output() as caught:
        print("held back")
        other = threading.Thread(target=print, args=("another thread",))
        other.start()
        other.join()
    print("afterwards")
    assert "".join(caught) == "held back\n"
    assert capsys.readouterr().out == "another thread\nafterwards\n"


def test_blocks_of_one_thread_nest() -> None:
    with quiet_output() as outer:
        print("one")
        with quiet_output() as inner:
            print("two")
        print("three")
    assert ("".join(outer), "".join(inner)) == ("one\nthree\n", "two\n")


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
