"""What a first summary needs is imported while the kernel waits, and nothing else happens then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

from modelsummary_ipy.notebook import idle_imports
from modelsummary_ipy.notebook.idle_imports import IdleImports

LAST = "modelsummary_ipy.display.render.html"


@pytest.fixture
def imported(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was imported, where each part notes its name only."""
    names: list[str] = []
    parts = tuple((lambda name=name: names.append(name)) for name in ("one", "two"))
    monkeypatch.setattr(idle_imports, "_PARTS", parts)
    monkeypatch.setattr(idle_imports, "_IDLE_SECONDS", 0.0)
    return names


def run_cells(shell: Any, codes: list[str], made: Callable[[], IdleImports]) -> IdleImports:
    """Run cells in a loop, one after the other without a pause, then let the loop wait."""

    async def run() -> IdleImports:
        found = made()
        for code in codes:
            shell.run_cell(code)
        for _ in range(20):
            await asyncio.sleep(0.001)
        return found

    return asyncio.run(run())


@pytest.fixture
def kernel_shell(bare_shell: InteractiveShell) -> Iterator[InteractiveShell]:
    """A shell that takes itself for a kernel's."""
    bare_shell.kernel = object()
    yield bare_shell
    del bare_shell.kernel


def test_parts_are_imported_after_the_last_cell_and_then_it_asks_no_more(
    kernel_shell: InteractiveShell, imported: list[str]
) -> None:
    hooked = dict.fromkeys(("pre_run_cell", "post_run_cell"))
    before = {name: list(kernel_shell.events.callbacks[name]) for name in hooked}
    run_cells(kernel_shell, ["import torch", "1"], lambda: IdleImports(kernel_shell, lambda: True))
    assert imported == ["one", "two"]
    assert {name: kernel_shell.events.callbacks[name] for name in hooked} == before


def test_nothing_is_imported_where_it_is_turned_off(kernel_shell: InteractiveShell, imported: list[str]) -> None:
    found = run_cells(kernel_shell, ["import torch"], lambda: IdleImports(kernel_shell, lambda: False))
    assert imported == []
    found.close()


def test_nothing_is_imported_before_torch(
    kernel_shell: InteractiveShell, imported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(idle_imports.sys.modules, "torch", raising=False)
    found = run_cells(kernel_shell, ["1"], lambda: IdleImports(kernel_shell, lambda: True))
    monkeypatch.undo()
    assert imported == []
    found.close()


def test_nothing_is_imported_in_a_terminal(bare_shell: InteractiveShell, imported: list[str]) -> None:
    run_cells(bare_shell, ["import torch"], lambda: IdleImports(bare_shell, lambda: True)).close()
    assert imported == []


def test_while_a_cell_runs_nothing_is_about_to_be_imported(kernel_shell: InteractiveShell, imported: list[str]) -> None:
    def make() -> IdleImports:
        kernel_shell.user_ns["timers"], kernel_shell.user_ns["idle"] = (
            [],
            (made := IdleImports(kernel_shell, lambda: True)),
        )
        return made

    run_cells(kernel_shell, ["import torch", "timers.append(idle._timer)"], make)
    assert kernel_shell.user_ns["timers"] == [None]
    assert imported == ["one", "two"]


SETUP = """
%load_ext modelsummary_ipy
import os, random, sys, warnings, numpy, torch
def look():
    return (dict(os.environ), list(warnings.filters), torch.get_rng_state().tolist(), random.getstate(),
            str(numpy.random.get_state()), torch.is_grad_enabled(), torch.get_default_dtype(), sys.path[:])
before = look()
"""


@pytest.mark.kernel
@pytest.mark.slow
def test_a_kernel_that_waits_imports_it_all_and_is_otherwise_as_it_was() -> None:
    manager, client = start_new_kernel()
    try:
        assert ask(client, SETUP) == ""
        for _ in range(60):
            time.sleep(2.0)
            if ask(client, f"print({LAST!r} in sys.modules)") == "True\n":
                break
        else:
            raise AssertionError("it was not imported")
        assert (
            ask(client, "print(look() == before, sorted(set(globals()) & {'modelsummary_ipy', 'sympy'}))")
            == "True []\n"
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def ask(client: BlockingKernelClient, code: str) -> str:
    """Run a cell; return what it prints, errors too."""
    printed: list[str] = []

    def note(message: dict[str, Any]) -> None:
        content = message["content"]
        printed.append(content.get("text", "") + "\n".join(content.get("traceback", ())))

    client.execute_interactive(code, timeout=120, output_hook=note)
    return "".join(printed)
