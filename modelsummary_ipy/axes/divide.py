"""What a reshape makes of sizes: the ones asked for, and what is left over for -1."""

from __future__ import annotations

from modelsummary_ipy.axes.registry import Axes, Op, OpaqueError, Size


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


def _left_over(op: Op, data: Axes, taken: Axes) -> Size:
    """Divide the product of some axes by that of others: equal ones first, what is left as a fraction."""
    above, below = list(data), [size for size in taken if op.known(size) != 1]
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
        return moving * known // (_product(below) * numbers)
    if not numbers:
        raise OpaqueError("nothing to divide")
    made = _product(above) // numbers
    op.equal(made * numbers, _product(above))
    return made


def _product(sizes: Axes) -> Size:
    """Multiply sizes, numbers last: they are not multiplied into the first of several sums."""
    number, found = 1, None
    for size in sizes:
        if isinstance(size, int):
            number *= size
        else:
            found = size if found is None else size * found
    return number if found is None else found if number == 1 else found * number
