"""What all modules of a class have in common, as facts."""

from __future__ import annotations

import inspect
from types import CodeType
from typing import NamedTuple

from torch import nn

from modelsummary_ipy.model.attribute_reads import find_reads
from modelsummary_ipy.model.class_cache import once_a_class


class ClassFacts(NamedTuple):
    """What every module of a class has in common, as ``ModuleFact`` has it."""

    name: str
    module: str
    reads: frozenset[str] | None
    reads_elsewhere: frozenset[str]
    bounds: frozenset[int] | None
    file: str
    line: int


@once_a_class
def read_class(cls: type[nn.Module]) -> ClassFacts:
    """Read the facts of a class of modules."""
    code = _find_forward(cls)
    file, line = (code.co_filename, code.co_firstlineno) if code is not None else ("", 0)
    # Who is a container of its own reaches its children by their index.
    if code is None or issubclass(cls, (nn.ModuleList, nn.ModuleDict, nn.Sequential)):
        return ClassFacts(cls.__name__, cls.__module__, None, frozenset(), None, file, line)
    reads = find_reads(cls, nn.Module)
    return ClassFacts(cls.__name__, cls.__module__, reads.forward, reads.elsewhere, reads.bounds, file, line)


def _find_forward(cls: type[nn.Module]) -> CodeType | None:
    """Return the code of the forward that a person wrote, under its decorators; ``None`` if it is compiled."""
    try:
        code = getattr(inspect.unwrap(cls.forward), "__code__", None)
    except Exception:  # noqa: BLE001  # a ScriptModule's forward answers attribute lookups with errors of its own
        return None
    return code if isinstance(code, CodeType) else None
