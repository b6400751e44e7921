"""Private names of torch around sharded tensors and modules; nothing of ``torch.distributed`` is imported for them.

A ``DTensor`` has a global size and holds this rank's part of it. A model that has none never loads the classes, so they
are looked up in what is loaded.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib import import_module
from traceback import walk_stack
from typing import Any

import torch
from torch import Tensor, nn

_TENSOR = "torch.distributed.tensor"
#: Where the classes of layouts of ranks and tensors are: their objects never change.
SHARED_MODULES = frozenset({"torch.distributed.device_mesh", f"{_TENSOR}.placement_types", f"{_TENSOR}._dtensor_spec"})


def count_ranks() -> int:
    """Return the number of ranks of the process group, 1 without one."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def load_collectives() -> None:
    """Import torch's rules for collectives on fakes, which it keeps apart up to 2.9: FSDP2 gathers by one."""
    name, has_kernel = "c10d::_allgather_base_", torch._C._dispatch_has_kernel_for_dispatch_key
    distributed = torch.distributed
    if distributed.is_available() and distributed.is_initialized() and not has_kernel(name, "Meta"):
        with suppress(ImportError):
            import_module("torch.distributed._tools.fake_collectives")


def is_sharded(value: Any) -> bool:
    """Return whether a value is a ``DTensor``: its size is global, its memory is this rank's part."""
    kind: Any = getattr(sys.modules.get(_TENSOR), "DTensor", None)
    return kind is not None and isinstance(value, kind)


def is_wrapper(kind: type) -> bool:
    """Return whether a class of tensors holds others and does its operations by operations on these."""
    return hasattr(kind, "__tensor_flatten__")


def local_part(tensor: Any) -> Tensor:
    """Return this rank's part of a ``DTensor``, what a collective's unawaited result holds, or the tensor itself."""
    while True:
        if is_sharded(tensor):
            tensor = tensor._local_tensor
        elif type(tensor).__name__ == "AsyncCollectiveTensor":
            tensor = tensor.elem
        else:
            return tensor  # type: ignore[no-any-return]


def spec_of(tensor: Any) -> Any:
    """Return what a ``DTensor`` is besides its part: mesh, placements, global size and stride."""
    return tensor._spec


def rebuild_sharded(local: Tensor, spec: Any, requires_grad: bool) -> Tensor:
    """Make the ``DTensor`` of a part."""
    kind: Any = sys.modules[_TENSOR].DTensor
    return kind(local, spec, requires_grad=requires_grad)  # type: ignore[no-any-return]


def empty_sharded(like: Any, shape: tuple[int, ...]) -> Tensor:
    """Make an empty ``DTensor`` of another global size, on the mesh and with the placements of ``like``."""
    empty: Callable[..., Tensor] = sys.modules[_TENSOR].empty
    return empty(*shape, dtype=like.dtype, device_mesh=like.device_mesh, placements=like.placements)


def count_mesh(tensor: Any) -> int:
    """Return the number of ranks of a ``DTensor``'s mesh."""
    return int(tensor.device_mesh.size())


def class_before_sharding(kind: type) -> type:
    """Return the class of which ``fully_shard`` made another, any other class itself."""
    return kind.__mro__[2] if kind.__module__.startswith("torch.distributed.fsdp._fully_shard") else kind


_PLANNERS = tuple(f"torch/distributed/tensor/{name}.py" for name in ("_sharding_prop", "_decompositions"))


def is_planning_shards() -> bool:
    """Return whether torch now works out a result's sharding: it runs the operation at the global size for that."""
    frames = walk_stack(sys._getframe(1))
    return any(frame.f_code.co_filename.replace("\\", "/").endswith(_PLANNERS) for frame, _ in frames)


def copy_module_states(pairs: Iterable[tuple[Any, nn.Module]], clone: Callable[[Any], Any]) -> None:
    """Register the states of ``fully_shard``, which torch keeps in a table by module, for the clones of modules.

    Args:
        pairs: ``(original, clone)``; an original may be the placeholder of a layer in a template.
        clone: Returns the clone of an original's state.
    """
    table: Any = getattr(sys.modules.get("torch.distributed._composable_state"), "_module_state_mapping", None)
    if not table:
        return
    for old, new in pairs:
        reference = table.get(old) if isinstance(old, nn.Module) else None
        state = reference() if reference is not None else None
        if state is not None and new not in table:
            table[new] = weakref.ref(clone(state))
