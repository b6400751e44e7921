"""The stages of one summary: the request, what is computed of a trace when it is needed, and how it is read."""

from modelsummary_ipy.pipeline.facts import Facts, check_context
from modelsummary_ipy.pipeline.progress_line import writing_progress_with
from modelsummary_ipy.pipeline.request import Assumptions, Request, read_assumptions
from modelsummary_ipy.pipeline.stages import Pipeline, observed, trace_model
from modelsummary_ipy.tracing.progress import TraceCancelled

__all__ = [
    "Assumptions", "Facts", "Pipeline", "Request", "TraceCancelled", "check_context", "observed",
    "read_assumptions", "trace_model", "writing_progress_with",
]  # fmt: skip
