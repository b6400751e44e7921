"""What stands upstream of a failure and is its cause: a batch that was folded, dims in another order, a cut."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext, Operand, Pair
from modelsummary_ipy.diagnosis.failures.fixes import find_name, fix_giver, fix_made, place_line, read_line, set_made
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword
from modelsummary_ipy.diagnosis.failures.source_nodes import parse_line, read_call, read_text, splice_node
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.diagnosis.torch_names import TRANSPOSES
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call

_RESHAPES = ("view", "reshape")
_CUTS = ("chunk", "glu", "GLU")


def explain_folded_batch(ctx: FailureContext, x: Operand, samples: int) -> Diagnosis | None:
    """``x.view(-1, 1024)`` makes several rows of a sample with more numbers: what comes after has another batch."""
    if not x.rank or x.shape[0] == samples:
        return None
    for call in ctx.flow.walk_back(x.link, 30):
        if call.type_name not in _RESHAPES or not call.inputs or not call.inputs[0].shape:
            continue
        before, after = call.inputs[0].shape, call.outputs[0].shape
        if before[0] != samples or after[:1] != x.shape[:1] or len(after) != 2 or 0 in (*before, *after):
            continue
        each, row = math.prod(before[1:]), after[1]
        fix = fix_made(ctx, call, lambda items: f"{items[0]}.flatten(1)" if items else None)
        reason = f"{call.type_name} made {after[0]} rows of {samples} samples: a sample has {write_times(before[1:])} "
        reason += f"= {each} numbers, a row {row}"
        return Diagnosis(reason, f"a batch of {samples}", fix)
    return None


def explain_unpacked(ctx: FailureContext, x: Operand, longest: int, steps: int) -> Diagnosis | None:
    """``pad_packed_sequence`` gives as many steps as the longest sequence has, the batch was padded to more."""
    calls = list(ctx.flow.walk_back(x.link, 30))
    padded = next((call for call in calls if call.type_name == "_pad_packed_sequence"), None)
    packed = next((call for call in calls if call.type_name == "_pack_padded_sequence"), None)
    if padded is None or packed is None:
        return None
    given, _ = read_call(read_line(ctx, packed.source), "pack_padded_sequence")
    name = find_name(given[0]) if given else ""
    if longest >= steps or longest not in padded.outputs[0].shape or not name:
        return None
    first = ", batch_first=True" in read_line(ctx, padded.source).replace("batch_first = ", "batch_first=")
    total = f"{name}.size({int(first)})"
    line = add_keyword(read_line(ctx, padded.source), "pad_packed_sequence", "total_length", total)
    reason = f"pad_packed_sequence gave the {longest} steps of the longest sequence, the batch was padded to {steps}"
    return Diagnosis(reason, f"{steps} steps", place_line(ctx, padded, line))


def widen_cut(ctx: FailureContext, x: Operand, axis: int, taken: int) -> tuple[str, Candidate] | None:
    """Let a layer give as much to each piece that it is cut in as it gives to all: a mean and a variance, a gate.

    Args:
        taken: How many are expected on the axis of ``x``; what is cut has so many in all.
    """
    for call in ctx.flow.walk_back(x.link, 8):
        if call.type_name in _CUTS and call.inputs and len(call.inputs[0].shape) == x.rank:
            whole, piece = call.inputs[0].shape[axis], call.outputs[0].shape[axis]
            pieces = whole // piece if piece else 0
            if whole == taken and pieces > 1 and piece == x.shape[axis]:
                words = f": {whole} in {pieces} pieces are {piece} each"
                return words, fix_giver(ctx, ctx.operands_of(call)[0], pieces * taken, axis)
    return None


def cut_features(ctx: FailureContext, x: Operand, wanted: int) -> tuple[Call, Candidate] | None:
    """Cut the features where keys and values were cut along their steps: ``kv.chunk(2, dim=-1)``."""
    for call in ctx.flow.walk_back(x.link, 8):
        if call.type_name not in ("chunk", "split") or not call.inputs:
            continue
        before, made = call.inputs[0].shape, len(call.outputs)
        dim = dict(call.arguments).get("dim", 0)
        if not isinstance(dim, int) or dim % len(before) == len(before) - 1 or before[-1] != wanted * made:
            return None
        fix = set_made(ctx, call, "dim", 2, "-1") if call.type_name == "chunk" else NOTHING
        return (call, fix) if fix else None
    return None


def move_thirds(ctx: FailureContext, x: Operand) -> tuple[str, Candidate] | None:
    """Queries, keys and values were taken by index from dim 0, which has the samples: they stand in dim 2."""
    for call in ctx.flow.walk_back(x.link, 16):
        whole = call.inputs[0].shape if call.type_name == "getitem" and call.inputs else ()
        maker = ctx.flow.producer(call.input_links[0]) if len(whole) == 5 and whole[2] == 3 else None
        if maker is not None and maker.type_name in _RESHAPES and call.outputs[0].shape == whole[1:]:
            words = f"dim 0 of {write_shape(whole)} has the samples, and its thirds are in dim 2"
            return words, fix_made(ctx, maker, lambda items: items, "{}.permute(2, 0, 3, 1, 4)")
    return None


def list_reordered(ctx: FailureContext, x: Operand) -> list[Candidate]:
    """List the ways to let a reshape that made a tensor fill its last two dims the other way round.

    ``x.reshape(b, c * m, t)`` of ``[B, T, C, M]`` gives the right sizes to a transpose, and numbers of other places;
    ``x.reshape(b, t, c * m)`` keeps the order.
    """
    call = ctx.flow.producer(x.link)
    if call is None or call.type_name not in _RESHAPES or x.rank != 3 or not call.inputs:
        return []
    before, after = call.inputs[0].shape, call.outputs[0].shape
    if len(before) != 4 or after != x.shape or before[:2] != (after[0], after[2]) or after[1] == after[2]:
        return []
    return [found] if (found := fix_made(ctx, call, _swap_last)) else []


def _swap_last(items: list[str]) -> list[str] | None:
    if len(items) == 4:
        return [*items[:2], *(re.sub(r"^\(([^()]*)\)$", r"\1", item) for item in (items[3], items[2]))]
    sizes = re.fullmatch(r"([\[(])(.+), ([^,]+), ([^,]+)([\])])", items[1]) if len(items) == 2 else None
    return [items[0], f"{sizes[1]}{sizes[2]}, {sizes[4]}, {sizes[3]}{sizes[5]}"] if sizes is not None else None


def explain_cut_batch(pair: Pair) -> Diagnosis | None:
    """``captions[:-1]`` was to leave out the last word, and leaves out the last sample."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        if not x.rank or not other.rank or x.shape[0] != other.shape[0] - 1:
            continue
        for call in ctx.flow.walk_back(x.link, 6):
            before = call.inputs[0].shape if call.inputs else ()
            if call.type_name != "getitem" or before[:1] != other.shape[:1] or call.outputs[0].shape[:1] != x.shape[:1]:
                continue
            line, found = re.subn(r"\b(\w+)\[(:-1|1:)\]", r"\1[:, \2]", read_line(ctx, call.source))
            reason = f"{write_shape(before)} was cut to {write_shape(call.outputs[0].shape)}: dim 0 has the samples"
            return Diagnosis(reason, f"{other.shape[0]} samples", place_line(ctx, call, line)) if found else None
    return None


def explain_empty(pair: Pair) -> Diagnosis | None:
    """One of two tensors was cut from where nothing is left: its layer gives too little."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        for call in ctx.flow.walk_back(x.link, 4) if 0 in x.shape and x.rank == other.rank else ():
            if call.type_name == "getitem" and 0 in call.outputs[0].shape and 0 not in call.inputs[0].shape:
                before, after = call.inputs[0].shape, call.outputs[0].shape
                axis = after.index(0) - len(after)
                reason = f"the slice {write_shape(after)} of {write_shape(before)} is empty: all {before[axis]} lie "
                reason += "before"
                fix = fix_giver(ctx, ctx.operands_of(call)[0], before[axis] + other.shape[-1], axis)
                return Diagnosis(reason, write_shape(other.shape), fix)
    return None


def explain_cut_table(pair: Pair) -> Diagnosis | None:
    """A table of positions is cut to as many rows as there are samples: ``self.pe[:x.size(0)]``."""
    ctx = pair.ctx
    for x, other, *_ in pair.each():
        call = ctx.flow.producer(x.link)
        is_of_samples = other.rank == 3 and x.rank in (2, 3) and x.shape[-1] == other.shape[-1]
        if call is None or call.type_name != "getitem" or not is_of_samples or ctx.flow.sources(x.link):
            continue
        rows, samples, steps = x.shape[-2], other.shape[0], other.shape[1]
        line, found = re.subn(r"\.size\(0\)|\.shape\[0\]", ".size(1)", read_line(ctx, call.source))
        if rows == samples != steps and found == 1 and samples in (fact.spec.shape[0] for fact in ctx.trace.inputs[:1]):
            reason = f"the table is cut to {samples} rows, the samples; {write_shape(other.shape)} has {steps} steps"
            return Diagnosis(reason, f"{steps} rows", place_line(ctx, call, line))
    return None


def explain_longest(pair: Pair) -> Diagnosis | None:
    """One of two tensors has the steps of the longest sequence, the other those that the batch was padded to."""
    return next(
        (found for x, other, *_ in pair.each() for axis in pair.axes if min(x.rank, other.rank) >= -axis
         if (found := explain_unpacked(pair.ctx, x, x.shape[axis], other.shape[axis])) is not None),
        None,
    )  # fmt: skip


_DIMS = frozenset({"unsqueeze", "squeeze"})
#: einops moves and folds dims by these.
_OF_EINOPS = frozenset({"reshape", "permute", "transpose", "view"})
_MOST_STEPS = 4


def undo_move(ctx: FailureContext, x: Operand, fits: Callable[[tuple[int, ...]], bool]) -> Candidate:
    """Leave out what gave a tensor another order of dims, or a dim of one, where it fitted before.

    Args:
        fits: Whether a tensor of a shape is what is wanted.

    Returns:
        ``"out = self.encoder(x, mask=mask)"`` for ``mask=mask.t()``; nothing if no such step is near.
    """
    for call, before in list_moves(ctx, x):
        if fits(before):
            line = read_line(ctx, call.source)
            return place_line(ctx, call, drop_step(line, call.type_name))
    return NOTHING


def list_moves(ctx: FailureContext, x: Operand) -> Iterator[tuple[Call, tuple[int, ...]]]:
    """List the steps before a tensor that moved or made dims, each with the shape from before it."""
    for call in ctx.flow.walk_back(x.link, _MOST_STEPS):
        if call.kind != "op" or not call.inputs:
            return
        if call.type_name in TRANSPOSES | _DIMS | _OF_EINOPS:
            yield call, call.inputs[0].shape


def drop_step(line: str, name: str) -> str:
    """Write a line without the one step of a name in it; ``""`` if it has none, or several."""
    tree = parse_line(line)
    found = [pair for node in (ast.walk(tree) if tree is not None else ()) if (pair := _read_step(node, name))]
    if len(found) != 1:
        return ""
    node, kept = found[0]
    loops = [item for item in ast.walk(tree) if isinstance(item, (ast.GeneratorExp, ast.ListComp))] if tree else []
    if any(loop.elt is node for loop in loops) and isinstance(kept, ast.Name):
        return ""  # ``q, k, v = (y.transpose(1, 2) for y in (q, k, v))`` is there for this step alone
    return splice_node(line, node, read_text(line, kept))


def _read_step(node: ast.AST, name: str) -> tuple[ast.AST, ast.expr] | None:
    """Read ``x.t()``, ``x.T``, ``torch.t(x)`` or ``rearrange(x, …)`` as the step and what it is applied to."""
    if isinstance(node, ast.Attribute) and node.attr == name in ("T", "mT"):
        return node, node.value
    if not isinstance(node, ast.Call):
        return None
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called == "rearrange" and name in _OF_EINOPS:
        return node, node.args[0]
    if called != name or name in ("reshape", "view") or not isinstance(node.func, ast.Attribute):
        return None
    is_function = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
    return node, node.args[0] if is_function else node.func.value
