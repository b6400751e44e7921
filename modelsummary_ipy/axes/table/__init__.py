"""The table: a file for each family of operations. Importing it registers all entries."""

from modelsummary_ipy.axes.table import attention, elementwise, make, move, pick, products, reduce, reshape, windows

__all__ = ["attention", "elementwise", "make", "move", "pick", "products", "reduce", "reshape", "windows"]
