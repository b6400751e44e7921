"""A plan that a training step fits a budget, as text and HTML: the verdict, the code to paste, the other changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from modelsummary_ipy.display.render.fit import unit_writer
from modelsummary_ipy.display.render.formatting import format_percent, plain, plural
from modelsummary_ipy.records.training import Phase

_LEFT = 'style="text-align:left"'
_RIGHT = 'style="text-align:right"'


@dataclass(frozen=True)
class Lever:
    """A change of the step other than checkpoints, tried by tracing the step with it alone, or several at once.

    Attributes:
        name: What is changed: ``"bf16-mixed"``, ``"accumulate 4 batches of 16"``.
        peak_bytes: The step's peak with it.
        patch: Code that does it.
        is_assumed: Whether every step here has it already; ``peak_bytes`` is then the peak without it.
    """

    name: str
    peak_bytes: int
    patch: str
    is_assumed: bool = False


@dataclass(frozen=True, repr=False)
class Plan:
    """Which modules to checkpoint so that a training step fits a budget, and what else helps, each tried by tracing.

    Every number is of a step that was traced with the patch applied to a copy of the model. Besides these it has
    ``fits``, ``added_share`` and ``to_dict()``.

    Attributes:
        budget_bytes: The budget, and ``budget_text`` as it was typed: ``"24 GB"``.
        batch: Size of the batch, ``None`` if the input has none.
        peak_before_bytes: Peak of the step as it is; ``None`` if there is no step.
        peak_after_bytes: Peak with ``modules`` checkpointed, the lowest that was found where none fits.
        peak_phase, peak_path: What runs at that peak, and of which module; ``""`` outside all.
        modules: Paths of the modules to checkpoint, in the order in which they run.
        families: ``(type name, how many)`` of them, in that order.
        mult_adds: Multiply-adds of the step without checkpoints, forward and backward; ``None`` if some are unknown.
        added_mult_adds: Those of the forward that the checkpoints run again.
        patch: Code that checkpoints ``modules``; ``""`` if there is nothing to do.
        levers: Other changes, the best first.
        together: Several changes at once, checkpoints among them, tried where none fits alone: those that fit first.
        largest_batch: The largest batch that fits with ``modules`` checkpointed; searched only where ``batch`` does
            not, 0 if no batch does.
        num_steps: How many steps were traced.
        reason: Why there is no plan; ``""`` if there is one.
        untried: What the time did not suffice for.
        seconds: The time that was given.
    """

    budget_bytes: int
    budget_text: str
    batch: int | None = None
    peak_before_bytes: int | None = None
    peak_after_bytes: int | None = None
    peak_phase: Phase | None = None
    peak_path: str = ""
    modules: tuple[str, ...] = ()
    families: tuple[tuple[str, int], ...] = ()
    mult_adds: int | None = None
    added_mult_adds: int | None = 0
    patch: str = ""
    levers: tuple[Lever, ...] = ()
    together: tuple[Lever, ...] = ()
    largest_batch: int | None = None
    num_steps: int = 0
    reason: str = ""
    untried: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def fits(self) -> bool:
        """Whether the step fits with the modules checkpointed."""
        return self.peak_after_bytes is not None and self.peak_after_bytes <= self.budget_bytes

    @property
    def added_share(self) -> float | None:
        """What runs again, as a share of the step's multiply-adds: 0.25; ``None`` if some are unknown."""
        if not self.added_mult_adds:
            return None if self.added_mult_adds is None else 0.0
        return self.added_mult_adds / self.mult_adds if self.mult_adds else None

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return {**asdict(self), "fits": self.fits, "added_share": self.added_share}

    def __str__(self) -> str:
        return render_plan_text(self)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return render_plan_html(self)


def render_plan_text(plan: Plan) -> str:
    """Write a plan as text."""
    parts = ["\n".join(_write_verdict(plan))]
    if plan.patch:
        parts.append(plan.patch.rstrip())
    if plan.levers:
        cells = _list_levers(plan)
        wide, bytes_wide = (max(len(row[at]) for row in cells) for at in (0, 1))
        lines = [f"  {name:<{wide}}  {amount:>{bytes_wide}}  {word}".rstrip() for name, amount, word, _ in cells]
        parts.append("\n".join([f"{_write_levers_head(plan)}:", *lines]))
    parts.append(_write_tried(plan))
    return "\n\n".join(filter(None, parts))


def render_plan_html(plan: Plan) -> str:
    """Write a plan as HTML, whole without style sheet and script; every name of the model is escaped."""
    verdict, *more = _write_verdict(plan)
    mark = "✓" if plan.fits else "✗"
    parts = [f"<p><strong>{mark} {escape(verdict)}</strong></p>", *(f"<p>{escape(line)}</p>" for line in more)]
    if plan.patch:
        parts.append(f"<pre><code>{escape(plan.patch.rstrip())}</code></pre>")
    if plan.levers:
        heads = "".join(
            f'<th scope="col" {side}>{word}</th>'
            for word, side in (("change", _LEFT), ("peak", _RIGHT), ("", _LEFT), ("code", _LEFT))
        )
        rows = "".join(
            f'<tr><th scope="row" {_LEFT}>{escape(name)}</th><td {_RIGHT}>{escape(amount).replace(" ", "&nbsp;")}</td>'
            f"<td {_LEFT}>{escape(word)}</td><td {_LEFT}>{_write_code(code)}</td></tr>"
            for name, amount, word, code in _list_levers(plan)
        )
        caption = f"<caption {_LEFT}>{escape(_write_levers_head(plan))}</caption>"
        parts.append(f"<table>{caption}<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>")
    tried = _write_tried(plan)
    return f'<div class="ms-plan">{"".join(parts)}{f"<p>{escape(tried)}</p>" if tried else ""}</div>'


def _write_code(code: str) -> str:
    if not code:
        return ""
    if code.count("\n") <= 1:
        return f"<code>{escape(code.strip())}</code>"
    return f"<details><summary>show</summary><pre><code>{escape(code.rstrip())}</code></pre></details>"


def _write_verdict(plan: Plan) -> list[str]:
    if plan.reason:
        return [f"no plan: {plain(plan.reason)}"]
    write = unit_writer(plan.budget_text)
    before, after = plan.peak_before_bytes or 0, plan.peak_after_bytes or 0
    batch = f"batch {plan.batch:,}: " if plan.batch is not None else ""
    if before <= plan.budget_bytes:
        return [f"{batch}fits {plan.budget_text} without a checkpoint: {write(before)}"]
    what = ", ".join(f"{number} × {plain(kind)}" for kind, number in plan.families)
    again = _write_again(plan)
    if plan.fits:
        return [
            f"{batch}fits {plan.budget_text} with {plural(len(plan.modules), 'checkpoint')}: {write(after)}",
            f"{write(before)} without; {what}; {again}",
        ]
    return [
        f"{batch}does not fit {plan.budget_text}: {_write_least(plan, write)}",
        *([f"{write(before)} without checkpoints; {what}; {again}"] if plan.modules else []),
        *_write_together(plan, write),
    ]


def _write_together(plan: Plan, write: Callable[[int], str]) -> list[str]:
    """``fits with bf16-mixed + 6 checkpoints together: 5.45 MB``."""
    if not plan.together:
        return []
    best = plan.together[0]
    verdict = "fits" if best.peak_bytes <= plan.budget_bytes else "no change fits, nor several together: the least is"
    return [f"{verdict} with {plain(best.name)} together: {write(best.peak_bytes)}"]


def _write_least(plan: Plan, write: Callable[[int], str]) -> str:
    phase = "optimizer's step" if plan.peak_phase == "optimizer" else plan.peak_phase
    where = f" at the {phase}" + (f" of {plain(plan.peak_path)}" if plan.peak_path else "")
    if plan.modules:
        least = f"even fully checkpointed it needs {write(plan.peak_after_bytes or 0)}{where}"
    else:
        least = f"it needs {write(plan.peak_after_bytes or 0)}{where}, and no checkpoint lowers that"
    if plan.largest_batch is None:
        return least
    return f"{least}: " + (f"batch {plan.largest_batch:,} fits" if plan.largest_batch else "no batch fits")


def _write_again(plan: Plan) -> str:
    if plan.mult_adds is None or plan.added_mult_adds is None:
        return "how many MACs run again is unknown"
    return f"+{format_percent(plan.added_mult_adds, plan.mult_adds)} of the step's MACs"


def _write_levers_head(plan: Plan) -> str:
    alone = "other changes, each tried alone" + (" and without checkpoints" if plan.modules else "")
    return f"{alone}, then together" if plan.together else alone


def _list_levers(plan: Plan) -> list[tuple[str, str, str, str]]:
    write = unit_writer(plan.budget_text)
    every = (*plan.levers, *plan.together)
    return [(plain(lever.name), write(lever.peak_bytes), _judge(plan, lever), lever.patch) for lever in every]


def _judge(plan: Plan, lever: Lever) -> str:
    if lever.is_assumed:
        return "without it; assumed in every other line"
    if lever.peak_bytes <= plan.budget_bytes:
        return "fits"
    return "no less" if lever.peak_bytes >= (plan.peak_before_bytes or 0) else ""


def _write_tried(plan: Plan) -> str:
    if not plan.num_steps or plan.reason:
        return ""
    tried = f"{plural(plan.num_steps, 'step')} traced"
    if plan.untried:
        tried += f"; not tried within {plan.seconds:g} s: {', '.join(plan.untried)}"
    return tried
