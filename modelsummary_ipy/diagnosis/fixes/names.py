"""Slips of names: a line reads another tensor, or another layer, than it was to, or one that it reads nowhere."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Iterable, Iterator

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.rewriting import Write, list_statements, rewrite, write_statement
from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes, find_targets, read_name, splice_node
from modelsummary_ipy.diagnosis.failures.statements import (
    drop_remark,
    find_function,
    find_parameters,
    list_read,
    list_stored,
    read_statement,
    walk_function,
)
from modelsummary_ipy.diagnosis.fixes.list_edits import is_tensor
from modelsummary_ipy.records.fixes import Candidate, LineEdit
from modelsummary_ipy.records.trace import Source

#: Which other names are read: those that nothing reads; these and those that are alike; any, to make a tensor like it;
#: those of as many dims.
UNREAD, LIKELY, AS_PATTERN, FITTING = range(4)


def take_names(ctx: FailureContext, which: int) -> Iterator[Candidate]:
    """List statements that read another tensor of the function: of those that ``which`` says."""
    born: dict[str, int] = dict.fromkeys(find_parameters(ctx.failure.source), 0)
    for node in sorted(list_stored(ctx.failure.source), key=lambda node: node.lineno):
        born.setdefault(node.id, node.lineno)
    known = ctx.failure.names
    tensors = [name for name in reversed(born) if (name not in known or known[name].kind == "Tensor") and name != "_"]
    read = list_read(ctx.failure.source)
    made = [node.targets for node in walk_function(ctx.failure.source) if isinstance(node, ast.Assign)]
    alone = {ast.unparse(targets[0]) for targets in made if len(targets) == 1}  # no second state of an LSTM
    lost = _find_overwritten(find_function(ctx.failure.source))

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterable[str]:
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load) or node.id not in tensors:
            return ()
        is_pattern = isinstance(around, ast.Call) and read_name(around.func).endswith(("_like", "_as"))
        is_pattern |= isinstance(around, ast.Attribute) and around.attr in ("shape", "size")
        if isinstance(around, ast.Call) and around.func is node:
            return ()
        others = [name for name in tensors if name != node.id]
        unread = [name for name in others if name not in read and (which != UNREAD or name in alone)]
        if which == UNREAD:
            return dict.fromkeys([*unread, *(name for name in lost.values() if name != node.id)])
        if which == FITTING:
            return [name for name in others if _may_stand_for(ctx, name, node.id)]
        if read.count(node.id) == 1:  # nothing would read the old one then
            return unread if which != AS_PATTERN else ()
        likely = [*unread, *(name for name in others if _hide_digits(name) == _hide_digits(node.id))]
        if which == LIKELY:
            return likely
        return [name for name in others if name not in likely] if is_pattern else ()

    for candidate in rewrite(ctx, change, here=which == FITTING, alone=True):
        edit = candidate.edits[0]
        if isinstance(edit, LineEdit):
            names = [node.id for node in find_nodes(edit.text, ast.Name) if isinstance(node.ctx, ast.Load)]
            there = read_statement(Source("", edit.first, "", edit.filename))
            nodes = find_nodes(there.text if there is not None else "", ast.Name)
            taken = [node.id for node in nodes if isinstance(node.ctx, ast.Load) or which != UNREAD]
            new = [name for name in dict.fromkeys(names) if name not in taken]  # no x + x
            is_lost = which == UNREAD and any(name not in alone or name in read for name in new)
            if is_lost and lost.get(edit.first) not in new:
                continue
            if new and all(born.get(name, 0) < edit.first for name in names):
                yield candidate


def _find_overwritten(function: ast.FunctionDef | None) -> dict[int, str]:
    """Find the statements that give another value to a name whose last one nothing has read, by their lines."""
    found: dict[int, str] = {}
    bodies = [getattr(node, "body", ()) for node in ast.walk(function)] if function is not None else []
    for body in bodies:
        unread: set[str] = set()
        for node in body if isinstance(body, list) else ():
            names = [item for item in ast.walk(node) if isinstance(item, ast.Name)]
            unread -= {item.id for item in names if isinstance(item.ctx, ast.Load)}
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(target, ast.Name):
                found |= {node.lineno: target.id} if target.id in unread else {}
                unread.add(target.id)
    return found


def _may_stand_for(ctx: FailureContext, name: str, old: str) -> bool:
    """Return whether a tensor has as many dims as another, and other sizes, and the other's value is read elsewhere."""
    one, other = (ctx.failure.names[word].shape if word in ctx.failure.names else () for word in (name, old))
    sizes = [x.shape for x in ctx.operands[:2] if x.shape != other]
    fits = len(one) == len(other) > 0 and one != other and (ctx.function != "add" or one in sizes)
    if not fits or ctx.statement is None or old in find_targets(ctx.line):
        return False
    here = range(ctx.statement.first, ctx.statement.last + 1)
    found = [node for node in walk_function(ctx.failure.source) if isinstance(node, ast.Name) and node.id == old]
    stored = max((n.lineno for n in found if isinstance(n.ctx, ast.Store) and n.lineno < here.start), default=0)
    return any(isinstance(n.ctx, ast.Load) and n.lineno > stored and n.lineno not in here for n in found)


def exchange_names(ctx: FailureContext) -> Iterator[Candidate]:
    """Read two tensors each for the other from the failing line on: skip connections that were mixed up."""
    function, statement = find_function(ctx.failure.source), ctx.statement
    later = [node for node in ast.walk(function) if isinstance(node, ast.stmt)] if function is not None else []
    later = [node for node in later if statement is not None and node.lineno > statement.first and not _is_block(node)]
    here = dict.fromkeys(node.id for node in find_nodes(ctx.line, ast.Name))
    behind = {item.id for node in later for item in ast.walk(node) if isinstance(item, ast.Name)}
    for one in here:
        for other in [name for name in ctx.failure.names if name in behind and name != one]:
            if not is_tensor(ctx, one) or not is_tensor(ctx, other) or (other in here and other < one):
                continue
            made = Candidate()
            for there in dict.fromkeys([statement, *(ctx.read_at(node.lineno) for node in later)]):
                line = drop_remark(there.text) if there is not None else ""
                nodes = [node for node in find_nodes(line, ast.Name) if isinstance(node.ctx, ast.Load)]
                turned = {one: other, other: one}
                for node in sorted(nodes, key=lambda node: (-node.lineno, -node.col_offset)):
                    line = splice_node(line, node, turned[node.id]) if node.id in turned else line
                edit = write_statement(ctx, there, line) if there is not None else Candidate()
                made = made + edit if made and edit else made or edit
            if len(made.edits) > 1:
                yield made


def _is_block(node: ast.stmt) -> bool:
    return hasattr(node, "body")


def call_unread(ctx: FailureContext) -> Iterator[Candidate]:
    """Call a layer that the forward does not, of what a line gives a name: ``h = self.reduce(self.enc(x))``."""
    owner = ctx.flow.module_of(ctx.parent) if ctx.call.path else ctx.fact
    reads = owner.reads if owner is not None else None
    facts = [ctx.trace.modules[index] for index in owner.children] if owner is not None and reads is not None else []
    unread = [name for fact in facts if (name := fact.path.rpartition(".")[2]) not in (reads or ())]

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(around, ast.Assign) and around.value is node and isinstance(around.targets[0], ast.Name):
            yield from (f"self.{name}({write(node)})" for name in unread)

    if unread:
        yield from rewrite(ctx, change, alone=True)


def _hide_digits(name: str) -> str:
    """Write a name so that those of its kind are written alike: ``"x#_#"`` for ``"x1_0"``."""
    return re.sub(r"\d", "#", name)


def take_layers(ctx: FailureContext) -> Iterator[Candidate]:
    """Call layers of the model that its forward does not read, for those of their class that it reads twice."""
    owner = ctx.flow.module_of(ctx.parent) if ctx.call.path else ctx.fact
    if owner is None or owner.reads is None:
        return
    facts = [ctx.trace.modules[index] for index in owner.children]
    kinds = {fact.path.rpartition(".")[2]: fact.type_name for fact in facts}
    unread = [name for name in kinds if name not in owner.reads]
    for statement in list_statements(ctx) if unread else ():
        nodes = [node for node in find_nodes(statement.text, ast.Attribute) if ast.unparse(node.value) == "self"]
        read = dict.fromkeys(node.attr for node in nodes if node.attr in kinds)
        new = {
            old: difflib.get_close_matches(old, [name for name in unread if kinds[name] == kinds[old]], 1, 0.5)
            for old in read
        }  # fmt: skip
        line = drop_remark(statement.text)
        for old, names in new.items():
            line = re.sub(rf"\bself\.{old}\b", f"self.{names[0]}", line) if names else line
        yield write_statement(ctx, statement, line)
