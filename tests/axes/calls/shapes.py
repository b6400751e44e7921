"""New tensors, and axes at other places."""

from __future__ import annotations

from typing import Any

import torch

from tests.axes.calls.registry import call, overload
from tests.axes.draw import Call, Draw


@call(
    "zeros ones full empty rand randn new_zeros new_ones new_full new_empty empty_strided new_empty_strided "
    "empty_permuted _efficientzerotensor randint as_strided as_strided_"
)
def make(name: str, draw: Draw) -> Call:
    """Make a tensor of some sizes."""
    dims = draw.dims(1, 3)
    old = [draw.tensor(draw.dims(0, 2))] if name.startswith("new_") else []
    more: list[Any] = {"full": [1.0], "new_full": [1.0], "empty_permuted": [list(range(len(dims)))]}.get(name, [])
    if "strided" in name:
        more = [[1] * len(dims)]
    if name.startswith("as_"):
        old = [draw.tensor([13000])]
    which = {"empty": "memory_format"}.get(name, "default")
    front = [9] if name == "randint" else []
    return overload(name, which), [*old, *front, dims, *more], {} if old else {"device": draw.device}


@call("scalar_tensor")
def make_scalar(name: str, draw: Draw) -> Call:
    """Make a tensor of one number."""
    return overload(name, "default"), [1.0], {"device": draw.device}


@call("arange")
def arange(name: str, draw: Draw) -> Call:
    """Count from one number to another."""
    end, device = draw.some(), {"device": draw.device}
    kind = draw.below(4)
    if kind == 3:
        return overload(name, "start_step"), [0.5, draw.pick(2, 3.5), 0.25], device
    if kind == 0:
        return overload(name, "default"), [end], device
    if kind == 1:
        return overload(name, "start"), [draw.pick(0, 2), end + 2], device
    return overload(name, "start_step"), [0, end, draw.pick(1, 2, 3)] if draw.maybe() else [end, -1, -2], device


@call("linspace logspace randperm eye hann_window hamming_window blackman_window bartlett_window kaiser_window")
def make_one(name: str, draw: Draw) -> Call:
    """Make so many entries."""
    size, device = draw.some(), {"device": draw.device}
    if name == "eye" and draw.maybe():
        return overload(name, "m"), [size, draw.some()], device
    return overload(name, "default"), [*([0.0, 1.0] if "space" in name else []), size], device


@call("tril_indices triu_indices")
def triangle(name: str, draw: Draw) -> Call:
    """List the places of a triangle."""
    rows = draw.some()
    return overload(name, "default"), [rows, rows], {"device": draw.device}


@call("permute")
def permute(name: str, draw: Draw) -> Call:
    """Give an order."""
    dims = draw.dims(0, 4)
    order = [dim - len(dims) if draw.maybe(0.3) else dim for dim in draw.order(len(dims))]
    return overload(name), [draw.tensor(dims), order], {}


@call("transpose swapaxes swapdims transpose_")
def transpose(name: str, draw: Draw) -> Call:
    """Exchange two axes."""
    dims = draw.dims(0, 4)
    which = "int" if name == "transpose" else "default"
    return overload(name, which), [draw.tensor(dims), draw.axis(len(dims)), draw.axis(len(dims))], {}


@call("t numpy_T t_")
def turn(name: str, draw: Draw) -> Call:
    """Turn a matrix round."""
    return overload(name), [draw.tensor(draw.dims(0, 4 if name == "numpy_T" else 2))], {}


@call("movedim moveaxis")
def move(name: str, draw: Draw) -> Call:
    """Move one axis, or several."""
    dims = draw.dims(1, 4)
    rank = len(dims)
    if draw.maybe():
        return overload(name, "int"), [draw.tensor(dims), draw.axis(rank), draw.axis(rank)], {}
    many = draw.axes(rank)
    to = draw.order(rank)[: len(many)]
    return overload(name, "intlist"), [draw.tensor(dims), many, to], {}


@call("unsqueeze unsqueeze_")
def unsqueeze(name: str, draw: Draw) -> Call:
    """Add an axis."""
    dims = draw.dims(0, 4)
    return overload(name), [draw.tensor(dims), draw.axis(len(dims) + 1)], {}


@call("squeeze squeeze_copy squeeze_")
def squeeze(name: str, draw: Draw) -> Call:
    """Take axes of 1 away."""
    dims = draw.dims(1, 4)
    which = draw.pick("default", "dim", "dims")
    at = draw.axis(len(dims))
    dims[at] = draw.pick(1, 1, 3)
    more = {"default": [], "dim": [at], "dims": [[at]]}[which]
    return overload(name, which), [draw.tensor(dims), *more], {}


@call("expand expand_copy")
def expand(name: str, draw: Draw) -> Call:
    """Repeat axes of 1."""
    wanted = draw.dims(1, 4)
    data = draw.spread(wanted)
    first = len(wanted) - len(data)
    asked = [-1 if i >= first and draw.maybe(0.2) else size for i, size in enumerate(wanted)]
    return overload(name), [draw.tensor(data), asked], {}


@call("diagonal diagonal_copy")
def diagonal(name: str, draw: Draw) -> Call:
    """Take a diagonal."""
    side, dims = draw.some(), draw.dims(0, 2)
    other = side if draw.maybe(0.8) else draw.some()
    sizes = [side, other, *dims]
    return overload(name), [draw.tensor(sizes), draw.pick(0, 0, 0, 1, -2), 0, 1], {}


@call("view_as_complex view_as_real")
def as_complex(name: str, draw: Draw) -> Call:
    """Read pairs as complex numbers, or the other way."""
    dims = draw.dims(0, 3)
    data = draw.tensor([*dims, 2]) if name == "view_as_complex" else draw.tensor(dims, torch.complex64)
    return overload(name), [data], {}


@call("rot90")
def rotate(name: str, draw: Draw) -> Call:
    """Turn a quarter, so many times."""
    dims = draw.dims(2, 4)
    one, two, *_ = draw.order(len(dims))
    return overload(name), [draw.tensor(dims), draw.below(5), [one, two]], {}


@call("view _unsafe_view reshape _reshape_alias view_copy _reshape_copy")
def view(name: str, draw: Draw) -> Call:
    """Merge two axes, or take one apart."""
    one, two, three = draw.some(), draw.dim(), draw.some()
    kind = draw.below(6)
    data, wanted = {
        0: ([one, two, three], [one * two, three]),
        1: ([one, two * 4], [one, two, 4]),
        2: ([one, two * 4], [one, -1, 4]),
        3: ([one, 6, three], [one, 2, 3, three]),
        4: ([one, 3, three], [one, -1]),
        5: ([one * 4, three], [-1, 2, three]),
    }[kind]
    stride = [[1] * len(wanted)] if "alias" in name else []
    if "alias" in name:
        wanted = [size for size in wanted if size != -1] if -1 not in wanted else [one, three]
        data, stride = list(wanted), [[wanted[-1], *[1] * (len(wanted) - 1)]]
    return overload(name, "default"), [draw.tensor(data), wanted, *stride], {}


@call("unflatten flatten")
def flatten(name: str, draw: Draw) -> Call:
    """Make one axis of several, or several of one."""
    dims = draw.dims(1, 4)
    rank = len(dims)
    if name == "flatten":
        first, last = sorted((draw.below(rank), draw.below(rank)))
        last = last - rank if draw.maybe() else last
        return overload(name, "using_ints"), [draw.tensor(dims), first, last], {}
    at, part_size = draw.axis(rank), draw.some()
    dims[at] = part_size * 3
    return overload(name, "int"), [draw.tensor(dims), at, draw.pick([part_size, 3], [-1, 3], [3, part_size])], {}
