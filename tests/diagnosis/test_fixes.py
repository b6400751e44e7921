"""Fixes are applied to a copy and traced to the end; what is shown ran, and nothing of the user's is touched."""

from __future__ import annotations

import ast
import functools
import gc
import linecache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor, nn

from modelsummary_ipy.pipeline import findings
from modelsummary_ipy.pipeline.fixes import FixTrials
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.summary import ModelSummary
from modelsummary_ipy.tracing import fixed_model
from tests.diagnosis.twins_slips import HeadsBehindSteps, QueriesByThemselves


def find_error(model: nn.Module, inputs: Any) -> ForwardError:
    error = ModelSummary(model, inputs).error
    assert error is not None
    return error


def shapes_of(error: ForwardError) -> list[tuple[int, ...]]:
    return [spec.shape for spec in error.fixes[0].outputs]


class Net(nn.Module):
    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 8, 1, bias=False))
        self.fc = nn.Linear(8 * 5 * 5, classes)


class Several(Net):
    def forward(self, x):
        # fmt: off
        x = self.body[0](x); y = self.fc(x)  # noqa: E702  # two statements on one line are the point
        # fmt: on
        return y


class OverLines(Net):
    def forward(self, x):
        x = self.body[0](x)
        return self.fc(
            x,
        )


def forwarded(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(self: nn.Module, *args: Any) -> Any:
        return function(self, *args)

    return wrapper


class Decorated(Net):
    @forwarded
    def forward(self, x):
        return self.fc(self.body[0](x))


class Nested(Net):
    def forward(self, x):
        def classify(h):
            return self.fc(h)

        return classify(self.body[0](x))


def classify(layer: nn.Module, x: Tensor) -> Tensor:
    return (lambda h: F.linear(h, layer.weight, layer.bias))(x)


class Helped(Net):
    def forward(self, x):
        return classify(self.fc, self.body[0](x))


class Static(Net):
    @staticmethod
    def classify(layer, x):
        return layer(x) if x.dim() == 2 else F.linear(x, layer.weight)

    def forward(self, x):
        return self.classify(self.fc, self.body[0](x))


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (Several, "x = self.body[0](x); y = self.fc(x.flatten(1))"),
        (OverLines, "return self.fc(\n    x.flatten(1),\n)"),
        (Decorated, "return self.fc(self.body[0](x).flatten(1))"),
        (Nested, "return self.fc(h.flatten(1))"),
        (Helped, "return (lambda h: F.linear(h.flatten(1), layer.weight, layer.bias))(x)"),
        (Static, "return layer(x) if x.dim() == 2 else F.linear(x.flatten(1), layer.weight)"),
    ],
)
def test_a_line_is_edited_wherever_it_is(kind: type[nn.Module], line: str) -> None:
    error = find_error(kind(), (2, 3, 5, 5))
    assert error.fix == line
    assert shapes_of(error) == [(2, 10)]
    assert "tried     gives [2, 10]" in error.message
    assert error.patch is not None
    added = [row[1:].strip() for row in error.patch.splitlines() if row.startswith("+ ")]
    assert added == [row.strip() for row in line.splitlines() if row.strip() in added]
    assert added


def test_a_line_reads_what_an_outer_function_holds() -> None:
    scale = 3.0

    class Closed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(75, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x) * scale

    error = find_error(Closed(), (2, 3, 5, 5))
    assert error.fix == "return self.fc(x.flatten(1)) * scale"
    assert shapes_of(error) == [(2, 2)]


def test_nothing_of_the_users_is_touched() -> None:
    model = Nested()
    forward, code, source = Nested.forward, Nested.forward.__code__, list(linecache.getlines(__file__))
    before = {name: dict(vars(module)) for name, module in model.named_modules()}
    assert find_error(model, (2, 3, 5, 5)).fixes
    assert Nested.forward is forward
    assert Nested.forward.__code__ is code
    assert linecache.getlines(__file__) == source
    assert [kind for kind in Nested.__subclasses__() if kind.__module__ != "tests.fix_is_true"] == []
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()


def test_a_layer_keeps_the_arguments_that_did_not_change_as_they_are_written() -> None:
    class Wide(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.body[0](x).flatten(1))

    error = find_error(Wide(7), (2, 3, 6, 6))
    assert error.fix == "self.fc = nn.Linear(288, 7)"
    assert error.patch is not None
    assert "-        self.fc = nn.Linear(8 * 5 * 5, classes)" in error.patch
    assert "+        self.fc = nn.Linear(288, classes)" in error.patch


def test_a_layer_of_a_sequence_is_patched_where_it_is_written() -> None:
    class Deep(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.body(x)

    error = find_error(Deep(), (2, 3, 6, 6))
    assert error.fix == "self.body[2] = nn.Conv2d(8, 8, 1, bias=False)"


class InASequence(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.Conv2d(2 * width, width, kernel_size=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def test_an_item_of_a_sequence_keeps_its_keywords() -> None:
    error = find_error(InASequence(), (2, 3, 6, 6))
    assert error.patch is not None
    assert "-            nn.Conv2d(2 * width, width, kernel_size=1, bias=False)," in error.patch
    assert "+            nn.Conv2d(width, width, kernel_size=1, bias=False)," in error.patch
    assert error.fixes[0].source.startswith("class InASequence(nn.Module):")
    namespace: dict[str, Any] = {"nn": nn, "Tensor": Tensor}
    exec(error.fixes[0].source, namespace)
    assert namespace["InASequence"]()(torch.zeros(2, 3, 6, 6)).shape == (2, 8, 6, 6)


def test_a_chain_of_layers_of_one_wrong_width_is_fixed_as_a_chain() -> None:
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(8, 16)
            self.b = nn.Linear(32, 24)
            self.norm = nn.LayerNorm(48)
            self.c = nn.Linear(48, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.norm(self.b(self.a(x))))

    error = find_error(Chain(), (4, 8))
    changes = ["self.b = nn.Linear(16, 24)", "self.norm = nn.LayerNorm(24)", "self.c = nn.Linear(24, 2)"]
    assert error.fix == "\n".join(changes)
    assert shapes_of(error) == [(4, 2)]
    assert error.patch is not None
    assert all(f"+            {change}\n" in error.patch for change in changes)


def test_without_a_change_that_works_no_fix_is_shown() -> None:
    class Refusing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("never")

    error = find_error(Refusing(), (2, 3))
    assert (error.fix, error.fixes, error.patch) == ("", (), None)
    assert error.reason == "never"
    assert "  fix  " not in error.message


def test_a_layer_in_a_plain_object_is_explained_and_has_no_fix_by_its_path() -> None:
    class Held(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = SimpleNamespace(layer=nn.Linear(10, 4))

        def forward(self, x: Tensor) -> Tensor:
            return self.parts.layer(x)

    ms = ModelSummary(Held(), (2, 8))
    assert ms.error is not None
    assert ms.error.reason == "the model's input has 8 features, 'parts.layer' expects 10"
    assert ms.error.fixes == ()  # and nothing is reported as a mistake of ours


def test_fixes_are_among_the_plain_values() -> None:
    failure = ModelSummary(Several(), (2, 3, 5, 5)).to_dict()["failure"]
    assert failure["reason"] == "8 × 5 × 5 = 200: the feature map was not flattened"
    assert failure["fix"] == failure["fixes"][0]["text"]
    assert failure["fixes"][0]["outputs"][0]["shape"] == [2, 10]
    assert failure["fixes"][0]["changes_input"] is False
    assert "+++ b/test_fixes.py" in failure["fixes"][0]["patch"]


def test_a_fix_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    ms = ModelSummary(Several(), (2, 3, 5, 5))
    ms.show(fix=True)
    assert ms.error is not None
    assert ms.error.patch is not None
    assert capsys.readouterr().out.endswith(f"{ms.error.patch}\n")


class Base(Net):
    def forward(self, x):
        x = self.body[0](x)
        return self.fc(x)


class Inherits(Base):
    def forward(self, x):
        return super().forward(x).relu()


class InheritsTwice(Inherits):
    def forward(self, x):
        y = super().forward(x)
        return y.softmax(-1)


@pytest.mark.parametrize("kind", [Base, Inherits, InheritsTwice])
def test_a_line_that_super_leads_to_is_edited(kind: type[Net]) -> None:
    methods = {base: vars(base)["forward"] for base in kind.__mro__[:-1] if "forward" in vars(base)}
    error = find_error(nn.Sequential(kind()), (2, 3, 5, 5))

    assert error.fix == "return self.fc(x.flatten(1))"
    assert shapes_of(error) == [(2, 10)]
    assert {base: vars(base)["forward"] for base in methods} == methods
    gc.collect()
    left = {other.__qualname__ for other in kind.__subclasses__() if other.__module__ != "tests.fix_is_true"}
    assert left == {other.__qualname__ for other in (Inherits, InheritsTwice) if other.__base__ is kind}


def test_what_goes_wrong_in_a_trial_is_reported_and_costs_no_row(
    monkeypatch: pytest.MonkeyPatch, internal_errors: list[str]
) -> None:
    def fail(*_: Any) -> None:
        raise KeyError("of this package's own")

    monkeypatch.setattr(fixed_model, "bind_edited", fail)
    ms = ModelSummary(Several(), (2, 3, 5, 5))

    assert ms.error is not None
    assert ms.error.fix == ""
    assert len(ms.rows) > 3
    assert "of this package's own" in internal_errors[0]
    assert "please report it" in ms.to_text()
    internal_errors.clear()


def test_the_page_says_when_the_search_for_a_fix_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoTime(FixTrials):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self._until, self._least = 0.0, 0

    monkeypatch.setattr(findings, "FixTrials", NoTime)
    ms = ModelSummary(Several(), (2, 3, 5, 5))

    assert ms.error is not None
    assert ms.error.fixes == ()
    assert "the search for a fix ended after" in ms.to_text()


def test_no_line_of_an_installed_package_is_changed() -> None:
    """Its first convolution would run after ``flatten``, in a file that is not the user's."""
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        num_conv_pos_embedding_groups=2, num_conv_pos_embeddings=16,
    )  # fmt: skip
    error = find_error(transformers.Wav2Vec2Model(config).eval(), (1, 1, 16_000))
    assert [fix.text for fix in error.fixes] == ["model(input_values.squeeze(1))"]
    assert error.sizes == ("(1, 16000)",)


class SmallestSignal(nn.Sequential):
    """Takes 3,776 samples: 1 · 4 + 2 steps before the third pooling, four times as many + 2, and so on."""

    def __init__(self) -> None:
        first = [nn.Conv1d(1, 8, 80, 16), nn.MaxPool1d(4), nn.Conv1d(8, 8, 3), nn.MaxPool1d(4)]
        super().__init__(*first, nn.Conv1d(8, 8, 3), nn.MaxPool1d(4), nn.Conv1d(8, 8, 3))


def test_the_shortest_signal_that_works_is_found_far_above_the_one_given() -> None:
    error = find_error(SmallestSignal(), (4, 1, 800))
    assert error.sizes == ("(4, 1, 3840)",)  # 15 × 256
    assert "needs L ≥ 3776, you gave" in error.reason
    SmallestSignal()(torch.zeros(4, 1, 3776))
    with pytest.raises(RuntimeError, match="Kernel size"):
        SmallestSignal()(torch.zeros(4, 1, 3775))


class TwoOnALine(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(8, 16, 3, padding=1)
        self.pool = nn.AvgPool2d(2); self.act = nn.ReLU()  # fmt: skip  # noqa: E702

    def forward(self, x):
        return x + self.act(self.conv(x))


def test_a_layer_is_added_behind_a_line_of_two_statements() -> None:
    error = ModelSummary(TwoOnALine(), (2, 8, 6, 6)).error
    assert error is not None
    fix = next(fix for fix in error.fixes if "shortcut" in fix.text)
    assert ast.parse(fix.source)
    assert "        self.pool = nn.AvgPool2d(2); self.act = nn.ReLU()" in fix.source.splitlines()[4]
    assert fix.source.splitlines()[5] == "        self.shortcut = nn.Conv2d(8, 16, 1)"


@pytest.mark.parametrize(
    ("kind", "size", "line"),
    [
        (
            HeadsBehindSteps,
            (2, 10, 16),
            "q, k, v = self.qkv(x).reshape(batch, steps, 3, 4, 4).permute(2, 0, 3, 1, 4)",
        ),
        (QueriesByThemselves, (2, 7, 6), 'return torch.einsum("bij,bjd->bid", weights, v)'),
    ],
)
def test_the_line_that_was_meant_comes_before_others_that_run(
    kind: type[nn.Module], size: tuple[int, ...], line: str
) -> None:
    assert find_error(kind(), size).fixes[0].text.endswith(line)


class Widths(nn.Module):
    def __init__(self, hidden: int = 64, classes: int = 10) -> None:
        super().__init__()
        self.first = nn.Linear(8, hidden)
        self.second = nn.Linear(hidden * 2, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x)))


def test_a_patch_writes_the_name_that_stands_for_the_new_number() -> None:
    error = ModelSummary(Widths(), (2, 8)).error
    assert error is not None
    assert error.fix == "self.second = nn.Linear(64, 10)"
    assert error.patch is not None
    assert "+        self.second = nn.Linear(hidden, classes)" in error.patch


def test_a_layer_that_was_put_there_later_has_no_patch_of_the_constructor() -> None:
    model = Widths()
    model.second = nn.Linear(32, 10)
    error = ModelSummary(model, (2, 8)).error
    assert error is not None
    assert error.fix == "self.second = nn.Linear(64, 10)"
    assert error.patch is None
