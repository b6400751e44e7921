"""What a model's method takes, and the errors when something else is given."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.torch_compat.modules import find_wrapped, has_pre_hooks

#: Keywords of ``ModelSummary.show`` that are none of the constructor's.
OF_SHOW = ("depth", "ops", "columns", "flops", "fix", "plan")
_MODULE_NAMES = frozenset(dir(nn.Module))
_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
#: Most parameters of a signature that a message names.
_SHOWN = 6


# -- model, method, device --------------------------------------------------------------------------------------------


def check_model(model: Any) -> None:
    """Raise ``InputError`` unless ``model`` is an instance of ``torch.nn.Module``."""
    if isinstance(model, nn.Module):
        return
    if isinstance(model, type) and issubclass(model, nn.Module):
        name = model.__name__
        raise InputError(f"the class {name}", "an instance of it", f"model = {name}(…)")
    inner = _list_modules(model)
    if inner:
        raise InputError(
            f"model is {describe_type(model)}, which is no torch.nn.Module itself",
            f"a module of it: {', '.join(inner[:_SHOWN])}",
            f"ModelSummary({inner[0]}, …)",
        )
    raise InputError(
        f"model is {describe_type(model)}", "an instance of torch.nn.Module", "ModelSummary(model, (1, 3, 224, 224))"
    )


def _list_modules(value: Any) -> list[str]:
    """List how the modules are reached that an object holds: ``"model.unet"`` of a pipeline of diffusers."""
    if any(kind.__name__ == "ExportedProgram" for kind in type(value).__mro__):
        return ["model.module()"]
    held = getattr(value, "__dict__", {})
    return [f"model.{name}" for name, item in held.items() if isinstance(item, nn.Module)]


def check_method(model: nn.Module, method: str) -> None:
    """Raise ``InputError`` unless ``model`` has a method of that name."""
    if callable(getattr(model, method, None)):
        return
    own = [name for name in dir(type(model)) if not name.startswith("_") and name not in _MODULE_NAMES]
    names = [name for name in ("forward", *own) if callable(getattr(type(model), name, None))]
    near = difflib.get_close_matches(method, names, 3, 0.5) or names[:4]
    raise InputError(
        f"method={method!r}", f"a method of {type(model).__name__} such as {', '.join(near)}", f"method={near[0]!r}"
    )


def check_device(device: Any) -> torch.device:
    """Return the device, or raise ``InputError`` if this machine has none such; the message lists those it has."""
    here = list_devices()
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"device={device!r}", f"one of {', '.join(here)}", "device='cpu'") from None
    numbered = wanted.type in ("cuda", "xpu")
    if (f"{wanted.type}:{wanted.index or 0}" if numbered else wanted.type) not in here:
        raise InputError(
            f"device={str(wanted)!r}, which this machine does not have", f"one of {', '.join(here)}", "device='cpu'"
        )
    return wanted


def list_devices() -> list[str]:
    """Name the devices that a trace may be on: those that this machine has, and ``meta``."""
    here = ["cpu", "meta", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    here += [f"xpu:{index}" for index in range(torch.xpu.device_count())] if torch.xpu.is_available() else []
    return here + (["mps"] if torch.backends.mps.is_available() else [])


def describe_type(value: Any) -> str:
    """Return ``"a Tensor"``, ``"an int"`` or ``"None"``."""
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


# -- the signature ----------------------------------------------------------------------------------------------------


def read_signature(model: nn.Module, method: str) -> inspect.Signature | None:
    """Return what ``method`` takes, without ``self``; ``None`` where it is unknown (a ScriptModule)."""
    if method == "forward":
        model = find_wrapped(model) or model  # a compiled module's own forward takes anything
    try:
        return inspect.signature(getattr(model, method))
    except (TypeError, ValueError):
        return None


def list_positional(signature: inspect.Signature | None) -> list[inspect.Parameter]:
    """List the parameters that positional arguments go to, in order."""
    return [p for p in signature.parameters.values() if p.kind in _POSITIONAL] if signature is not None else []


def name_positional(model: nn.Module, method: str) -> tuple[str, ...]:
    """Name the parameters that positional arguments go to, in order."""
    return tuple(parameter.name for parameter in list_positional(read_signature(model, method)))


def check_fit(model: nn.Module, method: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], described: str) -> None:
    """Check number and names of the arguments against the method's signature, before anything is traced.

    Args:
        described: The arguments as text.

    Raises:
        InputError: If a call with them would raise a ``TypeError``.
    """
    signature = read_signature(model, method)
    if signature is None:
        return
    wrong = find_misfit(signature, args, kwargs)
    if not wrong or (wrong.endswith("missing") and _may_add_arguments(model, method)):
        return
    expected = write_signature(model, method)
    if len(args) > 1 and all(value is None or type(value) is int for value in args):
        size = tuple(2 if value is None else value for value in args)
        raise InputError(
            f"{described}: numbers in a call", "tensors in a call; a size stands behind the model", str(size)
        )
    if len(args) > len(list_positional(signature)) == 1:
        if isinstance(args[0], Tensor):
            expected += "; of a batch with its labels the input alone, batch[0]"
        name = list_positional(signature)[0].name
        expected += f"; if it takes them as one list, {name}=[…] or ModelSummary(model, ([a, b],))"
    raise InputError(f"{described}: {wrong}", expected)


def check_keywords(model: nn.Module, method: str, given: Collection[str], options: Collection[str]) -> None:
    """Raise ``InputError`` if a keyword of the constructor is no option and no parameter of the method."""
    signature = read_signature(model, method)
    parameters = signature.parameters if signature is not None else {}
    if not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    for name in given:
        if name not in parameters:
            near = difflib.get_close_matches(name, [*options, *parameters], 1, 0.6)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            if name in OF_SHOW:
                hint = f" (show({name}=…) takes it)"
            expected = f"an option, or a parameter of {method}: {', '.join(parameters)}"
            raise InputError(f"no keyword {name!r}{hint}", expected)


def find_misfit(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
    """Write why arguments do not fit a signature; ``""`` if they do."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        pass
    else:
        return ""
    parameters = signature.parameters
    positional = list_positional(signature)
    unknown = [
        name for name in kwargs if name not in parameters or parameters[name].kind is inspect.Parameter.POSITIONAL_ONLY
    ]
    takes_any = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    if unknown and not takes_any:
        near = difflib.get_close_matches(unknown[0], [n for n in parameters if n not in kwargs], 1, 0.5)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return f"no parameter {', '.join(map(repr, unknown))}{hint}"
    spread = any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters.values())
    if len(args) > len(positional) and not spread:
        inputs = "1 positional input" if len(args) == 1 else f"{len(args)} positional inputs"
        return f"{inputs}, at most {len(positional)} are accepted"
    twice = [p.name for p in positional[: len(args)] if p.name in kwargs and p.name not in unknown]
    if twice:
        return f"{twice[0]!r} is given twice"
    given = {p.name for p in positional[: len(args)]} | set(kwargs)
    missing = [p.name for p in _required(signature) if p.name not in given]
    return f"{', '.join(map(repr, missing))} {'are' if len(missing) > 1 else 'is'} missing"


def _required(signature: inspect.Signature) -> list[inspect.Parameter]:
    return [p for p in signature.parameters.values() if p.default is p.empty and p.kind not in _VARIABLE]


def _may_add_arguments(model: nn.Module, method: str) -> bool:
    """Return whether a decorator or a hook may add what is missing: then the forward itself will raise."""
    function = inspect.unwrap(getattr(model, method))
    wrapped = getattr(function, "__func__", function) is not getattr(getattr(model, method), "__func__", function)
    return wrapped or (method == "forward" and has_pre_hooks(model))


def write_signature(model: nn.Module, method: str) -> str:
    """Write what a method takes, ``forward(x, mask=None)``; of many, what is required and the first few others."""
    signature = read_signature(model, method)
    if signature is None:
        return f"{method}(…)"
    written: list[str] = []
    hidden = 0
    for parameter in signature.parameters.values():
        plain = parameter.replace(annotation=inspect.Parameter.empty)
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and "*" not in written:
            written += [] if any(word.startswith("*") for word in written) else ["*"]
        if len(written) < _SHOWN or parameter.default is parameter.empty:
            written.append(str(plain))
        else:
            hidden += 1
    return f"{method}({', '.join([*written, f'… {hidden} more'] if hidden else written)})"
