"""The rule about masks: which entries one says are hidden, and which ones the attention that reads it hides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from modelsummary_ipy.diagnosis.call_arguments import argument
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import ATTENTIONS, EMBEDDINGS, RESHAPES, SOFTMAXES, TRANSPOSES
from modelsummary_ipy.model.torch_layers import classes_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link

Entries = Literal["past", "future", "real", "padding", "some"]


class _Mask(NamedTuple):
    """A mask.

    Attributes:
        entries: Which entries it holds: the steps before or after each, what is no padding or what is, or some that
            nothing says more of.
        form: How it holds them: as True or 1, as -1, or as numbers far below 0, which are added to scores.
        own: Of the past or the future, whether each step itself is in it.
    """

    entries: Entries
    form: Literal["ones", "minus", "low"] = "ones"
    own: bool = False


_OTHERS: dict[Entries, Entries] = {
    "past": "future", "future": "past", "real": "padding", "padding": "real", "some": "some",
}  # fmt: skip
_WORDS = {
    "past": "the steps before each", "future": "the steps after each", "real": "the words", "padding": "the padding",
}  # fmt: skip
_LOW = -1e3
_KEEPING = RESHAPES | {
    "float", "bool", "to", "type", "type_as", "long", "int", "byte", "unsqueeze", "squeeze", "getitem", "expand",
    "expand_as", "repeat", "contiguous", "clone", "detach", "cpu", "cuda", "half", "double", "narrow", "slice",
}  # fmt: skip
_INVERTING = frozenset({"invert", "bitwise_not", "logical_not", "rsub"})
_FILLS = {"ones": 1, "zeros": 0, "new_ones": 1, "new_zeros": 0, "ones_like": 1, "zeros_like": 0}
_FULL = frozenset({"full", "new_full", "full_like", "tensor"})
_FLIPPED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le"}
_LAYERS = ATTENTIONS | classes_of("transformer layer", "transformer")
_SDPA = "scaled_dot_product_attention"


def find_inverted_masks(evidence: Evidence) -> Iterator[Flag]:
    """Find attention that hides what its mask was made to keep, and masks that hide nothing.

    Finds ``key_padding_mask=tokens != 0``, whose True hides the words; ``torch.tril`` for the mask of a torch layer;
    ``triu(…, 1) == 0`` in a ``masked_fill`` of -inf; scores that are multiplied with a mask, or get 0 and 1 added,
    before the softmax; the mean over steps that were set to 0 as padding. Leaves alone masks of which no line says
    what they hold, weights that are masked anew after the softmax, and means that are divided by the mask's.
    """
    masks = _MaskReader(evidence)
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


def _check_use(evidence: Evidence, masks: _MaskReader, call: Call) -> Iterator[Flag]:
    name = call.type_name.rstrip("_")
    hidden: _Mask | None = None
    if name == "masked_fill" and _is_low(argument(call, "value", "2")) and masks.of(call, 0) is None:
        hidden = masks.of(call, 1) if masks.fill(call, 0) is None else None
    elif name == "where" and (_is_low(argument(call, "other", "2")) or _is_low(masks.fill(call, 2))):
        hidden = _turn(masks.of(call, 0))
    elif name == "where" and (_is_low(argument(call, "input", "1")) or _is_low(masks.fill(call, 1))):
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
                    hidden = _turn(mask) if name == _SDPA and mask.form == "ones" else mask
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


def _write_inverted(evidence: Evidence, call: Call, hidden: _Mask) -> Flag:
    shape = next((spec.shape for spec in call.inputs if "mask" in spec.name), call.inputs[-1].shape)
    rest = _WORDS[_OTHERS[hidden.entries]]
    message = f"{call.type_name} with this mask of {write_size(shape)} hides {_WORDS[hidden.entries]}, and reads {rest}"
    fix = "~mask" if hidden.form == "ones" else "the other half: torch.triu(…, diagonal=1) holds what comes after"
    return evidence.flag("inverted-mask", "warning", call, message, fix, "inverted", shape=shape)


def _write_idle(evidence: Evidence, call: Call, shape: tuple[int, ...], what: str) -> Flag:
    message = f"a mask of 0 and 1 {what}: {write_size(shape)}"
    fix = "scores.masked_fill(mask == 0, float('-inf')), or a mask of booleans"
    return evidence.flag("inverted-mask", "warning", call, message, fix, "idle", shape=shape)


def _check_late(evidence: Evidence, masks: _MaskReader, softmax: Call) -> Iterator[Flag]:
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
            message = (
                f"the weights {write_size(shape)} are masked behind their softmax: each was divided by a sum that "
            )
            message += "holds the hidden ones, and what is left does not sum to 1"
            fix = "scores.masked_fill(mask == 0, float('-inf')), then softmax"
            yield evidence.flag("inverted-mask", "warning", reader, message, fix, "late", shape=shape)


def _is_masked_anew(evidence: Evidence, masks: _MaskReader, softmax: Call) -> bool:
    """Return whether the weights are set to 0 where they are hidden, and made to sum to one again."""
    return any(
        reader.type_name.rstrip("_") in ("mul", "masked_fill")
        and any(masks.of(reader, leaf) is not None for leaf in range(len(reader.inputs)))
        for reader in evidence.flow.readers(softmax)
    )


def _check_mean(evidence: Evidence, masks: _MaskReader, call: Call) -> Iterator[Flag]:
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


class _MaskReader:
    """What each tensor holds as a mask, from how it was made."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._masks: dict[Link, _Mask] = {}
        self._fills: dict[Link, float] = {}
        #: What counts 0, 1, 2 …, and what is an input of integers.
        self._counts: set[Link] = set()
        self._given: set[Link] = set()
        #: Inputs of numbers that are called a mask: multiplied with scores, they can only be 0 and 1.
        self.given_ones: set[Link] = set()
        self._padding = _find_padding(evidence)
        for leaf, fact in enumerate(evidence.inputs):
            link = Link(-1, leaf)
            if fact.spec.dtype.startswith("float") and "mask" in fact.spec.name:
                self.given_ones.add(link)
            if fact.spec.dtype.startswith("int"):
                self._given.add(link)
                if fact.spec.name == "attention_mask" and len(fact.spec.shape) == 2:
                    self._masks[link] = _Mask("real")
            elif fact.spec.dtype == "bool":
                self._masks[link] = _Mask("some")
        self._masks |= _find_counted(evidence)

    def of(self, call: Call, leaf: int) -> _Mask | None:
        """Return what an input of a call holds; ``None`` if it is no mask."""
        link = call.input_links[leaf] if leaf < len(call.input_links) else None
        return None if link is None else self._masks.get(link)

    def fill(self, call: Call, leaf: int) -> float | None:
        """Return the one number that all of an input is."""
        link = call.input_links[leaf] if leaf < len(call.input_links) else None
        return None if link is None else self._fills.get(link)

    def read(self, call: Call) -> None:
        """Note what a call makes."""
        if call.kind != "op" or len(call.outputs) != 1:
            return
        made, name = Link(call.index, 0), call.type_name.rstrip("_")
        if name in _FILLS:
            self._fills[made] = _FILLS[name]
        elif name in _FULL:
            value = argument(call, "fill_value", "t", "data")
            if isinstance(value, (int, float)):
                self._fills[made] = value
        elif name == "arange" and argument(call, "start") in (None, 0):
            self._counts.add(made)
        if not call.input_links or call.input_links[0] is None:
            return
        mask = self._read_mask(call, name)
        if mask is not None:
            self._masks[made] = mask
        if name in _KEEPING:
            for known in (self._counts, self._given, self.given_ones):
                if call.input_links[0] in known:
                    known.add(made)
            if call.input_links[0] in self._fills:
                self._fills[made] = self._fills[call.input_links[0]]

    def _read_mask(self, call: Call, name: str) -> _Mask | None:
        mask, value = self.of(call, 0), argument(call, "other", "value", "1")
        if name in ("tril", "triu"):
            return self._read_triangle(call, name)
        if name in ("eq", "ne", "lt", "le", "gt", "ge"):
            return self._compare(call, name, mask, value)
        if name == "masked_fill":
            return self._fill_in(call, mask, argument(call, "value", "2"))
        if name in ("and", "bitwise_and", "logical_and", "or", "bitwise_or", "logical_or", "mul"):
            other = self.of(call, 1)
            if mask is not None and other is not None:
                return _join(mask, other, is_or=name.endswith("or"))
        if mask is None:
            return None
        if name in _KEEPING:
            return mask
        if name in _INVERTING:
            return _turn(mask) if mask.form == "ones" else None
        if name in TRANSPOSES and mask.entries in ("past", "future"):
            return mask._replace(entries=_OTHERS[mask.entries])
        if name in ("mul", "sub") and isinstance(value, (int, float)):
            if name == "sub":
                turned = _turn(mask)
                return turned._replace(form="minus") if turned and (mask.form, value) == ("ones", 1) else None
            sign = -1 if mask.form == "minus" else 1
            return mask._replace(form="low") if value * sign < _LOW or mask.form == "low" else None
        return mask if name in TRANSPOSES else None

    def _read_triangle(self, call: Call, name: str) -> _Mask | None:
        value, diagonal = self.fill(call, 0), argument(call, "diagonal", "1", default=0)
        if not value or not isinstance(diagonal, int) or abs(diagonal) > 1:
            return None
        is_own = diagonal >= 0 if name == "tril" else diagonal <= 0
        return _Mask("past" if name == "tril" else "future", "low" if value < _LOW else "ones", is_own)

    def _fill_in(self, call: Call, base: _Mask | None, value: object) -> _Mask | None:
        mask = self.of(call, 1)
        if mask is None:
            return None
        if base is not None and base.form == "low":
            return base
        is_plain = base is not None or self.fill(call, 0) is not None
        return mask._replace(form="low") if is_plain and _is_low(value) and mask.form == "ones" else None

    def _compare(self, call: Call, name: str, mask: _Mask | None, value: object) -> _Mask | None:
        links = call.input_links
        if len(links) == 2:
            return self._compare_counts(call, name)
        if mask is not None and mask.form == "ones":
            is_same = (name, value) in {("eq", 1), ("ne", 0), ("gt", 0), ("ge", 1), ("gt", 0.5)}
            is_other = (name, value) in {("eq", 0), ("ne", 1), ("lt", 1), ("le", 0), ("lt", 0.5)}
            return mask if is_same else _turn(mask) if is_other else None
        if links[0] in self._given and value in self._padding and isinstance(value, int):
            if name in ("ne", "gt"):
                return _Mask("real")
            return _Mask("padding") if name in ("eq", "le") else None
        return None

    def _compare_counts(self, call: Call, name: str) -> _Mask | None:
        """``arange < lengths`` is what is no padding; ``row >= column`` are the steps before each."""
        one, other = call.input_links
        if one not in self._counts and other in self._counts:
            one, other, name = other, one, _FLIPPED.get(name, "")
        if one not in self._counts or name not in _FLIPPED:
            return None
        if other in self._given:
            return _Mask("real" if name in ("lt", "le") else "padding")
        if other not in self._counts:
            return None
        is_row = [len(spec.shape) > 1 and spec.shape[-1] == 1 for spec in call.inputs]
        if is_row[0] == is_row[1]:
            return None
        is_before = (name in ("gt", "ge")) == is_row[0]
        return _Mask("past" if is_before else "future", own=name in ("ge", "le"))


def _find_counted(evidence: Evidence) -> dict[Link, _Mask]:
    """Return inputs by whose sum something is divided: that is the number of the words, and 1 stands for one.

    ``(x * mask).sum(1) / mask.sum(1)``.
    """
    found: dict[Link, _Mask] = {}
    for call in evidence.flow.steps:
        if call.type_name.rstrip("_") not in ("div", "truediv") or len(call.input_links) != 2:
            continue
        makers: list[str] = []
        link = call.input_links[1]
        while (maker := evidence.flow.producer(link)) is not None and len(maker.inputs) == 1:
            makers.append(maker.type_name.rstrip("_"))
            link = maker.input_links[0]
        rest = [name for name in makers if name not in _KEEPING | {"clamp", "clip", "clamp_min", "add"}]
        is_named = link is not None and link.call == -1 and "mask" in evidence.inputs[link.leaf].spec.name
        if link is not None and is_named and "sum" in rest and set(rest) <= {"sum", *_INVERTING}:
            found[link] = _Mask("real" if len(rest) % 2 else "padding")
    return found


def _turn(mask: _Mask | None) -> _Mask | None:
    if mask is None:
        return None
    is_own = mask.entries in ("past", "future") and not mask.own
    return mask._replace(entries=_OTHERS[mask.entries], own=is_own)


def _join(one: _Mask, other: _Mask, *, is_or: bool) -> _Mask | None:
    """What both keep, or what either hides; of others nothing is known."""
    kept, hidden = ("past", "real"), ("future", "padding")
    same = hidden if is_or else kept
    if one.form != "ones" or other.form != "ones":
        return None
    both = (one.entries, other.entries)
    if not all(entries in same for entries in both):
        return _Mask("some")
    owns = [mask.own for mask in (one, other) if mask.entries == same[0]]
    return _Mask(min(both, key=same.index), own=any(owns) if is_or else bool(owns) and all(owns))


def _is_low(value: object) -> bool:
    return isinstance(value, (int, float)) and value < _LOW


def _find_padding(evidence: Evidence) -> frozenset[int]:
    """Return the numbers that stand for padding: what the tables of words say, else 0 and 1."""
    tables = [fact.settings.get("padding_idx") for fact in evidence.modules if fact.type_name in EMBEDDINGS]
    known = frozenset(index for index in tables if isinstance(index, int))
    return known or (frozenset({0, 1}) if tables else frozenset())


RULES = {"inverted-mask": find_inverted_masks}
