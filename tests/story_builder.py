"""The builder of hand-made stories: it keeps calls, rows, modules and parameters consistent.

A test of a renderer or a rule says only what it is about. Numbers that a test relies on are passed in by hand, never
computed by the package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelsummary_ipy.records.summary import Cost, Flag, Memory, Row, Story
from modelsummary_ipy.records.trace import (
    AtenOp,
    Call,
    Failure,
    Formula,
    InputFact,
    ModuleFact,
    ParamFact,
    Source,
    TensorSpec,
    Trace,
)

Size = tuple[int, ...]


def spec(shape: Size, name: str = "", dtype: str = "float32", device: str = "cpu") -> TensorSpec:
    """One tensor leaf."""
    return TensorSpec(name, shape, dtype, device)


def leaves(sizes: Any) -> tuple[TensorSpec, ...]:
    """``None``, one size, a dict of sizes by leaf name, or ready specs -> specs."""
    if sizes is None:
        return ()
    if isinstance(sizes, TensorSpec):
        return (sizes,)
    if isinstance(sizes, Mapping):
        return tuple(spec(tuple(size), name) for name, size in sizes.items())
    if sizes and isinstance(sizes[0], TensorSpec):
        return tuple(sizes)
    return (spec(tuple(sizes)),)


class StoryBuilder:
    """Writes rows in execution order and derives what must agree between rows, calls, modules and parameters.

    Example:
        >>> build = StoryBuilder("Net", (1, 3), (1, 2))
        >>> build.module("fc", "Linear", (1, 3), (1, 2), params={"weight": (2, 3), "bias": (2,)}, mult_adds=6)
        1
        >>> build.story().total_params
        8
    """

    def __init__(self, type_name: str, inputs: Any = None, outputs: Any = None, *, status: str = "ran") -> None:
        self.rows: list[Row] = []
        self.calls: list[Call] = []
        self.modules: list[ModuleFact] = []
        self.params: list[ParamFact] = []
        self.costs: dict[int, Cost] = {}
        self.formulas: dict[int, tuple[Formula | None, ...]] = {}
        self.input_formulas: dict[int, tuple[Formula | None, ...]] = {}
        self.flags: list[Flag] = []
        self._children: dict[int, list[int]] = {}
        self._module_of_path: dict[str, int] = {}
        self._counts: dict[tuple[int | None, str, str], int] = {}
        self.module("", type_name, inputs, outputs, status=status)

    def module(
        self,
        path: str,
        type_name: str,
        inputs: Any = None,
        outputs: Any = None,
        *,
        parent: int | None = 0,
        params: Mapping[str, Size] | None = None,
        buffers: Mapping[str, Size] | None = None,
        trainable: bool = True,
        mult_adds: int | None = 0,
        activation: int | None = 0,
        status: str = "ran",
        extra_repr: str = "",
        source: str | None = None,
        formula: Sequence[Formula | None] | None = None,
        aten_ops: Sequence[AtenOp] = (),
    ) -> int:
        """Add a module's row (and its call, unless it was not called); returns the row's index."""
        parent = None if not self.rows else parent
        if path in self._module_of_path:
            module = self._module_of_path[path]
        else:
            module = self._new_module(path, type_name, parent, params or {}, buffers or {}, trainable, extra_repr)
        return self._add(
            "module", path, type_name, inputs, outputs, parent, module, status, extra_repr, source, formula,
            aten_ops, mult_adds, activation,
        )  # fmt: skip

    def op(
        self,
        type_name: str,
        inputs: Any = None,
        outputs: Any = None,
        *,
        parent: int = 0,
        mult_adds: int | None = 0,
        activation: int | None = 0,
        status: str = "ran",
        extra_repr: str = "",
        source: str | None = None,
        formula: Sequence[Formula | None] | None = None,
    ) -> int:
        """Add an operation's row; returns its index."""
        path, module = self.rows[parent].path, self.rows[parent].module
        return self._add(
            "op", path, type_name, inputs, outputs, parent, module, status, extra_repr, source, formula, (),
            mult_adds, activation,
        )  # fmt: skip

    def flag(self, row: int, rule: str, severity: str, message: str, fix: str = "") -> None:
        """Put a finding on a row."""
        self.flags.append(Flag(rule, severity, row, self.rows[row].path, message, fix))  # type: ignore[arg-type]

    def story(
        self,
        *,
        engine: str = "fake",
        engine_reason: str = "",
        failure: Failure | None = None,
        dims: Sequence[tuple[str, ...]] = (),
        memory: Memory | None = None,
        constraints: tuple[str, ...] = (),
        failed_at: tuple[tuple[str, str], ...] = (),
        unknown_ops: tuple[str, ...] = (),
        method: str = "forward",
    ) -> Story:
        """The finished story, with subtree totals of parameters and costs filled in."""
        rows = self._with_totals()
        root = rows[0]
        inputs = tuple(
            InputFact(leaf, dims[position] if position < len(dims) else ()) for position, leaf in enumerate(root.inputs)
        )
        modules = tuple(
            module._replace(children=tuple(self._children.get(module.index, ()))) for module in self.modules
        )
        trace = Trace(
            tuple(self.calls), modules, tuple(self.params), inputs, root.outputs,
            engine=engine, engine_reason=engine_reason, failure=failure, method=method,  # type: ignore[arg-type]
        )  # fmt: skip
        return Story(
            trace, rows, self.formulas, self.input_formulas, self._subtree_costs(rows), memory, tuple(self.flags),
            constraints=constraints, failed_at=failed_at, unknown_ops=unknown_ops,
        )  # fmt: skip

    def _new_module(
        self,
        path: str,
        type_name: str,
        parent: int | None,
        params: Mapping[str, Size],
        buffers: Mapping[str, Size],
        trainable: bool,
        extra_repr: str,
    ) -> int:
        index = len(self.modules)
        own = []
        for kind, given in (("parameter", params), ("buffer", buffers)):
            for name, shape in given.items():
                num = 1
                for size in shape:
                    num *= size
                fact = ParamFact(
                    len(self.params), (f"{path}.{name}".lstrip("."),), shape, "float32", "cpu", num, num * 4,
                    trainable and kind == "parameter", kind,  # type: ignore[arg-type]
                )  # fmt: skip
                self.params.append(fact)
                own.append(fact.index)
        owner = None if parent is None else self.rows[parent].module
        self.modules.append(
            ModuleFact(index, (path,), type_name, parent=owner, params=tuple(own), extra_repr=extra_repr)
        )
        if owner is not None:
            self._children.setdefault(owner, []).append(index)
        self._module_of_path[path] = index
        return index

    def _add(
        self, kind: Any, path: str, type_name: str, inputs: Any, outputs: Any, parent: int | None, module: int | None,
        status: Any, extra_repr: str, source: str | None, formula: Any, aten_ops: Sequence[AtenOp],
        mult_adds: int | None, activation: int | None,
    ) -> int:  # fmt: skip
        index = len(self.rows)
        depth = 0 if parent is None else self.rows[parent].depth + 1
        key = (None, "module", path) if kind == "module" else (parent, "op", type_name)
        call_index = self._counts.get(key, 0)
        self._counts[key] = call_index + 1
        call = None
        if status in ("ran", "failed"):
            call = len(self.calls)
            where = None if source is None else _read_source(source)
            self.calls.append(
                Call(
                    call,
                    kind,
                    path,
                    type_name,
                    None if parent is None else self.rows[parent].call,
                    depth,
                    call_index,
                    module,
                    leaves(inputs),
                    leaves(outputs),
                    status=status,
                    source=where,
                    aten_ops=tuple(aten_ops),
                )
            )
        own = 0
        if kind == "module" and module is not None:
            own = sum(self.params[p].num for p in self.modules[module].params if self.params[p].kind == "parameter")
        self.rows.append(
            Row(
                index,
                path,
                type_name,
                kind,
                depth,
                call_index,
                leaves(inputs),
                leaves(outputs),
                own,
                own,
                0,
                status,
                source,
                parent,
                call,
                module,
                extra_repr,
            )
        )
        self.costs[index] = Cost(None, mult_adds, None, activation)
        if formula is not None:
            self.formulas[index] = tuple(formula)
        return index

    def _with_totals(self) -> tuple[Row, ...]:
        owned: list[set[int]] = [set(module.params) for module in self.modules]
        for module in reversed(self.modules):
            if module.parent is not None:
                owned[module.parent] |= owned[module.index]
        rows = []
        for row in self.rows:
            if row.kind == "module" and row.module is not None:
                facts = [self.params[p] for p in owned[row.module] if self.params[p].kind == "parameter"]
                row = row._replace(
                    num_params=sum(p.num for p in facts), trainable_params=sum(p.num for p in facts if p.trainable)
                )
            rows.append(row)
        return tuple(rows)

    def _subtree_costs(self, rows: Sequence[Row]) -> dict[int, Cost]:
        macs: dict[int, int | None] = {}
        saved: dict[int, int | None] = {}
        for row in reversed(rows):
            own = self.costs[row.index]
            for totals, value in ((macs, own.own_mult_adds), (saved, own.own_activation_bytes)):
                inside = totals.get(row.index, 0)
                totals[row.index] = None if value is None or inside is None else value + inside
                if row.parent is not None:
                    so_far, total = totals.get(row.parent, 0), totals[row.index]
                    totals[row.parent] = None if so_far is None or total is None else so_far + total
        return {
            index: replace(cost, mult_adds=macs[index], activation_bytes=saved[index])
            for index, cost in self.costs.items()
            if rows[index].status in ("ran", "failed")
        }


def _read_source(words: str) -> Source:
    """``"net.py:41"`` or ``"In [5] line 3"`` -> where that is."""
    file, _, line = words.rpartition(" line " if " line " in words else ":")
    return Source(file, int(line)) if line.isdecimal() else Source(words, 0)
