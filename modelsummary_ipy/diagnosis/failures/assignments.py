"""What names stand for: what is written where it can't be, or lost, and closures of a loop that bind late."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line, write_at
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite, write_statement
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, parse_line, read_text, splice_node
from modelsummary_ipy.diagnosis.failures.statements import (
    drop_remark,
    find_loops,
    find_parameters,
    list_around,
    list_loops,
    walk_function,
)
from modelsummary_ipy.records.fixes import Candidate

_ASSIGNED = re.compile(r"cannot assign '[\w.]+' as (child module|parameter) '(\w+)'")
_LEAF = re.compile(r"leaf Variable that requires grad (?:is being used in|has been moved)")
_BEYOND = re.compile(r"^index (-?\d+) is out of range$")
_SIGNS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.MatMult: "@", ast.Pow: "**"}


def explain_assignment(ctx: FailureContext) -> Diagnosis | None:
    """Explain a tensor written over a layer or a parameter, into one, or an index beyond a list of layers."""
    kind, message = ctx.failure.error_type, ctx.failure.message
    if kind == "TypeError" and (found := _ASSIGNED.search(message)):
        return _explain_replaced(ctx, found[1], found[2])
    if kind == "RuntimeError" and _LEAF.search(message):
        return _explain_leaf(ctx)
    return _explain_beyond(ctx, int(found[1])) if kind == "IndexError" and (found := _BEYOND.search(message)) else None


def _explain_replaced(ctx: FailureContext, kind: str, name: str) -> Diagnosis | None:
    """What a layer gives was assigned to the layer's own name: ``self.pool = self.pool(x)``."""
    statement, nodes = ctx.statement, walk_function(ctx.failure.source)
    if statement is None or not nodes:
        return None
    stored = (node for node in find_nodes(ctx.line, ast.Attribute) if isinstance(node.ctx, ast.Store))
    text, local = next((ast.unparse(node) for node in stored if node.attr == name), f"self.{name}"), name
    if any(isinstance(node, ast.Name) and node.id == name for node in nodes):
        local = f"{name}_out"
    made = fix_line(ctx, _rename(ctx.line, text, local, stores=True))
    later = sorted({
        node.lineno for node in nodes
        if isinstance(node, ast.Attribute) and ast.unparse(node) == text and node.lineno > statement.last
    })  # fmt: skip
    for line in later:
        there = ctx.read_at(line)
        if there is not None and made:
            old = drop_remark(there.text)
            new = _rename(old, text, local, stores=False)
            made = made + write_statement(ctx, there, new) if new != old else made
    fixes = [made]
    if kind == "parameter" and not later:  # it is to last
        fixes.insert(0, fix_line(ctx, _rename(ctx.line, text, f"{text}.data", stores=True)))
    what = "layer" if kind == "child module" else "parameter"
    return Diagnosis(f"{text} is a {what}, and the line puts a tensor in its place", "a name of its own", fixes)


def _rename(line: str, old: str, new: str, *, stores: bool) -> str:
    """Write a name anew where it is assigned, or where it is read; what is called is the layer itself."""
    tree = parse_line(line)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)} if tree is not None else set()
    found = [
        node for node in (ast.walk(tree) if tree is not None else ())
        if isinstance(node, ast.Attribute) and ast.unparse(node) == old
        and (isinstance(node.ctx, ast.Store) if stores else id(node) not in called)
    ]  # fmt: skip
    for node in sorted(found, key=lambda node: (-node.lineno, -node.col_offset)):
        line = splice_node(line, node, new)
    return line


def _explain_leaf(ctx: FailureContext) -> Diagnosis | None:
    """A parameter is changed in place, which autograd can't follow."""
    line = ctx.line
    body = getattr(parse_line(line), "body", [])
    statement = body[0] if len(body) == 1 else None
    fixes: list[Candidate] = []
    target = getattr(statement, "target", None) or next(iter(getattr(statement, "targets", [])), None)
    base = target.value if isinstance(target, ast.Subscript) else target
    while isinstance(base, ast.Subscript):
        base = base.value
    text = ast.unparse(base) if base is not None else ""
    if isinstance(statement, ast.AugAssign) and isinstance(base, ast.Name) and base is target:
        sign = _SIGNS.get(type(statement.op), "")
        fixes.append(fix_line(ctx, f"{text} = {text} {sign} {ast.unparse(statement.value)}" if sign else ""))
    elif isinstance(target, ast.Subscript) and isinstance(base, ast.Name):
        fixes.append(fix_line(ctx, f"{text} = {text}.clone()\n{line}"))
    elif base is not None and "." in text:
        fixes.append(fix_line(ctx, splice_node(line, base, f"{text}.data")))

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if (
            isinstance(node, ast.Attribute)
            and re.fullmatch(r"[a-z]\w*[a-z]_", node.attr)
            and isinstance(around, ast.Call)
        ):
            if isinstance(statement, ast.Expr):
                yield f"{write(node.value)}.data.{node.attr}"
            else:
                yield f"{write(node.value)}.{node.attr[:-1]}"
        if isinstance(node, ast.Constant) and node.value is True and isinstance(around, ast.keyword):
            yield "False"

    fixes += rewrite(ctx, change, here=True)
    reason = "a parameter is changed in place, and autograd needs it as it was"
    return Diagnosis(reason, "a new tensor, or its .data", fixes)


def _explain_beyond(ctx: FailureContext, index: int) -> Diagnosis | None:
    """A loop counts further than a list has layers."""
    loops = dict(find_loops(ctx.failure.source))
    for node in ast.walk(parse_line(ctx.line) or ast.Module([], [])):
        held = ctx.failure.names.get(ast.unparse(node.value)) if isinstance(node, ast.Subscript) else None
        if held is None or not isinstance(node, ast.Subscript) or held.kind not in ("ModuleList", "Sequential"):
            continue
        name, count = ast.unparse(node.value), len(held.words)
        reason = f"{name} has {count} layers, 0 … {count - 1}, and the line reads number {index}"
        counter = next((word for word in re.findall(r"\w+", ast.unparse(node.slice)) if word in loops), "")
        head = loops.get(counter)
        ran = {call.path for call in ctx.trace.calls}
        first = next(
            (fact for fact in ctx.trace.modules if fact.path.endswith(f"{name.removeprefix('self.')}.0")), None
        )
        if counter and ast.unparse(node.slice) == counter and index == count and first and first.path not in ran:
            reason += ": the first, number 0, was never read"
            shifted = fix_line(ctx, splice_node(ctx.line, node.slice, f"{counter} - 1"))
            return Diagnosis(reason, f"0 … {count - 1}", shifted)
        there = ctx.read_at(head.lineno) if head is not None else None
        if isinstance(node.slice, ast.Constant):
            return Diagnosis(
                reason, f"0 … {count - 1}", fix_line(ctx, splice_node(ctx.line, node.slice, str(count - 1)))
            )
        ranges = [
            call for call in ast.walk((parse_line(there.text) if there is not None else None) or ast.Module([], []))
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "range" and call.args
        ]  # fmt: skip
        if there is None or len(ranges) != 1:
            return Diagnosis(reason, f"0 … {count - 1}")
        over = ranges[0]
        more = re.fullmatch(rf"{counter} \+ (\d+)", ast.unparse(node.slice))
        end = f"len({name}){f' - {more[1]}' if more is not None else ''}"
        words = [end] if len(over.args) == 1 else [ast.unparse(over.args[0]), end, *map(ast.unparse, over.args[2:])]
        line = drop_remark(there.text)
        fix = write_statement(ctx, there, splice_node(line, over, f"range({', '.join(words)})"))
        return Diagnosis(reason, f"0 … {count - 1}", fix)
    return None


def explain_not_carried(ctx: FailureContext) -> Diagnosis | None:
    """A loop gives every layer what the first one read, ``out = layer(x)``, and not what the layer before gave."""
    fact, source = ctx.fact, ctx.failure.source
    if fact is None or source is None or not find_loops(source):
        return None
    wanted = fact.settings.get("in_features", fact.settings.get("in_channels"))
    before = [
        call for call in ctx.trace.calls[: ctx.call.index]
        if call.kind == "module" and call.source == ctx.call.source and call.path != ctx.call.path
        and call.input_links[:1] == ctx.call.input_links[:1]
    ]  # fmt: skip
    found = re.fullmatch(r"(\w+) = (.*)", ctx.line)
    axis = -1 if "in_features" in fact.settings else 1
    gave = before[-1].outputs[0].shape if before and before[-1].outputs else ()
    if found is None or len(gave) < 2 or gave[axis] != wanted:
        return None
    names = dict.fromkeys(node.id for node in find_nodes(found[2], ast.Name))
    read = [name for name in names if name in find_parameters(source) and name != found[1]]
    if len(read) != 1:
        return None
    reason = f"each turn of the loop reads '{read[0]}' again; '{before[-1].path}' gave the {wanted} that are expected"
    return Diagnosis(reason, "what the layer before gave", fix_line(ctx, f"{found[1]} = {read[0]} = {found[2]}"))


def explain_late(ctx: FailureContext) -> Diagnosis | None:
    """Explain the last layer of a list that runs first, in a ``lambda`` that was made for another one."""
    container, _, item = ctx.call.path.rpartition(".")
    siblings = [fact for fact in ctx.trace.modules if fact.path.rpartition(".")[0] == container] if container else []
    if len(siblings) < 2 or siblings[-1].path != ctx.call.path or ctx.call.kind != "module" or not item:
        return None
    if any(call.path in {fact.path for fact in siblings[:-1]} for call in ctx.trace.calls):
        return None
    for made, name in _list_made(ctx):
        reason = f"the lambda reads {name} when it is called, and that is the last one then: the loop has ended"
        return Diagnosis(reason, f"{name}={name} among the lambda's arguments", _keep(ctx, made, name))
    return None


def _list_made(ctx: FailureContext) -> Iterator[tuple[ast.Lambda, str]]:
    """List the lambdas in loops that hold the failing line, each with the loop's name that it reads."""
    source = ctx.failure.source
    if source is None:
        return
    loops = list_loops(source)
    for made in list_around(source, (ast.Lambda,)):
        if not made.lineno <= source.line <= (made.end_lineno or made.lineno):
            continue
        read = {node.id for node in ast.walk(made.body) if isinstance(node, ast.Name)}
        read -= {item.arg for item in ast.walk(made.args) if isinstance(item, ast.arg)}
        for loop in loops:
            targets = [loop.target] if isinstance(loop, ast.For) else [part.target for part in loop.generators]
            names = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
            if any(node is made for node in ast.walk(loop)):
                yield from ((made, name) for name in sorted(names & read))


def _keep(ctx: FailureContext, made: ast.Lambda, name: str) -> Candidate:
    """Give a lambda of a statement the loop's name as an argument with a default: ``lambda x, layer=layer: …``."""
    source = ctx.failure.source
    statement = ctx.read_at(made.lineno)
    if statement is None or source is None:
        return NOTHING
    line = drop_remark(statement.text)
    own = [node for node in find_nodes(line, ast.Lambda) if ast.unparse(node) == ast.unparse(made)]
    if len(own) != 1:
        return NOTHING
    arguments = ast.unparse(own[0].args)
    kept = f"{arguments}, {name}={name}" if arguments else f"{name}={name}"
    changed = splice_node(line, own[0], f"lambda {kept}: {read_text(line, own[0].body)}")
    return write_at(source, statement, changed)
