"""A list of tensors, or of numbers, where one tensor belongs."""

from __future__ import annotations

import ast
import re

from modelsummary_ipy.diagnosis.failures.context import FailureContext
from modelsummary_ipy.diagnosis.failures.statements import find_function


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
