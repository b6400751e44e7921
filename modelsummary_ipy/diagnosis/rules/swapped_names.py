"""Two names that a line hands over, or takes, in the order that is the other way round where they are read."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator, Sequence

from modelsummary_ipy.diagnosis.failures.statements import find_function, list_functions, parse_file
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import CATS
from modelsummary_ipy.records.packages import INSTALLED
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, ModuleFact, Source

#: Names of one thing each.
_ROLES = (
    "q query queries", "k key keys", "v value values", "tgt trg target targets", "src source mem memory enc encoded",
    "mu mean loc", "logvar lv logsigma logstd", "h hx hidden hn", "c cx cell cn",
    "p pos positive positives", "n neg negative negatives",
    "null uncond unconditional empty", "cond conditional label labels",
)  # fmt: skip
_ROLE_OF = {word: words.split()[0] for words in _ROLES for word in words.split()}
_PARTINGS = frozenset({"chunk", "split", "unbind", "tensor_split"})
#: What losses of torch call what they are given.
_TORCHES = dict.fromkeys(("triplet_margin_loss", "TripletMarginLoss"), ("anchor", "positive", "negative"))
_TURNED = re.compile(r"rev|swap|flip|inv|sym|back|cross|recip|other")

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def find_swapped_names(evidence: Evidence) -> Iterator[Flag]:
    """Find ``self.decoder(memory, tgt)`` of ``forward(self, tgt, memory)``, ``logvar, mu = self.encode(x)``,
    ``cond, uncond = h.chunk(2)`` of ``torch.cat([null, label])``.

    Leaves alone what is also called in the other order, names of a letter that say nothing, and calls whose name says
    that they turn something round.
    """
    seen: set[tuple[str, int]] = set()
    for fact in evidence.modules:
        first = evidence.first_call_of(fact.index)
        tree = parse_file(fact.forward_file) if fact.forward_file and first is not None else None
        if tree is None or fact.forward_file.startswith(INSTALLED) or (fact.forward_file, fact.forward_line) in seen:
            continue
        seen.add((fact.forward_file, fact.forward_line))
        functions = [function for function, owner in list_functions(tree) if owner == fact.type_name]
        pairs = [pair for function in functions for pair in _list_pairs(evidence, fact, function, tree)]
        for node, given, wanted, callee in pairs:
            swapped = _find_swap(given, wanted)
            others = [one for one, names, read, other in pairs if other == callee and _agree(names, read, swapped)]
            if swapped and not others and not _TURNED.search(callee.lower()):
                steps = [step for step in evidence.calls if _is_at(step, fact.forward_file, node)]
                if steps:
                    one, two = (wanted[given.index(name)] for name in swapped)
                    message = f"{swapped[0]} stands where {callee} has {one}, and {swapped[1]} where it has {two}"
                    fix = f"{swapped[1]}, {swapped[0]}"
                    yield evidence.flag("swapped-roles", "warning", steps[0], message, fix, "names")


def _is_at(step: Call, filename: str, node: ast.AST) -> bool:
    lines = [source for source in (step.source, *step.lines) if source is not None and source.filename == filename]
    first, last = getattr(node, "lineno", 0), getattr(node, "end_lineno", 0)
    return any(first <= source.line <= last for source in lines)


def _list_pairs(
    evidence: Evidence, fact: ModuleFact, function: _Function, tree: ast.Module
) -> Iterator[tuple[ast.AST, Sequence[str], Sequence[str], str]]:
    """List what the lines of a function hand over, or take, by name, beside what that is called at the other end."""
    calls = [node for node in ast.walk(function) if isinstance(node, ast.Call) and node.args]
    joins = [(node, [_name(one) for one in node.args[0].elts]) for node in calls
        if isinstance(node.args[0], (ast.List, ast.Tuple)) and _name(node) in CATS | {"stack"}]  # fmt: skip
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and len(node.args) > 1:
            callee, name = _find_callee(evidence, fact, node, tree)
            wanted = [argument.arg for argument in callee.args.args] if callee is not None else []
            types = [evidence.modules[child].type_name for child in fact.children
                if evidence.modules[child].path.rpartition(".")[2] == _name(node)]  # fmt: skip
            wanted = wanted or [*_TORCHES.get(types[0] if types else _name(node), ())]
            yield node, [_name(one) for one in node.args], wanted[wanted[:1] == ["self"] :], name or _name(node)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            taken = [_name(one) for one in node.targets[0].elts] if isinstance(node.targets[0], ast.Tuple) else []
            callee, name = _find_callee(evidence, fact, node.value, tree)
            if callee is not None:
                yield node, taken, _list_returned(callee), name
            for join, names in joins if _name(node.value) in _PARTINGS else ():
                if len(names) == len(taken) and join.lineno < node.lineno:
                    yield node, taken, names, _name(join)


def _find_callee(
    evidence: Evidence, fact: ModuleFact, node: ast.Call, tree: ast.Module
) -> tuple[_Function | None, str]:
    """Return the function that a call leads to, and how the call names it: a function, a method, a layer's forward."""
    called, owner = ast.unparse(node.func), ""
    name = called.rpartition(".")[2]
    if called not in (name, f"self.{name}"):
        return None, ""
    if called != name:
        owner = fact.type_name
        path = f"{fact.path}.{name}" if fact.path else name
        layer = next((evidence.modules[child] for child in fact.children if evidence.modules[child].path == path), None)
        if layer is not None:
            return find_function(Source("", layer.forward_line + 1, "", layer.forward_file)), name
    found = [function for function, of in list_functions(tree) if function.name == name and of == owner]
    return (found[0] if len(found) == 1 else None), name


def _list_returned(function: _Function) -> list[str]:
    """List what a function returns, by name, if it returns the same everywhere."""
    values = [node.value for node in ast.walk(function) if isinstance(node, ast.Return)]
    names = {tuple(map(_name, value.elts)) for value in values if isinstance(value, ast.Tuple)}
    return [*names.pop()] if len(names) == 1 == len(values) else []


def _name(node: ast.AST) -> str:
    """Return the name of a variable, of a part of one, or of the layer that made a value; ``""`` for anything else."""
    while isinstance(node, (ast.Subscript, ast.Starred)):
        node = node.value
    node = node.func if isinstance(node, ast.Call) else node
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _find_swap(given: Sequence[str], wanted: Sequence[str]) -> tuple[str, str] | None:
    both = list(zip(given, wanted, strict=False))
    for (one, its), (two, other) in itertools.combinations(both, 2):
        if _is_like(one, other) and _is_like(two, its) and not _is_like(one, its) and not _is_like(two, other):
            return one, two
    return None


def _agree(given: Sequence[str], wanted: Sequence[str], swapped: tuple[str, str] | None) -> bool:
    """Return whether names that are swapped elsewhere stand in their order here."""
    return swapped is not None and any(
        one in swapped and _is_like(one, its) for one, its in zip(given, wanted, strict=False)
    )


def _is_like(one: str, other: str) -> bool:
    """Return whether two names are of one thing: of one role, with a word of both, the beginning of one another."""
    words = [re.sub(r"[_\d]", "", name).lower() for name in (one, other)]
    roles = [_find_role(name) for name in (one, other)]
    if roles[0] or roles[1]:
        return roles[0] == roles[1]
    short, long = sorted(words, key=len)
    shared = {*re.split(r"[_\d]+", one.lower())} & {*re.split(r"[_\d]+", other.lower())}
    return (len(short) > 2 and long.startswith(short)) or any(len(word) > 2 for word in shared)


def _find_role(name: str) -> str:
    parts = [part for part in re.split(r"[_\d]+", name.lower()) if part]
    found = {_ROLE_OF[part] for part in ("".join(parts), *parts) if part in _ROLE_OF}
    return found.pop() if len(found) == 1 else ""
