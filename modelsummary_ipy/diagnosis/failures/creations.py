"""Fixes where the forward makes a tensor: zeros, noise, masks and positions of another size."""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from functools import reduce

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import place_line, read_line, write_at
from modelsummary_ipy.diagnosis.failures.source_edits import change_only_argument, splice_argument
from modelsummary_ipy.diagnosis.torch_names import SIZED_FACTORIES
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call, Source

#: They return a tensor of the same shape.
_CARRIERS = frozenset(
    {"to", "triu", "tril", "bool", "float", "masked_fill", "masked_fill_", "logical_not", "zeros_like"}
)


def fix_creation(
    ctx: FailureContext, x: Operand, size: tuple[int, ...], names: Mapping[int, str] | None = None
) -> Candidate:
    """Give a tensor that the forward makes another size, on the line that makes it.

    Args:
        size: What it is to have.
        names: By axis, how to write a size that is the input's.

    Returns:
        ``"at net.py:12: h = torch.zeros(2, 4, 16)"``; nothing if its line does not have the size.
    """
    for call in ctx.flow.walk_back(x.link, 6):
        if call.type_name in SIZED_FACTORIES:
            line = read_line(ctx, call.source)
            old = call.outputs[0].shape if call.outputs else ()
            new = splice_argument(line, call.type_name, old, size, names or {}) if line else ""
            found = place_line(ctx, call, new if new != line else "")
            return found or _fix_helper(ctx, call, line, old, names or {})
        if call.kind != "op" or call.type_name not in _CARRIERS:
            return NOTHING
    return NOTHING


def _fix_helper(
    ctx: FailureContext, call: Call, line: str, old: tuple[int, ...], names: Mapping[int, str]
) -> Candidate:
    """Give another size to a function of one argument that makes a square tensor: ``make_mask(tgt.size(1))``."""
    name = next(iter(names.values()), "")
    if not name or len(old) < 2 or old[-1] != old[-2]:
        return NOTHING
    new = change_only_argument(line, name)
    return place_line(ctx, call, new if new != line else "")


def fix_size_read(ctx: FailureContext, x: Operand) -> Candidate:
    """Read another dim of a tensor where a size is read that something was made of: ``n = src.size(1)``."""
    maker = next((call for call in ctx.flow.walk_back(x.link, 6) if call.type_name in SIZED_FACTORIES), None)
    found = ctx.read(maker.source) if maker is not None else None
    if maker is None or found is None:
        return NOTHING
    for source in (maker.source, *maker.lines[1:]):  # a helper made it: self.make_mask(src.size(0))
        outer = ctx.read(source)
        changed = _swap_axis(outer.text) if outer is not None else ""
        if outer is not None and changed:
            return write_at(source, outer, changed)
    return read_other_size(ctx, maker.source, found.text)


def _swap_axis(text: str) -> str:
    """Write 1 for 0, or the other way round, where a statement reads one size; ``""`` if it reads none or several."""
    axes = list(_SIZE_READ.finditer(text))
    at = axes[0].start(1) if len(axes) == 1 else 0
    return f"{text[:at]}{1 - int(text[at])}{text[at + 1 :]}" if at else ""


_SIZE_READ = re.compile(r"\w+(?:\.size\(|\.shape\[)([01])(?=[)\]])")


def read_other_size(ctx: FailureContext, source: Source | None, text: str) -> Candidate:
    """Read dim 1 for dim 0, or the other way round, on the last line before that assigns a name of a text.

    Another state of the same size, on a line of its own, is changed with it.
    """
    found: dict[str, Candidate] = {}
    size = ""
    for number in range(source.line - 1, max(source.line - 9, 0), -1) if source is not None else ():
        before = ctx.read(source._replace(line=number)) if source is not None else None
        name = re.match(r"(\w+) = ", before.text) if before is not None else None
        if before is None or name is None or name[1] in found or not re.search(rf"\b{name[1]}\b", text):
            continue
        read, changed = _SIZE_READ.search(before.text), _swap_axis(before.text)
        if read is not None and changed and size in ("", read[0]):
            size = read[0]
            found[name[1]] = write_at(source, before, changed)
    return reduce(operator.add, reversed(found.values())) if found else NOTHING
