"""Forwards that return before they have run: generators, coroutines and both at once are run to their end."""

from __future__ import annotations

import asyncio
import itertools
import selectors
import time
from collections.abc import Coroutine
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

#: Most items that a forward that is a generator is run for.
_MOST_ITEMS = 1000
#: Seconds that a coroutine may wait for what is not ready, a sleep or another task.
_LONGEST_WAIT = 2.0


def run_to_end(output: Any) -> Any:
    """Return what a forward gives: of a generator its items, of a coroutine its result.

    Raises:
        RuntimeError: If a coroutine waits for what does not come.
    """
    if isinstance(output, GeneratorType):
        return list(itertools.islice(output, _MOST_ITEMS))
    if isinstance(output, AsyncGeneratorType):
        return _run_coroutine(_list_items(output))
    return _run_coroutine(output) if isinstance(output, CoroutineType) else output


async def _list_items(generator: AsyncGeneratorType[Any, None]) -> list[Any]:
    items = []
    async for item in generator:
        items.append(item)
        if len(items) == _MOST_ITEMS:
            break
    await generator.aclose()
    return items


class _BriefWaits(selectors.DefaultSelector):
    """Waits for a loop's events, but for no longer than a limit in all."""

    def __init__(self) -> None:
        super().__init__()
        self._left = _LONGEST_WAIT

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and timeout <= 0:
            return super().select(timeout)
        began = time.monotonic()
        ready = super().select(self._left if timeout is None else min(timeout, self._left))
        self._left -= time.monotonic() - began
        if self._left <= 0:
            self._left = _LONGEST_WAIT  # for what the forward does when it is cancelled
            raise RuntimeError("the forward waits for something outside it, which a summary does not provide")
        return ready


def _run_coroutine(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of its own, also where this thread runs one, as a notebook's does."""
    outer = asyncio._get_running_loop()
    task = None if outer is None else asyncio.current_task(outer)
    loop = asyncio.SelectorEventLoop(_BriefWaits())
    if outer is not None and task is not None:
        asyncio.tasks._leave_task(outer, task)
    asyncio._set_running_loop(None)
    try:
        return loop.run_until_complete(work)
    finally:
        try:
            loop.run_until_complete(_cancel_all(loop))
        finally:
            loop.close()
            asyncio._set_running_loop(outer)
            if outer is not None and task is not None:
                asyncio.tasks._enter_task(outer, task)


async def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """End what the forward started and did not wait for."""
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
