"""Which function draws the calls of an aten operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.axes.draw import Call, Draw

__all__ = ["CALLS", "ON_CPU", "call", "overload"]

Sampler = Callable[[Draw], Call]
CALLS: dict[str, Sampler] = {}
#: Operations without a kernel on ``meta``, and those whose own kernel is faster than the rule for ``meta``.
ON_CPU = {
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "fake_quantize_per_tensor_affine_cachemask",
    "upsample_bicubic2d",
    "index",
    "_unsafe_index",
}
if not torch._C._dispatch_has_kernel_for_dispatch_key("aten::_convolution", "Meta"):
    ON_CPU.add("_convolution")


def overload(name: str, which: str = "") -> Any:
    """Return an overload of an operation, the first one that takes tensors if none is named."""
    packet = getattr(torch.ops.aten, name)
    return getattr(packet, which or _first(packet))


def _first(packet: Any) -> str:
    fits = [
        each
        for each in packet.overloads()
        if any("Tensor" in str(a.type) for a in getattr(packet, each)._schema.arguments)
        and not any(word in each for word in ("out", "dimname", "names", "generator"))
    ]
    return str("default" if "default" in fits else "Tensor" if "Tensor" in fits else fits[0])


def call(names: str, *, in_place: bool = False) -> Callable[[Callable[[str, Draw], Call]], Callable[[str, Draw], Call]]:
    """Register how operations are called; ``in_place``: and those that write into their first tensor."""

    def register(sample: Callable[[str, Draw], Call]) -> Callable[[str, Draw], Call]:
        for name in names.split():
            twin = f"{name}_" if in_place and hasattr(torch.ops.aten, f"{name}_") else name
            for each in {name, twin}:
                if in_place:
                    ON_CPU.add(each)
                CALLS[each] = lambda draw, each=each: sample(each, draw)  # type: ignore[misc]
        return sample

    return register
