"""Models that fail and their repaired twins: the best fix gives what the twin gives, for fakes and for real."""

from __future__ import annotations

import functools
import inspect
import linecache
import sys
import warnings
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.summary import ModelSummary
from tests.diagnosis import twins
from tests.diagnosis.twins import TWINS
from tests.fix_is_true import CHECKED, apply_patch


@functools.cache
def find_error(number: int) -> ForwardError:
    twin = TWINS[number]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, about batch_first
        error = ModelSummary(twin.broken(), list(twin.inputs)).error
    assert error is not None
    return error


def make_real(inputs: tuple[Any, ...]) -> list[Tensor]:
    return [item if isinstance(item, Tensor) else torch.zeros(item) for item in inputs]


def run(model: nn.Module, inputs: list[Tensor]) -> tuple[int, ...]:
    output = model(*inputs)
    return tuple(output.shape)


pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")  # of torch, about batch_first
ALL = pytest.mark.parametrize("number", range(len(TWINS)), ids=[twin.id for twin in TWINS])


def test_there_are_forty_twins() -> None:
    assert len({twin.id for twin in TWINS}) == len(TWINS) >= 40


@ALL
def test_the_reason_and_the_line_are_right(number: int) -> None:
    assert TWINS[number].reason in find_error(number).reason
    with pytest.raises((RuntimeError, IndexError, ValueError)):
        run(TWINS[number].broken(), make_real(TWINS[number].inputs))


@ALL
def test_the_best_fix_gives_what_the_repaired_twin_gives(number: int) -> None:
    twin, error = TWINS[number], find_error(number)
    model = (twin.repaired or twin.broken)()
    want = run(model, make_real(twin.right or twin.inputs))
    assert error.fix
    assert [spec.shape for spec in error.fixes[0].outputs] == [want]


PATCHED = [number for number, twin in enumerate(TWINS) if twin.repaired is not None]


@pytest.mark.parametrize("number", PATCHED, ids=[TWINS[number].id for number in PATCHED])
def test_the_patched_file_runs_and_gives_what_the_repaired_twin_gives(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin, error = TWINS[number], find_error(number)
    assert error.patch is not None, error
    lines = apply_patch(error.patch, linecache.getlines(str(inspect.getsourcefile(twins))))
    patched = ModuleType("tests.patched")
    monkeypatch.setitem(sys.modules, patched.__name__, patched)
    exec(compile("".join(lines), "patched.py", "exec"), vars(patched))
    model = vars(patched)[twin.broken.__name__]()
    assert twin.repaired is not None
    assert run(model, make_real(twin.inputs)) == run(twin.repaired(), make_real(twin.inputs))


def test_the_fixes_that_tests_show_are_run_for_real() -> None:
    texts = {fix.text for number in range(len(TWINS)) for fix in find_error(number).fixes}
    assert len(texts) > 40
    assert [text for text in texts if not CHECKED[text]] == []
