"""What torch's kernels make otherwise than its fakes tell: gradients of norms, their statistics, means of losses.

Two refuse what their fakes take: a convolution, and a loss of labels for pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelsummary_ipy.fake.layouts import Layout, new_layout
from modelsummary_ipy.torch_compat.fakes import FakeTensor, find_operator

_ATEN = torch.ops.aten
_BATCH_NORM_BACKWARD = _ATEN.native_batch_norm_backward.default
_LAYER_NORM_BACKWARD = _ATEN.native_layer_norm_backward.default
_LSTM_BACKWARD = find_operator("mkldnn_rnn_layer_backward.default")
_LABELS_OF_MAP = find_operator("nll_loss2d_forward.default")
_CTC_LOSS = find_operator("_ctc_loss.default")
_CTC_LOSS_BACKWARD = find_operator("_ctc_loss_backward.default")
_WEIGHT_NORM_BACKWARD = _ATEN._weight_norm_interface_backward.default
#: By operation, the argument whose format its first result has, ``None`` for one that is contiguous in any case. Fakes
#: give it the strides of the gradient that came in: what follows is then copied where a kernel's result is viewed.
_FORMAT_OF: dict[Any, int | None] = {
    _LAYER_NORM_BACKWARD: None,
    _ATEN._log_softmax_backward_data.default: None,
    _ATEN.native_group_norm_backward.default: 1,
    _BATCH_NORM_BACKWARD: 1,
}
_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
#: Norms whose mean and deviation are in float32 on the CPU where a half input meets a parameter in float32, as under
#: autocast; of fakes they have the input's dtype.
_WITH_STATISTICS = frozenset({
    _ATEN.native_layer_norm.default, _ATEN.native_group_norm.default, _ATEN.native_batch_norm.default,
    find_operator("_native_batch_norm_legit.default"), find_operator("_native_batch_norm_legit.no_stats"),
})  # fmt: skip
_HALVES = (torch.bfloat16, torch.float16)
#: Losses whose one number stays in the memory of all that it is a mean or a sum of.
_WITH_ROOM = frozenset({
    _ATEN.mse_loss.default, _ATEN.smooth_l1_loss.default, _ATEN.soft_margin_loss.default,
    _ATEN.binary_cross_entropy.default,
})  # fmt: skip


class Made(NamedTuple):
    """A result as the kernel makes it.

    Attributes:
        dtype, memory_format: Of the result.
        num_elements: How many elements a result of no dim has memory for.
    """

    dtype: torch.dtype
    memory_format: torch.memory_format = torch.contiguous_format
    num_elements: int = 1


def refuse_kernel(func: Any, args: Sequence[Any]) -> None:
    """Raise what kernels raise and fakes do not.

    Of a convolution's kernel of more dims than its settings, which fakes of torch 2.15 take, and of labels of another
    size than the map that they are for.
    """
    if func is _LABELS_OF_MAP and args[0].dim() == 4 and args[1].dim() == 3:
        data, labels = args[:2]
        if labels.shape != (data.shape[0], *data.shape[2:]):
            raise RuntimeError(f"size mismatch (got input: {list(data.shape)} , target: {list(labels.shape)}")
    if func is not _ATEN.convolution.default or len(args) < 4 or args[1].dim() < 3:
        return
    data, weight, _, stride, *_ = args
    rank = weight.dim()
    if len(stride) not in (1, rank - 2):
        raise RuntimeError(
            f"expected stride to be a single integer value or a list of {rank - 2} values to match the convolution "
            f"dimensions, but got stride={list(stride)}"
        )
    if data.dim() != rank:
        raise RuntimeError(
            f"Expected {rank}-dimensional input for {rank}-dimensional weight {list(weight.shape)}, but got "
            f"{data.dim()}-dimensional input of size {list(data.shape)} instead"
        )


def find_gradients(func: Any, args: Sequence[Any]) -> list[Layout | None] | None:
    """Return the layouts of the gradients of a batch norm or a weight norm; ``None`` for any other operation.

    Torch computes a batch norm's in 5 ms, for each size anew, and makes one that is not wanted, which its kernel does
    not. It has no rule for those of a weight norm up to 2.7: ``(gradient, v, g, norms, dim)``, all contiguous.
    """
    if func is _WEIGHT_NORM_BACKWARD:
        return [new_layout(part.shape, part.dtype) for part in args[1:3]]
    if func is not _BATCH_NORM_BACKWARD:
        return None
    grad, data, weight, *_, (wants_data, *wants_rest) = args
    stride = data.stride() if data.is_contiguous() or data.is_contiguous(memory_format=_last_format(data)) else None
    if grad.shape != data.shape or grad.dtype != data.dtype or stride is None or 0 in data.shape:
        return None
    if weight is None and any(wants_rest):
        return None
    rest = [Layout(weight.shape, (1,), weight.dtype) if wants else None for wants in wants_rest]
    return [Layout(data.shape, stride, data.dtype) if wants_data else None, *rest]


def find_alignment(func: Any, args: Sequence[Any]) -> list[Layout | None] | None:
    """Return the layouts of what ``ctc_loss`` makes: a number for each sample, and its sums for the backward.

    Torch has no rule for them, as the sums are of the longest target: ``None`` but for lengths in integers that its
    kernel takes, on the CPU. Nor has it one for the backward.
    """
    if func is _CTC_LOSS_BACKWARD:
        return [new_layout(args[1].shape, args[1].dtype)]
    if func is not _CTC_LOSS or args[0].dim() != 3 or args[0].fake_device.type != "cpu":
        return None
    data, targets, steps, lengths, *rest = args
    most, batch, classes = data.shape
    longest = max(lengths, default=0)
    is_right = len(steps) == len(lengths) == batch > 0 and min(*steps, *lengths) >= 0 and max(steps) <= most
    is_flat = targets.dim() == 1 and targets.shape[0] == sum(lengths)
    is_padded = targets.dim() == 2 and targets.shape[0] == batch and targets.shape[1] >= longest
    is_right = is_right and (is_flat or is_padded) and targets.dtype in (torch.int32, torch.int64)
    if not is_right or not 0 <= (rest[0] if rest else 0) < classes or data.dtype not in (torch.float32, torch.float64):
        return None
    sizes = (batch,), (batch, most, 2 * longest + 1)
    return [new_layout(size, data.dtype) for size in sizes]


def find_made(func: Any, args: Sequence[Any], results: Sequence[Any]) -> dict[int, Made | None]:
    """Return, by place, the results that are otherwise than the fakes of them; ``None`` for one that is not made."""
    if func in _WITH_STATISTICS:
        return _find_statistics(args, results)
    if func is _BATCH_NORM_BACKWARD and not args[-1][0]:
        return {0: None}
    if func is _LSTM_BACKWARD:  # of fakes up to torch 2.11 they have the input's dtype
        return {at: Made(torch.float32) for at, result in enumerate(results) if result.dtype != torch.float32}
    if func in _WITH_ROOM:
        size = torch.broadcast_shapes(args[0].shape, args[1].shape)
        return {0: Made(results[0].dtype, num_elements=math.prod(size))} if size and not results[0].dim() else {}
    if func not in _FORMAT_OF:
        return {}
    made = _find_parameters(args, results) if func is _LAYER_NORM_BACKWARD else {}
    first = results[0]
    if type(first) is not FakeTensor:
        return made
    like, found = _FORMAT_OF[func], torch.contiguous_format
    if like is not None and not args[like].is_contiguous():
        last = _last_format(args[like])
        found = last if args[like].is_contiguous(memory_format=last) else found
    dtype = first.dtype if like is None else args[like].dtype  # of a group norm in halves a fake's is float32
    if not first.is_contiguous(memory_format=found) or first.dtype != dtype:
        made[0] = Made(dtype, found)
    return made


def _last_format(data: Tensor) -> torch.memory_format:
    return _CHANNELS_LAST.get(data.dim(), torch.contiguous_format)


def _find_parameters(args: Sequence[Any], results: Sequence[Any]) -> dict[int, Made | None]:
    """The gradients of a layer norm's parameters have their dtype; fakes of torch 2.7 give them the input's."""
    pairs = [(at, param, results[at]) for at, param in zip((1, 2), args[5:7], strict=True)]
    return {
        at: Made(param.dtype)
        for at, param, made in pairs
        if param is not None and made is not None and made.dtype != param.dtype
    }


def _find_statistics(args: Sequence[Any], results: Sequence[Any]) -> dict[int, Made | None]:
    data, *rest = args
    is_mixed = any(isinstance(value, Tensor) and value.dtype == torch.float32 for value in rest)
    if not is_mixed or data.dtype not in _HALVES or data.fake_device.type != "cpu":
        return {}
    return dict.fromkeys(range(1, len(results)), Made(torch.float32))
