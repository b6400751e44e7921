"""What each tensor holds as a mask: which entries it says are hidden, from how it was made."""

from __future__ import annotations

from typing import Literal, NamedTuple

from modelsummary_ipy.diagnosis.call_arguments import argument
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import EMBEDDINGS, RESHAPES, TRANSPOSES
from modelsummary_ipy.records.trace import Call, Link, ParamFact

Entries = Literal["past", "future", "real", "padding", "some"]


class Mask(NamedTuple):
    """A mask.

    Attributes:
        entries: Which entries it holds: the steps before or after each, what is no padding or what is, or some that
            nothing says more of.
        form: How it holds them: as True or 1, as -1, or as numbers far below 0, which are added to scores.
        own: Of the past or the future, whether each step itself is in it.
        ahead: Whether the step behind each is in the past too, and not in the future.
    """

    entries: Entries
    form: Literal["ones", "minus", "low"] = "ones"
    own: bool = False
    ahead: bool = False


OTHERS: dict[Entries, Entries] = {
    "past": "future", "future": "past", "real": "padding", "padding": "real", "some": "some",
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


class MaskReader:
    """What each tensor holds as a mask, from how it was made."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._masks: dict[Link, Mask] = {}
        self._fills: dict[Link, float] = {}
        #: What counts 0, 1, 2 …, and what is an input of integers.
        self._counts: set[Link] = set()
        self._given: set[Link] = set()
        #: Inputs of numbers that are called a mask: multiplied with scores, they can only be 0 and 1.
        self.given_ones: set[Link] = set()
        self._padding = _find_padding(evidence)
        self._held = {param.index: mask for param in evidence.params if (mask := _read_held(param)) is not None}
        for leaf, fact in enumerate(evidence.inputs):
            link = Link(-1, leaf)
            if fact.spec.dtype.startswith("float") and "mask" in fact.spec.name:
                self.given_ones.add(link)
            if fact.spec.dtype.startswith("int"):
                self._given.add(link)
                if fact.spec.name == "attention_mask" and len(fact.spec.shape) == 2:
                    self._masks[link] = Mask("real")
            elif fact.spec.dtype == "bool":
                self._masks[link] = Mask("some")
        self._masks |= _find_counted(evidence)

    def of(self, call: Call, leaf: int) -> Mask | None:
        """Return what an input of a call holds; ``None`` if it is no mask."""
        link = call.input_links[leaf] if leaf < len(call.input_links) else None
        param = call.input_params[leaf] if leaf < len(call.input_params) else None
        return self._masks.get(link) if link is not None else None if param is None else self._held.get(param)

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
        if not call.input_links:
            return
        mask = self._read_mask(call, name)
        if mask is not None:
            self._masks[made] = mask
        if name in _KEEPING and call.input_links[0] is not None:
            for known in (self._counts, self._given, self.given_ones):
                if call.input_links[0] in known:
                    known.add(made)
            if call.input_links[0] in self._fills:
                self._fills[made] = self._fills[call.input_links[0]]

    def _read_mask(self, call: Call, name: str) -> Mask | None:
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
            return turn(mask) if mask.form == "ones" else None
        if name in TRANSPOSES and mask.entries in ("past", "future"):
            return mask._replace(entries=OTHERS[mask.entries])
        if name in ("mul", "sub") and isinstance(value, (int, float)):
            if name == "sub":
                turned = turn(mask)
                return turned._replace(form="minus") if turned and (mask.form, value) == ("ones", 1) else None
            sign = -1 if mask.form == "minus" else 1
            return mask._replace(form="low") if value * sign < _LOW or mask.form == "low" else None
        return mask if name in TRANSPOSES else None

    def _read_triangle(self, call: Call, name: str) -> Mask | None:
        value, diagonal = self.fill(call, 0), argument(call, "diagonal", "1", default=0)
        shape = call.outputs[0].shape
        if not value or not isinstance(diagonal, int):
            return None
        last = diagonal if name == "tril" else diagonal - 1
        if last == 1 and shape[-1:] != shape[-2:-1]:
            return None
        return _make_triangle("past" if name == "tril" else "future", "low" if value < _LOW else "ones", last)

    def _fill_in(self, call: Call, base: Mask | None, value: object) -> Mask | None:
        mask = self.of(call, 1)
        if mask is None:
            return None
        if base is not None and base.form == "low":
            return base
        is_plain = base is not None or self.fill(call, 0) is not None
        return mask._replace(form="low") if is_plain and is_low(value) and mask.form == "ones" else None

    def _compare(self, call: Call, name: str, mask: Mask | None, value: object) -> Mask | None:
        links = call.input_links
        if len(links) == 2:
            return self._compare_counts(call, name)
        if mask is not None and mask.form == "ones":
            is_same = (name, value) in {("eq", 1), ("ne", 0), ("gt", 0), ("ge", 1), ("gt", 0.5)}
            is_other = (name, value) in {("eq", 0), ("ne", 1), ("lt", 1), ("le", 0), ("lt", 0.5)}
            return mask if is_same else turn(mask) if is_other else None
        if links[0] in self._given and value in self._padding and isinstance(value, int):
            if name in ("ne", "gt"):
                return Mask("real")
            return Mask("padding") if name in ("eq", "le") else None
        return None

    def _compare_counts(self, call: Call, name: str) -> Mask | None:
        """``arange < lengths`` is what is no padding; ``row >= column`` are the steps before each."""
        one, other = call.input_links
        if one not in self._counts and other in self._counts:
            one, other, name = other, one, _FLIPPED.get(name, "")
        if one not in self._counts or name not in _FLIPPED:
            return None
        if other in self._given:
            return Mask("real" if name in ("lt", "le") else "padding")
        if other not in self._counts:
            return None
        is_row = [len(spec.shape) > 1 and spec.shape[-1] == 1 for spec in call.inputs]
        if is_row[0] == is_row[1]:
            return None
        is_before = (name in ("gt", "ge")) == is_row[0]
        return Mask("past" if is_before else "future", own=name in ("ge", "le"))


def _find_counted(evidence: Evidence) -> dict[Link, Mask]:
    """Return inputs by whose sum something is divided: that is the number of the words, and 1 stands for one.

    ``(x * mask).sum(1) / mask.sum(1)``.
    """
    found: dict[Link, Mask] = {}
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
            found[link] = Mask("real" if len(rest) % 2 else "padding")
    return found


def _make_triangle(entries: Entries, form: Literal["ones", "low"], last: int) -> Mask | None:
    """Return a mask of the steps up to ``last`` behind each, or of those after these."""
    is_own = last >= 0 if entries == "past" else last < 0
    return Mask(entries, form, is_own, last == 1) if abs(last) < 2 or last == -2 else None


def _read_held(param: ParamFact) -> Mask | None:
    """Read what a triangle in a buffer holds: ones, or numbers that hide the scores that they are added to."""
    if param.triangle is None:
        return None
    last, below, above = param.triangle
    for one, other, entries in ((below, above, "past"), (above, below, "future")):
        if other == 0 and (one == 1 or one < _LOW):
            return _make_triangle(entries, "ones" if one == 1 else "low", last)  # type: ignore[arg-type]  # one of both
    return None


def turn(mask: Mask | None) -> Mask | None:
    """Return what holds all other entries."""
    if mask is None:
        return None
    is_own = mask.entries in ("past", "future") and not mask.own
    return mask._replace(entries=OTHERS[mask.entries], own=is_own)


def _join(one: Mask, other: Mask, *, is_or: bool) -> Mask | None:
    """What both keep, or what either hides; of others nothing is known."""
    kept, hidden = ("past", "real"), ("future", "padding")
    same = hidden if is_or else kept
    if one.form != "ones" or other.form != "ones":
        return None
    both = (one.entries, other.entries)
    if not all(entries in same for entries in both):
        return Mask("some")
    owns = [mask.own for mask in (one, other) if mask.entries == same[0]]
    own = any(owns) if is_or else bool(owns) and all(owns)
    return Mask(min(both, key=same.index), own=own, ahead=one.ahead or other.ahead)


def is_low(value: object) -> bool:
    """Return whether a number hides the scores that it is added to."""
    return isinstance(value, (int, float)) and value < _LOW


def _find_padding(evidence: Evidence) -> frozenset[int]:
    """Return the numbers that stand for padding: what the tables of words say, else 0 and 1."""
    tables = [fact.settings.get("padding_idx") for fact in evidence.modules if fact.type_name in EMBEDDINGS]
    known = frozenset(index for index in tables if isinstance(index, int))
    return known or (frozenset({0, 1}) if tables else frozenset())
