"""The public contract of ``ModelSummary``."""

from __future__ import annotations

import gc
import io
import json
import threading
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from modelsummary_ipy import CheckError, ForwardError, InputError, ModelSummary, Size, View
from modelsummary_ipy.tracing.progress import TraceCancelled


class Example(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(1, 16, 3, padding=5)
        self.conv1 = nn.Conv2d(16, 32, 3)

    def forward(self, x: Any) -> Any:
        return self.conv1(self.conv0(x))


def test_the_first_example_to_the_letter() -> None:
    ms = ModelSummary(Example(), input_size=(1, 1, 256, 256))
    assert str(ms.summary) == (
        "    Name    Type               InSz              OutSz  Params\n"
        "0  conv0  Conv2d   [1, 1, 256, 256]  [1, 16, 264, 264]     160\n"
        "1  conv1  Conv2d  [1, 16, 264, 264]  [1, 32, 262, 262]    4640"
    )
    assert ms.summary["Params"].dtype == "int64"
    assert isinstance(ms.summary, pd.DataFrame)
    assert [(flag.rule, flag.severity, flag.path) for flag in ms.flags] == [("grown-map", "warning", "conv0")]


def test_a_path_gives_its_first_row_and_a_wrong_one_the_nearest() -> None:
    ms = ModelSummary(Example(), (1, 1, 32, 32))
    assert ms["conv1"].outputs[0].shape == (1, 32, 38, 38)
    assert ms[""].num_params == ms.total_params == ms.trainable_params == 160 + 4640
    with pytest.raises(KeyError, match="no row 'conv2'; did you mean 'conv1'"):
        ms["conv2"]


def test_mult_adds_and_operations_by_hand() -> None:
    ms = ModelSummary(Example(), (1, 1, 256, 256))
    by_hand = 264 * 264 * 16 * 9 + 262 * 262 * 32 * 16 * 9
    assert ms.total_mult_adds == by_hand
    assert ms.unknown_ops == ()
    assert "convolution" in ms.to_html()


def test_everything_can_be_saved(tmp_path: Path) -> None:
    ms = ModelSummary(Example(), (1, 1, 32, 32))
    assert "<!DOCTYPE html>" in ms.save(tmp_path / "net.html").read_text("utf-8")
    assert ms.save(tmp_path / "net.txt").read_text("utf-8") == ms.to_text()
    assert ms.save(tmp_path / "net.md").read_text("utf-8") == ms.to_markdown()
    assert len(json.loads(ms.save(tmp_path / "net.json").read_text("utf-8"))["rows"]) == len(ms.rows)
    assert len(pd.read_csv(ms.save(str(tmp_path / "net.csv")))) == len(ms.rows)
    with pytest.raises(InputError, match=r"can't save as 'net.pdf'; expected an ending among .html"):
        ms.save(tmp_path / "net.pdf")


def test_a_name_with_a_lone_surrogate_can_be_saved(tmp_path: Path) -> None:
    net = nn.Sequential()
    net.add_module("\ud800", nn.Linear(2, 2))
    ms = ModelSummary(net, (1, 2))
    for ending in ("html", "txt", "md", "json", "csv"):
        assert ms.save(tmp_path / f"net.{ending}").stat().st_size > 0


def test_show_displays_another_view_and_leaves_the_summary(capsys: pytest.CaptureFixture[str]) -> None:
    ms = ModelSummary(nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.ReLU()), (1, 2))
    before = ms.view
    ms.show(depth=1, columns=["params"])
    assert "params" in capsys.readouterr().out
    assert ms.view == before
    with pytest.raises(InputError, match="no column 'price'"):
        ms.show(columns=["price"])
    with pytest.raises(InputError, match="depth -1"):
        ms.show(depth=-1)
    with pytest.raises(InputError, match="0 or more levels, or all"):
        ms.show(depth="every")  # type: ignore[arg-type]
    ms.show(depth="all")
    assert "Linear" in capsys.readouterr().out


def test_two_threads_show_different_views_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ms = ModelSummary(nn.Sequential(nn.Sequential(nn.Linear(2, 2)), nn.ReLU()), (4, 2))
    wanted: list[dict[str, Any]] = [
        {"depth": 1, "columns": ["params"], "memory": "1GB"},
        {"depth": 2, "columns": ["output", "macs"], "optimizer": "sgd"},
    ]
    pages: dict[int, set[str]] = {}
    for options in wanted:
        monkeypatch.setattr("sys.stdout", out := io.StringIO())
        ms.show(**options)
        pages[len(pages)] = {out.getvalue()}
    assert pages[0] != pages[1]

    outs: dict[int, io.StringIO] = {}
    together = threading.Barrier(2)

    class PerThread(io.StringIO):
        def write(self, text: str) -> int:
            return outs[threading.get_ident()].write(text)

    def show(number: int) -> None:
        for _ in range(20):
            outs[threading.get_ident()] = io.StringIO()
            together.wait(60)
            ms.show(**wanted[number])
            pages[number].add(outs[threading.get_ident()].getvalue())

    before = (ms.view, ms.memory, ms.to_text())
    monkeypatch.setattr("sys.stdout", PerThread())
    threads = [threading.Thread(target=show, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    assert {number: len(texts) for number, texts in pages.items()} == {0: 1, 1: 1}
    assert (ms.view, ms.memory, ms.to_text()) == before


def test_a_stage_is_computed_once_however_many_threads_need_it() -> None:
    ms = ModelSummary(Example(), Size("B=2 1 H=32 W=32"))
    together = threading.Barrier(4)
    found: list[Any] = []

    def read() -> None:
        together.wait(60)
        found.append((ms.formulas, ms.flags, ms.memory, ms.constraints))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(one is other for first in found for one, other in zip(first, found[0], strict=True))


QUESTIONS: dict[str, Callable[[ModelSummary], object]] = {
    "flags": lambda ms: ms.flags,
    "formulas": lambda ms: ms.formulas,
    "constraints": lambda ms: ms.constraints,
    "costs": lambda ms: ms.costs,
    "mult-adds": lambda ms: ms.total_mult_adds,
    "memory": lambda ms: ms.memory,
    "error": lambda ms: str(ms.error),
    "text": lambda ms: ms.to_text(),
    "page": lambda ms: ms.to_html(),
    "values": lambda ms: ms.to_dict(),
}


@pytest.fixture(scope="module")
def read_alone() -> Callable[[str, Size], dict[str, object]]:
    """What each question is answered by a summary that is asked nothing else; the same for every test of a case."""

    @cache
    def ask(case: str, size: Size) -> dict[str, object]:
        return {name: read(ModelSummary(Example(), size)) for name, read in QUESTIONS.items()}

    return ask


@pytest.mark.parametrize("first", QUESTIONS)
@pytest.mark.parametrize("case", ["runs", "fails", "many modules"])
def test_what_is_read_first_changes_nothing_that_is_read_later(
    case: str, first: str, read_alone: Callable[[str, Size], dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "many modules":
        monkeypatch.setattr("modelsummary_ipy.isolation.shadow.MANY_MODULES", 2)
    size = Size("N=2 3 H=16 W=16" if case == "fails" else "N=2 1 H=16 W=16")
    expected = read_alone(case, size)
    ms = ModelSummary(Example(), size)
    QUESTIONS[first](ms)
    assert {name: read(ms) for name, read in QUESTIONS.items()} == expected


def test_check_is_one_line_for_a_test() -> None:
    good = nn.Conv2d(1, 2, 3, padding=1)
    summary = ModelSummary(good, (1, 1, 8, 8))
    assert summary.check() is summary
    with pytest.raises(CheckError, match="a stride-1 convolution grew the feature map"):
        ModelSummary(Example(), (1, 1, 8, 8)).check()
    assert ModelSummary(Example(), (1, 1, 8, 8), ignore=["grown-map"]).check()
    with pytest.raises(AssertionError, match="forward failed"):
        ModelSummary(good, (1, 2, 8, 8)).check()


def test_a_declared_size_that_is_broken_fails_the_check() -> None:
    net = nn.Linear(4, 10)
    assert ModelSummary(net, Size("B=3 4"), expect={"": "B 10"}).check()
    with pytest.raises(CheckError):
        ModelSummary(net, Size("B=3 4"), expect={"": "B 11"}).check()


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        ("B 10", r"expect is 'B 10'; expected shapes by path"),
        ({"conv00": "B 16 H W"}, r"no module 'conv00' \(did you mean 'conv0'\?\)"),
        ({"conv0.weight": "16"}, r"no module 'conv0.weight'"),
        ({0: "B 16 H W"}, r"no module 0;"),
        ({"conv0": "B 16 ??"}, r"expect of 'conv0': '\?\?' is not a dim"),
        ({"": 10}, r"expect of 'the model': 10 is not a shape: write 'B 16 H W'"),
        ({"": "... 3 ..."}, "more than one"),
        ({"": "B (10"}, "expect of 'the model'"),
        ({"": "B 10!"}, "expect of 'the model'"),
        ({"": {"a": 3}}, "expect of 'the model'"),
    ],
)
def test_a_declaration_that_nothing_could_break_is_refused_before_any_work(expect: object, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ModelSummary(Example(), (1, 1, 8, 8), expect=expect)  # type: ignore[arg-type]


def test_a_declared_path_that_is_only_found_by_tracing_must_have_a_row() -> None:
    ms = ModelSummary(Example(), (1, 1, 8, 8), expect={"convs[0]": "B 16 H W"}, ignore=["grown-map"])
    assert [(flag.rule, flag.severity) for flag in ms.flags] == [("declared-size", "error")]


def test_a_rule_that_does_not_exist_cannot_be_ignored() -> None:
    with pytest.raises(InputError, match=r"no rule 'grown-maps' \(did you mean 'grown-map'\?\)"):
        ModelSummary(Example(), (1, 1, 8, 8), ignore=["grown-maps"])
    assert ModelSummary(Example(), (1, 1, 8, 8), ignore="grown-map").flags == ()


@pytest.mark.parametrize("declared", ["B 8 H/2", "B (H - 3)·(W - 3)", "(B, (H - 3)·(W - 3))", "B 2 (H - 3) (W - 3)"])
def test_brackets_of_a_declared_dim_are_its_own(declared: str) -> None:
    summary = ModelSummary(nn.Conv2d(1, 2, 3), Size("B=3 1 H=8 W=8"), expect={"": declared})
    assert [flag.rule for flag in summary.flags] == ["declared-size"]
    assert ModelSummary(nn.Conv2d(1, 2, 3), Size("B=3 1 H=8 W=8"), expect={"": "(B, 2, (H - 2), W - 2)"}).check()


def test_a_model_that_fails_is_no_exception_of_ours() -> None:
    ms = ModelSummary(nn.Sequential(nn.Linear(4, 4), nn.Linear(5, 5), nn.ReLU()), (2, 4))
    assert isinstance(ms.error, ForwardError)
    assert isinstance(ms.error.__cause__, RuntimeError)
    assert (ms.error.path, ms.error.row) == ("1", 2)
    assert [row.status for row in ms.rows] == ["failed", "ran", "failed", "unreached"]


def test_what_is_no_summary_no_path_no_folder_or_no_model_is_refused_with_what_is(tmp_path: Path) -> None:
    ms = ModelSummary(nn.Linear(4, 2), (3, 4))
    with pytest.raises(InputError, match="a str to compare with; expected an older ModelSummary"):
        ms.diff("net.json")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"0 is no path of a row, such as 'conv1'; rows are numbered in \.rows"):
        ms[0]  # type: ignore[index]
    with pytest.raises(FileNotFoundError, match="no such folder; create it first") as caught:
        ms.save(tmp_path / "none" / "net.html")
    assert caught.value.filename == str(tmp_path / "none")
    with pytest.raises(InputError, match=r"an instance of torch\.nn\.Module"):
        ModelSummary.watch(3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "says"),
    [("B=3, H=abc", "'abc' in size 'B=3, H=abc'"), ((3, "4"), r"'4' in size \(3, '4'\); expected positive integers")],
)
def test_a_size_with_a_part_that_is_no_number_is_refused(given: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        ModelSummary(nn.Linear(4, 2), given)


def test_of_a_finished_call_all_is_known_though_a_later_one_fails() -> None:
    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.drop = nn.Linear(4, 4), nn.Dropout()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(x)

    ms = ModelSummary(nn.Sequential(Part(), nn.Linear(5, 5), nn.ReLU()), (2, 4))
    known = {row.path: (row.status, ms.costs[row.index].mult_adds) for row in ms.rows}
    assert known["0"] == ("ran", 2 * 4 * 4)
    assert known["0.drop"] == ("uncalled", 0)
    assert known["2"] == ("unreached", None)


@pytest.mark.parametrize("size", [(5, 4), (5, 3)], ids=["runs", "fails"])
def test_a_summary_keeps_nothing_of_the_users_alive(size: tuple[int, int]) -> None:
    def summarise() -> tuple[ModelSummary, list[weakref.ref[Any]]]:
        net, data = nn.Linear(4, 2), torch.zeros(size)
        return ModelSummary(net, data), [weakref.ref(net), weakref.ref(net.weight), weakref.ref(data)]

    ms, held = summarise()
    ms.to_html()
    assert (ms.error is None) == (size == (5, 4))
    gc.collect()
    assert [ref() for ref in held] == [None, None, None]


def test_the_traceback_of_a_failure_has_the_users_lines_and_none_of_ours() -> None:
    class Deep(nn.Module):
        def helper(self, x: Any) -> Any:
            return x.view(3, 5)

        def forward(self, x: Any) -> Any:
            return self.helper(x)

    error = ModelSummary(Deep(), (2, 4)).error
    assert error is not None
    entry, names = error.__cause__.__traceback__, []  # type: ignore[union-attr]
    while entry is not None:
        assert entry.tb_frame.f_code.co_filename == __file__
        names.append(entry.tb_frame.f_code.co_name)
        entry = entry.tb_next
    assert names == ["forward", "helper"]


def test_a_later_edit_of_the_model_does_not_skew_what_is_asked_later() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1))
    ms = ModelSummary(net, Size("B=2 1 H=8 W=8"))
    net[0] = nn.Conv2d(1, 9, 3)
    assert ms.formulas[1] == (("B", "4", "H", "W"),)


def test_an_observer_gets_the_progress_and_may_cancel() -> None:
    heard: list[tuple[int, str]] = []
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    ModelSummary(net, (1, 2), observer=lambda count, path: heard.append((count, path)))
    assert heard == [(1, ""), (2, "0"), (3, "1")]
    with pytest.raises(TraceCancelled):
        ModelSummary(net, (1, 2), observer=lambda count, path: path == "1")
    assert nn.Module._compiled_call_impl is None


def test_what_the_forward_prints_shows_once(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(nn.Module):
        def forward(self, x: Any) -> Any:
            print("once")
            return x * 2

    ms = ModelSummary(Loud(), (2, 3))
    ms.to_html()
    assert capsys.readouterr().out == "once\n"


def test_the_first_line_says_that_it_ran_for_real_and_why() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x: Any) -> Any:
            return self.fc(x) * x.sum().item()

    ms = ModelSummary(Asks(), (2, 3))
    assert ms.engine == "real"
    assert ms.engine_reason.startswith(".item() at test_summary.py:")
    assert str(ms).splitlines()[0] == f"ran for real: {ms.engine_reason}"
    assert f"ran for real: {ms.engine_reason}" in ms.to_html()


def test_the_page_is_the_same_byte_by_byte() -> None:
    torch.manual_seed(0)
    pages = {ModelSummary(Example(), (1, 1, 32, 32)).to_html() for _ in range(2)}
    assert len(pages) == 1


def test_memory_of_each_row_is_shown_where_memory_is_asked_for() -> None:
    net = nn.Sequential(nn.Linear(4, 1000), nn.ReLU())
    ms = ModelSummary(net, (8, 4), memory="1GB")
    head, row = (line.split() for line in ms.to_text().splitlines() if line.lstrip().startswith(("layer ", "0 ")))
    assert head[-2:] == ["activation", "peak"]
    # Live while the first layer runs: its input and its output, in float32.
    assert row[-2:] == ["32.1", "KB"]  # in the unit of the budget
    assert int(ms.to_frame().loc[1, "peak_bytes"]) == (8 * 4 + 8 * 1000) * 4
    assert "activation" not in ModelSummary(net, (8, 4)).to_text()
    chosen = ModelSummary(net, (8, 4), memory="1GB")
    chosen.view = View(columns=("params",))
    assert "peak" not in chosen.to_text()
