"""A call while it runs, and all calls of a trace in the order in which they began."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any

import torch

from modelsummary_ipy.model.tensor_meta import name_dtype
from modelsummary_ipy.records.op_events import TensorRef
from modelsummary_ipy.records.trace import AtenOp, Call, Kind, Link, Source, Status, TensorSpec
from modelsummary_ipy.tracing.source_lines import Place, to_source
from modelsummary_ipy.tracing.tensor_leaves import Leaf, build_spec
from modelsummary_ipy.tracing.tensor_links import find_link

#: Under which a tensor keeps what the log of operations knows it by.
REF = "_modelsummary_ref"


class RunningCall:
    """A call while it runs: the fields of ``Call``, set as they become known and frozen when the trace is over.

    What is not set stays the class's.

    Attributes:
        places: The user's lines that led to it, innermost first.
        input_refs, output_refs: What the log of operations knows its tensors by, ``None`` for one that it has not met.
    """

    call_index = 0
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    input_links: tuple[Link | None, ...] = ()
    output_links: tuple[Link | None, ...] = ()
    input_params: tuple[int | None, ...] = ()
    arguments: tuple[tuple[str, Any], ...] = ()
    status: Status = "ran"
    source: Source | None = None
    inplace = False
    live_bytes: int | None = None
    made_bytes = 0
    lines: tuple[Source, ...] = ()
    lazy = False
    places: tuple[Place, ...] = ()
    input_refs: tuple[TensorRef | None, ...] = ()
    output_refs: tuple[TensorRef | None, ...] = ()

    def __init__(
        self, index: int, kind: Kind, path: str, type_name: str, caller: RunningCall | None, module: int | None
    ) -> None:
        self.index = index
        self.kind = kind
        self.path = path
        self.type_name = type_name
        self.caller = caller
        self.depth: int = 0 if caller is None else caller.depth + 1
        self.module = module
        self.params: list[int] = []
        self.aten_ops: list[AtenOp] = []
        self.saved: list[tuple[int, int]] = []
        self.grad = torch.is_grad_enabled()
        self.autocast = _read_autocast()

    @property
    def parent(self) -> int | None:
        """Index of the call that it runs in, known for good when that call has been added to the log."""
        return None if self.caller is None else self.caller.index

    def set_inputs(self, leaves: list[Leaf], param_of: Mapping[int, int]) -> None:
        """Set what goes in; ``param_of`` has the index of a parameter's facts by ``id`` of its tensor."""
        self.inputs = tuple([build_spec(name, tensor) for name, tensor in leaves])
        self.input_links = tuple([find_link(tensor) for _, tensor in leaves])
        self.input_params = tuple([param_of.get(id(tensor)) for _, tensor in leaves])
        self.input_refs = tuple([tensor.__dict__.get(REF) for _, tensor in leaves])

    def set_outputs(self, leaves: list[Leaf], links: list[Link | None]) -> None:
        """Set what came out."""
        self.outputs = tuple([build_spec(name, tensor) for name, tensor in leaves])
        self.output_links = tuple(links)
        self.output_refs = tuple([tensor.__dict__.get(REF) for _, tensor in leaves])

    def add_live_bytes(self, live_bytes: int | None) -> None:
        """Count what lived in a part of the call as living while the call ran."""
        if live_bytes is not None:
            self.live_bytes = max(self.live_bytes or 0, live_bytes)

    def absorb(self, inner: RunningCall) -> None:
        """Take over what ran in a call that is no step of the forward."""
        self.aten_ops += inner.aten_ops
        self.saved += inner.saved
        self.made_bytes = max(self.made_bytes, inner.made_bytes)
        self.add_live_bytes(inner.live_bytes)

    def freeze(self, find_source: Callable[[Place], Source]) -> Call:
        """Return the call as a record."""
        lines = tuple([find_source(place) for place in self.places])
        return Call._make(_read_fields(self))._replace(
            params=tuple(dict.fromkeys(self.params)),
            aten_ops=tuple(self.aten_ops),
            saved=tuple(self.saved),
            source=lines[0] if lines else None,
            lines=lines if self.kind == "op" else (),
        )


_read_fields: Callable[[RunningCall], tuple[Any, ...]] = attrgetter(*Call._fields)


def _read_autocast() -> str | None:
    for device in ("cpu", "cuda"):
        if torch.is_autocast_enabled(device):
            return name_dtype(torch.get_autocast_dtype(device))
    return None


class CallLog:
    """All calls of a trace, in the order in which they began.

    Attributes:
        calls: What has been added; a layer that was met before is a record at once.
    """

    def __init__(self) -> None:
        self.calls: list[RunningCall | Call] = []
        self._sources: dict[Place, Source] = {}
        self._counts: dict[int | tuple[int | None, str], int] = {}

    def begin(
        self, kind: Kind, path: str, type_name: str, caller: RunningCall | None, module: int | None
    ) -> RunningCall:
        """Begin a call; until it is added, its index is where it would be added now."""
        return RunningCall(len(self.calls), kind, path, type_name, caller, module)

    def add_module(self, call: RunningCall) -> None:
        """Add the call of a module, which is one call more of it."""
        assert call.module is not None
        call.call_index = self.count_call(call.module)
        self.calls.append(call)

    def add_op(self, call: RunningCall) -> None:
        """Add the call of an operation, which is one more of its name in its caller."""
        call.call_index = self.count_call((call.parent, call.type_name))
        self.add_failed_op(call)

    def add_failed_op(self, call: RunningCall) -> None:
        """Add an operation that raised, and does not count."""
        call.index = len(self.calls)
        self.calls.append(call)

    def count_call(self, key: int | tuple[int | None, str]) -> int:
        """Return how often a module, or an operation in its caller, was called before, and count one call more."""
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        return count

    def count_of(self, key: int) -> int:
        """Return how often a module was called before."""
        return self._counts.get(key, 0)

    def drop_op(self, call: RunningCall) -> None:
        """Let a function that is no step of the forward count for its caller, and what ran in it; it was not added."""
        assert call.caller is not None
        for index, inner in enumerate(self.calls[call.index :], call.index):
            if isinstance(inner, Call):
                self.calls[index] = inner._replace(depth=inner.depth - 1)
                continue
            inner.depth -= 1  # a module that a backward() called again
            if inner.caller is call:
                inner.caller = call.caller
        call.caller.absorb(call)
        call.index = call.caller.index

    def find_source(self, place: Place) -> Source:
        """Return the source of a place; equal places have one."""
        source = self._sources.get(place)
        if source is None:
            source = self._sources[place] = to_source(place)
        return source

    def freeze(self) -> tuple[Call, ...]:
        """Return all calls as records."""
        for call in reversed(self.calls):  # what lives inside a call lives while it runs
            if isinstance(call, RunningCall) and call.caller is not None:
                call.caller.add_live_bytes(call.live_bytes)
        return tuple([call if isinstance(call, Call) else call.freeze(self.find_source) for call in self.calls])
