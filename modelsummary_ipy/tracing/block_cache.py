"""A cache of modules that are alike: of the layers of a transformer a further trace runs the first, and repeats it.

Which calls are alike the first trace shows, in which all of them ran. At other sizes one is repeated only if its module
holds what the first one's holds, and gets what that got. Numbers in which they differ, the index of a layer, are
watched: if the first one reads such a number, the others are run too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from modelsummary_ipy.fake.fake_mode import FakeMode, build_fake
from modelsummary_ipy.fake.index_values import VALUES, is_followed
from modelsummary_ipy.fake.shape_cache import Recipe, add_part, is_fresh
from modelsummary_ipy.isolation.shadow import Shadow
from modelsummary_ipy.model.tensor_meta import TAG
from modelsummary_ipy.records.op_events import TensorRef
from modelsummary_ipy.records.trace import Call, Link, ParamFact
from modelsummary_ipy.torch_compat.fakes import FakeTensor, count_modes, disable_dispatch, disable_function
from modelsummary_ipy.torch_compat.modules import version_of
from modelsummary_ipy.tracing.alike_calls import Alike, AlikeCalls, Key
from modelsummary_ipy.tracing.call_builder import REF, CallLog
from modelsummary_ipy.tracing.module_state import (
    Place,
    State,
    StateReader,
    UnlikeError,
    find_differences,
    reads_watched,
)
from modelsummary_ipy.tracing.op_log import OpLog


class Given(NamedTuple):
    """What a module was called with.

    Attributes:
        parts: What its output may depend on.
        tensors: The tensors, each once.
        marks: Of each, the call that made it, what the log of operations knows it by, how often it was written to.
    """

    parts: list[Any]
    tensors: list[Tensor]
    marks: list[tuple[Link | None, TensorRef, Any]]

    def links(self, other: Given) -> dict[Link | None, Link | None]:
        """Return the links of the tensors, and of those in their places in another call.

        Raises:
            UnlikeError: If two have one link here and two there.
        """
        found: dict[Link | None, Link | None] = {None: None}
        for (mine, *_), (its, *_) in zip(self.marks, other.marks, strict=True):
            if found.setdefault(mine, its) != its:
                raise UnlikeError
        return found


class Known(NamedTuple):
    """A call that was run, to be repeated.

    Attributes:
        given, state: What its module got and held.
        differing: The numbers that were watched, and not read.
        calls: All calls in it, itself first.
        params: Of the parameters that ran in it, those that it did not get.
        events: Where its operations begin and end in their log.
        output: What it gave, as ``_describe`` writes it down.
    """

    given: Given
    state: State
    differing: frozenset[Place]
    calls: list[Call]
    params: frozenset[int]
    events: range
    output: Any


class _Made(NamedTuple):
    recipe: Recipe
    link: Link
    ref: TensorRef


class _Same(NamedTuple):
    place: int


class BlockCache:
    """What modules did in one trace without grad, whose operations are recorded.

    Args:
        alike: Which calls are alike; what is found to differ is taken out.
        work: The copy that is run.
        params: Facts of the parameters.
        mode: The mode of the trace's fakes.
        log, ops: What is written down.
        is_brief: Whether of a call that is repeated nothing is written down but itself.
    """

    def __init__(
        self, alike: AlikeCalls, work: Shadow, params: Sequence[ParamFact], mode: FakeMode, log: CallLog, ops: OpLog,
        *, is_brief: bool = False,
    ) -> None:  # fmt: skip
        self._alike = alike
        self._modules = {work.index_of[id(module)]: module for module in work.modules}
        self._layers = work.layers
        self._param_of = work.param_of
        self._mode = mode
        self._log = log
        self._ops = ops
        self._is_brief = is_brief
        self._reader = StateReader(params, work.param_of)
        self._num_modes = count_modes()
        self._known: dict[Key, Known] = {}
        self._is_running = False

    def call(
        self,
        index: int,
        module: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        run: Callable[[], Any],
        begin: Callable[[Call], Call],
    ) -> Any:
        """Run a call, or repeat one that it is like.

        Args:
            index, module, args, kwargs: What is called.
            run: Runs it.
            begin: Returns the call itself, made from the one that it is like.
        """
        key = index, self._log.count_of(index)
        alike = self._alike.later.get(key)
        if self._is_running or not (alike or key in self._alike.first) or not self._is_plain():
            return run()
        try:
            with disable_function():
                given, state = self._read_given((args, kwargs)), self._reader.read(module)
                if alike is not None:
                    return self._repeat(self._find(alike, given, state), alike, given, begin)
                differing = self._alike.differing.get(key)
                if differing is None:
                    differing = self._alike.differing[key] = self._find_differing(key, state)
                watch = reads_watched(module, differing)
        except UnlikeError:
            return run()
        begin_call, begin_op = len(self._log.calls), self._ops.length
        self._is_running = True
        try:
            with watch as is_read:
                output = run()
        finally:
            self._is_running = False
        with disable_function():
            if not is_read() and self._is_untouched(given, state, module):
                events = range(begin_op, self._ops.length)
                self._keep(key, Known(given, state, differing, [], frozenset(), events, output), begin_call)
        return output

    def _is_plain(self) -> bool:
        is_cast = torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
        has_grad = torch.is_grad_enabled() or torch.is_inference_mode_enabled()
        return count_modes() == self._num_modes and not is_cast and not has_grad

    # -- what a module gets -------------------------------------------------------------------------------------------

    def _read_given(self, value: Any) -> Given:
        given = Given([torch.get_default_dtype()], [], [])
        templates = self._mode.templates.values()
        usual = {TAG, REF, VALUES, "fake_mode", *(name for _, rest in templates for name in rest)}
        self._add_argument(value, given, usual)
        return given

    def _add_argument(self, value: Any, given: Given, usual: set[str]) -> None:
        if isinstance(value, Tensor):
            place = next((place for place, tensor in enumerate(given.tensors) if tensor is value), None)
            if place is None:
                if type(value) is not FakeTensor or not value.__dict__.keys() <= usual:
                    raise UnlikeError
                given.tensors.append(value)
                given.marks.append(self._mark(value))
                if is_followed(value) or not add_part(given.parts, value, self._mode):
                    given.parts.append((id(value), version_of(value)))  # of known values, say: the same tensor only
            given.parts.append(place)
        elif type(value) in (tuple, list, dict):
            given.parts.extend((type(value), len(value)))
            for item in (part for pair in value.items() for part in pair) if type(value) is dict else value:
                self._add_argument(item, given, usual)
        elif not add_part(given.parts, value, self._mode):
            raise UnlikeError

    def _mark(self, tensor: Tensor) -> tuple[Link | None, TensorRef, Any]:
        return tensor.__dict__.get(TAG), self._ops.refer(tensor), version_of(tensor)

    # -- the first of its kind ----------------------------------------------------------------------------------------

    def _find_differing(self, key: Key, state: State) -> frozenset[Place]:
        """Find the numbers in which modules of alike calls differ; those that differ in more are taken out.

        Raises:
            UnlikeError: If no other is left.
        """
        found: set[Place] = set()
        others = [other for other, alike in self._alike.later.items() if alike.first == key]
        for other in others:
            try:
                found |= find_differences(state, self._reader.read(self._find_module(other[0])))
            except UnlikeError:
                del self._alike.later[other]
        if not any(other in self._alike.later for other in others):
            self._alike.first.discard(key)
            raise UnlikeError
        return frozenset(found)

    def _find_module(self, index: int) -> nn.Module:
        layer = None if self._layers is None else self._layers.find(index)
        return self._modules[index] if layer is None else layer

    def _is_untouched(self, given: Given, state: State, module: nn.Module) -> bool:
        """Return whether nothing was written to what a call got, to its module, or to what modules share."""
        if given.marks != [*map(self._mark, given.tensors)] or not self._reader.has_kept_shared():
            return False
        try:
            return self._reader.read(module) == state
        except UnlikeError:
            return False

    def _keep(self, key: Key, known: Known, begin: int) -> None:
        """Keep a call to be repeated, unless it read what it did not get, or gave more than new tensors."""
        made = self._log.calls[begin:]
        calls = [call if isinstance(call, Call) else call.freeze(self._log.find_source) for call in made]
        links = {link for link, *_ in known.given.marks}
        is_closed = all(
            link is None or link in links or link.call >= begin
            for call in calls
            for link in (*call.input_links, *call.output_links)
        )
        if not is_closed or any(call.lazy or call.status != "ran" for call in calls):
            return
        for call, record in zip(made, calls, strict=True):
            self._ops.settle(call, record)
        got = {self._param_of.get(id(tensor)) for tensor in known.given.tensors}
        params = {*self._ops.list_params(known.events), *(param for call in calls for param in call.params)} - got
        try:
            output = self._describe(known.output, known.given, begin, [])
        except UnlikeError:
            return
        self._known[key] = known._replace(calls=calls, params=frozenset(params), output=output)

    def _describe(self, output: Any, given: Given, begin: int, seen: list[Tensor]) -> Any:
        """Write down how to make an output again.

        Raises:
            UnlikeError: If it has more in it than the tensors that the call got, and plain new ones.
        """
        if isinstance(output, Tensor):
            place = next((place for place, tensor in enumerate(given.tensors) if tensor is output), None)
            if place is not None:
                return _Same(place)
            link, ref = output.__dict__.get(TAG), output.__dict__.get(REF)
            is_plain = type(output) is FakeTensor and add_part([], output, self._mode)
            is_new = is_plain and is_fresh(output, [*given.tensors, *seen]) and id(output) not in self._param_of
            if not is_new or link is None or ref is None or link.call < begin:
                raise UnlikeError
            seen.append(output)
            return _Made(Recipe.of(output, "fresh"), link, ref)
        if type(output) in (tuple, list):
            return type(output)(self._describe(item, given, begin, seen) for item in output)
        if not add_part([], output, self._mode):
            raise UnlikeError
        return output

    # -- those alike --------------------------------------------------------------------------------------------------

    def _find(self, alike: Alike, given: Given, state: State) -> Known:
        known = self._known.get(alike.first)
        if known is None or given.parts != known.given.parts or not self._reader.has_kept_shared():
            raise UnlikeError
        if not find_differences(known.state, state) <= known.differing:
            raise UnlikeError
        if not known.params <= alike.params.keys() or any(call.module not in alike.modules for call in known.calls):
            raise UnlikeError
        return known

    def _repeat(self, known: Known, alike: Alike, given: Given, begin: Callable[[Call], Call]) -> Any:
        """Write down the calls and operations of a call like one that was run, and return what it would return."""
        links, like = known.given.links(given), known.calls[0]
        if self._is_brief:
            own = begin(like)
            self._log.calls.append(own)
            for call in known.calls:
                if call.kind == "module" and call.module is not None:
                    self._log.count_call(alike.modules[call.module])
            return self._make(known.output, given, lambda one: (Link(own.index, one.ref.number), None))
        pairs = zip(known.given.tensors, given.tensors, strict=True)
        numbers = {self._param_of.get(id(one), -1): self._param_of.get(id(two), -1) for one, two in pairs}
        own = begin(like)
        shift = own.index - like.index

        def move(link: Link | None) -> Link | None:
            return Link(link.call + shift, link.leaf) if link is not None and link.call >= like.index else links[link]

        def rename(param: int) -> int:
            return alike.params[param] if param in known.params else numbers[param]

        made = []
        for call in known.calls:
            assert call.module is not None
            module = alike.modules[call.module]
            made.append(
                Call(  # by position, as in the tracer: in 40% of the time
                    call.index + shift,
                    call.kind,
                    own.path + call.path[len(like.path) :],
                    call.type_name,
                    own.parent if call is like or call.parent is None else call.parent + shift,
                    call.depth + own.depth - like.depth,
                    self._log.count_call(module) if call.kind == "module" else call.call_index,
                    module,
                    call.inputs,
                    call.outputs,
                    tuple([move(link) for link in call.input_links]),
                    tuple([move(link) for link in call.output_links]),
                    tuple([None if param is None else rename(param) for param in call.input_params]),
                    call.arguments,
                    tuple([rename(param) for param in call.params]),
                    *call[15:],
                )
            )
        made[0] = made[0]._replace(source=own.source)
        self._log.calls += made
        refs = {one.number: two for (_, one, _), (_, two, _) in zip(known.given.marks, given.marks, strict=True)}
        renew = self._ops.repeat_calls(known.events, known.calls, made, refs, alike.params)
        return self._make(known.output, given, lambda one: (move(one.link), renew(one.ref)))

    def _make(self, output: Any, given: Given, name: Callable[[_Made], tuple[Link | None, TensorRef | None]]) -> Any:
        if type(output) is _Same:
            return given.tensors[output.place]
        if type(output) is _Made:
            size, stride, dtype, _ = output.recipe.layout
            with disable_dispatch():
                meta = torch.empty_strided(size, stride, dtype=dtype, device="meta")
                tensor = build_fake(self._mode, meta, output.recipe.device)
            tensor.__dict__[TAG], ref = name(output)
            if ref is not None:  # else it gets one when an operation reads it
                tensor.__dict__[REF] = ref
            return tensor
        if type(output) in (tuple, list):
            return type(output)(self._make(item, given, name) for item in output)
        return output
