"""What to write instead of a reshape that cuts across dims."""

from __future__ import annotations

import math

from modelsummary_ipy.diagnosis.call_arguments import Size


def write_reshape_fix(before: Size, after: Size) -> str:
    """Write the operation that was meant.

    Example:
        >>> write_reshape_fix((8, 20, 64), (8, 64, 20))
        'transpose(1, 2)'
        >>> write_reshape_fix((8, 20, 64), (8, 4, 20, 16))
        'view(B, 20, 4, 16).transpose(1, 2)'
        >>> write_reshape_fix((8, 32, 32, 3), (8, 3, 32, 32))  # not transpose(1, 3), which turns the picture too
        'permute(0, 3, 1, 2)'
        >>> write_reshape_fix((15, 32), (5, 3, 32))
        'view(3, 5, 32).transpose(0, 1)'
        >>> write_reshape_fix((8, 12, 6, 6), (8, 3, 12, 12))
        'nn.PixelShuffle(2)'
    """
    special = _write_split(before, after) or _write_rows(before, after) or _write_tokens(before, after)
    special = special or _write_shuffle(before, after)
    if special:
        return special
    if len(before) == len(after):
        last = len(before) - 1
        if last > 2 and before[0] == after[0] and (*before[2:], before[1]) == after[1:]:
            return f"permute(0, {', '.join(map(str, range(2, last + 1)))}, 1)"
        if last > 2 and before[0] == after[0] and (before[last], *before[1:last]) == after[1:]:
            return f"permute(0, {last}, {', '.join(map(str, range(1, last)))})"
        moved = [dim for dim in range(len(before)) if before[dim] != after[dim]]
        if len(moved) == 2 and before[moved[0]] == after[moved[1]]:
            return f"transpose({moved[0]}, {moved[1]})"
        order = [after.index(size) for size in before] if sorted(before) == sorted(set(after)) else []
        if sorted(order) == list(range(len(before))):
            return f"permute({', '.join(str(before.index(size)) for size in after)})"
    if len(before) > len(after):
        return "transpose what belongs together side by side first, then reshape"
    return "split the dim where it is, then transpose"


def _write_split(before: Size, after: Size) -> str:
    """The heads of ``(B, T, C)``, and of ``(B, heads, T, d)`` back."""
    if len(before) == 3 and len(after) == 4 and before == (after[0], after[2], after[1] * after[3]):
        return f"view(B, {after[2]}, {after[1]}, {after[3]}).transpose(1, 2)"
    if len(before) == 4 and len(after) == 3 and (before[0], before[2], before[1] * before[3]) == after:
        return "transpose(1, 2).flatten(2)"
    return ""


def _write_rows(before: Size, after: Size) -> str:
    """Rows of samples and steps, states of several layers, a map as steps, windows and parts of pixels as a map."""
    features = math.prod(before[1:])
    if len(after) > 1 and before[0] == after[0] * after[1] and features == math.prod(after[2:]):
        return f"view({', '.join(map(str, (after[1], after[0], *after[2:])))}).transpose(0, 1)"
    if len(before) == 3 and after == (before[1], before[0] * before[2]):
        return "transpose(0, 1).flatten(1)"
    if len(before) in (3, 4) and after == (before[0] * math.prod(before[2:]), before[1]):
        moved = "transpose(1, 2)" if len(before) == 3 else "permute(0, 2, 3, 1)"
        return f"{moved}.reshape(-1, {before[1]})"
    if len(before) == 4 and after == (before[0], before[3], before[1] * before[2]):
        return "permute(0, 3, 1, 2).flatten(2)"
    if len(before) != 6 or len(after) != 4:
        return ""
    size, one, two, three, four, last = before
    shape = ", ".join(["B", *map(str, after[1:])])
    if after == (size, one * three, two * four, last):
        return f"permute(0, 1, 3, 2, 4, 5).reshape({shape})"
    return f"permute(0, 1, 4, 2, 5, 3).reshape({shape})" if after == (size, one, two * four, three * last) else ""


def _write_tokens(before: Size, after: Size) -> str:
    """A feature map as tokens ``(B, H·W, C)``, its boxes or its patches as rows."""
    if len(before) != 4 or len(after) != 3 or before[0] != after[0]:
        return ""
    channels, positions = before[1], math.prod(before[2:])
    if after[1:] == (positions, channels):
        return "flatten(2).transpose(1, 2)"
    if channels % after[2] == 0 and after[1] % positions == 0:
        return f"permute(0, 2, 3, 1).reshape(B, -1, {after[2]})"
    side = math.isqrt(after[2] // channels) if after[2] % channels == 0 else 0
    if side > 1 and channels * side * side == after[2]:
        return f"F.unfold(x, {side}, stride={side}).transpose(1, 2)"
    return ""


def _write_shuffle(before: Size, after: Size) -> str:
    """Channels for sides, and sides for channels."""
    if len(before) != 4 or len(after) != 4 or before[0] != after[0]:
        return ""
    (low, wide), (high, broad) = before[2:], after[2:]
    if low * broad != high * wide or not min(low, high):
        return ""
    if high > low and high % low == 0:
        return f"nn.PixelShuffle({high // low})"
    return f"nn.PixelUnshuffle({low // high})" if low > high and low % high == 0 else ""
