"""The magic's line: its words, and the inputs that they write."""

from __future__ import annotations

import ast
import builtins
import difflib
import re
from collections.abc import Iterator, Mapping
from numbers import Number
from typing import Any

from modelsummary_ipy.records.errors import InputError

_OPENING, _CLOSING = "([{", ")]}"
_NAME = r"[^\W\d]\w*"
_KEYWORD = re.compile(rf"({_NAME})=(?!=)(.*)", re.DOTALL)
_WITH_DTYPE = re.compile(rf"(.*[)\]]|{_NAME})\s*:\s*([\w.]+)", re.DOTALL)
_NAMED_DIM = re.compile(rf"\s*({_NAME})\s*=(?!=)(.*)", re.DOTALL)
#: What may be typed as a dtype where no variable has the name.
_DTYPES = frozenset(
    ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "half", "fp16", "bf16"]
)
_EXAMPLE = "%summary model (1, 3, 224, 224)"


def split_line(line: str) -> list[str]:
    """Split a line on white space outside brackets and quotes; a ``# comment`` and a trailing ``;`` are dropped.

    Raises:
        InputError: If a bracket or a quote is not closed.

    Example:
        >>> split_line("nets['a b'] (1, 3) --depth 2;  # shallow")
        ["nets['a b']", '(1, 3)', '--depth', '2']
    """
    words: list[str] = [""]
    for letter, depth, quoted in _scan(line):
        if letter.isspace() and not depth and not quoted:
            words.append("")
        elif letter == "#" and not quoted and not words[-1]:
            break
        else:
            words[-1] += letter
    words = [word for word in words if word]
    if words and words[-1].endswith(";"):
        words[-1] = words[-1].rstrip(";")
    return [word for word in words if word]


def _scan(text: str) -> Iterator[tuple[str, int, bool]]:
    """Yield every letter with the depth of brackets around it, and whether it is in a string.

    An opening bracket counts as inside itself, a closing one too; a quote as inside its string.
    """
    open_brackets: list[str] = []
    quote, escaped, after_space = "", False, True
    for letter in text:
        if quote:
            yield letter, len(open_brackets), True
            closes = letter == quote and not escaped
            escaped = letter == "\\" and not escaped
            quote = "" if closes else quote
            continue
        if letter == "#" and after_space:  # the rest is a comment: what is open there closes nothing
            yield letter, len(open_brackets), False
            break
        if letter in _OPENING:
            open_brackets.append(letter)
        yield letter, len(open_brackets), letter in "\"'"
        if letter in _CLOSING and (not open_brackets or _CLOSING[_OPENING.index(open_brackets.pop())] != letter):
            raise InputError(f"unmatched {letter!r} in {text.strip()!r}", "brackets in pairs", _EXAMPLE)
        quote = letter if letter in "\"'" else ""
        after_space = letter.isspace()
    if quote or open_brackets:
        left = quote or open_brackets[-1]
        raise InputError(f"unclosed {left!r} in {text.strip()!r}", "brackets and quotes in pairs", _EXAMPLE)


def _split_at(text: str, mark: str, most: int = -1) -> list[str]:
    """Split at a mark outside brackets and strings, ``most`` times."""
    parts = [""]
    for letter, depth, quoted in _scan(text):
        if letter == mark and not depth and not quoted and most != 0:
            parts.append("")
            most -= 1
        else:
            parts[-1] += letter
    return parts


def unquote(word: str) -> str:
    """Return the text of a quoted word, any other word as it is."""
    return word[1:-1] if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'" else word


# -- expressions ------------------------------------------------------------------------------------------------------


def parse(text: str) -> ast.expr:
    """Parse a Python expression.

    Raises:
        InputError: If it is none.
    """
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        if "$" in text:  # as other magics want it
            plain = f"%summary model {text.replace('$', '')}"
            raise InputError(f"{text!r} can't be parsed", "variables by their names", plain) from None
        raise InputError(f"{text!r} can't be parsed", "a size or a Python expression", _EXAMPLE) from None


def evaluate(expression: str | ast.expr, names: Mapping[str, Any], shown: str = "", expected: str = "") -> Any:
    """Evaluate an expression that the user typed, in the user's names; ``Size`` is known without an import.

    Args:
        expression: Text, or a parsed expression.
        shown: What to call it in an error, if not by its text.
        expected: What is expected of a name that is not defined.

    Raises:
        InputError: If a name is not defined (the message has the nearest), or the expression raises.
    """
    node = parse(expression) if isinstance(expression, str) else expression
    text = shown or (expression if isinstance(expression, str) else ast.unparse(node))
    code = compile(ast.fix_missing_locations(ast.Expression(node)), "<%summary>", "eval")
    known = dict(names)
    if "Size" in code.co_names and "Size" not in known:
        from modelsummary_ipy.inputs import Size

        known["Size"] = Size
    try:
        return eval(code, known)
    except Exception as error:  # whatever the user's expression raises becomes one line
        name = getattr(error, "name", None)
        if isinstance(error, NameError) and name and name not in known:
            typed = [key for key in names if not key.startswith("_") and not hasattr(builtins, key)]
            near = difflib.get_close_matches(name, typed, 3, 0.6)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            wanted = "a dtype behind a size, (1, 128):" + name if name in _DTYPES else ""
            raise InputError(f"{name!r} is not defined{hint}", wanted or expected) from None
        words = " ".join(str(error).split())
        raise InputError(f"{text}: {type(error).__name__}" + (f": {words}" if words else "")) from error


# -- inputs -----------------------------------------------------------------------------------------------------------


def read_words(words: list[str], names: Mapping[str, Any], model: str = "model") -> tuple[list[Any], dict[str, Any]]:
    """Read the words after the model: sizes, data and plain values, by position or ``name=``.

    Args:
        model: How the line names the model, for an example.

    Returns:
        Positional and keyword arguments. A size with a name or a dtype is a ``Size``, any other a sequence of ints.

    Raises:
        InputError: If a word can't be read, or a keyword comes twice.
    """
    _check_commas(words, model)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for word in words:
        keyword = _KEYWORD.fullmatch(word)
        if word.startswith("**"):
            _add(kwargs, evaluate(f"dict({word})", names, word))
        elif keyword is not None:
            _add(kwargs, {keyword[1]: _read(keyword[2], names)})
        elif kwargs:
            raise InputError(f"{word!r} after a keyword", "positional inputs first, then name=input")
        elif word.startswith("*"):
            args += evaluate(f"[{word}]", names, word)
        else:
            args.append(_read(word, names))
    return args, kwargs


def _check_commas(words: list[str], model: str) -> None:
    """Raise ``InputError`` if a comma ends a word: sizes stand in parentheses, inputs are parted by spaces."""
    for word in words:
        if re.fullmatch(r"\(\s*\d+\s*\)", word):
            raise InputError(f"{word}, which is a number", "a size, or the number alone", f"({word[1:-1].strip()},)")
    numbers = words[0].split("x") if len(words) == 1 else words
    if len(numbers) > 1 and all(number.isdigit() for number in numbers):  # "2 3 32 32", "2x3x32x32"
        raise InputError(" ".join(words), "a size in parentheses", f"%summary {model} ({', '.join(numbers)})")
    if not any(word.endswith(",") for word in words):
        return
    parts = [part.strip() for part in _split_at(" ".join(words), ",") if part.strip()]
    if all(re.fullmatch(rf"({_NAME}=)?\d+", part) for part in parts):
        raise InputError(" ".join(words), "a size in parentheses", f"%summary {model} ({', '.join(parts)})")
    raise InputError(f"commas in {' '.join(words)!r}", "spaces between inputs", f"%summary {model} {' '.join(parts)}")


def _add(kwargs: dict[str, Any], more: Mapping[str, Any]) -> None:
    twice = [name for name in more if name in kwargs]
    if twice:
        raise InputError(f"{twice[0]!r} twice", "each input only once")
    kwargs.update(more)


def _read(text: str, names: Mapping[str, Any]) -> Any:
    """Read one input: a size, a container of inputs, or an expression; every part is evaluated once."""
    text, dtype = text.strip(), None
    with_dtype = _WITH_DTYPE.fullmatch(text)
    if with_dtype is not None and with_dtype[1] != "lambda":
        text, dtype = with_dtype[1].strip(), with_dtype[2]
    value = _read_brackets(text, dtype, names) if text[:1] in _OPENING and _is_bracketed(text) else None
    if value is None:
        value = (evaluate(text, names),)
    if dtype is not None and type(value[0]).__name__ != "Size":
        raise InputError(f"a dtype after {text!r}, which is not a size", "(1, 128):int64")
    return value[0]


def _is_bracketed(text: str) -> bool:
    """Return whether the bracket that a text begins with closes at its end: ``(1, 2)``, not ``(1, 2) + (3,)``."""
    closes = [
        place
        for place, (letter, depth, quoted) in enumerate(_scan(text))
        if depth == 1 and letter in _CLOSING and not quoted
    ]
    return closes[:1] == [len(text) - 1]


def _read_brackets(text: str, dtype: str | None, names: Mapping[str, Any]) -> tuple[Any] | None:
    """Read a size or a container; ``None`` if the text is an ordinary expression in brackets."""
    parts = _split_at(text[1:-1], ",")
    has_comma = len(parts) > 1
    parts = parts if parts[-1].strip() else parts[:-1]
    if text[0] == "{":
        return _read_dict(parts, names)
    named = any(_NAMED_DIM.fullmatch(part) for part in parts)
    if not named and (not parts or not all(map(_is_element, parts)) or (text[0] == "(" and not has_comma)):
        return None
    dims: list[str] = []
    items: list[Any] = []
    own: dict[str, Any] = {}  # in "(S=256, S)" the second S is the first one's number, whatever S is elsewhere
    for part in parts:
        for name, item in _read_element(part.strip(), {**names, **own}):
            dims.append(name)
            items.append(item)
            if _NAMED_DIM.fullmatch(part):
                own[name] = item
    ints = bool(items) and all(isinstance(item, Number) for item in items)
    if named or (ints and (any(dims) or dtype is not None)):
        from modelsummary_ipy.inputs import Size

        return (Size(items, dims, dtype),)
    return (items if text[0] == "[" else tuple(items),)


def _is_element(part: str) -> bool:
    """Return whether a text can be in a tuple: a comprehension is one thing with its brackets."""
    with_dtype = _WITH_DTYPE.fullmatch(part.strip())
    text = with_dtype[1].strip() if with_dtype is not None else part.strip()
    if text[:1] in _OPENING and _is_bracketed(text):
        return True
    try:
        return isinstance(ast.parse(f"[{text}]", mode="eval").body, ast.List)
    except SyntaxError:
        return False


def _read_element(part: str, names: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Read what is between two commas, as name of the dim and value; ``*shape`` is several."""
    named = _NAMED_DIM.fullmatch(part)
    if named is not None:
        return [(named[1], evaluate(named[2], names))]
    if part.startswith("*"):
        return [("", item) for item in evaluate(f"[{part}]", names, part)]
    if part.isidentifier() and part not in names:
        evaluate(part, names, expected=f"a number with the name of its dim, {part}=8, or a variable")
    value = _read(part, names)
    is_name = part.isidentifier() and isinstance(value, int) and not isinstance(value, bool)
    return [(part if is_name else "", value)]


def _read_dict(parts: list[str], names: Mapping[str, Any]) -> tuple[Any] | None:
    items: dict[Any, Any] = {}
    for part in parts:
        key, *value = _split_at(part, ":", most=1)
        if not value or key.strip().startswith("*") or not _is_element(key) or " for " in part:
            return None  # a set, a comprehension, or {**other}
        items[evaluate(key, names)] = _read(value[0], names)
    return (items,)
