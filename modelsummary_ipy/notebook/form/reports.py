"""What the form shows beside the table of a run: what moved since the run before, and sizes to try next."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelsummary_ipy.display.render.fit import find_peak_place, find_step_failure, story_writer
from modelsummary_ipy.display.render.formatting import format_short, plural
from modelsummary_ipy.inputs import ModelInputs, Size
from modelsummary_ipy.notebook.form.settings import Settings, read_suggestion

if TYPE_CHECKING:
    from modelsummary_ipy.display.comparison import Comparison
    from modelsummary_ipy.summary import ModelSummary

#: Label of a button, and what it fills in: a size for every input leaf.
Offer = tuple[str, tuple[Size, ...]]


def compare(before: ModelSummary | None, after: ModelSummary) -> Comparison | None:
    """Compare two runs; ``None`` if one failed or was not traced: that does not show how shapes change."""
    if before is None or before.error is not None or after.error is not None or before.pipeline is after.pipeline:
        return None
    return None if "static" in (before.engine, after.engine) else after.diff(before)


def write_training(summary: ModelSummary) -> str:
    """Write in a line what a training step takes, where most, and how much of the budget that is."""
    story = summary.story
    step, memory = story.training, story.memory
    if step is None or memory is None or summary.error is not None or story.trace.engine == "static":
        return ""
    if memory.training_bytes is None:
        return html.escape(f"training step: {find_step_failure(story) or step.reason}") if step.reason else ""
    peak, budget = memory.training_bytes, memory.budget_bytes
    about = "about " if memory.approximate else ""
    text = f"training step: peak {about}{story_writer(story)(peak)}{find_peak_place(story)}"
    if budget is None:
        return html.escape(text)
    share = (
        f"{100 * peak / budget:.3g}% of {memory.budget_text}"
        if peak <= budget
        else f"does not fit {memory.budget_text}"
    )
    meter = f'<meter min="0" max="{budget}" value="{peak}" high="{budget}" aria-label="{share}"></meter>'
    return f"{html.escape(f'{text} · {share}')} {meter}"


def write_moved(before: ModelSummary | None, after: ModelSummary, changes: Comparison | None) -> str:
    """Write in a line how the totals moved and how many rows did, and in a table what was edited in the model.

    Rows that moved otherwise than their formula predicts are flagged in the page.
    """
    if before is None or changes is None:
        return ""
    old, new = before.story, after.story
    parts, digits = [], []
    totals: list[tuple[str, int | None, int | None, Callable[[int], str]]] = [
        ("parameters", old.total_params, new.total_params, "{:,}".format),
        ("MACs", before.total_mult_adds, after.total_mult_adds, format_short),
    ]
    if old.memory is not None and new.memory is not None:
        in_bytes = story_writer(new)
        totals += [
            ("to run", old.memory.inference_bytes, new.memory.inference_bytes, in_bytes),
            ("to train", old.memory.training_bytes, new.memory.training_bytes, in_bytes),
        ]
    for name, was, now, write in totals:
        if was is not None and now is not None and was != now:
            times = f" (× {now / was:.3g})" if was else ""
            parts.append(f"{name} {write(was)} → {write(now)}{times}")
            digits.append(f"{name} {was:,} → {now:,}")
    lines = [f"since the run before: {' · '.join(parts)}"] if parts else []
    moved, otherwise = sum(change.what == "moved" for change in changes.changes), len(changes.otherwise)
    if moved:
        lines.append(f"{plural(moved, 'row')} changed as predicted")
    if otherwise:
        lines.append(f"{plural(otherwise, 'row')} changed against their formula: flagged where it begins")
    table = changes._repr_html_() if len(changes.unexpected) > otherwise else ""
    if not lines and not table:
        return ""
    title = f' title="{html.escape(" · ".join(digits))}"' if digits else ""
    return f'<div role="status"><div{title}>{html.escape("; ".join(lines))}</div>{table}</div>'


def list_offers(summary: ModelSummary, settings: Settings | None, inputs: ModelInputs) -> tuple[str, list[Offer]]:
    """List sizes that work where a run fails, or the largest batches that fit a budget, and a label for them.

    Args:
        settings: What it was run with, ``None`` if a field can't be read now.
        inputs: The inputs that the form began with.
    """
    inputs = settings.read_inputs(inputs) if settings is not None else inputs
    if summary.error is not None:
        read = [(text, read_suggestion(text, inputs)) for text in summary.error.sizes]
        return "Sizes that work:", [(text, sizes) for text, sizes in read if sizes is not None]
    memory = summary.story.memory
    if memory is None or memory.budget_bytes is None:
        return "", []
    budget = settings.memory if settings is not None and settings.memory else memory.budget_text
    return f"Largest batch in {budget}:", _largest_batches(summary, inputs)


def _largest_batches(summary: ModelSummary, inputs: ModelInputs) -> list[Offer]:
    """List the largest batch for training and for inference, with the sizes that have it."""
    memory, facts = summary.story.memory, summary.story.trace.inputs
    if memory is None or memory.batch is None or len(facts) != len(inputs.leaves()):
        return []
    pairs = [pair for fact in facts for pair in zip(fact.dims, fact.spec.shape, strict=True)]
    names = [name for name, number in pairs if number == memory.batch and name]
    batch = "B" if "B" in names else next(iter(names), "")
    offers: list[Offer] = []
    for word, most in (("to train", memory.most_for_training), ("to run", memory.most_for_inference)):
        if not most or most == memory.batch or not batch:
            continue
        sizes = []
        for fact, (_, leaf) in zip(facts, inputs.leaves(), strict=True):
            size = leaf if isinstance(leaf, Size) else Size(tuple(leaf.shape), dtype=leaf.dtype)
            sizes.append(
                size.with_shape(
                    most if name == batch else number for name, number in zip(fact.dims, size.shape, strict=True)
                )
            )
        offers.append((f"{batch}={most:,} {word}", tuple(sizes)))
    return offers
