"""What the source of a forward says that no line reads: names, arguments, what a line alone returns."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache

from modelsummary_ipy.diagnosis.failures.statements import (
    find_function,
    list_functions,
    list_statements,
    parse_file,
    read_last_statement,
    walk_function,
)
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import FACTORIES, RESHAPES, TRANSPOSES, is_weighted, params_of
from modelsummary_ipy.records.packages import INSTALLED
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, ModuleFact, Source

_LEFT_OVER = TRANSPOSES | {"getitem", "unsqueeze", "squeeze", "detach", "randperm", "item", "argmax", "to", "clone"}
_PARTINGS = frozenset({"chunk", "split", "unbind", "tensor_split"})


def explain_no_output(evidence: Evidence) -> Flag | None:
    """A forward that ends without a return, or returns a layer that was made of a tensor: ``return nn.Softmax(x)``."""
    fact, steps = evidence.modules[0], [step for step in evidence.flow.steps if is_weighted(step)]
    last = read_last_statement(fact.forward_file, fact.forward_line)
    function = find_function(Source("", fact.forward_line + 1, "", fact.forward_file))
    if not steps or function is None:
        return None
    made = next((write_size(step.outputs[0].shape) for step in reversed(steps) if step.outputs), "")
    returns = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
    if not returns and last is not None:
        name = last[1] or last[0].text
        message = f"{fact.type_name}.forward has no return: it gives None, and {made} is lost"
        return evidence.flag("unread-result", "warning", evidence.calls[0], message, f"return {name}", "no-return")
    for value in returns:
        if (
            isinstance(value, ast.Call)
            and value.args
            and re.fullmatch(r"(?:torch\.)?nn\.([A-Z]\w+)", ast.unparse(value.func))
        ):
            text, name = ast.unparse(value), ast.unparse(value.func)
            message = f"{text} makes a layer with a tensor for its settings, and the model returns it; {made} is lost"
            fix = f"return {name}(…)({ast.unparse(value.args[0])})"
            return evidence.flag("unread-result", "warning", evidence.calls[0], message, fix, "no-return")
    return None


def find_unread_names(evidence: Evidence, reached: set[int]) -> Iterator[Flag]:
    """A line of a forward that names a tensor, ``identity = x``, ``mask = ids != 0``, where no line reads the name."""
    for fact in evidence.modules:
        first = evidence.first_call_of(fact.index)
        if first is None or not fact.forward_file or fact.forward_file.startswith(INSTALLED):
            continue
        function = find_function(Source("", fact.forward_line + 1, "", fact.forward_file))
        if function is None:
            continue
        made = {
            step.source.line: step
            for step in evidence.flow.steps
            if step.source and step.source.filename == fact.forward_file and step.index not in reached
        }
        ends = {step.index for step in made.values() if not evidence.flow.readers(step)}
        works = {step.source.line for step in evidence.flow.steps if step.source and _is_work(step)}
        given = {spec.name for spec in first.inputs} | {argument.arg for argument in function.args.args[1:2]}
        for statement in _list_statements(function):
            name, value = _target(statement), getattr(statement, "value", None)
            yield from _find_unread_parts(evidence, function, statement, fact.forward_file)
            if not name or reads(function, name):
                continue
            step = made.get(statement.lineno)
            yield from _find_unread_method(evidence, fact, statement, reached)
            if isinstance(value, ast.Name) and value.id in given and not _is_added_to(evidence, first):
                message = f"line {statement.lineno} keeps {value.id} of {write_size(first.inputs[0].shape)} as {name},"
                message += " and no line reads that"
                yield evidence.flag("unread-result", "warning", first, message, f"add {name} before the return", "kept",
                    shape=first.inputs[0].shape,
                )  # fmt: skip
            elif step is not None and step.index in ends and statement.lineno in works:
                message = f"{name} of {write_size(step.outputs[0].shape)} is made here, and no line reads it"
                yield evidence.flag("unread-result", "warning", step, message, f"read {name}, or leave the line out",
                    "name", shape=step.outputs[0].shape,
                )  # fmt: skip


def _list_statements(function: ast.FunctionDef) -> list[ast.stmt]:
    """List the statements of a function, with those in its loops, not those in branches, which may not be taken."""
    found: list[ast.stmt] = []
    for statement in function.body:
        found += [statement, *(statement.body if isinstance(statement, (ast.For, ast.With)) else [])]
    return found


def _find_unread_method(evidence: Evidence, fact: ModuleFact, statement: ast.stmt, reached: set[int]) -> Iterator[Flag]:
    """``a = self.gate(g, x)``, a method with layers, where no line reads ``a`` nor anything that the method made."""
    value = getattr(statement, "value", None)
    called = value.func if isinstance(value, ast.Call) else None
    tree = parse_file(fact.forward_file)
    if not isinstance(called, ast.Attribute) or ast.unparse(called.value) != "self" or tree is None:
        return
    for function, owner in list_functions(tree):
        if function.name != called.attr or owner != fact.type_name:
            continue
        steps = [
            step for step in evidence.flow.steps if step.source and step.source.filename == fact.forward_file
            and function.lineno <= step.source.line <= (function.end_lineno or 0)
        ]  # fmt: skip
        if any(map(is_weighted, steps)) and not any(step.index in reached for step in steps):
            name, shape = _target(statement), steps[-1].outputs[0].shape
            message = f"{name} of {write_size(shape)}, which self.{called.attr}() makes, is read by no line"
            yield evidence.flag("unread-result", "warning", steps[-1], message, f"read {name}, or leave the line out",
                "name", shape=shape,
            )  # fmt: skip


def _is_work(step: Call) -> bool:
    """Return whether a step computes: what only has another shape, or is made of nothing, may be left over."""
    return step.kind == "op" and not params_of(step) and step.type_name not in _LEFT_OVER | RESHAPES | FACTORIES


def _find_unread_parts(
    evidence: Evidence, function: ast.FunctionDef, statement: ast.stmt, filename: str
) -> Iterator[Flag]:
    """``a, b = h.chunk(2, 1)`` where no line reads ``b``, nor any tensor that it is."""
    names = [name for name in _targets(statement) if not reads(function, name)]
    value = getattr(statement, "value", None)
    is_cut = isinstance(value, ast.Tuple) and all(isinstance(item, (ast.Subscript, ast.Call)) for item in value.elts)
    if names and is_cut and len(names) < len(_targets(statement)):
        cuts = [
            step for step in evidence.flow.steps if step.source and step.source.filename == filename
            and step.source.line == statement.lineno
        ]  # fmt: skip
        unread = [step for step in cuts if not evidence.flow.readers(step)]
        if unread and len(unread) < len(cuts) and _is_of_like(cuts, unread[0]):
            shape = unread[0].outputs[0].shape
            message = f"{' and '.join(names)} of {write_size(shape)}, a part of {len(cuts)}, is not read"
            yield evidence.flag("unread-result", "warning", unread[0], message, "read it, or name it _", "part",
                shape=shape,
            )  # fmt: skip
    for step in evidence.flow.steps if names else ():
        is_here = step.source and step.source.filename == filename and step.source.line == statement.lineno
        if is_here and step.type_name in _PARTINGS and len(step.outputs) > 1:
            idle = [leaf for leaf in range(len(step.outputs)) if not evidence.flow.reads.get(Link(step.index, leaf))]
            if 0 < len(idle) < len(step.outputs):
                shape = step.outputs[idle[0]].shape
                message = f"{' and '.join(names)} of {write_size(shape)}, a part of {len(step.outputs)}, is not read"
                yield evidence.flag("unread-result", "warning", step, message, "read it, or name it _",
                    "part", shape=shape,
                )  # fmt: skip


def _is_of_like(steps: list[Call], idle: Call) -> bool:
    """Return whether all steps of a line are of the kind of one of them: slices of one tensor, calls of one layer."""
    is_slice = idle.type_name == "getitem" and len({step.input_links[:1] for step in steps}) == 1
    is_layer = idle.kind == "module" and len({step.module for step in steps}) == 1
    return (is_slice or is_layer) and {step.type_name for step in steps} == {idle.type_name}


def _is_added_to(evidence: Evidence, call: Call) -> bool:
    """Return whether a sum reads what a module is given."""
    given = set(call.input_links) - {None}
    return any(step.type_name.startswith("add") and given & set(step.input_links) for step in evidence.flow.steps)


def is_dropped(step: Call) -> bool:
    """Return whether a line is only the call, as ``x.view(-1, 400)`` and ``self.conv(x)``, not ``layer.to(device)``."""
    function = find_function(step.source)
    if function is None or step.source is None or not any(step.input_links):
        return False
    name = step.path.rpartition(".")[2] if step.kind == "module" else step.type_name
    called = {"", name} if step.kind == "module" else {name}
    return any(first <= step.source.line <= last and found in called for first, last, found in _list_bare(function))


@lru_cache(maxsize=64)
def _list_bare(function: ast.FunctionDef) -> tuple[tuple[int, int, str], ...]:
    """List the statements of a function that are nothing but a call: first and last line, and the method's name.

    Of what has another name in a loop, ``norm(x)``, or is an item, ``self.norms[0](x)``, the name is ``""``.
    """
    found = []
    for node, _ in list_statements(function):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            called = node.value.func
            if isinstance(called, ast.Attribute) or sum(isinstance(one, ast.Call) for one in ast.walk(node)) == 1:
                found.append((node.lineno, node.end_lineno or 0, getattr(called, "attr", "")))
    return tuple(found)


def find_unread(source: Source | None, *, is_one: bool = False) -> str:
    """Return the local name that a line assigns and no later line of its block reads; ``""`` if one does.

    A name that is also read before, in a loop or in a function inside, is left alone.

    Args:
        is_one: Whether the line ran several times, and what it made at another turn is read: the name may be read then.
    """
    function = find_function(source)
    if source is None or function is None:
        return ""
    for at, statement in enumerate(function.body):
        if not statement.lineno <= source.line <= (statement.end_lineno or 0):
            continue
        if isinstance(statement, ast.For):
            inner = [node for node in ast.walk(statement) if isinstance(node, ast.Assign)]
            names = [name for node in inner if node.lineno == source.line for name in _targets(node)]
            around = statement if is_one else function
            return "" if any(reads(around, name) for name in names) else ", ".join(names)
        live = names = _targets(statement)
        for later in function.body[at + 1 :]:
            if any(reads(later, name) for name in live):
                return ""
            live = [name for name in live if name not in _targets(later)]
        return ", ".join(names)
    return ""


def find_unread_alias(source: Source | None) -> str:
    """Return the local name to which another name was given, ``identity = x``, and that no line reads."""
    function = find_function(source)
    for statement in function.body if function is not None else ():
        name = _target(statement) if isinstance(getattr(statement, "value", None), ast.Name) else ""
        if name and function is not None and not reads(function, name):
            return name
    return ""


def adds_a_name_twice(source: Source | None) -> bool:
    """Return whether a line says ``x + x`` or ``x += x``."""
    for node in walk_function(source):
        if source is None or not isinstance(node, (ast.BinOp, ast.AugAssign)) or node.lineno != source.line:
            continue
        sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
        names = [side.id for side in sides if isinstance(side, ast.Name)]
        if isinstance(node.op, ast.Add) and len(names) == 2 and names[0] == names[1]:
            return True
    return False


def _target(statement: ast.stmt) -> str:
    """Return the one name that a statement assigns; ``""`` for any other statement."""
    names = _targets(statement)
    is_one = isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    return names[0] if names and is_one else ""


def _targets(statement: ast.stmt) -> list[str]:
    """List the names that a statement assigns, without those that begin with ``_``; none if it assigns other things."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return []
    parts = list(ast.walk(statement.targets[0]))
    if any(isinstance(part, (ast.Attribute, ast.Subscript)) for part in parts):
        return []
    return [part.id for part in parts if isinstance(part, ast.Name) and not part.id.startswith("_")]


def reads(node: ast.AST, name: str) -> bool:
    """Return whether code reads a name, or deletes it."""
    return any(
        isinstance(item, ast.Name) and item.id == name and isinstance(item.ctx, (ast.Load, ast.Del))
        for item in ast.walk(node)
    )
