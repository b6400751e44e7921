"""Private names of torch around modules, tensors, storages and switches."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from types import CodeType
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from modelsummary_ipy.torch_compat import prefer

# -- tensors and storages ----------------------------------------------------------------------------------------------


def _find_storage_key() -> Any:
    one = torch.empty(2, device="meta")
    same = one.untyped_storage()._cdata == one[1:].untyped_storage()._cdata
    other = torch.empty(2, device="meta").untyped_storage()._cdata
    return operator.attrgetter("_cdata") if same and one.untyped_storage()._cdata != other else None


#: Returns a number that a storage has to itself while it lives. Without it: torch keeps one Python object a storage.
storage_key: Callable[[Any], int] = prefer("storage_key", _find_storage_key, id)


def _find_storage_address() -> Any:
    one = torch.empty(2, device="meta")
    address = cast("Callable[[Tensor], int]", getattr(torch._C, "_storage_address"))  # noqa: B009  # not in the stubs
    return address if address(one) == address(one[1:]) != address(torch.empty(2, device="meta")) else None


#: The same of a tensor's storage, without leaving a Python object on every storage.
storage_address: Callable[[Tensor], int] = prefer(
    "storage_address", _find_storage_address, lambda tensor: storage_key(tensor.untyped_storage())
)


def _find_version() -> Any:
    tensor = torch.zeros(1)
    before = tensor._version
    tensor.add_(1)
    return operator.attrgetter("_version") if tensor._version == before + 1 else None


#: Counts the writes to a tensor. Without it no two counts are equal: each tensor counts as written to.
version_of: Callable[[Tensor], Any] = prefer("version_of", _find_version, lambda tensor: object())


def _find_set_version() -> Any:
    set_counter = cast("Callable[..., None]", torch._C._autograd._unsafe_set_version_counter)
    tensor = torch.zeros(1)
    tensor.add_(1)
    set_counter((tensor,), (0,))
    return set_counter if tensor._version == 0 else None


def _keep_version(tensors: tuple[Tensor, ...], versions: tuple[Any, ...]) -> None:
    """Do nothing: a tensor that was written to and put back counts two writes more."""


#: Sets how often tensors were written to: ``(tensors, counts)``.
set_version: Callable[[tuple[Tensor, ...], tuple[Any, ...]], None] = prefer(
    "set_version", _find_set_version, _keep_version
)


# -- autograd ----------------------------------------------------------------------------------------------------------


class NodeNumbers(NamedTuple):
    """The numbers that autograd gives its nodes, in the order in which a forward makes them.

    Attributes:
        upcoming: Returns the number that the next node will have.
        running: Returns the node that a backward runs now, ``None`` outside a backward.
        of: Returns the number of a node.
    """

    upcoming: Callable[[], int]
    running: Callable[[], Any]
    of: Callable[[Any], int]


def _find_node_numbers() -> Any:
    numbers = NodeNumbers(
        torch._C._autograd._get_sequence_nr, torch._C._current_autograd_node, operator.methodcaller("_sequence_nr")
    )
    leaf = torch.ones(1, requires_grad=True)
    before = numbers.upcoming()
    result = leaf * 2
    seen: list[Any] = []
    result.register_hook(lambda grad: seen.append(numbers.running()))
    result.backward()
    made = before <= numbers.of(result.grad_fn) < numbers.upcoming()
    return numbers if made and numbers.running() is None and len(seen) == 1 else None


#: Tells which call made the node that a backward runs. Without it no row is known for what a backward makes.
node_numbers: NodeNumbers | None = prefer("node_numbers", _find_node_numbers, None)


def is_default_generator(generator: Any) -> bool:
    """Return whether a generator is one that torch draws from unasked: operations get another Python object of it."""
    own = getattr(generator, "_cdata", None)
    return own is not None and any(own == each._cdata for each in (torch.default_generator, *_cards_generators()))


def _cards_generators() -> tuple[Any, ...]:
    return torch.cuda.default_generators if torch.cuda.is_initialized() else ()


#: Returns the tensor that another is a view of, ``None`` if it is none.
view_base: Callable[[Tensor], Tensor | None] = operator.attrgetter("_base")


# -- modules -----------------------------------------------------------------------------------------------------------

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
#: Hooks on all modules: these dicts are torch's, filled and emptied in place.
ALL_MODULES_HOOKS: tuple[Mapping[int, Any], ...] = tuple(
    getattr(nn.modules.module, f"_global{name}", {0: "unknown"}) for name in _HOOKS
)


def _has_hooks(module: nn.Module) -> bool:
    return any(map(module.__dict__.get, _HOOKS)) or any(ALL_MODULES_HOOKS)


def _has_pre_hooks(module: nn.Module) -> bool:
    return bool(module._forward_pre_hooks)


def _assume_hooks(module: nn.Module) -> bool:
    """Assume that there may be some: the module is run by torch's own call."""
    return True


def _find_hooks(has: Callable[[nn.Module], bool]) -> Any:
    module = nn.Identity()
    before = has(module)
    module.register_forward_pre_hook(print)
    return has if has(module) and not before else None


#: Whether a module has hooks of its own or there are some on all modules.
has_hooks: Callable[[nn.Module], bool] = prefer("has_hooks", lambda: _find_hooks(_has_hooks), _assume_hooks)
#: Whether a module has hooks that run before its forward.
has_pre_hooks: Callable[[nn.Module], bool] = prefer("has_pre_hooks", lambda: _find_hooks(_has_pre_hooks), _assume_hooks)

#: The class attribute that ``nn.Module.__call__`` reads first, and that ``.compile()`` sets on a module.
_COMPILED_CALL = "_compiled_call_impl"
_module_class: Any = nn.Module
_torchs_call: Any = nn.Module.__call__


def _set_compiled_call(call: Any) -> None:
    setattr(nn.Module, _COMPILED_CALL, call)


def _set_call(call: Any) -> None:
    """Put a wrapper in the place of ``nn.Module.__call__``; ``None`` takes it away."""
    if call is None:
        _module_class.__call__ = _torchs_call
        return

    @functools.wraps(_torchs_call)
    def run(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        handle = call.__get__(module, type(module))
        return _torchs_call(module, *args, **kwargs) if handle is None else handle(*args, **kwargs)

    _module_class.__call__ = run


def _find_module_call() -> Any:
    module = nn.Identity()
    setattr(module, _COMPILED_CALL, lambda value: ("ours", value))
    served = getattr(nn.Module, _COMPILED_CALL) is None and module(1) == ("ours", 1)
    return _set_compiled_call if served and nn.Module._call_impl(module, 2) == 2 else None


#: Lets a descriptor answer, for every module, what to call in the place of the module's own call (``None``: nothing
#: else). ``None`` in the place of the descriptor takes it away. Without it ``nn.Module.__call__`` itself is replaced.
set_module_call: Callable[[Any], None] = prefer("set_module_call", _find_module_call, _set_call)
#: Runs a module with its hooks, past whatever ``set_module_call`` has set: ``(module, *args, **kwargs)``.
call_module: Callable[..., Any] = prefer(
    "call_module", lambda: nn.Module._call_impl if set_module_call is _set_compiled_call else None, _torchs_call
)


#: The code of the functions that run a module's forward and have its arguments among their locals.
MODULE_CALL_CODES: frozenset[CodeType] = frozenset(
    getattr(nn.Module, name).__code__
    for name in ("_call_impl", "_wrapped_call_impl", "__call__")
    if hasattr(getattr(nn.Module, name, None), "__code__")
)

#: What may live in an instance's ``__dict__`` but belongs to the user's own object only: a trace runs eagerly.
COMPILED_STATE = frozenset({_COMPILED_CALL})
_COMPILED_FUNCTION = "_torchdynamo_orig_callable"
#: The same for what ``torch.compile`` made of a module.
COMPILED_MODULE_STATE = COMPILED_STATE | {"forward", "_forward", "dynamo_ctx", _COMPILED_FUNCTION}

#: Every convolution, lazy and transposed ones included.
CONV_TYPES: Any = prefer(
    "CONV_TYPES",
    lambda: nn.modules.conv._ConvNd,
    (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


#: By the name of a class that wraps a module, that of the attribute that holds it.
WRAPPERS = {"OptimizedModule": "_orig_mod", "DistributedDataParallel": "module", "DataParallel": "module"}


def find_wrapped(module: nn.Module) -> nn.Module | None:
    """Return what ``torch.compile`` or a data-parallel wrapper calls, ``None`` for any other module."""
    name = WRAPPERS.get(type(module).__name__)
    return dict(module.named_children()).get(name) if name is not None else None


def original_of_compiled(function: Any) -> Any:
    """Return the function that ``torch.compile`` made another of, ``None`` for any other function."""
    return function.__dict__.get(_COMPILED_FUNCTION)


def wrap_script_module(module: Any) -> Any:
    """Make a second Python object of a ScriptModule, for hooks of ours; without it the module itself is used."""
    wrap = getattr(getattr(torch.jit, "_recursive", None), "wrap_cpp_module", None)
    return wrap(module._c) if wrap is not None and hasattr(module, "_c") else module


# -- switches ----------------------------------------------------------------------------------------------------------


def default_validation(distribution: Any) -> bool:
    """Return whether ``Distribution`` checks its arguments: what ``set_default_validate_args`` is to be set back to."""
    return bool(getattr(distribution, "_validate_args", __debug__))
