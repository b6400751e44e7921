"""What the models of several files of the corpus are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.size import Size

__all__ = ["Heads", "Made", "WordHeads", "numbers"]


def numbers(*shape: int) -> Size:
    """Return the size of an input of integers."""
    return Size(shape, dtype="int64")


class Made(nn.Module):
    """A model of the layers that its class names."""

    def __init__(self) -> None:
        super().__init__()
        for name, layer in self.make().items():
            setattr(self, name, layer)

    def make(self) -> dict[str, Any]:
        """Return the layers by name."""
        raise NotImplementedError


class Heads(Made):
    """Queries, keys and values of four heads, 16 numbers each."""

    def make(self) -> dict[str, Any]:
        return {"qkv": nn.Linear(64, 192), "out": nn.Linear(64, 64)}

    def cut(self, x: Tensor) -> list[Tensor]:
        """Return queries, keys and values of ``(B, T, 64)``: each ``(B, 4, T, 16)``."""
        b, t, _ = x.shape
        return [part.view(b, t, 4, 16).transpose(1, 2) for part in self.qkv(x).chunk(3, -1)]

    def join(self, scores: Tensor, values: Tensor) -> Tensor:
        """Return what the heads make of their values."""
        return self.out((torch.softmax(scores, -1) @ values).transpose(1, 2).flatten(2))


class WordHeads(Heads):
    """The same behind a table of words, of which 0 is padding."""

    def make(self) -> dict[str, Any]:
        return {"words": nn.Embedding(50, 64, padding_idx=0), **super().make()}
