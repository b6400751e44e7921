"""Functions of the user's with some lines changed: compiled anew, in their own globals and closures, for one shadow."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator, Mapping, Sequence
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

from torch import nn

from modelsummary_ipy.records.fixes import LineEdit, change_lines

__all__ = ["bind_edited"]

#: By name and first line, the code of a function.
_Codes = Mapping[tuple[str, int], CodeType]

_DEPTH = 6


def bind_edited(modules: Sequence[nn.Module], edits: Sequence[LineEdit]) -> None:
    """Give every module whose methods lead to an edited line methods of its own with that line changed.

    The user's functions, classes and source stay as they are.

    Raises:
        SyntaxError: If the changed lines are no Python, or no function has them.
    """
    rebuilders = [
        _Rebuilder(filename, [edit for edit in edits if edit.filename == filename])
        for filename in dict.fromkeys(edit.filename for edit in edits)
    ]
    found: dict[type, dict[str, Any]] = {}
    for module in modules:
        kind = type(module)
        if kind not in found:
            found[kind] = _find_methods(kind, rebuilders)
        for name, made in found[kind].items():
            module.__dict__[name] = MethodType(made, module) if isinstance(made, FunctionType) else made.__func__
    if not all(rebuilder.is_used for rebuilder in rebuilders):
        raise SyntaxError("no function of the model has the line")


def _find_methods(kind: type, rebuilders: Sequence[_Rebuilder]) -> dict[str, Any]:
    methods: dict[str, Any] = {}
    for base in kind.__mro__:
        if base.__module__.startswith("torch."):
            break
        for name, value in list(vars(base).items()):
            if name in methods or not isinstance(value, (FunctionType, staticmethod)):
                continue
            made: Any = value
            for rebuilder in rebuilders:
                made = rebuilder.rebuild(made)
            methods[name] = made if made is not value else None
    return {name: made for name, made in methods.items() if made is not None}


class _Rebuilder:
    """Makes functions anew that hold an edited line of one file, or lead to one that does.

    Args:
        filename: The file.
        edits: Its edits.
    """

    def __init__(self, filename: str, edits: Sequence[LineEdit]) -> None:
        lines = linecache.getlines(filename)
        if not lines or any(edit.last > len(lines) for edit in edits):
            raise SyntaxError("the source can't be read")
        self._filename = filename
        self._lines = {line for edit in edits for line in range(edit.first, edit.last + 1)}
        self._codes: _Codes = dict(_compile_parts(filename, lines, edits))
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

    def _make(self, function: FunctionType, depth: int) -> FunctionType:
        code = function.__code__
        if code.co_filename == self._filename and self._holds_edit(code):
            code = self._codes.get((code.co_name, code.co_firstlineno), code)
            self.is_used |= code is not function.__code__
        cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        changed = {name: self._rebuild_cell(cell, depth) for name, cell in cells.items()}
        names = self._rebuild_globals(function, depth)
        if code is function.__code__ and not names and all(changed[name] is cells[name] for name in cells):
            return function
        if any(name not in changed for name in code.co_freevars):
            raise SyntaxError("the change reads a name of an outer function that its code did not read")
        space = {**function.__globals__, **names} if names else function.__globals__
        made = FunctionType(
            code, space, function.__name__, function.__defaults__, tuple(changed[name] for name in code.co_freevars)
        )
        made.__kwdefaults__ = function.__kwdefaults__
        made.__dict__.update(function.__dict__)
        return made

    def _holds_edit(self, code: CodeType) -> bool:
        return any(line in self._lines for line in _list_lines(code))

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
        for name in _list_names(function.__code__):
            value = function.__globals__.get(name)
            if isinstance(value, FunctionType) and not (value.__module__ or "").startswith("torch"):
                made = self.rebuild(value, depth + 1)
                if made is not value:
                    found[name] = made
        return found


def _list_lines(code: CodeType) -> Iterator[int]:
    yield from (line for _, _, line in code.co_lines() if line is not None)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _list_lines(inner)


def _list_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _list_names(inner)


def _compile_parts(
    filename: str, lines: Sequence[str], edits: Sequence[LineEdit]
) -> Iterator[tuple[tuple[str, int], CodeType]]:
    """Compile the statements of a file that hold an edit, each with its own edits, and list the functions in them."""
    for node in ast.parse("".join(lines)).body:
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
        last = node.end_lineno or node.lineno
        own = [edit for edit in edits if first <= edit.first <= last]
        if own:
            shift = first - 1
            part = change_lines(
                lines[shift:last], [edit._replace(first=edit.first - shift, last=edit.last - shift) for edit in own]
            )
            yield from _list_functions(compile("\n" * shift + "".join(part), filename, "exec", dont_inherit=True))


def _list_functions(code: CodeType) -> Iterator[tuple[tuple[str, int], CodeType]]:
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield (inner.co_name, inner.co_firstlineno), inner
            yield from _list_functions(inner)
