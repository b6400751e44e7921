"""Layers and stacks of Transformers as a whole: their batches, learned queries, and what an encoder layer takes."""

from __future__ import annotations

from functools import partial

from modelsummary_ipy.diagnosis.failures.context import (
    NOTHING,
    RESHAPE,
    Diagnosis,
    FailureContext,
    Operand,
    list_inside,
)
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, fix_call, fix_giver, fix_line, set_everywhere
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.source_edits import put_before, wrap_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import Arguments, read_call
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.trace import Call


def _find_outer(ctx: FailureContext, attention: Call) -> Call | None:
    """Return the call around an attention that the failing line made."""
    around = ctx.flow.around(attention)
    return next((call for call in around if call.source == ctx.failure.source or call.parent is None), None)


def explain_own_keys(ctx: FailureContext, attention: Call) -> Diagnosis | None:
    """A layer of an encoder was called as attention is, ``self.layer(h, h, h)``: its second argument is a mask."""
    outer = _find_outer(ctx, attention)
    if outer is None or outer.type_name not in ("TransformerEncoderLayer", "TransformerEncoder"):
        return None
    if outer.input_links[1:2] != outer.input_links[:1]:
        return None
    words = "(src, src_mask, src_key_padding_mask)" if outer.type_name.endswith("Layer") else "(src, mask)"
    reason = f"a {outer.type_name} takes {words}: the second argument is a mask, and the keys are its own"
    fix = fix_call(ctx, lambda arguments, keywords: (arguments[:1], keywords), name_member(outer.path))
    return Diagnosis(reason, "one sequence, and masks", fix)


def fold_steps(ctx: FailureContext, attention: Call, query: Operand) -> Diagnosis | None:
    """Sequences of each variable, or of each frame, run as one batch: their first two dims are folded and parted."""
    outer = _find_outer(ctx, attention)
    if outer is None or query.rank != 4 or not outer.type_name.startswith("TransformerEncoder"):
        return None
    text = next(iter(read_call(ctx.line, name_member(outer.path))[0]), "")
    name = text if text.isidentifier() else "tokens"
    if not text:
        return None
    parted = f"{{0}}.unflatten(0, {name}.shape[:2])"
    line = wrap_argument(ctx.line, name_member(outer.path), "{}.flatten(0, 1)", around=parted)
    if name != text:
        line = put_before(line.replace(f"({text}).flatten", "tokens.flatten", 1), f"tokens = {text}", name)
    reason = f"{write_shape(query.shape)} has 4 dims, attention reads [batch, steps, features]: the first two are one "
    reason += "batch"
    return Diagnosis(reason, "3 dims", fix_line(ctx, line))


def explain_transformer(ctx: FailureContext) -> Diagnosis | None:
    """Explain a Transformer whose decoder reads another batch than its encoder, and a mask of other pairs."""
    fact = ctx.fact
    if fact is not None and fact.type_name.startswith(("TransformerEncoder", "TransformerDecoder")):
        return _explain_mask(ctx, fact.type_name)
    if fact is None or fact.type_name != "Transformer" or len(ctx.operands) < 2:
        return None
    source, target = ctx.operands[:2]
    inside = list_inside(ctx.trace, ctx.call.path)
    first = next((module.settings["batch_first"] for module in inside if "batch_first" in module.settings), False)
    batch = 0 if first else 1
    if source.rank == 3 and (target.rank == 2 or target.shape[batch : batch + 1] == (1,)):
        return _explain_queries(ctx, source, target, batch)
    if source.rank != 3 or target.rank != 3:
        return None
    width = next((module.settings["embed_dim"] for module in inside if "embed_dim" in module.settings), 0)
    if source.shape[-1] != width or target.shape[-1] != width:
        return _explain_width(ctx, source, target, width)
    if source.shape[batch] == target.shape[batch]:
        return None
    reason = f"batch_first={bool(first)} reads dim {batch} as the batch: the source has {source.shape[batch]} there, "
    reason += f"the target {target.shape[batch]}"
    same = source.shape[1 - batch] == target.shape[1 - batch]
    fix = set_everywhere(ctx, ctx.call.path, "batch_first", value=True) if same and not first else NOTHING
    is_turned = source.shape[batch] == target.shape[1 - batch]
    turned = fix_argument(ctx, "{}.transpose(0, 1)", position=1) if is_turned else NOTHING
    return Diagnosis(reason, "one batch in both", [fix, turned], () if fix else RESHAPE)


def _explain_width(ctx: FailureContext, source: Operand, target: Operand, width: int) -> Diagnosis:
    """One of two sequences has other features: it was not embedded, as the other one was."""
    place, name = (0, "source") if source.shape[-1] != width else (1, "target")
    x, other = (source, target)[place], (target, source)[place]
    reason = f"the {name} has {x.shape[-1]} features, {ctx.owner} expects {width} (d_model)"
    fixes = []
    for call in ctx.flow.walk_back(other.link, 4):
        fact = ctx.flow.module_of(call)
        is_beside = call.path.rpartition(".")[0] == ctx.call.path.rpartition(".")[0]
        if is_beside and fact is not None and fact.settings.get("in_features") == x.shape[-1]:
            fixes.append(fix_argument(ctx, f"self.{name_member(call.path)}({{}})", position=place))
            reason += f": the other one was made by '{call.path}'"
            break
    return Diagnosis(reason, f"last dim = {width}", [*fixes, fix_giver(ctx, x, width)], RESHAPE)


def _explain_mask(ctx: FailureContext, kind: str) -> Diagnosis | None:
    """A mask of the tokens is given where one of pairs of tokens is expected, or it is of integers."""
    of_tokens = "src_key_padding_mask" if "Encoder" in kind else "tgt_key_padding_mask"
    arguments, keywords = read_call(ctx.line, name_member(ctx.call.path))
    place = 1 if "Encoder" in kind else 2
    x, masks = ctx.operands[0], [y for y in ctx.operands[1:] if y.rank == 2 and y.shape == ctx.operands[0].shape[:2]]
    if x.rank != 3 or len(masks) != 1:
        return None
    (mask,) = masks
    text = arguments[place] if len(arguments) > place else keywords.get(of_tokens, "")
    if not text or (len(arguments) <= place and mask.spec.dtype in ("bool", x.spec.dtype)):
        return None
    texts = [text]
    if mask.spec.dtype.startswith(("int", "uint")):  # of a tokenizer: 1 is a token; a mask of True hides
        texts = [f"({text} == 0)", f"{text}.bool()"]
        texts = texts[1:] if "pad" in text else texts
    reason = f"{write_shape(mask.shape)} is a mask of tokens, {of_tokens}, bool and True where a token is hidden"
    if len(arguments) > place:
        reason += f"; {'mask' if kind == 'TransformerEncoder' else 'src_mask'} is of pairs of tokens"
    if texts != [text]:
        reason += f", and it is {mask.spec.dtype}"
        reason += ": 1 is taken for a token, as of a tokenizer, and may be padding" if len(texts) > 1 else ""

    def edit(given: list[str], named: dict[str, str], text: str) -> Arguments:
        return given[:place], {**named, of_tokens: text}

    return Diagnosis(reason, "a mask of tokens", [fix_call(ctx, partial(edit, text=text)) for text in texts])


def _explain_queries(ctx: FailureContext, source: Operand, target: Operand, batch: int) -> Diagnosis:
    """A target without a batch, the learned queries of a detector, is to be repeated for every sample."""
    sizes = ", ".join(f"{{0}}.size({batch})" if axis == batch else "-1" for axis in range(3))

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
        if len(arguments) < 2:
            return None
        grown = f".unsqueeze({batch})" if target.rank == 2 else ""
        words = f"{arguments[1]}{grown}.expand({sizes.format(arguments[0])})"
        return [arguments[0], words, *arguments[2:]], keywords

    has = "no batch" if target.rank == 2 else "a batch of one"
    reason = f"the source is {write_shape(source.shape)}, the target {write_shape(target.shape)} has {has}: it is "
    reason += f"repeated for the {source.shape[batch]} samples first"
    fix = fix_call(ctx, edit)
    return Diagnosis(reason, "one batch in both", fix, () if fix else RESHAPE)
