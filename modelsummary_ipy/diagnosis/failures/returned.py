"""What a layer or a function returns that is no tensor: a tuple, a list, an object of several, ``None``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext, name_call
from modelsummary_ipy.diagnosis.failures.fixes import fix_argument, fix_line, place_line, read_line
from modelsummary_ipy.diagnosis.failures.returned_none import explain_absent, explain_none
from modelsummary_ipy.diagnosis.failures.rewriting import Write, rewrite
from modelsummary_ipy.diagnosis.failures.sequential import is_in_sequence, return_first, write_sequence
from modelsummary_ipy.diagnosis.failures.source_edits import change_operation, wrap_attribute, wrap_subscript
from modelsummary_ipy.diagnosis.failures.source_nodes import find_targets
from modelsummary_ipy.diagnosis.failures.statements import list_read, list_stored
from modelsummary_ipy.diagnosis.failures.tensor_lists import find_list, find_numbers, join_list
from modelsummary_ipy.diagnosis.failures.unpacking import explain_iterated, explain_unpacking, list_keys
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.diagnosis.torch_names import ATTENTIONS, RECURRENTS
from modelsummary_ipy.model.torch_layers import functions_of
from modelsummary_ipy.records.fixes import Candidate
from modelsummary_ipy.records.trace import Call, TensorSpec

_NO_ATTRIBUTE = re.compile(r"'(\w+)' object has no attribute '(\w+)'")
_RETURNED = re.compile(r"torch\.return_types\.(\w+)")
_PAIRS = frozenset({"max", "min", "median", "nanmedian", "mode", "sort", "topk", "kthvalue", "cummax", "cummin"})
_NO_TENSOR = re.compile(r"must be Tensor,? (?:but got|not) (\w+)|got \((\w+),?|expected Tensor as .* but got (\w+)")
_OPERANDS = re.compile(r"unsupported operand type\(s\) for (\S+): '(\w+)' and '(\w+)'")
_NO_SUBSCRIPT = ("tuple indices must be", "list indices must be")
_CONTAINERS = ("tuple", "list", "dict", "OrderedDict", "NoneType")


def explain_returned(ctx: FailureContext) -> Diagnosis | None:
    """Explain a tuple, list, object or ``None`` where the line needs a tensor, and values that don't unpack."""
    if ctx.failure.call is None:
        return None
    return (
        _explain_values(ctx)
        or _explain_packed(ctx)
        or _explain_key(ctx)
        or _explain_nested(ctx)
        or _explain_number(ctx)
        or _explain_subscript(ctx)
        or _explain_attribute(ctx)
        or _explain_operands(ctx)
        or explain_unpacking(ctx)
        or explain_iterated(ctx)
    )


def _pick(ctx: FailureContext, keys: Sequence[str], fixes: list[Candidate]) -> list[Candidate]:
    """Pick one of several where they get a name, ``enc = self.encoder(x)[0]``; first, if several lines read it."""
    loads, stores = list_read(ctx.failure.source), [node.id for node in list_stored(ctx.failure.source)]
    plain = ("Tensor", "Parameter", "int", "float", "str", "list", "NoneType")
    kinds = {name: held.kind for name, held in ctx.failure.names.items() if held.kind not in plain}
    read: list[str] = []

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if not isinstance(around, ast.Assign) or around.value is not node or not isinstance(node, ast.Call):
            return
        target = around.targets[0]
        if isinstance(target, ast.Name) and target.id in kinds and target.id not in read:  # the last line that gives it
            read.append(target.id)
            yield from (f"{write(node)}{key}" for key in keys)

    made = [item for item in rewrite(ctx, change) if item.text.startswith("at ")]
    is_first = any(loads.count(name) > 1 and stores.count(name) == 1 for name in read)
    return [*made, *fixes] if is_first else [*fixes, *made]


def _explain_values(ctx: FailureContext) -> Diagnosis | None:
    """What ``x.max(1)`` returns is used as a tensor: it is a pair of values and indices."""
    found = _RETURNED.search(ctx.failure.message)
    is_index = "can be converted to an index" in ctx.failure.message
    words = ("can only concatenate tuple", "can't multiply sequence by non-int")
    if found is None and not is_index and not any(word in ctx.failure.message for word in words):
        return None
    names = _PAIRS if found is None else {found[1]}
    made = [call for call in ctx.trace.calls if call.type_name in names and len(call.outputs) == 2]
    line = read_line(ctx, made[-1].source) if made else ""
    if not made or (found is None and not set(find_targets(line)) & set(re.findall(r"\w+", ctx.line))):
        return None
    targets = "|".join(find_targets(line)) or "$"
    is_factor = re.search(rf"\* *\(?(?:{targets})\b(?!\])|\b(?:{targets})\)? *\*", ctx.line)  # a tuple times a tensor
    name, kept = made[-1].type_name, "indices" if is_index and not is_factor else "values"
    reason = f"{name}() along a dim returns (values, indices), and one tensor is expected"
    changed = change_operation(line, name, lambda items: items, around=f"{{}}.{kept}")
    return Diagnosis(reason, "one tensor", place_line(ctx, made[-1], changed))


def _explain_packed(ctx: FailureContext) -> Diagnosis | None:
    """A packed sequence goes into a layer that reads tensors."""
    if "PackedSequence" not in ctx.failure.message or ctx.failure.error_type != "TypeError":
        return None
    first = any(fact.settings.get("batch_first") for fact in ctx.trace.modules)
    fix = fix_argument(ctx, f"nn.utils.rnn.pad_packed_sequence({{}}{', batch_first=True' if first else ''})[0]")
    return Diagnosis("the argument is a packed sequence, and the layer reads a tensor: pad it first", "a tensor", fix)


def _explain_key(ctx: FailureContext) -> Diagnosis | None:
    """A tensor is read by a key, ``batch["image"]``: a dict was meant."""
    found = re.search(r"""(\w+)\[(['"][^'"]+['"])\]""", ctx.line)
    if ctx.function != "getitem" or found is None or not ctx.operands:
        return None
    given = "the model's input" if ctx.operands[0].is_input else "it"
    reason = f"{found[1]} is read by the key {found[2]}, {given} is one tensor {write_shape(ctx.operands[0].shape)}"
    return Diagnosis(reason, f"a dict, {found[1]}={{{found[2]}: …}}")


#: What to say where a call got no tensor: `%summary model((5, 4))`.
_NO_SIZE = "data in a call; a size is written after the model, %summary model (1, 3, 224, 224)"


def _explain_nested(ctx: FailureContext) -> Diagnosis | None:
    """A layer or function got a tuple, list, dict or ``None`` instead of a tensor."""
    if ctx.failure.error_type != "TypeError" and not (ctx.is_torch_layer or ctx.call.kind == "op"):
        return None
    nested = next((i for i, spec in enumerate(ctx.call.inputs) if "[" in spec.name or "." in spec.name), None)
    found = _NO_TENSOR.search(ctx.failure.message)
    kind = next((word for word in found.groups() if word), "") if found else ""
    if kind == "numpy":
        owner = ctx.owner if ctx.call.kind == "module" else ctx.function
        return Diagnosis(f"got a numpy array, {owner} expects a tensor", "a tensor: torch.from_numpy(x).float()")
    if kind not in _CONTAINERS and not (ctx.is_torch_layer and nested is not None and _reads_one(ctx)):
        return None
    if kind == "NoneType":
        return explain_none(ctx)
    if kind == "list" and (join := find_list(ctx)):
        reason = f"{join[0]} is a list of tensors, {ctx.owner if ctx.call.kind == 'module' else ctx.function} expects "
        reason += "one"
        fixes = [fix_argument(ctx, text) for text in join[1:]]
        return Diagnosis(reason, "one tensor", [*fixes, *join_list(ctx, join)])
    giver = _find_giver(ctx, nested if ctx.is_torch_layer else None)
    key, words = _choose_leaf(giver, kind, is_linear=ctx.function == "linear")
    held = [
        (name, item)
        for name, item in ctx.failure.names.items()
        if item.kind == kind and re.search(rf"\b{name}\b", ctx.line)
    ]
    name = f"{name_call(giver)} returns {words}" if giver is not None else f"got {_write_kind(kind or 'tuple')}"
    if giver is None and held:
        number = f" of {len(held[0][1].words)}" if held[0][1].words else ""
        name = f"{held[0][0]} is a {kind}{number}"
    reason = f"{name}, {ctx.owner if ctx.call.kind == 'module' else ctx.function} expects one tensor"
    own = [f"[{word if kind == 'dict' else at}]" for _, item in held[:1] for at, word in enumerate(item.words)]
    if giver is None and not ctx.trace.calls[0].inputs:  # the user typed `%summary model((5, 4))`
        return Diagnosis(reason, _NO_SIZE)
    keys = list(dict.fromkeys([key, *(list_keys(giver) if giver is not None else own)[:4]]))
    fixes = [fix_argument(ctx, f"{{}}{other}") for other in keys]
    fact = ctx.flow.module_of(giver) if giver is not None else None
    if fact is not None and giver is not None and is_in_sequence(ctx, giver):
        fixes.insert(0, return_first(fact.forward_file, fact.forward_line))
        fixes.insert(0, write_sequence(ctx, giver, f"layer({{0}}){key}"))
    return Diagnosis(reason, "one tensor", _pick(ctx, keys[:2], fixes))


def _reads_one(ctx: FailureContext) -> bool:
    return ctx.function not in functions_of("recurrent", "recurrent cell") and ctx.function != ""


def _find_giver(ctx: FailureContext, nested: int | None) -> Call | None:
    """Return the module whose output holds several tensors, or none, and was passed on."""
    if nested is not None and (link := ctx.call.input_links[nested]) is not None and link.call >= 0:
        inner = ctx.trace.calls[link.call]
        around = {call.index for call in ctx.flow.around(ctx.call)}
        givers = [call for call in (inner, *ctx.flow.around(inner)) if call.index not in around]
        named = [call for call in givers if len(call.outputs) > 1 or (call.outputs and call.outputs[0].name)]
        if named:
            return named[-1]
    is_own = ctx.call.kind == "module" and not ctx.is_torch_layer
    calls = ctx.trace.calls if is_own else ctx.trace.calls[: ctx.call.index]
    parent = ctx.call.index if is_own else ctx.call.parent
    before = [call for call in calls if call.parent == parent and call.kind == "module"]
    return next((call for call in reversed(before) if call.outputs and call.outputs[0].name), None)


def _choose_output(giver: Call, *, is_linear: bool) -> TensorSpec:
    """Choose the first tensor; for a ``Linear`` the first vector of each sample, before maps as wide by chance."""
    vectors = [spec for spec in giver.outputs if is_linear and len(spec.shape) == 2 and spec.dtype.startswith("float")]
    return [*vectors, *giver.outputs][0]


def _choose_leaf(giver: Call | None, kind: str, *, is_linear: bool = False) -> tuple[str, str]:
    """Choose the tensor that is probably meant, and write the whole output."""
    if giver is None or not giver.outputs:
        return ("[-1]" if kind == "list" else "[0]"), f"a {kind or 'tuple'}"
    name = _choose_output(giver, is_linear=is_linear).name
    first = re.match(r"\[[^\]]*\]|\.\w+", name)
    key = first[0] if first else "[0]"
    outer = list(dict.fromkeys((re.match(r"\[[^\]]*\]|\.\w+", spec.name) or [spec.name])[0] for spec in giver.outputs))
    if giver.type_name in RECURRENTS:
        return key, "(output, state)"
    if giver.type_name in ATTENTIONS:
        return key, "(output, weights)"
    if ".pooler_output" in outer:  # made to be read by a head
        key = ".pooler_output"
    what = {"list": "a list", "dict": "a dict"}.get(kind, "a tuple" if key.startswith("[") else "an object")
    return key, f"{what} of {len(outer)}: {', '.join(outer[:4])}"


def _explain_attribute(ctx: FailureContext) -> Diagnosis | None:
    found = _NO_ATTRIBUTE.search(ctx.failure.message)
    if ctx.failure.error_type != "AttributeError" or found is None:
        return None
    owner, attribute = found[1], found[2]
    line = ctx.line
    if owner in _CONTAINERS:
        if owner == "NoneType":
            return explain_none(ctx)
        if owner == "list" and (join := find_list(ctx)):
            along = re.search(rf"\.{attribute}\((?:dim=|axis=)?(\d)", line)  # of the list, as if it were a dim
            own = [f"torch.stack({{}}, dim={along[1]})".replace(", dim=0", "")] if along is not None else []
            fixes = [fix_line(ctx, wrap_attribute(line, attribute, text)) for text in [*own, *join[1:]]]
            return Diagnosis(
                f"{join[0]} is a list of tensors; .{attribute} is an attribute of one", "one tensor", fixes
            )
        if owner == "list" and (numbers := find_numbers(ctx)):
            fix = fix_line(ctx, line.replace(f"{numbers}.{attribute}", f"torch.tensor({numbers}).{attribute}"))
            return Diagnosis(
                f"{numbers} is a list of numbers; .{attribute} is an attribute of tensors", "a tensor", fix
            )
        giver = _find_giver(ctx, None)
        key, words = _choose_leaf(giver, owner)
        name = f"'{giver.path}' ({giver.type_name}) returns {words}" if giver is not None else f"it is a {owner}"
        if giver is None and not ctx.trace.calls[0].inputs:
            return Diagnosis(f"{name}; .{attribute} is an attribute of tensors", _NO_SIZE)
        fix = fix_line(ctx, wrap_attribute(line, attribute, f"{{}}{key}"))
        return Diagnosis(f"{name}; .{attribute} is an attribute of tensors", "one tensor", fix)
    giver = _find_giver(ctx, None)
    if owner.partition("With")[0].endswith("Output") and giver is not None:  # what a model of the transformers returns
        _, words = _choose_leaf(giver, owner)
        fixes = [fix_line(ctx, wrap_attribute(line, attribute, f"{{}}{key}")) for key in list_keys(giver)[:3]]
        return Diagnosis(f"{name_call(giver)} returns {words}, which has no '{attribute}'", "one tensor", fixes)
    return None


def _write_kind(kind: str) -> str:
    return f"an {kind}" if kind[:1].lower() in "aeiou" else f"a {kind}"


def _explain_number(ctx: FailureContext) -> Diagnosis | None:
    """A layer or function got a number or a text instead of a tensor: ``%summary model 32`` passes a number on."""
    found = _NO_TENSOR.search(ctx.failure.message) if ctx.is_torch_layer or ctx.call.kind == "op" else None
    kind = next((word for word in found.groups() if word), "") if found else ""
    if kind not in ("int", "float", "str"):
        return None
    held = ctx.failure.names.items()
    name = next((n for n, item in held if item.kind == kind and re.search(rf"\b{n}\b", ctx.line)), "")
    value = " ".join(ctx.failure.names[name].words) if name else ""
    what = " ".join(filter(None, (f"{name} is the {kind}" if name else f"got {_write_kind(kind)}", value)))
    reads = ctx.owner if ctx.call.kind == "module" else f"{ctx.function}()"
    given = ctx.trace.calls[0].inputs  # without any, what the user typed is no tensor
    return Diagnosis(f"{what}, {reads} reads a tensor", "a tensor" if given else "data, or a size, (1, 3, 224, 224)")


def _explain_subscript(ctx: FailureContext) -> Diagnosis | None:
    """What a layer returns is a tuple, and the line cuts it like a tensor."""
    if ctx.failure.error_type != "TypeError" or not ctx.failure.message.startswith(_NO_SUBSCRIPT):
        return None
    giver = _find_giver(ctx, None)
    if giver is None:
        return None
    key, words = _choose_leaf(giver, ctx.failure.message.partition(" ")[0])
    if giver.type_name in RECURRENTS and giver.inputs and giver.inputs[0].name.endswith(".data"):
        first = ", batch_first=True" if ctx.flow.setting(giver, "batch_first", False) else ""
        reason = f"'{giver.path}' ({giver.type_name}) was given a packed sequence and returns one: pad it first"
        padded = wrap_subscript(ctx.line, f"nn.utils.rnn.pad_packed_sequence({{}}{first})[0]")
        return Diagnosis(reason, "a tensor", [*_read_last_state(ctx, giver), fix_line(ctx, padded)])
    keys = list(dict.fromkeys([*list_keys(giver)[:3], key]))
    fixes = [fix_line(ctx, wrap_subscript(ctx.line, f"{{}}{other}")) for other in keys]
    reason = f"'{giver.path}' ({giver.type_name}) returns {words}, and the line indexes one tensor"
    return Diagnosis(reason, "one tensor", _pick(ctx, keys[:2], fixes))


def _read_last_state(ctx: FailureContext, giver: Call) -> list[Candidate]:
    """Read the state after each sample's own last step, ``h[-1]``, where the last step of all is read."""
    targets = find_targets(read_line(ctx, giver.source))
    if len(targets) != (3 if giver.type_name == "LSTM" else 2) or ctx.flow.setting(giver, "bidirectional"):
        return []
    last = rf"\b{targets[0]}\[:, -1(?:, :)?\]"
    return [fix_line(ctx, re.sub(last, f"{targets[1]}[-1]", ctx.line))] if re.search(last, ctx.line) else []


def _explain_operands(ctx: FailureContext) -> Diagnosis | None:
    found = _OPERANDS.search(ctx.failure.message)
    if found is None or not {found[2], found[3]} & set(_CONTAINERS):
        return None
    sign = found[1].rstrip(":")
    name = {"+": "add", "-": "sub", "*": "mul", "/": "div", "@": "matmul", "+=": "add_", "-=": "sub_"}.get(sign, "")
    place = 1 if found[3] in _CONTAINERS else 0
    kind = found[2 + place]
    if kind == "NoneType" and (made := explain_absent(ctx)) is not None:
        return made
    giver = _find_giver(ctx, None)
    key, words = _choose_leaf(giver, kind)
    reason = f"'{giver.path}' ({giver.type_name}) returns {words}" if giver is not None else f"one operand is a {kind}"

    def edit(items: list[str]) -> list[str]:
        return [f"{item}{key}" if at == place else item for at, item in enumerate(items)]

    fix = fix_line(ctx, change_operation(ctx.line, name, edit, ctx.earlier)) if name else NOTHING
    return Diagnosis(f"{reason}; {sign} expects tensors", "a tensor on both sides", _pick(ctx, [key], [fix]))
