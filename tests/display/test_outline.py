"""The folded, capped tree: what is one node, what stands by itself, what stands open, and what is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelsummary_ipy.display.outline import GroupNode, HiddenNode, Node, Outline, RowNode, build_outline, visible, walk
from modelsummary_ipy.records.summary import Story
from modelsummary_ipy.records.view import View
from tests import stories
from tests.story_builder import StoryBuilder

EVERYTHING = View(depth=99, ops=True, fold=False, max_rows=10**9)


def entered(outline: Outline) -> list[Node]:
    return [step.node for step in walk(outline) if not step.leaving]


def find_rows(outline: Outline) -> list[RowNode]:
    return [node for node in entered(outline) if isinstance(node, RowNode)]


def find_groups(outline: Outline) -> list[GroupNode]:
    return [node for node in entered(outline) if isinstance(node, GroupNode)]


def find_hidden(outline: Outline) -> list[HiddenNode]:
    return [node for node in entered(outline) if isinstance(node, HiddenNode)]


def node_of(story: Story, path: str, view: View | None = None) -> RowNode:
    return next(node for node in find_rows(build_outline(story, view or View())) if story.rows[node.row].path == path)


def siblings(*types: str, names: list[str] | None = None) -> Story:
    """Leaves beside each other, named 0, 1, 2 … unless told."""
    build = StoryBuilder("Net", (1, 8), (1, 8))
    for name, type_name in zip(names or map(str, range(len(types))), types, strict=True):
        build.module(name, type_name, (1, 8), (1, 8))
    return build.story()


# Folding ----------------------------------------------------------------------------------------------------------


def test_identical_siblings_are_one_node_that_opens_to_one_block() -> None:
    story = stories.bert_like(num_layers=12)
    (group,) = find_groups(build_outline(story, View()))
    assert (group.name, group.types, len(group.members)) == ("layer.0–11", ("BertLayer",), 12)
    (block,) = group.block
    assert isinstance(block, RowNode)
    assert story.rows[block.row].path == "encoder.layer.0"
    assert [child.name for child in block.children if isinstance(child, RowNode)] == [
        "query", "key", "value", "up", "down",
    ]  # fmt: skip


def test_a_group_adds_up_what_its_blocks_have() -> None:
    story = stories.bert_like(num_layers=3, width=16)
    (group,) = find_groups(build_outline(story, View()))
    # query, key, value 3 * (16*16 + 16); up 16*64 + 64; down 64*16 + 16
    assert group.totals.num_params == 3 * (3 * 272 + 1088 + 1040)
    # per layer: three 8*128*16*16, attention 8*128*128*16*2, two 8*128*16*64
    assert group.totals.mult_adds == 3 * (3 * 262144 + 4194304 + 2 * 1048576)
    assert group.num_inside == 3 * 6


def test_a_flagged_layer_breaks_out_and_its_neighbours_stay_folded() -> None:
    story = stories.bert_like(num_layers=12, flagged=4)
    outline = build_outline(story, View())
    assert [group.name for group in find_groups(outline)] == ["layer.0–3", "layer.5–11"]
    layer = node_of(story, "encoder.layer.4")
    assert layer.is_open
    assert layer.flags_inside == 1
    assert [flag.rule for flag in node_of(story, "encoder.layer.4.key").flags] == ["batch-lost"]


def test_a_layer_of_another_size_breaks_out() -> None:
    build = StoryBuilder("Net", (1, 8), (1, 8))
    for number in range(6):
        width = 9 if number == 3 else 8
        build.module(str(number), "Linear", (1, 8), (1, width))
    outline = build_outline(build.story(), View())
    assert [group.name for group in find_groups(outline)] == ["0–2"]
    assert {node.name for node in find_rows(outline)} == {"", "0", "3", "4", "5"}


@pytest.mark.parametrize("what", ["type_name", "extra_repr", "status", "num_params", "trainable_params"])
def test_what_differs_in_any_way_is_not_folded(what: str) -> None:
    story = siblings(*["Linear"] * 6)
    rows = list(story.rows)
    value = {"type_name": "Other", "extra_repr": "bias=False", "status": "uncalled"}.get(what, 7)
    rows[3] = rows[3]._replace(**{what: value})
    outline = build_outline(replace(story, rows=tuple(rows)), View())
    assert [len(group.members) for group in find_groups(outline)] == [3]
    assert "2" in {node.name for node in find_rows(outline)}


def test_a_failed_row_is_never_folded_away() -> None:
    build = StoryBuilder("Net", (1, 8), status="failed")
    for number in range(6):
        build.module(str(number), "Linear", (1, 8), (1, 8), status="failed" if number == 5 else "ran")
    outline = build_outline(build.story(), View())
    assert [group.name for group in find_groups(outline)] == ["0–4"]
    assert next(node for node in find_rows(outline) if node.name == "5").is_open


def test_siblings_with_names_of_their_own_are_not_folded() -> None:
    story = siblings("Linear", "Linear", "Linear", names=["query", "key", "value"])
    assert find_groups(build_outline(story, View())) == []


def test_two_equal_leaves_are_left_as_they_are_but_two_equal_blocks_fold() -> None:
    assert find_groups(build_outline(siblings("Linear", "Linear"), View())) == []
    assert [len(group.members) for group in find_groups(build_outline(stories.bert_like(num_layers=2), View()))] == [2]


def test_siblings_that_take_turns_fold_as_one_pattern() -> None:
    story = siblings(*["Linear", "ReLU"] * 4)
    (group,) = find_groups(build_outline(story, View()))
    assert (group.name, group.types, len(group.members)) == ("0–7", ("Linear", "ReLU"), 4)
    assert [node.name for node in group.block if isinstance(node, RowNode)] == ["0", "1"]


def test_calls_of_one_module_fold_and_its_parameters_count_once() -> None:
    cell, turns = find_groups(build_outline(stories.repeated_calls(num_calls=16), View()))
    assert (cell.name, cell.same_module, len(cell.members)) == ("cell", True, 16)
    assert cell.totals.num_params == 24 * 8
    assert cell.totals.mult_adds == 16 * 12288
    assert (turns.types, len(turns.members)) == (("Linear", "ReLU"), 16)


def test_the_steps_of_a_loop_are_not_torn_apart_by_a_first_one_that_differs() -> None:
    build = StoryBuilder("Net", (1, 8), (1, 8))
    for step in range(6):
        build.module("cell", "GRUCell", (1, 8 if step else 4), (1, 8))
        build.module("out", "Linear", (1, 8), (1, 2))
    story = build.story()
    nodes = [step.node for step in walk(build_outline(story, View())) if not step.leaving and step.depth == 1]
    assert [node.name for node in nodes if isinstance(node, RowNode)] == ["cell", "out"]
    assert [(node.name, len(node.members)) for node in nodes if isinstance(node, GroupNode)] == [("cell … out", 5)]


def test_parameters_that_blocks_share_count_once_in_the_group() -> None:
    story = stories.bert_like(num_layers=2, width=16)
    params = list(story.trace.params)
    shared = params[3]
    params[3] = shared._replace(names=(*shared.names, "elsewhere"))
    second = next(module for module in story.trace.modules if module.path == "encoder.layer.1.query")
    modules = list(story.trace.modules)
    modules[second.index] = second._replace(params=(3, *second.params[1:]))
    tied = replace(story, trace=replace(story.trace, params=tuple(params), modules=tuple(modules)))
    (group,) = find_groups(build_outline(tied, View()))
    assert group.totals.num_params == 2 * (3 * 272 + 1088 + 1040) - shared.num


def test_the_same_note_on_every_block_folds_but_a_warning_does_not() -> None:
    for severity, num_groups in (("note", 1), ("warning", 0)):
        build = StoryBuilder("Net", (1, 8), (1, 8))
        for number in range(4):
            build.flag(build.module(str(number), "Linear", (1, 8), (1, 8)), "odd", severity, "odd", "")
        assert len(find_groups(build_outline(build.story(), View()))) == num_groups


def test_names_that_are_not_in_a_row_are_listed() -> None:
    story = siblings(*["Linear"] * 4, names=["0", "2", "3", "7"])
    (group,) = find_groups(build_outline(story, View()))
    assert group.name == "0, 2–3, 7"


def test_nothing_folds_when_the_view_says_so() -> None:
    outline = build_outline(stories.bert_like(), View(fold=False))
    assert find_groups(outline) == []
    assert outline.num_nodes == 80


# What is shown ----------------------------------------------------------------------------------------------------


def test_every_row_is_somewhere_in_the_unfolded_tree_in_order() -> None:
    for make in (stories.two_convs, stories.bert_like, stories.failed_unet, stories.nested_leaves):
        story = make()
        assert [node.row for node in find_rows(build_outline(story, EVERYTHING))] == [row.index for row in story.rows]


def test_operations_are_kept_aside_unless_the_view_asks_for_them() -> None:
    story = stories.bert_like(num_layers=1)
    plain, full = build_outline(story, View()), build_outline(story, View(ops=True))
    assert plain.num_ops == 3
    assert full.num_ops == 0
    assert {story.rows[node.row].kind for node in find_rows(plain)} == {"module"}
    assert [story.rows[at].type_name for at in node_of(story, "encoder.layer.0").ops] == [
        "scaled_dot_product_attention", "gelu",
    ]  # fmt: skip


def test_an_operation_that_failed_or_is_flagged_is_shown_all_the_same() -> None:
    story = stories.failed_unet()
    assert any(story.rows[node.row].type_name == "cat" for node in find_rows(build_outline(story, View())))
    build = StoryBuilder("Net", (1, 8), (8,))
    build.flag(build.op("squeeze", (1, 8), (8,)), "batch-lost", "warning", "gone", "")
    assert [node.name for node in find_rows(build_outline(build.story(), View()))] == ["", "squeeze"]


def test_a_name_is_the_path_below_the_row_it_is_nested_in() -> None:
    build = StoryBuilder("Net", (1, 8), (1, 8))
    outer = build.module("body.0", "Block", (1, 8), (1, 8))
    build.module("body.0.fc", "Linear", (1, 8), (1, 8), parent=outer)
    build.module("body.01", "Linear", (1, 8), (1, 8), parent=outer)
    build.module("shared", "Linear", (1, 8), (1, 8), parent=outer)
    names = [node.name for node in find_rows(build_outline(build.story(), View()))]
    assert names == ["", "body.0", "fc", "body.01", "shared"]


# Opening ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1, 2, 3])
def test_a_view_of_some_depth_shows_rows_down_to_it(depth: int) -> None:
    story = stories.bert_like()
    outline = build_outline(story, View(depth=depth))
    assert max(step.depth for step in visible(outline)) == depth


def test_an_outline_that_may_choose_opens_what_fits_and_always_the_first_level() -> None:
    story = stories.all_different(400, wide=60)
    assert len(list(visible(build_outline(story, View(), open_rows=20)))) == 61
    assert len(list(visible(build_outline(stories.bert_like(), View(), open_rows=40)))) == 15


def test_a_failed_row_and_all_above_it_are_open_at_any_depth() -> None:
    story = stories.failed_unet()
    seen = [step.node for step in visible(build_outline(story, View(depth=0)))]
    assert [story.rows[node.row].type_name for node in seen if isinstance(node, RowNode)] == [
        "UNet", "Down", "Up", "Upsample", "cat", "Conv2d", "Conv2d",
    ]  # fmt: skip


def test_a_note_does_not_open_what_the_view_leaves_closed_but_a_warning_does() -> None:
    for severity, shown in (("note", 1), ("warning", 3), ("error", 3)):
        build = StoryBuilder("Net", (1, 8), (1, 8))
        block = build.module("block", "Block", (1, 8), (1, 8))
        build.flag(build.module("block.fc", "Linear", (1, 8), (1, 8), parent=block), "odd", severity, "odd", "")
        outline = build_outline(build.story(), View(depth=0))
        assert len(list(visible(outline))) == shown
        assert outline.nodes[0].flags_inside == 1  # type: ignore[union-attr]


def test_leaves_and_groups_of_single_leaves_are_closed() -> None:
    outline = build_outline(siblings(*["Linear"] * 5), View(depth=9))
    (group,) = find_groups(outline)
    assert not group.is_open
    assert not any(node.is_open for node in find_rows(outline) if node.name)


# Capping ----------------------------------------------------------------------------------------------------------


def test_no_more_rows_are_kept_than_the_view_allows_and_the_rest_is_counted() -> None:
    story = stories.all_different(3000)
    outline = build_outline(story, View(max_rows=200))
    kept = find_rows(outline)
    assert len(kept) == outline.num_nodes == 200
    assert outline.num_hidden == 2800
    assert sum(node.num_rows for node in find_hidden(outline)) == 2800


def test_the_cap_cuts_the_deepest_levels_first() -> None:
    story = stories.all_different(3000)
    outline = build_outline(story, View(max_rows=200))
    kept = {node.row for node in find_rows(outline)}
    deepest = max(story.rows[row].depth for row in kept)
    assert all(row.index in kept for row in story.rows if row.depth < deepest)


def test_what_failed_or_is_flagged_survives_the_cap() -> None:
    build = StoryBuilder("Net", (1, 8), status="failed")
    for number in range(50):
        block = build.module(f"b{number}x", f"Block{number}", (1, 8), (1, 8))
        last = build.module(f"b{number}x.fc", f"Linear{number}", (1, 8), (1, 8), parent=block)
    build.flag(last, "odd", "warning", "odd", "")
    outline = build_outline(build.story(), View(max_rows=5))
    assert "b49x" in {node.name for node in find_rows(outline)}
    assert outline.num_nodes == 5
    assert outline.num_hidden == 101 - 5


def test_a_mixture_of_experts_of_ten_thousand_modules_is_a_short_tree() -> None:
    story = stories.mixture(num_layers=61, num_experts=64)
    outline = build_outline(story, View())
    assert len(story.rows) > 15_000
    assert outline.num_nodes < 20
    assert outline.num_hidden == 0
    first = next(group for group in find_groups(outline))
    assert (first.name, len(first.members)) == ("layers.0–60", 61)


def test_a_model_nested_deeper_than_the_stack_is_walked() -> None:
    build = StoryBuilder("Net", (1, 1), (1, 1))
    above = 0
    for number in range(3000):
        path = f"{build.rows[above].path}.m".lstrip(".") if number < 20 else f"deep{number}"
        above = build.module(path, "Block", (1, number), (1, number), parent=above)
    outline = build_outline(build.story(), View(max_rows=10**6))
    assert max(step.depth for step in walk(outline)) == 3000


def test_no_rows_make_an_empty_tree() -> None:
    story = replace(stories.two_convs(), rows=(), flags=())
    assert build_outline(story, View()) == Outline((), 0, 0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["A", "B"]), st.booleans()), max_size=40),
    max_rows=st.integers(1, 50),
    fold=st.booleans(),
    ops=st.booleans(),
)
def test_every_row_is_shown_folded_or_counted_as_hidden(
    shape: list[tuple[int, str, bool]], max_rows: int, fold: bool, ops: bool
) -> None:
    """Random trees: what is kept, what a fold stands for, what is hidden and the operations make up all rows."""
    build = StoryBuilder("Net", (1, 1), (1, 1))
    for up, type_name, is_op in shape:
        parent = len(build.rows) - 1
        for _ in range(max(up, build.rows[-1].kind == "op")):
            parent = build.rows[parent].parent or 0
        if is_op:
            build.op(type_name, (1, 1), (1, 1), parent=parent)
        else:
            build.module(
                f"{build.rows[parent].path}.{len(build.rows)}".lstrip("."), type_name, (1, 1), (1, 1), parent=parent
            )
    story = build.story()
    outline = build_outline(story, View(max_rows=max_rows, fold=fold, ops=ops))
    assert outline.num_nodes <= max_rows
    assert outline.num_hidden + outline.num_ops <= len(story.rows)
    assert (outline.num_ops == 0) or not ops
    if not fold:
        assert len(find_rows(outline)) + outline.num_hidden + outline.num_ops == len(story.rows)
        assert find_groups(outline) == []
    rows = [node.row for node in find_rows(outline)]
    assert rows == sorted(rows)
