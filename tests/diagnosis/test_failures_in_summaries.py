"""A failure in a summary: its row, its views, its cause, its cell in a notebook."""

from __future__ import annotations

import gc
import html
import queue
import re
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from torch import Tensor, nn
from traitlets.config import Config

from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.records.errors import CheckError
from modelsummary_ipy.summary import ModelSummary
from tests import failing_models
from tests.diagnosis.test_failures import summarise
from tests.diagnosis.test_twins import TWINS, find_error
from tests.failing_cases import CASES


def test_the_failing_row_is_marked_and_what_comes_after_is_not_reached() -> None:
    ms = ModelSummary(failing_models.UNetCat(), (1, 1, 50, 50))
    error = ms.error
    assert error is not None
    status = {row.path or row.type_name: row.status for row in ms.rows}
    assert ms.rows[error.row].type_name == "cat"
    assert status["UNetCat"] == status["cat"] == "failed"
    assert status["up2"] == "ran"
    assert [status[path] for path in ("dec2", "up1", "dec1")] == ["unreached"] * 3
    assert ms["dec2"].num_params == 16 * 8 * 9 + 8


@pytest.mark.parametrize("write", [ModelSummary.to_text, ModelSummary.to_markdown, ModelSummary.to_html])
def test_every_view_shows_the_failure_with_the_same_text(write: Any) -> None:
    ms = ModelSummary(failing_models.UNetCat(), (1, 1, 50, 50))
    text = html.unescape(re.sub(r"<[^>]+>", "", write(ms)))
    assert ms.error is not None
    for line in ms.error.message.splitlines():
        assert " ".join(line.split()) in " ".join(text.split())
    assert text.count("not reached") == 3


def test_the_words_do_not_depend_on_what_was_asked_for_first() -> None:
    first = ModelSummary(failing_models.UNetCat(), (1, 1, 50, 50)).error
    later = ModelSummary(failing_models.UNetCat(), (1, 1, 50, 50))
    later.to_text()
    assert first is not None
    assert later.error is not None
    assert first.message == later.error.message
    assert "[B, 8, 2·⌊H/4⌋, 2·⌊W/4⌋]" in first.message


def test_names_that_the_user_gave_are_kept_in_the_sizes_that_are_offered() -> None:
    error = ModelSummary(failing_models.LinearAfterFlatten(), Size("B=2 1 H=40 W=40")).error
    assert error is not None
    assert error.sizes == ("(B=2, 1, H=32, W=32)",)


def test_keywords_and_plain_values_are_kept_in_the_sizes_that_are_offered() -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 5)

        def forward(self, x: Tensor, scale: float = 1.0, *, gate: Tensor) -> Tensor:
            return self.fc(x) * scale + gate

    error = ModelSummary(Keywords(), {"x": (2, 16), "scale": 2.0, "gate": (2, 5)}).error
    assert error is not None
    assert error.sizes == ("x=(2, 20) scale=2.0 gate=(2, 5)",)


def test_check_raises_the_failure_with_the_same_text() -> None:
    ms = ModelSummary(failing_models.LinearChain(), (2, 20))
    with pytest.raises(CheckError, match="'fc1' \\(Linear\\) outputs 50 features") as raised:
        ms.check()
    assert raised.value.__cause__ is ms.error


def test_the_cause_is_the_original_exception_with_the_users_lines_alone() -> None:
    error = ModelSummary(failing_models.Deep(), (2, 3, 8, 8)).error
    assert error is not None
    cause = error.__cause__
    assert type(cause) is RuntimeError
    lines = [(Path(entry.filename).name, entry.name) for entry in traceback.extract_tb(cause.__traceback__)]
    assert lines == [("failing_models.py", "forward"), ("failing_models.py", "forward")]


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_a_failure_keeps_no_tensor_and_no_module_alive(engine: Any) -> None:
    noted: queue.SimpleQueue[weakref.ref[Any]] = queue.SimpleQueue()  # a list would be put back as it was

    class Noted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.fc(x)
            noted.put(weakref.ref(h))
            noted.put(weakref.ref(self))
            return h.view(3, 5)

    ms = ModelSummary(Noted(), (2, 4), engine=engine)
    assert ms.error is not None
    gc.collect()
    kept = [noted.get() for _ in range(noted.qsize())]
    assert kept
    assert [ref() for ref in kept] == [None] * len(kept)


def test_a_failure_in_a_real_run_is_reported_like_any_other() -> None:
    class Values(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            kept = x[x.sum(-1) > -1e9]
            return self.fc(kept)

    ms = ModelSummary(Values(), (5, 8))
    assert ms.engine == "real"
    assert ms.error is not None
    assert ms.error.path == "fc"
    assert ms.error.reason == "the input has 8 features, 'fc' expects 6"
    assert ms.error.fix == "self.fc = nn.Linear(8, 2)"
    assert type(ms.error.__cause__) is RuntimeError


def test_torchs_messages_name_tensors_and_not_fakes() -> None:
    for case in CASES:
        error = summarise(case).error
        assert error is not None
        assert "Fake" not in error.message
        assert "Fake" not in str(error.__cause__)


def test_what_a_failing_forward_prints_shows_once(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 5)

        def forward(self, x: Tensor) -> Tensor:
            print("hello")  # the point
            return self.fc(x)

    error = ModelSummary(Loud(), (2, 16)).error
    assert error is not None
    assert error.sizes == ("(2, 20)",)
    assert capsys.readouterr().out == "hello\n"


CELL = """
import torch
from torch import nn
from modelsummary_ipy.summary import ModelSummary

def double(x):
    return x.view(3, 5)

class Net(nn.Module):
    def forward(self, x):
        return double(x)

ms = ModelSummary(Net(), (2, 4))
"""


def test_a_function_of_a_notebook_shows_its_cell_and_line(shell: InteractiveShell) -> None:
    shell.run_cell("1 + 1", store_history=True)
    shell.run_cell(CELL, store_history=True)
    error = shell.user_ns["ms"].error
    assert error.source == "In [2] line 6"
    assert "at In [2] line 6\n  line      return x.view(3, 5)\n" in error.message


OF_ANOTHER_CELL = """
class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.ConvTranspose2d(3, 3, 2, stride=2)

    def forward(self, x):
        return torch.cat([x, self.up(self.down(x))], 1)
"""


def test_a_fix_in_a_cell_writes_functions_as_another_cell_imported_them(shell: InteractiveShell) -> None:
    shell.run_cell("import torch\nfrom torch import nn", store_history=True)
    shell.run_cell("%load_ext modelsummary_ipy", store_history=True)
    shell.run_cell(f"{OF_ANOTHER_CELL.strip()}\n%summary torch.nn.ReLU() (2, 3)", store_history=True)
    error = ModelSummary(shell.user_ns["Skip"](), (2, 3, 15, 15)).error
    assert error is not None
    assert "nn.functional.interpolate" in error.fix
    assert error.fixes[0].outputs[0].shape == (2, 6, 15, 15)
    assert error.patch is not None
    assert error.patch.endswith("\n %summary torch.nn.ReLU() (2, 3)\n")  # as it was typed


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    InteractiveShell.clear_instance()


def find_examples() -> list[str]:
    """The reasons that the page on errors shows."""
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    reasons = page.partition("## Reasons")[2].partition("## Fake")[0]
    return re.findall(r"^\| [^|]+ \| `(.+)` \|$", reasons, re.MULTILINE)


def test_the_page_on_errors_shows_reasons_that_are_given() -> None:
    examples = find_examples()
    given = [error.reason for case in CASES if (error := summarise(case).error) is not None]
    given += [find_error(number).reason for number in range(len(TWINS))]
    assert len(examples) > 30
    assert [example for example in examples if not any(example in reason for reason in given)] == []
