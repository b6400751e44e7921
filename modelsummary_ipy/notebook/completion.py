"""What Tab offers behind ``%summary``, and nothing of what IPython would offer there itself."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from IPython.core.completer import SimpleCompletion, completion_matcher

from modelsummary_ipy.notebook.line_syntax import split_line
from modelsummary_ipy.notebook.options import part_options
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.training import OPTIMIZERS

_MATCHER = "modelsummary_ipy.summary"
#: The magic at the beginning of a line, or behind ``ms =``.
_MAGIC = re.compile(r"\s*(?:[\w.\[\]'\" ,]+=\s*)?%(%?)summary\s+(.*)", re.DOTALL)
_DTYPES = ("float16", "bfloat16", "float32", "float64", "int32", "int64", "bool", "complex64")
#: Values of options that have no fixed choices; for a number or a name, those that are typed most.
_VALUES = {
    "depth": ("1", "2", "3", "all"),
    "memory": ("16GB", "24GB", "40GB", "80GB"),
    "context": ("4k", "32k", "128k"),
    "out": ("ms",),
    "dtype": _DTYPES,
    "optimizer": OPTIMIZERS,
    "accumulate": ("2", "4", "8"),
}


def hook(shell: Any, parser: argparse.ArgumentParser) -> None:
    """Let the shell's completer ask here behind ``%summary``, ``%%summary`` and ``ms = %summary``, and nowhere else."""

    @completion_matcher(identifier=_MATCHER, priority=1000, api_version=2)
    def match(context: Any) -> Any:
        typed = _MAGIC.match(context.text_until_cursor)
        if typed is None or (typed[1] and context.cursor_line):
            return {"completions": []}
        begun = re.split(r"[\s,=*]", typed[2])[-1]  # what Tab replaces
        found = complete(parser, shell.user_ns, typed[2])
        offered = [SimpleCompletion(text, type=kind) for text, kind in found if text.startswith(begun)]
        if not offered and begun and (begun.startswith("-") or {kind for _, kind in found} == {"value"}):
            offered = [SimpleCompletion(begun, type="value")]  # without any, IPython would offer paths and keywords
        return {"completions": offered, "matched_fragment": begun, "suppress": True, "ordered": True}

    unhook(shell)
    shell.Completer.custom_matchers.append(match)


def unhook(shell: Any) -> None:
    """Take away what ``hook`` registered."""
    known = shell.Completer.custom_matchers
    known[:] = [matcher for matcher in known if getattr(matcher, "matcher_identifier", "") != _MATCHER]


def complete(parser: argparse.ArgumentParser, names: Mapping[str, Any], typed: str) -> list[tuple[str, str]]:
    """List what may stand at the end of a line, each with a word for its kind.

    Args:
        typed: What is behind ``%summary``, up to the cursor.

    Returns:
        The values of an option that was begun; else modules, or behind one data and the parameters of its forward; then
        options. ``[]`` inside brackets and quotes, and behind a dot: IPython itself knows what may stand there.
    """
    whole = typed[: len(typed) - len(typed.split()[-1])] if typed.split() and not typed[-1].isspace() else typed
    last = typed[len(whole) :]
    actions = {name: action for action in parser._actions for name in action.option_strings}
    takes_value = {name: action.nargs != 0 for name, action in actions.items()}
    try:
        words = split_line(whole)
        split_line(typed)
        options, others = part_options(words, takes_value)
    except InputError:  # a bracket or a quote is open, or there is no such option
        return []
    option, equals, _ = last.partition("=")
    behind = option if equals and option in actions else words[-1] if words else ""
    if takes_value.get(behind):
        is_declared = bool(equals) and actions[behind].dest == "expect"
        return [] if is_declared else [(text, "value") for text in _list_values(actions[behind], others, names)]
    if "." in last:
        return []
    return _list_data(names) if equals else _list_words(actions, options, others, names)


def _list_words(
    actions: Mapping[str, argparse.Action], options: list[str], others: list[str], names: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """List the inputs or the models that may come next, then the options that were not given yet."""
    given = {word.partition("=")[0] for word in options}
    once = {name for action in actions.values() if given & {*action.option_strings} for name in action.option_strings}
    once -= {name for name, action in actions.items() if isinstance(action, argparse._AppendAction)}
    found = [(name, "option") for name in actions if name not in once]
    if not others:
        return [*_list_models(names), *_list_data(names), *found]
    return [*_list_parameters(others, names), *_list_data(names), *found]


def _list_values(action: argparse.Action, others: list[str], names: Mapping[str, Any]) -> Collection[str]:
    if action.choices:
        return [str(choice) for choice in action.choices]
    if action.dest == "columns":
        from modelsummary_ipy.records.view import COLUMNS

        return COLUMNS
    if action.dest == "ignore":
        from modelsummary_ipy.diagnosis.rules import RULES

        return RULES
    if action.dest == "device":
        return ("cpu", "cuda", "meta")
    if action.dest == "loss":
        return [*(name for name, _ in _list_models(names)), "nn.CrossEntropyLoss()", "nn.MSELoss()"]
    model: Any = _look_up(others[0], names) if others else None
    if action.dest == "expect" and _is_module(model):
        return [f"{path}=" for path, _ in model.named_modules() if path]
    return _VALUES.get(action.dest, ())


def _list_parameters(others: list[str], names: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield ``ids=`` for every parameter of the forward, or of the method, that no word gives yet."""
    owner, method = _look_up(others[0], names), "forward"
    if not _is_module(owner):
        text, _, method = others[0].rpartition(".")
        owner = _look_up(text, names)
    if not _is_module(owner) or not callable(getattr(type(owner), method, None)):
        return
    from modelsummary_ipy.inputs.signature import read_signature

    signature = read_signature(owner, method)
    given = {word.partition("=")[0] for word in others[1:]}
    for parameter in signature.parameters.values() if signature is not None else ():
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name not in given:
            yield f"{parameter.name}=", "param"


def _look_up(text: str, names: Mapping[str, Any]) -> Any:
    """Return what ``net.encoder`` or ``nets['a']`` is, ``None`` if that takes running code of the user's."""
    try:
        return _walk(ast.parse(text, mode="eval").body, names)
    except (SyntaxError, ValueError, LookupError, TypeError):
        return None


def _walk(node: ast.expr, names: Mapping[str, Any]) -> Any:
    if isinstance(node, ast.Name):
        return names[node.id]
    if isinstance(node, ast.Attribute):
        owner = _walk(node.value, names)
        held = owner._modules if _is_module(owner) and node.attr in owner._modules else {}
        return held.get(node.attr) or inspect.getattr_static(owner, node.attr, None)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        owner = _walk(node.value, names)
        return owner[node.slice.value] if type(owner) in (dict, list, tuple) else None
    return None


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _list_models(names: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, "module") for name, value in _find_own(names) if _is_module(value)]


def _list_data(names: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the names of tensors, arrays and mappings; a program without torch has none."""
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if torch is None:
        return []
    data = (torch.Tensor, Mapping, *((numpy.ndarray,) if numpy is not None else ()))
    return [(name, "data") for name, value in _find_own(names) if isinstance(value, data)]


def _find_own(names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in names.items():
        if not name.startswith("_") and name not in ("In", "Out"):
            yield name, value
