"""Matrix products whose inner dims differ, with weights of layers, and with learned tensors."""

from __future__ import annotations

import ast
import functools
import operator
import re
from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.constructions import list_constructions
from modelsummary_ipy.diagnosis.failures.context import ANYWHERE, NOTHING, Diagnosis, FailureContext, Operand, dim_of
from modelsummary_ipy.diagnosis.failures.dims_of_one import find_clashes
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import cut_features
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_giver,
    fix_line,
    fix_made,
    fix_operand,
    name_input_size,
    place_line,
    read_arguments,
    read_line,
)
from modelsummary_ipy.diagnosis.failures.heads_order import explain_steps_of_heads
from modelsummary_ipy.diagnosis.failures.parameters import find_param, resize_param
from modelsummary_ipy.diagnosis.failures.recurrent_outputs import resize_recurrent
from modelsummary_ipy.diagnosis.failures.rewriting import write_statement
from modelsummary_ipy.diagnosis.failures.setters import find_module
from modelsummary_ipy.diagnosis.failures.source_edits import change_operation, swap_last_factors
from modelsummary_ipy.diagnosis.failures.source_nodes import parse_line, splice_node
from modelsummary_ipy.diagnosis.failures.statements import drop_remark, find_function
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.records.fixes import Candidate


def explain_matmul(ctx: FailureContext) -> Diagnosis | None:
    """Explain a matrix product whose inner dims differ, or a transpose of what is no matrix."""
    if ctx.function == "t":
        return _explain_turn(ctx)
    if ctx.function == "cdist" and len(ctx.operands) == 2:
        return _explain_distances(*ctx.operands, ctx)
    if ctx.function not in ("matmul", "mm", "bmm", "mv", "addmm", "baddbmm") or len(ctx.operands) < 2:
        return None
    left, right = ctx.operands[-2:]
    if not left.shape or not right.shape:
        return None
    if ctx.function in ("bmm", "baddbmm") and (left.rank != 3 or right.rank != 3):
        reason = f"bmm expects two 3-d tensors, got {write_shape(left.shape)} and {write_shape(right.shape)}"
        new = change_operation(ctx.line, ctx.function, lambda items: f"torch.matmul({items[0]}, {items[1]})")
        fixes = [*_add_axis(ctx, left, right), fix_line(ctx, new)]
        return Diagnosis(reason, "3 dims each", fixes, () if any(fixes) else ANYWHERE)
    if ctx.function == "mm" and max(left.rank, right.rank) > 2:
        reason = f"mm multiplies two matrices, got {write_shape(left.shape)} and {write_shape(right.shape)}"
        new = change_operation(ctx.line, "mm", lambda items: f"torch.matmul({items[0]}, {items[1]})")
        return Diagnosis(reason, "2 dims each", fix_line(ctx, new))
    inner_left, inner_right = left.shape[-1], right.shape[-2] if right.rank > 1 else right.shape[-1]
    if inner_left == inner_right:
        if not find_clashes(left.shape[:-2], right.shape[:-2]):
            return None
        reason = f"the batches {write_shape(left.shape[:-2])} and {write_shape(right.shape[:-2])} differ"
        groups, odd = divmod(left.shape[1], right.shape[1]) if left.rank == right.rank == 4 else (0, 1)
        if groups > 1 and not odd and right.shape[1] > 1:
            shared = fix_operand(ctx, 1, f"{{}}.repeat_interleave({groups}, 1)")
            reason += f": each of {right.shape[1]} heads of keys and values is for {groups} of the queries'"
            return Diagnosis(reason, "equal leading dims", shared, ANYWHERE)
        if left.rank == right.rank == 4 and left.shape[0] == right.shape[0]:
            if (turned := explain_steps_of_heads(ctx, left.shape, right.shape)) is not None:
                return turned
            return Diagnosis(reason, "equal leading dims", _move_heads(ctx, right), ANYWHERE)
        words, fixes = fit_learned(ctx, left, right) or fit_learned(ctx, right, left) or ("", [])
        return Diagnosis(reason + words, "equal leading dims", fixes, () if "no batch" in words else ANYWHERE)
    return _explain_inner(ctx, left, right, inner_left, inner_right)


def _move_heads(ctx: FailureContext, right: Operand) -> Candidate:
    """Bring the heads of keys or values in front of their steps, as those of the queries are."""
    maker = ctx.flow.producer(right.link)
    if maker is not None and maker.type_name == "transpose" and maker.source == ctx.call.source:
        before = replace(ctx, call=maker).earlier
        line = change_operation(
            ctx.line, "transpose", lambda items: [f"{items[0]}.transpose(1, 2)", *items[1:]], before
        )
        return fix_line(ctx, line)
    return fix_operand(ctx, 1, "{}.transpose(1, 2)")


def _explain_distances(left: Operand, right: Operand, ctx: FailureContext) -> Diagnosis | None:
    """The vectors that distances are between have different lengths."""
    sizes = left.shape[-1:] + right.shape[-1:]
    if len(sizes) < 2 or sizes[0] == sizes[1]:
        return None
    fixes = []
    for x, size in ((right, sizes[0]), (left, sizes[1])):
        param = find_param(ctx, x) if not ctx.flow.sources(x.link) else None
        own = resize_param(ctx, replace(x, param=param), [-1], size)
        fixes.append(own or fix_giver(ctx, x, size))
    reason = f"the distances are between vectors of {sizes[0]} and of {sizes[1]} numbers"
    return Diagnosis(reason, "equal last dims", fixes)


def _explain_turn(ctx: FailureContext) -> Diagnosis | None:
    """Explain ``t()`` of a tensor of more than two dims; a product of matrices around it is one of batches too."""
    x = ctx.operands[0] if ctx.operands else None
    if x is None or x.rank < 3:
        return None
    reason = f"t() swaps the two dims of a matrix, {write_shape(x.shape)} has {x.rank}: the last two are meant"
    new = change_operation(ctx.line, "t", lambda items: f"{items[0]}.transpose(-2, -1)")
    product = change_operation(new, "mm", lambda items: f"torch.matmul({items[0]}, {items[1]})")
    return Diagnosis(reason, "at most 2 dims", fix_line(ctx, product or new))


def _add_axis(ctx: FailureContext, left: Operand, right: Operand) -> list[Candidate]:
    """Make a matrix of one row or column of each sample's vector: weights that pool steps, a query beside keys."""
    last = len(ctx.operands) - 1
    if left.shape[0] != right.shape[0]:
        return []
    if left.rank == 3 and right.rank == 2 and left.shape[2] == right.shape[1]:
        column = fix_operand(ctx, last, "{}.unsqueeze(-1)")
        return [fix_operand(ctx, last, "{}.unsqueeze(-1)", "{}.squeeze(-1)"), column]
    if left.rank == 2 and right.rank == 3 and left.shape[1] == right.shape[1]:
        row = fix_operand(ctx, last - 1, "{}.unsqueeze(1)")
        maker = ctx.flow.producer(left.link)
        weighs = maker is not None and maker.type_name in ("softmax", "Softmax", "sigmoid", "div")
        vector = fix_operand(ctx, last - 1, "{}.unsqueeze(1)", "{}.squeeze(1)")
        return [vector, row] if weighs else [row, vector]
    if left.rank == 2 and right.rank == 3 and left.shape[1] == right.shape[2]:
        new = change_operation(ctx.line, ctx.function, lambda items: f"torch.bmm({items[1]}, {items[0]}.unsqueeze(-1))")
        return [fix_line(ctx, new)]
    return []


_TURNS = frozenset({"t", "transpose", "swapaxes", "adjoint", "T", "mT"})


def _turn_square(ctx: FailureContext, left: Operand, right: Operand) -> Candidate:
    """Write a square matrix in front: nodes by nodes before their features, a transform before its points."""
    is_square = left.rank == right.rank > 1 and right.shape[-1] == right.shape[-2] == left.shape[-2]
    if not is_square or right.param is not None:
        return NOTHING
    return fix_line(ctx, change_operation(ctx.line, ctx.call.type_name, lambda items: items[::-1], ctx.earlier))


def _explain_inner(ctx: FailureContext, left: Operand, right: Operand, inner_left: int, inner_right: int) -> Diagnosis:
    expected = f"{inner_left} in dim {max(right.rank - 2, 0)} of the second tensor"
    last = len(ctx.operands) - 1
    sides = [write_times(x.shape[-2:]) for x in (left, right)]
    reason = f"[{sides[0]}] @ [{sides[1]}]: the inner {inner_left} and {inner_right} differ"
    if left.rank == right.rank == 4 and right.shape[1:3] == (inner_left, left.shape[1]):
        reason += f"; {write_shape(right.shape)} has its {left.shape[1]} heads behind the steps"
        return Diagnosis(reason, expected, _move_heads(ctx, right))
    if left.rank == right.rank == 3 and right.shape[:2] == (inner_left, left.shape[0]):
        reason += f"; {write_shape(right.shape)} has its steps first, {write_shape(left.shape)} the batch"
        return Diagnosis(reason, expected, fix_operand(ctx, last, "{}.transpose(0, 1)"))
    if swapped := _turn_square(ctx, left, right):
        reason += f"; the other way round it is [{sides[1]}] @ [{sides[0]}]"
        first = fix_operand(ctx, last - 1, "{}.transpose(-2, -1)") if left.shape[-2] == inner_right else NOTHING
        return Diagnosis(reason, expected, [swapped, first])
    if is_layers_weight(ctx, right) and right.shape[-1] == inner_left and not ctx.earlier:
        reason += f"; a Linear's weight is [out, in]: transposed, it has {inner_left} there"
        return Diagnosis(reason, expected, [turn_weights(ctx), fix_operand(ctx, last, "{}.t()")])
    if right.param is not None and right.rank == 2 and inner_right == 1 and left.rank < 4:
        reason += f"; {write_shape(left.shape)} has one number for each, and no dim of one feature"
        return Diagnosis(reason, "1 in the last dim", fix_operand(ctx, last - 1, "{}.unsqueeze(-1)"))
    if left.rank == right.rank == 2 and right.shape[1] == left.shape[0] and left.param is not None is not right.param:
        swapped = fix_line(ctx, change_operation(ctx.line, ctx.call.type_name, lambda items: items[::-1], ctx.earlier))
        reason += f"; the other way round it is [{sides[1]}] @ [{sides[0]}]"
        return Diagnosis(reason, expected, swapped)
    is_last = right.param is not None and not ctx.earlier and right.shape[-1] != inner_left
    chain = fix_line(ctx, swap_last_factors(ctx.line)) if is_last else NOTHING
    if chain:
        return Diagnosis(f"{reason}; of three factors the weight is multiplied last", expected, chain)
    turner = ctx.flow.producer(right.link)
    if turner is not None and turner.type_name == "T" and right.rank > 2:
        reason += f"; .T turns all dims of {write_shape(turner.inputs[0].shape)}, .mT the last two"
        line = re.sub(r"\.T\b", ".mT", read_line(ctx, turner.source))
        return Diagnosis(reason, expected, place_line(ctx, turner, line))
    if turner is not None and turner.type_name in ("transpose", "swapaxes") and right.rank > 2:
        given, whole = [ctx.flow.setting(turner, name) for name in ("dim0", "dim1")], turner.inputs[0].shape
        if 0 in given and whole[-1] == inner_left and left.shape[:-2] in ((), whole[:-2]):
            reason += f"; transpose({given[0]}, {given[1]}) moves the batch of {write_shape(whole)}"
            return Diagnosis(reason, expected, fix_made(ctx, turner, lambda items: [items[0], "-2", "-1"]))
    if right.rank > 1 and right.shape[-1] == inner_left:
        turn = "{}.t()" if right.rank == 2 and right.param is not None else "{}.transpose(-2, -1)"
        reason += f"; transposed, the second has {inner_left} there"
        return Diagnosis(reason, expected, fix_operand(ctx, last, turn))
    if left.rank > 1 and left.shape[-2] == inner_right:
        reason += f"; transposed, the first has {inner_right} there"
        return Diagnosis(reason, expected, fix_operand(ctx, last - 1, "{}.transpose(-2, -1)"))
    if (cut := cut_features(ctx, right, inner_left)) is not None:
        call, fix = cut
        reason += (
            f"; {call.type_name}() cuts dim {dict(call.arguments).get('dim', 0)} of {write_shape(call.inputs[0].shape)}"
        )
        return Diagnosis(reason, expected, fix)
    turned = ctx.flow.producer(right.link)
    if turned is not None and turned.type_name in _TURNS and turned.inputs[0].shape[-1:] == (inner_right,):
        right = replace(right, spec=turned.inputs[0], link=turned.input_links[0], param=turned.input_params[0])
    fixes = [fix_giver(ctx, right, inner_left), fix_giver(ctx, left, inner_right)]
    if right.param is not None:  # a table's weight may be shared
        fixes.append(resize_recurrent(ctx, left, inner_right))
    if right.param is not None and right.rank in (1, 2) and right.shape[-right.rank] == inner_right:
        fixes.insert(0, resize_param(ctx, right, [-right.rank], inner_left))
    return Diagnosis(reason, expected, fixes, () if any(fixes) else ANYWHERE, (dim_of(-1, -2), inner_right))


def is_layers_weight(ctx: FailureContext, x: Operand) -> bool:
    """Return whether a tensor is the weight of a Linear."""
    names = ctx.trace.params[x.param].names if x.param is not None else ()
    owner = find_module(ctx.trace, names[0].rpartition(".")[0]) if names else None
    return owner is not None and owner.type_name == "Linear" and names[0].endswith("weight")


def turn_weights(ctx: FailureContext) -> Candidate:
    """Transpose the last factor of each product of the function that is written as the failing one is.

    ``x @ w["fc1.weight"]`` and ``x @ w["fc2.weight"]`` are written alike: one of them may be square, and run.

    Returns:
        The changed statements; nothing if one is written alone.
    """
    source, own = ctx.failure.source, _find_factors(ctx.line)
    function = find_function(source) if source is not None else None
    if source is None or function is None or len(own) != 1:
        return NOTHING
    statements = {}
    for node in ast.walk(function):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
            statement = ctx.read(source._replace(line=node.lineno))
            if statement is not None:
                statements[statement.first] = statement
    found = []
    for _, statement in sorted(statements.items()):
        line = drop_remark(statement.text)
        for factor in reversed(_find_factors(line)):
            if _write_kind(factor) == _write_kind(own[0]):
                line = splice_node(line, factor, f"{ast.get_source_segment(line, factor)}.t()")
        found.append(write_statement(ctx, statement, line))
    changed = [item for item in found if item]
    return functools.reduce(operator.add, changed) if len(changed) > 1 else NOTHING


def _find_factors(line: str) -> list[ast.expr]:
    """List the last factors of the products of a line that name a weight: ``w["fc1.weight"]``, ``self.fc1.weight``."""
    tree = parse_line(line)
    products = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp)] if tree is not None else []
    found = [node.right for node in products if isinstance(node.op, ast.MatMult)]
    return sorted(
        (node for node in found if isinstance(node, (ast.Subscript, ast.Attribute)) and "weight" in ast.unparse(node)),
        key=lambda node: (node.lineno, node.col_offset),
    )


def _write_kind(node: ast.expr) -> str:
    """Write how a weight is named, without which: ``"w[]"``, ``"self..weight"``."""
    if isinstance(node, ast.Subscript):
        return f"{ast.unparse(node.value)}[]"
    parts = ast.unparse(node).split(".")
    return f"{parts[0]}..{parts[-1]}"


def fit_learned(ctx: FailureContext, x: Operand, other: Operand) -> tuple[str, list[Candidate]] | None:
    """Give a tensor that was made of a parameter alone the batch of another, or the parameter the other's count.

    Returns:
        Why, in words that follow the reason, and the fixes; ``None`` without any.
    """
    param = find_param(ctx, x)
    axes = find_clashes(x.shape[:-2], other.shape[:-2])
    if param is None or ctx.flow.sources(x.link) or len(axes) != 1:
        return None
    fact, axis = ctx.trace.params[param], axes[0] - 2
    had, came = x.shape[axis], other.shape[axis]
    batches = {given.spec.shape[0] for given in ctx.trace.inputs if given.spec.shape}
    if x.shape == fact.shape and other.rank == x.rank == -axis and came in batches and had > 1:
        words = f"; '{fact.names[0]}' {write_shape(fact.shape)} has no batch: a dim for its {had} goes into the other"
        found = [fix_operand(ctx, ctx.operands.index(other), "{}.unsqueeze(1)")]
    elif x.shape == fact.shape and had > 1:
        made = list_constructions(ctx, fact.names[0].rpartition(".")[0], had, came)
        found = [*made, resize_param(ctx, replace(x, param=param), [axis], came)]
        words = f"; '{fact.names[0]}' {write_shape(fact.shape)} is made for {had}, and {came} came"
    else:
        found = [repeat_learned(ctx, param, came // had) if came % had == 0 else NOTHING]
        words = f"; '{fact.names[0]}' {write_shape(fact.shape)} is repeated for each of {came // had} samples first"
    return (words, found) if any(found) else None


def repeat_learned(ctx: FailureContext, param: int, batch: int) -> Candidate:
    """Expand a parameter over the batch on the line that first hands it on: ``self.seed.expand(x.size(0), -1, -1)``.

    Returns:
        Nothing if it has no dim of 1 for the batch, or that line does not name it once.
    """
    fact = ctx.trace.params[param]
    inputs = ctx.trace.inputs
    first = next((call for call in ctx.trace.calls if param in call.input_params), None)
    if first is None or fact.shape[:1] != (1,) or len(fact.shape) < 2 or not inputs:
        return NOTHING
    if inputs[0].spec.shape[:1] != (batch,):
        return NOTHING
    there = ctx.at_line_of(first)
    given = zip(read_arguments(there), first.inputs, first.input_links, strict=False)
    beside = (text for text, spec, link in given if link is not None and spec.shape[:1] == (batch,))
    name = next((f"{text}.size(0)" for text in beside if text.isidentifier()), name_input_size(there, batch))
    text = f"self.{fact.names[0].rpartition('.')[2]}"
    expanded = f"{text}.expand({', '.join([name, *['-1'] * (len(fact.shape) - 1)])})"
    line, count = re.subn(rf"(?<![\w.]){re.escape(text)}\b(?![.(\[])", expanded, read_line(ctx, first.source))
    return place_line(ctx, first, line) if name and count == 1 else NOTHING
