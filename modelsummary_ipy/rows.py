"""Calls and the module tree to rows: what ran in order, with the modules that did not put where they belong."""

from __future__ import annotations

from modelsummary_ipy.facts import Call, ModuleFact, Row, Source, Status, Trace

__all__ = ["build_rows", "format_arguments"]


def build_rows(trace: Trace) -> tuple[Row, ...]:
    """Build the rows of a trace, in execution order, parents before children.

    A module that was not called has one row too: a container (``ModuleList``) whose descendants ran one after the other
    stands right above them and they are nested in it; any other stands at the end of the module that registers it.
    """
    return _Builder(trace).build()


class _Builder:
    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._params = _count_params(trace)
        self._rows: list[Row] = []
        self._called = {call.module for call in trace.calls if call.kind == "module"}
        self._missing: Status = "unreached" if trace.failure is not None and trace.engine != "static" else "uncalled"
        self._inner: dict[int | None, list[Call]] = {}
        for call in trace.calls:
            self._inner.setdefault(call.parent, []).append(call)
        self._placed: set[int] = set(self._called)  # type: ignore[arg-type]
        self._groups = _find_groups(trace, self._called, self._inner)

    def build(self) -> tuple[Row, ...]:
        roots = self._inner.get(None, [])
        for call in roots:
            self._add_call(call, None, 0)
        if not roots:
            self._add_uncalled(self._trace.modules[0], None, 0)
        return tuple(self._rows)

    def _add_call(self, call: Call, parent: int | None, depth: int) -> None:
        """Add a call and all in it; written with its own stack, for a model may be nested deeper than Python's."""
        work: list[tuple[str, object, int | None, int]] = [("call", call, parent, depth)]
        while work:
            what, item, parent, depth = work.pop()
            if what == "missing":
                assert isinstance(item, ModuleFact)
                self._add_missing_children(item, parent, depth)
                continue
            assert isinstance(item, Call)
            for group in self._groups.get(item.index, ()):  # containers that open here, outermost first
                if group not in self._placed:
                    self._placed.add(group)
                    base = self._parent_of_group(group, parent)
                    self._append_module(self._trace.modules[group], base, self._depth_below(base), "uncalled")
            container = self._innermost_group(item)
            if container is not None:
                parent, depth = container, self._rows[container].depth + 1
            index = self._append_call(item, parent, depth)
            if item.kind == "module" and item.module is not None:
                work.append(("missing", self._trace.modules[item.module], index, depth + 1))
            work.extend(("call", inner, index, depth + 1) for inner in reversed(self._inner.get(item.index, [])))

    def _parent_of_group(self, group: int, parent: int | None) -> int | None:
        above = self._trace.modules[group].parent
        while above is not None:
            if above in self._group_rows:
                return self._group_rows[above]
            above = self._trace.modules[above].parent
        return parent

    @property
    def _group_rows(self) -> dict[int, int]:
        if not hasattr(self, "_group_rows_"):
            self._group_rows_: dict[int, int] = {}
        return self._group_rows_

    def _depth_below(self, row: int | None) -> int:
        return 0 if row is None else self._rows[row].depth + 1

    def _innermost_group(self, call: Call) -> int | None:
        groups = self._members.get(call.index)
        return self._group_rows.get(groups) if groups is not None else None

    @property
    def _members(self) -> dict[int, int]:
        """Innermost group by call index."""
        if not hasattr(self, "_members_"):
            self._members_ = _find_members(self._trace, self._groups, self._inner)
        return self._members_

    def _append_call(self, call: Call, parent: int | None, depth: int) -> int:
        fact = self._trace.modules[call.module] if call.module is not None and call.kind == "module" else None
        own, num, trainable = self._params[fact.index] if fact is not None and fact.index in self._params else (0, 0, 0)
        index = len(self._rows)
        self._rows.append(
            Row(
                index=index,
                path=call.path,
                type_name=call.type_name,
                kind=call.kind,
                depth=depth,
                call_index=call.call_index,
                inputs=call.inputs,
                outputs=call.outputs,
                own_params=own,
                num_params=num,
                trainable_params=trainable,
                status=call.status,
                source=_write_source(call.source),
                parent=parent,
                call=call.index,
                module=call.module,
                extra_repr=fact.extra_repr if fact is not None else format_arguments(call.arguments),
            )
        )
        return index

    def _append_module(self, fact: ModuleFact, parent: int | None, depth: int, status: Status) -> int:
        own, num, trainable = self._params.get(fact.index, (0, 0, 0))
        index = len(self._rows)
        if status == "uncalled":
            self._group_rows[fact.index] = index
        self._rows.append(
            Row(
                index=index,
                path=fact.path,
                type_name=fact.type_name,
                kind="module",
                depth=depth,
                own_params=own,
                num_params=num,
                trainable_params=trainable,
                status=status,
                parent=parent,
                module=fact.index,
                extra_repr=fact.extra_repr,
            )
        )
        return index

    def _add_missing_children(self, fact: ModuleFact, parent: int | None, depth: int) -> None:
        """Add the registered modules below ``fact`` that no call and no row stands for yet."""
        for child in fact.children:
            if child not in self._placed:
                self._add_uncalled(self._trace.modules[child], parent, depth)
            elif child not in self._called and child in self._group_rows:
                row = self._group_rows[child]
                self._add_missing_children(self._trace.modules[child], row, self._rows[row].depth + 1)

    def _add_uncalled(self, fact: ModuleFact, parent: int | None, depth: int) -> None:
        self._placed.add(fact.index)
        status = self._missing if not self._has_called(fact) else "uncalled"
        index = self._append_module(fact, parent, depth, status)
        self._add_missing_children(fact, index, depth + 1)

    def _has_called(self, fact: ModuleFact) -> bool:
        return any(child in self._called or self._has_called(self._trace.modules[child]) for child in fact.children)


def _find_groups(trace: Trace, called: set[int | None], inner: dict[int | None, list[Call]]) -> dict[int, list[int]]:
    """Find the containers that may stand above their descendants: by the call that opens them, outermost first.

    A container qualifies if all calls below it by path were made by one call, without a foreign module in between.
    """
    spans: dict[int, tuple[int | None, list[int]]] = {}
    order: dict[int | None, list[int]] = {}
    broken: set[int] = set()
    for parent, calls in inner.items():
        modules = [call for call in calls if call.kind == "module"]
        order[parent] = [call.index for call in modules]
        for call in modules:
            if call.module is None:
                continue
            above = trace.modules[call.module].parent
            stop = trace.calls[parent].module if parent is not None else None
            while above is not None and above not in called and above != stop:
                if above in spans and spans[above][0] != parent:
                    broken.add(above)
                spans.setdefault(above, (parent, []))[1].append(call.index)
                above = trace.modules[above].parent
    groups: dict[int, list[int]] = {}
    for module, (parent, members) in spans.items():
        if module in broken:
            continue
        siblings = order[parent]
        start = siblings.index(members[0])
        if siblings[start : start + len(members)] == members:
            groups.setdefault(members[0], []).append(module)
    for opened in groups.values():
        opened.sort()
    return groups


def _find_members(trace: Trace, groups: dict[int, list[int]], inner: dict[int | None, list[Call]]) -> dict[int, int]:
    grouped = {module for modules in groups.values() for module in modules}
    members: dict[int, int] = {}
    for calls in inner.values():
        last: int | None = None
        pending: list[Call] = []
        for call in calls:
            if call.kind == "op":
                pending.append(call)  # an operation between two blocks of one container stands among them
                continue
            group = _nearest_group(trace, call, grouped)
            if group is not None and group == last:
                members.update({op.index: group for op in pending})
            if group is not None:
                members[call.index] = group
            last, pending = group, []
    return members


def _nearest_group(trace: Trace, call: Call, grouped: set[int]) -> int | None:
    above = trace.modules[call.module].parent if call.module is not None else None
    stop = trace.calls[call.parent].module if call.parent is not None else None
    while above is not None and above != stop:
        if above in grouped:
            return above
        above = trace.modules[above].parent
    return None


def _count_params(trace: Trace) -> dict[int, tuple[int, int, int]]:
    """Count ``(own, all, trainable)`` scalars of every module, each tensor once in a subtree whatever its names."""
    below: dict[int, frozenset[int]] = {}

    def collect(index: int, above: frozenset[int]) -> frozenset[int]:
        if index in below:
            return below[index]
        fact = trace.modules[index]
        found = {p for p in fact.params if trace.params[p].kind == "parameter"} if _has_params(trace, fact) else set()
        for child in fact.children:
            if child not in above:
                found |= collect(child, above | {index})
        below[index] = frozenset(found)
        return below[index]

    counted: dict[int, tuple[int, int, int]] = {}
    for fact in reversed(trace.modules):
        every = collect(fact.index, frozenset({fact.index}))
        own = sum(trace.params[p].num for p in fact.params if trace.params[p].kind == "parameter")
        num = sum(trace.params[p].num for p in every)
        trainable = sum(trace.params[p].num for p in every if trace.params[p].trainable)
        counted[fact.index] = (own, num, trainable)
    return counted


def _has_params(trace: Trace, fact: ModuleFact) -> bool:
    return bool(fact.params) and max(fact.params) < len(trace.params)


def _write_source(source: Source | None) -> str | None:
    if source is None:
        return None
    return f"{source.file} line {source.line}" if source.file.startswith("In [") else f"{source.file}:{source.line}"


def format_arguments(arguments: tuple[tuple[str, object], ...]) -> str:
    """Write an operation's plain arguments as in a call: ``"dim=1, keepdim=True"``."""
    return ", ".join(f"{name}={value!r}" if not name.isdigit() else repr(value) for name, value in arguments)
