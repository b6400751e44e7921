"""A text to a file: what is written is decided by the file's ending, and a file is written whole or not at all."""

from __future__ import annotations

import errno
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from modelsummary_ipy.records.errors import InputError


def write_as(target: Path, writers: Mapping[str, Callable[[], str]], example: str) -> Path:
    """Write what the writer of a file's ending gives.

    Raises:
        InputError: If no writer is for the ending.
        OSError: If the file can't be written; one that was there before is then as it was.
    """
    if target.suffix not in writers:
        raise InputError(f"can't save as {target.name!r}", f"an ending among {' '.join(writers)}", example)
    _write_whole(target, writers[target.suffix]())
    return target


def _write_whole(path: Path, text: str) -> None:
    """Write a file beside ``path`` and put it in its place: a full disk leaves no part of one."""
    target = path.resolve()  # a link stays one
    if target.exists() and not target.is_file():  # a device or a pipe is written to, and a folder refuses
        target.write_text(text, encoding="utf-8")
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder; create it first", str(path.parent))
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
        if target.exists():
            shutil.copymode(target, draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
