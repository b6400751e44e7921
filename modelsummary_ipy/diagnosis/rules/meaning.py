"""What the axes of a trace show, as flags: a table from what an operation does to what is said of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from modelsummary_ipy.diagnosis.call_arguments import argument
from modelsummary_ipy.diagnosis.failures.statements import read_statement
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import RECURRENTS, SOFTMAXES
from modelsummary_ipy.records.op_events import AxisFinding, AxisFindingKind
from modelsummary_ipy.records.summary import Flag, Number
from modelsummary_ipy.records.trace import Call, Severity


class _Wording(NamedTuple):
    """What is said of a finding: ``{0}`` and ``{1}`` are its axes, ``{what}`` the shape that went in."""

    rule: str
    severity: Severity
    message: str
    fix: str = ""


_WORDINGS: dict[AxisFindingKind, _Wording] = {
    "softmax": _Wording(
        "attention-axis", "warning", "the weights {what} sum to 1 along {0}, but the product with them sums over {1}",
        "softmax over the last dim of the scores, the one that the values are multiplied along",
    ),
    "weighed": _Wording(
        "attention-axis", "warning", "the weights in {what} sum to 1 along {0}, but what they weigh is summed over {1}",
        "softmax over the dim that is summed",
    ),
    "chosen": _Wording(
        "attention-axis", "note", "the weights {what} sum to 1 along {0}, and a product with them sums over {1}: "
        "each step chooses among the features, not each feature among the steps",
    ),
    "unscaled": _Wording(
        "attention-axis", "note", "nothing scales the scores {what} of the heads before their softmax",
        "q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))",
    ),
    "heads": _Wording(
        "attention-axis", "warning",
        "attention on {what} runs over dim -2, which is {0}: heads attend to each other, not positions",
        "transpose(1, 2) queries, keys and values first, to (B, heads, T, d), and back after",
    ),
    "mask": _Wording(
        "attention-axis", "warning",
        "the mask of {what} is the same along {0}, the axis of the softmax: it hides all or nothing",
        "unsqueeze the mask so that its last dim lies on the keys: mask[:, None, :]",
    ),
    "single": _Wording(
        "wrong-axis", "warning", "a softmax of {what} over a dim of size 1 gives 1 everywhere",
        "sigmoid() for one class, or a softmax over another dim",
    ),
    "table": _Wording(
        "batch-mixed", "warning", "a table is cut to {batch} rows, the size of the batch: a sample is taken for a step",
        "cut it to the length: table[:x.size(1)]",
    ),
    "numbered": _Wording(
        "batch-mixed", "warning", "{op} of positions that are counted along {0}: each of the {batch} samples is a step",
        "torch.arange(x.size(1))",
    ),
    "along": _Wording(
        "batch-mixed", "warning", "{op} of {what} runs along {0} and mixes the {batch} samples of the batch",
        "another dim stays within a sample",
    ),
    "weighted": _Wording(
        "batch-mixed", "note", "{op} of {what} makes the {batch} samples sum to 1, over {0}",
        "another dim stays within a sample",
    ),
    "crossed": _Wording(
        "batch-mixed", "warning", "{op} of {all} looks along {0}, and the index has its samples on another dim",
        "samples on their own dim: x[torch.arange(len(x)), index], x.gather(1, index[:, None])",
    ),
    "reduced": _Wording(
        "batch-mixed", "warning", "{op} of {what} reduces {0}: each of the {batch} samples then depends on the others",
        "keep to the dims of a sample, or nn.BatchNorm for statistics of a batch",
    ),
    "laid": _Wording(
        "batch-mixed", "note", "{op} of {what} reduces {0}, and is laid on each of the {batch} samples again",
        "keep to the dims of a sample, or nn.BatchNorm for statistics of a batch",
    ),
    "row": _Wording(
        "wrong-axis", "warning",
        "{op} of {what} takes one row of a table, number {0}, which lies behind the last step, for all {0} steps",
        "a slice takes the rows before it: table[:, :x.size(1)]",
    ),
    "interleaved": _Wording(
        "wrong-axis", "warning",
        "{op} of {what} cuts the rows {0} into parts of samples: the rows of one sample stand side by side",
        "unflatten(0, (-1, n)).unbind(1), or h[0::n], h[1::n], …",
    ),
    "carried": _Wording(
        "batch-mixed", "note",
        "a loop takes the {batch} rows of dim 0 of {what} in turn, each goes on into the next: samples, or steps",
        "x[:, t] where the batch comes first",
    ),
    "strided": _Wording(
        "wrong-axis", "warning",
        "{op} of {what} takes one of {1} of the rows {0}, which are batches behind one another: samples of all of them",
        "chunk(n, 0) parts the batches",
    ),
    "tiled": _Wording(
        "wrong-axis", "warning", "{op} of {all} lays {0}, copies of all places behind one another, on {1}, its places",
        "repeat_interleave(n, dim), or F.interpolate, repeats each place",
    ),
    "drawn": _Wording(
        "batch-mixed", "warning", "{op} draws one number for all {batch} samples, and a table is read with it",
        "torch.randint(0, n, (x.size(0),)) draws one for each",
    ),
    "gram": _Wording(
        "batch-mixed", "warning", "{op} of {all} compares the features of each sample with those of all {batch}",
        "view(b, c, h * w) and bmm: one matrix for each sample",
    ),
    "offset": _Wording(
        "batch-mixed", "warning",
        "{op} looks the rows {0} of all {batch} samples up by numbers that begin at 0 in each: all read the first",
        "add what comes before a sample: index + torch.arange(x.size(0)).view(-1, 1, 1) * x.size(1)",
    ),
    "apart": _Wording(
        "batch-mixed", "warning", "{op} of {what} adds up the {batch} samples: a distance of each of {0}, not of each "
        "sample", "sum(1) is the distance of each pair of samples",
    ),
    "picked": _Wording("batch-mixed", "note", "{op} of {what} looks up among the {batch} samples of the batch"),
    "merged": _Wording(
        "batch-mixed", "warning", "a product of {what} sums over {0}: of the {batch} samples together one is made",
        "keep the letter of the batch in what comes out: 'btd,bsd->bts'",
    ),
    "contracted": _Wording("batch-mixed", "note", "a product of {what} sums over {0}, the {batch} samples"),
    "joined": _Wording(
        "batch-mixed", "warning", "a constant is put behind the {batch} samples of the batch: {0} grows by its rows",
        "expand it to the batch and join along the steps: torch.cat([token.expand(x.size(0), -1, -1), x], 1)",
    ),
    "noise": _Wording(
        "batch-mixed", "note", "the same random numbers for all {batch} samples of {what}",
        "torch.randn_like(x) draws anew for each",
    ),
    "normal": _Wording(
        "batch-mixed", "warning", "the same random numbers for all {batch} samples of {what}",
        "torch.randn_like(x) draws anew for each",
    ),
    "pairs": _Wording(
        "batch-mixed", "warning",
        "{op} of {all} takes along {0} what every sample asks for from each of the {batch} samples: pairs of samples",
        "x[torch.arange(len(x)), index], or x.gather(1, …)",
    ),
    "aligned": _Wording(
        "wrong-axis", "warning", "{op} lays {0} on {1}, in {what}: they only fit because their sizes are equal here",
        "add dims of 1 so that each lies on its like: t[:, :, None, None] on a feature map",
    ),
    "channels": _Wording(
        "wrong-axis", "warning", "{op} lays a parameter on {0} of {what}, as long as the channels in dim 1",
        "view the parameter as (1, C, 1, 1), or as (C, 1) on a sequence",
    ),
    "normed": _Wording(
        "wrong-axis", "warning", "{op} of {what} reads the positions {0} as its channels; {1} are in the other dim",
        "transpose(1, 2) before it, and after",
    ),
    "angles": _Wording(
        "wrong-axis", "warning", "{op} lays sines or cosines of positions on {0}, in {all}: those are the heads",
        "transpose(1, 2) before it, or angles of (T, 1, d)",
    ),
    "thirds": _Wording(
        "wrong-axis", "warning",
        "{op} cuts the positions {0} of {what} for queries, keys and values; {1} are in another dim",
        "chunk(3, dim=-1)",
    ),
    "uncut": _Wording(
        "wrong-axis", "warning",
        "{op} of {what} halves {0} and not the samples, of which a cat put two batches behind one another",
        "chunk(2, dim=0)",
    ),
    "summed": _Wording(
        "attention-axis", "warning", "{op} of {all} sums over {0}: the heads are added up before they are compared",
        "keep the letter of the heads in what comes out: 'bhqd,bhkd->bhqk'",
    ),
    "doubled": _Wording(
        "wrong-axis", "warning", "{op} of {all} puts what was made of the same steps behind one another, and both are "
        "reduced as if they were steps", "torch.cat(…, dim=-1), and a layer that reads all features",
    ),
    "turned": _Wording(
        "wrong-axis", "warning", "{op} of {what} is asked for {0} × {1}: height and width are in each other's place",
        "size=x.shape[-2:]",
    ),
    "root": _Wording(
        "wrong-axis", "warning", "{op} of {what} scales by the root of {0}, the number of steps; the product before it "
        "sums over features", "math.sqrt(q.size(-1))",
    ),
    "stacked": _Wording(
        "wrong-axis", "warning", "{op} of {all} puts feature maps of the same {0} behind one another; their channels, "
        "{1}, are in dim 1", "torch.cat(…, dim=1)",
    ),
    "gate": _Wording(
        "wrong-axis", "note", "{op} of {what} reduces the features, and a layer makes a gate of the positions {0}",
    ),
    "positions": _Wording(
        "wrong-axis", "warning",
        "{op} of {what} reduces the features, and a layer reads the positions {0} in their place",
        "reduce the positions, and keep the features",
    ),
    "vanished": _Wording(
        "wrong-axis", "note", "{op} of {what} reduces the features, and all positions {0} are left in the output",
        "reduce the positions, and keep the features",
    ),
    "unit": _Wording(
        "wrong-axis", "warning", "{op} of {what} makes the length 1 along the positions {0}; {1} are in the last dim",
        "dim=-1: F.normalize and F.cosine_similarity have dim=1 by default",
    ),
    "scores": _Wording(
        "wrong-axis", "warning",
        "{op} of {what} makes the length 1 along {0}, but the product of both sums over {1}: that is no cosine",
        "F.normalize(…, dim=-1)",
    ),
    "halves": _Wording(
        "wrong-axis", "warning", "{op} of {what} takes half of the positions {0} for the gate or the scale of the rest",
        "dim=1 on a feature map, where the channels are",
    ),
    "classes": _Wording(
        "wrong-axis", "note", "{op} of {what} runs over the positions {0}; {1} are in the last dim",
        "dim=-1, or transpose(1, 2) for cross_entropy",
    ),
    "labels": _Wording(
        "wrong-axis", "warning", "{op} of {what} takes {0} for its classes: it only fits because there are as many",
        "transpose(1, 2): cross_entropy wants (B, classes, steps)",
    ),
    "pinned": _Wording(
        "wrong-axis", "warning", "{op} of {all} lays {0} on a buffer that is as long only here: one step less fails",
        "cut the buffer to the length: buffer[:T, :T] of a mask, buffer[:, :T] of positions",
    ),
    "answers": _Wording(
        "wrong-axis", "warning", "{op} of {what} runs over the positions {0}, and is the output; {1} are the classes",
        "dim=1 on a feature map, dim=-1 on a sequence",
    ),
    "reordered": _Wording(
        "wrong-axis", "warning",
        "{op} lays the rows {0} on the rows {1}, in {all}: they were flattened in another order",
        "transpose one of them before it is flattened; repeat_interleave(k, 0) for repeat(k, 1)",
    ),
    "regrouped": _Wording(
        "wrong-axis", "warning",
        "{op} of {all} lays heads on {0}: what lay on them before was repeated in the other order",
        "repeat_interleave(n, 1) for both, or expand behind the groups",
    ),
    "coincident": _Wording(
        "wrong-axis", "warning",
        "{op} of {all} lays {0} on another dim, it is at dims {1}: they only fit because their sizes are equal here",
        "unsqueeze or transpose so that it lies on its like: sigma[:, None, None, None] on a feature map",
    ),
    "degrees": _Wording(
        "wrong-axis", "warning",
        "{op} of {what} and what it is reduced to along dim {0}, without keepdim: that of row i lies on column i",
        "keepdim=True: a / a.sum(1, keepdim=True)",
    ),
    "sides": _Wording(
        "uneven-sides", "note", "{op} treats H and W unlike: of a square feature map it makes {0} × {1}",
        "the same for both sides: torch.cat(…, 1), a padding of four numbers, a size for each",
    ),
    "idle": _Wording("idle-resize", "note", "a resize of {what} to the size that it has changes nothing"),
    "shrunk": _Wording(
        "idle-resize", "note", "a feature map was made smaller to be added here, to {what}: its details are lost",
        "enlarge the coarse one to the size of the fine one",
    ),
}  # fmt: skip


_SCATTERS = frozenset({"index_add", "scatter_add", "scatter_reduce", "index_reduce"})
#: In names of classes whose numbers are of a whole batch.
_STATISTICS = ("norm", "stat", "whiten", "minibatch", "center", "critic", "discriminator", "bn")
#: In names of buffers that keep statistics of batches.
_KEPT = re.compile(r"mean|var|std|running|moving|ema|stat|cent|sum|count|momentum|max|scale|batches|log|init")


def find_axis_flags(evidence: Evidence, rule: str) -> Iterator[tuple[Flag, Call]]:
    """Write what the axes show that belongs to a rule, once for a row, with the call that it is about."""
    found: set[int] = set()
    for finding in sorted(evidence.story.axis_findings, key=_is_note):
        wording = _WORDINGS.get(finding.kind)
        call = evidence.calls[finding.call]
        if wording is None or wording.rule != rule or (rule == "batch-mixed" and not _has_samples(evidence)):
            continue
        if finding.kind == "gram" and evidence.batch < 2:
            continue
        sizes = [write_size(spec.shape) for spec in call.inputs]
        words = {
            "what": sizes[0] if sizes else "",
            "all": " and ".join(sizes),
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
    wording = _WORDINGS.get(finding.kind)
    return wording is None or wording.severity == "note"


def _numbers(evidence: Evidence, finding: AxisFinding, call: Call) -> dict[str, Number]:
    numbers: dict[str, Number] = {"batch": evidence.batch, "axes": finding.axes}
    return {**numbers, "shape": call.inputs[0].shape} if call.inputs else numbers


def _has_samples(evidence: Evidence) -> bool:
    """Return whether the first dim is of samples: not where a layer takes it for steps, nor of the nodes of a graph."""
    is_graph = evidence.batch > 2 and any(
        (spec.shape[:1] == (2,) and "int" in spec.dtype) or spec.shape == (evidence.batch, evidence.batch)
        for spec in (fact.spec for fact in evidence.inputs)
        if len(spec.shape) == 2
    )
    is_second = any(fact.dims == ("T", "B") for fact in evidence.inputs)  # as other inputs say
    is_unsure = any(fact.settings.get("batch_first") is False for fact in evidence.modules)
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
    for call in evidence.calls:
        name = _find_kept_state(evidence, call) if call.type_name in RECURRENTS and call.kind == "module" else ""
        if name:
            message = (
                f"self.{name} of a batch of {evidence.batch} is where the next batch begins: its samples go on from "
            )
            message += "others, and no line resets or detaches it"
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
