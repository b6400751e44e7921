"""What the user gave → ``ModelInputs``: sizes, data and plain values, as the arguments of one call."""

from __future__ import annotations

import dataclasses
import inspect
import operator
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from modelsummary_ipy.inputs.model_inputs import ModelInputs, check_names, set_dtypes
from modelsummary_ipy.inputs.pytree import holds_numbers_alone, list_items, rebuild
from modelsummary_ipy.inputs.signature import (
    check_fit,
    check_keywords,
    check_method,
    check_model,
    describe_type,
    find_misfit,
    list_positional,
    name_positional,
    read_signature,
)
from modelsummary_ipy.inputs.size import Size, is_flat
from modelsummary_ipy.records.errors import InputError

#: The annotation of a parameter that takes a list of tensors, as text or as Python's own type.
_TENSORS = re.compile(r"^(?:typing\.)?[Ll]ist\[(?:torch\.)?Tensor\]$")
#: How to read: sizes and data as they look, or one of them by force.
_Kind = Literal["any", "size", "data"]


def read_inputs(
    model: nn.Module,
    inputs: Any = None,
    *,
    input_size: Any = None,
    input_data: Any = None,
    arguments: Mapping[str, Any] | None = None,
    method: str = "forward",
    dtypes: Any = None,
    options: Collection[str] = (),
) -> ModelInputs:
    """Read what the user gave as the arguments of ``method``.

    Args:
        inputs: Sizes, data and plain values. A flat sequence of ints is one size; a list or tuple of other things the
            positional arguments; a dict the keywords if all its keys are parameters of the method (or it takes
            ``**kwargs``), the one argument if none is.
        input_size: The same, sizes only; a size may be text.
        input_data: The same, data only: a sequence of ints stays what it is.
        arguments: More of them by the names of parameters; alone, or beside one of the three.
        dtypes: One dtype for all sizes, one per size in order, or by parameter name.
        options: What else a keyword may be, for the message about one that is no parameter.

    Returns:
        The arguments; arrays are tensors now (float64 ones, numpy's default, in the dtype of the model's weights).

    Raises:
        InputError: If both sizes and data are given, a size is none, or the arguments do not fit the method.
    """
    check_model(model)
    check_method(model, method)
    given = [value for value in (inputs, input_size, input_data) if value is not None]
    if len(given) > 1:
        raise InputError("more than one of inputs, input_size and input_data", "one of them")
    if not given and not arguments:
        raise InputError("no input", "a size or data")
    if given and not arguments and isinstance(given[0], ModelInputs):
        return set_dtypes(given[0], dtypes)
    check_keywords(model, method, arguments or {}, options)
    kind: _Kind = "data" if input_data is not None else "size" if input_size is not None else "any"
    reader = _Reader(model, method, kind)
    positional, named = reader.arrange(given[0]) if given else ((), {})
    return set_dtypes(_finish(model, method, positional, reader.read_more(named, arguments or {})), dtypes)


def read_arguments(
    model: nn.Module, args: list[Any], kwargs: dict[str, Any], *, method: str = "forward", dtypes: Any = None
) -> ModelInputs:
    """Read inputs given one by one, as in the magic's line.

    One positional input is read like ``inputs`` of ``read_inputs``, several each as an argument.

    Raises:
        InputError: If a size is none, or the arguments do not fit the method.
    """
    check_method(model, method)
    reader = _Reader(model, method, "any")
    positional, named = reader.arrange(args[0]) if len(args) == 1 else (reader.read_positional(args), {})
    return set_dtypes(_finish(model, method, positional, reader.read_more(named, kwargs)), dtypes)


def read_call(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, method: str = "forward"
) -> ModelInputs:
    """Read a call as it was made: its arguments are data and plain values, or ``Size`` objects.

    Raises:
        InputError: If the arguments do not fit the method.
    """
    check_method(model, method)
    return _finish(model, method, tuple(args), dict(kwargs))


def _finish(model: nn.Module, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ModelInputs:
    found = ModelInputs(args, kwargs, name_positional(model, method)[: len(args)])
    check_fit(model, method, args, kwargs, found.describe())
    check_names(found)
    return found


class _Reader:
    """Reads values as arguments of one method."""

    def __init__(self, model: nn.Module, method: str, kind: _Kind) -> None:
        self._model = model
        self._method = method
        self._kind = kind
        self._signature = read_signature(model, method)
        self._code = getattr(inspect.unwrap(getattr(model, method)), "__code__", None)

    def arrange(self, given: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Part positional arguments and keywords."""
        if isinstance(given, (DataLoader, Dataset)):
            raise InputError(
                describe_type(given), "a batch of it, of which the input comes first: next(iter(loader))[0]"
            )
        if self._kind != "data" and is_flat(given):
            return (Size(given),), {}
        if isinstance(given, Mapping) and not dataclasses.is_dataclass(given):
            return self._arrange_mapping(given)
        # Exact types: a PackedSequence, a named tuple or what torch.max returns is one argument.
        if type(given) in (list, tuple):
            digits = [isinstance(item, str) and item.strip().isdigit() for item in given]
            is_size = any(digits) and all(map(operator.or_, digits, (isinstance(item, int) for item in given)))
            if self._kind != "data" and is_size and len(given) > len(list_positional(self._signature)):
                return (Size(given),), {}  # which says what is wrong with it
            is_one = type(given) is list and self._takes_list()
            return self.read_positional([given] if is_one else given), {}
        return self.read_positional([given]), {}

    def _takes_list(self) -> bool:
        """Return whether the first parameter is written as a list of tensors, as detectors take images."""
        first = list_positional(self._signature)[:1]
        return any(_TENSORS.search(str(parameter.annotation)) is not None for parameter in first)

    def read_positional(self, given: Sequence[Any]) -> tuple[Any, ...]:
        """Read each value as the argument of its place."""
        positional = list_positional(self._signature)
        parameters = [*positional, *[None] * (len(given) - len(positional))]
        return tuple(self.read(item, parameter) for item, parameter in zip(given, parameters, strict=False))

    def _arrange_mapping(self, given: Mapping[Any, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        parameters = self._signature.parameters if self._signature is not None else {}
        takes_any = not parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        named = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        known = [key for key in given if key in named]
        as_keywords = len(known) == len(given) or (takes_any and all(isinstance(key, str) for key in given))
        if as_keywords and given and not known and self._signature is not None:
            # forward(batch, **options): none of the keys is a parameter and the batch would be missing
            as_keywords = not find_misfit(self._signature, (), given)
        if as_keywords:
            return (), self.read_keywords(given)
        if not known:
            return self.read_positional([given]), {}
        wrong = find_misfit(self._signature, (), given) if self._signature is not None else ""
        raise InputError(
            f"the keys {', '.join(map(repr, given))}: {wrong}",
            f"parameters of {self._method}: {', '.join(named)}",
        )

    def read_more(self, named: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Read keywords that come to others, which were read already.

        Raises:
            InputError: If one is among them already.
        """
        twice = [name for name in given if name in named]
        if twice:
            raise InputError(f"{twice[0]!r} is given twice", "each input only once")
        return {**named, **self.read_keywords(given)}

    def read_keywords(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Read each value as the argument of its name."""
        parameters = self._signature.parameters if self._signature is not None else {}
        return {key: self.read(value, parameters.get(key), given) for key, value in given.items()}

    def read(self, value: Any, parameter: inspect.Parameter | None, inside: Any = None) -> Any:
        """Read one argument: ints in a row are a size, containers are read inside, all else is as it is."""
        if isinstance(value, (Size, Tensor)) and not (self._kind == "size" and isinstance(value, Tensor)):
            return value
        # Lists of ints in a tokenizer's output are tokens: only plain containers hold sizes.
        may_hold_sizes = inside is None or isinstance(inside, (dict, list, tuple))
        # Floats or truths alone are a plain value; a float among ints is a mistake in a size.
        is_size = is_flat(value) and any(isinstance(item, int) and not isinstance(item, bool) for item in value)
        if self._kind != "data" and may_hold_sizes and is_size:
            return value if self._kind == "any" and _wants_ints(parameter) else Size(value)
        if self._kind == "size":
            if isinstance(value, str):
                return Size(value)
            if not isinstance(value, (bool, type(None), list, tuple, Mapping)):
                raise InputError(f"input_size contains {describe_type(value)}", "only sizes; tensors go to input_data")
        is_argument = inside is None or parameter is not None
        if self._kind == "any" and is_argument and isinstance(value, str) and not _wants_text(parameter):
            return _read_text(value)
        if _is_array(value):
            return self._read_array(value, parameter)
        if self._kind != "size" and holds_numbers_alone(value):
            return value
        if isinstance(value, (list, tuple, Mapping)) and not dataclasses.is_dataclass(value):
            items = [(item, self.read(item, None, value)) for _, item in list_items(value)]
            return value if all(new is old for old, new in items) else rebuild(value, [new for _, new in items])
        return value

    def _read_array(self, value: Any, parameter: inspect.Parameter | None) -> Any:
        """Make a tensor of an array, unless the method takes an array or torch has no such dtype."""
        wants_array = parameter is not None and "ndarray" in str(parameter.annotation)
        if value.dtype.kind not in "biufc" or wants_array or "from_numpy" in getattr(self._code, "co_names", ()):
            return value
        if not value.dtype.isnative:
            value = value.astype(value.dtype.newbyteorder("="))
        if not value.flags.writeable or any(stride < 0 for stride in value.strides):
            value = value.copy()  # torch warns of the one and refuses the other
        try:
            tensor = torch.from_numpy(value)
        except TypeError:
            return value
        if tensor.dtype == torch.float64:  # what numpy makes unasked
            weights = (p.dtype for p in self._model.parameters() if p.dtype.is_floating_point)
            tensor = tensor.to(next(weights, torch.get_default_dtype()))
        return tensor


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")  # who has an array has imported it
    return numpy is not None and isinstance(value, numpy.ndarray)


def _wants_text(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and "str" in str(parameter.annotation)


def _read_text(text: str) -> Any:
    """Read a size that was typed as the magic takes it, ``"B=8, 3, H=224, W=224"``; any other text is data."""
    if not re.fullmatch(r"\s*\(?(\s*(\w+\s*=\s*)?\d+\s*,)*\s*(\w+\s*=\s*)?\d+\s*,?\s*\)?(:\w+)?\s*", text):
        is_size = re.fullmatch(r"\s*\(?\s*[A-Z]\w*=\d+(\s*,\s*(\w+\s*=\s*)?[\w.]+)*\s*\)?\s*", text)
        return Size(text) if is_size else text  # which says what is wrong with it
    return Size(text) if "," in text or "=" in text else text


def _wants_ints(parameter: inspect.Parameter | None) -> bool:
    """Return whether a parameter takes ints in a row, by its annotation or its default."""
    if parameter is None:
        return False
    if isinstance(parameter.default, (list, tuple)) and is_flat(parameter.default):
        return True
    text = "" if parameter.annotation is parameter.empty else str(parameter.annotation)
    return bool(re.search(r"(tuple|list|sequence|iterable)\[int", text, re.IGNORECASE)) and "Tensor" not in text
