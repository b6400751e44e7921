"""Compare the peak and the reserved bytes of a training step with what a GPU's allocator counts, on ten models.

Without a GPU at hand it says so. A model that runs out of memory, or does not begin within the time, is a line too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary

__all__ = ["CASES", "Cuda", "Device", "GpuCase", "main", "measure"]

_SECONDS = 270.0
_STEPS = 3


class Device(Protocol):
    """A device whose allocator counts."""

    name: str

    def reset(self) -> None:
        """Give everything back, and count peaks from now on."""

    def read(self) -> tuple[int, int]:
        """Return the peaks of what was given out and of what was reserved."""


class Cuda:
    """The GPU that this process sees first."""

    name = "cuda"

    def reset(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def read(self) -> tuple[int, int]:
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


@dataclass(frozen=True)
class GpuCase:
    """A model, its one input, and how it is trained."""

    name: str
    build: Callable[[], nn.Module]
    size: tuple[int, ...]
    most: int = 0
    precision: str = "as is"

    def make_input(self, device: str) -> Tensor:
        """Make the input: ids below ``most``, or noise."""
        if self.most:
            return torch.randint(self.most, self.size, device=device)
        return torch.randn(self.size, device=device)


def _stock(kind: str, **settings: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        config, model = kind.split("/")
        made: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**settings))
        return made.train()

    return build


def _convolutions() -> nn.Module:
    layers: list[nn.Module] = []
    for before, after in ((3, 64), (64, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 4096), nn.GELU(), nn.Linear(4096, 10))


_NO_CACHE = {"use_cache": False}
CASES = (
    GpuCase("perceptron", _perceptron, (1024, 1024)),
    GpuCase("convolutions", _convolutions, (16, 3, 128, 128)),
    GpuCase("ResNet-50", _stock("ResNetConfig/ResNetForImageClassification"), (32, 3, 224, 224)),
    GpuCase("ViT-B/16", _stock("ViTConfig/ViTModel"), (16, 3, 224, 224)),
    GpuCase("BERT-base", _stock("BertConfig/BertModel"), (16, 128), 30000),
    GpuCase("BERT-base, bf16-mixed", _stock("BertConfig/BertModel"), (16, 128), 30000, "bf16-mixed"),
    GpuCase("GPT-2", _stock("GPT2Config/GPT2LMHeadModel", **_NO_CACHE), (4, 512), 50000),
    GpuCase("Llama, 8 layers", _stock(
        "LlamaConfig/LlamaForCausalLM", hidden_size=1024, intermediate_size=2816, num_hidden_layers=8,
        num_attention_heads=16, vocab_size=32000, **_NO_CACHE,
    ), (4, 512), 32000),
    GpuCase("encoder", lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(512, 8, batch_first=True), 6),
            (32, 256, 512)),
    GpuCase("ConvNeXt-T", _stock("ConvNextConfig/ConvNextModel"), (32, 3, 224, 224)),
)  # fmt: skip


def measure(case: GpuCase, device: Device) -> tuple[int, int, int, int]:
    """Run steps of training on a device, and trace one on fakes.

    Returns:
        Peak as traced and as counted, reserved as estimated and as counted; what was there before is left out.
    """
    torch.manual_seed(0)
    model = case.build().to(device.name)
    x = case.make_input(device.name)
    step = ModelSummary(model, x, precision=case.precision).training
    if step.peak_bytes is None or step.reserved_bytes is None:
        raise RuntimeError(step.reason)
    optimizer = torch.optim.AdamW(model.parameters(), foreach=True)
    device.reset()
    for _ in range(_STEPS):
        with torch.autocast(device.name, dtype=torch.bfloat16, enabled=case.precision == "bf16-mixed"):
            loss = _sum(model(x))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    allocated, reserved = device.read()
    return step.peak_bytes, allocated, step.reserved_bytes, reserved


def _sum(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output.sum()
    values = output.values() if isinstance(output, dict) else output
    total: Tensor = sum(value.sum() for value in values if isinstance(value, Tensor) and value.requires_grad)
    return total


def main(words: Sequence[str], device: Device | None = None) -> None:
    """Print a line a model: MiB as traced and as counted, and their ratios."""
    if device is None:
        if not torch.cuda.is_available():
            print("no GPU at hand: torch.cuda.is_available() is false, so nothing was compared")
            return
        device = Cuda()
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(f"{'MiB':<24}{'peak':>10}{'counted':>10}{'ratio':>8}{'reserved':>10}{'counted':>10}{'ratio':>8}")
    until = time.monotonic() + _SECONDS
    for case in CASES:
        if words and not any(word.lower() in case.name.lower() for word in words):
            continue
        if time.monotonic() > until:
            print(f"{case.name:<24}not begun after {_SECONDS:.0f} s")
            continue
        try:
            peak, allocated, reserved, counted = measure(case, device)
        except RuntimeError as error:  # out of memory is one
            print(f"{case.name:<24}{type(error).__name__}: {str(error).splitlines()[0][:80]}")
            continue
        ratios = peak / allocated, reserved / counted
        print(
            f"{case.name:<24}{peak / 2**20:>10,.0f}{allocated / 2**20:>10,.0f}{ratios[0]:>8.3f}"
            f"{reserved / 2**20:>10,.0f}{counted / 2**20:>10,.0f}{ratios[1]:>8.3f}",
            flush=True,
        )
