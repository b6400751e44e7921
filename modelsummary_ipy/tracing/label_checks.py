"""Labels whose values are known, and that are no classes of a loss or of ``one_hot``: fakes would pass them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from modelsummary_ipy.fake.index_values import build_error
from modelsummary_ipy.torch_compat.fakes import FakeTensor, constant_of, disable_dispatch
from modelsummary_ipy.tracing.real_op_checks import check_operation

_LOSSES = frozenset({"cross_entropy", "nll_loss"})


def check_call(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Do what ``check_operation`` and ``check_labels`` do."""
    check_operation(func, name, args, kwargs)
    check_labels(name, args, kwargs)


def check_labels(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse known labels that are no classes.

    Raises:
        IndexError, RuntimeError: As the real loss, or ``one_hot``, does.
    """
    if name == "one_hot":
        _check_one_hot(*args[:2], **kwargs)
        return
    scores = args[0] if args else kwargs.get("input")
    labels = args[1] if len(args) > 1 else kwargs.get("target")
    values = constant_of(labels) if name in _LOSSES and isinstance(labels, FakeTensor) else None
    if values is None or not isinstance(scores, Tensor) or not scores.dim() or values.is_floating_point():
        return
    with disable_dispatch():
        kept = values[values != kwargs.get("ignore_index", -100)]
        least, most = (int(kept.min()), int(kept.max())) if kept.numel() else (0, 0)
    classes = scores.shape[min(scores.dim() - 1, 1)]
    odd = most if most >= classes else least
    if least < 0 or most >= classes:
        raise build_error(IndexError, f"Target {odd} is out of bounds: {least} to {most} of {classes}")


def _check_one_hot(tensor: Any = None, num_classes: Any = -1) -> None:
    values = constant_of(tensor) if isinstance(tensor, FakeTensor) else None
    if values is None or not values.numel() or type(num_classes) is not int or num_classes < 0:
        return
    with disable_dispatch():
        most = int(values.max())
    if most >= num_classes:
        raise build_error(RuntimeError, f"Class values must be smaller than num_classes: {most} of {num_classes}")
