"""A failed forward to a ``ForwardError``: which family knows it, which sizes would work, and the words of the house."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from modelsummary_ipy.diagnosis.failures.arguments import explain_arguments
from modelsummary_ipy.diagnosis.failures.attention import explain_attention, find_heads
from modelsummary_ipy.diagnosis.failures.broadcast_cat_matmul import explain_broadcast, explain_cat, explain_matmul
from modelsummary_ipy.diagnosis.failures.context import ANYWHERE, Diagnosis, Part, Scene, build_scene, write_source
from modelsummary_ipy.diagnosis.failures.convolution import explain_convolution
from modelsummary_ipy.diagnosis.failures.dtypes_devices import explain_device, explain_dtype, explain_index_range
from modelsummary_ipy.diagnosis.failures.fixes import find_earlier
from modelsummary_ipy.diagnosis.failures.formatting import write_input, write_shape
from modelsummary_ipy.diagnosis.failures.linear import explain_linear
from modelsummary_ipy.diagnosis.failures.norms import explain_norm
from modelsummary_ipy.diagnosis.failures.recurrent import explain_recurrent
from modelsummary_ipy.diagnosis.failures.reshaping import explain_axis, explain_reshape, explain_split
from modelsummary_ipy.diagnosis.failures.source_edits import find_operands
from modelsummary_ipy.diagnosis.failures.windows import explain_window
from modelsummary_ipy.diagnosis.failures.working_sizes import Probe, Specs, find_sizes
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.records.summary import Story

__all__ = ["explain"]

Family = Callable[[Scene], "Diagnosis | None"]

#: What looks at sizes.
_SIZES: tuple[Family, ...] = (
    explain_linear,
    explain_convolution,
    explain_norm,
    explain_recurrent,
    explain_attention,
    explain_cat,
    explain_matmul,
    explain_broadcast,
    explain_reshape,
    explain_split,
    explain_window,
    explain_axis,
)
#: What looks at dtypes, devices and values.
_KINDS: tuple[Family, ...] = (explain_index_range, explain_device, explain_dtype)


#: What a mistake of ours raises; a failure is told all the same, in plainer words.
_TRIPPED = (ArithmeticError, AssertionError, AttributeError, LookupError, StopIteration, TypeError, ValueError)


def explain(story: Story, *, probe: Probe | None = None, write: Callable[[Specs], str] = write_input) -> ForwardError:
    """Say why a forward failed, what to change and which inputs would work.

    Args:
        story: All that is known of the trace.
        probe: Traces the model at other inputs; without it no sizes are looked for.
        write: Writes inputs as the magic takes them.

    Returns:
        The error, without a cause.

    Raises:
        ValueError: If the forward did not fail.
    """
    scene = build_scene(story)
    if scene is None:
        raise ValueError("the forward did not fail")
    diagnosis = _diagnose(scene)
    found, search = _search(scene, diagnosis, probe)
    sizes = tuple(dict.fromkeys(write(specs) for specs in found))
    reason = diagnosis.reason.rstrip(".")
    if search in ("steer", "grow", "settings"):
        reason += _tell_need(scene, found[0])
    earlier = find_earlier(scene)
    if earlier is not None and earlier.inputs and scene.parts and earlier.inputs[0].shape != scene.parts[0].shape:
        reason += f"; its {write_ordinal(earlier.call_index + 1)} call took {write_shape(earlier.inputs[0].shape)}"
    place = write_source(scene.failure.source)
    return ForwardError(
        _write_message(scene, diagnosis, reason, sizes, place),
        path=scene.call.path if scene.call is not None else "",
        row=scene.row,
        source=place,
        reason=reason,
        fix=diagnosis.fix,
        sizes=sizes,
    )


def _search(scene: Scene, diagnosis: Diagnosis, probe: Probe | None) -> tuple[list[Specs], str]:
    try:
        return find_sizes(scene, diagnosis, probe) if probe is not None else ([], "")
    except _TRIPPED:
        return [], ""


def _diagnose(scene: Scene) -> Diagnosis:
    """Ask the families; one that trips over a case it was not made for is passed by, for an error must be told."""
    words = scene.failure.message
    kinds_first = any(word in words for word in ("dtype", "scalar type", "not implemented for", "device", "Input type"))
    order = (explain_arguments, *(_KINDS + _SIZES if kinds_first else _SIZES + _KINDS))
    for family in order:
        try:
            diagnosis = family(scene)
        except _TRIPPED:
            continue
        if diagnosis is not None:
            return diagnosis
    may_be_size = scene.failure.error_type in ("RuntimeError", "ValueError", "IndexError", "AssertionError")
    return Diagnosis(_first_line(words) or scene.failure.error_type, search=ANYWHERE if may_be_size else ())


def _first_line(words: str) -> str:
    lines = [line.strip() for line in words.strip().splitlines() if line.strip()]
    return lines[0] if lines else ""


_SIDES = {4: ("B", "", "H", "W"), 5: ("B", "", "D", "H", "W"), 3: ("B", "", ""), 2: ("B", "T")}


def _tell_need(scene: Scene, specs: Specs) -> str:
    """``"; needs H = W = 32, you gave 40"``: the dims that have to change, by name."""
    changed: dict[str, tuple[int, int]] = {}
    for fact, spec in zip(scene.trace.inputs, specs, strict=False):
        old = fact.spec.shape
        if len(old) != len(spec.shape):
            return ""
        names = _SIDES.get(len(old), ())
        for axis, (before, after) in enumerate(zip(old, spec.shape, strict=True)):
            name = fact.dims[axis] if axis < len(fact.dims) and fact.dims[axis] else ""
            if len(old) == 2 and axis == 1 and "int" not in spec.dtype:
                names = ("B", "")
            name = name or (names[axis] if axis < len(names) else "")
            if before != after:
                changed.setdefault(name, (before, after))
    if not changed or "" in changed:
        return ""
    needs = {after for _, after in changed.values()}
    gave = list(dict.fromkeys(before for before, _ in changed.values()))
    given = " and ".join(map(str, gave))
    if len(needs) == 1:
        return f"; needs {' = '.join(changed)} = {needs.pop()}, you gave {given}"
    return "; needs " + ", ".join(f"{name} = {after}" for name, (_, after) in changed.items()) + f", you gave {given}"


# -- the message ------------------------------------------------------------------------------------------------------


def _write_message(scene: Scene, diagnosis: Diagnosis, reason: str, sizes: Sequence[str], place: str | None) -> str:
    lines = [_write_head(scene, place)]

    def add(label: str, text: str) -> None:
        if text:
            lines.append(f"  {label:<8}  {text}")

    add("line", scene.failure.source_text)
    for index, text in enumerate(_write_parts(scene)):
        add("received" if index == 0 else "", text)
    add("expected", diagnosis.expected)
    add("reason", reason)
    add("fix", diagnosis.fix)
    for index, size in enumerate(sizes):
        add("sizes" if index == 0 else "", size)
    words = _first_line(scene.failure.message)
    add("torch" if _is_torchs(scene) else "raised", f"{scene.failure.error_type}: {words}" if words else "")
    return "\n".join(lines)


def _is_torchs(scene: Scene) -> bool:
    return scene.failure.error_type in ("RuntimeError", "NotImplementedError", "IndexError") and bool(scene.function)


def _write_head(scene: Scene, place: str | None) -> str:
    where = f", at {place}" if place else ""
    call = scene.call
    if call is None:
        return f"{scene.trace.method} failed{where}"
    name = f"'{call.path}'" if call.path else "the model"
    what = f"{name} ({call.type_name})" if call.kind == "module" else f"{call.type_name}() in {name}"
    again = f", its {write_ordinal(call.call_index + 1)}" if call.kind == "module" and call.call_index else ""
    return f"{scene.trace.method} failed in {what}, call {call.index + 1}{again}{where}"


def write_ordinal(number: int) -> str:
    """``1st``, ``2nd``, ``11th``."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


_MOST_PARTS = 8
_LONGEST_NAME = 32


def _write_parts(scene: Scene) -> list[str]:
    """One line per tensor that took part: its name, dtype, size, formula and where it came from."""
    parts, labels = _choose_parts(scene)
    texts = [_write_part(scene, part) for part in parts[:_MOST_PARTS]]
    width = max((len(label) for label in labels[:_MOST_PARTS]), default=0)
    lines = [f"{label:<{width}}  {text}" if width else text for label, text in zip(labels, texts, strict=False)]
    if len(parts) > _MOST_PARTS:
        lines.append(f"… {len(parts) - _MOST_PARTS} more")
    return lines


def _choose_parts(scene: Scene) -> tuple[Sequence[Part], list[str]]:
    """Choose the tensors to show, named as the failing line does, or as the layer's parameters are named."""
    call = scene.call
    if call is None or call.kind == "module":
        return scene.parts, [part.spec.name for part in scene.parts]
    if (heads := find_heads(scene)) is not None:  # its inside is torch's business
        parts = scene.parts_of(heads)
        return parts, [part.spec.name for part in parts]
    operands = find_operands(scene.failure.source_text, call.type_name) if len(scene.parts) > 1 else []
    if len(operands) >= len(scene.parts) and all(len(text) <= _LONGEST_NAME for text in operands):
        return scene.parts, operands[: len(scene.parts)]
    return scene.parts, [""] * len(scene.parts)


def _write_part(scene: Scene, part: Part) -> str:
    text = f"{part.spec.dtype} {write_shape(part.shape)}"
    if part.formula and any(not item.isdigit() for item in part.formula):
        text += f" = [{', '.join(part.formula)}]"
    if len({other.spec.device for other in scene.parts}) > 1:
        text += f" on {part.spec.device}"
    return text + _write_origin(scene, part)


def _write_origin(scene: Scene, part: Part) -> str:
    if part.param is not None:
        names = scene.trace.params[part.param].names
        return f" '{names[0]}'" if names else ""
    if scene.is_input(part):
        return " the model's input"
    maker = scene.producer(part)
    if maker is None:
        return ""
    return f" from '{maker.path}'" if maker.kind == "module" else f" from {maker.type_name}()"
