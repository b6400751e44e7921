"""Models of an installed package, given a wrong input: no line of theirs is the user's to change, the input is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from modelsummary_ipy.diagnosis.failures import context
from modelsummary_ipy.records import fixes as records
from modelsummary_ipy.summary import ModelSummary

CODE = """
import torch
from torch import nn


class Images(nn.Module):
    def __init__(self, side=0):
        super().__init__()
        self.side, self.conv, self.norm, self.fc = side, nn.Conv2d(3, 8, 4, 4), nn.BatchNorm2d(8), nn.Linear(8, 10)

    def forward(self, x):
        if self.side and x.shape[3] != self.side:
            raise ValueError(f"width {x.shape[3]} is wrong for this model")
        return self.fc(self.norm(self.conv(x)).mean((2, 3)))


class Clips(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.pos = nn.Conv3d(3, 8, (2, 16, 16), (2, 16, 16)), nn.Parameter(torch.zeros(1, 8 * 14 * 14, 8))

    def forward(self, x):
        return (self.conv(x).flatten(2).transpose(1, 2) + self.pos).mean(1)


class Windows(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 4, 4)

    def forward(self, x):
        x = self.conv(x)
        b, c, h, w = x.shape
        x = x.reshape(b, c, h // 7, 7, w // 7, 7).amax((3, 5))
        return x.reshape(b, c, h // 56, 8, w // 56, 8).mean((2, 3, 4, 5))


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 8, 8)

    def forward(self, one, two):
        for x in (one, two):
            if x.shape[2] % 8 or x.shape[3] % 8:
                raise ValueError("sides must be divisible by 8")
        if self.conv(one).shape[2] < 16:
            raise ValueError("maps are too small, images need at least 8 * 16 = 128")
        return self.conv(one) - self.conv(two)
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A package that counts as installed."""
    file = tmp_path / "zoo.py"
    file.write_text(CODE, encoding="utf-8")
    for module in (context, records):
        monkeypatch.setattr(module, "PACKAGES", (str(tmp_path),))
    spec = importlib.util.spec_from_file_location("zoo", file)
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize(
    ("make", "given", "fix", "sizes"),
    [
        (("Images",), (2, 224, 224, 3), "model(x.permute(0, 3, 1, 2))", "(2, 3, 224, 224)"),
        (("Images", 64), (2, 64, 64, 3), "model(x.permute(0, 3, 1, 2))", "(2, 3, 64, 64)"),  # its own check refuses it
        (("Images",), (2, 3, 5, 32, 32), "model(x.transpose(1, 2).flatten(0, 1))", "(10, 3, 32, 32)"),
        (("Images",), (3, 32, 32), "model(x.unsqueeze(0))", "(1, 3, 32, 32)"),
        (("Clips",), (2, 16, 3, 224, 224), "model(x.transpose(1, 2))", "(2, 3, 16, 224, 224)"),
    ],
    ids=["channels-last", "refused", "clip", "batchless", "frames-first"],
)
def test_the_input_is_changed_before_the_model_is_called(
    package: ModuleType, make: tuple[Any, ...], given: tuple[int, ...], fix: str, sizes: str
) -> None:
    model = getattr(package, make[0])(*make[1:]).eval()
    error = ModelSummary(model, given).error
    assert error is not None
    assert (error.fix, error.sizes[0]) == (fix, sizes)
    made = eval(fix, {"model": model, "x": torch.rand(given)})  # it does so for real
    assert [tuple(made.shape)] == [spec.shape for spec in error.fixes[0].outputs]


def test_another_dtype_is_cast_before_the_model_is_called(package: ModuleType) -> None:
    error = ModelSummary(package.Images(), (2, 3, 32, 32), dtypes="float64").error
    assert error is not None
    assert error.fix == "model(x.float())"


@pytest.mark.parametrize(
    ("name", "given", "sizes"),
    [
        ("Clips", (2, 3, 8, 224, 224), "(2, 3, 16, 224, 224)"),  # as many positions by a width of 448: of no use
        ("Windows", (2, 3, 256, 256), "(2, 3, 224, 224)"),
        ("Named", [(2, 3, 64, 64), (2, 3, 64, 64)], "(2, 3, 128, 128) (2, 3, 128, 128)"),
    ],
)
def test_the_sizes_that_work_are_those_that_people_use(package: ModuleType, name: str, given: Any, sizes: str) -> None:
    model: nn.Module = getattr(package, name)()
    error = ModelSummary(model, given).error
    assert error is not None
    assert error.sizes[0] == sizes
