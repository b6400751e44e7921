"""The example in an error about inputs: sizes at which the model was traced to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from modelsummary_ipy.inputs import ModelInputs
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.tracing.engine import find_example


@contextmanager
def example_found(model: nn.Module, method: str, write: Callable[[ModelInputs], str]) -> Iterator[None]:
    """Give an ``InputError`` of the block that has no example one that works.

    Args:
        write: Writes the line in which inputs are given.
    """
    try:
        yield
    except InputError as wrong:
        found = None if wrong.example else find_example(model, method)
        if found is None:
            raise
        raise InputError(wrong.received, wrong.expected, write(found)) from None


def write_call(method: str, inputs: ModelInputs) -> str:
    """Write a line of Python: ``ModelSummary(model, (2, 3, 64, 64))``."""
    chosen = "" if method == "forward" else f", method={method!r}"
    return f"ModelSummary(model, {inputs.as_call()}{chosen})"
