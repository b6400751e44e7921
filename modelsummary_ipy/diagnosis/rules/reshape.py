"""The rule that finds a ``view`` or ``reshape`` where a transpose was meant."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.call_arguments import Size
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.reshape_fixes import write_reshape_fix
from modelsummary_ipy.diagnosis.torch_names import REDUCTIONS, RESHAPES
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call

_JOINS = frozenset({"cat", "concat"})
_EDGES = _JOINS | {"pad", "narrow", "ZeroPad2d", "ConstantPad2d", "as_strided", "unfold", "roll"}


def find_swaps(evidence: Evidence) -> Iterator[Flag]:
    """Find a ``view`` whose output has the shape of a transpose but the elements in the old order.

    Finds ``(B, T, C)`` viewed as ``(B, C, T)``, channels viewed as last, the layers of a state viewed as part
    of the batch: at sizes that do not divide each other they cut across dims. Leaves alone every regrouping that keeps
    the order (heads split off, windows cut, axes merged), and views that skew scores between a pad and a cut.
    """
    carved = {finding.call for finding in evidence.story.axis_findings if finding.kind == "carved"}
    swapped = {finding.call for finding in evidence.story.axis_findings if finding.kind == "swapped"}
    for step in evidence.flow.steps:
        if step.type_name not in RESHAPES or not step.inputs or not step.outputs:
            continue
        before, after = step.inputs[0].shape, step.outputs[0].shape
        if (len(before) < 2 and step.index not in carved) or len(after) < 2 or before == after:
            continue
        frames = before[0] > 1 and after[0] > before[0] and after[0] % before[0] == 0  # (B, C, T, …) as (B·T, C, …)
        is_undone = len(before) == len(after) > 2  # heads folded into the batch
        frames = frames and len(before) == len(after) + 1
        # Channels of all samples as rows: (B, C, H, W) as (C, -1). The pixels of a map as rows: the same as (-1, C).
        of_channels = len(before) > 2 == len(after) and after[0] == before[1] and evidence.moving_out(step) == (1,)
        is_plain = (
            is_undone
            or frames
            or of_channels
            or (len(before) == 4 and len(after) == 2 and after[1] == before[1])
            or not _folds(evidence, step)
            or _unfolds_crosswise(evidence, step)
        )
        if step.index in carved and not of_channels and _is_of_several(evidence, step):
            message = f"{step.type_name} of {write_size(before)} made {after[0]} rows, {write_size(after)}: each is of "
            message += f"parts of several of the {before[0]} samples"
            fix = f"{step.type_name}(x.size(0), {after[0]}, -1) keeps the samples apart"
            yield evidence.flag("reshape-swap", "warning", step, message, fix, "rows", before=before, after=after)
        elif step.index in carved and is_plain and not _is_skew(evidence, step):
            yield _write_swap(evidence, step, "at other sizes it cuts across dims")
        elif (
            (is_permuted(before, after) and _is_of_windows(evidence, step))
            or (step.index in swapped and not _is_skew(evidence, step))
            or (before == after[::-1] and 2 in before and "int" in step.inputs[0].dtype)
        ):  # a list of edges, (2, E) as (E, 2)
            yield _write_swap(evidence, step, "the dims changed their places")
        elif _is_undone(evidence, step):
            message = f"{step.type_name} of {write_size(before)} to {write_size(after)} is undone by the next line:"
            message += " nothing moved between"
            yield evidence.flag("reshape-swap", "warning", step, message, "a transpose between the two", "undone",
                before=before, after=after,
            )  # fmt: skip


def is_permuted(before: Size, after: Size) -> bool:
    """Return whether the new dims are the old ones in other places, one by one or merged, none of them alike or 1."""
    if len(set(before)) < len(before) or min(before) < 2 or len(before) < len(after):
        return False
    if _is_in_order(before, after):
        return False
    left, order = list(before), list[int]()
    for size in after:
        taken = next((part for count in (1, 2) for part in itertools.combinations(left, count)
            if math.prod(part) == size), None)  # fmt: skip
        if taken is None:
            return False
        order += taken
        left = [part for part in left if part not in taken]
    return not left and order != list(before)


def _is_in_order(before: Size, after: Size) -> bool:
    """Return whether each new dim is one old dim or several side by side, in their order."""
    left = list(before)
    for size in after:
        product = 1
        while left and product < size:
            product *= left.pop(0)
        if product != size:
            return False
    return not left


def _is_of_several(evidence: Evidence, step: Call) -> bool:
    """Return whether samples became so many rows, whatever their number, and a mean, say, is taken of each row."""
    before, after = step.inputs[0].shape, step.outputs[0].shape
    is_of_rows = len(after) == 2 and 1 < after[0] != before[0] and evidence.moving_out(step) == (1,)
    readers = evidence.flow.readers(step)
    return is_of_rows and evidence.moving_in(step) == (0,) and any(one.type_name in REDUCTIONS for one in readers)


def _is_of_windows(evidence: Evidence, step: Call) -> bool:
    """Return whether a step reads windows, whose dims the walk of meaning does not know."""
    maker = evidence.flow.producer(step.input_links[0])
    return maker is not None and maker.type_name in ("unfold", "Unfold")


def _is_undone(evidence: Evidence, step: Call) -> bool:
    """Return whether dims are split, and the next reshape ends no dim where the parts do: nothing was done between."""
    before, after = step.inputs[0].shape, step.outputs[0].shape
    readers = [call for call in evidence.flow.readers(step) if call.output_links != step.output_links]  # no copy
    is_split = len(after) > len(before) and len(readers) == 1 and min(after) > 1 and before[0] == after[0]
    if not is_split or readers[0].type_name not in RESHAPES | {"contiguous"}:
        return False
    last = readers[0] if readers[0].type_name in RESHAPES else next(iter(evidence.flow.readers(readers[0])), None)
    if last is None or last.type_name not in RESHAPES or last.parent != step.parent:
        return False  # what a layer makes a map of, and the next one rows again
    ends, parts, made = (
        set(itertools.accumulate(shape, operator.mul)) for shape in (before, after, last.outputs[0].shape)
    )
    return not made & (parts - ends)


def _folds(evidence: Evidence, step: Call) -> bool:
    """Return whether the batch is folded with other dims: that is another rule's."""
    moving, made = evidence.moving_in(step), evidence.moving_out(step)
    if not moving or not made:
        return True
    return evidence.factor_in(step, 0, moving[0]) != evidence.factor_out(step, 0, made[0])


def _unfolds_crosswise(evidence: Evidence, step: Call) -> bool:
    """Return whether rows of ``B·T`` are split into T and B, or rows of a sample are parted in another order."""
    after, made = step.outputs[0].shape, evidence.moving_out(step)
    if evidence.moving_in(step) != (0,) or made not in ((0,), (1,)):
        return False
    is_whole = made == (0,) or step.inputs[0].shape[0] == after[0] * after[1]
    return is_whole and evidence.factor_out(step, 0, made[0]) == 1


def _is_skew(evidence: Evidence, step: Call) -> bool:
    """Return whether a view is next to a padding, or to a cut that is viewed back: it shifts rows of scores."""
    maker = evidence.flow.producer(step.input_links[0])
    neighbours = [call for call in (maker, *evidence.flow.readers(step)) if call is not None]
    # A token that is put in front of what was viewed shifts no rows.
    joins = [call for call in neighbours if call is not maker and call.type_name in _JOINS]
    edges = [
        call for call in neighbours if call.type_name in _EDGES and call not in joins and _adds_an_edge(evidence, call)
    ]
    return bool(edges) or any(_cuts_and_views(evidence, call) for call in neighbours)


def _adds_an_edge(evidence: Evidence, call: Call) -> bool:
    """Return whether a step puts constants at the end of a tensor: a ``cat`` of two that come from inputs does not."""
    made = [link for link in call.input_links if link is not None and evidence.flow.sources(link)]
    return len(call.inputs) < 3 and len(made) < 2


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


def _write_swap(evidence: Evidence, step: Call, what: str) -> Flag:
    before, after = step.inputs[0].shape, step.outputs[0].shape
    message = f"{step.type_name} made {write_size(after)} of {write_size(before)}: {what}, but the elements kept their "
    message += "order"
    moved = " (a reshape refills row by row, a transpose moves elements)"
    return evidence.flag("reshape-swap", "warning", step, message + moved, write_reshape_fix(before, after),
        before=before, after=after,
    )  # fmt: skip


RULES = {"reshape-swap": find_swaps}
