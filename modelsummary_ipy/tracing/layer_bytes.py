"""What a layer that was run did to storages, to be written down again for one like it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelsummary_ipy.records.trace import Call
from modelsummary_ipy.tracing.storages import Storages


class LayerBytes(NamedTuple):
    """The storages that a layer made, and what autograd saved of it.

    Attributes:
        number: How many storages it made.
        peak: How many bytes of them lived at once; ``None`` if it made none.
        saved: Of each storage that was saved its number among these and its bytes, or the number of the input whose it
            is, and ``None``.
        outputs: The number of each output's storage among these.
    """

    number: int
    peak: int | None
    saved: tuple[tuple[int, int | None], ...]
    outputs: tuple[int, ...]

    @classmethod
    def read(
        cls, begin: tuple[int, int], storages: Storages, call: Call, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> LayerBytes | None:
        """Read off what a layer did that has just ended; ``None`` if it can't be repeated by numbers alone.

        Args:
            begin: What ``storages.state`` was before it.
            call: Its call.
            inputs, outputs: What it got and gave.
        """
        first, before = begin
        end, live = storages.state
        given = [known.number for tensor in inputs if (known := storages.find(tensor)) is not None]
        made = [known for tensor in outputs if (known := storages.find(tensor)) is not None and known.number >= first]
        is_closed = len(given) == len(inputs) and len(made) == len(outputs)
        if not is_closed or live - before != sum(known.counted for known in made):
            return None
        saved: list[tuple[int, int | None]] = []
        for storage, nbytes in call.saved:
            if storage >= first:
                saved.append((storage - first, nbytes))
            elif storage in given:
                saved.append((given.index(storage), None))
            else:
                return None
        peak = None if call.live_bytes is None else call.live_bytes - before
        return cls(end - first, peak, tuple(saved), tuple([known.number - first for known in made]))

    def repeat(
        self, storages: Storages, inputs: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> tuple[tuple[tuple[int, int], ...], int | None]:
        """Number the storages of a layer like it.

        Returns:
            The storages that autograd would save, as ``Call.saved``, and the most bytes that would live meanwhile.
        """
        first, live = storages.state
        saved: list[tuple[int, int]] = []
        for place, nbytes in self.saved:
            if nbytes is None:
                known = storages.find(inputs[place])
                assert known is not None
                saved.append((known.number, known.nbytes))
            else:
                saved.append((first + place, nbytes))
        storages.add(self.number, self.peak or 0, list(zip(outputs, self.outputs, strict=True)))
        return tuple(saved), None if self.peak is None else live + self.peak


class GraphAsked(Exception):  # no mistake of anybody's
    """The forward goes backward through a layer that was not run."""


class Repeated(torch.autograd.Function):
    """Gives what a layer that is not run would give a history: of its inputs and weights, and nothing to go back by."""

    @staticmethod
    def forward(ctx: Any, make: Callable[[], Any], note: Callable[[], None], *_: Tensor) -> Any:
        """Make the output.

        Args:
            make: Makes it.
            note: Is called if the forward goes backward.
        """
        ctx.note = note
        return make()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        """Note that what was not kept is needed."""
        ctx.note()
        raise GraphAsked
