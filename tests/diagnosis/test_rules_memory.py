"""One tensor that takes most of the memory is flagged with its size and line; what only looks like it is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.diagnosis.rules.evidence import Evidence
from modelsummary_ipy.diagnosis.rules.memory import find_memory_explosions
from modelsummary_ipy.records.summary import Flag
from modelsummary_ipy.summary import ModelSummary
from tests.byte_models import Does


def find(model: nn.Module, *sizes: Any, **options: Any) -> list[Flag]:
    """Flags of a forward on fakes: nothing of these sizes is ever allocated."""
    ms = ModelSummary(model, list(sizes), engine="fake", **options)
    assert ms.error is None
    return [flag for flag in ms.flags if flag.rule == "memory-explosion"]


def multiply(_: Any, a: Tensor, b: Tensor) -> Tensor:
    return (a @ b).sum(1)


def test_two_huge_matrices_multiplied_by_mistake_are_flagged_where_it_happens() -> None:
    ms = ModelSummary(Does(multiply), [(40_000, 1), (1, 40_000)])
    (flag,) = [flag for flag in ms.flags if flag.rule == "memory-explosion"]
    row = ms.rows[flag.row]
    assert (flag.severity, row.type_name) == ("warning", "matmul")
    assert row.source is not None
    assert row.source.startswith("test_rules_memory.py:")
    assert flag.message == (
        "matmul makes 6 GiB from 312.5 KiB: 40,000 × 40,000 float32; 100% of the forward's peak memory"
    )
    assert flag.fix == "every row of [40000, 1] meets every column of [1, 40000]: is that intended?"


def test_rows_broadcast_against_rows_are_flagged() -> None:
    model = Does(lambda m, x, y: ((m.layer(x) - y) ** 2).mean(), layer=nn.Linear(8, 1))
    first, *_ = find(model, (20_000, 8), (20_000,))
    assert first.severity == "warning"
    assert first.fix == "[20000, 1] and [20000] were broadcast against each other: squeeze one"


def test_a_sum_of_all_pairs_that_is_written_as_such_is_not_to_be_squeezed() -> None:
    first, *_ = find(Does(lambda m, x, y: (x[:, :, None] + y[:, None]).amax((1, 2))), (8, 8_000), (8, 8_000))
    pair = "[8, 8000, 1] and [8, 1, 8000]"
    assert first.fix == f"{pair} were broadcast against each other: is that intended?"


def attend(model: Any, x: Tensor) -> Tensor:
    query, key, value = model.qkv(x).chunk(3, -1)
    return (query @ key.mT / 8).softmax(-1) @ value


def test_attention_scores_of_a_long_text_are_flagged_and_the_function_without_them_is_not() -> None:
    (flag, *_) = find(Does(attend, qkv=nn.Linear(64, 192)), (8, 8192, 64))
    assert "F.scaled_dot_product_attention" in flag.fix

    def attend_well(model: Any, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(*model.qkv(x).chunk(3, -1)[:3])

    assert find(Does(attend_well, qkv=nn.Linear(64, 192)), (8, 16, 8192, 64)) == []


@pytest.mark.parametrize(("needs", "count"), [(True, 1), (False, 0)])
def test_attention_weights_that_are_not_used_are_flagged(needs: bool, count: int) -> None:
    inner = nn.MultiheadAttention(64, 4, batch_first=True)
    flags = find(Does(lambda m, x: m.inner(x, x, x, need_weights=needs)[0], inner=inner), (4, 4096, 64))
    assert [flag.fix for flag in flags] == ["need_weights=False keeps no weights of all pairs of positions"][:count]


def test_distances_of_all_pairs_are_flagged() -> None:
    (flag,) = find(Does(lambda _, x: torch.cdist(x, x).min(1).values), (50_000, 16))
    assert flag.fix == "cdist in chunks of rows"


def test_one_line_that_runs_often_is_reported_once() -> None:
    def run(_: Any, x: Tensor) -> Tensor:
        total = x.sum()
        for _ in range(5):
            total = total + (x @ x.mT).sum()
        return total

    assert len(find(Does(run), (30_000, 2))) == 1


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        (Does(multiply), [(2000, 1), (1, 2000)]),  # 15 MiB
        (nn.Sequential(nn.Embedding(20_000, 100), nn.AdaptiveAvgPool2d(1)), [(4096, 256)]),  # a lookup
        (nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(True), nn.AdaptiveAvgPool2d(1)), [(1, 3, 1024, 1024)]),
        (Does(lambda _, a: a.expand(1 << 20, 4096)[:, 0].sum()), [(1, 4096)]),  # a view: no memory at all
        (nn.Sequential(nn.Linear(64, 65_536), nn.Flatten(), nn.Softmax(-1)), [(512, 64)]),
    ],
    ids=["small", "lookup", "first convolution", "view", "wide layer"],
)
def test_look_alikes_are_left_alone(model: nn.Module, sizes: list[tuple[int, ...]]) -> None:
    dtypes = "int64" if "Embedding" in repr(model) else None
    assert find(model, *sizes, dtypes=dtypes) == []


def test_most_of_the_peak_is_a_note_whatever_makes_it() -> None:
    model = nn.Sequential(nn.Linear(64, 50_000), nn.LogSoftmax(-1))
    flags = find(Does(lambda m, x: m.inner[0](x).sum(), inner=model), (8192, 64))
    assert [(flag.severity, flag.path, flag.fix) for flag in flags] == [("note", "inner.0", "")]
    assert "1.5 GiB" in flags[0].message


def test_what_the_model_gives_back_is_a_note() -> None:
    flags = find(Does(lambda _, a, b: a @ b), (10_000, 1), (1, 10_000))
    assert [flag.severity for flag in flags] == ["note"]


def test_without_a_measured_peak_nothing_is_said() -> None:
    ms = ModelSummary(Does(multiply), [(40_000, 1), (1, 40_000)])
    from dataclasses import replace

    story = replace(ms.story, trace=replace(ms.story.trace, peak_bytes=None))
    assert list(find_memory_explosions(Evidence(story))) == []
