"""Calls that Python itself refuses: arguments too few, too many, or of another name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import partial

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_call, fix_line, read_arguments, write_at
from modelsummary_ipy.diagnosis.failures.module_code import name_member
from modelsummary_ipy.diagnosis.failures.sequential import write_sequence
from modelsummary_ipy.diagnosis.failures.setters import find_class
from modelsummary_ipy.diagnosis.failures.source_edits import change_call, write_list, write_loop
from modelsummary_ipy.diagnosis.failures.source_nodes import Arguments, read_call, read_name, read_unpacking
from modelsummary_ipy.diagnosis.failures.statements import find_loops, find_parameters, list_methods
from modelsummary_ipy.diagnosis.torch_names import CATS, LINEARS
from modelsummary_ipy.model.torch_layers import LAYERS
from modelsummary_ipy.records.fixes import Candidate

_MISSING = re.compile(r"(\w+)\(\) missing \d+ required (?:positional|keyword-only) arguments?: (.+)")
_SURPLUS = re.compile(r"(\w+)\(\) takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) (?:was|were) given")
_KEYWORD = re.compile(r"(\w+)\(\) got an unexpected keyword argument '(\w+)'")


def explain_arguments(ctx: FailureContext) -> Diagnosis | None:
    """Explain what Python refused before any tensor was used."""
    if ctx.failure.call is None:
        return None
    return _explain_signature(ctx) or _explain_container_call(ctx)


def _explain_signature(ctx: FailureContext) -> Diagnosis | None:
    if ctx.failure.error_type != "TypeError":
        return None
    called = re.match(r"([\w.<>]+)\(\)", ctx.failure.message)
    name = called[1].rpartition(".")[2] if called is not None else ""
    is_forward = name in ("forward", ctx.trace.method) and name != ""
    function = f"{ctx.call.type_name}.forward" if is_forward else name
    member, message = (name_member(ctx.call.path) if is_forward else name.lstrip("_")), ctx.failure.message
    if is_forward and not member:  # for layer in self.layers
        held = ctx.failure.names.items()
        member = next((own for own, item in held if item.kind == ctx.call.type_name and f"{own}(" in ctx.line), "")
    is_direct = is_forward and f".{name}(" in ctx.line  # super().forward()
    if is_direct:
        function, member, is_forward = called[1] if called is not None else "", name, False
    if (found := _MISSING.search(message)) and ("'" in found[2] or '"' in found[2]):
        missing = re.findall(r"['\"](\w+)['\"]", found[2])
        words = " and ".join(f"'{name}'" for name in missing)
        reason = f"{function} needs {words}, which {'was' if len(missing) == 1 else 'were'} not given"
        given = read_arguments(ctx) if is_forward else read_call(ctx.line, member)[0]
        ways = list(list_values(ctx, name, missing, given))
        if ctx.call.type_name == "MultiheadAttention" and missing == ["key", "value"]:
            ways = [given[:1] * 2]
        fixes = [fix_call(ctx, partial(_add, missing=missing, more=way), member) for way in ways]
        if is_forward and len(missing) == 1:
            fixes = [*_list_insertions(ctx, member, given), *fixes]
        fixes = [*[fix_line(ctx, line) for line in _part_argument(ctx, member, given, len(missing) + 1)], *fixes]
        if ctx.call.type_name == "MultiheadAttention" and (
            loop := write_sequence(ctx, ctx.call, "layer({0}, {0}, {0})[0]")
        ):
            return Diagnosis(f"{reason}: an nn.Sequential passes one tensor on", f"a value for {words}", loop)
        return Diagnosis(reason, f"a value for {words}", [] if is_forward and ctx.call.parent is None else fixes)
    if _SURPLUS.search(message) and "self" in read_call(ctx.line, member)[0]:
        line = change_call(ctx.line, member, lambda had, more: ([text for text in had if text != "self"], more))
        fix = fix_line(ctx, line.replace(".forward(", "(") if is_direct else line)
        return Diagnosis(f"{function} is given self, which a call of a layer passes on itself", "no self", fix)
    if (found := _SURPLUS.search(message)) and is_forward and ctx.call.parent is not None and int(found[2]) > 1:
        taken = int(found[2]) - 1
        expected = f"{taken} {'argument' if taken == 1 else 'arguments'}"
        reason = f"{function} takes {expected}, {int(found[3]) - 1} were given"
        if ctx.call.type_name in ("LSTM", "LSTMCell") and int(found[3]) == 4:  # self, x, h and c
            pair = fix_call(ctx, lambda had, more: ([had[0], f"({', '.join(had[1:])})"], more), member)
            return Diagnosis(f"{function} takes both states as one pair", "(h, c)", pair)
        unpacked = read_unpacking(ctx.line)
        given = read_call(ctx.line, member)[0]
        if taken == 1 and unpacked is not None and len(unpacked[0]) == len(given) and f".{member}(" in unpacked[1]:
            calls = ", ".join(f"self.{member}({text})" for text in given)  # each is to go through it
            return Diagnosis(reason, expected, fix_line(ctx, f"{', '.join(unpacked[0])} = {calls}"))
        if ctx.call.type_name == "Sequential":
            return Diagnosis(reason, expected, _pass_on(ctx, member, taken))
        fix = fix_call(ctx, lambda given, named: (given[:taken], named), member)
        return Diagnosis(reason, expected, fix)
    if (found := _SURPLUS.search(message)) and (fix := _add_self(ctx, name)):
        return Diagnosis(f"{name} is a method, and has no self among its arguments", f"def {name}(self, …)", fix)
    if (found := _KEYWORD.search(message)) and is_forward and ctx.call.parent is not None:
        surplus = found[2]
        reason, expected = f"{function} has no argument '{surplus}'", f"a call without {surplus}="
        drop = {surplus}
        fix = fix_call(ctx, lambda given, named: (given, {n: named[n] for n in named if n not in drop}), member)
        return Diagnosis(reason, expected, fix)
    return None


def _add(given: list[str], named: dict[str, str], *, missing: list[str], more: list[str]) -> Arguments:
    """Add what was not given: by position, where no keyword stands before it."""
    if named:
        return given, {**named, **dict(zip(missing, more, strict=True))}
    return [*given, *more], named


def _list_insertions(ctx: FailureContext, member: str, given: list[str]) -> Iterator[Candidate]:
    """Give what the caller calls as the forward calls it, and left out: ``layer(x, memory, mask)``."""
    made = find_class(ctx.fact) if ctx.fact is not None else None
    methods = [node for node in (made.body if made is not None else ()) if isinstance(node, ast.FunctionDef)]
    wanted = [item.arg for node in methods if node.name == "forward" for item in node.args.args[1:]]
    held = ctx.failure.names
    for place, name in enumerate(wanted[: len(given)]):
        if name not in given and name in held and held[name].kind == "Tensor":
            words = [*given[:place], name, *given[place:]]
            yield fix_call(ctx, partial(_give, words), member)


def _give(words: list[str], had: list[str], named: dict[str, str]) -> Arguments:
    """Give other arguments by position."""
    return words, named


def _part_argument(ctx: FailureContext, member: str, given: list[str], count: int) -> Iterator[str]:
    """Give the parts of the one argument each as an argument: those of a list, joined too, of a difference."""
    node = ast.parse(given[0], mode="eval").body if len(given) == 1 and given[0] else None
    if isinstance(node, ast.Call) and read_name(node.func) in (*CATS, "stack") and node.args:
        node = node.args[0]
    parts: list[ast.expr] = node.elts if isinstance(node, (ast.List, ast.Tuple)) else []
    if (
        isinstance(node, ast.BinOp)
        and isinstance(node.op, ast.Sub)
        and "loss" in f"{member} {ctx.call.type_name}".lower()
    ):
        parts = [node.left, node.right]
    if len(parts) == count:
        yield change_call(ctx.line, member, lambda _, named: ([*map(ast.unparse, parts)], named))


def list_values(ctx: FailureContext, function: str, missing: list[str], given: list[str]) -> Iterator[list[str]]:
    """List what may be meant by arguments that were not given: names that are known, sizes, what was not passed on."""
    names = ctx.failure.names
    tensors = find_parameters(ctx.failure.source)
    first = next((name for name in tensors if name in names and names[name].kind == "Tensor"), "x")
    written = set(re.findall(r"\w+", " ".join(given)))
    unread = [name for name in tensors if name not in written and name not in missing]
    rows: list[list[str]] = []
    for name in missing:
        row = [text for text in (name, f"self.{name}") if text in names]
        flat = name.lower()
        if re.fullmatch(r"b|bs|bsz|n|batch|batch_?size|n_?batch|num_samples", flat):
            row += [f"{first}.size(0)"]
        if re.fullmatch(r"t|l|len|length|seq_?len|seq_?length|sz|size|steps|n_?steps", flat):
            row += [f"{first}.size(1)"]
        row += [f"{first}.{flat}"] if flat in ("device", "dtype") else []
        row += ["-1"] if name == "dim" and re.search("softmax|softmin", function) else []
        row += ["1"] if name == "dim" and function in ("unsqueeze", "log_softmax", "softmax") else []
        row += ["2"] if name == "kernel_size" else []
        row += given[:1] if name == "memory" else []  # a decoder alone reads itself
        row += ["1"] if name == "output_size" and "pool" in function else []
        parts = read_unpacking(ctx.line)
        row += [str(len(parts[0]))] if name == "chunks" and parts is not None else []
        row += [other for other in unread if other not in row and name not in ("dim", "kernel_size")]
        rows.append(row)
    for place in range(max((len(row) for row in rows), default=0)):
        way = [row[min(place, len(row) - 1)] for row in rows if row]
        if len(way) == len(missing):
            yield way


def _pass_on(ctx: FailureContext, member: str, taken: int) -> list[Candidate]:
    """Give each layer of an ``nn.Sequential`` all arguments, or join them where its first layer reads them all."""
    given, named = read_call(ctx.line, member)
    surplus = fix_call(ctx, lambda had, more: (had[:taken], more), member)
    if len(given) < 2 or named or ctx.fact is None or not ctx.fact.children:
        return [surplus]
    first = ctx.trace.modules[ctx.fact.children[0]]
    if not first.type_module.startswith("torch."):
        return [fix_line(ctx, write_loop(ctx.line, member)), surplus]
    layer, axis = LAYERS.get(first.type_name), -1 if first.type_name in LINEARS else 1
    width = first.settings.get(layer.reads) if layer is not None else None
    if all(x.rank > 1 for x in ctx.data) and sum(x.shape[axis] for x in ctx.data) == width:
        text = f"torch.cat([{', '.join(given)}], dim={axis})"
        return [fix_call(ctx, lambda *_: ([text], {}), member)]
    return [surplus]


def _add_self(ctx: FailureContext, name: str) -> Candidate:
    """Give a method of the user's the argument ``self``."""
    source, fact = ctx.failure.source, ctx.fact
    method = next((node for node in list_methods(source) if node.name == name), None)
    if fact is not None and source is not None and name == "forward":  # of another class than the line is in
        source = source._replace(filename=fact.forward_file, line=fact.forward_line)
        method = next((node for node in list_methods(source) if node.name == name), None)
    names = [item.arg for item in method.args.args[:1]] if method is not None else []
    if source is None or method is None or method.decorator_list or names == ["self"]:
        return NOTHING
    head = ctx.read(source._replace(line=method.lineno))
    text = re.sub(rf"\bdef {name}\((?=\S)", f"def {name}(self, ", head.text, count=1) if head is not None else ""
    text = text.replace("(self, )", "(self)")
    if head is None or text == head.text:
        return NOTHING
    return write_at(source, head, text)


def _explain_container_call(ctx: FailureContext) -> Diagnosis | None:
    if ctx.call.type_name not in ("ModuleList", "ModuleDict") or ctx.failure.error_type != "NotImplementedError":
        return None
    reason = f"a {ctx.call.type_name} holds layers and does not run them"
    member = name_member(ctx.call.path)
    loops = find_loops(ctx.failure.source)
    counters = [name for name, over in loops if re.match("range|enumerate", ast.unparse(over))]
    picked = [re.sub(rf"\bself\.{member}\(", f"self.{member}[{name}](", ctx.line) for name in counters]
    picked.append(re.sub(rf"\bself\.{member}\(([^()]*)\)(?=\()", rf"self.{member}[\1]", ctx.line))
    listed = [write_list(ctx.line, member)] if ctx.call.type_name == "ModuleList" else []
    fixes = [fix_line(ctx, line) for line in (*picked, *listed, write_loop(ctx.line, member))]
    return Diagnosis(reason, "nn.Sequential, or a loop over it", fixes)
