"""Fields of the form that follow what is known: sliders, limits and steps, the memory of the step, suggestions."""

from __future__ import annotations

from typing import Any

import lxml.html
import pytest
import torch
from torch import nn

from modelsummary_ipy import ModelSummary, Size
from modelsummary_ipy.notebook.form.form import SummaryForm
from tests.notebook.conftest import Net
from tests.notebook.test_form import change


class Pooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.fc = nn.Linear(6 * 4 * 4, 10)

    def forward(self, x: Any) -> Any:
        return self.fc(nn.functional.max_pool2d(self.conv(x), 4).flatten(1))


def test_sizes_that_work_are_sliders_where_they_have_two_ends() -> None:
    import ipywidgets as widgets

    net = Pooled()
    form = ModelSummary(net, Size("B=2 3 H=16 W=16")).form()
    kinds = {name: type(field) for name, field in form.fields.dims.fields.items()}
    assert kinds == {"B": widgets.BoundedIntText, "H": widgets.IntSlider, "W": widgets.IntSlider}
    assert "16 ≤ H, W ≤ 19 or few others" in form.summary.constraints  # 8 × 32 has as many pixels
    height = form.fields.dims.fields["H"]
    assert (height.min, height.max, height.step) == (16, 19, 1)
    for size in (17, 19):  # a slider that is dragged stays under the hand
        height.value = size
        assert form.wait(30)
        assert form.summary.error is None
        assert form.summary.rows[0].inputs[0].shape == (2, 3, size, 16)
        assert form.fields.dims.fields["H"] is height
    change(form, "B=2, 3, H=32, W=16")  # typed: it does not work, and no slider could stand there
    assert form.summary.error is not None
    assert isinstance(form.fields.dims.fields["H"], widgets.BoundedIntText)
    assert form.fields.dims.fields["H"].value == 32
    change(form, "B=2, 3, H=16, W=16")
    assert form.fields.dims.fields["H"] is height
    net.fc = nn.Linear(6 * 5 * 4, 10)  # edited: what was known to work no longer does
    form.run(now=True)
    assert form.wait(30)
    assert isinstance(form.fields.dims.fields["H"], widgets.BoundedIntText)


class Halved(nn.Module):
    """What is pooled and upsampled again is added to what was not: an even side alone works."""

    def forward(self, x: Any) -> Any:
        return x + nn.functional.interpolate(nn.functional.max_pool2d(x, 2), scale_factor=2)


@pytest.mark.parametrize(
    ("net", "limit", "least", "step"),
    [(nn.Conv2d(3, 4, 5), "H and W ≥ 5", 5, 1), (Halved(), "H and W divisible by 2", 2, 2)],
)
def test_a_number_field_keeps_to_the_limit_and_the_step_that_are_known(
    net: nn.Module, limit: str, least: int, step: int
) -> None:
    import ipywidgets as widgets

    form = ModelSummary(net, Size("B=2 3 H=8 W=8")).form()
    assert limit in form.summary.constraints
    height, batch = (form.fields.dims.fields[name] for name in ("H", "B"))
    assert type(height) is widgets.BoundedIntText
    assert (height.min, height.step) == (least, step)
    assert (batch.min, batch.step) == (1, 1)
    height.value = 1  # as a browser does that does not look at the smallest
    assert form.wait(30)
    assert height.value == least
    assert form.summary.error is None
    change(form, f"B=2, 3, H={least - 1}, W=8")  # the text says what is wanted, whatever works
    assert form.summary.error is not None
    assert (height.value, height.min, height.step) == (least - 1, 1, 1)
    change(form, "B=2, 3, H=8, W=8")
    assert (height.min, height.step) == (least, step)


def test_the_peak_of_the_training_step_and_its_share_of_the_budget_are_in_the_form(form: SummaryForm) -> None:
    from modelsummary_ipy.display.render.formatting import format_bytes

    peak = form.summary.training.peak_bytes
    assert peak is not None
    assert form._training.value == "", "no training step was asked for"
    form.fields.optimizer.value = "sgd"
    assert form.wait(60)
    less = form.summary.training.peak_bytes
    assert less is not None
    assert less < peak, "sgd keeps no state"
    assert f"training step: peak {format_bytes(less)} at the " in form._training.value
    assert form.history[-1].line == "%summary net (B=2, 3, H=8, W=8) --optimizer sgd"
    form.fields.memory.value = "1G"
    assert form.fields.memory_error.value == "", "half typed"
    form.fields.memory.value = "100kB"
    assert form.wait(60)
    meter = lxml.html.fromstring(f"<p>{form._training.value}</p>").find("meter")
    assert (float(meter.get("max")), float(meter.get("value"))) == (100_000, less)
    assert f"{less / 1000:.3g}% of 100 KB" in form._training.value


def test_an_optimizer_of_ones_own_can_be_gone_back_to(net: Net) -> None:
    form = ModelSummary(net, Size("B=2 3 H=8 W=8"), optimizer=torch.optim.RAdam).form()
    own = form.fields.optimizer.value
    peak = form.summary.training.peak_bytes
    form.fields.optimizer.value = "sgd"
    assert form.wait(60)
    form.fields.optimizer.value = own
    form.run(now=True)
    assert form.wait(60)
    assert form.summary.training.peak_bytes == peak


def test_data_stays_as_it_is_until_its_size_is_edited(net: Net) -> None:
    data = torch.randn(2, 3, 8, 8)
    form = ModelSummary(net, data).form()
    form.fields.mode.value = "eval"
    assert form.wait(30)
    assert form.summary.pipeline.traced.trace.inputs[0].given == "data"
    change(form, "4, 3, 8, 8")
    assert form.summary.pipeline.traced.trace.inputs[0].given == "size"


def test_a_suggestion_fills_every_input() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, image: Any, features: Any) -> Any:
            return image, self.fc(features)

    two = Two()
    form = ModelSummary(two, [Size("B=2 6"), Size("B=2 4")]).form()
    form.fields.sizes[1].value = "B=2, 5"
    assert form.wait(30)
    assert form.summary.error is not None
    assert form._offers[0].description == form.summary.error.sizes[0]
    form._offers[0].click()
    assert form.wait(30)
    assert form.summary.error is None
    assert [field.value for field in form.fields.sizes] == ["B=2, 6", "B=2, 4"]


def test_the_largest_batch_that_fits_is_one_click(form: SummaryForm) -> None:
    form.fields.memory.value = "1MB"
    assert form.wait(60)
    most = form.summary.memory.most_for_training
    assert most is not None
    assert f"B={most:,} to train" in [made.description for made in form._offers]
    form._offers[0].click()
    assert form.wait(60)
    assert form.summary.rows[0].outputs[0].shape == (most, 10)
    used, budget = form.summary.memory.training_bytes, form.summary.memory.budget_bytes
    assert used is not None
    assert budget is not None
    assert used <= budget


@pytest.mark.slow
def test_a_run_that_let_go_of_its_table_runs_again(form: SummaryForm) -> None:
    for number in range(12):
        form.fields.sizes[0].value = f"B={number + 3}, 3, H=8, W=8"
        form.run(now=True)
        assert form.wait(30)
    assert [run.summary is None for run in form.history] == [True] * 3 + [False] * 10
    form._history_list.value = 0
    assert form.wait(30)
    assert form.summary.rows[0].outputs[0].shape == (2, 10)
