"""Names for the dims of a model's input: the user's, else by rank, dtype and the layer that reads them first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modelsummary_ipy.model.written_dims import match_written_dims
from modelsummary_ipy.records.trace import Call, InputFact, Trace
from modelsummary_ipy.shapes.input_readers import BY_RANK, Readers, names_by_reader

#: Dims that a layer's weights fix; they are numbers in a formula unless the model works with others.
_FEATURES = frozenset({"C", "F"})

_SPATIAL_NAMES = frozenset({"H", "W", "L", "D"})
_INDEX_DTYPES = ("int64", "int32", "int16", "int8", "uint8", "bool")
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
    readers = Readers(trace)
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
            if given and guess == "B":  # the batch is ``B`` to rules too: no other dim is
                known.setdefault("B", fact.spec.shape[axis])
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
    readers = Readers(trace)
    found: list[InputNames] = []
    for most, has_squares in ((None, False), (1, False), (None, True)):
        dims = []
        for leaf, (own, fact) in enumerate(zip(names.dims, trace.inputs, strict=True)):
            given = fact.dims or ("",) * len(own)
            free = [axis for axis, name in enumerate(own) if fact.spec.shape[axis] == size and not given[axis] and name]
            is_square = has_squares and fact.spec.shape == (size, size) and leaf not in written
            if is_square and (reader := readers.find(leaf)) is not None and reader[0].type_name in BY_RANK:
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
        if reader[1] == (1, 0) and reader[0].type_name in BY_RANK:
            return ("T", "B")
        by_reader = names_by_reader(reader[0], rank)
        if by_reader and reader[0].type_name not in BY_RANK:
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
