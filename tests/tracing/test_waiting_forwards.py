"""Forwards that are generators or coroutines: they run to their end, or say what they wait for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary


class Yields(nn.Module):
    """A forward that gives its steps one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.lin = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Any:
        for _ in range(3):
            x = self.lin(x)
            yield x


class Awaits(Yields):
    """A forward that is a coroutine, and waits for nothing."""

    async def forward(self, x: Tensor) -> Any:
        return self.lin(x)


class Gathers(Yields):
    """A forward that waits for a moment, for tasks of its own and for a coroutine below it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Awaits()

    async def run_once(self, x: Tensor) -> Tensor:
        await asyncio.sleep(0.001)
        return self.lin(x)  # type: ignore[no-any-return]

    async def forward(self, x: Tensor) -> Any:
        left, right = await asyncio.gather(self.run_once(x), self.run_once(x))
        self.left_over = asyncio.ensure_future(asyncio.sleep(1000))
        return await self.inner(left + right)


class YieldsLater(Yields):
    """A forward that gives its steps one by one, and waits between them."""

    async def forward(self, x: Tensor) -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
            x = self.lin(x)
            yield x


class WaitsForNobody(Yields):
    """A forward that waits for what does not come."""

    async def forward(self, x: Tensor) -> Any:
        await asyncio.Event().wait()
        return self.lin(x)


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_a_forward_that_is_a_generator_runs_to_its_end(engine: Any) -> None:
    ms = ModelSummary(Yields(), (2, 4), engine=engine)
    assert [row.path for row in ms.rows if row.kind == "module"] == ["", "lin", "lin", "lin"]
    assert [spec.name for spec in ms.rows[0].outputs] == ["[0]", "[1]", "[2]"]
    assert ms.total_mult_adds == 3 * 2 * 4 * 4


def test_a_forward_that_is_a_coroutine_runs() -> None:
    ms = ModelSummary(Awaits(), (2, 4))
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (2, 4)
    assert ms.total_mult_adds == 2 * 4 * 4


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_a_forward_that_waits_runs_on_a_loop_of_its_own(engine: Any) -> None:
    ms = ModelSummary(Gathers(), (2, 4), engine=engine)
    assert ms.error is None
    assert [row.path for row in ms.rows if row.kind == "module"] == ["", "lin", "lin", "inner", "inner.lin"]
    assert ms.total_mult_adds == 3 * 2 * 4 * 4

    async def summarise() -> tuple[Any, ...]:
        mine, loop = asyncio.current_task(), asyncio.get_running_loop()
        shape = ModelSummary(Gathers(), (2, 4), engine=engine).rows[0].outputs[0].shape
        assert (asyncio.current_task(), asyncio.get_running_loop()) == (mine, loop)
        assert asyncio.all_tasks() == {mine}  # none of the forward's
        return await asyncio.sleep(0, shape)

    assert asyncio.run(summarise()) == (2, 4)


def test_a_forward_that_yields_and_waits_runs_to_its_end() -> None:
    ms = ModelSummary(YieldsLater(), (2, 4))
    assert [spec.name for spec in ms.rows[0].outputs] == ["[0]", "[1]", "[2]"]
    assert ms.total_mult_adds == 3 * 2 * 4 * 4


def test_a_forward_that_waits_for_what_does_not_come_says_so() -> None:
    ms = ModelSummary(WaitsForNobody(), (2, 4))
    assert ms.error is not None
    assert "waits for something outside it" in ms.error.reason
