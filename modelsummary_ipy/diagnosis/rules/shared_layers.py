"""Rules about layers that run more than once: repeated in a container, called with different sizes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.model.torch_layers import classes_of
from modelsummary_ipy.records.summary import Flag, Number
from modelsummary_ipy.records.trace import Call, ModuleFact, Severity

#: Shared activations are a habit, and their one parameter is no layer.
_ACTIVATIONS = classes_of("activation") | {"Swish", "Snake"}


def find_repeated_layers(evidence: Evidence) -> Iterator[Flag]:
    """Find one instance that is several times in one container: ``[block] * 6`` shares its weights; or two attributes.

    A warning in a Sequential, and in a ModuleList where each call reads what the one before made: six layers were
    meant. A note where all read the same kind of thing side by side: heads are shared on purpose. Leaves alone ties
    between different parents, and sharing by calling a layer again.
    """
    inside: set[int] = set()
    for fact in evidence.modules:
        if len(fact.paths) < 2 or not evidence.trains(fact.index) or fact.type_name in _ACTIVATIONS:
            continue
        inside.update(fact.children)
        if fact.index in inside:
            inside.update(fact.children)
            continue
        found = _find_container(evidence, fact)
        if found is None:
            yield from _check_alias(evidence, fact)
        if found is None or fact.index not in evidence.first_rows:
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
        row = evidence.first_rows[fact.index]
        numbers: dict[str, Number] = {"times": times, "num_params": count}
        severity: Severity = "warning" if grave else "note"
        yield Flag("repeated-layer", severity, row.index, row.path, message, fix, "repeated-layer", numbers)


def _check_alias(evidence: Evidence, fact: ModuleFact) -> Iterator[Flag]:
    """``self.conv2 = self.conv1``, both called in turn."""
    above, *others = {path.rpartition(".")[0] for path in fact.paths}
    names = [path.rpartition(".")[2] for path in fact.paths]
    owner, _ = evidence.owner_of(fact)
    calls = evidence.calls_of(fact.index)
    if others or owner is None or owner.path != above or fact.index not in evidence.first_rows or owner.reads is None:
        return
    is_read = all(name in owner.reads for name in names) and len(calls) >= len(names)
    if is_read and any(evidence.flow.leads_to(calls[0], link) for link in calls[1].input_links):
        count = evidence.count_trainable(fact.index)
        message = f"{' and '.join(names)} are one {fact.type_name}, called in turn: {count:,} parameters, not "
        message += f"{len(names) * count:,}"
        row, numbers = evidence.first_rows[fact.index], dict[str, Number](times=len(names), num_params=count)
        fix = f"make {names[-1]} anew, or copy.deepcopy(self.{names[0]})"
        yield Flag("repeated-layer", "warning", row.index, row.path, message, fix, "alias", numbers)


def _is_chain(evidence: Evidence, fact: ModuleFact) -> bool:
    """Return whether each call of a module reads what its call before made, with no other weights between them."""
    calls = evidence.calls_of(fact.index)
    return len(calls) > 1 and all(_leads_straight(evidence, one, two) for one, two in itertools.pairwise(calls))


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


RULES = {"repeated-layer": find_repeated_layers, "reused-layer": find_reused_layers}
