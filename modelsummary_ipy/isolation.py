"""What a forward can reach beyond its model — generators, caches, globals, torch's switches — as it was, afterwards."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any, TextIO

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor

__all__ = ["Surroundings", "quiet_output"]

_FAKE_LOGGER = "torch._subclasses.fake_tensor"


class Surroundings:
    """The classes of a model and the modules they were written in: where a forward leaves what it caches.

    Args:
        module_types: Every class among the model's modules.
    """

    def __init__(self, module_types: set[type]) -> None:
        classes = {base for kind in module_types for base in kind.__mro__ if _is_users(base.__module__)}
        self._classes = sorted(classes, key=lambda kind: (kind.__module__, kind.__qualname__))
        names = sorted({kind.__module__ for kind in classes})
        self._namespaces = [vars(sys.modules[name]) for name in names if name in sys.modules]

    @contextlib.contextmanager
    def kept(self, *, real: bool) -> Iterator[None]:
        """Run the block and put back what it changed, also after an exception.

        Args:
            real: Whether arithmetic is done in the block: then torch's generator advances and is set back. Fakes do not
                advance it; it is set back only if the forward seeded it, for another thread may be drawing from it.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(_generators_kept(real))
            stack.enter_context(_switches_kept())
            stack.enter_context(self._caches_bypassed())
            stack.enter_context(self._class_attributes_kept())
            if not real:
                stack.enter_context(self._globals_free_of_fakes())
            yield

    @contextlib.contextmanager
    def _caches_bypassed(self) -> Iterator[None]:
        """Let ``lru_cache``d functions run uncached in this thread: a cached fake would be the user's next real answer."""
        thread = threading.get_ident()
        swapped: list[tuple[Any, str, Any]] = []
        try:
            for kind in self._classes:
                for name, value in list(vars(kind).items()):
                    inner = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
                    if isinstance(inner, _LRU_CACHE):
                        bypass: Any = _bypass(inner, thread)
                        setattr(kind, name, type(value)(bypass) if inner is not value else bypass)
                        swapped.append((kind, name, value))
            for namespace in self._namespaces:
                for name, value in list(namespace.items()):
                    if isinstance(value, _LRU_CACHE):
                        namespace[name] = _bypass(value, thread)
                        swapped.append((namespace, name, value))
            yield
        finally:
            for owner, name, value in reversed(swapped):
                if isinstance(owner, dict):
                    owner[name] = value
                else:
                    setattr(owner, name, value)

    @contextlib.contextmanager
    def _class_attributes_kept(self) -> Iterator[None]:
        """Undo what the forward assigned on its classes (``type(self).calls += 1``)."""
        before = [(kind, dict(vars(kind))) for kind in self._classes]
        try:
            yield
        finally:
            for kind, old in before:
                for name, value in list(vars(kind).items()):
                    if name not in old:
                        delattr(kind, name)
                    elif value is not old[name] and not name.startswith("__"):
                        setattr(kind, name, old[name])

    @contextlib.contextmanager
    def _globals_free_of_fakes(self) -> Iterator[None]:
        """Take back fakes that the forward left in a module's globals or in a dict or list among them."""
        before = [(namespace, dict(namespace)) for namespace in self._namespaces]
        try:
            yield
        finally:
            for namespace, old in before:
                for name, value in list(namespace.items()):
                    if isinstance(value, FakeTensor) and value is not old.get(name):
                        if name in old:
                            namespace[name] = old[name]
                        else:
                            del namespace[name]
                    elif type(value) is dict and len(value) < 10_000:
                        for key, item in list(value.items()):
                            if _holds_fake(item):
                                del value[key]
                    elif type(value) is list and len(value) < 10_000:
                        kept = [item for item in value if not _holds_fake(item)]
                        if len(kept) != len(value):
                            value[:] = kept


_LRU_CACHE = type(functools.lru_cache(_FAKE_LOGGER.split))


def _bypass(cached: Any, thread: int) -> Callable[..., Any]:
    @functools.wraps(cached.__wrapped__)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (cached.__wrapped__ if threading.get_ident() == thread else cached)(*args, **kwargs)

    call.cache_info, call.cache_clear = cached.cache_info, cached.cache_clear  # type: ignore[attr-defined]
    return call


def _holds_fake(value: Any) -> bool:
    return isinstance(value, FakeTensor) or (
        isinstance(value, (tuple, list)) and any(isinstance(item, FakeTensor) for item in value)
    )


def _is_users(module_name: str) -> bool:
    return module_name.partition(".")[0] not in (
        "torch",
        "builtins",
        "abc",
        "typing",
        "collections",
        "modelsummary_ipy",
    )


@contextlib.contextmanager
def _generators_kept(real: bool) -> Iterator[None]:
    numpy_random = sys.modules.get("numpy.random")
    python_state = random.getstate()
    numpy_state = numpy_random.get_state() if numpy_random is not None else None
    torch_state, seed = torch.get_rng_state(), torch.initial_seed()
    cuda_states = torch.cuda.get_rng_state_all() if real and torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        if random.getstate() != python_state:
            random.setstate(python_state)
        if numpy_random is not None and numpy_state is not None:
            _restore_numpy(numpy_random, numpy_state)
        now = torch.get_rng_state()
        if not torch.equal(now, torch_state) and (real or torch.initial_seed() != seed or _is_freshly_seeded(now)):
            if torch.initial_seed() != seed:
                torch.default_generator.manual_seed(seed)
            torch.set_rng_state(torch_state)
        if cuda_states is not None:
            torch.cuda.set_rng_state_all(cuda_states)


def _restore_numpy(numpy_random: types.ModuleType, before: Any) -> None:
    now = numpy_random.get_state()
    if now[2:] != before[2:] or (now[1] != before[1]).any():
        numpy_random.set_state(before)


def _is_freshly_seeded(state: torch.Tensor) -> bool:
    """Tell whether ``state`` is what seeding alone gives: the forward seeded again with the seed that was in use."""
    generator = torch.Generator()
    generator.manual_seed(torch.initial_seed())
    return torch.equal(generator.get_state(), state)


@contextlib.contextmanager
def _switches_kept() -> Iterator[None]:
    """Set torch's switches for a trace, and put back these and those that a forward may leave turned."""
    logger = logging.getLogger(_FAKE_LOGGER)
    was_disabled, logger.disabled = logger.disabled, True  # or every failing shape rule prints
    fast_path = torch.backends.mha.get_fastpath_enabled()
    # The fused path of attention and encoder layers hides their submodules and adds an output nobody sees.
    torch.backends.mha.set_fastpath_enabled(False)
    grad, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        with _compilation_off():
            yield
    finally:
        torch.set_grad_enabled(grad)
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)
        torch.backends.mha.set_fastpath_enabled(fast_path)
        logger.disabled = was_disabled


@contextlib.contextmanager
def _compilation_off() -> Iterator[None]:
    if "torch._dynamo.eval_frame" in sys.modules:
        with torch.compiler.set_stance("force_eager"):
            yield
    else:
        yield


class _ThreadWriter:
    """Writes of one thread go to ``catch``, those of all others where they always went."""

    def __init__(self, catch: list[str], passed_to: TextIO, thread: int) -> None:
        self._catch = catch
        self._passed_to = passed_to
        self._thread = thread

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._passed_to.write(text)
        self._catch.append(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._passed_to, name)


@contextlib.contextmanager
def quiet_output() -> Iterator[list[str]]:
    """Catch what this thread prints; other threads print as before. Yields the list that fills with the text."""
    caught: list[str] = []
    before = sys.stdout
    writer: Any = _ThreadWriter(caught, before, threading.get_ident())
    sys.stdout = writer
    try:
        yield caught
    finally:
        if sys.stdout is writer:
            sys.stdout = before


def collect_types(module: nn.Module) -> set[type]:
    """Return every class among the modules of ``module``."""
    return {type(inner) for inner in module.modules()}
