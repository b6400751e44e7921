"""Attention that is told to be causal and is not given the mask that torch wants with it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.rewriting import Write, find_own_call, rewrite
from modelsummary_ipy.diagnosis.failures.source_nodes import put_in_brackets

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
    inside = [fact for fact in ctx.trace.modules if f"{fact.path}.".startswith(f"{own.path}.")]
    first = next((fact.settings["batch_first"] for fact in inside if "batch_first" in fact.settings), False)
    axis = 1 if first and len(own.inputs[0].shape) > 2 else 0

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Call) and node.args and hint in {word.arg for word in node.keywords}:
            x = put_in_brackets(write(node.args[0]))
            made = f"nn.Transformer.generate_square_subsequent_mask({x}.size({axis}), device={x}.device)"
            yield f"{write(node)[:-1].rstrip().rstrip(',')}, {mask}={made})"

    reason = f"{hint}=True only says what the mask is: {own.type_name} needs {mask} too"
    return Diagnosis(reason, f"a mask {mask}", rewrite(ctx.at_line_of(own), change, here=True))
