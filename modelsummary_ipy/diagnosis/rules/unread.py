"""The rule that finds what a forward computes and nothing reads, by the flow of its tensors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.statements import find_function
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.itself import check_itself
from modelsummary_ipy.diagnosis.rules.unread_entries import find_repeated_entries
from modelsummary_ipy.diagnosis.rules.unread_names import (
    explain_no_output,
    find_unread,
    find_unread_names,
    is_dropped,
    reads,
)
from modelsummary_ipy.diagnosis.torch_names import CONVOLUTIONS, POOLS, RECURRENTS, params_of
from modelsummary_ipy.diagnosis.windows import read_windows
from modelsummary_ipy.model.torch_layers import classes_of
from modelsummary_ipy.records.packages import INSTALLED
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, Severity, Source, TensorSpec

#: In names of inputs that say which entries of another input count.
_TELLING = re.compile(r"mask|^len|_len|^batch$|weight")
_CELLS = classes_of("recurrent cell")


def find_unread_results(evidence: Evidence) -> Iterator[Flag]:
    """Find what is made, held or given and read by nothing, and a tensor that meets itself.

    Finds ``h = self.a(x)`` before ``h = self.b(x)``, ``h = layer(x)`` in a loop that goes on with ``x``, a line
    ``x.view(-1, 400)`` alone, ``identity = x`` and a mask that no line reads, ``out + out``, ``cat([u, u])``, the
    same step of a sequence at every turn, a second input like the first that nothing reads. Leaves alone what a line
    reads in a branch that was not taken, what is kept in an attribute, names of ``_``, colours made of one.
    """
    trace = evidence.story.trace
    if trace.failure is not None or not evidence.calls:
        return
    if not evidence.calls[0].outputs and (lost := explain_no_output(evidence)) is not None:
        yield lost
        return
    reached = {step.index for step in evidence.flow.before(*evidence.calls[0].output_links)}
    yield from _find_dead_layers(evidence, reached)
    yield from _find_ignored_arguments(evidence, reached)
    yield from find_unread_names(evidence, reached)
    yield from find_repeated_entries(evidence)
    yield from _find_skipped_entries(evidence)
    yield from _find_lost_states(evidence)
    for step in evidence.flow.steps:
        is_idle = step.outputs and step.index not in reached and not step.inplace
        if is_idle and not evidence.flow.readers(step) and is_dropped(step):
            what = f"'{step.path}'" if step.kind == "module" else f"{step.type_name}()"
            shape = step.outputs[0].shape
            message = f"what {what} returns, {write_size(shape)}, is not kept: the line gives it no name"
            yield evidence.flag(
                "unread-result", "warning", step, message, "h = … in front of it", "dropped", shape=shape
            )
        yield from check_itself(evidence, step)
    yield from _find_unread_inputs(evidence)


def _find_unread_inputs(evidence: Evidence) -> Iterator[Flag]:
    """A tensor that the model is given and nothing reads, beside others that are read.

    It is a note where the forward mentions it, or can be called without it.
    """
    root = evidence.calls[0]
    read = {
        link.leaf
        for link, pairs in evidence.flow.reads.items()
        if link.call < 0 and not all(pair[0].index == 0 or _ignores(evidence, *pair) for pair in pairs)
    }
    function = find_function(Source("", evidence.modules[0].forward_line + 1, "", evidence.modules[0].forward_file))
    for leaf, fact in enumerate(evidence.inputs):
        spec = fact.spec
        if (
            (len(spec.shape) < 2 and not _TELLING.search(spec.name))
            or leaf in read
            or fact.is_shared
            or not read
            or Link(-1, leaf) in root.output_links
        ):
            continue
        likes = [evidence.inputs[other].spec for other in read]
        is_like = any((other.shape, other.dtype) == (spec.shape, spec.dtype) for other in likes)
        is_unsaid = function is not None and not reads(function, spec.name)
        is_forgotten = function is not None and is_like and ("float" in spec.dtype or is_unsaid)
        is_forgotten = is_forgotten or (
            is_unsaid and (_TELLING.search(spec.name) is not None or _is_asked_for(function, spec))
        )
        if is_forgotten or ("float" in spec.dtype and len(spec.shape) > 1):
            message = f"nothing reads input {spec.name or leaf} of {write_size(spec.shape)}"
            yield evidence.flag("unread-result", "warning" if is_forgotten else "note", root, message,
                "read it, or leave it out", "input", shape=spec.shape,
            )  # fmt: skip


def _is_asked_for(function: ast.FunctionDef | None, spec: TensorSpec) -> bool:
    """Return whether a forward cannot be called without a tensor of numbers."""
    given = function.args.args[: len(function.args.args) - len(function.args.defaults)] if function is not None else []
    return "float" in spec.dtype and spec.name in [argument.arg for argument in given]


def _find_dead_layers(evidence: Evidence, reached: set[int]) -> Iterator[Flag]:
    """Layers of which no output is read: the one that is overwritten, all but the last of a loop, the last of two."""
    flow, root = evidence.flow, evidence.calls[0]
    used = {index for step in flow.steps if step.index in reached for index in params_of(step)}
    handed = {link: call for call in reversed(evidence.calls) for link in call.output_links if link is not None}
    told: set[str] = set()
    for step in flow.steps:
        if step.index in reached or step.inplace or not step.outputs:
            continue
        ends = [handed.get(Link(step.index, leaf), step) for leaf in range(len(step.outputs))]
        outer = min([*ends, step], key=lambda call: call.depth)
        links = [*outer.output_links, *(Link(step.index, leaf) for leaf in range(len(step.outputs)))]
        if outer.index == root.index or any(flow.reads.get(link) for link in links if link is not None):
            continue
        dead = [before for before in (step, *flow.before(*step.input_links)) if params_of(before) - used]
        idle = {index for before in dead for index in params_of(before)} - used
        count = sum(evidence.params[index].num for index in idle if evidence.params[index].trainable)
        name = find_unread(outer.source, is_one=_is_one_of_many(evidence, outer, reached)) if count else ""
        if name and name not in told and not is_dropped(step):
            told.add(name)
            call = outer if outer.kind == "module" else dead[0]
            message = f"{name} is made here, of {count:,} parameters, and no later line reads it"
            yield evidence.flag("unread-result", "warning", call, message, f"let the next line read {name}",
                "overwritten", num_params=count,
            )  # fmt: skip


def _find_ignored_arguments(evidence: Evidence, reached: set[int]) -> Iterator[Flag]:
    """What layers made is given to modules alone, and none of their forwards reads the argument that it is."""
    used = {index for step in evidence.flow.steps if step.index in reached for index in params_of(step)}
    for link, pairs in evidence.flow.reads.items():
        if link.call < 0 or link.call in reached or not all(_ignores(evidence, *pair) for pair in pairs):
            continue
        made = {index for before in evidence.flow.before(link) for index in params_of(before)} - used
        count = sum(evidence.params[index].num for index in made if evidence.params[index].trainable)
        if count:
            (call, position), owner = pairs[0], evidence.flow.module_of(pairs[0][0])
            spec = call.inputs[position]
            message = f"{owner.type_name if owner else ''}.forward does not read {spec.name} of "
            message += f"{write_size(spec.shape)}: what {count:,} parameters made reaches no output"
            yield evidence.flag("unread-result", "warning", call, message, f"read {spec.name} in it", "argument",
                shape=spec.shape, num_params=count,
            )  # fmt: skip


def _ignores(evidence: Evidence, call: Call, position: int) -> bool:
    """Return whether a module of the user's is given a tensor by an argument that its forward does not mention."""
    fact, name = evidence.flow.module_of(call), call.inputs[position].name
    if fact is None or not fact.forward_file or fact.forward_file.startswith(INSTALLED):
        return False
    function = find_function(Source("", fact.forward_line + 1, "", fact.forward_file))
    if function is None or reads(function, name):
        return False
    return any(argument.arg == name for argument in (*function.args.args, *function.args.kwonlyargs))


def _is_one_of_many(evidence: Evidence, call: Call, reached: set[int]) -> bool:
    """Return whether the line ran again, with another layer, and what that made is read."""
    others = [other for other in evidence.calls if other.source == call.source and other.type_name == call.type_name]
    return any(other.index in reached and other.index > call.index for other in others)


def _find_skipped_entries(evidence: Evidence) -> Iterator[Flag]:
    """A kernel of at most half its stride: it does not read what lies between. A kernel of 1 only thins out.

    Where each channel is convolved by itself it thins out as well, as a pool of keys does: a note.
    """
    for step in evidence.flow.steps:
        windows = read_windows(step, evidence.modules) if step.type_name in CONVOLUTIONS | POOLS else ()
        for window in windows:
            if window is not None and window.kernel > 1 and 2 * window.extent <= window.stride:
                what = "leaves zeros between" if "Transpose" in step.type_name else "never reads what lies between"
                message = f"{step.type_name} of kernel {window.kernel} goes on by a stride of {window.stride}: it "
                message += f"{what}"
                groups = evidence.flow.setting(step, "groups", 1)
                severity: Severity = "note" if groups == step.inputs[0].shape[1] > 1 else "warning"
                yield evidence.flag("unread-result", severity, step, message, "a kernel as large as the stride",
                    "stride", kernel=window.kernel, stride=window.stride,
                )  # fmt: skip
                break


def _find_lost_states(evidence: Evidence) -> Iterator[Flag]:
    """A recurrent cell that begins with the same state at each turn of a loop, and reads another step.

    So does a layer that reads what it made at the turn before.
    """
    turns: dict[object, list[Call]] = {}
    for call in evidence.calls:
        if call.type_name in _CELLS | RECURRENTS and call.kind == "module" and len(call.input_links) > 1:
            turns.setdefault((call.module, call.source, call.input_links[1:]), []).append(call)
    for calls in turns.values():
        is_one = evidence.flow.leads_to(calls[0], calls[-1].input_links[0])
        is_one = calls[0].type_name in _CELLS or (is_one and len({call.inputs[0].shape for call in calls}) == 1)
        if len({call.input_links[0] for call in calls}) > 2 and is_one:
            message = f"{calls[0].type_name} begins {len(calls)} times with the same state, of "
            message += f"{write_size(calls[0].inputs[1].shape)}: what it makes is not given to the next step"
            yield evidence.flag("unread-result", "warning", calls[0], message, "h = self.cell(x[:, t], h)", "state",
                shape=calls[0].inputs[1].shape,
            )  # fmt: skip


RULES = {"unread-result": find_unread_results}
