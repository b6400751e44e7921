"""What a run of the form depends on, as plain values: its inputs, and the line for the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from modelsummary_ipy.inputs import ModelInputs, Size, check_names
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.training import PRECISIONS
from modelsummary_ipy.records.view import View

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "bool", "uint8", "complex64")
_USUAL_COLUMNS = View().columns
_USUAL = ("same", "auto", "adamw", PRECISIONS[0])
_SIZE = re.compile(r"\([^()\[\]'\"]*\)(?::\w+)?")
_LAST_NAME = re.compile(r"(?:^|[\s,(\[])([^\W\d]\w*)$")


@dataclass(frozen=True)
class Settings:
    """Everything a run depends on; plain values, so that a run can be gone back to.

    Attributes:
        sizes: Per input leaf the text of its field.
        dtypes: Per input leaf the name of its dtype, ``""`` for what the layer wants.
        device, mode, engine: As the constructor takes them; a device of ``""`` is where the model is.
        memory: The budget as it was typed, ``""`` for none.
        optimizer, precision: Of the training step.
        depth: Levels that are open, ``None`` lets the table choose.
        ops: Whether operations are shown.
        columns: Which columns are shown.
    """

    sizes: tuple[str, ...]
    dtypes: tuple[str, ...]
    device: str = ""
    mode: str = "same"
    engine: str = "auto"
    memory: str = ""
    optimizer: str = "adamw"
    precision: str = PRECISIONS[0]
    depth: int | None = None
    ops: bool = False
    columns: tuple[str, ...] = _USUAL_COLUMNS

    @property
    def traced(self) -> Settings:
        """What a trace depends on: all but the view."""
        return replace(self, depth=None, ops=False, columns=_USUAL_COLUMNS)

    def keywords(self) -> dict[str, Any]:
        """The keywords of ``ModelSummary`` that they are."""
        keywords: dict[str, Any] = {"mode": self.mode, "engine": self.engine}
        if self.optimizer != _USUAL[2]:
            keywords["optimizer"] = self.optimizer
        if self.precision != _USUAL[3]:
            keywords["precision"] = self.precision
        if self.device:
            keywords["device"] = self.device
        if self.memory:
            keywords["memory"] = "".join(self.memory.split())
        return keywords

    def read_inputs(self, first: ModelInputs) -> ModelInputs:
        """Return ``first`` with the leaves that were edited as sizes; data stays what it is until then.

        Raises:
            InputError: If a size is none, or one name has two sizes.
        """
        changed: dict[str, Size] = {}
        for (name, value), text, dtype in zip(first.leaves(), self.sizes, self.dtypes, strict=True):
            if text != write_size(value) or dtype != dtype_of(value):
                changed[name] = read_leaf(text, dtype)
        found = first.with_sizes(changed)
        check_names(found)
        return found


def read_leaf(text: str, dtype: str) -> Size:
    """Read one field, by the grammar of sizes; a dtype behind a colon is one, unless another was chosen.

    Raises:
        InputError: If it is none.
    """
    size = Size(text)
    return size.with_dtype(dtype) if dtype else size


def is_half_typed(text: str) -> bool:
    """Return whether a size probably goes on: it ends with a comma, an open bracket, or a name without its number.

    Example:
        >>> [is_half_typed(text) for text in ("B=8, 3,", "(8, 3", "B=8, H", "B=8, H=", "S=256, S", "8, 3, 64:int6")]
        [True, True, True, True, False, True]
    """
    text, colon, dtype = text.strip().partition(":")
    if colon and dtype.strip() not in DTYPES and any(name.startswith(dtype.strip()) for name in DTYPES):
        return True
    text = text.rstrip()
    if not text or text[-1] in ",=([" or (text[0] in "([" and text[-1] not in ")]"):
        return True
    name = _LAST_NAME.search(text)
    return name is not None and not re.search(rf"\b{name[1]}\s*=", text)


def write_size(value: Any) -> str:
    """Write a leaf's size as its field takes it: ``"B=8, 3, H=224, W=224"``; ``"()"`` is that of a scalar."""
    dims = value.dims if isinstance(value, Size) else ("",) * len(value.shape)
    parts = [f"{name}={number}" if name else str(number) for name, number in zip(dims, value.shape, strict=True)]
    return ", ".join(parts) or "()"


def dtype_of(value: Any) -> str:
    """Name of a leaf's dtype, ``""`` where the layer that reads it decides."""
    return str(value.dtype or "").removeprefix("torch.")


def read_suggestion(text: str, inputs: ModelInputs) -> tuple[Size, ...] | None:
    """Read a line of inputs that would work as one size per leaf; ``None`` if it holds more than sizes.

    What was read is written again and compared, so a text that holds something else is never half taken.

    Args:
        text: As ``ForwardError.sizes`` holds it: ``"ids=(1, 128):int64 mask=(1, 128)"``.
    """
    leaves = inputs.leaves()
    found = _SIZE.findall(text)
    if len(found) != len(leaves):
        return None
    try:
        sizes = tuple(Size(written) for written in found)
        again = inputs.with_sizes({name: size for (name, _), size in zip(leaves, sizes, strict=True)})
    except InputError:
        return None
    return sizes if again.as_line() == text.strip() else None


def write_line(expression: str, inputs: ModelInputs, settings: Settings, fixed: Sequence[tuple[str, str]] = ()) -> str:
    """Write the magic's line for the same summary.

    Args:
        expression: How the user calls what is summarised: ``"model"``, ``"vae.encode"``.
        fixed: Options that the form has no field for, with their values.
    """
    options = [(name, str(value)) for name, value in settings.keywords().items() if value not in _USUAL]
    if settings.depth is not None:
        options.append(("depth", str(settings.depth)))
    if settings.columns != _USUAL_COLUMNS:
        options.append(("columns", ",".join(settings.columns)))
    options += fixed
    words = [f"--{name} {value}" for name, value in options]
    if settings.ops:
        words.append("--ops")
    return " ".join(word for word in ("%summary", expression, inputs.as_line(), *words) if word)
