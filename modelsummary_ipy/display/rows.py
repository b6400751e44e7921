"""Calls and the module tree to rows: what ran, in order, and the modules that did not run in their places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from modelsummary_ipy.records.errors import MOST_IN_ROW, cut_text
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.summary import Row
from modelsummary_ipy.records.trace import Absence, Call, ModuleFact, Status, Trace


def build_rows(trace: Trace) -> tuple[Row, ...]:
    """Build the rows of a trace, in execution order, parents before children.

    A module that was not called has one row too: a container (``ModuleList``) whose descendants ran one after the other
    is right above them and they are nested in it; any other is at the end of the module that registers it.
    """
    return _Builder(trace).build()


_NO_PARAMS = (0, 0, 0)


class _Builder:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._modules = _read_modules(trace)
        self._rows: list[Row] = []
        self._called = {call.module for call in trace.calls if call.kind == "module"}
        self._missing: Status = "unreached" if trace.failure is not None and trace.engine != "static" else "uncalled"
        self._inner: dict[int | None, list[Call]] = {}
        for call in trace.calls:
            self._inner.setdefault(call.parent, []).append(call)
        self._opened_by, self._group_of = _find_groups(trace, self._modules.parents, self._called, self._inner)
        self._group_rows: dict[int, int] = {}  # by module
        self._placed: set[int] = set()  # of modules without a call

    @lazy
    def _used(self) -> dict[int | None, set[int]]:
        """The parameters that calls of a module read, by module."""
        used: dict[int | None, set[int]] = {}
        for call in self._trace.calls:
            used.setdefault(call.module, set()).update(call.params)
        return used

    def build(self) -> tuple[Row, ...]:
        roots = self._inner.get(None, [])
        for call in roots:
            self._add_call(call)
        if not roots:
            self._add_uncalled(self._trace.modules[0], None)
        return tuple(self._rows)

    def _add_call(self, root: Call) -> None:
        """Add a call and all in it; with a stack of its own, for a model may be nested deeper than Python's."""
        work: list[tuple[Iterator[Call | ModuleFact], int | None]] = [(iter([root]), None)]
        while work:
            items, parent = work[-1]
            item = next(items, None)
            if item is None:
                work.pop()
                continue
            if isinstance(item, ModuleFact):
                self._add_missing_children(item, parent)
                continue
            for group in self._opened_by.get(item.index, ()):
                self._placed.add(group)
                fact = self._trace.modules[group]
                above = self._nearest_group_row(fact.parent)
                self._group_rows[group] = self._append_module(fact, parent if above is None else above, "uncalled")
            if item.index in self._group_of:
                parent = self._group_rows[self._group_of[item.index]]
            index = self._append_call(item, parent)
            inner: Sequence[Call] = self._inner.get(item.index, ())
            has_children = item.kind == "module" and item.module in self._modules.children
            after = [self._trace.modules[item.module]] if has_children and item.module is not None else []
            if inner or after:
                work.append((chain(inner, after), index))

    def _nearest_group_row(self, module: int | None) -> int | None:
        while module is not None and module not in self._called:
            if module in self._group_rows:
                return self._group_rows[module]
            module = self._modules.parents[module]
        return None

    def _depth_below(self, row: int | None) -> int:
        return 0 if row is None else self._rows[row].depth + 1

    def _append_call(self, call: Call, parent: int | None) -> int:
        module = call.module if call.kind == "module" else None
        own, num, trainable = _NO_PARAMS if module is None else self._modules.counts[module]
        index = len(self._rows)
        self._rows.append(
            Row(  # by position, in 40% of the time that keywords take: 2% of a summary of 10,000 layers
                index,
                call.path,
                call.type_name,
                call.kind,
                self._depth_below(parent),
                call.call_index,
                call.inputs,
                call.outputs,
                own,
                num,
                trainable,
                call.status,
                call.source.text if call.source is not None else None,
                parent,
                call.index,
                call.module,
                format_arguments(call.arguments) if module is None else self._modules.extra_reprs[module],
            )
        )
        return index

    def _append_module(self, fact: ModuleFact, parent: int | None, status: Status, absence: Absence = "") -> int:
        own, num, trainable = self._modules.counts[fact.index]
        index = len(self._rows)
        self._rows.append(
            Row(
                index=index,
                path=fact.path,
                type_name=fact.type_name,
                kind="module",
                depth=self._depth_below(parent),
                own_params=own,
                num_params=num,
                trainable_params=trainable,
                status=status,
                parent=parent,
                module=fact.index,
                extra_repr=fact.extra_repr,
                absence=absence,
            )
        )
        return index

    def _add_missing_children(self, fact: ModuleFact, parent: int | None) -> None:
        """Add the registered modules below ``fact`` that have no call and no row yet."""
        for child in fact.children:
            if child not in self._called and child not in self._placed:
                self._add_uncalled(self._trace.modules[child], parent)
            elif child in self._group_rows:
                self._add_missing_children(self._trace.modules[child], self._group_rows[child])

    def _add_uncalled(self, fact: ModuleFact, parent: int | None) -> None:
        self._placed.add(fact.index)
        absence = self._find_absence(fact)
        finished = parent is not None and self._rows[parent].call is not None and self._rows[parent].status == "ran"
        row = self._append_module(fact, parent, "uncalled" if absence or finished else self._missing, absence)
        self._add_missing_children(fact, row)

    def _find_absence(self, fact: ModuleFact) -> Absence:
        """Find why a module without a call and without nested rows that ran has none."""
        if any(_has_run(self._trace, child, self._called) for child in fact.children):
            return "elsewhere"
        weights, above = set(fact.params), fact.parent
        while above is not None:
            if above in self._called and self._trace.modules[above].type_module.startswith("torch.jit."):
                return "script"
            if weights and weights <= self._used.get(above, set()):
                return "weights"
            if above in self._called and _is_packed(self._trace.modules[above]) and (weights or fact.children):
                return "weights"
            above = self._modules.parents[above]
        return "threads" if self._trace.starts_threads and self._missing == "uncalled" else ""


def _has_run(trace: Trace, module: int, called: set[int | None]) -> bool:
    """Return whether a module, or one below it, has a call."""
    return module in called or any(_has_run(trace, child, called) for child in trace.modules[module].children)


def _is_packed(fact: ModuleFact) -> bool:
    """Return whether a module's weights are in objects of torch's, of which no operation shows that it read them."""
    return fact.type_module.startswith("torch.ao.nn.") and ".quantized" in fact.type_module


def _find_groups(
    trace: Trace, parents: list[int | None], called: set[int | None], inner: dict[int | None, list[Call]]
) -> tuple[dict[int, list[int]], dict[int, int]]:
    """Find the containers that may be above their descendants.

    A container qualifies if all calls of what is below it by path were made by one call, without a foreign module in
    between: blocks of two lists called in turn stay where they ran. Where the forward failed later, the turn of what it
    did not reach may have been after the others: then it is not above them either.

    Returns:
        The containers that open before a call, outermost first, by call; and the innermost container of each call.
    """
    spans: dict[int, tuple[int | None, list[int]]] = {}
    broken: set[int] = set()
    position: dict[int, int] = {}  # of a module call among the module calls of its parent
    last_of: dict[int | None, int] = {}
    for parent, calls in inner.items():
        modules = [call for call in calls if call.kind == "module" and call.module is not None]
        last_of[parent] = modules[-1].index if modules else -1
        for place, call in enumerate(modules):
            for above in _containers(trace, parents, call, called):
                position[call.index] = place
                if spans.setdefault(above, (parent, []))[0] != parent:
                    broken.add(above)
                spans[above][1].append(call.index)
    opened_by: dict[int, list[int]] = {}
    for module, (parent, members) in spans.items():
        in_row = position[members[-1]] - position[members[0]] == len(members) - 1
        is_left = trace.failure is not None and last_of[parent] != members[-1]
        is_begun = is_left and not all(_has_run(trace, child, called) for child in trace.modules[module].children)
        if module not in broken and in_row and not is_begun:
            opened_by.setdefault(members[0], []).append(module)
    for groups in opened_by.values():
        groups.sort()
    standing = {module for groups in opened_by.values() for module in groups}
    return opened_by, _find_members(trace, parents, called, inner, standing)


def _containers(trace: Trace, parents: list[int | None], call: Call, called: set[int | None]) -> list[int]:
    """List the uncalled modules between a called one and its caller, innermost first."""
    assert call.module is not None
    above = parents[call.module]
    if above is None or above in called:
        return []
    found: list[int] = []
    stop = trace.calls[call.parent].module if call.parent is not None else None
    while above is not None and above != stop and above not in called:
        found.append(above)
        above = parents[above]
    return found


def _find_members(
    trace: Trace,
    parents: list[int | None],
    called: set[int | None],
    inner: dict[int | None, list[Call]],
    standing: set[int],
) -> dict[int, int]:
    members: dict[int, int] = {}
    for calls in inner.values():
        last: int | None = None
        between: list[Call] = []
        for call in calls:
            if call.kind == "op" or call.module is None:
                between.append(call)  # an operation between two blocks of one container is among them
                continue
            group = next((above for above in _containers(trace, parents, call, called) if above in standing), None)
            if group is not None:
                members[call.index] = group
                if group == last:
                    members.update(dict.fromkeys((op.index for op in between), group))
            last, between = group, []
    return members


class _Modules(NamedTuple):
    """What rows need of the modules of a trace, read in one go, for facts of layers are made each time they are read.

    Attributes:
        parents: The module that each is in.
        extra_reprs: Their own.
        children: The modules that each registers, of those that register some.
        counts: ``(own, all, trainable)`` scalars of each, each tensor once in a subtree whatever its names.
    """

    parents: list[int | None]
    extra_reprs: list[str]
    children: dict[int, tuple[int, ...]]
    counts: list[tuple[int, int, int]]


def _read_modules(trace: Trace) -> _Modules:
    nums: list[int] = []
    trained: list[int] = []
    is_shared = False  # whether a parameter may be in several modules, or a module in several or before its parent
    for param in trace.params:
        nums.append(param.num if param.kind == "parameter" else 0)
        trained.append(nums[-1] if param.trainable else 0)
        is_shared = is_shared or len(param.names) != 1
    found = _Modules([], [], {}, [])
    known: dict[tuple[int, int, int], tuple[int, int, int]] = {}  # those of layers that are alike are one object
    for fact in trace.modules:
        num = sum([nums[param] for param in fact.params])
        counts = num, num, sum([trained[param] for param in fact.params])
        found.counts.append(known.setdefault(counts, counts))
        found.parents.append(fact.parent)
        found.extra_reprs.append(fact.extra_repr)
        is_shared = is_shared or len(fact.paths) != 1
        if fact.children:
            found.children[fact.index] = fact.children
            is_shared = is_shared or min(fact.children) <= fact.index
    below: dict[int, frozenset[int]] = {}
    for index, children in reversed(found.children.items()):
        own, num, trainable = found.counts[index]
        if is_shared:
            every = _collect_params(trace, index, frozenset({index}), below)
            num, trainable = sum([nums[param] for param in every]), sum([trained[param] for param in every])
        else:
            num += sum([found.counts[child][1] for child in children])
            trainable += sum([found.counts[child][2] for child in children])
        found.counts[index] = own, num, trainable
    return found


def _collect_params(
    trace: Trace, index: int, above: frozenset[int], below: dict[int, frozenset[int]]
) -> frozenset[int]:
    """Collect the parameters of a module and of all below it; ``above`` keeps modules that register themselves out."""
    if index not in below:
        fact = trace.modules[index]
        found = {p for p in fact.params if trace.params[p].kind == "parameter"}
        for child in fact.children:
            if child not in above:
                found |= _collect_params(trace, child, above | {index}, below)
        below[index] = frozenset(found)
    return below[index]


#: Characters of an operation's arguments in its row, as far as one argument is not longer.
_MOST_OF_ARGUMENTS = 60


def format_arguments(arguments: tuple[tuple[str, object], ...]) -> str:
    """Write an operation's plain arguments as in a call, ``"dim=1, keepdim=True"``; tensors are among inputs.

    Torch's own Python hands on every argument by name: ``None`` and ``inplace=False``
    say nothing, and the first ones say most.
    """
    shown = [
        _write(value) if name.isdigit() else f"{name}={_write(value)}"
        for name, value in arguments
        if not _only_tensors(value) and (name.isdigit() or (value is not None and (name, value) != ("inplace", False)))
    ]
    kept = len(shown)
    while kept > 1 and len(", ".join(shown[:kept])) > _MOST_OF_ARGUMENTS:
        kept -= 1
    text = ", ".join(shown[:kept])
    return cut_text(text if kept == len(shown) else f"{text}, …", MOST_IN_ROW)


def _only_tensors(value: object) -> bool:
    return value is ... or (isinstance(value, tuple) and bool(value) and all(_only_tensors(item) for item in value))


def _write(value: object) -> str:
    if value is ...:
        return "…"
    if isinstance(value, tuple):
        inner = ", ".join(_write(item) for item in value)
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if isinstance(value, slice):
        start, stop, step = ("" if part is None else str(part) for part in (value.start, value.stop, value.step))
        return f"{start}:{stop}" + (f":{step}" if step else "")
    return repr(value)
