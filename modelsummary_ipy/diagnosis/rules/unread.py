"""The rule that finds what a forward computes and no later line reads."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache

from modelsummary_ipy.diagnosis.call_arguments import argument
from modelsummary_ipy.diagnosis.failures.statements import find_function, read_last_statement
from modelsummary_ipy.diagnosis.formatting import write_size
from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.torch_names import (
    CATS,
    CONVOLUTIONS,
    FACTORIES,
    POOLS,
    RECURRENTS,
    RESHAPES,
    TRANSPOSES,
    is_weighted,
)
from modelsummary_ipy.model.torch_layers import classes_of, names_of
from modelsummary_ipy.records.packages import INSTALLED
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.records.trace import Call, Link, Source
from modelsummary_ipy.shapes.windows import read_windows

_LEFT_OVER = TRANSPOSES | {"getitem", "unsqueeze", "squeeze", "detach", "randperm", "item", "argmax", "to", "clone"}
_PARTINGS = frozenset({"chunk", "split", "unbind", "tensor_split"})
_CELLS = classes_of("recurrent cell")
_DROPOUTS = names_of("dropout")


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
    if not evidence.calls[0].outputs and (lost := _explain_no_output(evidence)) is not None:
        yield lost
        return
    reached = {step.index for link in evidence.calls[0].output_links for step in evidence.flow.before(link)}
    yield from _find_dead_layers(evidence, reached)
    yield from _find_unread_names(evidence, reached)
    yield from _find_repeated_steps(evidence)
    yield from _find_skipped_entries(evidence)
    yield from _find_lost_states(evidence)
    for step in evidence.flow.steps:
        is_idle = step.outputs and step.index not in reached and not step.inplace
        if is_idle and not evidence.flow.readers(step) and _is_dropped(step):
            what = f"'{step.path}'" if step.kind == "module" else f"{step.type_name}()"
            shape = step.outputs[0].shape
            message = f"what {what} returns, {write_size(shape)}, is not kept: the line gives it no name"
            yield evidence.flag(
                "unread-result", "warning", step, message, "h = … in front of it", "dropped", shape=shape
            )
        elif step.type_name in CATS | {"stack"} and len(step.input_links) > 1 and _are_same(evidence, step.input_links):
            is_state = any(reader.type_name in RECURRENTS for reader in evidence.flow.readers(step))
            if not is_state and any(map(is_weighted, evidence.flow.before(step.input_links[0]))):
                message = (
                    f"{step.type_name} of {write_size(step.inputs[0].shape)} with itself: the parts are one tensor"
                )
                yield evidence.flag("unread-result", "warning", step, message, "the tensor of the other branch", "cat",
                    shape=step.inputs[0].shape,
                )  # fmt: skip
        elif step.type_name in ("add", "add_") and len(step.input_links) == 2 and _is_of_itself(evidence, step):
            name = _find_unread_alias(step.source)
            if name or _adds_a_name_twice(step.source) or _is_handed_on(evidence, step):
                message = f"a tensor of {write_size(step.inputs[0].shape)} is added to itself"
                message += f", and no line reads {name}" if name else ""
                fix = f"add {name} instead" if name else "add what the block was given; 2 * x if that is meant"
                yield evidence.flag("unread-result", "warning", step, message, fix, "itself",
                    shape=step.inputs[0].shape,
                )  # fmt: skip
    yield from _find_unread_inputs(evidence)


def _explain_no_output(evidence: Evidence) -> Flag | None:
    """A forward that ends without a return, or returns a layer that was made of a tensor: ``return nn.Softmax(x)``."""
    fact, steps = evidence.modules[0], [step for step in evidence.flow.steps if is_weighted(step)]
    last = read_last_statement(fact.forward_file, fact.forward_line)
    function = find_function(Source("", fact.forward_line + 1, "", fact.forward_file))
    if not steps or function is None:
        return None
    made = next((write_size(step.outputs[0].shape) for step in reversed(steps) if step.outputs), "")
    returns = [node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value is not None]
    if not returns and last is not None:
        name = last[1] or last[0].text
        message = f"{fact.type_name}.forward has no return: it gives None, and {made} is lost"
        return evidence.flag("unread-result", "warning", evidence.calls[0], message, f"return {name}", "no-return")
    for value in returns:
        if (
            isinstance(value, ast.Call)
            and value.args
            and re.fullmatch(r"(?:torch\.)?nn\.([A-Z]\w+)", ast.unparse(value.func))
        ):
            text, name = ast.unparse(value), ast.unparse(value.func)
            message = f"{text} makes a layer with a tensor for its settings, and the model returns it; {made} is lost"
            fix = f"return {name}(…)({ast.unparse(value.args[0])})"
            return evidence.flag("unread-result", "warning", evidence.calls[0], message, fix, "no-return")
    return None


def _find_unread_inputs(evidence: Evidence) -> Iterator[Flag]:
    """A tensor that the model is given and nothing reads, beside others that are read.

    It is a note where the forward mentions it, and where it is unlike all that is read and is no mask.
    """
    root = evidence.calls[0]
    read = {link.leaf for call in evidence.calls[1:] for link in call.input_links if link is not None and link.call < 0}
    function = find_function(Source("", evidence.modules[0].forward_line + 1, "", evidence.modules[0].forward_file))
    for leaf, fact in enumerate(evidence.inputs):
        spec = fact.spec
        if len(spec.shape) < 2 or leaf in read or not read or Link(-1, leaf) in root.output_links:
            continue
        likes = [evidence.inputs[other].spec for other in read]
        is_like = any((other.shape, other.dtype) == (spec.shape, spec.dtype) for other in likes)
        is_unsaid = function is not None and not _reads(function, spec.name)
        is_forgotten = function is not None and is_like and ("float" in spec.dtype or is_unsaid)
        is_forgotten = is_forgotten or ("mask" in spec.name and is_unsaid)
        if is_forgotten or "float" in spec.dtype:
            message = f"nothing reads input {spec.name or leaf} of {write_size(spec.shape)}"
            yield evidence.flag("unread-result", "warning" if is_forgotten else "note", root, message,
                "read it, or leave it out", "input", shape=spec.shape,
            )  # fmt: skip


def _find_dead_layers(evidence: Evidence, reached: set[int]) -> Iterator[Flag]:
    """Layers of which no output is read: the one that is overwritten, all but the last of a loop, the last of two."""
    flow, root = evidence.flow, evidence.calls[0]
    used = {index for step in flow.steps if step.index in reached for index in _params_of(step)}
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
        dead = [before for before in (step, *_before(evidence, step)) if _params_of(before) - used]
        idle = {index for before in dead for index in _params_of(before)} - used
        count = sum(evidence.params[index].num for index in idle if evidence.params[index].trainable)
        name = _find_unread(outer.source, is_one=_is_one_of_many(evidence, outer, reached)) if count else ""
        if name and name not in told and not _is_dropped(step):
            told.add(name)
            call = outer if outer.kind == "module" else dead[0]
            message = f"{name} is made here, of {count:,} parameters, and no later line reads it"
            yield evidence.flag("unread-result", "warning", call, message, f"let the next line read {name}",
                "overwritten", num_params=count,
            )  # fmt: skip


def _before(evidence: Evidence, step: Call) -> Iterator[Call]:
    for link in step.input_links:
        yield from evidence.flow.before(link)


def _params_of(step: Call) -> set[int]:
    return {*step.params, *(index for index in step.input_params if index is not None)}


def _is_one_of_many(evidence: Evidence, call: Call, reached: set[int]) -> bool:
    """Return whether the line ran again, with another layer, and what that made is read."""
    others = [other for other in evidence.calls if other.source == call.source and other.type_name == call.type_name]
    return any(other.index in reached and other.index > call.index for other in others)


def _find_unread_names(evidence: Evidence, reached: set[int]) -> Iterator[Flag]:
    """A line of a forward that names a tensor, ``identity = x``, ``mask = ids != 0``, where no line reads the name."""
    for fact in evidence.modules:
        first = evidence.first_call_of(fact.index)
        if first is None or not fact.forward_file or fact.forward_file.startswith(INSTALLED):
            continue
        function = find_function(Source("", fact.forward_line + 1, "", fact.forward_file))
        if function is None:
            continue
        made = {
            step.source.line: step
            for step in evidence.flow.steps
            if step.source and step.source.filename == fact.forward_file and step.index not in reached
        }
        ends = {step.index for step in made.values() if not evidence.flow.readers(step)}
        works = {step.source.line for step in evidence.flow.steps if step.source and _is_work(step)}
        given = {spec.name for spec in first.inputs} | {argument.arg for argument in function.args.args[1:2]}
        for statement in function.body:
            name, value = _target(statement), getattr(statement, "value", None)
            yield from _find_unread_parts(evidence, function, statement, fact.forward_file)
            if not name or _reads(function, name):
                continue
            step = made.get(statement.lineno)
            if isinstance(value, ast.Name) and value.id in given and not _is_added_to(evidence, first):
                message = f"line {statement.lineno} keeps {value.id} of {write_size(first.inputs[0].shape)} as {name},"
                message += " and no line reads that"
                yield evidence.flag("unread-result", "warning", first, message, f"add {name} before the return", "kept",
                    shape=first.inputs[0].shape,
                )  # fmt: skip
            elif step is not None and step.index in ends and statement.lineno in works:
                message = f"{name} of {write_size(step.outputs[0].shape)} is made here, and no line reads it"
                yield evidence.flag("unread-result", "warning", step, message, f"read {name}, or leave the line out",
                    "name", shape=step.outputs[0].shape,
                )  # fmt: skip


def _is_work(step: Call) -> bool:
    """Return whether a step computes: what only has another shape, or is made of nothing, may be left over."""
    return step.kind == "op" and not _params_of(step) and step.type_name not in _LEFT_OVER | RESHAPES | FACTORIES


def _find_unread_parts(
    evidence: Evidence, function: ast.FunctionDef, statement: ast.stmt, filename: str
) -> Iterator[Flag]:
    """``a, b = h.chunk(2, 1)`` where no line reads ``b``, nor any tensor that it is."""
    names = [name for name in _targets(statement) if not _reads(function, name)]
    for step in evidence.flow.steps if names else ():
        is_here = step.source and step.source.filename == filename and step.source.line == statement.lineno
        if is_here and step.type_name in _PARTINGS and len(step.outputs) > 1:
            idle = [leaf for leaf in range(len(step.outputs)) if not evidence.flow.reads.get(Link(step.index, leaf))]
            if 0 < len(idle) < len(step.outputs):
                shape = step.outputs[idle[0]].shape
                message = f"{' and '.join(names)} of {write_size(shape)}, a part of {len(step.outputs)}, is not read"
                yield evidence.flag("unread-result", "warning", step, message, "read it, or name it _",
                    "part", shape=shape,
                )  # fmt: skip


def _is_added_to(evidence: Evidence, call: Call) -> bool:
    """Return whether a sum reads what a module is given."""
    given = set(call.input_links) - {None}
    return any(step.type_name.startswith("add") and given & set(step.input_links) for step in evidence.flow.steps)


def _find_repeated_steps(evidence: Evidence) -> Iterator[Flag]:
    """One entry of an input that is taken at each turn of a loop, or one of two, where nothing reads the others."""
    for leaf, fact in enumerate(evidence.inputs):
        reads = [call for call, _ in evidence.flow.reads.get(Link(-1, leaf), ()) if evidence.flow.is_step(call)]
        reads = [call for call in reads if call.type_name not in FACTORIES]
        taken = {number for call in reads for number in _find_taken(evidence, call)}
        dim, number = taken.pop() if len(taken) == 1 else (0, None)
        size = fact.spec.shape[dim] if number is not None else 0
        is_loop = len(reads) > 2 and len({call.source for call in reads}) == 1 and dim > 0
        if number is not None and (is_loop or (size == 2 and "int" in fact.spec.dtype)):
            times = f", {len(reads)} times" if is_loop else ""
            message = f"of {write_size(fact.spec.shape)} only entry {number} of dim {dim} is read{times}"
            fix = "index it by the loop's variable" if is_loop else "read the other one too"
            yield evidence.flag("unread-result", "warning", reads[0], message, fix, "step", shape=fact.spec.shape)


def _find_taken(evidence: Evidence, call: Call) -> list[tuple[int, int | None]]:
    """List which entries of which dim a step takes and hands on; an entry of None for a step that takes all."""
    index = argument(call, "1", "index") if call.type_name == "getitem" else None
    parts = index if isinstance(index, tuple) else (index,)
    for dim, part in enumerate(parts):
        if isinstance(part, int) and not isinstance(part, bool) and all(other == slice(None) for other in parts[:dim]):
            return [(dim, part)] if evidence.flow.readers(call) else []
    if call.type_name == "unbind" and not argument(call, "dim", "1", default=0):
        return [(0, leaf) for leaf in range(len(call.outputs)) if evidence.flow.readers(call, leaf)]
    return [(0, None)]


def _find_skipped_entries(evidence: Evidence) -> Iterator[Flag]:
    """A kernel of at most half its stride: it does not read what lies between. A kernel of 1 only thins out."""
    for step in evidence.flow.steps:
        windows = read_windows(step, evidence.modules) if step.type_name in CONVOLUTIONS | POOLS else ()
        for window in windows:
            if window is not None and window.kernel > 1 and 2 * window.extent <= window.stride:
                what = "leaves zeros between" if "Transpose" in step.type_name else "never reads what lies between"
                message = (
                    f"{step.type_name} of kernel {window.kernel} goes on by a stride of {window.stride}: it {what}"
                )
                yield evidence.flag("unread-result", "warning", step, message, "a kernel as large as the stride",
                    "stride", kernel=window.kernel, stride=window.stride,
                )  # fmt: skip
                break


def _find_lost_states(evidence: Evidence) -> Iterator[Flag]:
    """A recurrent cell that begins with the same state at each turn of a loop, and reads another step."""
    turns: dict[object, list[Call]] = {}
    for call in evidence.calls:
        if call.type_name in _CELLS and len(call.input_links) > 1:
            turns.setdefault((call.module, call.source, call.input_links[1:]), []).append(call)
    for calls in turns.values():
        if len({call.input_links[0] for call in calls}) > 2:
            message = f"{calls[0].type_name} begins {len(calls)} times with the same state, of "
            message += f"{write_size(calls[0].inputs[1].shape)}: what it makes is not given to the next step"
            yield evidence.flag("unread-result", "warning", calls[0], message, "h = self.cell(x[:, t], h)", "state",
                shape=calls[0].inputs[1].shape,
            )  # fmt: skip


def _are_same(evidence: Evidence, links: Sequence[Link | None]) -> bool:
    """Return whether tensors are one, or what the same operation made twice of one."""
    if len(set(links)) == 1:
        return links[0] is not None
    makers = [evidence.flow.producer(link) for link in links]
    made = {
        None if maker is None or maker.kind != "op" or link is None else (
            maker.type_name, maker.input_links, repr(maker.arguments), maker.input_params, link.leaf
        ) for maker, link in zip(makers, links, strict=True)
    }  # fmt: skip
    names = {maker.type_name for maker in makers if maker is not None}
    return len(made) == 1 and None not in made and not names & (FACTORIES | _DROPOUTS | {"rand_like", "randn_like"})


def _is_of_itself(evidence: Evidence, step: Call) -> bool:
    """Return whether both operands are one tensor, the second behind a dropout perhaps."""
    one, other = step.input_links
    maker = evidence.flow.producer(other)
    if maker is not None and maker.type_name in _DROPOUTS:
        other = maker.input_links[0]
    return one is not None and one == other


def _is_handed_on(evidence: Evidence, step: Call) -> bool:
    """Return whether a layer, ``nn.Identity()`` say, gave back the very tensor, or a dropout a part of it."""
    one, other = (evidence.flow.producer(link) for link in step.input_links)
    is_dropped = other is not None and other is not one and other.type_name in _DROPOUTS
    return is_dropped or (one is not None and evidence.flow.hands_on(one))


def _is_dropped(step: Call) -> bool:
    """Return whether a line is only the call, as ``x.view(-1, 400)`` and ``self.conv(x)``, not ``layer.to(device)``."""
    function = find_function(step.source) if step.source is not None else None
    if function is None or step.source is None or not any(step.input_links):
        return False
    name = step.path.rpartition(".")[2] if step.kind == "module" else step.type_name
    return any(first <= step.source.line <= last and name == called for first, last, called in _list_bare(function))


@lru_cache(maxsize=64)
def _list_bare(function: ast.FunctionDef) -> tuple[tuple[int, int, str], ...]:
    """List the statements of a function that are nothing but a method's call: first and last line, and its name."""
    calls = (
        (node, node.value.func)
        for node in ast.walk(function)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )
    return tuple(
        (node.lineno, node.end_lineno or 0, called.attr) for node, called in calls if isinstance(called, ast.Attribute)
    )


def _find_unread(source: Source | None, *, is_one: bool = False) -> str:
    """Return the local name that a line assigns and no later line of its block reads; ``""`` if one does.

    A name that is also read before, in a loop or in a function inside, is left alone.

    Args:
        is_one: Whether the line ran several times, and what it made at another turn is read: the name may be read then.
    """
    function = find_function(source) if source is not None else None
    if source is None or function is None:
        return ""
    for at, statement in enumerate(function.body):
        if not statement.lineno <= source.line <= (statement.end_lineno or 0):
            continue
        if isinstance(statement, ast.For):
            inner = [node for node in ast.walk(statement) if isinstance(node, ast.Assign)]
            names = [name for node in inner if node.lineno == source.line for name in _targets(node)]
            around = statement if is_one else function
            return "" if any(_reads(around, name) for name in names) else ", ".join(names)
        live = names = _targets(statement)
        for later in function.body[at + 1 :]:
            if any(_reads(later, name) for name in live):
                return ""
            live = [name for name in live if name not in _targets(later)]
        return ", ".join(names)
    return ""


def _find_unread_alias(source: Source | None) -> str:
    """Return the local name to which another name was given, ``identity = x``, and that no line reads."""
    function = find_function(source) if source is not None else None
    for statement in function.body if function is not None else ():
        is_alias = isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Name)
        name = _target(statement) if is_alias else ""
        if name and function is not None and not _reads(function, name):
            return name
    return ""


def _adds_a_name_twice(source: Source | None) -> bool:
    """Return whether a line says ``x + x`` or ``x += x``."""
    function = find_function(source) if source is not None else None
    if source is None or function is None:
        return False
    for node in ast.walk(function):
        if not isinstance(node, (ast.BinOp, ast.AugAssign)) or node.lineno != source.line:
            continue
        sides = (node.left, node.right) if isinstance(node, ast.BinOp) else (node.target, node.value)
        names = [side.id for side in sides if isinstance(side, ast.Name)]
        if isinstance(node.op, ast.Add) and len(names) == 2 and names[0] == names[1]:
            return True
    return False


def _target(statement: ast.stmt) -> str:
    """Return the one name that a statement assigns; ``""`` for any other statement."""
    names = _targets(statement)
    is_one = isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
    return names[0] if names and is_one else ""


def _targets(statement: ast.stmt) -> list[str]:
    """List the names that a statement assigns, without those that begin with ``_``; none if it assigns other things."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return []
    parts = list(ast.walk(statement.targets[0]))
    if any(isinstance(part, (ast.Attribute, ast.Subscript)) for part in parts):
        return []
    return [part.id for part in parts if isinstance(part, ast.Name) and not part.id.startswith("_")]


def _reads(node: ast.AST, name: str) -> bool:
    return any(
        isinstance(item, ast.Name) and item.id == name and isinstance(item.ctx, (ast.Load, ast.Del))
        for item in ast.walk(node)
    )


RULES = {"unread-result": find_unread_results}
