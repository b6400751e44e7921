"""The rule that finds samples paired with one another by a broadcast."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.call_arguments import Size, argument
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import ELEMENTWISE, REDUCTIONS, RESHAPES
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, Severity

_COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge", "and", "or"})


def find_paired_batches(evidence: Evidence) -> Iterator[Flag]:
    """Find an elementwise operation whose silent padding of ranks lays the batch along another dim.

    Finds ``(B, 1) - (B,)`` that makes ``(B, B)``. Leaves alone pairs that are written out (``x[:, None] - x[None]``,
    ``cdist`` by hand), biases, masks and positional terms; what fails at another batch is wrong-axis's.
    """
    if evidence.again is None or evidence.batch < 1:
        return
    chance = {found.call for found in evidence.story.axis_findings if found.kind == "coincident" and "B" in found.axes}
    for step in evidence.flow.steps:
        if step.type_name.rstrip("_") in ELEMENTWISE and len(step.inputs) > 1 and step.outputs:
            pair = _find_pair(evidence, step)
            if pair is not None and not _is_asked_for(evidence, step, *pair):
                one, two = (step.inputs[leaf].shape for leaf in pair)
                is_unit = tuple(size for size in one if size > 1) == tuple(size for size in two if size > 1)
                sure = len(one) == 2 or is_unit or step.index in chance or _share_a_source(evidence, step)
                yield _write_pair(evidence, step, *pair, "warning" if sure else "note")
        elif step.type_name == "matmul" and len(step.inputs) == 2 and _multiplies_batches(evidence, step):
            yield _write_product(evidence, step)


def _multiplies_batches(evidence: Evidence, step: Call) -> bool:
    """Return whether a vector of each sample is multiplied with the matrices of all, and the pairs reach an output.

    The rows of a matrix are the samples, and so are the matrices of the other side: ``(B, D) @ (B, D, N)``. Alone
    similarities of each with each, ``(B, B)``, are meant.
    """
    ranks = [len(spec.shape) for spec in step.inputs]
    matrix = ranks.index(2) if sorted(ranks) == [2, 3] else None
    if matrix is None or evidence.moving_in(step, 1 - matrix) != (0,) or evidence.moving_in(step, matrix) != (matrix,):
        return False
    again = evidence.again.trace.outputs if evidence.again is not None and evidence.batch_works else ()
    pairs = zip(evidence.story.trace.outputs, again, strict=False)
    return any(len(one.shape) > 2 and sum(a != b for a, b in zip(one.shape, other.shape, strict=False)) == 2
               for one, other in pairs)  # fmt: skip


def _write_product(evidence: Evidence, step: Call) -> Flag:
    one, other = (spec.shape for spec in step.inputs)
    matrix = one if len(one) == 2 else other
    message = f"matmul of {write_size(one)} and {write_size(other)} multiplies the vector of each of {evidence.batch} "
    message += f"samples with the matrices of all: {write_size(step.outputs[0].shape)}"
    fix = f"unsqueeze({'1' if matrix is one else '-1'}) on {write_size(matrix)} makes a matrix of each sample's"
    # One that was turned, ``embeddings @ centres.t()``, may be compared with the rows of all samples on purpose.
    severity: Severity = "warning" if matrix is one else "note"
    return evidence.flag("batch-broadcast", severity, step, message, fix,
        before=one, other=other, after=step.outputs[0].shape, batch=evidence.batch,
    )  # fmt: skip


def _find_pair(evidence: Evidence, step: Call) -> tuple[int, int] | None:
    """Return the leaves ``(longer, shorter)`` whose one batch dim each became two dims that move."""
    moving = [(leaf, evidence.moving_in(step, leaf) or ()) for leaf in range(len(step.inputs))]
    # From the operands and not the output: a loss gives the mean of its pairs, one number.
    rank = max(len(spec.shape) for spec in step.inputs)
    made = {dim + rank - len(step.inputs[leaf].shape) for leaf, dims in moving for dim in dims}
    if len(made) != 2:
        return None
    single = [leaf for leaf, dims in moving if len(dims) == 1]
    for longer in single:
        for shorter in single:
            if len(step.inputs[longer].shape) > len(step.inputs[shorter].shape):
                return longer, shorter
    return None


def _share_a_source(evidence: Evidence, step: Call) -> bool:
    """Return whether both operands are computed from one and the same input of the model."""
    sources = [evidence.flow.sources(link) for link in step.input_links[:2] if link is not None]
    return len(sources) == 2 and bool(sources[0] & sources[1])


def _is_asked_for(evidence: Evidence, step: Call, longer: int, shorter: int) -> bool:
    """Return whether pairs were meant: of a tensor with itself, or to go with other pairs."""
    if step.type_name in _COMPARISONS:
        return True
    put_in = _unsqueezed_from(evidence, step.input_links[longer])
    if put_in is not None:
        same = put_in == step.input_links[shorter] or _unsqueezed_from(evidence, step.input_links[shorter]) == put_in
        return same or len(step.inputs[shorter].shape) > 1
    makers = [evidence.flow.producer(step.input_links[leaf]) for leaf in (longer, shorter)]
    if all(maker is not None and maker.type_name in REDUCTIONS for maker in makers):
        keeps = makers[0] is not None and argument(makers[0], "keepdim") is True
        followed = any(_brings_pairs(evidence, user, step) for user in evidence.flow.after(step, 6))
        return keeps and followed
    return any(_brings_pairs(evidence, user, step) for user in evidence.flow.after(step, 3))


def _unsqueezed_from(evidence: Evidence, link: Link | None) -> Link | None:
    """The tensor that a dim of 1 was put into on purpose to make this one; ``None`` if none was."""
    maker = evidence.flow.producer(link)
    if maker is None or not maker.inputs or not maker.outputs:
        return None
    index = argument(maker, "1", "index")
    parts = index if isinstance(index, tuple) else (index,)
    by_index = maker.type_name == "getitem" and any(part is None for part in parts)
    by_view = maker.type_name in RESHAPES and len(maker.outputs[0].shape) > len(maker.inputs[0].shape)
    return maker.input_links[0] if maker.type_name == "unsqueeze" or by_index or by_view else None


def _brings_pairs(evidence: Evidence, user: Call, step: Call) -> bool:
    """Return whether a later step combines the pairs with pairs from elsewhere, of a matmul say."""
    for leaf in range(len(user.inputs)):
        link = user.input_links[leaf]
        moving = evidence.moving_in(user, leaf)
        if moving is None or len(moving) < 2 or link is None or link.call == step.index:
            continue
        maker = evidence.flow.producer(link)
        while maker is not None and len(maker.inputs) == 1 and evidence.moving_in(maker) == moving:
            maker = evidence.flow.producer(maker.input_links[0])
        is_accident = maker is not None and maker.type_name in ELEMENTWISE and _find_pair(evidence, maker) is not None
        if not evidence.flow.leads_to(step, link) and not is_accident:
            return True
    return False


def _write_pair(evidence: Evidence, step: Call, longer: int, shorter: int, severity: Severity) -> Flag:
    one, two = step.inputs[longer].shape, step.inputs[shorter].shape
    padded = (1,) * (len(one) - len(two)) + two
    moves = evidence.moving_in(step, shorter) or (0,)
    against = moves[0] + len(one) - len(two)
    message = f"{step.type_name} of {write_size(one)} and {write_size(two)}: the shorter one broadcasts as "
    message += f"{write_size(padded)}, so its batch of {evidence.batch} is in dim {against}, not in dim 0: "
    message += f"{write_size(step.outputs[0].shape)}"
    fix = "squeeze(-1) on the longer one" if one[-1] == 1 and len(one) == 2 else _write_unsqueeze(one, two)
    return evidence.flag("batch-broadcast", severity, step, message, f"{fix} aligns the samples",
        before=one, other=two, after=step.outputs[0].shape, dim=against, batch=evidence.batch,
    )  # fmt: skip


def _write_unsqueeze(one: Size, two: Size) -> str:
    """Put dims of 1 behind the batch of the shorter one where its features are last, else behind its last dim."""
    more = len(one) - len(two)
    place = 1 if len(two) == 1 or one[-1] == two[-1] else len(two)
    index = ", ".join([":"] * place + ["None"] * more + ([":"] * (len(two) - place)))
    return f"unsqueeze({place}) on the shorter one" if more == 1 else f"[{index}] on the shorter one"


RULES = {"batch-broadcast": find_paired_batches}
