"""What is taken of a tensor entry by entry, where some are taken again and others never."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from modelsummary_ipy.diagnosis.call_arguments import argument
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import ATTENTIONS, CATS, CONVOLUTIONS, FACTORIES, RECURRENTS, SOFTMAXES
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, TensorSpec

_ATTENTIONS = ATTENTIONS | SOFTMAXES | {"scaled_dot_product_attention"}
_IN_TURN = RECURRENTS | CONVOLUTIONS | {"cumsum"}
_HIDING = frozenset({"triu", "tril", "masked_fill", "where"})


class _Taken(NamedTuple):
    """One entry of one dim; ``number`` is ``None`` where a step takes all."""

    dim: int
    number: int | None


def find_repeated_entries(evidence: Evidence) -> Iterator[Flag]:
    """One entry that is taken at each turn of a loop, or twice where another is never; a part that is joined twice."""
    for leaf, fact in enumerate(evidence.inputs):
        yield from _check_reads(evidence, Link(-1, leaf), fact.spec)
    for step in evidence.flow.steps:
        for leaf, spec in enumerate(step.outputs):
            yield from _check_reads(evidence, Link(step.index, leaf), spec)
        if step.type_name in CATS and len(step.input_links) > 2:
            yield from _check_joined(evidence, step)
        elif step.type_name in CATS and len(step.input_links) == 2:
            yield from _check_token(evidence, step)


def _check_reads(evidence: Evidence, link: Link, spec: TensorSpec) -> Iterator[Flag]:
    found = evidence.flow.reads.get(link, ())
    reads = [call for call, _ in found if evidence.flow.is_step(call) and call.type_name not in FACTORIES]
    if len(reads) < 2 and link.call >= 0:
        return
    yield from _check_slices(evidence, reads, spec)
    taken = [entry for call in reads for entry in _find_taken(evidence, call, len(spec.shape))]
    if len({entry.dim for entry in taken}) != 1 or any(entry.number is None for entry in taken):
        return
    dim, size = taken[0].dim, spec.shape[taken[0].dim]
    counts = Counter(entry.number % size for entry in taken if entry.number is not None)
    first = min(counts)
    if len(counts) == 1:
        is_loop = len(reads) > 2 and len({call.source for call in reads}) == 1 and dim > 0
        is_loop = is_loop and size - len(reads) in (0, 1)
        if is_loop or (link.call < 0 and size == 2 and "int" in spec.dtype):
            times = f", {len(reads)} times" if is_loop else ""
            message = f"of {write_size(spec.shape)} only entry {first} of dim {dim} is read{times}"
            fix = "index it by the loop's variable" if is_loop else "read the other one too"
            yield evidence.flag("unread-result", "warning", reads[0], message, fix, "step", shape=spec.shape)
    elif size == len(taken) == len(counts) + 1 > 2:
        twice = next(number for number, count in counts.items() if count > 1)
        never = next(number for number in range(size) if number not in counts)
        message = f"of {write_size(spec.shape)} entry {twice} of dim {dim} is taken twice, and entry {never} never"
        yield evidence.flag("unread-result", "warning", reads[-1], message, f"take entry {never}", "entry",
            shape=spec.shape,
        )  # fmt: skip


def _check_slices(evidence: Evidence, reads: Sequence[Call], spec: TensorSpec) -> Iterator[Flag]:
    """``h[:, :32]`` in two lines, where nothing reads ``h[:, 32:]``."""
    if len(reads) < 2 or any(call.type_name != "getitem" for call in reads):
        return
    given = [argument(call, "1", "index") for call in reads]
    cuts = [(index.index(cut), cut) for index in given if isinstance(index, tuple)
        for cut in index if isinstance(cut, slice) and cut not in (slice(None), slice(None, None, 1))]  # fmt: skip
    if len(cuts) != len(reads) or len({dim for dim, _ in cuts}) != 1 or cuts[0][0] >= len(spec.shape):
        return
    size = spec.shape[cuts[0][0]]
    read = [set(range(*cut.indices(size))) for _, cut in cuts]
    both = set().union(*read)
    if read[0] == read[1] and len(both) * len(read) == size and len(read[0]) > 1:
        message = f"of {write_size(spec.shape)} the same {len(read[0])} of {size} in dim {cuts[0][0]} are taken twice, "
        message += "the rest never"
        yield evidence.flag("unread-result", "warning", reads[-1], message, "take the rest", "slice", shape=spec.shape)


def _find_taken(evidence: Evidence, call: Call, rank: int) -> list[_Taken]:
    """List which entries of which dim a step takes and hands on."""
    index = argument(call, "1", "index") if call.type_name == "getitem" else None
    parts: Sequence[object] = index if isinstance(index, tuple) else (index,)
    if parts[0] in (Ellipsis, "..."):
        parts = (slice(None),) * (rank - len(parts) + 1) + tuple(parts[1:])
    for dim, part in enumerate(parts):
        if isinstance(part, int) and not isinstance(part, bool) and all(other == slice(None) for other in parts[:dim]):
            return [_Taken(dim, part)] if evidence.flow.readers(call) else []
    if call.type_name == "unbind" and not argument(call, "dim", "1", default=0):
        return [_Taken(0, leaf) for leaf in range(len(call.outputs)) if evidence.flow.readers(call, leaf)]
    return [_Taken(0, None)]


def _check_joined(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """Parts of one tensor, ``x[:, 0::2]`` and its like, of which one is written twice."""
    makers = [evidence.flow.producer(link) for link in step.input_links]
    cuts = [
        (maker.input_links, repr(argument(maker, "1", "index")))
        for maker in makers
        if maker is not None and maker.type_name == "getitem" and maker.outputs[0].shape == step.inputs[0].shape
    ]
    is_whole = len(cuts) == len(makers) == len(set(step.input_links)) == len(set(cuts)) + 1
    if is_whole and len({links for links, _ in cuts}) == 1:
        twice = next(text for (_, text), count in Counter(cuts).items() if count > 1)
        message = f"{step.type_name} joins {len(cuts)} parts of a tensor, and two of them are the same: "
        message += f"[{_write(twice)}]"
        yield evidence.flag("unread-result", "warning", step, message, "another part for one of both", "parts",
            shape=step.inputs[0].shape,
        )  # fmt: skip


def _check_token(evidence: Evidence, step: Call) -> Iterator[Flag]:
    """A token that is joined at one end of the steps, where of what becomes of them only the other end is read.

    In front of steps that read those before them it begins a sequence, whose last step is an answer.
    """
    shape = step.outputs[0].shape
    sides = [leaf for leaf in (0, 1) if step.inputs[leaf].shape[1:2] == (1,) and len(step.inputs[leaf].shape) == 3
        and not evidence.flow.sources(step.input_links[leaf])]  # fmt: skip
    if not sides or argument(step, "dim", "1", "axis") not in (1, -2) or shape[1] < 3:
        return
    own, other = ("0", "-1") if sides[0] == 0 else ("-1", "0")
    laters = list(evidence.flow.after(step, 400))
    names = {later.type_name for later in laters}
    if sides[0] == 0 and (not names & _ATTENTIONS or names & _IN_TURN or any(map(_hides, evidence.calls))):
        return
    for later in laters:
        if later.type_name != "getitem" or later.inputs[0].shape[:2] != shape[:2]:
            continue
        others = evidence.flow.readers(evidence.calls[later.input_links[0].call]) if later.input_links[0] else ()
        if _find_taken(evidence, later, 3) == [_Taken(1, int(other))] and len(others) == 1:
            side = "behind" if sides[0] else "in front of"
            message = (
                f"a token is joined {side} the steps, {write_size(shape)}, and step {other} is read: the token is "
            )
            message += f"step {own}"
            yield evidence.flag("unread-result", "warning", later, message, f"x[:, {own}]", "token", shape=shape)


def _hides(call: Call) -> bool:
    """Return whether a call may keep steps from reading those behind them."""
    is_causal = any(value is True for name, value in call.arguments if name == "is_causal")
    return is_causal or call.type_name in _HIDING or any("mask" in spec.name for spec in call.inputs)


def _write(index: str) -> str:
    """Write an index as it is typed: ``:, 0::2``."""
    parts = re.sub(r"slice\(([^,)]+), ([^,)]+), ([^,)]+)\)", r"\1:\2:\3", index).replace("None", "")
    return re.sub(r":(?=[,)]|$)", "", parts).strip("()").replace(" ,", ":,") or ":"
