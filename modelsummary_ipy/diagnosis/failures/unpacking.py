"""What does not unpack as a line does it: more or fewer values than it has names for, or in another order."""

from __future__ import annotations

import ast
import re

from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    NOTHING,
    RESHAPE,
    Diagnosis,
    FailureContext,
    Pair,
    name_call,
)
from modelsummary_ipy.diagnosis.failures.fixes import (
    add_batch,
    fix_giver,
    fix_line,
    place_line,
    read_arguments,
    read_line,
    set_value,
    write_at,
)
from modelsummary_ipy.diagnosis.failures.module_code import write_module
from modelsummary_ipy.diagnosis.failures.source_nodes import read_unpacking
from modelsummary_ipy.diagnosis.failures.statements import list_nodes, list_read, name_file, read_statement
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, RECURRENTS
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call, Source

_NO_UNPACK = re.compile(r"(not enough|too many) values to unpack \(expected (\d+)(?:, got (\d+))?\)")

_KEY = re.compile(r"\[[^\]]*\]|\.\w+")


def list_keys(giver: Call | None) -> list[str]:
    """List what of an output can be picked: ``".last_hidden_state"``, ``"[0]"``."""
    names = [spec.name for spec in giver.outputs] if giver is not None else []
    return list(dict.fromkeys(found[0] for found in map(_KEY.match, names) if found is not None))


def explain_iterated(ctx: FailureContext) -> Diagnosis | None:
    """The one tensor of a pool was unpacked in two names, sample by sample: its places were to be the second."""
    for call in reversed(ctx.trace.calls[: ctx.call.index]):
        maker = ctx.flow.producer(call.input_links[0]) if call.type_name == "unbind" and call.input_links else None
        fact = ctx.flow.module_of(maker)
        read = read_unpacking(read_line(ctx, call.source))
        is_pool = fact is not None and fact.type_name.startswith("MaxPool") and "kernel_size" in fact.settings
        if fact is None or maker is None or not is_pool or read is None or call.source != maker.source:
            continue
        names = ", ".join(read[0])
        reason = f"'{fact.path}' gives one tensor, which {names} part by its samples: return_indices=True gives both"
        code = write_module(fact, ctx.trace)
        fix = set_value(fact.path, f"{code[:-1]}, return_indices=True)") if code else NOTHING
        return Diagnosis(reason, "a pool that gives its places too", fix)
    return None


def explain_unpacking(ctx: FailureContext) -> Diagnosis | None:
    """Explain values that are more or fewer than the names of the line."""
    found = _NO_UNPACK.search(ctx.failure.message)
    if ctx.failure.error_type != "ValueError" or found is None:
        return None
    read = read_unpacking(ctx.line)
    if read is None:
        return Diagnosis(ctx.failure.message, f"{found[2]} values", NOTHING, ANYWHERE)
    names, source = read
    came = found[3] or "more"
    if source.endswith((".shape", ".size()")):
        tensor = source.rpartition(".")[0]
        reason = f"{tensor} has {came} dims, the line unpacks {found[2]}: {', '.join(names)}"
        shapes = dict.fromkeys(x.shape for x in ctx.data)
        if len(shapes) == 1:
            shape = next(iter(shapes))
            reason = f"{tensor} has {came} dims, {write_shape(shape)}; the line unpacks {found[2]}: {', '.join(names)}"
        is_more = found[1] == "too many" and not source.endswith("]")
        fix = fix_line(ctx, ctx.line.replace(source, f"{tensor}.shape[:{found[2]}]", 1)) if is_more else NOTHING
        if came.isdigit() and int(came) + 1 == int(found[2]) and all(x.is_input for x in ctx.data):
            fix = add_batch(ctx)
        return Diagnosis(reason, f"{found[2]} dims", fix, RESHAPE)
    reason = f"{source} has {came} values, the line unpacks {found[2]}"
    pairs = [x for x in ctx.data if x.rank == 2 and x.shape[1] == int(found[2]) < x.shape[0]]
    if source.isidentifier() and len({x.shape for x in pairs}) == 1 and any(x.spec.name == source for x in pairs):
        reason = f"{source} is {write_shape(pairs[0].shape)}: its {found[2]} are in the last dim"
        turned = fix_line(ctx, ctx.line.replace(source, f"{source}.t()", 1))
        return Diagnosis(reason, f"{found[2]} rows", turned)
    fix = NOTHING
    calls = [call for call in ctx.trace.calls if call.parent == ctx.call.index]
    inner = [call for call in calls if call.kind == "module"]
    is_call = bool(inner) and source.startswith(f"self.{inner[-1].path.rpartition('.')[2]}(")
    fixes: list[Candidate] = []
    if is_call and len(inner[-1].outputs) == 1 and not inner[-1].outputs[0].name:
        reason = f"{name_call(inner[-1])} returns one tensor, and the line unpacks {found[2]} values"
        fixes = _unpack_one(ctx, inner[-1], names, source)
    elif is_call and (count := len(list_keys(inner[-1]))) > len(names) and inner[-1].type_name not in RECURRENTS:
        more = ", ".join([*names, *["_"] * (count - len(names))])
        reason = f"'{inner[-1].path}' ({inner[-1].type_name}) returns {count} values, the line unpacks {found[2]}"
        fix = fix_line(ctx, ctx.line.replace(", ".join(names), more, 1))
    if inner and inner[-1].type_name in ("GRU", "RNN") and len(names) == 2 and names[1].startswith("("):
        reason = f"'{inner[-1].path}' ({inner[-1].type_name}) returns one state, not the two of an LSTM"
        first = names[1].strip("()").partition(",")[0]
        fix = fix_line(ctx, ctx.line.replace(names[1], first, 1))
    if inner and inner[-1].type_name == "LSTM" and len(names) == 3:
        reason = f"'{inner[-1].path}' (LSTM) returns (output, (h_n, c_n)): two values, the second a pair"
        fix = fix_line(ctx, ctx.line.replace(", ".join(names), f"{names[0]}, ({names[1]}, {names[2]})", 1))
    split = next((call for call in reversed(calls) if call.type_name in ("split", "chunk")), None)
    if split is not None and split.type_name == "split" and found[1] == "too many":
        pieces = ctx.flow.setting(split, "split_size_or_sections", ctx.flow.setting(split, "split_size"))
        if pieces == len(names):
            reason += f": split() takes the size of a piece, chunk() how many pieces, {pieces}"
            fix = fix_line(ctx, re.sub(r"\bsplit\(", "chunk(", ctx.line))
    if not fix and split is not None and split.index == ctx.trace.calls[-1].index:
        fix = _widen(ctx, split, int(found[2]))
    fixes = [made for made in (*fixes, fix) if made]
    return Diagnosis(reason, f"{found[2]} values", fixes, () if fixes else ANYWHERE)


def _unpack_one(ctx: FailureContext, layer: Call, names: list[str], source: str) -> list[Candidate]:
    """Cut the one tensor that a layer returns in equal parts, or give it the first name if no line reads the others."""
    if not set(list_read(ctx.failure.source)) & set(names[1:]):
        return [fix_line(ctx, ctx.line.replace(", ".join(names), names[0], 1))]
    axis, shape = 1 if layer.type_name in CONVOLUTIONS else -1, layer.outputs[0].shape
    if not shape or shape[axis] % len(names):
        return []
    return [fix_line(ctx, ctx.line.replace(source, f"{source}.chunk({len(names)}, dim={axis})", 1))]


def _widen(ctx: FailureContext, split: Call, count: int) -> Candidate:
    """Let the layer that is split in pieces give as many as the line unpacks."""
    x = ctx.operands_of(split)[0]
    dim, size = ctx.flow.setting(split, "dim", 0), split.outputs[0].shape
    if type(dim) is not int or not -x.rank <= dim < x.rank:
        return NOTHING
    axis = dim % x.rank
    return fix_giver(ctx, x, count * size[axis], axis - x.rank)


def explain_swapped(pair: Pair) -> Diagnosis | None:
    """A module returns ``a, b``, the line unpacks ``b, a``, and the other one has the size that is needed."""
    ctx = pair.ctx
    texts = read_arguments(ctx)
    for x, other, place, _ in pair.each():
        for call in _list_unpacked(pair, place):
            line = read_line(ctx, call.source)
            names, right = read_unpacking(line) or ([], "")
            at = call.output_links.index(x.link)
            fitting = [leaf for leaf, spec in enumerate(call.outputs) if leaf != at and spec.shape == other.shape]
            if len(names) != len(call.outputs) or texts[place : place + 1] != [names[at]] or len(fitting) != 1:
                continue
            names[at], names[fitting[0]] = names[fitting[0]], names[at]
            shapes = " and ".join(write_shape(spec.shape) for spec in call.outputs)
            reason = f"'{call.path}' returns {shapes}, and '{texts[place]}' is the one of {write_shape(x.shape)}"
            unpacked = place_line(ctx, call, f"{', '.join(names)} = {right}")
            return Diagnosis(reason, write_shape(other.shape), [unpacked, _turn_return(ctx, call)])
    return None


def _turn_return(ctx: FailureContext, call: Call) -> Candidate:
    """Return two outputs the other way round, in the module that made them: one line unpacks those of several."""
    inner = [other for other in ctx.trace.calls[call.index :] if other.output_links == call.output_links]
    fact = ctx.flow.module_of(inner[-1]) if inner else None
    if fact is None:
        return NOTHING
    for node in list_nodes(fact.forward_file, ast.FunctionDef):
        last = node.body[-1]
        is_own = fact.forward_line in (node.lineno, *(at.lineno for at in node.decorator_list))
        if is_own and isinstance(last, ast.Return) and isinstance(last.value, ast.Tuple) and len(last.value.elts) == 2:
            source = Source(name_file(ctx.trace, fact.forward_file), last.lineno, node.name, fact.forward_file)
            statement = read_statement(source)
            one, other = map(ast.unparse, last.value.elts)
            return NOTHING if statement is None else write_at(source, statement, f"return {other}, {one}")
    return NOTHING


def _list_unpacked(pair: Pair, place: int) -> list[Call]:
    """List the calls of the user's own modules beside the failed one that gave an operand and something else."""
    ctx, link = pair.ctx, pair.ctx.operands[place].link
    found = []
    for call in ctx.trace.calls[: max(ctx.call.index, 0)]:
        fact = ctx.flow.module_of(call)
        is_own = fact is not None and not fact.type_module.startswith("torch.")
        if is_own and call.parent == ctx.call.parent and len(call.outputs) > 1 and link in call.output_links:
            found.append(call)
    return found[::-1]
