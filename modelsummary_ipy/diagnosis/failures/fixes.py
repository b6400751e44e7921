"""Fixes that several families of failures share: on the failing line, on the line that made a tensor, at a layer."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from modelsummary_ipy.diagnosis.failures.context import NOTHING, FailureContext, Operand
from modelsummary_ipy.diagnosis.failures.module_code import name_member, write_change, write_insertion, write_module
from modelsummary_ipy.diagnosis.failures.source_edits import (
    change_call,
    change_operation,
    drop_undone,
    names_operands,
    put_before,
    set_argument,
    wrap_argument,
)
from modelsummary_ipy.diagnosis.failures.source_nodes import EditCall, find_operands, read_call
from modelsummary_ipy.diagnosis.failures.statements import (
    Statement,
    drop_remark,
    find_loop_names,
    find_parameters,
    list_forward_parameters,
    use_imports,
)
from modelsummary_ipy.diagnosis.torch_names import CATS, ELEMENTWISE, RECURRENTS
from modelsummary_ipy.model.torch_layers import OUTPUT_SETTINGS
from modelsummary_ipy.records.fixes import AroundEdit, Candidate, GivenEdit, InputEdit, LayerEdit, LineEdit, SettingEdit
from modelsummary_ipy.records.trace import Call, ModuleFact, Source


def fix_argument(ctx: FailureContext, template: str, around: str = "{}", position: int = 0) -> Candidate:
    """Change what the failing line passes on.

    Args:
        template: What becomes of the argument: ``"{}.flatten(1)"``.
        around: What becomes of the result: ``"{}.transpose(1, 2)"``; with the argument as it was,
            ``"{0}.unflatten(0, {1}.shape[:2])"``, where a line names the layer.
        position: Which argument.

    Returns:
        The new line, or ``"x.flatten(1) before 'head.3'"`` where the line does not name the layer.
    """
    call = ctx.call
    whole = _fix_whole_input(ctx, template, around, position)
    if call.kind == "op":
        found = fix_operand(ctx, position, template, around)
        return whole if whole and (not found or found.edits_a_package) else found
    for outer in _list_callers(ctx, call):
        for name in [] if _is_in_sequence(ctx, outer) else list_names(ctx, outer.path):
            new = fix_line(ctx, wrap_argument(ctx.line, name, template, position, around, _count_earlier(ctx, outer)))
            if new:
                return whole if whole and new.edits_a_package else new
    if whole and (ctx.is_in_package or not call.path):
        return whole
    if not call.path or position or names_operands(template) or "{1}" in around:
        return NOTHING
    before = template.format("x")
    after = around.format("y") if around != "{}" else ""
    layer = _write_layer(before) if not after and _is_in_sequence(ctx, call) else ""
    if layer:
        return Candidate(write_insertion(call.path, layer), (AroundEdit(call.path, before, after, layer),))
    if whole:
        return whole
    text = f"{before} before {ctx.owner}" + (f" and {after} after it" if after else "")
    return Candidate(text, (AroundEdit(call.path, before, after),))


def _count_earlier(ctx: FailureContext, call: Call) -> int:
    """Count how often the failing line called a module before, in this call of the module around."""
    calls = ctx.trace.calls[: max(call.index, 0)]
    return sum((c.path, c.source, c.parent) == (call.path, call.source, call.parent) for c in calls)


def _fix_whole_input(ctx: FailureContext, template: str, around: str, position: int) -> Candidate:
    """Change an input of the model before it is called, where the failing line is in a package or in torch's own.

    ``"model(x.permute(0, 3, 1, 2))"``; of several inputs one of a layer or a loss alone,
    ``"model(input, target.squeeze(1))"``; nothing where the line reads something else.
    """
    facts = ctx.trace.inputs
    operands = ctx.data if ctx.call.kind == "module" else ctx.operands
    if around != "{}" or names_operands(template) or ctx.trace.method != "forward":
        return NOTHING
    if position >= len(operands) or not operands[position].is_input:
        return NOTHING
    root, link = ctx.trace.modules[0], operands[position].link
    is_alone = not root.children
    if not ctx.is_in_package and not is_alone and root.type_name != "Sequential":
        return NOTHING
    if len(facts) == 1:
        change = template.format("x")
        return Candidate(f"model({change})", (AroundEdit("", change),))
    names = _name_inputs(ctx)
    if link is None or not names:
        return NOTHING
    name = names[link.leaf]
    change = re.sub(r"\bF\.", "torch.nn.functional.", template.format(name))  # the user may not have imported it
    words = ", ".join(change if other == name else other for other in names)
    text = f"model({words})" if root.type_module.startswith("torch.") else f"{name} = {change}"  # it takes no more
    return Candidate(text, (GivenEdit(((name, change),)),))


def _name_inputs(ctx: FailureContext) -> list[str]:
    """Name the inputs of a layer or a loss alone, which no line of a model calls, as its forward does."""
    root = ctx.trace.modules[0]
    places = {f"[{place}]": name for place, name in enumerate(list_forward_parameters(root))}
    names = [places.get(fact.spec.name, fact.spec.name) for fact in ctx.trace.inputs]
    return names if not root.children and all(name.isidentifier() for name in names) else []


def _is_in_sequence(ctx: FailureContext, call: Call) -> bool:
    """Return whether a layer is run by an ``nn.Sequential``, and not by a line of the user's."""
    outer = ctx.trace.calls[call.parent] if call.parent is not None else None
    return outer is not None and outer.type_name == "Sequential" and call.path.rpartition(".")[2].isdigit()


_LAYERS = {r"x\.flatten\(1\)": "nn.Flatten()", r"x\.flatten\((\d+)\)": r"nn.Flatten(\1)",
           r"x\.unflatten\((.+)\)": r"nn.Unflatten(\1)"}  # fmt: skip


def _write_layer(expression: str) -> str:
    """Write a change of ``x`` as a layer: ``"nn.Flatten()"`` for ``"x.flatten(1)"``; ``""`` if torch has none."""
    for pattern, layer in _LAYERS.items():
        if (found := re.fullmatch(pattern, expression)) is not None:
            return found.expand(layer)
    return ""


def list_names(ctx: FailureContext, path: str) -> list[str]:
    """List what the failing line may call a layer: its attribute, for an item of a list also the name in a loop."""
    if path.startswith("("):  # made by the forward itself, or no child of the model's: a loss, mostly
        held = [name for name, item in ctx.failure.names.items() if item.kind == ctx.call.type_name]
        return [*held, ctx.call.type_name]
    name = name_member(path)
    if name or ctx.failure.source is None:
        return [name] if name else []
    container = next((piece for piece in reversed(path.split(".")) if not piece.isdigit()), "")
    found = find_loop_names(ctx.failure.source, container) if container else []
    return [*found, container] if container else found


def _list_callers(ctx: FailureContext, call: Call) -> list[Call]:
    """List a call and those around it that hand their own input on to it: of the first layer of a Sequential, that."""
    found = [call]
    for outer in ctx.flow.around(call):
        if outer.kind != "module" or outer.input_links[:1] != call.input_links[:1] or not outer.path:
            break
        found.append(outer)
    return found


def fix_giver(ctx: FailureContext, x: Operand, size: int, axis: int = -1) -> Candidate:
    """Let the layer that a dim comes from give another size; nothing if it is none of torch's that can."""
    origin = ctx.flow.find_origin(x.link, x.shape, axis, OUTPUT_SETTINGS)
    fact = ctx.flow.module_of(origin)
    if origin is not None and origin.type_name in ("chunk", "glu", "GLU"):  # as much more for every piece
        whole, piece = origin.inputs[0].shape[axis], origin.outputs[0].shape[axis]
        is_cut = piece == x.shape[axis] and whole > piece and not whole % piece
        return fix_giver(ctx, ctx.operands_of(origin)[0], size * (whole // piece), axis) if is_cut else NOTHING
    if origin is None or fact is None or origin.kind != "module" or fact.type_name in RECURRENTS:
        return NOTHING
    name = next((name for name in OUTPUT_SETTINGS if fact.settings.get(name) == x.shape[axis]), "")
    return remake(ctx, fact, **{name: size}) if name else NOTHING


def name_input_size(ctx: FailureContext, size: int) -> str:
    """Write the batch size by an argument of the function that the failing line is in: ``"x.size(0)"``; else ``""``."""
    facts = ctx.trace.inputs
    names = find_parameters(ctx.failure.source)
    if not facts or not facts[0].spec.shape or facts[0].spec.shape[0] != size or not names:
        return ""
    return f"{names[0]}.size(0)"


def name_size(ctx: FailureContext, x: Operand, axis: int) -> str:
    """Write a size of a tensor by the argument of the failing line that it is: ``"tgt.size(1)"``; ``""`` if none is."""
    for call in (ctx.call, *ctx.flow.around(ctx.call)):
        texts = read_arguments(ctx, call) if call.kind == "module" else []
        for text, link in zip(texts, call.input_links, strict=False):
            if link == x.link and (name := find_name(text)):
                return f"{name}.size({axis})"
    return ""


def fix_line(ctx: FailureContext, line: str) -> Candidate:
    """Write the failing statement anew; nothing if it stays as it is."""
    found = ctx.statement
    line = drop_undone(line if found is None else use_imports(found.filename, line))
    if not line or line == ctx.line:
        return NOTHING
    edits = () if found is None else (LineEdit(*found[:3], line),)
    return Candidate(line, edits)


def fix_call(ctx: FailureContext, edit: EditCall, *names: str) -> Candidate:
    """Write the failing line's call of one of these names anew, by default of the layer that failed."""
    lines = (change_call(ctx.line, name, edit) for name in names or [name_member(ctx.call.path)])
    return next((found for line in lines if (found := fix_line(ctx, line))), NOTHING)


def fix_operand(ctx: FailureContext, position: int, template: str, around: str = "{}") -> Candidate:
    """Change one operand of the failing operation, where the line holds it once; nothing otherwise.

    In the template ``{}`` is the operand, ``{0}`` and ``{1}`` the first and second; arguments that are no tensors don't
    count.
    """
    where = re.sub(r"\{\}", f"{{{position}}}", template)
    used = {int(found) for found in re.findall(r"\{(\d+)\}", where)} - {position}
    texts = read_arguments(ctx)
    # What is read twice must not be called twice: it gets a name in a line of its own in front, skip = skips.pop().
    twice = next((at for at in used if at < len(texts) and "(" in texts[at]), None)
    joins = ctx.function in CATS or ctx.function in ELEMENTWISE
    words = ("scores" if "softmax" in ctx.line else "skip" if joins else "whole", "other", "second")
    name = next(word for word in words if not re.search(rf"\b{word}\b", ctx.line))

    def edit(operands: list[str]) -> list[str] | None:
        places = list_tensors(ctx, operands)
        if len(places) <= max([position, *used]):
            return None
        named = [operands[place] for place in places]
        items = list(operands)
        if twice is not None:
            named[twice] = items[places[twice]] = name
        items[places[position]] = where.format(*named)
        return items

    changed = change_operation(ctx.line, ctx.call.type_name, edit, ctx.earlier, around)
    changed = re.sub(rf"(?<![\w\])])\({name}\)(?=\.)", name, changed)
    return fix_line(ctx, changed if twice is None else put_before(changed, f"{name} = {texts[twice]}", name))


def resize_operand(ctx: FailureContext, position: int, other: int) -> Candidate:
    """Interpolate one operand to the sides of another; where the line does so by a factor, to the sides instead."""
    texts = read_arguments(ctx)
    arguments, options = read_call(texts[position], "interpolate") if position < len(texts) else ([], {})
    sides = f"size={{{other}}}.shape[2:]"
    if len(arguments) == 1 and "scale_factor" in options and "{" not in texts[position]:
        kept = [f", {name}={text}" for name, text in options.items() if name != "scale_factor"]
        return fix_operand(ctx, position, f"F.interpolate({arguments[0]}, {sides}{''.join(kept)})")
    return fix_operand(ctx, position, f"F.interpolate({{}}, {sides})")


def list_tensors(ctx: FailureContext, texts: Sequence[str]) -> list[int]:
    """List which of the operands that a line writes may be tensors: numbers and strings are none."""
    places = [place for place, text in enumerate(texts) if not re.fullmatch(r"\(?-?[\d.e+-]+\)?|\(?[\"'].*", text)]
    return places if len(places) >= len(ctx.operands) else list(range(len(texts)))


def fix_module(ctx: FailureContext, **changes: object) -> Candidate:
    """Write the failed layer with other settings: ``"self.fc = nn.Linear(784, 10)"``; nothing if it is not torch's."""
    fact = ctx.fact
    if fact is None or find_earlier(ctx) is not None:
        return NOTHING
    return remake(ctx, fact, **changes)


def set_everywhere(ctx: FailureContext, path: str, name: str, value: object) -> Candidate:
    """Give a layer, and those in it that have the setting, another value of it.

    A transformer hands it on to its layers when it is made, and does not read it again.
    """
    fact = next(fact for fact in ctx.trace.modules if fact.path == path)
    text = write_change(f"{path}.{name}", repr(value))
    if fact.type_name.startswith("Transformer"):
        owner = write_change(path, "…").partition(" = ")[0] or "model"
        text = f"for layer in {owner}.modules(): layer.{name} = {value!r}"
    return Candidate(text, (SettingEdit(path, name, value),))


def add_batch(ctx: FailureContext) -> Candidate:
    """Give every input a batch of one; nothing if one has no dims, or the inputs are keywords of a container."""
    facts = ctx.trace.inputs
    if not facts or not all(fact.spec.shape for fact in facts):
        return NOTHING
    names = [fact.spec.name for fact in facts]
    plain = [name or "x" for name in names]
    if any(not name.isidentifier() for name in plain):
        return NOTHING
    specs = tuple(fact.spec._replace(shape=(1, *fact.spec.shape)) for fact in facts)
    words = ", ".join(f"{name}.unsqueeze(0)" for name in plain)
    method = "" if ctx.trace.method == "forward" else f".{ctx.trace.method}"
    return Candidate(f"model{method}({words})", (InputEdit(specs),))


def write_size(ctx: FailureContext, position: int, axis: int, call: Call | None = None) -> str:
    """Write a size of what the failing line passes on without a number: ``"x.size(0)"``; ``""`` if it has no name."""
    texts = read_arguments(ctx, call)
    if position >= len(texts):
        return ""
    name = find_name(texts[position])
    return f"{name}.size({axis})" if name else ""


def find_name(text: str) -> str:
    """Return the name that stands for a tensor in an expression: ``"x"`` in ``"self.embed(x)"``; ``""`` if several."""
    if text.isidentifier():
        return text
    found = re.fullmatch(r"[\w.\[\]]+\((\w+)\)", text)
    return found[1] if found is not None and not found[1].isdigit() else ""


def read_arguments(ctx: FailureContext, call: Call | None = None) -> list[str]:
    """Return what the failing line passes to what failed, or to another call, as it is written."""
    call = call or ctx.call
    if call.kind == "op":
        texts = find_operands(ctx.line, call.type_name, ctx.earlier if call is ctx.call else -1)
        return [texts[place] for place in list_tensors(ctx, texts)]
    if call.parent is None and not call.path:
        return _name_inputs(ctx)
    calls = (read_call(ctx.line, name) for name in list_names(ctx, call.path))
    return next(([*given, *named.values()] for given, named in calls if given or named), [])


def set_value(path: str, code: str) -> Candidate:
    """Set a layer, a parameter or a plain attribute; of a layer alone the model is made anew; nothing without code."""
    text = write_change(path, code) if path or not code else f"model = {code}"
    return Candidate(text, (LayerEdit(path, code),)) if text else NOTHING


def find_earlier(ctx: FailureContext) -> Call | None:
    """Return an earlier call of the failed layer that ran: changing the layer would break that one."""
    if ctx.call.kind != "module":
        return None
    calls = ctx.trace.calls[: ctx.call.index]
    return next((c for c in calls if c.kind == "module" and c.module == ctx.call.module and c.status == "ran"), None)


def fix_setting(ctx: FailureContext, function: str, name: str, position: int, value: object) -> Candidate:
    """Set one plain argument of a function that the failing line calls: ``dim=1``."""
    return fix_line(ctx, set_argument(ctx.line, function, name, position, repr(value), ctx.earlier))


def read_line(ctx: FailureContext, source: Source | None) -> str:
    """Return the statement that a line of the user's belongs to, without a remark; ``""`` if it can't be read."""
    found = ctx.read(source)
    return drop_remark(found.text) if found is not None else ""


def place_line(ctx: FailureContext, call: Call, line: str) -> Candidate:
    """Write a changed line of the call that made a tensor: with its place, where that is not the failing line's."""
    found = ctx.read(call.source)
    if call.source is None or found is None or not line:
        return NOTHING
    line = use_imports(found.filename, line)
    text = line if found == ctx.statement else f"at {call.source.text}: {line}"
    return Candidate(text, (LineEdit(*found[:3], line),))


def fix_made(
    ctx: FailureContext, call: Call, edit: Callable[[list[str]], str | Sequence[str] | None], around: str = "{}"
) -> Candidate:
    """Write anew the operation that made a tensor, on its line: ``edit`` and ``around`` as of ``change_operation``."""
    return place_line(ctx, call, change_operation(read_line(ctx, call.source), call.type_name, edit, around=around))


def set_made(ctx: FailureContext, call: Call, keyword: str, position: int, value: str) -> Candidate:
    """Set one plain argument of the operation that made a tensor, on its line."""
    return place_line(ctx, call, set_argument(read_line(ctx, call.source), call.type_name, keyword, position, value))


def wrap_made(ctx: FailureContext, call: Call, template: str, around: str = "{}") -> Candidate:
    """Change what a layer that ran was given, or what is made of its result, on its line."""
    line = wrap_argument(read_line(ctx, call.source), name_member(call.path), template, around=around)
    return place_line(ctx, call, line)


def write_at(source: Source | None, statement: Statement, line: str) -> Candidate:
    """Write a statement of a file anew, with its place; ``source`` is a line of the same file."""
    place = f"at {source._replace(line=statement.first).text}: " if source is not None else ""
    return Candidate(f"{place}{line}", (LineEdit(*statement[:3], line),))


def remake(ctx: FailureContext, fact: ModuleFact, **changes: object) -> Candidate:
    """Write a layer of torch's with other settings: ``"self.fc = nn.Linear(784, 10)"``; nothing of another class."""
    return set_value(fact.path, write_module(fact, ctx.trace, **changes))
