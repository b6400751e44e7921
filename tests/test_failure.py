"""What is said of a forward that failed, and whether doing what is said makes the model run."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.errors import ForwardError
from modelsummary_ipy.inputs import Size
from modelsummary_ipy.summary import ModelSummary
from tests import failing_models
from tests.failing_cases import CASES, Failing

FILE = Path(failing_models.__file__)


def summarise(case: Failing) -> ModelSummary:
    inputs = [Size(item) if isinstance(item, str) else item for item in case.inputs]
    return ModelSummary(case.make(), inputs)


def make_real(given: Any) -> Tensor:
    """Make a real tensor of what was given: a size, ``"(2, 6):bool"``, or a tensor."""
    if isinstance(given, Tensor):
        return given
    size = Size(given)
    dtype = getattr(torch, size.dtype or "float32")
    return torch.zeros(size.shape, dtype=dtype)


def make_inputs(case: Failing, model: nn.Module) -> list[Tensor]:
    inputs = [make_real(item) for item in case.inputs]
    reads_indices = any(isinstance(m, nn.Embedding) for m in model.modules()) and case.id != "EmbeddingOfFloats"
    return [x.long() if reads_indices else x for x in inputs]


def find_failing_path(model: nn.Module, inputs: list[Tensor]) -> str | None:
    """Run for real and return the path of the innermost module that was running when it failed."""
    stack: list[str] = []
    failed: list[str] = []
    for path, module in model.named_modules():

        def enter(_m: nn.Module, _a: Any, path: str = path) -> None:
            stack.append(path)

        def leave(_m: nn.Module, _a: Any, output: Any, path: str = path) -> None:
            if stack and stack[-1] == path:
                stack.pop()

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    try:
        model(*inputs)
    except Exception:  # noqa: BLE001  # whatever it is, the place is asked for
        failed = list(stack)
    return failed[-1] if failed else None


def find_marked_line(case: Failing) -> int:
    lines, first = inspect.getsourcelines(case.line or case.make)
    return next(first + number for number, line in enumerate(lines) if "# ✗" in line)


# -- doing what the fix says ------------------------------------------------------------------------------------------


def apply_fix(case: Failing, error: ForwardError) -> nn.Module:
    """Do what the fix says, to the letter: nothing here knows the model."""
    source = FILE.read_text(encoding="utf-8").splitlines()
    layers: list[str] = []
    hooks: list[re.Match[str]] = []
    for part in error.fix.split("; "):
        if re.match(r"[\w.\[\]]+ = (nn\.[A-Z]\w*\(|\d+$)", part) or part == "model.eval()":
            layers.append(part)
        elif found := re.fullmatch(r"(.+) before '(.+?)'(?: and (.+) after it)?", part):
            hooks.append(found)
        else:
            elsewhere = re.fullmatch(r"at \S+:(\d+): (.+)", part)
            number = int(elsewhere[1] if elsewhere else error.source.rpartition(":")[2])
            old = source[number - 1]
            source[number - 1] = old[: len(old) - len(old.lstrip())] + (elsewhere[2] if elsewhere else part)
    namespace: dict[str, Any] = {"__name__": "repaired"}
    exec(compile("\n".join(source), "repaired.py", "exec"), namespace)
    model = namespace[case.make.__name__]()
    for layer in layers:
        _set_layer(model, layer)
    for hook in hooks:
        _add_hook(model, hook)
    return model


def _set_layer(model: nn.Module, code: str) -> None:
    if code == "model.eval()":
        model.eval()
        return
    target, _, value = code.partition(" = ")
    names = re.findall(r"\w+", target.removeprefix("model.").removeprefix("model"))
    owner: Any = model
    for name in names[:-1]:
        owner = owner._modules[name]
    setattr(owner, names[-1], eval(value, {"nn": nn, "torch": torch}))


def _add_hook(model: nn.Module, found: re.Match[str]) -> None:
    module = model.get_submodule(found[2])
    module.register_forward_pre_hook(lambda _m, args: (eval(found[1], {"x": args[0], "torch": torch}),))
    if found[3]:
        module.register_forward_hook(lambda _m, _a, output: eval(found[3], {"y": output}))


def split_inputs(text: str) -> list[str]:
    return re.findall(r"(?:\w+=)?\([^)]*\)(?::\w+)?", text)


# -- the failing models -----------------------------------------------------------------------------------------------


def test_there_are_more_than_fifty_failing_models() -> None:
    assert len(CASES) > 50
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_failure_is_told_at_the_module_and_line_where_a_real_run_fails(case: Failing) -> None:
    error = summarise(case).error
    assert error is not None
    model = case.make()
    assert error.path == case.path
    assert find_failing_path(model, make_inputs(case, model)) == case.path
    if case.make.__name__.startswith(("sequential", "tuple_in")):
        assert error.source is None  # nn.Sequential calls it: there is no line of the user's
    else:
        assert error.source == f"failing_models.py:{find_marked_line(case)}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_a_failure_is_told_with_its_reason(case: Failing) -> None:
    error = summarise(case).error
    assert error is not None
    assert case.reason in error.reason
    assert case.fix in error.fix
    assert bool(error.fix) == bool(case.fix)
    assert error.sizes[:1] == ((case.sizes,) if case.sizes else ())


#: What to return is the user's to know.
UNWRITTEN = ("NoReturn",)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.fix and case.id not in UNWRITTEN], ids=lambda case: case.id
)
def test_doing_what_the_fix_says_makes_the_model_run(case: Failing) -> None:
    error = summarise(case).error
    assert error is not None
    model = apply_fix(case, error)
    model(*make_inputs(case, model))


@pytest.mark.parametrize("case", [case for case in CASES if case.sizes], ids=lambda case: case.id)
def test_the_sizes_that_are_offered_make_the_model_run(case: Failing) -> None:
    error = summarise(case).error
    assert error is not None
    for sizes in error.sizes:
        model = case.make()
        given = split_inputs(sizes)
        assert " ".join(given) == sizes
        assert ModelSummary(case.make(), [Size(item) for item in given]).error is None
        inputs = [make_real(item) for item in given]
        reads_indices = any(isinstance(m, nn.Embedding) for m in model.modules())
        model(*[x.long() if reads_indices else x for x in inputs])
