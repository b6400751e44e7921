"""The rule that finds a block one of whose parts has a sum past it while another has none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import is_weighted
from modelsummary_ipy.model.torch_layers import names_of
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link

_SUMS = frozenset({"add", "add_", "iadd"})
#: What a stream goes through and still is: a dropout, a product with a mask.
_MASKING = names_of("dropout") | {"mul", "mul_", "imul"}
_FEWEST_LAYERS = 2
_SHORTCUT = re.compile(r"(^|\.)(shortcut|skip|downsample|identity)(_?(conv|proj|path|layer))?$")


def find_missing_residuals(evidence: Evidence) -> Iterator[Flag]:
    """Find a part of a block, from one norm to the next, past which no sum goes, beside one that has it.

    Finds ``x = self.mlp(self.norm2(x))`` behind ``x = x + self.attn(self.norm1(x))``; ``self.shortcut(out)``. Leaves
    alone norms of queries and keys, norms before a head, blocks without any sum, parts that change the width.
    """
    yield from _find_late_shortcuts(evidence)
    norms: dict[int | None, list[Call]] = {}
    for call in evidence.calls:
        if call.kind == "module" and call.type_name.endswith("Norm") and call.inputs and call.outputs:
            norms.setdefault(call.parent, []).append(call)
    for parent, beside in norms.items():
        if parent is None or len(beside) < 2:
            continue
        parts = [(norm, *_follow(evidence, norm, evidence.calls[parent])) for norm in beside]
        if not any(end == "sum" for _, end, _, _ in parts):
            continue
        for norm, end, count, last in parts:
            if end == "open" and count >= _FEWEST_LAYERS and last is not None:
                shape = norm.inputs[0].shape
                message = f"nothing is added to what the {count} layers behind {norm.path} make of {write_size(shape)};"
                message += " the other part of the block has a sum past it"
                yield evidence.flag("missing-residual", "warning", last, message, "x + in front of it",
                    shape=shape, layers=count,
                )  # fmt: skip


def _find_late_shortcuts(evidence: Evidence) -> Iterator[Flag]:
    """``self.shortcut(out)`` behind the first layer of a block, where nothing else reads what the block is given."""
    for call in evidence.calls:
        is_named = call.kind == "module" and _SHORTCUT.search(call.path)
        if not is_named or call.parent is None or not call.input_links or not call.output_links:
            continue
        block, link = evidence.calls[call.parent], call.input_links[0]
        maker, last = (evidence.flow.producer(one) for one in (link, call.output_links[0]))
        total = next(iter(evidence.flow.readers(last)), None) if last is not None else None
        given = {one for one in block.input_links if one is not None}
        readers = {step.index for one in given for step, _ in evidence.flow.reads.get(one, ())
            if step.index > block.index and evidence.flow.is_step(step)}  # fmt: skip
        if maker is None or total is None or total.type_name not in _SUMS or len(readers) != 1:
            continue
        between = [step for step in evidence.flow.before(link) if step.index > block.index and is_weighted(step)]
        layer = next((step for step in between if "Norm" not in step.type_name), None)
        others = [one for one in total.input_links if one not in call.output_links and one != link]
        if layer is not None and len(others) == 1 and evidence.flow.leads_to(maker, others[0]):
            shape = call.inputs[0].shape
            message = (
                f"'{call.path}' reads {write_size(shape)}, which {layer.path} made, and nothing in the block reads "
            )
            message += f"past that what it is given, {write_size(block.inputs[0].shape)}"
            yield evidence.flag("missing-residual", "warning", call, message, "hand it what the block is given", "late",
                shape=shape,
            )  # fmt: skip


def _follow(evidence: Evidence, norm: Call, block: Call) -> tuple[str, int, Call | None]:
    """Follow what a norm makes to a sum, to the next norm of the block, or to the end of the block.

    Returns:
        ``"sum"`` if what the norm read, or made, is added; ``"open"`` where the next norm of as many features, or the
        end of the block, comes before any sum; ``""`` for anything else. How many layers lie between, and the last.
    """
    stream = {norm.input_links[0], norm.output_links[0]} - {None}
    reached: set[Link | None] = {norm.output_links[0]}
    inside, count, last = {block.index}, 0, None
    ends = set(block.output_links)
    for call in evidence.calls[norm.index + 1 :]:
        if call.parent in inside:
            inside.add(call.index)
        elif call.index > norm.index and call.parent not in inside and not reached & set(call.input_links):
            continue
        if not reached & set(call.input_links) or not evidence.flow.is_step(call):
            continue
        if (call.type_name in _SUMS and any(link not in reached for link in call.input_links)) or (
            call.type_name in _SUMS and stream & set(call.input_links)
        ):
            return ("sum" if stream & set(call.input_links) else ""), count, last
        is_alike = bool(call.outputs) and call.outputs[0].shape == norm.inputs[0].shape
        if call.type_name == norm.type_name and call.parent == norm.parent:
            return ("open" if is_alike and _is_lone(evidence, norm) else ""), count, last
        count += is_weighted(call)
        last = call if is_weighted(call) else last
        reached |= set(call.output_links)
        if not count and call.type_name in _MASKING:
            stream |= set(call.output_links)
        if ends & set(call.output_links):
            return ("open" if is_alike and _is_lone(evidence, norm) else ""), count, last
    return "", count, last


def _is_lone(evidence: Evidence, norm: Call) -> bool:
    """Return whether nothing but the norm reads what it reads."""
    link = norm.input_links[0]
    steps = [call for call, _ in evidence.flow.reads.get(link, ()) if evidence.flow.is_step(call)] if link else []
    return len({call.index for call in steps}) == 1 and link is not None and link.call >= 0


RULES = {"missing-residual": find_missing_residuals}
