"""Methods, modules, classes and keys that were not called, or were and can't be, and conditions of many values."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator

from modelsummary_ipy.diagnosis.failures.context import NOTHING, Diagnosis, FailureContext
from modelsummary_ipy.diagnosis.failures.fixes import fix_line, set_value
from modelsummary_ipy.diagnosis.failures.module_code import write_change
from modelsummary_ipy.diagnosis.failures.rewriting import Write, explain_rewrite, rewrite, write_statement, write_words
from modelsummary_ipy.diagnosis.failures.setters import find_forward, find_module, find_setter
from modelsummary_ipy.diagnosis.failures.source_edits import write_loop
from modelsummary_ipy.diagnosis.failures.source_nodes import parse_line, read_name
from modelsummary_ipy.diagnosis.failures.statements import find_loops, list_names_before
from modelsummary_ipy.diagnosis.failures.wrong_names import write_functional
from modelsummary_ipy.diagnosis.formatting import write_shape
from modelsummary_ipy.model.torch_layers import LAYERS
from modelsummary_ipy.records.fixes import Candidate, LayerEdit
from modelsummary_ipy.records.trace import ModuleFact, join_path

_ERRORS = ("TypeError", "AttributeError", "RuntimeError", "IndexError")
_AMBIGUOUS = "Boolean value of Tensor with more than one value is ambiguous"
_CONDITIONS = (ast.If, ast.While, ast.Assert, ast.IfExp, ast.BoolOp, ast.Not)
_NOT_CALLABLE = re.compile(r"'([\w.]+)' object is not callable")
_UNCALLED = re.compile(r"\b(builtin_function_or_method|method|function|method_descriptor)\b")
#: Attributes of tensors that are no methods.
_PROPERTIES = frozenset(
    {"shape", "device", "dtype", "T", "mT", "H", "mH", "data", "grad", "real", "imag", "ndim", "is_cuda",
     "requires_grad", "layout", "training"}
)  # fmt: skip


def explain_object(ctx: FailureContext) -> Diagnosis | None:
    """Explain a method, module, class or key where the line needs what it gives, and the other way round."""
    tree, message = parse_line(ctx.line), ctx.failure.message
    if tree is None or ctx.failure.error_type not in _ERRORS:
        return None
    if (made := _explain_layer(ctx)) is not None:
        return made
    if _AMBIGUOUS in message:
        return _explain_class(ctx) or _explain_condition(ctx, tree)
    if (called := _NOT_CALLABLE.search(message)) is not None:
        return _explain_call(ctx, called[1])
    if (_UNCALLED.search(message) and (made := _explain_uncalled(ctx))) is not None:
        return made
    return _explain_module(ctx) if ctx.failure.error_type != "RuntimeError" else None


def _is_called(node: ast.AST, around: ast.AST | None) -> bool:
    return isinstance(around, ast.Call) and around.func is node


#: What torch says of a setting that is a tensor.
_REFUSES = re.compile(rf"{re.escape(_AMBIGUOUS)}|got multiple values|got <class '[\w.]*Tensor'>")


# -- what is not called -----------------------------------------------------------------------------------------------


def _explain_layer(ctx: FailureContext) -> Diagnosis | None:
    """A layer of torch's was made with a tensor for its settings, and not run: ``x = nn.ReLU(x)``."""
    words = set(re.findall(r"\w+", ctx.failure.message))
    old = new = ""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        nonlocal old, new
        if not isinstance(node, ast.Call) or not node.args or isinstance(node.args[0], ast.Constant):
            return
        name, kind = write(node.func), write(node.func).rpartition(".")[2]
        if not re.fullmatch(r"(?:torch\.)?nn\.\w+", name) or kind not in LAYERS or LAYERS[kind].reads:
            return
        refuses = _REFUSES.search(ctx.failure.message) is not None and (
            ast.get_source_segment(ctx.line, node) == write(node)
        )  # as nn.Dropout(x) does at once
        if _is_called(node, around) or (kind not in words and not refuses):
            return
        first, *settings = write_words(node, write)
        settings = settings or (["dim=-1"] if kind in ("Softmax", "LogSoftmax", "Softmin") else [])
        old, new = write(node), f"{name}({', '.join(settings)})({first})"
        yield new

    fixes = rewrite(ctx, change)
    if not old:
        return None
    reason = f"{old} makes a layer with a tensor for its settings, and does not run it: {new} does"
    return Diagnosis(reason, "a tensor", fixes)


def _explain_uncalled(ctx: FailureContext) -> Diagnosis | None:
    """A method was passed on, or cut, and not what it returns: ``x.size[0]``, ``x.relu``, ``self.train``."""
    found: list[str] = []

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and _is_method(ctx, node.value):
            found.append(write(node.value))
            yield f"{write(node.value)}({write(node.slice)})"
        if not isinstance(node, ast.Attribute) or _is_called(node, around) or not _is_method(ctx, node):
            return
        if isinstance(around, (ast.Attribute, ast.Subscript)):
            if isinstance(around, ast.Attribute):
                found.append(write(node))
                yield f"{write(node)}()"
            return
        found.append(write(node))
        if node.attr == "size" and "interpolate" in ctx.line:
            yield f"{write(node.value)}.shape[2:]"
        yield f"{write(node.value)}.training" if node.attr in ("train", "eval") else f"{write(node)}()"

    fixes = rewrite(ctx, change)
    if not fixes:
        return None
    ending = ": .training says whether the model is in train mode" if ".training" in fixes[0].text else ""
    reason = f"{found[0]} is a method, and is not called{ending}"
    return Diagnosis(reason, "what it returns", fixes)


def _is_method(ctx: FailureContext, node: ast.Attribute) -> bool:
    """Return whether an attribute may be a method: it is none of those that are known to be something else."""
    held = ctx.failure.names.get(ast.unparse(node))
    root = ctx.failure.names.get(ast.unparse(node.value))
    is_import = root is not None and root.kind in ("module", "type")
    if held is not None:
        return bool(_UNCALLED.fullmatch(held.kind))
    return not is_import and node.attr not in _PROPERTIES and isinstance(node.ctx, ast.Load)


def _explain_module(ctx: FailureContext) -> Diagnosis | None:
    """A module was passed on, and not what it returns; or the class of one was kept, and no module was made."""
    named = {word: fact for fact in ctx.trace.modules if (word := fact.path.rpartition(".")[2])}
    words = set(re.findall(r"\w+", ctx.failure.message))
    for name, held in ctx.failure.names.items():
        if held.kind == "type" and "." in name and words & {*held.words, "type"}:
            reason = f"{name} is the class {held.words[0]}, and no layer of it was made"
            made = make_attribute(ctx, name, lambda value: f"{ast.unparse(value)}()", "old()")
            called = fix_line(ctx, ctx.line.replace(f"{name}(", f"{name}()("))
            return Diagnosis(reason, f"{held.words[0]}()", [made, called])
    kind = ctx.failure.message.rpartition(" ")[2]
    if kind in LAYERS and (kept := _find_kept_class(ctx)) is not None:
        fact, name = kept
        alike = [other for other in ctx.trace.modules if other.type_name == fact.type_name]
        each = [make_attribute(ctx, f"self.{name}", lambda value: f"{ast.unparse(value)}()", "old()", x) for x in alike]
        lines = [write_change(join_path(other.path, name), f"nn.{kind}()") for other in alike]
        fix = Candidate("\n".join(lines), tuple(edit for one in each for edit in one.edits))
        reason = f"self.{name} of '{fact.path}' is the class {kind}, and no layer of it was made"
        return Diagnosis(reason, f"{kind}()", fix)
    names = list_names_before(ctx.failure.source)
    found: list[tuple[str, ModuleFact]] = []

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        is_held = isinstance(around, (ast.Attribute, ast.Subscript)) and around.value is node
        if not isinstance(node, ast.Attribute) or _is_called(node, around) or is_held or node.attr not in named:
            return
        fact = named[node.attr]
        if fact.type_name in words and isinstance(node.value, ast.Name):
            found.append((write(node), fact))
            yield from [f"{write(node)}.weight"] if fact.type_name == "Embedding" else []
            yield from (f"{write(node)}({name})" for name in names[:4])

    fixes = rewrite(ctx, change, here=True)
    if not found:
        return None
    text, fact = found[0]
    reason = f"{text} is the {fact.type_name} itself, and not what it returns: it is not called"
    return Diagnosis(reason, "a tensor", fixes)


def _find_kept_class(ctx: FailureContext) -> tuple[ModuleFact, str] | None:
    """Find a class that the module before kept, and called as if it were a layer: ``self.act = act``."""
    before = reversed(ctx.trace.calls[: max(ctx.call.index, 0)])
    odd = (call for call in before if call.kind == "module" and call.status == "ran" and not call.outputs)
    fact = ctx.flow.module_of(next(odd, None))
    funcs = [node.func for node in find_forward(fact) if isinstance(node, ast.Call)] if fact is not None else []
    for func in funcs:
        is_own = isinstance(func, ast.Attribute) and read_name(func.value) == "self"
        if not isinstance(func, ast.Attribute) or not is_own or fact is None:
            continue
        setters = (find_setter(fact, func.attr) or ([],))[0]
        if find_module(ctx.trace, join_path(fact.path, func.attr)) is None and len(setters) == 1:
            return (fact, func.attr) if isinstance(setters[0].value, (ast.Name, ast.Attribute)) else None
    return None


# -- what can't be called ---------------------------------------------------------------------------------------------


def _explain_call(ctx: FailureContext, kind: str) -> Diagnosis | None:
    """Something is called that is no function: a size, a number, a list of layers, ``None``."""
    if kind == "str":
        return _explain_keys(ctx)
    names, seen = ctx.failure.names, []
    fixes: list[Candidate] = []

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[str]:
        if not isinstance(node, ast.Call):
            return
        text, held = write(node.func), names.get(write(node.func))
        words = write_words(node, write)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _PROPERTIES and held is None:
            seen.append(text)
            yield f"{text}[{words[0]}]" if words and node.func.attr == "shape" else text
        elif held is not None and (held.kind == kind or {held.kind, kind} == {"Parameter", "Tensor"}):
            seen.append(text)
            yield from _replace_call(ctx, text, held.kind, words)

    fixes = rewrite(ctx, change, here=True)
    if not seen:
        return None
    name = seen[0]
    loops = dict(find_loops(ctx.failure.source))
    over = ast.unparse(loops[name]) if name in loops else ""
    if kind == "tuple" and over.startswith("enumerate("):
        head = ctx.read_at(loops[name].lineno)
        line = re.sub(r"\benumerate\((.+)\)(?=:|\]|\))", r"\1", head.text) if head is not None else ""
        fix = write_statement(ctx, head, line) if head is not None else NOTHING
        return Diagnosis(f"{name} is a pair of a number and a layer: enumerate gives both", "a layer", fix)
    if kind in ("list", "tuple"):
        loop = fix_line(ctx, write_loop(ctx.line, name.rpartition(".")[2]))
        one = len(names[name].words) == 1 and kind == "tuple"
        fixes = [make_attribute(ctx, name, _drop_comma, "old[0]") if one else loop]
        if one:
            return Diagnosis(f"{name} is a tuple of one: a comma ends the line that sets it", "a layer", fixes)
        return Diagnosis(f"{name} is a {kind} of layers, and does not run them", "a loop over it", fixes)
    if kind == "NoneType":
        path = join_path(ctx.call.path, name.partition(".")[2])
        fixes += [set_value(path, "nn.Identity()")] if name.startswith("self.") else []
        return Diagnosis(f"{name} is None, and is called", "a layer, or no call", fixes)
    is_property = name not in names
    what = f"{name} is no method" if is_property else f"{name} is a {kind.rpartition('.')[2]}"
    return Diagnosis(f"{what}, and is called", "an attribute" if is_property else "a layer or a function", fixes)


def _drop_comma(value: ast.expr) -> str:
    return ast.unparse(value.elts[0] if isinstance(value, ast.Tuple) else value)


def _replace_call(ctx: FailureContext, name: str, kind: str, words: list[str]) -> Iterator[str]:
    """List what may be meant by a call of a thing that is no function."""
    if kind == "NoneType" and len(words) == 1:
        yield f"({words[0]} if {name} is None else {name}({words[0]}))"
    elif kind in ("float", "int") and len(words) == 1:
        if "drop" in name.lower():
            yield f"F.dropout({words[0]}, {name}, self.training)"
        else:
            yield f"{words[0]} * {name}"
    elif kind in ("Parameter", "Tensor") and "." not in name and (text := write_functional(name, words)):
        yield text  # a tensor took the name
    elif kind in ("Parameter", "Tensor") and len(words) == 1 and "." in name:
        sizes = [len(param.shape) for param in ctx.trace.params if name.partition(".")[2] in param.names]
        yield from (f"{words[0]} {sign} {name}" for sign in ("@*" if sizes[:1] == [2] else "*@"))
    elif kind == "dict":
        yield f"{name}[{', '.join(words)}]"


def _explain_keys(ctx: FailureContext) -> Diagnosis | None:
    """A loop over a ``ModuleDict`` gives its keys."""
    loops = dict(find_loops(ctx.failure.source))

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Name) and node.id in loops and _is_called(node, around):
            over = ast.unparse(loops[node.id])
            yield f"{node.id} is a key of {over}: {over}[{node.id}]", f"{over}[{node.id}]"

    return explain_rewrite(ctx, change, "{} is the module", "a module")


# -- classes and conditions -------------------------------------------------------------------------------------------


def _explain_class(ctx: FailureContext) -> Diagnosis | None:
    """A loss is a class, whose settings were taken from predictions and targets: no object was made of it."""

    def change(node: ast.AST, around: ast.AST | None, write: Write) -> Iterator[tuple[str, str]]:
        text = write(node)
        if not isinstance(around, ast.Call) or around.func is not node or len(around.args) < 2:
            return
        if re.fullmatch(r"(?:nn|torch\.nn)\.\w+Loss", text) or re.search(r"\.\w*(?:loss|criterion)\w*$", text, re.I):
            yield text, f"{text}()"

    reason = "{} is a class, and predictions and targets became its settings: {}() makes the loss"
    return explain_rewrite(ctx, change, reason, "{}()(…)")


def _explain_condition(ctx: FailureContext, tree: ast.AST) -> Diagnosis | None:
    if not any(isinstance(node, _CONDITIONS) for node in ast.walk(tree)):
        return None
    last = next((call.outputs[0].shape for call in reversed(ctx.trace.calls) if call.outputs), ())
    size = f" {write_shape(last)}" if last else ""
    reason = f"a condition is one truth value, and the tensor{size} has one for each number: torch.where chooses"
    return Diagnosis(reason, "a bool, or .all() or .any() of the tensor")


def make_attribute(
    ctx: FailureContext,
    name: str,
    write: Callable[[ast.expr], str],
    code: str = "int(old)",
    fact: ModuleFact | None = None,
) -> Candidate:
    """Make another thing of what ``__init__`` sets.

    Args:
        name: ``"self.act"``.
        write: Writes the new value from the one that is written there.
        code: The same, made of the value itself, which is ``old``.
        fact: The module whose ``__init__`` it is, by default the user's whose line failed.
    """
    fact, attribute = fact or find_users_module(ctx), name.rpartition(".")[2]
    found = find_setter(fact, attribute) if fact is not None else None
    if fact is None or found is None or len(found[0]) != 1:
        return NOTHING
    path = join_path(fact.path, attribute)
    written = write(found[0][0].value)
    return Candidate(write_change(path, written), (LayerEdit(path, code, written),))


def find_users_module(ctx: FailureContext) -> ModuleFact | None:
    """Return the module of the user's whose line failed."""
    facts = map(ctx.flow.module_of, (ctx.call, *ctx.flow.around(ctx.call)))
    return next((fact for fact in facts if fact is not None and not fact.type_module.startswith("torch.")), None)
