"""What kernels keep for the backward besides what autograd saves: oneDNN's workspace of an LSTM layer."""

from __future__ import annotations

import re
from functools import cache

#: The version of oneDNN from which on states are kept once.
_ONE_STATE = (3, 10)
_PAGE = 4096
_FLOAT32 = 4


def count_lstm_workspace(
    steps: int, batch: int, features: int, hidden: int, itemsize: int = 4, num_states: int | None = None
) -> int:
    """Count the bytes of one direction of one layer: gates, states and, in float32, gradients of all steps.

    Each of them begins on a page, its rows on 64 bytes; found from, and equal to, what torch takes on x86.

    Args:
        steps, batch, features, hidden: Sizes of the layer's input and of its state.
        itemsize: Bytes of an element of the weights: 4, or 2 of bfloat16.
        num_states: How many areas of states there are in the dtype of the weights; as many as this torch makes if it
            is not given.

    Example:
        >>> count_lstm_workspace(7, 3, 16, 24, num_states=1), count_lstm_workspace(50, 32, 128, 256, num_states=1)
        (53248, 25735168)
        >>> count_lstm_workspace(50, 32, 128, 256, itemsize=2, num_states=1)
        18296832
    """
    num_states = num_states or _find_num_states()
    widest, states = max(features, hidden), 2 * (steps + 1) * batch
    areas = [
        steps * batch * _pad(4 * hidden, itemsize) * itemsize,
        steps * batch * _pad(hidden, itemsize) * itemsize,
        *[states * _pad(widest, itemsize) * itemsize] * num_states,
        *[states * _pad(widest, _FLOAT32) * _FLOAT32] * 2,
        states * hidden * itemsize,
        states * hidden * _FLOAT32,
    ]
    return sum(-(-area // _PAGE) * _PAGE for area in areas)


@cache
def _find_num_states() -> int:
    """Return 3 for torch 2.7 and 2.9, with oneDNN 3.7, and 1 for 2.11 to 2.15, with 3.10 to 3.13: all measured."""
    import torch

    version = re.search(r"MKL-DNN v(\d+)\.(\d+)", torch.__config__.show())
    return 3 if version and (int(version[1]), int(version[2])) < _ONE_STATE else 1


def _pad(size: int, itemsize: int) -> int:
    """Round up to rows of 64 bytes, and leave multiples of 256 elements, which share lines of a cache."""
    row = 64 // itemsize
    padded = -(-size // row) * row
    return padded + row if padded % 256 == 0 else padded
