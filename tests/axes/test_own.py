"""Operations of a user's own, described by one line: their formulas, multiply-adds, and what contradicts torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import InputError, ModelSummary, register_mult_adds, register_op
from modelsummary_ipy.axes import registry
from modelsummary_ipy.costs import mac_formulas

MLP = "b t i, i h, h o -> b t o"
SCAN = "b t d, b t d, d n, b t n, b t n -> b t d"


@pytest.fixture(autouse=True)
def unregistered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register for one test only."""
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(registry, "_own", set())
    monkeypatch.setattr(mac_formulas, "_formulas", dict(mac_formulas._formulas))
    monkeypatch.setattr(mac_formulas, "_implied", {})


@pytest.fixture(scope="module")
def ops() -> Iterator[Any]:
    """A fused MLP and a selective scan, with rules for fake tensors."""
    library = torch.library.Library("ms_axes", "DEF")
    library.define("fused_mlp(Tensor x, Tensor up, Tensor down) -> Tensor")
    library.define("scan(Tensor x, Tensor dt, Tensor a, Tensor b, Tensor c) -> Tensor")
    torch.library.register_fake("ms_axes::fused_mlp", lambda x, up, down: x.new_empty(*x.shape[:-1], down.shape[1]))
    torch.library.register_fake("ms_axes::scan", lambda x, dt, a, b, c: torch.empty_like(x))
    yield torch.ops.ms_axes
    library._destroy()


class FusedMlp(nn.Module):
    """Two projections in one operation, after a convolution that halves the length."""

    def __init__(self, op: Callable[..., Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3, stride=2, padding=1)
        self.up, self.down = nn.Parameter(torch.zeros(4, 20)), nn.Parameter(torch.zeros(20, 6))
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        return self.op(self.conv(x).mT, self.up, self.down)


class Scan(nn.Module):
    """A selective scan of a Mamba block."""

    def __init__(self, op: Callable[..., Tensor]) -> None:
        super().__init__()
        self.proj, self.a = nn.Linear(8, 8 + 3 + 3), nn.Parameter(torch.zeros(8, 3))
        self.op = op

    def forward(self, x: Tensor) -> Tensor:
        dt, b, c = self.proj(x).split([8, 3, 3], dim=-1)
        return self.op(x, dt, self.a, b, c)


def test_a_fused_mlp_has_formulas_and_multiply_adds(ops: Any) -> None:
    assert ModelSummary(FusedMlp(ops.fused_mlp), (2, 4, 10)).unknown_ops == ("ms_axes::fused_mlp",)
    register_op("ms_axes::fused_mlp", MLP)
    ms = ModelSummary(FusedMlp(ops.fused_mlp), (2, 4, 10))
    assert ms.formulas[0] == (("B", "⌈L/2⌉", "6"),)
    assert ms.total_mult_adds == 2 * 5 * (3 * 4 * 4) + 2 * 5 * (4 * 20 + 20 * 6)
    assert ms.unknown_ops == ()
    assert ms.story.internal_errors == ()


def test_a_selective_scan_counts_an_outer_product_and_a_sum(ops: Any) -> None:
    register_op(ops.scan, SCAN)
    ms = ModelSummary(Scan(ops.scan), (2, 7, 8))
    assert ms.formulas[0] == (("B", "T", "8"),)
    assert ms.total_mult_adds == 2 * 7 * (8 * 14 + 2 * 8 * 3)


def test_a_registered_count_goes_before_what_axes_imply(ops: Any) -> None:
    register_mult_adds("ms_axes::fused_mlp", lambda aten_op: 7)
    register_op("ms_axes::fused_mlp", MLP)
    assert ModelSummary(FusedMlp(ops.fused_mlp), (2, 4, 10)).total_mult_adds == 2 * 5 * 48 + 7


def test_a_function_of_axes_is_an_entry(ops: Any) -> None:
    register_op("ms_axes::fused_mlp", lambda x, up, down: [[*x[:-1], down[1]]])
    ms = ModelSummary(FusedMlp(ops.fused_mlp), (2, 4, 10))
    assert (ms.formulas[0], ms.story.internal_errors) == ((("B", "⌈L/2⌉", "6"),), ())


def test_axes_in_front_are_any_number(ops: Any) -> None:
    register_op("ms_axes::fused_mlp", "... i, i h, h o -> ... o")
    ms = ModelSummary(FusedMlp(ops.fused_mlp), (2, 4, 10))
    assert ms.total_mult_adds == 2 * 5 * 48 + 2 * 5 * 200
    assert ms.formulas[0] == (("B", "⌈L/2⌉", "6"),)


@pytest.mark.parametrize(
    ("axes", "line"),
    [
        ("b t i, i h, h o -> b t h", "it gives [("),
        ("b t i, i h -> b t h", "it takes 2 tensors, and got 3"),
        ("b i, i h, h o -> b o", "it gives tensor 0 2 axes, and it has 3"),
        ("b t i, i i, i o -> b t o", "it takes i to be 4 and 20"),
        ("b t i, i h, h o -> b t o, b t h", "it gives [("),
        (lambda x, up, down: [x[9]], "it fails with IndexError: list index out of range"),
    ],
)
def test_a_description_that_contradicts_torch_is_shown_and_not_believed(ops: Any, axes: Any, line: str) -> None:
    register_op("ms_axes::fused_mlp", axes)
    ms = ModelSummary(FusedMlp(ops.fused_mlp), (2, 4, 10))
    assert ms.formulas[0] == (("B", "⌈L/2⌉", "6"),)
    (error,) = ms.story.internal_errors
    assert error.startswith("register_op 'ms_axes::fused_mlp': of (")
    assert line in error
    assert ", torch makes (" in error
    assert error in ms.to_text()
    assert (ms.costs[0].mult_adds, ms.unknown_ops) == (None, ("ms_axes::fused_mlp",))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("b t i", "axes 'b t i'; expected the axes of each tensor and of each result"),
        (7, "axes 7; expected"),
        ("b t -> b u", "axis 'u' of a result in 'b t -> b u'; expected an axis that a tensor has"),
        ("b ..., i -> b", "'...' behind other axes"),
        ("b t* -> b", "axis 't*' in 'b t* -> b'; expected names, numbers and '...'"),
    ],
)
def test_bad_axes_are_refused_with_an_example(axes: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        register_op("ms_axes::fused_mlp", axes)
    assert message in str(caught.value)
    assert "register_op('mylib::fused_mlp', 'b t i, i h, h o -> b t o')" in str(caught.value)


def test_what_is_no_operation_is_refused() -> None:
    with pytest.raises(InputError, match="no operation 'fused'"):
        register_op("fused", MLP)


def test_an_operation_without_a_rule_for_sizes_runs_for_real_and_that_is_said() -> None:
    library = torch.library.Library("ms_bare", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CPU")

    class Twice(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            twice: Tensor = torch.ops.ms_bare.twice.default(x)
            return twice

    try:
        ms = ModelSummary(Twice(), (2, 3))
        assert ms.engine == "real"
        assert ms.engine_reason.startswith("twice() without register_fake at ")
        assert [row.type_name for row in ms.rows] == ["Twice", "twice"]
    finally:
        library._destroy()
