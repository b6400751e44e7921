"""Which other threads keep ``auto`` from a real run."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from modelsummary_ipy.isolation.threads import may_run_torch_elsewhere

TORCH = Path(torch.__file__).parent


@contextmanager
def thread_in(file: Path | str) -> Iterator[None]:
    """Let a thread wait for a byte of a pipe in code of some file."""
    reader, writer = os.pipe()
    begun = threading.Event()
    code = compile("begun.set(); os.read(reader, 1)", str(file), "exec")
    thread = threading.Thread(target=exec, args=(code, {"begun": begun, "os": os, "reader": reader}))
    thread.start()
    begun.wait()
    try:
        yield
    finally:
        os.write(writer, b"x")
        thread.join()
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        (TORCH / "_inductor" / "compile_worker" / "subproc_pool.py", False),  # waits from the first torch.compile on
        (TORCH / "utils" / "data" / "_utils" / "pin_memory.py", True),
        (TORCH / "nn" / "functional.py", True),
        ("train.py", True),
        (Path(os.__file__).parent / "socketserver.py", False),
    ],
)
def test_a_thread_counts_that_may_call_torch_at_any_moment(file: Path | str, counts: bool) -> None:
    assert not may_run_torch_elsewhere()
    with thread_in(file):
        assert may_run_torch_elsewhere() == counts
