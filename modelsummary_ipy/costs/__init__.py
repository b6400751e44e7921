"""Costs: multiply-adds and bytes of every row, and what a training step takes."""

from modelsummary_ipy.costs.mac_formulas import FormulaError, register_mult_adds
from modelsummary_ipy.costs.memory import (
    estimate_memory,
    find_largest_batch,
    fit_batch,
    read_budget,
    read_context,
    write_budget,
)
from modelsummary_ipy.costs.row_costs import count_backward, count_costs, list_operations

__all__ = [
    "FormulaError", "count_backward", "count_costs", "estimate_memory", "find_largest_batch", "fit_batch",
    "list_operations", "read_budget", "read_context", "register_mult_adds", "write_budget",
]  # fmt: skip
