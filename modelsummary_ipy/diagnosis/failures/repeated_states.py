"""Sequences made of one vector: repeated along the batch, or not at all; states kept from another batch."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import STEER, Diagnosis, FailureContext, Operand, Pair
from modelsummary_ipy.diagnosis.failures.fixes import (
    fix_call,
    fix_made,
    fix_operand,
    read_arguments,
    read_line,
    wrap_made,
)
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.parameters import find_param_name
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.failures.source_nodes import Arguments, read_call
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import RECURRENTS
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call


def explain_repeat(pair: Pair) -> Diagnosis | None:
    """A vector was to become a sequence, as in an autoencoder of LSTMs, and became none."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        for call in ctx.flow.walk_back(x.link, 12):
            found = None
            if call.type_name == "repeat":
                found = _explain_front(ctx, call)
            elif call.type_name in RECURRENTS and call.kind == "module":
                found = _explain_state_read(ctx, call, other)
            if found is not None:
                return found
    return None


def explain_count(pair: Pair) -> Diagnosis | None:
    """A parameter, or what the forward makes, was repeated as often as another dim of the input is long."""
    if max(x.rank for x in pair.both) + pair.axes[-1]:
        return None
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        count, batch = x.shape[0], other.shape[0]
        specs = [fact.spec.shape for fact in ctx.trace.inputs if fact.spec.shape[:1] == (batch,)]
        if ctx.flow.sources(x.link) or not ctx.flow.sources(other.link) or x.rank != other.rank:
            continue
        if count not in {size for shape in specs for size in shape[1:]}:
            continue
        fixes = rewrite(ctx, _read_batch)
        if fixes:
            reason = f"{write_shape(x.shape)} was made {count} times, of a dim that is not the batch of {batch}"
            return Diagnosis(reason, f"{batch} in dim 0", fixes)
    return None


def _read_batch(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
    """Read the batch where another dim is read: ``x.size(0)`` for ``x.size(1)``."""
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
        if isinstance(node.slice, ast.Constant) and node.slice.value:
            yield f"{write(node.value)}[0]"
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "size":
        dims = [item.value for item in node.args if isinstance(item, ast.Constant)]
        yield from (f"{write(node.func)}(0)" for dim in dims if dim)


def _explain_front(ctx: FailureContext, call: Call) -> Diagnosis | None:
    """``repeat(1, T, 1)`` of ``[B, H]``, or of a state ``[1, B, H]``, repeats the batch."""
    counts = ctx.flow.setting(call, "repeats")
    shape = call.inputs[0].shape
    if not isinstance(counts, tuple) or len(counts) != 3 or counts[0] != 1 or counts[2] != 1 or counts[1] < 2:
        return None
    if len(shape) == 2:
        reason = f"repeat{counts} of {write_shape(shape)} puts a dim in front and"
        template = "{}.unsqueeze(1)"
    else:
        giver = ctx.flow.producer(call.input_links[0])
        if len(shape) != 3 or giver is None or giver.type_name not in RECURRENTS or call.input_links[0].leaf == 0:  # type: ignore[union-attr]  # it has a giver
            return None
        reason = f"the state of '{giver.path}' is {write_shape(shape)}, layers first: repeat{counts}"
        template = "{}[-1].unsqueeze(1)"
    reason += f" repeats the batch: {write_shape(call.outputs[0].shape)}"
    fix = fix_made(ctx, call, lambda items: [template.format(items[0]), *items[1:]])
    wanted = (shape[-2], counts[1], shape[-1])
    return Diagnosis(reason, f"{write_shape(wanted)} to read", fix)


def _explain_state_read(ctx: FailureContext, call: Call, other: Operand) -> Diagnosis | None:
    """A recurrent layer reads the state of another as its sequence: each layer as a sample, each sample as a step."""
    link = call.input_links[0] if call.input_links else None
    giver = ctx.flow.producer(link)
    fact = ctx.flow.module_of(call)
    if giver is None or giver.type_name not in RECURRENTS or link is None or link.leaf == 0 or fact is None:
        return None
    shape, read = call.inputs[0].shape, giver.inputs[0].shape
    first, given_first = bool(fact.settings.get("batch_first")), bool(ctx.flow.setting(giver, "batch_first"))
    if len(shape) != 3 or len(read) != 3 or not first or other.rank != 3:
        return None
    steps = read[1 if given_first else 0]
    text = next(iter(read_call(read_line(ctx, giver.source), name_member(giver.path))[0]), "")
    reason = f"'{call.path}' reads the state of '{giver.path}' {write_shape(shape)} as {shape[0]} sample of {shape[1]} "
    reason += f"steps: the last layer's is to be repeated over the {steps} steps"
    expected = write_shape((shape[1], steps, shape[2]))
    if not text.isidentifier():
        return Diagnosis(reason, expected)
    template = f"{{}}[-1].unsqueeze(1).repeat(1, {text}.size({int(given_first)}), 1)"
    return Diagnosis(reason, expected, wrap_made(ctx, call, template))


def drop_kept_state(ctx: FailureContext) -> Candidate:
    """Begin a recurrent layer with zeros where the line passes a state that the model keeps: ``self.rnn(x)``."""

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
        is_kept = len(arguments) == 2 and re.match(r"\(?self\.", arguments[1])
        return (arguments[:1], keywords) if is_kept else None

    return fix_call(ctx, edit)


_KEPT = re.compile(r"self\.(\w+)(?:\[\d+\])?")


def explain_kept(pair: Pair) -> Diagnosis | None:
    """What an attribute of the model keeps has the batch of the call that wrote it."""
    if max(x.rank for x in pair.both) + pair.axes[-1]:
        return None
    ctx, texts = pair.ctx, read_arguments(pair.ctx)
    written = re.match(r"self\.(\w+) (?:[-+*/]?)= ", ctx.line)
    for x, other, place, there in pair.each():
        name = find_param_name(ctx, x)
        if written is not None and name.rpartition(".")[2] == written[1]:
            reason = f"'{name}' has a row for each of {x.shape[0]} samples, of the batch before; "
            reason += f"this one has {other.shape[0]}"
            return Diagnosis(reason, "what is kept does not have the batch: a mean over it", search=STEER)
        found = re.fullmatch(_KEPT, texts[place]) if place < len(texts) else None
        if found is None or x.link is not None or x.rank != other.rank or not ctx.flow.sources(other.link):
            continue
        if x.param is not None and ctx.trace.params[x.param].kind == "parameter":
            continue
        reason = f"'{found[1]}' is {write_shape(x.shape)}: it was kept from a batch of {x.shape[0]}"
        cut = fix_operand(ctx, place, f"{{}}[:{{{there}}}.size(0)]") if x.shape[0] > other.shape[0] else Candidate()
        return Diagnosis(f"{reason}, this one is of {other.shape[0]}", f"a batch of {other.shape[0]}", cut)
    return None
