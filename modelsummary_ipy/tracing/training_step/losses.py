"""The loss of a training step: the model's own, the user's, or the sum of all that the model gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.pytree import walk_leaves
from modelsummary_ipy.records.errors import InputError

#: Losses whose target is the number of a class: one for all that is left without dim 1.
_OF_CLASSES = frozenset({"CrossEntropyLoss", "NLLLoss", "cross_entropy", "nll_loss", "MultiMarginLoss"})


class NoLossError(Exception):
    """No loss can be made of what the model gives; the message is for the user."""


def check_loss(loss: Any) -> None:
    """Check that a loss can be called.

    Raises:
        InputError: If not.
    """
    if isinstance(loss, type):
        raise InputError(f"the class {loss.__name__} as a loss", "an instance of it", f"{loss.__name__}()")
    if loss is not None and not callable(loss):
        raise InputError(f"loss={loss!r}", "a function of the output, and of a target if it takes one",
                         "loss=nn.CrossEntropyLoss()")  # fmt: skip


def make_loss(output: Any, loss: Callable[..., Any] | None) -> Tensor:
    """Make the loss of a forward's output.

    Args:
        loss: The user's; its target is made up. ``None``: the model's own ``loss`` if it gives one, else the sum of
            its floating outputs.

    Raises:
        NoLossError: If there is none to go backward from.
    """
    if loss is not None:
        return _check_scalar(call_loss(loss, output))
    own = output.get("loss") if isinstance(output, dict) else getattr(output, "loss", None)
    if isinstance(own, Tensor):
        return _check_scalar(own)
    floats = _find_floats(output)
    with_grad = [tensor for tensor in floats if tensor.requires_grad]
    if not with_grad:
        why = "no output requires grad" if floats else "the model gives no floating tensor"
        raise NoLossError(f"no loss can be made: {why}")
    total = with_grad[0].sum()
    for tensor in with_grad[1:]:
        total = total + tensor.sum()
    return total


def _find_floats(output: Any) -> list[Tensor]:
    """Find the floating tensors of an output, each once; not those in a cache, of which no loss is made."""
    found = {id(tensor): tensor for _, tensor in walk_leaves(output, kinds=(Tensor,)) if tensor.is_floating_point()}
    return list(found.values())


def _check_scalar(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1:
        kind = "nothing" if loss is None else f"a {type(loss).__name__}, and no tensor"
        got = f"a tensor of size {list(loss.shape)}, and no number" if isinstance(loss, Tensor) else kind
        raise NoLossError(f"the loss is {got}")
    if not loss.requires_grad:
        raise NoLossError("no loss can be made: it does not require grad")
    return loss


def call_loss(loss: Callable[..., Any], output: Any) -> Any:
    """Call a loss with an output, and with a target that is made up if it takes one.

    Raises:
        NoLossError: If the output has no floating tensor.
    """
    if not isinstance(loss, nn.Module) and _count_arguments(loss) == 1:
        return loss(output)
    floats = _find_floats(output)
    if not floats:
        raise NoLossError("no loss can be made: the model gives no floating tensor")
    prediction = floats[0]
    name = type(loss).__name__ if isinstance(loss, nn.Module) else getattr(loss, "__name__", "")
    if name in _OF_CLASSES:
        shape = [*prediction.shape[:1], *prediction.shape[2:]] if prediction.dim() > 1 else []
        return loss(prediction, torch.empty(shape, dtype=torch.int64, device=prediction.device))
    return loss(prediction, torch.empty_like(prediction, requires_grad=False))


def _count_arguments(loss: Callable[..., Any]) -> int:
    """Count what a function has to be given: one for ``lambda output: …``; two where that is unknown."""
    code = getattr(loss, "__code__", None)
    if code is None:
        return 2
    return int(code.co_argcount) - len(getattr(loss, "__defaults__", None) or ()) - hasattr(loss, "__self__")
