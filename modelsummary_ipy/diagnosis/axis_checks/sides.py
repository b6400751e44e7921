"""Whether height and width are treated alike: equal in the input, they are equal in every feature map."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from modelsummary_ipy.axes.meaning import Axis
from modelsummary_ipy.records.trace import Call, Link, Trace

#: By tensor of a call, the places of the height and of the width.
SidePlaces = Mapping[int, tuple[int, int]]


def find_sides(tensors: Sequence[Sequence[Axis]]) -> dict[int, tuple[int, int]]:
    """Return which tensors have one axis that comes of ``H`` alone, and one of ``W`` alone, and where."""
    found: dict[int, tuple[int, int]] = {}
    for leaf, axes in enumerate(tensors):
        heights, widths = ([at for at, axis in enumerate(axes) if axis.has(root)] for root in "HW")
        if len(heights) == len(widths) == 1 and axes[heights[0]].roots == {"H"} and axes[widths[0]].roots == {"W"}:
            found[leaf] = heights[0], widths[0]
    return found


def find_uneven_sides(
    trace: Trace, places: Mapping[int, SidePlaces], inputs: SidePlaces
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Find the operations that make of a height and a width that are equal two that differ, for good.

    Args:
        trace: A trace at equal height and width.
        places: By call, where the sides of its outputs are.
        inputs: Where those of the model's inputs are.

    Yields:
        The call, and what height and width are after it.
    """
    sides: dict[Link, tuple[int, int]] = {
        Link(call.index, leaf): (call.outputs[leaf].shape[height], call.outputs[leaf].shape[width])
        for call in trace.calls
        for leaf, (height, width) in places.get(call.index, {}).items()
        if leaf < len(call.outputs) and max(height, width) < len(call.outputs[leaf].shape)
    }
    for leaf, (height, width) in inputs.items():
        shape = trace.inputs[leaf].spec.shape
        sides[Link(-1, leaf)] = shape[height], shape[width]
    #: By tensor, the operations that made its sides differ.
    blamed: dict[Link, frozenset[int]] = {}
    forgiven: set[int] = set()
    for call in trace.calls:
        above = frozenset().union(*(blamed.get(link, frozenset()) for link in call.input_links if link is not None))
        came = [sides[link] for link in call.input_links if link in sides]
        for leaf in range(len(call.outputs)):
            link = Link(call.index, leaf)
            if link not in sides:
                continue
            if sides[link][0] == sides[link][1]:
                forgiven |= above
            elif came and all(height == width for height, width in came) and _is_operation(trace, call):
                blamed[link] = frozenset({call.index})
            else:
                blamed[link] = above
    for index in sorted(frozenset().union(*blamed.values()) - forgiven if blamed else ()):
        link = next(link for link in blamed if link.call == index)
        yield index, tuple(map(str, sides[link]))


def _is_operation(trace: Trace, call: Call) -> bool:
    return not any(other.parent == call.index for other in trace.calls[call.index + 1 : call.index + 2])
