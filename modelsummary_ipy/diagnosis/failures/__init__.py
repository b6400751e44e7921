"""Why a forward failed and what to do: from sizes, dtypes and settings, never from torch's wording alone."""

from __future__ import annotations

from modelsummary_ipy.diagnosis.failures.explain import FindFixes, diagnose, explain

__all__ = ["FindFixes", "diagnose", "explain"]
