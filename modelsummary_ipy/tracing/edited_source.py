"""Functions of the user's with some lines changed: compiled anew, in their own globals and closures, for one shadow."""

from __future__ import annotations

import ast
import copy
import linecache
import operator
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any, NamedTuple

from torch import Tensor, nn

from modelsummary_ipy.model.attribute_reads import walk_code
from modelsummary_ipy.records.fixes import LineEdit, change_lines

#: By name and first line, the code of a function.
_Codes = Mapping[tuple[str, int], CodeType]

_DEPTH = 6


class UnfitEditError(Exception):
    """A change that can't be made: its text is no Python, or its line is in no function of the model's own."""


def bind_edited(modules: Sequence[nn.Module], edits: Sequence[LineEdit]) -> None:
    """Give every module whose methods lead to an edited line methods of its own with that line changed.

    The user's functions, classes and source stay as they are.

    Raises:
        UnfitEditError: If the changed lines are no Python, or no function has them.
    """
    rebuilders = [
        _Rebuilder(filename, [edit for edit in edits if edit.filename == filename])
        for filename in dict.fromkeys(edit.filename for edit in edits)
    ]
    found: dict[type, _Edited] = {}
    for module in modules:
        kind = type(module)
        if kind not in found:
            found[kind] = _find_methods(kind, rebuilders)
        for name, made in found[kind].methods.items():
            module.__dict__[name] = MethodType(made, module) if isinstance(made, FunctionType) else made.__func__
        if found[kind].kind is not kind:
            module.__class__ = found[kind].kind
        for rebuilder in rebuilders:
            for name, value in list(vars(module).items()):
                if (made := rebuilder.rebuild_held(value)) is not value:
                    module.__dict__[name] = made
    if not all(rebuilder.is_used for rebuilder in rebuilders):
        raise UnfitEditError("no function of the model has the line")


def edit_class(kind: type, edits: Sequence[LineEdit], code: str) -> dict[str, Any]:
    """Return what a call of a class reads by name, where lines of the classes' own methods are changed.

    Args:
        kind: The class that is called.
        edits: Lines of one file; none leaves the classes as they are.
        code: The call.

    Raises:
        UnfitEditError: If the changed lines are no Python, or no method that the call leads to has them.
    """
    space = {**getattr(kind.__dict__.get("__init__"), "__globals__", {}), kind.__name__: kind}
    read = [name for name in compile(code, "<fix>", "eval").co_names if name in space]
    if _reads_modules(kind, set()) or any(isinstance(space[name], (nn.Module, Tensor)) for name in read):
        raise UnfitEditError("a module or tensor that was there before would become a part of it")
    classes = [name for name in read if isinstance(space[name], type)]
    try:
        copies = {name: copy.deepcopy(space[name]) for name in read if not callable(space[name])}
    except Exception as error:  # whatever a configuration raises that can't be copied
        raise UnfitEditError(str(error)) from error
    space.update(copies)
    if edits:
        rebuilder = _Rebuilder(edits[0].filename, edits, makes_classes=True)
        space.update({name: rebuilder.rebuild_class(space[name]) for name in classes})
        if not rebuilder.is_used:
            raise UnfitEditError("no class that the call leads to has the line")
    return space


def _reads_modules(value: Any, seen: set[int]) -> bool:
    """Return whether a class or function of the user's, or one that it leads to, reads a module that is there."""
    if id(value) in seen or (getattr(value, "__module__", None) or "torch").partition(".")[0] == "torch":
        return False
    seen.add(id(value))
    if isinstance(value, type):
        return issubclass(value, nn.Module) and any(_reads_modules(item, seen) for item in list(vars(value).values()))
    if not isinstance(value, FunctionType):
        return isinstance(value, (nn.Module, Tensor))
    named = (value.__globals__.get(name) for code in walk_code(value.__code__) for name in code.co_names)
    kept = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *named]
    return any(isinstance(item, (nn.Module, Tensor)) or _reads_modules(item, seen) for item in kept)


class _Edited(NamedTuple):
    """What the modules of one class get.

    Attributes:
        methods: Methods that replace those of the class, by name.
        kind: The class itself, or one that inherits from it and has other methods where ``super()`` finds them.
    """

    methods: dict[str, Any]
    kind: type


def _find_methods(kind: type, rebuilders: Sequence[_Rebuilder]) -> _Edited:
    methods: dict[str, Any] = {}
    inherited: dict[type, dict[str, Any]] = {}
    for base in kind.__mro__:
        if base.__module__.startswith("torch."):
            break
        for name, value in list(vars(base).items()):
            if not isinstance(value, (FunctionType, staticmethod)):
                continue
            made: Any = value
            for rebuilder in rebuilders:
                made = rebuilder.rebuild(made)
            if name not in methods:
                methods[name] = made if made is not value else None
                if made is not value and isinstance(made, FunctionType) and made.__name__ != value.__name__:
                    methods[made.__name__] = made  # the changed line named it
            elif made is not value:
                inherited.setdefault(base, {})[name] = made
    changed = {name: made for name, made in methods.items() if made is not None}
    return _Edited(changed, _inherit(kind, inherited) if inherited else kind)


def _inherit(kind: type, inherited: Mapping[type, dict[str, Any]], own: Mapping[str, Any] | None = None) -> type:
    """Make a class that inherits from ``kind``, with ``own`` methods, and others in the place of those of its bases.

    A class is made in front of each such base: it is what ``super()`` finds in the methods of ``kind``.
    """
    if type(kind) is not type or "__init_subclass__" in {name for base in kind.__mro__[:-1] for name in vars(base)}:
        raise UnfitEditError("the class does more when another inherits from it")
    made = [type(base.__name__, (base,), {**own, "__module__": base.__module__}) for base, own in inherited.items()]
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind, *made), {**(own or {}), **names})


class _Rebuilder:
    """Makes functions anew that hold an edited line of one file, or lead to one that does."""

    def __init__(self, filename: str, edits: Sequence[LineEdit], *, makes_classes: bool = False) -> None:
        self._makes_classes = makes_classes
        lines = linecache.getlines(filename)
        if not lines or any(edit.last > len(lines) for edit in edits):
            raise UnfitEditError("the source can't be read")
        self._filename = filename
        self._lines = {line for edit in edits for line in range(edit.first, edit.last + 1)}
        try:
            self._codes: _Codes = dict(_compile_parts(filename, lines, edits))
        except SyntaxError as error:
            raise UnfitEditError(str(error)) from error
        self._made: dict[int, Any] = {}
        self.is_used = False

    def rebuild(self, value: Any, depth: int = 0) -> Any:
        """Return a function that leads to the edited lines; ``value`` itself if it does not."""
        if isinstance(value, staticmethod):
            made = self.rebuild(value.__func__, depth)
            return value if made is value.__func__ else staticmethod(made)
        if not isinstance(value, FunctionType) or depth > _DEPTH:
            return value
        if id(value) not in self._made:
            self._made[id(value)] = value  # a function that leads to itself
            self._made[id(value)] = self._make(value, depth)
        return self._made[id(value)]

    def rebuild_class(self, kind: type) -> type:
        """Return a class whose methods lead to the edited lines; ``kind`` itself if none of its methods does."""
        if not issubclass(kind, nn.Module) or kind.__module__.startswith("torch."):
            return kind
        if id(kind) not in self._made:
            self._made[id(kind)] = kind  # a method that names its own class
            edited = _find_methods(kind, [self])
            if edited.methods or edited.kind is not kind:
                self._made[id(kind)] = _inherit(edited.kind, {}, edited.methods)
        made: type = self._made[id(kind)]
        return made

    def rebuild_held(self, value: Any) -> Any:
        """Return what a module keeps, ``self.encode = one_hot``, with the functions in it that lead to edited lines."""
        if isinstance(value, partial):
            made = self.rebuild(value.func)
            return value if made is value.func else partial(made, *value.args, **value.keywords)
        if type(value) in (list, tuple):
            items = [self.rebuild(item) for item in value]
            return value if all(map(operator.is_, items, value)) else type(value)(items)
        if type(value) is dict:
            values = {key: self.rebuild(item) for key, item in value.items()}
            return value if all(map(operator.is_, values.values(), value.values())) else values
        return self.rebuild(value)

    def _make(self, function: FunctionType, depth: int) -> FunctionType:
        code = function.__code__
        if code.co_filename == self._filename and not self._lines.isdisjoint(_list_lines(code)):
            code = self._codes.get((code.co_name, code.co_firstlineno)) or self._find_renamed(code)
            self.is_used |= code is not function.__code__
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        changed = {name: self._rebuild_cell(cell, depth) for name, cell in cells.items()}
        names = self._rebuild_globals(function, depth)
        if code is function.__code__ and not names and all(changed[name] is cells[name] for name in cells):
            return function
        if any(name not in changed for name in code.co_freevars):
            raise UnfitEditError("the change reads a name of an outer function that its code did not read")
        space = {**function.__globals__, **names} if names else function.__globals__
        name = code.co_name if code.co_name != function.__code__.co_name else function.__name__
        made = FunctionType(code, space, name, function.__defaults__, tuple(changed[name] for name in code.co_freevars))
        made.__kwdefaults__ = function.__kwdefaults__
        made.__dict__.update(function.__dict__)
        return made

    def _find_renamed(self, code: CodeType) -> CodeType:
        """Return the function that begins on the same line: its name may be what was changed."""
        same = [made for (_, line), made in self._codes.items() if line == code.co_firstlineno]
        return same[0] if len(same) == 1 and code.co_firstlineno in self._lines else code

    def _rebuild_cell(self, cell: CellType, depth: int) -> CellType:
        try:
            content = cell.cell_contents
        except ValueError:  # still empty
            return cell
        made = self.rebuild(content, depth + 1)
        return cell if made is content else CellType(made)

    def _rebuild_globals(self, function: FunctionType, depth: int) -> dict[str, Any]:
        """Make helpers anew that the function calls by a global name."""
        found = {}
        for name in [name for code in walk_code(function.__code__) for name in code.co_names]:
            value = function.__globals__.get(name)
            if isinstance(value, FunctionType) and not (value.__module__ or "").startswith("torch"):
                made = self.rebuild(value, depth + 1)
                if made is not value:
                    found[name] = made
            elif self._makes_classes and isinstance(value, type):
                kind = self.rebuild_class(value)
                if kind is not value:
                    found[name] = kind
        return found


def _list_lines(code: CodeType) -> Iterator[int]:
    return (line for inner in walk_code(code) for _, _, line in inner.co_lines() if line is not None)


def _compile_parts(
    filename: str, lines: Sequence[str], edits: Sequence[LineEdit]
) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """Compile the statements of a file that hold an edit, each with its own edits, and list the functions in them."""
    for first, last in _find_statements("".join(lines)):
        own = [edit for edit in edits if first <= edit.first <= last]
        if own:
            shift = first - 1
            moved = [edit._replace(first=edit.first - shift, last=edit.last - shift) for edit in own]
            tree = ast.parse("".join(change_lines(lines[shift:last], moved)))
            _restore_lines(tree, _list_origins(first, last, own))
            module = compile(tree, filename, "exec", dont_inherit=True)
            yield from (((code.co_name, code.co_firstlineno), code) for code in walk_code(module) if code is not module)


def _list_origins(first: int, last: int, edits: Sequence[LineEdit]) -> list[int]:
    """List, for each line of an edited statement, the line of the file that it stands for."""
    found: list[int] = []
    line = first
    for edit in sorted(edits):
        rows = max(len(edit.text.splitlines()), 1)
        found += [*range(line, edit.first), *(min(edit.first + row, edit.last) for row in range(rows))]
        line = edit.last + 1
    return [*found, *range(line, last + 1)]


def _restore_lines(tree: ast.Module, origins: Sequence[int]) -> None:
    """Give the nodes of an edited statement the lines that they have in the file, so that a failure names these."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.expr, ast.stmt, ast.excepthandler, ast.arg, ast.keyword, ast.alias, ast.pattern)):
            end = node.end_lineno or node.lineno
            node.lineno, node.end_lineno = origins[node.lineno - 1], origins[end - 1]
            if node.lineno == node.end_lineno:
                node.end_col_offset = max(node.col_offset, node.end_col_offset or 0)


@lru_cache(maxsize=8)
def _find_statements(text: str) -> tuple[tuple[int, int], ...]:
    """Return the first and the last line of each statement of a file; many candidates change lines of the same file."""
    body = ast.parse(text).body
    firsts = (min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))]) for node in body)
    return tuple((first, node.end_lineno or node.lineno) for first, node in zip(firsts, body, strict=True))
