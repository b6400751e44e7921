"""What a window makes of a size, compared with torch's own functions over all their settings."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from modelsummary_ipy.shapes.windows import Window

SIZES = st.integers(1, 40)
RANKS = st.integers(1, 3)
KERNELS = st.integers(1, 7)
STRIDES = st.integers(1, 5)
PADDINGS = st.integers(0, 6)
DILATIONS = st.integers(1, 4)

PLAIN = st.builds(Window, KERNELS, STRIDES, PADDINGS, DILATIONS)
TRANSPOSED = st.builds(Window, KERNELS, STRIDES, PADDINGS, DILATIONS, st.integers(0, 5), transposed=st.just(True))
NAMED = st.builds(Window, KERNELS, STRIDES, st.sampled_from(["same", "valid"]), DILATIONS)
POOLS = st.builds(Window, KERNELS, STRIDES, PADDINGS, DILATIONS, ceil_mode=st.booleans())
WINDOWS = st.one_of(PLAIN, TRANSPOSED, NAMED, POOLS)

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


def conv_options(window: Window) -> dict[str, Any]:
    return {"stride": window.stride, "padding": window.padding, "dilation": window.dilation}


def pool_options(window: Window) -> dict[str, Any]:
    return {"stride": window.stride, "padding": window.padding, "ceil_mode": window.ceil_mode}


@compare
@given(st.one_of(PLAIN, NAMED), SIZES, RANKS)
def test_it_slides_as_a_convolution(window: Window, size: int, rank: int) -> None:
    conv = getattr(F, f"conv{rank}d")
    x, weight = meta(1, 2, *[size] * rank), meta(3, 2, *[window.kernel] * rank)

    assert window.output_size(size) == made_by(conv, x, weight, **conv_options(window))


@compare
@given(TRANSPOSED, SIZES, RANKS)
def test_it_slides_as_a_transposed_convolution(window: Window, size: int, rank: int) -> None:
    conv = getattr(F, f"conv_transpose{rank}d")
    x, weight = meta(1, 2, *[size] * rank), meta(2, 3, *[window.kernel] * rank)
    options = conv_options(window) | {"output_padding": window.output_padding}
    if window.output_padding >= max(window.stride, window.dilation):
        # Only the real function refuses this: a small one, then.
        x, weight = torch.empty(1, 1, *[1] * rank), torch.empty(1, 1, *[window.kernel] * rank)

        assert window.output_size(size) is made_by(conv, x, weight, **options) is None
        return

    assert window.output_size(size) == made_by(conv, x, weight, **options)


@compare
@given(POOLS, SIZES, RANKS)
def test_it_slides_as_a_max_pool(window: Window, size: int, rank: int) -> None:
    pool = getattr(F, f"max_pool{rank}d")
    made = made_by(pool, meta(1, 2, *[size] * rank), window.kernel, dilation=window.dilation, **pool_options(window))

    assert made == (window.output_size(size) if window.padding <= window.most_pool_padding else None)


@compare
@given(POOLS, SIZES, RANKS)
def test_it_slides_as_an_average_pool(window: Window, size: int, rank: int) -> None:
    window = Window(window.kernel, window.stride, window.padding, ceil_mode=window.ceil_mode)
    pool = getattr(F, f"avg_pool{rank}d")
    made = made_by(pool, meta(1, 2, *[size] * rank), window.kernel, **pool_options(window))

    assert made == (window.output_size(size) if window.padding <= window.most_pool_padding else None)


@compare
@given(POOLS, SIZES, RANKS)
def test_it_slides_as_a_power_average_pool(window: Window, size: int, rank: int) -> None:
    window = Window(window.kernel, window.stride, ceil_mode=window.ceil_mode)
    pool = getattr(F, f"lp_pool{rank}d")
    options = {"stride": window.stride, "ceil_mode": window.ceil_mode}

    assert window.output_size(size) == made_by(pool, meta(1, 2, *[size] * rank), 2.0, window.kernel, **options)


@compare
@given(PLAIN, SIZES)
def test_it_slides_as_an_unfold(window: Window, size: int) -> None:
    x = meta(1, 2, size, 1)
    kernel, stride, padding = (window.kernel, 1), (window.stride, 1), (window.padding, 0)
    made = made_by(F.unfold, x, kernel, dilation=window.dilation, padding=padding, stride=stride)

    assert window.output_size(size) == made


@compare
@given(WINDOWS, st.integers(0, 60))
def test_input_sizes_are_all_that_give_an_output(window: Window, output: int) -> None:
    found = [size for size in range(1, 500) if window.output_size(size) == output]

    assert list(window.input_sizes(output)) == (found if output else [])


@compare
@given(WINDOWS)
def test_the_smallest_input_is_the_first_that_fits(window: Window) -> None:
    fits = [size for size in range(1, 100) if window.output_size(size) is not None]

    assert window.smallest_input == (fits[0] if fits else None)
    assert not fits or fits == list(range(fits[0], 100))


@compare
@given(st.one_of(PLAIN, TRANSPOSED), SIZES)
def test_same_padding_keeps_the_size(window: Window, size: int) -> None:
    before, after = window.same_padding
    assert after - before in (0, 1)
    stride = 1 if window.transposed else window.stride
    assume(window.output_padding < max(stride, window.dilation))
    extra, transposed = window.output_padding, window.transposed
    kept = Window(window.kernel, stride, before, window.dilation, extra, transposed=transposed).output_size(size)

    # One number for both sides keeps the size where there is one; else one element is lost (a transpose: left over).
    if before == after:
        assert kept == -(-size // stride)
    elif transposed:
        assert kept == size + 1
    else:
        assert kept == ((size - 2) // stride + 1 if size > 1 else None)


@pytest.mark.parametrize(
    ("window", "extent"), [(Window(1), 1), (Window(3), 3), (Window(3, dilation=2), 5), (Window(1, dilation=9), 1)]
)
def test_the_extent_is_from_the_first_to_the_last_element(window: Window, extent: int) -> None:
    assert window.extent == extent


@pytest.mark.parametrize("padding", ["same", 0, -1])
def test_settings_that_torch_refuses_fit_no_input(padding: Literal["same"] | int) -> None:
    window = Window(3, stride=0 if padding == 0 else 2, padding=padding)

    assert not window.is_allowed
    assert window.output_size(100) is None
    assert window.smallest_input is None
    assert list(window.input_sizes(4)) == []
