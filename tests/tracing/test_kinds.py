"""Inputs, tensors and forwards of rarer kinds: each is answered, and what is said is so."""

from __future__ import annotations

import re
from collections import UserDict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bs4 import BeautifulSoup
from torch import Tensor, nn
from torch.ao import quantization

from modelsummary_ipy import InputError, ModelSummary
from modelsummary_ipy.display.render.html import render_html
from modelsummary_ipy.display.render.markdown import render_markdown
from modelsummary_ipy.display.render.text import render_text
from modelsummary_ipy.records.view import View
from tests.reference import difference, fingerprint, quietly, watch_with_hooks


def build_layers() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU()).eval()


def test_a_frozen_script_module_is_answered() -> None:
    with quietly():
        frozen = torch.jit.freeze(torch.jit.script(build_layers()))
        ms = ModelSummary(frozen, (2, 8))
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (2, 16)
    assert ms.total_mult_adds == 2 * 8 * 16


@pytest.mark.parametrize("layout", [torch.jagged, torch.strided])
@pytest.mark.parametrize("engine", ["auto", "real", "static"])
def test_nested_tensors_go_in(layout: Any, engine: Any) -> None:
    with quietly():
        x = torch.nested.nested_tensor([torch.randn(3, 8), torch.randn(5, 8)], layout=layout)
        model = build_layers()
        ms = ModelSummary(model, x, engine=engine)
        assert ms.error is None
        assert "nested" not in str(ms.error)
        assert "fails" not in ms.to_html()  # nor the backward, of which fakes of a ragged dim know nothing
        if engine != "static":
            calls, _ = watch_with_hooks(model, "forward", (x,), {})
            seen = [(list(call.inputs), list(call.outputs)) for call in calls]
            rows = [row for row in ms.rows if row.kind == "module"]
            assert [([s.shape for s in row.inputs], [s.shape for s in row.outputs]) for row in rows] == seen
    if layout is torch.jagged and engine != "static":
        assert ms.total_mult_adds == (3 + 5) * 8 * 16


class Graph(nn.Module):
    """Neighbours are summed by a sparse matrix."""

    def __init__(self, adjacency: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("adjacency", adjacency)
        self.lin = nn.Linear(5, 7)

    def forward(self, x: Tensor, adjacency: Tensor | None = None) -> Tensor:
        return (self.adjacency if adjacency is None else adjacency) @ self.lin(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", ["csr", "csc", "bsr"])
@pytest.mark.parametrize("is_buffer", [False, True])
def test_compressed_sparse_matrices_are_run_for_real(name: str, is_buffer: bool) -> None:
    with quietly():
        sizes = (2,) if name == "bsr" else ()
        adjacency = getattr(torch.eye(10), f"to_sparse_{name}")(*sizes)
        x = torch.randn(10, 5)
        ms = ModelSummary(Graph(adjacency), x) if is_buffer else ModelSummary(Graph(None), [x, adjacency])
        assert ms.error is None
        assert ms.engine == "real"
        assert ms.rows[0].outputs[0].shape == (10, 7)
        assert all("(sparse)" in op for op in ms.unknown_ops)


def test_a_layout_that_torch_has_no_product_for_is_not_mended_by_other_sizes() -> None:
    with quietly():
        ms = ModelSummary(Graph(None), [torch.randn(10, 5), torch.eye(10).to_sparse_bsc((2, 2))])
    assert ms.error is not None
    assert ms.error.code == "unsupported"
    assert "not implemented" in ms.error.reason
    assert (ms.error.fixes, ms.error.sizes) == ((), ())


def quantize_layers(model: nn.Module, example: Tensor) -> nn.Module:
    """Calibrate and convert, as eager quantization does."""
    model.eval().qconfig = quantization.get_default_qconfig(torch.backends.quantized.engine)  # type: ignore[assignment]
    quantization.prepare(model, inplace=True)
    model(example)
    quantization.convert(model, inplace=True)
    return model


@pytest.mark.parametrize("engine", ["auto", "real", "static"])
def test_packed_weights_of_quantized_layers_are_counted(engine: Any) -> None:
    with quietly():
        for model, x in (
            (nn.Sequential(nn.Linear(100, 50), nn.Linear(50, 2, bias=False)), torch.randn(2, 100)),
            (nn.Sequential(nn.LSTM(20, 8, 2)), torch.randn(3, 2, 20)),
        ):
            scalars = sum(param.numel() for param in model.parameters())
            kept = sum(param.numel() * (1 if param.dim() == 2 else 4) for param in model.parameters())
            small = quantization.quantize_dynamic(model, {nn.Linear, nn.LSTM})
            ms = ModelSummary(small, x, engine=engine)
            assert ms.error is None
            assert ms.total_params == scalars
            assert ms.trainable_params == 0
            assert ms.memory.param_bytes == kept
            assert engine == "static" or {row.absence for row in ms.rows if row.status == "uncalled"} <= {"weights"}
        conv = nn.Sequential(quantization.QuantStub(), nn.Conv2d(3, 8, 3), quantization.DeQuantStub())
        small = quantize_layers(conv, torch.randn(1, 3, 8, 8))
        ms = ModelSummary(small, torch.randn(1, 3, 8, 8), engine=engine)
        assert ms["1"].own_params == ms.total_params == 8 * 3 * 9 + 8
        assert ms.memory.param_bytes == 8 * 3 * 9 + 8 * 4


class Packed(nn.Parameter):
    """A weight of 4 bits, two in a byte, as bitsandbytes keeps it."""

    quant_state: Any


class FourBits(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = Packed(torch.zeros(6 * 8 // 2, 1, dtype=torch.uint8), requires_grad=False)
        self.weight.quant_state = SimpleNamespace(shape=torch.Size((6, 8)))

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.weight, Packed)
        return x @ self.weight.repeat(2, 1).view(self.weight.quant_state.shape).T.to(x.dtype)


def test_weights_of_four_bits_are_counted_as_the_numbers_that_they_are() -> None:
    ms = ModelSummary(FourBits(), (2, 8))
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (2, 6)
    assert ms.total_params == 6 * 8
    assert ms.memory.param_bytes == 6 * 8 // 2


class Raises(nn.Module):
    """A forward that raises what it is given."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = [error]

    def forward(self, x: Tensor) -> Tensor:
        raise self.error[0]


class Unsayable(Exception):
    """Its text can't be had."""

    def __str__(self) -> str:
        raise KeyError("no text")


class Exits(Exception):
    """Its text ends the process, and its arguments can't be had."""

    def __str__(self) -> str:
        raise SystemExit

    @property
    def args(self) -> Any:
        raise ValueError("no arguments")


def test_an_exception_whose_text_raises_is_a_finding_like_any_other() -> None:
    assert "its __str__ raised SystemExit" in str(ModelSummary(Raises(Exits()), (1, 2)).error)
    ms = ModelSummary(Raises(Unsayable()), (1, 2))
    assert ms.error is not None
    assert "its __str__ raised KeyError" in str(ms.error)
    assert isinstance(ms.error.__cause__, Unsayable)
    assert "Unsayable" in ms.to_html()


def test_no_message_is_longer_than_2000_characters() -> None:
    ms = ModelSummary(Raises(ValueError("a" * 5_000_000)), (1, 2))
    assert len(str(ms.error)) <= 2000
    assert len(ms.to_html()) < 200_000
    with pytest.raises(InputError) as caught:
        ModelSummary(build_layers(), {"input": {"a": list(range(100_000))}})
    assert len(str(caught.value)) <= 2000


class TwoLists(nn.Module):
    """Blocks of two lists are called in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.ups = nn.ModuleList([nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)]) for _ in range(3)])
        self.heads = nn.ModuleList([nn.Linear(4, 1) for _ in range(3)])

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for up, head in zip(self.ups[:2], self.heads, strict=False):
            for layer in up:
                x = layer(x)
            found.append(head(x))
        return found


def test_lists_whose_blocks_run_in_turn_are_not_said_uncalled_nor_counted_twice() -> None:
    model = TwoLists()
    ms = ModelSummary(model, (2, 4))
    by_path = {line.split()[0]: line for line in str(ms).splitlines() if line.strip()}
    for name in ("ups", "heads"):
        assert ms[name].absence == "elsewhere"
        assert ms[name].num_params == sum(p.numel() for p in getattr(model, name).parameters())
        assert by_path[name].split("ModuleList")[1].strip() == "its modules have rows of their own"
    assert ms["ups.2"].absence == ""
    assert str(ms).count("not called") == 4  # the third block and what is in it
    parents = {row.parent for row in ms.rows}
    leaves = [row for row in ms.rows if row.index not in parents and not row.call_index]
    expected = sum(p.numel() for p in model.parameters())
    assert sum(row.placed_params for row in leaves) == ms.summary["Params"].sum() == expected
    assert sum(row["own_params"] for row in ms.to_dict()["rows"]) == expected


def test_a_list_all_of_whose_blocks_ran_in_turn_is_shown_with_operations_alone() -> None:
    model = TwoLists()
    del model.ups[2], model.heads[2]
    ms = ModelSummary(model, (2, 4))
    assert {ms["ups"].absence, ms["heads"].absence} == {"elsewhere"}
    assert "rows of their own" not in str(ms)
    ms.view = replace(ms.view, ops=True)
    assert str(ms).count("its modules have rows of their own") == 2


def test_what_runs_without_a_call_of_its_own_is_said_so() -> None:
    with quietly():
        inner = nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 2)))
        scripted = ModelSummary(nn.Sequential(torch.jit.script(inner)), (2, 4))
        traced = ModelSummary(torch.jit.trace(inner, torch.ones(2, 4)), (2, 4))
        attention = ModelSummary(nn.TransformerEncoderLayer(8, 2, batch_first=True), (2, 5, 8))
    paths = ["0.0", "0.1", "0.1.0", "0.1.1"]
    assert [scripted[path].absence for path in paths] == [traced[path[2:]].absence for path in paths] == ["script"] * 4
    assert "not called" not in str(scripted) + str(traced) + str(attention)
    assert str(traced).count("inside TorchScript") == 4
    assert attention["self_attn.out_proj"].absence == "weights"
    assert attention["self_attn.out_proj"].own_params == 8 * 8 + 8


def test_multiply_adds_that_a_script_hides_are_unknown() -> None:
    with quietly():
        inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Linear(6, 2)).eval()
        scripted = torch.jit.script(inner)
        hidden = torch.jit.optimize_for_inference(scripted)
        if "mkldnn_convolution" in str(hidden.graph):  # where torch was built with it
            ms = ModelSummary(nn.Sequential(hidden), (1, 3, 8, 8))
            assert ms.unknown_ops == ("prim::mkldnn_convolution",)
            assert "MACs unknown" in str(ms)
        assert ModelSummary(scripted, (1, 3, 8, 8)).total_mult_adds == 36 * 4 * 27 + 4 * 6 * 6 * 2


class Scaled(nn.Parameter):
    """A parameter with a class and attributes of its own, as quantized layers of libraries have it."""

    scale: Tensor
    owner: nn.Module

    def __new__(cls, data: Tensor, scale: Tensor) -> Scaled:
        made = Tensor._make_subclass(cls, data, False)
        made.scale = scale
        return made


class HasScaled(nn.Module):
    """A layer that asks for the class of its weight and reads its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Scaled(torch.randn(5, 4), torch.rand(5))
        self.weight.owner = self

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.weight, Scaled)
        assert isinstance(self.weight, nn.Parameter)
        assert self.weight.owner is self
        return nn.functional.linear(x, self.weight) * self.weight.scale


class Picture(Tensor):
    """An input with a class and an attribute, which results of operations have too."""

    space: str = "rgb"


class TakesPicture(nn.Module):
    """A model that asks for the class of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(x, Picture)
        assert x.space == "grey"
        y = self.conv(x.relu())
        assert isinstance(y, Picture)
        return y


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_a_tensor_of_another_class_keeps_class_and_attributes(engine: Any) -> None:
    layer = HasScaled()
    before = fingerprint(layer)
    ms = ModelSummary(layer, (3, 4), engine=engine)
    assert ms.error is None
    assert (ms.engine, ms.total_params, ms.total_mult_adds) == (engine, 20, 60)
    assert difference(before, fingerprint(layer)) == []
    picture = torch.randn(1, 3, 8, 8).as_subclass(Picture)
    picture.space = "grey"
    ms = ModelSummary(TakesPicture(), picture, engine=engine)
    assert ms.error is None
    assert ms.rows[0].outputs[0].shape == (1, 2, 6, 6)
    if engine == "fake":
        assert ms.formulas[0] == (("B", "2", "H - 2", "W - 2"),)


class MakesPicture(nn.Module):
    """A forward that changes the class of its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(x.as_subclass(Picture), Picture)
        return self.layer(x)


def test_a_tensor_that_the_forward_gives_another_class_is_run_for_real() -> None:
    ms = ModelSummary(MakesPicture(), (3, 4))
    assert ms.error is None
    assert ms.engine == "real"
    assert ms.engine_reason.startswith("a tensor of another class at test_kinds.py:")
    assert ms.rows[0].outputs[0].shape == (3, 2)


class Wordy(nn.Module):
    """Everything that a row shows is long: the class, its settings, a key, an argument, a name."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("n" * 3000, nn.Identity())

    def extra_repr(self) -> str:
        return "e" * 5000

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = getattr(self, "n" * 3000)(x)
        return {"k" * 3000: x.view([1] * 55 + [3])}


@pytest.mark.parametrize("ops", [False, True])
def test_no_text_in_a_row_is_longer_than_200_characters(ops: bool) -> None:
    kind = type("C" * 3000, (Wordy,), {})
    ms, view = ModelSummary(kind(), (1, 3)), View(ops=ops)
    for text in (render_text(ms.story, view), render_markdown(ms.story, view)):
        cells = [cell for line in text.splitlines() for cell in re.split(r"   +|\|", line) if cell.strip(" ─-:")]
        assert max(map(len, cells)) <= 300
        assert max(len(word) for word in text.split() if word.strip("─-:|")) <= 200
    page = BeautifulSoup(render_html(ms.story, view), "lxml")
    for script in page(["style", "script"]):
        script.decompose()
    assert max(len(word) for word in page.get_text(" ").split()) <= 200
    assert len(ms.rows[0].extra_repr) <= 200


class Layer:
    """The keys and values of one layer."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.cache: Any = None


class Cache:
    """What a decoder hands back: an object that is no container, and that refers to itself."""

    def __init__(self) -> None:
        self.layers: list[Layer] = []
        self._seen = torch.zeros(3)

    def add(self, layer: Layer) -> None:
        self.layers.append(layer)
        layer.cache = self


class Decoder(nn.Module):
    """Returns a cache beside its logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 8), nn.Linear(4, 8)])

    def forward(self, x: Tensor) -> dict[str, Any]:
        cache = Cache()
        for layer in self.layers:
            cache.add(Layer(*layer(x).chunk(2, -1)))
            x = x + cache.layers[-1].values
        return {"logits": x, "cache": cache}


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_every_tensor_of_a_cache_is_among_the_outputs(engine: Any) -> None:
    ms = ModelSummary(Decoder(), (2, 5, 4), engine=engine)
    names = [f"['cache'].layers[{i}].{part}" for i in range(2) for part in ("keys", "values")]
    assert [(spec.name, spec.shape) for spec in ms.rows[0].outputs] == [
        (name, (2, 5, 4)) for name in ("['logits']", *names)
    ]
    if engine == "fake":
        assert ms.formulas[0] == (("B", "T", "4"),) * 5


class CallableGraph:
    """Graph data that can be called, and keeps its tensors in a private mapping behind properties."""

    def __init__(self, **tensors: Tensor) -> None:
        self._store = UserDict(tensors)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._store[name]

    def __call__(self) -> Any:
        return iter(self._store)


class ScaledGraph(nn.Module):
    """Takes graph data beside a tensor, and hands it on alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, data: Any, scale: Tensor) -> Tensor:
        x = self.layer(data.x)
        return torch.zeros_like(x).index_add(0, data.edges[1], x[data.edges[0]]) * scale


def test_graph_data_is_shown_as_the_input_it_is() -> None:
    data = CallableGraph(x=torch.randn(6, 4), edges=torch.randint(0, 6, (2, 9)))
    ms = ModelSummary(ScaledGraph(), [data, torch.ones(1)])
    assert ms.error is None
    seen = {spec.name: spec.shape for spec in ms.rows[0].inputs}
    assert seen == {"data['x']": (6, 4), "data['edges']": (2, 9), "scale": (1,)}
    assert {fact.spec.shape for fact in ms.pipeline.traced.trace.inputs} == {(6, 4), (2, 9), (1,)}
