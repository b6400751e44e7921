"""Aten operations of one trace with the tensors that they read and made: what the table of axes is walked over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

#: Among the arguments of a lookup, how many places of the axis its indices reach, where their values are known.
PLACES = "places"


class TensorRef(NamedTuple):
    """One tensor of a trace.

    Attributes:
        number: Its place among the tensors of the trace; what an operation makes, in place too, is another tensor.
        shape: Its shape.
        dtype: ``"float32"``.
    """

    number: int
    shape: tuple[int, ...]
    dtype: str


class OpEvent(NamedTuple):
    """One aten operation.

    Attributes:
        op: Its name without the overload, ``"aten.addmm"``.
        args: By name in its schema: a ``TensorRef`` for a tensor, plain values, lists of both. Arguments that were not
            given are not in it.
        outputs: The tensors that came out.
        call: Index of the call that it ran in.
    """

    op: str
    args: Mapping[str, Any]
    outputs: tuple[TensorRef, ...]
    call: int

    @property
    def refs(self) -> list[TensorRef]:
        """All tensors among its arguments, in order."""
        found: list[TensorRef] = []
        for value in self.args.values():
            if isinstance(value, TensorRef):
                found.append(value)
            elif isinstance(value, list):
                found += [item for item in value if isinstance(item, TensorRef)]
        return found


class Repeat(NamedTuple):
    """Operations that were written down for a call like an earlier one.

    Attributes:
        like: Where the operations of the earlier one begin.
        length: How many they are.
        given: Of what the earlier one got, the number of a tensor and that of the one in its place.
        made: The same of what it made.
    """

    like: int
    length: int
    given: tuple[tuple[int, int], ...]
    made: tuple[tuple[int, int], ...]


@dataclass
class OpEvents:
    """The operations of one trace, in order.

    Attributes:
        events: The operations.
        inputs: Per input leaf of the model its tensor, ``None`` for one that no operation has read.
        params: By number of a tensor, the index of the parameter or buffer that it is.
        call_inputs: Per call that ended, the tensors that went in.
        call_outputs: The same for what came out.
        is_whole: Whether every operation is in it: layers that were answered from a cache ran none.
        repeats: By the place at which they begin, operations like earlier ones.
    """

    events: list[OpEvent] = field(default_factory=list)
    inputs: list[TensorRef | None] = field(default_factory=list)
    params: dict[int, int] = field(default_factory=dict)
    call_inputs: dict[int, tuple[TensorRef | None, ...]] = field(default_factory=dict)
    call_outputs: dict[int, tuple[TensorRef | None, ...]] = field(default_factory=dict)
    is_whole: bool = True
    repeats: dict[int, Repeat] = field(default_factory=dict)


AxisFindingKind = Literal[
    "carved", "softmax", "heads", "mask", "single", "table", "along", "reduced", "picked", "contracted", "joined",
    "noise", "aligned", "channels", "normed", "positions", "weighed", "classes", "coincident", "sides", "idle",
    "shrunk", "unit", "scores", "halves", "vanished",
    "reordered", "gate", "summed", "crossed", "doubled", "merged", "turned", "root", "normal", "pairs",
    "stacked", "answers", "pinned", "drawn", "angles", "thirds", "uncut", "gram",
    "numbered", "labels", "offset", "apart", "regrouped", "laid", "row", "interleaved",
    "carried", "chosen", "swapped", "unscaled", "strided", "tiled", "weighted", "degrees",
    "shifted", "spread", "grid", "first", "mosaic", "running", "ends", "fields", "length",
    "ones", "best", "averaged", "nearest", "unshifted", "rows", "exchanged", "descended", "met",
    "cancelled", "loss", "scaled", "passed", "unturned", "rooted", "other", "overall",
    "neighbours", "product",
]  # fmt: skip


class AxisFinding(NamedTuple):
    """An operation that does to axes what is perhaps not meant.

    Attributes:
        kind: What it does; ``diagnosis/rules/axis_wordings.py`` says it in words.
        op: The operation, ``"aten.cumsum"``.
        call: The call that it ran in.
        axes: The axes that it is about, as they are written.
    """

    kind: AxisFindingKind
    op: str
    call: int
    axes: tuple[str, ...] = ()
