"""A fix as a unified diff against the user's file or cell."""

from __future__ import annotations

import ast
import copy
import difflib
import linecache
import re
from collections.abc import Mapping, Sequence, Set

from modelsummary_ipy.diagnosis.failures.module_code import write_change, write_insertion, write_module
from modelsummary_ipy.diagnosis.failures.rebuilds import find_root_calls
from modelsummary_ipy.diagnosis.failures.setters import find_item, find_module, find_setter
from modelsummary_ipy.diagnosis.failures.source_edits import add_keyword, replace_call
from modelsummary_ipy.diagnosis.failures.source_nodes import (
    read_arguments_of,
    read_name,
    read_text,
    splice_node,
    write_call,
)
from modelsummary_ipy.diagnosis.failures.statements import list_nodes, name_file, parse_file, read_statement
from modelsummary_ipy.diagnosis.fixes.known_names import evaluate_size, read_known_names
from modelsummary_ipy.records.fixes import (
    AroundEdit,
    ConfigEdit,
    Edit,
    LayerEdit,
    LineEdit,
    RemadeEdit,
    SettingEdit,
    change_lines,
)
from modelsummary_ipy.records.packages import PACKAGES
from modelsummary_ipy.records.trace import ModuleFact, Source, Trace, join_path


def write_patch(trace: Trace, edits: Sequence[Edit]) -> tuple[str, str] | None:
    """Write a fix as a unified diff, and the classes and functions that it changes as they are then.

    Returns:
        ``None`` if a part of it is no change of the user's source, or its place is not found there.
    """
    lines: list[LineEdit] = []
    edits = [
        LayerEdit(edit.path, "", edit.layer) if isinstance(edit, AroundEdit) and edit.layer else edit for edit in edits
    ]
    layers = {(edit.path, edit.code) for edit in edits if isinstance(edit, LayerEdit)}
    for edit in edits:
        if isinstance(edit, (LayerEdit, ConfigEdit)):
            is_layer = isinstance(edit, LayerEdit) and edit.path
            placed = place_layer(trace, edit, layers) if is_layer else place_rebuild(trace, edit)  # type: ignore[arg-type]
            if placed is None:
                return None
            lines.append(placed)
        elif isinstance(edit, SettingEdit):
            placed_calls = place_setting(trace, edit)
            if not placed_calls:
                return None
            lines += placed_calls
        elif isinstance(edit, LineEdit):
            lines.append(edit)
        elif not isinstance(edit, RemadeEdit):
            return None
    merged = _merge(list(dict.fromkeys(lines)))  # alike modules are of one line
    if merged is None:
        return None
    failed = trace.failure.source if trace.failure is not None else None
    patch, source = "", ""
    for filename in dict.fromkeys(edit.filename for edit in merged):
        own = [edit for edit in merged if edit.filename == filename]
        is_failed = failed is not None and failed.filename == filename
        patch += _write_file(
            filename, failed.file if failed is not None and is_failed else name_file(trace, filename), own
        )
        source += _write_blocks(filename, own)
    return patch, source


def _merge(edits: Sequence[LineEdit]) -> list[LineEdit] | None:
    """Return the edits if no two of them change one line; two that change parts of one statement become one."""
    seen: set[tuple[str, int]] = set()
    whole: dict[tuple[str, int, int], LineEdit] = {}
    for edit in edits:
        place = (edit.filename, edit.first, edit.last)
        joined = _join(whole[place], edit) if place in whole else edit
        if joined is None:
            return None
        whole[place] = joined
    edits = list(whole.values())
    for edit in edits:
        own = {(edit.filename, line) for line in range(edit.first, edit.last + 1)}
        if own & seen:
            return None
        seen |= own
    return list(edits)


def _join(one: LineEdit, other: LineEdit) -> LineEdit | None:
    """Make one edit of two of the same lines; ``None`` if what they change overlaps."""
    lines = linecache.getlines(one.filename)[one.first - 1 : one.last]
    indent = len(lines[0]) - len(lines[0].lstrip())
    old = "\n".join(_dedent("".join(lines).rstrip("\n"), indent))
    spans = sorted((*_find_change(old, edit.text), edit.text) for edit in (one, other))
    (_, end, text), (start, last, after) = spans
    if end > start:
        return None
    head = text[: len(text) - (len(old) - end)]
    return one._replace(text=head + old[end:start] + after[start : len(after) - (len(old) - last)] + old[last:])


def _find_change(old: str, new: str) -> tuple[int, int]:
    """Return where the part of a text begins and ends that another text has otherwise."""
    start = _count_alike(old, new)
    return start, len(old) - _count_alike(old[start:][::-1], new[start:][::-1])


def _count_alike(one: str, other: str) -> int:
    """Return how many characters two texts have alike at their beginning."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


#: What IPython makes of ``%summary model``.
_MAGIC = re.compile(r"^(\s*)get_ipython\(\)\.run_line_magic\(('[^']*'), ('[^']*')\)$")


def _write_as_typed(line: str) -> str:
    """Write a line of a cell as the user did, where IPython wrote a magic as a call."""
    found = _MAGIC.match(line)
    if found is None:
        return line
    name, words = map(ast.literal_eval, found.groups()[1:])
    return f"{found[1]}%{name} {words}".rstrip() + "\n"


def _write_file(filename: str, name: str, edits: Sequence[LineEdit]) -> str:
    before = [_write_as_typed(line) for line in linecache.getlines(filename)]
    after = change_lines(before, edits)
    return "".join(difflib.unified_diff(before, after, f"a/{name}", f"b/{name}", n=2))


def _write_blocks(filename: str, edits: Sequence[LineEdit]) -> str:
    """Write the statements of a file that hold an edit, with it."""
    lines, tree = linecache.getlines(filename), parse_file(filename)
    blocks = []
    for node in tree.body if tree is not None else ():
        first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
        last = node.end_lineno or node.lineno
        own = [edit for edit in edits if first <= edit.first <= last]
        if own:
            moved = [edit._replace(first=edit.first - first + 1, last=edit.last - first + 1) for edit in own]
            blocks.append("".join(change_lines(lines[first - 1 : last], moved)))
    return "\n\n".join(blocks)


def place_layer(trace: Trace, edit: LayerEdit, layers: Set[tuple[str, str]]) -> LineEdit | None:
    """Find the line of a class that sets a layer, and write it with the new settings and all else as it was.

    Where the model has several modules of the class, and not each is to get the same layer, the class that makes them
    sets it: ``self.layer1.shortcut = …``.

    Args:
        layers: All layers of the fix, path and code; the code is empty for one that is put in front of the path.
    """
    pieces = edit.path.split(".")
    for cut in range(len(pieces) - 1, -1, -1):
        owner = find_module(trace, ".".join(pieces[:cut]))
        if owner is None:
            return None
        if owner.forward_file and not owner.forward_file.startswith(PACKAGES):  # a class of one's own may have torch's
            alike = [path for fact in trace.modules if _is_of_class(fact, owner) for path in fact.paths[:1]]
            inner = ".".join(pieces[cut:])
            if any((join_path(path, inner), edit.code) not in layers for path in alike):
                continue
            found = find_setter(owner, pieces[cut])
            return None if found is None else _edit_value(trace, edit, owner, found, pieces[cut:])
    return None


def place_rebuild(trace: Trace, edit: LayerEdit | ConfigEdit) -> LineEdit | None:
    """Find the one call that makes the model, or its configuration, and write it as it is to be."""
    found = {}
    if isinstance(edit, LayerEdit):
        changed = ast.parse(edit.code, mode="eval").body
        wanted = (
            {word.arg: ast.unparse(word.value) for word in changed.keywords} if isinstance(changed, ast.Call) else {}
        )
        for call in find_root_calls(trace):
            others = [name for name, value in call.arguments.items() if wanted.get(name) != repr(value)]
            statement = read_statement(Source("", call.node.lineno, "", call.filename))
            if len(others) == 1 and statement is not None:
                text = replace_call(statement.text, ast.unparse(call.node), edit.written)
                found[statement.filename, statement.first] = LineEdit(*statement[:3], text)
        own = [line for line in found.values() if line.filename == trace.modules[0].forward_file]
        latest = own or list(found.values())[:1]  # a cell that ran twice is there twice
        return latest[0] if len(latest) == 1 else None
    fact = find_module(trace, edit.path)
    name = fact.config.get("_class", "") if fact is not None else ""
    for filename in dict.fromkeys(other.forward_file for other in trace.modules):
        for node in list_nodes(filename, ast.Call) if filename and not filename.startswith(PACKAGES) else ():
            if read_name(node.func) == name:
                statement = read_statement(Source("", node.lineno, "", filename))
                keys = [word.arg for word in node.keywords]
                if statement is None or (None in keys and edit.name not in keys) or "." in edit.name:
                    return None
                text = add_keyword(statement.text, name, edit.name, str(edit.value))
                found[filename, statement.first] = LineEdit(*statement[:3], text)
    placed = next(iter(found.values())) if len(found) == 1 else None
    return placed if placed is not None and placed.text else None


def _is_of_class(fact: ModuleFact, owner: ModuleFact) -> bool:
    same = (fact.type_name, fact.type_module) == (owner.type_name, owner.type_module)
    return same and fact.forward_file == owner.forward_file


#: They take the setting and hand it on.
_TAKE_BATCH_FIRST = frozenset({"Transformer", "TransformerEncoderLayer", "TransformerDecoderLayer"})


def place_setting(trace: Trace, edit: SettingEdit) -> list[LineEdit]:
    """Find the calls in a class that make a layer and those in it that have a setting, and give each the keyword."""
    inside = [fact for fact in trace.modules if f"{fact.path}.".startswith(f"{edit.path}.")]
    kinds = {fact.type_name for fact in inside if edit.name in fact.settings or fact.type_name in _TAKE_BATCH_FIRST}
    owners = [trace.modules[0], *(fact for fact in trace.modules if f"{edit.path}.".startswith(f"{fact.path}."))]
    owner = next((fact for fact in reversed(owners) if not fact.type_module.startswith("torch.")), None)
    file = owner.forward_file if owner is not None else ""
    bodies = [body for body in list_nodes(file, ast.ClassDef) if owner is not None and body.name == owner.type_name]
    found: dict[int, LineEdit] = {}
    for node in [node for body in bodies for node in ast.walk(body) if isinstance(node, ast.Call)]:
        name = read_name(node.func)
        statement = read_statement(Source("", node.lineno, "", file)) if name in kinds else None
        text = add_keyword(statement.text, name, edit.name, repr(edit.value)) if statement is not None else ""
        if statement is not None and text:
            found[statement.first] = LineEdit(*statement[:3], text)
    return list(found.values())


def _edit_value(
    trace: Trace, edit: LayerEdit, owner: ModuleFact, found: tuple[list[ast.Assign], ast.ClassDef], names: Sequence[str]
) -> LineEdit | None:
    filename = owner.forward_file
    lines = linecache.getlines(filename)
    setters, body = found
    setter = setters[0] if setters else None
    value: ast.expr | None = setter.value if setter is not None else None
    for name in names[1:]:
        value = find_item(value, name)
    if value is None or setter is None or len(setters) != 1 or len(setter.targets) != 1:
        path = ".".join(names)
        line = write_change(path, edit.written or edit.code) if edit.code else write_insertion(path, edit.written)
        return _add_setter(filename, body, line)
    first, last = setter.lineno, setter.end_lineno or setter.lineno
    text = "".join(lines[first - 1 : last])
    old = next((fact for fact in trace.modules if edit.path in fact.paths), None)
    if not edit.code:  # one more in front of it
        whole = "\n" * (first - 1) + text
        new = f"{edit.written}, {ast.get_source_segment(whole, value)}"
    else:
        written = write_module(old, trace) if old is not None else ""
        known = read_known_names(trace, owner, body, first)
        if written and not _is_made_so(value, written, known):
            return None  # what is there came from elsewhere
        new = edit.written or _keep_arguments(text, first, value, edit.code, written, known)
    indent = len(text) - len(text.lstrip())
    spliced = splice_node(text, ast.increment_lineno(copy.deepcopy(value), 1 - first), new)
    return LineEdit(filename, first, last, "\n".join(_dedent(spliced.rstrip("\n"), indent)))


def _dedent(text: str, indent: int) -> list[str]:
    return [row[indent:] if not row[:indent].strip() else row for row in text.split("\n")]


def _is_made_so(value: ast.expr, old: str, known: Mapping[str, int]) -> bool:
    """Return whether no argument of a constructor is known to be another than that of the layer that is there."""
    was = ast.parse(old, mode="eval").body
    if not isinstance(value, ast.Call) or not isinstance(was, ast.Call):
        return True
    pairs = (
        (evaluate_size(item, known), evaluate_size(is_now, {}))
        for item, is_now in zip(value.args, was.args, strict=False)
    )
    return all(None in pair or pair[0] == pair[1] for pair in pairs)


def _keep_arguments(text: str, first: int, value: ast.expr, new: str, old: str, known: Mapping[str, int]) -> str:
    """Write the new layer with every argument that did not change as the user wrote it.

    Args:
        known: What names of the constructor stand for; the only one for a new number is written for it.
    """
    made, was = ast.parse(new, mode="eval").body, ast.parse(old or "None", mode="eval").body
    if not (isinstance(value, ast.Call) and isinstance(made, ast.Call) and isinstance(was, ast.Call)):
        return new
    if len(made.args) != len(was.args) or any(isinstance(item, ast.Starred) for item in value.args):
        return new
    whole = "\n" * (first - 1) + text
    written, named = read_arguments_of(whole, value)
    for index, (item, before) in enumerate(zip(made.args, was.args, strict=True)):
        if ast.unparse(item) != ast.unparse(before):
            if index >= len(written):
                return new
            names = [name for name, size in known.items() if repr(size) == ast.unparse(item)]
            written[index] = names[0] if len(names) == 1 else ast.unparse(item)
    now = {word.arg: ast.unparse(word.value) for word in made.keywords if word.arg}
    then = {word.arg: ast.unparse(word.value) for word in was.keywords if word.arg}
    if len(written) > len(made.args) and then.keys() - now.keys() - named.keys():
        return new  # what is left out stands among the arguments by position
    for name in then.keys() - now.keys():
        named.pop(name, None)
    changed = {name: word for name, word in now.items() if then.get(name) != word}
    if len(written) > len(made.args) and not changed.keys() <= named.keys():
        return new  # it may stand among the arguments by position
    named |= changed
    called = read_text(whole, value.func) if ast.unparse(made.func) == ast.unparse(was.func) else ""
    return write_call(called or ast.unparse(made.func), written, named)


def _add_setter(filename: str, body: ast.ClassDef, line: str) -> LineEdit | None:
    """Add a line at the end of ``__init__``; ``None`` if the class has none of its own."""
    for node in body.body:
        if isinstance(node, ast.FunctionDef) and node.name == "__init__":
            last = node.body[-1]
            lines = linecache.getlines(filename)
            text = "".join(lines[last.lineno - 1 : last.end_lineno]).rstrip("\n")
            rows = _dedent(text, len(text) - len(text.lstrip()))  # the line may begin with another statement
            return LineEdit(filename, last.lineno, last.end_lineno or last.lineno, "\n".join([*rows, line]))
    return None
