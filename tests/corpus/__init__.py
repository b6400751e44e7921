"""Models that are wrong, and models that only look it: what the rules are held to.

``BUGS`` run without an error and do not do what they were written for; each says which rule finds it, and on which row.
``CLEAN`` do what they were written for, however odd they look: no rule may warn of them. A note is no warning.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

__all__ = ["BUGS", "CLEAN", "Bug", "Clean", "bug", "clean"]


@dataclass(frozen=True, slots=True)
class Bug:
    """A model with a bug.

    Attributes:
        name: Its class or function.
        make: Makes it.
        inputs: What to pass, as ``ModelSummary`` takes it.
        rule: The rule that has to find it.
        at: Path of the row the flag stands on, and its class or the operation's name.
        severity: The gravest that is expected.
        options: Keywords of ``ModelSummary``.
    """

    name: str
    make: Callable[[], nn.Module]
    inputs: Any
    rule: str
    at: tuple[str, str]
    severity: str = "warning"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Clean:
    """A model without a bug; ``like`` is the rule it could fool."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Any
    like: str
    options: dict[str, Any] = field(default_factory=dict)


BUGS: list[Bug] = []
CLEAN: list[Clean] = []


def bug(
    rule: str, at: tuple[str, str], *inputs: Any, severity: str = "warning", **options: Any
) -> Callable[[Any], Any]:
    """Register a class or function that makes a buggy model; several sizes are several arguments."""

    def register(make: Any) -> Any:
        given = inputs[0] if len(inputs) == 1 else list(inputs)
        BUGS.append(Bug(make.__name__, make, given, rule, at, severity, options))
        return make

    return register


def clean(like: str, *inputs: Any, **options: Any) -> Callable[[Any], Any]:
    """Register a class or function that makes a clean model."""

    def register(make: Any) -> Any:
        given = inputs[0] if len(inputs) == 1 else list(inputs)
        CLEAN.append(Clean(make.__name__, make, given, like, options))
        return make

    return register


for _file in (
    "batch_bugs", "batch_clean", "spatial_bugs", "spatial_clean", "sequence_bugs", "sequence_clean", "wiring_bugs",
    "wiring_clean", "styles_bugs", "families_clean", "meaning_bugs", "meaning_clean", "silent_bugs", "silent_clean",
    "training_bugs", "training_clean", "mask_bugs", "mask_clean", "role_bugs", "role_clean",
    "place_bugs", "place_clean",
):  # fmt: skip
    importlib.import_module(f"tests.corpus.{_file}")
