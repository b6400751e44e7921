"""Whole models with a silent bug, each beside its repaired text: the one is warned of, the other is not."""

from __future__ import annotations

import linecache
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from torch import nn

from modelsummary_ipy import ModelSummary, Size

FILES = ("silent_models.txt", "silent_unseen.txt", "silent_axes.txt")
HEAD = "import math\nimport torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"
#: What is wrong, and what is right: ``⟦dim=0¦dim=1⟧``.
MARK = re.compile(r"⟦([^¦⟧]*)¦([^⟧]*)⟧")


class Silent(NamedTuple):
    """A model: its inputs as they are written, the rule that warns of the wrong text, its marked text.

    ``-``: none; ``note batch-mixed``: the rule only notes it.
    """

    name: str
    inputs: str
    rule: str
    text: str


def read_models() -> list[Silent]:
    texts = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in FILES]
    heads = [part.partition("\n") for text in texts for part in re.split(r"(?m)^### ", text)[1:]]
    return [Silent(*map(str.strip, head.split("|")), text) for head, _, text in heads]


def make(case: Silent, which: str) -> nn.Module:
    """Run the text with all marks read one way; its lines are known to ``linecache``, as those of a cell are."""
    code = HEAD + MARK.sub(which, case.text)
    filename = f"<{case.name} {which}>"
    linecache.cache[filename] = len(code), None, code.splitlines(keepends=True), filename
    names: dict[str, Any] = {"__name__": case.name}
    exec(compile(code, filename, "exec"), names)
    return names["make"]()


def read_inputs(text: str) -> Any:
    """``(2, 8)``, or ``ids=(2, 8):int64 mask=(2, 8)``."""
    if text.startswith("("):
        return tuple(map(int, re.findall(r"\d+", text)))
    words = {"ids": "int64", "src": "int64", "tgt": "int64"}
    return {
        name: Size(" ".join(re.findall(r"\d+", size)), dtype=dtype or words.get(name, "float32"))
        for name, size, dtype in re.findall(r"(\w+)=(\([^)]*\))(?::(\w+))?", text)
    }


def list_warnings(case: Silent, which: str) -> list[str]:
    return [rule for rule in list_flags(case, which) if not rule.startswith("note ")]


def list_flags(case: Silent, which: str) -> list[str]:
    ms = ModelSummary(make(case, which), read_inputs(case.inputs))
    assert ms.error is None, ms.error
    return [f"note {flag.rule}" if flag.severity == "note" else flag.rule for flag in ms.flags]


@pytest.mark.filterwarnings("ignore")  # torch sees some of it too, and goes on
@pytest.mark.parametrize("case", read_models(), ids=lambda case: case.name)
def test_the_wrong_text_is_warned_of_and_the_right_one_is_not(case: Silent) -> None:
    assert list_warnings(case, r"\2") == []
    if case.rule != "-":
        assert case.rule in list_flags(case, r"\1")
