"""What a forward can reach beyond its model — generators, globals, torch's switches — as it was, afterwards."""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import get_ident
from typing import Any

import torch

from modelsummary_ipy.isolation.forks import ForkedLock, restoring
from modelsummary_ipy.isolation.interpreter_state import Loggers
from modelsummary_ipy.isolation.module_globals import ModuleGlobals
from modelsummary_ipy.isolation.own_generators import OwnGenerators
from modelsummary_ipy.isolation.process_state import grad_kept, modes_kept, process_state_kept
from modelsummary_ipy.isolation.started_threads import StartedThreads
from modelsummary_ipy.isolation.threads import AloneWatch
from modelsummary_ipy.torch_compat.compiler import compiler_is_loaded
from modelsummary_ipy.torch_compat.fakes import FAKE_LOGGER, FakeTensor, constant_of, disable_dispatch, disable_function
from modelsummary_ipy.torch_compat.modes import find_dispatch_rules, skip_dispatch_rules
from modelsummary_ipy.torch_compat.modules import default_validation

#: Looked up once: a thread that an exception ends in this would keep the lock of all loggers.
_fake_log = logging.getLogger(FAKE_LOGGER)
_deep_stacks: list[int] = []  # the limit that was there before; one entry for each block that runs
_deep_lock = ForkedLock()


@contextlib.contextmanager
def deep_stack() -> Iterator[None]:
    """Allow three times as many frames: between two of a nested model's calls are some of ours."""

    def restore() -> None:
        with _deep_lock.lock:
            limit = _deep_stacks.pop()
            if not _deep_stacks:
                with contextlib.suppress(RecursionError):  # the caller is too deep for its own limit
                    sys.setrecursionlimit(limit)

    with _deep_lock.lock:
        _deep_stacks.append(_deep_stacks[0] if _deep_stacks else sys.getrecursionlimit())
        sys.setrecursionlimit(3 * _deep_stacks[0])
    with restoring(restore):
        yield


#: Switches and caches are the process's: two traces at once would each put back what the other set.
_one_at_a_time = ForkedLock()


class _Kept:
    """The globals and loggers that the traces of one thread keep together, until ``stack`` ends.

    Args:
        stack: Entered; it ends what is kept.

    Attributes:
        loggers: As they were before the first.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._globals: ModuleGlobals | None = None
        self.loggers = Loggers()
        self._restore: Callable[[], None] = lambda: None

    @contextlib.contextmanager
    def again(self, found: ModuleGlobals, *, real: bool) -> Iterator[None]:
        """Run the block and take back what it left, by the copies of the first such block.

        Other globals, and those of a real run, are kept besides.
        """
        if self._globals is None and not real:
            self._stack.enter_context(_one_at_a_time.lock)
            self._restore = self._stack.enter_context(found.kept(real=False))
            self._globals = found
        try:
            with contextlib.nullcontext() if self._globals == found and not real else found.kept(real=real):
                yield
        finally:
            self._restore()


_kept: dict[int, _Kept] = {}  # by thread


@contextlib.contextmanager
def globals_kept_once() -> Iterator[None]:
    """Let the traces of this thread in the block, with fakes, copy what they keep of the globals once for all.

    What each of them left there is taken back after it. No code of the user's runs in the block beside these traces.
    """
    thread = get_ident()
    if thread in _kept:
        yield
        return
    with contextlib.ExitStack() as stack, restoring(lambda: _kept.pop(thread, None)):
        _kept[thread] = _Kept(stack)
        yield


class GlobalState:
    """All that a forward can reach beyond its model.

    Attributes:
        unread: Sizes of masks that a library would have looked at, had their values been known.
        threads: Those that the forward starts.
    """

    def __init__(self, module_types: set[type]) -> None:
        self._namespaces = ModuleGlobals(module_types)
        self.unread: list[torch.Size] = []
        self.threads = StartedThreads()

    @contextlib.contextmanager
    def kept(self, *, real: bool) -> Iterator[None]:
        """Run the block and put back what it changed, also after an exception.

        Args:
            real: Whether arithmetic is done in the block: then this thread draws from generators of its own. Torch's
                are set back only if the forward seeded them, or if no other thread can have drawn from them.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(_one_at_a_time.lock)
            stack.enter_context(deep_stack())
            alone = AloneWatch()
            stack.enter_context(_generators_kept(alone, real=real))
            kept = _kept.get(get_ident())
            stack.enter_context(process_state_kept(alone))
            stack.enter_context((kept.loggers if kept is not None else Loggers()).kept())
            stack.enter_context(_switches_kept())
            if not real:
                stack.enter_context(_validation_off())
            stack.enter_context(grad_kept())  # around the globals, which may hold a mode that was entered
            keep = self._namespaces.kept if kept is None else partial(kept.again, self._namespaces)
            stack.enter_context(keep(real=real))
            stack.enter_context(modes_kept())
            stack.enter_context(self.threads.watched())
            stack.enter_context(_masks_read(self.unread))  # innermost: what it notes is not the forward's to take back
            yield


@contextlib.contextmanager
def _generators_kept(alone: AloneWatch, *, real: bool) -> Iterator[None]:
    numpy_random = sys.modules.get("numpy.random")
    python_state = random.getstate()
    numpy_state = numpy_random.get_state() if numpy_random is not None else None
    torch_state, seed = torch.get_rng_state(), torch.initial_seed()
    cuda_states = torch.cuda.get_rng_state_all() if real and torch.cuda.is_initialized() else None
    own = OwnGenerators() if real else None
    try:
        with own or contextlib.nullcontext():
            yield
    finally:
        is_ours = own is not None and own.may_draw and alone.holds()
        if random.getstate() != python_state:
            random.setstate(python_state)
        if numpy_random is not None and numpy_state is not None:
            _restore_numpy(numpy_random, numpy_state)
        now = torch.get_rng_state()
        if not torch.equal(now, torch_state) and (is_ours or torch.initial_seed() != seed or _is_freshly_seeded(now)):
            if torch.initial_seed() != seed:
                torch.default_generator.manual_seed(seed)
            torch.set_rng_state(torch_state)
        if cuda_states is not None and (is_ours or torch.initial_seed() != seed):
            torch.cuda.set_rng_state_all(cuda_states)


@contextlib.contextmanager
def draws_undone() -> Iterator[None]:
    """Set torch's generator back if the block draws from it, unless another thread may have drawn meanwhile.

    For code of the user's that describes a module: it may build an example of what it makes. A forward may be running.
    """
    alone = AloneWatch()
    with disable_function(), disable_dispatch():  # a fake of the state would have no values
        before = torch.get_rng_state()
    try:
        yield
    finally:
        with disable_function(), disable_dispatch():
            if not torch.equal(torch.get_rng_state(), before) and alone.holds():
                torch.set_rng_state(before)


def _restore_numpy(numpy_random: types.ModuleType, before: Any) -> None:
    now = numpy_random.get_state()
    if now[2:] != before[2:] or (now[1] != before[1]).any():
        numpy_random.set_state(before)


def _is_freshly_seeded(state: torch.Tensor) -> bool:
    """Return whether ``state`` is what seeding alone gives: the forward seeded again with the seed that was in use."""
    generator = torch.Generator()
    generator.manual_seed(torch.initial_seed())
    return torch.equal(generator.get_state(), state)


@contextlib.contextmanager
def _switches_kept() -> Iterator[None]:
    """Set torch's switches for a trace, and put these back."""
    logger = _fake_log
    was_disabled, logger.disabled = logger.disabled, True  # or every failing shape rule prints
    fast_path = torch.backends.mha.get_fastpath_enabled()

    this = object()

    def restore() -> None:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        logger.disabled = was_disabled
        find_dispatch_rules(this)

    with restoring(restore), _compilation_off():
        skip_dispatch_rules(this)
        # The fused path of attention and encoder layers hides their submodules and adds an output that is never used.
        torch.backends.mha.set_fastpath_enabled(False)
        yield


@contextlib.contextmanager
def _compilation_off() -> Iterator[None]:
    if compiler_is_loaded():
        eager = torch.compiler.set_stance("force_eager")
        eager.__enter__()
        with restoring(lambda: eager.__exit__(None, None, None)):
            yield
    else:
        yield


@contextlib.contextmanager
def _masks_read(unread: list[torch.Size]) -> Iterator[None]:
    """Let transformers read a mask whose values are known: unless it is a fake, it skips one that hides nothing.

    A mask of unknown values is passed on, and noted in ``unread``; embeddings and ids, which are checked too, are not.
    """
    library: Any = sys.modules.get("transformers.utils.import_utils")
    is_fake = getattr(library, "is_fake_tensor", None)
    if is_fake is None:
        yield
        return

    def is_unknown(value: Any) -> bool:
        if not is_fake(value) or (isinstance(value, FakeTensor) and constant_of(value) is not None):
            return False
        if value.dtype == torch.bool:
            unread.append(value.shape)
        return True

    with restoring(lambda: setattr(library, "is_fake_tensor", is_fake)):
        library.is_fake_tensor = is_unknown
        yield


@contextlib.contextmanager
def _validation_off() -> Iterator[None]:
    """Let distributions take what they are given: whether every scale is positive is no question for sizes."""
    library: Any = sys.modules.get("torch.distributions.distribution")
    if library is None:
        yield
        return
    before = default_validation(library.Distribution)
    with restoring(lambda: library.Distribution.set_default_validate_args(before)):
        library.Distribution.set_default_validate_args(False)
        yield


#: From so many new objects on, looking through them would cost more than it could find.
_MANY_OBJECTS = 20_000


@contextmanager
def collector_paused() -> Iterator[None]:
    """A trace makes a hundred thousand objects that all live on; looking for garbage among them doubles its time.

    Nor are they looked through when it is over: they join the oldest objects as they are. Freezing puts every object
    aside and unfreezing puts it there; whoever has frozen objects of his own keeps these.
    """
    was_enabled = gc.isenabled()

    def restore() -> None:
        if was_enabled:
            try:
                if gc.get_count()[0] > _MANY_OBJECTS and not gc.get_freeze_count():
                    try:
                        gc.freeze()
                    finally:  # also if an interrupt comes right here
                        gc.unfreeze()
            finally:
                gc.enable()

    with restoring(restore):
        gc.disable()
        yield
