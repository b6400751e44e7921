"""A cache of the output shapes of aten operations: a model repeats few different ones thousands of times.

torch's own cache of fake results builds a key of sixteen fields a tensor; of these only size, stride, dtype and device
matter between the plain dense fakes that are remembered here: a view is as far from its tensor wherever that begins,
and the steps of a scan differ in nothing else. Whatever is not plain is left to torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.fake.layouts import Layout
from modelsummary_ipy.torch_compat.fakes import (
    FakeTensor,
    FakeTensorMode,
    constant_of,
    find_operator,
    is_composite,
    schema_of,
)
from modelsummary_ipy.torch_compat.modules import storage_address

#: Makes a fake of an empty meta tensor: ``(mode, meta, device) -> FakeTensor``.
Make = Callable[[Any, Tensor, torch.device], FakeTensor]

#: Means "not remembered"; ``None`` is a result some operations have.
MISSED = object()

_UNSAFE_TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape, torch.Tag.inplace_view)
_UNSAFE_NAMES = frozenset(
    {"set_", "resize_", "lift", "lift_fresh", "lift_fresh_copy", "as_strided_"}
    | {"ones_like", "zeros_like", "full_like", "new_ones", "new_zeros", "new_full"}  # fakes of these have known values
)
#: Views whose offset does not follow from that of their tensor alone.
_PLACED = frozenset(
    {
        torch.ops.aten.as_strided.default,
        torch.ops.aten.view.dtype,
        torch.ops.aten.view_as_complex.default,
        torch.ops.aten.view_as_real.default,
    }
)
_UNSAFE_VIEW = find_operator("_unsafe_view.default")
#: Return a list of views of one tensor; of the unsafe one its schema hides that (each step of a GRU cell makes two).
PARTS = frozenset(
    {
        torch.ops.aten.split.Tensor,
        torch.ops.aten.split_with_sizes.default,
        torch.ops.aten.unbind.int,
        find_operator("unsafe_split.Tensor"),
    }
)
_MOST = 50_000


class Recipe:
    """How to make one result again: a fresh tensor, a view of the first argument, or the first argument itself.

    Args:
        layout: The result's; of a view its offset is that from the first argument.
        way: Which of the three.
    """

    __slots__ = ("device", "layout", "way")

    def __init__(self, layout: Layout, device: torch.device, way: str) -> None:
        self.layout = layout
        self.device = device
        self.way = way

    @classmethod
    def of(cls, tensor: Tensor, way: str, offset: int = 0) -> Recipe:
        """Return how to make a tensor like a result."""
        return cls(Layout(tensor.size(), tensor.stride(), tensor.dtype, offset), tensor.device, way)


class ShapeCache:
    """Results by operation and arguments; one memo serves every fake mode of the process, for it holds no tensor.

    Args:
        make: Makes a fake of an empty meta tensor.
    """

    def __init__(self, make: Make) -> None:
        self._make_fake = make
        self._ways: dict[Any, str] = {}
        self._results: dict[Any, tuple[Recipe, ...] | list[Recipe] | Recipe] = {}

    def find(
        self,
        mode: FakeTensorMode,
        func: Any,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        with_known: bool = False,
    ) -> tuple[Any, Any]:
        """Look a result up.

        Args:
            with_known: Whether tensors may have known values: what is made does not depend on them.

        Returns:
            The key to remember it under (``None`` if it is not to be remembered) and the result, or ``MISSED``.
        """
        if not self.way_of(func):
            return None, MISSED
        parts: list[Any] = [func, torch.get_default_dtype()]
        for value in args:
            if not add_part(parts, value, mode, with_known):
                return None, MISSED
        for name, value in kwargs.items():
            parts.append(name)
            if not add_part(parts, value, mode, with_known):
                return None, MISSED
        if func in _PLACED:
            parts.append(args[0].storage_offset())
        key = tuple(parts)
        return key, self.recall(mode, key, args)

    def way_of(self, func: Any) -> str:
        """Return what an operation makes, ``"fresh"``, ``"view"`` or ``"self"``; ``""`` if it must run every time."""
        way = self._ways.get(func)
        if way is None:
            way = self._ways[func] = _find_way(func)
        return way

    def recall(self, mode: FakeTensorMode, key: Any, args: Sequence[Any]) -> Any:
        """Make what is remembered under ``key`` again; ``MISSED`` if nothing is."""
        made = self._results.get(key)
        if made is None:
            return MISSED
        if isinstance(made, tuple):
            return tuple(self._make(one, mode, args) for one in made)
        if isinstance(made, list):
            return [self._make(one, mode, args) for one in made]
        return self._make(made, mode, args)

    def write(
        self, mode: FakeTensorMode, key: Any, func: Any, args: Sequence[Any], layout: Layout | list[Layout]
    ) -> Any:
        """Remember the layout of a result that torch was not asked for, or of several, and make it."""
        device = next(value for value in flat(args) if isinstance(value, FakeTensor)).fake_device
        self._make_room()
        way, layouts = self._ways[func], layout if isinstance(layout, list) else [layout]
        made = tuple([Recipe(one, device, way) for one in layouts])
        self._results[key] = made if isinstance(layout, list) else made[0]
        return self.recall(mode, key, args)

    def keep(self, key: Any, func: Any, args: Sequence[Any], output: Any) -> None:
        """Remember a result that ``find`` missed, if it is as plain as it looks."""
        many = isinstance(output, (tuple, list))
        tensors = output if many else (output,)
        made: list[Recipe] = []
        for tensor in tensors:
            if type(tensor) is not FakeTensor or constant_of(tensor) is not None or not _is_plain(tensor):
                return
            one = self._describe(func, args, tensor)
            if one is None:
                return
            made.append(one)
        self._make_room()
        self._results[key] = made if isinstance(output, list) else tuple(made) if many else made[0]

    def _make_room(self) -> None:
        if len(self._results) > _MOST:
            self._results.clear()

    def _make(self, made: Recipe, mode: FakeTensorMode, args: Sequence[Any]) -> Any:
        if made.way == "self":
            return args[0]
        size, stride, dtype, offset = made.layout
        if made.way == "fresh":
            meta = torch.empty_strided(size, stride, dtype=dtype, device="meta")
        else:
            meta = torch.empty(0, dtype=dtype, device="meta")
            meta.set_(args[0].untyped_storage(), args[0].storage_offset() + offset, size, stride)
        return self._make_fake(mode, meta, made.device)

    def _describe(self, func: Any, args: Sequence[Any], tensor: FakeTensor) -> Recipe | None:
        way = self._ways[func]
        first = args[0] if args and isinstance(args[0], Tensor) else None
        if way == "self":
            return Recipe.of(tensor, way) if tensor is first else None
        if way == "view":
            if first is None or storage_address(first) != storage_address(tensor):
                return None
            return Recipe.of(tensor, way, int(tensor.storage_offset() - first.storage_offset()))
        has_room = not tensor.dim() and tensor.untyped_storage().nbytes() > tensor.itemsize  # which a recipe leaves out
        return Recipe.of(tensor, way) if is_fresh(tensor, args) and not has_room else None


def is_fresh(tensor: Tensor, args: Sequence[Any]) -> bool:
    """Return whether a result is at the beginning of a storage that none of the arguments has."""
    storage = storage_address(tensor)
    shared = any(isinstance(value, Tensor) and storage_address(value) == storage for value in flat(args))
    return not shared and not tensor.storage_offset()


def flat(args: Sequence[Any]) -> list[Any]:
    """List arguments, and what is in those that are lists."""
    return [inner for value in args for inner in (value if isinstance(value, (list, tuple)) else (value,))]


def _find_way(func: Any) -> str:
    if getattr(func, "namespace", "") != "aten" or any(tag in func.tags for tag in _UNSAFE_TAGS):
        return ""
    if func in PARTS:
        return "view"
    if func is _UNSAFE_VIEW:
        return "view"  # its schema hides that: half of what a linear layer without bias makes of a sequence
    schema = schema_of(func)
    if schema.name.partition("::")[2] in _UNSAFE_NAMES or any(str(r.type) != "Tensor" for r in schema.returns):
        return ""
    aliases = [r.alias_info for r in schema.returns]
    if all(alias is None for alias in aliases):
        written = any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments)
        return "" if written or not aliases else "fresh"
    if len(aliases) != 1 or is_composite(func):
        return ""
    first = schema.arguments[0].alias_info
    if first is None:
        return ""
    others = any(a.alias_info is not None for a in schema.arguments[1:])
    return "" if others else ("self" if aliases[0].is_write else "view")


def _is_plain(tensor: FakeTensor) -> bool:
    return (
        tensor.layout is torch.strided
        and not tensor.is_conj()
        and not tensor.is_neg()
        and not tensor.is_nested
        and not tensor.is_quantized
    )


def add_part(parts: list[Any], value: Any, mode: FakeTensorMode, with_known: bool = False) -> bool:
    """Add what a result may depend on; numbers with their type, for 1, 1.0 and True are equal and not alike.

    Args:
        with_known: Whether a tensor may have known values.
    """
    kind = type(value)
    if kind is FakeTensor or isinstance(value, FakeTensor):
        is_other = value.fake_mode is not mode or (constant_of(value) is not None and not with_known)
        if is_other or not _is_plain(value):
            return False
        parts += (value.size(), value.stride(), value.dtype, value.fake_device, value.is_inference())
        return True
    if value is None or kind in (torch.dtype, torch.device, torch.layout, torch.memory_format, str):
        parts.append(value)
        return True
    if kind in (bool, int, float):
        parts += (kind, value)
        return True
    if kind in (list, tuple, torch.Size):
        parts.append(len(value))
        return all(add_part(parts, item, mode, with_known) for item in value)
    return False
