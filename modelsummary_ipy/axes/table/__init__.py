"""The table: a file for each family of operations. Importing it registers all entries."""

from modelsummary_ipy.axes.table import (
    attention,
    counted,
    elementwise,
    make,
    move,
    pick,
    products,
    reduce,
    windows,
)

__all__ = ["attention", "counted", "elementwise", "make", "move", "pick", "products", "reduce", "windows"]
