"""Fakes of tensor subclasses without a dispatch of their own: instances of the subclass and of ``FakeTensor`` at once.

A quantized parameter (bitsandbytes') or an annotated image (torchvision's) is a plain tensor with a class and
attributes, which a forward reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import get_default_nowrap_functions

from modelsummary_ipy.model.tensor_meta import has_dispatch
from modelsummary_ipy.torch_compat.fakes import FakeTensor


class _FakeOfSubclass(FakeTensor):
    """What every class here has besides the user's: results have the class too, as torch's own subclasses do it.

    Attributes:
        users_class: The class that it is made for.
        names_of_fakes: Attributes that every fake has, whatever its class.
    """

    users_class: type[Tensor]
    names_of_fakes: frozenset[str]

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = Tensor.__torch_function__(func, (), args, kwargs)  # type: ignore[no-untyped-call]  # torch's own
        return output if func in get_default_nowrap_functions() else _give(output, cls)


def _give(value: Any, kind: type) -> Any:
    if type(value) is FakeTensor:
        value.__class__ = kind
    elif isinstance(value, (tuple, list)):
        made = [_give(item, kind) for item in value]
        return value if all(new is old for new, old in zip(made, value, strict=True)) else type(value)(made)
    return value


def give_class(fake: Any, kind: type[Tensor]) -> Any:
    """Make a fake an instance of ``kind`` too, and return it."""
    known: dict[type, type] = fake.fake_mode.classes
    made = known.get(kind)
    if made is None:
        body = {
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "users_class": kind,
            "names_of_fakes": frozenset(fake.__dict__),
        }
        metaclass: Any = type(kind)
        made = known[kind] = metaclass(kind.__name__, (kind, _FakeOfSubclass), body)
    fake.__class__ = made
    return fake


def find_class(tensor: Tensor) -> type[Tensor]:
    """Return the class that a tensor has for the user."""
    return tensor.users_class if isinstance(tensor, _FakeOfSubclass) else type(tensor)


def read_attributes(tensor: Tensor) -> Mapping[str, Any] | None:
    """Return the attributes that a tensor has of its own; ``None`` of one that holds others, whose class makes them."""
    if isinstance(tensor, _FakeOfSubclass):
        return {name: value for name, value in tensor.__dict__.items() if name not in tensor.names_of_fakes}
    return None if has_dispatch(tensor) else tensor.__dict__


def copy_class(fake: Any, like: Tensor) -> Any:
    """Give a fake the class and the attributes of another, and return it."""
    if isinstance(like, _FakeOfSubclass):
        give_class(fake, like.users_class).__dict__.update(read_attributes(like) or {})
    return fake


def give_real_class(tensor: Tensor, kind: type[Tensor], requires_grad: bool) -> Tensor:
    """Make a real tensor an instance of ``kind``, without the constructor of that class."""
    is_parameter = issubclass(kind, nn.Parameter)
    made: Any = nn.Parameter(tensor, requires_grad) if is_parameter else tensor.requires_grad_(requires_grad)
    made.__class__ = kind
    return made  # type: ignore[no-any-return]  # what has no type here is its class
