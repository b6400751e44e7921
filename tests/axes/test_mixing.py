"""What every entry says of which entries its results depend on, against torch with one entry of an operand changed.

A few calls of each operation run with all other tests; ``AXES_CASES=1000`` runs as many.
"""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from modelsummary_ipy.axes.mixing_op import At, State, follow
from modelsummary_ipy.records.op_events import OpEvent
from modelsummary_ipy.tracing.op_log import OpLog
from tests.axes.calls import CALLS
from tests.axes.draw import Dim, Draw

NUM_CALLS = int(os.environ.get("AXES_CASES", "4"))
SIZES = {"A": 2, "B": 3, "C": 4, "D": 6}
#: Of a larger axis, not every entry is changed.
MOST_ENTRIES = 24
#: As many are drawn of the dims that the operands of a call may have.
MOST_DIMS = 4
#: What is not written by them has any values; of an alias no strides are drawn that belong to its sizes.
NOT_COMPARED = {"empty_like", "new_empty", "new_empty_strided", "_grouped_mm", "_reshape_alias"}
#: What a kernel refuses a drawn call with; some draw indices outside of small tensors.
_REFUSALS = (RuntimeError, IndexError, ValueError)


class Followed(NamedTuple):
    """One dim that an operand of a call has.

    Attributes:
        operand: Which tensor.
        at: Where the dim is in it.
        num: Its size.
    """

    operand: int
    at: At
    num: int

    def entries(self, length: int, number: int) -> list[int]:
        """Return the places along an axis that belong to one entry of the dim."""
        return [place for place in range(length) if place // self.at.inner % self.num == number]


class Changed(Draw):
    """A drawn call with random values, of which those of one entry of a dim are others."""

    def __init__(self, seed: int, followed: Followed | None = None, number: int = 0) -> None:
        super().__init__(seed, SIZES, device="cpu")
        self._values = torch.Generator().manual_seed(seed)
        self._followed = followed
        self._number = number

    def tensor(self, dims: Iterable[int], dtype: torch.dtype = torch.float32) -> Tensor:
        made = super().tensor(dims, dtype)
        values, others = self._draw(made), self._draw(made)
        if not dtype.is_floating_point and not dtype.is_complex:
            others = 1 - values
        made.copy_(values)
        if self._followed is not None and len(self.tensors) - 1 == self._followed.operand:
            place = self._followed.at.place
            which = torch.tensor(self._followed.entries(made.shape[place], self._number))
            made.index_copy_(place, which, others.index_select(place, which).to(dtype))
        return made

    def _draw(self, made: Tensor) -> Tensor:
        values = torch.rand(made.shape, generator=self._values)
        return values if made.is_floating_point() or made.is_complex() else (values < 0.5).long()


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, Dim) else value


def run(name: str, draw: Changed) -> tuple[OpEvent, list[int], list[Tensor]] | None:
    """Run a call and write it down, with the numbers of its tensors and what it made; ``None`` if it is refused."""
    log = OpLog(lambda: SimpleNamespace(index=0), {})  # type: ignore[arg-type, return-value]  # no call is running
    torch.manual_seed(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            func, args, kwargs = tree_map(_plain, CALLS[name](draw))
            numbers = [log.refer(tensor).number for tensor in draw.tensors]
            output = func(*args, **kwargs)
    except (*_REFUSALS, NotImplementedError):
        return None
    log.record(func, args, kwargs, output)
    leaves = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
    return log.finish([]).events[-1], numbers, [leaf.clone() for leaf in leaves]


def changes(name: str, seed: int, followed: Followed, before: list[Tensor]) -> list[Tensor] | None:
    """Return for each result which of its entries change with which of the dim: ``(num, *shape)``."""
    found = [torch.zeros((followed.num, *made.shape), dtype=torch.bool) for made in before]
    for number in range(followed.num):
        ran = run(name, Changed(seed, followed, number))
        if ran is None or [made.shape for made in ran[2]] != [made.shape for made in before]:
            return None
        for each, one, two in zip(found, before, ran[2], strict=True):
            each[number] = ~torch.isclose(one, two, 1e-5, 1e-6, equal_nan=True)
    return found


def is_true(state: State, changed: Tensor, followed: Followed) -> bool:
    """Return whether what is said of a result agrees with which of its entries change; if nothing is, it does."""
    if state is None:
        return not changed.any()
    if not isinstance(state, At):
        return True
    if state.inner == 0:
        return bool((changed.sum(0) <= 1).all())
    there = Followed(0, state, followed.num)
    length = changed.shape[1 + state.place]
    for number in range(followed.num):
        others = [place for place in range(length) if place not in there.entries(length, number)]
        if changed[number].index_select(state.place, torch.tensor(others, dtype=torch.int64)).any():
            return False
    return True


def draw_dims(event: OpEvent, rng: random.Random) -> list[Followed]:
    """Draw dims that the operands may have: whole axes, and axes in which entries follow each other, or come again."""
    found = []
    for operand, ref in enumerate(event.refs):
        for place, size in enumerate(ref.shape):
            if 1 < size <= MOST_ENTRIES:
                found.append(Followed(operand, At(place), size))
                parts = [part for part in range(2, size) if size % part == 0]
                if parts:
                    num = rng.choice(parts)
                    found.append(Followed(operand, At(place, rng.choice([1, size // num])), num))
    return rng.sample(found, min(len(found), MOST_DIMS))


@pytest.mark.parametrize("name", sorted(CALLS.keys() - NOT_COMPARED))
def test_an_entry_says_which_entries_results_depend_on(name: str) -> None:
    for number in range(NUM_CALLS):
        seed = random.Random(f"{name} {number}").randrange(2**40)
        ran = run(name, Changed(seed))
        if ran is None:
            continue
        event, numbers, before = ran
        for followed in draw_dims(event, random.Random(seed)):
            states = follow(0, event, followed.operand, followed.at, followed.num)
            drawn = followed._replace(operand=numbers.index(event.refs[followed.operand].number))
            changed = changes(name, seed, drawn, before)
            for state, each in zip(states, changed, strict=True) if changed is not None else ():
                assert is_true(state, each, followed), (event, followed, state)
