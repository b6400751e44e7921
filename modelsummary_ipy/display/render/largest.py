"""The rows that make up most of a total, for the line under it."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import NamedTuple

from modelsummary_ipy.display.outline import GroupNode, HiddenNode, Outline, RowNode, walk
from modelsummary_ipy.display.render.formatting import brief, format_percent
from modelsummary_ipy.display.render.icicle import name_part
from modelsummary_ipy.records.summary import Cost, Story

_MOST = 3


class Largest(NamedTuple):
    """One row: its name, its share of the total (``"21.4%"``, ``"2.2% each of 12"``), and its key on the page."""

    name: str
    share: str
    key: str


def find_largest(story: Story, outline: Outline, keys: Mapping[int, str], what: str) -> tuple[Largest, ...]:
    """Find what has most of the parameters or MACs, keeps most, or holds most at the peak of a step.

    Args:
        outline: The rows of the page.
        keys: Their names for the page's script.
        what: ``"params"``, ``"macs"``, ``"activation"`` or ``"held"``; a layer each, of what is kept an
            operation too; of what is held, what is folded counts as one.

    Returns:
        The largest first, ties in the order of execution; nothing where one row has it all.
    """
    found: dict[tuple[int, str], tuple[int, str]] = {}  # by amount and name: how often, and the key of the first
    counted: set[int] = set()  # parameters: those that are tied count where they are first
    held = _hold_by_key(story, keys) if what == "held" else {}
    repeats: list[int] = []  # the group around, of each open row
    for step in walk(outline):
        node = step.node
        if isinstance(node, HiddenNode):
            continue
        if step.leaving:
            repeats.pop()
            continue
        above = repeats[-1] if repeats else 1
        repeats.append(above * len(step.in_group.members) if step.in_group is not None else above)
        key = f"g{node.members[0][0]}" if isinstance(node, GroupNode) else str(node.row)
        if what == "held":
            if key in held:
                name = name_part(story, node) or story.trace.model_type
                is_own = isinstance(node, RowNode) and node.num_inside  # of its operations and weights, not its layers
                found[held[key], f"{name} itself" if is_own else name] = 1, key
        elif isinstance(node, RowNode) and not node.num_inside:
            row = story.rows[node.row]
            cost = story.costs.get(row.index)
            amount = row.placed_params if what == "params" else 0
            if cost is not None and what != "params":
                amount = (cost.mult_adds if what == "macs" else cost.activation_bytes) or 0
            if what == "params" and row.module is not None and row.module < len(story.trace.modules):
                params = {*story.trace.modules[row.module].params}
                amount = 0 if params and params <= counted else amount
                counted |= params
            if amount and (row.kind == "module" or what == "activation"):
                _count(found, (amount, _name_layer(story, node)), key, repeats[-1])
        if what == "activation" and isinstance(node, RowNode) and node.num_inside:  # a layer's own are in what it keeps
            for index in node.ops:  # the page shows none of them: their row is the one around
                if kept := story.costs.get(index, Cost()).activation_bytes:
                    path, name = story.rows[node.row].path, brief(story.rows[index].type_name)
                    _count(found, (kept, f"{path}.{name}".lstrip(".")), key, repeats[-1])
    if len(found) < 2:
        return ()
    peak = story.training.peak_bytes if story.training is not None else 0
    all_kept = sum(cost.own_activation_bytes or 0 for cost in story.costs.values())
    whole = {"params": story.total_params, "macs": story.total_mult_adds, "activation": all_kept}.get(what, peak) or 0
    most = sorted(found.items(), key=lambda one: -one[0][0])[:_MOST]
    names = _drop_common([name for (_, name), _ in most], {row.path for row in story.rows})
    return tuple(
        Largest(brief(name), format_percent(amount, whole) + (f" each of {times}" if times > 1 else ""), key)
        for name, ((amount, _), (times, key)) in zip(names, most, strict=True)
    )


def _count(found: dict[tuple[int, str], tuple[int, str]], one: tuple[int, str], key: str, more: int) -> None:
    times, first = found.get(one, (0, key))  # the first step of a loop stands before the others
    found[one] = times + more, first


def _name_layer(story: Story, node: RowNode) -> str:
    """``layer1.0.conv1``; ``7 Linear`` for a number alone."""
    name = name_part(story, node)
    return f"{name} {brief(story.rows[node.row].type_name)}" if name.isdigit() else name


def _drop_common(paths: list[str], every: Set[str]) -> list[str]:
    """Leave out the modules around all of them, down to what a number belongs to, where what is left names one alone.

    ``["net.enc.stages.3.up", "net.enc.stages.3.down"]`` -> ``["stages.3.up", "stages.3.down"]``.
    """
    parts = [path.split(".") for path in paths]
    least, common = min(map(len, parts)) - 1, 0
    while common < least and len({part[common] for part in parts}) == 1:
        common += 1
    while common and any(part[common][:1].isdigit() for part in parts):
        common -= 1
    numbered = next((at for at, part in enumerate(parts[0][:common]) if part.isdigit()), common + 1)
    short = [".".join(part[max(0, min(common, numbered - 1)) :]) for part in parts]
    ends = [sum(path == name or path.endswith(f".{name}") for path in every) for name in short]
    return short if max(ends) < 2 else paths


def _hold_by_key(story: Story, keys: Mapping[int, str]) -> dict[str, int]:
    held: dict[str, int] = {}
    for one in story.training.held_at_peak if story.training is not None else ():
        if one.row is not None:
            key = find_key(story, keys, one.row)
            held[key] = held.get(key, 0) + one.nbytes
    return held


def find_key(story: Story, keys: Mapping[int, str], index: int) -> str:
    """The key of a row on the page: that of the outermost group around it, else its own or the nearest above it."""
    found, at = "", index
    while True:
        key = keys.get(at, "")
        if key.startswith("g") or (key and not found):
            found = key
        above = story.rows[at].parent
        if above is None:
            return found
        at = above


def name_rows(outline: Outline) -> dict[int, str]:
    """Names of rows for the page's script: their index; for what is folded, that of the group that stands for it."""
    names: dict[int, str] = {}
    for step in walk(outline):
        if isinstance(step.node, GroupNode):
            first = step.node.members[0][0]
            names.update((row, f"g{first}") for block in step.node.members for row in block)
        elif isinstance(step.node, RowNode) and step.in_group is None:
            names[step.node.row] = str(step.node.row)
    return names
