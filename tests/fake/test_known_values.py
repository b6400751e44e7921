"""Which values fakes know, and that what would be large is never made."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.fake.fast_fake_mode import make_fake_mode
from modelsummary_ipy.fake.known_values import MOST_VALUES, MOST_VALUES_OF_MASK
from modelsummary_ipy.torch_compat.fakes import FAKE_ONLY_ERRORS, FakeTensor, constant_of
from tests.fresh_process import FreshProcesses

#: Operations that make more values than they read, as functions of how many they read.
GROWING: dict[str, Callable[[int], Tensor]] = {
    "compare": lambda n: torch.arange(n)[:, None] <= torch.arange(n)[None, :],
    "where": lambda n: torch.where(torch.arange(n)[:, None] > 3, torch.arange(n), -torch.arange(n)),
    "repeat": lambda n: torch.arange(n).repeat(n, 1),
    "tile": lambda n: torch.arange(n).tile(n),
    "expand and clone": lambda n: torch.arange(n).expand(n, n).clone(),
    "expand and add": lambda n: torch.arange(n).expand(n, n) + 1,
    "pad": lambda n: F.pad(torch.arange(n)[None], (0, 0, 0, n - 1)),
    "repeat_interleave": lambda n: torch.repeat_interleave(torch.arange(n), n),
    "repeat_interleave by a tensor": lambda n: torch.repeat_interleave(torch.full((n,), n)),
    "diag": lambda n: torch.diag(torch.arange(n)),
    "diag_embed": lambda n: torch.diag_embed(torch.arange(n)),
    "outer": lambda n: torch.outer(torch.arange(n), torch.arange(n)),
    "stack": lambda n: torch.stack([torch.arange(n)] * n),
    "cat": lambda n: torch.cat([torch.arange(n)] * n),
    "index": lambda n: torch.arange(n)[torch.arange(n).expand(n, n)],
    "meshgrid": lambda n: torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")[0] + 1,
    "tril of ones": lambda n: torch.ones(n, n, dtype=torch.bool).tril(),
}


def run(name: str, size: int) -> FakeTensor:
    with make_fake_mode():
        made = GROWING[name](size)
    assert isinstance(made, FakeTensor)
    return made


@pytest.mark.parametrize("name", GROWING)
def test_what_an_operation_makes_of_a_few_known_values_is_known_and_true(name: str) -> None:
    values = constant_of(run(name, 5))
    assert values is not None
    assert torch.equal(values, GROWING[name](5))


@pytest.mark.parametrize("name", [name for name in GROWING if name != "repeat_interleave by a tensor"])
def test_what_would_be_large_has_its_shape_and_no_values(name: str) -> None:
    size = int(MOST_VALUES_OF_MASK**0.5) + 1
    made, real = run(name, size), GROWING[name](size)
    assert (made.shape, made.dtype, constant_of(made)) == (real.shape, real.dtype, None)


def test_repeats_whose_number_is_large_are_not_made() -> None:
    size = int(MOST_VALUES**0.5) + 1
    with pytest.raises(FAKE_ONLY_ERRORS):
        run("repeat_interleave by a tensor", size)


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x[1:],
        lambda x: x.view(2, 3)[:, None],
        lambda x: x[None].expand(4, 6),
        lambda x: x.unfold(0, 3, 2),
        lambda x: x.split(2)[1],
        lambda x: x.view(3, 2).t().select(0, 1),
        lambda x: x[2:].add_(1)[1:],
    ],
)
def test_a_view_of_known_values_is_one_and_shows_what_is_written_to_them(view: Callable[[Tensor], Tensor]) -> None:
    real = torch.arange(6)
    true = view(real)
    with make_fake_mode():
        fake = torch.arange(6)
        made = view(fake)
        assert made.untyped_storage()._cdata == fake.untyped_storage()._cdata
        fake[3] += 7
        values = made.tolist()
    real[3] += 7
    assert values == true.tolist()
    assert (made.shape, made.stride(), made.storage_offset()) == (true.shape, true.stride(), true.storage_offset())


class Shifted(nn.Module):
    """Shifts a row of ids to the right, as decoders do."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(x.shape)
        y[:, 1:] = x[:, :-1].clone()
        y[:, 0] = 2
        return y.masked_fill_(y == 0, 1)


def test_to_write_to_known_values_takes_no_memory() -> None:
    """The input, the zeros, and the part that is copied: 24, 24 and 22 numbers of 8 bytes."""
    peaks = [
        ModelSummary(Shifted(), input_data=torch.zeros(2, 12, dtype=dtype)).to_dict()["rows"][0]["peak_bytes"]
        for dtype in (torch.int64, torch.float64)
    ]
    assert peaks == [8 * (24 + 24 + 22)] * 2


def test_a_mask_of_forty_thousand_tokens_takes_no_memory(fresh: FreshProcesses) -> None:
    """Each mask would take 1.6 GB for real."""
    code = """
import resource
import torch
from torch import nn
from modelsummary_ipy import ModelSummary

class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(100, 8)
    def forward(self, ids):
        steps = torch.arange(ids.shape[1])
        hidden = steps[:, None] < steps[None, :]
        near = hidden.logical_not() & (steps[:, None] - steps[None, :] < 64)
        return self.embed(ids).masked_fill(near[:, :1], 0)

ModelSummary(Causal(), (1, 8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ms = ModelSummary(Causal(), (1, 40_000))
assert ms.engine == "fake" and ms.error is None, ms
str(ms)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    ran = fresh.run(code)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < 100


class Tutorial(nn.Module):
    """The language model of torch's tutorial: its encoder compares the mask's values with those of a causal one."""

    def __init__(self, kept: Tensor | None = None) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 1)
        self.register_buffer("kept", kept)

    def forward(self, ids: Tensor) -> Tensor:
        size = ids.size(1)
        mask = nn.Transformer.generate_square_subsequent_mask(size) if self.kept is None else self.kept[:size, :size]
        hidden: Tensor = self.encoder(self.embed(ids), mask=mask)
        return hidden


@pytest.mark.parametrize("num_tokens", [7, 600])
@pytest.mark.parametrize("kept", [None, torch.full((600, 600), -torch.inf), torch.ones(600, 600) > 0])
def test_a_causal_mask_is_known_to_be_one(num_tokens: int, kept: Tensor | None) -> None:
    ms = ModelSummary(Tutorial(None if kept is None else kept.triu(1)), (2, num_tokens))
    assert (ms.engine, ms.error) == ("fake", None), ms.engine_reason
    assert ms.constraints == (() if kept is None else ("T ≤ 600",))


class Grid(nn.Module):
    """Steps of Euler's method over times, checked and compared as solvers do."""

    def __init__(self, times: str) -> None:
        super().__init__()
        self.field = nn.Linear(4, 4)
        self.times = times
        self.span = torch.tensor([0.0, 1.0])
        self.register_buffer("grid", torch.linspace(1, 0, 5))

    def forward(self, y: Tensor) -> Tensor:
        grid = {
            "linspace": lambda: torch.linspace(0, 1, 5),
            "arange": lambda: torch.arange(0, 1, 0.25),
            "attribute": lambda: self.span,
            "buffer": lambda: self.grid,
        }[self.times]()
        steps = grid[1:] - grid[:-1]
        assert steps.gt(0).all() or steps.lt(0).all(), "times must be in order"
        for step in steps:
            if step != 0:
                y = y + step * self.field(y)
        return y


@pytest.mark.parametrize(("times", "calls"), [("linspace", 4), ("arange", 3), ("attribute", 1), ("buffer", 4)])
def test_a_solver_over_a_short_grid_is_traced_with_fakes(times: str, calls: int) -> None:
    ms = ModelSummary(Grid(times), (2, 4))
    assert (ms.error, ms.engine) == (None, "fake")
    assert ms.total_mult_adds == calls * 2 * 4 * 4


def test_values_of_numbers_that_are_in_no_order_stay_unknown() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor([1.0, 3.0, 2.0]))

        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if (self.scale > 0).all() else x

    assert ModelSummary(Scale(), (2, 3)).engine == "real"
