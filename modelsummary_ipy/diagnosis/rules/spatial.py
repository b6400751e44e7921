"""Rules for the spatial dims of a feature map: what grows it, what is left of it, where two halves do not meet."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from itertools import islice

from modelsummary_ipy.diagnosis.call_arguments import Size, argument
from modelsummary_ipy.diagnosis.formatting import write_times, write_window
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.narrow_gates import find_narrow_gates
from modelsummary_ipy.diagnosis.torch_names import (
    CATS,
    CONVOLUTIONS,
    POOLS,
    REDUCTIONS,
    TRANSPOSED_CONVOLUTIONS,
    UPSAMPLERS,
    spatial_rank,
)
from modelsummary_ipy.diagnosis.windows import Window, read_windows
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Severity

_CROPS = frozenset({"getitem", "narrow", "pad", "slice", "center_crop", "crop"})
_JOINS = CATS | {"add", "add_", "sub", "mul"}
_PLAIN_CONVOLUTIONS = CONVOLUTIONS - TRANSPOSED_CONVOLUTIONS
_SLIDING = _PLAIN_CONVOLUTIONS | names_of("pool")
#: What makes one number of a whole feature map.
_WHOLE = REDUCTIONS | names_of("adaptive pool")
#: A feature map this small was made to try the model out: what collapses is no finding about the model.
_TINY = 16


# -- grown ------------------------------------------------------------------------------------------------------------


def find_grown_maps(evidence: Evidence) -> Iterator[Flag]:
    """Find stride-1 convolutions that make the feature map larger.

    Finds ``Conv2d(1, 16, 3, padding=5)``: 256 becomes 264. Leaves alone transposed convolutions, whose job it is, and
    a feature map that is cropped later (causal nets pad and cut, FCN pads by 100 and crops at the end) or that a valid
    convolution takes back. An even kernel that grows it by one, and a growth back to a size it had, are a note.
    """
    flow = evidence.flow
    for step in flow.steps:
        windows = read_convolution(flow, step)
        if not windows:
            continue
        rank = len(windows)
        before, after = step.inputs[0].shape[-rank:], step.outputs[0].shape[-rank:]
        grown = [axis for axis in range(rank) if after[axis] > before[axis]]
        if not grown or any(window.stride > 1 for window in windows) or is_cropped(flow, step, rank):
            continue
        even = all(windows[axis].extent % 2 == 0 and after[axis] == before[axis] + 1 for axis in grown)
        severity: Severity = "note" if even or _had_size(flow, step, after) else "warning"
        yield _write_growth(evidence, step, windows, severity)


def read_convolution(flow: Dataflow, step: Call) -> tuple[Window, ...]:
    """Return the windows of a plain convolution of a feature map, one per spatial dim; ``()`` for anything else.

    That is also a convolution of one weight with another, which merges two layers into one.
    """
    if step.type_name not in _PLAIN_CONVOLUTIONS or not step.inputs or not step.outputs:
        return ()
    if step.input_links[0] is not None and not any(flow.sources(link) for link in step.input_links):
        return ()
    if len(step.inputs[0].shape) < spatial_rank(step) + 1:
        return ()
    return _windows(flow, step)


def _windows(flow: Dataflow, step: Call) -> tuple[Window, ...]:
    """The windows of a convolution or a pool; ``()`` if one of them is unknown."""
    windows = read_windows(step, flow.trace.modules)
    known = tuple(window for window in windows if window is not None)
    return known if len(known) == len(windows) else ()


def is_cropped(flow: Dataflow, step: Call, rank: int) -> bool:
    """Return whether a later step cuts off what the convolution grew, or a valid one takes it back."""
    came, grown = step.inputs[0].shape[-rank:], step.outputs[0].shape[-rank:]
    for later in flow.after(step):
        if not later.outputs or not later.inputs:
            continue
        before, after = later.inputs[0].shape, later.outputs[0].shape
        if later.type_name in CONVOLUTIONS | POOLS and (before[-rank:], after[-rank:]) == (grown, came):
            return True
        if later.type_name not in _CROPS:
            continue
        if len(before) != len(after) or len(after) < rank:
            continue
        if any(new < old for old, new in zip(before[-rank:], after[-rank:], strict=True)):
            return True
    return False


def _had_size(flow: Dataflow, step: Call, after: Size) -> bool:
    """Return whether the feature map had the grown size somewhere before: a decoder that grows back."""
    rank = len(after)
    for earlier in flow.before(step.input_links[0]):
        for spec in (*earlier.inputs[:1], *earlier.outputs[:1]):
            if len(spec.shape) > rank and spec.shape[-rank:] == after:
                return True
    return False


def _write_growth(evidence: Evidence, step: Call, windows: tuple[Window, ...], severity: Severity) -> Flag:
    before, after = (spec.shape[-len(windows) :] for spec in (step.inputs[0], step.outputs[0]))
    kernel, padding = (
        write_window([window.kernel for window in windows]),
        write_window([window.padding for window in windows]),
    )
    sizes = f"{write_times(before)} became {write_times(after)}"
    message = f"a stride-1 convolution grew the feature map: {sizes} (kernel {kernel}, padding {padding})"
    sides = [window.same_padding for window in windows]
    same = tuple(left for left, _ in sides)
    number = same[0] if len(set(same)) == 1 else same
    fix = f"padding={number if all(left == right for left, right in sides) else repr('same')} keeps the size"
    return evidence.flag("grown-map", severity, step, message, fix,
        before=before, after=after, kernel=tuple(window.kernel for window in windows),
        padding=tuple(window.padding for window in windows),
    )  # fmt: skip


# -- collapsed --------------------------------------------------------------------------------------------------------


def find_collapsed_maps(evidence: Evidence) -> Iterator[Flag]:
    """Find the first layer that slides a kernel over a feature map of which strides have left 1 × 1.

    Finds a deep backbone on an image of 32 × 32, a global pool that comes too early, and the ``16 // 16`` channels of a
    gate. Leaves alone what works on a globally pooled feature map (gates, pyramid pooling), kernels of 1, transposed
    convolutions, inputs that are 1 × 1 themselves; of a tiny input, where the feature map is grown again, and in a head
    for each of several scales, it is a note.
    """
    flow = evidence.flow
    for step in flow.steps:
        rank = spatial_rank(step)
        if rank < 2 or step.type_name not in _SLIDING or not step.inputs:
            continue
        kernel = [window.kernel for window in _windows(flow, step)]
        if math.prod(kernel) == 1 or len(step.inputs[0].shape) < rank + 1:
            continue
        if any(size != 1 for size in step.inputs[0].shape[-rank:]):
            continue
        first = _find_collapse(flow, step, rank) or _find_early_pool(evidence, step, rank)
        if first is None:
            continue
        entry = _entry_size(flow, rank)
        is_meant = any(later.type_name in UPSAMPLERS for later in flow.after(step)) or _is_of_one_scale(flow, step)
        severity: Severity = "warning" if min(entry, default=0) >= _TINY and not is_meant else "note"
        message = f"the feature map is {write_times((1,) * rank)} since {first.path or first.type_name}: a kernel of "
        message += f"{write_window(kernel)} reads one element and its own padding (the input is {write_times(entry)})"
        fix = "a larger input, or one stride fewer"
        yield evidence.flag("collapsed-map", severity, step, message, fix, kernel=tuple(kernel), entry=entry)
        break  # every layer after it sees the same
    yield from find_narrow_gates(evidence)


def _is_of_one_scale(flow: Dataflow, step: Call) -> bool:
    """Return whether a layer beside it in a list, of the same type, reads a larger map that does not lead to this."""
    before = {call.index for call in flow.before(step.input_links[0])}
    place = re.sub(r"\d+", "#", step.path)
    return any(
        other.type_name == step.type_name and other.path != step.path and re.sub(r"\d+", "#", other.path) == place
        and other.index not in before and other.inputs[0].shape[-1] > 1 for other in flow.steps
    )  # fmt: skip


def _find_collapse(flow: Dataflow, step: Call, rank: int) -> Call | None:
    """Walk back to the step that left 1 × 1 by its stride; ``None`` if the feature map was pooled to it, or came so."""
    link = step.input_links[0]
    while True:
        maker = flow.producer(link)
        if maker is None or not maker.inputs or not maker.outputs:
            return None
        if maker.type_name in _WHOLE or len(maker.inputs[0].shape) < rank + 1:
            return None
        before = maker.inputs[0].shape[-rank:]
        if len(maker.inputs[0].shape) != len(maker.outputs[0].shape):
            return None
        if any(size != 1 for size in before):
            return maker if _strides(flow, maker, before) else None
        link = maker.input_links[0]


def _find_early_pool(evidence: Evidence, step: Call, rank: int) -> Call | None:
    """Return the pool that left 1 × 1 before a kernel, where nothing behind it has a size: no gate and no pyramid."""
    flow = evidence.flow
    near = list(flow.walk_back(step.input_links[0], 4))
    pool = next((call for call in near if call.type_name in _WHOLE), None)
    if (
        pool is None
        or pool.inputs[0].shape[-rank:] == (1,) * rank
        or any(call.type_name in UPSAMPLERS for call in near)
    ):
        return None
    alike = [call for call in evidence.calls if call.source == step.source and call.type_name == step.type_name]
    later = [spec.shape[-rank:] for call in flow.after(step) for spec in call.outputs if len(spec.shape) == rank + 2]
    is_small = all(call.inputs[0].shape[-rank:] == (1,) * rank for call in alike if call.inputs)
    return pool if is_small and all(max(sizes) == 1 for sizes in later) else None


def _strides(flow: Dataflow, maker: Call, before: Size) -> bool:
    """Return whether a step made 1 × 1 by striding, not by a kernel as large as the feature map."""
    if maker.type_name not in CONVOLUTIONS and maker.type_name not in POOLS:
        return False
    windows = _windows(flow, maker)
    if max((window.stride for window in windows), default=1) < 2:
        return False
    return all(size <= 2 for size in before) or any(
        window.kernel < size for window, size in zip(windows, before, strict=True)
    )


def _entry_size(flow: Dataflow, rank: int) -> Size:
    """The spatial size of the model's largest feature map."""
    sizes = [fact.spec.shape[-rank:] for fact in flow.trace.inputs if len(fact.spec.shape) > rank]
    return max(sizes, key=math.prod, default=())


# -- odd --------------------------------------------------------------------------------------------------------------


def find_odd_maps(evidence: Evidence) -> Iterator[Flag]:
    """Find the step that halved an odd size which later, doubled, is combined with the odd size.

    It is a note where a crop, a padding or a resize corrects it: at such sizes border pixels are invented or lost.
    Leaves alone sizes that divide, and decoders that resize to the size of the skip connection.
    """
    flow = evidence.flow
    seen: set[int] = set()
    for step in flow.steps:
        if step.type_name not in _JOINS or len(step.inputs) < 2:
            continue
        for link in step.input_links:
            corrected = _find_correction(flow, flow.producer(link))
            if corrected is None:
                continue
            axis, size = corrected
            halver = _find_halver(flow, step, axis, size)
            if halver is not None and halver.index not in seen:
                seen.add(halver.index)
                made = halver.outputs[0].shape[axis]
                message = f"{size} was halved to {made} here; doubled again it is {2 * made}, then changed to {size}"
                fix = "an input size that is divisible by 2 as often as the feature map is halved"
                yield evidence.flag("odd-map", "note", halver, message, fix, "halved", size=size, made=made)
    yield from _find_unequal_ends(evidence)
    yield from _find_cut_enlargements(evidence)


def _find_cut_enlargements(evidence: Evidence) -> Iterator[Flag]:
    """Find what was enlarged and of which then a corner is kept, at most half of each side: the factor is too large."""
    for step in evidence.flow.steps:
        maker = evidence.flow.producer(step.input_links[0]) if step.input_links else None
        if maker is None or step.type_name not in _CROPS or maker.type_name not in UPSAMPLERS | {"interpolate"}:
            continue
        index = argument(step, "1", "index")
        is_corner = isinstance(index, tuple) and all(isinstance(part, slice) and not part.start for part in index)
        before, after = step.inputs[0].shape, step.outputs[0].shape
        is_much = len(before) == len(after) > 3 and all(2 * after[dim] <= before[dim] for dim in range(2, len(after)))
        if is_corner and is_much:
            message = f"enlarged to {write_times(before[2:])}, of which {write_times(after[2:])} in a corner are kept"
            fix = "a factor that gives the size that is needed"
            yield evidence.flag("odd-map", "warning", step, message, fix, "cut", before=before[2:], after=after[2:])


def _find_unequal_ends(evidence: Evidence) -> Iterator[Flag]:
    """Find the last enlarging layer of an autoencoder whose output is nearly as large as its input, and not quite."""
    if not evidence.calls:
        return
    flow, root = evidence.flow, evidence.calls[0]
    came = next((fact.spec.shape for fact in evidence.inputs if len(fact.spec.shape) > 2), ())
    if len(root.outputs) != 1 or root.output_links[0] is None or len(root.outputs[0].shape) != len(came):
        return
    ends = root.outputs[0].shape
    before = list(flow.before(root.output_links[0]))
    last = next((call for call in before if call.type_name in UPSAMPLERS), None)
    shrinks = any(
        call.type_name in _SLIDING and any(window.stride > 1 for window in _windows(flow, call)) for call in before
    )
    near = all(old / 2 < new < 2 * old for new, old in zip(ends[2:], came[2:], strict=True))
    if last is None or not shrinks or not near or ends[:2] != came[:2] or ends == came:
        return
    if any(call.type_name in _CROPS for call in before):
        return
    message = f"the input is {write_times(came[2:])}, the output {write_times(ends[2:])}: the layers that enlarge it do"
    message += " not give back what the strides took"
    fix = "padding and output_padding such that each doubles what one before halved"
    yield evidence.flag("odd-map", "warning", last, message, fix, "ends", before=came[2:], after=ends[2:])


def _find_correction(flow: Dataflow, maker: Call | None) -> tuple[int, int] | None:
    """Return ``(axis, odd size)`` if a step made a doubled feature map one larger or smaller."""
    if maker is None or maker.type_name not in _CROPS | {"interpolate"} or not maker.inputs or not maker.outputs:
        return None
    before, after = maker.inputs[0].shape, maker.outputs[0].shape
    if len(before) != len(after) or len(after) < 3:
        return None
    for axis in range(-1, -len(after) + 1, -1):
        if abs(after[axis] - before[axis]) == 1 and after[axis] % 2 == 1:
            doubled = any(
                earlier.type_name in UPSAMPLERS and earlier.inputs[0].shape[axis:][:1] == (before[axis] // 2,)
                for earlier in islice(flow.before(maker.input_links[0]), 8)
                if earlier.inputs and len(earlier.inputs[0].shape) == len(before)
            )
            return (axis, after[axis]) if doubled else None
    return None


def _find_halver(flow: Dataflow, join: Call, axis: int, size: int) -> Call | None:
    for link in join.input_links:
        for earlier in flow.before(link):
            if not earlier.inputs or not earlier.outputs or earlier.type_name not in CONVOLUTIONS | POOLS:
                continue
            before, after = earlier.inputs[0].shape, earlier.outputs[0].shape
            if (
                len(before) == len(after) >= -axis
                and before[axis] == size
                and after[axis] in (size // 2, size // 2 + 1)
            ):
                return earlier
    return None


RULES = {"grown-map": find_grown_maps, "collapsed-map": find_collapsed_maps, "odd-map": find_odd_maps}
