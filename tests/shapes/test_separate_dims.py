"""Which dims an operation reads across, against real runs with one entry of a dim changed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves
from transformers import BertConfig, BertModel

from modelsummary_ipy import Dim, ModelSummary

NUM_CHAINS = int(os.environ.get("FUZZ_CASES", "150"))


def depends_on_several(model: nn.Module, inputs: tuple[Tensor, ...], places: list[tuple[int, int]]) -> bool:
    """Change one entry after another of a dim of real inputs: does an entry of an output change with several of them?

    Args:
        places: The inputs, and the dims of theirs, that are the dim.
    """
    model = model.double().eval()
    inputs = tuple(tensor.double() if tensor.is_floating_point() else tensor for tensor in inputs)

    def run(values: tuple[Tensor, ...]) -> list[Tensor]:
        torch.manual_seed(0)
        with torch.no_grad():
            return [leaf for leaf in tree_leaves(model(*values)) if isinstance(leaf, Tensor)]

    before = run(inputs)
    times = [torch.zeros(leaf.shape, dtype=torch.int64) for leaf in before]
    for entry in range(inputs[places[0][0]].shape[places[0][1]]):
        changed = tuple(tensor.clone() for tensor in inputs)
        for leaf, dim in places:
            part = changed[leaf].select(dim, entry)
            part.copy_(torch.randn_like(part) if part.is_floating_point() else (part + 1) % 5)
        for count, one, two in zip(times, before, run(changed), strict=True):
            count += ((one - two).abs() > 1e-9) if one.is_floating_point() else (one != two)
    return any(bool((count > 1).any()) for count in times)


class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, ids: Tensor) -> Tensor:
        return self.layer(self.embed(ids))


class Frames(nn.Module):
    """Each frame of a video by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, video: Tensor) -> Tensor:
        batch, steps = video.shape[:2]
        maps = self.conv(video.flatten(0, 1)).mean((-2, -1))
        return maps.view(batch, steps, -1)


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.rnn = kind(6, 4, 2, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


class Scores(nn.Module):
    """Every step with every other, of each sample."""

    def forward(self, x: Tensor) -> Tensor:
        return (x @ x.transpose(1, 2)).sum(-1)


class Written(nn.Module):
    """Step by step into a buffer."""

    def forward(self, x: Tensor) -> Tensor:
        made = torch.zeros(x.shape[0], x.shape[1])
        for step in range(x.shape[1]):
            made[:, step] = x[:, step].sum(-1)
        return made


class WrittenAcross(nn.Module):
    """The first sample into the rows of all."""

    def forward(self, x: Tensor) -> Tensor:
        made = torch.zeros(x.shape[0], x.shape[1])
        made[:] = x[0, :, 0]
        return made + x.sum(-1)


class Masked(nn.Module):
    """Python looks at a mask's values, and at no others."""

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x if bool(mask.all()) else x * mask[:, None]


class Grouped(nn.Module):
    """A kernel for each sample, by groups."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Linear(3, 3 * 4 * 9)

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        kernel = self.kernel(x.mean((2, 3))).view(batch * 4, 3, 3, 3)
        return F.conv2d(x.view(1, batch * 3, height, width), kernel, padding=1, groups=batch).view(
            batch, 4, height, width
        )


class Token(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        with_token = torch.cat([x.new_zeros(x.shape[0], 1, x.shape[2]), x], 1)
        return with_token.softmax(1)[:, 1:]


class Shifted(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - x.roll(1, 0)


CASES: list[tuple[Callable[[], nn.Module], tuple[Tensor, ...], dict[str, bool | None]]] = [
    (lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.LayerNorm(4)), (torch.randn(3, 6),), {"B": True}),
    (Attends, (torch.randint(0, 5, (3, 4)),), {"B": True, "T": False}),
    (Frames, (torch.randn(2, 4, 3, 5, 5),), {"B": True, "C": True, "D": False, "H": False, "W": False}),
    (lambda: Recurrent(nn.LSTM), (torch.randn(3, 4, 6),), {"B": True, "T": False, "F": False}),
    (lambda: Recurrent(nn.GRU), (torch.randn(3, 4, 6),), {"B": True, "T": False, "F": False}),
    (Scores, (torch.randn(3, 4, 6),), {"B": True}),
    (Written, (torch.randn(3, 4, 6),), {"B": True}),
    (WrittenAcross, (torch.randn(3, 4, 6),), {"B": False}),
    (Masked, (torch.randn(3, 6), torch.ones(3, dtype=torch.bool)), {"B": None}),
    (Grouped, (torch.randn(2, 3, 7, 7),), {"B": True, "H": False}),
    (Token, (torch.randn(3, 4, 6),), {"B": True}),
    (Shifted, (torch.randn(3, 4),), {"B": None}),
]


@pytest.mark.parametrize(("build", "inputs", "expected"), CASES)
def test_a_dim_is_separate_where_real_runs_show_it(
    build: Callable[[], nn.Module], inputs: tuple[Tensor, ...], expected: dict[str, bool | None]
) -> None:
    model = build().eval()
    summary = ModelSummary(model, input_data=inputs)
    found = {name: dim.is_separate for name, dim in summary.dims.items()}
    assert expected.items() <= found.items()
    _check_in_real_runs(summary, model, inputs)


def test_a_transformer_mixes_its_tokens_and_not_its_samples() -> None:
    config = BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8)
    model, ids = BertModel(config).eval(), torch.randint(0, 5, (3, 4))
    summary = ModelSummary(model, input_data=(ids,))
    assert summary.dims["B"] == Dim("B", is_separate=True)
    tokens = summary.dims["T"]
    assert tokens.is_separate is False
    assert tokens.where == summary.rows[tokens.row or 0].path
    assert tokens.where.startswith("encoder.layer.0.attention")
    _check_in_real_runs(summary, model, (ids,))


def test_a_batch_norm_mixes_the_samples_in_train_mode() -> None:
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4))
    assert ModelSummary(model.eval(), (3, 6)).dims["B"].is_separate
    assert str(ModelSummary(model.train(), (3, 6)).dims["B"]) == "B: native_batch_norm in 1 reads across it first"


def test_a_batch_of_one_is_made_two_and_other_dims_of_one_are_left_out() -> None:
    dims = ModelSummary(nn.Linear(6, 4), input_data=torch.randn(1, 1, 6)).dims
    assert [(name, dim.is_separate) for name, dim in dims.items()] == [("B", True), ("F", False)]


def _check_in_real_runs(summary: ModelSummary, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    dims = summary.pipeline.batch.names.dims
    for name, dim in summary.dims.items():
        if dim.is_separate:
            places = [(leaf, names.index(name)) for leaf, names in enumerate(dims) if name in names]
            assert not depends_on_several(model, inputs, places), name


class Chain(nn.Module):
    """Some operations one after another, drawn from a list."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def forward(self, x: Tensor) -> Tensor:
        draw = random.Random(self.seed)
        for _ in range(draw.randint(2, 6)):
            x = draw.choice(STEPS)(x, draw)
        return x


def _dim(x: Tensor, draw: random.Random) -> int:
    return draw.randrange(-x.dim(), x.dim())


def _permute(x: Tensor, draw: random.Random) -> Tensor:
    return x.permute(draw.sample(range(x.dim()), x.dim()))


def _fold(x: Tensor, draw: random.Random) -> Tensor:
    dim = draw.randrange(x.dim() - 1)
    return x.flatten(dim, dim + 1) if x.dim() > 2 else x


def _unfold(x: Tensor, draw: random.Random) -> Tensor:
    dim = draw.randrange(x.dim())
    parts = [size for size in range(2, x.shape[dim]) if x.shape[dim] % size == 0]
    return x.unflatten(dim, (draw.choice(parts), -1)) if parts and x.dim() < 5 else x


def _reshape(x: Tensor, draw: random.Random) -> Tensor:
    return x.reshape(draw.sample(list(x.shape), x.dim()))


def _multiply(x: Tensor, draw: random.Random) -> Tensor:
    weight = torch.linspace(-1, 1, x.shape[-1] * 3, dtype=x.dtype).view(x.shape[-1], 3)
    return x @ weight


def _bmm(x: Tensor, draw: random.Random) -> Tensor:
    return x @ x.transpose(-1, -2) if x.dim() > 2 else x


def _write(x: Tensor, draw: random.Random) -> Tensor:
    made, dim = torch.zeros_like(x), draw.randrange(x.dim())
    made.select(dim, 0).copy_(x.select(dim, draw.randrange(x.shape[dim])))
    made.narrow(dim, 1, x.shape[dim] - 1).add_(x.narrow(dim, 1, x.shape[dim] - 1))
    return made


def _expand(x: Tensor, draw: random.Random) -> Tensor:
    return x.unsqueeze(draw.randrange(x.dim() + 1)).expand(*([-1] * x.dim()), -1) if x.dim() < 4 else x


def _attend(x: Tensor, draw: random.Random) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x * 2) if x.dim() > 2 else x


def _gather(x: Tensor, draw: random.Random) -> Tensor:
    dim = draw.randrange(x.dim())
    return x.gather(dim, (x > 0).long() % x.shape[dim])


def _convolve(x: Tensor, draw: random.Random) -> Tensor:
    size = draw.choice([1, 3])
    weight = (
        torch.linspace(-1, 1, 2 * x.shape[1] * size, dtype=x.dtype).view(2, x.shape[1], size) if x.dim() == 3 else None
    )
    return x if weight is None else F.conv1d(x, weight, padding=size // 2)


def _cut(x: Tensor, draw: random.Random) -> Tensor:
    dim = draw.randrange(x.dim())
    return torch.cat(x.chunk(2, dim)[:: draw.choice([1, -1])], draw.choice([dim, 0])) if x.shape[dim] % 2 == 0 else x


STEPS: list[Callable[[Tensor, random.Random], Tensor]] = [
    _permute,
    _fold,
    _unfold,
    _reshape,
    _multiply,
    _bmm,
    _write,
    _expand,
    _attend,
    _gather,
    _convolve,
    _cut,
    lambda x, draw: x.softmax(_dim(x, draw)),
    lambda x, draw: x.sum(_dim(x, draw), keepdim=draw.random() < 0.5) if x.dim() > 2 else x,
    lambda x, draw: x.cumsum(_dim(x, draw)),
    lambda x, draw: x.sort(_dim(x, draw))[0],
    lambda x, draw: x.flip(_dim(x, draw)),
    lambda x, draw: x.select(_dim(x, draw), 0) if x.dim() > 2 else x,
    lambda x, draw: torch.stack([x, x * 2], _dim(x, draw)) if x.dim() < 4 else x,
    lambda x, draw: torch.cat([x, x + 1], _dim(x, draw)),
    lambda x, draw: x.repeat(*(draw.choice([1, 2]) for _ in x.shape)),
    lambda x, draw: x.repeat_interleave(2, _dim(x, draw)),
    lambda x, draw: F.layer_norm(x, x.shape[-1:]),
    lambda x, draw: F.pad(x, (draw.choice([0, 1]), 0)),
    lambda x, draw: x + x.mean(_dim(x, draw), keepdim=True),
    lambda x, draw: x + x.transpose(0, 1) if x.shape[0] == x.shape[1] else x,
    lambda x, draw: x[:, [0, 0]] * 2,
    lambda x, draw: x.narrow(_dim(x, draw), 0, 1) + x,
    lambda x, draw: x.unfold(_dim(x, draw), 2, 1).mean(-1),
]


@pytest.mark.parametrize("seed", range(40))
def test_chains_of_operations_are_separate_where_real_runs_are(seed: int) -> None:
    for each in range(seed * NUM_CHAINS // 40, (seed + 1) * NUM_CHAINS // 40):
        inputs = (torch.rand(random.Random(each).choices([2, 3, 4, 6], k=random.Random(each).randint(2, 4))) - 0.5,)
        try:
            Chain(each)(*inputs)
        except (RuntimeError, IndexError):
            continue
        model = Chain(each)
        _check_in_real_runs(ModelSummary(model, input_data=inputs), model, inputs)
