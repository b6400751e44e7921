"""The rule that finds dropouts which go on in evaluation."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.source_nodes import find_nodes
from modelsummary_ipy.diagnosis.failures.statements import read_statement
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, ModuleFact

_DROPOUTS = names_of("dropout")


def find_lasting_dropouts(evidence: Evidence) -> Iterator[Flag]:
    """Find a dropout that ``model.eval()`` does not end.

    Finds ``F.dropout(x, 0.5)``, whose ``training`` is true by default, and ``nn.Dropout(0.5)(x)`` made in the forward.
    Leaves alone ``training=True`` written out (Monte Carlo dropout), and a dropout of probability 0.
    """
    for step in evidence.flow.steps:
        if step.type_name not in _DROPOUTS or step.source is None:
            continue
        fact = evidence.flow.module_of(step)
        if (fact is not None and _is_loose(fact)) or (fact is None and _is_by_default(step)):
            p = evidence.flow.setting(step, "p", 0.5)
            if p:
                made = "it is no part of the model" if fact is not None else "training=True is its default"
                fix = "make it in __init__" if fact is not None else f"F.{step.type_name}(…, training=self.training)"
                message = f"{step.type_name} of p = {p} goes on after model.eval(): {made}"
                yield evidence.flag("lasting-dropout", "warning", step, message, fix, p=p)


def _is_loose(fact: ModuleFact) -> bool:
    """Return whether a module is held by no attribute that was found: made in the forward, say."""
    return not fact.paths and fact.found in ("", f"({fact.type_name})")


def _is_by_default(step: Call) -> bool:
    """Return whether the line calls the function and does not say whether it trains."""
    statement = read_statement(step.source)
    calls = find_nodes(statement.text, ast.Call) if statement is not None else []
    found = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == step.type_name]
    return bool(found) and all(
        ast.unparse(call.func) in (f"F.{step.type_name}", f"functional.{step.type_name}")
        and len(call.args) < 3
        and not any(keyword.arg in ("training", None) for keyword in call.keywords)
        and not any(isinstance(arg, ast.Starred) for arg in call.args)
        for call in found
    )


RULES = {"lasting-dropout": find_lasting_dropouts}
