"""Another value for what ``__init__`` sets: ``self.act = nn.ReLU()`` for ``self.act = nn.ReLU``."""

from __future__ import annotations

import ast
from collections.abc import Callable

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext
from modelsummary_ipy.diagnosis.failures.module_code import write_change
from modelsummary_ipy.diagnosis.failures.setters import find_setter
from modelsummary_ipy.records.fixes import Candidate, LayerEdit
from modelsummary_ipy.records.trace import ModuleFact, join_path


def make_attribute(
    ctx: FailureContext, name: str, write: Callable[[ast.expr], str], code: str = "int(old)"
) -> Candidate:
    """Make another thing of what ``__init__`` sets.

    Args:
        name: ``"self.act"``.
        write: Writes the new value from the one that is written there.
        code: The same, made of the value itself, which is ``old``.
    """
    fact, attribute = find_users_module(ctx), name.rpartition(".")[2]
    found = find_setter(fact, attribute) if fact is not None else None
    if fact is None or found is None or len(found[0]) != 1:
        return NOTHING
    path = join_path(fact.path, attribute)
    written = write(found[0][0].value)
    return Candidate(write_change(path, written), (LayerEdit(path, code, written),))


def find_users_module(ctx: FailureContext) -> ModuleFact | None:
    """Return the module of the user's whose line failed."""
    facts = map(ctx.flow.module_of, (ctx.call, *ctx.flow.around(ctx.call)))
    return next((fact for fact in facts if fact is not None and not fact.type_module.startswith("torch.")), None)
