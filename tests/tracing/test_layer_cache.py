"""A pass that answers for layers it has met, and makes weights late, tells what a pass that runs everything tells."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.op_events import OpEvents, TensorRef
from modelsummary_ipy.tracing.engine import run_engine
from modelsummary_ipy.tracing.layer_cache import LayerCache
from modelsummary_ipy.tracing.retracer import trace_fake
from tests.models import CASES, Case
from tests.reference import count_params, difference, fingerprint, list_module_calls, quietly, seed
from tests.traced import hook_case
from tests.zoo import ZOO, Animal


@pytest.fixture(autouse=True)
def every_model_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelsummary_ipy.isolation.shadow.MANY_MODULES", 0)


def tell(ms: ModelSummary) -> list[tuple[Any, ...]]:
    """Everything that a large model's first pass writes down of its calls."""
    return [
        (
            *(call.path, call.type_name, call.inputs, call.outputs, call.input_links, call.output_links, call.params),
            *(call.aten_ops, call.input_params, call.arguments, call.inplace),
        )
        for call in ms.pipeline.traced.trace.calls
    ]


def run_in_full(model: nn.Module, *inputs: Any, **keywords: Any) -> ModelSummary:
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("modelsummary_ipy.isolation.shadow.MANY_MODULES", 5_000)
        return ModelSummary(model, *inputs, **keywords)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rows_equal_hooks(case: Case) -> None:
    model, (args, kwargs) = case.build(), case.inputs()
    seed()
    before = fingerprint(model, args, kwargs)
    with quietly():
        ms = ModelSummary(model, ModelInputs(args, kwargs), method=case.method)
    assert difference(before, fingerprint(model, args, kwargs)) == []
    assert ms.error is None
    assert list_module_calls(ms.pipeline.traced.trace, ms.rows) == hook_case(case.name).calls


@pytest.mark.parametrize("animal", [a for a in ZOO if not a.needs_values], ids=lambda animal: animal.name)
def test_an_architecture_has_the_rows_of_a_trace_that_runs_every_layer(animal: Animal) -> None:
    with quietly():
        model = animal.build()
        ms = ModelSummary(model, ModelInputs((), animal.inputs()))
        full = run_in_full(model, ModelInputs((), animal.inputs()))
    assert ms.error is None
    assert tell(ms) == tell(full)
    assert ms.total_params == count_params(model)
    assert ms.total_mult_adds == full.total_mult_adds


def renumber(ops: OpEvents) -> tuple[Any, ...]:
    """Write operations with tensors in the order in which they are met, and parameters by their index."""
    numbers: dict[int, int] = {}

    def write(value: Any) -> Any:
        if isinstance(value, TensorRef):
            if value.number in ops.params:
                return f"param {ops.params[value.number]}", value.shape, value.dtype
            return numbers.setdefault(value.number, len(numbers)), value.shape, value.dtype
        return [write(item) for item in value] if isinstance(value, list) else value

    given = [write(ref) for ref in ops.inputs]
    events = [
        (
            event.op,
            {name: write(value) for name, value in event.args.items()},
            list(map(write, event.outputs)),
            event.call,
        )
        for event in ops.events
    ]
    made = {call: list(map(write, refs)) for call, refs in ops.call_outputs.items()}
    return given, events, dict(sorted(made.items()))


def log_both_ways(model: nn.Module, inputs: ModelInputs) -> list[OpEvents]:
    """The operations of a trace that answers for layers, and of one that runs them."""
    request = run_engine(model, inputs).request
    assert request is not None
    logs = []
    for lean in (True, False):
        made = trace_fake(request, lean=lean, measure=False, record_ops=True)
        assert made is not None
        assert made[0].ops is not None
        logs.append(made[0].ops)
    return logs


@pytest.mark.parametrize("animal", [a for a in ZOO if not a.needs_values][::7], ids=lambda animal: animal.name)
def test_a_trace_that_answers_for_layers_logs_the_operations_of_one_that_runs_them(animal: Animal) -> None:
    with quietly(), torch.no_grad():
        lean, full = log_both_ways(animal.build(), ModelInputs((), animal.inputs()))
    assert renumber(lean) == renumber(full)


class Cells(nn.Module):
    """It gives a cell one tensor twice at first, and two later."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 4)
        self.both = nn.Bilinear(4, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), 4)
        for _ in range(4):
            h, c = self.cell(x, (h, c))
        return torch.as_tensor(self.both(self.both(h, h), c))


def test_cells_that_give_two_tensors_run_once_for_each_way_in_which_they_are_given_tensors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = count_runs(monkeypatch)
    ms = ModelSummary(Cells(), (2, 3))
    assert [type(module).__name__ for module in runs] == ["LSTMCell", "LSTMCell", "Bilinear", "Bilinear"]
    assert tell(ms) == tell(run_in_full(Cells(), (2, 3)))
    assert [row.outputs[1].shape for row in ms.rows if row.type_name == "LSTMCell"] == [(2, 4)] * 4


@pytest.mark.parametrize("make", [Cells, lambda: Stack(*alike(), nn.Dropout(0.0), *alike())], ids=["cells", "layers"])
def test_operations_that_repeat_others_are_those_of_a_trace_that_runs_them(make: Any) -> None:
    size = (2, 3) if make is Cells else (2, 4)
    with torch.no_grad():
        lean, full = log_both_ways(make(), ModelInputs((torch.zeros(size),), {}))
    assert renumber(lean) == renumber(full)
    assert full.repeats == {}
    events = lean.events
    for place, repeat in lean.repeats.items():
        like, other = (events[at : at + repeat.length] for at in (repeat.like, place))
        assert [event.op for event in like] == [event.op for event in other]
        made = [[ref.number for event in part for ref in event.outputs] for part in (like, other)]
        assert repeat.made == tuple(zip(*made, strict=True))
    assert len(lean.repeats) == (2 if make is Cells else 5)


def layers_of(ms: ModelSummary) -> list[Any]:
    return [row for row in ms.rows if row.path.startswith("layers.")]


class Stack(nn.Module):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def alike() -> list[nn.Module]:
    return [nn.Linear(4, 4) for _ in range(3)]


def count_runs(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """Note the layers that are run: that no earlier one answers for."""
    runs: list[nn.Module] = []
    find_key: Any = LayerCache.find_key

    def look_up(self: Any, index: int, module: nn.Module, *args: Any) -> Any:
        key = find_key(self, index, module, *args)
        runs.extend([module] if key is None or self.find(key) is None else [])
        return key

    monkeypatch.setattr(LayerCache, "find_key", look_up)
    return runs


def test_layers_that_are_alike_run_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = count_runs(monkeypatch)
    ms = ModelSummary(Stack(*alike()), (2, 4))
    assert len(runs) == 1
    assert [row.outputs[0].shape for row in layers_of(ms)] == [(2, 4)] * 3
    assert ms.total_mult_adds == 3 * 2 * 4 * 4
    assert [call.params for call in ms.pipeline.traced.trace.calls[1:]] == [(0, 1), (2, 3), (4, 5)]


def test_what_a_layer_with_hooks_gives_is_no_other_layers_output() -> None:
    hooked = nn.Linear(4, 4)
    hooked.register_forward_hook(lambda layer, args, output: output[:, :2])
    ms = ModelSummary(Stack(*alike(), hooked, nn.Linear(2, 4), *alike()), (2, 4))
    assert ms.error is None
    assert [row.outputs[0].shape[1] for row in layers_of(ms)] == [4, 4, 4, 2, 4, 4, 4, 4]


class Doubles:
    """A forward put in the place of a class's own, which gives another size at every call."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, *args: Tensor) -> Tensor:
        self.times += 1
        return torch.cat([args[-1]] * self.times)


@pytest.mark.parametrize("name", ["forward", "__call__"])
@pytest.mark.parametrize("as_function", [True, False], ids=["a function", "an object"])
def test_layers_of_a_class_whose_methods_were_replaced_run_each_by_itself(
    monkeypatch: pytest.MonkeyPatch, name: str, as_function: bool
) -> None:
    double = Doubles()
    monkeypatch.setattr(nn.Linear, name, (lambda *args: double(*args)) if as_function else double)
    ms = ModelSummary(Stack(*alike()), (2, 4), engine="fake")
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (12, 4)
    if name == "forward":
        assert [row.outputs[0].shape for row in layers_of(ms)] == [(2, 4), (4, 4), (12, 4)]


def test_layers_run_each_by_itself_where_a_method_behind_forward_was_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    double = Doubles()
    monkeypatch.setattr(nn.Conv1d, "_conv_forward", lambda layer, x, *_: double(x))
    ms = ModelSummary(Stack(*(nn.Conv1d(4, 4, 1) for _ in range(3))), (2, 4, 4), engine="fake")
    assert [row.outputs[0].shape for row in layers_of(ms)] == [(2, 4, 4), (4, 4, 4), (12, 4, 4)]


@pytest.mark.parametrize(
    "different",
    [
        nn.Linear(4, 4, bias=False),
        nn.Linear(4, 4, dtype=torch.float64),
        nn.Linear(4, 5),
    ],
    ids=["no bias", "another dtype", "another size"],
)
def test_a_layer_that_differs_runs_itself(monkeypatch: pytest.MonkeyPatch, different: nn.Module) -> None:
    runs = count_runs(monkeypatch)
    ModelSummary(Stack(*alike(), different), (2, 4), engine="fake")
    assert len(runs) == 2


def test_a_setting_tells_layers_apart() -> None:
    ms = ModelSummary(Stack(nn.AvgPool1d(2), nn.AvgPool1d(2, stride=1), nn.AvgPool1d(2)), (1, 3, 16))
    assert [row.outputs[0].shape for row in layers_of(ms)] == [(1, 3, 8), (1, 3, 7), (1, 3, 3)]


def test_a_layer_with_a_hook_is_run_with_it() -> None:
    layers = alike()
    layers[1].register_forward_hook(lambda module, args, output: output[:, :2].repeat(1, 2))
    layers[2].register_forward_hook(lambda module, args, output: output[:, :2])
    ms = ModelSummary(Stack(*layers), (2, 4))
    assert [row.outputs[0].shape for row in layers_of(ms)] == [(2, 4), (2, 4), (2, 2)]


def test_a_forward_that_turns_grad_on_gets_layers_with_a_history() -> None:
    class Gradient(Stack):
        def forward(self, x: Tensor) -> Tensor:
            with torch.enable_grad():
                x = x.detach().requires_grad_()
                y = super().forward(x).sum()
                return torch.autograd.grad(y, x)[0]

    ms = ModelSummary(Gradient(*alike()), (2, 4))
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (2, 4)


@pytest.mark.parametrize(
    "ask", [Tensor.retain_grad, lambda x: x.register_hook(lambda grad: grad)], ids=["retain_grad", "register_hook"]
)
def test_a_forward_that_keeps_what_only_autograd_gives_runs_with_grad(ask: Any) -> None:
    class Keeps(Stack):
        def forward(self, x: Tensor) -> Tensor:
            x = super().forward(x)
            ask(x)
            return x

    ms = ModelSummary(Keeps(*alike()), (2, 4))
    assert ms.error is None
    assert ms.engine == "fake"


def test_under_autocast_layers_run_themselves() -> None:
    class Casting(Stack):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                x = super().forward(x)
            return super().forward(x.float())

    ms = ModelSummary(Casting(*alike()), (2, 4))
    assert [row.outputs[0].dtype for row in ms.rows if row.type_name == "Linear"] == ["bfloat16"] * 3 + ["float32"] * 3


def test_a_layer_that_the_forward_changes_runs_itself() -> None:
    class Changes(Stack):
        def forward(self, x: Tensor) -> Tensor:
            self.layers[1].stride = (1,)
            self.layers[2].padding_of_mine = True
            self.layers[3].register_module("inner", nn.ReLU())
            self.layers[4].register_forward_hook(lambda module, args, output: output[..., :1])
            return torch.cat([layer(x) for layer in self.layers], 2)

    ms = ModelSummary(Changes(*(nn.AvgPool1d(2) for _ in range(6))), (1, 3, 16))
    assert ms.error is None
    assert [row.outputs[0].shape[2] for row in layers_of(ms)] == [8, 15, 8, 8, 1, 8]


def test_a_weight_that_the_forward_replaces_tells_layers_apart() -> None:
    class Grows(Stack):
        def forward(self, x: Tensor) -> Tensor:
            self.layers[1].weight = nn.Parameter(torch.zeros(7, 4))
            self.layers[1].bias = None
            return torch.cat([layer(x) for layer in self.layers], 1)

    ms = ModelSummary(Grows(*alike()), (2, 4))
    assert ms.error is None
    assert [row.outputs[0].shape for row in layers_of(ms)] == [(2, 4), (2, 7), (2, 4)]


def test_layers_whose_numbers_are_equal_and_of_another_type_keep_their_own_words() -> None:
    ms = ModelSummary(Stack(*(nn.Dropout(p) for p in (1, 1.0, True, 0.0, -0.0))), (2, 4))
    words = [row.extra_repr.partition(",")[0] for row in layers_of(ms)]
    assert words == ["p=1", "p=1.0", "p=True", "p=0.0", "p=-0.0"]


def test_what_a_layer_has_beside_its_settings_is_in_its_copy() -> None:
    from modelsummary_ipy.isolation.shadow import ShadowTemplate

    plain, hooked, counting, held = nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4)
    hooked.register_forward_hook(print)
    held.note = [1, 2]
    held.weight.mark = "mine"
    made = ShadowTemplate(nn.Sequential(plain, hooked, counting, held)).build_fake_shadow().module
    for old, new in zip((plain, hooked, counting, held), made, strict=True):
        assert type(new) is type(old)
        assert {name: len(value) if isinstance(value, dict) else value for name, value in vars(old).items()} == {
            name: len(value) if isinstance(value, dict) else value for name, value in vars(new).items()
        }
        for one, other in zip(vars(old).values(), vars(new).values(), strict=False):
            assert not isinstance(one, (dict, list, set)) or one is not other
    assert made[3].weight.mark == "mine"
    assert list(made[2]._buffers) == ["running_mean", "running_var", "num_batches_tracked"]


@pytest.mark.parametrize("most", [0, 5_000], ids=["large", "small"])
def test_a_trace_leaves_nothing_for_the_garbage_collector(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr("modelsummary_ipy.isolation.shadow.MANY_MODULES", most)
    model = nn.Sequential(nn.Sequential(*alike()), nn.BatchNorm1d(4), nn.Linear(4, 2))
    kept = ModelSummary(model, (2, 4), engine="fake")  # what is imported and compiled by the first one stays
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        ms = ModelSummary(model, (2, 4), engine="fake")
        assert len(ms.rows) == 7
        gc.collect()
        found = [type(thing) for thing in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
    ours = [kind for kind in found if kind.__module__.startswith("modelsummary_ipy") or issubclass(kind, nn.Module)]
    assert ours == []
    assert not any(issubclass(kind, Tensor) for kind in found)
    assert len(kept.rows) == len(ms.rows)


class Reader(nn.Module):
    """It reads its weights in every way that Python code reads a module's."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.scale = nn.Parameter(torch.ones(4))
        self.register_parameter("nothing", None)
        self.tied = nn.Linear(4, 4)
        self.tied.weight = self.fc.weight

    def forward(self, x: Tensor) -> Tensor:
        params = self.fc._parameters
        ways = [
            params["weight"],
            params.get("weight"),
            dict(params)["weight"],
            {**params}["weight"],
            dict(params.items())["weight"],
            next(iter(params.values())),
            params.copy()["weight"],
            (params | {})["weight"],
            ({} | params)["weight"],
            self.fc.weight,
            self.tied.weight,
            dict(self.named_parameters())["fc.weight"],
            params.setdefault("weight", None),
        ]
        assert all(way is ways[0] for way in ways)
        assert type(ways[0]).__name__ == "FakeTensor"
        assert params.get("other", 3) == 3
        assert "nothing" in self._parameters and self.nothing is None
        assert set(self.state_dict()) == {
            "fc.weight", "fc.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var",
            "norm.num_batches_tracked", "scale", "tied.weight", "tied.bias",
        }  # fmt: skip
        bias = params.pop("bias")
        assert bias.shape == (4,)
        params["bias"] = bias
        return self.norm(self.tied(self.fc(x))) * self.scale


def test_a_weight_is_there_however_it_is_read() -> None:
    ms = ModelSummary(Reader(), (2, 4), engine="fake")
    assert ms.error is None
    assert ms.total_params == 4 * 4 + 4 + 4 + 4 + 4 + 4
    own = {row.path: row.own_params for row in ms.rows if row.kind == "module"}
    assert own == {"": 4, "fc": 20, "tied": 20, "norm": 8}


def test_weights_that_are_never_read_are_never_made() -> None:
    from modelsummary_ipy.isolation.shadow import ShadowTemplate
    from modelsummary_ipy.model.layer_spec import Offset

    made = ShadowTemplate(nn.Sequential(*alike())).build_fake_shadow(lazy=True)
    stored = [value for layer in made.module for value in dict.items(layer._parameters)]
    assert {type(value) for _, value in stored} == {Offset}
    assert made.module[1].weight.shape == (4, 4)
    assert made.param_of[id(made.module[1].weight)] == 2
    assert made.param_tensors.keys() == {2}


def test_a_module_is_copied_with_its_weights() -> None:
    import copy

    class Copies(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            other = copy.deepcopy(self.fc)
            assert type(other._parameters) is dict
            return other(x)

    ms = ModelSummary(Copies(), (2, 4), engine="fake")
    assert ms.error is None
    assert [(row.type_name, row.outputs[0].shape) for row in ms.rows if row.status == "ran"] == [
        ("Copies", (2, 4)),
        ("Linear", (2, 4)),
    ]
    assert ms.total_mult_adds == 2 * 4 * 4
    assert [flag for flag in ms.flags if flag.severity != "note"] == []
