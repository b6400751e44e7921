"""``python -m benchmarks [words]``: the table of speeds; words choose cases by name."""

from __future__ import annotations

import sys

from benchmarks.speed import main

main(sys.argv[1:])
