"""Objects that a line can't use: modules and classes that were not called, keys, tensors without a list, fractions."""

from __future__ import annotations

import ast
import re

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line
from modelsummary_ipy.diagnosis.failures.source_edits import find_targets, parse_line, replace_call, splice_node
from modelsummary_ipy.diagnosis.failures.statements import find_function, find_loops, list_names_before
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import CATS
from modelsummary_ipy.model.torch_layers import LAYERS
from modelsummary_ipy.records.fixes import Candidate, LineEdit
from modelsummary_ipy.records.trace import ModuleFact

_ERRORS = ("TypeError", "AttributeError", "RuntimeError", "IndexError")
_AMBIGUOUS = "Boolean value of Tensor with more than one value is ambiguous"
#: What ``torch.cat(a, b)`` and its like raise; the second is of 2.9 and older, the third of ``cat(a, b, 1)``.
_JOINS = re.compile(
    r"must be tuple of Tensors, not Tensor"
    r"|cat\(\) received an invalid combination of arguments - got \(Tensor\b"
    r"|(cat|stack)\(\) takes .*positional argument"
)
_JOINING = (*CATS, "stack", "hstack", "vstack", "dstack")
_CONDITIONS = (ast.If, ast.While, ast.Assert, ast.IfExp, ast.BoolOp, ast.Not)


def explain_object(ctx: FailureContext) -> Diagnosis | None:
    """Explain a module, class, key, tensor or number where the line needs a tensor, module, list, bool or integer."""
    tree, message = parse_line(ctx.line), ctx.failure.message
    if tree is None or ctx.failure.error_type not in _ERRORS:
        return None
    if (made := _explain_layer(ctx)) is not None:
        return made
    if _AMBIGUOUS in message:
        return _explain_class(ctx, tree) or _explain_condition(ctx, tree)
    if "'str' object is not callable" in message:
        return _explain_keys(ctx, tree)
    if _JOINS.search(message):
        return _explain_list(ctx, tree)
    if "(got float)" in message or "slice indices must be integers" in message:
        return _explain_fraction(ctx)
    return _explain_module(ctx, tree) if ctx.failure.error_type != "RuntimeError" else None


def _explain_layer(ctx: FailureContext) -> Diagnosis | None:
    """A layer of torch's was made with a tensor for its settings, and not run: ``x = nn.ReLU(x)``."""
    source = ctx.failure.source
    words = set(re.findall(r"\w+", ctx.failure.message))
    function = find_function(source) if source is not None else None
    if source is None or function is None:
        return None
    run = {id(node.func) for node in ast.walk(function) if isinstance(node, ast.Call)}
    calls = [
        node for node in ast.walk(function)
        if isinstance(node, ast.Call) and id(node) not in run and node.lineno <= source.line
        and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) in ("nn", "torch.nn")
        and node.func.attr in LAYERS and not LAYERS[node.func.attr].reads and node.args
        and not isinstance(node.args[0], ast.Constant)
    ]  # fmt: skip
    call = max(calls, key=lambda node: node.lineno, default=None)
    if call is None:
        return None
    refuses = _AMBIGUOUS in ctx.failure.message and call.lineno == source.line  # as nn.Dropout(x) does at once
    if ast.unparse(call.func).rpartition(".")[2] not in words and not refuses:
        return None
    text, name = ast.unparse(call), ast.unparse(call.func)
    settings = [*call.args[1:], *call.keywords]
    new = f"{name}({', '.join(map(ast.unparse, settings))})({ast.unparse(call.args[0])})"
    reason = f"{text} makes a layer with a tensor for its settings, and does not run it: {new} does"
    found = ctx.read(source._replace(line=call.lineno))
    line = replace_call(found.text, text, new) if found is not None else ""
    fix = NOTHING
    if found is not None and line:
        where = "" if found == ctx.statement else f"at {source._replace(line=call.lineno).text}: "
        fix = Candidate(f"{where}{line}", (LineEdit(found.filename, found.first, found.last, line),))
    return Diagnosis(reason, "a tensor", fix)


def _explain_list(ctx: FailureContext, tree: ast.AST) -> Diagnosis | None:
    """Tensors to be joined were given one by one."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or ast.unparse(call.func).rpartition(".")[2] not in _JOINING:
            continue
        if not call.args or isinstance(call.args[0], (ast.List, ast.Tuple, ast.ListComp)):
            continue
        tensors = [ast.unparse(node) for node in call.args if not isinstance(node, ast.Constant)]
        others = [ast.unparse(node) for node in call.args if isinstance(node, ast.Constant)]
        words = [f"[{', '.join(tensors)}]", *others, *map(ast.unparse, call.keywords)]
        name = ast.unparse(call.func)
        reason = f"{name} takes its tensors as one list"
        ways = [words] if len(words) > 1 else [[*words, "dim=1"], words]  # the batch stays the batch
        fixes = [fix_line(ctx, splice_node(ctx.line, call, f"{name}({', '.join(way)})")) for way in ways]
        return Diagnosis(reason, "a list of tensors", fixes)
    return None


def _explain_fraction(ctx: FailureContext) -> Diagnosis | None:
    """An index is a float, which ``/`` gives of integers too."""
    reason = "an index is an integer, and / gives a float, of integers too: // gives an integer"
    source, found = ctx.failure.source, ctx.statement
    names = set(re.findall(r"\w+", ctx.line))
    for line in range(source.line, max(source.line - 12, 0), -1) if source is not None else ():
        there = ctx.read(source._replace(line=line)) if source is not None else None
        if source is None or there is None or not (there == found or names & set(find_targets(there.text))):
            continue
        changed = re.sub(r"(?<!/)/(?!/)", "//", there.text)
        if changed == there.text:
            continue
        text = changed if there == found else f"at {source._replace(line=line).text}: {changed}"
        fix = Candidate(text, (LineEdit(there.filename, there.first, there.last, changed),))
        return Diagnosis(reason, "an integer", fix)
    return None


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
