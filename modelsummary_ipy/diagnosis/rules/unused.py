"""The rule that finds layers whose parameters no operation touched although their siblings ran."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import ModuleFact, Severity


def find_unused_layers(evidence: Evidence) -> Iterator[Flag]:
    """Find layers whose parameters no operation touched although their siblings ran.

    A warning where no line that the forward leads to even names them, in train mode, and for the one member of a list
    that was left out; else a note: a branch not taken, a method not called. Leaves alone frozen teachers, weights used
    by hand (``F.linear(x, self.fc.weight)``), tied weights, single parameters that a line mentions (mask tokens),
    poolers.
    """
    trace = evidence.story.trace
    if trace.failure is not None or trace.engine == "static" or trace.starts_threads or not evidence.calls:
        return
    yield from _find_unused_tables(evidence)
    yield from _find_unread_tensors(evidence)
    yield from _find_idle_model(evidence)
    for fact in _unused(evidence):
        row = evidence.first_rows.get(fact.index)
        owner, attribute = evidence.owner_of(fact)
        if row is None or owner is None or evidence.first_call_of(owner.index) is None:
            continue
        severity = _judge_unused(evidence, fact, owner, attribute)
        if severity is None:
            continue
        count = evidence.count_trainable(fact.index)
        message = f"none of its {count:,} parameters were used: {_explain_unused(owner, attribute)}"
        yield Flag(
            "unused-layer", severity, row.index, row.path, message, "", "unused-layer", {"num_params": count}
        )  # fmt: skip


def _find_idle_model(evidence: Evidence) -> Iterator[Flag]:
    """Find a forward that reads none of the model's trainable parameters: an option has turned all of it off."""
    model, call = evidence.modules[0], evidence.first_call_of(0)
    if call is None or evidence.story.trace.method != "forward" or not evidence.trains(0):
        return
    ran = [child for child in model.children if evidence.first_call_in(child) is not None]
    is_copied = any(not fact.paths and fact.params for fact in evidence.modules)  # by the forward, a layer of its own
    if is_copied or evidence.params_below(0) & evidence.touched or any(evidence.trains(child) for child in ran):
        return
    count = evidence.count_trainable(0)
    message = f"none of its {count:,} parameters were used: {model.type_name}.forward called no layer that has any"
    yield evidence.flag("unused-layer", "warning", call, message, "", "model", num_params=count)


def _find_unread_tensors(evidence: Evidence) -> Iterator[Flag]:
    """Find a parameter or a buffer of a module that ran, beside its layers, that none of its methods mentions."""
    for fact in evidence.modules:
        call = evidence.first_call_of(fact.index)
        if call is None or fact.reads is None or not fact.training or fact.type_module.startswith("torch."):
            continue
        for param in (evidence.params[index] for index in fact.params if index not in evidence.touched):
            name = (param.names or ("",))[0].rpartition(".")[2]
            is_lone = name and "_" not in (name[0], name[-1]) and len(param.names) == 1 and param.shape
            if is_lone and name not in fact.reads | fact.reads_elsewhere and fact.index in evidence.first_rows:
                message = f"none of the {param.num:,} numbers of {name} were used: {_explain_unused(fact, name)}"
                yield evidence.flag("unused-layer", "warning", call, message, "", "tensor", num_params=param.num)


def _find_unused_tables(evidence: Evidence) -> Iterator[Flag]:
    """Find a module of the user's that holds buffers and no parameters, and that no line of the forward mentions.

    Finds a positional encoding that was forgotten. Leaves alone torch's modules, and what other methods use.
    """
    for fact in evidence.modules:
        row = evidence.first_rows.get(fact.index)
        if not fact.paths or not fact.index or fact.type_module.startswith("torch.") or not fact.params or row is None:
            continue
        held = [evidence.params[index] for index in fact.params]
        is_table = any(param.kind == "buffer" and len(param.shape) > 1 for param in held)  # and no scales or counters
        if not is_table or any(param.kind == "parameter" for param in held) or fact.children:
            continue
        owner, name = evidence.owner_of(fact)
        if evidence.first_call_in(fact.index) is not None or set(fact.params) & evidence.touched or owner is None:
            continue
        is_forgotten = owner.reads is not None and name not in owner.reads | owner.reads_elsewhere
        if is_forgotten and fact.training and evidence.first_call_of(owner.index) is not None:
            count = sum(param.num for param in held)
            message = f"its {count:,} numbers were not used: {_explain_unused(owner, name)}"
            yield Flag("unused-layer", "warning", row.index, row.path, message, "", "table", {"num_params": count})


def _unused(evidence: Evidence) -> Iterator[ModuleFact]:
    """The topmost modules with trainable parameters of which none was touched."""
    idle = {
        fact.index
        for fact in evidence.modules
        if fact.paths and evidence.trains(fact.index) and not evidence.params_below(fact.index) & evidence.touched
    }
    for index in sorted(idle):
        fact = evidence.modules[index]
        if fact.index and fact.parent not in idle and evidence.first_call_in(fact.index) is None:
            yield fact


def _judge_unused(evidence: Evidence, fact: ModuleFact, owner: ModuleFact, attribute: str) -> Severity | None:
    if "pooler" in fact.path:
        return None
    is_forward = evidence.story.trace.method == "forward"
    used_elsewhere = owner.reads is None or attribute in owner.reads | owner.reads_elsewhere
    if not is_forward and owner.index == 0 and used_elsewhere and len(evidence.calls_of(0)) < 2:
        return None  # `vae.encode(x)` alone, which no decoder is meant to be in
    if not fact.training or not is_forward or _is_cloned(evidence, fact):
        return "note"
    if _is_left_out(evidence, fact) or _is_outrun(evidence, fact):
        return "warning"
    known = owner.reads is not None and attribute not in owner.reads
    return "warning" if known and attribute not in owner.reads_elsewhere else "note"


def _is_left_out(evidence: Evidence, fact: ModuleFact) -> bool:
    """Return whether a module is the last of a list of which all others ran, three at least."""
    above = evidence.modules[fact.parent] if fact.parent is not None else None
    if above is None or above.type_name != "ModuleList" or above.children[-1] != fact.index:
        return False
    ran = [child for child in above.children if evidence.first_call_in(child) is not None]
    return len(ran) >= 3 and len(ran) == len(above.children) - 1


def _is_cloned(evidence: Evidence, fact: ModuleFact) -> bool:
    """Return whether ``nn.TransformerEncoder`` has copied a layer: it is kept as an attribute by habit."""
    others = [other for other in evidence.modules if other.type_name == fact.type_name and other is not fact]
    above = [evidence.modules[other.parent] for other in others if other.parent is not None]
    return fact.type_module.startswith("torch.nn.modules.transformer") and any(
        one.type_name == "ModuleList" and one.type_module.startswith("torch.") for one in above
    )


def _is_outrun(evidence: Evidence, fact: ModuleFact) -> bool:
    """Return whether one line calls one member of a list as often as the list has members, and no other one."""
    above = evidence.modules[fact.parent] if fact.parent is not None else None
    if above is None or above.type_name != "ModuleList":
        return False
    ran = [child for child in above.children if evidence.first_call_in(child) is not None]
    calls = evidence.calls_of(ran[0]) if ran else ()
    return len(ran) == 1 and len(calls) == len(above.children) > 1 and len({call.source for call in calls}) == 1


def _explain_unused(owner: ModuleFact, attribute: str) -> str:
    name = f"{owner.type_name}.forward"
    if owner.reads is None:
        return f"{name} did not call it"
    if attribute in owner.reads:
        return f"{name} mentions {attribute} and did not use it in this trace"
    if attribute in owner.reads_elsewhere:
        return f"only other methods of {owner.type_name} use {attribute}"
    return f"nothing that {name} calls mentions {attribute}"


RULES = {"unused-layer": find_unused_layers}
