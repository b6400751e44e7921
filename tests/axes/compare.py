"""Compares entries of the table with torch: at numbers, at expressions, and for calls that torch refuses."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from modelsummary_ipy.axes.expr import Expr
from modelsummary_ipy.axes.integers import Integers
from modelsummary_ipy.axes.registry import OpaqueError, Size, find_entry
from modelsummary_ipy.axes.traced_op import TracedOp
from modelsummary_ipy.axes.walk import Walk
from modelsummary_ipy.records.op_events import OpEvent, OpEvents, TensorRef
from modelsummary_ipy.tracing.op_log import OpLog
from tests.axes.calls import CALLS, ON_CPU
from tests.axes.draw import Draw

__all__ = ["Compared", "compare"]

#: Sizes that no two axes share, and of which none is another plus what a third one is plus.
GENERIC = (
    {"A": 7, "B": 11, "C": 13, "D": 18},
    {"A": 10, "B": 17, "C": 8, "D": 21},
    {"A": 16, "B": 9, "C": 22, "D": 12},
)
#: Sizes at which nothing was walked.
HELD_OUT = {"A": 12, "B": 14, "C": 19, "D": 9}
#: Kernels that do not check what they demand, and read beyond a tensor instead.
UNCHECKED = {
    "mkldnn_rnn_layer",
    "_scaled_dot_product_flash_attention_for_cpu",
    "_native_batch_norm_legit",
    "_native_batch_norm_legit_no_training",
    "_native_batch_norm_legit_functional",
    "_batch_norm_no_update",
    "_batch_norm_with_update",
    "native_batch_norm",
    "batch_norm",
    "cudnn_batch_norm",
    "_fused_rms_norm",
    "binary_cross_entropy",
    "rms_norm",
    "_reshape_alias",
    "_grouped_mm",
}
#: What torch refuses a call with; anything else is a mistake in its rule for ``meta``.
_REFUSALS = (RuntimeError, IndexError, ValueError)


class ContradictedError(Exception):
    """An entry demands what does not hold."""


class _StrictOp(TracedOp):
    """An operation at numbers, whose demands are checked."""

    def equal(self, one: Size, other: Size) -> Size:
        if one != other:
            raise ContradictedError(f"{one} = {other}")
        return one

    def alike(self, one: Size, other: Size) -> Size:
        return one if other == 1 else other if one == 1 else self.equal(one, other)

    def at_least(self, size: Size, least: Size) -> None:
        if size < least:
            raise ContradictedError(f"{size} ≥ {least}")


@dataclass
class Compared:
    """What came out of all draws of one operation.

    Attributes:
        ran: Calls that torch took.
        opaque: Of these, where the entry does not apply.
        wrong: What the entry gave, beside what torch gave.
        refused: Calls that torch refused.
        taken: Of these, which the entry would take.
    """

    ran: int = 0
    opaque: int = 0
    wrong: list[str] = field(default_factory=list)
    refused: int = 0
    taken: list[str] = field(default_factory=list)


def compare(name: str, draws: int) -> Compared:
    """Draw calls of one operation and compare."""
    found = Compared()
    for number in range(draws):
        rng = random.Random(f"{name} {number}")
        seed = rng.randrange(2**40)
        if number % 3 == 0:
            _compare_expressions(name, seed, found)
        else:
            small = {each: rng.choice((0, 1, 1, 2, 3, 4, 6, 9)) for each in "ABCD"}
            spoil = rng.randrange(12) if number % 3 == 2 else None
            _compare_numbers(name, seed, small if number % 2 else HELD_OUT, spoil, found)
    return found


def _try(name: str, draw: Draw) -> tuple[OpEvent, list[int], str] | None:
    """Run a call and write it down, with the numbers of its tensors and why torch refused it; ``None``: no answer."""
    log = OpLog(lambda: SimpleNamespace(index=0), {})  # type: ignore[arg-type, return-value]  # no call is running
    try:
        func, args, kwargs = CALLS[name](draw)
    except RuntimeError:  # a negative size
        return None
    numbers = [log.refer(tensor).number for tensor in draw.tensors]  # before some of them are written to
    refusal, output = "", ()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            output = func(*args, **kwargs)
    except NotImplementedError:
        return None
    except _REFUSALS as error:
        refusal = f"{type(error).__name__}: {str(error)[:120]}"
    except Exception:  # noqa: BLE001  # as above: a mistake of torch's
        return None
    log.record(func, args, kwargs, output)
    return log.finish([]).events[-1], numbers, refusal


def _draw(name: str, seed: int, sizes: dict[str, int], spoil: int | None = None) -> Draw:
    return Draw(seed, sizes, spoil=spoil, device="cpu" if name in ON_CPU else "meta")


def _compare_numbers(name: str, seed: int, sizes: dict[str, int], spoil: int | None, found: Compared) -> None:
    draw = _draw(name, seed, sizes, spoil)
    tried = _try(name, draw)
    if tried is None:
        return
    event, _, refusal = tried
    made = _apply(event)
    if refusal:
        if _is_empty(draw):
            return
        found.refused += 1
        if isinstance(made, list):
            found.taken.append(f"{_write(event)}: {refusal}")
        return
    found.ran += 1
    given = [list(ref.shape) for ref in event.outputs]
    if made == "opaque":
        found.opaque += 1
    elif not isinstance(made, list) or made[: len(given)] != given:
        if isinstance(made, str) and made.startswith("demands"):
            if name in UNCHECKED:
                return
            real = _try(name, Draw(seed, sizes, spoil=spoil, device="cpu"))
            if real is None or real[2] or _is_empty(draw):
                return  # what ``meta`` takes, the kernel refuses
        elif isinstance(made, list):
            real = _try(name, Draw(seed, sizes, spoil=spoil, device="cpu"))
            if real is not None and made[: len(given)] == [list(ref.shape) for ref in real[0].outputs]:
                return  # the rule for ``meta`` is wrong: the norm of one element on torch 2.11
        found.wrong.append(f"{_write(event)}: {made}, torch {given}")


def _is_empty(draw: Draw) -> bool:
    """Return whether a tensor has no elements: whether an operation takes such is up to its kernel."""
    return any(0 in tensor.shape for tensor in draw.tensors)


def _apply(event: OpEvent) -> Any:
    """Return what an entry makes at numbers, or what it demands that does not hold."""
    op = _StrictOp(0, event, [], [], 0, Integers([{}]), lambda ref: list(ref.shape))
    entry = find_entry(event.op)
    assert entry is not None
    try:
        return [list(axes) for axes in entry(op)]
    except OpaqueError:
        return "opaque"
    except ContradictedError as error:
        return f"demands {error}"
    except Exception as error:  # noqa: BLE001  # a call that torch refuses may be any nonsense
        return f"{type(error).__name__}: {error}"


def _write(event: OpEvent) -> str:
    args = ", ".join(f"{name}={_plain(value)}" for name, value in event.args.items())
    return f"{event.op}({args})"


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return list(map(_plain, value))
    return value.shape if isinstance(value, TensorRef) else value


def _compare_expressions(name: str, seed: int, found: Compared) -> None:
    events: list[OpEvent] = []
    given: dict[int, list[Size]] = {}
    for place, sizes in enumerate((*GENERIC, HELD_OUT)):
        draw = _draw(name, seed, sizes)
        tried = _try(name, draw)
        if tried is None or tried[2]:
            return
        event, numbers, _ = tried
        if place == 0:
            for tensor, number in zip(draw.tensors, numbers, strict=True):
                exprs = draw.given[id(tensor)]
                given[number] = [e if e.names else int(e.constant_value or 0) for e in exprs]
        events.append(event)
    main, *others, held_out = events
    if any(len(event.outputs) != len(main.outputs) for event in events):
        return
    walk = Walk(OpEvents([main]), [[other] for other in others], [], Integers(GENERIC))
    walk.found.axes.update(given)
    walked = walk.run()
    found.ran += 1
    if walked.wrong:
        found.wrong.append(f"{_write(main)}: {walked.wrong}")
        return
    if walked.opaque:
        found.opaque += 1
        return
    if not all(_holds(demand) for demand in walked.demands.values()):
        return
    for ref, there in zip(main.outputs, held_out.outputs, strict=True):
        sizes = zip(walked.axes[ref.number], there.shape, strict=True)
        made = tuple(length if _is_unknown(size) else _value(size) for size, length in sizes)
        if made != there.shape:
            found.wrong.append(f"{_write(main)}: {walked.axes[ref.number]} is {made}, torch {there.shape}")


def _is_unknown(size: Size) -> bool:
    """Return whether values alone say how large an axis is."""
    return isinstance(size, Expr) and any(name.startswith("?") for name in size.names)


def _value(size: Size) -> Any:
    return size.value(HELD_OUT) if isinstance(size, Expr) else size


def _holds(demand: Any) -> bool:
    one, other = _value(demand.one), _value(demand.other)
    return bool(one >= other if demand.kind == "at least" else one == other)
