"""What to change in a model that fails: candidates, each tried on a copy, and the best of those that work."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.fixes.search import Trials, find_fixes

__all__ = ["Trials", "find_fixes"]
