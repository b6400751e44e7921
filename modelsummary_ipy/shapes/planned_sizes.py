"""Which other sizes are tried first: far from the user's own, and each dim in another way than its neighbours."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence

from modelsummary_ipy.records.retraced import Sizes
from modelsummary_ipy.shapes.dim_names import InputNames

#: What is added to the batch in the further traces (the one at ``B + 1`` came before): to the next multiple of 16, so
#: that batches near one another are traced at the same sizes, whose shapes are cached.
_BATCH = (3, 6, 4, 10)
#: What is added to a sequence's length: rows that are no straight line of one another, nor of the batch's. The first
#: makes an even length odd: what is padded to a multiple shows.
_SEQUENCE = ((9, 17, 4, 6), (7, 3, 19, 12), (13, 6, 2, 21), (3, 11, 20, 8), (18, 5, 7, 10))


def plan_joint_sizes(names: InputNames, base: Sizes) -> dict[str, int]:
    """Return the sizes that are tried first where all dims move together, the batch too."""
    moving = [name for name in base if name != names.batch and not names.is_feature(name)]
    plans = plan_sizes(names, base, moving)
    return {names.batch: plan_batch(base[names.batch])[0], **{name: plan[0] for name, plan in plans.items()}}


def move_by_64(names: InputNames, joint: Sizes, own: Sizes, used: Collection[int]) -> dict[str, int]:
    """Move heights and widths by multiples of 64 instead: a U-Net runs at few other sizes.

    Args:
        joint: Sizes at which all dims have moved.
        used: Sizes of parameters.
    """
    moved = dict(joint)
    for name in own:
        if names.is_spatial(name):
            taken = {*used, *moved.values()}
            moved[name] = next(size for size in itertools.count(own[name] + 64, 64) if size not in taken)
    return moved


def plan_batch(size: int) -> tuple[int, ...]:
    """Plan other sizes for the batch."""
    return tuple((size // 16 + 1) * 16 + more for more in _BATCH)


def plan_sizes(names: InputNames, base: Sizes, moving: list[str]) -> dict[str, tuple[int, ...]]:
    """Plan other sizes for every dim: around multiples of 64 for feature maps, a little more for sequences."""
    plans: dict[str, tuple[int, ...]] = {}
    sequences = iter(_SEQUENCE)
    spatial = 0
    for name in moving:
        size = base[name]
        if names.is_spatial(name):
            # One below and one above a multiple of 64: there every floor and every ceiling of a chain of strides
            # shows, for any stride that is a power of two. Far apart, so that a long stride shows too.
            # Once the height is more than the width, and once less: what is cut to the shorter one shows.
            near, far = (size // 64 + 1) * 64, (size * 3 // 128 + 1) * 64
            plan = (
                (far - 1, near + (1 if far > near + 66 else 193), 2 * size + 27, size * 5 // 4 + 38),
                (near + 65, far + 127, 2 * size + 45, size * 4 // 3 + 10),
            )[spatial % 2]
            first, second, *others = (value + 192 * (spatial // 2) for value in plan)
            plans[name] = (first, _leave_remainders(size, second, 64), *others)
            spatial += 1
        else:
            more = next(sequences, (15, 4, 9, 22))
            first, second, *others = (size + step + (size // 16) * (step % 5) for step in more)
            taken = {each[1] for each in plans.values()}
            plans[name] = (first, _leave_remainders(size, second, 1, taken), *others)
    return plans


def _leave_remainders(size: int, planned: int, step: int, taken: Collection[int] = ()) -> int:
    """Return a size from ``planned`` on that leaves other remainders by 3 and 7, and 2 and 5, than ``size``.

    What is added up to a multiple of these is another number there: ``T + 1`` of 50 would be that of 71. Sides move in
    steps of 64: by 2 their other sizes tell, by 5 too.
    """
    while planned in taken or math.gcd(planned - size, 210 if step == 1 else 21) > 1:
        planned += step
    return planned


def plan_remainders(
    names: InputNames,
    base: Sizes,
    free: Sequence[str],
    strides: Sizes,
    tied: Sequence[tuple[str, str]],
    *,
    far: bool = True,
) -> list[dict[str, int]]:
    """Plan sizes that leave other remainders than those of ``plan_sizes``: halves of halves that are odd, none, all.

    Of ``64·k + 5`` a patch of 4 leaves ``16·k + 1``, of which every half that is rounded up is odd; of ``64·k + 9`` a
    patch of 8 leaves ``8·k + 1``. Of ``240·k - 1``, ``240·k + 1`` and ``240·k`` every floor and every ceiling shows,
    for any step that divides 240.

    Args:
        free: Names of the dims that move.
        strides: By name, the smallest difference between sizes that work.
        tied: Pairs of names that only move together.
        far: Whether sequences may be so long, and sides so far apart.
    """
    planned = []
    for turn in range(3):
        sizes = dict(base)
        moving = [name for name in free if name != names.batch]
        for place, name in enumerate(moving):
            size, step = base[name], strides.get(name, 1)
            wanted = size + (5, 11, 8)[turn] + place
            if names.is_spatial(name):
                more = ((5, 9, 0), (13, 0, 5))[place % 2][turn]  # odd beside even: each side may be padded alone
                # Once far apart: as many windows, even of 256, would be one side's or the other's.
                wanted = ((size // 64 + 1) * (turn + 1) + place * (6 if turn == 1 and far else 1)) * 64 + more
            elif far:
                wanted = (size // 240 + 1 + place + turn) * 240 + (-1, 1, 0)[turn]
            sizes[name] = size + max(round((wanted - size) / step), 1 + turn) * step
        sizes.update({two: sizes[one] for one, two in tied if one in sizes})
        if names.batch in free:
            sizes[names.batch] = plan_batch(base[names.batch])[1 + turn]
        planned.append(sizes)
    return planned
