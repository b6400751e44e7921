"""What torch does behind every mode's back has rules here, under fakes: packed sequences, and copies of tensors.

Sizes of packed sequences follow from the lengths, whose values a small integer fake keeps; where it does not, torch's
own function is called, and fails as it must. ``copy.deepcopy`` reads a tensor's memory, and a fake has none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from modelsummary_ipy.fake.fake_mode import build_fake
from modelsummary_ipy.torch_compat.fakes import (
    FakeTensor,
    TorchDispatchMode,
    constant_of,
    decomposition_of,
    disable_dispatch,
    disable_function,
    give_constant,
    mark_parameter,
    variable_function,
)

#: In a fake's ``__dict__``: that the forward copied it, so that its values are another's and no fresh ones.
COPIED = "_ms_copied"

Rule = Callable[..., Any]

_pack_padded = variable_function("_pack_padded_sequence")
_pad_packed = variable_function("_pad_packed_sequence")


def find_rule(func: Callable[..., Any]) -> Rule | None:
    """Return what to call in the place of a torch function that fakes can't run, ``None`` for all others."""
    return _RULES.get(func)


def _read_values(tensor: Any) -> Tensor | None:
    """Return the known values of a fake, as a real tensor."""
    return constant_of(tensor) if isinstance(tensor, FakeTensor) else None


def _make_known(values: Tensor, like: FakeTensor) -> FakeTensor:
    """Make a fake on the CPU with known values."""
    with disable_dispatch():
        meta = torch.empty_strided(values.size(), values.stride(), dtype=values.dtype, device="meta")
    fake = build_fake(like.fake_mode, meta, torch.device("cpu"))
    give_constant(fake, values)
    return fake


def _pack(data: Tensor, lengths: Tensor, batch_first: bool) -> Any:
    """Do as ``_pack_padded_sequence``: ``(data of all steps one after the other, batch size of every step)``."""
    known = _read_values(lengths)
    if known is None or not isinstance(data, FakeTensor):
        return _pack_padded(data, lengths, batch_first)
    with disable_function(), disable_dispatch():
        # Zeros of the same batch and steps: torch's own message says what is wrong with the lengths.
        stand_in = torch.zeros(1).expand(*data.shape[:2], 1)
        packed, sizes = _pack_padded(stand_in, known, batch_first)
        total = len(packed)  # no more than there are steps, whatever the lengths say
    steps = (data.transpose(0, 1) if batch_first else data).flatten(0, 1)
    return torch.cat([steps.narrow(0, 0, total)]), _make_known(sizes, data)


def _pad(data: Tensor, batch_sizes: Tensor, batch_first: bool, padding_value: float, total_length: int) -> Any:
    """Do as ``_pad_packed_sequence``: ``(padded data, lengths)``."""
    known = _read_values(batch_sizes)
    if known is None or not isinstance(data, FakeTensor):
        return _pad_packed(data, batch_sizes, batch_first, padding_value, total_length)
    with disable_function(), disable_dispatch():
        stand_in = torch.zeros(1).expand(data.shape[0], 1)
        padded, lengths = _pad_packed(stand_in, known, False, 0.0, total_length)
        steps, batch = padded.shape[:2]
    out = data.new_full((steps, batch, *data.shape[1:]), padding_value)
    out.flatten(0, 1).narrow(0, 0, data.shape[0]).copy_(data)
    return out.transpose(0, 1) if batch_first else out, _make_known(lengths, data)


def _recur(original: Callable[..., Any], decomposition: str) -> Rule:
    def run(data: Tensor, second: Any, *rest: Any) -> Any:
        """Run a recurrent layer step by step, as torch's own decomposition does, if it was given packed data."""
        known = _read_values(second)
        if known is None or len(rest) < 2 or isinstance(rest[1], bool):  # not packed: (data, state, weights, bias, …)
            return original(data, second, *rest)
        by_step = decomposition_of(decomposition)
        if by_step is None:
            return original(data, second, *rest)
        with disable_function(), disable_dispatch():
            batch_sizes = [int(size) for size in known]
        return by_step(data, batch_sizes, *rest)

    return run


def _align(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: Any = 1,
    zero_infinity: bool = False,
) -> Any:
    """Do as ``ctc_loss``, given the numbers that its lengths are, where they are known.

    Its kernel takes numbers, and divides a mean by a tensor that it fills with them.
    """
    known = [_read_values(lengths) for lengths in (input_lengths, target_lengths)]
    way = {"none": 0, "mean": 1, "sum": 2}.get(reduction, reduction) if isinstance(reduction, str) else reduction
    if any(values is None for values in known) or way not in (0, 1, 2):
        original: Any = F.ctc_loss if isinstance(reduction, str) else torch.ctc_loss
        return original(log_probs, targets, input_lengths, target_lengths, blank, reduction, zero_infinity)
    with disable_function(), disable_dispatch():
        steps, lengths = (values.flatten().tolist() for values in known if values is not None)
    losses = torch.ctc_loss(log_probs, targets, steps, lengths, blank, 0, zero_infinity)
    if way == 1:
        return (losses / losses.new_full(losses.shape, 1.0)).mean()
    return losses.sum() if way == 2 else losses


def _align_by_name(*args: Any, **named: Any) -> Any:
    """Do as ``F.ctc_loss``, whose ``reduction`` is a mean where none is named."""
    return _align(*args, **(named if len(args) > 5 else {"reduction": "mean", **named}))


class _Differing(TorchDispatchMode):
    """Two tensors are not equal, whatever is in them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return False if func is torch.ops.aten.equal.default else func(*args, **(kwargs or {}))


def _invert(original: Callable[..., Any]) -> Rule:
    def run(*args: Any, **kwargs: Any) -> Any:
        """Do as ``istft``, and take for granted what it asks of its window's values: that they add up to no zero."""
        if not any(isinstance(value, FakeTensor) for value in args[:1]):
            return original(*args, **kwargs)
        with _Differing():  # type: ignore[no-untyped-call]
            return original(*args, **kwargs)

    return run


def _copy(tensor: Any, memo: dict[int, Any]) -> Any:
    """Do as ``Tensor.__deepcopy__``: a layer that a forward copies has weights of its own."""
    if not isinstance(tensor, FakeTensor) or not tensor.is_leaf:
        return Tensor.__deepcopy__(tensor, memo)  # type: ignore[no-untyped-call]
    if id(tensor) not in memo:
        known = constant_of(tensor)
        with disable_function(), disable_dispatch():
            meta = torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device="meta")
            copy: Any = build_fake(tensor.fake_mode, meta, tensor.fake_device, tensor.requires_grad)
            if known is not None:
                give_constant(copy, known.clone())
        if isinstance(tensor, nn.Parameter):
            copy = mark_parameter(copy)
        copy.__dict__[COPIED] = True
        memo[id(tensor)] = copy
    return memo[id(tensor)]


_RULES: dict[Any, Rule] = {
    Tensor.__deepcopy__: _copy,
    _pack_padded: _pack,
    _pad_packed: _pad,
    torch.ctc_loss: _align,
    F.ctc_loss: _align_by_name,
    torch.istft: _invert(torch.istft),
    Tensor.istft: _invert(Tensor.istft),
    **{
        layer: _recur(layer, decomposition)
        for name, decomposition in (
            ("lstm", "lstm_data_impl"),
            ("gru", "gru_impl_data"),
            ("rnn_tanh", "rnn_tanh_data"),
            ("rnn_relu", "rnn_relu_data"),
        )
        if (layer := variable_function(name)) is not None
    },
}
