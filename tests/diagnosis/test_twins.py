"""Models that fail and their repaired twins: the best fix gives what the twin gives, for fakes and for real."""

from __future__ import annotations

import functools
import importlib
import inspect
import linecache
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.pytree import walk_leaves
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.summary import ModelSummary
from tests.diagnosis.twins import TWINS as REGISTERED
from tests.fix_is_true import CHECKED, apply_patch

for _file in sorted(Path(__file__).parent.glob("twins_*.py")):
    importlib.import_module(f"tests.diagnosis.{_file.stem}")
TWINS = tuple(REGISTERED)  # a patched file, run below, registers its own again


@functools.cache
def find_error(number: int) -> ForwardError:
    twin = TWINS[number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about batch_first
        model = twin.broken()
        error = ModelSummary(model, list(twin.inputs)).error
    assert error is not None
    return error


def make_real(inputs: tuple[Any, ...]) -> list[Tensor]:
    return [item if isinstance(item, Tensor) else torch.zeros(item) for item in inputs]


def run(model: nn.Module, inputs: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for _, leaf in walk_leaves(model(*inputs)) if isinstance(leaf, Tensor)]


pytestmark = [
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),  # of torch, about batch_first
    pytest.mark.filterwarnings("ignore:Using a target size"),  # of torch, about a loss that then fails
]
ALL = pytest.mark.parametrize("number", range(len(TWINS)), ids=[twin.id for twin in TWINS])


def test_there_are_a_hundred_and_thirty_twins() -> None:
    assert len({twin.id for twin in TWINS}) == len(TWINS) >= 130


@ALL
def test_the_reason_and_the_line_are_right(number: int) -> None:
    assert TWINS[number].reason in find_error(number).reason
    refused = (RuntimeError, LookupError, ValueError, TypeError, AttributeError, AssertionError, NameError)
    with pytest.raises(refused):
        run(TWINS[number].broken(), make_real(TWINS[number].inputs))


@ALL
def test_the_best_fix_gives_what_the_repaired_twin_gives(number: int) -> None:
    twin, error = TWINS[number], find_error(number)
    model = (twin.repaired or twin.broken)()
    want = run(model, make_real(twin.right or twin.inputs))
    assert error.fix
    assert [spec.shape for spec in error.fixes[0].outputs] == want


#: A setting of each block is no one line of a class; a batch, dtype or argument is given where the model is called.
WITHOUT_PATCH = {
    "ResNet",
    "NoBatchAndAWidth",
    "TooManyModes",
    "Half",
    "U8",
    "TiedWidths",
    "MelodyOfVoices",
    "CellTypes",
} | {
    twin.id
    for twin in TWINS
    if twin.broken.__module__.endswith("twins_made") and twin.id not in ("short_table", "root_pe")
}
PATCHED = [
    number for number, twin in enumerate(TWINS) if twin.repaired is not None and twin.id not in WITHOUT_PATCH
]  # fmt: skip


@pytest.mark.parametrize("number", PATCHED, ids=[TWINS[number].id for number in PATCHED])
def test_the_patched_file_runs_and_gives_what_the_repaired_twin_gives(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin, error = TWINS[number], find_error(number)
    assert error.patch is not None, error
    lines = apply_patch(error.patch, linecache.getlines(str(inspect.getsourcefile(twin.broken))))
    patched = ModuleType("tests.patched")
    monkeypatch.setitem(sys.modules, patched.__name__, patched)
    exec(compile("".join(lines), "patched.py", "exec"), vars(patched))
    model = vars(patched)[twin.broken.__name__]()
    assert twin.repaired is not None
    inputs = make_real(twin.right or twin.inputs)
    assert run(model, inputs) == run(twin.repaired(), inputs)


def test_the_fixes_that_tests_show_are_run_for_real() -> None:
    texts = {fix.text for number in range(len(TWINS)) for fix in find_error(number).fixes}
    assert len(texts) > 40
    assert [text for text in texts if not CHECKED[text]] == []
