"""The layer that reads an input of the model first, and as what it sees its dims."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.model.torch_layers import classes_of, names_of, spatial_dims
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.trace import Call, Link, Trace

#: Layers whose first dims are the batch and the channels, the rest those of a feature map.
_MAP_LAYERS = names_of("convolution", "transposed convolution", "pool", "batch norm", "instance norm")
_BATCH_NORMS = names_of("batch norm")
_SEQUENCE_LAYERS = classes_of("recurrent", "attention", "transformer layer")
_SPATIAL = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
#: Operations that hand a tensor on with its dims where they were.
_SAME_DIMS = frozenset(
    {"to", "float", "half", "long", "int", "type", "contiguous", "clone", "detach", "add", "sub", "mul", "div", "relu",
     "dropout", "Dropout", "Identity", "requires_grad_", "bfloat16", "type_as", "clamp", "normalize", "neg", "ne", "eq"}
)  # fmt: skip
#: Layers that fix how many dims a row has, but not which of the leading ones is the batch.
BY_RANK = names_of("embedding")
#: Layers that read the last dim, whatever the order of those before.
_EITHER_WAY = names_of("linear", "layer norm")
_MOST_STEPS = 12


class Readers:
    """Finds the first layer that reads an input leaf, through operations that only move its dims about."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._flow = Dataflow(trace)
        self._parents = {call.parent for call in trace.calls}

    def _readers(self, link: Link) -> Iterator[tuple[Call, int]]:
        """Who reads a tensor, and as which input; a container of the user's hands it on."""
        for call, position in self._flow.reads.get(link, ()):
            if call.kind == "op" or call.index not in self._parents or _is_torch_layer(self._trace, call):
                yield call, position

    def find(self, leaf: int) -> tuple[Call, tuple[int, ...]] | None:
        """Return the layer and, per dim that it sees, the leaf's axis (-1 for a new one); ``None`` if there is none."""
        rank = len(self._trace.inputs[leaf].spec.shape)
        edge: list[tuple[Link, tuple[int, ...]]] = [(Link(-1, leaf), tuple(range(rank)))]
        for _ in range(_MOST_STEPS):
            following: list[tuple[Link, tuple[int, ...]]] = []
            for link, axes in edge:
                for call, position in self._readers(link):
                    if position == 0 and names_by_reader(call, rank):
                        return call, self._order(call, axes)
                    moved = _move_axes(call, position, axes)
                    if moved is not None:
                        following.append((Link(call.index, 0), moved))
            if not following:
                return None
            edge = following
        return None

    def _order(self, call: Call, axes: tuple[int, ...]) -> tuple[int, ...]:
        """Swap the first two dims if the layer reads sequence-first and nothing after it contradicts.

        A linear layer reads both ways: the sequence layer after it tells, else the batch is the dim that came first.
        """
        if call.type_name in BY_RANK and axes != (0, 1):
            return tuple(sorted(axes))
        if call.type_name in BY_RANK:
            layer = next((after for after in self._after(call) if after.type_name in _SEQUENCE_LAYERS), None)
            is_first = layer is None or self._is_batch_first(layer) or self._contradicted(layer)
            return axes if is_first or not self._is_second(call.inputs[0].shape) else (1, 0)
        if call.type_name in _EITHER_WAY and len(axes) == 3 and axes[0] >= 0 <= axes[1]:
            layer = next((after for after in self._after(call) if after.type_name in _SEQUENCE_LAYERS), None)
            if layer is None:
                return (*sorted(axes[:2]), axes[2])
            call = layer
        if call.type_name not in _SEQUENCE_LAYERS or len(axes) != 3 or self._is_batch_first(call):
            return axes
        return axes if self._contradicted(call) else (axes[1], axes[0], axes[2])

    def _is_second(self, shape: tuple[int, ...]) -> bool:
        """Return whether an input of one dim, a number for each sample, is as long as dim 1 and not as dim 0."""
        lengths = [fact.spec.shape for fact in self._trace.inputs if len(fact.spec.shape) == 1]
        return (shape[1],) in lengths and (shape[0],) not in lengths

    def _is_batch_first(self, call: Call) -> bool:
        if call.module is None:
            return True
        settings = self._trace.modules[call.module].settings
        if "batch_first" in settings:
            return bool(settings["batch_first"])
        inner = [self._trace.modules[child].settings for child in self._trace.modules[call.module].children]
        return any(bool(child.get("batch_first")) for child in inner)

    def _contradicted(self, layer: Call) -> bool:
        """Return whether what follows treats dim 1 as time: picks a step of it, pools it, or is batch-first itself."""
        for call in self._after(layer):
            if not call.inputs or len(call.inputs[0].shape) != 3:
                continue
            arguments = dict(call.arguments)
            if call.type_name == "getitem" and _picks_step(call):
                return True
            if call.type_name in ("mean", "sum", "max", "amax", "select") and arguments.get("dim") in (1, (1,), -2):
                return True
            if call.type_name in _SEQUENCE_LAYERS and call.kind == "module" and self._is_batch_first(call):
                return True
        return False

    def _after(self, layer: Call) -> Iterator[Call]:
        """What follows with three dims, up to where they change places."""
        for call in self._flow.after(layer, len(self._trace.calls), until=_leaves_three_dims, containers=True):
            if call.type_name in ("transpose", "permute", "swapaxes"):
                return  # from here on the order is another
            yield call


def names_by_reader(call: Call, rank: int) -> tuple[str, ...]:
    """Name the dims as the layer sees them; ``()`` if it fixes none."""
    seen = len(call.inputs[0].shape) if call.inputs else rank
    spatial = _count_spatial(call)
    if call.type_name in _BATCH_NORMS and seen == 2:  # which has a batch in any case
        return ("B", "F")
    if spatial and seen in (spatial + 1, spatial + 2):
        return (*(("B",) if seen == spatial + 2 else ()), "C", *_SPATIAL[spatial])
    if call.type_name in _SEQUENCE_LAYERS and seen == 3:
        return ("B", "T", "F")  # sequence-first is found out by ``Readers``
    if call.type_name in _EITHER_WAY and seen in (1, 2, 3):
        return (("F",), ("B", "F"), ("B", "T", "F"))[seen - 1]
    if call.type_name in BY_RANK and seen in (1, 2):
        return (("B",), ("B", "T"))[seen - 1]
    return ()


def _count_spatial(call: Call) -> int:
    """How many spatial dims a layer of feature maps works over; an ``interpolate`` of no size is of images."""
    return (
        2 if call.type_name == "interpolate" else spatial_dims(call.type_name) if call.type_name in _MAP_LAYERS else 0
    )


def _leaves_three_dims(call: Call) -> bool:
    return not call.outputs or len(call.outputs[0].shape) != 3


def _is_torch_layer(trace: Trace, call: Call) -> bool:
    known = _count_spatial(call) > 0 or call.type_name in _SEQUENCE_LAYERS
    return known and call.module is not None and trace.modules[call.module].type_module.startswith("torch.nn.")


def _picks_step(call: Call) -> bool:
    """Return whether an index takes one element of dim 1, of all samples."""
    index = next((value for _, value in call.arguments), None)
    return isinstance(index, tuple) and len(index) > 1 and index[0] == slice(None) and isinstance(index[1], int)


def _move_axes(call: Call, position: int, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Follow the leaf's axes through an operation that only moves them; ``None`` where the track is lost."""
    if not call.outputs or position >= len(call.inputs):
        return None
    before, after = call.inputs[position].shape, call.outputs[0].shape
    arguments = dict(call.arguments)
    rank = len(before)
    if call.type_name == "permute":
        order = arguments.get("dims")
        if isinstance(order, tuple) and len(order) == rank:
            return tuple(axes[axis % rank] for axis in order)
        return None
    if call.type_name in ("transpose", "swapaxes", "t"):
        first, second = (
            arguments.get("dim0", arguments.get("axis0", 0)),
            arguments.get("dim1", arguments.get("axis1", 1)),
        )
        if isinstance(first, int) and isinstance(second, int) and rank > 1:
            moved = list(axes)
            moved[first % rank], moved[second % rank] = moved[second % rank], moved[first % rank]
            return tuple(moved)
        return None
    if call.type_name == "getitem":
        return _move_by_index(next((value for _, value in call.arguments), None), axes)
    if call.type_name == "unsqueeze" and isinstance(dim := arguments.get("dim"), int):
        at = dim % (rank + 1)
        return (*axes[:at], -1, *axes[at:])
    if call.type_name in _SAME_DIMS and before == after:
        return axes
    return None


def _move_by_index(index: object, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Follow the axes through ``x[:, None]``; an index that takes part of a dim is no mere move."""
    parts = list(index) if isinstance(index, tuple) else [index]
    moved: list[int] = []
    left = list(axes)
    for at, part in enumerate(parts):
        if part is None:
            moved.append(-1)
        elif part == slice(None) and left:
            moved.append(left.pop(0))
        elif part == "...":
            kept = len(left) - sum(later == slice(None) for later in parts[at + 1 :])
            moved += left[:kept]
            left = left[kept:]
        else:
            return None
    return (*moved, *left)
