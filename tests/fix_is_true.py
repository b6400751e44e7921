"""Every fix that a test shows is applied to a copy of the real model and run for real, by means of the tests' own.

``check_fixes`` is called for every failure that any test looks at (``tests/conftest.py``): the patch is applied to the
text of the file, the methods that it changes are made of that text, the layers that the fix names are set on a deep
copy, and the copy runs on zeros. It must give what the fix says.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import difflib
import functools
import inspect
import io
import itertools
import linecache
import re
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.pytree import map_leaves, walk_leaves
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.records.fixes import Fix
from modelsummary_ipy.records.trace import Trace

__all__ = ["CHECKED", "apply_patch", "check_fixes", "copy_model"]

#: By its text, whether a fix was run; the others are of models that can't be copied.
CHECKED: dict[str, bool] = {}

_LARGEST = 1 << 24


def check_fixes(model: nn.Module | None, trace: Trace, inputs: ModelInputs | None, error: ForwardError) -> None:
    """Run every fix of a failure for real.

    Raises:
        AssertionError: If a fix does not run, or gives something else than it says.
    """
    for fix in error.fixes:
        if model is None or inputs is None:
            CHECKED.setdefault(fix.text, False)
            continue
        with torch.random.fork_rng(devices=[]):
            changed = _apply(copy.deepcopy(model), trace, fix)
        if changed is None:
            CHECKED.setdefault(fix.text, False)
            continue
        args, kwargs = _make_inputs(inputs, trace, fix)
        quiet = contextlib.redirect_stdout(io.StringIO())
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), quiet:
            warnings.simplefilter("ignore")
            call = getattr(changed, trace.method) if trace.method != "forward" else changed
            output = _give(changed, call, fix, args, kwargs) if fix.changes_input else call(*args, **kwargs)
        shapes = [tuple(leaf.shape) for _, leaf in walk_leaves(output) if isinstance(leaf, Tensor)]
        assert shapes == [spec.shape for spec in fix.outputs], f"{fix.text}: {shapes}"
        CHECKED[fix.text] = True


def _give(model: nn.Module, call: Any, fix: Fix, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do what a fix of the inputs says: a call of the model, or new values of what it is called with."""
    names = [*inspect.signature(model.forward if call is model else call).parameters]
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    scope = {**({"x": args[0]} if args else {}), **given, "torch": torch, "model": model}
    line = fix.text.partition("\n")[0]  # others change layers
    called = re.match(r"(\w+)[.(]", line)  # by the name that the user's line calls it by
    if called is not None and called[1] not in given:
        return eval(line, {**scope, called[1]: model})
    exec(line, scope)
    return call(**{name: scope[name] for name in given})


def copy_model(model: nn.Module, trace: Trace) -> nn.Module | None:
    """Copy a model that failed; ``None`` if it is large, not on the CPU, or can't be copied."""
    devices = {spec.device for spec in (*trace.params, *[fact.spec for fact in trace.inputs])}
    if devices - {"cpu"} or sum(param.num for param in trace.params) > _LARGEST:
        return None
    try:
        return copy.deepcopy(model)
    except Exception:  # noqa: BLE001  # some models of the tests refuse to be copied, by whatever they raise
        return None


# -- the change -------------------------------------------------------------------------------------------------------

_TARGET = re.compile(r"(?:^|\n)(?:self|model)((?:\.\w+|\[\d+\])+) = ")
_INSERTION = re.compile(r"(?:self|model)[\w.\[\]]*\.insert\(\d+, nn\.\w+\(.*?\)\)")
_CALLED = re.compile(r"model\((x\..+)\)")
_AROUND = re.compile(r"(.+) before '(.+?)'(?: and (.+) after it)?")


_FIELD = re.compile(r"config\.([\w.]+) = (\d+); (?:self|model)(?:\.([\w.]+))? = \w+\(config\)")


def _make_anew(model: nn.Module, fix: Fix) -> nn.Module | None:
    """Make the model, or one of the transformers in it, of other arguments; ``None`` if the fix says nothing such."""
    if (field := _FIELD.fullmatch(fix.text)) is not None:
        old = model.get_submodule(field[3] or "")
        config = copy.deepcopy(old.config)
        owner, _, name = f"config.{field[1]}".rpartition(".")
        setattr(eval(owner, {"config": config}), name, int(field[2]))
        if not field[3]:
            return type(old)(config)
        model.set_submodule(field[3], type(old)(config))
        return model
    if fix.text.startswith(f"{type(model).__name__}("):
        made = eval(fix.text, {type(model).__name__: type(model)})
        assert isinstance(made, nn.Module)
        return made.train(model.training)
    return None


def _apply(model: nn.Module, trace: Trace, fix: Fix) -> nn.Module | None:
    """Do what the fix says; ``None`` where a line is to be changed and there is no patch."""
    if (made := _make_anew(model, fix)) is not None:
        return made.train(model.training)
    rest = fix.text
    kinds = {type(module) for module in model.modules()}
    defaults = [item for kind in kinds for item in inspect.signature(kind).parameters.values()]
    names = {item.name: item.default for item in defaults if type(item.default) in (type, int)}  # of __init__
    names |= {kind.__name__: kind for kind in kinds} | {"nn": nn, "torch": torch}
    for found in list(_TARGET.finditer(fix.text)):
        code = _cut_expression(fix.text[found.end() :], names)
        if code:
            _set_value(model, found[1], eval(code, names))
            rest = rest.replace(found[0].removeprefix("\n") + code, "")
    for found in list(_INSERTION.finditer(rest)):
        eval(found[0], {**names, "self": model, "model": model})
        rest = rest.replace(found[0], "")
    if fix.text == "model.eval()":
        model.eval()
    elif re.match(r"for layer in [\w.\[\]]+\.modules\(\): ", fix.text) is not None:
        exec(fix.text, {"self": model, "model": model})
    elif (around := _AROUND.fullmatch(rest.strip("\n"))) is not None:
        _add_hooks(model.get_submodule(around[2]), around[1], around[3])
    elif fix.changes_input:
        return model
    elif (called := _CALLED.fullmatch(rest)) is not None:
        _add_hooks(model, called[1], None)
    elif fix.patch is not None:
        if _runs_when_made(model, fix):
            return _make_of_patched(model, fix)
        _edit_methods(model, trace, fix.patch)
    elif rest.strip("\n"):
        patch = _write_line(trace, rest.strip("\n"))
        if patch is None:
            return None
        _edit_methods(model, trace, patch)
    return model


def _runs_when_made(model: nn.Module, fix: Fix) -> bool:
    """Return whether a fix is of a line that runs when an instance of the model's class is made."""
    function = type(model).__init__
    place = re.match(r"at .+?(?:line |:)(\d+): ", fix.text)
    if place is None or not isinstance(function, types.FunctionType) or (fix.patch or "").count("\n--- "):
        return False
    tree = _parse("".join(linecache.getlines(function.__code__.co_filename)))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    around = [node for node in functions if node.lineno <= int(place[1]) <= (node.end_lineno or 0)]
    calls = [item for node in functions if node.name == "__init__" for item in ast.walk(node)]
    called = {getattr(item.func, "attr", getattr(item.func, "id", "")) for item in calls if isinstance(item, ast.Call)}
    return bool(around) and around[-1].name in {"__init__", *called}


def _make_of_patched(model: nn.Module, fix: Fix) -> nn.Module | None:
    """Call the patched class with its defaults; ``None`` if it has arguments without one."""
    kind, function = type(model), type(model).__init__
    assert fix.patch is not None
    if any(item.default is item.empty for item in inspect.signature(kind).parameters.values()):
        return None
    lines = linecache.getlines(function.__code__.co_filename)
    space = dict(function.__globals__)
    for node in _parse_patched(_parse("".join(lines)), lines, fix.patch).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in space:
            node = copy.deepcopy(node)
            node.decorator_list = []
            exec(compile(ast.Module([node], []), "<fixed>", "exec"), space)
    made = space[kind.__name__]()
    assert isinstance(made, nn.Module)
    return made.train(model.training)


def _write_line(trace: Trace, line: str) -> str | None:
    """Write a diff that puts one line of code in the place of the line that failed; ``None`` for anything else."""
    source = trace.failure.source if trace.failure is not None else None
    if source is None or "\n" in line or line.startswith("at "):
        return None
    try:
        ast.parse(line)
    except SyntaxError:
        return None
    before = linecache.getlines(source.filename)
    old = before[source.line - 1]
    after = [*before]
    after[source.line - 1] = old[: len(old) - len(old.lstrip())] + line + "\n"
    return "".join(difflib.unified_diff(before, after, f"a/{source.file}", f"b/{source.file}", n=2))


def _cut_expression(text: str, names: Mapping[str, Any]) -> str:
    """Return the layer or the plain value that a text begins with; ``""`` if it is something else."""
    pieces = text.split("\n")
    for count in range(1, len(pieces) + 1):
        code = "\n".join(pieces[:count])
        with contextlib.suppress(SyntaxError):
            tree = ast.parse(code, mode="eval")
            if {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} <= names.keys():
                return code
    return ""


def _set_value(model: nn.Module, path: str, value: Any) -> None:
    names = re.findall(r"\w+", path)
    owner = model.get_submodule(".".join(names[:-1]))
    like = next((param for param in model.parameters() if param.is_floating_point()), None)
    if isinstance(value, nn.Module) and like is not None and like.dtype != torch.get_default_dtype():
        value.to(dtype=like.dtype)  # as the model was made of that dtype
    setattr(owner, names[-1], value)


def _add_hooks(layer: nn.Module, before: str, after: str | None) -> None:
    layer.register_forward_pre_hook(lambda _m, args: (eval(before, {"x": args[0], "torch": torch}), *args[1:]))
    if after:
        layer.register_forward_hook(lambda _m, _a, output: eval(after, {"y": output, "torch": torch}))


def apply_patch(patch: str, lines: Sequence[str]) -> list[str]:
    """Apply a unified diff by its own words: what is taken away must be there."""
    made: list[str] = []
    at = 0
    for row in patch.splitlines(keepends=True):
        if row.startswith(("---", "+++")):
            continue
        if row.startswith("@@"):
            start = int(row.split()[1].partition(",")[0][1:]) - 1
            made += lines[at:start]
            at = start
        elif row.startswith("+"):
            made.append(row[1:])
        else:
            is_magic = row[1:].lstrip().startswith("%") and "run_line_magic" in lines[at]  # as it was typed
            assert lines[at] == row[1:] or is_magic
            made += [lines[at]] if row.startswith(" ") else []
            at += 1
    return made + list(lines[at:])


def _edit_methods(model: nn.Module, trace: Trace, patch: str) -> None:
    """Make the methods of the model's classes of the patched text."""
    files = {code.co_filename for module in model.modules() for code in _list_codes(type(module))}
    for part in re.split(r"(?=^--- )", patch, flags=re.MULTILINE)[1:]:
        name = part.split("\n", 1)[0].removeprefix("--- a/").strip()
        filename = next(file for file in files if file.endswith(f"/{name}") or _is_cell(trace, file, name))
        lines = linecache.getlines(filename)
        old = _parse("".join(lines))
        new = _parse_patched(old, lines, part)
        for module in list(model.modules()):
            module.__class__ = _edit_class(type(module), filename, old, new)
            for kept, value in list(vars(module).items()):
                if isinstance(value, types.FunctionType) and value.__code__.co_filename == filename:
                    node = _find_method(new, value)
                    vars(module)[kept] = value if node is None else _make_function(value, node, {})


@functools.cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def _parse_patched(old: ast.Module, lines: Sequence[str], patch: str) -> ast.Module:
    """Parse the classes and functions that a patch changes, and take the rest of the file as it was."""
    patched = apply_patch(patch, lines)
    first = next((at for at, (a, b) in enumerate(zip(lines, patched, strict=False)) if a != b), len(lines))
    after = zip(reversed(lines[first:]), reversed(patched[first:]), strict=False)
    last = len(lines) - sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], after))
    starts = [min([node.lineno, *[each.lineno for each in getattr(node, "decorator_list", ())]]) for node in old.body]
    begin = max(sum(start - 1 <= first for start in starts) - 2, 0)  # the one before too: its end may have moved
    end = max(sum(start - 1 < last for start in starts), begin)
    low = starts[begin] - 1 if begin else 0
    high = starts[end] - 1 if end < len(starts) else len(lines)
    changed = ast.parse("\n" * low + "".join(patched[low : high + len(patched) - len(lines)]))
    return ast.Module([*old.body[:begin], *changed.body, *old.body[end:]], [])


def _is_cell(trace: Trace, filename: str, name: str) -> bool:
    return any(
        call.source is not None and call.source[0] == name and call.source.filename == filename for call in trace.calls
    )


def _list_codes(kind: type) -> Iterator[types.CodeType]:
    for base in kind.__mro__:
        if not base.__module__.startswith("torch."):
            yield from (value.__code__ for value in vars(base).values() if isinstance(value, types.FunctionType))


def _edit_class(kind: type, filename: str, old: ast.Module, new: ast.Module) -> type:
    helpers = {node.name: node for node in new.body if isinstance(node, ast.FunctionDef)}
    before = {node.name: ast.dump(node) for node in old.body if isinstance(node, ast.FunctionDef)}
    changed = {name: node for name, node in helpers.items() if before.get(name) != ast.dump(node)}
    methods: dict[str, Any] = {}
    inherited: dict[type, dict[str, Any]] = {}  # what super() finds
    seen: set[str] = set()
    for base in kind.__mro__:
        for name, value in vars(base).items():
            function = value.__func__ if isinstance(value, staticmethod) else value
            function = inspect.unwrap(function) if callable(function) else function
            is_here = isinstance(function, types.FunctionType) and function.__code__.co_filename == filename
            if not is_here or base.__module__.startswith("torch.") or name == "__init__":
                continue
            own = inherited.setdefault(base, {}) if name in seen else methods
            seen.add(name)
            node = _find_method(new, function) or _find_renamed(old, new, function)
            if node is not None and (changed or ast.dump(node) != ast.dump(_find_method(old, function) or node)):
                made = _make_function(function, node, changed)
                own[node.name] = staticmethod(made) if isinstance(value, staticmethod) else made
    made = [type(base.__name__, (base,), own) for base, own in inherited.items() if own]
    return type(kind.__name__, (kind, *made), methods) if methods or made else kind


def _find_method(tree: ast.Module, function: types.FunctionType) -> ast.FunctionDef | None:
    """Find a function by the names that it is nested in; of several, the nearest line."""
    path = [name for name in function.__qualname__.split(".") if name != "<locals>"]
    level: list[ast.AST] = [tree]
    for name in path:
        level = [node for owner in level for node in _walk_definitions(owner) if node.name == name]
    found = [node for node in level if isinstance(node, ast.FunctionDef)]
    return min(found, key=lambda node: abs(node.lineno - function.__code__.co_firstlineno), default=None)


def _walk_definitions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Walk the classes and functions of a tree, through its statements alone."""
    for field in ("body", "orelse", "handlers", "finalbody"):
        for node in getattr(tree, field, ()) if not isinstance(tree, ast.expr) else ():
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                yield node
            yield from _walk_definitions(node)


def _find_renamed(old: ast.Module, new: ast.Module, function: types.FunctionType) -> ast.FunctionDef | None:
    """Find what stands in the place of a function that the changed text does not have."""
    before = [node for node in ast.walk(old) if isinstance(node, ast.FunctionDef)]
    after = [node for node in ast.walk(new) if isinstance(node, ast.FunctionDef)]
    pairs = zip(before, after, strict=True)
    return next((node for was, node in pairs if was is _find_method(old, function) and was.name != node.name), None)


def _make_function(function: types.FunctionType, node: ast.FunctionDef, helpers: dict[str, ast.FunctionDef]) -> Any:
    held = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    node = copy.deepcopy(node)
    node.decorator_list = []
    arguments = [ast.arg(arg=name) for name in held]
    factory = ast.parse("def factory(): pass").body[0]
    assert isinstance(factory, ast.FunctionDef)
    factory.args.args = arguments
    factory.body = [node, ast.Return(ast.Name(node.name, ast.Load()))]
    space = dict(function.__globals__)
    module = ast.fix_missing_locations(ast.Module([*helpers.values(), factory], []))
    exec(compile(module, "<fixed>", "exec"), space)
    return space["factory"](*[cell.cell_contents for cell in held.values()])


# -- the inputs -------------------------------------------------------------------------------------------------------


def _make_inputs(inputs: ModelInputs, trace: Trace, fix: Fix) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Make tensors of the sizes and dtypes that were traced, where the user gave sizes or tensors: of zeros mostly."""
    specs = iter(fact.spec for fact in trace.inputs)

    def make(_name: str, _leaf: Any) -> Any:
        spec = next(specs)
        dtype = getattr(torch, spec.dtype)
        is_counted = fix.text.endswith((" - 1)", " - 1")) and not dtype.is_floating_point  # labels counted from 1
        return torch.full(spec.shape, int(is_counted), dtype=dtype)

    args = tuple(map_leaves(value, "", make) for value in inputs.args)
    return args, {name: map_leaves(value, name, make) for name, value in inputs.kwargs.items()}
