"""What became of the batch in each output of the model: found by two traces, at B and at B + 1."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from modelsummary_ipy.diagnosis.call_arguments import Size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.records.trace import Link

Fate = Literal["kept", "lost", "folded", "moved", "pairs", "other"]


@dataclass(frozen=True)
class Outcome:
    """What became of the batch in one output leaf.

    Attributes:
        link: Where the leaf was made.
        shape: Its size.
        fate: ``"kept"`` at home, ``"lost"``, ``"folded"`` with other rows, ``"moved"`` to another dim, ``"pairs"`` of
            samples, or ``"other"``.
        dim: Which dim moves with the batch, where one does.
    """

    link: Link
    shape: Size
    fate: Fate
    dim: int = 0


def find_home(evidence: Evidence) -> int | None:
    """Which dim of the model's input is the batch."""
    return next((fact.dims.index("B") for fact in evidence.inputs if "B" in fact.dims), None)


def find_outcomes(evidence: Evidence) -> list[Outcome]:
    """Say of every output leaf that holds more than one number what became of the batch."""
    home = find_home(evidence)
    if home is None or not evidence.batch_works or not evidence.calls:
        return []
    root = evidence.calls[0]
    found: list[Outcome] = []
    for leaf, (spec, link) in enumerate(zip(root.outputs, root.output_links, strict=True)):
        if link is None or math.prod(spec.shape) <= 1:
            continue
        moving = evidence.moving_out(root, leaf)
        if moving is None:
            found.append(Outcome(link, spec.shape, "other"))
        elif not moving:
            found.append(Outcome(link, spec.shape, "lost"))
        elif len(moving) > 1:
            found.append(Outcome(link, spec.shape, "pairs"))
        else:
            factor = evidence.factor_out(root, leaf, moving[0])
            fate: Fate = "other" if not factor else "folded" if factor > 1 else "kept"
            if fate == "kept" and moving[0] != home:
                fate = "moved"
            found.append(Outcome(link, spec.shape, fate, moving[0]))
    return found
