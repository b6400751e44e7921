"""A story read for the rules: which calls carry data, which dims move with the batch, what became of a tensor."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any

from modelsummary_ipy.records.summary import Retrace, Story
from modelsummary_ipy.records.trace import Call, Link, ModuleFact, TensorSpec

__all__ = ["Dims", "Reading", "Size", "argument", "asked_size", "dims_argument", "einsum_labels", "read", "write_size"]

Size = tuple[int, ...]
#: Positions of dims.
Dims = tuple[int, ...]

_latest: tuple[weakref.ref[Story], Reading] | None = None


def read(story: Story) -> Reading:
    """Return the reading of a story; the rules that are asked one after the other share it."""
    global _latest  # one entry, so that no story outlives its summary
    if _latest is not None and _latest[0]() is story:
        return _latest[1]
    reading = Reading(story)
    _latest = (weakref.ref(story), reading)
    return reading


class Reading:
    """What every rule asks of a story, computed when first asked.

    A *step* is a call that made a tensor itself: an operation, or a module of torch's own without a look inside.
    Containers are no steps, for what goes in and out of them is made by the steps in them.
    """

    def __init__(self, story: Story) -> None:
        # The calls alone: a reading that held the story would keep it alive for ever.
        self.calls = story.trace.calls
        self.modules = story.trace.modules
        self.params = story.trace.params
        self.inputs = story.trace.inputs
        self.row_of_call = story.row_of_call
        self.failed = story.trace.failure is not None
        self.again: Retrace | None = next((r for r in story.retraces if set(r.sizes) == {"B"}), None)
        self.retraces = story.retraces
        self._params_below: dict[int, frozenset[int]] = {}

    # -- the batch ----------------------------------------------------------------------------------------------------

    @cached_property
    def batch(self) -> int:
        """The size of the dim named ``B``; 0 if there is none."""
        for fact in self.inputs:
            for name, size in zip(fact.dims, fact.spec.shape, strict=False):
                if name == "B":
                    return size
        return 0

    @cached_property
    def batch_works(self) -> bool:
        """Whether the model ran with one more in the batch."""
        return self.again is not None and self.again.trace.failure is None

    def partner(self, call: Call) -> Call | None:
        """Return the same call in the pass at B + 1."""
        if self.again is None:
            return None
        index = self.again.partners[call.index]
        return None if index is None else self.again.trace.calls[index]

    def moving_in(self, call: Call, leaf: int = 0) -> Dims | None:
        """Which dims of an input leaf move with the batch; ``None`` if unknown or if it has another rank then."""
        other = self.partner(call)
        return None if other is None else _moving(call.inputs, other.inputs, leaf)

    def moving_out(self, call: Call, leaf: int = 0) -> Dims | None:
        """The same of an output leaf."""
        other = self.partner(call)
        return None if other is None else _moving(call.outputs, other.outputs, leaf)

    def factor(self, call: Call, leaf: int, dim: int) -> int:
        """How many rows for each sample a dim of an output leaf holds: 4 for ``4·B``; 0 if it is no multiple of B."""
        other = self.partner(call)
        if other is None or leaf >= len(other.outputs) or self.again is None:
            return 0
        now, then = call.outputs[leaf].shape[dim], other.outputs[leaf].shape[dim]
        more = self.again.sizes["B"]
        return now // self.batch if self.batch and now * more == then * self.batch else 0

    def factor_in(self, call: Call, leaf: int, dim: int) -> int:
        """The same of a dim of an input leaf."""
        other = self.partner(call)
        if other is None or leaf >= len(other.inputs) or dim >= len(other.inputs[leaf].shape) or self.again is None:
            return 0
        now, then = call.inputs[leaf].shape[dim], other.inputs[leaf].shape[dim]
        more = self.again.sizes["B"]
        return now // self.batch if self.batch and now * more == then * self.batch else 0

    def single_factor_in(self, call: Call, leaf: int) -> int:
        """Rows for each sample in the one dim of an input leaf that moves; 0 if none or several do."""
        moving = self.moving_in(call, leaf)
        return self.factor_in(call, leaf, moving[0]) if moving and len(moving) == 1 else 0

    def single_factor_out(self, call: Call, leaf: int) -> int:
        """The same of an output leaf."""
        moving = self.moving_out(call, leaf)
        return self.factor(call, leaf, moving[0]) if moving and len(moving) == 1 else 0

    @cached_property
    def failed_then(self) -> tuple[Call, Call] | None:
        """The step that failed at B + 1, as it ran at B and as it failed."""
        if self.again is None or self.again.trace.failure is None:
            return None
        index = self.again.trace.failure.call
        if index is None:
            return None
        step = next((call for call in self.calls if self.again.partners[call.index] == index), None)
        if step is None:
            step = self._match_failed(self.again.trace.calls[index])
        return None if step is None else (step, self.again.trace.calls[index])

    def _match_failed(self, other: Call) -> Call | None:
        """A failed operation may have no partner by number: match it by its line and its turn."""
        assert self.again is not None
        alike = [call for call in self.again.trace.calls if _place(call) == _place(other)]
        mine = [call for call in self.calls if _place(call) == _place(other)]
        turn = next((i for i, call in enumerate(alike) if call.index == other.index), None)
        return mine[turn] if turn is not None and turn < len(mine) else None

    # -- steps and links ----------------------------------------------------------------------------------------------

    @cached_property
    def steps(self) -> tuple[Call, ...]:
        """The calls that made a tensor themselves, in order."""
        return tuple(call for call in self.calls if self.is_step(call))

    def is_step(self, call: Call) -> bool:
        """Tell whether the call made what it gave, rather than a call in it."""
        return call.kind == "op" or call.index not in self._containers

    @cached_property
    def _containers(self) -> frozenset[int]:
        inside = {call.parent for call in self.calls if call.parent is not None}
        handed_on = {
            call.index
            for call in self.calls
            if call.kind == "module" and any(link is not None and link.call != call.index for link in call.output_links)
        }
        return frozenset(inside | handed_on)

    @cached_property
    def users(self) -> dict[Link, tuple[Call, ...]]:
        """The steps that read a tensor, in order."""
        found: dict[Link, list[Call]] = {}
        for call in self.steps:
            for link in dict.fromkeys(call.input_links):
                if link is not None:
                    found.setdefault(link, []).append(call)
        return {link: tuple(calls) for link, calls in found.items()}

    def users_of(self, call: Call, leaf: int = 0) -> tuple[Call, ...]:
        """The steps that read what a step made."""
        return self.users.get(Link(call.index, leaf), ())

    def maker(self, link: Link | None) -> Call | None:
        """The step that made a tensor; ``None`` for the model's input and the unknown."""
        return None if link is None or link.call < 0 else self.calls[link.call]

    def after(self, call: Call, most: int = 2000) -> Iterator[Call]:
        """Every step that what a step made flows into, in order, each once."""
        seen = {call.index}
        for step in self.steps_after(call.index):
            if any(link is not None and link.call in seen for link in step.input_links):
                seen.add(step.index)
                yield step
                if len(seen) > most:
                    return

    def steps_after(self, index: int) -> Iterator[Call]:
        """The steps that began later than a call."""
        for call in self.calls[index + 1 :]:
            if self.is_step(call):
                yield call

    def before(self, link: Link | None, until: Callable[[Call], bool] | None = None) -> Iterator[Call]:
        """Every step that flowed into a tensor, nearest first; ``until`` stops a path at the step it is true of."""
        queue: deque[Link | None] = deque([link])
        seen: set[int] = set()
        while queue:
            step = self.maker(queue.popleft())
            if step is None or step.index in seen:
                continue
            seen.add(step.index)
            yield step
            if until is None or not until(step):
                queue.extend(step.input_links)

    def sources(self, link: Link) -> frozenset[int]:
        """Leaves of the model's input that flowed into a tensor."""
        found = {link.leaf} if link.call < 0 else set()
        for call in self.before(link):
            found |= {source.leaf for source in call.input_links if source is not None and source.call < 0}
        return frozenset(found)

    def module_of(self, call: Call) -> ModuleFact | None:
        """The facts of the module that a call is of; ``None`` for an operation."""
        return self.modules[call.module] if call.kind == "module" and call.module is not None else None

    # -- modules and parameters ---------------------------------------------------------------------------------------

    @cached_property
    def touched(self) -> frozenset[int]:
        """Indices of the parameters and buffers that any call touched; all of a ScriptModule that was called."""
        found = {index for call in self.calls for index in call.params}
        found |= {index for call in self.calls for index in call.input_params if index is not None}
        for call in self.calls:
            fact = self.module_of(call)
            if fact is not None and not fact.forward_file:  # compiled: nothing inside is seen
                found |= self.params_below(fact.index)
        return frozenset(found)

    def params_below(self, module: int) -> frozenset[int]:
        """Indices of the trainable parameters of a module and all in it."""
        return self._below(module, frozenset())

    def _below(self, module: int, above: frozenset[int]) -> frozenset[int]:
        if module not in self._params_below:
            fact = self.modules[module]
            found = {
                index
                for index in fact.params
                if self.params[index].trainable and self.params[index].kind == "parameter"
            }
            for child in fact.children:
                if child not in above:
                    found |= self._below(child, above | {module})
            self._params_below[module] = frozenset(found)
        return self._params_below[module]

    def trains(self, module: int) -> bool:
        """Tell whether a module, or any in it, has trainable parameters."""
        return bool(self.params_below(module))

    def count_trainable(self, module: int) -> int:
        """Scalars of the trainable parameters of a module and all in it."""
        return sum(self.params[index].num for index in self.params_below(module))

    @cached_property
    def _first_calls(self) -> dict[int, Call]:
        found: dict[int, Call] = {}
        for call in self.calls:
            if call.kind == "module" and call.module is not None:
                found.setdefault(call.module, call)
        return found

    def first_call_of(self, module: int) -> Call | None:
        """The first call of a module."""
        return self._first_calls.get(module)

    def first_call_in(self, module: int) -> Call | None:
        """The first call of a module, or of any in it."""
        todo, seen = [module], set()
        while todo:
            index = todo.pop()
            if index in self._first_calls:
                return self._first_calls[index]
            seen.add(index)
            todo += [child for child in reversed(self.modules[index].children) if child not in seen]
        return None

    def owner_of(self, fact: ModuleFact) -> tuple[ModuleFact | None, str]:
        """The nearest module above that has code of its own, and the name of its attribute that leads to ``fact``."""
        path = fact.path
        above = self.modules[fact.parent] if fact.parent is not None else None
        while above is not None and above.type_module == "torch.nn.modules.container":
            path = above.path
            above = self.modules[above.parent] if above.parent is not None else None
        if above is None:
            return None, ""
        return above, path.removeprefix(f"{above.path}." if above.path else "").partition(".")[0]

    def setting(self, call: Call, name: str, default: Any = None) -> Any:
        """A setting of a module call, else the argument of an operation."""
        fact = self.module_of(call)
        return argument(call, name, default=default) if fact is None else fact.settings.get(name, default)

    def row(self, call: Call) -> int:
        """Index of a call's row."""
        return self.row_of_call[call.index]


def _moving(now: tuple[TensorSpec, ...], then: tuple[TensorSpec, ...], leaf: int) -> Dims | None:
    if leaf >= len(now) or leaf >= len(then):
        return None
    one, two = now[leaf].shape, then[leaf].shape
    return tuple(dim for dim, size in enumerate(one) if size != two[dim]) if len(one) == len(two) else None


def _place(call: Call) -> tuple[object, ...]:
    source = call.source
    return call.kind, call.path, call.type_name, source and (source.filename, source.line)


def asked_size(step: Call) -> Size | None:
    """Return the sizes an operation was asked for, ``(-1, 400)`` of ``view``; ``None`` if it was asked for none."""
    value = argument(step, "size", "shape", "sizes", "repeats", "dims", "0", "1")
    if isinstance(value, int):
        value = (value,)
    is_size = isinstance(value, tuple) and all(isinstance(size, int) for size in value) and value
    return value if is_size else None


def argument(call: Call, *names: str, default: Any = None) -> Any:
    """Return a plain argument of an operation, by any of its names."""
    for name, value in call.arguments:
        if name in names:
            return value
    return default


def dims_argument(call: Call, rank: int) -> Dims | None:
    """Return the dims an operation was told to work on, counted from the front; ``None`` if it was told none."""
    value = argument(call, "dim", "axis", "dims", "1" if call.kind == "op" else "dim")
    if isinstance(value, bool) or value is None:
        return None
    listed = value if isinstance(value, tuple) else (value,)
    if not listed or not all(isinstance(dim, int) and -rank <= dim < rank for dim in listed):
        return None
    return tuple(dim % rank for dim in listed)


def einsum_labels(call: Call) -> tuple[tuple[str, ...], str] | None:
    """Return the labels of every operand of an ``einsum`` and of its output, one letter a dim.

    An ellipsis is written out in digits, the same digit for the same dim counted from the right. ``None`` if the call
    is no einsum, or its equation was not kept or does not fit the operands.
    """
    equation = argument(call, "equation", "0") if call.type_name == "einsum" else None
    if not isinstance(equation, str):
        return None
    left, arrow, right = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if len(operands) != len(call.inputs):
        return None
    hidden = [
        len(spec.shape) - len(labels.replace("...", "")) for labels, spec in zip(operands, call.inputs, strict=True)
    ]
    digits = "9876543210"[10 - max(hidden) :] if 0 < max(hidden) <= 10 else ""
    written = [
        labels.replace("...", digits[len(digits) - more :] if more > 0 else "")
        for labels, more in zip(operands, hidden, strict=True)
    ]
    letters = "".join(operands).replace("...", "")
    result = right if arrow else "..." + "".join(sorted(x for x in set(letters) if letters.count(x) == 1))
    result = result.replace("...", digits)
    fits = all(len(labels) == len(spec.shape) for labels, spec in zip(written, call.inputs, strict=True))
    return (tuple(written), result) if fits and len(result) == len(call.outputs[0].shape) else None


def write_size(shape: Size) -> str:
    """Write a size as people do: ``(8, 64)``."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
