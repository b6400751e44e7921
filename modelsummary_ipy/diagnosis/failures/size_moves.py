"""Other sizes of the inputs: which dims change together, and the sizes that are worth a try."""

from __future__ import annotations

import re
from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.model.torch_layers import CHANNEL_SETTINGS, FEATURE_SETTINGS
from modelsummary_ipy.records.retraced import Specs

#: What models of one size only are mostly made for; frames of a clip.
_USUAL = (224, 256, 384, 112)
_FRAMES = (16, 32, 8)

#: The places of dims that change together: of the input, and of the dim in it.
Move = tuple[tuple[int, int], ...]


def list_moves(base: Specs) -> list[Move]:
    """List groups of dims to change: the sides of a feature map together, then each, then the length, the batch last.

    A dim moves in every input that has the same size there.
    """
    main = max(range(len(base)), key=lambda i: len(base[i].shape))
    rank = len(base[main].shape)
    groups: list[tuple[int, ...]] = []
    if rank >= 4:
        groups = [
            tuple(range(2, rank)),
            *([(3, 4), (2,)] if rank == 5 else []),
            *[(axis,) for axis in range(rank - 1, 1, -1)],
            (1,),
            *([(1, 2)] if rank == 4 and base[main].shape[1] == base[main].shape[2] != base[main].shape[3] else []),
        ]
    elif rank == 3:
        groups = [(2,), (1,), (1, 2)]
    elif rank == 2:
        groups = [(1,)]
    elif rank == 1:
        groups = [(0,)]
    moves = [_find_places(base, main, group) for group in groups]
    return [move for move in dict.fromkeys(moves) if move]


def _find_places(base: Specs, main: int, group: tuple[int, ...]) -> Move:
    """Find where the inputs have the sizes of some dims of the main one."""
    places = []
    for axis in group:
        size = base[main].shape[axis] if base[main].shape else 0
        places += [
            (leaf, other)
            for leaf, spec in enumerate(base)
            for other in range(len(spec.shape))
            if spec.shape[other] == size and (other == axis or (leaf != main and other > 0 and axis > 0))
        ]
    return tuple(dict.fromkeys(places))


def read_size(base: Specs, move: Move) -> int:
    """Return the size that the dims of a move have."""
    leaf, axis = move[0]
    return base[leaf].shape[axis]


def move_dims(base: Specs, move: Move, value: int) -> Specs:
    """Give the dims of a move another size."""
    specs = list(base)
    for leaf, axis in move:
        shape = specs[leaf].shape
        specs[leaf] = specs[leaf]._replace(shape=(*shape[:axis], value, *shape[axis + 1 :]))
    return tuple(specs)


def step_near(base: Specs) -> Iterator[Specs]:
    """The nearest multiples of small powers of two, and the nearest sizes at all."""
    moves = [move for move in list_moves(base) if all(axis > 0 for _, axis in move)]
    for factor in (2, 4, 8, 16, 32, 64):
        for up in (False, True):
            specs = _round_all(base, factor, up)
            if specs is not None:
                yield specs
    for move in moves[:1]:
        start = read_size(base, move)
        for step in range(1, 9):
            yield move_dims(base, move, start + step)
            if start > step:
                yield move_dims(base, move, start - step)


def divide(ctx: FailureContext, base: Specs) -> Iterator[Specs]:
    """The nearest multiples of a setting of the module that failed: of a window, a patch."""
    settings = ctx.fact.settings.values() if ctx.fact is not None else ()
    for factor in dict.fromkeys(value for value in settings if type(value) is int and 2 < value < 65):
        for move in list_moves(base):
            start = read_size(base, move)
            for size in (start // factor * factor, -(-start // factor) * factor):
                if size and size != start and any(axis > 0 for _, axis in move):
                    yield move_dims(base, move, size)


def _round_all(base: Specs, factor: int, up: bool) -> Specs | None:
    """Round the sides of every feature map, or the length of every sequence, to a multiple."""
    specs = []
    for spec in base:
        keep = 1 if len(spec.shape) < 3 else 2
        shape = tuple(
            size if axis < keep else (size + (factor - 1) * up) // factor * factor
            for axis, size in enumerate(spec.shape)
        )
        if 0 in shape:
            return None
        specs.append(spec._replace(shape=shape))
    return tuple(specs) if tuple(specs) != base else None


def list_usual(base: Specs) -> Iterator[Specs]:
    """The sides of images, and the frames of clips, that models are mostly made for, the nearest first."""
    main = max(range(len(base)), key=lambda i: len(base[i].shape))
    shape = base[main].shape
    if len(shape) not in (4, 5):
        return
    sides = _find_places(base, main, tuple(range(len(shape) - 2, len(shape))))
    near = sorted(_USUAL, key=lambda side: abs(side - shape[-1]))
    if len(shape) == 4:
        yield from (move_dims(base, sides, side) for side in near[:3])
        return
    clips = _find_places(base, main, (2,))
    for frames in (shape[2], *_FRAMES):
        for side in (shape[-1], 224):
            yield move_dims(move_dims(base, clips, frames), sides, side)


def read_message(ctx: FailureContext, base: Specs) -> Iterator[Specs]:
    """Sizes that the message of another library names, in the place of those that it found."""
    numbers = list(dict.fromkeys(int(word) for word in re.findall(r"\d+", ctx.failure.message) if len(word) < 6))
    for found in numbers:
        places = tuple(
            (leaf, axis) for leaf, spec in enumerate(base) for axis, size in enumerate(spec.shape) if size == found > 1
        )
        for wanted in numbers if places else ():
            if wanted not in (0, found):
                yield move_dims(base, places, wanted)
    sides = list_moves(base)[0] if len(base[0].shape) > 3 else ()
    for wanted in numbers if sides else ():
        if wanted > read_size(base, sides):
            yield move_dims(base, sides, wanted)


def restructure(ctx: FailureContext, diagnosis: Diagnosis, base: Specs) -> Iterator[Specs]:
    """Other ranks and orders: a batch in front, channels in their place, the channels the first layer takes."""
    channels, features = read_channels(ctx)
    if diagnosis.goal is not None:
        channels, features = [diagnosis.goal[1], *channels], [diagnosis.goal[1], *features]
    yield from harmonise(base)
    if len(base) > 1 and len({spec.shape for spec in base}) == 1:  # queries, keys and values
        for other in _reshape(base[0].shape, len(base[0].shape), channels, features):
            yield tuple(spec._replace(shape=other) for spec in base)
    for leaf, spec in enumerate(base):
        for other in _reshape(spec.shape, len(spec.shape), channels, features):
            if other != spec.shape and 0 < len(other) < 7:
                yield _put(base, leaf, other)


def harmonise(base: Specs) -> Iterator[Specs]:
    """Several inputs, one after the other in the size of the first, or of its size on one axis."""
    first = base[0].shape
    for leaf, spec in enumerate(base[1:], 1):
        if len(spec.shape) == len(first):
            yield _put(base, leaf, first)
        for axis in range(min(len(spec.shape), len(first))):
            yield _put(base, leaf, (*spec.shape[:axis], first[axis], *spec.shape[axis + 1 :]))


def _put(base: Specs, leaf: int, shape: tuple[int, ...]) -> Specs:
    return (*base[:leaf], base[leaf]._replace(shape=shape), *base[leaf + 1 :])


def _reshape(shape: tuple[int, ...], rank: int, channels: list[int], features: list[int]) -> Iterator[tuple[int, ...]]:
    yield (1, *shape)
    for wanted in channels:
        if rank == 2 and shape[1] == wanted:
            yield from ((*shape, *[1] * count) for count in (1, 2, 3))
        if rank >= 3 and shape[-1] == wanted:
            yield (shape[0], shape[-1], *shape[1:-1])
            yield (1, shape[-1], *shape[:-1])
        if rank >= 2:
            yield (shape[0], wanted, *shape[2:])
            yield (shape[0], wanted, *shape[1:])
        yield (1, wanted, *shape)
    for wanted in features:
        if rank == 3 and shape[1] == wanted:
            yield (shape[0], shape[2], shape[1])
        if rank >= 1:
            yield (*shape[:-1], wanted)
            yield (*shape, wanted)
    if rank > 1:
        yield shape[1:]
        yield (shape[0] * shape[1], *shape[2:])
    if rank >= 3:
        yield (shape[0], shape[-1], *shape[1:-1])
        yield (shape[0], *shape[2:], shape[1])
    if rank >= 1:
        yield (2 * shape[0], *shape[1:])
        yield (shape[0], 1, *shape[1:])
        yield (*shape, shape[-1])
    yield (1, 1, *shape)


def read_channels(ctx: FailureContext) -> tuple[list[int], list[int]]:
    """Return the channels and the features that layers take: the failed one first, then those reached, then all."""
    channels: list[int] = []
    features: list[int] = []
    reached = [call.module for call in ctx.trace.calls if call.kind == "module" and call.module is not None]
    if ctx.call.module is not None:
        reached.insert(0, ctx.call.module)
    for index in [*reached[:200], *range(min(len(ctx.trace.modules), 50))]:
        settings = ctx.trace.modules[index].settings
        named = [(name, channels) for name in CHANNEL_SETTINGS] + [(name, features) for name in FEATURE_SETTINGS]
        for name, kept in named:
            value = settings.get(name)
            if type(value) is int and value > 0 and value not in kept:
                kept.append(value)
        shape = settings.get("normalized_shape")
        if isinstance(shape, tuple) and len(shape) == 1 and type(shape[0]) is int and shape[0] not in features:
            features.append(shape[0])
    return channels[:2], features[:2]
