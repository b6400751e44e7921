"""Lists of tensors that are of one kind and of several lengths or sizes: padded, made alike, or run one by one."""

from __future__ import annotations

import ast

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, read_name, read_text, splice_node
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times


def explain_lengths(ctx: FailureContext) -> Diagnosis | None:
    """Sequences of several lengths are stacked."""
    shapes = [x.shape for x in ctx.operands]
    if ctx.function != "stack" or not all(shapes) or len({shape[1:] for shape in shapes}) != 1:
        return None
    if ctx.arguments.get("dim", 0) not in (0, 1):
        return None
    lengths = ", ".join(map(str, dict.fromkeys(shape[0] for shape in shapes)))
    items = _find_list(ctx.line, "stack")
    reason = f"{len(shapes)} sequences of lengths {lengths}: stack needs equal ones, pad_sequence pads to the longest"
    wanted = (len(shapes), max(shape[0] for shape in shapes), *shapes[0][1:])
    is_first = "True" if ctx.arguments.get("dim", 0) == 0 else "False"
    new = f"nn.utils.rnn.pad_sequence({items[1]}, batch_first={is_first})" if items is not None else ""
    fix = fix_line(ctx, splice_node(ctx.line, items[0], new) if items is not None else "")
    return Diagnosis(reason, write_shape(wanted), fix)


def explain_shrinking(ctx: FailureContext) -> Diagnosis | None:
    """Signals that convolutions without padding made shorter one by one are stacked: each is cut to the last."""
    shapes = [x.shape for x in ctx.operands]
    lengths = [shape[-1] for shape in shapes if len(shape) == 3]
    is_one_kind = len(lengths) == len(shapes) and len({shape[:2] for shape in shapes}) == 1
    if ctx.function != "stack" or not is_one_kind or lengths != sorted(lengths, reverse=True):
        return None
    items = _find_list(ctx.line, "stack")
    reason = f"{len(shapes)} signals of {', '.join(map(str, lengths))} steps: each was made from a shorter one"
    if items is None or not items[1].isidentifier():
        return Diagnosis(reason, f"{lengths[-1]} steps each")
    cut = f"[item[..., -{items[1]}[-1].size(-1):] for item in {items[1]}]"
    return Diagnosis(reason, f"{lengths[-1]} steps each", fix_line(ctx, splice_node(ctx.line, items[0].args[0], cut)))


def explain_crops(ctx: FailureContext, axes: list[int], along: int | None) -> Diagnosis | None:
    """Images of several sizes are joined along the batch, to be run at once, or maps of a list along the channels."""
    shapes = [x.shape for x in ctx.operands]
    if along not in (0, 1) or any(len(shape) != 4 for shape in shapes) or any(axis < 2 for axis in axes):
        return None
    if along and len({shape[1] for shape in shapes}) > 1:
        return None
    sizes = " and ".join(dict.fromkeys(write_times(shape[2:]) for shape in shapes))
    items = _find_list(ctx.line, ctx.function)
    reason = f"cat joins {'maps' if along else 'batches of images'} of one size, and these are {sizes}"
    expected = f"images of {write_times(shapes[0][2:])}, or a run for each"
    name = items[1] if items is not None else ""
    if items is None or not name.isidentifier():
        return None if along else Diagnosis(reason, expected)
    outer = [
        node for node in find_nodes(ctx.line, ast.Call) if len(node.args) == 1 and not node.keywords
        and ast.dump(node.args[0]) == ast.dump(items[0]) and ast.unparse(node.func).startswith("self.")
    ]  # fmt: skip
    called = ast.unparse(items[0].func)
    each = f"{called}([{ast.unparse(outer[0].func)}(item) for item in {name}])" if outer else ""
    rest = "".join(f", {ast.unparse(item)}" for item in (*items[0].args[1:], *items[0].keywords))
    alike = f"{called}([F.interpolate(item, size={name}[0].shape[2:]) for item in {name}]{rest})"
    fixes = [fix_line(ctx, splice_node(ctx.line, outer[0], each))] if outer and not along else []
    fixes.append(fix_line(ctx, splice_node(ctx.line, items[0], alike)))
    return Diagnosis(reason, expected, fixes)


def _find_list(line: str, function: str) -> tuple[ast.Call, str] | None:
    """Find the one call of a function in a line, and what it is given first."""
    calls = [node for node in find_nodes(line, ast.Call) if node.args and read_name(node.func) == function]
    return (calls[0], read_text(line, calls[0].args[0])) if len(calls) == 1 else None
