"""Modules that were not called, classes that no object was made of, keys for modules, conditions on whole tensors."""

from __future__ import annotations

import ast
import re

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line
from modelsummary_ipy.diagnosis.failures.source_edits import parse_line, splice_node
from modelsummary_ipy.diagnosis.failures.statements import find_loops, list_names_before
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import ModuleFact

_AMBIGUOUS = "Boolean value of Tensor with more than one value is ambiguous"
_CONDITIONS = (ast.If, ast.While, ast.Assert, ast.IfExp, ast.BoolOp, ast.Not)


def explain_uncalled(ctx: FailureContext) -> Diagnosis | None:
    """Explain a module, a class, a key or a whole tensor where the line needs a tensor, an object, a module, a bool."""
    tree = parse_line(ctx.line)
    if tree is None:
        return None
    if _AMBIGUOUS in ctx.failure.message:
        return _explain_class(ctx, tree) or _explain_condition(ctx, tree)
    if "'str' object is not callable" in ctx.failure.message:
        return _explain_keys(ctx, tree)
    return _explain_module(ctx, tree) if ctx.failure.error_type in ("TypeError", "AttributeError") else None


def _explain_module(ctx: FailureContext, tree: ast.AST) -> Diagnosis | None:
    """A module was passed on, and not what it returns."""
    named = {word: fact for fact in ctx.trace.modules if (word := fact.path.rpartition(".")[2])}
    words = set(re.findall(r"\w+", ctx.failure.message))
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    held = {id(node.value) for node in ast.walk(tree) if isinstance(node, (ast.Attribute, ast.Subscript))}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or id(node) in called | held or node.attr not in named:
            continue
        fact: ModuleFact = named[node.attr]
        if fact.type_name not in words or not isinstance(node.value, ast.Name):
            continue
        text = f"{node.value.id}.{node.attr}"
        names = list_names_before(ctx.failure.source) if ctx.failure.source is not None else []
        fixes = [fix_line(ctx, splice_node(ctx.line, node, f"{text}({name})")) for name in names[:4]]
        reason = f"{text} is the {fact.type_name} itself, and not what it returns: it is not called"
        return Diagnosis(reason, "a tensor", fixes)
    return None


def _explain_class(ctx: FailureContext, tree: ast.AST) -> Diagnosis | None:
    """A loss is a class, whose settings were taken from predictions and targets: no object was made of it."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and len(node.args) > 1]
    for call in calls:
        text = ast.unparse(call.func)
        if re.fullmatch(r"(?:nn|torch\.nn)\.\w+Loss", text) or re.search(r"\.\w*(?:loss|criterion)\w*$", text, re.I):
            reason = f"{text} is a class, and predictions and targets became its settings: {text}() makes the loss"
            fix = fix_line(ctx, splice_node(ctx.line, call.func, f"{text}()"))
            return Diagnosis(reason, f"{text}()(…)", fix)
    return None


def _explain_condition(ctx: FailureContext, tree: ast.AST) -> Diagnosis | None:
    if not any(isinstance(node, _CONDITIONS) for node in ast.walk(tree)):
        return None
    last = next((call.outputs[0].shape for call in reversed(ctx.trace.calls) if call.outputs), ())
    size = f" {write_shape(last)}" if last else ""
    reason = f"a condition is one truth value, and the tensor{size} has one for each number: torch.where chooses"
    return Diagnosis(reason, "a bool, or .all() or .any() of the tensor")


def _explain_keys(ctx: FailureContext, tree: ast.AST) -> Diagnosis | None:
    """A loop over a ``ModuleDict`` gives its keys."""
    loops = dict(find_loops(ctx.failure.source)) if ctx.failure.source is not None else {}
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in loops:
            name, over = call.func.id, ast.unparse(loops[call.func.id])
            fix: Candidate = fix_line(ctx, splice_node(ctx.line, call.func, f"{over}[{name}]"))
            return Diagnosis(f"{name} is a key of {over}: {over}[{name}] is the module", "a module", fix)
    return None
