"""A line that says what a summary does, once it takes over a second: ``tracing: layer4.1 (Bottleneck), 3.2 s``."""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import nn

from modelsummary_ipy.display.render.formatting import plain
from modelsummary_ipy.tracing.progress import find_observer, observing_progress

#: Writes a line in the place of the one before; ``""`` takes it away.
Writer = Callable[[str], None]

_PATIENCE_SECONDS = 1.0
_TICK_SECONDS = 0.2

_writers: dict[int, Writer] = {}  # by thread
_lines: dict[int, _Line] = {}


@contextmanager
def writing_progress_with(write: Writer) -> Iterator[None]:
    """Let this thread's summaries in the block write their line with ``write`` instead of to the terminal."""
    thread = threading.get_ident()
    outer = _writers.get(thread)
    try:
        _writers[thread] = write
        yield
    finally:
        if outer is None:
            _writers.pop(thread, None)
        else:
            _writers[thread] = outer


@contextmanager
def showing_progress(stage: str, model: nn.Module | None) -> Iterator[None]:
    """Say that a stage goes on, while the block takes over a second and somebody is there to read it.

    Nothing is written where standard error is no terminal, nor while another observer reports progress.

    Args:
        stage: ``"tracing"``, ``"formulas"``. Inside another stage it takes that one's place for the block.
        model: Whose modules are named; ``None`` names their paths alone.
    """
    thread = threading.get_ident()
    line = _lines.get(thread)
    if line is not None:
        before, line.stage, line.path = line.stage, stage, ""
        try:
            yield
        finally:
            line.stage, line.path = before, ""
        return
    write = _writers.get(thread) or _find_terminal()
    if write is None or find_observer() is not None:
        yield
        return
    line = _Line(stage, model, write)
    try:
        _lines[thread] = line
        with observing_progress(line.observe):
            line.start()
            yield
    finally:
        _lines.pop(thread, None)
        line.end()


class _Line:
    """Writes from a thread of its own: a layer that takes a minute is no reason to stand still, nor to be slower.

    The thread calls nothing of torch's: a real run asks whether another thread does.
    """

    def __init__(self, stage: str, model: nn.Module | None, write: Writer) -> None:
        self.stage = stage
        self.path = ""
        self._model = model
        self._write = write
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="modelsummary-progress", daemon=True)

    def observe(self, count: int, path: str) -> None:
        self.path = path

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._done.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        began = time.monotonic()
        if self._done.wait(_PATIENCE_SECONDS):
            return
        try:
            while True:
                self._write(f"{self._text()}, {time.monotonic() - began:.1f} s")
                if self._done.wait(_TICK_SECONDS):
                    break
            self._write("")
        except (OSError, ValueError):  # the terminal is gone, or its file closed: a line less
            return

    def _text(self) -> str:
        stage, path = self.stage, self.path
        if not path:
            return f"{stage}…"
        name = _find_type_name(self._model, path)
        return f"{stage}: {plain(path)}" + (f" ({plain(name)})" if name else "")


def _find_type_name(model: nn.Module | None, path: str) -> str:
    module: object = model
    for name in path.split("."):
        module = (getattr(module, "__dict__", {}).get("_modules") or {}).get(name)
    return "" if module is None else type(module).__name__


def _find_terminal() -> Writer | None:
    """Return what writes to standard error, if that is a terminal."""
    file = sys.stderr
    try:
        is_terminal = file is not None and file.isatty()
    except (AttributeError, ValueError):  # of another make, or closed
        return None
    if not is_terminal:
        return None

    def write(line: str) -> None:
        # the cursor goes back to where the line begins: what the forward prints meanwhile takes its place
        file.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}\r")
        file.flush()

    return write
