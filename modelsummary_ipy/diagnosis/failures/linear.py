"""A layer that multiplies the last axis with a weight, and an input whose last axis is something else."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import RESHAPE, STEER, Diagnosis, Part, Scene, write_source
from modelsummary_ipy.diagnosis.failures.fixes import find_line, fix_argument, fix_module, fix_operand
from modelsummary_ipy.diagnosis.failures.formatting import factor_like, product, write_product, write_shape
from modelsummary_ipy.diagnosis.failures.source_edits import change_operation
from modelsummary_ipy.records.trace import Call, TensorSpec

__all__ = ["explain_linear", "find_source_map", "move_to_end"]

_FLATTENERS = frozenset({"flatten", "Flatten", "view", "reshape", "_unsafe_view"})


def explain_linear(scene: Scene) -> Diagnosis | None:
    """Explain a Linear whose input has not ``in_features`` numbers on its last axis."""
    found = _read(scene)
    if found is None:
        return None
    part, taken = found
    shape = part.shape
    if not shape or shape[-1] == taken:
        return None
    expected = f"last axis {taken} (in_features)"
    return (
        _explain_unflattened(scene, part, taken, expected)
        or _explain_flattened(scene, part, taken, expected)
        or _explain_features(scene, part, taken, expected)
    )


def _read(scene: Scene) -> tuple[Part, int] | None:
    if scene.function != "linear" or not scene.parts or scene.call is None:
        return None
    if scene.call.kind == "op":
        weight = scene.parts[1].shape if len(scene.parts) > 1 else ()
        return (scene.parts[0], weight[-1]) if weight else None
    taken = scene.setting("in_features")
    return (scene.parts[0], taken) if isinstance(taken, int) else None


def last_axis(call: Call) -> int | None:
    """Measure the last axis of what a call reads first."""
    return call.inputs[0].shape[-1] if call.inputs and call.inputs[0].shape else None


def move_to_end(axis: int, rank: int) -> str:
    """Write how an axis becomes the last: ``"{}.transpose(1, 2)"``, ``"{}.permute(0, 2, 3, 1)"``."""
    if axis == rank - 2:
        return f"{{}}.transpose({axis}, {rank - 1})"
    order = [*(a for a in range(rank) if a != axis), axis]
    return f"{{}}.permute({', '.join(map(str, order))})"


def _explain_unflattened(scene: Scene, part: Part, taken: int, expected: str) -> Diagnosis | None:
    """The trailing axes multiply to what is taken, or one of them is it."""
    shape, rank = part.shape, part.rank
    for start in range(1, rank - 1):
        if product(shape[start:]) == taken:
            reason = f"{write_product(shape[start:])}: the map was not flattened"
            return Diagnosis(reason, expected, fix_argument(scene, f"{{}}.flatten({start})"))
    if taken not in shape[1:-1]:
        return None
    axis = 1 + shape[1:-1].index(taken)
    reason = f"axis {axis} has the {taken} features and the last one {shape[-1]}; a Linear multiplies the last axis"
    search = RESHAPE if scene.is_like_input(part) else ()
    return Diagnosis(reason, expected, fix_argument(scene, move_to_end(axis, rank)), search)


def find_source_map(scene: Scene, part: Part) -> TensorSpec | None:
    """Return the tensor that was flattened into this one."""
    call = scene.producer(part)
    if call is None or call.type_name not in _FLATTENERS or not call.inputs:
        return None
    return call.inputs[0]


def _explain_flattened(scene: Scene, part: Part, taken: int, expected: str) -> Diagnosis | None:
    before = find_source_map(scene, part)
    if before is None or len(before.shape) < 3:
        return None
    goal = (last_axis, taken)
    inner = before.shape[1:]
    if part.rank == 1 and product(inner) == taken:
        reason = f"the batch was flattened too: {write_product(before.shape)}, of which {taken} are one sample's"
        return Diagnosis(reason, expected, _fix_flatten(scene, part))
    if product(inner) != part.shape[-1]:
        if product(inner[1:]) == part.shape[-1] and part.rank == 2:
            reason = (
                f"the map {write_shape(before.shape)} has no batch axis, so its {before.shape[0]} channels were taken "
                f"for one and {write_product(inner)} features are left"
            )
            return Diagnosis(reason, expected, _fix_flatten(scene, part, 0), RESHAPE, goal)
        return None
    fitting = factor_like(taken, inner[0], len(inner) - 1)
    factors = f" = {' × '.join(map(str, fitting))}" if fitting is not None else ""
    reason = f"{write_product(inner)} features arrive where {taken}{factors} are taken"
    return Diagnosis(reason, expected, fix_module(scene, in_features=part.shape[-1]), STEER, goal)


def _fix_flatten(scene: Scene, part: Part, start: int = 1) -> str:
    """Let the line that flattens keep the batch."""
    maker = scene.producer(part)
    if maker is None or maker.kind != "op":
        return ""
    line = find_line(scene, maker)
    new = change_operation(line, maker.type_name, lambda items, _: f"{items[0]}.flatten({start})")
    if maker.source == scene.failure.source:
        return new
    return f"at {write_source(maker.source)}: {new}" if new else ""


def _explain_features(scene: Scene, part: Part, taken: int, expected: str) -> Diagnosis:
    maker = scene.producer(part)
    got = part.shape[-1]
    fix = fix_module(scene, in_features=got)
    reason = f"{scene.describe_giver(part, -1)} {got} features, {scene.owner} takes {taken}"
    if got == 2 * taken and (name := _find_bidirectional(scene, part)):
        reason = f"{name} is bidirectional: 2 × {taken} = {got} features arrive"
    elif maker is not None and maker.type_name in ("cat", "concat", "concatenate") and maker.outputs:
        sizes = [spec.shape[-1] for spec in maker.inputs if spec.shape]
        if sum(sizes) == got:
            reason = (
                f"cat puts {' + '.join(map(str, sizes))} = {got} features side by side, {scene.owner} takes {taken}"
            )
    if not fix and scene.call is not None and scene.call.kind == "op":
        weight = scene.parts[1]
        if weight.shape[0] == got:
            reason = f"the weight {write_shape(weight.shape)} lies the other way round: a Linear's is [out, in]"
            fix = fix_operand(scene, 1, "{}.t()")
    return Diagnosis(reason, expected, fix, RESHAPE if scene.is_like_input(part) else STEER, (last_axis, taken))


def _find_bidirectional(scene: Scene, part: Part) -> str:
    for call in scene.walk_back(part.link, 6):
        fact = scene.module_of(call)
        if fact is not None and fact.type_name in ("LSTM", "GRU", "RNN"):
            return f"'{call.path}'" if fact.settings.get("bidirectional") else ""
    return ""
