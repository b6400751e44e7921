"""A plan -> text and HTML: the verdict, the code to paste, and the other changes in a table."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

from modelsummary_ipy.display.render.fit import unit_writer
from modelsummary_ipy.display.render.formatting import format_percent, plain, plural
from modelsummary_ipy.records.plan import Lever, PlanFacts

_LEFT = 'style="text-align:left"'
_RIGHT = 'style="text-align:right"'


def render_plan_text(plan: PlanFacts) -> str:
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


def render_plan_html(plan: PlanFacts) -> str:
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


def _write_verdict(plan: PlanFacts) -> list[str]:
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


def _write_together(plan: PlanFacts, write: Callable[[int], str]) -> list[str]:
    """``fits with bf16-mixed + 6 checkpoints together: 5.45 MB``."""
    if not plan.together:
        return []
    best = plan.together[0]
    verdict = "fits" if best.peak_bytes <= plan.budget_bytes else "no change fits, nor several together: the least is"
    return [f"{verdict} with {plain(best.name)} together: {write(best.peak_bytes)}"]


def _write_least(plan: PlanFacts, write: Callable[[int], str]) -> str:
    phase = "optimizer's step" if plan.peak_phase == "optimizer" else plan.peak_phase
    where = f" at the {phase}" + (f" of {plain(plan.peak_path)}" if plan.peak_path else "")
    if plan.modules:
        least = f"even fully checkpointed it needs {write(plan.peak_after_bytes or 0)}{where}"
    else:
        least = f"it needs {write(plan.peak_after_bytes or 0)}{where}, and no checkpoint lowers that"
    if plan.largest_batch is None:
        return least
    return f"{least}: " + (f"batch {plan.largest_batch:,} fits" if plan.largest_batch else "no batch fits")


def _write_again(plan: PlanFacts) -> str:
    if plan.mult_adds is None or plan.added_mult_adds is None:
        return "how many MACs run again is unknown"
    return f"+{format_percent(plan.added_mult_adds, plan.mult_adds)} of the step's MACs"


def _write_levers_head(plan: PlanFacts) -> str:
    alone = "other changes, each tried alone" + (" and without checkpoints" if plan.modules else "")
    return f"{alone}, then together" if plan.together else alone


def _list_levers(plan: PlanFacts) -> list[tuple[str, str, str, str]]:
    write = unit_writer(plan.budget_text)
    every = (*plan.levers, *plan.together)
    return [(plain(lever.name), write(lever.peak_bytes), _judge(plan, lever), lever.patch) for lever in every]


def _judge(plan: PlanFacts, lever: Lever) -> str:
    if lever.is_assumed:
        return "without it; assumed in every other line"
    if lever.peak_bytes <= plan.budget_bytes:
        return "fits"
    return "no less" if lever.peak_bytes >= (plan.peak_before_bytes or 0) else ""


def _write_tried(plan: PlanFacts) -> str:
    if not plan.num_steps or plan.reason:
        return ""
    tried = f"{plural(plan.num_steps, 'step')} traced"
    if plan.untried:
        tried += f"; not tried within {plan.seconds:g} s: {', '.join(plan.untried)}"
    return tried
