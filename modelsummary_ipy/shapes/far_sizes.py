"""Sizes beyond every number of the user's code: there shows what it does to longer inputs alone."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from modelsummary_ipy.axes.integers import Pair
from modelsummary_ipy.axes.traced_op import Demand
from modelsummary_ipy.records.packages import PACKAGES
from modelsummary_ipy.records.retraced import Sizes
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.demands import Demands
from modelsummary_ipy.shapes.dim_names import InputNames
from modelsummary_ipy.shapes.sample_sizes import SampleSizes

#: Numbers above these are no lengths that a forward is traced at again; of a side, of a sequence.
_LARGEST_SIDE, _LARGEST = 1100, 5000
#: What the batch is a multiple of there.
_GROUPS = 24
#: Sizes far off leave 21 of 64, of which no half of a half, rounded up or down, is a multiple of 4: what fills up to
#: one, or cuts, does so there.
_REST, _PERIOD = 21, 64


class FarSizes(NamedTuple):
    """Sizes on both sides of all numbers that the user's code compares with.

    Attributes:
        near: As small as can be, whatever operations demand at the traced sizes: ``topk(min(20, T))`` at longer ones.
        small: As small as operations demand: where limits below are looked for too.
        far: Larger than all numbers.
        between, farther: To confirm what is found there: between the first and the given ones, and farther off.
        beside: A little more than ``near``: a bound shows at two sizes.
    """

    near: Sizes
    small: Sizes
    far: Sizes
    between: Sizes
    farther: Sizes
    beside: Sizes


def plan_far_sizes(
    trace: Trace,
    samples: SampleSizes,
    names: InputNames,
    demands: Sequence[Demand],
    caps: Collection[int] = (),
) -> FarSizes | None:
    """Plan sizes at which every dim but the batch is on another side of all numbers that the user's code compares with.

    Args:
        demands: What operations demand, none if that is not known.
        caps: Other sizes to be on both sides of.

    Returns:
        ``None`` if no code of the user's compares sizes, or longer inputs are more calls.
    """
    bounds = {*find_bounds(trace), *caps}
    moving = [
        name
        for name in samples.free
        if name not in samples.windows and name != names.batch and not samples.is_fixed(name, names)
    ]
    is_free = names.batch in samples.free
    if not bounds or not (moving or is_free) or any(len(other.calls) > len(trace.calls) for other in samples.traces):
        return None
    planned = [dict(samples.base) for _ in range(6)]
    for place, name in enumerate(moving):
        step, base = samples.strides.get(name, 1), samples.base[name]
        demanded = Demands(demands, samples.base).first(samples.tied_to(name), step) if demands else 1
        largest = _LARGEST_SIDE if names.is_spatial(name) else _LARGEST
        end = max([2 * base, *(bound for bound in bounds if bound <= largest)])
        near, small = 2 + place * step, max(demanded, 2)
        wanted = (near, small, end + 1, (near + base) // 2, end + 18, near + (1 + place) * step)
        for sizes, size in zip(planned, wanted, strict=True):
            more = size - base + (5 * (len(moving) - place) if size > base else 0)  # another one is the longest
            sizes[name] = base + -(-more // step) * step
        far = planned[2]
        if step == 1:
            far[name] += (_REST - far[name]) % _PERIOD + _PERIOD * (len(moving) - 1 - place)
    for one, two in samples.tied:
        for sizes in planned:
            sizes[two] = sizes[one]
    if is_free:  # of groups of 2, 3 or 4 samples, which other batches may not be made of
        planned[2][names.batch] = (samples.base[names.batch] // _GROUPS + 1) * _GROUPS
    return FarSizes(*planned)


def plan_smaller_sizes(samples: SampleSizes, names: InputNames) -> list[Sizes]:
    """Plan sizes of about an eighth, a quarter and half of the given ones: a window that is cut to the input shows."""
    planned: list[Sizes] = []
    for part in (8, 4, 2):
        sizes = dict(samples.base)
        moving = [name for name in samples.free if name != names.batch and not samples.is_fixed(name, names)]
        for place, name in enumerate(moving):
            base, step = samples.base[name], samples.strides.get(name, 1)
            less = (base - base // part) // step - place
            sizes[name] = base - max(less, 0) * step
        sizes.update({two: sizes[one] for one, two in samples.tied})
        if sizes != samples.base:
            planned.append(sizes)
    return planned


def plan_nearby_sizes(samples: SampleSizes, names: InputNames) -> Iterator[tuple[list[Sizes], list[Sizes]]]:
    """Plan sizes for dims that move a little: a few steps are not enough to show what a stride makes of them.

    Of larger and of smaller ones a tenth, and a twentieth; each is more for one dim than for its neighbour, and in
    another one less: what is made of one is none of the other.
    """
    narrow = [name for name in samples.free if name in samples.narrow or _moves_little(name, samples, names)]
    if not narrow or not samples.sizes:
        return
    for sign in (1, -1):
        pairs: list[list[Sizes]] = []
        for part in (10, 20):
            parts = [{name: part * (1 + (place + turn) % 2) for place, name in enumerate(narrow)} for turn in (0, 1)]
            moved = [
                {name: samples.base[name] + sign * samples.base[name] // of[name] for name in narrow} for of in parts
            ]
            pairs.append([{**samples.sizes[-1], **at} for at in moved])
        yield pairs[0], pairs[1]


def _moves_little(name: str, samples: SampleSizes, names: InputNames) -> bool:
    base = samples.base[name]
    return names.is_spatial(name) and all(abs(sizes[name] - base) <= base // 16 for sizes in samples.sizes)


def plan_parting_sizes(samples: SampleSizes, names: InputNames, rivals: Collection[Pair]) -> list[Sizes]:
    """Plan sizes at which some pairs of sizes differ that were alike in all traces; those where most do come first.

    Windows of 256 pixels are one along the height and one along the width of every smaller image.
    """
    found: list[tuple[int, int, Sizes]] = []
    for name in samples.free:
        windows, base = samples.windows.get(name), samples.sizes[-1][name]
        more = step = windows[0].period if windows else samples.strides.get(name, 1)
        largest = _LARGEST_SIDE if names.is_spatial(name) else 4 * base + 64
        while name != names.batch and not names.is_feature(name) and base + more <= largest:
            for size in (base + more, *([base - more] if more < base else ())):
                at = {**samples.sizes[-1], **dict.fromkeys(samples.tied_to(name), size)}
                parted = sum(is_parted(pair, at) for pair in rivals)
                if parted:
                    found.append((-parted, more, at))
            more += max(more // 2 // step, 1) * step
    return [at for _, _, at in sorted(found, key=lambda each: each[:2])]


def is_parted(pair: Pair, at: Sizes) -> bool:
    """Return whether two sizes differ."""
    return pair[0].value(at) != pair[1].value(at)


def find_bounds(trace: Trace) -> Iterator[int]:
    """Find the integers in code that compares, and in the settings of its modules."""
    for fact in trace.modules:
        if fact.bounds is not None and not fact.forward_file.startswith(PACKAGES):
            yield 0
            yield from fact.bounds
            yield from (value for value in fact.settings.values() if type(value) is int)
