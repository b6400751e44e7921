"""Which axis is which: every dim of every tensor followed from where it was made, by identity and not by size.

It answers whether the dim that is pooled *is* the time of the layer before. An axis that is split
or resized lives on in its parts; a dim that several axes were merged into lists them, the slowest first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from modelsummary_ipy.diagnosis.call_arguments import Size, argument, dims_argument, einsum_labels
from modelsummary_ipy.model.torch_layers import classes_of, names_of, spatial_dims
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.trace import Call, Link


class Axis:
    """One axis, by identity.

    Attributes:
        size: Its size.
        parent: The axis it was cut or resized from; ``None`` if it was made here.
        call: Index of the step that made it, -1 for an axis of the model's input.
        dim: Which dim of that step's output, or of that input leaf, it was.
    """

    __slots__ = ("call", "dim", "parent", "size")

    def __init__(self, size: int, parent: Axis | None = None, call: int = -1, dim: int = 0) -> None:
        self.size = size
        self.parent = parent
        self.call = call
        self.dim = dim

    @property
    def root(self) -> Axis:
        """The axis it goes back to through every cut and every resize."""
        axis = self
        while axis.parent is not None:
            axis = axis.parent
        return axis


#: The axes merged into one dim, the slowest first; none for a dim of size 1 that was put in.
Dim = tuple[Axis, ...]
Layout = tuple[Dim, ...]


def roots(dim: Dim) -> set[int]:
    """Identities of the axes a dim goes back to."""
    return {id(axis.root) for axis in dim}


class Axes:
    """The layout of every tensor of a trace."""

    def __init__(self, flow: Dataflow) -> None:
        self._layouts: dict[Link, Layout] = {}
        self._params: dict[int, Layout] = {}
        for leaf, fact in enumerate(flow.trace.inputs):
            dims = tuple((Axis(size, None, -1, dim),) for dim, size in enumerate(fact.spec.shape))
            self._layouts[Link(-1, leaf)] = dims
        for call in flow.steps:
            taken = [self.of_input(call, leaf) for leaf in range(len(call.inputs))]
            for leaf, layout in enumerate(_apply(flow, call, taken)):
                self._layouts[Link(call.index, leaf)] = layout

    def of(self, link: Link | None) -> Layout | None:
        """The layout of a tensor, by where it was made."""
        return None if link is None else self._layouts.get(link)

    def of_output(self, call: Call, leaf: int = 0) -> Layout:
        """The layout of what a step made."""
        return self._layouts[Link(call.index, leaf)]

    @staticmethod
    def is_same(one: Dim, two: Dim) -> bool:
        """Return whether two dims are the same axis, resized or not."""
        return bool(one) and bool(two) and roots(one) == roots(two)

    def of_input(self, call: Call, leaf: int = 0) -> Layout:
        """The layout of what a step read; axes of its own where nothing is known."""
        shape = call.inputs[leaf].shape
        link = call.input_links[leaf] if leaf < len(call.input_links) else None
        known = self.of(link)
        if known is not None and len(known) == len(shape) and all(map(_fits, known, shape)):
            return known
        param = call.input_params[leaf] if leaf < len(call.input_params) else None
        if param is not None:
            known = self._params.get(param)
            if known is None or len(known) != len(shape):
                known = self._params[param] = _fresh(call.index, shape)
            return known
        return _fresh(call.index, shape)


def _fits(dim: Dim, size: int) -> bool:
    return math.prod(axis.size for axis in dim) == size


def _fresh(call: int, shape: Size) -> Layout:
    return tuple((Axis(size, None, call, dim),) for dim, size in enumerate(shape))


def _resized(dim: Dim, size: int, call: int, at: int) -> Dim:
    """The same dim with another size."""
    if _fits(dim, size):
        return dim
    parent = max(dim, key=lambda axis: axis.size) if dim else None
    return (Axis(size, parent, call, at),)


# -- what steps do to axes --------------------------------------------------------------------------------------------

_Handler = Callable[[Dataflow, Call, list[Layout]], "list[Layout] | None"]


def _apply(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout]:
    made: list[Layout] | None = None
    handler = _HANDLERS.get(call.type_name)
    if handler is not None and taken and call.outputs:
        made = handler(flow, call, taken)
    if made is None:
        made = [_keep(call, leaf, taken) for leaf in range(len(call.outputs))]
    # Whatever a handler believed, the sizes are facts: a dim that does not fit them gets an axis of its own.
    return [_checked(call, made, leaf) for leaf in range(len(call.outputs))]


def _checked(call: Call, made: Sequence[Layout], leaf: int) -> Layout:
    shape = call.outputs[leaf].shape
    layout = made[leaf] if leaf < len(made) else ()
    if len(layout) != len(shape):
        return _fresh(call.index, shape)
    pairs = enumerate(zip(layout, shape, strict=True))
    return tuple(dim if _fits(dim, size) else _resized(dim, size, call.index, at) for at, (dim, size) in pairs)


def _keep(call: Call, leaf: int, taken: list[Layout]) -> Layout:
    """The default: dims stay where they are, operands of an elementwise operation are aligned from the right."""
    shape = call.outputs[leaf].shape
    operands = [
        (layout, spec.shape) for layout, spec in zip(taken, call.inputs, strict=False) if len(layout) <= len(shape)
    ]
    if not any(len(layout) == len(shape) for layout, _ in operands):
        return _fresh(call.index, shape)
    dims: list[Dim] = []
    for at, size in enumerate(shape):
        found: Dim | None = None
        for layout, operand in operands:
            position = at - len(shape) + len(layout)
            if position >= 0 and operand[position] == size and (found is None or not found):
                found = layout[position]
        if found is None:
            first = next((layout for layout, operand in operands if len(operand) == len(shape)), None)
            found = _resized(first[at], size, call.index, at) if first is not None else ()
        dims.append(found)
    return tuple(dims)


def _regroup(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout]:
    """View, reshape, flatten, squeeze: the same scalars in the same order, cut into other dims."""
    return [regroup(taken[0], call.outputs[0].shape, call.index)]


def regroup(layout: Layout, shape: Size, call: int) -> Layout:
    """Deal the axes of a layout out to the dims of another size; axes that are cut live on in their parts."""
    todo = [axis for dim in layout for axis in dim]
    todo.reverse()
    dims: list[Dim] = []
    for at, size in enumerate(shape):
        dim: list[Axis] = []
        left = size
        if size == 1 and todo and todo[-1].size == 1:  # a batch of one stays the batch
            dim.append(todo.pop())
        while left > 1 and todo:
            axis = todo.pop()
            if axis.size == 0:  # nothing is left to deal out
                return _fresh(call, shape)
            if left % axis.size == 0:
                dim.append(axis)
                left //= axis.size
            elif axis.size % left == 0:
                dim.append(Axis(left, axis, call, at))
                todo.append(Axis(axis.size // left, axis, call, at))
                left = 1
            else:  # the cut runs through the axis: from here on the order is another
                return (*dims, *_fresh(call, shape)[at:])
        dims.append(tuple(dim))
    return tuple(dims)


def _squeeze(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout]:
    layout, shape = taken[0], call.inputs[0].shape
    if call.type_name == "unsqueeze":
        at = argument(call, "dim", "axis", "0", default=0) % (len(layout) + 1)
        return [(*layout[:at], (), *layout[at:])]
    dims = dims_argument(call, len(layout)) or range(len(layout))
    return [tuple(dim for at, dim in enumerate(layout) if at not in dims or shape[at] != 1)]


def _permute(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    layout = taken[0]
    order = _order(call, len(layout))
    return None if order is None else [tuple(layout[dim] for dim in order)]


def _order(call: Call, rank: int) -> list[int] | None:
    """Which input dim each output dim of a transposing step is."""
    order = list(range(rank))
    if call.type_name == "permute":
        dims = dims_argument(call, rank)
        return list(dims) if dims is not None and len(dims) == rank else None
    if call.type_name == "T":
        return order[::-1]
    if call.type_name in ("mT", "t", "adjoint", "H", "mH"):
        return order[:-2] + order[:-3:-1] if rank > 1 else order
    if call.type_name in ("movedim", "moveaxis"):
        source, to = argument(call, "source", "0", "1"), argument(call, "destination", "2")
        if not isinstance(source, int) or not isinstance(to, int):
            return None
        moved = order.pop(source % rank)
        order.insert(to % rank, moved)
        return order
    one = argument(call, "dim0", "axis0", "0")
    two = argument(call, "dim1", "axis1", "1")
    if not isinstance(one, int) or not isinstance(two, int) or rank < 2:
        return None
    order[one % rank], order[two % rank] = order[two % rank], order[one % rank]
    return order


def _reduce(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    layout, shape = taken[0], call.outputs[0].shape
    dims = dims_argument(call, len(layout))
    if dims is None or len(shape) == len(layout):
        return None
    kept = tuple(dim for at, dim in enumerate(layout) if at not in dims)
    return [kept] * len(call.outputs)


def _index(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    layout = taken[0]
    index = argument(call, "1", "index", "indices")
    parts = index if isinstance(index, tuple) else (index,)
    if len(taken) > 1 or (index is None and not call.arguments):
        return None if len(call.outputs[0].shape) == len(layout) else [_fresh(call.index, call.outputs[0].shape)]
    skipped = len(layout) - sum(part is not None and part != "..." for part in parts)
    dims: list[Dim] = []
    at = 0
    for part in parts:
        if part is None:
            dims.append(())
        elif part == "...":
            dims += layout[at : at + skipped]
            at += skipped
        elif isinstance(part, slice):
            dims.append(layout[at] if at < len(layout) else ())
            at += 1
        elif isinstance(part, int) and not isinstance(part, bool):
            at += 1
        else:
            return [_fresh(call.index, call.outputs[0].shape)]
    return [(*dims, *layout[at:])]


def _select(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    dims = dims_argument(call, len(taken[0])) or ((0,) if call.type_name == "unbind" else None)
    if dims is None:
        return None
    kept = tuple(dim for at, dim in enumerate(taken[0]) if at not in dims)
    return [kept] * len(call.outputs)


def _stack(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    at = argument(call, "dim", default=0)
    rank = len(taken[0]) + 1
    if not isinstance(at, int) or not -rank <= at < rank:
        return None
    at %= rank
    size = call.outputs[0].shape[at] if at < len(call.outputs[0].shape) else 1
    return [(*taken[0][:at], (Axis(size, None, call.index, at),), *taken[0][at:])]


def _matmul(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    operands = taken[-2:] if call.type_name in ("baddbmm", "addmm", "addbmm") else taken[:2]
    if len(operands) < 2 or any(len(layout) < 2 for layout in operands):
        return None
    left, right = operands
    shape = call.outputs[0].shape
    longer = left if len(left) >= len(right) else right
    lead = tuple(longer[: len(shape) - 2])
    return [(*lead, left[-2], right[-1])]


def _einsum(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    labels = einsum_labels(call)
    if labels is None:
        return _make(flow, call, taken)
    known = {
        letter: dim for one, dims in zip(labels[0], taken, strict=False) for letter, dim in zip(one, dims, strict=False)
    }
    return [tuple(known.get(letter, ()) for letter in labels[1])]


def _linear(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    shape = call.outputs[0].shape
    last = (Axis(shape[-1], None, call.index, len(shape) - 1),) if shape else ()
    return [(*taken[0][: len(shape) - 1], last)] if shape else None


def _convolve(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    layout, shape = taken[0], call.outputs[0].shape
    rank = spatial_dims(call.type_name)
    channel = len(shape) - rank - 1
    if len(layout) != len(shape) or channel < 0:
        return None
    dims = list(layout)
    dims[channel] = (Axis(shape[channel], None, call.index, channel),)
    return [tuple(dims)]


def _embed(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    shape = call.outputs[0].shape
    if len(shape) != len(taken[0]) + 1:
        return None
    return [(*taken[0], (Axis(shape[-1], None, call.index, len(shape) - 1),))]


def _recur(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    layout = taken[0]
    if len(layout) != 3 or not call.outputs or len(call.outputs[0].shape) != 3:
        return None
    batch = layout[0] if flow.setting(call, "batch_first") else layout[1]
    features = Axis(call.outputs[0].shape[-1], None, call.index, 2)
    made: list[Layout] = [(layout[0], layout[1], (features,))]
    for leaf in call.outputs[1:]:
        made.append(((Axis(leaf.shape[0], None, call.index, 0),), batch, (Axis(leaf.shape[-1], None, call.index, 2),)))
    return made


def _attend(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    if not taken or len(taken[0]) != len(call.outputs[0].shape):
        return None
    shape = call.outputs[0].shape
    last = (Axis(shape[-1], None, call.index, len(shape) - 1),)
    made: list[Layout] = [(*taken[0][:-1], last)]
    return made + [_fresh(call.index, leaf.shape) for leaf in call.outputs[1:]]


def _make(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout]:
    return [_fresh(call.index, leaf.shape) for leaf in call.outputs]


def _repeat(flow: Dataflow, call: Call, taken: list[Layout]) -> list[Layout] | None:
    layout, shape = taken[0], call.outputs[0].shape
    pad = len(shape) - len(layout)
    if pad < 0:
        return None
    dims: list[Dim] = [(Axis(size, None, call.index, at),) for at, size in enumerate(shape[:pad])]
    for at, dim in enumerate(layout, pad):
        size = shape[at]
        fresh = (Axis(size, None, call.index, at),)
        dims.append(dim if _fits(dim, size) else _resized(dim, size, call.index, at) if dim else fresh)
    return [tuple(dims)]


def _table(names: str, handler: _Handler) -> dict[str, _Handler]:
    return dict.fromkeys(names.split(), handler)


_HANDLERS: dict[str, _Handler] = {
    **_table("view reshape flatten Flatten unflatten Unflatten view_as reshape_as ravel _unsafe_view", _regroup),
    **_table("squeeze unsqueeze", _squeeze),
    **_table("permute transpose swapaxes swapdims T mT t H mH adjoint movedim moveaxis", _permute),
    **_table(
        "mean sum max min amax amin prod norm std var median logsumexp argmax argmin any all nansum nanmean mode "
        "cummax vector_norm count_nonzero",
        _reduce,
    ),
    **_table("getitem", _index),
    **_table("select unbind", _select),
    **_table("stack", _stack),
    **_table("matmul bmm mm baddbmm addmm", _matmul),
    **dict.fromkeys(names_of("linear", "bilinear"), _linear),
    **dict.fromkeys(names_of("convolution", "transposed convolution"), _convolve),
    **dict.fromkeys([*names_of("embedding"), "one_hot"], _embed),
    **dict.fromkeys(classes_of("recurrent"), _recur),
    **dict.fromkeys([*names_of("attention"), "scaled_dot_product_attention"], _attend),
    **_table("einsum", _einsum),
    **dict.fromkeys([*names_of("embedding bag"), "cdist", "outer", "kron", "tensordot"], _make),
    **_table("expand repeat tile expand_as broadcast_to", _repeat),
}
