"""A list of tensors, or of numbers, where one tensor belongs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.failures.statements import find_function
from modelsummary_ipy.records.fixes import Candidate


def find_list(ctx: FailureContext) -> list[str]:
    """Find a list that the function itself made, and how its tensors become one: by steps, then side by side."""
    function = find_function(ctx.failure.source)
    code = ast.unparse(function) if function is not None else ""
    for name, held in ctx.failure.names.items():
        is_own = re.search(rf"\b{re.escape(name)}(?: = \[|\.append\()", code) and re.search(
            rf"\b{re.escape(name)}\b", ctx.line
        )
        if held.kind == "list" and is_own and set(held.words) <= {"Tensor", "Parameter"}:
            first = re.search(r"range\(\w+\.(?:size\(0\)|shape\[0\])\)|for \w+ in x:", code) is not None
            stacked = [f"torch.stack({{}}, dim={int(not first)})"] if _is_in_loop(function) else []
            return [name, *stacked, "torch.cat({}, dim=1)", "{}[-1]"]
    return []


def _is_in_loop(function: ast.FunctionDef | None) -> bool:
    """Return whether a function fills a list in a loop: what it holds is alike then."""
    loops = (ast.For, ast.While, ast.ListComp)
    return function is not None and any(isinstance(node, loops) for node in ast.walk(function))


def join_list(ctx: FailureContext, join: list[str]) -> list[Candidate]:
    """Write one tensor for a list where the line names it."""
    texts = [text.format(join[0]) for text in join[1:]]
    if re.search(r"\bdim=0\b", ctx.line):
        texts.insert(0, f"torch.stack({join[0]})")

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        yield from texts if isinstance(node, ast.Name) and node.id == join[0] else ()

    return rewrite(ctx, change, here=True)


def find_numbers(ctx: FailureContext) -> str:
    """Find a name in the line that is a list of numbers, or of such lists."""
    for name, held in ctx.failure.names.items():
        if (
            held.kind == "list"
            and held.words
            and set(held.words) <= {"int", "float", "list", "tuple"}
            and name in ctx.line
        ):
            return name
    return ""
