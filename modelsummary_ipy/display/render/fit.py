"""A training step and its budget -> sentences: whether it fits, where it peaks, how it fails."""

from __future__ import annotations

from collections.abc import Callable

from modelsummary_ipy.display.render.formatting import format_bytes, format_decimal_bytes, in_full, plain
from modelsummary_ipy.records.summary import Story


def story_writer(story: Story) -> Callable[[int], str]:
    """Return what writes all bytes of a story in the kind of unit in which its budget was typed."""
    return unit_writer("" if story.memory is None else story.memory.budget_text)


def unit_writer(budget_text: str) -> Callable[[int], str]:
    """Return what writes bytes in the kind of unit of ``24 GB`` or ``24 GiB``; binary ones without a budget."""
    is_decimal = bool(budget_text) and not budget_text.endswith("iB")
    return format_decimal_bytes if is_decimal else format_bytes


def find_fit(story: Story) -> str:
    """``fits 1 MB; largest batch 997 to train, 1,199 to run``; ``""`` without a budget.

    ``does not fit 1 MB: needs 1.41 MB at the backward of fc1 (net.py:31)`` says where the most is needed.
    """
    memory = story.memory
    if memory is None or memory.budget_bytes is None:
        return ""
    train, run = memory.most_for_training, memory.most_for_inference
    if memory.training_bytes is None:
        needed, fits, what, where = memory.inference_bytes, memory.fits_inference, "running ", ""
        most = [f"largest batch {run:,}"] if run else []
    else:
        needed, fits, what, where = memory.training_bytes, memory.fits_training, "", find_peak_place(story)
        largest = [f"{size:,} to {use}" for size, use in ((train, "train"), (run, "run")) if size]
        most = ["no batch fits to train" if run else "no batch fits"] if train == 0 else []
        most += [f"largest batch {', '.join(largest)}"] if largest else []
    if needed is None:
        return ""
    amount = story_writer(story)(needed)
    verdict = f"fits {memory.budget_text}"
    if not fits:
        verdict = f"does not fit {memory.budget_text}: needs {amount}{where}"
    return "; ".join(filter(None, (f"{what}{verdict}", *most)))


def find_peak_place(story: Story) -> str:
    """`` at the backward of fc1 (net.py:31)``, where a training step needs most; ``""`` if that is not known."""
    step = story.training
    if step is None or step.peak_phase is None:
        return ""
    phase = "optimizer's step" if step.peak_phase == "optimizer" else step.peak_phase
    if step.peak_row is None:
        return f" at the {phase}"
    row = story.rows[step.peak_row]
    name = plain(row.path) if row.kind == "module" and row.path else plain(row.type_name)
    return f" at the {phase} of {name}" + (f" ({plain(row.source)})" if row.source else "")


def find_cache_lines(story: Story) -> tuple[tuple[str, str, str], ...]:
    """``("cache 8.00 KiB", "256 · B · T bytes", "8,192 bytes")``, and what the context takes that was asked for."""
    lines = []
    write = story_writer(story)
    if story.cache is not None:
        formula = f"{plain(story.cache.formula)} bytes" if story.cache.formula else plain(story.cache.parameter)
        size = write(story.cache.nbytes)
        lines.append((f"cache {size}", formula, in_full(story.cache.nbytes, size, "bytes")))
    context = story.context
    if context is None:
        return tuple(lines)
    head = f"context {context.length:,}"
    if context.prefill_bytes is None or context.decode_bytes is None or context.cache_bytes is None:
        return (*lines, (head, f"unknown: {plain(context.reason)}", ""))
    peaks = f"{write(context.prefill_bytes)} to prefill, {write(context.decode_bytes)} to decode"
    parts = [f"cache {write(context.cache_bytes)}", peaks]
    if context.longest is not None:
        parts.append(f"longest that fits {context.longest:,}")
    if context.most_batch is not None:
        parts.append(f"largest batch {context.most_batch:,}" if context.most_batch else "no batch of it fits")
    if context.configured is not None:
        parts.append(f"it runs, beyond the {context.configured:,} positions of the model's configuration")
    if any(fact.spec.device == "meta" for fact in story.trace.inputs):
        parts.append("on the meta device, where attention keeps all its scores: device cpu has kernels that do not")
    text = "; ".join(parts)
    amounts = (
        (context.cache_bytes, "bytes of cache"), (context.prefill_bytes, "to prefill"),
        (context.decode_bytes, "to decode"),
    )  # fmt: skip
    return (*lines, (head, text, ", ".join(full for number, unit in amounts if (full := in_full(number, text, unit)))))


def find_step_failure(story: Story) -> str:
    """``the backward fails in fc (Linear) at net.py:31: RuntimeError: …``; ``""`` if it does not."""
    step = story.training
    if step is None or step.failure is None or story.trace.failure is not None:
        return ""
    what, _, message = step.reason.partition(": ")
    row = story.rows[step.failed_row] if step.failed_row is not None else None
    place = step.failure.source.text if step.failure.source is not None else row.source if row is not None else None
    where = f" in {plain(row.path) or 'the model'} ({plain(row.type_name)})" if row is not None else ""
    return f"{what}{where}{f' at {plain(place)}' if place else ''}: {plain(message)}"
