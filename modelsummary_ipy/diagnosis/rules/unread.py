"""The rule that finds what a forward computes and no later line reads."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache

from modelsummary_ipy.diagnosis.failures.statements import list_functions, parse_file
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, Source


def find_unread_results(evidence: Evidence) -> Iterator[Flag]:
    """Find the result of a layer that the next line overwrites, or that has no name, and a sum of a tensor with itself.

    Finds ``h = self.a(x)`` before ``h = self.b(x)``, a line ``x.view(-1, 400)`` alone, ``out + out`` beside an
    ``identity`` that no line reads; as a note an input that nothing reads. Leaves alone what a line reads in a branch
    that was not taken, what is kept in an attribute, names of ``_``.
    """
    trace = evidence.story.trace
    if trace.failure is not None or not evidence.calls:
        return
    reached = {step.index for link in evidence.calls[0].output_links for step in evidence.flow.before(link)}
    for step in evidence.flow.steps:
        if step.outputs and step.index not in reached and not step.inplace and _is_dropped(step):
            what = f"'{step.path}'" if step.kind == "module" else f"{step.type_name}()"
            shape = step.outputs[0].shape
            message = f"what {what} returns, {write_size(shape)}, is not kept: the line gives it no name"
            yield evidence.flag(
                "unread-result", "warning", step, message, "h = … in front of it", "dropped", shape=shape
            )
        elif step.params and step.index not in reached and _trains(evidence, step):
            name = _find_unread(step.source)
            if name:
                count = sum(evidence.params[index].num for index in step.params)
                message = f"{name} is made here, of {count:,} parameters, and no later line reads it"
                yield evidence.flag("unread-result", "warning", step, message, f"let the next line read {name}",
                    "overwritten", num_params=count,
                )  # fmt: skip
        elif step.type_name in ("add", "add_") and len(step.input_links) == 2 and _is_of_itself(step):
            name = _find_unread_alias(step.source)
            if name or _adds_a_name_twice(step.source):
                message = f"a tensor of {write_size(step.inputs[0].shape)} is added to itself"
                message += f", and no line reads {name}" if name else ""
                fix = f"add {name} instead" if name else "add what the block was given; 2 * x if that is meant"
                yield evidence.flag("unread-result", "warning", step, message, fix, "itself",
                    shape=step.inputs[0].shape,
                )  # fmt: skip
    yield from _find_unread_inputs(evidence)


def _find_unread_inputs(evidence: Evidence) -> Iterator[Flag]:
    """A note on the model for every tensor of numbers that nothing reads, beside others that are read."""
    root = evidence.calls[0]
    read = {link.leaf for call in evidence.calls[1:] for link in call.input_links if link is not None and link.call < 0}
    for leaf, fact in enumerate(evidence.inputs):
        is_given = "float" in fact.spec.dtype and len(fact.spec.shape) > 1 and leaf not in read and read
        if is_given and Link(-1, leaf) not in root.output_links:
            message = f"nothing reads input {fact.spec.name or leaf} of {write_size(fact.spec.shape)}"
            yield evidence.flag("unread-result", "note", root, message, "read it, or leave it out", "input",
                shape=fact.spec.shape,
            )  # fmt: skip


def _trains(evidence: Evidence, step: Call) -> bool:
    return any(evidence.params[index].trainable for index in step.params)


def _is_of_itself(step: Call) -> bool:
    one, other = step.input_links
    return one is not None and one == other


def _is_dropped(step: Call) -> bool:
    """Return whether a line is only the call, as ``x.view(-1, 400)`` and ``self.conv(x)``, not ``layer.to(device)``."""
    function = _find_function(step.source) if step.source is not None else None
    if function is None or step.source is None or not any(step.input_links):
        return False
    name = step.path.rpartition(".")[2] if step.kind == "module" else step.type_name
    return any(first <= step.source.line <= last and name == called for first, last, called in _list_bare(function))


@lru_cache(maxsize=64)
def _list_bare(function: ast.FunctionDef) -> tuple[tuple[int, int, str], ...]:
    """List the statements of a function that are nothing but a method's call: first and last line, and its name."""
    calls = (
        (node, node.value.func)
        for node in ast.walk(function)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )
    return tuple(
        (node.lineno, node.end_lineno or 0, called.attr) for node, called in calls if isinstance(called, ast.Attribute)
    )


def _find_function(source: Source) -> ast.FunctionDef | None:
    """Return the innermost function that a line is in."""
    tree = parse_file(source.filename) if source.filename else None
    found = None
    for node, _ in list_functions(tree) if tree is not None else ():
        if isinstance(node, ast.FunctionDef) and node.lineno <= source.line <= (node.end_lineno or 0):
            found = node  # an inner one comes later
    return found


def _find_unread(source: Source | None) -> str:
    """Return the local name that a line of a function's own block assigns and no later line reads; ``""`` if one does.

    A name that is also read before, in a loop or in a function inside, is left alone.
    """
    function = _find_function(source) if source is not None else None
    if source is None or function is None:
        return ""
    for at, statement in enumerate(function.body):
        if not statement.lineno <= source.line <= (statement.end_lineno or 0):
            continue
        name = _target(statement)
        if not name:
            return ""
        for later in function.body[at + 1 :]:
            if _reads(later, name):
                return ""
            if _target(later) == name:
                return name
        return name
    return ""


def _find_unread_alias(source: Source | None) -> str:
    """Return the local name to which another name was given, ``identity = x``, and that no line reads."""
    function = _find_function(source) if source is not None else None
    for statement in function.body if function is not None else ():
        is_alias = isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Name)
        name = _target(statement) if is_alias else ""
        if name and function is not None and not _reads(function, name):
            return name
    return ""


def _adds_a_name_twice(source: Source | None) -> bool:
    """Return whether a line says ``x + x`` or ``x += x``."""
    function = _find_function(source) if source is not None else None
    if source is None or function is None:
        return False
    for node in ast.walk(function):
        if not isinstance(node, (ast.BinOp, ast.AugAssign)) or node.lineno != source.line:
            continue
        sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
        names = [side.id for side in sides if isinstance(side, ast.Name)]
        if isinstance(node.op, ast.Add) and len(names) == 2 and names[0] == names[1]:
            return True
    return False


def _target(statement: ast.stmt) -> str:
    """Return the one name that a statement assigns; ``""`` for any other statement."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return ""
    target = statement.targets[0]
    return target.id if isinstance(target, ast.Name) and not target.id.startswith("_") else ""


def _reads(node: ast.AST, name: str) -> bool:
    return any(
        isinstance(item, ast.Name) and item.id == name and isinstance(item.ctx, (ast.Load, ast.Del))
        for item in ast.walk(node)
    )


RULES = {"unread-result": find_unread_results}
