"""Budgets: how they are read, the largest batch that fits one, and what a page says of it."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from modelsummary_ipy.costs.memory import find_largest_batch, read_budget
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.summary import Memory
from modelsummary_ipy.records.view import View
from modelsummary_ipy.summary import ModelSummary
from tests.byte_models import Does, conv_net


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("24GB", 24 * 10**9), ("24 GB", 24 * 10**9), ("24gib", 24 * 2**30), ("1.5G", 1_500_000_000),
        ("512MiB", 512 * 2**20), ("80g", 80 * 10**9), ("100 B", 100), ("7 B", 7), (".5 TB", 5 * 10**11), (4096, 4096),
        (None, None),
    ],
)  # fmt: skip
def test_a_budget_is_read_as_people_write_it(text: Any, nbytes: int | None) -> None:
    assert read_budget(text) == nbytes


@pytest.mark.parametrize(
    "text", ["", "24", "1e9", "GB", "much", "-3GB", "24XB", "0", 0, -5, True, "iB", "3i", float("nan"), [24]]
)
def test_what_is_no_amount_of_memory_is_refused(text: Any) -> None:
    with pytest.raises(InputError, match="an amount with a unit"):
        ModelSummary(nn.Linear(2, 2), (1, 2), memory=text)


def test_an_unknown_optimizer_is_refused_before_anything_is_traced() -> None:
    for optimizer in ("sgdm", "lion-fused", 3, nn.Linear, torch.optim.SGD(nn.Linear(2, 2).parameters())):
        with pytest.raises(InputError, match="one of sgd, momentum, adam, adamw, adafactor, lion"):
            ModelSummary(nn.Linear(2, 2), (1, 2), optimizer=optimizer)


def test_the_largest_batch_fits_and_one_more_does_not() -> None:
    model, budget = conv_net(), 50_000_000
    memory = ModelSummary(model, (4, 3, 32, 32), memory=budget).memory
    assert (memory.budget_bytes, memory.batch) == (budget, 4)
    assert memory.fits_training
    assert memory.fits_inference
    for most, needs in ((memory.most_for_training, "training_bytes"), (memory.most_for_inference, "inference_bytes")):
        assert most is not None
        assert getattr(ModelSummary(model, (most, 3, 32, 32)).memory, needs) <= budget
        assert getattr(ModelSummary(model, (most + 1, 3, 32, 32)).memory, needs) > budget


def test_a_model_that_is_too_large_alone_fits_no_batch() -> None:
    memory = ModelSummary(nn.Linear(100, 100), (8, 100), memory="50 KB", optimizer="adamw").memory
    assert memory.fits_training is False
    assert (memory.most_for_inference, memory.most_for_training) == (12, 0)
    # 40,400 bytes of weights; an example is 400 bytes in and 400 out
    assert 40_400 + 12 * 800 <= 50_000 < 40_400 + 13 * 800


def test_two_inputs_share_their_batch() -> None:
    class Two(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a * b

    memory = ModelSummary(Two(), [(2, 10), (2, 10)], memory=12_345).memory
    assert memory.most_for_inference == 12_345 // (3 * 40)


def test_a_model_of_fixed_batch_has_no_largest() -> None:
    class Fixed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.view(4, 6) * 2

    memory = ModelSummary(Fixed(), (4, 6), memory="1MB").memory
    assert (memory.most_for_inference, memory.most_for_training) == (None, None)
    assert memory.fits_inference


def test_a_budget_can_be_asked_of_a_summary_that_is_shown_again(capsys: pytest.CaptureFixture[str]) -> None:
    ms = ModelSummary(nn.Linear(100, 100), (8, 100))
    assert ms.memory.budget_bytes is None
    ms.show(memory="50 KB", optimizer="sgd")
    capsys.readouterr()
    assert ms.memory.budget_bytes is None
    assert ms.memory.optimizer == "adamw"


@given(
    fixed=st.integers(0, 10**6), each=st.integers(1, 10**5), step=st.integers(1, 64), bump=st.integers(0, 10**4),
    budget=st.integers(0, 10**9), start=st.integers(1, 512),
)  # fmt: skip
def test_any_growing_need_gives_the_largest_that_fits(
    fixed: int, each: int, step: int, bump: int, budget: int, start: int
) -> None:
    def need(batch: int) -> int:
        return fixed + each * batch + bump * (batch // step)

    found = find_largest_batch(need, budget, start)
    assert found is not None
    assert found == 0 or need(found) <= budget
    assert need(found + 1) > budget


def test_memory_that_does_not_grow_bounds_no_batch() -> None:
    assert find_largest_batch(lambda batch: 100, 1000, 8) is None


def test_a_size_that_does_not_run_leaves_the_largest_unknown() -> None:
    assert find_largest_batch(lambda batch: 100 * batch if batch < 20 else None, 10_000, 8) is None


def test_nothing_known_nothing_said() -> None:
    memory = Memory(10, 0, 0)
    assert (memory.inference_bytes, memory.training_bytes) == (None, None)
    assert (memory.fits_inference, memory.fits_training) == (None, None)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        # 202,000 bytes of weights, gradients, states and square roots, 12 of the loss and two counts of steps, and
        # 800 an example; to run, 40,400 and 800
        ("1 MB", "fits 1 MB; largest batch 997 to train, 1,199 to run"),
        (
            "200 KiB",
            "does not fit 200 KiB: needs 204 KiB at the optimizer's step; largest batch 3 to train, 205 to run",
        ),
        (
            "50 KB",
            "does not fit 50 KB: needs 208 KB at the optimizer's step; no batch fits to train; largest batch 12 to run",
        ),
        ("0.01 MB", "does not fit 0.01 MB: needs 208 KB at the optimizer's step; no batch fits"),
    ],
)
def test_the_heading_says_what_fits(budget: str, words: str) -> None:
    text = ModelSummary(nn.Linear(100, 100), (8, 100), memory=budget).to_text()
    assert words in text.replace("\n  ", " ")


def test_what_does_not_fit_is_named_with_the_place_that_needs_most() -> None:
    model = Does(lambda model, x: model.fc2(model.fc1(x).exp()), fc1=nn.Linear(10, 1000), fc2=nn.Linear(1000, 1))
    ms = ModelSummary(model, (64, 10), memory="0.5 MB", optimizer="sgd")
    assert ms.training.peak_row is not None
    row = ms.rows[ms.training.peak_row]
    assert row.type_name == "exp"  # what it made, the gradient of that and, new, of what it was given
    needs = f"{(ms.memory.training_bytes or 0) / 1e3:.0f} KB"
    words = f"does not fit 0.5 MB: needs {needs} at the backward of exp ({row.source}); largest batch"
    assert words in " ".join(ms.to_text().split())


def test_a_model_that_trains_nothing_is_told_whether_it_runs() -> None:
    ms = ModelSummary(nn.Linear(100, 100).requires_grad_(False), (8, 100), memory="50 KB")
    assert "running fits 50 KB; largest batch 12" in " ".join(ms.to_text().split())


def test_a_step_is_traced_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelsummary_ipy.pipeline import stages

    steps: list[Any] = []

    def trace_step(*args: Any) -> Any:
        steps.append(args)
        return original(*args)

    original = stages.trace_step
    monkeypatch.setattr(stages, "trace_step", trace_step)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    plain = ModelSummary(net, (3, 4))
    assert "to run" in plain.to_text()
    assert "to train" not in plain.to_html(packed=False)
    assert "show(optimizer=&#39;adamw&#39;) traces one" in plain.to_html(packed=False)
    assert steps == []
    asking: tuple[dict[str, Any], ...] = (
        {"memory": "1GB"}, {"optimizer": "adamw"}, {"precision": "bf16-mixed"}, {"accumulate": 2},
        {"loss": nn.CrossEntropyLoss()},
    )  # fmt: skip
    for number, asked in enumerate(asking):
        page = ModelSummary(net, (3, 4), **asked).to_html(packed=False)
        assert "to train" in page, asked
        assert "traces one" not in page
        assert len(steps) > number
    before = len(steps)
    columns = ModelSummary(net, (3, 4))
    columns.view = View(columns=("macs", "train"))
    assert "to train" in columns.to_text()
    assert ModelSummary(net, (3, 4)).to_dict()["memory"]["training_bytes"] == plain.memory.training_bytes
    assert len(steps) == before + 3


def test_the_unit_that_was_typed_is_the_unit_shown_everywhere() -> None:
    net = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())
    for budget, other in (("40MB", r"\d [KMG]iB"), ("40MiB", r"\d [KMG]B")):
        ms = ModelSummary(net, (256, 64), memory=budget)
        html = ms.to_html(packed=False)
        page = html[html.index("</style>") : html.index("<script")]
        assert "activation" in page
        for text in (page, ms.to_text(), ms.to_markdown(), str(ms.plan())):
            assert not re.search(other, text), budget
