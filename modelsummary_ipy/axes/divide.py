"""What a reshape makes of sizes: the ones asked for, and what is left over for -1."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from modelsummary_ipy.axes.expr import Expr, find_square
from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size

#: The size of one axis in every trace.
Values = tuple[Fraction | int, ...]


def divide_sizes(op: Op, data: Axes, wanted: Axes) -> list[Size]:
    """Return the axes asked for, each an axis of the data where that says the same."""
    places = [place for place, size in enumerate(wanted) if op.known(size) == -1]
    total, rest = _product(data), _product([size for place, size in enumerate(wanted) if place not in places])
    made = list(wanted)
    if places:
        made[places[0]] = _left_over(op, data, [size for place, size in enumerate(wanted) if place not in places])
    else:
        op.equal(total, rest)
    return made


def group_axes(data: Sequence[Values], wanted: Sequence[Values]) -> list[tuple[slice, slice]] | None:
    """Part the axes of a reshape into groups of as many elements, in every trace; ``None`` if there is no such part.

    Args:
        data, wanted: Per axis, its size in every trace.

    Example:
        >>> group_axes([(6, 10), (3, 5)], [(2, 2), (3, 5), (3, 5)])
        [(slice(0, 1, None), slice(0, 2, None)), (slice(1, 2, None), slice(2, 3, None))]
    """
    groups: list[tuple[slice, slice]] = []
    mine = theirs = 0
    while mine < len(data) and theirs < len(wanted):
        first, start = mine, theirs
        above, below = data[mine], wanted[theirs]
        mine, theirs = mine + 1, theirs + 1
        while above != below:
            if above[0] < below[0] and mine < len(data):
                above, mine = tuple(a * b for a, b in zip(above, data[mine], strict=True)), mine + 1
            elif above[0] > below[0] and theirs < len(wanted):
                below, theirs = tuple(a * b for a, b in zip(below, wanted[theirs], strict=True)), theirs + 1
            else:
                return None
        groups.append((slice(first, mine), slice(start, theirs)))
    return groups if mine == len(data) and theirs == len(wanted) else None


def read_group(op: Op, data: Axes, given: Sequence[Size | None]) -> list[Size] | None:
    """Return what each axis asked for is of the axes in its group: their product, or what others leave of it.

    Args:
        given: The axes asked for that are numbers or axes of the group; ``None`` for others.

    Returns:
        ``None`` where two of them are neither.
    """
    if len(given) == 1:
        return [_product(data)]
    unread = [place for place, size in enumerate(given) if size is None]
    if len(unread) > 1:
        return None
    left = _left_over(op, data, [size for size in given if size is not None]) if unread else None
    return [left if size is None else size for size in given]


def _left_over(op: Op, data: Axes, taken: Axes) -> Size:
    """Divide the product of some axes by that of others: equal ones first, what is left as a fraction."""
    above, below = list(data), [size for size in taken if op.known(size) != 1]
    for size in list(below):
        square = find_square(size) if isinstance(size, Expr) and below.count(size) > 1 else None
        if square is not None:  # a square of patches, and not of a number between two squares
            op.equal(size * size, square)
            below.remove(size)
            below[below.index(size)] = square
    for size in list(below):
        if size in above:
            above.remove(size)
            below.remove(size)
    numbers = 1
    for size in list(below):
        number = op.known(size)
        if number is not None:
            numbers *= number
            below.remove(size)
    if below:
        known = _product([size for size in above if op.known(size) is not None])
        moving = _product([size for size in above if op.known(size) is None])
        left = moving * known // (_product(below) * numbers)
        op.equal(left * (_product(below) * numbers), moving * known)
        return left
    if not numbers:
        raise OpaqueError("nothing to divide")
    return op.divided(_product(above), numbers)


def _product(sizes: Axes) -> Size:
    """Multiply sizes, numbers last: they are not multiplied into the first of several sums."""
    number, found = 1, None
    for size in sizes:
        if isinstance(size, int):
            number *= size
        else:
            found = size if found is None else size * found
    return number if found is None else found if number == 1 else found * number
