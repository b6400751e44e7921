"""The magic's line: from text to a model and the arguments of one call."""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelsummary_ipy.errors import InputError

__all__ = ["Target", "find_target", "read_words", "split_line"]

_OPENING, _CLOSING = "([{", ")]}"
_KEYWORD = re.compile(r"([^\W\d]\w*)=(?!=)(.*)", re.DOTALL)
_WITH_DTYPE = re.compile(r"(.*[)\]])\s*:\s*([\w.]+)", re.DOTALL)
_NAMED_DIM = re.compile(r"\s*([^\W\d]\w*)\s*(?:=(?!=)(.*))?", re.DOTALL)


def split_line(line: str) -> list[str]:
    """Split a line on white space outside brackets and quotes; a ``# comment`` and a trailing ``;`` are dropped.

    Raises:
        InputError: If a bracket or a quote is not closed.

    Example:
        >>> split_line("nets['a b'] (1, 3) --depth 2;  # shallow")
        ["nets['a b']", '(1, 3)', '--depth', '2']
    """
    words: list[str] = []
    word, depth, quote = "", 0, ""
    place = 0
    while place < len(line):
        letter = line[place]
        if quote:
            word += letter
            if letter == "\\" and place + 1 < len(line):
                place += 1
                word += line[place]
            elif letter == quote:
                quote = ""
        elif letter == "#" and not depth and not word:
            break
        elif letter.isspace() and not depth:
            words += [word] if word else []
            word = ""
        else:
            quote = letter if letter in "\"'" else ""
            depth += (letter in _OPENING) - (letter in _CLOSING)
            word += letter
        place += 1
    if depth or quote:
        raise InputError(f"a {'quote' if quote else 'bracket'} that is not closed in: {line.strip()}")
    words += [word] if word else []
    if words and words[-1].endswith(";"):
        words[-1] = words[-1].rstrip(";")
    return [word for word in words if word]


@dataclass(frozen=True)
class Target:
    """What to summarise.

    Attributes:
        expression: The text that names the model: ``"model"``, ``"vae"``.
        model: What it evaluates to.
        method: ``"forward"``, or the method of a call as it was written.
        call: ``(args, kwargs)`` of a call as it was written, ``None`` if the words that follow say the inputs.
    """

    expression: str
    model: Any
    method: str = "forward"
    call: tuple[tuple[Any, ...], dict[str, Any]] | None = None


def find_target(text: str, names: Mapping[str, Any]) -> Target:
    """Evaluate what names the model; a call of a module, or of a method of its own class, is taken apart, not made.

    ``model(**batch)`` and ``vae.encode(x)`` are traced as written. ``make_model(3)``, ``nn.Linear(2, 2)`` and
    ``model.eval()``, which ``nn.Module`` defines, are evaluated to get the model.

    Raises:
        InputError: If the text is no expression, or a name in it is not defined.
    """
    tree = _parse(text)
    if isinstance(tree.body, ast.Call):
        called = _take_apart(tree.body, text, names)
        if called is not None:
            return called
    return Target(text, evaluate(tree, names))


def _take_apart(call: ast.Call, text: str, names: Mapping[str, Any]) -> Target | None:
    from torch import nn

    callee = call.func
    if isinstance(callee, ast.Attribute):
        owner = evaluate(ast.Expression(callee.value), names)
        if isinstance(owner, nn.Module):
            inner = getattr(owner, callee.attr, None)
            if isinstance(inner, nn.Module):
                return Target(_segment(text, callee), inner, call=_evaluate_arguments(call, names))
            own = getattr(type(owner), callee.attr, None)
            if callable(inner) and (own is None or own is not getattr(nn.Module, callee.attr, None)):
                arguments = _evaluate_arguments(call, names)
                return Target(_segment(text, callee.value), owner, callee.attr, arguments)
        return None
    value = evaluate(ast.Expression(callee), names)
    if isinstance(value, nn.Module):
        return Target(_segment(text, callee), value, call=_evaluate_arguments(call, names))
    return None


def _segment(text: str, node: ast.expr) -> str:
    return ast.get_source_segment(text, node) or text


def _evaluate_arguments(call: ast.Call, names: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Evaluate the arguments of a call, ``*`` and ``**`` included, and not the call."""
    catcher = ast.Call(ast.Name("__caught__", ast.Load()), call.args, call.keywords)
    tree = ast.fix_missing_locations(ast.Expression(catcher))
    caught = evaluate(tree, {**names, "__caught__": lambda *args, **kwargs: (args, kwargs)})
    return caught[0], caught[1]


def _parse(text: str) -> ast.Expression:
    try:
        return ast.parse(text, mode="eval")
    except SyntaxError:
        raise InputError(f"{text!r}", "a Python expression", "%summary model (1, 3, 224, 224)") from None


def evaluate(tree: ast.Expression, names: Mapping[str, Any]) -> Any:
    """Evaluate an expression the user typed in the user's names.

    Raises:
        InputError: If a name is not defined; the nearest ones are said. Other exceptions are the expression's own.
    """
    code = compile(ast.fix_missing_locations(tree), "<%summary>", "eval")
    try:
        return eval(code, dict(names))
    except NameError as missing:
        name = getattr(missing, "name", None) or str(missing)
        near = difflib.get_close_matches(name, [key for key in names if not key.startswith("_")], 3, 0.6)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise InputError(f"{name!r} is not defined{hint}") from None


def read_words(words: list[str], names: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Read the words behind the model: sizes, data and plain values, by position or ``name=``.

    Returns:
        Positional and keyword arguments; every size is a ``Size``.

    Raises:
        InputError: If a word can't be read, or a keyword comes twice.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        keyword = _KEYWORD.fullmatch(word)
        if keyword is None:
            if kwargs:
                raise InputError(f"{word!r} behind a keyword", "positional inputs first, then name=input")
            args.append(_read_word(word, names))
        elif keyword[1] in kwargs:
            raise InputError(f"{keyword[1]!r} twice", "each input once")
        else:
            kwargs[keyword[1]] = _read_word(keyword[2], names)
    return args, kwargs


def _read_word(word: str, names: Mapping[str, Any]) -> Any:
    text, dtype = word, None
    with_dtype = _WITH_DTYPE.fullmatch(word)
    if with_dtype is not None:
        text, dtype = with_dtype[1], with_dtype[2]
    if text[:1] in ("(", "[") and text[-1:] in (")", "]"):
        size = _read_size(text, dtype, names)
        if size is not None:
            return size
    if dtype is not None:
        raise InputError(f"a dtype behind {text!r}, which is no size", "(1, 128):int64")
    return evaluate(_parse(text), names)


def _read_size(text: str, dtype: str | None, names: Mapping[str, Any]) -> Any:
    """Read ``(B=8, 3, H, W)``; a name that is an int variable names its dim. ``None`` if the text is no size."""
    from modelsummary_ipy.sizes import Size

    parts = _split_commas(text[1:-1])
    dims: list[str] = []
    numbers: list[Any] = []
    for part in parts:
        named = _NAMED_DIM.fullmatch(part)
        if named is not None and named[2] is not None:
            dims.append(named[1])
            numbers.append(evaluate(_parse(named[2].strip()), names))
            continue
        dims.append(named[1] if named is not None else "")
        numbers.append(evaluate(_parse(part.strip()), names))
    named_dims = any("=" in part for part in parts if _NAMED_DIM.fullmatch(part))
    if not parts or not (named_dims or all(isinstance(number, (int, float)) for number in numbers)):
        return None
    return Size(numbers, dims, dtype)


def _split_commas(text: str) -> list[str]:
    parts: list[str] = []
    part, depth, quote = "", 0, ""
    for letter in text:
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'":
            quote = letter
        else:
            depth += (letter in _OPENING) - (letter in _CLOSING)
        if letter == "," and not depth and not quote:
            parts.append(part)
            part = ""
        else:
            part += letter
    return [*parts, part] if part.strip() else parts
