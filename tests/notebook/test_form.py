"""The form, without a front end: its widgets are driven as a browser would set them."""

from __future__ import annotations

import gc
import threading
from typing import Any

import lxml.html
import pytest
import torch
from torch import nn

from modelsummary_ipy import InputError, ModelSummary, Size
from modelsummary_ipy.notebook.form.form import SummaryForm
from modelsummary_ipy.notebook.form.live_html import live_page
from tests.notebook.conftest import Net


class Slow(nn.Module):
    """Waits in its third layer until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(50))
        object.__setattr__(self, "gate", threading.Event())
        object.__setattr__(self, "reached", threading.Event())

    def forward(self, x: Any) -> Any:
        for number, layer in enumerate(self.layers):
            x = layer(x)
            if number == 3:
                self.reached.set()
                self.gate.wait(20)
        return x


def change(form: SummaryForm, text: str) -> None:
    form.fields.sizes[0].value = text
    assert form.wait(30)


def test_it_begins_with_the_summary_and_one_line_per_input(form: SummaryForm) -> None:
    assert [field.value for field in form.fields.sizes] == ["B=2, 3, H=8, W=8"]
    assert list(form.fields.dims.fields) == ["B", "H", "W"]
    assert form.summary.rows[0].outputs[0].shape == (2, 10)
    assert "fc" in form._output.value


def test_a_typed_size_runs_by_itself_and_equals_the_magic(form: SummaryForm, net: Net) -> None:
    change(form, "B=5, 3, H=8, W=8")
    same = ModelSummary(net, Size("B=5 3 H=8 W=8"))
    assert [row.outputs for row in form.summary.rows] == [row.outputs for row in same.rows]
    page = same.to_html(packed=False)
    for said, typed in (("show(ops=True)", "--ops"), ("show(optimizer=&#39;adamw&#39;)", "--optimizer adamw")):
        page = page.replace(said, typed)  # as one types it in a notebook
    assert form._output.value == live_page(page)
    assert len(form.history) == 2


def test_a_named_dim_changes_every_size_it_stands_in() -> None:
    class Two(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    two = Two()
    form = ModelSummary(two, [Size("B=2 4"), Size("B=2 4")]).form()
    form.fields.dims.fields["B"].value = 7
    assert form.wait(30)
    assert [field.value for field in form.fields.sizes] == ["B=7, 4", "B=7, 4"]
    assert form.summary.rows[0].outputs[0].shape == (7, 4)


def test_a_wrong_size_is_shown_under_its_field_and_nothing_runs(form: SummaryForm) -> None:
    before = form.summary
    change(form, "B=0, 3, H=8, W=8")
    assert "sizes of at least 1" in form.fields.errors[0].value
    assert form.summary is before
    change(form, "__import__('os').getpid()")
    assert form.fields.errors[0].value != ""
    assert form.summary is before
    change(form, "B=3, 3, H=8, W=8")
    assert form.fields.errors[0].value == ""
    assert form.summary is not before


def test_what_is_typed_is_escaped(form: SummaryForm) -> None:
    change(form, "<img src=x onerror=alert(1)>")
    assert "<img" not in form.fields.errors[0].value
    assert "&lt;img" in form.fields.errors[0].value


def test_a_failing_size_opens_the_failing_row_and_the_next_run_is_well(form: SummaryForm) -> None:
    change(form, "B=2, 3, H=16, W=16")
    assert form.summary.error is not None
    assert form.summary.error.path == "fc"
    assert form.history[-1].outcome == "failed in 'fc'"
    change(form, "B=2, 3, H=8, W=8")
    assert form.summary.error is None


def test_a_suggested_size_is_one_click(form: SummaryForm) -> None:
    change(form, "B=2, 3, H=16, W=16")
    assert form.summary.error is not None
    assert form.summary.error.sizes
    form._offers[0].click()
    assert form.wait(30)
    assert form.summary.error is None


def test_the_switch_waits_for_the_button(form: SummaryForm) -> None:
    form._auto.value = False
    before = form.summary
    change(form, "B=4, 3, H=8, W=8")
    assert form.summary is before
    form._run_button.click()
    assert form.wait(30)
    assert form.summary.rows[0].outputs[0].shape == (4, 10)


def test_cancel_stops_a_run_and_keeps_the_table() -> None:
    slow = Slow()
    slow.gate.set()
    form = ModelSummary(slow, (2, 4)).form()
    before = form.summary
    slow.gate.clear()
    slow.reached.clear()
    form.fields.sizes[0].value = "3, 4"
    assert slow.reached.wait(20)
    form._cancel_button.click()
    slow.gate.set()
    assert form.wait(30)
    assert form.summary is before
    assert form._cancel_button.disabled
    assert "cancelled" in form._progress.value


def test_an_edit_during_a_run_starts_over_and_no_two_run_at_once() -> None:
    slow = Slow()
    slow.gate.set()
    form = ModelSummary(slow, (2, 4)).form()
    slow.gate.clear()
    slow.reached.clear()
    form.fields.sizes[0].value = "3, 4"
    assert slow.reached.wait(20)
    form.fields.sizes[0].value = "5, 4"
    slow.gate.set()
    assert form.wait(30)
    assert form.summary.rows[0].inputs[0].shape == (5, 4)
    assert [run.settings.sizes[0] for run in form.history] == ["2, 4", "5, 4"]


def test_where_rows_move_otherwise_than_their_formula_says_the_page_has_a_flag() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return self.last(self.first(x)[:, : 6 if x.shape[1] > 5 else 4])  # :6 alone would be min(T, 6)

    net = Cut()
    form = ModelSummary(net, Size("B=2 T=20 4")).form(model=net)
    change(form, "B=3, T=30, 4")
    assert "moved-otherwise" not in form._output.value
    assert "3 rows changed as predicted" in form._moved.value
    assert 'title="MACs 832 → 1,728 · to run ' in form._moved.value  # 2·20·4·4 + 2·6·4·4, 3·30·4·4 + 3·6·4·4
    change(form, "B=3, T=5, 4")
    assert "1 row changed as predicted" in form._moved.value
    assert "2 rows changed against their formula" in form._moved.value
    flagged = [row for row in lxml.html.fromstring(form._output.value).iter("details") if "ms-flag" in row.classes]
    assert [row.xpath("string(./summary//th)").split()[-3:] for row in flagged] == [["last", "Linear", "4→4"]]
    assert "[3, 6, 4] at the old sizes, [3, 4, 4] at the new" in form._output.value
    assert form.summary.flags == ()
    form._history_list.value = 1
    form._history_list.value = 2
    assert "moved-otherwise" in form._output.value  # a run that is gone back to is compared as well


def test_history_can_be_gone_back_to(form: SummaryForm) -> None:
    change(form, "B=5, 3, H=8, W=8")
    form._history_list.value = 0
    assert form.summary is form.history[0].summary
    assert form.fields.sizes[0].value == "B=2, 3, H=8, W=8"
    assert form._output.value == live_page(form.summary.to_html(packed=False))
    assert len(form.history) == 2


def test_copy_as_code_writes_the_line_that_gives_the_same(form: SummaryForm) -> None:
    change(form, "B=5, 3, H=8, W=8")
    form.fields.mode.value = "eval"
    assert form.wait(30)
    assert form._code.value == ""
    form._code_button.click()
    assert "<code" in form._code.value
    assert ">%summary net (B=5, 3, H=8, W=8) --mode eval</code>" in form._code.value
    change(form, "B=4, 3, H=8, W=8")
    assert form._code.value == "", "it would give another table"


@pytest.mark.parametrize("text", ["B=9, 3, H=8, W=8,", "B=9, 3, H=8, W", "B=9, 3, H=8, W=", "(B=9, 3, H=8, W=8", ""])
def test_a_half_typed_size_waits(form: SummaryForm, text: str) -> None:
    before = form.summary
    change(form, text)
    assert form.fields.errors[0].value == ""
    assert form.summary is before


def test_a_half_typed_size_is_read_when_enter_is_pressed(form: SummaryForm) -> None:
    before = form.summary
    change(form, "B=9, 3, H=8, W")
    form.fields._on_message(form.fields.sizes[0], {"event": "submit"}, [])
    assert "&#x27;W&#x27; in size" in form.fields.errors[0].value
    change(form, "B=9, 3, H=8, W=8,")
    form.fields._on_message(form.fields.sizes[0], {"event": "submit"}, [])
    assert form.wait(30)
    assert form.summary is not before
    assert form.summary.rows[0].outputs[0].shape == (9, 10)


def test_a_name_alone_repeats_its_size() -> None:
    class Square(nn.Module):
        def forward(self, x: Any) -> Any:
            return x @ x

    square = Square()
    form = ModelSummary(square, Size("B=2 S=6 S=6")).form()
    change(form, "B=2, S=8, S")
    assert form.summary.rows[0].outputs[0].shape == (2, 8, 8)
    form.fields.dims.fields["S"].value = 5
    assert form.wait(30)
    assert form.fields.sizes[0].value == "B=2, S=5, S=5"
    assert form.summary.rows[0].outputs[0].shape == (2, 5, 5)


def test_static_flags_nothing_as_moved(form: SummaryForm) -> None:
    form.fields.engine.value = "static"
    assert form.wait(30)
    assert form.summary.engine == "static"
    assert form._moved.value == ""
    assert "moved-otherwise" not in form._output.value
    assert form._training.value == ""
    form.fields.engine.value = "auto"
    assert form.wait(30)
    assert form._moved.value == ""
    assert "moved-otherwise" not in form._output.value


def test_equal_runs_are_listed_once(form: SummaryForm) -> None:
    change(form, "B=5, 3, H=8, W=8")
    change(form, "B=2,3,H=8,W=8")
    assert [run.settings.sizes[0] for run in form.history] == ["B=5, 3, H=8, W=8", "B=2,3,H=8,W=8"]
    form._run_button.click()
    assert form.wait(30)
    assert len(form.history) == len(form._history_list.options) == 2


def test_another_view_is_shown_without_a_trace_and_without_a_run_of_its_own(form: SummaryForm) -> None:
    change(form, "B=5, 3, H=8, W=8")
    before, moved = form.summary, form._moved.value
    form.fields.columns["source"].value = True
    assert form.wait(30)
    form.fields.depth.value = "1"
    assert form.wait(30)
    assert form.summary.pipeline is before.pipeline
    assert (form.summary.view.depth, "source" in form.summary.view.columns) == (1, True)
    assert form._output.value == live_page(form.summary.to_html(packed=False))
    assert form._moved.value == moved != ""
    assert len(form.history) == 2
    assert "--depth 1 --columns" in form.history[-1].line
    form._run_button.click()  # who asks for a run gets one: the model may have been edited
    assert form.wait(30)
    assert form.summary.pipeline is not before.pipeline


def test_the_worker_has_the_users_grad_mode_and_autocast() -> None:
    class Ask(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.new_zeros(1 + torch.is_grad_enabled(), 1 + torch.is_autocast_enabled("cpu"))

    ask = Ask()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        form = ModelSummary(ask, (1, 1)).form()
    change(form, "2, 1")
    assert form.summary.rows[0].outputs[0].shape == (1, 2)


def test_an_error_of_ours_is_shown_with_its_traceback_and_logged(form: SummaryForm, internal_errors: list[str]) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("<b>ours</b>")

    form._make = broken
    change(form, "B=9, 3, H=8, W=8")
    assert "the form itself failed" in form._progress.value
    assert "&lt;b&gt;ours&lt;/b&gt;" in form._progress.value
    assert "ZeroDivisionError" in internal_errors.pop()
    assert internal_errors == []


def test_every_control_has_a_label(form: SummaryForm) -> None:
    import ipywidgets as widgets

    def walk(widget: Any) -> Any:
        yield widget
        for child in getattr(widget, "children", ()):
            yield from walk(child)

    for widget in walk(form.widget):
        if isinstance(widget, (widgets.HTML, widgets.Box)):
            continue
        assert widget.description.strip() or widget.layout.display == "none", widget


def test_a_form_needs_inputs_and_a_living_model(net: Net) -> None:
    with pytest.raises(InputError, match="a summary without inputs"):
        ModelSummary(net, engine="static").form()
    summary = ModelSummary(nn.Linear(2, 2), (1, 2))
    gc.collect()
    with pytest.raises(InputError, match="the model is gone"):
        summary.form()


@pytest.mark.slow
def test_many_runs_leave_no_threads_and_no_fakes(form: SummaryForm) -> None:
    from torch._subclasses.fake_tensor import FakeTensor

    def count() -> int:
        gc.collect()
        return sum(type(thing) is FakeTensor for thing in gc.get_objects())

    change(form, "B=3, 3, H=8, W=8")
    threads, fakes = threading.active_count(), count()
    for number in range(10):
        form.fields.sizes[0].value = f"B={number + 1}, 3, H=8, W=8"
        form.run(now=True)
        assert form.wait(30)
    assert threading.active_count() <= threads
    assert count() <= fakes


def test_a_field_that_cannot_be_read_stops_the_run_for_its_older_text(form: SummaryForm) -> None:
    before = form.summary
    form.fields.sizes[0].value = "B=9, 3, H=8, W=8"
    form.fields.sizes[0].value = "B=9, 3, H=8, W="
    assert form.wait(30)
    assert form.summary is before
    form.fields.depth.value = "two"
    form.fields.memory.value = "much"
    assert "levels" in form.fields.depth_error.value
    form.fields.memory.value = "50"
    form.run(now=True)
    assert "&#x27;50&#x27;; expected an amount with a unit, such as 24GB" in form.fields.memory_error.value


def test_the_columns_of_memory_are_checked_while_a_budget_shows_them(form: SummaryForm) -> None:
    def checked() -> set[str]:
        return {name for name, box in form.fields.columns.items() if box.value}

    usual = checked()
    form.fields.memory.value = "50MB"
    assert form.wait(60)
    assert checked() == usual | {"activation", "peak"}
    assert "--columns" not in form.history[-1].line
    form.fields.columns["peak"].value = False
    assert form.wait(60)
    assert form.history[-1].line.endswith("--columns input,output,params,macs,activation")
    form.fields.columns["peak"].value = True
    assert form.wait(60)
    form._history_list.value = 1
    assert form.wait(60)
    assert checked() == usual | {"activation", "peak"}
    form.fields.memory.value = ""
    form.run(now=True)
    assert form.wait(60)
    assert checked() == usual


def test_a_closed_form_leaves_no_widget(net: Net) -> None:
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    form = ModelSummary(net, Size("B=2 3 H=8 W=8")).form()
    assert len(_instances) > len(before)
    form.fields.sizes[0].value = "N=2, 3, 8, 8"
    assert form.wait(30)
    form.close()
    assert set(_instances) == before


def test_runs_make_no_widgets(form: SummaryForm) -> None:
    from ipywidgets.widgets.widget import _instances

    change(form, "B=3, 3, H=16, W=16")
    change(form, "N=3, 3, H=8, W=8")
    before = set(_instances)
    for number in range(6):
        change(form, f"{'BN'[number % 2]}={number + 1}, 3, H={8 + 8 * (number % 2)}, W=8")
    assert set(_instances) == before
