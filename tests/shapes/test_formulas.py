"""Every size as a formula, checked against real runs with plain hooks at sizes that were never traced."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modelsummary_ipy.inputs.size import Size
from modelsummary_ipy.shapes.expr_text import evaluate
from modelsummary_ipy.summary import ModelSummary
from tests.reference import fingerprint, watch_with_hooks
from tests.shapes.sized import Net
from tests.traced import trace_animal


class UNet(nn.Module):
    def __init__(self, levels: int = 3) -> None:
        super().__init__()
        sizes = [4 * 2**level for level in range(levels + 1)]
        pairs = list(pairwise(sizes))
        self.first = nn.Conv2d(3, sizes[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairs)
        self.up = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in reversed(pairs))
        self.join = nn.ModuleList(nn.Conv2d(2 * a, a, 3, padding=1) for a, _ in reversed(pairs))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        kept = []
        for down in self.down:
            kept.append(x)
            x = down(x)
        for up, join in zip(self.up, self.join, strict=True):
            x = join(torch.cat([up(x), kept.pop()], 1))
        return x


class Patches(nn.Module):
    """A vision transformer of one block, with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 8, stride=8)
        self.token = nn.Parameter(torch.zeros(1, 1, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        return self.block(torch.cat([self.token.expand(len(x), -1, -1), x], 1))


class Windows(nn.Module):
    """Cuts a map into windows of 7, which takes padding where 7 does not divide."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(8, 8)
        self.conv = nn.Conv2d(3, 8, 4, stride=4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        x = F.pad(x, (0, -x.shape[3] % 7, 0, -x.shape[2] % 7))
        b, c, h, w = x.shape
        x = x.view(b, c, h // 7, 7, w // 7, 7).permute(0, 2, 4, 3, 5, 1).reshape(-1, 49, c)
        return self.mix(x)


class Steps(nn.Module):
    """A cell that is called once a step: a longer input makes more calls."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(4, 6)
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(len(x), 6)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state)


@dataclass(frozen=True)
class Asked:
    """A model, a size to trace it at, and a size to run it at for real."""

    name: str
    make: Callable[[], nn.Module]
    traced: tuple[int, ...]
    run: tuple[int, ...]
    dtype: torch.dtype = torch.float32


ASKED = [
    Asked("lenet", lambda: nn.Sequential(nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 9, 5), nn.MaxPool2d(2)),
          (1, 1, 32, 32), (3, 1, 61, 90)),
    Asked("strides", lambda: nn.Sequential(*[nn.Conv2d(3, 3, 3, stride=2, padding=1) for _ in range(5)]),
          (2, 3, 224, 224), (1, 3, 225, 187)),
    Asked("ceil_mode", lambda: nn.Sequential(nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2), nn.Conv2d(3, 4, 1)),
          (2, 3, 64, 64), (2, 3, 47, 58)),
    Asked("dilation", lambda: nn.Sequential(nn.Conv2d(3, 4, 3, dilation=4), nn.Conv2d(4, 4, (5, 3), stride=(3, 1))),
          (2, 3, 64, 64), (5, 3, 50, 71)),
    Asked("same", lambda: nn.Conv2d(3, 4, 3, padding="same", dilation=2), (2, 3, 16, 16), (2, 3, 9, 23)),
    Asked("waveform", lambda: nn.Sequential(*[nn.Conv1d(1, 1, 10 - i, stride=5 - i) for i in range(4)]),
          (2, 1, 4000), (3, 1, 5551)),
    Asked("upsample", lambda: nn.Sequential(nn.Upsample(scale_factor=2), nn.ConvTranspose2d(3, 3, 4, 2, 1)),
          (2, 3, 16, 16), (1, 3, 9, 21)),
    Asked("unet", UNet, (2, 3, 64, 64), (1, 3, 24, 112)),
    Asked("patches", Patches, (2, 3, 64, 64), (3, 3, 83, 40)),
    Asked("windows", Windows, (2, 3, 56, 56), (3, 3, 120, 83)),
    Asked("steps", Steps, (3, 5, 4), (7, 5, 4)),
    Asked("text", lambda: nn.Sequential(nn.Embedding(50, 16), nn.TransformerEncoderLayer(16, 4, 8, batch_first=True)),
          (2, 12), (5, 31), torch.int64),
    Asked("sequence_first", lambda: Net(lambda rnn, head, x: head(rnn(x)[0][-1]), nn.LSTM(8, 6), nn.Linear(6, 2)),
          (12, 3, 8), (40, 5, 8)),
    Asked("fold", lambda: Net(lambda f, x: f(x.flatten(0, 1)).unflatten(0, x.shape[:2]), nn.Conv2d(3, 4, 3, stride=2)),
          (2, 5, 3, 16, 16), (4, 3, 3, 21, 30)),
    Asked("pairs", lambda: Net(lambda f, x: f(x) @ f(x).T, nn.Linear(6, 4)), (8, 6), (5, 6)),
    Asked("relative", lambda: Net(lambda e, x: e(torch.arange(2 * x.shape[1] - 1)) , nn.Embedding(500, 4)),
          (2, 7), (3, 60)),
]  # fmt: skip


def read_sizes(ms: ModelSummary, shape: tuple[int, ...]) -> dict[str, int]:
    """Give the names of the one input the sizes of another."""
    (fact,) = ms.story.trace.inputs
    return {name: size for name, size in zip(fact.dims, shape, strict=True) if name}


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: asked.name)
def test_formulas_predict_what_hooks_see_at_another_size(asked: Asked) -> None:
    model = asked.make().eval()
    ms = ModelSummary(model, Size(asked.traced, dtype=str(asked.dtype)))
    sizes = read_sizes(ms, asked.run)
    seen, _ = watch_with_hooks(model, "forward", (torch.zeros(asked.run, dtype=asked.dtype),), {})
    rows = [row for row in ms.rows if row.kind == "module" and row.call is not None]
    assert [row.type_name for row in rows] == [call.type_name for call in seen]
    for row, call in zip(rows, seen, strict=True):
        formulas = ms.formulas[row.index]
        assert None not in formulas, (row.path, row.outputs)
        assert tuple(tuple(evaluate(dim, sizes) for dim in f or ()) for f in formulas) == call.outputs, formulas


def test_the_formula_of_the_seeds_example_shows_the_bug() -> None:
    net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=5), nn.Conv2d(16, 32, 3))
    ms = ModelSummary(net, (1, 1, 256, 256))
    assert ms.formulas == {
        0: (("B", "32", "H + 6", "W + 6"),),
        1: (("B", "16", "H + 8", "W + 8"),),
        2: (("B", "32", "H + 6", "W + 6"),),
    }


@pytest.mark.parametrize(
    ("model", "size", "text"),
    [
        (lambda: nn.Sequential(*[nn.Conv2d(3, 3, 3, 2, 1) for _ in range(5)]), (1, 3, 224, 224), "B 3 ⌈H/32⌉ ⌈W/32⌉"),
        (lambda: nn.MaxPool2d(2), (1, 3, 224, 224), "B C ⌊H/2⌋ ⌊W/2⌋"),
        (UNet, (1, 3, 64, 64), "B 4 H W"),
        (Patches, (2, 3, 64, 64), "B ⌊H/8⌋·⌊W/8⌋ + 1 16"),
        (Windows, (2, 3, 56, 56), "B·⌈⌊H/4⌋/7⌉·⌈⌊W/4⌋/7⌉ 49 8"),
    ],
)
def test_formulas_read_as_people_write_them(model: Callable[[], nn.Module], size: tuple[int, ...], text: str) -> None:
    ms = ModelSummary(model().eval(), size)
    (formula,) = ms.formulas[0]
    assert formula is not None
    if "⌈⌊" in text:  # a floor in a floor is one
        text = "B·⌊(H + 24)/28⌋·⌊(W + 24)/28⌋ 49 8"
    assert " ".join(formula) == text


def test_a_step_that_the_model_demands_needs_no_floor() -> None:
    ms = ModelSummary(UNet().eval(), (2, 3, 64, 64))
    assert ms.formulas[ms["down.2"].index] == (("B", "32", "H/8", "W/8"),)


def test_names_of_the_user_appear_in_the_formulas() -> None:
    ms = ModelSummary(nn.Conv2d(3, 4, 3), Size("N=2 3 rows=16 cols=20"))
    assert ms.formulas[0] == (("N", "4", "rows - 2", "cols - 2"),)
    assert ms.story.input_formulas[0] == (("N", "3", "rows", "cols"),)
    ms = ModelSummary(Patches().eval(), Size("N=2 ch=3 rows=64 cols=64"))
    assert ms.formulas[0] == (("N", "⌊rows/8⌋·⌊cols/8⌋ + 1", "16"),)
    assert ms.constraints == ("rows and cols ≥ 8", "ch = 3")


def test_a_squeeze_of_what_is_one_at_some_sizes_is_no_fault_of_its_entry() -> None:
    ms = ModelSummary(Net(lambda conv, _, x: conv(x).squeeze(), nn.Conv2d(1, 1, 7), nn.Identity()), (8, 1, 7, 7))
    assert ms.formulas
    assert ms.rows[0].outputs[0].shape == (8,)
    assert not ms.story.internal_errors


def test_a_batch_of_one_that_was_squeezed_away_is_seen_against_the_formula() -> None:
    model = Net(lambda conv, head, x: head(conv(x).mean((2, 3)).squeeze()), nn.Conv2d(3, 8, 3), nn.Linear(8, 5))
    ms = ModelSummary(model, (1, 3, 16, 16))
    assert ms[""].outputs[0].shape == (5,)
    assert ms.formulas[0] == (("B", "5"),)
    assert ms.story.batch[0] == ((2, 5),)


def test_a_branch_that_only_this_size_takes_gets_no_formula() -> None:
    def run(conv: nn.Module, x: Tensor) -> Tensor:
        x = conv(x)
        return x[:, :, ::2] if x.shape[2] == 14 else x

    ms = ModelSummary(Net(run, nn.Conv2d(3, 4, 3)), (2, 3, 16, 16))
    assert ms[""].outputs[0].shape == (2, 4, 7, 14)
    assert ms.formulas[0] == (None,)
    assert ms.formulas[ms["layers.0"].index] == (("B", "4", "H - 2", "W - 2"),)


def test_sizes_that_follow_from_values_get_no_formula_and_do_no_harm() -> None:
    ms = ModelSummary(Net(lambda f, x: f(x)[x[:, 0] > 0], nn.Linear(4, 4)), torch.ones(3, 4))
    assert ms.engine == "real"
    assert set(ms.formulas.values()) <= {(), (None,)}
    assert ms.constraints == ()


def test_a_batch_size_in_the_code_is_a_number_and_the_rest_still_has_names() -> None:
    model = Net(lambda conv, x: conv(x) * torch.ones(8, 1, 1, 1), nn.Conv2d(3, 4, 3, padding=1))
    ms = ModelSummary(model, (8, 3, 16, 16))
    assert ms.formulas[0] == (("8", "4", "H", "W"),)
    assert ms.story.batch == {}
    ((sizes, reason),) = ms.story.failed_at
    assert sizes == "B = 9"
    assert reason.startswith("RuntimeError: ")


def test_what_ran_before_a_failure_has_formulas() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Flatten(), nn.Linear(100, 2))
    ms = ModelSummary(net, (2, 3, 16, 16))
    assert ms.error is not None
    assert ms.formulas[ms["0"].index] == (("B", "8", "⌈H/2⌉ - 1", "⌈W/2⌉ - 1"),)
    assert ms.formulas[ms["1"].index] == (("B", "8·(⌈H/2⌉ - 1)·(⌈W/2⌉ - 1)"),)


def test_live_data_in_any_container_is_varied_too() -> None:
    class Takes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, batch: dict[str, Any], *, scale: float) -> Tensor:
            return self.layer(batch["pair"][0] + batch["pair"][1]) * scale

    batch = {"pair": (torch.ones(5, 4), torch.ones(5, 4)), "name": "x"}
    before = batch["pair"][0]
    ms = ModelSummary(Takes(), {"batch": batch, "scale": 2.0})
    assert ms.formulas[0] == (("B", "3"),)
    assert batch["pair"][0] is before
    assert before.shape == (5, 4)


def test_a_module_tree_without_a_trace_has_no_formulas() -> None:
    ms = ModelSummary(nn.Linear(3, 2), engine="static")
    assert ms.formulas == {}
    assert ms.constraints == ()


def test_tracing_at_other_sizes_leaves_the_model_and_every_generator_as_they_were() -> None:
    class Remembers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)
            self.seen: list[Any] = []

        def forward(self, x: Tensor) -> Tensor:
            self.seen.append(x.shape)
            return F.dropout(self.norm(x)) + torch.rand(1)

    model = Remembers()
    before = fingerprint(model)
    ms = ModelSummary(model, (2, 3, 8, 8))
    assert ms.formulas[0] == (("B", "3", "H", "W"),)
    assert ms.constraints
    assert fingerprint(model) == before


def test_what_the_forward_prints_is_printed_once(capsys: pytest.CaptureFixture[str]) -> None:
    ms = ModelSummary(Net(lambda f, x: print("shape", *x.shape) or f(x), nn.Linear(4, 3)), (2, 4))
    assert ms.formulas[0] == (("B", "3"),)
    assert capsys.readouterr().out == "shape 2 4\n"


def test_formulas_are_found_only_when_they_are_asked_for_or_shown() -> None:
    ms = ModelSummary(nn.Linear(4, 3), (2, 4))
    assert ms.story.formulas == {}
    assert ms.story.batch == {0: ((3, 3),)}
    assert ms.formulas == ms.story.formulas == {0: (("B", "3"),)}
    shown = ModelSummary(nn.Linear(4, 3), (2, 4))
    assert "[B, 3]" in shown.to_html(packed=False)
    assert shown.story.formulas


def test_the_table_of_the_batch_holds_the_sizes_at_one_more() -> None:
    model = Net(lambda f, x: (f(x), f(x).mean(0), f(x).flatten()), nn.Linear(4, 3))
    ms = ModelSummary(model, (2, 4))
    assert ms.story.batch[0] == ((3, 3), (3,), (9,))
    assert ms[""].outputs[2].shape == (6,)


class _ThreeRows(dict[str, Tensor]):
    """A batch that says how many rows it has, and takes no tensor of others."""

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        if len(tensor) != 3:
            raise RuntimeError(f"3 rows, not {len(tensor)}")
        super().__setitem__(name, tensor)


def test_a_batch_that_takes_no_other_size_costs_the_formulas_only() -> None:
    model = Net(lambda f, batch: f(batch["x"]), nn.Linear(4, 2))
    ms = ModelSummary(model, input_data=_ThreeRows(x=torch.ones(3, 4)))
    assert ms.flags == ()
    assert ms["layers.0"].outputs[0].shape == (3, 2)


#: Architectures with different kinds of layers; ``python -m benchmarks formulas`` traces the whole zoo, for a minute.
FEW = (
    "ResNetForImageClassification", "SwinModel", "SegformerForSemanticSegmentation", "BertForSequenceClassification",
    "LlamaForCausalLM", "FunnelModel", "Wav2Vec2ForCTC", "DiffusionUNet", "PatchTSTModel",
)  # fmt: skip


@pytest.mark.slow
def test_at_least_95_of_100_leaves_of_public_architectures_have_a_formula() -> None:
    shares: dict[str, float] = {}
    for name in FEW:
        ms = trace_animal(name, "auto").ms
        leaves = [formula for formulas in ms.formulas.values() for formula in formulas]
        shares[name] = sum(formula is not None for formula in leaves) / len(leaves)
    assert min(shares.values()) >= 0.95, shares
