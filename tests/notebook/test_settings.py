"""What a run of the form depends on: read back from a line, the same summary."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from IPython.testing.globalipapp import start_ipython
from torch import nn

from modelsummary_ipy import InputError, ModelSummary, Size
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.notebook.form.settings import Settings, read_leaf, read_suggestion, write_size


class Two(nn.Module):
    """Takes tokens and a mask, and a plain value."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 8)
        self.norm = nn.BatchNorm1d(8)
        self.out = nn.Linear(8, 4)

    def forward(self, ids: Any, mask: Any = None, scale: float = 1.0) -> Any:
        x = self.table(ids) * scale
        if mask is not None:
            x = x * mask.unsqueeze(-1)
        return self.out(self.norm(x.transpose(1, 2)).transpose(1, 2))

    def encode(self, ids: Any) -> Any:
        return self.table(ids)


@pytest.fixture
def shell() -> Iterator[Any]:
    shell = start_ipython() or get_ipython()  # type: ignore[name-defined]  # noqa: F821  # made by start_ipython
    shell.run_line_magic("load_ext", "modelsummary_ipy")
    yield shell
    shell.run_line_magic("unload_ext", "modelsummary_ipy")
    shell.user_ns.pop("two", None)


def run(shell: Any, line: str) -> ModelSummary:
    shell.user_ns.pop("made", None)
    shell.run_cell(f"made = {line}").raise_error()
    return shell.user_ns["made"]  # type: ignore[no-any-return]


CHOICES = [
    {"mode": "eval", "depth": "0", "columns": ("params",)},
    {"mode": "train", "memory": "24 GB", "ops": True},
    {"engine": "static"},
    {"engine": "real", "columns": ("input", "output", "formula", "activation")},
    {"device": "meta", "depth": "3", "memory": "1.5GiB"},
]


@pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: "-".join(choice))
@pytest.mark.parametrize(
    "inputs", [{"ids": Size("B=3 T=5")}, {"ids": Size("3 5", dtype="int32"), "mask": Size("3 5"), "scale": 0.5}]
)
def test_the_line_that_is_inserted_makes_the_same_page(
    shell: Any, choice: dict[str, Any], inputs: dict[str, Any]
) -> None:
    two = shell.user_ns["two"] = Two()
    form = ModelSummary(two, inputs, ignore=["unused-layer"], optimizer="sgd").form(name="two")
    fields = form.fields
    for name, value in choice.items():
        if name == "columns":
            for column, box in fields.columns.items():
                box.value = column in value
        else:
            getattr(fields, name).value = value
    fields.sizes[0].value = fields.sizes[0].value.replace("5", "6")
    if len(fields.sizes) > 1:
        fields.sizes[1].value = "3, 6"
        fields.dtypes[1].value = "float32"
    form.run(now=True)
    assert form.wait(60)
    assert form._progress.value == ""
    assert form.history[-1].summary is form.summary
    made = run(shell, form.line)
    assert made.to_html() == form.summary.to_html()
    form.close()


def test_the_line_of_another_method_names_it(shell: Any) -> None:
    two = shell.user_ns["two"] = Two()
    form = ModelSummary(two, Size("3 5"), method="encode").form(name="two")
    assert form.line == "%summary two.encode (3, 5)"
    assert run(shell, form.line).to_text() == form.summary.to_text()


def test_a_form_begins_with_the_options_of_its_summary() -> None:
    two = Two()
    ms = ModelSummary(two, Size("3 5"), mode="eval", engine="fake", device="meta", memory="24GB")
    form = ms.form(name="two")
    assert form.line == "%summary two (3, 5) --mode eval --engine fake --device meta --memory 24GB"


def test_a_suggestion_is_read_as_one_size_per_input() -> None:
    inputs = ModelInputs((Size("B=2 8"),), {"mask": torch.zeros(2, 8), "scale": 0.5}, ("ids",))
    sizes = read_suggestion("(B=2, 4):int64 mask=(2, 4) scale=0.5", inputs)
    assert sizes == (Size("B=2 4", dtype="int64"), Size("2 4"))


@pytest.mark.parametrize(
    "text", ["(B=2, 4)", "(2, 4) mask=(2, 4) scale=0.7", "nothing", "(2, 4) mask=(2, 0) scale=0.5"]
)
def test_a_suggestion_that_says_more_or_less_than_sizes_is_not_half_taken(text: str) -> None:
    inputs = ModelInputs((Size("B=2 8"),), {"mask": Size("2 8"), "scale": 0.5}, ("ids",))
    assert read_suggestion(text, inputs) is None


@given(st.lists(st.tuples(st.sampled_from(["", "B", "H", "größe"]), st.integers(1, 99)), min_size=0, max_size=5))
def test_a_size_that_is_written_into_its_field_is_read_back(dims: list[tuple[str, int]]) -> None:
    named = dict(dims)
    size = Size([named[name] if name else number for name, number in dims], [name for name, _ in dims])
    assert read_leaf(write_size(size), "") == size


@given(
    st.text(max_size=60)
    | st.sampled_from(["__import__('os').abort()", "exit()", "B=(lambda: 1/0)()", "f'{1/0}'", "1" * 5000])
)
def test_a_field_evaluates_nothing(text: str) -> None:
    try:
        size = read_leaf(text, "")
    except InputError:
        return
    assert all(isinstance(number, int) and number > 0 for number in size.shape)


def test_names_of_one_dim_must_agree_between_inputs() -> None:
    inputs = ModelInputs((Size("B=2 8"), Size("B=2 8")), {}, ("a", "b"))
    with pytest.raises(InputError, match="dim B is 3, but 2 in b"):
        Settings(("B=3, 8", "B=2, 8"), ("", "")).read_inputs(inputs)
