"""The aten operations of a trace, the storages they make and what autograd saves, written to the call that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from threading import get_ident
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelsummary_ipy.fake.fake_mode import FakeMode, build_fake
from modelsummary_ipy.isolation.started_threads import is_thread_of_python
from modelsummary_ipy.records.trace import AtenOp
from modelsummary_ipy.torch_compat.compiler import load_compiler
from modelsummary_ipy.torch_compat.distributed import (
    is_planning_shards,
    is_sharded,
    is_wrapper,
    local_part,
    rebuild_sharded,
    spec_of,
)
from modelsummary_ipy.torch_compat.fakes import FakeTensor, TorchDispatchMode, disable_dispatch, pass_higher_order
from modelsummary_ipy.torch_compat.modes import has_dual_level, is_jit_tracing, is_kept_by
from modelsummary_ipy.tracing.aten_ops import find_aten_op, find_plan
from modelsummary_ipy.tracing.storages import Storages


class AtenLog:
    """Records every aten operation and every tensor saved for backward while a trace runs.

    Args:
        current: Returns the record of the call that runs now, ``None`` outside all calls.
        measure_bytes: Whether storages and saved tensors are followed, besides the operations.
        keep_saved: Whether autograd keeps what it saves, for a forward that calls backward itself; then it is unknown
            which storages live.

    Attributes:
        input_storages: ``(number, bytes)`` of the storages that the trace began with.
        storages: The storages that were made.
    """

    def __init__(self, current: Callable[[], Any], *, measure_bytes: bool = True, keep_saved: bool = False) -> None:
        self._current = current
        self._keeps_saved = keep_saved
        self._measures_bytes = measure_bytes
        self.storages = Storages()
        self.input_storages: tuple[tuple[int, int], ...] = ()
        self._was_unpacked = False
        self._records_saved = self._with_grad = False
        #: Whether what autograd saves was needed and not kept: a real run is to be run once more, with ``keep_saved``.
        self.goes_backward = False
        self._fake_mode: FakeMode | None = None
        self._thread = get_ident()
        #: Whether a thread of the forward's ran operations, which are not recorded: no call that runs is theirs.
        self.saw_threads = False

    @property
    def peak_bytes(self) -> int | None:
        """The largest sum of live storages; unknown if the forward went backward, for saved tensors are not kept."""
        is_known = self._measures_bytes and not (self._was_unpacked or self._keeps_saved or self.saw_threads)
        return self.storages.peak_bytes if is_known else None

    @property
    def knows_saved(self) -> bool:
        """Whether what autograd saves was recorded: not in a real run, nor where the user turned grad off.

        Nor where a forward goes backward itself: what is unpacked then must be the very tensors that were saved.
        """
        return self._measures_bytes and self._records_saved and (self._keeps_saved or not self._was_unpacked)

    def begin(self, params: Iterable[Tensor], inputs: Iterable[Tensor]) -> None:
        """Leave parameters and buffers out of what is measured, and begin with the inputs.

        Args:
            params: The copy's parameters and buffers.
            inputs: The tensors that the forward is called with; they live as long as the trace.
        """
        if not self._measures_bytes:
            return
        for tensor in params:
            self.storages.exclude(tensor)
        for tensor in inputs:
            self.storages.follow(tensor, None)
        self.input_storages = tuple((storage.number, storage.nbytes) for storage in self.storages)

    def close(self) -> None:
        """Release the trace: what autograd saved refers to this log, out of sight of the garbage collector.

        A model that keeps a result of its own would keep itself alive through it.
        """
        self._current = _nobody
        self._fake_mode = None
        self.storages.close()

    @contextmanager
    def recording(self, fake_mode: FakeMode | None) -> Iterator[AtenLog]:
        """Record while the block runs; enters ``fake_mode`` if the tensors are fake."""
        self._fake_mode = fake_mode
        self._with_grad = torch.is_grad_enabled()
        self._records_saved = fake_mode is not None and self._with_grad
        with ExitStack() as stack:
            if fake_mode is not None:
                fake_mode.listener = self._record
                stack.callback(setattr, fake_mode, "listener", None)
                stack.enter_context(fake_mode)
                if self._measures_bytes and self._records_saved:
                    stack.enter_context(torch.autograd.graph.saved_tensors_hooks(self._save, self._give_back))
            else:
                if self._with_grad and not self._keeps_saved:
                    stack.enter_context(torch.autograd.graph.saved_tensors_hooks(_let_go, self._refuse))
                load_compiler()  # the guards of torch's modes would, in the middle of the first operation
                stack.enter_context(_RealProbe(self._record))
            yield self

    @property
    def counts_layers(self) -> bool:
        """Whether what a layer would do that is not run can be written down: storages, and what autograd saves."""
        return self._measures_bytes and not self._keeps_saved and self._fake_mode is not None

    def is_plain(self) -> bool:
        """Return whether this log alone sees what runs now: no checkpoint keeps what autograd saves, no thread."""
        is_own = not torch.is_grad_enabled() or is_kept_by(self._save)
        return is_own and get_ident() == self._thread and not has_dual_level() and not is_jit_tracing()

    def note_backward(self) -> None:
        """Note that what autograd saves is needed, and was not kept."""
        self.goes_backward = True

    def _refuse(self, _: None) -> Tensor:
        self.note_backward()
        raise RuntimeError("what autograd saves was not kept")

    def _record(self, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        if get_ident() != self._thread and is_thread_of_python():
            self._note_thread()
            return
        plan = find_plan(func)
        if plan.is_view:
            return
        record = self._current()
        if record is not None and plan.counts_in(record):
            record.aten_ops.append(find_aten_op(plan, args, kwargs, output))
        if self._measures_bytes:
            if isinstance(output, Tensor):
                if not (func is _CLONE and not kwargs and self._with_grad and _is_autograds_clone(args, record)):
                    self.storages.follow(output, record)
            elif isinstance(output, (tuple, list)):
                for item in output:
                    if isinstance(item, Tensor):
                        self.storages.follow(item, record)

    def _note_thread(self) -> None:
        record = self._current()
        if not self.saw_threads and record is not None:
            record.aten_ops.append(_IN_THREADS)
        self.saw_threads = True

    def _save(self, tensor: Tensor) -> Any:
        """Note what autograd saves, and let it keep a description: what is saved must not look alive to a forward."""
        record = self._current()
        known = self.storages.follow(tensor, record, counts=False) if record is not None else None
        if known is not None:
            record.saved.append((known.number, known.nbytes))
        return tensor if self._keeps_saved else self._describe(tensor)

    def _describe(self, tensor: Tensor) -> Any:
        if is_sharded(tensor):
            return _Sharded(self._describe(local_part(tensor)), spec_of(tensor))
        if not isinstance(tensor, FakeTensor):
            return tensor
        return tensor.size(), tensor.stride(), tensor.dtype, tensor.device

    def _give_back(self, saved: Any) -> Tensor:
        """Make a saved tensor again for a forward that itself goes backward (``torch.autograd.grad`` inside it)."""
        self._was_unpacked = True
        if isinstance(saved, Tensor):
            return saved
        if isinstance(saved, _Sharded):
            return rebuild_sharded(self._give_back(saved.local), saved.spec, False)
        size, stride, dtype, device = saved
        with disable_dispatch():
            return build_fake(self._fake_mode, torch.empty_strided(size, stride, dtype=dtype, device="meta"), device)


#: Stands for operations whose multiply-adds no row counts.
_IN_THREADS = AtenOp("thread.run", (), ())


class _Sharded(NamedTuple):
    """What autograd saved of a ``DTensor``: what describes this rank's part, and its spec."""

    local: Any
    spec: Any


def _nobody() -> None:
    """Run between calls."""


def _let_go(_: Tensor) -> None:
    """Let autograd keep nothing of a real run, which has no backward."""


_CLONE = torch.ops.aten.clone.default


def _is_autograds_clone(args: Sequence[Any], record: Any) -> bool:
    """Return whether a clone was made by autograd, which keeps what an operation in place is about to overwrite.

    A forward without grad makes no such clone. A clone in the model's code is a call of its own; one that an
    operation begins with counts as soon as the operation writes to it.
    """
    return len(args) == 1 and record is not None and record.type_name != "clone"


class _RealProbe(TorchDispatchMode):
    def __init__(self, record: Callable[..., None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        pass_higher_order(self)
        self._record = record
        self._meets_wrappers = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if any(map(is_wrapper, types)):  # what it runs on what it holds is observed instead
            self._meets_wrappers = True
            return NotImplemented
        output = func(*args, **(kwargs or {}))
        if self._meets_wrappers and is_planning_shards():
            return output
        self._record(func, args, kwargs or {}, output)
        return output
