"""What the magic's line summarises: a model, or a call as it was written, which is taken apart and not made."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from modelsummary_ipy.inputs import describe_type
from modelsummary_ipy.notebook.line_syntax import evaluate, parse
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.torch_compat.modules import MODULE_CALL_CODES

_ASSIGNS = re.compile(r"(?:[-+*/@%|&^]|//|\*\*|>>|<<)?=")
_FIRST_WORDS = ("return", "await", "yield")
#: What continues an expression: ``model(x) + penalty``.
_OPERATOR = re.compile(r"[-+*/@%|&^<>.](?!-)|[!=]=|(?:if|and|or|is|in|not)$")


@dataclass(frozen=True)
class Target:
    """What to summarise.

    Attributes:
        expression: The text that names the model: ``"model"``, ``"vae"``.
        model: What it evaluates to.
        method: ``"forward"``, or the method of a call as it was written.
        call: ``(args, kwargs)`` of a call as it was written, ``None`` if the words that follow are the inputs.
        words: The words that follow.
    """

    expression: str
    model: nn.Module
    method: str = "forward"
    call: tuple[tuple[Any, ...], dict[str, Any]] | None = None
    words: tuple[str, ...] = ()


def find_target(words: list[str], names: Mapping[str, Any]) -> Target:
    """Find what a line summarises; its words may be a line of code with ``%summary`` in front.

    A call of a module, or of a method of its own class, is what is traced: ``model(**batch)``, ``vae.encode(x)``,
    ``loss = F.mse_loss(model(x), y)``. What it is called with is evaluated, the call is not. ``make_model(3)``,
    ``nn.Linear(2, 2)`` and ``model.eval()``, which ``nn.Module`` defines, are evaluated to get the model.

    Raises:
        InputError: If it gives no module, can't be read, or raises.
    """
    words = _drop_statement(words)
    text, rest = words[0], words[1:]
    if rest and _OPERATOR.match(rest[0]) and ("(" in text or _OPERATOR.fullmatch(rest[0])):
        text, rest = " ".join(words), []
    node = parse(text)
    try:
        value = _Search(text, names).resolve(node)
    except _Found as found:
        target: Target = found.args[0]
        if rest:
            raise InputError(f"{' '.join(rest)!r} after a call", "a call, or a model and its inputs") from None
        return target
    method = _name_method(value)
    if method:
        expression = _segment(text, node.value) if isinstance(node, ast.Attribute) else text
        return Target(expression, value.__self__, method, words=tuple(rest))
    return Target(text, _check_module(text, value, names), words=tuple(rest))


def _drop_statement(words: list[str]) -> list[str]:
    """Drop ``y =`` and ``return`` before an expression; join ``mask = None`` behind a model."""
    if len(words) > 1 and words[0] in _FIRST_WORDS:
        return words[1:]
    first = re.fullmatch(r"[^\W\d]\w*=(?!=)(.+)", words[0], re.DOTALL)
    if first is not None:
        return [first[1], *words[1:]]
    for place, word in enumerate(words[:-1]):
        if place and _ASSIGNS.fullmatch(word):
            try:
                ast.parse(f"{' '.join(words[:place])} = 0")
            except SyntaxError:  # `model x mask = None`
                joined = "".join(words[place - 1 : place + 2])
                return _drop_statement([*words[: place - 1], joined, *words[place + 2 :]])
            return words[place + 1 :]
    return words


def _check_module(text: str, value: Any, names: Mapping[str, Any]) -> nn.Module:
    if isinstance(value, nn.Module):
        return value
    if isinstance(value, type) and issubclass(value, nn.Module):
        raise InputError(f"the class {text}", "an instance of it", f"%summary {text}(…)")
    known = [name for name, item in names.items() if isinstance(item, nn.Module) and not name.startswith("_")]
    such = f" such as {', '.join(known[:3])}" if known else ""
    raise InputError(
        f"{text} is {describe_type(value)}", f"a torch.nn.Module{such}", f"%summary {(known or ['model'])[0]}"
    )


def _segment(text: str, node: ast.expr) -> str:
    return ast.get_source_segment(text.strip(), node) or ast.unparse(node)


class _Found(Exception):
    """Carries what was looked for out of the expression; no error."""


class _Search:
    """Evaluates an expression from the inside out until it reaches the call to trace."""

    def __init__(self, text: str, names: Mapping[str, Any]) -> None:
        self._text = text
        self._names = dict(names)

    def resolve(self, node: ast.expr) -> Any:
        """Return the value of ``node``; every part of it is evaluated once.

        Raises:
            _Found: With a ``Target``, at a call of a module or of a method of its own class.
        """
        if not any(isinstance(inner, ast.Call) for inner in ast.walk(node)):
            return evaluate(node, self._names)
        shown = _segment(self._text, node)
        if isinstance(node, ast.Call):
            return self._resolve_call(node, shown)
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            node.value = self._keep(node.value)
        elif isinstance(node, ast.BinOp):
            node.left, node.right = self._keep(node.left), self._keep(node.right)
        elif isinstance(node, ast.UnaryOp):
            node.operand = self._keep(node.operand)
        elif isinstance(node, (ast.Tuple, ast.List)):
            node.elts = [item if isinstance(item, ast.Starred) else self._keep(item) for item in node.elts]
        return evaluate(node, self._names, shown)

    def _keep(self, node: ast.expr) -> ast.expr:
        """Return a name for the value of ``node``, so that it is not evaluated again."""
        name = f"__ms_{len(self._names)}"
        self._names[name] = self.resolve(node)
        return ast.copy_location(ast.Name(name, ast.Load()), node)

    def _resolve_call(self, node: ast.Call, shown: str) -> Any:
        callee = self.resolve(node.func)
        if isinstance(callee, nn.Module):
            raise _Found(Target(_segment(self._text, node.func), callee, call=self._read_arguments(node)))
        method = _name_method(callee)
        if method:
            owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
            raise _Found(Target(_segment(self._text, owner), callee.__self__, method, self._read_arguments(node)))
        name = f"__ms_{len(self._names)}"
        self._names[name] = callee
        node.func = ast.copy_location(ast.Name(name, ast.Load()), node.func)
        node.args = [item if isinstance(item, ast.Starred) else self._keep(item) for item in node.args]
        for keyword in node.keywords:
            keyword.value = self._keep(keyword.value)
        return evaluate(node, self._names, shown)

    def _read_arguments(self, node: ast.Call) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Evaluate the arguments of a call, ``*`` and ``**`` included, and not the call."""
        catcher = ast.Call(ast.Name("__ms_catch", ast.Load()), node.args, node.keywords)
        known = {**self._names, "__ms_catch": lambda *args, **kwargs: (args, kwargs)}
        shown = ", ".join(ast.unparse(item) for item in (*node.args, *node.keywords))
        args, kwargs = evaluate(catcher, known, shown)
        return args, kwargs


def _name_method(value: Any) -> str:
    """Return the name of a method that a module's own class defines; ``""`` for what ``nn.Module`` itself knows.

    A class may override ``to`` or ``train``, as those of transformers do: calling one still gives the model.
    """
    owner = getattr(value, "__self__", None)
    name = getattr(value, "__name__", "")
    if not isinstance(owner, nn.Module) or not callable(value):
        return ""
    if name == "forward" or getattr(value, "__code__", None) in MODULE_CALL_CODES:
        return "forward"
    if hasattr(nn.Module, name) or _gives_module(value) or getattr(owner, name, None) != value:
        return ""
    return str(name)


def _gives_module(function: Any) -> bool:
    """Return whether a method is annotated to return a module: ``get_input_embeddings``."""
    try:
        given = inspect.signature(function).return_annotation
    except (TypeError, ValueError):
        return False
    if isinstance(given, type):
        return issubclass(given, nn.Module)
    return isinstance(given, str) and given.rpartition(".")[2] == "Module"
