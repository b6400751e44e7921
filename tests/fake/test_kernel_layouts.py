"""What kernels make otherwise than torch's own fakes: layouts, dtypes, and operations that have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from modelsummary_ipy.fake.fake_tensors import make_fake
from modelsummary_ipy.fake.fast_fake_mode import make_fake_mode
from tests.fake.test_fake_mode import ones
from tests.reference import HAS_GROUPED_PRODUCTS

ATEN, LAST = torch.ops.aten, torch.channels_last


@pytest.mark.skipif(not HAS_GROUPED_PRODUCTS, reason="torch before 2.9 has none on a CPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_grouped_product_has_a_fake_wherever_it_has_a_kernel(dtype: torch.dtype) -> None:
    """torch's rule for its sizes takes bfloat16 alone; its strides must be whole multiples of 16 bytes."""
    ends = torch.tensor([4, 8], dtype=torch.int32)
    rows, stack, wide = torch.randn(8, 16), torch.randn(2, 16, 8), torch.randn(16, 8)
    cases = ((rows, stack), (rows, stack.mT.contiguous().mT), (wide, rows), (stack, stack.mT))
    for left, right in cases:
        left, right = left.to(dtype), right.to(dtype)
        at = None if left.dim() == right.dim() == 3 else ends
        real = torch._grouped_mm(left, right, at)
        with make_fake_mode() as mode:
            fake = torch._grouped_mm(
                *(make_fake(value, mode) if value is not None else None for value in (left, right, at))
            )
        assert (fake.shape, fake.stride(), fake.dtype, fake.device) == (
            *(real.shape, real.stride(), real.dtype, real.device),
        )


@pytest.mark.skipif(not HAS_GROUPED_PRODUCTS, reason="torch before 2.9 has none on a CPU")
@pytest.mark.parametrize(("rows", "columns"), [(15, 16), (16, 6)])
def test_a_grouped_product_that_fails_for_real_fails_as_a_fake(rows: int, columns: int) -> None:
    left, right, ends = torch.randn(8, 16), torch.randn(2, rows, columns), torch.tensor([4, 8], dtype=torch.int32)
    with pytest.raises(RuntimeError, match=r"contraction|stride"):
        torch._grouped_mm(left, right, ends)
    # Torch 2.9's rule for sizes trips over the message that it wants to raise.
    refused = pytest.raises((RuntimeError, TypeError), match=r"contraction|stride|message must be a callable")
    with make_fake_mode() as mode, refused:
        torch._grouped_mm(make_fake(left, mode), make_fake(right, mode), make_fake(ends, mode))


#: Gradient and input as ``(B, C, H, W)``, each contiguous or channels last; the gradient of a norm, or of log_softmax.
BACKWARDS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "layer norm": lambda grad, x: ATEN.native_layer_norm_backward(
        grad, x, [4], x[..., :1], x[..., :1], None, None, [True, False, False]
    ),
    "group norm": lambda grad, x: ATEN.native_group_norm_backward(
        grad, x, x[:, :2, 0, 0].contiguous(), x[:, :2, 0, 0].contiguous(), None, 2, 8, 16, 2, [True, False, False]
    ),
    "batch norm": lambda grad, x: ATEN.native_batch_norm_backward(
        grad, x, *[x[0, :, 0, 0].contiguous()] * 5, True, 1e-5, [True, True, True]
    ),
    "log softmax": lambda grad, x: ATEN._log_softmax_backward_data(grad, x, -1, torch.float32),
}


@pytest.mark.parametrize("formats", [(a, b) for a in (LAST, torch.contiguous_format) for b in (LAST, None)])
@pytest.mark.parametrize("name", BACKWARDS)
def test_a_gradient_lies_as_the_kernel_lays_it_out(name: str, formats: tuple[Any, Any]) -> None:
    grad, x = (torch.randn(2, 8, 4, 4).to(memory_format=each or torch.contiguous_format) for each in formats)
    run = BACKWARDS[name]
    real = run(grad, x)
    with make_fake_mode() as mode:
        fake = run(*(make_fake(each, mode) for each in (grad, x)))
    first, ours = (each[0] if isinstance(each, tuple) else each for each in (real, fake))
    assert ours.stride() == first.stride()


#: Of ``(B, C, H)``, a weight and a running mean.
NORMS: dict[str, Callable[..., Any]] = {
    "layer norm": lambda x, w, _: ATEN.native_layer_norm(x, [4], w, w, 1e-5),
    "group norm": lambda x, w, _: ATEN.native_group_norm(x, w, w, 2, 4, 4, 2, 1e-5),
    "batch norm": lambda x, w, mean: ATEN.native_batch_norm(x, w, w, mean, mean, True, 0.1, 1e-5),
    "batch norm of one batch": lambda x, w, _: ATEN.native_batch_norm(x, w, w, None, None, True, 0.1, 1e-5),
    "batch norm in eval": lambda x, w, mean: ATEN.native_batch_norm(x, w, w, mean, mean, False, 0.1, 1e-5),
}


@pytest.mark.parametrize("weight", [torch.float32, torch.bfloat16, None])
@pytest.mark.parametrize("data", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NORMS)
def test_statistics_of_a_norm_have_the_dtype_that_the_kernel_gives_them(name: str, data: Any, weight: Any) -> None:
    if (data, weight) == (torch.float32, torch.bfloat16):
        weight = data  # the kernels refuse a weight that is narrower than the data
    given = [ones(2, 4, 4).to(data), None if weight is None else ones(4).to(weight), ones(4).to(weight or data)]
    run = NORMS[name]
    real = run(*given)
    with make_fake_mode() as mode:
        fake = run(*(None if each is None else make_fake(each, mode) for each in given))
    assert [(each.shape, each.dtype, each.stride()) for each in fake] == [
        (each.shape, each.dtype, each.stride()) for each in real
    ]


def test_the_gradient_of_a_group_norm_in_halves_is_one() -> None:
    def run(x: Tensor, weight: Tensor) -> Any:
        made, *statistics = ATEN.native_group_norm(x, weight, weight, 2, 4, 4, 2, 1e-5)
        return ATEN.native_group_norm_backward(made, x, *statistics, weight, 2, 4, 4, 2, [True, True, True])

    given = ones(2, 4, 4).bfloat16(), ones(4)
    with make_fake_mode() as mode:
        fake = run(*(make_fake(each, mode) for each in given))
    assert [each.dtype for each in fake] == [each.dtype for each in run(*given)]


#: Layouts of the input of a batch norm.
FOR_CHANNELS: dict[str, Callable[[], Tensor]] = {
    "a number each": lambda: ones(5, 4),
    "sequences": lambda: ones(2, 4, 3),
    "channels last": lambda: ones(2, 4, 3, 3).to(memory_format=LAST),
    "turned": lambda: ones(2, 3, 4).transpose(1, 2),
    "volumes": lambda: ones(2, 4, 3, 3, 2),
}


@pytest.mark.parametrize("wants", [[True, True, True], [False, True, True], [True, False, False]])
@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)])
@pytest.mark.parametrize("name", FOR_CHANNELS)
def test_gradients_of_a_batch_norm_are_those_of_its_kernel(name: str, dtypes: Any, wants: list[bool]) -> None:
    for is_training in (True, False):

        def run(x: Tensor, one: Tensor, is_training: bool = is_training) -> Any:
            return ATEN.native_batch_norm_backward(x, x, one, one, one, one, one, is_training, 1e-5, wants)

        given = FOR_CHANNELS[name]().to(dtypes[0]), ones(4).to(dtypes[1])
        with make_fake_mode() as mode:
            fake = run(*(make_fake(each, mode) for each in given))
        ours, real = (
            [None if each is None else (each.shape, each.stride(), each.dtype) for each in made]
            for made in (fake, run(*given))
        )
        assert ours == real
