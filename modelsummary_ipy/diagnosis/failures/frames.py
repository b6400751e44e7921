"""Layers that take one image at a time, and were given the frames of a video: they run as one batch, parted later."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, write_at
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.source_edits import change_value, wrap_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import find_targets
from modelsummary_ipy.diagnosis.failures.statements import find_function, read_statement
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
