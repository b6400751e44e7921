"""The rule about masks: which entries one says are hidden, and which ones the attention that reads it hides."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.call_arguments import argument
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.mask_reader import OTHERS, Mask, MaskReader, is_low, turn
from modelsummary_ipy.diagnosis.torch_names import ATTENTIONS, SOFTMAXES
from modelsummary_ipy.model.torch_layers import classes_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call

_WORDS = {
    "past": "the steps before each", "future": "the steps after each", "real": "the words", "padding": "the padding",
}  # fmt: skip
_LAYERS = ATTENTIONS | classes_of("transformer layer", "transformer")
_SDPA = "scaled_dot_product_attention"


def find_inverted_masks(evidence: Evidence) -> Iterator[Flag]:
    """Find attention that hides what its mask was made to keep, and masks that hide nothing.

    Finds ``key_padding_mask=tokens != 0``, whose True hides the words; ``torch.tril`` for the mask of a torch layer;
    ``triu(…, 1) == 0`` in a ``masked_fill`` of -inf; scores that are multiplied with a mask, or get 0 and 1 added,
    before the softmax; the mean over steps that were set to 0 as padding. Leaves alone masks of which no line says
    what they hold, weights that are masked anew after the softmax, and means that are divided by the mask's.
    """
    masks = MaskReader(evidence)
    for call in evidence.calls:
        masks.read(call)
    inside: set[int] = set()
    for call in evidence.calls:
        if call.parent in inside:
            inside.add(call.index)
            continue
        if call.kind == "module" and call.type_name in _LAYERS:
            inside.add(call.index)
        yield from _check_use(evidence, masks, call)


def _check_use(evidence: Evidence, masks: MaskReader, call: Call) -> Iterator[Flag]:
    name = call.type_name.rstrip("_")
    hidden: Mask | None = None
    if name == "masked_fill" and is_low(argument(call, "value", "2")) and masks.of(call, 0) is None:
        hidden = masks.of(call, 1) if masks.fill(call, 0) is None else None
    elif name == "where" and (is_low(argument(call, "other", "2")) or is_low(masks.fill(call, 2))):
        hidden = turn(masks.of(call, 0))
    elif name == "where" and (is_low(argument(call, "input", "1")) or is_low(masks.fill(call, 1))):
        hidden = masks.of(call, 0)
    elif name == _SDPA or (call.kind == "module" and call.type_name in _LAYERS):
        if name == _SDPA and len(call.inputs) > 3 and call.inputs[3].shape[-1] == 1 < call.inputs[1].shape[-2]:
            yield _write_idle(evidence, call, call.inputs[3].shape, "is the same for all keys: it hides all or nothing")
        for leaf, spec in enumerate(call.inputs):
            mask = masks.of(call, leaf)
            if mask is not None and ("mask" in spec.name or (name == _SDPA and leaf == 3)):
                if mask.form == "ones" and spec.dtype.startswith(("float", "bfloat")):
                    yield _write_idle(evidence, call, spec.shape, "adds 1 where the mask is 1, and hides nothing")
                else:
                    hidden = turn(mask) if name == _SDPA and mask.form == "ones" else mask
    elif call.type_name in SOFTMAXES:
        maker = evidence.flow.producer(call.input_links[0]) if call.input_links else None
        if maker is not None and maker.type_name.rstrip("_") in ("tril", "triu") and masks.fill(maker, 0) is None:
            yield _write_idle(evidence, maker, maker.inputs[0].shape, "makes 0 of hidden scores, which exp makes 1")
        yield from _check_late(evidence, masks, call)
        if maker is not None and maker.type_name.rstrip("_") in ("add", "mul") and len(maker.inputs) == 2:
            mask = masks.of(maker, 1) or masks.of(maker, 0)
            is_given = any(link in masks.given_ones for link in maker.input_links)
            is_one = (mask is not None and mask.form == "ones") or (is_given and maker.type_name.startswith("mul"))
            if is_one and maker.type_name.startswith("mul") and not _is_masked_anew(evidence, masks, call):
                yield _write_idle(evidence, maker, maker.inputs[0].shape, "makes 0 of hidden scores, which exp makes 1")
            elif is_one and maker.type_name.startswith("add") and mask is not None and mask.entries != "some":
                yield _write_idle(evidence, maker, maker.inputs[0].shape, "adds 1 to scores, and hides nothing")
            elif mask is not None and mask.form == "low":
                call, hidden = maker, mask
    elif name == "mean":
        yield from _check_mean(evidence, masks, call)
    if hidden is not None and hidden.entries in ("past", "real"):
        yield _write_inverted(evidence, call, hidden)
    elif hidden is not None and hidden.own:
        shape = call.inputs[-1].shape
        message = f"the mask of {write_size(shape)} hides each step from itself too: for one step nothing is left, nan"
        fix = "torch.triu(…, diagonal=1)"
        yield evidence.flag("inverted-mask", "warning", call, message, fix, "itself", shape=shape)
    elif hidden is not None and hidden.ahead and hidden.entries == "future":
        shape = call.inputs[-1].shape
        message = f"the mask of {write_size(shape)} leaves the step behind each: that is what it is to predict"
        fix = "torch.tril(…) of what is read, torch.triu(…, diagonal=1) of what is hidden"
        yield evidence.flag("inverted-mask", "warning", call, message, fix, "ahead", shape=shape)


def _write_inverted(evidence: Evidence, call: Call, hidden: Mask) -> Flag:
    shape = next((spec.shape for spec in call.inputs if "mask" in spec.name), call.inputs[-1].shape)
    rest = _WORDS[OTHERS[hidden.entries]]
    message = f"{call.type_name} with this mask of {write_size(shape)} hides {_WORDS[hidden.entries]}, and reads {rest}"
    fix = "~mask" if hidden.form == "ones" else "the other half: torch.triu(…, diagonal=1) holds what comes after"
    return evidence.flag("inverted-mask", "warning", call, message, fix, "inverted", shape=shape)


def _write_idle(evidence: Evidence, call: Call, shape: tuple[int, ...], what: str) -> Flag:
    message = f"a mask of 0 and 1 {what}: {write_size(shape)}"
    fix = "scores.masked_fill(mask == 0, float('-inf')), or a mask of booleans"
    return evidence.flag("inverted-mask", "warning", call, message, fix, "idle", shape=shape)


def _check_late(evidence: Evidence, masks: MaskReader, softmax: Call) -> Iterator[Flag]:
    """A causal mask that is laid on the weights alone, which are not made to sum to one again."""
    maker = evidence.flow.producer(softmax.input_links[0]) if softmax.input_links else None
    if maker is not None and any(masks.of(maker, leaf) is not None for leaf in range(len(maker.inputs))):
        return
    for reader in evidence.flow.readers(softmax):
        name = reader.type_name.rstrip("_")
        found = [masks.of(reader, leaf) for leaf in range(len(reader.inputs))] if name == "mul" else []
        is_causal = name == "tril" or any(mask is not None and mask.entries in ("past", "future") for mask in found)
        if is_causal and not {"div", "sum", "normalize"} & {later.type_name for later in evidence.flow.readers(reader)}:
            shape = reader.inputs[0].shape
            message = f"the weights {write_size(shape)} are masked behind their softmax: each was divided by a sum "
            message += "that holds the hidden ones, and what is left does not sum to 1"
            fix = "scores.masked_fill(mask == 0, float('-inf')), then softmax"
            yield evidence.flag("inverted-mask", "warning", reader, message, fix, "late", shape=shape)


def _is_masked_anew(evidence: Evidence, masks: MaskReader, softmax: Call) -> bool:
    """Return whether the weights are set to 0 where they are hidden, and made to sum to one again."""
    return any(
        reader.type_name.rstrip("_") in ("mul", "masked_fill")
        and any(masks.of(reader, leaf) is not None for leaf in range(len(reader.inputs)))
        for reader in evidence.flow.readers(softmax)
    )


def _check_mean(evidence: Evidence, masks: MaskReader, call: Call) -> Iterator[Flag]:
    """The mean of steps of which the padding was set to 0: it is divided by all of them."""
    maker = evidence.flow.producer(call.input_links[0]) if call.input_links else None
    dim = argument(call, "dim")
    dims = dim if isinstance(dim, tuple) else (dim,)
    if maker is None or maker.type_name.rstrip("_") != "mul" or len(maker.inputs) != 2 or len(dims) != 1:
        return
    leaf = next((at for at in (1, 0) if (mask := masks.of(maker, at)) is not None and mask.entries == "real"), None)
    if leaf is None or not isinstance(dims[0], int) or not call.outputs or not call.outputs[0].shape:
        return
    shape, rank = maker.inputs[leaf].shape, len(call.inputs[0].shape)
    place = dims[0] % rank - rank
    is_masked_dim = len(shape) >= -place and shape[place] > 1
    if is_masked_dim and not _is_divided_anew(evidence, call, evidence.flow.producer(maker.input_links[leaf])):
        steps = call.inputs[0].shape[place]
        message = f"the mean of {write_size(call.inputs[0].shape)} is over all {steps} steps, those that the mask set "
        message += "to 0 too"
        fix = "(x * mask).sum(1) / mask.sum(1).clamp(min=1)"
        yield evidence.flag("inverted-mask", "warning", call, message, fix, "mean", shape=call.inputs[0].shape)


def _is_divided_anew(evidence: Evidence, mean: Call, mask: Call | None) -> bool:
    """Return whether a mean is divided by something that was made of the mask."""
    return mask is not None and any(
        link is not None and link.call != mean.index and evidence.flow.leads_to(mask, link)
        for reader in evidence.flow.readers(mean)
        if reader.type_name.rstrip("_") in ("div", "mul")
        for link in reader.input_links
    )


RULES = {"inverted-mask": find_inverted_masks}
