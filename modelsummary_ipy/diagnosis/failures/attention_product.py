"""Attention as a function, ``F.scaled_dot_product_attention``: features, steps, batch and heads, masks."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, RESHAPE, Diagnosis, FailureContext, list_inside
from modelsummary_ipy.diagnosis.failures.dims_of_one import find_clashes
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, fix_call, fix_line
from modelsummary_ipy.diagnosis.failures.heads_order import explain_mask_of_steps
from modelsummary_ipy.diagnosis.failures.parameters import fix_creation
from modelsummary_ipy.diagnosis.failures.rewriting import Write, find_own_call, rewrite
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword
from modelsummary_ipy.diagnosis.failures.source_nodes import Arguments, put_in_brackets
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate


def explain_product(ctx: FailureContext) -> Diagnosis | None:
    """Explain scaled dot products whose queries, keys, values or mask have the wrong shape."""
    if len(ctx.operands) < 3:
        return None
    query, key, value = ctx.operands[:3]
    if query.rank < 2 or key.rank < 2 or value.rank < 2:
        return Diagnosis("attention expects [… , steps, features]", "at least 2 dims each", NOTHING, RESHAPE)
    if query.shape[-1] != key.shape[-1]:
        reason = f"the query has {query.shape[-1]} features, the key has {key.shape[-1]}: both need the same number"
        fix = fix_argument(ctx, "{}.transpose(-2, -1)", position=1) if key.shape[-2] == query.shape[-1] else NOTHING
        return Diagnosis(reason, f"key with last dim = {query.shape[-1]}", fix)
    if key.shape[-2] != value.shape[-2]:
        reason = f"{key.shape[-2]} keys and {value.shape[-2]} values: each key needs one value"
        return Diagnosis(reason, f"value of {key.shape[-2]} steps", NOTHING, RESHAPE)
    for name, x in (("key", key), ("value", value)):
        if find_clashes(query.shape[:-2], x.shape[:-2]):
            sizes = [write_shape(query.shape[:-2]), write_shape(x.shape[:-2])]
            reason = f"the query's batch and heads are {sizes[0]}, the {name}'s {sizes[1]}"
            grouped = x.rank == query.rank == 4 and query.shape[1] % x.shape[1] == 0 and query.shape[0] == x.shape[0]
            line = add_keyword(ctx.line, "scaled_dot_product_attention", "enable_gqa", "True") if grouped else ""
            return Diagnosis(reason, "equal batch and heads", fix_line(ctx, line), RESHAPE)
    if len(ctx.operands) > 3:
        mask = ctx.operands[3]
        wanted = (*query.shape[:-1], key.shape[-2])
        if find_clashes(mask.shape, wanted) or mask.rank > len(wanted):
            parted = query.rank == 4
            turned = explain_mask_of_steps(ctx, query.shape[1], query.shape[2], mask.shape) if parted else None
            if turned is not None:
                return turned
            reason = f"attn_mask is {write_shape(mask.shape)}: {wanted[-2]} queries attend to {wanted[-1]} keys"
            small = wanted[-2:]
            fix = _align_mask(ctx, mask.shape, wanted) or fix_creation(ctx, mask, small)
            expected = f"attn_mask that broadcasts to {write_shape(wanted)}"
            return Diagnosis(reason, expected, fix, candidates=ctx.change_input(mask, shape=small))
    return None


def _align_mask(ctx: FailureContext, shape: tuple[int, ...], wanted: tuple[int, ...]) -> Candidate:
    """Put dims of one into a mask of samples that has none for the heads: ``mask[:, None, None]``."""
    missing = len(wanted) - len(shape)
    if missing < 1 or shape[0] != wanted[0] or find_clashes(shape[1:], wanted[missing + 1 :]):
        return NOTHING
    change = ".unsqueeze(1)" if missing == 1 else f"[:{', None' * missing}]"

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
        if len(arguments) > 3:
            return [*arguments[:3], f"{arguments[3]}{change}", *arguments[4:]], keywords
        if "attn_mask" in keywords:
            return arguments, {**keywords, "attn_mask": f"{keywords['attn_mask']}{change}"}
        return None

    return fix_call(ctx, edit, "scaled_dot_product_attention")


#: By the layer that a line calls: what it calls the hint, and the mask.
_MASKS = {
    "MultiheadAttention": ("is_causal", "attn_mask"),
    "TransformerEncoderLayer": ("is_causal", "src_mask"),
    "TransformerEncoder": ("is_causal", "mask"),
    "TransformerDecoderLayer": ("tgt_is_causal", "tgt_mask"),
    "TransformerDecoder": ("tgt_is_causal", "tgt_mask"),
}


def explain_causal(ctx: FailureContext) -> Diagnosis | None:
    """Explain ``is_causal=True`` without a mask: to ``nn.MultiheadAttention`` it is a hint of what the mask is."""
    own = find_own_call(ctx)
    if "is_causal hint" not in ctx.failure.message or own.type_name not in _MASKS:
        return None
    hint, mask = _MASKS[own.type_name]
    inside = list_inside(ctx.trace, own.path)
    first = next((fact.settings["batch_first"] for fact in inside if "batch_first" in fact.settings), False)
    axis = 1 if first and len(own.inputs[0].shape) > 2 else 0

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Call) and node.args and hint in {word.arg for word in node.keywords}:
            x = put_in_brackets(write(node.args[0]))
            made = f"nn.Transformer.generate_square_subsequent_mask({x}.size({axis}), device={x}.device)"
            yield f"{write(node)[:-1].rstrip().rstrip(',')}, {mask}={made})"

    reason = f"{hint}=True only says what the mask is: {own.type_name} needs {mask} too"
    return Diagnosis(reason, f"a mask {mask}", rewrite(ctx.at_line_of(own), change, here=True))
