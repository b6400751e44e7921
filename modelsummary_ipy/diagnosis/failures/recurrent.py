"""Recurrent layers: features, hidden and cell sizes, and which axis is the batch."""

from __future__ import annotations

import ast
import operator
import re
from dataclasses import replace
from functools import reduce

from modelsummary_ipy.diagnosis.failures.context import NOTHING, RESHAPE, Diagnosis, FailureContext, Operand, dim_of
from modelsummary_ipy.diagnosis.failures.earlier_reshapes import list_reordered
from modelsummary_ipy.diagnosis.failures.fixes import (
    find_name,
    fix_argument,
    fix_call,
    fix_giver,
    fix_line,
    fix_made,
    fix_module,
    name_input_size,
    place_line,
    read_arguments,
    read_line,
    set_value,
    write_size,
)
from modelsummary_ipy.diagnosis.failures.joins import explain_joined
from modelsummary_ipy.diagnosis.failures.missing_dims import explain_kept_dim
from modelsummary_ipy.diagnosis.failures.module_code import name_member, write_module
from modelsummary_ipy.diagnosis.failures.parameters import (
    find_param,
    fix_creation,
    fix_size_read,
    read_other_size,
    resize_param,
)
from modelsummary_ipy.diagnosis.failures.rebuilds import list_rebuilds
from modelsummary_ipy.diagnosis.failures.repeated_states import drop_kept_state
from modelsummary_ipy.diagnosis.failures.rewriting import write_statement
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword, change_call, wrap_argument
from modelsummary_ipy.diagnosis.failures.source_nodes import Arguments, find_targets, put_in_brackets, read_call
from modelsummary_ipy.diagnosis.failures.statements import drop_remark, walk_function
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import RECURRENTS
from modelsummary_ipy.model.torch_layers import functions_of
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call


def explain_recurrent(ctx: FailureContext) -> Diagnosis | None:
    """Explain an RNN, LSTM, GRU or one of their cells that does not take its input's or state's size."""
    if ctx.function not in functions_of("recurrent", "recurrent cell") or not ctx.data:
        return None
    if ctx.call.kind != "module":
        return None
    if any(other.spec.name.endswith("batch_sizes") for other in ctx.data):
        return _explain_packed(ctx)
    x, states = ctx.data[0], ctx.operands[1:]
    taken, hidden = ctx.setting("input_size"), ctx.setting("hidden_size")
    if not isinstance(taken, int) or not isinstance(hidden, int):
        return None
    is_cell = ctx.function.endswith("_cell")
    ranks = (1, 2) if is_cell else (2, 3)
    if x.rank not in ranks:
        return _explain_rank(ctx, x, ranks)
    if x.shape[-1] != taken:
        return _explain_features(ctx, x, taken)
    if ctx.function == "lstm" and len(states) == 1:
        reason = f"an LSTM takes a pair of states (h_0, c_0), got one tensor {write_shape(states[0].shape)}"
        return Diagnosis(reason, "(h_0, c_0)", fix_call(ctx, _pair_states))
    for state in states:
        wanted = _find_state_size(ctx, x, state, hidden, is_cell)
        if state.shape != wanted:
            return _explain_state(ctx, x, state, wanted, is_cell)
    return None


def _explain_packed(ctx: FailureContext) -> Diagnosis | None:
    """A batch was packed by lengths beyond its steps, or by another order of batch and steps than it has."""
    made = next((call for call in ctx.flow.walk_back(ctx.data[0].link, 3) if "pack_padded" in call.type_name), None)
    line = read_line(ctx, made.source) if made is not None else ""
    sorts = (call for call in ctx.trace.calls if made is not None and call.source == made.source)
    ordered = next((call for call in sorts if call.type_name == "index_select"), None)
    x, order = [spec.shape for spec in ordered.inputs] if ordered is not None else ((), ())
    if made is not None and "batch_first" in line and len(x) == 3 and x[0] != x[1] == order[0]:
        reason = f"{write_shape(x)} was packed with {x[1]} lengths, one for each sample: the steps come first in it"
        turned = wrap_argument(line, "pack_padded_sequence", "{}.transpose(0, 1)")
        return Diagnosis(reason, "the batch in dim 0", place_line(ctx, made, turned))
    new = add_keyword(line, "pack_padded_sequence", "batch_first", "True") if "batch_first" not in line else ""
    if made is None or not new or not ctx.setting("batch_first"):
        return None if made is None else _explain_long_lengths(ctx, made)
    reason = f"pack_padded_sequence reads the steps in dim 0 and the batch in dim 1, {ctx.owner} the batch first"
    return Diagnosis(reason, "batch_first=True", place_line(ctx, made, new))


def _explain_long_lengths(ctx: FailureContext, made: Call) -> Diagnosis | None:
    """The longest of the lengths is longer than what was packed."""
    packed, num_samples = made.inputs[0].shape, made.inputs[1].shape[0]
    batch_sizes = next(x for x in ctx.data if x.spec.name.endswith("batch_sizes"))
    axis = 1 if packed[0] == num_samples else 0
    steps, longest = packed[axis], batch_sizes.shape[0]
    if longest <= steps:
        return None
    specs = [fact.spec for fact in ctx.trace.inputs]
    longer = tuple(
        spec._replace(shape=(*spec.shape[:axis], longest, *spec.shape[axis + 1 :]))
        if len(spec.shape) > 1 and spec.shape[axis] == steps
        else spec
        for spec in specs
    )
    reason = f"the longest of the lengths is {longest}, what is packed has {steps} steps"
    return Diagnosis(reason, f"lengths of at most {steps}", candidates=(longer,))


def _part_states(ctx: FailureContext) -> Candidate:
    """Run sequences of sequences as one batch, and part what is read of it: ``_, h = self.rnn(x)``, ``out[:, -1]``."""
    names, texts = find_targets(ctx.line), read_arguments(ctx)
    name = find_name(texts[0]) if texts else ""
    if ctx.function not in ("gru", "lstm") or len(names) not in (2, 3) or not name:
        return NOTHING
    line = ctx.line.replace(f"({texts[0]})", f"({texts[0]}.flatten(0, 1))", 1)
    part = f".unflatten(0, {name}.shape[:2])"
    if names[0] == "_":
        return fix_line(ctx, f"{line}\n{names[1]} = {names[1]}[-1]{part}")
    after = ctx.statement.last if ctx.statement is not None and names[1] == "_" else 0
    for node in walk_function(ctx.failure.source) if after else ():
        if isinstance(node, ast.Subscript) and node.lineno > after and ast.unparse(node.value) == names[0]:
            there, read = ctx.read_at(node.lineno), ast.unparse(node)
            new = drop_remark(there.text).replace(read, read + part, 1) if there is not None else ""
            return fix_line(ctx, line) + write_statement(ctx, there, new) if there is not None else NOTHING
    return NOTHING


def _pair_states(arguments: list[str], keywords: dict[str, str]) -> tuple[list[str], dict[str, str]] | None:
    """Write a state that was given alone as a pair, with zeros for the cell state."""
    if len(arguments) != 2:
        return None
    return [arguments[0], f"({arguments[1]}, torch.zeros_like({arguments[1]}))"], keywords


def _explain_rank(ctx: FailureContext, x: Operand, ranks: tuple[int, int]) -> Diagnosis:
    reason = f"{write_shape(x.shape)} has {x.rank} dims"
    fix = NOTHING
    if x.rank == 4 and (kept := explain_kept_dim(ctx, x, reason)) is not None:
        return kept
    if x.rank == 4:
        reason += ": flatten the feature map into a sequence, one step per position"
        fix = fix_argument(ctx, "{}.flatten(2).transpose(1, 2)")
    if ranks == (1, 2) and x.rank == 3 and (both := _fold_cells(ctx, x)):
        reason += f": each of {x.shape[0]} × {x.shape[1]} is a sample of its own to a cell"
        return Diagnosis(reason, "[batch, features], 2 dims", both, RESHAPE)
    ones = [axis for axis in range(1, x.rank - 1) if x.shape[axis] == 1]
    if x.rank == 4 and x.shape[-1] == ctx.setting("input_size") and len(ones) != 1:
        pieces = f"{x.shape[0]} × {x.shape[1]} sequences of {x.shape[2]} steps"
        reason = f"{write_shape(x.shape)} has 4 dims: {pieces} are one batch"
        return Diagnosis(reason, "3 dims", [_part_states(ctx), fix_argument(ctx, "{}.flatten(0, 1)")], RESHAPE)
    if len(ones) == 1 and x.shape[-1] == ctx.setting("input_size"):
        reason = f"{write_shape(x.shape)} has {x.rank} dims, and dim {ones[0]} has one item"
        fix = fix_argument(ctx, f"{{}}.squeeze({ones[0]})")
    expected = f"[batch, features] or [features], {ranks[1]} or {ranks[0]} dims" if ranks == (1, 2) else (
        f"{ranks[1]} dims with a batch, {ranks[0]} without"
    )  # fmt: skip
    return Diagnosis(reason, expected, fix, RESHAPE)


def _fold_cells(ctx: FailureContext, x: Operand) -> Candidate:
    """Give a cell the samples of a batch one by one, and part them again: slots, agents, nodes of a graph."""
    member = name_member(ctx.call.path)
    states = ctx.data[1:]
    if not member or any(state.shape[:2] != x.shape[:2] for state in states) or ctx.function == "lstm_cell":
        return NOTHING

    def edit(given: list[str], named: dict[str, str]) -> Arguments:
        return [f"{put_in_brackets(text)}.flatten(0, 1)" for text in given], named

    changed = change_call(ctx.line, member, edit)
    given, _ = read_call(ctx.line, member)
    parted = wrap_argument(changed, member, "{}", 0, f"{{}}.unflatten(0, {put_in_brackets(given[0])}.shape[:2])")
    return fix_line(ctx, parted) if given and parted else NOTHING


def _explain_features(ctx: FailureContext, x: Operand, taken: int) -> Diagnosis:
    expected = f"last dim = {taken} (input_size)"
    search = RESHAPE if ctx.flow.is_like_input(x.link, x.shape) else ()
    goal = (dim_of(-1), taken)
    if x.rank == 3 and x.shape[1] == taken:
        reason = f"dim 1 has the {taken} features, the last dim has {x.shape[2]}; features come last"
        fixes = [*list_reordered(ctx, x), fix_argument(ctx, "{}.transpose(1, 2)")]
        if not ctx.setting("batch_first") and ctx.trace.inputs and x.shape[:1] == ctx.trace.inputs[0].spec.shape[:1]:
            fixes.insert(0, fix_argument(ctx, "{}.permute(2, 0, 1)"))
        return Diagnosis(reason, expected, fixes, search, goal)
    if taken == 1 and x.rank == 2:
        reason = f"{write_shape(x.shape)} has one number a step, and no dim of features"
        return Diagnosis(reason, expected, fix_argument(ctx, "{}.unsqueeze(-1)"), search, goal)
    sizes = [other.shape[-1] for other in ctx.data[:2] if other.rank == x.rank]
    if sizes == [ctx.setting("hidden_size"), taken]:
        reason = f"{ctx.owner} reads its input first and the state second; the line gives {write_shape(x.shape)} first"
        fix = fix_call(ctx, lambda given, named: ([*given[1::-1], *given[2:]], named))
        return Diagnosis(reason, expected, fix)
    if (found := _explain_literal_batch(ctx, x, taken) or explain_joined(ctx, x, taken, expected)) is not None:
        return replace(found, expected=expected)
    reason = f"{ctx.describe_giver(x, -1)} {x.shape[-1]} features per step, {ctx.owner} expects {taken}"
    return Diagnosis(reason, expected, fix_module(ctx, input_size=x.shape[-1]), search, goal)


def _explain_literal_batch(ctx: FailureContext, x: Operand, taken: int) -> Diagnosis | None:
    """A view to one sample of one step, ``view(1, 1, -1)``, put a batch into the features."""
    maker = ctx.flow.producer(x.link)
    samples, left = divmod(x.shape[-1], taken)
    target = ctx.flow.setting(maker, "size") or ctx.flow.setting(maker, "shape") if maker is not None else None
    if maker is None or maker.type_name not in ("view", "reshape") or left or target != (1, 1, -1) or samples < 2:
        return None
    name = name_input_size(ctx, samples)
    place = 1 if ctx.setting("batch_first") else 2
    fix = fix_made(ctx, maker, lambda items: [*items[:place], name, *items[place + 1 :]])
    reason = f"{maker.type_name}(1, 1, -1) is for a batch of one: of {samples} samples it makes one of {x.shape[-1]}"
    return Diagnosis(f"{reason} features", "", fix) if name and fix else None


def _find_state_size(ctx: FailureContext, x: Operand, state: Operand, hidden: int, is_cell: bool) -> tuple[int, ...]:
    if is_cell:
        return (*x.shape[:-1], hidden)
    layers = int(ctx.setting("num_layers", 1)) * (2 if ctx.setting("bidirectional") else 1)
    projected = ctx.setting("proj_size", 0)
    if projected and ctx.function == "lstm" and not state.spec.name.endswith("[1]"):
        hidden = int(projected)
    if x.rank == 2:
        return (layers, hidden)
    return (layers, x.shape[0 if ctx.setting("batch_first") else 1], hidden)


def _explain_state(
    ctx: FailureContext, x: Operand, state: Operand, wanted: tuple[int, ...], is_cell: bool
) -> Diagnosis:
    if not is_cell and x.rank == 2 and state.rank == 3 and state.shape[1] == x.shape[0]:
        steps = 1 if ctx.setting("batch_first") else 0
        reason = f"{write_shape(x.shape)} has 2 dims, which is one sample without a batch; the state has "
        reason += f"{state.shape[1]}"
        return Diagnosis(reason, "3 dims, one of them a step", fix_argument(ctx, f"{{}}.unsqueeze({steps})"))
    layers, directions = ctx.setting("num_layers", 1), 2 if ctx.setting("bidirectional") else 1
    if not is_cell and (1, *state.shape) == wanted:
        reason = f"the state is {write_shape(state.shape)}, a state has a dim of layers too: {write_shape(wanted)}"
        return Diagnosis(reason, "[num_layers, batch, hidden_size]", _change_states(ctx, "{}.unsqueeze(0)"))
    what = "cell" if state.spec.name.endswith("[1]") else "hidden"
    if is_cell:
        expected = f"{what} state {write_shape(wanted)}: [batch, hidden_size]"
    else:
        count = f"{layers} layers × {directions} directions" if directions == 2 else "num_layers"
        expected = f"{what} state {write_shape(wanted)}: [{count}, batch, hidden_size]"
    reason = f"the {what} state is {write_shape(state.shape)}, this input needs {write_shape(wanted)}"
    if sorted(state.shape) == sorted(wanted) and len(wanted) == 3:
        reason += ": its dims are in another order"
        if ctx.setting("batch_first"):
            reason += " (batch_first moves the batch of the input, not of the state)"
    order, reordered = NOTHING, (layers * directions, x.shape[1 if ctx.setting("batch_first") else 0], wanted[-1])
    if not is_cell and x.rank == 3 and state.shape == reordered:
        is_first = bool(ctx.setting("batch_first"))
        steps, samples = (x.shape[1], x.shape[0]) if is_first else (x.shape[0], x.shape[1])
        read = f"{steps} steps of {samples} samples"
        reason += f": batch_first={is_first} reads the input {write_shape(x.shape)} as {read}"
        order = fix_module(ctx, batch_first=not is_first)
    if is_cell and state.shape[1:] == wanted and (giver := _find_encoder(ctx, state)) is not None:
        reason += f": the state of '{giver.path}' is of {state.shape[0]} layers, a cell has one"
        return Diagnosis(reason, expected, _read_state(ctx, giver, "{}[-1]"))
    if is_cell and state.shape == (1, *wanted):
        reason += ": a cell's state has no dim of layers"
        pair = "tuple(item[0] for item in {})" if ctx.function == "lstm_cell" else ""
        order = _change_states(ctx, "{}[0]", pair)
    if not is_cell and directions == 1 and (giver := _find_encoder(ctx, state)) is not None:
        return _explain_encoder(ctx, state, giver, wanted)
    if not is_cell and directions == 2 and state.rank == 3 and 2 * state.shape[0] == wanted[0]:
        reason += f": {layers} layers × 2 directions = {wanted[0]}"
    if not is_cell and state.shape == (1, *wanted[1:]) and ctx.flow.sources(state.link):
        reason += f": it is of one layer, and '{ctx.call.path}' has {wanted[0]}"
        fixes = [_change_states(ctx, f"{{}}.repeat({wanted[0]}, 1, 1)")]
        fixes += [fix_module(ctx, num_layers=1)] if directions == 1 else []
        return Diagnosis(reason, expected, fixes)
    if state.shape[:-1] == wanted[:-1] and ctx.flow.sources(state.link):
        reason += f": it is of {state.shape[-1]} features, {ctx.owner} has hidden_size={wanted[-1]}"
        fixes = [fix_giver(ctx, state, wanted[-1]), fix_module(ctx, hidden_size=state.shape[-1])]
        return Diagnosis(reason, expected, fixes, is_open=not any(fixes))
    batch_axis = 0 if is_cell or ctx.setting("batch_first") else 1
    name = write_size(ctx, 0, batch_axis) or name_input_size(ctx, x.shape[batch_axis])
    names = {0 if is_cell else 1: name} if name else {}
    if not is_cell and directions == 1 and (kept := _name_layers(ctx, wanted[0])):
        names[0] = kept
    fix = fix_creation(ctx, state, wanted, names)
    for other in ctx.data[2:] if fix and state is ctx.data[1] and state.shape == ctx.data[-1].shape else ():
        beside = fix_creation(ctx, other, wanted, names)  # an LSTM's second state, made alike
        fix = fix + beside if beside.text != fix.text else fix
    if is_cell and state.rank == 1 and state.shape[0] == wanted[-1] and name and not fix:
        fix = fix_argument(ctx, f"{{}}.expand({name}, -1)", position=1)
    if not fix and not is_cell and state.link is None and (fix := drop_kept_state(ctx)):
        reason += f": it was kept from a batch of {state.shape[1]}, and the model begins with zeros if none is given"
    param = find_param(ctx, state) if not is_cell and state.rank == 3 else None
    if param is not None and ctx.trace.params[param].shape == (1, 1, wanted[-1]):
        fix = fix or _deepen(ctx, wanted)
    rebuilt = NOTHING
    if not is_cell and state.rank > 1:
        rebuilt = next(list_rebuilds(ctx, state.shape[-2], wanted[-2]), NOTHING)
    turned = fix_size_read(ctx, state) if is_cell else NOTHING
    fixes = [turned, order, fix, rebuilt, fix_creation(ctx, state, wanted)]
    if order and ctx.setting("batch_first"):  # it was asked for, so the state is what is wrong
        fixes = [read_other_size(ctx, ctx.failure.source, read_arguments(ctx)[-1]), *fixes[2:], order]
    candidates = ctx.change_input(state, shape=wanted)
    return Diagnosis(reason, expected, fixes, () if order or fix or candidates else RESHAPE, candidates=candidates)


def _change_states(ctx: FailureContext, change: str, pair: str = "") -> Candidate:
    """Change each state that the line passes, ``self.rnn(x, (h.unsqueeze(0), c.unsqueeze(0)))``.

    Args:
        change: What becomes of a state, ``"{}.unsqueeze(0)"``.
        pair: What becomes of the name that an LSTM's two states have together; ``""`` as of one state.
    """

    def edit(arguments: list[str], keywords: dict[str, str]) -> Arguments | None:
        names = re.fullmatch(r"\((\w+), (\w+)\)|(\w+)", arguments[1]) if len(arguments) == 2 else None
        if names is None:
            return None
        if names[3]:
            return [arguments[0], (pair or change).format(names[3])], keywords
        return [arguments[0], f"({change.format(names[1])}, {change.format(names[2])})"], keywords

    return fix_call(ctx, edit)


def _deepen(ctx: FailureContext, wanted: tuple[int, ...]) -> Candidate:
    """Give learned states a row for each layer and direction: ``self.h0 = nn.Parameter(torch.zeros(2, 1, 64))``."""
    params = [(state, find_param(ctx, state)) for state in ctx.data[1:]]
    return reduce(operator.add, [resize_param(ctx, replace(x, param=param), [-3], wanted[0]) for x, param in params])


def _name_layers(ctx: FailureContext, layers: int) -> str:
    """Return the attribute of the user's module that holds the number of layers: ``"self.num_layers"``."""
    outer = ctx.flow.module_of(ctx.parent)
    settings = outer.settings if outer is not None else {}
    return next((f"self.{name}" for name, value in settings.items() if "layer" in name and value == layers), "")


def _read_state(ctx: FailureContext, giver: Call, change: str) -> Candidate:
    """Change the states in a line after the one that made them: ``h, c = h[-1], c[-1]``."""
    line, found = read_line(ctx, giver.source), re.findall(r"\w+", ctx.line)
    targets = find_targets(line)
    names = [name for name in targets if name in found] if giver.parent == ctx.call.parent else targets[1:]
    if not names or "_" in names or (giver.type_name == "LSTM" and len(names) != 2):
        return NOTHING
    changed = f"{', '.join(names)} = {', '.join(change.format(name) for name in names)}"
    return place_line(ctx, giver, f"{line}\n{changed}")


def _find_encoder(ctx: FailureContext, state: Operand) -> Call | None:
    """Return the recurrent layer whose state was passed on as it is."""
    maker = ctx.flow.producer(state.link)
    is_recurrent = maker is not None and maker.kind == "module" and maker.type_name in RECURRENTS
    return maker if is_recurrent else None


def _explain_encoder(ctx: FailureContext, state: Operand, giver: Call, wanted: tuple[int, ...]) -> Diagnosis:
    """An encoder's state does not have the layers and directions of the decoder that it starts."""
    fact = ctx.flow.module_of(giver)
    settings = fact.settings if fact is not None else {}
    layers, both = int(settings.get("num_layers", 1)), bool(settings.get("bidirectional"))
    directions = 2 if both else 1
    reason = f"the state of '{giver.path}' is {write_shape(state.shape)}: {layers} layers × {directions} directions; "
    reason += f"{ctx.owner} needs {write_shape(wanted)}"
    expected = f"a state {write_shape(wanted)}"
    fix = narrower = merged = NOTHING
    depth = state.shape[0] // (2 if ctx.setting("bidirectional") else 1)
    deeper = fix_module(ctx, num_layers=depth) if state.shape[1:] == wanted[1:] and depth else NOTHING
    wider = NOTHING
    if state.rank == len(wanted) == 3 and state.shape[2] != wanted[2]:
        reason += f": a hidden size of {state.shape[2]} against {wanted[2]}"
        layers_too = {"num_layers": depth} if state.shape[0] != wanted[0] else {}
        wider = fix_module(ctx, hidden_size=state.shape[2], **layers_too)
    if both and state.rank == 3 and (state.shape[0], 2 * state.shape[2]) == (2 * wanted[0], wanted[2]):
        reason += ", which both directions side by side have"
        fix = _change_states(
            ctx, "torch.cat([{0}[::2], {0}[1::2]], -1)", "tuple(torch.cat([s[::2], s[1::2]], -1) for s in {})"
        ) if ctx.function == "lstm" else _change_states(ctx, "torch.cat([{0}[::2], {0}[1::2]], -1)")  # fmt: skip
    elif state.shape[1:] == wanted[1:] and both and state.shape[0] == 2 * wanted[0] and fact is not None:
        summed = "{}.sum(0, keepdim=True)" if layers == 1 else f"{{}}.unflatten(0, ({layers}, 2)).sum(1)"
        fix = fix_argument(ctx, summed, position=1) if giver.type_name != "LSTM" else NOTHING
        merged = _read_state(ctx, giver, summed)
        narrower = set_value(giver.path, write_module(fact, ctx.trace, bidirectional=False))
    return Diagnosis(reason, expected, [fix, merged, narrower, deeper, wider])
