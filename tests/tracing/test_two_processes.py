"""Two real processes: what one of them summarises does not wait for the other, nor take part in its collectives."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fresh_process import FreshProcesses

START = """
import datetime, json, os, sys, warnings
os.environ["GLOO_SOCKET_IFNAME"] = "lo"
import torch, torch.distributed as dist
from torch import nn
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=rank, world_size=2,
                        timeout=datetime.timedelta(seconds=60))
warnings.simplefilter("ignore")
from modelsummary_ipy import ModelSummary
torch.manual_seed(0)
said = {}
"""
#: The job's own next collective: what a summary of rank 0 had issued would be paired with it.
END = """
total = torch.tensor([100.0 + rank])
dist.all_reduce(total)
said["total"] = total.item()
dist.barrier()
dist.destroy_process_group()
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory, fresh: FreshProcesses) -> list[dict[str, Any]]:
    """What each of two processes of one group left in ``said``: they are started once for all tests."""
    store = tmp_path_factory.mktemp("ranks") / "store"
    ranks = fresh.run_together(START + SHARDED + ROUTES + END, [(str(rank), str(store)) for rank in (0, 1)])
    return [json.loads(rank.stdout.splitlines()[-1]) for rank in ranks]


SHARDED = """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
mesh = init_device_mesh("cpu", (2,))
def build():
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
models = {"tp": parallelize_module(build(), mesh, {"0": ColwiseParallel(), "2": RowwiseParallel()})}
models["fsdp"] = build()
fully_shard(models["fsdp"][0], mesh=mesh)
fully_shard(models["fsdp"], mesh=mesh)
x = torch.randn(4, 64)
for name, model in models.items() if rank == 0 else ():
    ms = ModelSummary(model, x)
    rows = [row.outputs[0].shape for row in ms.rows if row.kind == "module"]
    said[name] = [str(ms.error), ms.engine, rows, ms.total_params, ms.total_mult_adds, ms.constraints]
for name, model in models.items():
    said[name + " runs"] = list(model(x).shape)
"""


@pytest.mark.slow
def test_a_sharded_model_is_summarised_by_one_of_two_processes(said: list[dict[str, Any]]) -> None:
    zero, one = said
    macs = 2 * 4 * 64 * 256
    params = 64 * 256 + 256 + 256 * 64 + 64
    outside, limits = [4, 64], ["F = 64"]
    assert zero["tp"] == ["None", "fake", [outside, [4, 128], [4, 128], outside], params, macs // 2, limits]
    assert zero["fsdp"] == ["None", "fake", [outside, [4, 256], [4, 256], outside], params, macs, limits]
    assert zero["total"] == one["total"] == 201
    assert zero["tp runs"] == one["fsdp runs"] == [4, 64]


ROUTES = """
class Route(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        total = torch.tensor([float((x[:, 0] > 0).sum().item())])
        dist.all_reduce(total)
        return self.fc(x) / (1 + total)

if rank == 0:
    ms = ModelSummary(Route(), torch.randn(4, 8))
    said["engine"], said["reason"], said["fix"] = ms.engine, ms.error.reason, ms.error.fix
both = ModelSummary(Route(), torch.randn(4, 8), engine="real")
said["both"] = both.engine, str(both.error)
"""


@pytest.mark.slow
def test_nothing_is_run_unasked_in_a_group_of_ranks(said: list[dict[str, Any]]) -> None:
    zero, one = said
    assert zero["engine"] == "fake"
    assert "needs tensor values; in a process group of 2 ranks nothing is run for real unasked" in zero["reason"]
    assert zero["fix"] == "engine='real' on every rank at once"
    assert zero["both"] == one["both"] == ["real", "None"]
    assert zero["total"] == one["total"] == 201
