"""How limits of sizes are searched: at which sizes a model is traced, and how often."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from modelsummary_ipy.shapes.constraints import find_constraints
from modelsummary_ipy.summary import ModelSummary
from tests.shapes.sized import Net, Positions, UNet, find


def test_a_constraint_names_the_nearest_size_that_fails_and_why() -> None:
    traced, found = find(UNet(3), 2, 3, 64, 64)
    multiple, channels = find_constraints(traced.trace, found)
    assert multiple.text == "H and W divisible by 8"
    assert multiple.failed_at[0][0] == "H = 68"
    assert channels.failed_at[0][0] == "C = 4"
    assert "RuntimeError" in channels.failed_at[0][1]


@pytest.mark.parametrize(("levels", "size"), [(3, (2, 3, 64, 64)), (5, (1, 3, 96, 160))])
def test_what_a_skip_connection_demands_is_not_searched_by_tracing(levels: int, size: tuple[int, ...]) -> None:
    """One more in the batch, one that does not divide, two that do, and each side of what is said."""
    traced, found = find(UNet(levels), *size)
    assert find_constraints(traced.trace, found)[0].text == f"H and W divisible by {2**levels}"
    assert found.retracer is not None
    assert found.retracer.num_traces <= 10


class InStrides(nn.Module):
    """Takes sides in steps of 8, as optical flow does, and says so before it begins."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) for _ in range(4)))

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] % 8 or x.shape[3] % 8:
            raise ValueError("height and width must be divisible by 8")
        return self.layers(x)


def test_steps_that_the_code_asks_for_take_few_traces_that_come_to_their_end() -> None:
    """One more in the batch, all sides moved by 64, a square, the step, one to confirm."""
    ms = ModelSummary(InStrides(), (1, 3, 64, 128))
    assert ms.constraints == ("H and W divisible by 8", "C = 3")
    assert ms.pipeline.batch.retracer is not None
    assert sum(works for _, works in ms.pipeline.batch.retracer.tried) <= 5


class FromFortyEight(nn.Module):
    """Has a smallest side, and says so after a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 3, 8, stride=8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        if min(x.shape[2:]) < 6:
            raise ValueError("images must have 48 pixels and more along each side")
        return x


def test_between_two_sizes_that_fail_at_the_same_line_none_is_tried() -> None:
    traced, found = find(FromFortyEight(), 2, 3, 64, 64)
    assert [limit.text for limit in find_constraints(traced.trace, found)] == ["H and W ≥ 48", "C = 3"]
    assert found.retracer is not None
    assert found.retracer.num_traces <= 21  # six more where each below were tried


def test_a_limit_takes_two_traces_and_formulas_without_a_guess_two() -> None:
    traced, found = find(Positions(64, lookup=True), 2, 10, dtype="int64")
    assert [limit.text for limit in find_constraints(traced.trace, found)] == ["T ≤ 64"]
    assert found.samples is not None
    assert len(found.samples.sizes) == 2
    assert found.retracer is not None
    assert found.retracer.num_traces == 4


def test_a_recurrent_net_is_not_tried_at_thirty_thousand_steps() -> None:
    """Fakes unroll a GRU step by step: the size of its table would be looked for for minutes."""
    model = Net(lambda embed, rnn, x: rnn(embed(x))[0], nn.Embedding(30_000, 4), nn.GRU(4, 4, batch_first=True))
    traced, found = find(model, 2, 6)
    assert find_constraints(traced.trace, found) == ()
    assert found.samples is not None
    assert max(sizes["T"] for sizes in found.samples.sizes) < 100
