"""The text of a failure: where, what came, what would have fitted, why, what to change, which sizes work."""

from __future__ import annotations

from collections.abc import Sequence

from modelsummary_ipy.diagnosis.failures.attention_heads import find_heads
from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.fixes import read_arguments
from modelsummary_ipy.diagnosis.failures.working_sizes import FoundSizes
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.records.fixes import Fix


def write_message(
    ctx: FailureContext,
    diagnosis: Diagnosis,
    reason: str,
    fixes: Sequence[Fix],
    sizes: Sequence[str],
    place: str | None,
) -> str:
    """Write all that is said of a failure, a line each.

    Args:
        reason: Why it failed, with the sizes that work.
        fixes: What makes it run, the best first.
        sizes: Inputs that work.
        place: The line that failed, and the one that called it.
    """
    lines = [_write_head(ctx, place)]

    def add(label: str, text: str) -> None:
        if text:
            lines.append(f"  {label:<8}  {text}")

    at = ctx.at_line_of(diagnosis.call) if diagnosis.call is not None else ctx
    add("line", at.line if diagnosis.call is not None else ctx.failure.source_text)
    for index, text in enumerate(_write_operands(ctx, diagnosis)):
        add("received" if index == 0 else "", text)
    add("expected", diagnosis.expected)
    add("reason", reason)
    for index, text in enumerate(fixes[0].text.splitlines() if fixes else [ctx.failure.advice]):
        add("" if index else "fix" if fixes else "go on", text)
    if fixes:
        shapes = [write_shape(spec.shape) for spec in fixes[0].outputs]
        more = f", … {len(shapes) - _MOST_OUTPUTS} more" if len(shapes) > _MOST_OUTPUTS else ""
        add("tried", f"gives {', '.join(shapes[:_MOST_OUTPUTS]) or 'no tensor'}{more}")
    for index, size in enumerate(sizes):
        add("sizes" if index == 0 else "", size)
    words = first_line(ctx.failure.message) if not ctx.failure.limit else ""
    if diagnosis.code == "pattern":  # the reason holds a part of it
        words = "; ".join(line.rstrip(".;") for line in list_lines(ctx.failure.message))
    add("torch" if is_torchs(ctx) else "raised", f"{ctx.failure.error_type}: {words}" if words else "")
    return "\n".join(lines)


def is_torchs(ctx: FailureContext) -> bool:
    """Return whether an error is torch's own, and not raised by code of a model."""
    return ctx.failure.error_type in ("RuntimeError", "NotImplementedError", "IndexError") and bool(ctx.function)


def _write_head(ctx: FailureContext, place: str | None) -> str:
    where = f", at {place}" if place else ""
    call = ctx.call
    happened = f"{ctx.trace.method} failed"
    if ctx.failure.limit:  # that is no failure
        happened = "values are needed"
    elif ctx.failure.interrupted:
        happened = "interrupted"
    if ctx.failure.call is None:
        return f"{happened}{where}"
    name = ctx.owner
    what = f"{name} ({call.type_name})" if call.kind == "module" else f"{call.type_name}() in {name}"
    again = f", its {write_ordinal(call.call_index + 1)}" if call.kind == "module" and call.call_index else ""
    return f"{happened} in {what}, call {call.index + 1:,} of all{again}{where}"


def write_ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``11th``."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


_MOST_OPERANDS = 8
_MOST_OUTPUTS = 4
_LONGEST_NAME = 32


def _write_operands(ctx: FailureContext, diagnosis: Diagnosis) -> list[str]:
    """One line per tensor of the call: its name, dtype, shape, formula and where it was made."""
    operands, labels = _choose_operands(ctx, diagnosis)
    texts = [_write_operand(ctx, x) for x in operands[:_MOST_OPERANDS]]
    width = max((len(label) for label in labels[:_MOST_OPERANDS]), default=0)
    lines = [f"{label:<{width}}  {text}" if width else text for label, text in zip(labels, texts, strict=False)]
    if len(operands) > _MOST_OPERANDS:
        lines.append(f"… {len(operands) - _MOST_OPERANDS} more")
    return lines


def _choose_operands(ctx: FailureContext, diagnosis: Diagnosis) -> tuple[Sequence[Operand], list[str]]:
    """Choose the tensors to show, named as the failing line does, or as the layer's parameters are named."""
    call = ctx.call
    if diagnosis.call is not None:  # what a package's code made of them is its own
        operands = ctx.operands_of(diagnosis.call)
        names = [x.spec.name for x in operands]
        if len(names) == len(ctx.trace.inputs) == 1 and diagnosis.call.parent is None:
            names = [ctx.trace.inputs[0].spec.name]
        return operands, names
    if call.kind == "module":
        return ctx.operands, [x.spec.name for x in ctx.operands]
    if (heads := find_heads(ctx)) is not None:  # its inside is torch's code
        operands = ctx.operands_of(heads)
        return operands, [x.spec.name for x in operands]
    texts = read_arguments(ctx) if len(ctx.operands) > 1 else []
    if len(texts) >= len(ctx.operands) and all(len(text) <= _LONGEST_NAME for text in texts):
        return ctx.operands, texts[: len(ctx.operands)]
    return ctx.operands, [""] * len(ctx.operands)


def _write_operand(ctx: FailureContext, x: Operand) -> str:
    text = f"{x.spec.dtype} {write_shape(x.shape)}"
    if x.formula and any(not item.isdigit() for item in x.formula):
        text += f" = [{', '.join(x.formula)}]"
    if len({other.spec.device for other in ctx.operands}) > 1:
        text += f" on {x.spec.device}"
    return text + _write_origin(ctx, x)


def _write_origin(ctx: FailureContext, x: Operand) -> str:
    if x.param is not None:
        names = ctx.trace.params[x.param].names
        return f" '{names[0]}'" if names else ""
    if x.is_input:
        return " the model's input"
    maker = ctx.flow.producer(x.link)
    if maker is None:
        return ""
    return f" from '{maker.path}'" if maker.kind == "module" else f" from {maker.type_name}()"


def read_numbers(ctx: FailureContext, diagnosis: Diagnosis) -> dict[str, int | tuple[int, ...]]:
    """Return the shapes of what the failed call read, by name, and the size that came and the one that was wanted."""
    operands, labels = _choose_operands(ctx, diagnosis)
    names = [label or x.spec.name or "input" for x, label in zip(operands, labels, strict=False)]
    numbers: dict[str, int | tuple[int, ...]] = {}
    for number, (x, name) in enumerate(zip(operands, names, strict=False)):
        numbers[name if name not in numbers else f"{name} {number + 1}"] = x.shape
    if diagnosis.goal is not None:
        measure, wanted = diagnosis.goal
        came = measure(ctx.call)
        numbers |= {"wanted": wanted} if came is None else {"came": came, "wanted": wanted}
    return numbers


_SIDES = {4: ("B", "", "H", "W"), 5: ("B", "", "D", "H", "W"), 3: ("B", "", ""), 2: ("B", "T")}


def write_need(ctx: FailureContext, found: FoundSizes) -> str:
    """``"; needs 32 ≤ H, W ≤ 35, you gave 40"``: the dims that have to change, by name, and which sizes work."""
    changed: dict[str, tuple[int, int]] = {}
    for fact, spec in zip(ctx.trace.inputs, found.specs[0], strict=False):
        old = fact.spec.shape
        if len(old) != len(spec.shape):
            return ""
        names = _SIDES.get(len(old), ())
        moved = [axis for axis, (before, after) in enumerate(zip(old, spec.shape, strict=True)) if before != after]
        if len(old) == 4 and moved == [1, 2]:  # channels come last
            changed |= {"H": (old[1], spec.shape[1]), "W": (old[2], spec.shape[2])}
            continue
        for axis, (before, after) in enumerate(zip(old, spec.shape, strict=True)):
            name = fact.dims[axis] if axis < len(fact.dims) and fact.dims[axis] else ""
            if len(old) == 2 and axis == 1 and "int" not in spec.dtype:
                names = ("B", "")
            name = name or (names[axis] if axis < len(names) else "")
            if before != after:
                changed.setdefault(name, (before, after))
    if not changed or "" in changed:
        return ""
    given = " and ".join(map(str, dict.fromkeys(before for before, _ in changed.values())))
    if found.rule is not None:
        rule = found.rule.write(list(changed))
        return f"; needs {rule}, you gave {given}" if rule else ""
    works = {after for _, after in changed.values()}
    if len(works) == 1:
        return f"; works with {' = '.join(changed)} = {works.pop()}, you gave {given}"
    return (
        "; works with " + ", ".join(f"{name} = {after}" for name, (_, after) in changed.items()) + f", you gave {given}"
    )


def first_line(words: str) -> str:
    """Return the first line with something in it."""
    return next(iter(list_lines(words)), "")


def list_lines(words: str) -> list[str]:
    """List the lines with something in them."""
    return [line.strip() for line in words.strip().splitlines() if line.strip()]
