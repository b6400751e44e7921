"""Handlers of signals that raise, as a test runner's alarm does: nothing is left behind and nothing is swallowed."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._library import simple_registry
from torch._subclasses.fake_tensor import FakeTensorMode

import modelsummary_ipy
from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.isolation.interrupts import InterruptsDeferred
from modelsummary_ipy.torch_compat.modes import find_dispatch_rules, has_dispatch_rules, skip_dispatch_rules
from modelsummary_ipy.tracing.engine import run_engine
from tests.models import by_name
from tests.reference import difference, fingerprint, seed

OWN = str(Path(modelsummary_ipy.__file__).parent)


class TimeUp(Exception):
    """What the alarm's handler raises."""


class Stop(BaseException):
    """The same, past ``except Exception``."""


@contextlib.contextmanager
def handling(handler: Callable[[int, FrameType | None], Any], number: int = signal.SIGALRM) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def raising(error: type[BaseException]) -> Callable[[int, FrameType | None], None]:
    def handler(number: int, frame: FrameType | None) -> None:
        raise error

    return handler


def send_at(number: int, kind: int, error: type[BaseException]) -> int:
    """Let a signal arrive when a function of ours begins or ends for that time; returns how often one did.

    The collector and clocks decide on a few of these times: one that a run does not come to brings no signal.
    """
    case = by_name("Caches")
    model, (args, kwargs) = case.build(), case.inputs()
    seed()
    before = fingerprint(model, args)
    count = 0

    def watch(frame: FrameType, event: str, _: Any) -> None:
        nonlocal count
        if event in ("call", "return") and frame.f_code.co_filename.startswith(OWN):
            count += 1
            if count == number:
                signal.raise_signal(kind)

    raised: BaseException | None = None
    sys.setprofile(watch)
    try:
        run_engine(model, ModelInputs(args, kwargs))
    except (TimeUp, Stop, KeyboardInterrupt) as arrived:
        raised = arrived
    finally:
        sys.setprofile(None)
    assert isinstance(raised, error) == (0 < number <= count), f"signal at {number} of {count}"
    assert difference(before, fingerprint(model, args)) == [], f"signal at {number}"
    return count


@pytest.mark.parametrize(
    ("kind", "error", "times"),
    [(signal.SIGALRM, TimeUp, 60), (signal.SIGALRM, Stop, 60), (signal.SIGINT, KeyboardInterrupt, 150)],
    ids=["alarm", "alarm past every handler", "interrupt"],
)
def test_a_signal_between_any_two_steps_of_ours_leaves_everything_as_it_was(
    kind: int, error: type[BaseException], times: int
) -> None:
    # A job that a shell runs in the background is born ignoring interrupts.
    with handling(signal.default_int_handler if error is KeyboardInterrupt else raising(error), kind):
        send_at(-1, kind, error)  # the first time caches of Python's and ours are filled
        total = send_at(-1, kind, error)
        assert total > 500
        numbers = range(1, total, max(1, total // times))
        sent = sum(send_at(number, kind, error) >= number for number in numbers)
    assert sent >= 0.9 * len(numbers)


def test_what_a_handler_raises_is_not_the_models_failure() -> None:
    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            try:
                signal.raise_signal(signal.SIGALRM)
            except TimeUp as error:
                raise ValueError("the model's own words") from error
            return x

    with handling(raising(TimeUp)), pytest.raises(TimeUp):
        ModelSummary(Slow(), (2, 3))


def test_what_a_handler_raises_while_formulas_are_found_is_not_taken_for_a_mistake_of_ours(tmp_path: Path) -> None:
    """It surfaces as it was raised, and what it interrupted is computed when it is read again."""
    alarm = tmp_path / "alarm"

    class Rings(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if alarm.exists():
                signal.raise_signal(signal.SIGALRM)
            return x + 1

    ms = ModelSummary(Rings(), (2, 3))
    alarm.touch()
    try:
        with handling(raising(TimeUp)), pytest.raises(TimeUp) as caught:
            ms.formulas
    finally:
        alarm.unlink()
    assert caught.value.__context__ is None
    assert ms.formulas[0] == (("B", "F"),)


def test_a_handler_runs_at_once_in_the_users_code_and_the_trace_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    # What a forward keeps in a list is taken back; what it prints is shown once.

    class Beats(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            signal.raise_signal(signal.SIGALRM)
            print("forward")
            return x + 1

    def handler(number: int, frame: FrameType | None) -> None:
        assert frame is not None
        print(f"handler in {frame.f_code.co_name}")

    with handling(handler):
        ms = ModelSummary(Beats(), (2, 3))
        assert signal.getsignal(signal.SIGALRM) is handler
        assert ms.error is None
    assert capsys.readouterr().out.splitlines() == ["handler in forward", "forward"]


def test_a_handler_that_the_forward_sets_is_put_back() -> None:
    def other(number: int, frame: FrameType | None) -> None: ...

    class Sets(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            signal.signal(signal.SIGALRM, other)
            return x

    before = raising(TimeUp)
    with handling(before):
        ModelSummary(Sets(), (2, 3))
        assert signal.getsignal(signal.SIGALRM) is before


def test_signals_without_a_handler_of_pythons_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    class Looks(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            print(signal.getsignal(signal.SIGUSR1).name, signal.getsignal(signal.SIGUSR2).name)
            return x

    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        ModelSummary(Looks(), (2, 3))
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert capsys.readouterr().out == "SIG_DFL SIG_IGN\n"


def test_after_an_alarm_a_model_trains_as_before() -> None:
    net, x = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)), torch.randn(16, 4)
    with handling(raising(TimeUp)):
        for delay in (0.0005, 0.001, 0.002, 0.004, 0.008):
            signal.setitimer(signal.ITIMER_REAL, delay)
            try:
                ModelSummary(net, (16, 4))
            except TimeUp as error:
                kept = error  # as a notebook's last error is kept
                assert kept is not None
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    before = [param.detach().clone() for param in net.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        ((net(x) - 1) ** 2).mean().backward()
        optimizer.step()
    assert all(param.grad is not None for param in net.parameters())
    assert not any(torch.equal(old, new) for old, new in zip(before, net.parameters(), strict=True))


def test_a_signal_that_arrives_while_handlers_are_put_back_leaves_none_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    set_handler, first = signal.signal, signal.SIGALRM

    def refuse(*_: Any) -> None:
        raise TimeUp

    def set_and_raise(number: int, handler: Any) -> Any:
        before = set_handler(number, handler)
        if number == first and handler is refuse:
            signal.raise_signal(first)
        return before

    was = set_handler(first, refuse)
    try:
        handlers = [signal.getsignal(number) for number in sorted(signal.valid_signals())]
        monkeypatch.setattr(signal, "signal", set_and_raise)
        with pytest.raises(TimeUp), InterruptsDeferred():
            pass
        assert [signal.getsignal(number) for number in sorted(signal.valid_signals())] == handlers
        assert first not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        set_handler(first, was)


class LooksForRules(nn.Module):
    """Asks torch for the rule of an operation as C++ does, and keeps which Python code ran for it."""

    def forward(self, x: Tensor) -> Tensor:
        ran: list[str] = []
        sys.setprofile(lambda frame, event, _: ran.append(frame.f_code.co_name) if event == "call" else None)
        try:
            simple_registry.find_torch_dispatch_rule(torch.ops.aten.sin.default, FakeTensorMode)
        finally:
            sys.setprofile(None)
        print(ran)  # what a forward prints comes out
        return x.sin()


def test_between_torch_and_a_mode_runs_no_python_that_another_thread_could_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ModelSummary(LooksForRules(), (2, 3))
    assert capsys.readouterr().out == "[]\n"
    sin, registry = torch.ops.aten.sin.default, simple_registry
    skip_dispatch_rules(1)
    skip_dispatch_rules(2)
    find_dispatch_rules(1)
    rule = registry.singleton.find(sin.__qualname__).torch_dispatch_rules.register(FakeTensorMode, torch.sin)
    try:
        assert registry.find_torch_dispatch_rule(sin, FakeTensorMode) is None  # another trace goes on
        find_dispatch_rules(2)
        assert registry.find_torch_dispatch_rule(sin, FakeTensorMode) is torch.sin
        ModelSummary(LooksForRules(), (2, 3))
        assert "find_torch_dispatch_rule" in capsys.readouterr().out
    finally:
        rule.destroy()
    assert not has_dispatch_rules()
