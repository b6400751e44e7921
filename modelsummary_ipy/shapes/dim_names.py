"""Names for the dims of a model's input: the user's, else by rank, dtype and the layer that reads them first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from modelsummary_ipy.model.torch_layers import classes_of, names_of, spatial_dims
from modelsummary_ipy.model.written_dims import match_written_dims
from modelsummary_ipy.records.dataflow import Dataflow
from modelsummary_ipy.records.trace import Call, InputFact, Link, Trace

#: Dims that a layer's weights fix; they are numbers in a formula unless the model works with others.
_FEATURES = frozenset({"C", "F"})

#: Layers whose first dims are the batch and the channels, the rest those of a feature map.
_MAP_LAYERS = names_of("convolution", "transposed convolution", "pool", "batch norm", "instance norm")
_BATCH_NORMS = names_of("batch norm")
_SEQUENCE_LAYERS = classes_of("recurrent", "attention", "transformer layer")
_SPATIAL_NAMES = frozenset({"H", "W", "L", "D"})
_SPATIAL = {1: ("L",), 2: ("H", "W"), 3: ("D", "H", "W")}
#: Operations that hand a tensor on with its dims where they were.
_SAME_DIMS = frozenset(
    {"to", "float", "half", "long", "int", "type", "contiguous", "clone", "detach", "add", "sub", "mul", "div", "relu",
     "dropout", "Dropout", "Identity", "requires_grad_", "bfloat16", "type_as", "clamp", "normalize", "neg", "ne", "eq"}
)  # fmt: skip
_INDEX_DTYPES = ("int64", "int32", "int16", "int8", "uint8", "bool")
#: Layers that fix how many dims a row has, but not which of the leading ones is the batch.
_BY_RANK = names_of("embedding")
#: Layers that read the last dim, whatever the order of those before.
_EITHER_WAY = names_of("linear", "layer norm")
_MOST_STEPS = 12
#: Begins the names of a decoder's inputs, of a forward that has an encoder too.
_OF_DECODER = "decoder_"


@dataclass(frozen=True)
class InputNames:
    """Names for the dims of a model's input.

    Attributes:
        dims: Per input leaf, a name per dim, ``""`` for a plain number.
        batch: The name of the dim that is the batch, ``""`` if there is none.
        roles: By name, what we would have called a dim that the user named: ``{"rows": "H"}``.
    """

    dims: tuple[tuple[str, ...], ...]
    batch: str = ""
    roles: Mapping[str, str] = field(default_factory=dict)

    def role(self, name: str) -> str:
        """Return what a dim is, as one letter: ``"T"`` of ``T2``."""
        return self.roles.get(name, name).rstrip("0123456789")

    def is_feature(self, name: str) -> bool:
        """Return whether a dim is one that a layer's weights usually fix."""
        return self.role(name) in _FEATURES

    def is_spatial(self, name: str) -> bool:
        """Return whether a dim is one of a feature map, an image or a signal."""
        return self.role(name) in _SPATIAL_NAMES


def name_dims(trace: Trace) -> InputNames:
    """Name the dims of every input leaf: as the user did, and what was left open as it seems.

    Two dims of equal name have equal size: where guesses differ in size the later one is numbered, ``T2``. A guess that
    the user gave another name in one input has that name in all of equal size. Where some inputs are a decoder's
    (``decoder_input_ids``), the length of the others is ``S``: it moves by itself, whatever its size. What no layer
    reads, as labels, and is as long as a signal has the signal's name.
    """
    known = {
        name: size for fact in trace.inputs for name, size in zip(fact.dims, fact.spec.shape, strict=False) if name
    }
    readers = _Readers(trace)
    renamed: dict[str, str] = {}
    roles: dict[str, str] = {}
    named: dict[int, tuple[str, ...]] = {}
    written = match_written_dims(trace)
    has_encoder = len({fact.spec.name.startswith(_OF_DECODER) for fact in trace.inputs}) == 2
    # Inputs that the user named come first: the others are named after them, and squares, of edges, after those.
    for leaf in sorted(range(len(trace.inputs)), key=lambda leaf: _rank_input(trace.inputs[leaf])):
        fact = trace.inputs[leaf]
        length, other = "T", ""
        if has_encoder:
            length, other = ("T", "S") if fact.spec.name.startswith(_OF_DECODER) else ("S", "T")
        sizes = {name: size for name, size in known.items() if name != other}
        reader = readers.find(leaf)
        wanted = _wanted_names(fact, reader, sizes)
        nodes = known.get("T", 0)
        if reader is None and wanted == ("B", "F") and fact.spec.shape == (nodes, nodes) and nodes != known.get("B"):
            wanted = ("T", "T")  # the edges between as many nodes
        if leaf in written:
            wanted = _follow_text(wanted, written[leaf].roles)
        names = [length if name == "T" else name for name in wanted]
        if reader is None and "T" not in known:  # labels of a signal's samples, which no layer reads
            names = [
                "L" if one == ("T", known.get("L")) else one[0] for one in zip(names, fact.spec.shape, strict=True)
            ]
        for axis, (guess, given) in enumerate(zip(names, fact.dims or ("",) * len(names), strict=True)):
            if given and guess:
                renamed.setdefault(guess, given)
                roles.setdefault(given, guess)
            if given:
                names[axis] = given
            elif guess in renamed and known.get(renamed[guess]) == fact.spec.shape[axis]:
                names[axis] = renamed[guess]
        named[leaf] = _agree(tuple(names), fact.spec.shape, known)
    dims = tuple(named[leaf] for leaf in range(len(trace.inputs)))
    every = {name for names in dims for name in names}
    given_names = {name for fact in trace.inputs for name in fact.dims}
    batch = "B" if "B" in given_names else renamed.get("B", "B")
    return InputNames(dims, batch if batch in every else "", roles)


def list_tied(names: InputNames, trace: Trace) -> list[InputNames]:
    """List how dims of other inputs may be the batch too, where it is as large there: those of adjacent nodes, say.

    Args:
        names: As ``name_dims`` gave them; a name of the user's stays.

    Returns:
        With all such dims, with the first ones alone, and with both dims of a square; none if there is no such dim.
    """
    size = next((fact.spec.shape[dims.index(names.batch)] for dims, fact in zip(names.dims, trace.inputs, strict=True)
                 if names.batch in dims), 0)  # fmt: skip
    written = match_written_dims(trace)
    readers = _Readers(trace)
    found: list[InputNames] = []
    for most, has_squares in ((None, False), (1, False), (None, True)):
        dims = []
        for leaf, (own, fact) in enumerate(zip(names.dims, trace.inputs, strict=True)):
            given = fact.dims or ("",) * len(own)
            free = [axis for axis, name in enumerate(own) if fact.spec.shape[axis] == size and not given[axis] and name]
            is_square = has_squares and fact.spec.shape == (size, size) and leaf not in written
            if is_square and (reader := readers.find(leaf)) is not None and reader[0].type_name in _BY_RANK:
                is_square = False  # as many words as samples
            taken = free[:most] if names.batch not in own or is_square else []
            dims.append(tuple(names.batch if axis in taken else name for axis, name in enumerate(own)))
        tied = replace(names, dims=_rename_numbered(tuple(dims), names))
        if tied.dims != names.dims and tied not in found:
            found.append(tied)
    return found


def _rename_numbered(dims: tuple[tuple[str, ...], ...], names: InputNames) -> tuple[tuple[str, ...], ...]:
    """Call ``B2`` a time where it stands beside the batch, if nothing else is called so."""
    every = {name for leaf in dims for name in leaf}
    other = f"{names.batch}2"
    beside = any(other in leaf and names.batch in leaf for leaf in dims)
    if not beside or "T" in every:
        return dims
    return tuple(tuple("T" if name == other else name for name in leaf) for leaf in dims)


def _agree(wanted: tuple[str, ...], shape: tuple[int, ...], sizes: dict[str, int]) -> tuple[str, ...]:
    """Number the names that are taken by another size; a name that is given twice in one leaf is one dim's."""
    agreed: list[str] = []
    for name, size in zip(wanted, shape, strict=True):
        if name:
            base, number = name, 1
            while sizes.get(name, size) != size:
                number += 1
                name = f"{base}{number}"
            sizes[name] = size
        agreed.append(name)
    return tuple(agreed)


def _wanted_names(
    fact: InputFact, reader: tuple[Call, tuple[int, ...]] | None, sizes: dict[str, int]
) -> tuple[str, ...]:
    shape = fact.spec.shape
    rank = len(shape)
    if -1 in shape:  # a ragged dim has no one size
        return ("",) * rank
    if "mask" in fact.spec.name or "bias" in fact.spec.name:
        return _names_by_size(shape, sizes)
    if reader is not None:
        if reader[1] == (1, 0) and reader[0].type_name in _BY_RANK:
            return ("T", "B")
        by_reader = _names_by_reader(reader[0], rank)
        if by_reader and reader[0].type_name not in _BY_RANK:
            # The layer may see the leaf's dims in another order: undo the permutation on the way.
            axes = reader[1]
            names = [""] * rank
            for position, axis in enumerate(axes):
                if axis >= 0 and position < len(by_reader):
                    names[axis] = by_reader[position]
            if any(names):
                return _fill(names)
    return _names_by_rank(shape, fact.spec.dtype)


def _rank_input(fact: InputFact) -> tuple[bool, bool]:
    shape = fact.spec.shape
    return not any(fact.dims), len(shape) == 2 and shape[0] == shape[1]


def _follow_text(guess: tuple[str, ...], roles: tuple[str, ...]) -> tuple[str, ...]:
    """Put the batch where the text of the forward says that it is, and steps and features where they are."""
    if roles.count("B") != 1 or guess.count("B") != 1:
        return guess
    names, at, place = list(guess), roles.index("B"), guess.index("B")
    names[at], names[place] = "B", names[at]
    if sorted(roles) == ["B", "F", "T"] and names[roles.index("T")] in _FEATURES:
        return roles
    return tuple(names)


def _fill(names: list[str]) -> tuple[str, ...]:
    missing = [axis for axis, name in enumerate(names) if not name]
    if missing and "B" not in names:
        names[missing[0]] = "B"
    return tuple(names)


def _names_by_size(shape: tuple[int, ...], sizes: dict[str, int]) -> tuple[str, ...]:
    """Name a mask's dims after the dims of the other inputs that they match, the batch first."""
    names: list[str] = []
    for axis, size in enumerate(shape):
        matches = [name for name, known in sizes.items() if known == size and name not in _FEATURES]
        ordered = sorted(matches, key=lambda name: (name != "B") if axis == 0 and len(shape) != 2 else (name == "B"))
        if len(shape) == 2 and axis == 0 and "B" in matches and (size != shape[1] or len(matches) < 2):
            ordered = ["B"]
        usual = "B" if axis == 0 and len(shape) > 1 else "T"
        names.append("" if size == 1 and ordered != ["B"] else ordered[0] if ordered else usual)
    return tuple(names)


def _names_by_rank(shape: tuple[int, ...], dtype: str) -> tuple[str, ...]:
    rank = len(shape)
    if dtype in _INDEX_DTYPES:
        return (("B",), ("B", "T"), ("B", "T", "F"))[rank - 1] if 0 < rank < 4 else _names_by_rank(shape, "float32")
    if rank == 4 and shape[3] <= 4 < shape[1]:
        return ("B", "H", "W", "C")
    if rank == 5 and shape[2] <= 4 < shape[1]:
        return ("B", "T", "C", "H", "W")
    known = ((), ("B",), ("B", "F"), ("B", "T", "F"), ("B", "C", "H", "W"), ("B", "C", "D", "H", "W"))
    return known[rank] if rank < len(known) else ("B", *(f"D{axis}" for axis in range(1, rank)))


def _names_by_reader(call: Call, rank: int) -> tuple[str, ...]:
    """Name the dims as the layer sees them; ``()`` if it fixes none."""
    seen = len(call.inputs[0].shape) if call.inputs else rank
    spatial = _count_spatial(call)
    if call.type_name in _BATCH_NORMS and seen == 2:  # which has a batch in any case
        return ("B", "F")
    if spatial and seen in (spatial + 1, spatial + 2):
        return (*(("B",) if seen == spatial + 2 else ()), "C", *_SPATIAL[spatial])
    if call.type_name in _SEQUENCE_LAYERS and seen == 3:
        return ("B", "T", "F")  # sequence-first is found out by ``_Readers``
    if call.type_name in _EITHER_WAY and seen in (1, 2, 3):
        return (("F",), ("B", "F"), ("B", "T", "F"))[seen - 1]
    if call.type_name in _BY_RANK and seen in (1, 2):
        return (("B",), ("B", "T"))[seen - 1]
    return ()


def _count_spatial(call: Call) -> int:
    """How many spatial dims a layer of feature maps works over; an ``interpolate`` of no size is of images."""
    return (
        2 if call.type_name == "interpolate" else spatial_dims(call.type_name) if call.type_name in _MAP_LAYERS else 0
    )


class _Readers:
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
                    if position == 0 and _names_by_reader(call, rank):
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
        if call.type_name in _BY_RANK and axes != (0, 1):
            return tuple(sorted(axes))
        if call.type_name in _BY_RANK:
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
            if call.type_name == "getitem" and _picks_on(call, 1):
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


def _leaves_three_dims(call: Call) -> bool:
    return not call.outputs or len(call.outputs[0].shape) != 3


def _is_torch_layer(trace: Trace, call: Call) -> bool:
    known = _count_spatial(call) > 0 or call.type_name in _SEQUENCE_LAYERS
    return known and call.module is not None and trace.modules[call.module].type_module.startswith("torch.nn.")


def _picks_on(call: Call, dim: int) -> bool:
    """Return whether an index takes one element of ``dim`` and leaves the dims before it alone."""
    index = next((value for _, value in call.arguments), None)
    if not isinstance(index, tuple) or len(index) <= dim:
        return False
    return isinstance(index[dim], int) and all(part == slice(None) for part in index[:dim])


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
