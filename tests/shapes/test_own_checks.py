"""Dims that a model compares with its settings."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from modelsummary_ipy.shapes.own_checks import find_fixed
from modelsummary_ipy.summary import ModelSummary


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


@pytest.mark.parametrize(
    ("model", "fixed", "limits"),
    [
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
