"""Fake tensors, and the mode they live in: all that is private in torch about them stands here.

``tests/fake/test_fake_mode.py`` would notice a change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch._dynamo.utils  # the first fake mode imports it, and with it warning filters of sympy's: no trace's doing
from torch import Tensor, nn
from torch._ops import HigherOrderOperator
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from modelsummary_ipy.fake.shape_cache import MISSED, Memo
from modelsummary_ipy.fake.shape_shortcuts import Layout, find_smaller, write_down
from modelsummary_ipy.isolation.object_cloner import Stub
from modelsummary_ipy.model.tensor_meta import Look, look_at

__all__ = ["FAKE_ONLY_ERRORS", "FakeMode", "build_fake", "describe_tensor", "give_values", "make_fake"]

#: What torch raises when an operation needs values, or has no rule for sizes alone: never the user's mistake.
FAKE_ONLY_ERRORS: tuple[type[Exception], ...] = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
    fake_tensor.UnsupportedFakeTensorException,
    fake_tensor.UnsupportedMutationAliasingException,
    fake_tensor.UnsupportedOperatorException,
)

#: Hears ``(operation, args, kwargs, result)`` of every aten operation, once it ran.
Listener = Callable[[Any, Sequence[Any], Mapping[str, Any], Any], None]


#: Tensors up to this size keep their values where these are known: lengths, masks and offsets decide how a forward
#: goes on. The mask of an image of 512² has as many.
_MOST_VALUES = 1 << 18
#: The same for tensors of the model itself, where tables of positions are more often looked up than looked at.
_MOST_OWN_VALUES = 64


class FakeMode(FakeTensorMode):
    """A fake mode that lets a listener hear every operation: cheaper than a second dispatch mode on top.

    Small integer tensors whose values are known keep them (what was given as data, ``torch.ones`` as a mask), and
    operations on them alone are really done. What writes to a tensor that is not fake (one of a module's globals, say)
    writes to a fake of it.

    It has no fallback kernels: torch would run an operation that has no shape rule on zeros, and that is arithmetic.
    Such a model goes to the real engine, which says so.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_non_fake_inputs=True, allow_fallback_kernels=False, **options)
        self.listener: Listener | None = None
        self._is_unfilled = False
        self._inside = False
        self._memo = _MEMO if self.shape_env is None else None
        # torch's own cache lives as long as the process, and holds a generator for each trace of a model that has one.
        self.cache_enabled = self.cache_enabled and self._memo is None
        self.templates: dict[torch.device, tuple[torch.device, dict[str, Any]]] = {}

    supports_higher_order_operators = True  # they ask for a rule by the mode's exact class, which is torch's own

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled while a trace runs, and the guard around every operation costs 4 µs

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run ``func`` on fakes; an operation that torch decomposes is heard as the whole that was called."""
        if func is _DEVICE and not self.in_kernel_invocation:
            return args[0].fake_device
        if func in _UNFILLED and getattr(args[0], "constant", None) is not None:
            return self._make_unfilled(func, types, args, kwargs or {})
        if self._inside or self.in_kernel_invocation:
            return self.dispatch(func, types, args, kwargs or {})
        kwargs = kwargs or {}
        if isinstance(func, HigherOrderOperator):
            return self._run_higher_order(func, args, kwargs)
        key, output = self._memo.find(self, func, args, kwargs) if self._memo is not None else (None, MISSED)
        if output is MISSED:
            if func._schema.is_mutable:
                args, kwargs = self._spare_real(args, kwargs)
            output = self._ask_smaller(func, types, args, kwargs) if key is not None else MISSED
            if output is MISSED:
                output = self._dispatch_whole(func, types, args, kwargs)
            if func in _COUNTING and type(output) is FakeTensor:
                _know_counted(output, func, args, kwargs)
            if func in _UNIFORM and type(output) is FakeTensor:
                _know_uniform(output, _UNIFORM[func], args)
            elif func in _PICKING and type(output) is FakeTensor and output.constant is None:
                _know_picked(output, args[0])
            if key is not None:
                assert self._memo is not None
                self._memo.keep(key, func, args, output)
                # torch keeps weak references to the fakes it makes, and ``.to()`` of a module can't swap these.
                made = self._memo.recall(self, key, args)
                output = output if made is MISSED else made
        if self.listener is not None:
            self.listener(func, args, kwargs, output)
        return output

    def _dispatch_whole(self, func: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self._inside = True
        try:
            dtype, others = _NARROW.get(func, (None, ()))
            if dtype is not None and args[0].dtype in others:
                return self._dispatch_as(dtype, func, types, args, kwargs)
            return self.dispatch(func, types, args, kwargs)
        finally:
            self._inside = False

    def _ask_smaller(self, func: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Ask what an operation makes of a smaller input, where that tells what it makes of this one."""
        assert self._memo is not None
        if not args or not isinstance(args[0], FakeTensor):
            return MISSED
        plain = write_down(func, args)
        if plain is not None:
            return self._make_fresh(plain, args[0])
        smaller = find_smaller(func, args)
        if smaller is None:
            return MISSED
        with torch._C._DisableTorchDispatch():
            meta = torch.empty(smaller.size, dtype=args[0].dtype, device="meta", memory_format=smaller.memory_format)
            asked = (build_fake(self, meta, args[0].fake_device), *smaller.rest)
        key, outputs = self._memo.find(self, func, asked, kwargs)
        if key is None:
            return MISSED
        if outputs is MISSED:
            self._memo.keep(key, func, asked, self._dispatch_whole(func, types, asked, kwargs))
            outputs = self._memo.recall(self, key, asked)
        if outputs is MISSED:
            return MISSED
        return tuple(self._make_fresh(layout, args[0]) for layout in smaller.grow(outputs))

    def _make_fresh(self, layout: Layout, like: FakeTensor) -> FakeTensor:
        size, stride, dtype = layout
        with torch._C._DisableTorchDispatch():
            meta = torch.empty_strided(size, stride, dtype=dtype, device="meta")
            return build_fake(self, meta, like.fake_device)

    def _dispatch_as(
        self, dtype: torch.dtype, func: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Ask a rule for sizes that knows one dtype only: stand-ins of that dtype, with the same strides in bytes."""
        given = args[0].dtype

        def stand_in(value: Any) -> Any:
            if not isinstance(value, FakeTensor) or value.dtype != given:
                return value
            stride = [step if step == 1 else step * given.itemsize // dtype.itemsize for step in value.stride()]
            meta = torch.empty_strided(value.shape, stride, dtype=dtype, device="meta")
            return build_fake(self, meta, value.fake_device)

        output: Any = self.dispatch(func, types, tuple(map(stand_in, args)), kwargs)
        meta = torch.empty_strided(output.shape, output.stride(), dtype=given, device="meta")
        return build_fake(self, meta, output.fake_device)

    def _make_unfilled(self, func: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run what makes memory without values: like a tensor of known values it would be of known garbage."""
        was_unfilled, self._is_unfilled = self._is_unfilled, True
        was_inside, self._inside = self._inside, True
        try:
            output = self.dispatch(func, types, args, kwargs)
        finally:
            self._is_unfilled, self._inside = was_unfilled, was_inside
        if self.listener is not None and not was_inside and not self.in_kernel_invocation:
            self.listener(func, args, kwargs, output)
        return output

    def _run_higher_order(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        rule = func.python_key_table.get(FakeTensorMode)
        if rule is None:
            raise fake_tensor.UnsupportedOperatorException(func)
        was_inside, self._inside = self._inside, True
        try:
            output = rule(self, *args, **kwargs)
        finally:
            self._inside = was_inside
        if self.listener is not None:
            self.listener(func, args, kwargs, output)
        return output

    def _spare_real(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Put fakes in the place of real tensors among the arguments of an operation that writes."""

        def spare(value: Any) -> Any:
            if isinstance(value, (list, tuple)):
                return type(value)(map(spare, value)) if any(isinstance(item, Tensor) for item in value) else value
            if not isinstance(value, Tensor) or isinstance(value, FakeTensor):
                return value
            return self.fake_tensor_converter.from_real_tensor(self, value)

        return tuple(map(spare, args)), {name: spare(value) for name, value in kwargs.items()}

    def may_turn_const(self, t: Tensor) -> bool:
        """Tell whether a result of known values keeps them: torch keeps single numbers only."""
        if self._is_unfilled:
            return False
        return super().may_turn_const(t) or (
            type(t) is Tensor and t.device.type == "cpu" and t.layout == torch.strided and t.numel() <= _MOST_VALUES
        )


def build_fake(mode: Any, meta: Tensor, device: torch.device, requires_grad: bool = False) -> FakeTensor:
    """Make the fake of an empty meta tensor.

    The first of a mode and device is made by torch's constructor; what that set on it is set on all later ones, which
    cost a quarter (a forward of 10,000 small layers makes 40,000).
    """
    template = mode.templates.get(device) if isinstance(mode, FakeMode) else None
    if template is None:
        fake = FakeTensor(mode, meta, device, requires_grad=requires_grad)
        if isinstance(mode, FakeMode):
            # Without the mode: it would hold itself.
            rest = {name: value for name, value in fake.__dict__.items() if value is not mode}
            mode.templates[device] = fake.fake_device, rest
        return fake
    fake = Tensor._make_subclass(
        FakeTensor,
        meta,
        requires_grad,
        dispatch_device=True,
        device_for_backend_keys=template[0],
    )
    torch._C._set_throw_on_mutable_data_ptr(fake)
    fake.__dict__.update(template[1], fake_mode=mode)
    return fake


_DEVICE = torch.ops.prim.device.default
_MEMO = Memo(build_fake)


#: Whose rule for sizes takes one dtype, and the others that its kernels take: the experts of a mixture in float32.
_NARROW: dict[Any, tuple[torch.dtype, tuple[torch.dtype, ...]]] = (
    {torch.ops.aten._grouped_mm.default: (torch.bfloat16, (torch.float32, torch.float16))}
    if hasattr(torch.ops.aten, "_grouped_mm")
    else {}
)


def _counts(tensor: Tensor, most: int = _MOST_VALUES) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex()) and tensor.numel() <= most


#: What makes a tensor like another one, without values.
_UNFILLED = frozenset(
    {
        torch.ops.aten.empty_like.default,
        torch.ops.aten.new_empty.default,
        torch.ops.aten.new_empty_strided.default,
        torch.ops.aten.resize_.default,
    }
)
#: What counts from numbers alone: positions, which decide what is masked.
_COUNTING = frozenset({torch.ops.aten.arange.default, torch.ops.aten.arange.start, torch.ops.aten.arange.start_step})


def _know_counted(fake: FakeTensor, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Let a few counted integers know their values, if they were counted from plain numbers."""
    if not all(type(value) in (int, float) for value in args) or fake.fake_device.type != "cpu" or not _counts(fake):
        return
    with torch._C._DisableTorchDispatch():
        give_values(fake, func(*args, **kwargs))


#: What makes a tensor of one value, and that value; ``None`` where it is an argument.
_UNIFORM: dict[Any, int | None] = {
    torch.ops.aten.ones.default: 1,
    torch.ops.aten.zeros.default: 0,
    torch.ops.aten.full.default: None,
    torch.ops.aten.ones_like.default: 1,
    torch.ops.aten.zeros_like.default: 0,
    torch.ops.aten.full_like.default: None,
    torch.ops.aten.new_ones.default: 1,
    torch.ops.aten.new_zeros.default: 0,
    torch.ops.aten.new_full.default: None,
}


def _know_uniform(fake: FakeTensor, value: Any, args: Sequence[Any]) -> None:
    """Let a small mask of one value know it: integers and booleans, and ones of any dtype, as masks often are made."""
    value = args[1] if value is None else value
    if not isinstance(value, (bool, int, float)) or fake.numel() > _MOST_VALUES or fake.fake_device.type != "cpu":
        return
    if _counts(fake) or (value == 1 and fake.dim() > 1 and fake.is_floating_point()):
        with torch._C._DisableTorchDispatch():
            values = torch.full(fake.shape, value, dtype=fake.dtype, device="cpu")
        give_values(fake, values)


#: What picks values of its first argument, at places that may be unknown: drawn at random, say.
_PICKING = frozenset({torch.ops.aten.index.Tensor, torch.ops.aten.index_select.default, torch.ops.aten.gather.default})


def _know_picked(fake: FakeTensor, source: Any) -> None:
    """Let what was picked of a tensor of one value know that value: it is the same wherever it was picked."""
    values = getattr(source, "constant", None)
    if values is None or values.numel() == 0 or values.is_floating_point() or values.is_complex():
        return
    with torch._C._DisableTorchDispatch():
        first = values.flatten()[0]
        uniform = first.item() if bool((values == first).all()) else None
    if uniform is not None:
        _know_uniform(fake, uniform, ())


def describe_tensor(tensor: Tensor, look: Look | None = None, *, keep: bool = True, is_own: bool = False) -> Stub:
    """Write down what a fake of ``tensor`` needs.

    Args:
        tensor: A real one, lazy ones too.
        look: Its look, if it is plain and somebody knows it.
        keep: Whether a few integers, or a single number, are copied with it.
        is_own: Whether it belongs to the model, and is no input.
    """
    if look is None:
        look = look_at(tensor)
    is_result = look.requires_grad and not tensor.is_leaf
    stub = Stub(type(tensor), look, is_result, tensor if look.stride is None and look.size is not None else None)
    if keep and type(tensor) is Tensor and look.stride is not None and look.device.type == "cpu":
        is_number = not look.shape and not look.requires_grad
        if is_number or _counts(tensor, _MOST_OWN_VALUES if is_own else _MOST_VALUES):
            stub.values = tensor.detach().clone()
    return stub


def make_fake(tensor: Any, mode: FakeTensorMode, device: torch.device | None = None) -> Any:
    """Make the fake of a stub or of a real tensor; a tensor that has no fake is shared.

    ``FakeTensor(mode, empty meta tensor, device)`` costs a seventh of ``mode.from_tensor`` (95 against 688 ms for
    15,000 parameters) and keeps size, stride, dtype, device and ``requires_grad`` all the same.
    """
    stub = tensor if type(tensor) is Stub else describe_tensor(tensor)
    look = stub.look
    where = device or look.device
    if stub.is_lazy:
        return _make_lazy(stub, mode, where)
    if stub.shared is not None:
        return _make_fake_of_subclass(stub.shared, mode)
    assert look.size is not None
    assert look.stride is not None
    meta = torch.empty_strided(look.size, look.stride, dtype=look.dtype, device="meta")
    fake = build_fake(mode, meta, where, look.requires_grad)
    if issubclass(stub.kind, nn.Parameter):
        fake._is_param = True
    if stub.values is not None and where.type == "cpu":
        give_values(fake, stub.values.clone())
    if stub.is_result:
        with mode, torch.enable_grad():
            return fake.clone()
    return fake


def give_values(fake: Any, values: Tensor) -> None:
    """Let a fake know its values; the tensor that holds them is its own from now on."""
    fake.constant = values
    fake.fake_mode.fake_tensor_converter.add_constant_storage_mapping(fake)


def _make_fake_of_subclass(tensor: Tensor, mode: FakeTensorMode) -> Tensor:
    try:
        return mode.from_tensor(tensor)
    except Exception:  # noqa: BLE001  # quantized and exotic tensors have no fake; a copy of the real one stands in
        return tensor.detach().clone()


def _make_lazy(stub: Stub, mode: FakeTensorMode, device: torch.device) -> Tensor:
    is_buffer = issubclass(stub.kind, UninitializedBuffer)
    dtype, requires_grad = stub.look.dtype, stub.look.requires_grad
    empty = torch.empty(0, dtype=dtype)
    kind = _LazyBuffer if is_buffer else _LazyParameter
    lazy: Any = Tensor._make_subclass(kind, empty, requires_grad)
    lazy.ms_fake = (mode, device, dtype, requires_grad, not is_buffer)
    return lazy  # type: ignore[no-any-return]


def _materialize_fake(lazy: Any, shape: Any, device: Any = None, dtype: Any = None) -> None:
    """Become a fake of ``shape``, in place: the module keeps the object that it was given when it was built."""
    mode, own_device, own_dtype, requires_grad, is_param = lazy.ms_fake
    # The forward is running: with its modes on, the meta tensor would be a fake, and a step of the forward.
    with torch._C.DisableTorchFunction(), torch._C._DisableTorchDispatch():
        meta = torch.empty(shape, dtype=dtype or own_dtype, device="meta")
        fake = build_fake(mode, meta, torch.device(device or own_device), requires_grad)
        if is_param:
            fake._is_param = True
        torch.utils.swap_tensors(lazy, fake)


class _LazyParameter(UninitializedParameter):
    """An uninitialised parameter that materialises as a fake; torch's own would become a bare meta tensor."""

    materialize = _materialize_fake


class _LazyBuffer(UninitializedBuffer):
    """An uninitialised buffer that materialises as a fake."""

    materialize = _materialize_fake
