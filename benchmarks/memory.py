"""Peak memory of a training step with AdamW: ours and the peers', beside a real step's on the CPU, with seconds.

Accelerate's estimate is a formula, four times the parameters (``accelerate estimate-memory``, "training using Adam");
torchinfo's is its "estimated total size", of a forward and the gradients that it assumes.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import Case, Example
from tests.tracing.real_step import run_real_step, sum_outputs

_MB = 1e6


def _transformer(name: str, *, checkpoints: bool = False, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        model = getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings)).train()
        if checkpoints:
            model.gradient_checkpointing_enable()
        return model

    return build


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(1024, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 10))


IDS = torch.int64
SMALL = {"n_layer": 6, "n_embd": 384, "n_head": 6, "vocab_size": 8000, "use_cache": False}
CASES = (
    Case("two convolutions 8×64²", Example, (8, 1, 64, 64)),
    Case("perceptron 256", _perceptron, (256, 1024)),
    Case("ResNet-50 4×128²", _transformer("ResNet"), (4, 3, 128, 128)),
    Case("ConvNeXt-T 2×128²", _transformer("ConvNext"), (2, 3, 128, 128)),
    Case("BERT-base 4×64", _transformer("Bert"), (4, 64), IDS),
    Case("ViT-B/16 2×224²", _transformer("ViT"), (2, 3, 224, 224)),
    Case("GPT 4×256", _transformer("GPT2", **SMALL), (4, 256), IDS),
    Case("GPT 4×256, checkpoints", _transformer("GPT2", checkpoints=True, **SMALL), (4, 256), IDS),
)


def _adamw(params: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(params, foreach=True)


def measure_real(case: Case) -> float:
    """The bookkeeping of a real step, to which ours is equal in the tests."""
    return max(run_real_step(case.build(), (case.make_input(),), optimizer=_adamw).live)


def measure_ours(case: Case) -> float:
    from modelsummary_ipy import ModelSummary

    peak = ModelSummary(case.build(), input_data=case.make_input()).training.peak_bytes
    return float("nan") if peak is None else peak


def measure_mem_tracker(case: Case) -> float:
    """Torch's own, over two steps on fakes."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    with FakeTensorMode():
        model, data = case.build(), case.make_input()
        optimizer = _adamw(model.parameters())
        tracker = MemTracker()
        tracker.track_external(model, optimizer, data)
        with tracker:
            for _ in range(2):
                tracker.reset_mod_stats()
                output = model(data)
                loss: Tensor = sum_outputs(output)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                del output, loss
        peak = tracker.get_tracker_snapshot("peak")
    return max(each["Total"] for each in peak.values())


def measure_accelerate(case: Case) -> float:
    """Parameters, gradients and two states of Adam, whatever the input."""
    return 4 * sum(tensor.nbytes for tensor in case.build().state_dict().values())


def measure_torchinfo(case: Case) -> float:
    from torchinfo import summary

    found = summary(case.build(), input_data=case.make_input(), verbose=0)
    return found.total_input + found.total_output_bytes + found.total_param_bytes


TOOLS: dict[str, Callable[[Case], float]] = {
    "a real step": measure_real,
    "ours": measure_ours,
    "MemTracker": measure_mem_tracker,
    "accelerate": measure_accelerate,
    "torchinfo": measure_torchinfo,
}


def main(words: Sequence[str]) -> None:
    """Print the table; words choose the cases whose names hold one of them."""
    torch.set_num_threads(1)
    measure_ours(CASES[0])  # loads what a first trace loads
    print("MB at the peak, its part of the real step's, and seconds with the building of the model\n")
    print(f"{'case':26}{'tool':14}{'MB':>10}{'× real':>10}{'s':>8}")
    for case in CASES:
        if words and not any(word.lower() in case.name.lower() for word in words):
            continue
        real = float("nan")
        for name, measure in TOOLS.items():
            began = time.perf_counter()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    nbytes = measure(case)
            except Exception as error:  # noqa: BLE001  # a peer that can't do a model is a line of the table
                print(f"{case.name:26}{name:14}{f'fails: {type(error).__name__}':>20}", flush=True)
                continue
            real = nbytes if name == "a real step" else real
            seconds = time.perf_counter() - began
            print(f"{case.name:26}{name:14}{nbytes / _MB:10.1f}{nbytes / real:10.3f}{seconds:8.1f}", flush=True)
        print()
