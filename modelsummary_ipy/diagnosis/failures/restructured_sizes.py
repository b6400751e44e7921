"""Inputs of other ranks and orders, at which a model may work."""

from __future__ import annotations

from collections.abc import Iterator

from modelsummary_ipy.diagnosis.failures.context import Diagnosis, FailureContext
from modelsummary_ipy.model.torch_layers import CHANNEL_SETTINGS, FEATURE_SETTINGS
from modelsummary_ipy.records.retraced import Specs


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
