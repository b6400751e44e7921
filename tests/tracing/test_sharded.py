"""Sharded models: rows as hooks see them, parameters counted globally, bytes and MACs of this rank.

One process is rank 0 of a group of 8 or 64 whose collectives do nothing (torch's "fake" backend). What two real
processes do is tried in ``test_two_processes.py``.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, SequenceParallel, parallelize_module
from torch.testing._internal.distributed.fake_pg import FakeStore

from modelsummary_ipy import ModelSummary
from tests.reference import quietly, watch_with_hooks

BYTES = 4
#: Of the two linear layers of ``build_mlp``.
MLP_PARAMS = 64 * 256 + 256 + 256 * 64 + 64


@pytest.fixture(params=[8, 64])
def ranks(request: pytest.FixtureRequest) -> Iterator[int]:
    """Rank 0 of a group of so many."""
    if dist.is_initialized():  # by the case of a distributed model
        dist.destroy_process_group()
    dist.init_process_group("fake", rank=0, world_size=request.param, store=FakeStore())
    torch.manual_seed(0)
    yield request.param
    dist.destroy_process_group()


def build_mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))


class Block(nn.Module):
    """A transformer block whose number of heads is whatever this rank has."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(64), nn.LayerNorm(64)
        self.q, self.k, self.v, self.o = (nn.Linear(64, 64) for _ in range(4))
        self.mlp = build_mlp()

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).unflatten(-1, (-1, 1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        attended = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.o(attended)
        return x + self.mlp(self.norm2(x))  # type: ignore[no-any-return]


class Language(nn.Module):
    """Blocks between an embedding and a head: two on each of 8 ranks, one on each of more."""

    def __init__(self, ranks: int = 8) -> None:
        super().__init__()
        self.emb, self.head = nn.Embedding(128, 64), nn.Linear(64, 128, bias=False)
        self.layers = nn.ModuleList(Block() for _ in range(2 if ranks == 8 else 1))
        self.norm = nn.LayerNorm(64)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.emb(ids)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)).clone()  # type: ignore[no-any-return]


def shard_tensors(mesh: Any, ranks: int) -> nn.Module:
    model = Language(ranks)
    for layer in model.layers:
        plan: Any = {"o": RowwiseParallel(), "mlp.0": ColwiseParallel(), "mlp.2": RowwiseParallel()}
        parallelize_module(layer, mesh, plan | {name: ColwiseParallel() for name in "qkv"})
    emb, head = RowwiseParallel(input_layouts=Replicate()), ColwiseParallel(output_layouts=Replicate())
    return parallelize_module(model, mesh, {"emb": emb, "head": head})


def shard_sequence(mesh: Any, ranks: int) -> nn.Module:
    model = Language(ranks)
    for layer in model.layers:
        plan: Any = {name: ColwiseParallel(input_layouts=Shard(1)) for name in ("q", "k", "v", "mlp.0")}
        plan |= {name: RowwiseParallel(output_layouts=Shard(1)) for name in ("o", "mlp.2")}
        parallelize_module(layer, mesh, plan | {"norm": SequenceParallel(), "norm2": SequenceParallel()})
    emb = RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(1))
    head = ColwiseParallel(input_layouts=Shard(1), output_layouts=Replicate())
    return parallelize_module(model, mesh, {"emb": emb, "norm": SequenceParallel(), "head": head})


def shard_fully(model: Any, mesh: Any) -> nn.Module:
    for layer in model.layers:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def make_mesh(*sizes: int) -> Any:
    return init_device_mesh("cpu", sizes, mesh_dim_names=("dp", "tp")[: len(sizes)])


WAYS: dict[str, Callable[[int], nn.Module]] = {
    "tensor parallel": lambda ranks: shard_tensors(make_mesh(ranks), ranks),
    "sequence parallel": lambda ranks: shard_sequence(make_mesh(ranks), ranks),
    "fsdp2": lambda ranks: shard_fully(Language(ranks), make_mesh(ranks)),
    "hsdp": lambda ranks: shard_fully(Language(ranks), make_mesh(2, ranks // 2)),
    "2-d": lambda ranks: shard_fully(shard_tensors((mesh := make_mesh(2, ranks // 2))["tp"], ranks), mesh["dp"]),
}


def count_local_bytes(model: nn.Module) -> int:
    """Sum the bytes of the parameters' parts, as torch's public method gives them."""
    return sum(
        (param.to_local() if isinstance(param, DTensor) else param).numel() * BYTES for param in model.parameters()
    )


def modules_of(ms: ModelSummary) -> list[tuple[str, list[tuple[int, ...]], list[tuple[int, ...]]]]:
    rows = [row for row in ms.rows if row.kind == "module" and row.status == "ran"]
    return [(row.path, [spec.shape for spec in row.inputs], [spec.shape for spec in row.outputs]) for row in rows]


def count_by_hand(ranks: int, way: str) -> int:
    """Count the multiply-adds of two texts of ``2 * ranks`` tokens on one rank."""
    tokens, length = 2 * 2 * ranks, 2 * ranks
    split = {"fsdp2": 1, "hsdp": 1, "2-d": ranks // 2}.get(way, ranks)  # tensor parallel ranks share each layer
    layer = 4 * 64 * 64 + 2 * 64 * 256 + 2 * 64 * length  # projections, MLP, scores and what they weigh
    return tokens * (len(Language(ranks).layers) * layer + 64 * 128) // split


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine", ["fake", "real"])
def test_rows_equal_hooks_parameters_are_global_and_mult_adds_this_ranks(ranks: int, way: str, engine: Any) -> None:
    model, ids = WAYS[way](ranks), torch.randint(0, 128, (2, 2 * ranks))
    whole = sum(param.numel() for param in Language(ranks).parameters())
    local = count_local_bytes(model)
    with quietly():
        # FSDP2's first forward would be this one; AdamW's step on shards takes longest, so 8 ranks alone have it
        ms = ModelSummary(model, ids, engine=engine, optimizer="adamw" if ranks == 8 else "sgd")
        assert ms.error is None
        assert ms.flags == ()
        assert "internal" not in str(ms)
        calls, _ = watch_with_hooks(model, "forward", (ids,), {})
    assert ms.total_mult_adds == count_by_hand(ranks, way)
    assert modules_of(ms) == [(call.names[0], list(call.inputs), list(call.outputs)) for call in calls]
    assert ms.total_params == ms.trainable_params == whole
    assert ms.memory is not None
    assert ms.memory.param_bytes == ms.memory.gradient_bytes == local
    assert ms.unknown_ops == ()


def test_a_model_says_what_is_global_and_what_is_this_ranks(ranks: int) -> None:
    plan: Any = {"0": ColwiseParallel(), "2": RowwiseParallel()}
    model = parallelize_module(build_mlp(), make_mesh(ranks), plan)
    ms = ModelSummary(model, torch.randn(4, 64))
    here = 64 * 256 // ranks + 256 // ranks + 256 * 64 // ranks + 64
    line = f"sharded over {ranks} ranks: parameters are counted globally, {here:,} of them are on this rank"
    assert line in str(ms)
    assert line in ms.to_html()
    assert ms.total_params == MLP_PARAMS
    assert ms.total_mult_adds == 4 * 2 * 64 * 256 // ranks
    assert ModelSummary(build_mlp(), torch.randn(4, 64)).to_text().count("sharded") == 0


def test_the_module_tree_alone_is_read(ranks: int) -> None:
    model = shard_tensors(make_mesh(ranks), ranks)
    ms = ModelSummary(model, engine="static")
    assert ms.total_params == sum(param.numel() for param in Language(ranks).parameters())
    assert ms["layers.0.q"].own_params == 64 * 64 + 64


def test_other_sizes_keep_the_placements(ranks: int) -> None:
    mesh = make_mesh(ranks)
    model = distribute_module(nn.Sequential(nn.Linear(64, 32)), mesh)

    def make(batch: int) -> Tensor:
        return distribute_tensor(torch.randn(batch, 64), mesh, [Shard(0)])

    ms = ModelSummary(model, make(ranks))
    assert tuple(model(make(2 * ranks)).shape) == (2 * ranks, 32)
    assert ms.constraints == ("F = 64",)
    assert [formula for formula in ms.formulas.values() if formula] != []
    assert all("B" in str(formula) for formula in ms.formulas.values() if formula)


def test_activations_are_this_ranks(ranks: int) -> None:
    mesh = make_mesh(ranks)
    model = distribute_module(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 8)), mesh)
    x = distribute_tensor(torch.randn(2 * ranks, 64), mesh, [Shard(0)])
    ms = ModelSummary(model, x)
    assert ms.memory is not None
    assert ms.memory.input_bytes == 2 * 64 * BYTES
    assert ms.memory.activation_bytes == 2 * (64 + 32) * BYTES  # the input, and what ReLU gives


def test_nothing_of_a_sharded_model_is_touched_or_kept(ranks: int) -> None:
    from torch.distributed import _composable_state

    model: Any = shard_fully(Language(ranks), make_mesh(ranks))
    params = [(name, id(param), param.to_local().clone()) for name, param in model.named_parameters()]
    gc.collect()
    states = set(map(id, _composable_state._module_state_mapping))
    with quietly():
        ms = ModelSummary(model, torch.randint(0, 128, (2, 8)))
        str(ms)
    assert [(name, id(param)) for name, param in model.named_parameters()] == [param[:2] for param in params]
    assert all(
        torch.equal(param.to_local(), before[2]) for before, param in zip(params, model.parameters(), strict=True)
    )
    assert model._get_fsdp_state()._is_root is None  # its first forward is still to come
    del ms
    gc.collect()
    assert set(map(id, _composable_state._module_state_mapping)) <= states  # those of earlier tests may go


@pytest.mark.parametrize("ranks", [8], indirect=True)
def test_an_operation_on_shards_that_fails_is_not_tried_for_real(ranks: int) -> None:
    mesh = make_mesh(ranks)
    model = distribute_module(nn.Sequential(nn.Linear(32, 8)), mesh)
    ms = ModelSummary(model, distribute_tensor(torch.randn(8, 64), mesh, [Shard(1)]))
    assert ms.error is not None
    assert ms.engine == "fake"
    assert "Linear" in str(ms.error)
