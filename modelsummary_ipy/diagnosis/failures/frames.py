"""Images or steps that run as one batch through one layer: they are folded, and parted again before the next."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, read_line, wrap_made, write_at
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.source_edits import change_value, wrap_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import find_operands, find_targets
from modelsummary_ipy.diagnosis.failures.statements import find_function, read_statement
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import RECURRENTS
from modelsummary_ipy.records.fixes import Candidate, LineEdit

_SEQUENCE_LAYERS = RECURRENTS | {"TransformerEncoder", "TransformerEncoderLayer", "MultiheadAttention"}


def list_foldings(ctx: FailureContext) -> Iterator[Candidate]:
    """List how the first two dims become one batch for a layer, and two again where they are read, the surest first."""
    flat = fix_argument(ctx, "{}.flatten(0, 1)")
    found = re.search(r"\b(\w+)\.flatten\(0, 1\)", flat.text)
    if found is not None and flat.edits and isinstance(flat.edits[0], LineEdit):
        yield _part_value(flat.edits[0], found[1])
        yield _part_at_reader(ctx, flat.edits[0], found[1])
    yield fix_argument(ctx, "{}.flatten(0, 1)", "{0}.unflatten(0, {1}.shape[:2])")
    yield flat


def _part_value(edit: LineEdit, name: str) -> Candidate:
    """Part what the line assigns, after all that it does to each image: ``f = self.cnn(…).flatten(1).unflatten(…)``."""
    value = next((node.value for node in ast.walk(ast.parse(edit.text)) if isinstance(node, ast.Assign)), None)
    is_chain = isinstance(value, ast.Call) and isinstance(getattr(value.func, "value", None), ast.Call)
    text = change_value(edit.text, f"{{}}.unflatten(0, {name}.shape[:2])") if is_chain else ""
    return Candidate(text, (edit._replace(text=text),))


def _part_at_reader(ctx: FailureContext, edit: LineEdit, name: str) -> Candidate:
    """Part what a layer of sequences reads on a later line: ``self.lstm(f.unflatten(0, x.shape[:2]))``."""
    source = ctx.failure.source
    function = find_function(source)
    members = [name_member(fact.path) for fact in ctx.list_unread() if fact.type_name in _SEQUENCE_LAYERS]
    if source is None or function is None:
        return Candidate()
    stored = find_targets(edit.text)
    line = edit.last + 1
    while line <= (function.end_lineno or 0):
        statement = read_statement(source._replace(line=line))
        if statement is None:
            break
        sizes = "frames" if name in stored else f"{name}.shape[:2]"
        for member in filter(None, members):
            text = wrap_argument(statement.text, member, f"{{}}.unflatten(0, {sizes})")
            if text:
                first = f"frames = {name}.shape[:2]\n{edit.text}" if name in stored else edit.text
                return Candidate(first, (edit._replace(text=first),)) + write_at(source, statement, text)
        stored += find_targets(statement.text)
        line = statement.last + 1
    return Candidate()


_FOLDS = ("view", "reshape", "flatten")


def explain_unparted(ctx: FailureContext) -> Diagnosis | None:
    """Explain sentences of documents, or frames of videos, that were folded into the batch and not parted again."""
    batches = {fact.spec.shape[0] for fact in ctx.trace.inputs if len(fact.spec.shape) > 2}
    steps = ctx.flow.walk_back(ctx.operands[0].link, 20) if ctx.operands else ()
    layer = next((step for step in steps if step.type_name in RECURRENTS and step.kind == "module"), None)
    if layer is None or not layer.inputs or len(layer.inputs[0].shape) != 2 or not batches:
        return None
    rows = layer.inputs[0].shape[0]
    for call in ctx.flow.walk_back(layer.input_links[0], 40):
        before = call.inputs[0].shape if call.inputs else ()
        is_fold = call.type_name in _FOLDS and len(before) > 2 and call.outputs[0].shape[0] == rows
        if not is_fold or before[0] not in batches or before[0] * before[1] != rows:
            continue
        name = next(iter(find_operands(read_line(ctx, call.source), call.type_name)), "")
        fix = wrap_made(ctx, layer, f"{{}}.unflatten(0, {name}.shape[:2])")
        reason = f"'{layer.path}' reads {write_shape(layer.inputs[0].shape)} as one sequence: its rows are "
        reason += f"{before[0]} × {before[1]} that were folded into one batch"
        expected = write_shape((before[0], before[1], layer.inputs[0].shape[1]))
        return Diagnosis(reason, expected, fix) if name.isidentifier() and fix else None
    return None
