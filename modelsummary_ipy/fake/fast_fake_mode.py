"""The fake mode of a trace: it knows most shapes itself, and passes what torch has to make on to torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from modelsummary_ipy.fake.evident_layouts import write_down
from modelsummary_ipy.fake.fake_mode import FakeMode, StockFakeMode, build_fake
from modelsummary_ipy.fake.index_values import check_lookup, follow
from modelsummary_ipy.fake.kernel_layouts import Made, find_alignment, find_gradients, find_made, refuse_kernel
from modelsummary_ipy.fake.known_values import MOST_VALUES, UNFILLED_LIKE, compute, exceeds_limit, find_values
from modelsummary_ipy.fake.layouts import Layout
from modelsummary_ipy.fake.optimizer_ops import run_in_step
from modelsummary_ipy.fake.shape_cache import MISSED, PARTS, ShapeCache, flat
from modelsummary_ipy.fake.shape_shortcuts import find_smaller
from modelsummary_ipy.torch_compat.distributed import is_planning_shards
from modelsummary_ipy.torch_compat.fakes import (
    OVERRIDES_FAKE_MODE,
    FakeTensor,
    OpOverload,
    UnsupportedOperatorException,
    constant_of,
    disable_dispatch,
    find_operator,
    give_constant,
    higher_order_rule,
    in_kernel,
    pass_higher_order,
    schema_of,
)

_DEVICE = torch.ops.prim.device.default
_ATEN = torch.ops.aten
_VIEWS = (_ATEN.view.default, find_operator("_unsafe_view.default"))
#: Operations of which torch's fakes make what their kernels for sizes make: asked by themselves these take a tenth.
_KERNELS = frozenset({
    _ATEN.view.default, _ATEN.unsqueeze.default, _ATEN.transpose.int, _ATEN.select.int, _ATEN.slice.Tensor,
    _ATEN.expand.default, _ATEN.t.default, _ATEN.alias.default, _ATEN.permute.default, _ATEN.detach.default,
    _ATEN.squeeze.dim, _ATEN.split.Tensor, _ATEN.split_with_sizes.default, _ATEN.unbind.int, _ATEN.clone.default,
    _ATEN.cat.default, _ATEN.gather.default, _ATEN.constant_pad_nd.default, _ATEN._softmax.default,
    _ATEN._log_softmax.default, _ATEN.mean.dim, _ATEN.sum.dim_IntList, _ATEN.upsample_nearest2d.default,
    _ATEN._adaptive_avg_pool2d.default, _ATEN.avg_pool2d.default, _ATEN.silu.default, _ATEN.add_.Tensor,
    _ATEN.embedding.default, _ATEN.bmm.default, _ATEN.mm.default,
    find_operator("_unsafe_view.default"), find_operator("_scaled_dot_product_flash_attention_for_cpu.default"),
})  # fmt: skip
#: Operations besides elementwise ones whose results are as large whatever values their tensors have.
_SIZED = frozenset({
    _ATEN.cat.default, _ATEN.index.Tensor, _ATEN.embedding.default, _ATEN.grid_sampler_2d.default, _ATEN.fill_.Tensor,
})  # fmt: skip
_SHAPE_CACHE = ShapeCache(build_fake)

#: Whose rule for sizes takes one dtype, and the others that its kernels take: the experts of a mixture in float32.
_NARROW: dict[Any, tuple[torch.dtype, tuple[torch.dtype, ...]]] = {
    find_operator("_grouped_mm.default"): (torch.bfloat16, (torch.float32, torch.float16))
}


def make_fake_mode() -> FakeMode:
    """Make the mode of a trace."""
    return FastFakeMode() if OVERRIDES_FAKE_MODE else StockFakeMode()


class FastFakeMode(FakeMode):
    """A fake mode that passes every operation to the listener itself: cheaper than a second dispatch mode on top.

    Small integer tensors whose values are known keep them (what was given as data, ``torch.ones`` as a mask), and
    operations on them alone are computed. What writes to a tensor that is not fake (one of a module's globals, say)
    writes to a fake of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_unfilled = False
        self._inside = False
        self._cache = _SHAPE_CACHE
        # torch's own cache lives as long as the process, and holds a generator for each trace of a model that has one.
        self.cache_enabled = False
        pass_higher_order(self)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled while a trace runs, and the guard around every operation costs 4 µs

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run ``func`` on fakes; an operation that torch decomposes is observed as the whole that was called."""
        if func is _DEVICE and not self.in_kernel_invocation:
            return args[0].fake_device
        if func in UNFILLED_LIKE and type(args[0]) is FakeTensor and constant_of(args[0]) is not None:
            return self._make_unfilled(func, types, args, kwargs or {})
        if self._inside or self.in_kernel_invocation:
            return self.dispatch(func, types, args, kwargs or {})
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):
            return self._run_higher_order(func, args, kwargs)
        check_lookup(func, args)
        key, output = self._cache.find(self, func, args, kwargs)
        is_unknown = key is None and self._is_unknown(func, args)
        if is_unknown:
            key, output = self._cache.find(self, func, args, kwargs, with_known=True)
        layout = write_down(func, args) if output is MISSED and (key is not None or is_unknown) else None
        if layout is not None and key is None:
            output = self._make_fresh(layout, args[0])  # type: ignore[arg-type]  # one: rows that are picked
        elif layout is not None:
            output = self._cache.write(self, key, func, args, layout)
        elif output is MISSED:
            if schema_of(func).is_mutable:
                args, kwargs = self._spare_real(args, kwargs)
            if key is None:
                output = run_in_step(func, args, kwargs, self._make_empty)
            else:
                output = self._run_kernel(func, args, kwargs)
            if output is MISSED and key is not None:
                output = self._derive(func, types, args, kwargs)
            if output is MISSED:
                output = self._compute(func, args, kwargs)
            if output is MISSED:
                output = self._dispatch_whole(func, types, args, kwargs)
            if output is NotImplemented:  # a tensor subclass runs it, by operations on what it holds
                self.meets_wrappers = True
                return output
            if type(output) is FakeTensor:
                find_values(output, func, args)
            if key is not None:
                self._cache.keep(key, func, args, output)
                # torch keeps weak references to the fakes it makes, and ``.to()`` of a module can't swap these.
                made = self._cache.recall(self, key, args)
                output = output if made is MISSED else made
        follow(func, args, kwargs, output)
        if self.listener is not None and not (self.meets_wrappers and is_planning_shards()):
            self.listener(func, args, kwargs, output)
        return output

    def _compute(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation on known values by these, and make fakes that have the values that came out."""
        way = self._cache.way_of(func)
        values = compute(self, func, args, kwargs) if way else []
        if not values or way == "self":
            return args[0] if values else MISSED
        fakes = [self._make_known(one, args[0] if way == "view" else None) for one in values]
        return fakes if func in PARTS else self._lay_out(func, args, fakes[0])

    def _make_known(self, values: Tensor, viewed: FakeTensor | None) -> FakeTensor:
        with disable_dispatch():
            known = None if viewed is None else constant_of(viewed)
            if viewed is None or known is None:
                meta = torch.empty_strided(values.size(), values.stride(), dtype=values.dtype, device="meta")
            else:
                meta = torch.empty(0, dtype=values.dtype, device="meta")
                offset = viewed.storage_offset() + values.storage_offset() - known.storage_offset()
                meta.set_(viewed.untyped_storage(), offset, values.size(), values.stride())
            fake = build_fake(self, meta, values.device)
        give_constant(fake, values)
        return fake

    def _is_unknown(self, func: Any, args: Sequence[Any]) -> bool:
        """Return whether fakes of which not all have values make one that has none, as large as without them."""
        if func not in _SIZED and torch.Tag.pointwise not in func.tags:
            return False
        items = [item for item in flat(args[:1] if self._cache.way_of(func) == "self" else args) if item is not None]
        tensors = [item for item in items if isinstance(item, Tensor)]
        own = all(type(item) is FakeTensor and item.fake_mode is self and not item.is_nested for item in tensors)
        return own and any(constant_of(item) is None for item in tensors)

    def dispatch(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """Run an operation as torch does, without the known values of its arguments if its result would be large."""
        kwargs = kwargs or {}
        if isinstance(func, OpOverload) and exceeds_limit(func, args, kwargs):
            args = tuple(self._without_values(value) for value in args)
            kwargs = {name: self._without_values(value) for name, value in kwargs.items()}
        output: Any = super().dispatch(func, types, args, kwargs)
        if type(output) is FakeTensor:
            self.admit(output.fake_device)
        return output

    def _without_values(self, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(self._without_values, value))
        if not isinstance(value, FakeTensor) or constant_of(value) is None:
            return value
        meta = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        return build_fake(self, meta, value.fake_device)

    def _lay_out(self, func: Any, args: Sequence[Any], output: Any) -> Any:
        """Make the results as torch's kernels do, where its fakes do not."""
        results = output if isinstance(output, tuple) else (output,)
        found = find_made(func, args, results)
        if not found:
            return output
        made = list(results)
        for at, true in found.items():
            made[at] = None if true is None else self._make_as(true, results[at])
        return tuple(made) if isinstance(output, tuple) else made[0]

    def _make_as(self, true: Made, told: FakeTensor) -> FakeTensor:
        with disable_dispatch():
            if true.num_elements > 1:
                meta = torch.empty(true.num_elements, dtype=true.dtype, device="meta").as_strided((), ())
            else:
                meta = torch.empty(told.shape, dtype=true.dtype, device="meta", memory_format=true.memory_format)
            return build_fake(self, meta, told.fake_device)

    def _dispatch_whole(self, func: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        self._inside = True
        try:
            refuse_kernel(func, args)
            dtype, others = _NARROW.get(func, (None, ()))
            if dtype is not None and args[0].dtype in others:
                return self._dispatch_as(dtype, func, types, args, kwargs)
            layouts = find_gradients(func, args) or find_alignment(func, args)
            if layouts is not None:
                made = [one and self._make_fresh(one, args[0]) for one in layouts]
                return tuple(made) if len(schema_of(func).returns) > 1 else made[0]
            return self._lay_out(func, args, self.dispatch(func, types, args, kwargs))
        finally:
            self._inside = False

    def _run_kernel(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Run an operation's kernel for sizes on plain fakes of one device, past torch's twenty steps before it."""
        if func not in _KERNELS or in_kernel is None:
            return MISSED
        devices = {value.fake_device for value in flat((*args, *kwargs.values())) if isinstance(value, FakeTensor)}
        if len(devices) != 1:
            return MISSED
        (device,) = devices
        try:
            with in_kernel(self):
                made = func(*args, **kwargs)
        except Exception:  # noqa: BLE001  # torch raises it again, in the words of its own dispatch
            return MISSED
        if func in _VIEWS and (1 in args[0].shape or 1 in made.shape):  # whose stride torch's fakes choose otherwise
            return MISSED
        with disable_dispatch():
            if isinstance(made, (tuple, list)):
                return type(made)([self._wrap(one, device) for one in made])
            return self._wrap(made, device)

    def _wrap(self, made: Any, device: torch.device) -> Any:
        return build_fake(self, made, device) if type(made) is Tensor else made

    def _derive(self, func: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Compute an operation on a smaller input, where its output determines the one for this input."""
        if not args or not isinstance(args[0], FakeTensor):
            return MISSED
        smaller = find_smaller(func, args)
        if smaller is None:
            return MISSED
        with disable_dispatch():
            meta = torch.empty(smaller.size, dtype=args[0].dtype, device="meta", memory_format=smaller.memory_format)
            rest = [self._shorten(value) if smaller.has_few else value for value in smaller.rest]
            reduced = (build_fake(self, meta, args[0].fake_device), *rest)
        key, outputs = self._cache.find(self, func, reduced, kwargs)
        if key is None:
            return MISSED
        if outputs is MISSED:
            self._cache.keep(key, func, reduced, self._dispatch_whole(func, types, reduced, kwargs))
            outputs = self._cache.recall(self, key, reduced)
        if outputs is MISSED:
            return MISSED
        return tuple(self._make_fresh(layout, args[0]) for layout in smaller.grow(outputs))

    def _shorten(self, value: Any) -> Any:
        if not isinstance(value, FakeTensor):
            return value
        return build_fake(self, torch.empty(2, dtype=value.dtype, device="meta"), value.fake_device)

    def _make_fresh(self, layout: Layout, like: FakeTensor) -> FakeTensor:
        return self._make_empty(layout.size, layout.stride, layout.dtype, like.fake_device)

    def _make_empty(self, size: Any, stride: Any, dtype: torch.dtype, device: torch.device) -> FakeTensor:
        with disable_dispatch():
            return build_fake(self, torch.empty_strided(size, stride, dtype=dtype, device="meta"), device)

    def _dispatch_as(
        self, dtype: torch.dtype, func: Any, types: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """Run a shape rule that supports one dtype only, on substitutes of it with the same strides in bytes."""
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
        rule = higher_order_rule(func)
        if rule is None:
            raise UnsupportedOperatorException(func)
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
            return self.from_tensor(value)

        return tuple(map(spare, args)), {name: spare(value) for name, value in kwargs.items()}

    def may_turn_const(self, t: Tensor) -> bool:
        """Return whether a result of known values keeps them: torch keeps single numbers only."""
        if self._is_unfilled:
            return False
        return super().may_turn_const(t) or (
            type(t) is Tensor and t.device.type == "cpu" and t.layout == torch.strided and t.numel() <= MOST_VALUES
        )
