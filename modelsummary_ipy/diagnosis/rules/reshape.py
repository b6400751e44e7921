"""The rule that finds a ``view`` or ``reshape`` where a transpose was meant."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

from modelsummary_ipy.diagnosis.call_arguments import Size
from modelsummary_ipy.diagnosis.formatting import write_size, write_times
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.reshape_fixes import write_reshape_fix
from modelsummary_ipy.diagnosis.torch_names import RESHAPES
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Severity

_EDGES = frozenset({"pad", "cat", "concat", "narrow", "ZeroPad2d", "ConstantPad2d", "as_strided", "unfold", "roll"})
#: Dims on both sides together, above which it is not clear what was meant.
_MOST_DIMS = 12


def find_swaps(evidence: Evidence) -> Iterator[Flag]:
    """Find a ``view`` whose output has the shape of a transpose but the elements in the old order.

    Finds ``(B, T, C)`` viewed as ``(B, C, T)``, channels viewed as last, the layers of a state viewed as part
    of the batch. Leaves alone every regrouping that keeps the order (heads split off, windows cut, axes merged), and
    sizes that are a swap only by chance: one trace at another size shows it; views that skew scores between a pad and a
    cut.
    """
    carved = {finding.call for finding in evidence.story.axis_findings if finding.kind == "carved"}
    for step in evidence.flow.steps:
        if step.type_name not in RESHAPES or not step.inputs or not step.outputs:
            continue
        before, after = step.inputs[0].shape, step.outputs[0].shape
        if len(before) < 2 or len(after) < 2 or before == after:
            continue
        if _mixes_samples(evidence, step):
            yield _write_swap(evidence, step, "the rows mix several samples", "warning")
            continue
        swap = _find_swap_within(evidence, step)
        if _is_skew(evidence, step):
            continue
        frames = before[0] > 1 and after[0] > before[0] and after[0] % before[0] == 0  # (B, C, T, …) as (B·T, C, …)
        is_undone = len(before) == len(after) > 2  # heads folded into the batch
        frames = frames and len(before) == len(after) + 1
        is_plain = is_undone or frames or not _folds(evidence, step) or _unfolds_crosswise(evidence, step)
        if step.index in carved and is_plain:
            yield _write_swap(evidence, step, "at other sizes it cuts across dims", "warning")
            continue
        if swap is None:
            continue
        severity = _judge(evidence, step, *swap)
        if severity is not None:
            yield _write_swap(evidence, step, f"{write_times(swap[0])} became {write_times(swap[1])}", severity)


def _folds(evidence: Evidence, step: Call) -> bool:
    """Return whether the batch is folded with other dims: that is another rule's."""
    moving, made = evidence.moving_in(step), evidence.moving_out(step)
    if not moving or not made:
        return True
    return evidence.factor_in(step, 0, moving[0]) != evidence.factor_out(step, 0, made[0])


def _unfolds_crosswise(evidence: Evidence, step: Call) -> bool:
    """Return whether rows of ``B·T`` are split into T and B, or rows of ``T·B`` into B and T."""
    after, made = step.outputs[0].shape, evidence.moving_out(step)
    if evidence.moving_in(step) != (0,) or made not in ((0,), (1,)):
        return False
    return evidence.factor_out(step, 0, made[0]) == 1 and step.inputs[0].shape[0] == after[0] * after[1]


def _find_swap_within(evidence: Evidence, step: Call) -> tuple[Size, Size] | None:
    """Find a swap among the dims of one sample: the batch is checked by other rules."""
    moving = evidence.moving_in(step)
    at = moving[0] if moving else 0
    return find_swap(step.inputs[0].shape, step.outputs[0].shape, at)


def _is_skew(evidence: Evidence, step: Call) -> bool:
    """Return whether a view is next to a padding, or to a cut that is viewed back: it shifts rows of scores."""
    maker = evidence.flow.producer(step.input_links[0])
    neighbours = [call for call in (maker, *evidence.flow.readers(step)) if call is not None]
    edges = [call for call in neighbours if call.type_name in _EDGES and len(call.inputs) < 3]
    return bool(edges) or any(_cuts_and_views(evidence, call) for call in neighbours)


def _cuts_and_views(evidence: Evidence, call: Call) -> bool:
    """Return whether an index cuts a dim, ``x[:, 1:]``, between two views, or one row off."""
    before, after = call.inputs[0].shape if call.inputs else (), call.outputs[0].shape if call.outputs else ()
    if call.type_name != "getitem" or len(before) != len(after):
        return False
    cuts = [old - new for old, new in zip(before, after, strict=True) if old != new]
    maker = evidence.flow.producer(call.input_links[0])
    is_between = maker is not None and maker.type_name in RESHAPES
    is_between = is_between and any(reader.type_name in RESHAPES for reader in evidence.flow.readers(call))
    return cuts == [1] or (len(cuts) == 1 and is_between)


def _mixes_samples(evidence: Evidence, step: Call) -> bool:
    """Return whether the batch changed places with the dims before it, one row per sample before and after."""
    moving, made = evidence.moving_in(step), evidence.moving_out(step)
    if not moving or not made or len(moving) > 1 or len(made) > 1:
        return False
    if evidence.factor_in(step, 0, moving[0]) != 1 or evidence.factor_out(step, 0, made[0]) != 1:
        return False
    return math.prod(step.inputs[0].shape[: moving[0]]) != math.prod(step.outputs[0].shape[: made[0]])


def find_swap(before: Size, after: Size, batch: int | None = None) -> tuple[Size, Size] | None:
    """Find the dims that a reshape seems to swap: the sizes of a transpose, merged or split at most.

    Args:
        before, after: Shapes of input and output.
        batch: A dim of the input; dims that are regrouped with it are left alone.

    Returns:
        The sizes that changed places, before and after, without what kept its place; ``None`` if nothing did.

    Example:
        >>> find_swap((8, 20, 64), (8, 64, 20))
        ((20, 64), (64, 20))
        >>> find_swap((8, 64, 4, 4), (8, 16, 64))
        ((64, 4, 4), (4, 4, 64))
        >>> find_swap((8, 20, 64), (8, 20, 4, 16)) is None
        True
    """
    start = 0
    for first, second in _groups(before, after):
        start += len(first)
        if batch is not None and start - len(first) <= batch < start:
            continue
        one = tuple(size for size in first if size != 1)
        two = tuple(size for size in second if size != 1)
        if len(one) < 2 or len(two) < 2 or len(one) + len(two) > _MOST_DIMS:
            continue
        found = _match(two, one)
        if found is not None:
            return found, two
        found = _match(one, two)
        if found is not None:
            return one, found
    return None


def _groups(before: Size, after: Size) -> Iterator[tuple[Size, Size]]:
    """Split two sizes at the places where both have a cut."""
    i = j = 0
    while i < len(before) and j < len(after):
        first, second = [before[i]], [after[j]]
        i, j = i + 1, j + 1
        while math.prod(first) != math.prod(second):
            if math.prod(first) < math.prod(second):
                if i >= len(before):
                    return
                first.append(before[i])
                i += 1
            else:
                if j >= len(after):
                    return
                second.append(after[j])
                j += 1
        yield tuple(first), tuple(second)


def _match(fine: Size, coarse: Size) -> Size | None:
    """Split the dims of ``coarse`` so that it has the sizes of ``fine`` in another order; ``None`` if that can't be."""
    for order in _assign(fine, coarse, tuple(range(len(fine)))):
        split = tuple(fine[place] for place in order)
        if split != fine:
            return split
    return None


def _assign(fine: Size, coarse: Size, left: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Deal the places of ``fine`` out to the dims of ``coarse``, each a product of what it gets, in order."""
    if not coarse:
        if not left:
            yield ()
        return
    for count in range(1, len(left) - len(coarse) + 2):
        for places in itertools.combinations(left, count):
            if math.prod(fine[place] for place in places) == coarse[0]:
                rest = tuple(place for place in left if place not in places)
                for others in _assign(fine, coarse[1:], rest):
                    yield (*places, *others)


def _is_regrouping(one: Size, two: Size) -> bool:
    """Return whether the sizes may as well come of splitting and merging in order, as ``(16, 8)`` of ``(8, 16)``."""
    cuts = sorted({*itertools.accumulate(one, int.__mul__), *itertools.accumulate(two, int.__mul__)})
    return all(b % a == 0 for a, b in itertools.pairwise(cuts))


def _judge(evidence: Evidence, step: Call, one: Size, two: Size) -> Severity | None:
    if not _is_regrouping(one, two):
        return "warning"
    others = [retrace for retrace in evidence.retraces if "B" not in retrace.sizes and retrace.trace.failure is None]
    for retrace in others:
        index = retrace.partners[step.index]
        other = None if index is None else retrace.trace.calls[index]
        if other is None or not other.outputs or other.inputs[0].shape == step.inputs[0].shape:
            continue
        swap = find_swap(other.inputs[0].shape, other.outputs[0].shape, (evidence.moving_in(step) or (0,))[0])
        if swap is None:
            return None
        if not _is_regrouping(*swap):
            return "warning"
    return "note"


def retrace_at_more_steps(evidence: Evidence) -> Iterator[Mapping[str, int]]:
    """Retrace at another length or another feature map where sizes may be a swap or a regrouping."""
    unsure = False
    for step in evidence.flow.steps:
        if step.type_name in RESHAPES and step.inputs and step.outputs and not unsure:
            swap = _find_swap_within(evidence, step)
            unsure = swap is not None and _is_regrouping(*swap)
    if not unsure:
        return
    names = {
        name: size
        for fact in evidence.inputs
        for name, size in zip(fact.dims, fact.spec.shape, strict=False)
        if name and name != "B" and name[0] not in "CF"
    }
    if names:
        yield {name: size + 1 for name, size in names.items()}
        yield {name: size * 2 for name, size in names.items()}


def _write_swap(evidence: Evidence, step: Call, what: str, severity: Severity) -> Flag:
    before, after = step.inputs[0].shape, step.outputs[0].shape
    message = (
        f"{step.type_name} made {write_size(after)} of {write_size(before)}: {what}, but the elements kept their order"
    )
    moved = " (a reshape refills row by row, a transpose moves elements)"
    return evidence.flag("reshape-swap", severity, step, message + moved, write_reshape_fix(before, after),
        before=before, after=after,
    )  # fmt: skip


RULES = {"reshape-swap": find_swaps}
RETRACES = {"reshape-swap": retrace_at_more_steps}
