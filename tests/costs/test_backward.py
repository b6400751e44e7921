"""Multiply-adds of the backward: by hand on the table of known models, and as torch's counter counts a real one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn
from torch.nn.attention import SDPBackend
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from modelsummary_ipy.costs.mac_formulas import count_aten_op
from modelsummary_ipy.inputs.model_inputs import ModelInputs
from modelsummary_ipy.records.trace import AtenOp
from modelsummary_ipy.summary import ModelSummary
from tests.costs.test_row_costs import KNOWN, Known
from tests.models import by_name, empty_caches
from tests.reference import quietly
from tests.traced import trace_case
from tests.tracing.real_step import sum_outputs

pytestmark = pytest.mark.usefixtures("attention_as_traced")


class Trains(nn.Module):
    """Any model, with a parameter before each of its inputs, so that all of them want a gradient."""

    def __init__(self, inner: nn.Module, num_inputs: int) -> None:
        super().__init__()
        self.inner = inner
        self.scales = nn.ParameterList([nn.Parameter(torch.ones(())) for _ in range(num_inputs)])

    def forward(self, *args: Tensor) -> Any:
        return self.inner(*[scale * value for scale, value in zip(self.scales, args, strict=True)])


def count_for_real(model: nn.Module, args: tuple[Any, ...], kwargs: Any = None, method: str = "forward") -> int:
    """Count a real backward as torch does."""
    call = model if method == "forward" else getattr(model, method)
    with FlopCounterMode(display=False) as counter:
        total = sum_outputs(call(*args, **(kwargs or {})))
        forward = counter.get_total_flops()
        total.backward()
    return (counter.get_total_flops() - forward) // 2


#: Whether this torch has a fused kernel for an attention without heads on a CPU, which computes its scores again.
FUSES_3D = torch._fused_sdp_choice(*(torch.ones(4, 5, 8),) * 3) == SDPBackend.FLASH_ATTENTION.value
#: Whether it has one for fewer heads of keys than of queries.
FUSES_GROUPS = (
    torch._fused_sdp_choice(torch.ones(2, 4, 5, 8), *(torch.ones(2, 2, 5, 8),) * 2, enable_gqa=True)
    == SDPBackend.FLASH_ATTENTION.value
)
#: What the backward counts where that is not twice the forward: some states are zeros that want no gradient.
BY_HAND = {
    "attention in 3-D": (5 if FUSES_3D else 4) * 4 * 25 * 8,
    # attention computes its scores again: five products of 2 · 25 · 8 instead of four
    "attention module without weights": 2 * 10 * 4 * 64 + 5 * 2 * 25 * 8,
    "linear and attention": 2 * 10 * 8 * 24 + 5 * 2 * 25 * 8,
    "grouped queries": (5 if FUSES_GROUPS else 4) * 2 * 4 * 5 * 7 * 8,
    "encoder layer": 2 * 10 * (4 * 64 + 2 * 8 * 16) + 5 * 2 * 25 * 8,
    # the input's gates go back to input and weight, those of the zeros to their weight alone
    "lstm cell": 5 * 4 * 64 * (2 * 32 + 64),
    "gru cell": 5 * 24 * (2 * 4 + 8),
    "rnn": 15 * 8 * 2 * (4 + 8) - 3 * 8 * 8,
    "lstm with projection": 2 * 15 * (32 * (4 + 3) + 8 * 3) - 3 * 32 * 3,
    "packed lstm": 2 * 10 * 32 * (4 + 8) - 3 * 32 * 8,
    "gru both ways": 2 * (2 * 6 * 24 * (4 + 8)) - 2 * 3 * 24 * 8,
    # three factors, and the gradient of each is a sum over products of the other two
    "bilinear": 3 * 2 * 5 * 3 * 4,
    # only theta wants a gradient, not the points
    "grid": 2 * 20 * 6,
}
#: What can't be differentiated, and what torch's counter does not see or counts otherwise, with the reason.
NO_BACKWARD = {"flex attention": "torch has none of it on a CPU"}
NOT_SEEN_BY_TORCH = {
    **dict.fromkeys(("depthwise", "dilated", "transposed, groups"), "it forgets the groups of a convolution"),
    **dict.fromkeys(("attention module without weights", "linear and attention"), "attention"),
    **dict.fromkeys(("grouped queries", "encoder layer"), "attention"),
    **dict.fromkeys(("attention in 3-D",) if FUSES_3D else (), "attention"),
    **dict.fromkeys(("lstm", "lstm unbatched", "lstm of two layers, both ways"), "a plain LSTM"),
    **dict.fromkeys(("bilinear", "dot", "matrix and vector", "addmv", "addr", "outer", "kron"), "no matrices"),
    **dict.fromkeys(("einsum, outer", "distances", "own distances"), "no matrices"),
}


@pytest.mark.parametrize("known", [known for known in KNOWN if known.name not in NO_BACKWARD], ids=lambda k: k.name)
def test_a_backward_counts_as_by_hand_and_as_torch_counts_a_real_one(known: Known) -> None:
    torch.manual_seed(0)
    inputs = tuple(torch.randn(size) for size in known.sizes)
    model = Trains(known.make().eval(), len(inputs))
    ms = ModelSummary(model, ModelInputs(inputs))
    assert ms.training.reason == ""
    assert ms.backward_mult_adds[0] == BY_HAND.get(known.name, 2 * known.mult_adds)
    if known.name not in NOT_SEEN_BY_TORCH:
        assert ms.backward_mult_adds[0] == count_for_real(copy.deepcopy(model), inputs)


#: Models of ``tests.models`` that train in ways of their own, all of whose products torch's counter sees.
OWN_WAYS = (
    "Residual", "Reused", "SharedModule", "MadeInForward", "Recursive", "Vae", "OwnParameters", "checkpointed",
    "CheckpointedSequence", "Autocast", "NoGrad", "SelfAttention", "Cells", "GraphNet", "WithLoss", "Tied",
    "SharedParametrization", "Hooked", "OwnFunction", "Functional",
)  # fmt: skip


@pytest.mark.parametrize("name", OWN_WAYS)
def test_the_backward_of_an_unusual_model_counts_as_a_real_one(name: str) -> None:
    case, ms = by_name(name), trace_case(name, "auto").ms
    empty_caches()
    with quietly():
        assert ms.training.reason == ""
        assert ms.backward_mult_adds[0] == count_for_real(case.build(), *case.inputs(), case.method)


class Mlp(nn.Module):
    """Three layers of 8 × 16, 16 × 16 and 16 × 4; the second one is checkpointed with what follows it."""

    def __init__(self, *, keeps: bool = True) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.keeps = keeps

    def forward(self, x: Tensor) -> Tensor:
        def inner(x: Tensor) -> Tensor:
            return self.second(x.relu()).tanh()

        x = self.first(x)
        return self.last(inner(x) if self.keeps else checkpoint(inner, x, use_reentrant=False))


def count_rows(model: nn.Module, *args: Any, **options: Any) -> dict[str, int | None]:
    ms = ModelSummary(model, ModelInputs(args), **options)
    return {row.path: ms.backward_mult_adds[row.index] for row in ms.rows if row.kind == "module"}


def test_every_row_has_its_own_and_an_input_wants_no_gradient() -> None:
    # for 3 examples; the first layer's input is data
    expected = {"": 3 * (8 * 16 + 2 * 256 + 2 * 64), "first": 3 * 8 * 16, "second": 3 * 2 * 256, "last": 3 * 2 * 64}
    assert count_rows(Mlp(), torch.zeros(3, 8)) == expected


def test_what_is_frozen_counts_less() -> None:
    model = Mlp()
    model.first.requires_grad_(False)
    model.second.weight.requires_grad_(False)
    # nothing goes back beyond the second layer, whose bias alone wants a gradient
    assert count_rows(model, torch.zeros(3, 8)) == {"": 3 * 2 * 64, "first": 0, "second": 0, "last": 3 * 2 * 64}
    model.second.requires_grad_(True)
    assert count_rows(model, torch.zeros(3, 8))["second"] == 3 * 256  # no gradient of its input


def test_what_a_checkpoint_runs_again_counts_in_its_row() -> None:
    ms = ModelSummary(Mlp(keeps=False), ModelInputs((torch.zeros(3, 8),)))
    second = ms["second"].index
    assert ms.backward_mult_adds[second] == 3 * 3 * 256
    assert sum(count_aten_op(op.op) or 0 for op in ms.training.backward_ops if op.is_recomputed) == 3 * 256
    assert ms.backward_mult_adds[0] == count_for_real(Mlp(keeps=False), (torch.zeros(3, 8),))


def test_a_loss_counts_in_no_row() -> None:
    model = nn.Linear(8, 4)
    ms = ModelSummary(model, ModelInputs((torch.zeros(3, 8),)), loss=lambda output: (output @ output.T).sum())
    assert ms.backward_mult_adds == {0: 3 * 8 * 4}
    assert sum(count_aten_op(op.op) or 0 for op in ms.training.backward_ops) == 3 * 8 * 4 + 2 * 3 * 3 * 4


def test_a_frozen_model_has_no_backward() -> None:
    ms = ModelSummary(nn.Linear(8, 4).requires_grad_(False), (3, 8))
    assert ms.backward_mult_adds == {}
    ms.view = type(ms.view)(columns=("macs", "backward", "train"))
    assert "no training step: nothing to train: no parameter requires grad" in str(ms)


def test_what_has_no_formula_is_unknown_upward() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.mix = nn.Linear(4, 4), nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.fft(self.before(x)).real

    assert count_rows(Spectral(), torch.zeros(5, 4)) == {"": None, "before": 5 * 16, "mix": 0}


TINY: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_transformers_count_as_torch_counts_a_real_backward(attention: str, frozen: bool) -> None:
    config = transformers.LlamaConfig(
        **TINY, num_key_value_heads=2, vocab_size=100, attn_implementation=attention, bos_token_id=1, eos_token_id=2
    )
    model = transformers.LlamaForCausalLM(config)
    model.model.layers[0].requires_grad_(not frozen)
    model.model.embed_tokens.requires_grad_(not frozen)
    ids = torch.zeros(2, 16, dtype=torch.int64)
    ms = ModelSummary(model, ModelInputs((ids,), {"labels": ids}))
    real = count_for_real(model, (ids,), {"labels": ids})
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    # five products of 4 heads, 16 × 16 positions, 8 wide, which torch's counter sees from 2.15 on
    if attention == "sdpa" and FUSES_GROUPS and fused not in flop_registry:
        real += (1 if frozen else 2) * 2 * 5 * 4 * 16 * 16 * 8
    assert ms.backward_mult_adds[0] == real


def test_backwards_that_no_cpu_runs_count_by_their_shapes() -> None:
    weights = ((32, 4), (32, 8), (32,), (32,))
    states = ((0,), (1, 3, 8), (1, 3, 8), (5, 3, 8), (5, 3, 8), None, None, None, (100,))
    mask = (("output_mask", (True, True, True, True)),)
    lstm = AtenOp("aten._cudnn_rnn_backward.default", ((5, 3, 4), *weights, *states), ((5, 3, 4),), mask)
    assert count_aten_op(lstm) == 2 * 15 * 32 * (4 + 8)
    padded = ((2, 5, 2, 4),) * 5 + ((2, 2, 5), None, None, None, None)
    flash = AtenOp("aten._flash_attention_backward.default", padded, ((2, 5, 2, 4),) * 3)
    assert count_aten_op(flash) == 5 * 2 * 25 * 8
    packed = AtenOp("aten._flash_attention_backward.default", ((10, 2, 4),) * 5 + ((2, 10), (3,), (3,)), ())
    assert count_aten_op(packed) is None
    linear = AtenOp(
        "aten.linear_backward.default", ((3, 8), (3, 4), (4, 8)), ((3, 8),), (("output_mask", (True, False, True)),)
    )
    assert count_aten_op(linear) == 3 * 8 * 4
