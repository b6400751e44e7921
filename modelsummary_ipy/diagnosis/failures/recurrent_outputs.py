"""What a recurrent layer gives: its features, and the last states of its layers and directions."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, place_line, read_arguments, read_line, remake
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import RECURRENTS
from modelsummary_ipy.records.fixes import Candidate


def explain_both_states(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis | None:
    """The states of both directions lie one behind the other, and a layer reads them side by side."""
    giver = ctx.flow.producer(x.link)
    fact = ctx.flow.module_of(giver)
    if giver is None or fact is None or giver.type_name not in RECURRENTS or x.rank != 3 or 2 * x.shape[-1] != taken:
        return None
    if x.link is None or x.link.leaf == 0 or not fact.settings.get("bidirectional"):
        return None
    name = next(iter(read_arguments(ctx)), "")
    reason = f"the state of '{giver.path}' {write_shape(x.shape)} has its directions in dim 0: the last two side by "
    reason += f"side are {taken} features"
    both = f"torch.cat([{name}[-2], {name}[-1]], dim=-1)"
    return Diagnosis(reason, expected, fix_argument(ctx, both) if name.isidentifier() else NOTHING)


def explain_folded_state(ctx: FailureContext, x: Operand, taken: int, expected: str) -> Diagnosis | None:
    """The states of all layers were folded into the features of a sample, and a layer reads those of the last one."""
    call = next((call for call in ctx.flow.walk_back(x.link, 2) if call.type_name in ("view", "reshape")), None)
    state = ctx.operands_of(call)[0] if call is not None else x
    giver = ctx.flow.producer(state.link)
    if call is None or giver is None or giver.type_name not in RECURRENTS or state.rank != 3:
        return None
    if state.link is None or state.link.leaf == 0 or state.shape[-1] != taken or state.shape[0] * taken != x.shape[-1]:
        return None

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == call.type_name:
            yield f"{write(node.func.value)}[-1]"

    reason = f"the state of '{giver.path}' is {write_shape(state.shape)}: {call.type_name}() joins its "
    reason += f"{state.shape[0]} × {taken} features, those of the last layer are [-1]"
    return Diagnosis(reason, expected, rewrite(ctx.at_line_of(call), change, here=True))


_LAST_STATE = re.compile(r"\b(\w+)\[(?:-1|0|1)(?:, :)*\]")


def join_directions(ctx: FailureContext, x: Operand) -> Candidate:
    """Read the last states of both directions where one was read: ``torch.cat([h[-2], h[-1]], 1)`` for ``h[-1]``."""
    maker = next((call for call in ctx.flow.walk_back(x.link, 4) if call.type_name == "getitem"), None)
    giver = ctx.flow.producer(maker.input_links[0]) if maker is not None and maker.input_links else None
    fact = ctx.flow.module_of(giver)
    if maker is None or fact is None or fact.type_name not in RECURRENTS or not fact.settings.get("bidirectional"):
        return NOTHING
    line = read_line(ctx, maker.source)
    found = list(_LAST_STATE.finditer(line))
    if len(found) != 1:
        return NOTHING
    both = f"torch.cat([{found[0][1]}[-2], {found[0][1]}[-1]], 1)"
    return place_line(ctx, maker, line[: found[0].start()] + both + line[found[0].end() :])


def resize_recurrent(ctx: FailureContext, x: Operand, size: int) -> Candidate:
    """Let a recurrent layer of one direction output another number of features."""
    maker = ctx.flow.producer(x.link)
    fact = ctx.flow.module_of(maker)
    if fact is None or fact.type_name not in RECURRENTS or fact.settings.get("bidirectional"):
        return NOTHING
    return remake(ctx, fact, hidden_size=size)


def find_bidirectional(ctx: FailureContext, x: Operand) -> str:
    """Name the recurrent layer of two directions that gives the features; ``""`` without one."""
    for call in ctx.flow.walk_back(x.link, 6):
        fact = ctx.flow.module_of(call)
        if fact is not None and fact.type_name in RECURRENTS:
            return f"'{call.path}'" if fact.settings.get("bidirectional") else ""
    return ""
