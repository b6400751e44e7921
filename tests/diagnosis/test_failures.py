"""What is said of a forward that failed, and whether doing what is said makes the model run."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy.diagnosis.failures.explain import CODES
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.records.errors import ForwardError
from modelsummary_ipy.summary import ModelSummary
from tests import failing_models
from tests.failing_cases import CASES, Failing

FILE = Path(failing_models.__file__)


_summaries: dict[str, ModelSummary] = {}


def summarise(case: Failing) -> ModelSummary:
    """Summarise a failing model; several tests look at the one summary."""
    if case.id not in _summaries:
        _summaries[case.id] = _summarise(case)
    return _summaries[case.id]


def _summarise(case: Failing) -> ModelSummary:
    inputs = [Size(item) if isinstance(item, str) else item for item in case.inputs]
    return ModelSummary(case.make(), inputs)


class _Steps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(50, 8), nn.Linear(8, 50)

    def forward(self, input_ids: Any = None, targets: Any = None, **options: Any) -> Tensor:
        x = self.head(self.embed(input_ids))
        return nn.functional.cross_entropy(x.view(-1, 50), targets.view(-1)) if targets is not None else x


def test_a_misspelt_input_that_kwargs_take_is_explained_by_the_parameter_that_was_meant() -> None:
    error = ModelSummary(_Steps(), ids=Size((2, 8), dtype="int64")).error
    assert error is not None
    assert error.reason == "forward has no parameter 'ids' (did you mean 'input_ids'?), and **kwargs took it"
    assert (error.code, error.fix) == ("input", "model(input_ids=ids)")
    assert error.fixes[0].outputs[0].shape == (2, 8, 50)
    other = ModelSummary(_Steps(), input_ids=Size((2, 8)), ids=Size((2, 8), dtype="int64")).error
    assert other is None or "ids'" not in other.reason  # what was meant is given


@pytest.mark.parametrize("by_name", [True, False])
def test_labels_of_other_steps_than_the_predictions_are_named_with_their_steps(by_name: bool) -> None:
    sizes = {"input_ids": Size((2, 32), dtype="int64"), "targets": Size((2, 16), dtype="int64")}
    error = ModelSummary(_Steps(), sizes if by_name else [*sizes.values()]).error
    assert error is not None
    assert error.reason.endswith("needs labels [64], got [32]: targets has 16 steps, input_ids has 32 steps")


def test_a_size_in_a_call_and_a_number_are_no_data() -> None:
    size = ModelSummary(nn.Linear(4, 2), input_data=[(5, 4)]).error
    number = ModelSummary(nn.Linear(4, 2), input_data=[4]).error
    assert size is not None
    assert number is not None
    assert "expected  data in a call; a size is written after the model, %summary model (1, 3, 224, 224)" in str(size)
    assert number.reason == "got an int, the model reads a tensor"


class ReadsSteps(nn.Module):
    def forward(self, ids: Tensor) -> Tensor:
        _, steps = ids.shape
        return ids + steps


def test_a_size_in_a_call_of_what_reads_a_shape_is_told_where_it_stands() -> None:
    error = ModelSummary(ReadsSteps(), input_data=[(1, 16)]).error
    assert "expected  data in a call; a size is written after the model" in str(error)


class ReadsKey(nn.Module):
    def forward(self, batch: Any) -> Any:
        return batch["image"].mean()


@pytest.mark.filterwarnings("ignore::UserWarning")  # of torch, that a text is no index
def test_a_tensor_that_is_read_by_a_key_should_be_a_dict() -> None:
    error = ModelSummary(ReadsKey(), (4, 3, 8, 8)).error
    assert error is not None
    assert error.reason == 'batch is read by the key "image", the model\'s input is one tensor [4, 3, 8, 8]'
    assert 'a dict, batch={"image": …}' in str(error)
    assert ModelSummary(ReadsKey(), {"batch": {"image": torch.rand(4, 3, 8, 8)}}).error is None


class Packs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(6, 8, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        state: Tensor = self.rnn(packed)[1]
        return state


def test_lengths_beyond_what_is_packed_fail_as_they_do_for_real() -> None:
    lengths = torch.tensor([9, 5, 1])
    error = ModelSummary(Packs(), [(3, 6, 6), lengths]).error
    assert error is not None
    assert error.reason == "the longest of the lengths is 9, what is packed has 6 steps"
    assert error.sizes == ("(3, 9, 6) (3,):int64",)
    with pytest.raises(RuntimeError, match="exceeds dimension size"):
        Packs()(torch.rand(3, 8, 6), lengths)
    assert ModelSummary(Packs(), [(3, 12, 6), lengths]).constraints == ("T ≥ 9", "F = 6")
    assert Packs()(torch.rand(3, 9, 6), lengths).shape == (1, 3, 8)


def test_of_many_outputs_of_a_fix_a_few_are_shown_and_the_others_counted() -> None:
    class Many(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 6), nn.Linear(8, 6)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return self.last(self.first(x)).unbind(1)

    assert "gives [2], [2], [2], [2], … 2 more" in str(ModelSummary(Many(), (2, 4)).error)


@pytest.mark.parametrize("batch", [1, 10])
def test_no_size_is_offered_at_which_a_reshape_cuts_samples_into_rows(batch: int) -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 8, 3, padding=1), nn.Linear(400, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.max_pool2d(self.conv(x), 2).view(-1, 400))

    error = ModelSummary(Folded(), (batch, 1, 28, 28)).error
    assert error is not None
    # 8·(H/2)·(W/2) = 400 for one row a sample: no square image has it, and others give no [batch, 10]
    assert all(Folded()(make_real(size)).shape[0] == batch for size in error.sizes)
    assert "works with" not in error.reason


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
    except Exception:  # noqa: BLE001  # whatever it is, its place is compared
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
    for part in error.fix.split("\n"):
        if re.match(r"[\w.\[\]]+( = (nn\.[A-Z]\w*\(|\d+$)|\.insert\()", part) or part == "model.eval()":
            layers.append(part)
        elif found := re.fullmatch(r"(.+) before '(.+?)'(?: and (.+) after it)?", part):
            hooks.append(found)
        elif not part.startswith("model("):  # that changes the input
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
    if ".insert(" in code:
        eval(code, {"self": model, "model": model, "nn": nn})
        return
    target, _, value = code.partition(" = ")
    names = re.findall(r"\w+", target.removeprefix("model.").removeprefix("model").removeprefix("self."))
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
def test_a_failure_is_reported_at_the_module_and_line_where_a_real_run_fails(case: Failing) -> None:
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
def test_a_failure_is_reported_with_its_reason(case: Failing) -> None:
    error = summarise(case).error
    assert error is not None
    assert case.reason in error.reason
    assert case.fix in error.fix
    assert bool(error.fix) == bool(case.fix)
    assert error.sizes[:1] == ((case.sizes,) if case.sizes else ())


def test_each_kind_of_failure_has_a_code_and_the_page_lists_them() -> None:
    errors = [error for case in CASES if (error := summarise(case).error) is not None]
    assert len({error.code for error in errors}) > 15
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    listed = page.partition("`code` is one of ")[2].partition(";")[0]
    assert sorted(re.findall(r"`([\w-]+)`", listed)) == sorted(CODES)
    assert {error.code for error in errors} <= set(CODES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_numbers_of_a_failure_are_those_of_its_message(case: Failing) -> None:
    error = summarise(case).error
    assert error is not None
    plain = json.loads(json.dumps(summarise(case).to_dict()))["failure"]
    assert plain["code"] == error.code
    shapes = {name: value for name, value in error.numbers.items() if isinstance(value, tuple)}
    assert all(str(list(shape)) in error.message for shape in shapes.values())
    for name in error.numbers.keys() - shapes.keys():
        assert name in ("came", "wanted")
        assert plain["numbers"][name] == error.numbers[name]
    wanted = error.numbers.get("wanted")
    assert wanted is None or str(wanted) in error.message


def test_the_numbers_of_a_linear_say_what_came_and_what_was_wanted() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(400, 10))
    error = ModelSummary(model, (2, 16, 4, 4)).error
    assert error is not None
    assert error.code == "linear"
    assert error.numbers == {"input": (2, 256), "came": 256, "wanted": 400}


#: What to return is the user's to know.
UNWRITTEN = ("NoReturn",)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.fix and case.id not in UNWRITTEN], ids=lambda case: case.id
)
def test_doing_what_the_fix_says_makes_the_model_run(case: Failing) -> None:
    error = summarise(case).error
    assert error is not None
    model = apply_fix(case, error)
    inputs = make_inputs(case, model)
    if error.fix.startswith("model("):
        names = inspect.signature(model.forward).parameters
        eval(error.fix, {"model": model, **dict(zip(names, inputs, strict=False))})
    else:
        model(*inputs)


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
