"""What the user gave → ``ModelInputs``: sizes, data and plain values, as the arguments of one call."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.errors import InputError
from modelsummary_ipy.sizes import Size, is_flat, read_dtype

__all__ = [
    "ModelInputs",
    "Size",
    "check_device",
    "check_method",
    "check_model",
    "read_call",
    "read_inputs",
    "set_dtypes",
]

Leaf = Size | Tensor


@dataclass(frozen=True)
class ModelInputs:
    """The arguments of one call of a model; every tensor that is to be made up stands as a ``Size``.

    Attributes:
        args: Positional arguments.
        kwargs: Keyword arguments.
        names: Parameter names of the positional arguments, as far as known.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def leaves(self) -> list[tuple[str, Leaf]]:
        """List the sizes and tensors among the arguments with their names, positional first.

        One bare positional argument has the name of its parameter, ``""`` if that is not known.
        """
        found: list[tuple[str, Leaf]] = []
        for name, value in self._named():
            found += _walk(value, name)
        return found

    def _named(self) -> Iterator[tuple[str, Any]]:
        for index, value in enumerate(self.args):
            known = self.names[index] if index < len(self.names) else ("" if len(self.args) == 1 else f"[{index}]")
            yield known, value
        yield from self.kwargs.items()

    def with_sizes(self, changes: Mapping[str, Size]) -> ModelInputs:
        """Return the same arguments with some leaves replaced by sizes, by their names in ``leaves``."""

        def change(name: str, leaf: Leaf) -> Leaf:
            return changes.get(name, leaf)

        named = list(self._named())
        args = tuple(_map(value, name, change) for name, value in named[: len(self.args)])
        return replace(self, args=args, kwargs={name: _map(value, name, change) for name, value in self.kwargs.items()})

    def as_line(self) -> str:
        """Write the arguments as the magic takes them; data is written as its size."""
        words = [_write(value) for value in self.args]
        return " ".join(words + [f"{name}={_write(value)}" for name, value in self.kwargs.items()])

    def describe(self) -> str:
        """Write the arguments as in a call, for messages."""
        words = [_write(value) for value in self.args]
        return ", ".join(words + [f"{name}={_write(value)}" for name, value in self.kwargs.items()]) or "nothing"


def _walk(value: Any, name: str) -> Iterator[tuple[str, Leaf]]:
    if isinstance(value, (Size, Tensor)):
        yield name, value
        return
    for key, item in _items(value):
        yield from _walk(item, name + key)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, (type, nn.Module)):
        return
    if dataclasses.is_dataclass(value):
        for part in dataclasses.fields(value):
            yield f".{part.name}", getattr(value, part.name, None)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield f"[{key!r}]", item
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"[{index}]", item


def _map(value: Any, name: str, change: Callable[[str, Leaf], Leaf]) -> Any:
    if isinstance(value, (Size, Tensor)):
        return change(name, value)
    items = [(key, item, _map(item, name + key, change)) for key, item in _items(value)]
    if all(new is old for _, old, new in items):
        return value
    new_items = [new for _, _, new in items]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **{key[1:]: new for key, _, new in items})
    if isinstance(value, Mapping):
        return dict(zip(value, new_items, strict=True))
    return new_items if isinstance(value, list) else tuple(new_items)


def _write(value: Any) -> str:
    if isinstance(value, Size):
        return str(value)
    if isinstance(value, Tensor):
        return str(Size(value.shape, dtype=value.dtype)) if 0 not in value.shape else f"tensor{tuple(value.shape)}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key!r}: {_write(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        inner = ", ".join(_write(item) for item in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    text = repr(value)
    return text if len(text) <= 60 else type(value).__name__


# -- checks -----------------------------------------------------------------------------------------------------------


def check_model(model: Any) -> None:
    """Raise ``InputError`` unless ``model`` is an instance of ``torch.nn.Module``."""
    if isinstance(model, nn.Module):
        return
    if isinstance(model, type) and issubclass(model, nn.Module):
        name = model.__name__
        raise InputError(f"the class {name}", "an instance of it", f"model = {name}(…)")
    raise InputError(
        f"model is {_say_type(model)}", "an instance of torch.nn.Module", "ModelSummary(model, (1, 3, 224, 224))"
    )


def check_method(model: nn.Module, method: str) -> None:
    """Raise ``InputError`` unless ``model`` has a method of that name."""
    if not callable(getattr(model, method, None)):
        near = [name for name in dir(type(model)) if not name.startswith("_") and name not in _MODULE_NAMES]
        hint = f"a method of {type(model).__name__}" + (f" such as {', '.join(near[:4])}" if near else "")
        raise InputError(f"method={method!r}", hint)


_MODULE_NAMES = frozenset(dir(nn.Module))


def check_device(device: Any) -> torch.device:
    """Return the device, or raise ``InputError`` if this machine has none such; the message lists those it has."""
    here = ["cpu", "meta", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    here += ["mps"] if torch.backends.mps.is_available() else []
    try:
        wanted = torch.device(device)
    except (RuntimeError, TypeError):
        raise InputError(f"device={device!r}", f"one of {', '.join(here)}", "device='cpu'") from None
    indexed = torch.device("cuda", wanted.index or 0) if wanted.type == "cuda" else torch.device(wanted.type)
    if str(indexed) not in here:
        raise InputError(f"device={str(wanted)!r}, which this machine does not have", f"one of {', '.join(here)}")
    return wanted


def _say_type(value: Any) -> str:
    name = type(value).__name__
    return "None" if value is None else f"an {name}" if name[:1].lower() in "aeiou" else f"a {name}"


# -- reading ----------------------------------------------------------------------------------------------------------


def read_inputs(
    model: nn.Module,
    inputs: Any = None,
    *,
    input_size: Any = None,
    input_data: Any = None,
    method: str = "forward",
    dtypes: Any = None,
) -> ModelInputs:
    """Read what the user gave as the arguments of ``method``.

    Args:
        model: The model.
        inputs: Sizes, data and plain values. A flat sequence of ints is one size; a list or tuple of other things the
            positional arguments; a dict the keywords if all its keys are parameters of the method (or it takes
            ``**kwargs``), the one argument if none is.
        input_size: The same, sizes only.
        input_data: The same, data only: a sequence of ints stays what it is.
        method: What will be called.
        dtypes: One dtype for all sizes, one per size in order, or by parameter name.

    Raises:
        InputError: If both sizes and data are given, a size is none, or the arguments do not fit the method.
    """
    given = [value for value in (inputs, input_size, input_data) if value is not None]
    if len(given) > 1:
        raise InputError(
            "more than one of inputs, input_size and input_data", "one of them", "input_size=(1, 3, 224, 224)"
        )
    check_method(model, method)
    if not given:
        raise InputError("no input", "a size or data", _write_example(model, method))
    if isinstance(given[0], ModelInputs):
        return given[0]
    read: Callable[[Any], Any] = _read_data if input_data is not None else _read_value
    found = _arrange(model, method, given[0], read, flat=input_data is None)
    if input_size is not None:
        _check_all_sizes(found)
    found = replace(found, names=tuple(_positional_names(model, method)[: len(found.args)]))
    _check_fit(model, method, found)
    return set_dtypes(found, dtypes)


def read_call(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, method: str = "forward"
) -> ModelInputs:
    """Read a call as it was made: its arguments are data and plain values, or ``Size`` objects.

    Raises:
        InputError: If the arguments do not fit the method.
    """
    check_method(model, method)
    names = tuple(_positional_names(model, method)[: len(args)])
    read = {name: _read_data(value) for name, value in kwargs.items()}
    found = ModelInputs(tuple(_read_data(value) for value in args), read, names)
    _check_fit(model, method, found)
    return found


def set_dtypes(found: ModelInputs, dtypes: Any) -> ModelInputs:
    """Give dtypes to the sizes that have none: one for all, one per size in order, or by parameter name.

    Raises:
        InputError: If a dtype or a name is unknown, or their number is wrong.
    """
    return found if dtypes is None else _set_dtypes(found, dtypes)


def _arrange(model: nn.Module, method: str, given: Any, read: Callable[[Any], Any], *, flat: bool) -> ModelInputs:
    if flat and is_flat(given):
        return ModelInputs((Size(given),))
    if isinstance(given, Mapping) and not dataclasses.is_dataclass(given):
        return _arrange_mapping(model, method, given, read)
    if isinstance(given, (list, tuple)) and not hasattr(given, "_fields"):
        return ModelInputs(tuple(read(value) for value in given))
    return ModelInputs((read(given),))


def _arrange_mapping(
    model: nn.Module, method: str, given: Mapping[Any, Any], read: Callable[[Any], Any]
) -> ModelInputs:
    parameters = _parameters(model, method)
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    names = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    known = [key for key in given if key in names]
    if all(isinstance(key, str) for key in given) and (
        len(known) == len(given) or (takes_any and (known or not names))
    ):
        return ModelInputs((), {key: read(value) for key, value in given.items()})
    if not known:
        return ModelInputs((read(given),))
    strangers = [key for key in given if key not in names]
    raise InputError(
        f"keys {', '.join(map(repr, strangers))}",
        f"parameters of {method}: {', '.join(names)}",
        _write_example(model, method),
    )


def _read_value(value: Any) -> Any:
    """Read one argument: ints in a row are a size, containers are read inside, all else is data or a plain value."""
    if is_flat(value):
        return Size(value)
    if isinstance(value, dict) and type(value) is dict:
        return {key: _read_value(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_read_value(item) for item in value)
    return _read_data(value)


def _read_data(value: Any) -> Any:
    """Read data: an array becomes a tensor that shares its memory, all else is passed as it is."""
    if type(value).__module__ == "numpy" and hasattr(value, "dtype") and getattr(value, "ndim", 0) > 0:
        try:
            return torch.from_numpy(value)
        except (TypeError, ValueError):
            raise InputError(
                f"an array of dtype {value.dtype}", "an array of numbers that torch has a dtype for"
            ) from None
    if type(value) is dict:
        return {key: _read_data(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_read_data(item) for item in value)
    return value


def _check_all_sizes(found: ModelInputs) -> None:
    for value in (*found.args, *found.kwargs.values()):
        if not isinstance(value, Size) and not any(isinstance(leaf, Size) for _, leaf in _walk(value, "")):
            raise InputError(f"input_size holds {_say_type(value)}", "sizes", "input_size=(1, 3, 224, 224)")


def _parameters(model: nn.Module, method: str) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(getattr(model, method)).parameters
    except (TypeError, ValueError):  # a ScriptModule's forward has no signature
        return {"args": inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)}


def _positional_names(model: nn.Module, method: str) -> list[str]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in _parameters(model, method).items() if parameter.kind in kinds]


def _check_fit(model: nn.Module, method: str, found: ModelInputs) -> None:
    """Check number and names of the arguments against the method's signature, before anything is traced."""
    try:
        signature = inspect.signature(getattr(model, method))
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*found.args, **found.kwargs)
    except TypeError as wrong:
        takes = f"{type(model).__name__}.{method}{_write_signature(signature)}"
        received = f"{found.describe()}: {wrong}"
        raise InputError(received, f"arguments of {takes}", _write_example(model, method)) from None


def _write_signature(signature: inspect.Signature) -> str:
    plain = [p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()]
    return str(signature.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def _set_dtypes(found: ModelInputs, dtypes: Any) -> ModelInputs:
    sizes = [(name, leaf) for name, leaf in found.leaves() if isinstance(leaf, Size)]
    if isinstance(dtypes, Mapping):
        roots = {name.partition("[")[0].partition(".")[0] for name, _ in sizes} | {name for name, _ in sizes}
        strangers = [name for name in dtypes if name not in roots]
        if strangers:
            raise InputError(f"dtypes for {', '.join(map(repr, strangers))}", f"names among {', '.join(sorted(roots))}")
        wanted = [dtypes.get(name, dtypes.get(name.partition("[")[0].partition(".")[0])) for name, _ in sizes]
    elif isinstance(dtypes, (list, tuple)):
        if len(dtypes) != len(sizes):
            raise InputError(f"{len(dtypes)} dtypes for {len(sizes)} sizes", "one per size, or one for all")
        wanted = list(dtypes)
    else:
        wanted = [dtypes] * len(sizes)
    changes = {
        name: size if dtype is None or size.dtype is not None else size.with_dtype(read_dtype(dtype))
        for (name, size), dtype in zip(sizes, wanted, strict=True)
    }
    return found.with_sizes(changes)


def _write_example(model: nn.Module, method: str) -> str:
    """Write a call that this model may well take, from its signature and the layers it begins with."""
    required = [
        name
        for name, parameter in _parameters(model, method).items()
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    size = _guess_size(model)
    if len(required) <= 1:
        return f"ModelSummary(model, {size})"
    return f"ModelSummary(model, {{{', '.join(f'{name!r}: {size}' for name in required)}}})"


def _guess_size(model: nn.Module) -> str:
    for module in model.modules():
        channels = getattr(module, "in_channels", None)
        kernel = getattr(module, "kernel_size", None)
        if isinstance(channels, int) and isinstance(kernel, tuple):
            return f"(1, {channels}{', 64' * len(kernel)})"
        if isinstance(features := getattr(module, "in_features", None), int) and features:
            return f"(1, {features})"
        if isinstance(module, nn.Embedding):
            return "(1, 16)"
        if isinstance(width := getattr(module, "input_size", None), int) and isinstance(module, nn.RNNBase):
            return f"(1, 16, {width})"
    return "(1, 3, 224, 224)"
