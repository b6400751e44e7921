"""A row -> everything known of it, as pairs of a term and lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest

from modelsummary_ipy.display.render import formatting, labels, size_cells
from modelsummary_ipy.display.render.fit import story_writer
from modelsummary_ipy.display.render.formatting import brief, plain
from modelsummary_ipy.records.summary import Row, Story
from modelsummary_ipy.records.trace import Formula, TensorSpec, zip_leaves
from modelsummary_ipy.records.view import View

#: Lines per entry; a page with every weight of a model of thousands is no longer read.
_MOST_LINES = 12

#: Per row the operations that ran directly in it and their mult-adds, ``None`` where unknown.
Operations = Mapping[int, Sequence[tuple[str, int | None]]]


def find_detail(
    story: Story, view: View, row: Row, operations: Operations, total_mult_adds: int | None
) -> list[tuple[str, list[str]]]:
    """Collect what a row's detail shows: path, settings, leaves, own parameters, costs, operations, source.

    Args:
        operations: By row index, what ran directly in it.
        total_mult_adds: Those of the whole model, for the share.

    Returns:
        ``(term, lines)`` pairs in reading order; what is not known has no pair.
    """
    pairs: list[tuple[str, list[str]]] = [("path", [brief(row.path)] if row.path else [])]
    call = brief(row.type_name) + labels.format_settings(row)
    pairs.append(("module" if row.kind == "module" else "operation", [call] if row.extra_repr else []))
    pairs.append(("in", _leaves(row.inputs, story.input_formulas.get(row.index, ()))))
    pairs.append(("out", _leaves(row.outputs, story.formulas.get(row.index, ()))))
    pairs.append(("axes", write_origins(story, row)))
    pairs.append(("weights", _weights(story, row)))
    pairs.append((view.work, _mult_adds(story, view, row, operations, total_mult_adds)))
    pairs.append(("backward", _backward(story, view, row)))
    pairs.append(("kept", _kept(story, row)))
    pairs.append(("source", [plain(row.source)] if row.source else []))
    return [(term, _capped(lines)) for term, lines in pairs if lines]


def _leaves(specs: Sequence[TensorSpec], formulas: Sequence[Formula | None]) -> list[str]:
    lines = []
    for spec, formula in zip_leaves(specs, formulas):
        size, written = size_cells.format_size(spec.shape), size_cells.format_formula(formula) if formula else ""
        equal = f"= {written}" if written not in ("", size) else ""
        parts = brief(spec.name), size, equal, spec.dtype, spec.device
        lines.append(" ".join(filter(None, parts)))
    return lines


def write_origins(story: Story, row: Row) -> list[str]:
    """Write what the dims of an output come from, ``B × T × 12 of features of qkv``, where no formula says as much."""
    known = zip_longest(story.origins.get(row.index, ()), story.formulas.get(row.index, ()))
    told = (dims for dims, formula in known if dims and dims != formula)
    return [" × ".join("?" if dim is None else _write_origin(dim, row) for dim in dims) for dims in told]


def _write_origin(dim: str, row: Row) -> str:
    """Write what one dim comes from; all of it where the row's own layer made it is "its features"."""
    own = f"the features of {row.path}"
    return "its features" if row.path and dim == own else brief(dim.replace("the features", "features"))


def _weights(story: Story, row: Row) -> list[str]:
    if row.kind != "module" or row.module is None or row.module >= len(story.trace.modules):
        return []
    lines = []
    for index in story.trace.modules[row.module].params:
        fact = story.trace.params[index]
        name = fact.names[0].rpartition(".")[2] if fact.names else "not registered"
        size = "no shape yet" if fact.lazy else size_cells.format_size(fact.shape)
        what = "buffer" if fact.kind == "buffer" else "" if fact.trainable else "frozen"
        tied = f"also {brief(fact.names[1])}" if len(fact.names) > 1 else ""
        count = f"{fact.num:,}" if len(fact.shape) != 1 else ""
        lines.append(" ".join(filter(None, (brief(name), size, fact.dtype, count, what, tied))))
    return lines


def _mult_adds(story: Story, view: View, row: Row, operations: Operations, total: int | None) -> list[str]:
    cost = story.costs.get(row.index)
    lines = []
    if cost is not None and cost.mult_adds:
        share = formatting.format_percent(cost.mult_adds, total or 0)
        lines.append(f"{view.count(cost.mult_adds):,} ({share} of the model)")
    elif cost is not None and cost.mult_adds is None and row.status == "ran":
        lines.append("unknown")
    for op, macs in operations.get(row.index, ()):
        lines.append(f"{plain(op)} " + ("unknown" if macs is None else f"{view.count(macs):,}"))
    return lines


def _backward(story: Story, view: View, row: Row) -> list[str]:
    count = story.backward.get(row.index, 0)
    return ["unknown"] if count is None else [f"{view.count(count):,}"] if count else []


def _kept(story: Story, row: Row) -> list[str]:
    cost = story.costs.get(row.index)
    if cost is None or not cost.activation_bytes:
        return []
    about = "about " if cost.approximate else ""
    return [
        f"{about}{story_writer(story)(cost.activation_bytes)} for the backward pass ({cost.activation_bytes:,} bytes)"
    ]


def _capped(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], f"… {len(lines) - _MOST_LINES + 1:,} more"]
