"""The rule that finds what keeps gradients from parameters that are to be trained."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import LOOKUPS, params_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, Severity

#: Steps through which values go and gradients do not.
_DETACHED = frozenset({"detach", "detach_", "data", "tensor"})
_CHOICES = frozenset({"argmax", "argmin", "topk", "sort", "argsort", "max", "min", "multinomial", "bucketize"})
_FLAT = frozenset({"round", "floor", "ceil", "trunc", "sign", "heaviside"})
_COMPARISONS = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
#: Names of networks that follow another one, or stay as they are.
_FOLLOWERS = ("teacher", "target", "momentum", "ema", "frozen", "pretrained", "reference", "old")


def find_cut_gradients(evidence: Evidence) -> Iterator[Flag]:
    """Find the step behind which no gradient reaches parameters that are to be trained.

    Finds an ``argmax``, a comparison or a rounding in the path, a forgotten ``detach()`` or ``torch.no_grad()``, and a
    straight-through estimator the other way round. Leaves
    alone frozen parameters, models in eval mode, straight-through estimators, and what is kept for a loss. A note where
    it may be meant: under ``no_grad``, of a network with a trained twin (a teacher), of a codebook, of what a critic
    reads beside data, of a comparison of two tensors (a mask of lengths).
    """
    yield from _find_undone(evidence)
    trace = evidence.story.trace
    trained = trace.trained
    if trained is None or trace.failure is not None or trace.method != "forward" or not trace.modules[0].training:
        return
    cut = {index for index in evidence.touched if _is_to_train(evidence, index)} - trained
    if not cut:
        return
    told: set[int] = set()
    for end in _walk_back(evidence):
        params = (_params_before(evidence, end) & cut) - told
        if params and (flag := _write_cut(evidence, end, params)) is not None:
            told |= params
            yield flag


def _find_undone(evidence: Evidence) -> Iterator[Flag]:
    """``q + (z - q).detach()`` of q that was made of z: it is z, and the gradient goes to q alone."""
    for step in evidence.flow.steps:
        for link, cut in itertools.permutations(step.input_links, 2) if step.type_name.startswith("add") else ():
            off = evidence.flow.producer(cut)
            off = evidence.flow.producer(off.input_links[0]) if off is not None and off.type_name in _DETACHED else None
            if off is None or off.type_name != "sub" or len(off.input_links) != 2 or off.input_links[1] != link:
                continue
            first = evidence.flow.producer(off.input_links[0])
            if first is not None and evidence.flow.leads_to(first, link):
                message = f"the sum {write_size(step.outputs[0].shape)} is what {first.path or first.type_name} made, "
                message += "and nothing of what was made of that and is added: only gradients go there"
                fix = "z + (q - z).detach(): q, with the gradient of z"
                yield evidence.flag("no-gradient", "warning", step, message, fix, "undone")


def _is_to_train(evidence: Evidence, index: int) -> bool:
    fact = evidence.params[index]
    return fact.trainable and fact.kind == "parameter" and bool(fact.names)


def _params_before(evidence: Evidence, end: Call) -> set[int]:
    found = params_of(end)
    for step in evidence.flow.before(Link(end.index, 0)):
        found |= params_of(step)
    return found


def _walk_back(evidence: Evidence) -> list[Call]:
    """Return the steps at which gradients on their way back from the output end, the last first."""
    flow = evidence.flow
    todo = [link for link in evidence.calls[0].output_links if link is not None and _is_float(evidence, link)]
    seen, found = set[Link](), dict[int, Call]()
    while todo:
        link = todo.pop()
        step = flow.producer(link)
        if step is None or link in seen:
            continue
        seen.add(link)
        is_flat = step.type_name in _DETACHED | _FLAT or not step.grad or not _is_float(evidence, link)
        if is_flat:
            found[step.index] = step
        else:
            todo += [before for before in step.input_links if before is not None]
    return [found[index] for index in sorted(found, reverse=True)]


def _is_float(evidence: Evidence, link: Link) -> bool:
    if link.call < 0:
        return True
    outputs = evidence.calls[link.call].outputs
    return link.leaf >= len(outputs) or outputs[link.leaf].dtype.startswith(("float", "bfloat", "complex"))


def _write_cut(evidence: Evidence, end: Call, params: set[int]) -> Flag | None:
    """Flag the step; ``None`` where it may be meant."""
    cause = _find_cause(evidence, end)
    if cause is None or _is_straight_through(evidence, cause):
        return None
    names = {name for index in params for name in evidence.params[index].names}
    may_follow = any(part in name.lower() for name in names for part in _FOLLOWERS) or _has_twin(evidence, params)
    may_follow = may_follow or _is_looked_up(evidence, cause)  # a codebook that follows averages
    may_follow = may_follow or _is_judged(evidence, cause)
    may_follow = may_follow or (cause.type_name in _COMPARISONS and len(cause.inputs) > 1)  # positions below a length
    severity: Severity = "note" if may_follow or not cause.grad else "warning"
    how = f"{cause.type_name} lets none through" if cause.grad else "it runs under torch.no_grad()"
    fix = "freeze them with requires_grad_(False), if that is meant"
    if cause.type_name in _CHOICES:
        fix = "keep the values beside the indices: softmax, or weights of the chosen"
    elif cause.type_name in _DETACHED:
        fix = f"leave {cause.type_name} out; else " + fix
    message = f"no gradient reaches {_count(evidence, params)}: {how}"
    for around in () if cause.grad else evidence.flow.around(cause):  # the layer around it, called in the block
        if around.grad:
            break
        cause = around
    return evidence.flag("no-gradient", severity, cause, message, fix, "cut" if cause.grad else "no-grad",
        num_params=sum(evidence.params[index].num for index in params),
    )  # fmt: skip


def _count(evidence: Evidence, params: set[int]) -> str:
    names = sorted({(evidence.params[index].names or ("",))[0].rpartition(".")[0] for index in params})
    where = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
    return f"the {sum(evidence.params[index].num for index in params):,} parameters of {where or 'the model'}"


def _find_cause(evidence: Evidence, end: Call) -> Call | None:
    """Go from where gradients end to the step that ended them: from an embedding's index back to the ``argmax``."""
    step: Call | None = end
    while step is not None:
        if step.type_name in _DETACHED | _FLAT or not step.grad:
            return step
        floats = [link for link in step.input_links if link is not None and _is_float(evidence, link)]
        if floats or step.type_name in _CHOICES:
            return step if any(map(params_of, evidence.flow.before(*floats))) else None
        step = next((evidence.flow.producer(link) for link in step.input_links if link is not None), None)
    return None


def _is_straight_through(evidence: Evidence, cause: Call) -> bool:
    """``x + (y - x).detach()``: forward it is y, backward x."""
    maker = evidence.flow.producer(cause.input_links[0]) if cause.input_links else None
    return cause.type_name in _DETACHED and maker is not None and maker.type_name.rstrip("_") == "sub"


def _is_judged(evidence: Evidence, cause: Call) -> bool:
    """Return whether a layer reads what was detached, and something else beside it: a critic, of fakes and of data."""
    after = {cause.index, *(step.index for step in evidence.flow.after(cause))}
    reads: dict[int, set[bool]] = {}
    for call in evidence.calls[1:]:
        links = [link for link in call.input_links if link is not None]
        if call.module is not None and call.params and links:
            reads.setdefault(call.module, set()).add(any(link.call in after for link in links))
    return cause.type_name in _DETACHED and any(len(kinds) == 2 for kinds in reads.values())


def _is_looked_up(evidence: Evidence, cause: Call) -> bool:
    maker = evidence.flow.producer(cause.input_links[0]) if cause.input_links else None
    return cause.type_name in _DETACHED and maker is not None and maker.type_name in LOOKUPS


def _has_twin(evidence: Evidence, params: set[int]) -> bool:
    """Return whether as many parameters of the same sizes are trained: those of a student, or of an online network."""
    trained = evidence.story.trace.trained or frozenset()
    sizes = sorted(evidence.params[index].shape for index in params)
    others = [evidence.params[index].shape for index in trained]
    for size in sizes:
        if size not in others:
            return False
        others.remove(size)
    return len(sizes) > 2


RULES = {"no-gradient": find_cut_gradients}
