"""What kernels keep for the backward besides what autograd saves: oneDNN's workspace of an LSTM layer."""

from __future__ import annotations

_PAGE = 4096


def count_lstm_workspace(steps: int, batch: int, features: int, hidden: int) -> int:
    """Count the bytes of one direction of one layer, in float32: gates, states and gradients of all steps.

    Each of them begins on a page, its rows on 64 bytes; found from, and equal to, what torch 2.13 takes on x86.

    Example:
        >>> count_lstm_workspace(7, 3, 16, 24), count_lstm_workspace(50, 32, 128, 256)
        (53248, 25735168)
    """
    wide, states = _pad(max(features, hidden)), 2 * (steps + 1) * batch
    areas = [
        steps * batch * _pad(4 * hidden),
        steps * batch * _pad(hidden),
        *[states * wide] * 3,
        *[states * hidden] * 2,
    ]
    return sum(-(-4 * area // _PAGE) * _PAGE for area in areas)


def _pad(size: int) -> int:
    """Round up to rows of 64 bytes, and leave multiples of a KiB, which share lines of a cache."""
    padded = -(-size // 16) * 16
    return padded + 16 if padded % 256 == 0 else padded
