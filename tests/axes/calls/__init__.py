"""One way to call each aten operation that the table describes, a file for each few families."""

from tests.axes.calls import elementwise, layers, parts, shapes
from tests.axes.calls.registry import CALLS, ON_CPU

__all__ = ["CALLS", "ON_CPU", "elementwise", "layers", "parts", "shapes"]
