"""Wrong sizes and dtypes by chance, for every model of the tests: what fails must fail as a real run does.

A hundred and fifty cases run with all other tests; ``FUZZ_CASES=2000`` runs as many, a call that is drawn twice once.
"""

from __future__ import annotations

import os
import random
import re
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.summary import ModelSummary
from tests.failing_cases import CASES as FAILING
from tests.models import CASES, Case
from tests.reference import difference, fingerprint, quietly

#: Whether the fixes that are shown are run for real: see ``tests/conftest.py``.
RUNS_FIXES = False
NUM_CASES = int(os.environ.get("FUZZ_CASES", "150"))
#: One test runs this many cases, so that a report names few and a run is not slowed by naming all.
IN_ONE = 25

#: Most numbers of an input: a real run of what is larger would take too long.
MOST_NUMBERS = 200_000


@dataclass(frozen=True)
class Wrong:
    """One call of a model with something wrong in it.

    Attributes:
        seed: What it was made from.
        name: Of the model.
        change: What was done to which input.
        make: Makes the model, equal at every call.
        args, kwargs: What it is given.
        method: What is called.
    """

    seed: int
    name: str
    change: str
    make: Callable[[], nn.Module]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    method: str = "forward"

    def __str__(self) -> str:
        return f"{self.seed}: {self.name}, {self.change}"


# -- wrong inputs -----------------------------------------------------------------------------------------------------


def _change_rank(shape: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
    if shape and rng.random() < 0.5:
        axis = rng.randrange(len(shape))
        return shape[:axis] + shape[axis + 1 :]
    axis = rng.randrange(len(shape) + 1)
    return (*shape[:axis], rng.choice((1, 2, 3)), *shape[axis:])


def _change_channels(shape: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
    if not shape:
        return (3,)
    axis = rng.choice((min(1, len(shape) - 1), len(shape) - 1))
    return (*shape[:axis], max(1, shape[axis] + rng.choice((-2, -1, 1, 2, 5))), *shape[axis + 1 :])


def _make_odd(shape: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
    return tuple(size + 1 - size % 2 if rng.random() < 0.6 else size for size in shape)


def _make_tiny(shape: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.choice((1, 1, 2)) if rng.random() < 0.6 else size for size in shape)


def _make_huge(shape: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
    if not shape:
        return (1000,)
    axis = rng.randrange(len(shape))
    return (*shape[:axis], shape[axis] * rng.choice((4, 9, 16)), *shape[axis + 1 :])


def _shuffle(shape: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
    return tuple(rng.sample(shape, len(shape)))


SHAPES = (_change_rank, _change_channels, _make_odd, _make_tiny, _make_huge, _shuffle)
DTYPES = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)


def make_tensor(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    """Make a tensor of small numbers, equal at every call."""
    generator = torch.Generator().manual_seed(seed)
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def change_one(value: Any, rng: random.Random, number: list[int], notes: list[str], seed: int) -> Any:
    """Return the value with one of its tensors changed; ``number`` counts down to it."""
    if isinstance(value, Tensor):
        number[0] -= 1
        if number[0] != -1:
            return value
        if rng.random() < 0.2:
            dtype = rng.choice(DTYPES)
            notes.append(f"{tuple(value.shape)} {value.dtype} to {dtype}")
            return make_tensor(tuple(value.shape), dtype, seed)
        change = rng.choice(SHAPES)
        shape = change(tuple(value.shape), rng)
        if torch.Size(shape).numel() > MOST_NUMBERS:
            shape = tuple(value.shape)
        notes.append(f"{tuple(value.shape)} to {shape}")
        return make_tensor(shape, value.dtype, seed)
    if type(value) in (list, tuple):
        return type(value)(change_one(item, rng, number, notes, seed) for item in value)
    if type(value) is dict:
        return {key: change_one(item, rng, number, notes, seed) for key, item in value.items()}
    return value


def count_tensors(value: Any) -> int:
    if isinstance(value, Tensor):
        return int(type(value) is Tensor and value.layout == torch.strided and not value.is_nested)
    if type(value) in (list, tuple):
        return sum(map(count_tensors, value))
    return sum(map(count_tensors, value.values())) if type(value) is dict else 0


def is_plain(case: Case) -> bool:
    args, kwargs = case.inputs()
    return case.kind not in UNFIT and count_tensors(args) + count_tensors(list(kwargs.values())) > 0


#: Kinds whose failures no real run tells: compiled code raises with its own frames.
UNFIT = ("compiled", "quantized", "nested")
#: Models whose inputs are on another device than what is made here.
ELSEWHERE = ("on_meta", "OtherDevice")
#: Models that fail by the values of offsets, lengths and indices, which sizes don't tell.
BY_VALUE = ("Bags", "Packed", "Pooling", "ReadsLengths")
PLAIN = [case for case in CASES if is_plain(case)]


def make_wrong(seed: int) -> Wrong:
    """Choose a model and what is wrong with its input."""
    rng = random.Random(seed)
    if seed % 3 == 0:  # models that were written to fail fail in other ways too
        failing = FAILING[seed // 3 % len(FAILING)]
        given = tuple(item if isinstance(item, Tensor) else make_size(item, seed) for item in failing.inputs)
        name, make, args, kwargs, method = failing.id, failing.make, given, {}, "forward"
    else:
        case = PLAIN[seed % len(PLAIN)]
        name, make, method = case.name, case.build, case.method
        args, kwargs = case.inputs()
    notes: list[str] = []
    total = count_tensors(args) + count_tensors(list(kwargs.values()))
    number = [rng.randrange(max(total, 1))]
    args = change_one(args, rng, number, notes, seed)
    kwargs = change_one(kwargs, rng, number, notes, seed)
    return Wrong(seed, name, "; ".join(notes), make, args, kwargs, method)


def make_size(given: Any, seed: int) -> Tensor:
    size = Size(given)
    return make_tensor(size.shape, getattr(torch, size.dtype or "float32"), seed)


# -- as a real run fails ----------------------------------------------------------------------------------------------


def run_for_real(wrong: Wrong) -> tuple[BaseException | None, set[str]]:
    """Run the model and return what it raised, and the names of the innermost module that was running."""
    model = make_model(wrong)
    names: dict[int, set[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), set()).add(name)
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with quietly():
            call = model if wrong.method == "forward" else getattr(model, wrong.method)
            call(*wrong.args, **wrong.kwargs)
    except Exception as error:  # noqa: BLE001  # the result
        entry, innermost = error.__traceback__, model
        while entry is not None:
            if entry.tb_frame.f_code is nn.Module._call_impl.__code__:
                innermost = entry.tb_frame.f_locals["self"]
            entry = entry.tb_next
        traceback.clear_frames(error.__traceback__)  # up to 2.11 a failed checkpoint's hooks stay while its frames do
        return error, names.get(id(innermost), {"?"})
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return None, set()


def make_model(wrong: Wrong) -> nn.Module:
    """Make the model with every generator at its beginning: some forwards draw which layer to call."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)
    return wrong.make()


def size_of(value: Any) -> Any:
    """Return the size that stands for a tensor, where one can."""
    if type(value) is not Tensor or 0 in value.shape:
        return value
    return Size(tuple(value.shape), dtype=str(value.dtype).removeprefix("torch."))


def find_problem(wrong: Wrong) -> str:
    """Summarise a call with something wrong in it, and compare with a real run; ``""`` if all is as it should be."""
    real, places = run_for_real(wrong)
    model = make_model(wrong)
    given = ModelInputs(tuple(map(size_of, wrong.args)) if wrong.seed % 2 else wrong.args, wrong.kwargs)
    before = fingerprint(model, wrong.args, wrong.kwargs)
    with warnings.catch_warnings(), quietly():
        warnings.simplefilter("ignore")
        ms = ModelSummary(model, given, method=wrong.method)
        told = ms.error
    after = fingerprint(model, wrong.args, wrong.kwargs)
    if before != after:
        return f"{wrong}: state was touched: {difference(before, after)}"
    if wrong.name in BY_VALUE or (wrong.name in ELSEWHERE and wrong.seed % 2):  # a size goes where the model is
        return ""
    if (told is None) != (real is None):
        return f"{wrong}: {'ran' if told is None else told.reason!r}, and really {real!r} in {places}"
    if told is not None and told.path not in places and places != {"?"}:
        return f"{wrong}: told in {told.path!r}, and really in {places}: {real!r}"
    if told is not None and not told.reason:
        return f"{wrong}: no reason is given for {real!r}"
    return next((problem for sizes in told.sizes if (problem := try_sizes(wrong, sizes))), "") if told else ""


def try_sizes(wrong: Wrong, sizes: str) -> str:
    """Run the model for real at the sizes that are offered."""
    words = re.findall(r"\([^)]*\)(?::\w+)?", sizes)
    if " ".join(words) != sizes or len(words) != len(wrong.args) or wrong.name in ELSEWHERE:
        return ""  # plain values among them, or keywords
    args = []
    for word, old in zip(words, wrong.args, strict=True):
        size = Size(word)
        args.append(make_tensor(size.shape, getattr(torch, size.dtype) if size.dtype else old.dtype, wrong.seed))
    real, _ = run_for_real(replace(wrong, args=tuple(args)))
    return f"{wrong}: {sizes} was offered, and really {real!r}" if real is not None else ""


def describe(value: Any) -> Any:
    """Write sizes and dtypes of the tensors in a value."""
    if isinstance(value, Tensor):
        return tuple(value.shape), value.dtype
    if type(value) in (list, tuple):
        return tuple(map(describe, value))
    return tuple((key, describe(item)) for key, item in value.items()) if type(value) is dict else repr(value)


_seen: set[Any] = set()


def is_new(wrong: Wrong) -> bool:
    """Return whether no earlier call gave the model the same sizes and dtypes in the same way."""
    key = wrong.name, wrong.seed % 2, describe(wrong.args), describe(wrong.kwargs)
    is_known = key in _seen and wrong.name not in BY_VALUE
    _seen.add(key)
    return not is_known


@pytest.mark.parametrize("first", range(0, NUM_CASES, IN_ONE))
def test_what_is_wrong_by_chance_fails_as_a_real_run_does(first: int) -> None:
    drawn = map(make_wrong, range(first, min(first + IN_ONE, NUM_CASES)))
    problems = [find_problem(wrong) for wrong in drawn if is_new(wrong)]
    assert not list(filter(None, problems))
