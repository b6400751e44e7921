"""What a layer is set to, short: the same numbers as in torch's own repr."""

from __future__ import annotations

import re

import pytest
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.display.render.layer_words import describe_layer


def words(layer: nn.Module) -> str:
    return describe_layer(ModelSummary(nn.Sequential(layer)).pipeline.traced.trace.modules[1])


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.Conv2d(3, 64, 3, stride=2, padding=1), "3→64, k3 s2 p1"),
        (nn.Conv2d(8, 8, (3, 5), padding="same", groups=8, dilation=2), "8→8, k3×5 p same d2 g8"),
        (nn.Conv1d(3, 8, 1), "3→8, k1"),
        (nn.ConvTranspose2d(16, 8, 2, 2, output_padding=1), "16→8, k2 s2 op1"),
        (nn.Linear(512, 10), "512→10"),
        (nn.LazyLinear(10), "→10"),
        (nn.Bilinear(2, 3, 4), "2×3→4"),
        (nn.Embedding(30522, 768), "30522→768"),
        (nn.LSTM(128, 256, 2, bidirectional=True), "128→256 ×2 bi"),
        (nn.LSTM(4, 8, proj_size=2), "4→8 proj 2"),
        (nn.GRUCell(4, 8), "4→8"),
        (nn.MultiheadAttention(512, 8), "512, 8 heads"),
        (nn.MaxPool2d(2), "k2 s2"),
        (nn.AvgPool1d(3, 1, 1), "k3 p1"),
        (nn.AdaptiveAvgPool2d((1, 1)), "→1"),
        (nn.AdaptiveAvgPool2d((None, 7)), "→?×7"),
        (nn.BatchNorm2d(64), "64"),
        (nn.GroupNorm(32, 64), "64, 32 groups"),
        (nn.LayerNorm((4, 768)), "4×768"),
        (nn.Dropout(0.1), "0.1"),
        (nn.Upsample(scale_factor=2), "×2"),
        (nn.Upsample(scale_factor=(2, 1.5)), "×2×1.5"),
        (nn.Upsample(size=(7, 9)), "→7×9"),
        (nn.PixelShuffle(2), "×2"),
        (nn.ReLU(), ""),
        (nn.Flatten(), ""),
    ],
)
def test_a_layer_says_what_it_is_set_to(layer: nn.Module, expected: str) -> None:
    assert words(layer) == expected
    numbers = set(re.findall(r"[\d.]+", expected))
    assert numbers <= set(
        re.findall(r"\d+\.?\d*", (repr(layer) + f" {getattr(layer, 'num_heads', '')}").replace(".0", ""))
    ) | {"1"}


def test_a_layer_of_the_users_own_says_nothing() -> None:
    class Linear(nn.Linear):
        pass

    assert words(Linear(2, 3)) == ""
    assert describe_layer(None) == ""


def test_rows_and_groups_of_equal_layers_say_it_and_others_do_not() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    text = ModelSummary(net, (1, 4), ignore=["strange-order"]).to_text()
    assert "0–2 · 3 × Linear 4→4 " in text
    assert "3  Linear 4→2 " in text
    assert "Linear 4→2" in ModelSummary(net, (1, 4)).to_markdown()
    assert "<i>Linear 4→2</i>" in ModelSummary(net, (1, 4)).to_html()
    assert ModelSummary(net, (1, 4)).rows[1].type_name == "Linear"
