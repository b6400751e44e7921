"""Multiply-adds per row: every number by hand with its derivation, by independent arithmetic, or by another library."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from modelsummary_ipy.costs.mac_formulas import count_aten_op
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.errors import InputError
from modelsummary_ipy.records.trace import AtenOp
from modelsummary_ipy.summary import ModelSummary
from tests.models import CASES, Case
from tests.traced import trace_case


def summarise(model: nn.Module, *args: Any, engine: Any = "fake", **kwargs: Any) -> ModelSummary:
    """Summarise a call with these very arguments."""
    return ModelSummary(model, ModelInputs(args, kwargs), engine=engine)


def count(model: nn.Module, *args: Any, engine: Any = "fake", **kwargs: Any) -> int | None:
    ms = summarise(model, *args, engine=engine, **kwargs)
    assert ms.error is None, ms.error
    assert ms.unknown_ops == ()
    return ms.total_mult_adds


class Does(nn.Module):
    """A forward that is one function of its inputs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


class OwnKernel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(8, 3, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, stride=2)


class AttendsToItself(nn.Module):
    """Attention of a tensor with itself."""

    def __init__(self, inner: nn.Module, **options: Any) -> None:
        super().__init__()
        self.inner = inner
        self.options = options

    def forward(self, x: Tensor) -> Any:
        return self.inner(x, x, x, **self.options)


class Attends(nn.Module):
    """One linear layer for queries, keys and values, and torch's function."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part.view(2, 5, 2, 4).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)


class Packs(nn.Module):
    """An LSTM over sequences of 5, 3 and 2 steps, padded to 5."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, [5, 3, 2], batch_first=True)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0]


class Head(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class MyConvHead(Head):
    """The same product, under a name that sounds like a convolution."""


@dataclass(frozen=True, slots=True)
class Known:
    """A model whose multiply-adds were counted by hand."""

    name: str
    make: Callable[[], nn.Module]
    sizes: tuple[tuple[int, ...], ...]
    mult_adds: int


KNOWN = [
    # out 8 channels × 8 × 8 positions, each a sum over 3 · 3 · 3
    Known("conv2d", lambda: nn.Conv2d(3, 8, 3), ((2, 3, 10, 10),), 2 * (8 * 8 * 8) * 27),
    Known("conv2d unbatched", lambda: nn.Conv2d(3, 8, 3), ((3, 10, 10),), (8 * 8 * 8) * 27),
    Known("depthwise", lambda: nn.Conv2d(8, 8, 3, groups=8), ((2, 8, 10, 10),), 2 * (8 * 8 * 8) * 9),
    # padding="same": 10 positions, borders in full; a sum over 4 / 2 channels · 3
    Known("dilated", lambda: nn.Conv1d(4, 8, 3, dilation=2, padding="same", groups=2), ((2, 4, 10),), 2 * 80 * 6),
    # (9 - 3) / 2 + 1 = 4 positions an axis
    Known("conv3d", lambda: nn.Conv3d(3, 8, 3, stride=2), ((1, 3, 9, 9, 9),), 8 * 64 * 81),
    # every one of 2 · 3 · 10 · 10 inputs is spread over 8 channels of 3 · 3
    Known("transposed", lambda: nn.ConvTranspose2d(3, 8, 3, stride=2), ((2, 3, 10, 10),), 600 * 72),
    Known("transposed, groups", lambda: nn.ConvTranspose2d(4, 8, 3, groups=2), ((4, 10, 10),), 400 * (8 // 2) * 9),
    Known("own parameter", OwnKernel, ((2, 3, 11, 11),), 2 * (8 * 5 * 5) * 27),
    # 10 positions · 4 projections of 8 · 8; 5 · 5 scores and 5 · 5 weighted values, each 8 wide, for 2 texts
    Known(
        "attention module",
        lambda: AttendsToItself(nn.MultiheadAttention(8, 2, batch_first=True)),
        ((2, 5, 8),),
        10 * 4 * 64 + 2 * 2 * 25 * 8,
    ),
    Known(
        "attention module without weights",
        lambda: AttendsToItself(nn.MultiheadAttention(8, 2, batch_first=True), need_weights=False),
        ((2, 5, 8),),
        10 * 4 * 64 + 2 * 2 * 25 * 8,
    ),
    # 10 · 8 · 24, and the two products in full: a causal mask does not halve them
    Known("linear and attention", Attends, ((2, 5, 8),), 10 * 8 * 24 + 2 * 2 * 25 * 8),
    # four query heads, two key heads: each query head meets 7 keys 8 wide and 7 values 8 wide
    Known(
        "grouped queries",
        lambda: Does(lambda q, k: F.scaled_dot_product_attention(q, k, k, enable_gqa=True)),
        ((2, 4, 5, 8), (2, 2, 7, 8)),
        2 * 4 * 5 * 7 * (8 + 8),
    ),
    Known("attention in 3-D", lambda: Does(F.scaled_dot_product_attention), ((4, 5, 8),) * 3, 4 * 25 * 16),
    Known("flex attention", lambda: Does(flex_attention), ((1, 2, 16, 8),) * 3, 2 * 16 * 16 * 16),
    # attention as above, and 8 → 16 → 8 behind it
    Known(
        "encoder layer",
        lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval(),
        ((2, 5, 8),),
        10 * 4 * 64 + 2 * 2 * 25 * 8 + 10 * 2 * 8 * 16,
    ),
    # four gates of 64, from 32 inputs and 64 states, for 5 examples
    Known("lstm cell", lambda: nn.LSTMCell(32, 64), ((5, 32),), 5 * 4 * 64 * (32 + 64)),
    # 15 steps: (4 + 8) → 4 · 8
    Known("lstm", lambda: nn.LSTM(4, 8), ((5, 3, 4),), 15 * 32 * (4 + 8)),
    Known("lstm unbatched", lambda: nn.LSTM(4, 8), ((5, 4),), 5 * 32 * (4 + 8)),
    # the second layer reads both directions of the first
    Known(
        "lstm of two layers, both ways",
        lambda: nn.LSTM(4, 8, num_layers=2, bidirectional=True),
        ((5, 3, 4),),
        15 * 2 * 32 * (4 + 8) + 15 * 2 * 32 * (16 + 8),
    ),
    # the state is 3 wide, and made by a projection of 8 · 3 at each step
    Known("lstm with projection", lambda: nn.LSTM(4, 8, proj_size=3), ((5, 3, 4),), 15 * (32 * (4 + 3) + 8 * 3)),
    # 5 + 3 + 2 = 10 true steps instead of 15
    Known("packed lstm", Packs, ((3, 5, 4),), 10 * 32 * (4 + 8)),
    Known("gru both ways", lambda: nn.GRU(4, 8, bidirectional=True), ((2, 3, 4),), 2 * 6 * 24 * (4 + 8)),
    Known("gru cell", lambda: nn.GRUCell(4, 8), ((5, 4),), 5 * 24 * (4 + 8)),
    Known("rnn", lambda: nn.RNN(4, 8), ((5, 3, 4),), 15 * 8 * (4 + 8)),
    # every weight meets one product of two inputs
    Known("bilinear", lambda: nn.Bilinear(3, 4, 5), ((2, 3), (2, 4)), 2 * 5 * 3 * 4),
    Known("weight norm", lambda: parametrizations.weight_norm(nn.Linear(4, 5)), ((3, 4),), 3 * 4 * 5),
    Known("head", Head, ((2, 3, 6),), 2 * 3 * 6 * 4),
    Known("conv by name only", MyConvHead, ((2, 3, 6),), 2 * 3 * 6 * 4),
    Known("linear and bias", lambda: nn.Linear(6, 4), ((2, 3, 6),), 2 * 3 * 6 * 4),
    Known("norms", lambda: nn.Sequential(nn.LayerNorm(6), nn.Softmax(-1), nn.GELU()), ((2, 6),), 0),
    Known(
        "pooling",
        lambda: nn.Sequential(nn.BatchNorm2d(2), nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(1)),
        ((2, 2, 8, 8),),
        0,
    ),
    Known("dot", lambda: Does(torch.dot), ((7,), (7,)), 7),
    Known("matrix and vector", lambda: Does(torch.mv), ((3, 4), (4,)), 12),
    Known("addmv", lambda: Does(torch.addmv), ((3,), (3, 4), (4,)), 12),
    Known("addr", lambda: Does(torch.addr), ((3, 4), (3,), (4,)), 12),
    Known("outer", lambda: Does(torch.outer), ((3,), (4,)), 12),
    Known("kron", lambda: Does(torch.kron), ((3, 2), (4, 5)), 6 * 20),
    Known("elementwise", lambda: Does(lambda x, y: x * y + y), ((3, 1), (1, 4)), 0),
    Known("addmm", lambda: Does(torch.addmm), ((3, 5), (3, 4), (4, 5)), 60),
    Known("baddbmm", lambda: Does(torch.baddbmm), ((2, 3, 5), (2, 3, 4), (2, 4, 5)), 120),
    Known("addbmm", lambda: Does(torch.addbmm), ((3, 5), (2, 3, 4), (2, 4, 5)), 120),
    Known("in place", lambda: Does(lambda a, b: (a + 0).addmm_(b, b)), ((3, 3), (3, 3)), 27),
    Known("matmul with batches", lambda: Does(torch.matmul), ((5, 1, 3, 4), (2, 4, 6)), 5 * 2 * 3 * 4 * 6),
    Known("einsum", lambda: Does(lambda a, b: torch.einsum("bij,jk->bik", a, b)), ((2, 3, 4), (4, 5)), 2 * 3 * 4 * 5),
    Known("einsum, one sum a row", lambda: Does(lambda a, b: torch.einsum("bi,bi->b", a, b)), ((3, 4), (3, 4)), 12),
    Known("einsum, outer", lambda: Does(lambda a, b: torch.einsum("bi,bj->bij", a, b)), ((3, 4), (3, 5)), 60),
    Known("distances", lambda: Does(torch.cdist), ((3, 5), (4, 5)), 3 * 4 * 5),
    Known("many distances", lambda: Does(torch.cdist), ((30, 5), (40, 5)), 30 * 40 * 5),  # by a product of matrices
    Known("own distances", lambda: Does(torch.pdist), ((4, 5),), 6 * 5),
    # 2 · 4 · 5 points (x, y, 1), each twice three products
    Known("grid", lambda: Does(lambda t: F.affine_grid(t, [2, 3, 4, 5])), ((2, 2, 3),), 2 * 20 * 6),
    Known(
        "checkpointed",
        lambda: Does(lambda x: checkpoint(lambda y: y @ y, x, use_reentrant=False)),
        ((4, 4),),
        64,
    ),
    Known("mapped", lambda: Does(torch.vmap(lambda row: row @ row)), ((4, 5),), 20),
]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Some of torch's layers warn of themselves; what we count is tested here, not that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("engine", ["fake", "real"])
@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.name)
def test_multiply_adds_are_those_counted_by_hand(known: Known, engine: str) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(size) for size in known.sizes]
    assert count(known.make().eval(), *inputs, engine=engine) == known.mult_adds


def test_a_summary_says_that_a_causal_mask_is_counted_in_full() -> None:
    words = "MACs count attention under a causal mask in full"
    assert words in summarise(Attends(), torch.zeros(2, 5, 8)).to_text()
    assert words not in summarise(nn.Linear(8, 8), torch.zeros(2, 5, 8)).to_text()


def test_an_embedding_counts_nothing_and_the_layer_behind_it_does() -> None:
    ms = summarise(nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 4)), torch.zeros(2, 5, dtype=torch.int64))
    assert [ms.costs[row.index].mult_adds for row in ms.rows] == [2 * 5 * 6 * 4, 0, 2 * 5 * 6 * 4]


def test_a_row_counts_itself_and_all_in_it() -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4))
            self.unused = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) @ x.T

    ms = summarise(Outer(), torch.zeros(3, 4))
    found = {
        (row.path, row.type_name): (ms.costs[row.index].mult_adds, ms.costs[row.index].own_mult_adds) for row in ms.rows
    }
    assert found == {
        ("", "Outer"): (2 * 96 + 36, 0),
        ("inner", "Sequential"): (2 * 96, 0),
        ("inner.0", "Linear"): (96, 96),
        ("inner.1", "ReLU"): (0, 0),
        ("inner.2", "Linear"): (96, 96),
        ("", "T"): (0, 0),
        ("", "matmul"): (36, 36),
        ("unused", "Linear"): (0, 0),
    }


def test_multiply_adds_by_kind_are_those_of_the_rows() -> None:
    ms = summarise(Attends(), torch.zeros(2, 5, 8))
    assert ms.mult_adds_by("type") == {"Linear": 10 * 8 * 24, "scaled_dot_product_attention": 2 * 2 * 25 * 8}
    assert ms.mult_adds_by("op") == {"addmm": 1920, "_scaled_dot_product_flash_attention_for_cpu": 800}
    with pytest.raises(InputError, match="'type' or 'op'"):
        ms.mult_adds_by("layer")  # type: ignore[arg-type]


def test_a_shared_layer_counts_once_a_call() -> None:
    layer = nn.Linear(4, 4)
    assert count(nn.Sequential(layer, layer, layer), torch.zeros(2, 4)) == 3 * 2 * 16


@pytest.mark.parametrize(
    ("op", "sizes", "by_hand"),
    [
        ("conv_tbc", ((10, 2, 3), (5, 3, 4), (6, 2, 4)), 6 * 2 * 4 * (5 * 3)),
        ("slow_conv_transpose2d", ((2, 3, 10, 10), (3, 8, 3, 3), (2, 8, 12, 12)), 600 * 72),
        ("_grouped_mm", ((2, 16, 8), (8, 5), (16, 5)), 5 * 16 * 8),  # each column with one of two matrices
    ],
)
def test_operations_that_other_layouts_and_backends_run_count_by_hand(
    op: str, sizes: tuple[tuple[int, ...], ...], by_hand: int
) -> None:
    assert count_aten_op(AtenOp(f"aten.{op}.default", sizes[:-1], sizes[-1:])) == by_hand


def test_a_fused_fast_path_counts_as_the_layers_it_stands_for() -> None:
    """Tracing turns the fast path off; where a model calls it by hand it counts all the same."""
    attention = AtenOp(
        "aten._native_multi_head_attention.default", ((2, 5, 8),) * 3 + ((24, 8), (24,), (8, 8), (8,)), ((2, 5, 8),)
    )
    assert count_aten_op(attention) == 10 * 4 * 64 + 2 * 2 * 25 * 8
    sizes = ((2, 5, 8), (24, 8), (24,), (8, 8), (8,), (8,), (8,), (8,), (8,), (16, 8), (16,), (8, 16), (8,))
    layer = AtenOp("aten._transformer_encoder_layer_fwd.default", sizes, ((2, 5, 8),))
    assert count_aten_op(layer) == 10 * 4 * 64 + 2 * 2 * 25 * 8 + 10 * 2 * 8 * 16


def test_a_cudnn_lstm_counts_true_steps_and_matrices_only() -> None:
    weights = ((32, 4), (32, 8), (32,), (32,), (32, 8), (32, 8), (32,), (32,))
    states = ((2, 3, 8), (2, 3, 8))
    packed = AtenOp("aten._cudnn_rnn.default", ((10, 4), *weights, None, *states, None), ((10, 8),))
    assert count_aten_op(packed) == 10 * 32 * (4 + 8) + 10 * 32 * (8 + 8)


def test_attention_over_texts_packed_end_to_end_is_unknown() -> None:
    packed = AtenOp("aten._flash_attention_forward.default", ((10, 2, 4),) * 3 + ((3,), (3,)), ((10, 2, 4),))
    assert count_aten_op(packed) is None
    padded = AtenOp("aten._flash_attention_forward.default", ((2, 5, 2, 4),) * 3 + (None, None), ((2, 5, 2, 4),))
    assert count_aten_op(padded) == 2 * 2 * 25 * 8


def test_quantized_layers_count_like_those_they_came_from() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, groups=1), nn.Flatten(), nn.Linear(8 * 16, 5))
    dynamic = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
    x = torch.zeros(2, 3, 6, 6)
    assert count(dynamic, x, engine="auto") == count(plain, x) == 2 * 8 * 16 * 27 + 2 * 128 * 5


def test_a_statically_quantized_convolution_counts_its_packed_weight() -> None:
    class Quantized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3, groups=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x)

    model = torch.ao.quantization.QuantWrapper(Quantized()).eval()
    model.qconfig = torch.ao.quantization.get_default_qconfig(torch.backends.quantized.engine)  # type: ignore[assignment]
    torch.ao.quantization.prepare(model, inplace=True)
    model(torch.randn(1, 4, 8, 8))
    torch.ao.quantization.convert(model, inplace=True)
    assert count(model, torch.randn(2, 4, 8, 8), engine="auto") == 2 * (8 * 36) * (2 * 9)


@settings(max_examples=40)
@given(
    rank=st.integers(1, 3), groups=st.integers(1, 3), channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.integers(1, 3), stride=st.integers(1, 3), padding=st.integers(0, 2), dilation=st.integers(1, 2),
    transposed=st.booleans(), batch=st.integers(0, 2),
)  # fmt: skip
def test_any_convolution_counts_what_torchs_counter_counts(
    rank: int, groups: int, channels: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int,
    transposed: bool, batch: int,
) -> None:  # fmt: skip
    kinds = (
        (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
        if transposed
        else (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    )
    layer = kinds[rank - 1](
        channels[0] * groups, channels[1] * groups, kernel, stride, padding, groups=groups, dilation=dilation
    )
    x = torch.zeros(*([batch] if batch else []), channels[0] * groups, *[7] * rank)
    try:
        with FlopCounterMode(display=False) as counter:
            layer(x)
    except (RuntimeError, ValueError):  # padding that leaves nothing of the output
        return
    assert count(layer, x) == counter.get_total_flops() // 2


#: Why torch's own counter says something else, by model.
NOT_SEEN_BY_TORCH = {
    "fast_path_attention": "the fast path",
    "fast_path_encoder": "the fast path",
    "PaddedEncoder": "the fast path",
    "Sdpa": "attention in four dims on a CPU",
    "Gradients": "it can't run it",
    "LayerInBackward": "it can't run it",
    "Recurrent": "a plain LSTM",
    "PacksFixed": "a plain LSTM",
    "TwoInputs": "a bilinear layer",
    "spectral_norm": "products of matrix and vector",
    "old_spectral_norm": "products of matrix and vector",
    "orthogonal": "it looks into the matrix exponential, which is unknown here",
}


@pytest.mark.parametrize("case", [case for case in CASES if not case.needs_values], ids=lambda case: case.name)
def test_both_engines_and_torchs_counter_agree_on_models_of_every_kind(case: Case) -> None:
    def run(engine: Any) -> tuple[int | None, tuple[str, ...]]:
        ms = trace_case(case.name, engine).ms
        return ms.total_mult_adds, ms.unknown_ops

    real = run("real")
    assert trace_case(case.name, "auto").ms.engine == "fake"
    assert run("auto") == real
    if case.name not in NOT_SEEN_BY_TORCH:
        args, kwargs = case.inputs()
        model = case.build()
        with FlopCounterMode(display=False) as counter:
            (model if case.method == "forward" else getattr(model, case.method))(*args, **kwargs)
        assert real[0] == counter.get_total_flops() // 2


@pytest.mark.parametrize("engine", ["fake", "real"])
def test_spectral_norm_counts_its_power_iteration(engine: str) -> None:
    layer = parametrizations.spectral_norm(nn.Linear(4, 5)).train()
    # one iteration is two products of matrix and vector, the norm one more and a dot product of 5
    assert count(layer, torch.zeros(3, 4), engine=engine) == 3 * 20 + 3 * 20 + 5


def test_a_forward_that_differentiates_counts_its_backward() -> None:
    def slope(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            energy = F.conv1d(x, torch.ones(6, 3, 3)).square().sum()
            return torch.autograd.grad(energy, x)[0]

    assert count(Does(slope), torch.zeros(2, 3, 9)) == 2 * (2 * (6 * 7) * 9)


def test_a_functional_gradient_is_counted_too() -> None:
    """``torch.func.grad`` refuses hooks on what autograd saves: the pass is made again without them."""
    slope = torch.func.grad(lambda x: (x @ x.mT).sum())
    ms = summarise(Does(slope), torch.zeros(4, 5))
    assert ms.error is None
    assert ms.total_mult_adds == 3 * 4 * 5 * 4
    assert ms.engine == "fake"
