"""What plain forward hooks see of a real run, and a fingerprint of all that a model can reach: written without ours."""

from __future__ import annotations

import array
import contextlib
import contextvars
import copy
import dataclasses
import enum
import functools
import hashlib
import io
import itertools
import logging
import random
import sys
import threading
import types
import warnings
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["SeenCall", "count_params", "difference", "fingerprint", "list_sizes", "quietly", "watch_with_hooks"]


def _has_grouped_products() -> bool:
    try:
        torch._grouped_mm(torch.zeros(8, 16), torch.zeros(2, 16, 32), torch.tensor([3, 8], dtype=torch.int32))
    except (AttributeError, RuntimeError):  # 2.7 lacks the name, 2.8 a kernel for a CPU
        return False
    return True


#: Whether this torch has ``_grouped_mm`` on a CPU.
HAS_GROUPED_PRODUCTS = _has_grouped_products()


@dataclass(frozen=True)
class SeenCall:
    """One module call that a hook saw: the module's class and names, and the sizes of all leaves in and out."""

    type_name: str
    names: tuple[str, ...]
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


def list_sizes(value: Any, depth: int = 0, *, in_objects: bool = False) -> list[tuple[int, ...]]:
    """List the sizes of every tensor in tuples, lists, dicts, named tuples and dataclasses; in a cache where asked."""
    if isinstance(value, Tensor):
        return [size_of(value)]
    if depth > 20 or isinstance(value, (str, type)):
        return []
    if dataclasses.is_dataclass(value):
        items: Any = [getattr(value, field.name) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        items = list(value.values())
    elif isinstance(value, (list, tuple)):
        items = list(value)
    elif in_objects and not isinstance(value, (nn.Module, types.FunctionType, types.MethodType)):
        items = [item for name, item in getattr(value, "__dict__", {}).items() if not name.startswith("_")]
    else:
        return []
    return [size for item in items for size in list_sizes(item, depth + 1, in_objects=in_objects)]


def size_of(tensor: Tensor) -> tuple[int, ...]:
    """Return a size; -1 for a ragged dim."""
    if tensor.is_nested:
        parts = [tuple(part.shape) for part in tensor.unbind()]
        inner = tuple(sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*parts, strict=True))
        return (len(parts), *inner)
    return tuple(tensor.shape)


def list_argument_sizes(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[int, ...]]:
    """List the sizes of the arguments; a plain object is opened one level if nothing else carries a tensor."""
    sizes = list_sizes((args, kwargs))
    if not sizes:
        for value in (*args, *kwargs.values()):
            if hasattr(value, "__dict__") and not isinstance(value, nn.Module) and not callable(value):
                sizes += list_sizes({k: v for k, v in vars(value).items() if not k.startswith("_")})
    return sizes


def watch_with_hooks(
    model: nn.Module, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[list[SeenCall], Any]:
    """Run ``model`` for real, with plain hooks on every module, and list the calls in the order they began.

    Modules that are not registered, or made while it runs, are seen by torch's global hooks.

    Returns:
        The calls, and what the model gave.
    """
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    # ScriptModules take no hooks of their own.
    hooked = {id(module): module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)}
    begun: list[SeenCall | None] = []
    kept: list[nn.Module] = []  # so that no id is used twice
    running: list[int] = []

    taken: dict[int, list[tuple[int, ...]]] = {}  # a forward may change the lists and dicts that it is given

    def begin(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any] | None) -> None:
        if kwargs is not None and id(module) not in hooked:
            return  # a deep copy has its original's hooks, and is observed as an unknown module
        running.append(len(begun))
        if kwargs is not None:
            taken[len(begun)] = list_argument_sizes(args, kwargs)
        begun.append(None)
        kept.append(module)

    def end(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        index = running.pop()
        while kept[index] is not module:  # calls that failed, and whose failure somebody caught, have no end
            index = running.pop()
        begun[index] = SeenCall(
            getattr(module, "original_name", type(module).__name__),
            tuple(names.get(id(module), ())),
            tuple(taken[index] if index in taken else list_argument_sizes(args, kwargs)),
            tuple(list_sizes(output, in_objects=True)),
        )

    def begin_stranger(module: nn.Module, args: Any) -> None:
        if id(module) not in hooked:
            begin(module, args, None)  # a global hook does not get the keywords before the call

    def end_stranger(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if id(module) not in hooked:
            end(module, args, kwargs, output)

    def end_own(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if id(module) in hooked:
            end(module, args, kwargs, output)

    everyone = torch.nn.modules.module
    handles = [
        everyone.register_module_forward_pre_hook(begin_stranger),
        everyone.register_module_forward_hook(end_stranger, with_kwargs=True),
    ]
    for module in hooked.values():
        handles.append(module.register_forward_pre_hook(begin, with_kwargs=True))
        handles.append(module.register_forward_hook(end_own, with_kwargs=True))
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides the modules that it replaces
    try:
        with quietly(), torch.compiler.set_stance("force_eager"):
            call = model if method == "forward" else getattr(model, method)
            output = call(*args, **kwargs)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for handle in handles:
            handle.remove()
            everyone._global_forward_hooks_with_kwargs.pop(handle.id, None)  # torch's handle leaves it there
    return [call for call in begun if call is not None], output


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Let nothing be printed or warned of."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def count_params(model: nn.Module) -> int:
    """Count the scalars of all parameters, each tensor once, and of what quantized layers say their weights are."""
    distinct = {id(parameter): parameter for parameter in model.parameters()}
    packed = sum(count_quantized(module) for module in model.modules())
    return sum(parameter.numel() for parameter in distinct.values()) + packed


def count_quantized(module: nn.Module) -> int:
    """Count the weights and biases of an eager-quantized layer by its own methods, 0 for any other module."""
    if ".quantized" not in type(module).__module__:
        return 0
    if hasattr(module, "get_weight"):  # a recurrent layer: by name
        return sum(tensor.numel() for made in (module.get_weight(), module.get_bias()) for tensor in made.values())
    if not callable(getattr(module, "weight", None)):
        return 0
    bias = module.bias()
    return module.weight().numel() + (0 if bias is None else bias.numel())


# -- the fingerprint --------------------------------------------------------------------------------------------------

_ATOMS = (bool, int, float, complex, str, bytes, type(None), torch.dtype, torch.device, torch.Size, enum.Enum)


def fingerprint(model: nn.Module, *others: Any) -> dict[str, Any]:
    """Write down all that a trace of ``model`` could change, by the path that reaches it.

    Tensors by identity, bits and version counter; containers by identity, length and keys; modules by identity, class,
    attributes, hooks and mode; functions by what they close over; ``lru_cache``s by their counts; every generator and
    every switch of torch.
    """
    found: dict[str, Any] = {}
    seen: set[int] = set()
    work: list[tuple[str, Any]] = [("model", model), *((f"other[{i}]", value) for i, value in enumerate(others))]
    for kind in {type(module): None for module in model.modules()}:
        work.append((f"class {kind.__qualname__}", kind))
    while work:
        path, value = work.pop()
        work += _write(path, value, seen, found)
    found.update(_write_surroundings())
    return found


def _copy_iterator(value: Iterator[Any]) -> Iterator[Any]:
    """Copy an iterator; a copied ``cycle`` shares the iterator and the list inside it, so these are copied too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # those of itertools can't be copied from Python 3.14 on
        if isinstance(value, itertools.cycle):
            kind, (inner,), (saved, is_later) = value.__reduce__()  # type: ignore[misc,str-unpack]
            twin = kind(copy.copy(inner))
            twin.__setstate__((list(saved), is_later))
            return twin
        return copy.copy(value)


def _write(path: str, value: Any, seen: set[int], found: dict[str, Any]) -> list[tuple[str, Any]]:
    """Write one value down and return what it reaches."""
    if isinstance(value, _ATOMS):
        found[path] = repr(value)
        return []
    found[path] = f"{type(value).__name__} {id(value)}"
    if id(value) in seen or isinstance(value, (logging.Logger, types.ModuleType)):
        return []
    seen.add(id(value))
    if isinstance(value, Tensor):
        return _write_tensor(path, value, found)
    if isinstance(value, np.ndarray):
        found[f"{path} bits"] = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
        return []
    if isinstance(value, (bytearray, array.array)):
        found[f"{path} bytes"] = bytes(value).hex()
        return []
    if isinstance(value, (io.BytesIO, io.StringIO)) and not value.closed:
        found[f"{path} file"] = (value.getvalue(), value.tell())
        return []
    if isinstance(value, contextvars.ContextVar):
        found[f"{path} value"] = repr(value.get(None))
        return []
    if isinstance(value, Iterator) and not isinstance(value, types.GeneratorType):
        with contextlib.suppress(TypeError):
            found[f"{path} comes to"] = [*map(repr, itertools.islice(_copy_iterator(value), 4))]
        return []
    if isinstance(value, torch.Generator):
        found[f"{path} state"] = hashlib.sha256(value.get_state().numpy().tobytes()).hexdigest()
        return []
    if isinstance(value, torch.jit.ScriptModule):
        return [(f"{path}.{name}", t) for name, t in [*value.named_parameters(), *value.named_buffers()]]
    if isinstance(value, type):
        return _write_class(path, value, found)
    if isinstance(value, Mapping) and not isinstance(value, weakref.WeakKeyDictionary):
        found[f"{path} keys"] = [repr(key)[:200] if isinstance(key, _ATOMS) else id(key) for key in list(value.keys())]
        return [(f"{path}[{str(key)[:60]!r}]", item) for key, item in value.items()]
    if isinstance(value, (list, tuple, deque)):
        found[f"{path} length"] = sum(1 for _ in value)  # a tuple of somebody's may refuse len()
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, (set, frozenset, weakref.WeakSet)):
        found[f"{path} members"] = sorted(id(item) for item in value)
        return []
    if isinstance(value, types.FunctionType):
        return _write_function(path, value)
    if isinstance(value, types.MethodType):
        return [(f"{path}.__self__", value.__self__)]
    if isinstance(value, functools.partial):
        return [(f"{path}.args", value.args), (f"{path}.keywords", value.keywords)]
    if isinstance(value, weakref.ref):
        return [(f"{path}()", value())]
    if hasattr(value, "cache_info"):
        found[f"{path} cache"] = str(value.cache_info())
        return []
    return _write_object(path, value, found)


def _write_tensor(path: str, tensor: Tensor, found: dict[str, Any]) -> list[tuple[str, Any]]:
    facts = (type(tensor).__name__, tensor.requires_grad, id(tensor.grad) if tensor.is_leaf else None)
    if isinstance(tensor, nn.parameter.UninitializedTensorMixin):
        found[f"{path} facts"] = (*facts, "lazy", tensor._version)
        return [(f"{path}.{name}", item) for name, item in tensor.__dict__.items()]
    version = None if tensor.is_inference() else tensor._version
    found[f"{path} facts"] = (*facts, tuple(tensor.shape), str(tensor.dtype), version, tensor.grad_fn)
    found[f"{path} hooks"] = str(tensor._backward_hooks)
    if hasattr(tensor, "__tensor_flatten__"):  # a subclass that holds others: a quantized weight and its scales
        return [(f"{path}.{name}", getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0]]  # type: ignore[attr-defined]
    if tensor.device.type != "meta":
        found[f"{path} bits"] = _hash(tensor)
    return [(f"{path}.{name}", item) for name, item in tensor.__dict__.items()]


def _hash(tensor: Tensor) -> str:
    plain = tensor.detach()
    if plain.is_sparse:
        plain = plain.coalesce().values() if plain.is_coalesced() else plain._values()
    if plain.is_quantized:
        plain = plain.int_repr()
    if plain.dtype == torch.bfloat16 or plain.dtype == torch.float16:
        plain = plain.view(torch.int16)
    return hashlib.sha256(plain.contiguous().resolve_conj().numpy().tobytes()).hexdigest()


def _write_class(path: str, kind: type, found: dict[str, Any]) -> list[tuple[str, Any]]:
    reached: list[tuple[str, Any]] = []
    for base in kind.__mro__:
        if base.__module__.partition(".")[0] in ("builtins", "abc", "typing"):
            continue
        found[f"{path} {base.__qualname__} names"] = [
            # The descriptor through which calls are observed stays on nn.Module; it says None, which is compared too.
            (name, id(item if name != "_compiled_call_impl" else base._compiled_call_impl))
            for name, item in vars(base).items()
        ]
        for name, item in vars(base).items():
            inner = getattr(item, "__func__", item)
            # Caches, containers and tensors that hang on the class; its functions are code.
            if hasattr(inner, "cache_info"):
                found[f"{path} {base.__qualname__}.{name} cache"] = str(inner.cache_info())
            elif isinstance(inner, types.FunctionType):
                _write_closure(f"{path} {base.__qualname__}.{name}", inner, found, set())
            elif isinstance(item, (Tensor, nn.Module, list, dict, set, weakref.WeakSet)) and name != "__annotations__":
                reached.append((f"{path}.{name}", item))
        module = sys.modules.get(base.__module__)
        if module is not None and not base.__module__.startswith("torch"):
            reached += _write_globals(base.__module__, vars(module), found)
    return reached


#: Where the models of the tests are written.
_OWN = ("tests.models", "models", "__main__")


def _write_globals(name: str, namespace: dict[str, Any], found: dict[str, Any]) -> list[tuple[str, Any]]:
    if f"globals {name}" in found:
        return []
    found[f"globals {name}"] = [(key, id(item)) for key, item in namespace.items() if not key.startswith("__")]
    for key, item in list(namespace.items()):
        if isinstance(item, functools._lru_cache_wrapper):
            # How often a library's own switches were read is no state of the user's.
            facts = item.cache_info()
            found[f"globals {name}.{key} cache"] = str(facts) if name in _OWN else (facts.misses, facts.currsize)
        elif isinstance(item, types.FunctionType):
            _write_closure(f"globals {name}.{key}", item, found, set())
        elif isinstance(item, (dict, list)) and not key.startswith("__") and len(item) < 1000:
            found[f"globals {name}.{key} members"] = [
                id(inner) for inner in (item.values() if isinstance(item, dict) else item)
            ]
    return [
        (f"globals {name}.{key}", item)
        for key, item in namespace.items()
        if (isinstance(item, (Tensor, nn.Module)) or type(item).__module__ == name) and not key.startswith("__")
    ]


def _write_closure(path: str, function: types.FunctionType, found: dict[str, Any], seen: set[int]) -> None:
    """Write down the caches that a decorator keeps in what it closes over."""
    for index, cell in enumerate(function.__closure__ or ()):
        with contextlib.suppress(ValueError):
            content = cell.cell_contents
            if id(content) in seen:
                continue
            seen.add(id(content))
            if hasattr(content, "cache_info"):
                found[f"{path} closure[{index}] cache"] = str(content.cache_info())
            elif isinstance(content, (dict, list)) and len(content) < 1000:
                members = content.values() if isinstance(content, dict) else content
                found[f"{path} closure[{index}] members"] = [id(member) for member in members]
            elif isinstance(content, types.FunctionType):
                _write_closure(f"{path} closure[{index}]", content, found, seen)


def _write_function(path: str, function: types.FunctionType) -> list[tuple[str, Any]]:
    reached: list[tuple[str, Any]] = [(f"{path} defaults", function.__defaults__), (f"{path} dict", function.__dict__)]
    for index, cell in enumerate(function.__closure__ or ()):
        with contextlib.suppress(ValueError):
            reached.append((f"{path} closure[{index}]", cell.cell_contents))
    return reached


def _write_object(path: str, value: Any, found: dict[str, Any]) -> list[tuple[str, Any]]:
    state = dict(getattr(value, "__dict__", {}))
    for base in type(value).__mro__:
        slots = base.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            with contextlib.suppress(AttributeError):
                state[slot] = object.__getattribute__(value, slot)
    found[f"{path} attributes"] = list(state)
    return [(f"{path}.{name}", item) for name, item in state.items()]


def _write_surroundings() -> dict[str, Any]:
    numpy_state: Any = np.random.get_state()
    everyone = torch.nn.modules.module
    return {
        "torch rng": hashlib.sha256(torch.get_rng_state().numpy().tobytes()).hexdigest(),
        "torch seed": torch.initial_seed(),
        "numpy rng": hashlib.sha256(numpy_state[1].tobytes()).hexdigest() + str(numpy_state[2:]),
        "python rng": hashlib.sha256(repr(random.getstate()).encode()).hexdigest(),
        "default dtype": torch.get_default_dtype(),
        "default device": str(torch.get_default_device()),
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "global hooks": [
            len(hooks)
            for hooks in (
                everyone._global_forward_hooks,
                everyone._global_forward_pre_hooks,
                everyone._global_backward_hooks,
                everyone._global_backward_pre_hooks,
                everyone._global_module_registration_hooks,
            )
        ],
        "compiled call": nn.Module._compiled_call_impl,
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "saved hooks": getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", bool)(True),  # not in 2.7
        "loggers": [logging.getLogger(name).disabled for name in ("torch", "torch._subclasses.fake_tensor")],
        "stdout": id(sys.stdout),
        "threads": threading.active_count(),
        "warnings": len(warnings.filters),
        "recursion limit": sys.getrecursionlimit(),
        "anomaly": torch.is_anomaly_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "parametrization cache": torch.nn.utils.parametrize._cache_enabled,
    }


def difference(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """List what differs between two fingerprints, in words."""
    keys = {**before, **after}
    return [f"{key}: {before.get(key)!r} -> {after.get(key)!r}" for key in keys if before.get(key) != after.get(key)]


# -- both sides of a comparison ----------------------------------------------------------------------------------------


def seed() -> None:
    """Set every generator, so that two runs draw the same."""
    torch.manual_seed(2)
    random.seed(2)
    np.random.seed(2)


def list_module_calls(trace: Any, rows: Any) -> list[SeenCall]:
    """List the module rows of a summary as hooks would have seen them.

    A method that is no forward has none, and modules of an exported program are not called in its own forward.
    """
    ran = [row for row in rows if row.kind == "module" and row.status == "ran"]
    calls = [row for row in ran if not row.type_name.endswith(" (exported)")]
    return [
        SeenCall(
            row.type_name,
            trace.modules[row.module].paths,
            tuple(spec.shape for spec in row.inputs),
            tuple(spec.shape for spec in row.outputs),
        )
        for row in calls
        if not (row.depth == 0 and trace.method != "forward")
    ]
