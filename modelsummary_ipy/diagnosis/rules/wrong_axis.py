"""The rule that finds a layer which reads the wrong axis of a feature map, because that is as wide as the right one."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.call_arguments import argument, einsum_labels
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.meaning import find_axis_flags
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, LINEARS, spatial_rank
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link

_NORMS = names_of("layer norm")
_OF_SIGNALS = frozenset(
    {"Conv1d", "conv1d", "BatchNorm1d", "InstanceNorm1d", "AvgPool1d", "avg_pool1d", "MaxPool1d", "max_pool1d"}
)


def find_wrong_axes(evidence: Evidence) -> Iterator[Flag]:
    """Find a Linear or LayerNorm over the last spatial dim of a feature map whose channels are just as wide.

    Finds ``nn.Linear(16, 10)`` on ``(B, 16, 16, 16)``, ``nn.LayerNorm(32)`` on ``(B, 32, 32)`` of a Conv1d, and a
    Conv1d on ``(B, T, C)`` where the text of the forward calls it that. Leaves alone nets that permute first, that mix
    tokens or frequencies on purpose (the widths differ, or a Linear made the last dim), and shapes whose sizes are all
    equal, which show nothing.
    """
    told: set[int] = set()
    for step in evidence.flow.steps:
        if step.type_name == "einsum" and step.outputs:
            yield from _check_letters(evidence, step)
        if (step.type_name not in LINEARS and step.type_name not in _NORMS) or not step.inputs or not step.outputs:
            continue
        shape = step.inputs[0].shape
        if len(shape) < 3 or shape[-1] != shape[1] or shape[0] == shape[1] or not _is_one_wide(evidence, step):
            continue
        maker = _find_map(evidence, step)
        if maker is None:
            continue
        kind = "in_features" if step.type_name in LINEARS else "normalized_shape"
        message = f"{kind}={shape[-1]} of {write_size(shape)} fits both the last spatial dim and the {shape[1]} "
        message += f"channels: it reads dim {len(shape) - 1}, {maker.path or maker.type_name} made the channels in dim "
        message += "1"
        fix = _write_fix(len(shape), step)
        told.add(step.index)
        yield evidence.flag("wrong-axis", "warning", step, message, fix, "layer", shape=shape, size=shape[-1])
    yield from _find_steps_as_channels(evidence)
    yield from (flag for flag, call in find_axis_flags(evidence, "wrong-axis") if call.index not in told)


def _find_steps_as_channels(evidence: Evidence) -> Iterator[Flag]:
    """A layer of signals, ``(B, C, L)``, on an input that the text calls ``(batch, steps, features)``."""
    for leaf, said in evidence.written.items():
        for call, _ in evidence.flow.reads.get(Link(-1, leaf), ()) if said.roles == ("B", "T", "F") else ():
            if call.type_name in _OF_SIGNALS:
                shape = call.inputs[0].shape
                message = f"{call.type_name} of {write_size(shape)} reads dim 1 as its {shape[1]} channels: the text "
                message += "says "
                message += said.text
                fix = f"transpose(1, 2) before it, and {shape[2]} channels"
                yield evidence.flag("wrong-axis", "warning", call, message, fix, "steps", shape=shape)


def _check_letters(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """``"bcn,bdm->bcd"``: both operands are summed over the same positions, each for itself."""
    operands, result = einsum_labels(step) or ((), "")
    alone = [[letter for letter in labels if letter not in result + "".join(operands[:at] + operands[at + 1 :])]
        for at, labels in enumerate(operands)]  # fmt: skip
    if len(operands) == 2 and all(len(letters) == 1 for letters in alone):
        (one, *_), (two, *_) = alone
        axes = [evidence.layout_in(step, leaf)[operands[leaf].index(alone[leaf][0])] for leaf in (0, 1)]
        if one != two and axes[0] == axes[1]:
            shape = step.inputs[0].shape
            message = (
                f"{step.type_name} sums {one} of {write_size(shape)} and {two} of {write_size(step.inputs[1].shape)} "
            )
            message += "each for itself: they are the same positions"
            fix = f"one letter for both: {','.join(operands).replace(two, one)}->{result}"
            yield evidence.flag("wrong-axis", "warning", step, message, fix, "letters", shape=shape)


def _is_one_wide(evidence: Evidence, step: Call) -> bool:
    """Return whether a layer works on one dim alone."""
    if step.type_name in LINEARS:
        return True
    shape = evidence.flow.setting(step, "normalized_shape") or argument(step, "normalized_shape")
    return isinstance(shape, tuple) and len(shape) == 1


def _find_map(evidence: Evidence, step: Call) -> Call | None:
    """Return the convolution whose feature map the layer reads with its dims where the convolution left them."""
    layout = evidence.layout_in(step)
    if len(layout[1]) != 1 or len(layout[-1]) != 1 or layout[1] == layout[-1]:
        return None
    maker = evidence.maker_of(layout[1][0], step)
    if maker is None or maker.type_name not in CONVOLUTIONS or len(maker.outputs[0].shape) != spatial_rank(maker) + 2:
        return None
    # A last dim that was made as features shows that the convolution of kernel 1 mixes tokens.
    return (
        maker if evidence.maker_of(layout[-1][0], step) is None and len(maker.outputs[0].shape) == len(layout) else None
    )


def _write_fix(rank: int, step: Call) -> str:
    if step.type_name in LINEARS:
        dims = tuple(range(2, rank))
        return f"mean({dims if len(dims) > 1 else dims[0]}) or flatten(1) first, or permute the channels last"
    order = (0, *range(2, rank), 1)
    return f"permute{order} first, or nn.GroupNorm(1, …)"


RULES = {"wrong-axis": find_wrong_axes}
