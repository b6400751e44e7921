"""What the axes of a trace show, as flags, and the rules about attention and about the batch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from modelsummary_ipy.diagnosis.call_arguments import argument
from modelsummary_ipy.diagnosis.failures.statements import read_statement
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.axis_wordings import WORDINGS
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.sample_rows import find_common_steps, find_unsorted_rows
from modelsummary_ipy.diagnosis.torch_names import RECURRENTS, SOFTMAXES
from modelsummary_ipy.records.op_events import AxisFinding
from modelsummary_ipy.records.summary import Flag, Number
from modelsummary_ipy.records.trace import Call

_SCATTERS = frozenset({"index_add", "scatter_add", "scatter_reduce", "index_reduce"})
_PACKS = frozenset({"_pack_padded_sequence", "_pad_packed_sequence"})
#: In names of classes whose numbers are of a whole batch.
_STATISTICS = ("norm", "stat", "whiten", "minibatch", "center", "critic", "discriminator", "bn", "scaler")
#: In names of buffers that keep statistics of batches.
_KEPT = re.compile(r"mean|var|std|running|moving|ema|stat|cent|sum|count|momentum|max|scale|batches|log|init")


def find_axis_flags(evidence: Evidence, rule: str) -> Iterator[tuple[Flag, Call]]:
    """Write what the axes show that belongs to a rule, once for a row, with the call that it is about."""
    found: set[int] = set()
    for finding in sorted(evidence.story.axis_findings, key=_is_note):
        wording = WORDINGS.get(finding.kind)
        call = evidence.calls[finding.call]
        if wording is None or wording.rule != rule or (rule == "batch-mixed" and not _has_samples(evidence)):
            continue
        if (finding.kind == "gram" and evidence.batch < 2) or (finding.kind == "picked" and _packs(evidence, call)):
            continue
        sizes = [write_size(spec.shape) for spec in call.inputs]
        words = {
            "what": sizes[0] if sizes else "",
            "all": " and ".join(sizes),
            "other": sizes[1] if len(sizes) > 1 else "",
            "op": call.type_name,
            "batch": str(evidence.batch),
        }
        is_meant = finding.kind == "reduced" and _is_of_a_batch(evidence, call)
        severity = "note" if is_meant else wording.severity
        axes = finding.axes
        if len(axes) == 2 and axes[0] == axes[1]:  # of each step with each
            axes = axes[0], f"the other {axes[1]}"
        flag = evidence.flag(rule, severity, call, wording.message.format(*axes, **words), wording.fix,
            finding.kind, **_numbers(evidence, finding, call),
        )  # fmt: skip
        if flag.row not in found:
            found.add(flag.row)
            yield flag, call


def _packs(evidence: Evidence, call: Call) -> bool:
    """Return whether samples are sorted by their lengths to be packed, or put back: by a line, or a layer, of torch."""
    lines = {step.source for step in evidence.flow.steps if step.type_name in _PACKS}
    return call.source in lines or any(spec.name.endswith(".sorted_indices") for spec in call.inputs)


def _is_of_a_batch(evidence: Evidence, call: Call) -> bool:
    """Return whether statistics of a batch are what a module is for: it says so by its name, or keeps them."""
    for around in evidence.flow.around(call):
        fact = evidence.modules[around.module or 0]
        is_named = around.index and any(word in fact.type_name.lower() for word in _STATISTICS)
        buffers = [index for index in fact.params if evidence.params[index].kind == "buffer"]
        names = [name.rpartition(".")[2] for index in buffers for name in evidence.params[index].names]
        if is_named or any(map(_KEPT.search, names)) or any(_writes(step, buffers) for step in evidence.flow.steps):
            return True
    return False


def _writes(step: Call, buffers: Sequence[int]) -> bool:
    """Return whether a step writes into one of these buffers: ``self.rm.lerp_(m, 0.1)``."""
    return step.type_name.endswith("_") and any(index in buffers for index in step.input_params[:1])


def _is_note(finding: AxisFinding) -> bool:
    wording = WORDINGS.get(finding.kind)
    return wording is None or wording.severity == "note"


def _numbers(evidence: Evidence, finding: AxisFinding, call: Call) -> dict[str, Number]:
    numbers: dict[str, Number] = {"batch": evidence.batch, "axes": finding.axes}
    return {**numbers, "shape": call.inputs[0].shape} if call.inputs else numbers


def _has_samples(evidence: Evidence) -> bool:
    """Return whether the first dim is of samples: not where a layer takes it for steps, nor of the nodes of a graph.

    A layer that is not ``batch_first`` and was given the samples in its dim 1 takes another dim for steps.
    """
    is_graph = evidence.batch > 2 and any(
        (spec.shape[:1] == (2,) and "int" in spec.dtype) or spec.shape == (evidence.batch, evidence.batch)
        for spec in (fact.spec for fact in evidence.inputs)
        if len(spec.shape) == 2
    )
    is_second = any(fact.dims == ("T", "B") for fact in evidence.inputs)  # as other inputs say
    unsure = [fact.index for fact in evidence.modules if fact.settings.get("batch_first") is False]
    firsts = [evidence.first_call_of(index) for index in unsure]
    is_unsure = any(call is None or evidence.moving_in(call) != (1,) for call in firsts)  # dim 1 is of samples
    return not is_graph and (is_second or not is_unsure)


def find_wrong_attention(evidence: Evidence) -> Iterator[Flag]:
    """Find attention whose weights sum to one along another axis than the one that is summed.

    Finds ``softmax(1)`` of scores ``(B, T, T)`` that are multiplied with the values, ``scaled_dot_product_attention``
    on ``(B, T, heads, d)``, a mask that hides whole rows of scores, ``softmax(0)`` of the edges of a graph whose rows
    are then added up node by node. Leaves alone weights that are divided by another sum (slot attention), softmaxes of
    features (linear attention), and gates.
    """
    yield from (flag for flag, _ in find_axis_flags(evidence, "attention-axis"))
    for step in evidence.flow.steps:
        shape = step.inputs[0].shape if step.inputs else ()
        if step.type_name not in SOFTMAXES or len(shape) not in (1, 2) or evidence.flow.setting(step, "dim") != 0:
            continue
        users = list(evidence.flow.after(step, 8))
        if any(user.type_name in ("topk", "sort", "argmax") for user in users[:5]):
            continue  # experts that choose among all rows
        for user in users:
            if (
                user.type_name.rstrip("_") in _SCATTERS
                and argument(user, "dim", "1") == 0
                and {spec.shape[:1] for spec in user.inputs[1:]} == {shape[:1]}
            ):
                message = f"{step.type_name} over dim 0 of {write_size(shape)} makes all {shape[0]} rows sum to 1, and "
                message += f"{user.type_name} adds them up group by group"
                yield evidence.flag("attention-axis", "warning", step, message,
                    "exp, divided by the sum of each group: index_add, then its rows by index", "edges", shape=shape,
                )  # fmt: skip
                break


def find_mixed_batches(evidence: Evidence) -> Iterator[Flag]:
    """Find what runs along the batch, and tables that are cut to its size.

    Finds ``cumsum(0)`` of ``(B, T)``, an FFT over all dims, ``positions[:x.size(0)]`` of a batch-first model. Leaves
    alone what reaches no output (losses, statistics), and sequence-first models, whose first dim is not the batch.
    """
    yield from (flag for flag, _ in find_axis_flags(evidence, "batch-mixed"))
    yield from find_unsorted_rows(evidence)
    yield from find_common_steps(evidence)
    for call in evidence.calls:
        name = _find_kept_state(evidence, call) if call.type_name in RECURRENTS and call.kind == "module" else ""
        if name:
            message = f"self.{name} of a batch of {evidence.batch} is where the next batch begins: its samples go on "
            message += "from others, and no line resets or detaches it"
            fix = "begin with None, or with zeros; self.… = state.detach() where a sequence goes on"
            yield evidence.flag("batch-mixed", "warning", call, message, fix, "state", batch=evidence.batch)


def _find_kept_state(evidence: Evidence, call: Call) -> str:
    """Return the attribute that a line gives a recurrent layer and assigns anew; ``""`` if another resets it."""
    statement = read_statement(call.source)
    found = re.search(r"self\.(\w+)\s*=.*\(.*\bself\.\1\s*\)", statement.text) if statement is not None else None
    owner = evidence.modules[evidence.calls[call.parent].module or 0] if call.parent is not None else None
    if found is None or owner is None or "detach" in (owner.reads or {"detach"}) or found[1] in owner.reads_elsewhere:
        return ""
    return found[1]


RULES = {"attention-axis": find_wrong_attention, "batch-mixed": find_mixed_batches}
