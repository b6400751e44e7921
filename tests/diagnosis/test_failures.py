"""What is said of a forward that failed, and whether doing what is said makes the model run."""

from __future__ import annotations

import gc
import html
import inspect
import json
import queue
import re
import traceback
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import einops
import pytest
import torch
from beartype import beartype
from IPython.core.interactiveshell import InteractiveShell
from jaxtyping import Float, jaxtyped
from torch import Tensor, nn
from traitlets.config import Config

from modelsummary_ipy.diagnosis.failures.explain import CODES
from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.records.errors import CheckError, ForwardError
from modelsummary_ipy.summary import ModelSummary
from tests import failing_models
from tests.diagnosis.test_twins import TWINS, find_error
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


# -- in a summary -----------------------------------------------------------------------------------------------------


def test_the_failing_row_is_marked_and_what_comes_after_is_not_reached() -> None:
    ms = ModelSummary(failing_models.UNetCat(), (1, 1, 50, 50))
    error = ms.error
    assert error is not None
    status = {row.path or row.type_name: row.status for row in ms.rows}
    assert ms.rows[error.row].type_name == "cat"
    assert status["UNetCat"] == status["cat"] == "failed"
    assert status["up2"] == "ran"
    assert [status[path] for path in ("dec2", "up1", "dec1")] == ["unreached"] * 3
    assert ms["dec2"].num_params == 16 * 8 * 9 + 8


@pytest.mark.parametrize("write", [ModelSummary.to_text, ModelSummary.to_markdown, ModelSummary.to_html])
def test_every_view_shows_the_failure_with_the_same_text(write: Any) -> None:
    ms = ModelSummary(failing_models.UNetCat(), (1, 1, 50, 50))
    text = html.unescape(re.sub(r"<[^>]+>", "", write(ms)))
    assert ms.error is not None
    for line in ms.error.message.splitlines():
        assert " ".join(line.split()) in " ".join(text.split())
    assert text.count("not reached") == 3


def test_the_words_do_not_depend_on_what_was_asked_for_first() -> None:
    first = ModelSummary(failing_models.UNetCat(), (1, 1, 50, 50)).error
    later = ModelSummary(failing_models.UNetCat(), (1, 1, 50, 50))
    later.to_text()
    assert first is not None
    assert later.error is not None
    assert first.message == later.error.message
    assert "[B, 8, 2·⌊H/4⌋, 2·⌊W/4⌋]" in first.message


def test_names_that_the_user_gave_are_kept_in_the_sizes_that_are_offered() -> None:
    error = ModelSummary(failing_models.LinearAfterFlatten(), Size("B=2 1 H=40 W=40")).error
    assert error is not None
    assert error.sizes == ("(B=2, 1, H=32, W=32)",)


def test_keywords_and_plain_values_are_kept_in_the_sizes_that_are_offered() -> None:
    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 5)

        def forward(self, x: Tensor, scale: float = 1.0, *, gate: Tensor) -> Tensor:
            return self.fc(x) * scale + gate

    error = ModelSummary(Keywords(), {"x": (2, 16), "scale": 2.0, "gate": (2, 5)}).error
    assert error is not None
    assert error.sizes == ("x=(2, 20) scale=2.0 gate=(2, 5)",)


def test_check_raises_the_failure_with_the_same_text() -> None:
    ms = ModelSummary(failing_models.LinearChain(), (2, 20))
    with pytest.raises(CheckError, match="'fc1' \\(Linear\\) outputs 50 features") as raised:
        ms.check()
    assert raised.value.__cause__ is ms.error


def test_the_cause_is_the_original_exception_with_the_users_lines_alone() -> None:
    error = ModelSummary(failing_models.Deep(), (2, 3, 8, 8)).error
    assert error is not None
    cause = error.__cause__
    assert type(cause) is RuntimeError
    lines = [(Path(entry.filename).name, entry.name) for entry in traceback.extract_tb(cause.__traceback__)]
    assert lines == [("failing_models.py", "forward"), ("failing_models.py", "forward")]


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_a_failure_keeps_no_tensor_and_no_module_alive(engine: Any) -> None:
    noted: queue.SimpleQueue[weakref.ref[Any]] = queue.SimpleQueue()  # a list would be put back as it was

    class Noted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            h = self.fc(x)
            noted.put(weakref.ref(h))
            noted.put(weakref.ref(self))
            return h.view(3, 5)

    ms = ModelSummary(Noted(), (2, 4), engine=engine)
    assert ms.error is not None
    gc.collect()
    kept = [noted.get() for _ in range(noted.qsize())]
    assert kept
    assert [ref() for ref in kept] == [None] * len(kept)


def test_a_failure_in_a_real_run_is_reported_like_any_other() -> None:
    class Values(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            kept = x[x.sum(-1) > -1e9]
            return self.fc(kept)

    ms = ModelSummary(Values(), (5, 8))
    assert ms.engine == "real"
    assert ms.error is not None
    assert ms.error.path == "fc"
    assert ms.error.reason == "the input has 8 features, 'fc' expects 6"
    assert ms.error.fix == "self.fc = nn.Linear(8, 2)"
    assert type(ms.error.__cause__) is RuntimeError


def test_torchs_messages_name_tensors_and_not_fakes() -> None:
    for case in CASES:
        error = summarise(case).error
        assert error is not None
        assert "Fake" not in error.message
        assert "Fake" not in str(error.__cause__)


def test_what_a_failing_forward_prints_shows_once(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(20, 5)

        def forward(self, x: Tensor) -> Tensor:
            print("hello")  # the point
            return self.fc(x)

    error = ModelSummary(Loud(), (2, 16)).error
    assert error is not None
    assert error.sizes == ("(2, 20)",)
    assert capsys.readouterr().out == "hello\n"


CELL = """
import torch
from torch import nn
from modelsummary_ipy.summary import ModelSummary

def double(x):
    return x.view(3, 5)

class Net(nn.Module):
    def forward(self, x):
        return double(x)

ms = ModelSummary(Net(), (2, 4))
"""


def test_a_function_of_a_notebook_shows_its_cell_and_line(shell: InteractiveShell) -> None:
    shell.run_cell("1 + 1", store_history=True)
    shell.run_cell(CELL, store_history=True)
    error = shell.user_ns["ms"].error
    assert error.source == "In [2] line 6"
    assert "at In [2] line 6\n  line      return x.view(3, 5)\n" in error.message


OF_ANOTHER_CELL = """
class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 3, 3, stride=2, padding=1), nn.ConvTranspose2d(3, 3, 2, stride=2)

    def forward(self, x):
        return torch.cat([x, self.up(self.down(x))], 1)
"""


def test_a_fix_in_a_cell_writes_functions_as_another_cell_imported_them(shell: InteractiveShell) -> None:
    shell.run_cell("import torch\nfrom torch import nn", store_history=True)
    shell.run_cell("%load_ext modelsummary_ipy", store_history=True)
    shell.run_cell(f"{OF_ANOTHER_CELL.strip()}\n%summary torch.nn.ReLU() (2, 3)", store_history=True)
    error = ModelSummary(shell.user_ns["Skip"](), (2, 3, 15, 15)).error
    assert error is not None
    assert "nn.functional.interpolate" in error.fix
    assert error.fixes[0].outputs[0].shape == (2, 6, 15, 15)
    assert error.patch is not None
    assert error.patch.endswith("\n %summary torch.nn.ReLU() (2, 3)\n")  # as it was typed


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    yield InteractiveShell.instance(config=Config(HistoryManager={"enabled": False}))
    InteractiveShell.clear_instance()


def find_examples() -> list[str]:
    """The reasons that the page on errors shows."""
    page = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")
    reasons = page.partition("## Reasons")[2].partition("## Fake")[0]
    return re.findall(r"^\| [^|]+ \| `(.+)` \|$", reasons, re.MULTILINE)


def test_the_page_on_errors_shows_reasons_that_are_given() -> None:
    examples = find_examples()
    given = [error.reason for case in CASES if (error := summarise(case).error) is not None]
    given += [find_error(number).reason for number in range(len(TWINS))]
    assert len(examples) > 30
    assert [example for example in examples if not any(example in reason for reason in given)] == []


# -- what is no mistake in shapes -------------------------------------------------------------------------------------


def test_arguments_that_are_no_tensors_shift_no_name() -> None:
    class Scores(nn.Module):
        def forward(self, q: Tensor, k: Tensor) -> Tensor:
            return torch.einsum("bhid,bhjd->bhij", q, k)

    class Picked(nn.Module):
        def forward(self, x: Tensor, idx: Tensor) -> Tensor:
            return torch.gather(x, 1, idx)

    scores = ModelSummary(Scores(), [(2, 4, 10, 8), (2, 4, 8, 10)]).error
    picked = ModelSummary(Picked(), [torch.zeros(2, 3), torch.zeros(3, 3, dtype=torch.long)]).error
    assert scores is not None
    assert picked is not None
    assert re.findall(r"^ +(?:received +)?(\w+) +(?:float|int)\w+ \[", scores.message, re.MULTILINE) == ["q", "k"]
    assert re.findall(r"^ +(?:received +)?(\w+) +(?:float|int)\w+ \[", picked.message, re.MULTILINE) == ["x", "idx"]


def test_a_misspelt_forward_is_named() -> None:
    class Typo(nn.Module):
        def foward(self, x: Tensor) -> Tensor:
            return x

    error = ModelSummary(Typo(), (1, 3)).error
    assert error is not None
    assert error.reason == "Typo has no forward; it has 'foward'"
    assert error.fix == "def forward(self, x: Tensor) -> Tensor:"
    assert error.source is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize(
    "message",
    [
        "Torch not compiled with CUDA enabled",
        "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver",
        "No CUDA GPUs are available",
    ],
)
def test_whatever_torch_says_of_a_card_that_is_not_here_it_is_named(message: str) -> None:
    class Raises(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError(message)

    error = ModelSummary(Raises(), (3, 4)).error
    assert error is not None
    assert error.reason == "the line makes a tensor on CUDA, which this machine does not have"


def test_a_device_that_is_not_here_is_named() -> None:
    class Moves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(x.cuda())

    error = ModelSummary(Moves(), (3, 4)).error
    assert error is not None
    assert error.reason == "the line makes a tensor on CUDA, which this machine does not have"
    assert error.fix == "return self.fc(x.to(next(self.parameters()).device))"


def test_an_annotation_of_jaxtyping_is_explained_at_the_users_line() -> None:
    def plain(self, x, y):
        return x + y

    plain.__annotations__ = dict.fromkeys("xy", Float[Tensor, "b 4"])

    class Annotated(nn.Module):
        add = jaxtyped(plain, typechecker=beartype)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.add(x, y.relu())

    error = ModelSummary(Annotated(), [(3, 4), (5, 4)]).error
    assert error is not None
    assert "  line      return self.add(x, y.relu())" in error.message
    assert error.reason.startswith("'y' is [5, 4], and is annotated Float[Tensor, 'b 4'] with b = 3 of the arguments")
    assert "Parameter annotations: " in error.message  # the message of jaxtyping, whole
    assert error.sizes == ("(3, 4) (3, 4)",)


def test_a_pattern_of_einops_is_explained_at_the_users_line() -> None:
    class Patches(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return einops.rearrange(x, "b c (h p) (w q) -> b (h w) (p q c)", p=16, q=16)

    error = ModelSummary(Patches(), (1, 3, 225, 225)).error
    assert error is not None
    assert error.source is not None
    assert error.source.startswith("test_failures.py:")
    assert "  line      return einops.rearrange(" in error.message
    assert error.reason == (
        "(h p) with p = 16 needs a multiple of 16, dim 2 of [1, 3, 225, 225] is 225; "
        "needs H and W divisible by 16, you gave 225"
    )
    assert "can't divide axis of length 225 in chunks of 16" in error.message
    assert error.sizes[0] == "(1, 3, 224, 224)"
    assert error.fixes == ()  # the image is to have another size


def test_windows_over_channels_last_maps_name_height_and_width() -> None:
    class Windows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.window = 7

        def forward(self, x: Tensor) -> Tensor:
            b, h, w, c = x.shape
            return x.view(b, h // self.window, self.window, w // self.window, self.window, c)

    error = ModelSummary(Windows(), (2, 32, 32, 16)).error
    assert error is not None
    assert error.reason.endswith("; needs H and W divisible by 7, you gave 32")
    assert error.sizes == ("(2, 28, 28, 16)",)


def test_a_large_product_fails_with_torchs_own_words() -> None:
    class Product(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x @ y

    one, other = (torch.zeros(()).expand(size) for size in ((5000, 4000), (4001, 3000)))
    with pytest.raises(RuntimeError) as refused:
        one @ other
    error = ModelSummary(Product(), [(5000, 4000), (4001, 3000)]).error
    assert error is not None
    assert error.message.endswith(f"  torch     RuntimeError: {refused.value}")


def test_no_fix_makes_a_loss_compare_by_broadcasting_alone() -> None:
    class Values(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q = nn.Linear(4, 2)

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return nn.functional.smooth_l1_loss(self.q(x), y)

    error = ModelSummary(Values(), [(5, 4), (5,)]).error
    assert error is not None
    assert error.reason == "smooth_l1_loss compares numbers one to one: [5, 2] against [5]"
    assert error.fixes == ()  # y[:, None] runs, and compares each value with both


def test_a_forward_that_needs_values_did_not_fail() -> None:
    class Values(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[x[:, 0].sum().item() > 0]

    error = ModelSummary(Values(), (3, 4), engine="fake").error
    assert error is not None
    assert error.message.startswith("values are needed in ")
    assert "failed" not in error.message
    assert "  go on     engine='real' runs the forward" in error.message
    assert error.fixes == ()


def test_a_layer_that_a_forward_makes_and_runs_is_not_blamed_for_a_condition() -> None:
    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            drop = nn.Dropout(x.size(1) / 100)
            made = nn.Linear(x.size(1), 4)
            y = self.fc(drop(made(x)))
            return y if y > 0 else -y

    error = ModelSummary(Asks(), (2, 4)).error
    assert error is not None
    assert "a condition is one truth value, and the tensor [2, 3]" in error.reason


def test_layers_in_a_loop_may_give_tensors_without_that_dim() -> None:
    class OneDim(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Conv1d(4, 4, 1)])

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                out = layer(x)
            return out

    ms = ModelSummary(OneDim(), (4,))  # what is logged of a mistake of this package's own fails a test
    assert ms.error is not None
    assert ms.error.code == "convolution"


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Any) -> Any:
        return self.layer(x)

    def twice(self, x: Tensor) -> Any:
        size = x.size(1)
        return self.layer(size)


@pytest.mark.parametrize(
    ("method", "given", "reason", "expected"),
    [
        ("forward", {"x": 32}, "x is the int 32, 'layer' reads a tensor", "data, or a size, (1, 3, 224, 224)"),
        ("forward", {"x": "abc"}, "x is the str 'abc', 'layer' reads a tensor", "data, or a size, (1, 3, 224, 224)"),
        ("twice", (2, 3), "size is the int 3, 'layer' reads a tensor", "a tensor"),
    ],
)
def test_a_number_where_a_tensor_is_read_is_said_to_be_one(method: str, given: Any, reason: str, expected: str) -> None:
    error = ModelSummary(Small(), given, method=method).error
    assert error is not None
    assert error.reason == reason
    assert f"expected  {expected}\n" in str(error)


class Pair(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.table, self.out = nn.Embedding(9, 4), nn.Linear(3, 4), nn.Linear(11, 2)

    def forward(self, ids: Tensor, table: Tensor, weights: Tensor) -> Tensor:
        both = torch.cat([self.words(ids[:, 0]), self.table(table)], 1)
        return self.out(torch.cat([both, weights.expand(-1, 3)], 1))


@pytest.mark.parametrize(
    ("sizes", "reason", "works"),
    [
        (
            [(4, 5), (2, 3), (2, 1)],
            "the inputs have different batches: ids 4, table 2, weights 2",
            "(2, 5) (2, 3) (2, 1)",
        ),
        (
            [(4, 5), (4, 3), (3, 1)],
            "the inputs have different batches: ids 4, table 4, weights 3",
            "(4, 5) (4, 3) (4, 1)",
        ),
    ],
)
def test_inputs_of_different_batches_are_told_apart(sizes: Any, reason: str, works: str) -> None:
    error = ModelSummary(Pair(), sizes).error
    assert error is not None
    assert (error.reason, error.sizes[0], error.fixes) == (reason, works, ())


def test_inputs_that_fail_with_one_batch_too_are_explained_by_what_failed() -> None:
    error = ModelSummary(Pair(), [(4, 5), (2, 7), (2, 1)]).error
    assert error is not None
    assert "expects 3" in error.reason
