"""What the rules read of a story: the dataflow of its trace, which dims move with the batch, what modules hold."""

from __future__ import annotations

import re
from collections.abc import Sequence

from modelsummary_ipy.diagnosis.call_arguments import Dims
from modelsummary_ipy.diagnosis.torch_names import LOOKUPS, is_weighted, params_of
from modelsummary_ipy.model.written_dims import match_written_dims
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.summary import Flag, Number, Retrace, Story
from modelsummary_ipy.records.trace import Call, Link, ModuleFact, Severity, TensorSpec

#: Per dim the parts that it is made of.
Layout = tuple[tuple[str, ...], ...]


class Evidence:
    """What every rule reads of a story, computed when it is first needed; made once for all rules.

    Attributes:
        story: The story.
        flow: Which call made each tensor, and which read it.
        again: The trace at B + 1, also if it failed; ``None`` if there is none.
        written: By leaf what the text of the model's forward says an input's dims are.
        first_rows: By module, its first row.
    """

    def __init__(self, story: Story) -> None:
        self.story = story
        self.flow = Dataflow(story.trace)
        self.calls = story.trace.calls
        self.modules = story.trace.modules
        self.params = story.trace.params
        self.inputs = story.trace.inputs
        self.retraces = story.retraces
        self.again: Retrace | None = next((r for r in story.retraces if set(r.sizes) == {"B"}), None)
        self.written = match_written_dims(story.trace)
        self.first_rows = {row.module: row for row in reversed(story.rows) if row.kind == "module"}
        self._params_below: dict[int, frozenset[int]] = {}

    # -- the batch ----------------------------------------------------------------------------------------------------

    def origins_of(self, link: Link | None) -> tuple[str | None, ...]:
        """What each dim of a tensor comes from, ``("B", "T", "the features of fc")``; ``()`` where nothing is known."""
        if link is None or link.call < 0:
            return ()
        found = self.story.origins.get(self.story.row_of_call[link.call], ())
        return found[link.leaf] if link.leaf < len(found) else ()

    def layout_of(self, link: Link | None) -> Layout:
        """What each dim of a tensor is made of, the slowest part first: dims of the input and features of layers.

        A dim of which nothing is known is of a part of its own; one of size 1 that was put in has none.
        """
        if link is None:
            return ()
        if link.call < 0:
            names = enumerate(self.inputs[link.leaf].dims)
            dims: Sequence[str | None] = [name or f"input {link.leaf}[{dim}]" for dim, name in names]
        else:
            specs = self.calls[link.call].outputs
            dims = self.origins_of(link) or [None] * (len(specs[link.leaf].shape) if link.leaf < len(specs) else 0)
        return tuple(
            (f"{link.call}:{link.leaf}[{dim}]",) if origin is None else _read_parts(origin)
            for dim, origin in enumerate(dims)
        )

    def layout_in(self, call: Call, leaf: int = 0) -> Layout:
        """The same of what a call read."""
        known = self.layout_of(call.input_links[leaf]) if leaf < len(call.input_links) else ()
        shape = call.inputs[leaf].shape
        return (
            known if len(known) == len(shape) else tuple((f"{call.index}<{leaf}[{dim}]",) for dim in range(len(shape)))
        )

    def maker_of(self, part: str, call: Call) -> Call | None:
        """Return the layer whose features a part of a dim is, in front of a call."""
        path = part.removeprefix("the features of ")
        makers = self.flow.before(call.input_links[0]) if path != part else ()
        alike = (maker for maker in makers if is_weighted(maker) or maker.type_name in LOOKUPS)
        return next((maker for maker in alike if maker.path == path or (path == "the model" and not maker.path)), None)

    @lazy
    def batch(self) -> int:
        """The size of the dim named ``B``; 0 if there is none."""
        for fact in self.inputs:
            for name, size in zip(fact.dims, fact.spec.shape, strict=False):
                if name == "B":
                    return size
        return 0

    @lazy
    def batch_works(self) -> bool:
        """Whether the model ran with one more in the batch."""
        return self.again is not None and self.again.trace.failure is None

    def partner(self, call: Call) -> Call | None:
        """Return the same call in the trace at B + 1."""
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

    def factor_out(self, call: Call, leaf: int, dim: int) -> int:
        """How many rows for each sample a dim of an output leaf holds: 4 for ``4·B``; 0 if it is no multiple of B."""
        other = self.partner(call)
        return 0 if other is None else _count_rows(self, call.outputs, other.outputs, leaf, dim)

    def factor_in(self, call: Call, leaf: int, dim: int) -> int:
        """The same of a dim of an input leaf."""
        other = self.partner(call)
        return 0 if other is None else _count_rows(self, call.inputs, other.inputs, leaf, dim)

    def single_factor_in(self, call: Call, leaf: int) -> int:
        """Rows for each sample in the one dim of an input leaf that moves; 0 if none or several do."""
        moving = self.moving_in(call, leaf)
        return self.factor_in(call, leaf, moving[0]) if moving and len(moving) == 1 else 0

    def single_factor_out(self, call: Call, leaf: int) -> int:
        """The same of an output leaf."""
        moving = self.moving_out(call, leaf)
        return self.factor_out(call, leaf, moving[0]) if moving and len(moving) == 1 else 0

    @lazy
    def failed_then(self) -> tuple[Call, Call] | None:
        """The step that failed at B + 1, as it ran at B and as it failed."""
        if self.again is None or self.again.trace.failure is None:
            return None
        index = self.again.trace.failure.call
        if index is None:
            return None
        step = next((call for call in self.calls if self.again.partners[call.index] == index), None)
        if step is None:
            step = _match_failed(self.calls, self.again.trace.calls, self.again.trace.calls[index])
        return None if step is None else (step, self.again.trace.calls[index])

    # -- modules and parameters ---------------------------------------------------------------------------------------

    @lazy
    def touched(self) -> frozenset[int]:
        """Indices of the parameters and buffers that any call touched; all of a ScriptModule that was called."""
        found = {index for call in self.calls for index in params_of(call)}
        for call in self.calls:
            fact = self.flow.module_of(call)
            if fact is not None and not fact.forward_file:  # compiled: nothing inside is seen
                found |= self.params_below(fact.index)
        return frozenset(found)

    def params_below(self, module: int, above: frozenset[int] = frozenset()) -> frozenset[int]:
        """Indices of the trainable parameters of a module and all in it, modules ``above`` it left out."""
        if module not in self._params_below:
            fact = self.modules[module]
            found = {
                index
                for index in fact.params
                if self.params[index].trainable and self.params[index].kind == "parameter"
            }
            for child in fact.children:
                if child not in above:
                    found |= self.params_below(child, above | {module})
            self._params_below[module] = frozenset(found)
        return self._params_below[module]

    def trains(self, module: int) -> bool:
        """Return whether a module, or any in it, has trainable parameters."""
        return bool(self.params_below(module))

    def count_trainable(self, module: int) -> int:
        """Scalars of the trainable parameters of a module and all in it."""
        return sum(self.params[index].num for index in self.params_below(module))

    @lazy
    def _calls_by_module(self) -> dict[int, list[Call]]:
        found: dict[int, list[Call]] = {}
        for call in self.calls:
            if call.kind == "module" and call.module is not None:
                found.setdefault(call.module, []).append(call)
        return found

    def calls_of(self, module: int) -> Sequence[Call]:
        """The calls of a module, in order."""
        return self._calls_by_module.get(module, ())

    def first_call_of(self, module: int) -> Call | None:
        """The first call of a module."""
        return next(iter(self.calls_of(module)), None)

    def first_call_in(self, module: int) -> Call | None:
        """The first call of a module, or of any in it."""
        todo, seen = [module], set()
        while todo:
            index = todo.pop()
            if calls := self.calls_of(index):
                return calls[0]
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

    def flag(
        self, rule: str, severity: Severity, call: Call, message: str, fix: str = "", code: str = "", **numbers: Number
    ) -> Flag:
        """Make a flag on the row of a call; ``code`` says which kind of the rule's findings it is, its id if of one."""
        row = self.story.row_of_call[call.index]
        return Flag(rule, severity, row, call.path, message, fix, code or rule, numbers)


def _moving(now: tuple[TensorSpec, ...], then: tuple[TensorSpec, ...], leaf: int) -> Dims | None:
    if leaf >= len(now) or leaf >= len(then):
        return None
    one, two = now[leaf].shape, then[leaf].shape
    return tuple(dim for dim, size in enumerate(one) if size != two[dim]) if len(one) == len(two) else None


def _place(call: Call) -> tuple[object, ...]:
    source = call.source
    return call.kind, call.path, call.type_name, source and (source.filename, source.line)


def _read_parts(origin: str) -> tuple[str, ...]:
    """Read ``2 of T′·the features of fc``: the dims and layers, whatever was cut off them."""
    parts = (re.sub(r"^(\d+ of )+", "", part).rstrip("′") for part in origin.split("·"))
    return tuple(dict.fromkeys(part for part in parts if part != "1"))


def _count_rows(
    evidence: Evidence, now: tuple[TensorSpec, ...], then: tuple[TensorSpec, ...], leaf: int, dim: int
) -> int:
    """Return how many entries of a dim there are for each sample; 0 if their number does not grow with the batch."""
    again, batch = evidence.again, evidence.batch
    if again is None or leaf >= len(then) or dim >= len(then[leaf].shape) or not batch:
        return 0
    one, two = now[leaf].shape[dim], then[leaf].shape[dim]
    return one // batch if one * again.sizes["B"] == two * batch else 0


def _match_failed(calls: Sequence[Call], others: Sequence[Call], failed: Call) -> Call | None:
    """A failed operation may have no partner by number: match it by its line and its turn."""
    alike = [call for call in others if _place(call) == _place(failed)]
    mine = [call for call in calls if _place(call) == _place(failed)]
    turn = next((i for i, call in enumerate(alike) if call.index == failed.index), None)
    return mine[turn] if turn is not None and turn < len(mine) else None
