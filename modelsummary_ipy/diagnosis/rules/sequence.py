"""The rule that finds sequence layers which take the batch for the time, or the time for the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modelsummary_ipy.diagnosis.call_arguments import argument, dims_argument
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence, Layout
from modelsummary_ipy.diagnosis.torch_names import (
    ATTENTIONS,
    CATS,
    LINEARS,
    RECURRENTS,
    REDUCTIONS,
    SOFTMAXES,
    TRANSPOSES,
    spatial_rank,
)
from modelsummary_ipy.model.torch_layers import classes_of
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.lazy import lazy
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, Severity

_LAYERS = classes_of("recurrent", "attention")
_ATTENDING = ATTENTIONS | SOFTMAXES | {"scaled_dot_product_attention"}


def find_swapped_sequences(evidence: Evidence) -> Iterator[Flag]:
    """Find recurrent layers, attention and encoders that read a batch-first tensor as sequence-first, or the reverse.

    ``batch_first=False`` is torch's default, and a wrong order runs: samples are mixed. It is a warning only
    with evidence that dim 1 is the time: it is pooled, indexed or given positions, another layer takes dim 0 for the
    batch, convolutions made it. Leaves alone nets that are sequence-first on purpose: a transpose in front, time pooled
    over dim 0; without evidence for either it is a note.
    """
    flow = evidence.flow
    yield from _find_unflipped(evidence)
    yield from _find_unrolled(evidence)
    layers = [call for call in evidence.calls if _is_sequence_layer(flow, call)]
    if not layers:
        return
    time = _TimeEvidence(evidence)
    seen: set[int] = set()
    for layer in layers:
        row = _outermost(flow, layer)
        taken = time.takes_a_sample(layer)
        if taken is not None and row.index not in seen:
            seen.add(row.index)
            shape = layer.outputs[0].shape
            message = f"{taken.text}, of the {shape[1]} samples: {row.type_name}, batch_first=False, makes "
            message += f"{write_size(shape)}, its {shape[0]} steps first"
            fix = "out[-1] takes the last step of all samples"
            yield evidence.flag(
                "sequence-order", "warning", evidence.calls[taken.call], message, fix, "sample", shape=shape
            )
            continue
        found = _judge(flow, time, layer, row) if row.index not in seen else None
        if found is not None:
            seen.add(row.index)
            yield evidence.flag("sequence-order", found[0], row, *found[1:], shape=layer.inputs[0].shape)


def _find_unflipped(evidence: Evidence) -> Iterator[Flag]:
    """Find what read a sequence backwards and is laid beside what read it forwards, without a flip back."""
    has_flips = any(call.type_name == "flip" for call in evidence.flow.steps)
    for step in evidence.flow.steps if has_flips else ():
        if step.type_name not in CATS | {"add", "mul"} or len(step.input_links) != 2 or len(step.inputs[0].shape) != 3:
            continue
        ways = [list(evidence.flow.walk_back(link)) for link in step.input_links]
        turned = [call for way in ways for call in way if call.type_name == "flip"]
        turned = [call for call in turned if 0 not in (dims_argument(call, 3) or (0,))]  # along the steps
        is_read = all(any(call.type_name in _LAYERS for call in way) for way in ways)
        if len(turned) % 2 and is_read and len({evidence.flow.sources(link) for link in step.input_links}) == 1:
            shape = step.inputs[0].shape
            message = f"{step.type_name} of {write_size(shape)}: steps read backwards lie on those read forwards"
            fix = "flip it back before: h.flip(1)"
            yield evidence.flag("sequence-order", "warning", step, message, fix, "flipped", shape=shape)


def _find_unrolled(evidence: Evidence) -> Iterator[Flag]:
    """Find a sum of a feature map with what attention made of that map shifted, and not shifted back."""
    rolls = [step for step in evidence.flow.steps if step.type_name == "roll" and len(dims_argument(step, 9) or ()) > 1]
    for step in evidence.flow.steps if rolls else ():
        if not step.type_name.startswith("add") or len(step.input_links) != 2:
            continue
        ways = [{call.index: call for call in evidence.flow.before(link)} for link in step.input_links]
        for (way, other), link in zip((ways, ways[::-1]), reversed(step.input_links), strict=True):
            mine = [roll for roll in rolls if roll.index in way and roll.index not in other]
            came = {call.index for roll in mine for call in evidence.flow.before(roll.input_links[0])}
            if not evidence.flow.sources(link) or not other.keys() <= came:
                continue  # not the map that was shifted: biases, say
            shifts = [argument(roll, "shifts", "1") for roll in mine]
            is_read = any(call.type_name in _ATTENDING for index, call in way.items() if index not in other)
            if (
                is_read
                and all(isinstance(shift, tuple) for shift in shifts)
                and any(map(sum, zip(*shifts, strict=True)))
            ):
                shape = step.inputs[0].shape
                message = f"{step.type_name} of {write_size(shape)}: what was shifted by {write_size(shifts[0])} "
                message += "before attention lies on what was not"
                fix = "shift it back before: torch.roll(h, (s, s), (1, 2))"
                yield evidence.flag("sequence-order", "warning", step, message, fix, "rolled", shape=shape)


def _is_sequence_layer(flow: Dataflow, call: Call) -> bool:
    if call.kind != "module" or call.type_name not in _LAYERS or not call.inputs or call.status != "ran":
        return False
    fact = flow.module_of(call)
    torches = fact is not None and fact.type_module.startswith("torch.nn.")
    return torches and len(call.inputs[0].shape) == 3


def _outermost(flow: Dataflow, call: Call) -> Call:
    """The whole encoder or decoder of torch's that contains an attention."""
    for above in flow.around(call):
        fact = flow.module_of(above)
        if fact is None or not fact.type_module.startswith("torch.nn.modules.transformer"):
            break
        call = above
    return call


def _judge(flow: Dataflow, time: _TimeEvidence, layer: Call, row: Call) -> tuple[Severity, str, str] | None:
    """Return severity, message and fix; ``None`` where the order seems right."""
    layout = time.evidence.layout_in(layer)
    first, second = set(layout[0]), set(layout[1])
    shape = layer.inputs[0].shape
    if not flow.setting(layer, "batch_first") and first and not layout[1]:
        taken = time.takes_for_batch(layer, first)
        message = f"batch_first=False reads {write_size(shape)} as {shape[0]} steps of 1 sample, but {taken}"
        return ("warning", message, f"{row.type_name}(…, batch_first=True), or unsqueeze(0)") if taken else None
    if not first or not second or first & second:
        return None
    for_second = time.says_time(layer, second, first)
    for_first = time.says_time(layer, first, second)
    if flow.setting(layer, "batch_first"):
        reason = time.is_batch(layer, second)
        if reason is None or time.is_batch(layer, first) is not None or for_second:
            return None
        message = f"batch_first=True reads {write_size(shape)} as {shape[0]} samples of {shape[1]} steps, but {reason}"
        return "warning", message, "transpose(0, 1) before it, or batch_first=False"
    for_first = for_first or time.was_turned(layer, first, second)
    if for_first and not for_second:
        return None
    message = f"batch_first=False reads {write_size(shape)} as {shape[0]} steps of {shape[1]} samples"
    fix = f"{row.type_name}(…, batch_first=True)"
    if for_second:
        return "note" if for_first else "warning", f"{message}, but {for_second}", fix
    return "note", message, f"{fix} if the batch comes first"


@dataclass(frozen=True)
class _Event:
    """A step that shows which of two axes is the time.

    Attributes:
        call: The step.
        time: Roots of the axis it treats as time.
        batch: Roots of the axes it leaves as the samples.
        text: What it did.
    """

    call: int
    time: frozenset[str]
    batch: frozenset[str]
    text: str


class _TimeEvidence:
    """Evidence in the rest of the model for which axis is the time."""

    def __init__(self, evidence: Evidence) -> None:
        self._flow = evidence.flow
        self.evidence = evidence

    def says_time(self, layer: Call, time: set[str], batch: set[str]) -> str:
        """Return the evidence that ``time`` is the steps and ``batch`` the samples; ``""`` if there is none."""
        for event in self._events:
            inside = event.call == layer.index or self._flow.trace.calls[event.call].parent == layer.index
            if not inside and event.time & time and event.batch & batch:
                return event.text
        return self.is_batch(layer, batch) or ""

    def takes_a_sample(self, layer: Call) -> _Event | None:
        """Return what takes the samples for the steps behind a layer that has them in dim 1, as its input has."""
        layout = self.evidence.layout_in(layer)
        if self._flow.setting(layer, "batch_first") or layout[1] != ("B",) or "B" in layout[0] or not layer.outputs:
            return None
        before = self._flow.before(layer.input_links[0])
        if not any(step.type_name in TRANSPOSES and self.evidence.layout_in(step)[:1] == (("B",),) for step in before):
            return None  # what the dims are called is a guess
        behind = (
            event
            for event in self._events
            if event.call > layer.index and event.time == {"B"} and " takes " in event.text
        )
        return next((event for event in behind if event.batch & {*layout[0]}), None)

    def takes_for_batch(self, layer: Call, axis: set[str]) -> str:
        """Return what takes an axis for the samples before a layer; ``""`` if nothing does, or it is a time too."""
        before = [event for event in self._events if event.call < layer.index]
        if any(event.time & axis for event in before):
            return ""
        return self.is_batch(layer, axis) or next((event.text for event in before if event.batch & axis), "")

    def is_batch(self, layer: Call, axis: set[str]) -> str | None:
        """Return which layer takes an axis for the batch; ``None`` if none does."""
        for call, found, words in self._batches:
            if call != layer.index and found & axis:
                return words
        return None

    def was_turned(self, layer: Call, first: set[str], second: set[str]) -> str:
        """Return where a transpose in front of a layer put one axis before the other; ``""`` if none did."""
        for step in self._flow.before(layer.input_links[0]):
            if step.type_name not in TRANSPOSES or len(step.inputs[0].shape) < 3 or self._is_torches(step):
                continue
            before, after = self.evidence.layout_in(step), self.evidence.layout_of(Link(step.index, 0))
            if {*after[0]} & first and {*before[0]} & second:
                return f"{name_step(step)} puts it in front"
        return ""

    @lazy
    def _batches(self) -> list[tuple[int, frozenset[str], str]]:
        """Axes that another layer takes for the batch, with the text for it."""
        found: list[tuple[int, frozenset[str], str]] = []
        for leaf, said in self.evidence.written.items():
            dims = self.evidence.inputs[leaf].dims
            if said.roles.count("B") == 1 and len(dims) == len(said.roles):
                dim = said.roles.index("B")
                found.append((-1, frozenset([dims[dim]]), f"the text says {said.text}"))
        for call in self._flow.trace.calls:
            if not call.inputs or self._is_torches(call):
                continue
            rank = len(call.inputs[0].shape)
            spatial = spatial_rank(call)
            if spatial and rank == spatial + 2:
                layout = self.evidence.layout_in(call)
                name = call.path if call.kind == "module" else call.type_name
                found.append((call.index, frozenset(layout[0]), f"{name} ({call.type_name}) reads dim 0 as the batch"))
            elif _is_sequence_layer(self._flow, call) and self._flow.setting(call, "batch_first"):
                layout = self.evidence.layout_in(call)
                words = f"{call.path} is batch_first and reads the same dim as the batch"
                found.append((call.index, frozenset(layout[0]), words))
        return found

    def _is_torches(self, call: Call) -> bool:
        """Return whether an operation is written inside one of torch's own modules: it shows nothing of the user's."""
        if call.kind == "module":
            return False
        fact = self._flow.trace.modules[call.module] if call.module is not None else None
        return fact is not None and fact.type_module.startswith("torch.")

    @lazy
    def _events(self) -> list[_Event]:
        found: list[_Event] = []
        for step in self._flow.steps:
            if step.inputs and step.outputs and not self._is_torches(step):
                found += self._read_step(step)
        return found

    def _read_step(self, step: Call) -> Iterator[_Event]:
        name = step.type_name
        if name in REDUCTIONS:
            yield from self._read_reduction(step)
        elif name == "getitem" or name == "select":
            yield from self._read_index(step)
        elif name in ("add", "add_", "cat", "concat"):
            yield from self._read_positions(step) if name not in CATS else self._read_cat(step)
        elif name in ("bmm", "matmul") and len(step.inputs) > 1:
            yield from self._read_pooling_product(step)
        elif name in LINEARS:
            yield from self._read_linear(step)

    def _read_reduction(self, step: Call) -> Iterator[_Event]:
        layout = self.evidence.layout_in(step)
        dims = dims_argument(step, len(layout))
        if dims is None or len(dims) != 1 or len(layout) < 3 or dims[0] == len(layout) - 1:
            return
        others = [dim for at, dim in enumerate(layout[:2]) if at not in dims]
        if dims[0] < 2:
            yield _event(step, layout, dims[0], others, f"{name_step(step)} pools over dim {dims[0]} as the time")

    def _read_index(self, step: Call) -> Iterator[_Event]:
        layout = self.evidence.layout_in(step)
        if len(layout) != 3:
            return
        index = argument(step, "1", "index")
        if step.type_name == "select":
            dims = dims_argument(step, 3)
            index = (slice(None),) * dims[0] + (index,) if dims else None
        parts = index if isinstance(index, tuple) else (index,)
        at = next((i for i, part in enumerate(parts) if isinstance(part, int) and not isinstance(part, bool)), None)
        if at is None or at > 1 or any(part != slice(None) for part in parts[:at]) or len(step.inputs) > 1:
            return
        if at == 0 and step.input_links[0] is not None and step.input_links[0].call >= 0:
            maker = self._flow.producer(step.input_links[0])
            if maker is not None and maker.type_name in RECURRENTS and step.input_links[0].leaf > 0:
                return  # a state's layers, not steps
        words = f"{name_step(step)} takes one step of dim {at}"
        yield _event(step, layout, at, [layout[1 - at]], words)

    def _read_positions(self, step: Call) -> Iterator[_Event]:
        """``x + positions``: of ``(1, T, F)`` or ``(T, F)`` dim 1 is the time, of ``(T, 1, F)`` dim 0."""
        for leaf, other in ((0, 1), (1, 0)):
            if len(step.inputs) != 2:
                return
            shape, positions = step.inputs[leaf].shape, step.inputs[other].shape
            link = step.input_links[other]
            from_input = link is not None and bool(self._flow.sources(link))
            is_param = step.input_params[other] is not None or link is not None
            if len(shape) != 3 or not is_param or from_input or shape[0] == 1 or shape[1] == 1:
                continue
            layout = self.evidence.layout_in(step, leaf)
            padded = (1,) * (3 - len(positions)) + positions if len(positions) in (2, 3) else ()
            if padded[:2] == (1, shape[1]):
                yield _event(
                    step, layout, 1, [layout[0]], f"positions of {write_size(positions)} are added along dim 1"
                )
            elif padded[:2] == (shape[0], 1):
                yield _event(
                    step, layout, 0, [layout[1]], f"positions of {write_size(positions)} are added along dim 0"
                )

    def _read_cat(self, step: Call) -> Iterator[_Event]:
        """A token of one step put in front."""
        at = argument(step, "dim", "axis", default=0)
        if not isinstance(at, int) or len(step.inputs) != 2 or len(step.inputs[0].shape) != 3 or at % 3 > 1:
            return
        at %= 3
        for leaf in (0, 1):
            link = step.input_links[1 - leaf]
            token = step.inputs[1 - leaf].shape[at] == 1 and step.inputs[leaf].shape[at] > 1
            if token and (link is None or not self._flow.sources(link)):
                layout = self.evidence.layout_in(step, leaf)
                yield _event(step, layout, at, [layout[1 - at]], f"a token is put in front along dim {at}")

    def _read_pooling_product(self, step: Call) -> Iterator[_Event]:
        """``weights @ hidden``: attention sums over dim 1 of each sample."""
        layout = self.evidence.layout_in(step, 1)
        if len(layout) == 3 and len(step.inputs[0].shape) == 3 and step.inputs[0].shape[-2] == 1:
            yield _event(step, layout, 1, [layout[0]], f"{step.type_name} sums over dim 1 of every sample")

    def _read_linear(self, step: Call) -> Iterator[_Event]:
        """A Linear over ``T · F`` features read the flattened steps of a sample."""
        layout = self.evidence.layout_in(step)
        if len(layout) == 2 and len(layout[1]) > 1 and len(layout[0]) == 1:
            words = f"{step.path} (Linear) reads the flattened steps of every sample of dim 0"
            for axis in layout[1][:-1]:
                yield _Event(step.index, frozenset({axis}), frozenset(layout[0]), words)


def _event(step: Call, layout: Layout, at: int, others: Sequence[tuple[str, ...]], words: str) -> _Event:
    batch = frozenset(axis for dim in others for axis in dim)
    return _Event(step.index, frozenset(layout[at]), batch, words)


def name_step(step: Call) -> str:
    """Name an operation with its line."""
    line = f" at {step.source.text}" if step.source is not None else ""
    return f"{'an index' if step.type_name == 'getitem' else step.type_name}{line}"


RULES = {"sequence-order": find_swapped_sequences}
