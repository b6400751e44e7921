from __future__ import annotations

import os
import re
import stat
import sys
import threading
from pathlib import Path

import pytest
from torch import nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.records.view import View, show_memory
from tests.fresh_process import FreshProcesses
from tests.wired_models import ListUNet

#: A process that may write no file of more than 100 bytes, as on a disk that is full.
NO_ROOM = """
import resource, signal, sys
from torch import nn
from modelsummary_ipy import ModelSummary
ms = ModelSummary(nn.Linear(4, 2), (8, 4))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    ms.save(sys.argv[1])
except OSError as error:
    print(type(error).__name__)
"""


def test_a_save_that_fails_leaves_the_file_that_was_there(tmp_path: Path, fresh: FreshProcesses) -> None:
    file = tmp_path / "net.html"
    file.write_text("the old page")
    ran = fresh.run(NO_ROOM, str(file))
    assert (ran.returncode, ran.stdout.split()) == (0, ["OSError"]), ran.stderr
    assert file.read_text() == "the old page"
    assert list(tmp_path.iterdir()) == [file]


def test_a_save_keeps_links_and_permissions(tmp_path: Path) -> None:
    file, link = tmp_path / "net.txt", tmp_path / "latest.txt"
    file.write_text("old")
    file.chmod(0o600)
    link.symlink_to(file.name)
    ModelSummary(nn.Linear(4, 2), (8, 4)).save(link)
    assert link.is_symlink()
    assert "Linear" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has none")
def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "net.txt"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    ModelSummary(nn.Linear(4, 2), (8, 4)).save(pipe)
    reader.join()
    assert pipe.is_fifo()
    assert "Linear" in read[0]


def test_a_new_file_has_the_permissions_that_files_get_here(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        saved = ModelSummary(nn.Linear(4, 2), (8, 4)).save(tmp_path / "net.csv")
    finally:
        os.umask(before)
    assert stat.S_IMODE(saved.stat().st_mode) == 0o640


def test_text_is_as_wide_as_the_terminal_that_it_is_printed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    ms = ModelSummary(model, (1, 1, 28, 28))
    monkeypatch.setenv("COLUMNS", "60")
    widest = max(map(len, str(ms).splitlines()))
    assert widest > 60  # a pipe or a file
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert max(map(len, str(ms).splitlines())) <= 60
    assert ms._repr_mimebundle_()["text/plain"] == str(ms) == ms.to_text(width=60)
    assert max(map(len, ms.to_text().splitlines())) == widest


def test_without_a_trace_there_are_no_columns_that_only_a_trace_fills() -> None:
    found = ModelSummary(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), engine="static")
    assert re.search("^  layer +params$", found.to_text(), re.MULTILINE)
    assert "| layer | params |" in found.to_markdown()
    found.view = View(columns=("input", "params"))
    assert re.search("^  layer +input +params$", found.to_text(), re.MULTILINE)


def test_where_a_forward_failed_blocks_of_two_lists_stay_in_the_order_in_which_they_ran() -> None:
    found = ModelSummary(ListUNet(), (2, 1, 33, 32))  # the last cat of two
    rows = [(row.path, row.status) for row in found.rows if row.depth == 1 and row.kind == "module"]
    ran = ["downs", "mid", "ups.0", "decs.0", "ups.1"]
    assert [path for path, _ in rows] == [*ran, "ups", "decs"]
    assert found["decs.1"].status == "unreached"


def test_with_memory_the_names_get_more_room_than_the_sizes() -> None:
    found = ModelSummary(nn.Linear(3, 4), (2, 3))
    found.view = show_memory(found.view)
    name, sizes = map(int, re.findall(r"<col width=(\d+)%", found.to_html())[:2])
    assert name > sizes > 20
