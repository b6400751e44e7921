"""The cache of a forward at other lengths: its bytes as a formula, and what a context takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from modelsummary_ipy.costs.memory import find_largest_batch
from modelsummary_ipy.pipeline.cache_formula import Observed, fit_bytes
from modelsummary_ipy.records.cache import Cache, Context, find_cache
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.retraced import Allowance
from modelsummary_ipy.records.trace import Trace
from modelsummary_ipy.shapes.dim_names import InputNames
from modelsummary_ipy.shapes.size_search import last_true
from modelsummary_ipy.tracing.decode_step import Passed, trace_decode, trace_prefill
from modelsummary_ipy.tracing.request import TraceRequest
from modelsummary_ipy.tracing.retracer import Retracer

#: Where a cache that grows must have met its window, if it has one; a model with a table of positions ends before.
_LONG = 131_072
_SHORT = (2, 3)


class CacheTraces:
    """Traces a forward that gives a cache back, at other lengths and batches.

    Args:
        found: The cache, as the first trace gave it.
        time: The seconds that the formula may take.
    """

    def __init__(
        self, found: Cache, request: TraceRequest, trace: Trace, names: InputNames, time: Allowance | None = None
    ) -> None:
        self._found = found
        self._request = request
        self._trace = trace
        self._dims = names.dims
        self._batch = names.batch
        self._parameters = request.names
        self._retracer = Retracer(request, trace, names.dims, time=time)
        self._sizes: dict[str, int] = {}
        for fact, dims in zip(trace.inputs, names.dims, strict=True):
            self._sizes |= {name: size for name, size in zip(dims, fact.spec.shape, strict=True) if name}

    @property
    def length(self) -> str:
        """Name of the dim that is the length of a context: of a decoder where there are two; ``""`` for none."""
        found = ""
        for fact, dims in zip(self._trace.inputs, self._dims, strict=True):
            named = [name for name in dims[:2] if name and name != self._batch]
            if named and (not found or "decoder" in fact.spec.name):
                found = named[0]
        return found

    # -- the formula --------------------------------------------------------------------------------------------------

    def fit(self) -> Cache:
        """Return the cache with its bytes as a formula, where one agrees with all traces."""
        found = self._found
        base = Observed(self._sizes, found.leaves)
        moved: dict[str, list[Observed]] = {}
        for name, size in self._sizes.items():
            others = [size + 1] if name == self._batch else [*(each for each in _SHORT if each != size), 2 * size + 1]
            if name != self.length and self._is_fixed(name, others):
                continue
            moved[name] = [*self._observe([{name: other} for other in others])]
            if name == self._batch:
                continue
            longest = self._find_longest(name)[0]
            moved[name] += self._observe([{name: longest}]) if longest else []
        if not all(moved.values()):
            return found
        formula = fit_bytes(base, moved)
        if formula is None:
            return found
        checks = [{name: kink + more} for name, kinks in formula.kinks.items() for kink in kinks
                  for more in (-1, 0, 1) if kink + more > 0]  # fmt: skip
        checks.append({name: self._sizes[name] + 1 + (name != self._batch) for name in moved})
        seen = [*self._observe(checks)]
        if not seen or any(formula.at(each.sizes) != each.nbytes for each in seen):
            return found
        every = [each.sizes[self.length] for each in (base, *moved.get(self.length, ()), *seen) if self.length]
        return replace(found, formula=str(formula), lengths=tuple(sorted(set(every))))

    def _observe(self, changes: list[dict[str, int]]) -> Iterator[Observed]:
        for change in changes:
            again = self._retracer.at(change)
            cache = find_cache(again.trace, self._parameters) if again.trace is not None and again.works else None
            if cache is not None:
                yield Observed({**self._sizes, **change}, cache.leaves)

    def _is_fixed(self, name: str, others: list[int]) -> bool:
        """Whether the forward fails at every other size of a dim: it is then a number, as the frames of a Whisper."""
        tried = [self._retracer.at({name: other}) for other in others]
        return all(again.trace is not None and not again.works for again in tried)

    def _find_longest(self, name: str) -> tuple[int, int | None]:
        """Find a long length at which the forward runs, and the limit that a table sets; 0 where no long one runs."""
        for length in (_LONG, 4096, 4 * self._sizes[name]):
            again = self._retracer.at({name: length})
            if again.works:
                return length, None
            if 0 < again.overrun < length:
                return length - again.overrun, length - again.overrun
        return 0, None

    # -- a context ----------------------------------------------------------------------------------------------------

    def check(self, length: int) -> None:
        """Check that a context of some length can be.

        Raises:
            InputError: If no dim of the input is its length, or a table has fewer positions, or the forward fails.
        """
        received = f"context={length:,}"
        if not self.length:
            raise InputError(f"{received}, and no dim of the input is its length", "ids, or features by position")
        again = self._retracer.at({self.length: length})
        if again.overrun > 0:
            most = length - again.overrun
            received += f", and the model has {most:,} positions"
        elif again.failed:
            known = self._sizes[self.length]
            lengths = range(known, max(length, known))
            most = last_true(lengths, lambda size: self._retracer.at({self.length: size}).works) or known
            received += f", and the forward fails there: {again.reason}"
        else:
            return
        raise InputError(received, f"{most:,} or fewer", f"context={most}")

    def measure(self, length: int, budget: int | None) -> Context:
        """Measure what a context takes, and with a budget what fits."""
        found = self._found
        batch = self._sizes.get(self._batch)
        prefill, decode = self._pass(found, length, batch)
        reason = prefill.reason or decode.reason
        cache = prefill.cache.nbytes if prefill.cache is not None and not prefill.reason else None
        most = prefill.configured if prefill.configured is not None and prefill.configured < length else None
        context = Context(length, batch, cache, prefill.peak_bytes, decode.peak_bytes, reason, configured=most)
        if budget is None or context.peak_bytes is None:
            return context
        most = self._find_longest(self.length)[1]

        def fits_length(size: int) -> int | None:
            if most is not None and size > most:
                return budget + 1
            return context.peak_bytes if size == length else self._peak(found, max(size, 2), batch)

        context = context._replace(longest=find_largest_batch(fits_length, budget, length))
        if batch is None:
            return context

        def fits_batch(size: int) -> int | None:
            return context.peak_bytes if size == batch else self._peak(found, length, size)

        return context._replace(most_batch=find_largest_batch(fits_batch, budget, batch))

    def _peak(self, found: Cache, length: int, batch: int | None) -> int | None:
        prefill, decode = self._pass(found, length, batch)
        return Context(length, batch, None, prefill.peak_bytes, decode.peak_bytes).peak_bytes

    def _pass(self, found: Cache, length: int, batch: int | None) -> tuple[Passed, Passed]:
        sizes = {self._batch: batch} if batch is not None else {}
        whole, before = {**sizes, self.length: length}, {**sizes, self.length: length - 1}
        prefill = trace_prefill(self._request, self._retracer.find_shapes(whole), self._parameters)
        if prefill.reason:
            return prefill, Passed()
        shapes = self._retracer.find_shapes(before)
        kept = [leaf for leaf, dims in enumerate(self._dims) if self.length not in dims]
        step = self._step(whole)
        return prefill, trace_decode(self._request, shapes, step, kept, found.parameter, self._parameters)

    def _step(self, sizes: Mapping[str, int]) -> dict[int, tuple[int, ...]]:
        """Shapes of the inputs of one position: a mask covers all of them, everything else is one long."""
        shapes: dict[int, tuple[int, ...]] = {}
        for leaf, (fact, dims) in enumerate(zip(self._trace.inputs, self._dims, strict=True)):
            here = sizes if "mask" in fact.spec.name else {**sizes, self.length: 1}
            shape = tuple(
                here.get(name, size) if name else size for name, size in zip(dims, fact.spec.shape, strict=True)
            )
            if shape != fact.spec.shape:
                shapes[leaf] = shape
        return shapes
