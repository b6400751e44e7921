"""``python -m benchmarks formulas``: how many sizes of public architectures have a formula, and whether it is right.

Every formula is compared with what plain hooks see of a real run at sizes that were never traced.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from modelsummary_ipy.shapes.expr_text import evaluate
from modelsummary_ipy.summary import ModelSummary
from tests.reference import watch_with_hooks
from tests.zoo import ZOO, Animal

__all__ = ["main"]

#: What is added to every dim that moves, until the real model takes it.
_MORE = (5, 2, 1, -1)


@dataclass
class Score:
    """Leaves of one architecture: all, those with a formula, those compared and those that were wrong."""

    leaves: int = 0
    found: int = 0
    compared: int = 0
    wrong: int = 0


def judge(animal: Animal) -> Score | None:
    """Find the formulas of one architecture and compare them; ``None`` if fakes can't trace it."""
    model = animal.build()
    ms = ModelSummary(model, animal.give())
    if ms.error is not None or ms.engine != "fake":
        return None
    score = Score()
    for formulas in ms.formulas.values():
        score.leaves += len(formulas)
        score.found += sum(formula is not None for formula in formulas)
    for more in _MORE:
        kwargs, sizes = resize(animal, ms, more)
        try:
            seen, _ = watch_with_hooks(model, "forward", (), kwargs)
        except Exception:  # noqa: BLE001  # the model does not take these sizes: others are tried
            continue
        compare(ms, seen, sizes, score)
        break
    return score


def resize(animal: Animal, ms: ModelSummary, more: int) -> tuple[dict[str, Any], dict[str, int]]:
    """Make the arguments anew, with ``more`` in every dim that a formula calls by name."""
    words = " ".join(dim for formulas in ms.story.input_formulas[0] for dim in formulas or ())
    kwargs, sizes = dict(animal.give()), {}
    for fact in ms.story.trace.inputs:
        shape = []
        for name, size in zip(fact.dims, fact.spec.shape, strict=True):
            step = next((int(text.rsplit(" ", 1)[1]) for text in ms.constraints if "divis" in text and name in text), 1)
            sizes[name] = size + (more * step if name and name in words.split() else 0)
            shape.append(sizes[name])
        if fact.spec.name in kwargs:
            old = kwargs[fact.spec.name]
            kwargs[fact.spec.name] = old.new_ones(shape) if not old.is_floating_point() else torch.randn(shape)
    return kwargs, sizes


def compare(ms: ModelSummary, seen: Sequence[Any], sizes: dict[str, int], score: Score) -> None:
    """Compare the formulas of module calls with the sizes that hooks saw, where both made the same calls."""
    rows = [row for row in ms.rows if row.kind == "module" and row.call is not None]
    if [row.type_name for row in rows] != [call.type_name for call in seen]:
        return
    for row, call in zip(rows, seen, strict=True):
        for formula, size in zip(ms.formulas[row.index], call.outputs, strict=False):
            if formula is not None:
                score.compared += 1
                score.wrong += tuple(evaluate(dim, sizes) for dim in formula) != size


def main(words: Sequence[str]) -> None:
    """Print one line for each architecture whose name holds one of ``words``, and the sums."""
    warnings.simplefilter("ignore")
    total = Score()
    for animal in ZOO:
        if words and not any(word.lower() in animal.name.lower() for word in words):
            continue
        started = time.perf_counter()
        score = judge(animal)
        taken = time.perf_counter() - started
        if score is None:
            print(f"{animal.name:36} needs values")
            continue
        print(
            f"{animal.name:36} {score.found:5} of {score.leaves:5} leaves"
            f" · {score.compared:4} compared, {score.wrong} wrong · {taken:.1f} s"
        )
        for name in ("leaves", "found", "compared", "wrong"):
            setattr(total, name, getattr(total, name) + getattr(score, name))
    share = 100 * total.found / max(total.leaves, 1)
    print(f"{share:.1f}% of {total.leaves} leaves have a formula; {total.wrong} of {total.compared} compared are wrong")
