"""``python -m benchmarks mutations [words]``: break clean models mechanically, and count what the rules see of it.

A mutant counts if it still runs and its shape story differs from the original's: the output, or a layer with weights
that both have, has other sizes, at the given size, at one sample more or at a batch of 1. Who leaves out an activation
tells the same story. Each is one small change: a padding, ``batch_first``, the
dim of one operation, a layer left out or exchanged with its neighbour, a ``squeeze()`` put in.

A layer left out or exchanged changes no setting and no operation of what is left. Where the model then still gives
what it gave, it is another net and not a broken one, as a VGG with one pooling less is: the score is told with and
without these.

The rules are asked twice: with nothing declared, and with the size of the output declared, as ``expect={"": "B 10"}``
does in a test. What neither sees is listed with the reason.
"""

from __future__ import annotations

import sys
import types
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from benchmarks.textbook import ORIGINALS, Original
from modelsummary_ipy.diagnosis.rules import RULES
from modelsummary_ipy.summary import ModelSummary

#: Operations whose dim is changed.
_WITH_DIM = {
    "mean", "sum", "amax", "max", "softmax", "log_softmax", "cat", "stack", "transpose", "flatten", "squeeze",
    "unsqueeze", "unbind", "chunk", "permute",
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One small change.

    Attributes:
        operator: What kind of change.
        what: Where and how, in words.
        make: Makes the changed model.
    """

    operator: str
    what: str
    make: Callable[[], nn.Module]


# -- changes of modules ------------------------------------------------------------------------------------------------


def mutate_modules(original: Original) -> Iterator[Mutant]:
    """Change a setting of one module, leave it out, or exchange it with its neighbour."""
    names = [(name, type(module).__name__, module) for name, module in original.make().named_modules() if name]
    for name, kind, module in names:
        if isinstance(module, (nn.Conv1d, nn.Conv2d)):
            for more in (1, -1):
                yield Mutant("padding", f"{name} {more:+d}", lambda name=name, more=more: _pad(original, name, more))
        if hasattr(module, "batch_first"):
            yield Mutant("batch_first", name, lambda name=name: _flip(original, name))
        if not isinstance(module, (nn.ModuleList, nn.Identity, nn.Dropout)) and not list(module.children()):
            yield Mutant("left out", f"{name} {kind}", lambda name=name: _leave_out(original, name))
    for name, _, module in [("", "", original.make()), *names]:
        if isinstance(module, nn.Sequential):
            for place in range(len(module) - 1):
                what = f"{name}[{place}] and [{place + 1}]"
                yield Mutant("exchanged", what, lambda name=name, place=place: _exchange(original, name, place))


def _pad(original: Original, name: str, more: int) -> nn.Module:
    model = original.make()
    module: Any = model.get_submodule(name)
    module.padding = tuple(size + more for size in module.padding)
    if min(module.padding) < 0:
        raise ValueError("no padding to take away")
    module._reversed_padding_repeated_twice = [size for size in reversed(module.padding) for _ in range(2)]
    return model


def _flip(original: Original, name: str) -> nn.Module:
    model = original.make()
    module: Any = model.get_submodule(name)
    module.batch_first = not module.batch_first
    return model


def _leave_out(original: Original, name: str) -> nn.Module:
    model = original.make()
    above, _, last = name.rpartition(".")
    setattr(model.get_submodule(above), last, nn.Identity())
    return model


def _exchange(original: Original, name: str, place: int) -> nn.Module:
    model = original.make()
    stack: Any = model.get_submodule(name)
    stack[place], stack[place + 1] = stack[place + 1], stack[place]
    return model


# -- changes of operations ---------------------------------------------------------------------------------------------


class _Changes(TorchFunctionMode):
    """Changes one operation of a forward: the ``turn``-th that may be changed."""

    def __init__(self, turn: int, change: Callable[[str, Any, tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self.turn = turn
        self.change = change
        self.seen: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        kwargs = kwargs or {}
        frame = sys._getframe(1)
        mine = frame.f_globals.get("__name__", "").startswith("torch")
        if mine or not isinstance(name, str) or (name not in _WITH_DIM and name not in _SQUEEZABLE):
            return func(*args, **kwargs)
        self.seen.append(name)
        if len(self.seen) - 1 == self.turn:
            return self.change(name, func, args, kwargs)
        return func(*args, **kwargs)


_SQUEEZABLE = {
    "relu",
    "max_pool2d",
    "adaptive_avg_pool2d",
    "tanh",
    "mul",
    "add",
    "__add__",
    "view",
    "reshape",
    "linear",
}


def _forward_with(turn: int, change: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        with _Changes(turn, change):
            return type(self).forward(self, *args, **kwargs)

    return forward


def mutate_operations(original: Original) -> Iterator[Mutant]:
    """Change the dim of one operation, or put a ``squeeze()`` behind it."""
    count = _Changes(-1, lambda *_: None)
    model = original.make().eval()
    with torch.no_grad(), count:
        model(*_make_inputs(original))
    for turn, name in enumerate(count.seen):
        for shift in (1, -1, 2) if name in _WITH_DIM else ():
            yield Mutant("dim", f"{name} {turn}: dim {shift:+d}", lambda t=turn, s=shift: _change_dim(original, t, s))
        yield Mutant("squeeze", f"behind {name} {turn}", lambda t=turn: _put_squeeze(original, t))


def _make_inputs(original: Original) -> list[Tensor]:
    given = original.inputs if isinstance(original.inputs, list) else [original.inputs]
    return [value if isinstance(value, Tensor) else torch.randn(value) for value in given]


def _change_dim(original: Original, turn: int, shift: int) -> nn.Module:
    def change(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        first = args[0][0] if isinstance(args[0], (tuple, list)) else args[0]
        rank = first.dim() + (name in ("stack", "unsqueeze"))

        def moved(value: Any) -> Any:
            if isinstance(value, (tuple, list)):
                return (moved(value[0]), *value[1:]) if name != "permute" else (*value[1:], value[0])
            return (value + shift) % rank

        if "dim" in kwargs:
            return func(*args, **{**kwargs, "dim": moved(kwargs["dim"])})
        if name == "permute":
            return func(args[0], *moved(args[1:]))
        place = 2 if name == "chunk" else 1
        if len(args) <= place or not isinstance(args[place], (int, tuple)):
            raise ValueError("no dim to change")
        return func(*args[:place], moved(args[place]), *args[place + 1 :], **kwargs)

    return _with_forward(original, turn, change)


def _put_squeeze(original: Original, turn: int) -> nn.Module:
    def change(name: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        made = func(*args, **kwargs)
        return made.squeeze() if isinstance(made, Tensor) else made

    return _with_forward(original, turn, change)


def _with_forward(original: Original, turn: int, change: Callable[..., Any]) -> nn.Module:
    model = original.make()
    model.forward = types.MethodType(_forward_with(turn, change), model)  # type: ignore[method-assign]
    return model


# -- counting ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Story:
    """What a model's shapes are.

    Attributes:
        sizes: By path, the output's sizes of every layer with weights, and of the model under ``""``, with what they
            are with one sample more.
        at_one: The same at a batch of 1, ``None`` if it fails there.
    """

    sizes: dict[str, Any]
    at_one: dict[str, Any] | None

    def differs(self, other: Story) -> bool:
        """Return whether the model, or any layer that both have, has other sizes."""
        if self.at_one is not None and other.at_one is None:
            return True
        pairs = [(self.sizes, other.sizes), (self.at_one or {}, other.at_one or {})]
        return any(one[path] != two[path] for one, two in pairs for path in one.keys() & two.keys())


def tell_story(model: nn.Module, original: Original) -> Story | None:
    """Trace a model at the original's size and at a batch of 1; ``None`` if it does not run."""
    ms = ModelSummary(model, original.inputs, ignore=list(RULES))
    if ms.error is not None:
        return None
    one = ModelSummary(model, [value[:1] for value in _make_inputs(original)], ignore=list(RULES))
    return Story(_list_sizes(ms), None if one.error is not None else _list_sizes(one))


def _list_sizes(ms: ModelSummary) -> dict[str, Any]:
    """Sizes of the layers with weights; of those that changed places, by the number of their kind."""
    then = ms.story.batch
    found: dict[str, Any] = {}
    seen: Counter[str] = Counter()
    for row in ms.rows:
        if row.path and (row.kind != "module" or row.own_params == 0 or "Norm" in row.type_name or row.status != "ran"):
            continue
        kind = f"{row.type_name} {row.own_params}"
        seen[kind] += 1
        found[f"{kind} {seen[kind]}" if row.path else ""] = (
            tuple(spec.shape for spec in row.outputs), then.get(row.index)
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class Verdict:
    """A mutant that counts.

    Attributes:
        original: Name of what was changed.
        mutant: The change.
        severity: The gravest new flag, ``""`` if there is none.
        declared: Whether the declared output tells.
        reason: Why neither tells; ``""`` if one does.
        another: Whether it is another net rather than a broken one: nothing but the layers' number or order changed,
            and the output is as it was.
    """

    original: str
    mutant: Mutant
    severity: str
    declared: bool
    reason: str
    another: bool


def judge(
    original: Original, mutant: Mutant, story: Story, known: Counter[str], expect: dict[str, Any]
) -> Verdict | None:
    """Summarise a mutant; ``None`` if it does not run, or tells the same story."""
    try:
        model = mutant.make()
        its = tell_story(model, original)
    except ValueError:
        return None
    if its is None or not story.differs(its):
        return None
    ms = ModelSummary(model, original.inputs, expect=expect)
    found = Counter(flag.rule for flag in ms.flags)
    declared = found.pop("declared-size", 0) > 0
    new = [flag for flag in ms.flags if found[flag.rule] > known[flag.rule]]
    severity = "warning" if any(flag.severity != "note" for flag in new) else "note" if new else ""
    reason = "" if severity or declared else _say_why(story, its)
    another = mutant.operator in ("left out", "exchanged") and its.sizes[""] == story.sizes[""]
    return Verdict(original.name, mutant, severity, declared, reason, another)


def _say_why(story: Story, its: Story) -> str:
    if its.sizes == story.sizes:
        return "only at a batch of 1, and only a layer inside"
    if len(its.sizes) < len(story.sizes):
        return "a layer is gone: what is left is a smaller net"
    return "the map has another size, as other nets have it on purpose"


def main(words: Sequence[str]) -> None:
    """Print the share of mutants flagged, by operator, and the survivors."""
    verdicts: list[Verdict] = []
    alarms = 0
    chosen = [o for o in ORIGINALS if not words or any(word.lower() in o.name.lower() for word in words)]
    for original in chosen:
        ms = ModelSummary(original.make(), original.inputs)
        alarms += any(flag.severity != "note" for flag in ms.flags)
        story, known = tell_story(original.make(), original), Counter(flag.rule for flag in ms.flags)
        assert story is not None
        expect = {"": [" ".join(formula) for formula in ms.formulas[0] if formula is not None]}
        for mutant in (*mutate_modules(original), *mutate_operations(original)):
            verdict = judge(original, mutant, story, known, expect)
            if verdict is not None:
                verdicts.append(verdict)
    print_table(verdicts)
    print(f"originals with a warning: {alarms} of {len(chosen)}\n\nsurvivors:")
    for verdict in verdicts:
        if verdict.reason:
            print(f"  {verdict.original:<10}{verdict.mutant.operator:<12}{verdict.mutant.what:<34}{verdict.reason}")


def print_table(verdicts: list[Verdict]) -> None:
    """Print one line an operator, one for all, and one for all that are no other nets."""
    print(f"{'operator':<13}{'mutants':>8}{'warned':>8}{'noted':>8}{'rules':>8}{'+ output':>10}")
    groups = {
        operator: [v for v in verdicts if v.mutant.operator == operator]
        for operator in dict.fromkeys(v.mutant.operator for v in verdicts)
    }
    groups |= {"all": verdicts, "broken nets": [v for v in verdicts if not v.another]}
    for name, these in groups.items():
        warned, noted = (sum(v.severity == severity for v in these) for severity in ("warning", "note"))
        told = sum(not v.reason for v in these)
        line = f"{name:<13}{len(these):>8}{warned:>8}{noted:>8}"
        print(f"{line}{(warned + noted) / max(len(these), 1):>8.0%}{told / max(len(these), 1):>10.0%}")
