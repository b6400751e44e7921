"""Attention and Transformers: dtypes, embedding sizes, which axis is the batch, sequences of different lengths."""

from __future__ import annotations

from typing import Any

from modelsummary_ipy.diagnosis.failures.attention_heads import Heads, find_heads
from modelsummary_ipy.diagnosis.failures.attention_masks import explain_mask_dtype, explain_masks
from modelsummary_ipy.diagnosis.failures.attention_product import explain_causal, explain_product
from modelsummary_ipy.diagnosis.failures.attention_ranks import explain_vectors
from modelsummary_ipy.diagnosis.failures.context import NOTHING, RESHAPE, Diagnosis, FailureContext, name_owner
from modelsummary_ipy.diagnosis.failures.dtypes_devices import FLOATING, cast, find_promotion, retype_input
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_name,
    fix_call,
    fix_giver,
    fix_line,
    list_names,
    remake,
    set_everywhere,
)
from modelsummary_ipy.diagnosis.failures.indexing import explain_gathered
from modelsummary_ipy.diagnosis.failures.joins import explain_joined
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.source_edits import wrap_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import Arguments, put_in_brackets
from modelsummary_ipy.diagnosis.failures.transformers import fold_steps
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call


def explain_attention(ctx: FailureContext) -> Diagnosis | None:
    """Explain attention whose queries, keys, values or masks have the wrong shape, or that lacks a mask."""
    if (causal := explain_causal(ctx)) is not None:
        return causal
    if ctx.function == "scaled_dot_product_attention":
        return explain_product(ctx)
    call = find_heads(ctx)
    if call is None:
        return None
    operands = {x.spec.name: x for x in ctx.operands_of(call)}
    if "query" not in operands:
        return None
    heads = Heads(ctx, call, operands)
    return (
        _explain_dtype(heads)
        or explain_mask_dtype(heads)
        or _explain_features(heads)
        or _explain_batches(heads)
        or explain_masks(heads)
    )


def _explain_dtype(heads: Heads) -> Diagnosis | None:
    """The input has another dtype than the weights."""
    weights = [heads.ctx.trace.params[index].dtype for index in heads.fact.params]
    wanted = weights[0] if weights else heads.query.spec.dtype
    odd = next((p for p in (heads.query, heads.key, heads.value) if p.spec.dtype != wanted), None)
    if odd is not None and heads.call.autocast is None:
        reason = f"got {odd.spec.dtype}, {name_owner(heads.call)} has {wanted} weights"
        if odd.spec.dtype in FLOATING and (promoted := find_promotion(heads.ctx, odd, wanted)):
            return Diagnosis(f"{reason}: {promoted[0]}", f"{wanted}, as the weights are", promoted[1])
        fix = _change_all(heads.ctx, heads.call, cast(wanted))
        candidates = retype_input(heads.ctx, odd, wanted)
        return Diagnosis(reason, f"{wanted}, as the weights are", fix, candidates=candidates)
    return None


def _explain_features(heads: Heads) -> Diagnosis | None:
    embed = heads.settings.get("embed_dim")
    for name, x, setting in (("query", heads.query, "embed_dim"), ("key", heads.key, "kdim"),
                                ("value", heads.value, "vdim")):  # fmt: skip
        wanted = heads.settings.get(setting) or embed
        if not isinstance(wanted, int) or not x.shape or x.shape[-1] == wanted:
            continue
        expected = f"{name} with last dim = {wanted} ({setting})"
        for explain in (explain_joined, explain_gathered):
            if (found := explain(heads.ctx, x, wanted, expected)) is not None:
                return found
        reason = f"the {name} has {x.shape[-1]} features, {name_owner(heads.call)} expects {wanted}"
        if x.rank == 3 and x.shape[1] == wanted and _same_everywhere(heads):
            reason = f"dim 1 of the {name} has the {wanted} features, the last dim has {x.shape[2]}"
            fix = _change_all(heads.ctx, heads.call, ".transpose(1, 2)")
            return Diagnosis(reason, expected, fix)
        if x.rank == 3 and x.shape[1] == wanted and heads.value.shape == x.shape:
            reason = f"dim 1 of the {name} has the {wanted} features, the last dim has {x.shape[2]}"
            return Diagnosis(reason, expected, _turn_memory(heads, ".transpose(1, 2)"))
        if x.rank == 4 and x.shape[1] == wanted and _same_everywhere(heads):
            reason = f"{write_shape(x.shape)} is a feature map of {wanted} channels, attention reads steps of features"
            fix = _change_all(heads.ctx, heads.call, ".flatten(2).transpose(1, 2)")
            return Diagnosis(reason, expected, fix)
        count = heads.settings.get("num_heads", 1)
        changes: dict[str, Any] = {setting: x.shape[-1]}
        if setting == "kdim" and heads.value.shape[-1] == x.shape[-1]:  # one memory is both
            changes["vdim"] = x.shape[-1]
        if setting == "embed_dim":
            changes = {"embed_dim": x.shape[-1], "kdim": None, "vdim": None}
            if x.shape[-1] % count:
                changes["num_heads"] = max(n for n in range(1, count + 1) if x.shape[-1] % n == 0)
        search = RESHAPE if heads.ctx.flow.is_like_input(x.link, x.shape) else ()
        fixes = [remake(heads.ctx, heads.fact, **changes)]
        if "num_heads" in changes:  # rather another layer before than other heads
            fixes.insert(0, fix_giver(heads.ctx, x, wanted))
        return Diagnosis(reason, expected, fixes, search)
    return None


def _same_everywhere(heads: Heads) -> bool:
    return heads.query.shape == heads.key.shape == heads.value.shape


def _explain_batches(heads: Heads) -> Diagnosis | None:
    if (found := _explain_learned(heads) or fold_steps(heads.ctx, heads.call, heads.query)) is not None:
        return found
    memory = heads.key, heads.value
    if found := explain_vectors(heads.ctx, heads.call, heads.query, memory, batch_first=heads.batch_first):
        return found
    if heads.query.rank != 3 or heads.key.rank != 3:
        return None
    batch, steps = heads.axes
    if heads.query.shape[batch] != heads.key.shape[batch]:
        reason = f"batch_first={heads.batch_first} reads dim {batch} as the batch: the query has "
        reason += f"{heads.query.shape[batch]} there, the key {heads.key.shape[batch]}"
        fix = NOTHING
        if heads.query.shape[steps] == heads.key.shape[batch] and not heads.ctx.flow.sources(heads.query.link):
            name = name_member(heads.call.path)  # learned queries, repeated for each sample
            fix = fix_line(heads.ctx, wrap_argument(heads.ctx.line, name, "{}.transpose(0, 1)"))
        elif heads.key.shape[steps] == heads.query.shape[batch]:
            fix = _turn_memory(heads)
        elif heads.query.shape[steps] == heads.key.shape[steps]:
            outer = heads.find_outermost()
            fix = remake(heads.ctx, heads.fact, batch_first=not heads.batch_first)
            if outer != heads.call.path:
                fix = set_everywhere(heads.ctx, outer, "batch_first", value=not heads.batch_first)
        return Diagnosis(reason, f"one batch, {write_shape(heads.query.shape)}", fix, () if fix else RESHAPE)
    if heads.key.shape[steps] != heads.value.shape[steps]:
        reason = f"{heads.key.shape[steps]} keys and {heads.value.shape[steps]} values: each key needs one value"
        both = _read_memory(heads)
        return Diagnosis(reason, f"value of {heads.key.shape[steps]} steps", both, () if both else RESHAPE)
    return None


def _read_memory(heads: Heads) -> Candidate:
    """Read keys and values from one memory, where one of them is the query."""

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
        if len(arguments) < 3 or arguments[0] not in arguments[1:3]:
            return None
        memory = arguments[2] if arguments[1] == arguments[0] else arguments[1]
        return [arguments[0], memory, memory, *arguments[3:]], keywords

    return fix_call(heads.ctx, edit, name_member(heads.call.path))


def _turn_memory(heads: Heads, change: str = ".transpose(0, 1)") -> Candidate:
    """Put the batch of the keys, and of the values, where the layer, or the decoder around it, reads it."""
    path = heads.find_outermost()
    last = 3 if path == heads.call.path else 2

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments:
        turned = [f"{put_in_brackets(text)}{change}" for text in arguments[1:last]]
        words = {
            name: f"{put_in_brackets(text)}{change}" if name in ("key", "value", "memory") else text
            for name, text in keywords.items()
        }
        return [*arguments[:1], *turned, *arguments[last:]], words

    return fix_call(heads.ctx, edit, *list_names(heads.ctx, path))


def _explain_learned(heads: Heads) -> Diagnosis | None:
    """Learned queries have no batch, or one of 1, and the keys have that of the input."""
    batch = heads.axes[0]
    if heads.key.rank != 3 or heads.ctx.flow.sources(heads.query.link):
        return None
    whole = heads.query.rank == 3
    if heads.query.rank not in (2, 3) or (whole and heads.query.shape[batch] != 1) or heads.key.shape[batch] == 1:
        return None

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
        if len(arguments) < 2:
            return None
        name = find_name(arguments[1])
        sizes = ", ".join(f"{name}.size({batch})" if axis == batch else "-1" for axis in range(3))
        first = arguments[0] if whole else f"{arguments[0]}.unsqueeze({batch})"
        return ([f"{first}.expand({sizes})", *arguments[1:]], keywords) if name else None

    reason = f"the query {write_shape(heads.query.shape)} has no batch, the keys {write_shape(heads.key.shape)} have "
    reason += f"{heads.key.shape[batch]}: it is repeated for each sample"
    fix = fix_call(heads.ctx, edit, name_member(heads.call.path))
    return Diagnosis(reason, "one batch in both", fix, () if fix else RESHAPE)


def _change_all(ctx: FailureContext, call: Call, change: str) -> Candidate:
    """Change query, key and value where the line passes them on: ``"self.attn(x.float(), x.float(), x.float())"``."""

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments:
        return [f"{text}{change}" for text in arguments[:3]] + arguments[3:], keywords

    return fix_call(ctx, edit, name_member(call.path))
