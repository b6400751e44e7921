"""`make quick` runs tests that import no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.pure import PURE


def test_the_pure_tests_are_collected_where_torch_cannot_be_imported() -> None:
    root = Path(__file__).parents[1]
    command = [sys.executable, "-m", "tests.pure", "--collect-only", "--quiet", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    listed = {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line}
    assert all(any(file == path or file.startswith(f"{path}/") for file in listed) for path in PURE)
