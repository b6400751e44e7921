"""Recurrent layers: features, hidden and cell sizes, and which axis is the batch."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.context import RESHAPE, Diagnosis, Part, Scene
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, fix_creation, fix_module
from modelsummary_ipy.diagnosis.failures.formatting import write_shape
from modelsummary_ipy.diagnosis.failures.linear import last_axis
from modelsummary_ipy.records.trace import TensorSpec

__all__ = ["explain_recurrent"]


def explain_recurrent(scene: Scene) -> Diagnosis | None:
    """Explain an RNN, LSTM, GRU or one of their cells that does not take its input's or state's size."""
    if scene.function not in ("lstm", "gru", "rnn", "lstm_cell", "gru_cell", "rnn_cell") or not scene.data:
        return None
    if scene.call is None or scene.call.kind != "module":
        return None
    part, states = scene.data[0], scene.data[1:]
    taken, hidden = scene.setting("input_size"), scene.setting("hidden_size")
    if not isinstance(taken, int) or not isinstance(hidden, int):
        return None
    is_cell = scene.function.endswith("_cell")
    ranks = (1, 2) if is_cell else (2, 3)
    if part.rank not in ranks:
        return _explain_rank(scene, part, ranks)
    if part.shape[-1] != taken:
        return _explain_features(scene, part, taken)
    for state in states:
        wanted = _find_state_size(scene, part, state, hidden, is_cell)
        if state.shape != wanted:
            return _explain_state(scene, state, wanted, is_cell)
    return None


def _explain_rank(scene: Scene, part: Part, ranks: tuple[int, int]) -> Diagnosis:
    reason = f"{write_shape(part.shape)} has {part.rank} axes"
    fix = ""
    if part.rank == 4:
        reason += ": a map is no sequence yet; its places become the steps"
        fix = fix_argument(scene, "{}.flatten(2).transpose(1, 2)")
    expected = f"[batch, features] or [features], {ranks[1]} or {ranks[0]} axes" if ranks == (1, 2) else (
        f"{ranks[1]} axes with a batch, {ranks[0]} without"
    )  # fmt: skip
    return Diagnosis(reason, expected, fix, RESHAPE)


def _explain_features(scene: Scene, part: Part, taken: int) -> Diagnosis:
    expected = f"last axis {taken} (input_size)"
    search = RESHAPE if scene.is_like_input(part) else ()
    goal = (last_axis, taken)
    if part.rank == 3 and part.shape[1] == taken:
        reason = f"axis 1 has the {taken} features and the last one {part.shape[2]}; features come last"
        return Diagnosis(reason, expected, fix_argument(scene, "{}.transpose(1, 2)"), search, goal)
    reason = f"{scene.describe_giver(part, -1)} {part.shape[-1]} features a step, {scene.owner} takes {taken}"
    return Diagnosis(reason, expected, fix_module(scene, input_size=part.shape[-1]), search, goal)


def _find_state_size(scene: Scene, part: Part, state: Part, hidden: int, is_cell: bool) -> tuple[int, ...]:
    if is_cell:
        return (*part.shape[:-1], hidden)
    layers = int(scene.setting("num_layers", 1)) * (2 if scene.setting("bidirectional") else 1)
    projected = scene.setting("proj_size", 0)
    if projected and scene.function == "lstm" and not state.spec.name.endswith("[1]"):
        hidden = int(projected)
    if part.rank == 2:
        return (layers, hidden)
    return (layers, part.shape[0 if scene.setting("batch_first") else 1], hidden)


def _explain_state(scene: Scene, state: Part, wanted: tuple[int, ...], is_cell: bool) -> Diagnosis:
    layers, directions = scene.setting("num_layers", 1), 2 if scene.setting("bidirectional") else 1
    what = "cell" if state.spec.name.endswith("[1]") else "hidden"
    if is_cell:
        expected = f"{what} state {write_shape(wanted)}: [batch, hidden_size]"
    else:
        count = f"{layers} layers × {directions} directions" if directions == 2 else "num_layers"
        expected = f"{what} state {write_shape(wanted)}: [{count}, batch, hidden_size]"
    reason = f"the {what} state is {write_shape(state.shape)}, {write_shape(wanted)} belongs to this input"
    if sorted(state.shape) == sorted(wanted) and len(wanted) == 3:
        reason += ": its axes are in another order"
        if scene.setting("batch_first"):
            reason += " (batch_first moves the batch of the input, not of the state)"
    fix = fix_creation(scene, state, wanted)
    candidates: tuple[tuple[TensorSpec, ...], ...] = ()
    if scene.is_input(state) and state.link is not None:
        specs = [fact.spec for fact in scene.trace.inputs]
        old = specs[state.link.leaf]
        specs[state.link.leaf] = TensorSpec(old.name, wanted, old.dtype, old.device)
        candidates = (tuple(specs),)
    return Diagnosis(reason, expected, fix, () if fix or candidates else RESHAPE, candidates=candidates)
