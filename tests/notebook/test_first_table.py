"""The table of ``%summary`` in a real kernel: rows and flags first, then all of it in their place."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

pytestmark = [pytest.mark.kernel, pytest.mark.slow]

SETUP = """
%load_ext modelsummary_ipy
from torch import nn
from modelsummary_ipy import ModelSummary
from modelsummary_ipy.notebook import first_table
from modelsummary_ipy.pipeline import progress_line
first_table._PATIENCE_SECONDS = {patience}
progress_line._PATIENCE_SECONDS = 1e6
net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 9 * 9, 2))
bad = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(7, 2))
"""
LIMIT = "works for"


@pytest.fixture(scope="module", params=[0.0, 60.0], ids=["slow", "quick"])
def kernel(request: pytest.FixtureRequest) -> Iterator[tuple[BlockingKernelClient, bool]]:
    """A kernel in which every model counts as slow, and one in which none does."""
    manager, client = start_new_kernel()
    try:
        assert run(client, SETUP.format(patience=request.param)) == []
        yield client, request.param == 0
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client: BlockingKernelClient, code: str) -> list[dict[str, Any]]:
    """Run a cell; return what it displays, message by message."""
    sent = client.execute(code)
    shown = []
    while True:
        try:
            message = client.get_iopub_msg(timeout=120)
        except queue.Empty:
            raise AssertionError("the kernel does not answer") from None
        if message["parent_header"].get("msg_id") != sent:
            continue
        kind, content = message["msg_type"], message["content"]
        assert kind != "error", "\n".join(content["traceback"])
        if kind == "status" and content["execution_state"] == "idle":
            return shown
        if kind in ("display_data", "update_display_data", "execute_result", "stream"):
            shown.append({"kind": kind, **content})


def test_rows_and_flags_come_first_and_are_replaced_by_the_whole(kernel: tuple[BlockingKernelClient, bool]) -> None:
    client, is_slow = kernel
    shown = run(client, "%summary net (2, 1, 10, 10)")
    if is_slow:
        first = shown.pop(0)
        assert first["kind"] == "display_data"
        assert "grown-map" in first["data"]["text/html"]
        assert ' data-page="' not in first["data"]["text/html"]
        assert "[2, 4, 18, 18]" in first["data"]["text/plain"]
        assert LIMIT not in first["data"]["text/html"] + first["data"]["text/plain"]
        assert first["transient"] == shown[0]["transient"]
    (whole,) = shown
    assert whole["kind"] == ("update_display_data" if is_slow else "display_data")
    assert set(whole["data"]) == {"text/html", "text/plain", "text/markdown"}
    assert ' data-page="' in whole["data"]["text/html"]
    assert all(LIMIT in text for text in whole["data"].values())


def test_a_training_step_comes_after_the_table(kernel: tuple[BlockingKernelClient, bool]) -> None:
    client, is_slow = kernel
    *first, whole = run(client, "%summary net (2, 1, 10, 10) --memory 1GB")
    assert len(first) == is_slow
    assert all("to run" in one["data"]["text/plain"] and "to train" not in one["data"]["text/plain"] for one in first)
    assert "to train (adamw); fits 1 GB" in whole["data"]["text/plain"]


def test_the_summary_is_what_the_cell_returns(kernel: tuple[BlockingKernelClient, bool]) -> None:
    client, _ = kernel
    run(client, "%summary net (2, 1, 10, 10)")
    printed = run(client, "print(type(_).__name__, _.rows[1].outputs[0].shape, _ is Out[max(Out)])")
    # A kernel sends what was printed by the clock: one line may come in two messages.
    assert "".join(message["text"] for message in printed) == "ModelSummary (2, 4, 18, 18) True\n"


AGAIN = """%summary net (2, 1, 10, 10);
ms = ModelSummary(net, (3, 1, 10, 10))
display(ms)
ms"""


@pytest.mark.parametrize(
    ("cell", "kinds"),
    [
        ("ms = %summary net (2, 1, 10, 10)", []),
        ("%summary net (2, 1, 10, 10);", []),
        ("ModelSummary(net, (3, 1, 10, 10))", ["execute_result"]),
        (AGAIN, ["display_data", "execute_result"]),
        ("%summary bad (2, 1, 10, 10)", ["display_data"]),
    ],
)
def test_what_is_no_table_of_the_magic_is_shown_once(
    kernel: tuple[BlockingKernelClient, bool], cell: str, kinds: list[str]
) -> None:
    client, _ = kernel
    assert [shown["kind"] for shown in run(client, cell)] == kinds


def test_what_changed_stands_above_the_table(kernel: tuple[BlockingKernelClient, bool]) -> None:
    client, is_slow = kernel
    run(client, "%summary net (7, 1, 10, 10)")
    shown = run(client, "net[0] = nn.Conv2d(1, 4, 3, padding=5, bias=False)\n%summary net (7, 1, 10, 10)")
    run(client, "net[0] = nn.Conv2d(1, 4, 3, padding=5)")
    assert "parameters 690 → 686" in shown[-2]["data"]["text/plain"]
    assert "grown-map" in shown[-1]["data"]["text/plain"]
    kinds = ["display_data", "update_display_data", "display_data"] if is_slow else ["display_data", "display_data"]
    assert [one["kind"] for one in shown] == kinds


def test_an_interrupt_leaves_the_rows(kernel: tuple[BlockingKernelClient, bool]) -> None:
    client, is_slow = kernel
    hold = """
import _thread
from modelsummary_ipy.pipeline import findings
def find(*args, _find=findings.find_formulas, **keywords):
    _thread.interrupt_main()
    return _find(*args, **keywords)
findings.find_formulas, kept = find, findings.find_formulas
"""
    assert run(client, hold) == []
    shown = run(client, "%summary net (6, 1, 10, 10)")
    assert run(client, "findings.find_formulas = kept") == []
    assert [one["kind"] for one in shown] == (["display_data", "update_display_data"] if is_slow else ["display_data"])
    assert "[6, 4, 18, 18]" in shown[-1]["data"]["text/plain"]
    assert "interrupted: formulas" in shown[-1]["data"]["text/plain"]


PROGRESS = """
import time
progress_line._PATIENCE_SECONDS = 0.0
table = get_ipython().magics_manager.registry["SummaryMagics"].first_table
class Waiting(nn.Module):
    def forward(self, x):
        while "_handle" in vars(table) and table._handle is None:
            time.sleep(0.01)
        return x
waiting = nn.Sequential(nn.Linear(2, 3), Waiting())
"""


def test_a_line_says_what_goes_on_and_the_table_takes_its_place(kernel: tuple[BlockingKernelClient, bool]) -> None:
    client, _ = kernel
    assert run(client, PROGRESS) == []
    try:
        shown = run(client, "%summary waiting (4, 2)")
        quiet = run(client, "ms = %summary waiting (4, 2)")
        failing = 'get_ipython().run_line_magic("summary", "waiting (4, 0)")'
        (failed,) = run(client, f"try: {failing}\nexcept Exception as error: print(error)")
    finally:
        run(client, "progress_line._PATIENCE_SECONDS = 1e6")
    for line in (shown[0], quiet[0]):
        assert line["kind"] == "display_data"
        assert line["data"]["text/plain"].startswith("tracing")
        assert 'role="status"' in line["data"]["text/html"]
    assert {one["kind"] for one in (*shown[1:], *quiet[1:])} == {"update_display_data"}
    assert {one["transient"]["display_id"] for one in shown} == {shown[0]["transient"]["display_id"]}
    assert "[4, 3]" in shown[-1]["data"]["text/plain"]
    assert "text/markdown" in shown[-1]["data"]
    assert quiet[-1]["data"] == {"text/html": ""}
    assert failed["kind"] == "stream", "what can't be read is said before anything is traced"
