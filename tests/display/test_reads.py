"""Where a row's input comes from: in words, the same everywhere, held against torch.fx's own graph."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from modelsummary_ipy import ModelSummary
from modelsummary_ipy.display.outline import GroupNode, RowNode, build_outline, walk
from modelsummary_ipy.display.render.reads import Reads
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.trace import Call
from modelsummary_ipy.records.view import View
from tests import wired_models as models

FLAT: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "resnet": (models.ResNet, models.IMAGE),
    "block": (lambda: models.BasicBlock(3, 8, 2), models.IMAGE),
    "unet": (models.UNet, (1, 1, 32, 32)),
    "densenet": (models.DenseNet, models.IMAGE),
    "prenorm": (models.PreNorm, models.TOKENS),
    "experts": (models.Experts, models.TOKENS),
    "pyramid": (models.Pyramid, models.IMAGE),
    "translator": (models.Translator, [(2, 7), (2, 5)]),
    "decoder": (
        lambda: nn.Sequential(models.PreNorm(), models.PreNorm(), nn.LayerNorm(16)),
        models.TOKENS,
    ),
}


def story_of(model: nn.Module, inputs: Any) -> Story:
    return ModelSummary(model, inputs)._build_story("never")


def said(model: nn.Module, inputs: Any, *, ops: bool = False) -> dict[str, str]:
    """By label of the row, all that is said."""
    story = story_of(model, inputs)
    reads = Reads(story, ops=ops)
    found: dict[str, str] = {}
    for step in walk(build_outline(story, View(ops=ops, depth=99))):
        if step.leaving or not isinstance(step.node, (RowNode, GroupNode)):
            continue
        name = step.node.name
        if isinstance(step.node, RowNode):
            row = story.rows[step.node.row]
            name = (row.type_name if row.kind == "op" else row.path or row.type_name) + f" #{row.call_index + 1}"
        if text := reads.describe(step.node):
            found[name.removesuffix(" #1")] = text
    return found


# -- against torch.fx -------------------------------------------------------------------------------------------------


class _Flat(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def behind(node: fx.Node) -> Iterator[str]:
    """The module calls and inputs that flow into a node, through what are no modules."""
    for source in node.all_input_nodes:
        if source.op in ("call_module", "placeholder"):
            yield source.name
        else:
            yield from behind(source)


@pytest.mark.parametrize("name", FLAT)
def test_what_a_row_reads_is_what_torch_fx_says_it_reads(name: str) -> None:
    make, inputs = FLAT[name]
    model = make()
    graph = _Flat().trace(model)
    calls = [node for node in graph.nodes if node.op == "call_module"]
    inputs_of_fx = {node.name for node in graph.nodes if node.op == "placeholder"}
    story = story_of(model, inputs)
    reads = Reads(story, ops=False)
    ours = [call for call in story.trace.calls if call.kind == "module" and call.parent == 0]
    assert [call.path for call in ours] == [str(node.target) for node in calls]
    names = {call.index: node.name for call, node in zip(ours, calls, strict=True)}
    single = next(iter(inputs_of_fx)) if len(inputs_of_fx) == 1 else ""
    for call, node in zip(ours, calls, strict=True):
        found = {names[o] if isinstance(o, int) else single or o for o in reads.origins(call)}
        assert found == set(behind(node)), call.path
    output = next(node for node in graph.nodes if node.op == "output")
    whole: Call = story.trace.calls[0]
    found = {names[o] if isinstance(o, int) else single or o for o in reads._find(whole, whole.output_links)}
    assert found == set(behind(output))


# -- what is said -----------------------------------------------------------------------------------------------------


def test_a_plain_sequence_says_nothing() -> None:
    assert said(models.plain(), models.IMAGE) == {}


def test_the_skips_of_a_resnet_are_said_where_they_join() -> None:
    found = said(models.ResNet(), models.IMAGE)
    assert found == {
        "layer1.0.relu #2": "← bn2, input",
        "layer1.1.relu #2": "← bn2, input",
        "layer2.0.downsample": "← input",
        "layer2.0.relu #2": "← bn2, downsample",
        "layer2.1.relu #2": "← bn2, input",
    }


def test_the_skips_of_a_unet_are_named_by_what_made_them() -> None:
    assert said(models.UNet(), (1, 1, 32, 32)) == {"c3": "← d3, u3", "c2": "← d2, u2", "c1": "← d1, u1"}


def test_names_that_count_up_are_one_name() -> None:
    found = said(models.DenseNet(), models.IMAGE)
    assert found["layer3"] == "← conv0, layer1, layer2"
    assert found["head"] == "← conv0, layer1–5"


def test_cross_attention_names_the_other_stream() -> None:
    found = said(models.Translator(), [(2, 7), (2, 5)])
    assert found["words #2"] == "← target"
    assert found["decoder"] == "← words call 2, encoder"
    assert found["0–1"] == "← tgt, memory, the one before"
    assert found["decoder.layers.0.multihead_attn"] == "← norm1, memory"
    assert "encoder" not in found


def test_a_sum_that_no_row_reads_is_said_of_the_row_that_returns_it() -> None:
    assert said(models.PreNorm(), models.TOKENS) == {
        "PreNorm": "returns input, attend, mlp",
        "norm2": "← input, attend",
    }
    with_ops = said(models.PreNorm(), models.TOKENS, ops=True)
    assert with_ops == {"add": "← input, attend", "add #2": "← add, mlp"}


def test_experts_read_one_input_and_their_gate_weighs_them() -> None:
    found = said(models.Experts(), models.TOKENS)
    assert found["0–3"] == "← input"
    assert found["norm"] == "← experts.0–3, gate"


def test_calls_of_one_cell_read_the_call_before() -> None:
    assert said(models.Unrolled(), (2, 6, 8)) == {
        "cell": "← input, the one before",
        "cell #2": "← input, cell",
    }


def test_masks_and_indices_are_left_out_beside_what_they_are_applied_to() -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.one, self.two = nn.Embedding(9, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            x = self.one(self.words(ids))
            return self.two(x.masked_fill((ids == 0).unsqueeze(-1), 0.0))

    assert said(Masked(), (2, 5)) == {}


def test_a_tensor_that_an_operation_hands_back_as_it_was_is_still_what_it_was() -> None:
    class Norm(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.to(torch.float32).contiguous()  # x itself
            return y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True))

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.one, self.two = Norm(), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.two(x + self.one(self.norm(x)))

    assert said(Block(), (2, 4)) == {"two": "← input, one"}


def test_a_name_is_as_long_as_it_takes_to_tell_it_from_its_siblings() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.ModuleDict({"conv": nn.Linear(4, 4), "only": nn.Linear(4, 4)})
            self.right = nn.ModuleDict({"conv": nn.Linear(4, 4)})
            self.list = nn.ModuleList([nn.Linear(4, 4)])
            self.join = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = [self.left["conv"](x), self.left["only"](x), self.right["conv"](x), self.list[0](x)]
            return self.join(torch.stack(parts).sum(0))

    assert said(Pair(), (2, 4))["join"] == "← left.conv, only, right.conv, list.0"


def test_of_many_names_the_number_of_the_others_is_said() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = nn.ModuleDict({name: nn.Linear(4, 4) for name in "abcdefg"})
            self.join = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.join(sum(part(x) for part in self.parts.values()))

    assert said(Wide(), (2, 4))["join"] == "← a, b, c, 4 more"


# -- everywhere -------------------------------------------------------------------------------------------------------


def test_every_rendering_says_it() -> None:
    ms = ModelSummary(models.UNet(), (1, 1, 32, 32))
    assert re.search(r"^ +c3  Sequential  ← d3, u3 +\[1, 64, 8, 8\]", ms.to_text(), re.MULTILINE)
    assert "**c3** Sequential *← d3, u3*" in ms.to_markdown()
    assert "<small>← d3, u3</small>" in ms.to_html()


def test_a_narrow_terminal_has_it_on_a_line_of_its_own() -> None:
    from modelsummary_ipy.display.render.text import render_text

    text = render_text(story_of(models.Translator(), [(2, 7), (2, 5)]), View(), width=60)
    assert re.search(r"multihead_attn  MultiheadAttention 16, 2 heads\n +← norm1, memory\n", text)
    assert max(map(len, text.splitlines())) <= 60


def test_plain_values_name_the_rows_that_made_what_a_row_reads() -> None:
    ms = ModelSummary(models.UNet(), (1, 1, 32, 32))
    rows = json.loads(json.dumps(ms.to_dict()))["rows"]
    by_index = {row["index"]: row for row in rows}
    assert by_index[ms["d1"].index]["reads"] == [-1]
    (cat,) = by_index[ms["c3"].index]["reads"]
    assert by_index[cat]["type"] == "cat"
    assert by_index[cat]["reads"] == [ms["d3.1"].index, ms["u3"].index]
    assert tuple(ms.to_frame().loc[cat, "reads"]) == (ms["d3.1"].index, ms["u3"].index)


def test_names_of_the_users_are_escaped() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module("<b>\n", nn.Linear(4, 4))
            self.two = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self._modules["<b>\n"](x)
            return self.two(x) + y

    ms = ModelSummary(Odd(), (2, 4))
    assert "returns two, &lt;b&gt;\\n" in ms.to_html()
    assert "returns two, <b>\\n" in ms.to_text()


# -- layers that give back what they were given -----------------------------------------------------------------------


class Skip(nn.Module):
    """A skip around a pool, beside a layer that hands on what it is given."""

    def __init__(self, passing: nn.Module) -> None:
        super().__init__()
        self.down, self.passing, self.pool = nn.Conv2d(1, 4, 3, padding=1), passing, nn.MaxPool2d(2)
        self.up, self.head = nn.Upsample(scale_factor=2), nn.Conv2d(8, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.down(x)
        return self.head(torch.cat([skip, self.up(self.pool(self.passing(skip)))], 1))


class Shortcut(nn.Module):
    def __init__(self, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv, self.shortcut, self.relu = nn.Conv2d(4, 4, 3, padding=1), shortcut, nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.conv(x) + self.shortcut(x))


@pytest.mark.parametrize("passing", [nn.Identity(), nn.Dropout(), nn.Flatten(0, 0), nn.Sequential()])
def test_a_layer_that_hands_on_does_not_take_over_the_skip_around_it(passing: nn.Module) -> None:
    assert said(Skip(passing).eval(), (1, 1, 8, 8)) == {"head": "← down, up"}


@pytest.mark.parametrize("passing", [nn.ReLU(), nn.ReLU(inplace=True)])
def test_a_layer_that_writes_or_makes_is_what_is_read(passing: nn.Module) -> None:
    source = "down" if not passing.inplace else "passing"
    assert said(Skip(passing).eval(), (1, 1, 8, 8))["head"] == f"← {source}, up"


@pytest.mark.parametrize("shortcut", [nn.Identity(), nn.Sequential()])
def test_a_shortcut_that_hands_on_is_what_the_join_reads(shortcut: nn.Module) -> None:
    assert said(Shortcut(shortcut).eval(), (1, 4, 8, 8)) == {"shortcut": "← input", "relu": "← conv, shortcut"}


def test_a_sequence_of_layers_that_hand_on_says_nothing() -> None:
    layers = [nn.Identity(), nn.Linear(8, 8), nn.Dropout(), nn.Identity(), nn.ReLU(), nn.Flatten(), nn.Identity()]
    assert said(nn.Sequential(*layers).eval(), (2, 8)) == {}


class LongLoop(nn.Module):
    """Each step reads the sum of all before it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(150):
            x = self.layer(x) + x
        return x


def test_what_a_long_loop_reads_is_listed_up_to_a_limit() -> None:
    story = story_of(LongLoop(), (2, 4))
    reads = Reads(story, ops=False)
    found = [len(reads.origins(call)) for call in story.trace.calls if call.path == "layer"]
    assert found == [min(step + 1, 100) for step in range(150)]


class Trained(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)

    def training_step(self, x: Tensor) -> Tensor:
        return self(x).sum() + self(x + 1).mean()


def test_a_method_that_calls_the_model_has_its_own_name_and_the_calls_are_of_forward() -> None:
    text = str(ModelSummary(Trained(), (4, 3), method="training_step"))
    shown = [line.split("[")[0].strip() for line in text.splitlines() if "Trained" in line]
    assert shown == [
        "Trained.training_step",
        "Trained.training_step  returns forward, forward call 2",
        "Trained.forward",
        "Trained.forward call 2  ← input",
    ]
