"""Rules that watch what a tensor is, not its size: a dtype that leaves the model's, a hop between devices, no batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import ATTENTIONS, CONVOLUTIONS, RECURRENTS, spatial_rank
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link

_WIDTH = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64, "complex64": 32, "complex128": 64}
_CASTS = frozenset({"to", "double", "float", "half", "bfloat16", "type", "type_as", "cdouble", "cfloat"})


# -- dtype ------------------------------------------------------------------------------------------------------------


def find_strange_dtypes(evidence: Evidence) -> Iterator[Flag]:
    """Find the step that mixes in a wider constant, after which the model's output has another dtype than the model.

    Finds float64 from a numpy constant, float32 from a constant in a bfloat16 model. Leaves alone casts that were
    written down, what is cast back before the end, norms and rotary terms inside a block, autocast, whole models of
    another dtype, integers and masks.
    """
    if not evidence.calls:
        return
    home = _model_dtype(evidence)
    if home is None:
        return
    seen: set[int] = set()
    root = evidence.calls[0]
    for spec, link in zip(root.outputs, root.output_links, strict=False):
        if link is None or _WIDTH.get(spec.dtype, 0) <= _WIDTH[home]:
            continue
        step = _find_widener(evidence, link, _WIDTH[home])
        if step is None or step.index in seen:
            continue
        seen.add(step.index)
        kinds = ", ".join(dict.fromkeys(leaf.dtype for leaf in step.inputs))
        made = step.outputs[0].dtype
        message = f"{step.type_name} of {kinds} outputs {made} and the model's output stays {spec.dtype}, the model is "
        message += f"{home}: {_WIDTH[made] // _WIDTH[home]} times the bytes of {write_size(step.outputs[0].shape)}"
        fix = f"make the constant with dtype=torch.{home}, or .to(x.dtype)"
        yield evidence.flag("strange-dtype", "warning", step, message, fix, times=_WIDTH[made] // _WIDTH[home])


def _model_dtype(evidence: Evidence) -> str | None:
    """The floating-point dtype of most of the model's elements; of its inputs if it has none."""
    counts: Counter[str] = Counter()
    for param in evidence.params:
        if param.kind == "parameter" and param.dtype in _WIDTH:
            counts[param.dtype] += max(param.num, 1)
    if not counts:
        counts.update(fact.spec.dtype for fact in evidence.inputs if fact.spec.dtype in _WIDTH)
    if any(_WIDTH.get(fact.spec.dtype, 0) > _WIDTH[home] for home in counts for fact in evidence.inputs):
        return None  # the input is wider than the model: a wider output is meant
    return counts.most_common(1)[0][0] if counts else None


def _find_widener(evidence: Evidence, link: Link, width: int) -> Call | None:
    """Walk back from a wide output to the step that made it of the model's own data and a wide constant."""
    flow = evidence.flow
    queue, seen = [link], {link}
    while queue:
        step = flow.producer(queue.pop())
        if step is None or step.type_name in _CASTS or step.autocast is not None:
            continue
        widths = [_WIDTH.get(spec.dtype, 0) for spec in step.inputs]
        data = [(size, source) for size, source in zip(widths, step.input_links, strict=True) if flow.sources(source)]
        from_data = [source for size, source in data if size > width and source is not None]
        if max(widths, default=0) > width and not from_data and any(0 < size <= width for size, _ in data):
            return step
        for source in from_data:
            if source not in seen:
                seen.add(source)
                queue.append(source)
    return None


# -- device -----------------------------------------------------------------------------------------------------------


def find_device_hops(evidence: Evidence) -> Iterator[Flag]:
    """Find the first step that brings a tensor to another kind of device in the middle of the forward: a note.

    Leaves alone models spread over devices of one kind, and the copy of an input to where the model is.
    """
    for step in evidence.flow.steps:
        if not step.inputs or not step.outputs or step.input_links[0] is None or step.input_links[0].call < 0:
            continue
        before, after = step.inputs[0].device.partition(":")[0], step.outputs[0].device.partition(":")[0]
        if before != after and "meta" not in (before, after):
            message = f"{step.type_name} moves {write_size(step.inputs[0].shape)} from {before} to {after} in "
            message += "mid-forward"
            yield evidence.flag("device-hop", "note", step, message, "", before=step.inputs[0].shape)
            return


# -- input ------------------------------------------------------------------------------------------------------------


def find_batchless_inputs(evidence: Evidence) -> Iterator[Flag]:
    """Find a layer that silently reads a tensor of one dim less as one sample without a batch: a note.

    Finds an image ``(3, 224, 224)`` that Conv2d accepts, a sequence ``(T, F)`` that an LSTM does. Leaves alone what
    has its batch.
    """
    for call in evidence.calls:
        if not call.inputs or call.status != "ran":
            continue
        rank = len(call.inputs[0].shape)
        expected = 0
        if call.type_name in CONVOLUTIONS:
            expected = spatial_rank(call) + 2
        elif call.type_name in RECURRENTS or call.type_name in ATTENTIONS:
            packed = any(leaf.name.endswith(".batch_sizes") for leaf in call.inputs)
            expected = 0 if packed else 3
        if expected and rank == expected - 1:
            size = write_size(call.inputs[0].shape)
            message = f"{call.type_name} reads {size} as one sample without a batch: it has {rank} dims, not {expected}"
            fix = "x.unsqueeze(0) adds a batch of 1"
            rows = evidence.factor_in(call, 0, 0) if evidence.moving_in(call) == (0,) else 0
            if call.type_name in RECURRENTS and rows > 1:
                message += f", and its steps are {rows} of each of the {evidence.batch} samples"
                fix = f"a sequence of each sample is {write_size((evidence.batch, rows, call.inputs[0].shape[1]))}"
                yield evidence.flag("batchless-input", "warning", call, message, fix, rank=rank, expected=expected)
                return
            yield evidence.flag("batchless-input", "note", call, message, fix, rank=rank, expected=expected)
            return  # the layers after it read the same


RULES = {"strange-dtype": find_strange_dtypes, "device-hop": find_device_hops, "batchless-input": find_batchless_inputs}
