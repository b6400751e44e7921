"""The magic's options, read as the constructor takes them."""

from __future__ import annotations

import argparse
import ast
import builtins
import difflib
import inspect
import keyword
import re
from collections.abc import Container, Iterable, Mapping
from types import ModuleType
from typing import Any, Literal

from modelsummary_ipy.notebook.line_syntax import evaluate, unquote
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.training import OPTIMIZERS

#: A value of each option, for who gives none.
_EXAMPLES = {
    "--dtype": "float16", "--device": "meta", "--mode": "eval", "--engine": "real", "--depth": "2",
    "--columns": "input,params", "--ignore": "grown-map", "--expect": "'B 10'", "--memory": "24GB",
    "--optimizer": "adamw", "--precision": "bf16-mixed", "--accumulate": "4", "--context": "32k",
    "--loss": "'nn.MSELoss()'", "--out": "ms", "--auto": "on",
}  # fmt: skip
_DECLARED = re.compile(r"([\w.\[\]]*)=(.*)", re.DOTALL)


def part_options(words: list[str], takes_value: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Part options and words: they may be in any order, and a word is never cut.

    Args:
        takes_value: By option, whether a value follows it.

    Returns:
        The options with their values, and all else.

    Raises:
        InputError: If there is no such option; the message has the nearest.

    Example:
        >>> part_options(["--depth", "2", "model", "--ops", "(1, 3)"], {"--depth": True, "--ops": False})
        (['--depth', '2', '--ops'], ['model', '(1, 3)'])
    """
    options: list[str] = []
    others: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, _ = word.partition("=")
        if name in takes_value:
            options.append(word)
            if takes_value[name] and not equals:
                value = next(rest, None)
                if value is not None and re.match(r"-\d", value):
                    options[-1] += f"={value}"  # no option, and what takes it says what is wrong
                else:
                    options += [] if value is None else [value]
        elif word.startswith("--") or re.fullmatch(r"-[a-zA-Z]", word):
            begun = [option for option in takes_value if option.startswith(f"-{name}")]  # "-d"
            near = begun or difflib.get_close_matches(name, takes_value, 1, 0.6)
            raise InputError(f"no option {name}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
        else:
            others.append(word)
    return options, others


def check_last(options: list[str], takes_value: Mapping[str, bool]) -> None:
    """Check that the last option has its value, if it takes one.

    Raises:
        InputError: If it has none.
    """
    name = options[-1] if options else ""
    if takes_value.get(name) and (len(options) == 1 or not takes_value.get(options[-2])):
        raise InputError(f"no value behind {name}", "one", f"{name} {_EXAMPLES[name]}")


def split_names(text: str) -> tuple[str, ...]:
    """Split names at commas: ``"input,params"``."""
    return tuple(part.strip() for part in unquote(text).split(",") if part.strip())


def read_depth(text: str) -> int | Literal["all"]:
    """Read the levels of ``--depth``.

    Raises:
        argparse.ArgumentTypeError: If they are neither a number nor ``all``.
    """
    if text == "all":
        return "all"
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of levels; 2 or all would be") from None


def read_dtypes(text: str | None) -> Any:
    """Read ``float16``, ``int64,bool`` or ``ids=int64,mask=bool`` as ``dtypes`` of the constructor."""
    if text is None:
        return None
    parts = split_names(text)
    if any("=" in part for part in parts):
        return {name: dtype for name, _, dtype in (part.partition("=") for part in parts)}
    return list(parts) if len(parts) > 1 else unquote(text)


def read_expect(texts: list[str] | None, names: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read declared sizes: ``conv0='B 16 H W'``, ``'B 10'`` for the model's output, or a dict of them.

    Raises:
        InputError: If an expression gives no dict.
    """
    if texts is None:
        return None
    declared: dict[str, Any] = {}
    for text in texts:
        if text[:1] == "{" or isinstance(names.get(text), Mapping):
            value = evaluate(text, names)
            if not isinstance(value, Mapping):
                raise InputError(f"--expect {text}", "shapes by path", "--expect conv0='B 16 H W'")
            declared |= value
            continue
        named = _DECLARED.fullmatch(unquote(text))
        path, size = (named[1], named[2]) if named is not None else ("", text)
        declared[path] = unquote(size)
    return declared


def read_optimizer_name(text: str, names: Mapping[str, Any]) -> Any:
    """Read an optimizer: one of the names that are known, or an expression: ``torch.optim.RAdam``, ``optimizer``."""
    name = unquote(text).lower()
    is_expression = name not in OPTIMIZERS and re.split(r"\W", text, maxsplit=1)[0] in names
    return evaluate(text, names) if is_expression else name


#: What IPython assigns itself: results, inputs and directories.
_IPYTHONS = re.compile(r"_+|_i+|_i?\d+|_[iod]h|__\w+__")


def check_name(name: str | None, words: Iterable[str], names: Mapping[str, Any], hidden: Container[str] = ()) -> None:
    """Check that a summary can be stored under a name and takes nothing away there.

    Args:
        name: The argument of ``--out``.
        words: The model and its inputs as they were written: what they read is not replaced.
        names: The variables that there are; models, modules, functions and classes are not replaced.
        hidden: The names that IPython has made.

    Raises:
        InputError: If it is no name, a built-in one, one of IPython's, or that of something else.
    """
    if name is None:
        return
    if not name.isidentifier() or keyword.iskeyword(name):
        raise InputError(f"--out {name}", "a name", "--out ms")
    if name in hidden or _IPYTHONS.fullmatch(name) or hasattr(builtins, name):
        raise InputError(f"--out {name}, a name that Python or IPython uses", "another name", "--out ms")
    if name not in names:
        return
    if any(name in re.findall(r"(?<![\w.])[^\W\d]\w*", word) for word in words):
        raise InputError(f"--out {name}, which this line reads", "another name", "--out ms")
    if callable(names[name]) or isinstance(names[name], ModuleType):
        kind = "model" if hasattr(names[name], "named_modules") else type(names[name]).__name__
        raise InputError(f"--out {name}, the name of a {kind}", "another name", "--out ms")


def is_silenced(line: str) -> bool:
    """Return whether a line ends with ``;``, a comment apart."""
    return re.search(r";\s*(#.*)?$", line) is not None


def write_option(text: str) -> str:
    """Write a keyword of Python at the beginning of a text as the magic takes it, any other text as it is.

    Example:
        >>> write_option("columns=['input', 'params']"), write_option("device='tpu7', which this machine does not have")
        ('--columns input,params', '--device tpu7, which this machine does not have')
    """
    found = re.match(r"(\w+)=(\d+|'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\{[^}]*\})(.*)", text, re.DOTALL)
    if found is None:
        return text
    value = ast.literal_eval(found[2])
    if isinstance(value, Mapping):
        value = [f"{path}={size!r}" if path else repr(size) for path, size in value.items()]
    written = ",".join(value) if isinstance(value, list) else str(value)
    return f"--{found[1]} {written}{found[3]}"


def write_help(parser: argparse.ArgumentParser) -> str:
    """Write what ``%summary?`` shows: the description and the options, without markup."""
    formatter = argparse.HelpFormatter("%summary", width=100)
    formatter.start_section("Options")
    formatter.add_arguments(action for action in parser._actions if action.option_strings)
    formatter.end_section()
    return f"{inspect.cleandoc(parser.description or '')}\n\n{formatter.format_help()}"
