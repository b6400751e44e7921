"""Private names of torch around fake tensors, modes and aten operations."""

from __future__ import annotations

import contextlib
import functools
import operator
import traceback
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from modelsummary_ipy.torch_compat import prefer
from modelsummary_ipy.torch_compat.compiler import make_bare_mode

__all__ = [
    "FAKE_LOGGER", "FAKE_ONLY_ERRORS", "OVERRIDES_FAKE_MODE", "FakeTensor", "FakeTensorMode", "OpOverload",
    "TorchDispatchMode", "UnsupportedOperatorException", "constant_of", "count_modes", "decomposition_of",
    "disable_dispatch", "disable_function", "find_operator", "from_torchs_fakes", "give_constant",
    "higher_order_rule", "in_kernel", "is_composite", "is_fakes_assertion", "make_bare_fake", "make_first_fake",
    "mark_parameter", "pass_higher_order", "require_device", "schema_of", "unset_fake", "variable_function",
]  # fmt: skip

# -- modes ------------------------------------------------------------------------------------------------------------

#: Turns function modes off in a block: what is looked up there is no operation of the forward.
disable_function: Any = torch._C.DisableTorchFunction


def _find_count_modes() -> Callable[[], Any]:
    functions, dispatches = torch._C._len_torch_function_stack, torch._C._len_torch_dispatch_stack
    functions(), dispatches()
    return lambda: (functions(), dispatches())


#: Counts the modes that are on; two counts differ if a forward put one on. Without it no two counts are equal.
count_modes: Callable[[], Any] = prefer("count_modes", _find_count_modes, object)


# -- fake tensors ------------------------------------------------------------------------------------------------------

#: The logger to which every failing shape rule of torch writes.
FAKE_LOGGER = FakeTensor.__module__

#: What torch raises when an operation needs values, or has no shape rule: never the user's mistake. 2.7 lacks one.
FAKE_ONLY_ERRORS: tuple[type[Exception], ...] = tuple(
    getattr(fake_tensor, name)
    for name in (
        "DataDependentOutputException",
        "DynamicOutputShapeException",
        "UnsupportedFakeTensorException",
        "UnsupportedMutationAliasingException",
        "UnsupportedOperatorException",
    )
    if hasattr(fake_tensor, name)
)


#: Raised for an operation that has no shape rule; its argument is the operation.
UnsupportedOperatorException = fake_tensor.UnsupportedOperatorException


def from_torchs_fakes(kind: type) -> bool:
    """Return whether an exception's class is one of those that only fakes raise: the user has no ``FakeTensor``."""
    return kind.__module__.startswith("torch._subclasses")


def is_fakes_assertion(error: BaseException | None) -> bool:
    """Return whether an assertion of torch's fakes failed: of jagged tensors it counts the ragged dim by a symbol."""
    if not isinstance(error, AssertionError) or error.__traceback__ is None:
        return False
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).startswith("torch._subclasses")


def _make_in_mode(mode: Any, meta: Tensor, device: torch.device, requires_grad: bool = False) -> Any:
    """Make a fake of the sizes and strides of ``meta`` as a forward would, by a factory function in the mode.

    It is entered as torch's own class does, past a listener of ours: this is no operation of the forward.
    """
    with contextlib.ExitStack() as stack:
        FakeTensorMode.__enter__(mode)
        stack.callback(FakeTensorMode.__exit__, mode, None, None, None)
        stack.enter_context(torch.enable_grad())
        fake = torch.empty_strided(
            meta.size(), meta.stride(), dtype=meta.dtype, device=device, requires_grad=requires_grad
        )
    # From 2.14 on torch keeps a weak reference to it, with which it could not take the place of a lazy parameter.
    memo = getattr(getattr(mode, "fake_tensor_converter", None), "tensor_memo", {})
    for key in [key for key, made in memo.items() if made is fake]:
        del memo[key]
    return fake


def _construct(mode: Any, meta: Tensor, device: torch.device, requires_grad: bool = False) -> Any:
    fake: Any = FakeTensor(mode, meta, device)
    if requires_grad:  # torch up to 2.11 does not take it as an argument
        with disable_function():
            fake.requires_grad_()
    return fake


def _find_construct() -> Any:
    meta = torch.empty(2, 3, device="meta")
    fake = _construct(make_bare_mode(), meta, torch.device("cpu"), True)
    serves = fake.shape == (2, 3) and fake.fake_device.type == "cpu" and fake.requires_grad and fake.is_leaf
    return _construct if serves and fake.untyped_storage()._cdata == meta.untyped_storage()._cdata else None


#: Makes a fake of an empty meta tensor: ``(mode, meta, device, requires_grad)``. Only torch's constructor makes one of
#: the meta tensor's own storage, as views need; without it shapes are not remembered (``OVERRIDES_FAKE_MODE``).
make_first_fake: Callable[..., Any] = prefer("make_first_fake", _find_construct, _make_in_mode)


def _make_bare(meta: Tensor, device: torch.device, requires_grad: bool) -> Any:
    fake = Tensor._make_subclass(FakeTensor, meta, requires_grad, dispatch_device=True, device_for_backend_keys=device)
    torch._C._set_throw_on_mutable_data_ptr(fake)
    return fake


def _find_bare() -> Any:
    meta, device = torch.empty(2, 3, device="meta"), torch.device("cpu")
    whole, bare = _construct(make_bare_mode(), meta, device), _make_bare(meta, device, False)
    keys = [str(torch._C._dispatch_keys(fake)) for fake in (bare, whole)]  # 2.7 compares sets of keys by identity
    return _make_bare if keys[0] == keys[1] else None


#: Makes a fake without what its constructor sets on it, at a quarter of the cost; ``None``: always by the constructor.
make_bare_fake: Callable[[Tensor, torch.device, bool], Any] | None = prefer("make_bare_fake", _find_bare, None)


def _find_fake_mode() -> bool | None:
    mode: Any = make_bare_mode()
    members = ("dispatch", "may_turn_const", "in_kernel_invocation", "cache_enabled", "__torch_dispatch__")
    return True if all(hasattr(mode, name) for name in members) and make_first_fake is _construct else None


#: Whether a subclass may take over a fake mode's dispatch; if not, a second dispatch mode on top of the stock one
#: observes the operations, no shape is remembered, and fewer values are known (``fake/fast_fake_mode.py``).
OVERRIDES_FAKE_MODE: bool = prefer("OVERRIDES_FAKE_MODE", _find_fake_mode, False)


def _find_constant() -> Any:
    """Read them of a fake that is given some: ``torch.tensor`` in a mode would load the compiler."""
    mode, meta, device = make_bare_mode(), torch.empty((), dtype=torch.int64, device="meta"), torch.device("cpu")
    known, unknown = (FakeTensor(mode, meta, device, constant=values) for values in (torch.tensor(3), None))
    serves = int(cast(Any, known).constant) == 3 and cast(Any, unknown).constant is None
    return operator.attrgetter("constant") if serves else None


#: Returns the known values of a fake, as a real tensor. Without it none are known, and the real engine runs instead.
constant_of: Callable[[Any], Tensor | None] = prefer("constant_of", _find_constant, lambda fake: None)


def _give_constant(fake: Any, values: Tensor) -> None:
    fake.constant = values
    fake.fake_mode.fake_tensor_converter.add_constant_storage_mapping(fake)


def _forget_constant(fake: Any, values: Tensor) -> None:
    """Leave the values unknown."""


def _find_give_constant() -> Any:
    """Give values, and do what torch does when something is written to them; to write would load sympy."""
    mode, values = make_bare_mode(), torch.ones(1, dtype=torch.int64)
    fake = make_first_fake(mode, torch.empty(1, dtype=torch.int64, device="meta"), torch.device("cpu"))
    _give_constant(fake, values)
    served = fake.constant is values
    mode.fake_tensor_converter.invalidate_constant_aliases(values)
    return _give_constant if served and fake.constant is None else None


#: Gives a fake known values until something unknown is written to it: ``(fake, real tensor)``.
give_constant: Callable[[Any, Tensor], None] = prefer("give_constant", _find_give_constant, _forget_constant)


def _mark(fake: Any) -> Any:
    fake._is_param = True
    return fake


def _find_mark() -> Any:
    serves = isinstance(_mark(torch.empty(0).as_subclass(_Marked)), nn.Parameter)
    return _mark if serves else None


class _Marked(Tensor):
    """A tensor subclass to try ``_is_param`` on."""


#: Makes a parameter of a fake, and returns it: ``nn.Parameter`` detaches it first, which costs an operation each.
mark_parameter: Callable[[Any], Any] = prefer(
    "mark_parameter", _find_mark, lambda fake: nn.Parameter(fake, requires_grad=fake.requires_grad)
)


def _find_disable_dispatch() -> Any:
    with torch._C._DisableTorchDispatch():
        torch.empty(0)
    # The fallbacks of these two run an operation on a fake, and fakes are off with the modes.
    return torch._C._DisableTorchDispatch if (make_first_fake, mark_parameter) == (_construct, _mark) else None


@contextlib.contextmanager
def _leave_modes() -> Iterator[None]:
    """Take every dispatch mode off the stack for a block; fakes stay on."""
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        yield


#: Turns dispatch modes and fakes off in a block: tensors made there are real ones.
disable_dispatch: Any = prefer("disable_dispatch", _find_disable_dispatch, _leave_modes)


def _find_in_kernel() -> Any:
    """Enter it; to run an operation in it would load the compiler."""
    mode, manager = make_bare_mode(), fake_tensor.in_kernel_invocation_manager
    with manager(mode):
        was_inside = mode.in_kernel_invocation
    return manager if was_inside and not mode.in_kernel_invocation else None


#: Lets operations on the fakes of a mode run their kernels for sizes, and make meta tensors; ``None``: there is no way
#: past torch's own dispatch.
in_kernel: Callable[[Any], Any] | None = prefer("in_kernel", _find_in_kernel, None)

#: The same for a block that runs operations on real tensors, modes of their own included.
unset_fake: Any = prefer("unset_fake", lambda: fake_tensor.unset_fake_temporarily, disable_dispatch)


def require_device(device: torch.device) -> None:
    """Raise what torch raises for a device that is not here; what is here is left as it is, mostly unused."""
    if device.type == "cuda" and torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count():
        return
    with unset_fake():
        torch.empty(0, device=device)


# -- aten operations ---------------------------------------------------------------------------------------------------

OpOverload: Any = type(torch.ops.aten.add.Tensor)


def find_operator(name: str) -> Any:
    """Return an aten overload (``"view.default"``), ``None`` where this torch has none of that name."""
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet, None), overload, None)


def _find_schema() -> Any:
    serves = torch.ops.aten.add_.Tensor._schema.is_mutable and not torch.ops.aten.add.Tensor._schema.is_mutable
    return operator.attrgetter("_schema") if serves else None


def _schema_by_name(func: Any) -> Any:
    name, _, overload = func.name().partition(".")
    return torch._C._get_schema(name, overload)


#: Returns the schema of an overload: what it writes to, what aliases what.
schema_of: Callable[[Any], Any] = prefer("schema_of", _find_schema, _schema_by_name)


def _find_composite() -> Any:
    has_kernel, key = torch._C._dispatch_has_kernel_for_dispatch_key, torch._C.DispatchKey.CompositeImplicitAutograd

    def is_composite(func: Any) -> bool:
        return bool(has_kernel(func.name(), key))

    aten = torch.ops.aten
    return is_composite if is_composite(aten.linear.default) and not is_composite(aten.mm.default) else None


#: Whether torch decomposes an operation for every backend. Without it all count as such, and none is remembered.
is_composite: Callable[[Any], bool] = prefer("is_composite", _find_composite, lambda func: True)


def higher_order_rule(func: Any) -> Callable[..., Any] | None:
    """Return the rule for sizes of a higher-order operator (``cond``, ``scan``); ``None`` if it has none."""
    rule: Callable[..., Any] | None = getattr(func, "python_key_table", {}).get(FakeTensorMode)
    return rule


def pass_higher_order(mode: Any) -> None:
    """Let higher-order operators pass through a mode of ours; up to 2.7 they ask for a rule by its exact class."""
    if hasattr(TorchDispatchMode, "supports_higher_order_operators"):
        mode.supports_higher_order_operators = True
        return
    for func in torch._ops._higher_order_ops.values():
        func.python_key_table.setdefault(type(mode), functools.partial(_pass_on, func))


def _pass_on(func: Any, mode: Any, *args: Any, **kwargs: Any) -> Any:
    return mode.__torch_dispatch__(func, (), args, kwargs)


def variable_function(name: str) -> Any:
    """Return a function behind recurrent layers and packed sequences, as ``torch.nn`` calls it; ``None`` without."""
    return getattr(getattr(torch, "_VF", torch), name, None)


def decomposition_of(name: str) -> Callable[..., Any] | None:
    """Return the step-by-step form of a recurrent layer of packed data; ``None``: it has to be run for real."""
    from importlib import import_module

    try:
        return cast("Callable[..., Any]", getattr(import_module("torch._decomp.decompositions"), name))
    except (ImportError, AttributeError):
        return None
