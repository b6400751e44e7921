"""Rules about how modules are connected: not registered, never used, used more than once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.model.torch_layers import classes_of
from modelsummary_ipy.records.summary import Flag, Number, Row
from modelsummary_ipy.records.trace import Call, ModuleFact, Severity

#: Shared activations are a habit, and their one parameter is no layer.
_ACTIVATIONS = classes_of("activation") | {"Swish", "Snake"}


# -- unregistered -----------------------------------------------------------------------------------------------------


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
        message = (
            f"{what} {'are' if len(trainable) > 1 else 'is'} not registered: no optimizer sees {count:,} parameters"
        )
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
        message = (
            f"{len(used)} trainable tensors in {places} are not registered: no optimizer sees {count:,} parameters"
        )
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
        message = (
            f"the forward makes this {fact.type_name} again at every call: {count:,} new random weights, never trained"
        )
        fix = f"make it once, in __init__: self.layer = nn.{fact.type_name}(…)"
        yield evidence.flag("unregistered-layer", "warning", call, message, fix, "made", num_params=count)


# -- unused -----------------------------------------------------------------------------------------------------------


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
    rows = _first_rows(evidence)
    yield from _find_unused_tables(evidence, rows)
    yield from _find_unread_tensors(evidence, rows)
    yield from _find_idle_model(evidence)
    for fact in _unused(evidence):
        row = rows.get(fact.index)
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


def _find_unread_tensors(evidence: Evidence, rows: dict[int | None, Row]) -> Iterator[Flag]:
    """Find a parameter or a buffer of a module that ran, beside its layers, that none of its methods mentions."""
    for fact in evidence.modules:
        call = evidence.first_call_of(fact.index)
        if call is None or fact.reads is None or not fact.training or fact.type_module.startswith("torch."):
            continue
        for param in (evidence.params[index] for index in fact.params if index not in evidence.touched):
            name = (param.names or ("",))[0].rpartition(".")[2]
            is_lone = name and "_" not in (name[0], name[-1]) and len(param.names) == 1 and param.shape
            if is_lone and name not in fact.reads | fact.reads_elsewhere and fact.index in rows and fact.params:
                message = f"none of the {param.num:,} numbers of {name} were used: {_explain_unused(fact, name)}"
                yield evidence.flag("unused-layer", "warning", call, message, "", "tensor", num_params=param.num)


def _find_unused_tables(evidence: Evidence, rows: dict[int | None, Row]) -> Iterator[Flag]:
    """Find a module of the user's that holds buffers and no parameters, and that no line of the forward mentions.

    Finds a positional encoding that was forgotten. Leaves alone torch's modules, and what other methods use.
    """
    for fact in evidence.modules:
        row = rows.get(fact.index)
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
    num_calls = sum(call.module == owner.index and call.kind == "module" for call in evidence.calls)
    if not is_forward and owner.index == 0 and used_elsewhere and num_calls < 2:
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
    calls = [call for call in evidence.calls if ran and call.module == ran[0] and call.kind == "module"]
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


# -- repeated and reused ----------------------------------------------------------------------------------------------


def find_repeated_layers(evidence: Evidence) -> Iterator[Flag]:
    """Find one instance that is several times in one container: ``[block] * 6`` shares its weights; or two attributes.

    A warning in a Sequential, and in a ModuleList where each call reads what the one before made: six layers were
    meant. A note where all read the same kind of thing side by side: heads are shared on purpose. Leaves alone ties
    between different parents, and sharing by calling a layer again.
    """
    inside: set[int] = set()
    rows = _first_rows(evidence)
    for fact in evidence.modules:
        if len(fact.paths) < 2 or not evidence.trains(fact.index) or fact.type_name in _ACTIVATIONS:
            continue
        inside.update(fact.children)
        if fact.index in inside:
            inside.update(fact.children)
            continue
        found = _find_container(evidence, fact)
        if found is None:
            yield from _check_alias(evidence, fact, rows)
        if found is None or fact.index not in rows:
            continue
        container, times = found
        grave = container.type_name == "Sequential" or _is_chain(evidence, fact)
        count = evidence.count_trainable(fact.index)
        where = container.path or f"the {container.type_name}"
        message = f"the same {fact.type_name} is {times} times in {where}:"
        message += f" {count:,} parameters, not {times * count:,}"
        made = f"make() for _ in range({times})"
        listed = f"[{made}]" if container.type_name == "ModuleList" else f"*[{made}]"
        written = f"nn.{container.type_name}({listed})"
        fix = written if grave else "copy.deepcopy each, if they should not share weights"
        row = rows[fact.index]
        numbers: dict[str, Number] = {"times": times, "num_params": count}
        severity: Severity = "warning" if grave else "note"
        yield Flag("repeated-layer", severity, row.index, row.path, message, fix, "repeated-layer", numbers)


def _check_alias(evidence: Evidence, fact: ModuleFact, rows: dict[int | None, Row]) -> Iterator[Flag]:
    """``self.conv2 = self.conv1``, both called in turn."""
    above, *others = {path.rpartition(".")[0] for path in fact.paths}
    names = [path.rpartition(".")[2] for path in fact.paths]
    owner, _ = evidence.owner_of(fact)
    calls = [call for call in evidence.calls if call.module == fact.index and call.kind == "module"]
    if others or owner is None or owner.path != above or fact.index not in rows or owner.reads is None:
        return
    is_read = all(name in owner.reads for name in names) and len(calls) >= len(names)
    if is_read and any(evidence.flow.leads_to(calls[0], link) for link in calls[1].input_links):
        count = evidence.count_trainable(fact.index)
        message = f"{' and '.join(names)} are one {fact.type_name}, called in turn: {count:,} parameters, not "
        message += f"{len(names) * count:,}"
        row, numbers = rows[fact.index], dict[str, Number](times=len(names), num_params=count)
        fix = f"make {names[-1]} anew, or copy.deepcopy(self.{names[0]})"
        yield Flag("repeated-layer", "warning", row.index, row.path, message, fix, "alias", numbers)


def _is_chain(evidence: Evidence, fact: ModuleFact) -> bool:
    """Return whether each call of a module reads what its call before made, with no other weights between them."""
    calls = [call for call in evidence.calls if call.module == fact.index and call.kind == "module"]
    if len(calls) < 2:
        return False
    return all(_leads_straight(evidence, one, two) for one, two in itertools.pairwise(calls))


def _leads_straight(evidence: Evidence, one: Call, two: Call) -> bool:
    ends = {link.call for link in one.output_links if link is not None} | {one.index}
    todo, seen = [link for link in two.input_links if link is not None], set()
    while todo:
        link = todo.pop()
        if link.call in ends:
            return True
        call = evidence.calls[link.call] if link.call >= 0 else None
        if call is None or call.index in seen or call.params:
            continue
        seen.add(call.index)
        todo += [before for before in call.input_links if before is not None]
    return False


def _first_rows(evidence: Evidence) -> dict[int | None, Row]:
    return {row.module: row for row in reversed(evidence.story.rows) if row.kind == "module"}


def _find_container(evidence: Evidence, fact: ModuleFact) -> tuple[ModuleFact, int] | None:
    """The container that holds a module more than once, and how often."""
    counts: dict[str, int] = {}
    for path in fact.paths:
        counts[path.rpartition(".")[0]] = counts.get(path.rpartition(".")[0], 0) + 1
    base, times = max(counts.items(), key=lambda item: item[1])
    if times < 2:
        return None
    above = next((other for other in evidence.modules if base in other.paths), None)
    return (above, times) if above is not None and above.type_name in classes_of("container") else None


def find_reused_layers(evidence: Evidence) -> Iterator[Flag]:
    """Find layers that were called with feature maps or features of different sizes: a note, once a layer.

    Leaves alone calls that differ in the batch or the length only, and everything inside a reused block.
    """
    seen: set[int] = set()
    calls: dict[int, Call] = {}
    for call in evidence.calls:
        fact = evidence.flow.module_of(call)
        if fact is None or not call.inputs or not evidence.trains(fact.index):
            continue
        first = calls.setdefault(fact.index, call)
        is_inside = any(above.module in seen and above.kind == "module" for above in evidence.flow.around(call))
        if first is call or fact.index in seen or is_inside:
            continue
        one, two = first.inputs[0].shape, call.inputs[0].shape
        if len(one) < 4 or len(one) != len(two) or one[2:] == two[2:]:
            continue
        seen.add(fact.index)
        message = f"called with {write_size(one)} before and {write_size(two)} here: one set of weights for both"
        yield evidence.flag("reused-layer", "note", call, message, before=one, now=two)


RULES = {
    "unregistered-layer": find_unregistered_layers,
    "unused-layer": find_unused_layers,
    "repeated-layer": find_repeated_layers,
    "reused-layer": find_reused_layers,
}
