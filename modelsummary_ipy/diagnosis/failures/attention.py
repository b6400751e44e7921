"""Attention and Transformers: embedding sizes, which axis is the batch, masks, sequences of different lengths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from modelsummary_ipy.diagnosis.failures.attention_product import explain_causal, explain_product
from modelsummary_ipy.diagnosis.failures.attention_ranks import explain_vectors
from modelsummary_ipy.diagnosis.failures.context import NOTHING, RESHAPE, Diagnosis, FailureContext, Operand, name_owner
from modelsummary_ipy.diagnosis.failures.dtypes_devices import FLOATING, cast, find_promotion, retype_input
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import undo_move
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_name,
    fix_call,
    fix_giver,
    fix_line,
    list_names,
    name_size,
    remake,
    set_everywhere,
    write_size,
)
from modelsummary_ipy.diagnosis.failures.indexing import explain_gathered
from modelsummary_ipy.diagnosis.failures.linear import explain_joined
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.parameters import fix_creation, fix_size_read
from modelsummary_ipy.diagnosis.failures.source_edits import wrap_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import Arguments, put_in_brackets
from modelsummary_ipy.diagnosis.failures.transformers import explain_own_keys, fold_steps
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import CATS
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call

#: Where a mask of queries by keys stands among the arguments by position, by class, of a layer and of a stack of them.
_MASK_PLACES = {
    "MultiheadAttention": {"attn_mask": 5},
    "TransformerEncoder": {"mask": 1, "src_mask": 1},
    "TransformerDecoder": {"tgt_mask": 2, "memory_mask": 3},
    "Transformer": {"src_mask": 2, "tgt_mask": 3, "memory_mask": 4},
}


def explain_attention(ctx: FailureContext) -> Diagnosis | None:
    """Explain attention whose queries, keys, values or masks have the wrong shape, or that lacks a mask."""
    if (causal := explain_causal(ctx)) is not None:
        return causal
    if ctx.function == "scaled_dot_product_attention":
        return explain_product(ctx)
    call = find_heads(ctx)
    if call is None:
        return None
    operands = {x.spec.name: x for x in ctx.operands_of(call)}
    return _Heads(ctx, call, operands).explain() if "query" in operands else None


def find_heads(ctx: FailureContext) -> Call | None:
    """Return the call of the ``nn.MultiheadAttention`` that failed, or that the failed function is the inside of."""
    call = ctx.call if ctx.call.kind == "module" else ctx.parent
    fact = ctx.flow.module_of(call)
    is_heads = fact is not None and fact.type_name == "MultiheadAttention" and fact.type_module.startswith("torch.")
    return call if is_heads and (call is ctx.call or ctx.function == "multi_head_attention_forward") else None


class _Heads:
    """A ``nn.MultiheadAttention`` that failed."""

    def __init__(self, ctx: FailureContext, call: Call, operands: dict[str, Operand]) -> None:
        self.ctx = ctx
        self.call = call
        self.operands = operands
        self.query = query = operands["query"]
        self.key, self.value = operands.get("key", query), operands.get("value", query)
        fact = ctx.flow.module_of(call)
        assert fact is not None
        self.fact = fact
        self.settings = fact.settings
        self.batch_first = bool(fact.settings.get("batch_first"))

    def explain(self) -> Diagnosis | None:
        return self._explain_dtype() or self._explain_features() or self._explain_batches() or self._explain_masks()

    def _explain_dtype(self) -> Diagnosis | None:
        """The input has another dtype than the weights, or a mask has a dtype that no mask can have."""
        weights = [self.ctx.trace.params[index].dtype for index in self.fact.params]
        wanted = weights[0] if weights else self.query.spec.dtype
        odd = next((p for p in (self.query, self.key, self.value) if p.spec.dtype != wanted), None)
        if odd is not None and self.call.autocast is None:
            reason = f"got {odd.spec.dtype}, {name_owner(self.call)} has {wanted} weights"
            if odd.spec.dtype in FLOATING and (promoted := find_promotion(self.ctx, odd, wanted)):
                return Diagnosis(f"{reason}: {promoted[0]}", f"{wanted}, as the weights are", promoted[1])
            fix = _change_all(self.ctx, self.call, cast(wanted))
            candidates = retype_input(self.ctx, odd, wanted)
            return Diagnosis(reason, f"{wanted}, as the weights are", fix, candidates=candidates)
        for name in ("attn_mask", "key_padding_mask"):
            mask = self.operands.get(name)
            if mask is not None and mask.spec.dtype not in ("bool", *FLOATING):
                reason = f"{name} is {mask.spec.dtype}: a mask must be bool, or floating point to be added"
                candidates = self.ctx.change_input(mask, dtype="bool")
                fix = self._fix_mask(name, ".bool()")
                return Diagnosis(reason, f"{name} of bool", fix, candidates=candidates)
        return None

    def _fix_mask(self, name: str, change: str) -> Candidate:
        """Change a mask where the line passes it on, to this layer or to the Transformer that it is a part of."""
        path, words = self._name_mask(name)

        def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
            word = next((word for word in words if word in keywords), None)
            if word is None:
                return None
            text = keywords[word]
            new = change.format(text) if change.count("{") else f"{put_in_brackets(text)}{change}"
            return arguments, {**keywords, word: new}

        return fix_call(self.ctx, edit, *list_names(self.ctx, path))

    def _name_mask(self, name: str) -> tuple[str, tuple[str, ...]]:
        """Return which layer the user's line calls, and what that one may call a mask."""
        path, short = self._find_outermost(), name.removeprefix("attn_")
        if path == self.call.path:
            return path, (name,)
        decodes = any(
            fact.type_name.startswith("TransformerDecoder")
            for fact in self.ctx.trace.modules
            if fact.paths and self.call.path.startswith(f"{fact.paths[0]}.")
        )
        side = "memory_" if "multihead_attn" in self.call.path else "tgt_" if decodes else "src_"
        return path, (f"{side}{short}", short)

    def _write(self, **changes: Any) -> Candidate:
        return remake(self.ctx, self.fact, **changes)

    def _explain_features(self) -> Diagnosis | None:
        embed = self.settings.get("embed_dim")
        for name, x, setting in (("query", self.query, "embed_dim"), ("key", self.key, "kdim"),
                                    ("value", self.value, "vdim")):  # fmt: skip
            wanted = self.settings.get(setting) or embed
            if not isinstance(wanted, int) or not x.shape or x.shape[-1] == wanted:
                continue
            expected = f"{name} with last dim = {wanted} ({setting})"
            for explain in (explain_joined, explain_gathered):
                if (found := explain(self.ctx, x, wanted, expected)) is not None:
                    return found
            reason = f"the {name} has {x.shape[-1]} features, {name_owner(self.call)} expects {wanted}"
            if x.rank == 3 and x.shape[1] == wanted and self._same_everywhere():
                reason = f"dim 1 of the {name} has the {wanted} features, the last dim has {x.shape[2]}"
                fix = _change_all(self.ctx, self.call, ".transpose(1, 2)")
                return Diagnosis(reason, expected, fix)
            if x.rank == 3 and x.shape[1] == wanted and self.value.shape == x.shape:
                reason = f"dim 1 of the {name} has the {wanted} features, the last dim has {x.shape[2]}"
                return Diagnosis(reason, expected, self._turn_memory(".transpose(1, 2)"))
            if x.rank == 4 and x.shape[1] == wanted and self._same_everywhere():
                reason = (
                    f"{write_shape(x.shape)} is a feature map of {wanted} channels, attention reads steps of features"
                )
                fix = _change_all(self.ctx, self.call, ".flatten(2).transpose(1, 2)")
                return Diagnosis(reason, expected, fix)
            heads = self.settings.get("num_heads", 1)
            changes: dict[str, Any] = {setting: x.shape[-1]}
            if setting == "kdim" and self.value.shape[-1] == x.shape[-1]:  # one memory is both
                changes["vdim"] = x.shape[-1]
            if setting == "embed_dim":
                changes = {"embed_dim": x.shape[-1], "kdim": None, "vdim": None}
                if x.shape[-1] % heads:
                    changes["num_heads"] = max(n for n in range(1, heads + 1) if x.shape[-1] % n == 0)
            search = RESHAPE if self.ctx.flow.is_like_input(x.link, x.shape) else ()
            fixes = [self._write(**changes)]
            if "num_heads" in changes:  # rather another layer before than other heads
                fixes.insert(0, fix_giver(self.ctx, x, wanted))
            return Diagnosis(reason, expected, fixes, search)
        return None

    def _same_everywhere(self) -> bool:
        return self.query.shape == self.key.shape == self.value.shape

    def _explain_batches(self) -> Diagnosis | None:
        if (found := self._explain_learned() or fold_steps(self.ctx, self.call, self.query)) is not None:
            return found
        memory = self.key, self.value
        if found := explain_vectors(self.ctx, self.call, self.query, memory, batch_first=self.batch_first):
            return found
        if self.query.rank != 3 or self.key.rank != 3:
            return None
        batch, steps = (0, 1) if self.batch_first else (1, 0)
        if self.query.shape[batch] != self.key.shape[batch]:
            reason = (
                f"batch_first={self.batch_first} reads dim {batch} as the batch: the query has "
                f"{self.query.shape[batch]} there, the key {self.key.shape[batch]}"
            )
            fix = NOTHING
            if self.query.shape[steps] == self.key.shape[batch] and not self.ctx.flow.sources(self.query.link):
                name = name_member(self.call.path)  # learned queries, repeated for each sample
                fix = fix_line(self.ctx, wrap_argument(self.ctx.line, name, "{}.transpose(0, 1)"))
            elif self.key.shape[steps] == self.query.shape[batch]:
                fix = self._turn_memory()
            elif self.query.shape[steps] == self.key.shape[steps]:
                outer = self._find_outermost()
                fix = self._write(batch_first=not self.batch_first)
                if outer != self.call.path:
                    fix = set_everywhere(outer, "batch_first", value=not self.batch_first)
            return Diagnosis(reason, f"one batch, {write_shape(self.query.shape)}", fix, () if fix else RESHAPE)
        if self.key.shape[steps] != self.value.shape[steps]:
            reason = f"{self.key.shape[steps]} keys and {self.value.shape[steps]} values: each key needs one value"
            both = self._read_memory()
            return Diagnosis(reason, f"value of {self.key.shape[steps]} steps", both, () if both else RESHAPE)
        return None

    def _read_memory(self) -> Candidate:
        """Read keys and values from one memory, where one of them is the query."""

        def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
            if len(arguments) < 3 or arguments[0] not in arguments[1:3]:
                return None
            memory = arguments[2] if arguments[1] == arguments[0] else arguments[1]
            return [arguments[0], memory, memory, *arguments[3:]], keywords

        return fix_call(self.ctx, edit, name_member(self.call.path))

    def _turn_memory(self, change: str = ".transpose(0, 1)") -> Candidate:
        """Put the batch of the keys, and of the values, where the layer, or the decoder around it, reads it."""
        path = self._find_outermost()
        last = 3 if path == self.call.path else 2

        def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments:
            turned = [f"{put_in_brackets(text)}{change}" for text in arguments[1:last]]
            words = {
                name: f"{put_in_brackets(text)}{change}" if name in ("key", "value", "memory") else text
                for name, text in keywords.items()
            }
            return [*arguments[:1], *turned, *arguments[last:]], words

        return fix_call(self.ctx, edit, *list_names(self.ctx, path))

    def _explain_learned(self) -> Diagnosis | None:
        """Learned queries have no batch, or one of 1, and the keys have that of the input."""
        batch = 0 if self.batch_first else 1
        if self.key.rank != 3 or self.ctx.flow.sources(self.query.link):
            return None
        whole = self.query.rank == 3
        if self.query.rank not in (2, 3) or (whole and self.query.shape[batch] != 1) or self.key.shape[batch] == 1:
            return None

        def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
            if len(arguments) < 2:
                return None
            name = find_name(arguments[1])
            sizes = ", ".join(f"{name}.size({batch})" if axis == batch else "-1" for axis in range(3))
            first = arguments[0] if whole else f"{arguments[0]}.unsqueeze({batch})"
            return ([f"{first}.expand({sizes})", *arguments[1:]], keywords) if name else None

        reason = (
            f"the query {write_shape(self.query.shape)} has no batch, the keys {write_shape(self.key.shape)} have "
            f"{self.key.shape[batch]}: it is repeated for each sample"
        )
        fix = fix_call(self.ctx, edit, name_member(self.call.path))
        return Diagnosis(reason, "one batch in both", fix, () if fix else RESHAPE)

    def _explain_masks(self) -> Diagnosis | None:
        if (found := explain_own_keys(self.ctx, self.call)) is not None:
            return found
        batched = self.query.rank == 3
        steps = (1 if self.batch_first else 0) if batched else 0
        target, source = self.query.shape[steps], self.key.shape[steps]
        batch = self.query.shape[0 if self.batch_first else 1] if batched else 1
        heads = int(self.settings.get("num_heads", 1))
        wanted: tuple[int, ...]
        mask = self.operands.get("attn_mask")
        if mask is not None:
            wanted = (target, source) if mask.rank < 3 else (batch * heads, target, source)
            if mask.shape != wanted == (target, target) and mask.shape == (batch, batch) and self._is_turned():
                reason = f"attn_mask is {write_shape(mask.shape)}: {batch} is the batch, dim 0 has {target} steps"
                return self._mask_diagnosis(mask, wanted, reason, f"attn_mask {write_shape(wanted)}")
            if mask.shape != wanted and (found := self._explain_order(mask.shape[-1])) is not None:
                sized = self._mask_diagnosis(mask, wanted, "", "") if self.batch_first and mask.rank == 2 else found
                if sized.fixes and sized is not found:  # batch_first was asked for, so the mask is what is wrong
                    return replace(found, fix=[*sized.fixes, *found.fixes])
                return found
            own = (batch, target) if "multihead_attn" in self.call.path else (batch, source)
            if mask.shape in ((batch, source), (batch, 1, 1, source), own) and mask.shape != wanted:
                return self._explain_padding(mask, is_own=mask.shape == own != (batch, source))
            if mask.shape != wanted:
                reason = f"attn_mask is {write_shape(mask.shape)}: {target} queries attend to {source} keys"
                words = f"attn_mask {write_shape((target, source))} or {write_shape((batch * heads, target, source))}"
                return self._mask_diagnosis(mask, wanted, reason, words)
        padding = self.operands.get("key_padding_mask")
        wanted = (batch, source) if batched else (source,)
        if padding is not None and (undone := self._undo_order(padding, wanted)):
            fixes = [undone, self._fix_mask("key_padding_mask", ".transpose(0, 1)")]  # it is made of what was moved
            return Diagnosis(self._write_moved(padding, wanted), f"key_padding_mask {write_shape(wanted)}", fixes)
        is_turned = padding is not None and padding.shape == wanted[::-1] != wanted and not self._is_turned()
        if is_turned and batched:
            found = self._explain_order(source if self.batch_first else batch)
            if found is not None:
                return found
        if padding is not None and padding.shape != wanted:
            reason = f"key_padding_mask is {write_shape(padding.shape)}: {batch} samples of {source} keys each"
            return self._mask_diagnosis(padding, wanted, reason, f"key_padding_mask {write_shape(wanted)}")
        return None

    def _pad_mask(self, mask: Operand, wanted: tuple[int, ...]) -> tuple[str, str]:
        """Write what lets a mask begin, or end, with steps that were joined to the sequence: a class token."""
        more = wanted[1] - mask.shape[1] if len(wanted) == mask.rank == 2 else 0
        for call in self.ctx.flow.walk_back(self.key.link, 12) if more > 0 else ():
            sizes = [spec.shape for spec in call.inputs] if call.type_name in CATS else []
            counts = [shape[1] if len(shape) == 3 else 0 for shape in sizes]
            if sorted(counts) == sorted((more, mask.shape[1])) and call.source is not None:
                place = f"{more}, 0" if counts[0] == more else f"0, {more}"
                return f"F.pad({{}}, ({place}))", f"{more} more joined at {call.source.text}"
        return "", ""

    def _mask_memory(self) -> Candidate:
        """Mask what the decoder reads of the encoder as the encoder's own steps are masked."""

        def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
            own = keywords.get("src_key_padding_mask")
            if own is None or "memory_key_padding_mask" not in keywords:
                return None
            return arguments, {**keywords, "memory_key_padding_mask": own}

        return fix_call(self.ctx, edit, *list_names(self.ctx, self._find_outermost()))

    def _undo_order(self, mask: Operand, wanted: tuple[int, ...]) -> Candidate:
        is_moved = mask.rank == len(wanted) and mask.shape != wanted
        return undo_move(self.ctx, mask, wanted.__eq__) if is_moved else NOTHING

    def _write_moved(self, mask: Operand, wanted: tuple[int, ...]) -> str:
        words = f"{mask.spec.name} is {write_shape(mask.shape)}, and {write_shape(wanted)} before its dims were moved"
        return f"{words}: samples come first in it, whatever batch_first is" if "padding" in mask.spec.name else words

    def _is_turned(self) -> bool:
        """Return whether the model brought the steps of the queries in front of the batch, as this layer reads them."""
        calls = self.ctx.flow.walk_back(self.query.link, 3) if not self.batch_first else ()
        names = ("dim0", "dim1")
        return any(
            {self.ctx.flow.setting(call, name) for name in names} == {0, 1}
            if call.type_name in ("transpose", "swapaxes") else self.ctx.flow.setting(call, "dims") == (1, 0, 2)
            for call in calls
        )  # fmt: skip

    def _explain_padding(self, mask: Operand, *, is_own: bool) -> Diagnosis:
        """A mask of each sample's keys was given where one of queries by keys belongs."""
        path, words = self._name_mask("attn_mask")
        padding = f"{words[0].removesuffix('attn_mask').removesuffix('mask')}key_padding_mask"
        padding = "tgt_key_padding_mask" if is_own else padding  # of the steps that the decoder was given
        shape, kind = write_shape(mask.shape), padding if is_own else "key_padding_mask"
        name, flat = words[0] if is_own else "attn_mask", ".flatten(1)" if mask.rank == 4 else ""
        reason = f"{name} is {shape}: a mask of each sample's keys is {kind}, {name} is of queries by keys"
        kind = next((fact.type_name for fact in self.ctx.trace.modules if path in fact.paths), "")
        places = _MASK_PLACES.get(kind.removesuffix("Layer"), {})
        place = next((places[word] for word in words if word in places), -1)

        def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
            word = next((word for word in words if word in keywords), None)
            kept = {key: text for key, text in keywords.items() if key != word}
            text = keywords[word] if word is not None else ""
            if word is None and len(arguments) == place + 1:  # it is the last one by position: none moves there
                arguments, text = arguments[:-1], arguments[-1]
            return (arguments, {**kept, padding: f"{put_in_brackets(text) if flat else text}{flat}"}) if text else None

        fix = fix_call(self.ctx, edit, *list_names(self.ctx, path))
        return Diagnosis(reason, f"key_padding_mask {write_shape(mask.shape)}", fix)

    def _explain_order(self, steps: int) -> Diagnosis | None:
        """A mask is of the steps that stand where this layer reads the batch."""
        if self.query.rank != 3 or self.query.shape[0 if not self.batch_first else 1] == steps:
            return None
        batch = 0 if self.batch_first else 1
        if self.query.shape[batch] != steps:
            return None
        reason = (
            f"batch_first={self.batch_first} reads dim {batch} of {write_shape(self.query.shape)} as the batch, "
            f"and the mask is of these {steps} as steps"
        )
        turned = set_everywhere(self._find_outermost(), "batch_first", value=not self.batch_first)
        mask = self.operands.get("attn_mask") if self.batch_first else None  # else the batch is first, as it mostly is
        fixes = [fix_size_read(self.ctx, mask), turned] if mask is not None else turned
        return Diagnosis(reason, f"a mask of {self.query.shape[1 - batch]} steps", fixes)

    def _find_outermost(self) -> str:
        """Return the path of the outermost layer of torch's that this one is a part of."""
        path = self.call.path
        for call in self.ctx.flow.around(self.call):
            fact = self.ctx.flow.module_of(call)
            if fact is None or not fact.type_module.startswith("torch."):
                break
            if "batch_first" not in fact.settings and not fact.type_name.startswith("Transformer"):
                break
            path = call.path
        return path

    def _mask_diagnosis(self, mask: Operand, wanted: tuple[int, ...], reason: str, expected: str) -> Diagnosis:
        steps = 1 if self.batch_first else 0
        name = write_size(self.ctx, 0, steps, self.call) or name_size(self.ctx, self.query, steps)
        kind = "attn_mask" if mask is self.operands.get("attn_mask") else "key_padding_mask"
        change, why = _fit_mask(mask.shape, wanted)
        if kind == "key_padding_mask" and mask.rank == 2 and mask.shape[0] == wanted[0] and not change:
            change, why = self._pad_mask(mask, wanted)
        is_of_keys = kind == "key_padding_mask" and mask.rank == len(wanted) == 2 and mask.shape[0] == wanted[0]
        if is_of_keys and not change and name and wanted[1] and not mask.shape[1] % wanted[1]:  # a pool strides
            change = f"{{0}}[:, ::{{0}}.size(1) // {name}]"
            why = f"one of {mask.shape[1] // wanted[1]} steps is kept"
        fix = self._fix_mask(kind, change) if change else NOTHING
        if fix:
            candidates = self.ctx.change_input(mask, shape=wanted)
            return Diagnosis(f"{reason}; {why}", expected, fix, candidates=candidates)
        target = self.query.shape[1 if self.batch_first else 0] if self.query.rank == 3 else -1
        is_of_pairs = kind == "attn_mask" and mask.rank == 2 and wanted == (target, target)
        if is_of_pairs and min(mask.shape) >= target:
            cut = self._fix_mask("attn_mask", f"[:{name or target}, :{name or target}]")
            if cut:  # made once, for the longest sequence
                return Diagnosis(f"{reason}; the first {target} of its {mask.shape[0]} are theirs", expected, cut)
        names = {axis: name for axis, size in enumerate(wanted) if size == target} if name else {}
        if kind == "key_padding_mask" and "multihead_attn" in self.call.path:
            fixes = [self._mask_memory()]
            return Diagnosis(f"{reason}: those of the source, whose mask this is to be", expected, fixes)
        fixes = [fix_size_read(self.ctx, mask), fix_creation(self.ctx, mask, wanted, names)]
        fixes.append(fix_creation(self.ctx, mask, wanted))
        return Diagnosis(reason, expected, fixes, candidates=self.ctx.change_input(mask, shape=wanted))


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


def _change_all(ctx: FailureContext, call: Call, change: str) -> Candidate:
    """Change query, key and value where the line passes them on: ``"self.attn(x.float(), x.float(), x.float())"``."""

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments:
        return [f"{text}{change}" for text in arguments[:3]] + arguments[3:], keywords

    return fix_call(ctx, edit, name_member(call.path))
