"""A model asked again at other sizes: which sizes it takes, and what every call makes of them."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from modelsummary_ipy.inputs.pytree import replace_tensors
from modelsummary_ipy.isolation.output import quiet_output
from modelsummary_ipy.isolation.shadow import Shadow, Workpiece
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.dim_names import FEATURE_NAMES, InputNames
from modelsummary_ipy.torch_compat.fakes import FakeTensor, constant_of, disable_dispatch, give_constant
from modelsummary_ipy.tracing.example_inputs import prepare_inputs
from modelsummary_ipy.tracing.real_op_checks import find_overrun
from modelsummary_ipy.tracing.tensor_leaves import find_argument_leaves
from modelsummary_ipy.tracing.tracer import Prepared, TraceEndedError, trace

if TYPE_CHECKING:
    from modelsummary_ipy.inputs.model_inputs import ModelInputs

__all__ = ["Probe", "Prober", "Sizes"]

#: Sizes by name of a dim.
Sizes = Mapping[str, int]

#: A trace at other sizes may make this many times the torch calls of the first one, then it is given up.
_MOST_TIMES = 4
_MOST_EXTRA = 2000
#: All traces together may make this many calls, or this many times those of the first one; counted, not timed, so that
#: the same model always gets the same answer.
_MOST_CALLS = 30_000
_LEAST_TRACES = 5
_MOST_TRACES = 80
_SPATIAL = frozenset({"H", "W", "L", "D"})


@dataclasses.dataclass(frozen=True)
class Probe:
    """What a trace at other sizes gave.

    Attributes:
        trace: The facts; ``None`` if it was given up or could not be asked.
        reason: Why it failed, in the words of the failure; ``""`` if it did not.
        overrun: How far an index lay beyond the end of a table; 0 if none did.
    """

    trace: Trace | None
    reason: str = ""
    overrun: int = 0

    @property
    def works(self) -> bool:
        """Whether the forward came to its end."""
        return self.trace is not None and not self.reason

    @property
    def failed(self) -> bool:
        """Whether the model was asked and failed; neither is true of a trace that was given up."""
        return self.trace is not None and bool(self.reason)


class Prober:
    """Asks one model at other sizes; each size is asked once.

    Args:
        shadow: The pristine copy.
        inputs: What the user gave.
        dtypes: The dtypes that the sizes among it got.
        method: What is called.
        names: What the dims of the input are called; whoever asks may call the batch ``"B"``.
        base: The sizes that the user gave, by name.
        num_calls: Calls of the first trace.
    """

    def __init__(
        self,
        shadow: Shadow,
        inputs: ModelInputs,
        dtypes: list[str],
        method: str,
        names: InputNames,
        base: Sizes,
        num_calls: int,
    ) -> None:
        self._shadow = shadow
        self._inputs = inputs
        self._dtypes = dtypes
        self._method = method
        self.names = names
        self.batch = names.batch
        self.base = dict(base)
        self._most = _MOST_TIMES * num_calls + _MOST_EXTRA
        self._allowance = max(_MOST_CALLS, _LEAST_TRACES * num_calls)
        self._known: dict[tuple[Any, ...], Probe] = {}
        #: How many forwards were run.
        self.passes = 0

    def is_feature(self, name: str) -> bool:
        """Tell whether a dim is one that a layer's weights usually fix."""
        return self.names.role(name) in FEATURE_NAMES

    def is_spatial(self, name: str) -> bool:
        """Tell whether a dim is one of a map or of a signal."""
        return self.names.role(name) in _SPATIAL

    def ask(self, sizes: Sizes, *, training: bool | None = None) -> Probe:
        """Trace at ``sizes``; what they don't name stays as the user gave it.

        Args:
            sizes: By name.
            training: Put the model in train or eval mode; ``None`` leaves the mode that was asked for.
        """
        full = self._complete(sizes)
        key = (tuple(sorted(full.items())), training)
        if key not in self._known:
            if self._allowance <= 0 or self.passes >= _MOST_TRACES:
                return Probe(None, "it was asked at many sizes before")
            probe = self._known[key] = self._run(full, training)
            self._allowance -= len(probe.trace.calls) if probe.trace is not None else self._most
        return self._known[key]

    def measure(self, sizes: Sizes) -> Trace | None:
        """Trace at ``sizes`` with grad, following what is saved and what lives; ``None`` if that can't be asked."""
        with torch.inference_mode(False), torch.enable_grad():
            return self._run(self._complete(sizes), None, measure=True).trace

    def _complete(self, sizes: Sizes) -> dict[str, int]:
        named = {self.batch if name == "B" and self.batch else name: size for name, size in sizes.items()}
        return {**self.base, **named}

    def forget(self) -> None:
        """Let go of all traces; what is asked again is traced again."""
        self._known.clear()

    def _run(self, sizes: Sizes, training: bool | None, *, measure: bool = False) -> Probe:
        self.passes += 1
        counted = 0

        def count(func: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
            nonlocal counted
            counted += 1
            if counted > self._most:
                raise TraceEndedError

        with quiet_output(), warnings.catch_warnings(), contextlib.ExitStack() as stack:
            warnings.simplefilter("ignore")
            work = self._shadow.build_fake_workpiece(late=not measure and self._shadow.is_large)
            if training is not None:
                work.module.train(training)
            prepared = prepare_inputs(self._inputs, work, self._dtypes, method=self._method)
            resized = resize(prepared, work, self.names.dims, sizes)
            if resized is None:
                return Probe(None, "the input holds tensors that can't be made anew at other sizes")
            if not measure:
                stack.enter_context(torch.no_grad())  # only sizes are asked for: a quarter faster
            try:
                result = trace(work, resized, self._shadow.tree, method=self._method, guard=count, measure=measure)
            except TraceEndedError:
                return Probe(None, f"more than {self._most} operations")
        failure = result.trace.failure
        if failure is not None:
            return Probe(result.trace, f"{failure.error_type}: {failure.message}")
        overrun = find_overrun(result.trace, lambda leaf: None)  # sizes of other inputs hold no values
        if overrun is not None:
            _, index, rows = overrun
            return Probe(result.trace, f"IndexError: index {index} in a table of {rows} rows", index - rows + 1)
        return Probe(result.trace)


def resize(prepared: Prepared, work: Workpiece, names: tuple[tuple[str, ...], ...], sizes: Sizes) -> Prepared | None:
    """Put tensors of other sizes in the place of the input's leaves.

    Args:
        prepared: Arguments made for ``work``; they are used up.
        work: The copy of the model.
        names: Per leaf, a name per dim.
        sizes: By name.

    Returns:
        The arguments at other sizes; ``None`` if a leaf is not a plain dense fake, or not where it can be replaced.
    """
    leaves = find_argument_leaves(prepared.args, prepared.kwargs)
    if len(leaves) != len(names) or work.fake_mode is None:
        return None
    fresh: dict[int, Tensor] = {}
    for (_, tensor), dims in zip(leaves, names, strict=True):
        shape = tuple(sizes.get(name, size) if name else size for name, size in zip(dims, tensor.shape, strict=True))
        if shape == tuple(tensor.shape):
            continue
        if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
            return None
        with work.fake_mode:
            made = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
        values = constant_of(tensor) if isinstance(tensor, FakeTensor) else None
        if values is not None:  # lengths, offsets: as many more as there are rows now, the last one again
            give_constant(made, _extend(values, shape))
        fresh[id(tensor)] = made.requires_grad_(tensor.requires_grad)
    args = tuple(replace_tensors(value, fresh) for value in prepared.args)
    kwargs = {name: replace_tensors(value, fresh) for name, value in prepared.kwargs.items()}
    placed = {id(tensor) for _, tensor in find_argument_leaves(args, kwargs)}
    if not all(id(tensor) in placed for tensor in fresh.values()):
        return None
    return Prepared(args, kwargs, prepared.facts)


def _extend(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Repeat the last of every dim up to ``shape``, or cut."""
    with disable_dispatch():
        for dim, size in enumerate(shape):
            places = torch.arange(size).clamp(max=values.shape[dim] - 1)
            values = values.index_select(dim, places)
        return values.clone()
