"""The rule that finds layers and parameters that the forward uses and ``parameters()`` does not list."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, ModuleFact, Severity


def find_unregistered_layers(evidence: Evidence) -> Iterator[Flag]:
    """Find layers and parameters that the forward uses and ``parameters()`` does not list.

    Finds ``self.layers = [nn.Linear(…), …]``, a dict of them, a list of ``nn.Parameter``, layers made again in every
    forward. Leaves alone what is frozen (a teacher kept out of the way), and a single module hidden on purpose
    (``[module]``, an attribute of a config), which is a note if it trains.
    """
    yield from _find_loose_layers(evidence)
    yield from _find_loose_params(evidence)
    yield from _find_made_layers(evidence)


def _find_loose_layers(evidence: Evidence) -> Iterator[Flag]:
    groups: dict[tuple[int | None, str], list[tuple[ModuleFact, Call]]] = {}
    for fact in evidence.modules:
        above = evidence.modules[fact.parent] if fact.parent is not None else None
        if fact.paths or fact.made or not fact.found or (above is not None and not above.paths):
            continue
        call = evidence.first_call_in(fact.index)
        if call is not None:
            groups.setdefault((fact.parent, _container_name(fact.found)), []).append((fact, call))
    for (_, name), members in groups.items():
        # A layer may be reached another way while its parameters are registered: these an optimizer does see.
        unseen = {
            fact.index: {index for index in evidence.params_below(fact.index) if not evidence.params[index].names}
            for fact, _ in members
        }
        trainable = [fact for fact, _ in members if unseen[fact.index]]
        if not trainable:
            continue
        call = next(call for fact, call in members if fact.index == trainable[0].index)
        count = sum(evidence.params[index].num for index in set().union(*unseen.values()))
        grave = "[" in trainable[0].found and len(trainable) > 1
        what = f"{len(trainable)} {'layers' if len(trainable) > 1 else 'layer'} in {name}"
        message = f"{what} {'are' if len(trainable) > 1 else 'is'} not registered: no optimizer sees {count:,} "
        message += "parameters"
        keyed = "['" in trainable[0].found or '["' in trainable[0].found
        holder = "nn.ModuleDict" if keyed else "nn.ModuleList"
        attribute = name.rpartition(".")[2]
        fix = f"self.{attribute} = {holder}(…)" if grave else ""
        severity: Severity = "warning" if grave else "note"
        yield evidence.flag("unregistered-layer", severity, call, message, fix, "layers", num_params=count)


def _container_name(found: str) -> str:
    """``"encoder.layers"`` of ``"encoder.layers[0]"``."""
    return found.partition("[")[0]


def _find_loose_params(evidence: Evidence) -> Iterator[Flag]:
    for fact in evidence.modules:
        used = [(place, index) for place, index in fact.loose if index in evidence.touched]
        if not used or not fact.paths:
            continue
        call = next((call for call in evidence.calls if call.kind == "op" and used[0][1] in call.params), None)
        call = call or evidence.first_call_of(fact.index)
        if call is None:
            continue
        names = list(dict.fromkeys(_container_name(place) for place, _ in used))
        count = sum(evidence.params[index].num for _, index in used)
        places = ", ".join(f"self.{name}" for name in names)
        message = f"{len(used)} trainable tensors in {places} are not registered: no optimizer sees {count:,} "
        message += "parameters"
        listed = "[" in used[0][0]
        fix = f"self.{names[0]} = nn.Parameter{'List' if listed else ''}(…)"
        yield evidence.flag("unregistered-layer", "warning", call, message, fix, "tensors", num_params=count)


def _find_made_layers(evidence: Evidence) -> Iterator[Flag]:
    seen: set[int] = set()
    # A wrapper made in the forward around a layer of the model brings no weights of its own.
    kept = {index for fact in evidence.modules if not fact.made for index in fact.params}
    for call in evidence.calls:
        fact = evidence.flow.module_of(call)
        if fact is None or not fact.made or fact.index in seen or not evidence.params_below(fact.index) - kept:
            continue
        above = evidence.modules[fact.parent] if fact.parent is not None else None
        if above is not None and above.made:
            continue
        seen.add(fact.index)
        count = sum(evidence.params[index].num for index in evidence.params_below(fact.index) - kept)
        message = f"the forward makes this {fact.type_name} again at every call: {count:,} new random weights, never "
        message += "trained"
        fix = f"make it once, in __init__: self.layer = nn.{fact.type_name}(…)"
        yield evidence.flag("unregistered-layer", "warning", call, message, fix, "made", num_params=count)


RULES = {"unregistered-layer": find_unregistered_layers}
