"""Norms: features that don't match, groups that don't divide, a batch of one that has no variance."""

from __future__ import annotations

from dataclasses import replace

from modelsummary_ipy.diagnosis.failures.context import ANYWHERE, GROW, RESHAPE, STEER, Diagnosis, Part, Scene
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, fix_module, fix_setting
from modelsummary_ipy.diagnosis.failures.formatting import product, write_product, write_shape
from modelsummary_ipy.diagnosis.failures.linear import move_to_end
from modelsummary_ipy.records.trace import Call

__all__ = ["explain_norm"]

_RANKS = {"BatchNorm1d": (2, 3), "BatchNorm2d": (4,), "BatchNorm3d": (5,), "InstanceNorm1d": (2, 3),
          "InstanceNorm2d": (3, 4), "InstanceNorm3d": (4, 5)}  # fmt: skip


def explain_norm(scene: Scene) -> Diagnosis | None:
    """Explain a norm that does not take its input's size."""
    if not scene.parts:
        return None
    if scene.function in ("batch_norm", "instance_norm"):
        return _explain_channels(scene, scene.parts[0])
    if scene.function in ("layer_norm", "rms_norm"):
        return _explain_layer_norm(scene, scene.parts[0])
    if scene.function == "group_norm":
        return _explain_group_norm(scene, scene.parts[0])
    return None


def _explain_channels(scene: Scene, part: Part) -> Diagnosis | None:
    assert scene.call is not None
    features = scene.setting("num_features") if scene.call.kind == "module" else _first_weight(scene)
    ranks = _RANKS.get(scene.call.type_name)
    if ranks is not None and part.rank not in ranks:
        return _explain_rank(scene, part, ranks, features)
    if part.rank < 2:
        return None
    has_weights = bool(scene.weights)
    if isinstance(features, int) and part.shape[1] != features and has_weights:
        return _explain_features(scene, part, features)
    values = part.shape[0] * product(part.shape[2:])
    if scene.function == "batch_norm" and values == 1 and (scene.fact is None or scene.fact.training):
        places = write_product((part.shape[0], *part.shape[2:]))
        reason = f"in train mode a variance is taken over batch and places, and {places} value a channel has none"
        specs = tuple(replace(f.spec, shape=(2, *f.spec.shape[1:])) for f in scene.trace.inputs if f.spec.shape)
        candidates = (specs,) if len(specs) == len(scene.trace.inputs) else ()
        expected = "more than one value a channel in train mode"
        return Diagnosis(reason, expected, "model.eval()", candidates=candidates)
    if scene.function == "instance_norm" and product(part.shape[2:]) == 1:
        reason = f"a variance is taken over the places of one map, and {write_shape(part.shape)} has one place"
        return Diagnosis(reason, "more than one place a channel", "", GROW)
    return None


def _first_weight(scene: Scene) -> int | None:
    return next((part.shape[0] for part in scene.parts[1:] if part.rank == 1), None)


def channel_axis(call: Call) -> int | None:
    """Measure axis 1 of what a call reads."""
    return call.inputs[0].shape[1] if call.inputs and len(call.inputs[0].shape) > 1 else None


def _explain_rank(scene: Scene, part: Part, ranks: tuple[int, ...], features: object) -> Diagnosis:
    assert scene.call is not None
    words = " or ".join(map(str, ranks))
    expected = f"{words} axes, channels on axis 1"
    reason = f"{write_shape(part.shape)} has {part.rank} axes, {scene.call.type_name} reads {words}"
    family = scene.call.type_name[:-2]
    if part.rank == ranks[0] - 1 and part.shape[0] == features:
        reason += ": the batch is missing"
        return Diagnosis(reason, expected, fix_argument(scene, "{}.unsqueeze(0)"), RESHAPE)
    better = next((name for name, takes in _RANKS.items() if name.startswith(family) and part.rank in takes), None)
    if better is not None and scene.fact is not None and part.rank > max(ranks):
        path = scene.fact.path
        fix = fix_module(scene).replace(f"nn.{scene.call.type_name}(", f"nn.{better}(")
        return Diagnosis(reason, expected, fix if path else "", RESHAPE)
    return Diagnosis(reason, expected, "", ANYWHERE)


def _explain_features(scene: Scene, part: Part, features: int) -> Diagnosis:
    expected = f"axis 1 of {features} (num_features)"
    if part.rank > 2 and part.shape[-1] == features:
        back = [0, part.rank - 1, *range(1, part.rank - 1)]
        forth = [0, *range(2, part.rank), 1]
        move = f"permute({', '.join(map(str, back))})" if part.rank > 3 else "transpose(1, 2)"
        home = f"permute({', '.join(map(str, forth))})" if part.rank > 3 else "transpose(1, 2)"
        reason = f"the last axis has the {features} features; {scene.owner} norms axis 1, which has {part.shape[1]}"
        fix = fix_argument(scene, f"{{}}.{move}", f"{{}}.{home}")
        return Diagnosis(reason, expected, fix)
    reason = f"{scene.describe_giver(part, 1 - part.rank)} {part.shape[1]} channels, {scene.owner} norms {features}"
    fix = fix_module(scene, num_features=part.shape[1])
    search = RESHAPE if scene.is_like_input(part) else ()
    return Diagnosis(reason, expected, fix, search, (channel_axis, features))


def _explain_layer_norm(scene: Scene, part: Part) -> Diagnosis | None:
    assert scene.call is not None
    read = scene.setting if scene.call.kind == "module" else scene.arguments.get
    given = read("normalized_shape")
    wanted = (given,) if isinstance(given, int) else given
    if not isinstance(wanted, tuple) or part.shape[-len(wanted) :] == wanted:
        return None
    words = str(wanted[0]) if len(wanted) == 1 else write_shape(wanted)
    expected = f"last {'axis' if len(wanted) == 1 else 'axes'} {words} (normalized_shape)"
    if len(wanted) == 1 and wanted[0] in part.shape[1:-1]:
        axis = 1 + part.shape[1:-1].index(wanted[0])
        there = move_to_end(axis, part.rank)
        back = [*range(axis), part.rank - 1, *range(axis, part.rank - 1)]
        home = f"{{}}.permute({', '.join(map(str, back))})" if axis != part.rank - 2 else there
        reason = f"axis {axis} has the {words} features and the last one {part.shape[-1]}; the last axis is normed"
        return Diagnosis(reason, expected, fix_argument(scene, there, home))
    came = part.shape[-len(wanted) :]
    reason = f"{write_shape(came) if len(came) > 1 else came[0] if came else 'no axis'} came, {words} is normed"
    if len(came) == 1:
        reason = f"{scene.describe_giver(part, -1)} {came[0]} features, {scene.owner} norms {words}"
    fix = fix_module(scene, normalized_shape=came) if len(came) == len(wanted) else ""

    def measure(call: Call) -> int | None:
        return call.inputs[0].shape[-1] if call.inputs and call.inputs[0].shape else None

    search = RESHAPE if scene.is_like_input(part) else STEER
    return Diagnosis(reason, expected, fix, search, (measure, wanted[-1]))


def _explain_group_norm(scene: Scene, part: Part) -> Diagnosis | None:
    assert scene.call is not None
    channels = scene.setting("num_channels") if scene.call.kind == "module" else _first_weight(scene)
    groups = scene.setting("num_groups") if scene.call.kind == "module" else scene.arguments.get("num_groups")
    if part.rank < 2:
        return Diagnosis(f"{write_shape(part.shape)} has no channel axis", "[N, C, …]", "", RESHAPE)
    got = part.shape[1]
    if not isinstance(groups, int):
        return None
    if got % groups:
        reason = (
            f"{got} channels don't divide into {groups} groups: {groups} × {got // groups} = {groups * (got // groups)}"
        )
        fitting = max(n for n in range(1, groups + 1) if got % n == 0)
        fix = fix_module(scene, num_groups=fitting, num_channels=got)
        if scene.call.kind == "op":
            fix = fix_setting(scene, "group_norm", "num_groups", 1, fitting)
        return Diagnosis(reason, f"channels divisible by {groups} (num_groups)", fix)
    if isinstance(channels, int) and got != channels:
        reason = f"{got} channels came, {scene.owner} norms {channels}"
        return Diagnosis(reason, f"axis 1 of {channels} (num_channels)", fix_module(scene, num_channels=got))
    return None
