"""What kernels keep for the backward besides what autograd saves: oneDNN's workspace of an LSTM layer."""

from __future__ import annotations

_PAGE = 4096
_FLOAT32 = 4


def count_lstm_workspace(steps: int, batch: int, features: int, hidden: int, itemsize: int = 4) -> int:
    """Count the bytes of one direction of one layer: gates, states and, in float32, gradients of all steps.

    Each of them begins on a page, its rows on 64 bytes; found from, and equal to, what torch 2.13 takes on x86.

    Args:
        steps, batch, features, hidden: Sizes of the layer's input and of its state.
        itemsize: Bytes of an element of the weights: 4, or 2 of bfloat16.

    Example:
        >>> count_lstm_workspace(7, 3, 16, 24), count_lstm_workspace(50, 32, 128, 256)
        (53248, 25735168)
        >>> count_lstm_workspace(50, 32, 128, 256, itemsize=2)
        18296832
    """
    widest, states = max(features, hidden), 2 * (steps + 1) * batch
    areas = [
        steps * batch * _pad(4 * hidden, itemsize) * itemsize,
        steps * batch * _pad(hidden, itemsize) * itemsize,
        states * _pad(widest, itemsize) * itemsize,
        *[states * _pad(widest, _FLOAT32) * _FLOAT32] * 2,
        states * hidden * itemsize,
        states * hidden * _FLOAT32,
    ]
    return sum(-(-area // _PAGE) * _PAGE for area in areas)


def _pad(size: int, itemsize: int) -> int:
    """Round up to rows of 64 bytes, and leave multiples of 256 elements, which share lines of a cache."""
    row = 64 // itemsize
    padded = -(-size // row) * row
    return padded + row if padded % 256 == 0 else padded
