"""What follows from the settings of a window, compared with what torch's own functions make of a size."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelsummary_ipy.diagnosis.windows import Window

SIZES = st.integers(1, 40)
RANKS = st.integers(1, 3)
KERNELS = st.integers(1, 7)
STRIDES = st.integers(1, 5)
PADDINGS = st.integers(0, 6)
DILATIONS = st.integers(1, 4)

PLAIN = st.builds(Window, KERNELS, STRIDES, PADDINGS, DILATIONS)
TRANSPOSED = st.builds(Window, KERNELS, STRIDES, PADDINGS, DILATIONS, st.integers(0, 5), transposed=st.just(True))
NAMED = st.builds(Window, KERNELS, st.just(1), st.sampled_from(["same", "valid"]), DILATIONS)

compare = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def made_by(function: Callable[..., Tensor], *args: Any, **options: Any) -> int | None:
    """Return the last dim of what torch makes on the meta device, ``None`` if it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an even kernel with padding='same' warns of a copy
        try:
            return int(function(*args, **options).shape[-1])
        except RuntimeError:
            return None


def meta(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


@compare
@given(st.one_of(PLAIN, NAMED), SIZES, RANKS)
def test_a_convolution_takes_its_extent_and_gives_its_padding(window: Window, size: int, rank: int) -> None:
    x, weight = meta(1, 2, *[size] * rank), meta(3, 2, *[window.kernel] * rank)
    made = made_by(getattr(F, f"conv{rank}d"), x, weight, padding=window.padding, dilation=window.dilation)
    expected = size + window.total_padding - (window.extent - 1)
    assert made == (expected if expected > 0 else None)


@compare
@given(PLAIN, RANKS)
def test_a_pool_takes_so_much_padding_and_no_more(window: Window, rank: int) -> None:
    for pool in (getattr(F, f"max_pool{rank}d"), getattr(F, f"avg_pool{rank}d")):
        made = made_by(pool, meta(1, 2, *[40] * rank), window.kernel, window.stride, window.padding)
        assert (made is None) == (window.padding > window.most_pool_padding)


@compare
@given(st.one_of(PLAIN, TRANSPOSED), SIZES)
def test_same_padding_keeps_the_size(window: Window, size: int) -> None:
    before, after = window.same_padding
    assert after - before in (0, 1)
    stride = 1 if window.transposed else window.stride
    assume(window.output_padding < max(stride, window.dilation))
    conv: Any = F.conv_transpose1d if window.transposed else F.conv1d
    extra = {"output_padding": window.output_padding} if window.transposed else {}
    x, weight = meta(1, 2, size), meta(2, 2, window.kernel)
    kept = made_by(conv, x, weight, stride=stride, padding=before, dilation=window.dilation, **extra)

    # One number for both sides keeps the size where there is one; else one element is lost (a transpose: left over).
    if before == after:
        assert kept == -(-size // stride)
    elif window.transposed:
        assert kept == size + 1
    else:
        assert kept == ((size - 2) // stride + 1 if size > 1 else None)
