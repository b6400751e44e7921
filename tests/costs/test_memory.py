"""Bytes: what autograd saves and what lives, against real runs; optimizers against real ones; the largest batch."""

from __future__ import annotations

import copy
import weakref
from typing import Any

import pytest
import torch
from bs4 import BeautifulSoup
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.summary import Memory
from modelsummary_ipy.summary import ModelSummary
from tests.byte_models import MODELS, Does, block, trace_bytes

pytestmark = pytest.mark.usefixtures("attention_as_traced")


def summarise(model: nn.Module, *args: Any, **options: Any) -> ModelSummary:
    return ModelSummary(model, ModelInputs(args), **options)


# -- the same measures of a real run, written without ours ------------------------------------------------------------


def measure_saved(model: nn.Module, *args: Any) -> int:
    """Bytes of the storages that autograd saves in a real run, each once, those of parameters and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own and storage.nbytes():
            kept[storage.data_ptr()] = storage  # alive, so no address comes twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(*args)
    del out
    return sum(storage.nbytes() for storage in kept.values())


class _Lives(TorchDispatchMode):
    """Follows the storages of all results while a block runs."""

    def __init__(self, known: list[Tensor], inputs: list[Tensor]) -> None:
        super().__init__()
        self.ignored = {tensor.untyped_storage().data_ptr() for tensor in known}
        self.alive: dict[int, Any] = {}
        self.now = self.peak = 0
        for tensor in inputs:
            self.see(tensor)

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address, nbytes = storage.data_ptr(), storage.nbytes()
        if nbytes and address not in self.ignored and address not in self.alive:
            self.alive[address] = weakref.ref(storage, lambda _: self.die(address, nbytes))
            self.now += nbytes
            self.peak = max(self.peak, self.now)

    def die(self, address: int, nbytes: int) -> None:
        self.now -= nbytes
        del self.alive[address]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        return out


def measure_peak(model: nn.Module, *args: Any) -> int:
    """Largest sum of live storages in a real run without grad, inputs included, parameters and buffers left out."""
    inputs = [leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor)]
    with torch.no_grad(), _Lives([*model.parameters(), *model.buffers()], inputs) as lives:
        model(*args)
    return lives.peak


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", MODELS)
def test_bytes_are_those_of_a_real_run(name: str, mode: Any) -> None:
    model, args, ms = trace_bytes(name, mode)
    assert ms.memory.activation_bytes == measure_saved(copy.deepcopy(model), *args)
    assert ms.memory.forward_peak_bytes == measure_peak(copy.deepcopy(model), *args)
    assert ms.memory.activation_bytes == sum(cost.own_activation_bytes or 0 for cost in ms.costs.values())
    assert ms.memory.activation_bytes == ms.costs[0].activation_bytes
    assert not ms.memory.approximate


@pytest.mark.parametrize("name", ["perceptron", "convolutions", "gru", "bert", "views", "in place"])
def test_a_real_trace_sees_the_same_peak(name: str) -> None:
    make, give = MODELS[name]
    torch.manual_seed(0)
    model, args = make().eval(), give()
    ms = summarise(model, *args, engine="real")
    assert ms.memory.forward_peak_bytes == measure_peak(model, *args)
    assert ms.memory.activation_bytes is None  # a real run is made without grad
    assert ms.costs[0].activation_bytes is None


# -- rows -------------------------------------------------------------------------------------------------------------


def own_bytes(ms: ModelSummary) -> dict[str, int | None]:
    return {row.path or row.type_name: ms.costs[row.index].own_activation_bytes for row in ms.rows}


def test_a_storage_counts_in_the_first_call_that_saves_it() -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4), nn.Dropout(0.5))
    # the input; what ReLU made, which the second layer saves too; a mask of floats
    assert own_bytes(summarise(model.train(), torch.zeros(8, 16))) == {
        "Sequential": 0, "0": 8 * 16 * 4, "1": 8 * 32 * 4, "2": 0, "3": 8 * 4 * 4,
    }  # fmt: skip
    assert own_bytes(summarise(model.eval(), torch.zeros(8, 16)))["3"] == 0


def test_what_is_saved_inside_counts_for_all_around() -> None:
    model = nn.Sequential(nn.Sequential(nn.Linear(4, 4), nn.Tanh()), nn.Sigmoid())
    ms = summarise(model, torch.zeros(2, 4))
    assert [ms.costs[row.index].activation_bytes for row in ms.rows] == [96, 64, 32, 32, 32]


def test_storages_that_die_do_not_lend_their_address_to_others() -> None:
    """Eight storages of one size are saved one after the other: under ``no_grad`` lifetimes they use few addresses."""

    def run(model: Any, x: Tensor) -> Tensor:
        for _ in range(8):
            x = (model.layer(x) + 1).sin().detach() * 1.0
        return x

    ms = summarise(Does(run, layer=nn.Linear(8, 8)), torch.zeros(4, 8))
    # per turn: the layer's input and the sine's; the layer's first input is the model's
    assert ms.memory.activation_bytes == 8 * 2 * (4 * 8 * 4)


def test_a_layer_that_was_lazy_saves_no_parameter() -> None:
    lazy = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2))
    ready = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    x = torch.zeros(4, 6)
    ours, plain = summarise(lazy, x), summarise(ready, x)
    assert ours.memory == plain.memory
    assert own_bytes(ours) == own_bytes(plain)


def test_a_forward_that_differentiates_saves_what_it_saves() -> None:
    def slope(model: Any, x: Tensor) -> Tensor:
        energy = model.layer(x).tanh().sum()
        return torch.autograd.grad(energy, model.layer.weight, create_graph=True)[0].sin()

    model, x = Does(slope, layer=nn.Linear(8, 8)), torch.randn(4, 8)
    ms = summarise(model, x)
    assert ms.memory.activation_bytes == measure_saved(model, x)
    assert ms.memory.forward_peak_bytes is None  # what lives depends on what autograd keeps meanwhile


def test_an_lstm_keeps_a_workspace_that_its_backend_decides_on() -> None:
    model, x = nn.LSTM(128, 256), torch.randn(32, 16, 128)
    ms = summarise(model, x)
    assert ms.memory.approximate
    assert ms.costs[0].approximate
    assert ms.memory.activation_bytes == measure_saved(model, x)
    assert ms.memory.forward_peak_bytes == measure_peak(model, x)


def test_under_autocast_bytes_are_approximate() -> None:
    def run(model: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model.layer(x)

    ms = summarise(Does(run, layer=nn.Linear(8, 8)), torch.zeros(4, 8))
    assert [ms.costs[row.index].approximate for row in ms.rows] == [True, True]


def test_bytes_are_known_where_the_user_turned_grad_off() -> None:
    model, x = block(), torch.randn(8, 16)
    expected = summarise(model, x).memory
    with torch.no_grad():
        assert summarise(model, x).memory == expected
    with torch.inference_mode():
        assert summarise(model, x).memory == expected


def test_many_modules_are_measured_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = block(), torch.randn(8, 16)
    expected = summarise(model, x)
    monkeypatch.setattr("modelsummary_ipy.isolation.shadow.MANY_MODULES", 2)
    ms = summarise(model, x)
    assert not ms.pipeline.traced.trace.knows_saved
    assert ms.total_mult_adds == expected.total_mult_adds
    assert ms.costs == expected.costs
    assert ms.memory == expected.memory


def test_after_a_failure_bytes_are_unknown() -> None:
    ms = ModelSummary(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(9, 4)), (2, 4))
    assert (ms.memory.activation_bytes, ms.memory.forward_peak_bytes) == (None, None)
    assert (ms.memory.training_bytes, ms.memory.inference_bytes) == (None, None)
    assert [ms.costs[row.index].own_activation_bytes for row in ms.rows] == [None, 32, 64, None]


# -- the breakdown ----------------------------------------------------------------------------------------------------


def test_the_breakdown_adds_up() -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Linear(32, 4))
    memory = summarise(model, torch.zeros(8, 16)).memory
    params = 4 * (16 * 32 + 32 + 2 * 32 + 32 * 4 + 4)
    buffers = 4 * 2 * 32 + 8  # running mean and variance, and a count of int64
    assert (memory.param_bytes, memory.buffer_bytes, memory.input_bytes) == (params, buffers, 8 * 16 * 4)
    assert (memory.gradient_bytes, memory.optimizer_bytes) == (params, 2 * params)
    # the input counts once, though autograd saves it too
    saved = 8 * 16 * 4 + 8 * 32 * 4 + 2 * 32 * 4 + 8 * 32 * 4
    assert (memory.activation_bytes, memory.saved_input_bytes) == (saved, 8 * 16 * 4)
    # at the optimizer's step, when what was saved is gone: each parameter, its gradient, its two states and a square
    # root; the input, the output, the loss and six counts of steps
    assert memory.training_bytes == 5 * params + buffers + 8 * 16 * 4 + 8 * 4 * 4 + 4 + 6 * 4
    assert memory.inference_bytes == params + buffers + (memory.forward_peak_bytes or 0)


def test_the_breakdown_comes_in_bits_and_megabytes_too() -> None:
    memory = summarise(nn.Sequential(nn.Linear(100, 50), nn.Sigmoid()), torch.zeros(10, 100), optimizer="sgd").memory
    params, inputs, saved = 5050 * 32, 1000 * 32, 500 * 32
    total = 8 * (memory.training_bytes or 0)
    assert memory.breakdown == {
        "parameters": (params, params / 8e6),
        "buffers": (0, 0.0),
        "input": (inputs, inputs / 8e6),
        "forward_backward": (saved + params, (saved + params) / 8e6),
        "optimizer": (0, 0.0),
        "total": (total, total / 8e6),
    }
    assert set(Memory(10, 0, 0).breakdown) == {"parameters", "buffers", "input", "optimizer"}


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_an_optimizer_keeps_what_a_real_one_keeps_on_the_device(optimizer: str) -> None:
    model = nn.Sequential(nn.Linear(16, 32), nn.LayerNorm(32), nn.Linear(32, 4).bfloat16())
    model[0].weight.requires_grad_(False)
    trained = [param for param in model.parameters() if param.requires_grad]
    real: torch.optim.Optimizer
    real = torch.optim.AdamW(trained) if optimizer == "adamw" else torch.optim.SGD(
        trained, momentum=0.9 if optimizer == "momentum" else 0
    )  # fmt: skip
    for param in trained:
        param.grad = torch.ones_like(param)
    real.step()
    state = [value for kept in real.state.values() for name, value in kept.items() if name != "step"]
    expected = sum(value.nbytes for value in state if isinstance(value, Tensor))
    memory = ModelSummary(model[:2], (8, 16), optimizer=optimizer).memory
    whole = ModelSummary(model, engine="static", optimizer=optimizer).memory
    assert whole.optimizer_bytes == expected
    assert whole.gradient_bytes == sum(param.grad.nbytes for param in trained if param.grad is not None)
    assert memory.optimizer == optimizer


def test_elements_have_the_bytes_they_take() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.brief = nn.Parameter(torch.zeros(3, 5, dtype=torch.bfloat16))
            self.flat = nn.Parameter(torch.zeros(20))
            self.part = nn.Parameter(self.flat.data[:8].view(2, 4))  # the same storage
            self.register_buffer("packed", torch.zeros(7, dtype=torch.uint8))  # two weights of four bits each
            self.register_buffer("int8", torch.zeros(9, dtype=torch.int8))
            self.register_buffer("wide", torch.zeros(6).expand(100, 6))
            self.register_buffer("flag", torch.zeros(3, dtype=torch.bool))

        def forward(self, x: Tensor) -> Tensor:
            return x

    memory = summarise(Odd(), torch.zeros(2, dtype=torch.float64).expand(50, 2)).memory
    assert memory.param_bytes == 30 + 80
    assert memory.buffer_bytes == 7 + 9 + 24 + 3
    assert memory.input_bytes == 16


def test_a_packed_subclass_takes_what_it_packs() -> None:
    class Packed(Tensor):
        """Eight numbers to the user, four bytes and a scale in memory, as 4-bit weights are kept."""

        inner: Tensor
        scale: Tensor

        @staticmethod
        def __new__(cls, inner: Tensor, scale: Tensor) -> Packed:
            made = Tensor._make_wrapper_subclass(cls, (2 * inner.numel(),), dtype=torch.bfloat16)
            made.inner, made.scale = inner, scale
            return made

        def __tensor_flatten__(self) -> tuple[list[str], None]:
            return ["inner", "scale"], None

        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.ops.aten.detach.default:
                return cls(args[0].inner, args[0].scale)
            raise NotImplementedError(func)

    model = nn.Module()
    model.weight = nn.Parameter(Packed(torch.zeros(4, dtype=torch.uint8), torch.zeros(1)), requires_grad=False)
    ms = ModelSummary(model, engine="static")
    assert (ms.memory.param_bytes, ms.total_params) == (4 + 4, 8)


def test_what_an_operation_keeps_for_the_backward_counts_among_the_largest() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 3, padding=1)
            self.last = nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.sigmoid(self.conv(x)).mean((2, 3)))

    text = BeautifulSoup(ModelSummary(Net(), (2, 1, 16, 16)).to_html(), "lxml").get_text(" ")
    # in floats: what sigmoid gives, 2 × 8 × 16 × 16; the image of conv, 2 × 16 × 16; the means that last reads, 2 × 8
    kept = {"sigmoid": 4096, "conv": 512, "last": 16}
    shares = ", ".join(f"{name} {100 * one / sum(kept.values()):.1f}%" for name, one in kept.items())
    assert f"most kept for the backward pass: {shares}" in " ".join(text.split()).replace(" ,", ",")


def test_what_an_operation_of_a_layer_keeps_is_that_layers_alone() -> None:
    class Act(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(x)

    html = ModelSummary(nn.Sequential(nn.Linear(8, 24), Act()), (2, 8)).to_html()
    text = " ".join(BeautifulSoup(html, "lxml").get_text(" ").split())
    # in floats: what sigmoid gives, 2 × 24; the input of Linear, 2 × 8
    assert "most kept for the backward pass: 1 Act 75.0%, 0 Linear 25.0%" in text
    assert "sigmoid 75.0%" not in text
