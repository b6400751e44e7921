"""Patterns of einops and annotations of jaxtyping that a tensor does not fit: which axis, and what fits."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from modelsummary_ipy.diagnosis.failures.context import (
    ANYWHERE,
    NOTHING,
    RESHAPE,
    STEP,
    Diagnosis,
    FailureContext,
    Operand,
)
from modelsummary_ipy.diagnosis.failures.fixes import fix_giver, fix_line
from modelsummary_ipy.diagnosis.failures.source_nodes import (
    find_nodes,
    read_arguments_of,
    read_text,
    splice_node,
    write_call,
)
from modelsummary_ipy.diagnosis.failures.statements import find_parameters
from modelsummary_ipy.diagnosis.formatting import write_shape, write_times
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Link

_EINOPS = re.compile(
    r'Error while processing (\w+)-reduction pattern "(.+?)"\.\s*'
    r"Input tensor shape: torch\.Size\(\[([\d, ]*)\]\)\. Additional info: \{(.*?)\}\.\s*(.+)",
    re.DOTALL,
)
_TYPE = re.compile(
    r"whilst typechecking parameter '(\w+)'.*?Actual value: \w+\[([\d,]*)\].*?"
    r"Expected type: .*?'(\w+\[\w+, '(.*?)'\])'",
    re.DOTALL,
)


#: Of images; what has so many in front has no batch.
_CHANNELS = (1, 3, 4)


class _Call(NamedTuple):
    """What einops refused.

    Attributes:
        pattern: ``"b (h w) c -> b c h w"``.
        left: Its axes, each with the names that make it: ``[("b",), ("h", "w"), ("c",)]``.
        shape: Of the tensor.
        known: The sizes that were given by name.
        detail: What einops says.
    """

    pattern: str
    left: list[tuple[str, ...]]
    shape: tuple[int, ...]
    known: dict[str, int]
    detail: str

    def fits(self, names: tuple[str, ...], length: int) -> bool:
        """Return whether an axis of these names may have a length."""
        sizes = [int(name) if name.isdigit() else self.known.get(name, 0) for name in names]
        product = math.prod(size for size in sizes if size)
        return product == length if all(sizes) else length % product == 0


def explain_pattern(ctx: FailureContext) -> Diagnosis | None:
    """Explain what a check of einops or jaxtyping refuses."""
    message = ctx.failure.message
    if (found := _TYPE.search(message)) is not None:
        return _explain_annotation(ctx, found)
    if ctx.call.type_name in ("Rearrange", "Reduce") and ctx.failure.error_type == "KeyError" and ctx.data:
        x = ctx.data[0]
        reason = f"{write_shape(x.shape)} has {x.rank} dims, {ctx.owner} has a pattern for another number of them"
        return Diagnosis(reason, search=RESHAPE, is_open=True)
    refused = _EINOPS.search(message) if ctx.failure.error_type == "EinopsError" else None
    if refused is None:
        return None
    shape = tuple(int(word) for word in refused[3].split(",") if word.strip())
    known = {name: int(size) for name, size in re.findall(r"'(\w+)': (\d+)", refused[4])}
    call = _Call(refused[2], _read_axes(refused[2].partition("->")[0]), shape, known, refused[5].strip().rstrip("."))
    return (
        _explain_rank(ctx, call)
        or _explain_sizes(ctx, call)
        or _explain_unknown(ctx, call)
        or _explain_names(ctx, call)
        or Diagnosis(f'{call.detail}: "{call.pattern}" of {write_shape(shape)}', search=ANYWHERE, is_open=True)
    )


def _explain_annotation(ctx: FailureContext, found: re.Match[str]) -> Diagnosis:
    shape = tuple(int(word) for word in found[2].split(",") if word)
    given = re.findall(r"^(\w+)=(\d+)$", ctx.failure.message, re.MULTILINE)
    words = found[4].split()
    known = ", ".join(f"{name} = {size}" for name, size in given if name in words)
    reason = f"'{found[1]}' is {write_shape(shape)}, and is annotated {found[3]}"
    reason += f" with {known} of the arguments before it" if known else ""
    return Diagnosis(reason, f"{found[3]}", search=ANYWHERE)


def _read_axes(text: str) -> list[tuple[str, ...]]:
    """Read one side of a pattern."""
    return [tuple(group.strip("()").split()) for group in re.findall(r"\([^)]*\)|\S+", text)]


def _find_call(line: str) -> ast.Call | None:
    """Find the one call of einops in a line: the first string that it is given is a pattern."""
    calls = [node for node in find_nodes(line, ast.Call) if _find_string(node) is not None]
    return calls[0] if len(calls) == 1 else None


def _find_string(call: ast.Call) -> ast.Constant | None:
    given = [item for item in call.args[1:2] if isinstance(item, ast.Constant)]
    return next((item for item in given if isinstance(item.value, str) and "->" in item.value), None)


def _write_pattern(ctx: FailureContext, pattern: str) -> Candidate:
    """Write another pattern in the failing line."""
    call = _find_call(ctx.line)
    string = _find_string(call) if call is not None else None
    return fix_line(ctx, splice_node(ctx.line, string, f'"{pattern}"')) if string is not None else NOTHING


def _set_sizes(ctx: FailureContext, sizes: Mapping[str, int | str | None]) -> Candidate:
    """Give other sizes by name in the failing line; ``None`` leaves one out, for einops to work out."""
    call = _find_call(ctx.line)
    if call is None or any(word.arg is None for word in call.keywords):
        return NOTHING
    words, given = read_arguments_of(ctx.line, call)
    for name, size in sizes.items():
        given.pop(name, None) if size is None else given.update({name: str(size)})
    return fix_line(ctx, splice_node(ctx.line, call, write_call(ast.unparse(call.func), words, given)))


def _find_tensor(ctx: FailureContext, shape: tuple[int, ...]) -> Operand | None:
    """Return the tensor that was given, by its shape: the last that was made."""
    for call in reversed(ctx.trace.calls):
        for leaf, spec in enumerate(call.outputs):
            if spec.shape == shape:
                return Operand(spec, Link(call.index, leaf))
    for leaf, fact in enumerate(ctx.trace.inputs):
        if fact.spec.shape == shape:
            return Operand(fact.spec, Link(-1, leaf))
    return None


def _explain_rank(ctx: FailureContext, call: _Call) -> Diagnosis | None:
    """The tensor has another number of dims."""
    if not call.detail.startswith("Wrong shape") or ("...",) in call.left:
        return None
    missing = len(call.left) - len(call.shape)
    left = call.pattern.partition("->")[0].strip()
    reason = f'"{left}" has {len(call.left)} dims, {write_shape(call.shape)} has {len(call.shape)}'
    x = _find_tensor(ctx, call.shape)
    node = _find_call(ctx.line)
    options: list[Candidate] = []
    candidates = ctx.change_input(x, shape=(1, *call.shape)) if x is not None and missing == 1 else ()
    if missing < 0:
        ones = [axis for axis, size in enumerate(call.shape) if size == 1][:-missing]
        if len(ones) == -missing:
            axes = re.findall(r"\([^)]*\)|\S+", left)
            for axis in ones:
                axes.insert(axis, "1")
            options.append(_write_pattern(ctx, f"{' '.join(axes)} -> {call.pattern.partition('->')[2].strip()}"))
        if missing == -1 and not ones and (reduced := _reduce_more(call)):
            options.append(_write_pattern(ctx, reduced))
    elif node is not None and node.args:
        text = read_text(ctx.line, node.args[0])
        is_image = x is not None and x.is_input and call.shape[0] in _CHANNELS
        if len(_read_axes(call.pattern.partition("->")[2])) == len(call.shape) and not is_image:
            reason += ", as what the pattern gives: it was rearranged before"
            options.append(fix_line(ctx, splice_node(ctx.line, node, text)))
        if missing == 1 and text.isidentifier():
            options.append(fix_line(ctx, splice_node(ctx.line, node.args[0], f"{text}.unsqueeze(0)")))
    return Diagnosis(reason, f"{len(call.left)} dims", options, RESHAPE, None, candidates)


def _reduce_more(call: _Call) -> str:
    """Write a pattern that reduces all dims behind the channels but one, so that it reduces that one too."""
    right = call.pattern.partition("->")[2].strip()
    left = [names[0] for names in call.left if len(names) == 1]
    lost = [name for name in left if not re.search(rf"\b{name}\b", right)]
    new = next(name for name in "whdxyz" if name not in left)
    if len(left) < len(call.left) or len(lost) != 1 or left[-1] != lost[0]:
        return ""
    return f"{' '.join([*left, new])} -> {right}"


def _explain_sizes(ctx: FailureContext, call: _Call) -> Diagnosis | None:
    """An axis is not made of the sizes that were given."""
    if not call.detail.startswith("Shape mismatch"):
        return None
    axes = [("...",)] if ("...",) in call.left else call.left
    for axis, (names, length) in enumerate(zip(axes, call.shape, strict=False)):
        given = {name: int(name) if name.isdigit() else call.known.get(name, 0) for name in names}
        product = math.prod(size for size in given.values() if size)
        unknown = [name for name, size in given.items() if not size]
        if (product == length if not unknown else length % product == 0) or len(unknown) > 1:
            continue
        group = f"({' '.join(names)})" if len(names) > 1 else f"'{names[0]}'"
        sizes = ", ".join(f"{name} = {size}" for name, size in given.items() if size and not name.isdigit())
        fits = f"is {product}" if not unknown else f"needs a multiple of {product}"
        reason = f"{group} with {sizes} {fits}, dim {axis} of {write_shape(call.shape)} is {length}"
        if turned := _turn_channels(ctx, call):
            words = f"dim {len(call.shape) - 1} of {write_shape(call.shape)} has the channels, the pattern"
            return Diagnosis(f"{words} has them in dim 1", "channels last", turned, RESHAPE)
        x = _find_tensor(ctx, call.shape)
        is_own = x is not None and ctx.flow.is_like_input(x.link, x.shape)
        fixes = list(_list_sizes(ctx, given, length, x, axis, is_own))
        root = round(length ** (1 / len(names)))
        if len(names) > 1 and root ** len(names) == length and not unknown:
            reason += f" = {write_times([root] * len(names))}"
        return Diagnosis(reason, "", fixes, STEP if unknown else ("named", *STEP))
    return None


def _turn_channels(ctx: FailureContext, call: _Call) -> Candidate:
    """Read the channels of images behind the sides, where the pattern has them before, or vice versa."""
    if len(call.left) != len(call.shape) or len(call.left) < 4 or ("...",) in call.left:
        return NOTHING
    first, *rest = call.left
    orders = [first, *rest[1:], rest[0]], [first, rest[-1], *rest[:-1]]
    for groups, moved in zip(orders, (rest[0], rest[-1]), strict=True):
        at = groups.index(moved)
        if len(moved) == 1 and call.shape[at] in _CHANNELS and all(map(call.fits, groups, call.shape)):
            right = call.pattern.partition("->")[2].strip()
            return _write_pattern(ctx, f"{_write_axes(groups)} -> {right}")
    return NOTHING


def _list_sizes(
    ctx: FailureContext, given: Mapping[str, int], length: int, x: Operand | None, axis: int, is_own: bool
) -> Iterator[Candidate]:
    """List sizes that make an axis, or another axis: a side of a map, another width, one left out, the nearest."""
    named = {name: size for name, size in given.items() if size and not name.isdigit()}
    product, is_whole = math.prod(size for size in given.values() if size), all(given.values())
    root = round(length ** (1 / max(len(given), 1)))
    if is_whole and len(given) > 1 and len(set(named.values())) == 1 and root ** len(given) == length:
        yield _set_sizes(ctx, dict.fromkeys(named, root))
    if is_own and not is_whole:
        return  # the image is to have another size
    if x is not None and is_whole and axis == x.rank - 1:
        yield fix_giver(ctx, x, product)
    held = {name: item.words[0] for name, item in ctx.failure.names.items() if item.kind == "int" and item.words}
    for name in named:  # another number of the function was given for it
        rest = product // named[name]
        if held.get(name, "").isdigit() and length % (rest * max(int(held[name]), 1)) == 0:
            yield _set_sizes(ctx, {name: name})
    for name in reversed(named):
        if is_whole and len(given) > 1 and length % (product // named[name]) == 0:
            yield _set_sizes(ctx, {name: None})
    for name in reversed(named):
        rest = product // named[name]
        fitting = [size for size in range(1, 2 * named[name] + 1) if length % (rest * size) == 0]
        near = min(fitting, key=lambda size: (abs(size - named[name]), size), default=1)
        if not is_whole and near > 1:
            yield _set_sizes(ctx, {name: near})


def _explain_unknown(ctx: FailureContext, call: _Call) -> Diagnosis | None:
    """One axis is made of two whose sizes were not given."""
    if not call.detail.startswith("Could not infer sizes"):
        return None
    unknown = re.findall(r"'(\w+)'", call.detail)
    axis = next((at for at, names in enumerate(call.left) if set(unknown) <= set(names)), None)
    if axis is None or ("...",) in call.left:
        return None
    length, group = call.shape[axis], f"({' '.join(call.left[axis])})"
    names = [name for name in call.left[axis] if name in unknown]
    reason = f"dim {axis} is {group} = {length}: the size of {names[0]} or of {names[-1]} has to be given"
    node = _find_call(ctx.line)
    text = read_text(ctx.line, node.args[0]) if node is not None else ""
    root = math.isqrt(length)
    if axis == 0 and names[0] == call.left[0][0] and call.pattern.partition("->")[2].split()[:1] == names[:1]:
        # The batch of what came in, as an argument of the function has it.
        given = find_parameters(ctx.failure.source)[:2] if ctx.failure.source is not None else []
        fixes = [_set_sizes(ctx, {names[0]: f"{name}.shape[0]"}) for name in given if name != text]
        return Diagnosis(f"{reason}; {names[0]} is the batch", f"{names[0]}=… in the call", fixes)
    if len(names) != 2 or len(call.left[axis]) != 2 or root * root != length:
        return Diagnosis(reason, f"{names[0]}=… in the call")
    size = f"int({text}.size({axis}) ** 0.5)" if text.isidentifier() else str(root)
    return Diagnosis(f"{reason}; {length} = {root} × {root}", f"{names[0]} = {root}", _set_sizes(ctx, {names[0]: size}))


def _explain_names(ctx: FailureContext, call: _Call) -> Diagnosis | None:
    """A name is on one side of the pattern only."""
    if not call.detail.startswith("Identifiers only on one side"):
        return None
    left, _, right = call.pattern.partition("->")
    before, after = ([name for names in _read_axes(side) for name in names] for side in (left, right))
    lost, new = [name for name in before if name not in after], [name for name in after if name not in before]
    where = " and ".join(
        f"{', '.join(names)} only on the {side}" for names, side in ((lost, "left"), (new, "right")) if names
    )
    reason = f'"{call.pattern}" has {where}: each name is on both sides'
    if not lost or new:
        return Diagnosis(reason, "the same names on both sides")
    groups = _read_axes(right)
    fixes = [
        _write_pattern(ctx, f"{left.strip()} -> {_write_axes(changed)}")
        for changed in _list_joined(groups, lost, before)
    ]
    return Diagnosis(reason, "the same names on both sides", fixes)


def _list_joined(
    groups: Sequence[tuple[str, ...]], lost: Sequence[str], order: Sequence[str]
) -> Iterator[list[tuple[str, ...]]]:
    """List where names that were left out may stand: in an axis that is made of several, or as axes of their own."""

    def sort(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(names, key=lambda name: order.index(name) if name in order else len(order)))

    made = [at for at, names in enumerate(groups) if len(names) > 1]
    if order[0] not in lost:
        for at in made[:2]:
            yield [sort((*names, *lost)) if place == at else names for place, names in enumerate(groups)]
    alone = [*groups, *((name,) for name in lost)]
    yield sorted(alone, key=lambda names: order.index(names[0]) if names and names[0] in order else len(order))


def _write_axes(groups: Sequence[tuple[str, ...]]) -> str:
    return " ".join(names[0] if len(names) == 1 else f"({' '.join(names)})" for names in groups)
