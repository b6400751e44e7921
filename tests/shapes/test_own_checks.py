"""Dims that a model compares with its settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.records.retraced import Retraced
from modelsummary_ipy.shapes.own_checks import find_fixed, find_steps, list_named
from modelsummary_ipy.summary import ModelSummary
from modelsummary_ipy.tracing.retracer import Retracer


class _Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sizes, self.rest, self.conv = (32, 48), 0, nn.Conv2d(3, 4, 4, 4)
        self.interpolate = False


class _Compared(_Patches):
    def forward(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        if height != self.sizes[0] or width != self.sizes[1]:
            raise ValueError(f"{height} × {width}")
        return self.conv(x)


class _Switched(_Patches):
    def forward(self, x: Tensor, interpolate: bool = False) -> Tensor:
        _, _, height, width = x.shape
        if not interpolate and (height != self.sizes[0] or width != self.sizes[1]):
            raise ValueError(f"{height} × {width}")
        return self.conv(x)


class _Divided(_Patches):
    def forward(self, x: Tensor) -> Tensor:
        rest = x.shape[2] % 16
        if rest != self.rest:
            raise ValueError("not divisible")
        return self.conv(x)


class _Nearer(_Patches):
    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if height + 16 != width:
            raise ValueError("wider by 16")
        return self.conv(x)


class _Ordered(_Patches):
    def forward(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        if height > self.sizes[0]:
            raise ValueError("too high")
        return self.conv(x)


class _Asserted(_Patches):
    def forward(self, x: Tensor) -> Tensor:
        _, _, height, width = x.shape
        torch._assert(height == self.sizes[0], f"{height} high")
        assert width == self.sizes[1], f"{width} wide"
        return self.conv(x)


class _Even(nn.Module):
    """As an optical flow checks its images, and its maps of an eighth."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.second = nn.Conv2d(3, 4, 8, stride=8), nn.Conv2d(4, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if not ((height % 8 == 0) and (width % 8 == 0)):
            raise ValueError("not divisible")
        made = self.conv(x)
        least = 6
        if min(made.shape[2:]) < least:
            raise ValueError("too small")
        return self.second(made)


@pytest.mark.parametrize(
    ("model", "fixed", "limits"),
    [
        (_Asserted, {"H"}, ("H = 32", "W = 48", "C = 3")),
        (_Compared, {"H", "W"}, ("H = 32", "W = 48", "C = 3")),
        (_Switched, {"H", "W"}, ("H = 32", "W = 48", "C = 3")),
        (_Divided, set(), ("H divisible by 16", "W ≥ 4", "C = 3")),
        (_Nearer, set(), None),
        (_Ordered, set(), None),
    ],
)
def test_a_dim_is_fixed_where_it_must_equal_a_setting(
    model: type[nn.Module], fixed: set[str], limits: tuple[str, ...] | None
) -> None:
    ms = ModelSummary(model(), (2, 3, 32, 48))
    retracer, at = ms.pipeline.batch.retracer, {"B": 2, "C": 3, "H": 69, "W": 53}
    assert retracer is not None
    assert find_fixed(retracer.at(at), at) == fixed
    assert find_fixed(retracer.at({}), {}) == set()
    if limits is not None:
        assert ms.constraints == limits


def test_a_size_that_two_dims_have_shows_nothing() -> None:
    retracer = ModelSummary(_Compared(), (2, 3, 32, 48)).pipeline.batch.retracer
    assert retracer is not None
    found = retracer.at({"H": 69, "W": 69})
    assert found.failed
    assert find_fixed(found, {"B": 2, "C": 3, "H": 69, "W": 69}) == set()


def test_a_multiple_is_read_off_the_check_for_it() -> None:
    retracer = ModelSummary(_Even(), (2, 3, 64, 96)).pipeline.batch.retracer
    assert retracer is not None
    at = {"B": 2, "C": 3, "H": 69, "W": 53}
    assert find_steps(retracer.at(at), at) == {"H": 8, "W": 8}
    assert find_steps(retracer.at({}), {}) == {}
    small = {"H": 40, "W": 48}
    assert find_steps(retracer.at(small), small) == {}
    assert 6 in list_named(retracer.at(small))


@pytest.mark.parametrize(
    ("model", "size", "limits", "most"),
    [
        (_Asserted, (2, 3, 32, 48), ("H = 32", "W = 48", "C = 3"), 8),
        (_Compared, (2, 3, 32, 48), ("H = 32", "W = 48", "C = 3"), 7),
        (_Even, (2, 3, 64, 96), ("H and W divisible by 8", "H and W ≥ 48", "C = 3"), 24),
    ],
)
def test_few_traces_show_what_the_code_itself_checks(
    model: type[nn.Module], size: tuple[int, ...], limits: tuple[str, ...], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    trace = Retracer._run

    def counted(*args: Any, **options: Any) -> Retraced:
        made.append(args)
        return trace(*args, **options)

    monkeypatch.setattr(Retracer, "_run", counted)
    assert ModelSummary(model(), size).constraints == limits
    assert len(made) <= most
