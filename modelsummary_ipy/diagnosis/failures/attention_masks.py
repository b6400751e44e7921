"""The masks of a ``nn.MultiheadAttention``: of which shape and dtype, and which of its two masks is meant."""

from __future__ import annotations

from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.attention_heads import Heads
from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, Operand
from modelsummary_ipy.diagnosis.failures.dtypes_devices import FLOATING
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import undo_move
from modelsummary_ipy.diagnosis.failures.fixes import fix_call, list_names, name_size, set_everywhere, write_size
from modelsummary_ipy.diagnosis.failures.parameters import fix_creation, fix_size_read
from modelsummary_ipy.diagnosis.failures.source_nodes import Arguments, put_in_brackets
from modelsummary_ipy.diagnosis.failures.transformers import explain_own_keys
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import CATS
from modelsummary_ipy.records.fixes import Candidate

#: Where a mask of queries by keys stands among the arguments by position, by class, of a layer and of a stack of them.
_MASK_PLACES = {
    "MultiheadAttention": {"attn_mask": 5},
    "TransformerEncoder": {"mask": 1, "src_mask": 1},
    "TransformerDecoder": {"tgt_mask": 2, "memory_mask": 3},
    "Transformer": {"src_mask": 2, "tgt_mask": 3, "memory_mask": 4},
}


def explain_mask_dtype(heads: Heads) -> Diagnosis | None:
    """Explain a mask of a dtype that no mask can have."""
    for name in ("attn_mask", "key_padding_mask"):
        mask = heads.operands.get(name)
        if mask is not None and mask.spec.dtype not in ("bool", *FLOATING):
            reason = f"{name} is {mask.spec.dtype}: a mask must be bool, or floating point to be added"
            candidates = heads.ctx.change_input(mask, dtype="bool")
            fix = _fix_mask(heads, name, ".bool()")
            return Diagnosis(reason, f"{name} of bool", fix, candidates=candidates)
    return None


def explain_masks(heads: Heads) -> Diagnosis | None:
    """Explain a mask of a shape that the queries and keys do not have."""
    if (found := explain_own_keys(heads.ctx, heads.call)) is not None:
        return found
    batched = heads.query.rank == 3
    steps = heads.axes[1] if batched else 0
    target, source = heads.query.shape[steps], heads.key.shape[steps]
    batch = heads.query.shape[heads.axes[0]] if batched else 1
    count = int(heads.settings.get("num_heads", 1))
    wanted: tuple[int, ...]
    mask = heads.operands.get("attn_mask")
    if mask is not None:
        wanted = (target, source) if mask.rank < 3 else (batch * count, target, source)
        if mask.shape != wanted == (target, target) and mask.shape == (batch, batch) and _is_turned(heads):
            reason = f"attn_mask is {write_shape(mask.shape)}: {batch} is the batch, dim 0 has {target} steps"
            return _mask_diagnosis(heads, mask, wanted, reason, f"attn_mask {write_shape(wanted)}")
        if mask.shape != wanted and (found := _explain_order(heads, mask.shape[-1])) is not None:
            sized = _mask_diagnosis(heads, mask, wanted, "", "") if heads.batch_first and mask.rank == 2 else found
            if sized.fixes and sized is not found:  # batch_first was asked for, so the mask is what is wrong
                return replace(found, fix=[*sized.fixes, *found.fixes])
            return found
        own = (batch, target) if "multihead_attn" in heads.call.path else (batch, source)
        if mask.shape in ((batch, source), (batch, 1, 1, source), own) and mask.shape != wanted:
            return _explain_padding(heads, mask, is_own=mask.shape == own != (batch, source))
        if mask.shape != wanted:
            reason = f"attn_mask is {write_shape(mask.shape)}: {target} queries attend to {source} keys"
            words = f"attn_mask {write_shape((target, source))} or {write_shape((batch * count, target, source))}"
            return _mask_diagnosis(heads, mask, wanted, reason, words)
    padding = heads.operands.get("key_padding_mask")
    wanted = (batch, source) if batched else (source,)
    is_moved = padding is not None and padding.rank == len(wanted) and padding.shape != wanted
    if padding is not None and is_moved and (undone := undo_move(heads.ctx, padding, wanted.__eq__)):
        reason = f"key_padding_mask is {write_shape(padding.shape)}, and {write_shape(wanted)} before its dims were "
        reason += "moved: samples come first in it, whatever batch_first is"
        fixes = [undone, _fix_mask(heads, "key_padding_mask", ".transpose(0, 1)")]  # it is made of what was moved
        return Diagnosis(reason, f"key_padding_mask {write_shape(wanted)}", fixes)
    is_turned = padding is not None and padding.shape == wanted[::-1] != wanted and not _is_turned(heads)
    if is_turned and batched:
        found = _explain_order(heads, source if heads.batch_first else batch)
        if found is not None:
            return found
    if padding is not None and padding.shape != wanted:
        reason = f"key_padding_mask is {write_shape(padding.shape)}: {batch} samples of {source} keys each"
        return _mask_diagnosis(heads, padding, wanted, reason, f"key_padding_mask {write_shape(wanted)}")
    return None


def _pad_mask(heads: Heads, mask: Operand, wanted: tuple[int, ...]) -> tuple[str, str]:
    """Write what lets a mask begin, or end, with steps that were joined to the sequence: a class token."""
    more = wanted[1] - mask.shape[1]
    for call in heads.ctx.flow.walk_back(heads.key.link, 12) if more > 0 else ():
        sizes = [spec.shape for spec in call.inputs] if call.type_name in CATS else []
        counts = [shape[1] if len(shape) == 3 else 0 for shape in sizes]
        if sorted(counts) == sorted((more, mask.shape[1])) and call.source is not None:
            place = f"{more}, 0" if counts[0] == more else f"0, {more}"
            return f"F.pad({{}}, ({place}))", f"{more} more joined at {call.source.text}"
    return "", ""


def _mask_memory(heads: Heads) -> Candidate:
    """Mask what the decoder reads of the encoder as the encoder's own steps are masked."""

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
        own = keywords.get("src_key_padding_mask")
        if own is None or "memory_key_padding_mask" not in keywords:
            return None
        return arguments, {**keywords, "memory_key_padding_mask": own}

    return fix_call(heads.ctx, edit, *list_names(heads.ctx, heads.find_outermost()))


def _is_turned(heads: Heads) -> bool:
    """Return whether the model brought the steps of the queries in front of the batch, as this layer reads them."""
    calls = heads.ctx.flow.walk_back(heads.query.link, 3) if not heads.batch_first else ()
    names = ("dim0", "dim1")
    return any(
        {heads.ctx.flow.setting(call, name) for name in names} == {0, 1}
        if call.type_name in ("transpose", "swapaxes") else heads.ctx.flow.setting(call, "dims") == (1, 0, 2)
        for call in calls
    )  # fmt: skip


def _explain_padding(heads: Heads, mask: Operand, *, is_own: bool) -> Diagnosis:
    """A mask of each sample's keys was given where one of queries by keys belongs."""
    path, words = _name_mask(heads, "attn_mask")
    padding = f"{words[0].removesuffix('attn_mask').removesuffix('mask')}key_padding_mask"
    padding = "tgt_key_padding_mask" if is_own else padding  # of the steps that the decoder was given
    shape, kind = write_shape(mask.shape), padding if is_own else "key_padding_mask"
    name, flat = words[0] if is_own else "attn_mask", ".flatten(1)" if mask.rank == 4 else ""
    reason = f"{name} is {shape}: a mask of each sample's keys is {kind}, {name} is of queries by keys"
    kind = next((fact.type_name for fact in heads.ctx.trace.modules if path in fact.paths), "")
    places = _MASK_PLACES.get(kind.removesuffix("Layer"), {})
    place = next((places[word] for word in words if word in places), -1)

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
        word = next((word for word in words if word in keywords), None)
        kept = {key: text for key, text in keywords.items() if key != word}
        text = keywords[word] if word is not None else ""
        if word is None and len(arguments) == place + 1:  # it is the last one by position: none moves there
            arguments, text = arguments[:-1], arguments[-1]
        return (arguments, {**kept, padding: f"{put_in_brackets(text) if flat else text}{flat}"}) if text else None

    fix = fix_call(heads.ctx, edit, *list_names(heads.ctx, path))
    return Diagnosis(reason, f"key_padding_mask {write_shape(mask.shape)}", fix)


def _explain_order(heads: Heads, steps: int) -> Diagnosis | None:
    """A mask is of the steps that stand where this layer reads the batch."""
    batch = heads.axes[0]
    if heads.query.rank != 3 or heads.query.shape[1 - batch] == steps or heads.query.shape[batch] != steps:
        return None
    reason = f"batch_first={heads.batch_first} reads dim {batch} of {write_shape(heads.query.shape)} as the batch, and "
    reason += f"the mask is of these {steps} as steps"
    turned = set_everywhere(heads.ctx, heads.find_outermost(), "batch_first", value=not heads.batch_first)
    mask = heads.operands.get("attn_mask") if heads.batch_first else None  # else the batch is first, as it mostly is
    fixes = [fix_size_read(heads.ctx, mask), turned] if mask is not None else turned
    return Diagnosis(reason, f"a mask of {heads.query.shape[1 - batch]} steps", fixes)


def _mask_diagnosis(heads: Heads, mask: Operand, wanted: tuple[int, ...], reason: str, expected: str) -> Diagnosis:
    steps = heads.axes[1]
    name = write_size(heads.ctx, 0, steps, heads.call) or name_size(heads.ctx, heads.query, steps)
    kind = "attn_mask" if mask is heads.operands.get("attn_mask") else "key_padding_mask"
    change, why = _fit_mask(mask.shape, wanted)
    is_of_keys = kind == "key_padding_mask" and mask.rank == len(wanted) == 2 and mask.shape[0] == wanted[0]
    if is_of_keys and not change:
        change, why = _pad_mask(heads, mask, wanted)
    if is_of_keys and not change and name and wanted[1] and not mask.shape[1] % wanted[1]:  # a pool strides
        change = f"{{0}}[:, ::{{0}}.size(1) // {name}]"
        why = f"one of {mask.shape[1] // wanted[1]} steps is kept"
    fix = _fix_mask(heads, kind, change) if change else NOTHING
    if fix:
        candidates = heads.ctx.change_input(mask, shape=wanted)
        return Diagnosis(f"{reason}; {why}", expected, fix, candidates=candidates)
    target = heads.query.shape[steps] if heads.query.rank == 3 else -1
    is_of_pairs = kind == "attn_mask" and mask.rank == 2 and wanted == (target, target)
    if is_of_pairs and min(mask.shape) >= target:
        cut = _fix_mask(heads, "attn_mask", f"[:{name or target}, :{name or target}]")
        if cut:  # made once, for the longest sequence
            return Diagnosis(f"{reason}; the first {target} of its {mask.shape[0]} are theirs", expected, cut)
    names = {axis: name for axis, size in enumerate(wanted) if size == target} if name else {}
    if kind == "key_padding_mask" and "multihead_attn" in heads.call.path:
        fixes = [_mask_memory(heads)]
        return Diagnosis(f"{reason}: those of the source, whose mask this is to be", expected, fixes)
    fixes = [fix_size_read(heads.ctx, mask), fix_creation(heads.ctx, mask, wanted, names)]
    fixes.append(fix_creation(heads.ctx, mask, wanted))
    return Diagnosis(reason, expected, fixes, candidates=heads.ctx.change_input(mask, shape=wanted))


def _fix_mask(heads: Heads, name: str, change: str) -> Candidate:
    """Change a mask where the line passes it on, to this layer or to the Transformer that it is a part of."""
    path, words = _name_mask(heads, name)

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
        word = next((word for word in words if word in keywords), None)
        if word is None:
            return None
        text = keywords[word]
        new = change.format(text) if change.count("{") else f"{put_in_brackets(text)}{change}"
        return arguments, {**keywords, word: new}

    return fix_call(heads.ctx, edit, *list_names(heads.ctx, path))


def _name_mask(heads: Heads, name: str) -> tuple[str, tuple[str, ...]]:
    """Return which layer the user's line calls, and what that one may call a mask."""
    path, short = heads.find_outermost(), name.removeprefix("attn_")
    if path == heads.call.path:
        return path, (name,)
    decodes = any(
        fact.type_name.startswith("TransformerDecoder")
        for fact in heads.ctx.trace.modules
        if fact.paths and heads.call.path.startswith(f"{fact.paths[0]}.")
    )
    side = "memory_" if "multihead_attn" in heads.call.path else "tgt_" if decodes else "src_"
    return path, (f"{side}{short}", short)


def _fit_mask(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[str, str]:
    """Write what gives a mask the shape that ``nn.MultiheadAttention`` expects, and why; ``("", "")`` if not known."""
    if shape == wanted[::-1]:
        return ".t()", "its dims are in another order"
    for axis, size in enumerate(shape):
        if size == 1 and (*shape[:axis], *shape[axis + 1 :]) in (wanted, wanted[-2:]):
            return f".squeeze({axis})", f"dim {axis} of one is too many"
    if shape[1:3] == (1, 1) and (shape[0], *shape[3:]) == wanted:
        return ".flatten(1)", "two dims of one are too many"
    if len(shape) == 4 and (shape[0] * shape[1], *shape[2:]) == wanted:
        return ".flatten(0, 1)", "batch and heads are one dim here"
    if len(wanted) == 3 and (shape[-2:] == wanted[-2:]) and shape[1:-2] in ((), (1,)) and wanted[0] % shape[0] == 0:
        heads = wanted[0] // shape[0]
        flat = ".flatten(0, 1)" if len(shape) == 4 else ""
        return f"{flat}.repeat_interleave({heads}, 0)", f"each of the {heads} heads needs the mask of its sample"
    return "", ""
