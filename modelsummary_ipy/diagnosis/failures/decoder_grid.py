"""A decoder that begins at a grid of its own, ``view(-1, 64, 7, 7)`` of a layer, and ends at another size."""

from __future__ import annotations

import ast
import functools
import linecache
import math
import operator
import os
import re

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import place_line, read_line, remake, set_value
from modelsummary_ipy.diagnosis.failures.statements import list_nodes
from modelsummary_ipy.diagnosis.formatting import factor_like, write_times
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS
from modelsummary_ipy.records.fixes import Candidate, LineEdit
from modelsummary_ipy.records.trace import Call


def explain_grid(ctx: FailureContext, pair: tuple[Operand, Operand]) -> Diagnosis | None:
    """Explain two maps of different sizes, one of which a decoder made from a grid that its forward names."""
    for made, other in (pair, pair[::-1]):
        grid = _find_grid(ctx, made)
        if grid is None or made.rank != other.rank:
            continue
        begin, wanted = grid.outputs[0].shape[2:], []
        for start, end, goal in zip(begin, made.shape[2:], other.shape[2:], strict=True):
            if end % start or goal % (end // start):
                return None
            wanted.append(goal * start // end)
        if tuple(wanted) == begin:
            return None
        line = f" at {grid.source.text}" if grid.source is not None else ""
        reason = f"{write_times(made.shape[2:])} against {write_times(other.shape[2:])}: the decoder begins at "
        reason += f"{write_times(begin)}{line} and makes that {made.shape[2] // begin[0]} times as large; "
        reason += f"{write_times(other.shape[2:])} begins at {write_times(wanted)}"
        fix = _change_grid(ctx, grid, tuple(wanted))
        return Diagnosis(reason, "two feature maps of one size", fix)
    return None


def _find_grid(ctx: FailureContext, x: Operand) -> Call | None:
    """Return what reshaped the features of a layer into the map that ``x`` was made of."""
    passed = False
    for call in ctx.flow.walk_back(x.link, 40):
        if call.type_name in CONVOLUTIONS:
            passed = True
        is_grid = call.type_name in ("view", "reshape", "unflatten", "Unflatten") and call.inputs and call.outputs
        if is_grid and len(call.inputs[0].shape) == 2 and len(call.outputs[0].shape) == x.rank:
            return call if passed else None
    return None


def _change_grid(ctx: FailureContext, grid: Call, wanted: tuple[int, ...]) -> Candidate:
    """Give the grid another size, and the layer that makes its features as many as it then takes."""
    channels, begin = grid.outputs[0].shape[1], grid.outputs[0].shape[2:]
    maker = next((call for call in ctx.flow.walk_back(grid.input_links[0], 8) if "Linear" in call.type_name), None)
    layer = ctx.flow.module_of(maker) if maker is not None and maker.kind == "module" else None
    if layer is None:
        return NOTHING
    edits = [remake(ctx, layer, out_features=channels * math.prod(wanted))]
    fact = ctx.flow.module_of(grid) if grid.kind == "module" else None
    if fact is not None:
        edits.append(set_value(fact.path, f"nn.Unflatten(1, {(channels, *wanted)})"))
    else:
        line = read_line(ctx, grid.source)
        written = re.compile(r"\b" + r"\s*,\s*".join(map(str, begin)) + r"\b")
        is_clear = len(written.findall(line)) == 1
        edits.append(place_line(ctx, grid, written.sub(", ".join(map(str, wanted)), line) if is_clear else ""))
    return functools.reduce(operator.add, edits) if all(edits) else NOTHING


def move_grid(ctx: FailureContext, made_for: int, inner: tuple[int, ...]) -> Candidate:
    """Give all that an autoencoder made for another size flattens and unflattens the sides of this one.

    Args:
        made_for: How many features its layers expect.
        inner: Channels and sides of the feature map that came: a decoder of as many features begins at it.

    Returns:
        The layers of so many features, and the lines that write the grid; nothing if no layer makes as many.
    """
    old = factor_like(made_for, inner[0], len(inner) - 1) if len(inner) > 1 else None
    statement = ctx.statement
    if old is None or statement is None:
        return NOTHING
    new, edits, is_decoded = math.prod(inner), [], False
    for fact in ctx.trace.modules:
        changes = {name: new for name in ("in_features", "out_features") if fact.settings.get(name) == made_for}
        if changes:
            edits.append(remake(ctx, fact, **changes))
            is_decoded = is_decoded or "out_features" in changes
        elif fact.type_name == "Unflatten" and fact.settings.get("unflattened_size") == old:
            edits.append(set_value(fact.path, f"nn.Unflatten(1, {inner})"))
    written = re.compile(r"\b" + r"\s*,\s*".join(map(str, old)) + r"\b")
    own = next((range(node.lineno, (node.end_lineno or 0) + 1) for node in _list_classes(statement.filename)
                if node.lineno <= statement.first <= (node.end_lineno or 0)), range(0))  # fmt: skip
    for number in own:
        text = linecache.getline(statement.filename, number).strip()
        if written.search(text) and "Unflatten(" not in text and not statement.first <= number <= statement.last:
            line = written.sub(", ".join(map(str, inner)), text)
            where = f"at {os.path.basename(statement.filename)}:{number}: {line}"
            edits.append(Candidate(where, (LineEdit(statement.filename, number, number, line),)))
    return functools.reduce(operator.add, edits) if is_decoded else NOTHING


def _list_classes(filename: str) -> list[ast.ClassDef]:
    """List the classes of a file, an inner one before the one around it."""
    return sorted(list_nodes(filename, ast.ClassDef), key=lambda node: -node.lineno)
