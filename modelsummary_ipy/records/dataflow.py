"""Where each tensor of a trace was made and which calls read it: built once from a trace.

It is beside the records and not in ``diagnosis``, because the names of dims (``shapes``) are found by it too.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.trace import Call, Link, ModuleFact, Trace

Predicate = Callable[[Call], bool]

#: What flowed into a call, as seen in the call around it: one of the calls beside it, or an input by its name.
Origin = int | str


def name_root(name: str) -> str:
    """The parameter that a leaf is in: ``"states"`` for ``"states[0]"``."""
    return re.split(r"[.\[]", name, maxsplit=1)[0]


#: More places that a tensor came from are not listed.
_MOST_ORIGINS = 100


@dataclass(frozen=True, eq=False)
class Dataflow:
    """The graph of calls and tensors of one trace.

    A *step* is a call that made a tensor itself: an operation, or a module without a call inside that was seen.
    Containers are no steps, for what goes in and out of them is made by the steps in them.

    Attributes:
        trace: The trace; it is not changed.
    """

    trace: Trace

    # -- calls --------------------------------------------------------------------------------------------------------

    @lazy
    def steps(self) -> tuple[Call, ...]:
        """The calls that made a tensor themselves, in order."""
        return tuple(call for call in self.trace.calls if self.is_step(call))

    def is_step(self, call: Call) -> bool:
        """Return whether the call made its output, rather than a call in it."""
        return call.kind == "op" or call.index not in self._containers

    @lazy
    def _containers(self) -> frozenset[int]:
        inside = {call.parent for call in self.trace.calls if call.parent is not None}
        handed_on = {
            call.index
            for call in self.trace.calls
            if call.kind == "module" and any(link is not None and link.call != call.index for link in call.output_links)
        }
        return frozenset(inside | handed_on)

    def hands_on(self, call: Call) -> bool:
        """Return whether a layer gave back the very tensor it was given: ``Identity``, ``Dropout`` in eval mode.

        It made no storage, wrote into none and changed no dim. Without measured bytes only ``Identity`` is known to.
        """
        if call.kind != "module" or call.status != "ran" or len(call.inputs) != 1 or not self.is_step(call):
            return False
        fact = self.module_of(call)
        if fact is None or (not self.trace.knows_saved and fact.type_name != "Identity"):
            return False
        changed = call.made_bytes or call.inplace or call.aten_ops or fact.settings.get("inplace")
        return not changed and [spec.shape for spec in call.outputs] == [call.inputs[0].shape]

    def around(self, call: Call) -> Iterator[Call]:
        """The calls that a call ran in, the innermost first."""
        while call.parent is not None:
            call = self.trace.calls[call.parent]
            yield call

    def module_of(self, call: Call | None) -> ModuleFact | None:
        """The facts of the module that a call is of; ``None`` for an operation."""
        if call is None or call.kind != "module" or call.module is None:
            return None
        return self.trace.modules[call.module]

    def setting(self, call: Call, name: str, default: Any = None) -> Any:
        """A setting of a module call, else the argument of an operation."""
        fact = self.module_of(call)
        if fact is not None:
            return fact.settings.get(name, default)
        return next((value for given, value in call.arguments if given == name), default)

    # -- who reads it -------------------------------------------------------------------------------------------------

    @lazy
    def reads(self) -> Mapping[Link, tuple[tuple[Call, int], ...]]:
        """Every read of a tensor by where it was made, in order: the call, containers too, and which of its inputs."""
        found: dict[Link, list[tuple[Call, int]]] = {}
        for call in self.trace.calls:
            for position, link in enumerate(call.input_links):
                if link is not None:
                    found.setdefault(link, []).append((call, position))
        return {link: tuple(pairs) for link, pairs in found.items()}

    def readers(self, call: Call, leaf: int = 0) -> tuple[Call, ...]:
        """The steps that read what a step made, in order, each once."""
        found = (reader for reader, _ in self.reads.get(Link(call.index, leaf), ()))
        return tuple({reader.index: reader for reader in found if self.is_step(reader)}.values())

    def after(
        self, call: Call, most: int = 2000, *, until: Predicate | None = None, containers: bool = False
    ) -> Iterator[Call]:
        """Every step that what a step made flows into, in order, each once.

        Args:
            most: So many of them at most.
            until: Ends a way at the step it is true of.
            containers: Whether the containers that it is handed to are among them.
        """
        seen = {call.index}
        for later in self.trace.calls[call.index + 1 :]:
            if not containers and not self.is_step(later):
                continue
            if any(link is not None and link.call in seen for link in later.input_links):
                if until is None or not until(later):
                    seen.add(later.index)
                yield later
                if len(seen) > most:
                    return

    # -- where it came from -------------------------------------------------------------------------------------------

    def producer(self, link: Link | None) -> Call | None:
        """The step that made a tensor; ``None`` for the model's input, parameters, constants and the unknown."""
        return None if link is None or link.call < 0 else self.trace.calls[link.call]

    def before(self, *links: Link | None, until: Predicate | None = None) -> Iterator[Call]:
        """Every step that flowed into tensors, nearest first, each once; ``until`` ends a way at the step it is of."""
        queue: deque[Link | None] = deque(links)
        seen: set[int] = set()
        while queue:
            step = self.producer(queue.popleft())
            if step is None or step.index in seen:
                continue
            seen.add(step.index)
            yield step
            if until is None or not until(step):
                queue.extend(step.input_links)

    def origins(self, parent: Call | None, links: Iterable[Link | None], through: Predicate) -> tuple[Origin, ...]:
        """What flowed into tensors, as seen inside the call ``parent``, in the order of the tensors, each once.

        Masks and indices are left out beside what they are applied to: where anything is floating, only that is listed.

        Args:
            parent: The call around; ``None`` for outside the model.
            links: Where the tensors were made.
            through: Calls directly in ``parent`` that are looked through, to what they read.

        Returns:
            Indices of calls directly in ``parent``; names of inputs of ``parent``; where something was made elsewhere
            and came another way than by an argument, the index of the call that made it.
        """
        found: dict[Origin, bool] = {}
        stack = list(links)[::-1]
        seen: set[Link | None] = {None}
        while stack:
            link = stack.pop()
            if link is None or link in seen:
                continue
            seen.add(link)
            call = self._call_in(parent, link)
            if call is not None and through(call):
                stack.extend(call.input_links[::-1])
                continue
            origin = call.index if call is not None else self._name_input(parent, link)
            found[origin] = found.get(origin, False) or self._is_floating(link)
            if len(found) == _MOST_ORIGINS:  # of a loop each step reads all before it
                break
        if True in found.values():
            return tuple(origin for origin, floating in found.items() if floating)
        return tuple(found)

    def _call_in(self, parent: Call | None, link: Link) -> Call | None:
        """The call directly in ``parent`` that made a tensor, itself or in a call inside; ``None`` if none did."""
        call, above = self.producer(link), None if parent is None else parent.index
        while call is not None and call.parent != above:
            call = None if call.parent is None else self.trace.calls[call.parent]
        return call

    def _name_input(self, parent: Call | None, link: Link) -> Origin:
        """The parameter of ``parent`` that a tensor came by: ``"mask"``; ``"input"`` where there is only one."""
        specs, links = (parent.inputs, parent.input_links) if parent is not None else ((), ())
        names = [name_root(spec.name) for spec in specs]
        place = next((at for at, given in enumerate(links) if given == link), None)
        if place is None and link.call >= 0:
            return link.call
        return names[place] if place is not None and len(set(names)) > 1 and names[place] else "input"

    def _is_floating(self, link: Link) -> bool:
        if link.call < 0:
            return "float" in self.trace.inputs[link.leaf].spec.dtype
        outputs = self.trace.calls[link.call].outputs
        return link.leaf >= len(outputs) or outputs[link.leaf].dtype.startswith(("float", "bfloat", "complex"))

    def walk_back(self, link: Link | None, most: int = 400) -> Iterator[Call]:
        """The steps that led to a tensor, nearest first, along the first tensor with dims that each read."""
        step = self.producer(link)
        while step is not None and most:
            yield step
            step = self.producer(step.input_links[_find_main(step)] if step.input_links else None)
            most -= 1

    def sources(self, link: Link | None) -> frozenset[int]:
        """Leaves of the model's input that flowed into a tensor."""
        if link is None:
            return frozenset()
        return frozenset({link.leaf}) if link.call < 0 else self._sources[link.call]

    @lazy
    def _sources(self) -> Sequence[frozenset[int]]:
        """By call, the leaves of the model's input that flowed into what it made: what it read was made before it."""
        found: list[frozenset[int]] = []
        for call in self.trace.calls:
            read = {link for link in call.input_links if link is not None and link.call < call.index}
            of_input = frozenset(link.leaf for link in read if link.call < 0)
            made = (found[link.call] for link in read if link.call >= 0)
            found.append(of_input.union(*made))
        return found

    def leads_to(self, call: Call, link: Link | None) -> bool:
        """Return whether a path leads from what a call made to a tensor."""
        return any(step.index == call.index for step in self.before(link))

    def is_like_input(self, link: Link | None, shape: tuple[int, ...]) -> bool:
        """Return whether a tensor is the model's own input, or was made of it by steps that all kept its shape."""
        for call in self.walk_back(link):
            if not call.inputs or call.inputs[0].shape != shape:
                return False
            link = call.input_links[0]
        return link is not None and link.call < 0

    def find_origin(
        self, link: Link | None, shape: tuple[int, ...], axis: int, settings: Collection[str]
    ) -> Call | None:
        """Return the step that gave a dim its size: past activations, norms and dropouts that keep it.

        Args:
            axis: The dim, counted from the end: a negative number.
            settings: Those of layers that are the size of a dim of their output.
        """
        size = shape[axis]
        for call in self.walk_back(link):
            before = call.inputs[_find_main(call)].shape if call.inputs else ()
            fact = self.module_of(call)
            if fact is not None and any(fact.settings.get(name) == size for name in settings):
                return call
            moved = self._find_moved(call, shape, before, axis)
            if moved is None or before[moved] != size or before[:1] != shape[:1]:
                return call
            shape, axis = before, moved
        return None

    def _find_moved(self, call: Call, after: tuple[int, ...], before: tuple[int, ...], axis: int) -> int | None:
        """Return where a dim stood, from the end, before a step that keeps dims or gives them another order."""
        place = axis + len(after)
        if call.type_name in ("transpose", "swapaxes") and len(before) == len(after):
            given = [self.setting(call, name) for name in ("dim0", "dim1")]
            places = [dim % len(before) for dim in given if type(dim) is int]
            if len(places) == 2 and place in places:
                place = places[1 - places.index(place)]
        elif call.type_name == "permute" and isinstance(order := self.setting(call, "dims"), tuple):
            place = order[place] % len(before) if len(order) == len(before) else place
        elif call.type_name == "flatten" and len(before) > len(after):
            start = self.setting(call, "start_dim")
            return place - len(before) if type(start) is int and place < start else None
        elif call.type_name in _GIVE_ONES and after[place] != 1:
            kept = [at for at, size in enumerate(before) if size != 1]
            if [before[at] for at in kept] == [size for size in after if size != 1]:
                return kept[sum(size != 1 for size in after[:place])] - len(before)
        return place - len(before) if len(before) == len(after) else None


#: They may put dims of one between the others, or leave them out.
_GIVE_ONES = frozenset({"view", "reshape", "unsqueeze", "squeeze", "getitem"})


def _find_main(call: Call) -> int:
    """Return which input is no scalar: ``self.scale.exp() * x`` hands ``x`` on."""
    return next((place for place, spec in enumerate(call.inputs) if spec.shape), 0)
