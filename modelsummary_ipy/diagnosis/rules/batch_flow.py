"""Rules that find what became of the batch: lost on the way, or left standing in another dim.

They compare two traces, at B and at B + 1: a dim that differs moves with the batch. The model's outputs come first,
then what a sample's output is computed from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.call_arguments import argument, dims_argument, einsum_labels
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.batch_outcomes import Outcome, find_home, find_outcomes
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import (
    ATTENTIONS,
    RECURRENTS,
    REDUCTIONS,
    SOFTMAXES,
    TRANSPOSES,
    batch_dim,
    is_weighted,
)
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, Severity

_PICKS = frozenset({"getitem", "select"})
_REDUCTIONS = REDUCTIONS | {"cosine_similarity"}


# -- lost -------------------------------------------------------------------------------------------------------------


def find_lost_batches(evidence: Evidence) -> Iterator[Flag]:
    """Find the step at which the samples of a batch become one.

    Finds ``x.mean(0)`` where ``mean(1)`` was meant, ``out[-1]`` of a batch-first layer, statistics over ``(0, 2, 3)``
    that a gate's layers then read. Leaves alone scalar losses, batch statistics that only normalise, Gram and
    covariance matrices, anything beside an output that kept its batch; what a softmax over the same dim weighed, steps
    of a sequence-first net or a bag of instances, is a note.
    """
    if not evidence.batch_works or not evidence.batch:
        return
    outcomes = find_outcomes(evidence)
    at_output = bool(outcomes) and all(outcome.fate == "lost" for outcome in outcomes)
    culprits: dict[int, Call] = {}
    if at_output:
        for outcome in outcomes:
            step = _find_loser(evidence, outcome.link)
            if step is not None:
                culprits[step.index] = step
    for step in evidence.flow.steps:
        if step.index not in culprits and _loses(evidence, step) and _feeds_weights(evidence, step):
            culprits[step.index] = step
    for step in culprits.values():
        flag = _judge_loss(evidence, step, at_output)
        if flag is not None:
            yield flag


def _loses(evidence: Evidence, step: Call) -> bool:
    """Return whether a reduction or an index made of a tensor with a batch one without."""
    if not step.inputs or not step.outputs:
        return False
    if step.type_name == "einsum":
        return _sums_alone(evidence, step) and evidence.moving_out(step) == ()
    is_bag = step.type_name == "EmbeddingBag" and len(step.inputs[0].shape) == 2  # it reduces dim 1
    if step.type_name not in _REDUCTIONS and step.type_name not in _PICKS and not is_bag:
        return False
    return bool(evidence.moving_in(step)) and evidence.moving_out(step) == ()


def _sums_alone(evidence: Evidence, step: Call) -> bool:
    """Return whether an einsum sums the batch of its first operand that no other operand shares: no product over it."""
    labels, moving = einsum_labels(step), evidence.moving_in(step)
    return (
        labels is not None
        and bool(moving)
        and not any(labels[0][0][dim] in "".join(labels[0][1:]) for dim in moving or ())
    )


def _find_loser(evidence: Evidence, link: Link) -> Call | None:
    """Walk back from a leaf without a batch to the step that read one with it."""

    def had_batch(step: Call) -> bool:
        return any(evidence.moving_in(step, leaf) for leaf in range(len(step.inputs)))

    for step in evidence.flow.before(link, until=had_batch):
        if had_batch(step):
            return step if _loses(evidence, step) else None
    return None


def _feeds_weights(evidence: Evidence, step: Call) -> bool:
    """Return whether weights are applied to what a step made while it still has no batch."""
    edge, seen = [step], {step.index}
    while edge:
        call = edge.pop()
        for leaf in range(len(call.outputs)):
            for user in evidence.flow.readers(call, leaf):
                if user.index in seen or any(evidence.moving_out(user, i) for i in range(len(user.outputs))):
                    continue
                if is_weighted(user) and user.input_links[0] == Link(call.index, leaf):
                    return True
                seen.add(user.index)
                edge.append(user)
    return False


def _judge_loss(evidence: Evidence, step: Call, at_output: bool) -> Flag | None:
    before, after = step.inputs[0].shape, step.outputs[0].shape
    moving = evidence.moving_in(step)
    if not moving or math.prod(after) <= 1 or (len(moving) > 1 and not at_output):
        return None
    at, rank = moving[0], len(before)
    picks = step.type_name in _PICKS
    if picks and (step.input_links[0] is None or step.input_links[0].call < 0):
        return None  # an index into the model's input: a tensor used as a list
    weighted = any(is_weighted(call) for call in evidence.flow.before(step.input_links[0]))
    labels = einsum_labels(step)
    only_batch = picks or dims_argument(step, rank) == (at,)
    only_batch = only_batch or (labels is not None and set(labels[0][0]) - set(labels[1]) == {labels[0][0][at]})
    weights = list(itertools.islice(evidence.flow.before(step.input_links[0]), 12))
    is_list = (
        any(_weighs_batch(evidence, call) for call in weights)
        or (picks and _is_of_edges(evidence, step))
        or _reads_as_steps(evidence, step, at)
    )
    sure = _is_sure(evidence, step, at) and not is_list
    grave = weighted and sure and (only_batch or _feeds_weights(evidence, step))
    if not at_output and not grave:
        return None
    written = _write_step(step)
    rows = evidence.factor_in(step, 0, at)
    batch = str(before[at]) if rows < 2 else f"{evidence.batch}, {rows} rows of each"
    grave = grave and (rows < 2 or not at_output)
    gone = f"keeps one of the {before[at]} samples" if picks else f"reduces the batch of {batch}"
    if picks and argument(step, "1", "index", "0") is None:
        written, gone = "an index that is a tensor", f"takes rows of the {before[at]} samples, the same for any batch"
    message = f"{written} {gone}: {write_size(before)} became {write_size(after)}"
    return evidence.flag("batch-lost", "warning" if grave else "note", step, message, _fix_loss(step, at, rank),
        "picked" if picks else "reduced", before=before, after=after, dim=at,
    )  # fmt: skip


def _is_of_edges(evidence: Evidence, step: Call) -> bool:
    """Return whether an index is an input of its own without the batch: the ends of the edges of a graph."""
    leaves = evidence.flow.sources(step.input_links[1]) if len(step.input_links) > 1 else frozenset()
    return bool(leaves) and not any("B" in evidence.inputs[leaf].dims for leaf in leaves)


def _reads_as_steps(evidence: Evidence, step: Call, at: int) -> bool:
    """Return whether a layer before takes the dim for the steps of a sequence: then it is these that are reduced."""
    layers = [call for call in evidence.calls[: step.index] if call.type_name in RECURRENTS | ATTENTIONS]
    is_first = [evidence.flow.setting(call, "batch_first") is False for call in layers]
    is_pooled = step.type_name in _REDUCTIONS and at == 0
    return is_pooled and any(is_first) and all(evidence.moving_in(call) == (0,) for call in layers)


def _weighs_batch(evidence: Evidence, step: Call) -> bool:
    """Return whether a softmax runs over the dim that moves: it is a list to be weighted, of steps or of instances."""
    if step.type_name not in SOFTMAXES or not step.inputs:
        return False
    dim, rank = evidence.flow.setting(step, "dim"), len(step.inputs[0].shape)
    return isinstance(dim, int) and -rank <= dim < rank and evidence.moving_in(step) == (dim % rank,)


def _is_sure(evidence: Evidence, step: Call, at: int) -> bool:
    """Return whether the moving dim is a batch and not a list of nodes or instances: a layer or the rank shows it."""
    if any(len(fact.spec.shape) > 2 for fact in evidence.inputs) or (at == 0 and len(step.inputs[0].shape) > 2):
        return True
    makers = itertools.islice(evidence.flow.walk_back(step.input_links[0]), 3)
    if at == 1 and any(maker.type_name == "stack" for maker in makers):
        return True  # what several layers made of the batch
    contracts = ((call, batch_dim(evidence.flow, call)) for call in evidence.flow.before(step.input_links[0]))
    return any(dim is not None and evidence.moving_in(call) == (dim,) for call, dim in contracts)


def _fix_loss(step: Call, at: int, rank: int) -> str:
    if step.type_name in _PICKS:
        index = argument(step, "1", "index")
        index = index[at] if isinstance(index, tuple) and len(index) > at else index
        return f"x[:, {index}] takes it from every sample" if at == 0 and rank > 2 and isinstance(index, int) else ""
    labels = einsum_labels(step)
    if labels is not None:
        return f"{','.join(labels[0])}->{labels[0][0][at]}{labels[1]} keeps the batch"
    if rank == 2:
        return f"{step.type_name}(dim={1 - at}) keeps the batch"
    if rank == 3 and at == 0:
        return f"{step.type_name}(dim=1) keeps the batch"
    dims = tuple(range(2, rank))
    return f"{step.type_name}(dim={dims}) keeps the batch"


def _write_step(step: Call) -> str:
    """Write an operation as people do: ``mean(dim=0)``, ``[-1]``."""
    if step.type_name == "getitem":
        index = argument(step, "1")
        return f"[{_write_index(index)}]"
    equation = argument(step, "equation", "0")
    if step.type_name == "einsum" and isinstance(equation, str):
        return f'einsum("{equation}")'
    dim = argument(step, "dim", "axis", "dims")
    return f"{step.type_name}()" if dim is None else f"{step.type_name}(dim={dim})"


def _write_index(index: object) -> str:
    if isinstance(index, tuple):
        return ", ".join(map(_write_index, index))
    if isinstance(index, slice):
        parts = ["" if part is None else str(part) for part in (index.start, index.stop)]
        return ":".join(parts)
    return "..." if index == "..." else str(index)


# -- moved ------------------------------------------------------------------------------------------------------------


def find_moved_batches(evidence: Evidence) -> Iterator[Flag]:
    """Find the transpose, or the ``stack`` in front, after which the output's batch is not where the input's was.

    Finds a transpose left standing, ``torch.stack(steps)`` over the time of a batch-first input. Leaves alone nets
    that are sequence-first throughout and the states of recurrent layers; sequence-first answers for a CTC loss and
    stacks of a model's exits are a note, and so is the attention over a bag, which a softmax runs over.
    """
    outcomes = find_outcomes(evidence)
    if not outcomes or any(outcome.fate != "moved" for outcome in outcomes[:1]):
        return
    if any(outcome.fate in ("kept", "pairs") for outcome in outcomes):
        return
    home = find_home(evidence)
    seen: set[int] = set()
    for outcome in outcomes:
        if outcome.fate != "moved" or home is None:
            continue
        step = _find_mover(evidence, outcome.link, home)
        if step is None or step.index in seen:
            continue
        seen.add(step.index)
        flag = _judge_move(evidence, step, outcome, home)
        if flag is not None:
            yield flag


def _find_mover(evidence: Evidence, link: Link | None, home: int) -> Call | None:
    """Walk back to the step that read the batch at home and made it elsewhere."""
    for _ in range(10_000):
        step = evidence.flow.producer(link)
        if step is None or link is None or (step.type_name in RECURRENTS and link.leaf > 0):
            return None
        moved = [leaf for leaf in range(len(step.inputs)) if evidence.moving_in(step, leaf)]
        if not moved:
            return None
        if any(evidence.moving_in(step, leaf) == (home,) for leaf in moved):
            return step
        link = step.input_links[moved[0]]
    return None


def _judge_move(evidence: Evidence, step: Call, outcome: Outcome, home: int) -> Flag | None:
    before, after = step.inputs[0].shape, step.outputs[0].shape
    if step.type_name == "stack":
        steps = _are_time_steps(evidence, step)
        message = f"stack adds a dim of {len(step.inputs)} before the batch: {write_size(before)} became "
        message += f"{write_size(after)}"
        fix = f"torch.stack(…, dim={home + 1}) keeps the batch first"
        severity: Severity = "warning" if steps else "note"
        return evidence.flag("batch-moved", severity, step, message, fix,
            "stacked", before=before, after=after, stacked=len(step.inputs),
        )  # fmt: skip
    if step.type_name not in TRANSPOSES and einsum_labels(step) is None:
        return None
    following = list(evidence.flow.after(step, 500))
    weighted = any(is_weighted(call) for call in following)
    by_contract = any(batch_dim(evidence.flow, call) == outcome.dim for call in following)
    probable = any(call.type_name in ("log_softmax", "LogSoftmax") for call in following)
    image = any(len(fact.spec.shape) > 3 for fact in evidence.inputs)
    sequence = len(outcome.shape) == 3 and outcome.dim == 1
    grave = weighted and not (sequence and (probable or image)) and not (by_contract and len(outcome.shape) != 3)
    grave = grave or (len(outcome.shape) == 2 and any(map(is_weighted, evidence.flow.before(step.input_links[0]))))
    root = evidence.calls[0]
    beside_one = any(evidence.moving_out(root, leaf) == () for leaf in range(len(root.outputs)))
    grave = grave and not beside_one and not any(_weighs_batch(evidence, call) for call in following)
    message = f"the batch of {evidence.batch} moved from dim {home} to dim {outcome.dim} here and is not moved back: "
    message += f"{write_size(before)} became {write_size(after)}, the output is {write_size(outcome.shape)}"
    fix = f"transpose({home}, {outcome.dim}) before the return"
    return evidence.flag("batch-moved", "warning" if grave else "note", step, message, fix,
        "transposed", before=before, after=after, output=outcome.shape, from_dim=home, to_dim=outcome.dim,
    )  # fmt: skip


def _are_time_steps(evidence: Evidence, stack: Call) -> bool:
    """Return whether the stacked tensors are computed from steps 0, 1, 2 … of dim 1 of one tensor."""
    picked: set[int] = set()
    for link in stack.input_links:
        for call in evidence.flow.before(link):
            index = argument(call, "1", "index") if call.type_name in _PICKS else None
            if call.type_name == "select" and dims_argument(call, len(call.inputs[0].shape)) == (1,):
                index = (slice(None), index)
            if isinstance(index, tuple) and len(index) > 1 and index[0] == slice(None) and isinstance(index[1], int):
                picked.add(index[1])
            if call.type_name == "unbind" and dims_argument(call, len(call.inputs[0].shape)) == (1,):
                return True
    return len(picked) > 1 and len(picked) >= len(stack.inputs) - 1


RULES = {"batch-lost": find_lost_batches, "batch-moved": find_moved_batches}
