"""Story -> the JSON that Model Explorer opens: every call that made a tensor, in the layers of its path."""

from __future__ import annotations

import json
from typing import Any

from modelsummary_ipy.display.render.formatting import plain
from modelsummary_ipy.display.render.size_cells import format_formula, format_size
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.summary import Row, Story
from modelsummary_ipy.records.trace import Formula, Link, TensorSpec, path_below, zip_leaves


def render_model_explorer(story: Story) -> str:
    """Render a trace as a graph collection of Model Explorer, as JSON."""
    flow, trace = Dataflow(story.trace), story.trace
    nodes: list[dict[str, Any]] = []
    for at, fact in enumerate(trace.inputs):
        size = [{"key": "shape", "value": f"{fact.spec.dtype}{format_size(fact.spec.shape)}"}]
        label = plain(fact.spec.name) or "input"
        nodes.append({"id": f"input{at}", "label": label, "outputsMetadata": [{"id": "0", "attrs": size}]})
    for call in flow.steps:
        row = story.rows[story.row_of_call[call.index]]
        nodes.append(
            {
                "id": str(call.index),
                "label": plain(row.path.rpartition(".")[2] if row.kind == "module" else row.type_name) or "model",
                "namespace": _namespace(story, row),
                "attrs": [{"key": key, "value": value} for key, value in _attributes(story, row)],
                "incomingEdges": [_edge(link, at) for at, link in enumerate(call.input_links) if link is not None],
                "outputsMetadata": [
                    _output(at, *leaf)
                    for at, leaf in enumerate(zip_leaves(call.outputs, story.formulas.get(row.index, ())))
                ],
            }
        )
    graph = {"id": plain(trace.model_type), "nodes": nodes}
    return json.dumps({"label": plain(trace.model_type), "graphs": [graph]}, indent=1) + "\n"


def _edge(link: Link, at: int) -> dict[str, str]:
    source = f"input{link.leaf}" if link.call < 0 else str(link.call)
    return {
        "sourceNodeId": source,
        "sourceNodeOutputId": "0" if link.call < 0 else str(link.leaf),
        "targetNodeInputId": str(at),
    }


def _namespace(story: Story, row: Row) -> str:
    """The rows around a row, as a path; a slash in a name would be taken for another layer."""
    names: list[str] = []
    above = story.rows[row.parent] if row.parent is not None else None
    while above is not None and above.parent is not None:
        outer = story.rows[above.parent]
        again = f" call {above.call_index + 1}" if above.call_index else ""
        names.append((plain(path_below(above.path, outer.path)) or plain(above.type_name)).replace("/", "∕") + again)
        above = outer
    return "/".join(reversed(names))


def _attributes(story: Story, row: Row) -> list[tuple[str, str]]:
    cost = story.costs.get(row.index)
    found = [
        ("type", plain(row.type_name)),
        ("settings", plain(row.extra_repr)),
        ("parameters", f"{row.num_params:,}" if row.num_params else ""),
        ("MACs", f"{cost.mult_adds:,}" if cost is not None and cost.mult_adds else ""),
        ("source", plain(row.source or "")),
    ]
    return [(key, value) for key, value in found if value]


def _output(at: int, spec: TensorSpec, formula: Formula | None) -> dict[str, Any]:
    attrs = [{"key": "shape", "value": f"{spec.dtype}{format_size(spec.shape)}"}]
    attrs += [{"key": "formula", "value": format_formula(formula)}] if formula else []
    return {"id": str(at), "attrs": attrs}
