"""Pictures: the right arrows, nothing drawn over anything else, and files that other programs read."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from modelsummary_ipy import InputError, ModelSummary, Picture
from modelsummary_ipy.display.graph.blocks import INPUT, OUTPUT, Block, Graph, build_graph, flatten
from modelsummary_ipy.display.graph.layout import Placed, lay_out, text_width
from modelsummary_ipy.display.render.icicle import build_icicle
from tests import wired_models as models
from tests.display.test_reads import FLAT

CASES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    **FLAT,
    "unrolled": (models.Unrolled, (2, 6, 8)),
    "plain": (models.plain, models.IMAGE),
}
_MADE: dict[str, ModelSummary] = {}


def summary_of(name: str) -> ModelSummary:
    if name not in _MADE:
        make, inputs = CASES[name]
        _MADE[name] = ModelSummary(make(), inputs)
    return _MADE[name]


def graph_of(name: str, depth: int) -> Graph:
    return build_graph(summary_of(name)._build_story("never"), depth)


def arrows_of(graph: Graph) -> set[str]:
    names = {block.key: block.name or block.kind for block in graph.blocks} | {INPUT: "in", OUTPUT: "out"}
    return {f"{names[arrow.source]}>{names[arrow.target]}" for arrow in graph.arrows}


# -- what is drawn ----------------------------------------------------------------------------------------------------


def test_a_block_of_a_resnet_is_drawn_with_its_sum() -> None:
    assert arrows_of(graph_of("block", 1)) == {
        "in>conv1", "conv1>bn1", "bn1>relu", "relu>conv2", "conv2>bn2", "in>downsample",
        "bn2>+", "downsample>+", "+>relu", "relu>out",
    }  # fmt: skip


def test_the_skips_of_a_unet_are_arrows() -> None:
    graph = graph_of("unet", 1)
    skips = {tuple(block.name for block in graph.blocks if block.key == arrow.source) for arrow in graph.arrows}
    assert {("d1",), ("d2",), ("d3",)} <= skips
    cats = [block for block in graph.blocks if block.kind == "cat"]
    read = [{arrow.source for arrow in graph.arrows if arrow.target == cat.key} for cat in cats]
    named = {block.key: block.name for block in graph.blocks}
    assert [{named[key] for key in keys} for keys in read] == [{"d3", "u3"}, {"d2", "u2"}, {"d1", "u1"}]


def test_blocks_of_lists_are_named_with_their_lists_also_in_the_chart() -> None:
    story = ModelSummary(models.ListUNet(), (1, 1, 32, 32))._build_story("never")
    names = ["downs.0", "downs.1", "mid", "ups.0", "decs.0", "ups.1", "decs.1"]
    assert [block.name for block in build_graph(story, 1).blocks if block.name] == names
    labels = [bar.label for bar in build_icicle(story, "macs") if bar.level == 1]  # all of mid is in mid.0
    assert labels == ["downs", "mid.0", "", "decs.0.0", "", "decs.1.0"], "ups have no room for a name"


def test_sizes_on_the_arrows_are_formulas_where_they_are_known() -> None:
    graph = build_graph(summary_of("unet")._build_story(), 1)
    sizes = {block.name: block.size for block in graph.blocks if block.is_new_size and block.name}
    assert sizes["d2"] == "[B, 16, H/2, W/2]"
    assert sizes["bottom"] == "[B, 64, H/8, W/8]"
    assert graph.given == ("[B, 1, H, W]",)
    assert ">[B, 16, H/2, W/2]<" in summary_of("unet").graph(depth=1).to_svg()


def test_cross_attention_is_followed_through_the_frames_by_the_names_of_the_inputs() -> None:
    graph = graph_of("translator", 3)
    names = {block.key: block.name for block in leaves(graph)} | {INPUT: "in"}
    read: dict[str, list[set[str]]] = {}
    for block in leaves(graph):
        sources = {names[source] for source, target in flatten(graph) if target.key == block.key}
        read.setdefault(block.name, []).append(sources)
    assert read["multihead_attn"] == [{"norm1", "norm2"}]  # the decoder's own, and the last of the encoder
    assert read["words"] == [{"in"}, {"in"}]
    assert read["self_attn"][1] == {"words"}


def test_repeated_blocks_are_one_frame() -> None:
    graph = graph_of("experts", 2)
    (group,) = [block for block in graph.blocks if block.name == "experts.0–3 ·"]
    assert group.kind == "4 × Sequential"
    assert group.inside is not None
    assert [block.kind for block in group.inside.blocks] == ["Linear 16→32", "ReLU", "Linear 32→16"]


def test_a_model_without_a_trace_is_an_empty_picture() -> None:
    assert ModelSummary(nn.Linear(2, 2)).graph().to_mermaid().startswith("flowchart TD")


def leaves(graph: Graph) -> Iterator[Block]:
    for block in graph.blocks:
        if block.inside is None:
            yield block
        else:
            yield from leaves(block.inside)


# -- where it is drawn ------------------------------------------------------------------------------------------------


def levels(placed: Placed) -> Iterator[Placed]:
    yield placed
    for child in placed.inside:
        yield from levels(child)


def crosses(box: Placed, one: tuple[float, float], two: tuple[float, float]) -> bool:
    """Whether a horizontal or vertical piece of an arrow runs through a block; to touch its edge is allowed."""
    left, right = sorted((one[0], two[0]))
    top, bottom = sorted((one[1], two[1]))
    inside_x = left < box.x + box.width - 0.5 and right > box.x + 0.5
    return inside_x and top < box.y + box.height - 0.5 and bottom > box.y + 0.5


@pytest.mark.parametrize("depth", [1, 2, 4])
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_drawn_over_anything_else(name: str, depth: int) -> None:
    for level in levels(lay_out(graph_of(name, depth))):
        for one, two in itertools.combinations(level.inside, 2):
            apart_x = one.x + one.width <= two.x or two.x + two.width <= one.x
            assert apart_x or one.y + one.height <= two.y or two.y + two.height <= one.y
        for box in level.inside:
            assert box.x >= 0 and box.x + box.width <= level.width
            assert box.y >= 0 and box.y + box.height <= level.height
            for line in level.lines:
                assert not any(crosses(box, *piece) for piece in itertools.pairwise(line.points)), box.block
        for line in level.lines:
            assert all(0 <= x <= level.width and 0 <= y <= level.height for x, y in line.points)
            assert all(a[0] == b[0] or a[1] == b[1] for a, b in itertools.pairwise(line.points))
            assert line.points[-1][1] > line.points[-2][1]  # every arrow ends downwards
        for label in level.labels:
            assert label.x + text_width(label.text) <= level.width


@pytest.mark.parametrize("name", CASES)
def test_every_block_is_below_all_that_it_reads(name: str) -> None:
    graph = graph_of(name, 1)
    top = {child.block.key: child for child in lay_out(graph).inside if child.block is not None}
    for arrow in graph.arrows:
        if arrow.source != INPUT and arrow.target != OUTPUT:
            assert top[arrow.source].y + top[arrow.source].height < top[arrow.target].y


def test_lanes_of_different_tensors_lie_apart() -> None:
    placed = lay_out(graph_of("densenet", 1))
    verticals = {line.points[2][0] for line in placed.lines if len(line.points) == 6}
    assert len(verticals) == 5  # conv0 and the first four layers are read again further down


# -- how it is written ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_the_svg_is_well_formed_and_the_same_every_time(name: str) -> None:
    picture = summary_of(name).graph()
    svg = picture.to_svg()
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert svg == summary_of(name).graph().to_svg()
    assert picture._repr_svg_() == svg
    ends = [path.get("marker-end") for path in root.iter("{http://www.w3.org/2000/svg}path")]
    assert "url(#ms-head)" in ends


@pytest.mark.parametrize("name", CASES)
def test_mermaid_and_dot_name_every_block_and_the_same_arrows(name: str) -> None:
    graph, picture = graph_of(name, 2), summary_of(name).graph(depth=2)
    expected = sorted(
        ("input" if source == INPUT else f"block{source}", f"block{block.key}") for source, block in flatten(graph)
    )
    mermaid, dot = picture.to_mermaid(), picture.to_dot()
    assert sorted(re.findall(r'^  (\w+) -->(?:\|"[^"]*"\|)? (\w+)$', mermaid, re.MULTILINE)) == expected
    assert sorted(re.findall(r"^  (\w+) -> (\w+)", dot, re.MULTILINE)) == expected
    for block in leaves(graph):
        assert re.search(rf"^ +block{block.key}[\[(]", mermaid, re.MULTILINE)
        assert re.search(rf"^ +block{block.key} \[label=", dot, re.MULTILINE)
    assert mermaid.count("subgraph") == len(re.findall(r"^ +end$", mermaid, re.MULTILINE))
    assert dot.count("{") == dot.count("}")


def test_model_explorer_gets_every_step_in_its_layer() -> None:
    ms = summary_of("resnet")
    collection = json.loads(ms.graph().to_model_explorer())
    (graph,) = collection["graphs"]
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"])
    for node in nodes.values():
        for edge in node.get("incomingEdges", ()):
            source = nodes[edge["sourceNodeId"]]
            assert edge["sourceNodeOutputId"] in {output["id"] for output in source["outputsMetadata"]}
    downsample = next(node for node in nodes.values() if node.get("namespace") == "layer2/0/downsample")
    attributes = {item["key"]: item["value"] for item in downsample["attrs"]}
    assert attributes["type"] == "Conv2d"
    assert attributes["parameters"] == "128"
    assert {"key": "shape", "value": "float32[2, 16, 16, 16]"} in downsample["outputsMetadata"][0]["attrs"]
    assert sum(node["label"] == "iadd" or node["label"].startswith("add") for node in nodes.values()) == 4


def test_names_of_the_users_are_escaped() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.add_module('<b> "a" \\ & ]--> x\n', nn.Linear(4, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + next(iter(self._modules.values()))(x)

    picture = ModelSummary(Odd(), (2, 4)).graph()
    texts = [text.text for text in ElementTree.fromstring(picture.to_svg()).iter("{http://www.w3.org/2000/svg}text")]
    assert '<b> "a" \\ & ]--> x\\n' in texts
    assert "#60;b#62; #34;a#34; \\ #38; ]--#62; x\\n" in picture.to_mermaid()
    assert 'label="<b> \\"a\\" \\\\ & ]--> x\\\\n\\nLinear 4→4"' in picture.to_dot()


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_picture_is_saved_by_the_ending(tmp_path: Path) -> None:
    ms = summary_of("unet")
    assert ms.save(tmp_path / "net.svg").read_text() == ms.graph().to_svg()
    assert ms.save(tmp_path / "net.mmd").read_text() == str(ms.graph())
    assert ms.save(tmp_path / "net.dot").read_text() == ms.graph().to_dot()
    picture: Picture = ms.graph(depth=1)
    assert json.loads(picture.save(tmp_path / "net.json").read_text())["label"] == "UNet"
    assert picture.save(str(tmp_path / "one.svg")).read_text() == picture.to_svg() != ms.graph().to_svg()
    with pytest.raises(InputError, match=r"an ending among .svg .mmd .dot .json"):
        picture.save(tmp_path / "net.png")
    with pytest.raises(InputError, match="1 or more levels"):
        ms.graph(depth=0)
