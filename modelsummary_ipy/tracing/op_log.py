"""Writes down every aten operation of a trace with the tensors that it read and made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

from torch import Tensor

from modelsummary_ipy.fake.fake_mode import FakeMode
from modelsummary_ipy.fake.index_values import list_places
from modelsummary_ipy.model.tensor_meta import name_dtype
from modelsummary_ipy.records.op_events import PLACES, OpEvent, OpEvents, Repeat, TensorRef
from modelsummary_ipy.records.trace import Call
from modelsummary_ipy.torch_compat.fakes import FakeTensor, OpOverload, schema_of
from modelsummary_ipy.tracing.call_builder import REF, RunningCall
from modelsummary_ipy.tracing.tensor_leaves import Leaf


class LayerOps(NamedTuple):
    """The operations of one layer, to be written down again for one like it.

    Attributes:
        begin: Where they begin.
        events: The operations.
        inputs: What the layer read.
        params: By number of a tensor among them, which of the weights that the layer reads it is.
        outputs: What it made.
    """

    begin: int
    events: list[OpEvent]
    inputs: tuple[TensorRef, ...]
    params: Mapping[int, int]
    outputs: tuple[TensorRef, ...]


class OpLog:
    """The log of one trace.

    Args:
        current: Returns the call that runs now, ``None`` outside all calls.
        param_of: Index of a parameter's or buffer's facts by ``id`` of its tensor.

    Attributes:
        found: What was written down.
    """

    def __init__(self, current: Callable[[], RunningCall | None], param_of: Mapping[int, int]) -> None:
        self.found = OpEvents()
        self._current = current
        self._param_of = param_of
        self._count = 0
        self._events: list[Any] = []
        self._reals: dict[int, tuple[TensorRef, Tensor]] = {}
        self._params: dict[int, TensorRef] = {}  # of layers that were not run

    @contextmanager
    def recording(self, fake_mode: FakeMode) -> Iterator[None]:
        """Record while the block runs."""
        fake_mode.listener = self.record
        try:
            yield
        finally:
            fake_mode.listener = None

    def begin(self, leaves: Sequence[Leaf]) -> None:
        """Number the model's own inputs first."""
        self.found.inputs = [self.refer(tensor) for _, tensor in leaves]

    def record(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """Write down one operation."""
        call = self._current()
        if call is None:
            return
        name, names = _read_plan(func)
        if not name:
            return
        simplify = self._simplify
        given = (
            dict(zip(names, map(simplify, args), strict=False))
            if names
            else {str(i): simplify(v) for i, v in enumerate(args)}
        )
        for key, value in kwargs.items():
            given[key] = simplify(value)
        places = list_places(func, args)
        if len(places) == 1:
            given[PLACES] = places[0].largest + 1
        if isinstance(output, Tensor):
            outputs: tuple[TensorRef, ...] = (self._number(output),)
        elif isinstance(output, (tuple, list)):
            outputs = tuple([self._number(item) for item in output if isinstance(item, Tensor)])
        else:
            outputs = ()
        self._events.append(OpEvent(name, given, outputs, call))  # type: ignore[arg-type]  # its index is not final yet

    def noting_slices(self, read: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``x[…]`` that writes down slices, too, which torch leaves out where an axis ends before they do."""

        def read_noted(tensor: Tensor, index: Any) -> Any:
            call, whole = self._current(), find_whole_slices(tensor.shape, index)
            if call is None or not whole or not isinstance(tensor, FakeTensor):
                return read(tensor, index)
            ref = first = self.refer(tensor)
            for dim, stop in whole:
                given = {"self": ref, "dim": dim, "start": 0, "end": stop}
                ref = TensorRef(self._count, ref.shape, ref.dtype)
                self._count += 1
                self._events.append(OpEvent("aten.slice", given, (ref,), call))  # type: ignore[arg-type]  # as in ``record``
            tensor.__dict__[REF] = ref
            begin = len(self._events)
            try:
                return read(tensor, index)
            finally:
                tensor.__dict__[REF] = first
                if [event.op for event in self._events[begin:]] == ["aten.alias"]:  # made where nothing is cut
                    made = self._events.pop().outputs
                    self._events[-1] = self._events[-1]._replace(outputs=made)

        return read_noted

    @property
    def length(self) -> int:
        """How many operations were written down."""
        return len(self._events)

    def cut(self, begin: int, inputs: Sequence[Tensor], outputs: Sequence[Tensor], params: Sequence[int]) -> LayerOps:
        """Return the operations of a layer that ended, from number ``begin`` on.

        Args:
            begin: How many there were before it.
            inputs: What it read.
            outputs: What it made.
            params: Indices of the weights that it read.
        """
        events = self._events[begin:]
        place = {index: place for place, index in enumerate(params)}
        read = {ref.number for event in events for value in event.args.values() for ref in _refs_in(value)}
        weights = {number: place[self.found.params[number]] for number in read if number in self.found.params}
        return LayerOps(begin, events, tuple(map(self.refer, inputs)), weights, tuple(map(self.refer, outputs)))

    def repeat(
        self, like: LayerOps, inputs: Sequence[Tensor], params: Sequence[int], outputs: Sequence[Tensor], call: Call
    ) -> None:
        """Write down what a layer like another one would run; the arguments as those of ``cut``, of this layer."""
        given = tuple(map(self.refer, inputs))
        known = {ref.number: new for ref, new in zip(like.inputs, given, strict=True)}

        def renew(value: Any) -> Any:
            if isinstance(value, TensorRef):
                place = like.params.get(value.number)
                return known.get(value.number, value) if place is None else self._refer_param(params[place], value)
            return [renew(item) for item in value] if isinstance(value, list) else value

        place, made = self.length, []
        for event in like.events:
            args = {name: renew(value) for name, value in event.args.items()}
            for ref in event.outputs:
                known[ref.number] = TensorRef(self._count, ref.shape, ref.dtype)
                made.append((ref.number, self._count))
                self._count += 1
            self._events.append(OpEvent(event.op, args, tuple([known[ref.number] for ref in event.outputs]), call))  # type: ignore[arg-type]  # as in ``record``
        if made:
            numbers = [(ref.number, new.number) for ref, new in zip(like.inputs, given, strict=True)]
            self.found.repeats[place] = Repeat(like.begin, len(like.events), tuple(numbers), tuple(made))
        refs = tuple([known[ref.number] for ref in like.outputs])
        for tensor, ref in zip(outputs, refs, strict=True):
            tensor.__dict__[REF] = ref
        self.found.call_inputs[call.index], self.found.call_outputs[call.index] = given, refs

    def settle(self, call: RunningCall | Call, record: Call) -> None:
        """Note what went in and out of a call that has ended: what is repeated is made from it."""
        if isinstance(call, RunningCall):
            self.found.call_inputs[record.index] = call.input_refs
            self.found.call_outputs[record.index] = call.output_refs

    def list_params(self, events: range) -> set[int]:
        """List the parameters that operations read."""
        refs = (
            ref
            for event in self._events[events.start : events.stop]
            for value in event.args.values()
            for ref in _refs_in(value)
        )
        return {self.found.params[ref.number] for ref in refs if ref.number in self.found.params}

    def repeat_calls(
        self,
        events: range,
        like: Sequence[Call],
        calls: Sequence[Call],
        known: dict[int, TensorRef],
        params: Mapping[int, int],
    ) -> Callable[[Any], Any]:
        """Write down what calls like others would run.

        Args:
            events: Where the operations of the others are.
            like, calls: The others, and those like them.
            known: By number of a tensor that the others read, the one in its place; what they make is added.
            params: By parameter of the others, the one in its place.

        Returns:
            What returns, for a tensor of the others, the one in its place.
        """
        found, begin = self.found, like[0].index

        def renew(value: Any) -> Any:
            if isinstance(value, TensorRef):
                param = found.params.get(value.number) if value.number not in known else None
                return known.get(value.number, value) if param is None else self._refer_param(params[param], value)
            return [renew(item) for item in value] if isinstance(value, list) else value

        place, given, made = self.length, [(number, ref.number) for number, ref in known.items()], []
        for event in self._events[events.start : events.stop]:
            args = dict(event.args)
            args |= {name: renew(value) for name, value in args.items() if isinstance(value, (TensorRef, list))}
            for ref in event.outputs:
                known[ref.number] = TensorRef(self._count, ref.shape, ref.dtype)
                made.append((ref.number, self._count))
                self._count += 1
            outputs = tuple([known[ref.number] for ref in event.outputs])
            self._events.append(OpEvent(event.op, args, outputs, calls[event.call.index - begin]))
        found.repeats[place] = Repeat(events.start, len(events), tuple(given), tuple(made))
        for one, two in zip(like, calls, strict=True):
            found.call_inputs[two.index] = tuple([renew(ref) for ref in found.call_inputs[one.index]])
            found.call_outputs[two.index] = tuple([renew(ref) for ref in found.call_outputs[one.index]])
        return renew

    def _refer_param(self, index: int, like: TensorRef) -> TensorRef:
        ref = self._params.get(index)
        if ref is None:
            ref = self._params[index] = TensorRef(self._count, like.shape, like.dtype)
            self._count += 1
            self.found.params[ref.number] = index
        return ref

    def finish(self, calls: Sequence[RunningCall | Call]) -> OpEvents:
        """Return what was written down, with the calls' places in the trace."""
        found = self.found
        self._reals.clear()
        found.events = [OpEvent(op, args, outputs, call.index) for op, args, outputs, call in self._events]
        for call in calls:
            if isinstance(call, Call):  # a layer that was not run
                continue
            found.call_inputs[call.index] = call.input_refs
            found.call_outputs[call.index] = call.output_refs
        return found

    def _simplify(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.refer(value)
        if isinstance(value, (list, tuple)):
            return [self._simplify(item) for item in value]
        return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)

    def refer(self, tensor: Tensor) -> TensorRef:
        """Return what a tensor is known by; one that is met first gets a number."""
        ref: TensorRef | None = tensor.__dict__.get(REF)
        if ref is None and id(tensor) in self._reals:
            ref = self._reals[id(tensor)][0]
        if ref is None:
            ref = self._number(tensor)
            param = self._param_of.get(id(tensor))
            if param is not None:
                self.found.params[ref.number] = param
        return ref

    def _number(self, tensor: Tensor) -> TensorRef:
        try:
            shape = tuple(tensor.shape)
        except RuntimeError:  # a nested tensor
            shape = (-1,) * tensor.dim()
        ref = TensorRef(self._count, shape, name_dtype(tensor.dtype))
        self._count += 1
        if isinstance(tensor, FakeTensor):
            tensor.__dict__[REF] = ref
        else:  # one of the user's globals, on which nothing is written
            self._reals[id(tensor)] = ref, tensor
        return ref


def _refs_in(value: Any) -> Iterator[TensorRef]:
    if isinstance(value, TensorRef):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _refs_in(item)


def find_whole_slices(shape: Sequence[int], index: Any) -> list[tuple[int, int]]:
    """Find slices that end where their axis does, or behind it: ``(1, 16)`` for ``x[:, :16]`` of 6 entries.

    Args:
        shape: Of the tensor that is read.
        index: As it stands in the brackets; what follows an index that is a tensor or a list is not looked at.
    """
    items = list(index) if isinstance(index, tuple) else [index]
    found: list[tuple[int, int]] = []
    dim = 0
    for place, item in enumerate(items):
        if item is Ellipsis:
            later = items[place + 1 :]
            dim = len(shape) - sum(other is not None for other in later)
            if not all(other is None or type(other) in (int, slice) for other in later):
                break
        elif type(item) in (int, slice):
            is_plain = isinstance(item, slice) and not item.start and item.step in (None, 1) and dim < len(shape)
            if is_plain and type(item.stop) is int and item.stop >= shape[dim]:
                found.append((dim, item.stop))
            dim += 1
        elif item is not None:
            break
    return found


@cache
def _read_plan(func: Any) -> tuple[str, tuple[str, ...]]:
    """Return an operation's name without its overload, and its arguments' names; no name for what is not written."""
    if not isinstance(func, OpOverload):
        return str(func), ()
    if func.namespace == "prim":
        return "", ()
    return str(func).rpartition(".")[0], tuple(argument.name for argument in schema_of(func).arguments)
